//! What a sandboxed program may call, as data.
//!
//! The vocabulary is that of Docker's default profile as it is for a container without any capability, because
//! that is what people have tested their programs against. Where this profile differs:
//!
//! * stricter: `socket` and `socketpair` know four families only; `ioctl` refuses what types into or rewires a
//!   terminal; `prlimit64` is about the caller alone; `fcntl` takes no leases and watches no directory; huge pages are
//!   for sandboxes that have a limit on them; `process_vm_readv`, `process_vm_writev` and
//!   `name_to_handle_at` are refused;
//! * wider: `uprobe` goes with `uretprobe` (only the kernel's own trampolines can use either).
//!
//! Refusals carry the error a program expects: `EPERM` for what the profile refuses, `ENOSYS` for what programs
//! fall back from, including all calls newer than this table. Nothing but a foreign ABI kills.
//!
//! The kernel reads the arguments checked here as 32-bit values, so only their low halves are compared:
//! a comparison of all 64 bits could be passed by with a bit that the kernel then ignores.

use libc::{EAFNOSUPPORT, EINVAL, ENOMEM, ENOSYS, EPERM};
use std::collections::HashSet;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This, whatever its arguments.
    Act(Action),
    /// One of its arguments decides whether it is made.
    Ask(&'static Check),
    /// Its arguments decide, by the decision of this index.
    Decide(usize),
}

/// What is done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is made.
    Allow,
    /// It is made, and the kernel logs it.
    Log,
    /// It fails with this errno and is not made.
    Errno(i32),
    /// It is not made, and the thread gets SIGSYS.
    Trap,
    /// It is not made, and the process is killed.
    Kill,
}

impl Action {
    pub(super) fn permits(self) -> bool {
        matches!(self, Action::Allow | Action::Log)
    }
}

/// A decision by the low 32 bits of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The calls it applies to.
    pub(super) calls: &'static [&'static str],
    /// Index of the argument, from 0.
    pub(super) arg: u32,
    /// The call is made if this holds, ...
    pub(super) test: Test,
    /// ... and fails with this errno if not.
    pub(super) errno: i32,
}

/// A property of a 32-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Has no bit in common with the mask.
    Lacks(u32),
    /// Is one of these.
    Among(&'static [u32]),
    /// Is none of these.
    Outside(&'static [u32]),
}

/// A profile. Names that an architecture does not have mean nothing there.
pub(super) struct Profile {
    /// Calls made whatever their arguments, separated by blanks.
    pub(super) allowed: &'static str,
    /// And these, which depend on an argument elsewhere.
    pub(super) also: &'static str,
    /// Calls that depend on an argument.
    pub(super) checks: &'static [Check],
    /// Calls denied as if the kernel did not have them.
    pub(super) absent: &'static [&'static str],
}

impl Profile {
    /// What gives the verdict on the call of a name; `None` stands for a number without a name.
    pub(super) fn verdicts(&self) -> impl Fn(Option<&str>) -> Verdict {
        let allowed: HashSet<&str> = self
            .allowed
            .split_ascii_whitespace()
            .chain(self.also.split_ascii_whitespace())
            .collect();
        move |name| {
            let Some(name) = name else {
                return Verdict::Act(Action::Errno(ENOSYS));
            };
            if allowed.contains(name) {
                Verdict::Act(Action::Allow)
            } else if let Some(check) = self.checks.iter().find(|c| c.calls.contains(&name)) {
                Verdict::Ask(check)
            } else if self.absent.contains(&name) {
                Verdict::Act(Action::Errno(ENOSYS))
            } else {
                Verdict::Act(Action::Errno(EPERM))
            }
        }
    }
}

/// The profile of a sandbox whose spec does not ask for another one.
pub(super) static DEFAULT: Profile = Profile {
    also: "",
    ..PROFILE
};

/// The same for a sandbox that has a limit on huge pages, and so may have some.
pub(super) static WITH_HUGE_PAGES: Profile = Profile {
    also: "memfd_create mmap shmget",
    ..PROFILE
};

/// What holds whatever a profile of the caller's own says, as limits that were given would be passed without it: see the
/// checks of the default profile.
pub(super) fn floor(name: &str, huge_pages: bool) -> Option<&'static Check> {
    let always = ["ioctl", "prlimit64"].contains(&name);
    let check = DEFAULT.checks.iter().find(|c| c.calls.contains(&name))?;
    let huge = [
        libc::MAP_HUGETLB as u32,
        libc::MFD_HUGETLB,
        libc::SHM_HUGETLB as u32,
    ];
    let about_huge =
        matches!(check.test, Test::Lacks(mask) if huge.contains(&mask)) && check.errno == ENOMEM;
    (always || about_huge && !huge_pages).then_some(check)
}

/// Commands of fcntl(2), of linux/fcntl.h.
const F_SETLEASE: u32 = 1024;
const F_NOTIFY: u32 = 1026;
const F_SETDELEG: u32 = 1040;

const PROFILE: Profile = Profile {
    also: "",
    allowed: "\
        accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown \
        clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range \
        creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
        epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
        fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fdatasync \
        fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex \
        futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
        getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp \
        getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname \
        getsockopt gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init \
        inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit \
        ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
        lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
        lstat madvise map_shadow_stack membarrier memfd_secret mincore mkdir mkdirat mknod \
        mknodat mlock mlock2 mlockall modify_ldt mprotect mq_getsetattr mq_notify mq_open \
        mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock \
        munlockall munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe \
        pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 \
        process_mrelease pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
        recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
        restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
        rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl \
        semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area \
        set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid \
        setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat shmat shmctl shmdt \
        shutdown sigaltstack signalfd signalfd4 splice stat statfs statmount statx symlink symlinkat sync \
        sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
        timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate \
        umask uname unlink unlinkat uprobe uretprobe utime utimensat utimes vfork vmsplice wait4 waitid \
        write writev",
    checks: &[
        Check {
            calls: &["clone"],
            arg: 0,
            // CLONE_NEWTIME is not among them: clone() takes that bit for a part of the exit signal.
            test: Test::Lacks(
                (libc::CLONE_NEWNS
                    | libc::CLONE_NEWCGROUP
                    | libc::CLONE_NEWUTS
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUSER
                    | libc::CLONE_NEWPID
                    | libc::CLONE_NEWNET) as u32,
            ),
            errno: EPERM,
        },
        Check {
            // socketpair() creates sockets of the family before it finds that the family has no pairs.
            calls: &["socket", "socketpair"],
            arg: 0,
            test: Test::Among(&[
                libc::AF_UNIX as u32,
                libc::AF_INET as u32,
                libc::AF_INET6 as u32,
                libc::AF_NETLINK as u32,
            ]),
            // What a kernel built without the family says.
            errno: EAFNOSUPPORT,
        },
        // Huge pages are out of a pool of the host's, and no limit on memory counts them.
        Check {
            calls: &["mmap"],
            arg: 3,
            test: Test::Lacks(libc::MAP_HUGETLB as u32),
            // What a kernel says whose pool is empty.
            errno: ENOMEM,
        },
        Check {
            calls: &["memfd_create"],
            arg: 1,
            test: Test::Lacks(libc::MFD_HUGETLB),
            errno: ENOMEM,
        },
        Check {
            calls: &["shmget"],
            arg: 2,
            test: Test::Lacks(libc::SHM_HUGETLB as u32),
            errno: ENOMEM,
        },
        Check {
            calls: &["ioctl"],
            arg: 1,
            // Type into the terminal, paste into a virtual console, load a line discipline.
            test: Test::Outside(&[
                libc::TIOCSTI as u32,
                libc::TIOCLINUX as u32,
                libc::TIOCSETD as u32,
            ]),
            errno: EPERM,
        },
        Check {
            calls: &["fcntl"],
            arg: 1,
            // Leases and notifications are about files, whoever opens them: another sandbox that has the same, or the host,
            // which waits for who holds a lease.
            test: Test::Outside(&[F_SETLEASE, F_NOTIFY, F_SETDELEG]),
            // What a kernel or a file system without them says.
            errno: EINVAL,
        },
        Check {
            calls: &["prlimit64"],
            arg: 0,
            // The caller itself, and not the sandbox's init, which may have the same user: nothing else keeps its limits from
            // being lowered until it can open nothing more, or is killed for its CPU time. In a live sandbox it has threads,
            // each of which a number means that no filter can know.
            test: Test::Among(&[0]),
            errno: EPERM,
        },
        Check {
            calls: &["personality"],
            arg: 0,
            // PER_LINUX and PER_LINUX32, each with and without UNAME26; all ones asks and changes nothing.
            test: Test::Among(&[0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF]),
            errno: EPERM,
        },
    ],
    absent: &[
        // Its flags are behind a pointer, out of a filter's sight; C libraries fall back to clone().
        "clone3",
        // Newer than Docker's profile, and every user has a way without them.
        "file_getattr",
        "file_setattr",
        "listns",
        "rseq_slice_yield",
    ],
};
