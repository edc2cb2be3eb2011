//! What the program that serves a root through FUSE may call: files and its own memory.
//!
//! It is told what to do by a hostile program, through the kernel. Should that ever take it over, it finds no socket, no
//! other process, no mount and no key.

use super::profile::{Check, Profile, Test};
use libc::EPERM;

pub(super) static SERVER: Profile = Profile {
    allowed: "\
        access arch_prctl brk capget chdir chmod chown clock_getres clock_gettime clock_nanosleep close \
        close_range copy_file_range creat dup dup2 dup3 execve exit exit_group faccessat faccessat2 fadvise64 \
        fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock \
        fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futimesat get_robust_list getcpu getcwd \
        getdents getdents64 getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getrandom \
        getresgid getresuid getrlimit getrusage getsid gettid gettimeofday getuid getxattr getxattrat lchown \
        lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise \
        membarrier mincore mkdir mkdirat mknod mknodat mmap mprotect mremap msync munmap nanosleep newfstatat \
        open openat openat2 pause pipe pipe2 poll ppoll pread64 preadv preadv2 pselect6 pwrite64 pwritev \
        pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 \
        restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigtimedwait \
        sched_getaffinity sched_yield select sendfile set_robust_list set_tid_address setfsgid setfsuid \
        setgroups setregid setresgid setresuid setreuid setrlimit setxattr setxattrat sigaltstack splice stat \
        statfs statx symlink symlinkat sync_file_range syncfs sysinfo tee time truncate umask uname unlink \
        unlinkat utime utimensat utimes vmsplice write writev",
    also: "",
    checks: &[
        Check {
            // A thread, should a version of it have more than one.
            calls: &["clone"],
            arg: 0,
            test: Test::Among(&[THREAD]),
            errno: EPERM,
        },
        Check {
            calls: &["ioctl"],
            arg: 1,
            // Attributes of files (both widths of a long), and copies that share blocks.
            test: Test::Among(&[
                0x8008_6601,
                0x4008_6602,
                0x8004_6601,
                0x4004_6602,
                0x4004_9409,
                0x4020_940D,
            ]),
            errno: libc::ENOTTY,
        },
        Check {
            calls: &["prlimit64"],
            arg: 0,
            test: Test::Among(&[0]),
            errno: EPERM,
        },
    ],
    absent: &["clone3"],
};

/// What the C libraries give clone() for a thread.
const THREAD: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u32;
