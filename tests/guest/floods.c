/* What is meant to keep others busy: each goes on until it is killed. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STORM = 8 };

/* Says that it has begun, once somebody can tell. */
static void begun(void)
{
    printf("begun\n");
    fflush(stdout);
}

/* Processes that execute one program after another. */
static int cmd_exec_storm(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    for (int i = 1; i < STORM; i++)
        if (fork() == 0)
            break;
    begun();
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", "guest", "true", NULL);
            _exit(1);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    return 3;
}

/* Every signal to every process that can be seen, init among them, some of them queued. */
static int cmd_signal_storm(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < STORM; i++)
        if (fork() == 0)
            break;
    begun();
    for (;;)
        for (int i = 1; i <= SIGRTMAX; i++) {
            if (i == SIGKILL || i == SIGSTOP || i == 32 || i == 33)
                continue; /* the C library lets nobody ignore its own two */
            kill(1, i);
            kill(-1, i);
            sigqueue(getpid(), i, (union sigval){0});
            sigqueue(1, i, (union sigval){0});
        }
    return 3;
}

/* Orphans that have ended, as fast as they can be made. */
static int cmd_zombie_storm(int argc, char **argv)
{
    (void)argc, (void)argv;
    only_inside();
    signal(SIGCHLD, SIG_IGN);
    for (int i = 1; i < STORM; i++)
        if (fork() == 0)
            break;
    begun();
    for (;;)
        if (fork() == 0) {
            fork();
            _exit(0);
        }
    return 3;
}

/* Descriptors on their way through sockets, as many as the kernel takes: says how many, and keeps them there. */
static int cmd_in_flight(int argc, char **argv)
{
    enum { EACH = 250 };
    int pair[2] = {-1, -1}, fds[EACH], count = 0, error = 0;
    union {
        char bytes[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control;
    (void)argc, (void)argv;
    for (int i = 0; i < EACH; i++)
        fds[i] = 0;
    while (!error) {
        if (pair[0] < 0 && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair)) {
            error = errno;
            break;
        }
        char byte = 0;
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(head), fds, sizeof fds);
        if (sendmsg(pair[0], &message, 0) == 1)
            count += EACH;
        else if (errno == EAGAIN)
            pair[0] = -1; /* the next pair */
        else
            error = errno;
    }
    printf("count=%d\nerror=%s\n", count, errno_name(error));
    fflush(stdout);
    for (;;)
        pause();
    return 3;
}

/* tree-storm DIRECTORY: trees that go deep and may not be entered, and files that claim to be huge, without end. */
static int cmd_tree_storm(int argc, char **argv)
{
    const char *root = arg(argc, argv, 1, "/work");
    only_inside();
    if (chdir(root))
        die(root);
    int top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    begun();
    for (unsigned tree = 0;; tree++) {
        char name[32];
        snprintf(name, sizeof name, "%u", tree);
        if (fchdir(top) || mkdir(name, 0700) || chdir(name)) {
            sleep_ns(1000000);
            continue; /* full: it stays so */
        }
        for (int depth = 0; depth < 300; depth++) {
            int sparse = open("giant", O_CREAT | O_WRONLY | O_CLOEXEC, 0000);
            (void)!ftruncate(sparse, 1LL << 42);
            close(sparse);
            if (mkdir("d", 0700) || chdir("d"))
                break;
            chmod("..", 0);
        }
    }
    return 3;
}

/* inode-storm DIRECTORY: empty files until there is no room, removed, and again. */
static int cmd_inode_storm(int argc, char **argv)
{
    const char *root = arg(argc, argv, 1, "/work");
    char path[256];
    only_inside();
    begun();
    for (;;) {
        unsigned count = 0;
        for (;; count++) {
            snprintf(path, sizeof path, "%s/%u", root, count);
            int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
            if (fd < 0)
                break;
            close(fd);
        }
        while (count-- > 0) {
            snprintf(path, sizeof path, "%s/%u", root, count);
            unlink(path);
        }
    }
    return 3;
}

const struct command flood_commands[] = {
    {"exec-storm", cmd_exec_storm, ""},
    {"signal-storm", cmd_signal_storm, ""},
    {"zombie-storm", cmd_zombie_storm, ""},
    {"in-flight", cmd_in_flight, ""},
    {"tree-storm", cmd_tree_storm, "[DIRECTORY]"},
    {"inode-storm", cmd_inode_storm, "[DIRECTORY]"},
    {NULL, NULL, NULL},
};
