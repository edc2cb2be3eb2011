/* Calls that a profile kills for, made by whoever can make one. Each command prints `before` and goes on with `after`,
 * which nobody should ever see. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long numbers[7]; /* of the call, and its arguments */

static long make(void)
{
    return syscall(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]);
}

static void *make_in_thread(void *unused)
{
    (void)unused;
    make();
    puts("after=thread");
    fflush(stdout);
    return NULL;
}

static void in_child(void)
{
    if (fork() == 0) {
        make();
        puts("after=child");
        fflush(stdout);
        _exit(0);
    }
}

/* A thread that is interrupted all the time while it makes the call, by a handler that does not restart it. */
static volatile int made, tries;

static void *make_again_and_again(void *unused)
{
    (void)unused;
    for (;;) {
        tries++;
        if (make() >= 0 || errno != EINTR)
            made++;
    }
    return NULL;
}

static void nothing(int signal) { (void)signal; }

static void interrupt(int64_t ns)
{
    struct sigaction action = {.sa_handler = nothing};
    struct timespec start, now;
    pthread_t thread;
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread, NULL, make_again_and_again, NULL);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        pthread_kill(thread, SIGUSR1);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000LL + now.tv_nsec - start.tv_nsec < ns);
    printf("tries=%d\nmade=%d\n", tries, made);
    fflush(stdout);
    _exit(0);
}

/* calls WHO NR [ARGUMENT...] */
static int cmd_calls(int argc, char **argv)
{
    const char *who = arg(argc, argv, 1, NULL);
    for (int i = 0; i < 7; i++)
        numbers[i] = strtol(arg(argc, argv, 2 + i, i ? "0" : NULL), NULL, 0);
    printf("before=%d\n", getpid());
    fflush(stdout);
    if (strcmp(who, "itself") == 0) {
        make();
    } else if (strcmp(who, "thread") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, make_in_thread, NULL);
        pthread_join(thread, NULL);
    } else if (strcmp(who, "child") == 0) {
        in_child();
        wait(NULL);
    } else if (strcmp(who, "orphan") == 0) {
        if (fork() == 0) {
            setsid();
            in_child();
            _exit(0);
        }
        wait(NULL);
        pause();
    } else if (strcmp(who, "stopped") == 0) { /* stopped before it makes the call, and woken */
        pid_t child = fork();
        if (child == 0) {
            raise(SIGSTOP);
            make();
            _exit(0);
        }
        waitpid(child, NULL, WUNTRACED);
        kill(child, SIGCONT);
        wait(NULL);
    } else if (strcmp(who, "late") == 0 || strcmp(who, "ended") == 0) {
        if (fork() == 0) {
            sleep_ns(200000000);
            make();
            puts("after=child");
            fflush(stdout);
            _exit(0);
        }
        if (strcmp(who, "late") == 0)
            wait(NULL);
        else /* the program ends while its child waits */
            sleep_ns(500000000);
        return 0;
    } else if (strcmp(who, "left") == 0) { /* a process that has left the program's group and outlives it */
        if (fork() == 0) {
            setsid();
            sleep_ns(500000000);
            make();
            printf("after=%s\n", errno_name(errno));
            fflush(stdout);
            _exit(0);
        }
        return 0;
    } else if (strcmp(who, "threads") == 0) {
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 65536);
        for (int i = 0; i < 200; i++) {
            pthread_t thread;
            pthread_create(&thread, &small, make_in_thread, NULL);
        }
        pause();
    } else if (strcmp(who, "bomb") == 0) {
        only_inside();
        for (;;)
            if (fork() > 0)
                in_child();
    } else if (strcmp(who, "interrupted") == 0) {
        interrupt(500000000);
    } else {
        return 2;
    }
    puts("after=itself");
    return 0;
}

/* Filters of the program's own: one with a listener, and one that refuses a call itself. */
static int cmd_own_filter(int argc, char **argv)
{
    long nr = strtol(arg(argc, argv, 1, "-1"), NULL, 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    printf("listener=%s\n", errno_name(fd < 0 ? errno : 0));
    long set = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    printf("filter=%s\n", errno_name(set < 0 ? errno : 0));
    long result = syscall(nr, 7);
    printf("call=%s\n", errno_name(result < 0 ? errno : 0));
    return 0;
}

const struct command call_commands[] = {
    {"calls", cmd_calls, "WHO NR [ARGUMENT...]"},
    {"own-filter", cmd_own_filter, "NR"},
    {NULL, NULL, NULL},
};
