//! Which errors a system call can plausibly fail with.

use libc::*;

/// Calls that do not fail, or whose failure the kernel has no reason for: a close(2) that were not made would leave the
/// descriptor open. And the allocator's: a host without memory for itself is ended by the language.
const NEVER: &[i64] = &[
    SYS_brk,
    SYS_close,
    SYS_close_range,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getrandom,
    SYS_gettid,
    SYS_getuid,
    SYS_kill,
    SYS_madvise,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_pidfd_send_signal,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_sigaltstack,
    SYS_umask,
    SYS_getrusage,
    SYS_getcwd,
    SYS_lseek,
];

macro_rules! calls {
    ($($errors:tt: $($name:ident)*;)*) => {
        const TABLE: &[(i64, &str, &[i32])] = &[$($(($name, stringify!($name), &$errors),)*)*];
    };
}

calls! {
    [EMFILE, ENOMEM]: SYS_socket SYS_socketpair SYS_epoll_create1 SYS_memfd_create SYS_dup3 SYS_pidfd_open SYS_open_tree
        SYS_fsopen SYS_fsmount SYS_signalfd4 SYS_pipe2 SYS_eventfd2;
    [EMFILE, ENOMEM, EACCES]: SYS_openat;
    [EMFILE, EPERM]: SYS_fcntl;
    [ENOSPC, EPERM, ENOMEM, EAGAIN]: SYS_clone SYS_clone3 SYS_unshare;
    [EPERM, ENOMEM]: SYS_setns SYS_move_mount SYS_mount_setattr SYS_pivot_root SYS_umount2 SYS_fsconfig SYS_chroot SYS_chdir
        SYS_fchdir SYS_prctl SYS_capset SYS_seccomp SYS_setresuid SYS_setresgid SYS_setgroups SYS_setsid SYS_sethostname
        SYS_prlimit64 SYS_setpriority SYS_keyctl SYS_ioctl SYS_mmap;
    [ENOSPC, EPERM, ENOMEM]: SYS_mount;
    [ENOSPC, EIO, ENOMEM]: SYS_mkdir;
    [ENOSPC, EIO]: SYS_mkdirat SYS_symlinkat SYS_symlink SYS_mknodat SYS_unlinkat SYS_rmdir SYS_unlink SYS_renameat
        SYS_rename SYS_linkat SYS_ftruncate SYS_fallocate SYS_fchmod SYS_fchmodat SYS_fchownat SYS_fchown SYS_utimensat
        SYS_fsync SYS_sendfile SYS_copy_file_range;
    [ENOSPC, EIO, EINTR]: SYS_write SYS_writev SYS_pwrite64;
    [EIO, EINTR]: SYS_read SYS_readv SYS_pread64;
    [EIO]: SYS_getdents64 SYS_readlinkat SYS_readlink SYS_statx SYS_newfstatat SYS_fstat SYS_fstatfs SYS_statfs SYS_access
        SYS_faccessat2;
    [ENOBUFS, ENOMEM, EINTR]: SYS_sendmsg SYS_sendto;
    [ENOMEM, EINTR]: SYS_recvmsg SYS_recvfrom SYS_poll SYS_ppoll SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2;
    [ENOMEM, ENOSPC]: SYS_epoll_ctl;
    [EINTR]: SYS_wait4 SYS_waitid;
    [ENOMEM, EACCES, EIO]: SYS_execve SYS_execveat;
    [ECONNREFUSED, EINTR]: SYS_connect;
    [EPERM, ENOMEM]: SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self;
    [EINTR, ENOLCK]: SYS_flock;
}

/// What it can fail with; the second argument tells requests apart.
pub fn errors(call: i64, second: u64, host: bool) -> &'static [i32] {
    if NEVER.contains(&call) || (host && call == SYS_mmap) {
        return &[];
    }
    if call == SYS_fcntl && ![F_DUPFD_CLOEXEC as u64, F_ADD_SEALS as u64].contains(&second) {
        return &[];
    }
    // To change what is watched, or to end that, needs nothing.
    if call == SYS_epoll_ctl && second != EPOLL_CTL_ADD as u64 {
        return &[];
    }
    match TABLE.iter().find(|(number, ..)| *number == call) {
        Some((_, _, errors)) => errors,
        None => &[EPERM, ENOMEM],
    }
}

/// Its name.
pub fn name(call: i64) -> String {
    match TABLE.iter().find(|(number, ..)| *number == call) {
        Some((_, name, _)) => name.trim_start_matches("SYS_").into(),
        None => format!("call {call}"),
    }
}
