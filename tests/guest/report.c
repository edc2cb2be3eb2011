/* What a program can see of itself and its surroundings. */
#define _GNU_SOURCE
#include "guest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

static void print_status(void)
{
    static const char *const wanted[] = {"Uid:",    "Gid:",    "Groups:", "CapInh:", "CapPrm:", "CapEff:",
                                         "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Threads:", "Umask:",
                                         "SigIgn:", "SigBlk:", "TracerPid:"};
    char line[4096];
    FILE *f = fopen("/proc/self/status", "re");
    if (!f)
        die("/proc/self/status");
    while (fgets(line, sizeof line, f))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) {
                char *value = line + strlen(wanted[i]);
                value += strspn(value, " \t");
                value[strcspn(value, "\n")] = 0;
                for (char *p = value; *p; p++)
                    if (*p == '\t')
                        *p = ' ';
                printf("%.*s=%s\n", (int)strlen(wanted[i]) - 1, wanted[i], value);
            }
    fclose(f);
}

/* Keys and values about ids, capabilities, namespaces, limits. */
static int cmd_report(int argc, char **argv)
{
    static const char *const namespaces[] = {"user", "pid", "mnt", "ipc", "uts", "net", "cgroup", "time"};
    static const struct { const char *name; int what; } limits[] = {
        {"nofile", RLIMIT_NOFILE}, {"fsize", RLIMIT_FSIZE}, {"stack", RLIMIT_STACK},
        {"core", RLIMIT_CORE},     {"nproc", RLIMIT_NPROC}, {"memlock", RLIMIT_MEMLOCK},
        {"nice", RLIMIT_NICE},     {"rtprio", RLIMIT_RTPRIO}, {"sigpending", RLIMIT_SIGPENDING},
        {"msgqueue", RLIMIT_MSGQUEUE}};
    struct utsname uts;
    char path[64], target[PATH_MAX];
    (void)argc, (void)argv;
    print_status();
    printf("pid=%d\nppid=%d\npgid=%d\nsid=%d\n", getpid(), getppid(), getpgrp(), getsid(0));
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", namespaces[i]);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        printf("ns.%s=%s\n", namespaces[i], target);
    }
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit l;
        if (getrlimit(limits[i].what, &l))
            die("getrlimit");
        printf("rlimit.%s=%lld\n", limits[i].name, l.rlim_cur == RLIM_INFINITY ? -1LL : (long long)l.rlim_cur);
    }
    uname(&uts);
    printf("hostname=%s\ndomainname=%s\n", uts.nodename, uts.domainname);
    printf("securebits=%d\ndumpable=%d\nnice=%d\n", prctl(PR_GET_SECUREBITS), prctl(PR_GET_DUMPABLE),
           getpriority(PRIO_PROCESS, 0));
    return 0;
}

/* Every open descriptor and what it is. */
static int cmd_ls_fds(int argc, char **argv)
{
    char path[64], target[PATH_MAX];
    (void)argc, (void)argv;
    for (int fd = 0; fd < 65536; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        printf("%d=%s\n", fd, target);
    }
    return 0;
}

/* Every process that can be seen. */
static int cmd_ps(int argc, char **argv)
{
    (void)argc, (void)argv;
    DIR *proc = opendir("/proc");
    if (!proc)
        die("/proc");
    struct dirent *e;
    while ((e = readdir(proc))) {
        char path[320], text[256] = "";
        if (!isdigit((unsigned char)*e->d_name))
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            ssize_t n = read(fd, text, sizeof text - 1);
            text[n < 0 ? 0 : n] = 0;
            text[strcspn(text, "\n")] = 0;
            close(fd);
        }
        printf("%s=%s\n", e->d_name, text);
    }
    closedir(proc);
    return 0;
}

/* open PATH...: what opening for reading, and reading, gives. */
static int cmd_open(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char byte[64];
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        ssize_t n = fd < 0 ? -1 : read(fd, byte, sizeof byte);
        if (n >= 0)
            printf("%s=OK %zd\n", argv[i], n);
        else
            printf("%s=%s\n", argv[i], errno_name(errno));
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

/* open-write PATH...: the same for writing (nothing is written). */
static int cmd_open_write(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        printf("%s=%s\n", argv[i], errno_name(fd < 0 ? errno : 0));
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

static uint64_t checked;

static void try_writing(const char *path, const struct stat *st)
{
    char probe[PATH_MAX + 32];
    int fd;
    checked++;
    if (S_ISDIR(st->st_mode)) {
        snprintf(probe, sizeof probe, "%s/.guest-probe", path);
        fd = open(probe, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0)
            unlink(probe);
    } else if (S_ISREG(st->st_mode)) {
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && chmod(path, st->st_mode & 07777) == 0)
            printf("chmod %s\n", path);
    } else {
        return;
    }
    if (fd >= 0) {
        printf("writable %s\n", path);
        close(fd);
    }
}

static void walk(const char *path, int skips, char **skip)
{
    struct stat st;
    for (int i = 0; i < skips; i++)
        if (strcmp(path, skip[i]) == 0)
            return;
    if (lstat(path, &st))
        return;
    try_writing(path, &st);
    if (!S_ISDIR(st.st_mode))
        return;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    struct dirent *e;
    while ((e = readdir(dir))) {
        char child[PATH_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(child, sizeof child, "%s/%s", strcmp(path, "/") ? path : "", e->d_name) < (int)sizeof child)
            walk(child, skips, skip);
    }
    closedir(dir);
}

/* walk-writable ROOT [SKIP...]: tries to write to every file and directory below ROOT. */
static int cmd_walk_writable(int argc, char **argv)
{
    const char *root = arg(argc, argv, 1, NULL);
    walk(root, argc - 2, argv + 2);
    printf("checked %llu\n", (unsigned long long)checked);
    return 0;
}

/* statfs PATH...: size and inodes of the file system, and its flags. */
static int cmd_statfs(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct statvfs s;
        if (statvfs(argv[i], &s)) {
            printf("%s=%s\n", argv[i], errno_name(errno));
            continue;
        }
        printf("%s=%llu %llu%s%s%s%s\n", argv[i], (unsigned long long)s.f_blocks * s.f_frsize,
               (unsigned long long)s.f_files, s.f_flag & ST_RDONLY ? " ro" : " rw", s.f_flag & ST_NOSUID ? " nosuid" : "",
               s.f_flag & ST_NODEV ? " nodev" : "", s.f_flag & ST_NOEXEC ? " noexec" : "");
    }
    return 0;
}

/* inventory PATH...: all of this at once, and the mounts, so that two sandboxes can be compared. */
static int cmd_inventory(int argc, char **argv)
{
    static char *places[] = {"statfs", "/", "/work", "/tmp", "/dev/shm", "/proc", "/proc/sys", "/guest"};
    char line[4096];
    cmd_report(0, NULL);
    cmd_ls_fds(0, NULL);
    cmd_ps(0, NULL);
    cmd_statfs(sizeof places / sizeof *places, places);
    cmd_open(argc, argv);
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        die("/proc/self/mountinfo");
    while (fgets(line, sizeof line, f)) {
        char *at = line; /* past the numbers, which are others each time */
        for (int i = 0; i < 3; i++)
            at += strcspn(at, " ") + 1;
        printf("mount %s", at);
    }
    fclose(f);
    f = fopen("/work/made", "we");
    if (f) {
        fputs("made", f);
        fclose(f);
    }
    printf("cwd=%s\n", getcwd(line, sizeof line));
    return 0;
}

const struct command report_commands[] = {
    {"report", cmd_report, ""},
    {"inventory", cmd_inventory, "PATH..."},
    {"ls-fds", cmd_ls_fds, ""},
    {"ps", cmd_ps, ""},
    {"open", cmd_open, "PATH..."},
    {"open-write", cmd_open_write, "PATH..."},
    {"walk-writable", cmd_walk_writable, "ROOT [SKIP...]"},
    {"statfs", cmd_statfs, "PATH..."},
    {NULL, NULL, NULL},
};
