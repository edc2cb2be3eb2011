/* Known amounts of memory, in every form a program can hold it. Each command says what it got and then holds it for
 * HOLD seconds, so that a limit which is only sampled has its chance. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int hold(const char *what, uint64_t bytes, int argc, char **argv, int place)
{
    printf("%s=%llu\n", what, (unsigned long long)bytes);
    fflush(stdout);
    sleep_ns(parse_seconds(arg(argc, argv, place, "0")));
    return 0;
}

static void touch(char *p, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 4096)
        p[i] = 1;
}

static int cmd_alloc(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    touch(p, size);
    return hold("alloc", size, argc, argv, 2);
}

/* Reserved, but never touched: costs no memory. */
static int cmd_reserve(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return hold("reserve", size, argc, argv, 2);
}

/* outlive COMMAND...: a child does that, and whatever becomes of it is fine. */
static int cmd_outlive(int argc, char **argv)
{
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        _exit(dispatch(argc - 1, argv + 1));
    waitpid(child, NULL, 0);
    return 0;
}

/* COUNT children hold SIZE each at the same time. */
static int cmd_alloc_children(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL));
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            int status = cmd_alloc(argc - 1, argv + 1);
            fflush(stdout);
            _exit(status);
        }
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    printf("failed=%d\n", failed);
    return failed ? 4 : 0;
}

/* Fills a descriptor with SIZE bytes; the errno if it could not. */
static int fill(int fd, uint64_t size, uint64_t *written)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    *written = 0;
    while (*written < size) {
        uint64_t left = size - *written;
        ssize_t n = write(fd, block, left < sizeof block ? left : sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        *written += n;
    }
    return 0;
}

/* fill-file PATH SIZE [HOLD]: a file, in a memory file system or on a disk. */
static int cmd_fill_file(int argc, char **argv)
{
    uint64_t written;
    int fd = open(arg(argc, argv, 1, NULL), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        die(argv[1]);
    int error = fill(fd, parse_size(arg(argc, argv, 2, NULL)), &written);
    printf("error=%s\n", errno_name(error));
    hold("written", written, argc, argv, 3);
    return error ? 5 : 0;
}

static int cmd_memfd(int argc, char **argv)
{
    uint64_t written;
    int fd = memfd_create("guest", MFD_CLOEXEC);
    if (fd < 0)
        die("memfd_create");
    int error = fill(fd, parse_size(arg(argc, argv, 1, NULL)), &written);
    printf("error=%s\n", errno_name(error));
    hold("written", written, argc, argv, 2);
    return error ? 5 : 0;
}

/* maps SIZE COUNT HOLD: that much memory, seen in so many places, each with page tables of its own: little memory that takes
 * the kernel long to take away. */
static int cmd_maps(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    int fd = memfd_create("guest", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size))
        die("memfd_create");
    for (int i = atoi(arg(argc, argv, 2, NULL)); i > 0; i--)
        if (mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0) == MAP_FAILED)
            die("mmap");
    return hold("maps", size, argc, argv, 3);
}

static int cmd_shm(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    int id = shmget(IPC_PRIVATE, size, IPC_CREAT | 0600);
    if (id < 0)
        die("shmget");
    char *p = shmat(id, NULL, 0);
    if (p == (void *)-1)
        die("shmat");
    touch(p, size);
    /* Neither detached nor removed: it is the sandbox that must not leave it behind. */
    return hold("shm", size, argc, argv, 2);
}

/* shared anonymous memory, counted as shmem */
static int cmd_shared(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL));
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    touch(p, size);
    return hold("shared", size, argc, argv, 2);
}

/* pagecache PATH SIZE: writes and reads a file of a disk again and again; the cache can be given up, so no limit is
 * passed. */
static int cmd_pagecache(int argc, char **argv)
{
    static char block[65536];
    uint64_t written, total = 0;
    ssize_t n;
    int fd = open(arg(argc, argv, 1, NULL), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        die(argv[1]);
    int error = fill(fd, parse_size(arg(argc, argv, 2, NULL)), &written);
    for (int round = 0; round < 2; round++) {
        lseek(fd, 0, SEEK_SET);
        while ((n = read(fd, block, sizeof block)) > 0)
            total += n;
    }
    unlink(argv[1]);
    printf("error=%s\nwritten=%llu\nread=%llu\n", errno_name(error), (unsigned long long)written,
           (unsigned long long)total);
    return error ? 5 : 0;
}

/* Kernel memory: SIZE bytes kept in pipes. */
static int cmd_pipes(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 1, NULL)), total = 0;
    static char block[65536];
    int ends[2];
    while (total < size && pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0) {
        ssize_t n;
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while ((n = write(ends[1], block, sizeof block)) > 0)
            total += n;
    }
    return hold("pipes", total, argc, argv, 2);
}

const struct command memory_commands[] = {
    {"outlive", cmd_outlive, "COMMAND..."},
    {"alloc", cmd_alloc, "SIZE [HOLD]"},
    {"reserve", cmd_reserve, "SIZE [HOLD]"},
    {"alloc-children", cmd_alloc_children, "COUNT SIZE [HOLD]"},
    {"fill-file", cmd_fill_file, "PATH SIZE [HOLD]"},
    {"memfd", cmd_memfd, "SIZE [HOLD]"},
    {"maps", cmd_maps, "SIZE COUNT [HOLD]"},
    {"shm", cmd_shm, "SIZE [HOLD]"},
    {"shared", cmd_shared, "SIZE [HOLD]"},
    {"pagecache", cmd_pagecache, "PATH SIZE"},
    {"pipes", cmd_pipes, "SIZE [HOLD]"},
    {NULL, NULL, NULL},
};
