/* Programs that try to outlive their end, or to delay it. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* daemon keep|close SECONDS: double fork, own session, every signal ignored; the program itself ends at once. */
static int cmd_daemon(int argc, char **argv)
{
    int keep = strcmp(arg(argc, argv, 1, NULL), "keep") == 0;
    int64_t ns = parse_seconds(arg(argc, argv, 2, NULL));
    int ready[2];
    char byte;
    if (pipe(ready))
        die("pipe");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            for (int s = 1; s < 32; s++)
                signal(s, SIG_IGN);
            if (!keep)
                for (int fd = 0; fd < 3; fd++)
                    close(fd);
            write_all(ready[1], "x", 1);
            sleep_ns(ns);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    if (read(ready[0], &byte, 1) != 1)
        die("read");
    return 0;
}

/* A child keeps the pipes of the standard streams open for SECONDS; the program itself ends at once. */
static int cmd_hold_pipe(int argc, char **argv)
{
    int64_t ns = parse_seconds(arg(argc, argv, 1, NULL));
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        sleep_ns(ns);
        _exit(0);
    }
    return 0;
}

static int cmd_stop_self(int argc, char **argv)
{
    (void)argc, (void)argv;
    kill(getpid(), SIGSTOP);
    return 0;
}

/* Stops itself and the whole of what it started. */
static int cmd_stop_all(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            kill(getpid(), SIGSTOP);
            _exit(0);
        }
    sleep_ns(20000000);
    kill(-1, SIGSTOP);
    kill(getpid(), SIGSTOP);
    return 0;
}

/* Stops everything else in its sandbox, again and again. */
static int cmd_stop_others(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    write_all(1, "ready\n", 6);
    for (;;)
        kill(-1, SIGSTOP);
    return 0;
}

/* Ignores every signal that can be ignored and sleeps for SECONDS. */
static int cmd_ignore_term(int argc, char **argv)
{
    for (int s = 1; s < 65; s++)
        signal(s, SIG_IGN);
    sleep_ns(parse_seconds(arg(argc, argv, 1, NULL)));
    return 0;
}

static void on_term(int signal_number)
{
    static const char text[] = "caught\n";
    (void)signal_number;
    write_all(1, text, sizeof text - 1);
    _exit(7);
}

/* Says `ready`, and `caught` when SIGTERM comes; exits with 7 then. */
static int cmd_catch_term(int argc, char **argv)
{
    (void)argc, (void)argv;
    signal(SIGTERM, on_term);
    write_all(1, "ready\n", 6);
    for (;;)
        pause();
    return 3;
}

/* Kills everything it may, the sandbox's own first process included, and goes on. */
static int cmd_kill_all(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    for (int s = 1; s < 65; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_IGN);
    for (int s = 1; s < 65; s++)
        kill(1, s);
    /* kill(-1) spares the caller and process 1. */
    kill(-1, SIGKILL);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    puts("alive");
    return 0;
}

/* Closes its standard streams and goes on for SECONDS. */
static int cmd_close_stdio(int argc, char **argv)
{
    int64_t ns = parse_seconds(arg(argc, argv, 1, NULL));
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    sleep_ns(ns);
    return 9;
}

const struct command end_commands[] = {
    {"daemon", cmd_daemon, "keep|close SECONDS"},
    {"hold-pipe", cmd_hold_pipe, "SECONDS"},
    {"stop-self", cmd_stop_self, ""},
    {"stop-others", cmd_stop_others, ""},
    {"stop-all", cmd_stop_all, ""},
    {"ignore-term", cmd_ignore_term, "SECONDS"},
    {"catch-term", cmd_catch_term, ""},
    {"kill-all", cmd_kill_all, ""},
    {"close-stdio", cmd_close_stdio, "SECONDS"},
    {NULL, NULL, NULL},
};
