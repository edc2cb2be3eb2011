//! Processes: their start, their end, and what they may.

use super::*;
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};

pub const CLONE_VM: u64 = 0x100;
pub const CLONE_FILES: u64 = 0x400;
pub const CLONE_VFORK: u64 = 0x4000;
pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
pub const CLONE_NEWTIME: u64 = 0x80;
pub const CLONE_NEWNS: u64 = 0x20000;
pub const CLONE_NEWCGROUP: u64 = 0x2000000;
pub const CLONE_NEWUTS: u64 = 0x4000000;
pub const CLONE_NEWIPC: u64 = 0x8000000;
pub const CLONE_NEWUSER: u64 = 0x10000000;
pub const CLONE_NEWPID: u64 = 0x20000000;
pub const CLONE_NEWNET: u64 = 0x40000000;
pub const CLONE_INTO_CGROUP: u64 = 0x200000000;

#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Forks: a child with a copy of this memory, in new namespaces. `Ok(0)` in the child.
pub fn fork_into(flags: u64, pidfd: &mut Fd) -> Result {
    let args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: pidfd as *mut Fd as u64,
        ..CloneArgs::default()
    };
    syscall!(nr_new::CLONE3, &raw const args, size_of::<CloneArgs>())
}

/// Runs `child(arg)` in a child that shares this memory while we wait for its exec or exit.
///
/// `stack` is the child's; `child` must not return. Without CLONE_VFORK the kernel's OOM killer would take it for one that
/// can be killed, and us with it.
pub fn vfork_into(
    args: &mut CloneArgs,
    stack: &mut [u8],
    child: extern "C" fn(usize) -> !,
    arg: usize,
) -> Result {
    args.flags |= CLONE_VM | CLONE_VFORK;
    clone_onto(args, stack, child, arg)
}

/// Runs `thread(arg)` in a thread, which must not return. `lives` is zero again, and a futex is woken, once it has ended.
pub fn start_thread(
    stack: &mut [u8],
    thread: extern "C" fn(usize) -> !,
    arg: usize,
    lives: &AtomicU32,
) -> Result {
    const CLONE_FS: u64 = 0x200;
    const CLONE_SIGHAND: u64 = 0x800;
    const CLONE_THREAD: u64 = 0x10000;
    const CLONE_SYSVSEM: u64 = 0x40000;
    const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
    let mut args = CloneArgs {
        flags: CLONE_VM
            | CLONE_FS
            | CLONE_FILES
            | CLONE_SIGHAND
            | CLONE_THREAD
            | CLONE_SYSVSEM
            | CLONE_CHILD_CLEARTID,
        child_tid: lives.as_ptr() as u64,
        ..CloneArgs::default()
    };
    lives.store(1, Ordering::Relaxed);
    clone_onto(&mut args, stack, thread, arg).inspect_err(|_| lives.store(0, Ordering::Relaxed))
}

/// Ends this thread alone.
pub fn exit_thread() -> ! {
    loop {
        let _ = syscall!(nr::EXIT, 0);
    }
}

/// Waits while `word` is `value`.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    const FUTEX_WAIT: usize = 0;
    while word.load(Ordering::Acquire) == value {
        let _ = syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAIT, value, 0);
    }
}

/// Waits while `word` is `value`, for at most `time` nanoseconds or until a signal.
pub fn futex_wait_for(word: &AtomicU32, value: u32, time: u64) {
    const FUTEX_WAIT: usize = 0;
    let spec = [time / 1_000_000_000, time % 1_000_000_000];
    let _ = syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAIT, value, spec.as_ptr());
}

pub fn futex_wake(word: &AtomicU32) {
    const FUTEX_WAKE: usize = 1;
    let _ = syscall!(nr::FUTEX, word.as_ptr(), FUTEX_WAKE, 1);
}

/// Clones a child onto a stack of its own.
fn clone_onto(
    args: &mut CloneArgs,
    stack: &mut [u8],
    child: extern "C" fn(usize) -> !,
    arg: usize,
) -> Result {
    args.stack = stack.as_mut_ptr() as u64 & !15;
    args.stack_size = (stack.len() as u64 - 16) & !15;
    let r: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: in the child the kernel has put rsp on `stack`; it calls `child(arg)`, which never returns, so nothing of
    // the caller's frame is touched by it. In the parent this is an ordinary system call.
    unsafe {
        asm!("syscall",
             "test rax, rax",
             "jnz 2f",
             "xor ebp, ebp",
             "mov rdi, r13",
             "call r12",
             "ud2",
             "2:",
             inlateout("rax") nr_new::CLONE3 as isize => r, in("rdi") args as *mut CloneArgs, in("rsi") size_of::<CloneArgs>(),
             in("r12") child, in("r13") arg, lateout("rcx") _, lateout("r11") _);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with sp for rsp.
    unsafe {
        asm!("svc 0",
             "cbnz x0, 2f",
             "mov x29, xzr",
             "mov x0, x20",
             "blr x21",
             "brk #1",
             "2:",
             in("x8") nr_new::CLONE3, inlateout("x0") args as *mut CloneArgs as isize => r, in("x1") size_of::<CloneArgs>(),
             in("x20") arg, in("x21") child);
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

pub fn unshare(flags: u64) -> Result {
    syscall!(nr::UNSHARE, flags)
}

pub fn setns(fd: Fd, kind: u64) -> Result {
    syscall!(nr::SETNS, fd, kind)
}

/// The number of [`execve`].
pub const EXECVE: usize = nr::EXECVE;

/// Replaces the program.
///
/// # Safety
/// `args` and `env` must point to arrays of pointers to NUL-terminated strings, ended by a null pointer.
pub unsafe fn execve(path: *const u8, args: *const usize, env: *const usize) -> i32 {
    match syscall!(nr::EXECVE, path, args, env) {
        Ok(_) => 0,
        Err(e) => e,
    }
}

pub fn kill(pid: i32, signal: i32) -> Result {
    syscall!(nr::KILL, pid, signal)
}

/// Whether thread `tid` is one of process `pid`.
pub fn is_thread_of(pid: i32, tid: i32) -> bool {
    const ESRCH: i32 = 3;
    syscall!(nr::TGKILL, pid, tid, 0) != Err(ESRCH)
}

pub fn pidfd_kill(pidfd: Fd) -> Result {
    syscall!(nr_new::PIDFD_SEND_SIGNAL, pidfd, SIGKILL, 0, 0)
}

/// Reaps the process behind `pidfd`, however it was cloned.
pub fn reap(pidfd: Fd) -> Result {
    const P_PIDFD: usize = 3;
    const WEXITED: usize = 4;
    const WALL: usize = 0x40000000;
    loop {
        match syscall!(nr::WAITID, P_PIDFD, pidfd, 0, WEXITED | WALL, 0) {
            Err(EINTR) => {}
            reaped => return reaped,
        }
    }
}

/// Whether our child `pid` is stopped by a signal. Needs no descriptor.
pub fn is_stopped(pid: i32) -> bool {
    const P_PID: usize = 1;
    const WNOHANG: usize = 1;
    const WSTOPPED: usize = 2;
    const WNOWAIT: usize = 0x100_0000;
    const WALL: usize = 0x4000_0000;
    const OPTIONS: usize = WSTOPPED | WNOHANG | WNOWAIT | WALL;
    let mut info = [0u64; 16];
    let looked = syscall!(nr::WAITID, P_PID, pid, info.as_mut_ptr(), OPTIONS, 0);
    looked.is_ok() && info[0] as u32 == SIGCHLD as u32
}

/// Reaps any child: its pid and wait status, or `None` if none has ended (with `block`: waits for one).
pub fn wait_any(block: bool) -> Result<Option<(i32, u32)>> {
    const WNOHANG: usize = 1;
    const WALL: usize = 0x40000000;
    let mut status = 0u32;
    loop {
        match syscall!(
            nr::WAIT4,
            -1isize,
            &raw mut status,
            WALL | if block { 0 } else { WNOHANG },
            0
        ) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid as i32, status))),
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

pub fn setsid() -> Result {
    syscall!(nr::SETSID)
}

/// The session of process `pid`, 0 for our own.
pub fn getsid(pid: i32) -> Result<i32> {
    syscall!(nr::GETSID, pid).map(|session| session as i32)
}

/// Orphans among our descendants become our children, and not those of the host's init.
pub fn adopt_orphans() -> Result {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// We are killed when the thread that has started us ends.
pub fn end_with_parent() -> Result {
    const PR_SET_PDEATHSIG: usize = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0)
}

pub fn drop_groups() -> Result {
    syscall!(nr::SETGROUPS, 0, 0)
}

pub fn set_ids(user: u32, group: u32) -> Result {
    syscall!(nr::SETRESGID, group, group, group)?;
    syscall!(nr::SETRESUID, user, user, user)
}

/// Has files be looked up with these ids, which the caller may take on.
pub fn set_fs_ids(user: u32, group: u32) -> Result<()> {
    const ASK: u32 = u32::MAX;
    // They say no more than what was before.
    for (call, id) in [(nr::SETFSGID, group), (nr::SETFSUID, user)] {
        syscall!(call, id)?;
        if syscall!(call, ASK)? != id as usize {
            return Err(EPERM);
        }
    }
    Ok(())
}

/// The sets of capabilities as capget(2) gives them: effective, permitted, inheritable, and the same of the upper half.
pub type Capabilities = [u32; 6];

const CAPABILITIES: [u32; 2] = [0x20080522, 0];

pub fn capabilities() -> Result<Capabilities> {
    let head = CAPABILITIES;
    let mut data = [0; 6];
    syscall!(nr::CAPGET, head.as_ptr(), data.as_mut_ptr())?;
    Ok(data)
}

pub fn set_capabilities(data: &Capabilities) -> Result {
    let head = CAPABILITIES;
    syscall!(nr::CAPSET, head.as_ptr(), data.as_ptr())
}

pub fn sethostname(name: &[u8]) -> Result {
    syscall!(nr::SETHOSTNAME, name.as_ptr(), name.len())
}

pub fn prctl(option: usize, a: usize, b: usize) -> Result {
    syscall!(nr::PRCTL, option, a, b, 0, 0)
}

/// Empties the effective, permitted and inheritable sets.
pub fn drop_capabilities() -> Result {
    let head: [u32; 2] = [0x20080522, 0];
    let data = [0u32; 6];
    syscall!(nr::CAPSET, head.as_ptr(), data.as_ptr())
}

/// Leaves only these, of the first 32, in the effective, permitted and inheritable sets.
pub fn keep_capabilities(set: u32) -> Result {
    let head: [u32; 2] = [0x20080522, 0];
    let data = [set, set, set, 0, 0, 0];
    syscall!(nr::CAPSET, head.as_ptr(), data.as_ptr())
}

/// Joins a new, empty session keyring.
pub fn new_session_keyring() -> Result {
    syscall!(nr::KEYCTL, 1, 0)
}

pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result {
    let limit = [soft, hard];
    syscall!(nr::PRLIMIT64, 0, resource, limit.as_ptr(), 0)
}

pub fn set_nice(nice: i32) -> Result {
    const PRIO_PROCESS: usize = 0;
    syscall!(nr::SETPRIORITY, PRIO_PROCESS, 0, nice)
}

pub fn set_idle() -> Result {
    const SCHED_IDLE: usize = 5;
    let priority = 0i32;
    syscall!(nr::SCHED_SETSCHEDULER, 0, SCHED_IDLE, &raw const priority)
}

pub fn set_affinity(mask: &[u8]) -> Result {
    syscall!(nr::SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr())
}

/// Raises the limit on open descriptors as far as it goes; gives it.
pub fn raise_open_files() -> u64 {
    const RLIMIT_NOFILE: usize = 7;
    let mut limit = [0u64; 2];
    if syscall!(nr::PRLIMIT64, 0, RLIMIT_NOFILE, 0, limit.as_mut_ptr()).is_err() {
        return u64::MAX;
    }
    limit[0] = limit[1];
    let _ = syscall!(nr::PRLIMIT64, 0, RLIMIT_NOFILE, limit.as_ptr(), 0);
    limit[1]
}

/// Installs a filter: `filter` is an array of `struct sock_filter`.
pub fn seccomp(filter: &[u8]) -> Result {
    install(filter, 0)
}

fn install(filter: &[u8], flags: usize) -> Result {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    let program = Program {
        len: (filter.len() / 8) as u16,
        filter: filter.as_ptr(),
    };
    syscall!(
        nr::SECCOMP,
        SECCOMP_SET_MODE_FILTER,
        flags,
        &raw const program
    )
}

/// Installs a filter that tells of some calls: gives the descriptor to hear of them by.
pub fn seccomp_listening(filter: &[u8]) -> Result<Fd> {
    const NEW_LISTENER: usize = 1 << 3;
    // Whoever has been heard of runs no handler of a signal any more. Since Linux 5.19.
    const WAIT_KILLABLE_RECV: usize = 1 << 5;
    match install(filter, NEW_LISTENER | WAIT_KILLABLE_RECV) {
        Err(EINVAL) => install(filter, NEW_LISTENER),
        result => result,
    }
    .map(|fd| fd as Fd)
}

/// `struct seccomp_notif`: a call that waits for an answer.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Notice {
    pub id: u64,
    /// The thread.
    pub tid: u32,
    pub flags: u32,
    pub nr: u32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

/// The next call that a listener tells of. Waits for one.
pub fn next_notice(listener: Fd) -> Result<Notice> {
    const SECCOMP_IOCTL_NOTIF_RECV: usize = 0xc050_2100;
    let mut notice = Notice::default();
    syscall!(
        nr::IOCTL,
        listener,
        SECCOMP_IOCTL_NOTIF_RECV,
        &raw mut notice
    )?;
    Ok(notice)
}

/// Whether who made that call still waits.
pub fn is_waiting(listener: Fd, notice: &Notice) -> bool {
    const SECCOMP_IOCTL_NOTIF_ID_VALID: usize = 0x4008_2102;
    syscall!(
        nr::IOCTL,
        listener,
        SECCOMP_IOCTL_NOTIF_ID_VALID,
        &raw const notice.id
    )
    .is_ok()
}

pub const RUSAGE_CHILDREN: isize = -1;

/// The fields of `struct rusage` that we report.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub max_rss: u64,
    pub csw_voluntary: u64,
    pub csw_forced: u64,
    /// Blocks of 512 bytes.
    pub blocks_read: u64,
    pub blocks_written: u64,
}

pub fn children_usage() -> Usage {
    let mut raw = [0u64; 18];
    let _ = syscall!(nr::GETRUSAGE, RUSAGE_CHILDREN, raw.as_mut_ptr());
    Usage {
        user_ns: raw[0] * 1_000_000_000 + raw[1] * 1000,
        system_ns: raw[2] * 1_000_000_000 + raw[3] * 1000,
        max_rss: raw[4] * 1024,
        csw_voluntary: raw[16],
        csw_forced: raw[17],
        blocks_read: raw[11],
        blocks_written: raw[12],
    }
}

pub const CLOCK_MONOTONIC: usize = 1;
pub const CLOCK_BOOTTIME: usize = 7;

/// A clock, nanoseconds.
pub fn clock_time(clock: usize) -> u64 {
    let mut time = [0u64; 2];
    let _ = syscall!(nr::CLOCK_GETTIME, clock, time.as_mut_ptr());
    time[0] * 1_000_000_000 + time[1]
}

/// By how much our CLOCK_MONOTONIC is ahead of the supervisor's.
static SHIFT: AtomicI64 = AtomicI64::new(0);

/// From now on our CLOCK_MONOTONIC is so much ahead of what it was.
pub fn shift_now(by: i64) {
    SHIFT.store(by, Ordering::Relaxed);
}

/// CLOCK_MONOTONIC as the supervisor has it, nanoseconds.
pub fn now() -> u64 {
    clock_time(CLOCK_MONOTONIC).wrapping_sub(SHIFT.load(Ordering::Relaxed) as u64)
}

pub fn personality(persona: u64) -> Result {
    syscall!(nr::PERSONALITY, persona)
}

pub const SIG_SETMASK: usize = 2;

pub fn signal_mask(how: usize, mask: u64) {
    let _ = syscall!(nr::RT_SIGPROCMASK, how, &raw const mask, 0, 8);
}

pub fn signalfd(mask: u64) -> Result<Fd> {
    syscall!(
        nr::SIGNALFD4,
        -1isize,
        &raw const mask,
        8,
        O_CLOEXEC | O_NONBLOCK
    )
    .map(|fd| fd as Fd)
}
