//! Starting the helper without forking the host.
//!
//! The child shares the host's memory until its exec (`CLONE_VM | CLONE_VFORK`, as posix_spawn does it), so the cost
//! does not grow with the host, and no lock can be left held in a copy. Its exit signal is 0: the host gets no SIGCHLD,
//! and its `waitpid(-1)` never sees it.

use crate::error::{Error, ErrorKind};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

static HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stockade-init"));
const STACK: usize = 64 * 1024;

/// A child that the host's own waiting never sees.
pub(crate) struct Hidden {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Hidden {
    /// Waits for its end: its exit status, or 128 + signal. Also fine if somebody else has reaped it.
    pub fn wait(&self) -> i32 {
        loop {
            // SAFETY: all-zero is a valid siginfo_t.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let fd = self.pidfd.as_raw_fd() as libc::id_t;
            // SAFETY: `info` lives through the call; __WALL finds a child whatever its exit signal.
            let r =
                unsafe { libc::waitid(libc::P_PIDFD, fd, &mut info, libc::WEXITED | libc::__WALL) };
            if r == 0 {
                // SAFETY: waitid has filled in a child's siginfo.
                let status = unsafe { info.si_status() };
                return if info.si_code == libc::CLD_EXITED {
                    status
                } else {
                    128 + status
                };
            }
            if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return 0;
            }
        }
    }
}

/// Starts the supervisor in a user, pid and mount namespace of its own, with `socket` as its standard input.
pub(crate) fn supervisor(socket: RawFd) -> Result<Hidden, Error> {
    let file = helper()?;
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let name = CString::new("stockade").expect("no NUL");
    clone_and_exec(namespaces, file.as_raw_fd(), c"", libc::AT_EMPTY_PATH, &[name], socket).map_err(|e| {
        let advice = match e.raw_os_error() {
            Some(libc::EPERM) => {
                "user namespaces are refused here: on Ubuntu by AppArmor (kernel.apparmor_restrict_unprivileged_userns), elsewhere by \
                 kernel.unprivileged_userns_clone or an outer container's seccomp profile; `stockade doctor` prints the fix"
            }
            Some(libc::ENOSPC) => "the limit user.max_user_namespaces is reached: raise it with sysctl",
            Some(libc::EACCES) => "executing the helper is refused (noexec, vm.memfd_noexec or a security module): install it as a file and set STOCKADE_INIT",
            Some(libc::EAGAIN) => "the limit on processes (ulimit -u) is reached",
            _ => "`stockade doctor` says what this host lacks",
        };
        let errno = e.raw_os_error().unwrap_or(0);
        let kind = match errno {
            libc::EPERM | libc::ENOSPC | libc::ENOSYS | libc::EINVAL => ErrorKind::Unsupported,
            libc::EAGAIN | libc::ENOMEM => ErrorKind::Resource,
            _ => ErrorKind::Setup,
        };
        Error::new(kind, format!("starting the supervisor in a user namespace: {e}; {advice}"))
            .with_errno(errno)
            .with_step("starting the supervisor")
    })
}

/// Runs a program to its end, unseen by the host's own waiting: its exit status.
pub(crate) fn run_hidden(program: &Path, args: &[String]) -> Result<i32, Error> {
    let what = || format!("running {}", program.display());
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("NUL in a path"))?;
    let mut argv = vec![path.clone()];
    for arg in args {
        argv.push(CString::new(arg.as_str()).map_err(|_| Error::invalid("NUL in an argument"))?);
    }
    let null = File::open("/dev/null").map_err(|e| Error::system("opening /dev/null", e))?;
    let child = clone_and_exec(0, libc::AT_FDCWD, &path, 0, &argv, null.as_raw_fd())
        .map_err(|e| Error::system(what(), e))?;
    Ok(child.wait())
}

/// The helper as an open file: an installed one, else a sealed memfd, else an unlinked file.
fn helper() -> Result<OwnedFd, Error> {
    let installed =
        std::env::var_os("STOCKADE_INIT").or_else(|| option_env!("STOCKADE_INIT").map(Into::into));
    if let Some(path) = installed.filter(|path| !path.is_empty()) {
        let what = format!(
            "opening the helper that STOCKADE_INIT names, `{}`",
            path.to_string_lossy()
        );
        return File::open(&path)
            .and_then(|file| above_stdio(file.into()))
            .map_err(|e| Error::system(what, e));
    }
    sealed_memfd(HELPER, true)
        .or_else(|_| unlinked_file())
        .map_err(|e| Error::system("making the helper's memfd", e))
}

/// A memfd with this content that nobody can change any more.
pub(crate) fn sealed_memfd(content: &[u8], executable: bool) -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    const MFD_NOEXEC_SEAL: u32 = 0x8;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let wanted = MFdFlags::from_bits_retain(if executable {
        MFD_EXEC
    } else {
        MFD_NOEXEC_SEAL
    });
    // Kernels before 6.3 know neither flag.
    let fd =
        memfd_create(c"stockade", flags | wanted).or_else(|_| memfd_create(c"stockade", flags))?;
    let mut file = File::from(above_stdio(fd)?);
    file.write_all(content)?;
    if executable {
        nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(0o555))?;
    }
    io::Seek::rewind(&mut file)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: a plain call on an open descriptor.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file.into())
}

fn unlinked_file() -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let mut file = File::options()
        .read(true)
        .write(true)
        .mode(0o500)
        .custom_flags(libc::O_TMPFILE)
        .open(dir)?;
    file.write_all(HELPER)?;
    // Only a descriptor that cannot write lets the file be executed (ETXTBSY).
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .and_then(|file| above_stdio(file.into()))
}

/// The same descriptor with a number above 2, so that a host that has closed its standard streams and opens them
/// again does not write into ours.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // SAFETY: a plain call on an open descriptor; the result is a new one, owned by nobody else.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// What the child needs, made before it exists.
struct Job {
    dir: RawFd,
    path: *const libc::c_char,
    flags: libc::c_int,
    argv: *const *const libc::c_char,
    stdin: RawFd,
    /// Keep the capabilities of the new user namespace over the exec.
    keep_capabilities: bool,
    errno: libc::c_int,
}

/// Clones and executes `path` below `dir` with an empty environment and `stdin`.
fn clone_and_exec(
    namespaces: libc::c_int,
    dir: RawFd,
    path: &std::ffi::CStr,
    flags: libc::c_int,
    argv: &[CString],
    stdin: RawFd,
) -> io::Result<Hidden> {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(ptr::null());
    let mut job = Job {
        dir,
        path: path.as_ptr(),
        flags,
        argv: pointers.as_ptr(),
        stdin,
        keep_capabilities: namespaces != 0,
        errno: 0,
    };
    let mut stack = vec![0u8; STACK];
    let mut pidfd: libc::c_int = -1;
    // A signal handler of the host's must not run in the child, which shares its memory.
    // SAFETY: all-zero sigset_t values, filled in by the calls; plain signal mask calls of this thread.
    let (all, mut old) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        (all, std::mem::zeroed::<libc::sigset_t>())
    };
    // SAFETY: both sets live through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old) };
    // SAFETY: `child` runs on its own stack and touches only `job`, which outlives it: CLONE_VFORK suspends this
    // thread until the child has executed or ended. The stack grows down from its 16-byte aligned end.
    let pid = unsafe {
        let top = (stack.as_mut_ptr().add(STACK) as usize & !15) as *mut libc::c_void;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | namespaces;
        libc::clone(child, top, flags, (&raw mut job).cast(), &raw mut pidfd)
    };
    let error = io::Error::last_os_error();
    // SAFETY: `old` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut()) };
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let hidden = Hidden {
        pid,
        pidfd: above_stdio(pidfd)?,
    };
    // SAFETY: the child is done with `job`; volatile, since the compiler cannot know that it wrote.
    match unsafe { (&raw const job.errno).read_volatile() } {
        0 => Ok(hidden),
        errno => {
            hidden.wait();
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// Between clone and exec: system calls only, no allocation, no lock, no panic.
extern "C" fn child(job: *mut libc::c_void) -> libc::c_int {
    let job = job.cast::<Job>();
    // SAFETY: `clone_and_exec` passes its live Job and waits; every call here is async-signal-safe.
    unsafe {
        // The kernel's own form of "default", since the C library refuses the two signals it keeps for itself, and
        // leaves one of them ignored in what it spawns.
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        if (*job).keep_capabilities {
            keep_capabilities();
        }
        let stdin = (*job).stdin;
        // dup2 onto itself would leave close-on-exec set.
        let moved = if stdin == 0 {
            libc::fcntl(0, libc::F_SETFD, 0)
        } else {
            libc::dup2(stdin, 0)
        };
        if moved >= 0 {
            let env: [*const libc::c_char; 1] = [ptr::null()];
            libc::syscall(
                libc::SYS_execveat,
                (*job).dir,
                (*job).path,
                (*job).argv,
                env.as_ptr(),
                (*job).flags,
            );
        }
        (&raw mut (*job).errno).write_volatile(*libc::__errno_location());
        libc::_exit(127)
    }
}

/// Makes all capabilities ambient. The id maps are written only after the exec, so the exec happens as an unmapped id,
/// which would lose them.
///
/// # Safety
/// Only plain system calls; for the child between clone and exec.
unsafe fn keep_capabilities() {
    let head: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 headers and data, as capget(2) has them.
    unsafe {
        libc::syscall(libc::SYS_capget, head.as_ptr(), data.as_mut_ptr());
        (data[2], data[5]) = (data[1], data[4]); // inheritable := permitted
        libc::syscall(libc::SYS_capset, head.as_ptr(), data.as_ptr());
        for capability in 0..64 {
            if libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                capability,
                0,
                0,
            ) != 0
            {
                break;
            }
        }
    }
}
