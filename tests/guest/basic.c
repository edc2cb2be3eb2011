/* Ways to end, and the plain surroundings of a program. */
#define _GNU_SOURCE
#include "guest.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int cmd_true(int argc, char **argv)
{
    (void)argc, (void)argv;
    return 0;
}

static int cmd_exit(int argc, char **argv)
{
    return atoi(arg(argc, argv, 1, NULL));
}

/* Ends by the signal, without a core file. */
static int cmd_signal(int argc, char **argv)
{
    int number = atoi(arg(argc, argv, 1, NULL));
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(number, SIG_DFL);
    kill(getpid(), number);
    sleep_ns(1000000000);
    return 3;
}

static int cmd_segv(int argc, char **argv)
{
    (void)argc, (void)argv;
    volatile int *volatile nowhere = (int *)16;
    *nowhere = 1;
    return 3;
}

static int cmd_illegal(int argc, char **argv)
{
    (void)argc, (void)argv;
    __builtin_trap();
}

static int recurse(volatile int depth)
{
    volatile char frame[4096];
    frame[0] = (char)depth;
    /* never false, but the compiler does not know */
    return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

static int cmd_stack_recursion(int argc, char **argv)
{
    (void)argc, (void)argv;
    return recurse(0);
}

/* Uses so much of the stack and comes back. */
static int cmd_stack(int argc, char **argv)
{
    size_t size = parse_size(arg(argc, argv, 1, NULL));
    volatile char *frame = __builtin_alloca(size);
    for (size_t i = size; i >= 4096; i -= 4096)
        frame[i - 1] = 1;
    printf("stack=%zu\n", size);
    return 0;
}

static int cmd_sleep(int argc, char **argv)
{
    sleep_ns(parse_seconds(arg(argc, argv, 1, NULL)));
    return 0;
}

/* say TEXT COMMAND...: writes the line at once, then goes on with the command. */
static int cmd_say(int argc, char **argv)
{
    const char *text = arg(argc, argv, 1, NULL);
    write_all(1, text, strlen(text));
    write_all(1, "\n", 1);
    return argc > 2 ? dispatch(argc - 2, argv + 2) : 0;
}

static int cmd_args(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("%zu:%s\n", strlen(argv[i]), argv[i]);
    return 0;
}

static int cmd_env(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (char **e = environ; *e; e++)
        puts(*e);
    return 0;
}

static int cmd_cwd(int argc, char **argv)
{
    (void)argc, (void)argv;
    char path[4096];
    if (!getcwd(path, sizeof path))
        die("getcwd");
    puts(path);
    return 0;
}

/* exec PATH ARGS...: becomes another program. */
static int cmd_exec(int argc, char **argv)
{
    arg(argc, argv, 1, NULL);
    execv(argv[1], argv + 1);
    die(argv[1]);
}

/* Copies standard input to standard output. */
static int cmd_cat(int argc, char **argv)
{
    (void)argc, (void)argv;
    static char buffer[65536];
    ssize_t n;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        write_all(1, buffer, n);
    if (n < 0)
        die("read");
    return 0;
}

/* Answers every line with the same line until the end of the input. */
static int cmd_echo_lines(int argc, char **argv)
{
    (void)argc, (void)argv;
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        printf("> %s", line);
        fflush(stdout);
    }
    return 0;
}

static void *exit_late(void *status)
{
    sleep_ns(100000000);
    exit((int)(intptr_t)status);
}

/* The main thread ends first, another one ends the process. */
static int cmd_main_thread_exit(int argc, char **argv)
{
    pthread_t thread;
    int status = atoi(arg(argc, argv, 1, NULL));
    if (pthread_create(&thread, NULL, exit_late, (void *)(intptr_t)status))
        die("pthread_create");
    pthread_exit(NULL);
}

/* A child is killed by the signal; the program itself ends well. */
static int cmd_child_signal(int argc, char **argv)
{
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        _exit(cmd_signal(argc, argv));
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    printf("child=%d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    return 0;
}

const struct command basic_commands[] = {
    {"true", cmd_true, ""},
    {"exit", cmd_exit, "STATUS"},
    {"signal", cmd_signal, "NUMBER"},
    {"child-signal", cmd_child_signal, "NUMBER"},
    {"segv", cmd_segv, ""},
    {"illegal", cmd_illegal, ""},
    {"stack-recursion", cmd_stack_recursion, ""},
    {"stack", cmd_stack, "SIZE"},
    {"sleep", cmd_sleep, "SECONDS"},
    {"say", cmd_say, "TEXT [COMMAND...]"},
    {"args", cmd_args, "[ARG...]"},
    {"env", cmd_env, ""},
    {"cwd", cmd_cwd, ""},
    {"exec", cmd_exec, "PATH [ARG...]"},
    {"cat", cmd_cat, ""},
    {"echo-lines", cmd_echo_lines, ""},
    {"main-thread-exit", cmd_main_thread_exit, "STATUS"},
    {NULL, NULL, NULL},
};
