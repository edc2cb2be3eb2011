//! The profile `strict`: what interpreters, compilers and the programs that they make need to compute, read and write
//! files and start each other, and no more.
//!
//! Of what the default profile lets through it has not: tracing and debugging, System V and POSIX message queues,
//! semaphores and shared memory of System V, watches of files that others may use too (inotify), changes of identity, scheduling classes, kernel-side asynchronous I/O,
//! mount tables, sockets other than AF_UNIX in a sandbox without a network, and what flushes the whole host's disks. Of
//! `ioctl` and `prctl` it has those requests that such programs make.

use super::profile::{Check, DEFAULT, Profile, Test};
use libc::{EAFNOSUPPORT, EINVAL, ENOTTY};

const ALLOWED: &str = "\
    accept accept4 access alarm arch_prctl bind brk cachestat capget chdir chmod chown clock_getres clock_gettime \
    clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl \
    epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat \
    get_robust_list getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid \
    getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt \
    gettid gettimeofday getuid getxattr kill lchown \
    lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier mincore \
    mkdir mkdirat mknod mknodat mlock mlock2 mlockall mprotect mremap mseal msync munlock munlockall munmap nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll pread64 preadv preadv2 \
    pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg removexattr \
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_yield \
    select sendfile sendmmsg sendmsg sendto set_robust_list set_tid_address setitimer setpgid setpriority setrlimit \
    setsid setsockopt setxattr shutdown sigaltstack signalfd signalfd4 splice stat statfs statx symlink symlinkat \
    sync_file_range sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
    timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat uprobe uretprobe utime \
    utimensat utimes vfork wait4 waitid write writev";

/// Answered as by a kernel that has them not, so that programs do without.
const ABSENT: &[&str] = &[
    "clone3",
    "inotify_init",
    "inotify_init1",
    "io_setup",
    "io_uring_setup",
    "landlock_create_ruleset",
    "memfd_secret",
    "pkey_alloc",
    "seccomp",
    "userfaultfd",
];

const SOCKETS: Check = Check {
    calls: &["socket", "socketpair"],
    arg: 0,
    test: Test::Among(&[libc::AF_UNIX as u32]),
    errno: EAFNOSUPPORT,
};

const SOCKETS_WITH_NETWORK: Check = Check {
    test: Test::Among(&[
        libc::AF_UNIX as u32,
        libc::AF_INET as u32,
        libc::AF_INET6 as u32,
        libc::AF_NETLINK as u32,
    ]),
    ..SOCKETS
};

/// `FICLONE` of linux/fs.h.
const FICLONE: u32 = 0x4004_9409;

const IOCTL: Check = Check {
    calls: &["ioctl"],
    arg: 1,
    // Terminals, as far as they are asked about; descriptors; copies.
    test: Test::Among(&[
        libc::TCGETS as u32,
        libc::TIOCGWINSZ as u32,
        libc::TIOCGPGRP as u32,
        libc::FIONREAD as u32,
        libc::FIONBIO as u32,
        libc::FIOCLEX as u32,
        libc::FIONCLEX as u32,
        FICLONE,
    ]),
    errno: ENOTTY,
};

const PRCTL: Check = Check {
    calls: &["prctl"],
    arg: 0,
    test: Test::Among(&[
        libc::PR_SET_PDEATHSIG as u32,
        libc::PR_GET_PDEATHSIG as u32,
        libc::PR_GET_DUMPABLE as u32,
        libc::PR_SET_DUMPABLE as u32,
        libc::PR_SET_NAME as u32,
        libc::PR_GET_NAME as u32,
        libc::PR_GET_SECCOMP as u32,
        libc::PR_CAPBSET_READ as u32,
        libc::PR_SET_TIMERSLACK as u32,
        libc::PR_GET_TIMERSLACK as u32,
        libc::PR_SET_CHILD_SUBREAPER as u32,
        libc::PR_GET_CHILD_SUBREAPER as u32,
        libc::PR_SET_NO_NEW_PRIVS as u32,
        libc::PR_GET_NO_NEW_PRIVS as u32,
        libc::PR_GET_TID_ADDRESS as u32,
        libc::PR_SET_THP_DISABLE as u32,
        libc::PR_GET_THP_DISABLE as u32,
        libc::PR_SET_VMA as u32,
    ]),
    errno: EINVAL,
};

/// For a sandbox without a network, or with one; with huge pages or without.
pub(super) fn strict(network: bool, huge_pages: bool) -> Profile {
    let own = [
        if network {
            SOCKETS_WITH_NETWORK
        } else {
            SOCKETS
        },
        IOCTL,
        PRCTL,
    ];
    let of_default = |call: &str| DEFAULT.checks.iter().find(|c| c.calls.contains(&call));
    let kept = [
        "clone",
        "fcntl",
        "mmap",
        "memfd_create",
        "prlimit64",
        "personality",
    ];
    let checks = own
        .into_iter()
        .chain(kept.iter().filter_map(|call| of_default(call).copied()));
    Profile {
        allowed: ALLOWED,
        also: if huge_pages { "memfd_create mmap" } else { "" },
        checks: Vec::leak(checks.collect()),
        absent: ABSENT,
    }
}
