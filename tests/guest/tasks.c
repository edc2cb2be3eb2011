/* Numbers of processes, threads and descriptors. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts up to COUNT children that live together, says how many it could, and ends them. */
static int cmd_pids(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL)), started = 0, error = 0;
    pid_t *children = calloc(count + 1, sizeof *children);
    for (; started < count; started++) {
        pid_t child = fork();
        if (child < 0) {
            error = errno;
            break;
        }
        if (child == 0) {
            pause();
            _exit(0);
        }
        children[started] = child;
    }
    sleep_ns(parse_seconds(arg(argc, argv, 2, "0")));
    for (int i = 0; i < started; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    printf("started=%d\nerror=%s\n", started, errno_name(error));
    return 0;
}

static void *pause_thread(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static int cmd_threads(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL)), started = 0, error = 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (; started < count; started++) {
        pthread_t thread;
        error = pthread_create(&thread, &small, pause_thread, NULL);
        if (error)
            break;
    }
    printf("started=%d\nerror=%s\n", started, errno_name(error));
    return 0;
}

/* Never ends by itself. */
static int cmd_forkbomb(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    for (;;)
        fork();
    return 3;
}

/* A chain in which every process starts the next and ends at once: no process id is good for long, and the program
 * itself waits until it is killed. */
static int cmd_hydra(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    signal(SIGCHLD, SIG_IGN);
    for (int head = 0; head < 4; head++)
        if (fork() == 0)
            for (;;) {
                pid_t next = fork();
                if (next > 0)
                    _exit(0);
            }
    for (;;)
        pause();
    return 3;
}

/* COUNT children that have ended and are never waited for. */
static int cmd_zombies(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 1, NULL)), started = 0;
    for (; started < count; started++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0)
            _exit(0);
    }
    printf("started=%d\n", started);
    return 0;
}

/* Opens descriptors until it may not. */
static int cmd_open_fds(int argc, char **argv)
{
    (void)argc, (void)argv;
    int count = 0;
    while (dup(0) >= 0)
        count++;
    printf("opened=%d\nerror=%s\n", count, errno_name(errno));
    return 0;
}

const struct command task_commands[] = {
    {"pids", cmd_pids, "COUNT [HOLD]"},
    {"threads", cmd_threads, "COUNT"},
    {"forkbomb", cmd_forkbomb, ""},
    {"hydra", cmd_hydra, ""},
    {"zombies", cmd_zombies, "COUNT"},
    {"open-fds", cmd_open_fds, ""},
    {NULL, NULL, NULL},
};
