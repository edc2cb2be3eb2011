/* Known amounts of CPU time, used in ways that naive accounting misses. */
#define _GNU_SOURCE
#include "guest.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *burn_thread(void *ns)
{
    burn_ns(*(int64_t *)ns);
    return NULL;
}

/* Each of THREADS threads burns SECONDS: the sum is the product. */
static int cmd_spin(int argc, char **argv)
{
    int64_t ns = parse_seconds(arg(argc, argv, 1, NULL));
    int threads = atoi(arg(argc, argv, 2, "1"));
    pthread_t others[64];
    if (threads < 1 || threads > 64)
        return 2;
    for (int i = 1; i < threads; i++)
        if (pthread_create(&others[i], NULL, burn_thread, &ns))
            die("pthread_create");
    burn_ns(ns);
    for (int i = 1; i < threads; i++)
        pthread_join(others[i], NULL);
    return 0;
}

/* COUNT grandchildren, one after another, burn MILLISECONDS each; the program waits for none of them. */
static int cmd_short_orphans(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL));
    int64_t ns = atoll(arg(argc, argv, 2, "1")) * 1000000;
    for (int i = 0; i < count; i++) {
        int ends[2];
        char byte;
        if (pipe(ends))
            die("pipe");
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            if (fork() == 0) {
                close(ends[0]);
                burn_ns(ns);
            }
            _exit(0);
        }
        close(ends[1]);
        if (waitpid(child, NULL, 0) != child)
            die("waitpid");
        while (read(ends[0], &byte, 1) > 0)
            ;
        close(ends[0]);
    }
    /* The last pipe closes before its orphan's time is accounted for. */
    sleep_ns(50000000);
    return 0;
}

/* A grandchild that the program never waits for burns SECONDS and is gone before the program ends. */
static int cmd_orphan_spin(int argc, char **argv)
{
    int64_t ns = parse_seconds(arg(argc, argv, 1, NULL));
    int ends[2];
    char byte;
    if (pipe(ends))
        die("pipe");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        if (fork() == 0) {
            close(ends[0]);
            setsid();
            burn_ns(ns);
        }
        _exit(0);
    }
    close(ends[1]);
    waitpid(child, NULL, 0);
    while (read(ends[0], &byte, 1) > 0)
        ;
    /* The pipe closes before the orphan's time is accounted for. */
    sleep_ns(50000000);
    return 0;
}

/* A child burns CPU time without end and is left running when the program ends, after SECONDS. */
static int cmd_leave_spinning(int argc, char **argv)
{
    int64_t ns = parse_seconds(arg(argc, argv, 1, NULL));
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        burn_ns(3600LL * 1000000000);
        _exit(0);
    }
    sleep_ns(ns);
    return 0;
}

/* The same as short-children, but the kernel reaps them: no wait call ever sees their time. */
static int cmd_unwaited_children(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL));
    int64_t ns = atoll(arg(argc, argv, 2, "1")) * 1000000;
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            burn_ns(ns);
            _exit(0);
        }
        while (wait(NULL) >= 0)
            ;
    }
    return 0;
}

/* COUNT children, one after another, burn MILLISECONDS each. */
static int cmd_short_children(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL));
    int64_t ns = atoll(arg(argc, argv, 2, "1")) * 1000000;
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            burn_ns(ns);
            _exit(0);
        }
        if (waitpid(child, NULL, 0) != child)
            die("waitpid");
    }
    return 0;
}

/* COUNT children at the same time burn SECONDS each; the program waits for them all. */
static int cmd_children_spin(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL));
    int64_t ns = parse_seconds(arg(argc, argv, 2, NULL));
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            burn_ns(ns);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}

static int64_t process_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* SECONDS of CPU time spent in the kernel: mapping and touching memory again and again. */
static int cmd_system_spin(int argc, char **argv)
{
    int64_t end = process_cpu_ns() + parse_seconds(arg(argc, argv, 1, NULL));
    const size_t size = 1 << 20;
    while (process_cpu_ns() < end) {
        char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED)
            die("mmap");
        munmap(p, size);
    }
    return 0;
}

const struct command cpu_commands[] = {
    {"spin", cmd_spin, "SECONDS [THREADS]"},
    {"orphan-spin", cmd_orphan_spin, "SECONDS"},
    {"short-orphans", cmd_short_orphans, "COUNT MILLISECONDS"},
    {"leave-spinning", cmd_leave_spinning, "SECONDS"},
    {"unwaited-children", cmd_unwaited_children, "COUNT [MILLISECONDS]"},
    {"short-children", cmd_short_children, "COUNT [MILLISECONDS]"},
    {"children-spin", cmd_children_spin, "COUNT SECONDS"},
    {"system-spin", cmd_system_spin, "SECONDS"},
    {NULL, NULL, NULL},
};
