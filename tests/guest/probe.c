/* Attempts at things a sandboxed program must not be able to do. Each runs in a process of its own, so that a filter
 * that kills is told from one that refuses: the line is NAME=OK, NAME=ERRNO or NAME=signal N. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long unshare_mount(void) { return unshare(CLONE_NEWNS); }
static long unshare_net(void) { return unshare(CLONE_NEWNET); }
static long unshare_pid(void) { return unshare(CLONE_NEWPID); }
static long unshare_cgroup(void) { return unshare(CLONE_NEWCGROUP); }
static long unshare_time(void) { return unshare(0x80); }

static long clone_with(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid;
}
static long clone_user(void) { return clone_with(CLONE_NEWUSER); }
/* A namespace flag hidden behind ones above 32 bits. */
static long clone_user_high(void) { return clone_with(CLONE_NEWUSER | 1UL << 40); }

static long clone3_user(void)
{
    uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, args, sizeof args);
    if (pid == 0)
        _exit(0);
    return pid;
}

static long setns_pid1(void)
{
    int fd = open("/proc/1/ns/mnt", O_RDONLY);
    return fd < 0 ? -1 : setns(fd, 0);
}
static long mount_tmpfs(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long mount_bind(void) { return mount("/", "/tmp", NULL, MS_BIND, NULL); }
static long remount_rw(void) { return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long umount_proc(void) { return umount2("/proc", MNT_DETACH); }
static long pivot(void) { return syscall(SYS_pivot_root, ".", "."); }
static long chroot_work(void) { return chroot("/work"); }
static long fsopen_tmpfs(void) { return syscall(430, "tmpfs", 0); }
static long open_tree_root(void) { return syscall(428, AT_FDCWD, "/", 1); }
static long move_mount_cwd(void) { return syscall(429, AT_FDCWD, "/tmp", AT_FDCWD, "/work", 0); }
static long mount_setattr_root(void)
{
    uint64_t attr[4] = {0, 1, 0, 0}; /* clear MOUNT_ATTR_RDONLY */
    return syscall(442, AT_FDCWD, "/", 0, attr, sizeof attr);
}
static long mknod_mem(void) { return mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)); }

static long ptrace_pid1(void) { return ptrace(PTRACE_ATTACH, 1, 0, 0); }
static long ptrace_seize_pid1(void) { return ptrace(PTRACE_SEIZE, 1, 0, 0); }
static long read_pid1(void)
{
    char byte;
    struct iovec own = {&byte, 1}, other = {(void *)0x400000, 1};
    return process_vm_readv(1, &own, 1, &other, 1, 0);
}
static long open_pid1(const char *path)
{
    char byte;
    int fd = open(path, O_RDONLY);
    return fd < 0 ? -1 : read(fd, &byte, 1);
}
static long environ_pid1(void) { return open_pid1("/proc/1/environ"); }
static long mem_pid1(void) { return open("/proc/1/mem", O_RDWR); }
static long maps_pid1(void) { return open_pid1("/proc/1/maps"); }
static long exe_pid1(void) { return open("/proc/1/exe", O_RDONLY); }
static long root_pid1(void) { return open("/proc/1/root/", O_RDONLY | O_DIRECTORY); }
static long cwd_pid1(void) { return open("/proc/1/cwd/", O_RDONLY | O_DIRECTORY); }
static long fds_pid1(void) { return open("/proc/1/fd", O_RDONLY | O_DIRECTORY); }
static long getfd_pid1(void)
{
    long pidfd = syscall(SYS_pidfd_open, 1, 0);
    return pidfd < 0 ? -1 : syscall(438, pidfd, 0, 0);
}

static long keyctl_session(void) { return syscall(SYS_keyctl, 0, -3, 1); }
static long keyctl_join(void) { return syscall(SYS_keyctl, 1, NULL); }
static long add_key_user(void) { return syscall(SYS_add_key, "user", "guest", "x", 1, -4); }
static long request_key_user(void) { return syscall(SYS_request_key, "user", "guest", NULL, -4); }

static long bpf_map(void)
{
    uint32_t attr[32] = {1, 4, 4, 1};
    return syscall(SYS_bpf, 0, attr, sizeof attr);
}
static long perf(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .exclude_kernel = 1};
    return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}
static long uffd(void) { return syscall(SYS_userfaultfd, O_CLOEXEC | 1); }
static long uring(void)
{
    struct io_uring_params params = {0};
    return syscall(SYS_io_uring_setup, 4, &params);
}
static long handle_at(void)
{
    struct { struct file_handle h; char space[128]; } handle = {.h = {.handle_bytes = 128}};
    int mount_id;
    if (name_to_handle_at(AT_FDCWD, "/", &handle.h, &mount_id, 0) && errno != EOPNOTSUPP && errno != EOVERFLOW)
        return -1;
    handle.h.handle_bytes = 8;
    handle.h.handle_type = 1;
    return open_by_handle_at(AT_FDCWD, &handle.h, O_RDONLY);
}
static long init_module_(void) { return syscall(SYS_init_module, "x", 1, ""); }
static long finit_module_(void) { return syscall(SYS_finit_module, 0, "", 0); }
static long kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0); }
static long reboot_(void) { return reboot(RB_DISABLE_CAD); }
static long swapon_(void) { return swapon("/work/swap", 0); }
static long settime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now);
}
static long adjtime_(void)
{
    struct timex t = {.modes = ADJ_TICK, .tick = 10000};
    return adjtimex(&t);
}
static long set_hostname(void) { return sethostname("guest", 5); }
static long syslog_read(void)
{
    char text[256];
    return syscall(SYS_syslog, 3, text, sizeof text);
}
static long fanotify(void) { return syscall(SYS_fanotify_init, 0, 0); }
static long quotactl_(void) { return syscall(SYS_quotactl, 0x800001, "/", 0, 0); }
static long acct_(void) { return syscall(SYS_acct, NULL); }

static long write_map(const char *path)
{
    int fd = open(path, O_WRONLY);
    return fd < 0 ? -1 : write(fd, "0 0 1\n", 6);
}
static long uid_map(void) { return write_map("/proc/self/uid_map"); }
static long gid_map(void) { return write_map("/proc/self/gid_map"); }
static long setuid_0(void) { return setresuid(0, 0, 0); }
static long setgid_0(void) { return setresgid(0, 0, 0); }
static long setgroups_none(void) { return syscall(SYS_setgroups, 0, NULL); }
static long raise_capability(void)
{
    struct { uint32_t version; int pid; } header = {0x20080522, 0};
    struct { uint32_t effective, permitted, inheritable; } data[2] = {{1 << 21, 1 << 21, 0}, {0, 0, 0}};
    return syscall(SYS_capset, &header, data);
}
static long ambient(void) { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0); }
static long clear_no_new_privs(void) { return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0); }
static long raise_priority(void) { return setpriority(0, 0, -20); }
static long raise_nofile(void)
{
    uint64_t limit[2] = {1 << 20, 1 << 20};
    return syscall(SYS_prlimit64, 0, 7, limit, NULL);
}
static long limit_pid1(unsigned long pid)
{
    uint64_t limit[2] = {3, 3};
    return syscall(SYS_prlimit64, pid, 7, limit, NULL);
}
static long limits_of_pid1(void) { return limit_pid1(1); }
/* Of whatever has a number here, beside this process: whichever are threads of init's. */
static long limits_of_others(void)
{
    struct rlimit lowest = {3, 3};
    for (int pid = 1; pid < 200; pid++)
        if (pid != getpid() && pid != getppid() && prlimit(pid, RLIMIT_NOFILE, &lowest, NULL) == 0)
            return 0;
    errno = EPERM;
    return -1;
}
static long limits_of_pid1_high(void) { return limit_pid1(1 | 1UL << 40); }
static long niceness_of_pid1(void) { return setpriority(PRIO_PROCESS, 1, 19); }
static long schedule_pid1(void)
{
    struct sched_param none = {0};
    return sched_setscheduler(1, SCHED_IDLE, &none);
}
static long processors_of_pid1(void)
{
    unsigned long first = 1;
    return syscall(SYS_sched_setaffinity, 1, sizeof first, &first);
}
static long no_randomize(void) { return personality(ADDR_NO_RANDOMIZE | 0xffff0000UL); }

static long family(int domain, int type)
{
    return socket(domain, type, 0);
}
static long packet(void) { return family(AF_PACKET, SOCK_RAW); }
static long raw_inet(void) { return socket(AF_INET, SOCK_RAW, 1); }
static long vsock(void) { return family(40, SOCK_STREAM); }
static long alg(void) { return family(38, SOCK_SEQPACKET); }
static long bluetooth(void) { return family(31, SOCK_RAW); }
static long xdp(void) { return family(44, SOCK_RAW); }
static long can(void) { return family(29, SOCK_RAW); }

static long tiocsti(void) { return ioctl(0, 0x5412, "x"); }
static long tiocsti_high(void) { return syscall(SYS_ioctl, 0, 0x5412UL | 1UL << 32, "x"); }
static long tioclinux(void) { return ioctl(0, 0x541c, "\2"); }
static long tioclinux_high(void) { return syscall(SYS_ioctl, 0, 0x541cUL | 7UL << 40, "\2"); }

#ifdef __x86_64__
static long iopl_(void) { return syscall(SYS_iopl, 3); }
/* getpid by the 32-bit entry: another table of numbers, which no filter for this one may let through. */
static long int80(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
static long x32(void) { return syscall(0x40000000UL | SYS_getpid); }
#endif

static const struct { const char *name; long (*attempt)(void); } probes[] = {
    {"unshare-user", unshare_user}, {"unshare-mount", unshare_mount}, {"unshare-net", unshare_net},
    {"unshare-pid", unshare_pid}, {"unshare-cgroup", unshare_cgroup}, {"unshare-time", unshare_time},
    {"clone-user", clone_user}, {"clone-user-high", clone_user_high}, {"clone3-user", clone3_user},
    {"setns", setns_pid1}, {"mount-tmpfs", mount_tmpfs}, {"mount-bind", mount_bind}, {"remount-rw", remount_rw},
    {"umount", umount_proc}, {"pivot-root", pivot}, {"chroot", chroot_work}, {"fsopen", fsopen_tmpfs},
    {"open-tree", open_tree_root}, {"move-mount", move_mount_cwd}, {"mount-setattr", mount_setattr_root},
    {"mknod", mknod_mem}, {"ptrace-pid1", ptrace_pid1}, {"ptrace-seize-pid1", ptrace_seize_pid1},
    {"limits-of-pid1", limits_of_pid1}, {"limits-of-pid1-high", limits_of_pid1_high},
    {"limits-of-others", limits_of_others}, {"niceness-of-pid1", niceness_of_pid1}, {"schedule-pid1", schedule_pid1},
    {"processors-of-pid1", processors_of_pid1},
    {"vm-read-pid1", read_pid1}, {"environ-pid1", environ_pid1}, {"mem-pid1", mem_pid1}, {"maps-pid1", maps_pid1},
    {"exe-pid1", exe_pid1}, {"root-pid1", root_pid1}, {"cwd-pid1", cwd_pid1}, {"fds-pid1", fds_pid1},
    {"getfd-pid1", getfd_pid1}, {"keyctl-session", keyctl_session}, {"keyctl-join", keyctl_join},
    {"add-key", add_key_user}, {"request-key", request_key_user}, {"bpf", bpf_map}, {"perf", perf},
    {"userfaultfd", uffd}, {"io-uring", uring}, {"open-by-handle", handle_at}, {"init-module", init_module_},
    {"finit-module", finit_module_}, {"kexec", kexec}, {"reboot", reboot_}, {"swapon", swapon_},
    {"clock-settime", settime}, {"adjtimex", adjtime_}, {"sethostname", set_hostname}, {"syslog", syslog_read},
    {"fanotify", fanotify}, {"quotactl", quotactl_}, {"acct", acct_}, {"uid-map", uid_map}, {"gid-map", gid_map},
    {"setuid-0", setuid_0},
    {"setgid-0", setgid_0}, {"setgroups", setgroups_none}, {"capset", raise_capability}, {"ambient", ambient},
    {"clear-no-new-privs", clear_no_new_privs}, {"nice", raise_priority}, {"raise-nofile", raise_nofile},
    {"personality", no_randomize}, {"socket-packet", packet}, {"socket-raw", raw_inet}, {"socket-vsock", vsock},
    {"socket-alg", alg}, {"socket-bluetooth", bluetooth}, {"socket-xdp", xdp}, {"socket-can", can},
    {"tiocsti", tiocsti}, {"tiocsti-high", tiocsti_high}, {"tioclinux", tioclinux},
    {"tioclinux-high", tioclinux_high},
#ifdef __x86_64__
    {"iopl", iopl_}, {"int80", int80}, {"x32", x32},
#endif
};

/* Makes the attempt in a child and says how it went. */
static void report_probe(const char *name, long (*attempt)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        errno = 0;
        long result = attempt();
        _exit(result >= 0 ? 0 : errno ? errno : 255);
    }
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    if (WIFSIGNALED(status))
        printf("%s=signal %d\n", name, WTERMSIG(status));
    else
        printf("%s=%s\n", name, errno_name(WEXITSTATUS(status)));
}

/* Whether the filter kills for it: then no other could follow. */
static int kills(const char *name) { return strcmp(name, "int80") == 0 || strcmp(name, "x32") == 0; }

/* probe [NAME...]: those named, or all that come back. */
static int cmd_probe(int argc, char **argv)
{
    only_inside();
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        int wanted = argc == 1 && !kills(probes[i].name);
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], probes[i].name) == 0;
        if (wanted)
            report_probe(probes[i].name, probes[i].attempt);
    }
    return 0;
}

/* attempt NAME: in the program itself, so that a filter that kills ends it. */
static int cmd_attempt(int argc, char **argv)
{
    const char *name = arg(argc, argv, 1, NULL);
    only_inside();
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        if (strcmp(name, probes[i].name) == 0) {
            errno = 0;
            long result = probes[i].attempt();
            printf("%s=%s\n", name, errno_name(result >= 0 ? 0 : errno));
            return result >= 0 ? 0 : 1;
        }
    return 2;
}

const struct command probe_commands[] = {
    {"probe", cmd_probe, "[NAME...]"},
    {"attempt", cmd_attempt, "NAME"},
    {NULL, NULL, NULL},
};
