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
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
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

static long socket_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
}

/* connect-to PATH: to who listens there. */
static int cmd_connect_to(int argc, char **argv)
{
    say("connect", socket_to(arg(argc, argv, 1, NULL)));
    return 0;
}

/* reach DIRECTORY PID: attempts at the caller's own files and at another of his processes, with the same user id. In the
 * directory are `file`, `socket`, on which somebody listens, and `sub`. */
static int cmd_reach(int argc, char **argv)
{
    const char *dir = arg(argc, argv, 1, NULL), *number = arg(argc, argv, 2, NULL);
    int pid = atoi(number);
    char own[64], path[128];
    snprintf(own, sizeof own, "%s/mine", getcwd(path, sizeof path) ? getenv("HOME") : "");
    only_inside();
    say("create-own", open(own, O_CREAT | O_WRONLY, 0600));
    if (chdir(dir))
        die(dir);
    say("read", open("file", O_RDONLY));
    say("write", open("file", O_WRONLY));
    say("truncate", truncate("file", 0));
    say("create", open("new", O_CREAT | O_WRONLY, 0600));
    say("list", open(".", O_RDONLY | O_DIRECTORY));
    say("unlink", unlink("file"));
    say("mkdir", mkdir("dir", 0700));
    say("rmdir", rmdir("sub"));
    say("rename", rename("file", "moved"));
    say("rename-out", rename(own, "moved"));
    snprintf(path, sizeof path, "%s/taken", getenv("HOME"));
    say("rename-in", rename("file", path));
    say("link-in", link("file", path));
    say("symlink", symlink("file", "link"));
    say("fifo", mkfifo("fifo", 0600));
    say("chmod", chmod("file", 0777));
    say("fchmodat", syscall(SYS_fchmodat, AT_FDCWD, "file", 0777));
    say("fchmodat2", syscall(452, AT_FDCWD, "file", 0777, 0));
    say("fchmod-path", fchmod(open("file", O_PATH), 0777));
    say("chown", chown("file", -1, getgid()));
    say("lchown", lchown("file", -1, getgid()));
    say("fchownat", fchownat(AT_FDCWD, "file", -1, getgid(), 0));
    say("fchown-path", syscall(SYS_fchownat, open("file", O_PATH), "", -1, getgid(), AT_EMPTY_PATH));
    say("utimensat", utimensat(AT_FDCWD, "file", NULL, 0));
    say("futimens-path", utimensat(open("file", O_PATH), "", NULL, AT_EMPTY_PATH));
    say("setxattr", setxattr("file", "user.guest", "x", 1, 0));
    say("lsetxattr", lsetxattr("file", "user.guest", "x", 1, 0));
    say("inotify", inotify_add_watch(inotify_init1(0), ".", 0xfff));
    say("socket-unix", socket_to("socket"));
    int pair[2];
    say("socketpair-dgram", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    say("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    say("socket-udp", socket(AF_INET6, SOCK_DGRAM, 0));
    say("socket-netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    say("signal", kill(pid, 0));
    say("signal-thread", syscall(SYS_tkill, pid, 0));
    say("pidfd-signal", syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, pid, 0), SIGCONT, NULL, 0));
    say("trace", ptrace(PTRACE_SEIZE, pid, 0, 0));
    say("prlimit", syscall(SYS_prlimit64, pid, 7, NULL, &(uint64_t[2]){0}));
    say("setpriority", setpriority(PRIO_PROCESS, pid, 19));
    say("setpriority-user", setpriority(PRIO_USER, getuid(), 19));
    say("setpriority-own-user", setpriority(PRIO_USER, 0, 19));
    say("affinity", syscall(SYS_sched_setaffinity, pid, 8, &(unsigned long){1}));
    say("ioprio", syscall(SYS_ioprio_set, 1, pid, 3 << 13));
    say("shmget", shmget(0x57a8, 4096, IPC_CREAT | 0600));
    say("mq", syscall(SYS_mq_open, "guest", O_CREAT | O_RDWR, 0600, NULL));
    for (const char *const *file = (const char *[]){"environ", "mem", "maps", "cmdline", "status", "fd", "cwd/file",
                                                    "root/etc/passwd", "exe", NULL}; *file; file++) {
        snprintf(path, sizeof path, "/proc/%s/%s", number, *file);
        say(path, open(path, O_RDONLY));
    }
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
    {"reach", cmd_reach, "DIRECTORY PID"},
    {"as-ever", cmd_as_ever, "DIRECTORY..."},
    {NULL, NULL, NULL},
};
