/* What a second layer below the mounts must refuse, and what it must leave as it is. */
#define _GNU_SOURCE
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result)
{
    printf("%s=%s\n", what, errno_name(result < 0 ? errno : 0));
}

/* signal-to PID [NUMBER]: 0, which only asks, unless another is given. */
static int cmd_signal(int argc, char **argv)
{
    say("kill", kill(atoi(arg(argc, argv, 1, NULL)), atoi(arg(argc, argv, 2, "0"))));
    return 0;
}

/* trace PID: whether it may be traced, and its environment read. */
static int cmd_trace(int argc, char **argv)
{
    const char *pid = arg(argc, argv, 1, NULL);
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    say("environ", open(path, O_RDONLY));
    long seized = ptrace(PTRACE_SEIZE, atoi(pid), 0, 0);
    say("trace", seized);
    return 0;
}

/* bind TYPE: a port of its own on every address. */
static int cmd_bind(int argc, char **argv)
{
    int type = strcmp(arg(argc, argv, 1, "tcp"), "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, type, 0);
    if (fd < 0)
        die("socket");
    say("bind", bind(fd, (struct sockaddr *)&any, sizeof any));
    return 0;
}

/* connect-to PATH: to who listens there. */
static int cmd_connect_to(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", arg(argc, argv, 1, NULL));
    say("connect", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    return 0;
}

/* A file in /proc/self/fd opened again, as shells and compilers do. */
static long reopen(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return fd < 0 ? -1 : open(path, flags);
}

static void *idle(void *unused)
{
    return unused;
}

static long socket_in(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 1))
        return -1;
    return connect(client, (struct sockaddr *)&address, sizeof address);
}

static long into(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    return fd < 0 ? -1 : write(fd, text, strlen(text));
}

/* as-ever DIRECTORY...: all that programs do with files in each, NAME=OK if it works as without a sandbox. */
static int cmd_as_ever(int argc, char **argv)
{
    int pipes[2];
    pthread_t thread;
    for (int i = 1; i < argc; i++) {
        if (chdir(argv[i]))
            die(argv[i]);
        say("mkdir", mkdir("one", 0755) | mkdir("two", 0755));
        say("create", open("one/file", O_CREAT | O_RDWR, 0600));
        say("rename-across", rename("one/file", "two/file"));
        say("link-across", link("two/file", "one/link"));
        say("exchange", renameat2(AT_FDCWD, "one/link", AT_FDCWD, "two/file", RENAME_EXCHANGE));
        say("rename-dir", rename("one", "two/one"));
        say("truncate", truncate("two/file", 10));
        say("ftruncate", ftruncate(open("two/file", O_RDWR), 5));
        say("append", open("two/file", O_WRONLY | O_APPEND));
        say("chmod", chmod("two/file", 0755));
        say("symlink", symlink("two/file", "symlink"));
        say("through-symlink", open("symlink", O_RDONLY));
        say("fifo", mkfifo("fifo", 0600));
        say("open-fifo", open("fifo", O_RDWR));
        say("socket", socket_in("socket"));
        int hidden = open(".", O_TMPFILE | O_RDWR, 0600);
        if (hidden >= 0 || errno != EOPNOTSUPP) {
            say("tmpfile", hidden);
            say("reopen-tmpfile", reopen(hidden, O_RDWR));
        }
        int gone = open("gone", O_CREAT | O_RDWR, 0600);
        say("unlink", unlink("gone"));
        say("write-unlinked", write(gone, "x", 1));
        say("list", open("two", O_RDONLY | O_DIRECTORY));
        say("remove", unlink("two/file") | unlink("two/one/link") | rmdir("two/one") | rmdir("two"));
    }
    int memory = memfd_create("guest", MFD_CLOEXEC);
    say("memfd", ftruncate(memory, 10));
    say("reopen-memfd", reopen(memory, O_RDWR));
    say("pipe", pipe(pipes));
    say("reopen-pipe", reopen(pipes[1], O_WRONLY));
    say("reopen-stdin", reopen(0, O_RDONLY));
    say("reopen-stdout", reopen(1, O_WRONLY));
    for (const char *const *device = (const char *[]){"null", "zero", "full", "urandom", NULL}; *device; device++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/%s", *device);
        say(path, open(path, O_RDWR | O_TRUNC | O_CREAT, 0600));
    }
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "guest", "true", NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    say("exec-self", status ? -1 : 0);
    say("comm", into("/proc/self/comm", "other"));
    say("oom_score_adj", into("/proc/self/oom_score_adj", "1000"));
    say("coredump_filter", into("/proc/self/coredump_filter", "0"));
    pthread_create(&thread, NULL, idle, NULL);
    errno = pthread_kill(thread, 0);
    say("signal-thread", errno ? -1 : 0);
    pthread_join(thread, NULL);
    say("signal-self", kill(getpid(), 0));
    return 0;
}

const struct command domain_commands[] = {
    {"signal-to", cmd_signal, "PID [NUMBER]"},
    {"trace", cmd_trace, "PID"},
    {"bind", cmd_bind, "tcp|udp"},
    {"connect-to", cmd_connect_to, "PATH"},
    {"as-ever", cmd_as_ever, "DIRECTORY..."},
    {NULL, NULL, NULL},
};
