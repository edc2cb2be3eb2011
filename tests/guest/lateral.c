/* What one program could leave for another to find, and finding it. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *result(long returned)
{
    return errno_name(returned < 0 ? errno : 0);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

static struct flock whole(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

/* lock PATH SECONDS: locks of all kinds on a file that is open for reading, kept that long. */
static int cmd_lock(int argc, char **argv)
{
    struct flock lock = whole(F_RDLCK);
    const char *path = arg(argc, argv, 1, NULL);
    int fd = open_file(path), other = open_file(path);
    if (flock(fd, LOCK_EX | LOCK_NB))
        die("flock");
    if (fcntl(fd, F_SETLK, &lock))
        die("F_SETLK");
    if (fcntl(other, F_OFD_SETLK, &lock))
        die("F_OFD_SETLK");
    write_all(1, "ready\n", 6);
    sleep_ns(parse_seconds(arg(argc, argv, 2, "0")));
    return 0;
}

static const char *seen(int fd, int how)
{
    struct flock lock = whole(F_WRLCK);
    if (fcntl(fd, how, &lock))
        die("F_GETLK");
    return lock.l_type == F_UNLCK ? "OK" : "locked";
}

/* try-lock PATH: whether such locks are seen. */
static int cmd_try_lock(int argc, char **argv)
{
    int fd = open_file(arg(argc, argv, 1, NULL));
    printf("flock=%s\n", result(flock(fd, LOCK_EX | LOCK_NB)));
    printf("fcntl=%s\n", seen(fd, F_GETLK));
    printf("ofd=%s\n", seen(fd, F_OFD_GETLK));
    return 0;
}

static const char *watched(int watcher)
{
    struct pollfd event = {.fd = watcher, .events = POLLIN};
    return poll(&event, 1, 0) == 1 ? "seen" : "nothing";
}

/* watch PATH...: what is heard of them until standard input ends, and of what we do to them then. */
static int cmd_watch(int argc, char **argv)
{
    int watcher = inotify_init1(IN_CLOEXEC);
    for (int i = 1; i < argc; i++)
        if (inotify_add_watch(watcher, argv[i], IN_ALL_EVENTS) < 0)
            die(argv[i]);
    write_all(1, "ready\n", 6);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    printf("others=%s\n", watched(watcher));
    for (int i = 1; i < argc; i++)
        close(open_file(argv[i]));
    printf("own=%s\n", watched(watcher));
    return 0;
}

/* futex PATH wait|wake: by memory that is the file, shared and read-only. */
static int cmd_futex(int argc, char **argv)
{
    int fd = open_file(arg(argc, argv, 1, NULL));
    unsigned *word = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (word == MAP_FAILED)
        die("mmap");
    unsigned value = *(volatile unsigned *)word;
    if (!strcmp(arg(argc, argv, 2, NULL), "wait")) {
        struct timespec most = {.tv_sec = 20};
        write_all(1, "ready\n", 6);
        printf("wait=%s\n", result(syscall(SYS_futex, word, FUTEX_WAIT, value, &most)));
    } else {
        printf("woken=%ld\n", syscall(SYS_futex, word, FUTEX_WAKE, 1));
    }
    return 0;
}

/* watch-file PATH: leases, and watches of what others do. */
static int cmd_watch_file(int argc, char **argv)
{
    int fd = open_file(arg(argc, argv, 1, NULL)), root = open_file("/usr");
    printf("lease=%s\n", result(fcntl(fd, F_SETLEASE, F_RDLCK)));
    printf("lease-high=%s\n", result(syscall(SYS_fcntl, fd, F_SETLEASE | 1UL << 32, F_RDLCK)));
    printf("notify=%s\n", result(fcntl(root, F_NOTIFY, DN_ACCESS | DN_MULTISHOT)));
    printf("fanotify=%s\n", result(syscall(SYS_fanotify_init, 0x200 /* FAN_REPORT_FID */, O_RDONLY)));
    int watcher = inotify_init1(IN_CLOEXEC);
    printf("inotify=%s\n", result(watcher < 0 ? -1 : inotify_add_watch(watcher, "/usr", IN_ALL_EVENTS)));
    return 0;
}

/* sysv-leave [SECONDS]: one of each kind of System V's, left behind; with SECONDS says so and stays that long. */
static int cmd_sysv_leave(int argc, char **argv)
{
    int memory = shmget(0x57a8, 1 << 20, IPC_CREAT | 0666);
    if (memory < 0 || msgget(0x57a8, IPC_CREAT | 0666) < 0 || semget(0x57a8, 1, IPC_CREAT | 0666) < 0)
        die("System V IPC");
    memset(shmat(memory, NULL, 0), 1, 1 << 20);
    if (argc > 1) {
        write_all(1, "ready\n", 6);
        sleep_ns(parse_seconds(argv[1]));
    }
    return 0;
}

/* sysv-find: whether they are there. */
static int cmd_sysv_find(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("shm=%s\n", result(shmget(0x57a8, 0, 0)));
    printf("msg=%s\n", result(msgget(0x57a8, 0)));
    printf("sem=%s\n", result(semget(0x57a8, 0, 0)));
    return 0;
}

enum { SESSION = -3, USER = -4, SEARCH = 10 };

/* key-leave: a key in the session's keyring and in the user's. */
static int cmd_key_leave(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("session=%s\n", result(syscall(SYS_add_key, "user", "guest", "secret", 6, SESSION)));
    printf("user=%s\n", result(syscall(SYS_add_key, "user", "guest", "secret", 6, USER)));
    return 0;
}

/* key-find: whether they are there. */
static int cmd_key_find(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("session=%s\n", result(syscall(SYS_keyctl, SEARCH, SESSION, "user", "guest", 0)));
    printf("user=%s\n", result(syscall(SYS_keyctl, SEARCH, USER, "user", "guest", 0)));
    return 0;
}

/* timer-leave: timers that would go off after its end. */
static int cmd_timer_leave(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct itimerval soon = {.it_value = {.tv_usec = 200000}};
    timer_t timer;
    struct itimerspec then = {.it_value = {.tv_nsec = 200000000}};
    if (setitimer(ITIMER_REAL, &soon, NULL) || timer_create(CLOCK_REALTIME, NULL, &timer) ||
        timer_settime(timer, 0, &then, NULL))
        die("timers");
    return 0;
}

/* reopen: standard input opened again for writing, and changed; standard output opened again for reading. */
static int cmd_reopen(int argc, char **argv)
{
    (void)argc, (void)argv;
    int fd = open("/proc/self/fd/0", O_RDWR | O_CLOEXEC);
    printf("open=%s\n", result(fd));
    printf("write=%s\n", result(write(fd < 0 ? 0 : fd, "changed", 7)));
    printf("truncate=%s\n", result(ftruncate(fd < 0 ? 0 : fd, 0)));
    printf("output=%s\n", result(open("/proc/self/fd/1", O_RDONLY | O_CLOEXEC | O_NONBLOCK)));
    return 0;
}

const struct command lateral_commands[] = {
    {"lock", cmd_lock, "PATH [SECONDS]"},
    {"try-lock", cmd_try_lock, "PATH"},
    {"watch", cmd_watch, "PATH..."},
    {"futex", cmd_futex, "PATH wait|wake"},
    {"watch-file", cmd_watch_file, "PATH"},
    {"sysv-leave", cmd_sysv_leave, "[SECONDS]"},
    {"sysv-find", cmd_sysv_find, ""},
    {"key-leave", cmd_key_leave, ""},
    {"key-find", cmd_key_find, ""},
    {"timer-leave", cmd_timer_leave, ""},
    {"reopen", cmd_reopen, ""},
    {NULL, NULL, NULL},
};
