/* Output and files. */
#define _GNU_SOURCE
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void write_bytes(int fd, uint64_t size)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (size) {
        uint64_t n = size < sizeof block ? size : sizeof block;
        write_all(fd, block, n);
        size -= n;
    }
}

static int cmd_write_stdout(int argc, char **argv)
{
    write_bytes(1, parse_size(arg(argc, argv, 1, NULL)));
    return 0;
}

static int cmd_write_stderr(int argc, char **argv)
{
    write_bytes(2, parse_size(arg(argc, argv, 1, NULL)));
    return 0;
}

/* Writes to standard output without an end. */
static int cmd_flood(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (;;)
        write_bytes(1, 1 << 20);
    return 3;
}

/* write-file PATH SIZE: says how far it came, and why no farther. */
static int cmd_write_file(int argc, char **argv)
{
    static char block[65536];
    uint64_t size = parse_size(arg(argc, argv, 2, NULL)), written = 0;
    int error = 0;
    int fd = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        error = errno;
    while (!error && written < size) {
        uint64_t left = size - written;
        ssize_t n = write(fd, block, left < sizeof block ? left : sizeof block);
        if (n < 0)
            error = errno;
        else
            written += n;
    }
    printf("written=%llu\nerror=%s\n", (unsigned long long)written, errno_name(error));
    return error ? 5 : 0;
}

/* The same with SIGXFSZ ignored: the error, not the signal, tells. */
static int cmd_fsize(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);
    return cmd_write_file(argc, argv);
}

/* many-files DIRECTORY COUNT: empty files, as many as it may make. */
static int cmd_many_files(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 2, NULL)), made = 0, error = 0;
    char path[PATH_MAX];
    for (; made < count && !error; made++) {
        snprintf(path, sizeof path, "%s/file-%d", argv[1], made);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0) {
            error = errno;
            break;
        }
        close(fd);
    }
    printf("made=%d\nerror=%s\n", made, errno_name(error));
    return error ? 5 : 0;
}

/* fill-files DIRECTORY SIZE COUNT: so many files of that size. */
static int cmd_fill_files(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 2, NULL));
    int count = atoi(arg(argc, argv, 3, NULL));
    char path[PATH_MAX];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/file-%d", argv[1], i);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            die(path);
        write_bytes(fd, size);
        close(fd);
    }
    return 0;
}

/* hidden MODE SIZE COUNT: so many files of that size, written once all directories on the way to them have that mode. */
static int cmd_hidden(int argc, char **argv)
{
    mode_t mode = strtoul(arg(argc, argv, 1, NULL), NULL, 8);
    uint64_t size = parse_size(arg(argc, argv, 2, NULL));
    int count = atoi(arg(argc, argv, 3, NULL)), fds[64];
    char path[PATH_MAX];
    if (count > 64 || mkdir("one", 0700) || mkdir("one/two", 0700))
        die("mkdir");
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "one/two/file-%d", i);
        fds[i] = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fds[i] < 0)
            die(path);
    }
    int dirs[] = {open("one/two", O_RDONLY | O_CLOEXEC), open("one", O_RDONLY | O_CLOEXEC), open(".", O_RDONLY | O_CLOEXEC)};
    for (int i = 0; i < 3; i++)
        if (fchmod(dirs[i], mode))
            die("fchmod");
    for (int i = 0; i < count; i++)
        write_bytes(fds[i], size);
    sleep(60);
    return 0;
}

/* deep PATH COUNT: so many directories, each in the one before. */
static int cmd_deep(int argc, char **argv)
{
    int count = atoi(arg(argc, argv, 2, NULL));
    const char *name = argv[1];
    for (int i = 0; i < count; i++, name = "d")
        if (mkdir(name, 0755) || chdir(name))
            die("mkdir");
    return 0;
}

static int cmd_read(int argc, char **argv)
{
    static char buffer[65536];
    ssize_t n;
    int fd = open(arg(argc, argv, 1, NULL), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        die(argv[1]);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        write_all(1, buffer, n);
    if (n < 0)
        die(argv[1]);
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* ls DIRECTORY: name, kind, mode, device numbers, link target. */
static int cmd_ls(int argc, char **argv)
{
    struct dirent **entries;
    int n = scandir(arg(argc, argv, 1, NULL), &entries, NULL, by_name);
    if (n < 0)
        die(argv[1]);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        char path[PATH_MAX], target[PATH_MAX] = "";
        struct stat st;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], name);
        if (lstat(path, &st)) {
            printf("%s ? %s\n", name, errno_name(errno));
            continue;
        }
        const char *kind = S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "dir" : S_ISCHR(st.st_mode) ? "char"
                         : S_ISBLK(st.st_mode) ? "block" : S_ISLNK(st.st_mode) ? "link" : S_ISFIFO(st.st_mode) ? "fifo"
                         : "socket";
        if (S_ISLNK(st.st_mode)) {
            ssize_t length = readlink(path, target, sizeof target - 1);
            target[length < 0 ? 0 : length] = 0;
        }
        printf("%s %s %o %u:%u %s\n", name, kind, st.st_mode & 07777, major(st.st_rdev), minor(st.st_rdev), target);
    }
    return 0;
}

static int cmd_link(int argc, char **argv)
{
    if (symlink(arg(argc, argv, 1, NULL), arg(argc, argv, 2, NULL)))
        die("symlink");
    return 0;
}

static int cmd_fifo(int argc, char **argv)
{
    if (mkfifo(arg(argc, argv, 1, NULL), 0644))
        die("mkfifo");
    return 0;
}

static int cmd_mkdir(int argc, char **argv)
{
    if (mkdir(arg(argc, argv, 1, NULL), 0755))
        die("mkdir");
    return 0;
}

/* sparse PATH SIZE: a file that only looks large. */
static int cmd_sparse(int argc, char **argv)
{
    uint64_t size = parse_size(arg(argc, argv, 2, NULL));
    int fd = open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, size))
        die(argv[1]);
    return 0;
}

/* setid PATH: a file of its own that would run as its owner. */
static int cmd_setid(int argc, char **argv)
{
    int fd = open(arg(argc, argv, 1, NULL), O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    if (fd < 0 || fchmod(fd, 06755))
        die(argv[1]);
    return 0;
}

/* One step of cmd_fs: 0, or -1 with errno. */
static int fs_step(const char *op, const char *path, const char *to)
{
    if (strcmp(op, "put") == 0) {
        int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, to, strlen(to)) < 0)
            return -1;
        return close(fd);
    }
    if (strcmp(op, "cat") == 0) {
        char content[4096];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, content, sizeof content);
        if (n >= 0)
            printf("%.*s:", (int)n, content);
        return n < 0 ? -1 : close(fd);
    }
    if (strcmp(op, "own") == 0) { /* whose it is itself, and its mode */
        struct stat seen;
        if (lstat(path, &seen))
            return -1;
        return printf("%u,%u,%o:", seen.st_uid, seen.st_gid, seen.st_mode & 07777);
    }
    if (strcmp(op, "alter") == 0) { /* the content alone: as long as before, at the same time */
        struct stat seen;
        int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &seen) || write(fd, to, strlen(to)) < 0)
            return -1;
        return futimens(fd, (struct timespec[]){seen.st_atim, seen.st_mtim}) ? -1 : close(fd);
    }
    if (strcmp(op, "rm") == 0)
        return unlink(path);
    if (strcmp(op, "rmdir") == 0)
        return rmdir(path);
    if (strcmp(op, "mkdir") == 0)
        return mkdir(path, 0755);
    if (strcmp(op, "mv") == 0)
        return rename(path, to);
    if (strcmp(op, "chmod") == 0)
        return chmod(path, strtoul(to, NULL, 8));
    if (strcmp(op, "symlink") == 0)
        return symlink(to, path);
    if (strcmp(op, "ln") == 0)
        return link(to, path);
    fprintf(stderr, "guest: fs: no step `%s`\n", op);
    exit(2);
}

/* fs OP:PATH[:ARGUMENT]...: does one after another; each says `OP:PATH=RESULT`. */
static int cmd_fs(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char step[4096];
        snprintf(step, sizeof step, "%s", argv[i]);
        char *path = strchr(step, ':');
        if (!path)
            return 2;
        *path++ = 0;
        char *to = strchr(path, ':');
        if (to)
            *to++ = 0;
        printf("%s:%s=", step, path);
        printf("%s\n", errno_name(fs_step(step, path, to ? to : "") < 0 ? errno : 0));
    }
    return 0;
}

/* swap PATH: what it is changes all the time: a closed file, a link out, a FIFO, a directory, nothing. */
static int cmd_swap(int argc, char **argv)
{
    const char *path = arg(argc, argv, 1, NULL);
    only_inside();
    while (1) {
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0);
        if (fd >= 0)
            close(fd);
        unlink(path);
        (void)!symlink("/etc/shadow", path);
        unlink(path);
        mkfifo(path, 0600);
        unlink(path);
        mkdir(path, 0);
        rmdir(path);
    }
    return 0;
}

const struct command file_commands[] = {
    {"swap", cmd_swap, "PATH"},
    {"fs", cmd_fs, "OP:PATH[:ARGUMENT]...: put, cat, own, alter, rm, rmdir, mkdir, mv, chmod, symlink, ln"},
    {"write-stdout", cmd_write_stdout, "SIZE"},
    {"write-stderr", cmd_write_stderr, "SIZE"},
    {"flood", cmd_flood, ""},
    {"write-file", cmd_write_file, "PATH SIZE"},
    {"fsize", cmd_fsize, "PATH SIZE"},
    {"many-files", cmd_many_files, "DIRECTORY COUNT"},
    {"fill-files", cmd_fill_files, "DIRECTORY SIZE COUNT"},
    {"hidden", cmd_hidden, "MODE SIZE COUNT"},
    {"deep", cmd_deep, "PATH COUNT"},
    {"read", cmd_read, "PATH"},
    {"ls", cmd_ls, "DIRECTORY"},
    {"link", cmd_link, "TARGET PATH"},
    {"fifo", cmd_fifo, "PATH"},
    {"mkdir", cmd_mkdir, "PATH"},
    {"sparse", cmd_sparse, "PATH SIZE"},
    {"setid", cmd_setid, "PATH"},
    {NULL, NULL, NULL},
};
