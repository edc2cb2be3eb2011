/* What the scheduler and the OOM killer are told of this process, and whether it can tell them otherwise. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void say(void)
{
    cpu_set_t cpus;
    char score[32] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, score, sizeof score - 1) < 0)
        die("oom_score_adj");
    close(fd);
    if (sched_getaffinity(0, sizeof cpus, &cpus))
        die("sched_getaffinity");
    printf("nice=%d\npolicy=%d\noom_score_adj=%d\ncpus=", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0), atoi(score));
    const char *comma = "";
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &cpus)) {
            printf("%s%d", comma, cpu);
            comma = ",";
        }
    puts("");
    fflush(stdout);
}

/* sched [HOLD]: says nice value, policy, processors and oom_score_adj. */
static int cmd_sched(int argc, char **argv)
{
    say();
    sleep_ns(parse_seconds(arg(argc, argv, 1, "0")));
    return 0;
}

/* The same after it has tried to have the best of everything. */
static int cmd_sched_undo(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct sched_param none = {0};
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    setpriority(PRIO_PROCESS, 0, 0);
    sched_setscheduler(0, SCHED_OTHER, &none);
    setpriority(PRIO_PROCESS, 0, 0);
    sched_setaffinity(0, sizeof all, &all);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) < 0)
        puts("oom=refused");
    say();
    return 0;
}

/* huge SIZE: huge pages, of the default size. */
static int cmd_huge(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    printf("mmap=%s\n", errno_name(p == MAP_FAILED ? errno : 0));
    fflush(stdout);
    if (p == MAP_FAILED)
        return 0;
    /* One that is over the limit ends by SIGBUS. */
    for (uint64_t at = 0; at < size; at += 1 << 20)
        p[at] = 1;
    puts("touched=all");
    return 0;
}

/* direct read|write PATH SIZE [BLOCK]: past the page cache. */
static int cmd_direct(int argc, char **argv)
{
    int writes = strcmp(arg(argc, argv, 1, NULL), "write") == 0;
    uint64_t size = parse_size(arg(argc, argv, 3, NULL)), block = parse_size(arg(argc, argv, 4, "64k")), done = 0;
    int fd = open(arg(argc, argv, 2, NULL), (writes ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        die("open");
    void *buffer;
    if (posix_memalign(&buffer, 4096, block))
        die("memory");
    memset(buffer, 1, block);
    while (done < size) {
        ssize_t n = writes ? pwrite(fd, buffer, block, done) : pread(fd, buffer, block, done);
        if (n <= 0)
            die(argv[1]);
        done += n;
    }
    printf("done=%llu\n", (unsigned long long)done);
    return 0;
}

static void nothing(int signal)
{
    (void)signal;
}

/* go-on SECONDS: burns so much CPU time, with a timer that lets it go on whenever it is stopped. */
static int cmd_go_on(int argc, char **argv)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    struct itimerspec often = {.it_interval.tv_nsec = 1000000, .it_value.tv_nsec = 1000000};
    timer_t timer;
    /* One that is ignored may not come again. */
    signal(SIGCONT, nothing);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
        die("timer");
    puts("ready");
    fflush(stdout);
    burn_ns(parse_seconds(arg(argc, argv, 1, NULL)));
    return 0;
}

const struct command sched_commands[] = {
    {"sched", cmd_sched, "[HOLD]"},
    {"sched-undo", cmd_sched_undo, ""},
    {"go-on", cmd_go_on, "SECONDS"},
    {"huge", cmd_huge, "SIZE"},
    {"direct", cmd_direct, "read|write PATH SIZE [BLOCK]"},
    {NULL, NULL, NULL},
};
