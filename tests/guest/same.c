/* What differs from run to run, unless it is asked not to. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now))
        die("clock_gettime");
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* addresses: where the kernel has put what a program has. */
static int cmd_addresses(int argc, char **argv)
{
    (void)argc, (void)argv;
    int on_stack;
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("stack=%p\nheap=%p\nmmap=%p\nvdso=%#lx\n", (void *)&on_stack, sbrk(0), mapped, getauxval(AT_SYSINFO_EHDR));
    printf("personality=%#x\n", personality(0xffffffff));
    return 0;
}

/* clocks: what they say, as the vdso has it and as /proc has it. */
static int cmd_clocks(int argc, char **argv)
{
    char text[128] = "";
    (void)argc, (void)argv;
    printf("monotonic=%f\nboottime=%f\nrealtime=%f\n", seconds(CLOCK_MONOTONIC), seconds(CLOCK_BOOTTIME),
           seconds(CLOCK_REALTIME));
    int fd = open("/proc/uptime", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        die("/proc/uptime");
    printf("uptime=%f\n", strtod(text, NULL));
    return 0;
}

/* again NAME...: the same command in a program that this one executes. */
static int cmd_again(int argc, char **argv)
{
    arg(argc, argv, 1, NULL);
    argv[0] = "/guest/guest";
    execv(argv[0], argv);
    die("execv");
}

const struct command same_commands[] = {
    {"addresses", cmd_addresses, ""},
    {"clocks", cmd_clocks, ""},
    {"again", cmd_again, "COMMAND..."},
    {NULL, NULL, NULL},
};
