//! Executing a program without forking the host and without giving it a child.
//!
//! The kernel gives whatever executes a program the exit signal SIGCHLD again: a child of the host's would raise it, be
//! found by its `waitpid(-1)`, and keep a `while (wait(NULL) > 0)` from ending. So a middleman is cloned, whose exit
//! signal is none and who executes nothing: invisible to all of that. It clones the program, and when it ends, at once,
//! the program is init's.
//!
//! Both share the host's memory (`CLONE_VM | CLONE_VFORK`, as posix_spawn does it), so the cost does not grow with the
//! host, and no lock can be left held in a copy. They answer over a socket, as it would also work if the memory were
//! not shared (valgrind makes a fork of such a clone).

use crate::launch::above_stdio;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const STACK: usize = 64 * 1024;
/// The child shares the memory of the one that clones it, who waits until it has executed or ended.
const SHARED: c_int = libc::CLONE_VM | libc::CLONE_VFORK;

/// What to execute: `path` below `dir`, or `dir` itself if it is empty, with an empty environment.
pub(crate) struct Program<'a> {
    /// New namespaces to do it in; with any, all capabilities of the new user namespace are kept.
    pub namespaces: c_int,
    pub dir: RawFd,
    pub path: &'a CStr,
    pub argv: &'a [CString],
    pub stdin: RawFd,
}

/// A program that runs on its own.
pub(crate) struct Orphan {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Orphan {
    /// Ends it, and waits for that.
    pub fn kill(&self) {
        // SAFETY: a plain call; the pidfd is ours.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                0,
                0,
            )
        };
        self.wait();
    }

    /// Waits for its end. Init, not the host, reaps it.
    pub fn wait(&self) {
        self.ended_within(-1);
    }

    /// How it ended, in words behind its name; `None` if it still runs after so many milliseconds.
    pub fn end(&self, timeout: i32) -> Option<String> {
        self.ended_within(timeout).then(|| match self.exit_code() {
            Some(status) if libc::WIFSIGNALED(status) => {
                format!("was killed by signal {}", libc::WTERMSIG(status))
            }
            Some(status) => format!("ended with status {}", libc::WEXITSTATUS(status)),
            None => "was killed".into(),
        })
    }

    /// Waits for its end for so many milliseconds, -1 for ever, anew whenever a signal cuts that short.
    fn ended_within(&self, timeout: i32) -> bool {
        let mut fd = libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        loop {
            // SAFETY: one pollfd, which lives through the call.
            match unsafe { libc::poll(&mut fd, 1, timeout) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                n => return n != 0,
            }
        }
    }

    /// Its wait status, which the kernel tells of a process that is nobody's child of ours from Linux 6.15 on, once it
    /// has been reaped (`PIDFD_GET_INFO`, `include/uapi/linux/pidfd.h`).
    fn exit_code(&self) -> Option<c_int> {
        const INFO_EXIT: u64 = 1 << 3;
        #[repr(C)]
        #[derive(Default)]
        struct PidfdInfo {
            mask: u64,
            cgroup: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
        const { assert!(size_of::<PidfdInfo>() == 64) };
        let mut info = PidfdInfo {
            mask: INFO_EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: a structure of the size that the request names, of integers only.
        let told = unsafe { libc::ioctl(self.pidfd.as_raw_fd(), GET_INFO, &mut info) } == 0;
        (told && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
    }
}

/// Why a program was not started.
pub(crate) struct Failed {
    pub error: io::Error,
    pub by: By,
}

/// What has failed: the call that makes the program's process and its namespaces, or any other, as that which executes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Clone,
    Other,
}

impl<E: Into<io::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed {
            error: error.into(),
            by: By::Other,
        }
    }
}

/// Starts a program.
pub(crate) fn start(program: &Program) -> Result<Orphan, Failed> {
    let (report, pidfd) = send_middleman(program, false)?;
    let pidfd = pidfd.ok_or(io::ErrorKind::Unsupported)?;
    Ok(Orphan {
        pid: report.pid,
        pidfd: above_stdio(pidfd)?,
    })
}

/// Runs a program to its end: its exit status, or 128 + signal.
pub(crate) fn run(program: &Program) -> Result<i32, Failed> {
    Ok(send_middleman(program, true)?.0.status)
}

/// What the middleman says, or the program before its exec if that failed: then there is an `errno`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Report {
    errno: i32,
    /// Whether that is of the middleman's clone.
    of_clone: i32,
    pid: i32,
    status: i32,
}

/// What both children need, made before they exist.
struct Job {
    namespaces: c_int,
    dir: RawFd,
    path: *const libc::c_char,
    argv: *const *const libc::c_char,
    stdin: RawFd,
    /// Wait for the program's end and report its status.
    wait: bool,
    report: RawFd,
    /// The top of the program's stack.
    stack: *mut c_void,
}

fn send_middleman(program: &Program, wait: bool) -> Result<(Report, Option<OwnedFd>), Failed> {
    let mut argv: Vec<*const libc::c_char> = program.argv.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    // The program makes 0 its standard input.
    let theirs = above_stdio(theirs)?;
    let mut stacks = vec![0u8; 2 * STACK];
    let top = |stack: &mut [u8]| (stack.as_mut_ptr_range().end as usize & !15) as *mut c_void;
    let (first, second) = stacks.split_at_mut(STACK);
    let job = Job {
        namespaces: program.namespaces,
        dir: program.dir,
        path: program.path.as_ptr(),
        argv: argv.as_ptr(),
        stdin: program.stdin,
        wait,
        report: theirs.as_raw_fd(),
        stack: top(second),
    };
    // SAFETY: all-zero is a valid sigset_t.
    let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // A signal handler of the host's must not run in the children, which share its memory.
    // SAFETY: both sets live through the calls, which concern this thread only.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
    }
    let argument = (&raw const job).cast_mut().cast();
    // SAFETY: `middleman` runs on a stack of its own, which grows down from its aligned end, and reads `job`: both
    // outlive it, as this thread waits for its end.
    let pid = unsafe { libc::clone(middleman, top(first), SHARED, argument) };
    let error = io::Error::last_os_error();
    // SAFETY: `old` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut()) };
    if pid < 0 {
        return Err(error.into());
    }
    reap(pid);
    drop(theirs);
    receive(&ours)
}

/// Waits for a child, whatever its exit signal: its exit status, or 128 + signal. 255 if somebody else has reaped it.
fn reap(pid: libc::pid_t) -> i32 {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        let options = libc::WEXITED | libc::__WALL;
        // SAFETY: `info` lives through the call.
        if unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options) } == 0 {
            break;
        }
        // SAFETY: always valid.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            return 255;
        }
    }
    // SAFETY: waitid has filled in a child's siginfo.
    let status = unsafe { info.si_status() };
    match info.si_code {
        libc::CLD_EXITED => status,
        _ => 128 + status,
    }
}

/// The first report, and the descriptor with it.
fn receive(socket: &OwnedFd) -> Result<(Report, Option<OwnedFd>), Failed> {
    let mut bytes = [0u8; size_of::<Report>()];
    let mut control = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut fd = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just given it to us.
            fd = fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    if message.bytes != size_of::<Report>() {
        return Err(io::ErrorKind::UnexpectedEof.into()); // killed before it could speak
    }
    // SAFETY: as many bytes as it has, and any are valid for it.
    let report = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<Report>()) };
    match report.errno {
        0 => Ok((report, fd)),
        errno => Err(Failed {
            error: io::Error::from_raw_os_error(errno),
            by: match report.of_clone {
                0 => By::Other,
                _ => By::Clone,
            },
        }),
    }
}

// ---- in the children: system calls only, no allocation, no lock, no panic

/// Clones the program, tells of it, and ends.
extern "C" fn middleman(job: *mut c_void) -> c_int {
    // SAFETY: `send_middleman` passes its live Job and waits.
    let job = unsafe { &*job.cast::<Job>() };
    // The host may ignore it, and then there would be nothing to wait for.
    default_action(libc::SIGCHLD);
    let mut pidfd: c_int = -1;
    let flags = SHARED | libc::CLONE_PIDFD | job.namespaces;
    let argument = ptr::from_ref(job).cast_mut().cast();
    // SAFETY: `program` runs on a stack of its own; it and the job outlive it, as we wait for its exec or end.
    let pid = unsafe { libc::clone(self::program, job.stack, flags, argument, &raw mut pidfd) };
    // SAFETY: always valid.
    let errno = unsafe { *libc::__errno_location() };
    let mut report = Report::default();
    match pid {
        -1 => (report.errno, report.of_clone) = (errno, 1),
        pid if job.wait => report.status = reap(pid),
        pid => report.pid = pid,
    }
    let errno = tell(job.report, &report, pidfd);
    if errno != 0 {
        // Without the descriptor, whose lack is the end of the program: nobody holds the other end of its socket.
        let report = Report {
            errno,
            ..Report::default()
        };
        tell(job.report, &report, -1);
    }
    // SAFETY: ends this process only, and runs nothing of the host's.
    unsafe { libc::_exit(0) }
}

/// Executes the program.
extern "C" fn program(job: *mut c_void) -> c_int {
    // SAFETY: `middleman` passes its live Job and waits.
    let job = unsafe { &*job.cast::<Job>() };
    for signal in 1..=64 {
        default_action(signal);
    }
    // SAFETY: plain system calls on values that live through them; the job's pointers are C strings and an array of
    // them with a NULL at its end.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        let kept = job.namespaces == 0 || keep_capabilities();
        // dup2 onto itself would leave close-on-exec set.
        let moved = match job.stdin {
            _ if !kept => -1,
            0 => libc::fcntl(0, libc::F_SETFD, 0),
            other => libc::dup2(other, 0),
        };
        if moved >= 0 {
            let env: [*const libc::c_char; 1] = [ptr::null()];
            let flags = if *job.path == 0 {
                libc::AT_EMPTY_PATH
            } else {
                0
            };
            libc::syscall(
                libc::SYS_execveat,
                job.dir,
                job.path,
                job.argv,
                env.as_ptr(),
                flags,
            );
        }
        let errno = *libc::__errno_location();
        tell(
            job.report,
            &Report {
                errno,
                ..Report::default()
            },
            -1,
        );
        libc::_exit(127)
    }
}

/// The kernel's own form of it, since the C library refuses the two signals it keeps for itself, and leaves one of them
/// ignored in what it spawns.
fn default_action(signal: c_int) {
    let default = [0u64; 4];
    // SAFETY: a kernel_sigaction of zeros: SIG_DFL, no flags, no mask.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8) };
}

/// Sends a report, with a descriptor unless that is negative: 0 or why it could not be sent.
fn tell(socket: RawFd, report: &Report, fd: RawFd) -> c_int {
    let mut part = libc::iovec {
        iov_base: ptr::from_ref(report).cast_mut().cast(),
        iov_len: size_of::<Report>(),
    };
    let mut control = [0u64; 8];
    // SAFETY: all-zero is a valid msghdr; the control buffer is aligned and longer than one descriptor needs.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if fd >= 0 {
            let size = size_of::<RawFd>() as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let head = libc::CMSG_FIRSTHDR(&message);
            (*head).cmsg_len = libc::CMSG_LEN(size) as _;
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd);
        }
        loop {
            if libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) >= 0 {
                return 0;
            }
            match *libc::__errno_location() {
                libc::EINTR => {}
                errno => return errno,
            }
        }
    }
}

/// Makes all capabilities ambient. The id maps are written only after the exec, so the exec happens as an unmapped id,
/// which would lose them. False, with errno, if that fails.
///
/// # Safety
/// Only plain system calls; for the child between clone and exec.
unsafe fn keep_capabilities() -> bool {
    let head: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 headers and data, as capget(2) has them.
    unsafe {
        if libc::syscall(libc::SYS_capget, head.as_ptr(), data.as_mut_ptr()) != 0 {
            return false;
        }
        (data[2], data[5]) = (data[1], data[4]); // inheritable := permitted
        if libc::syscall(libc::SYS_capset, head.as_ptr(), data.as_ptr()) != 0 {
            return false;
        }
        for capability in 0..64 {
            if libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                capability,
                0,
                0,
            ) != 0
            {
                // The first that this kernel does not know.
                return *libc::__errno_location() == libc::EINVAL;
            }
        }
    }
    true
}
