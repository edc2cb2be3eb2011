//! Starting the helper, and what maps ids, without a trace in the host.

use crate::apparmor;
use crate::error::{Error, ErrorKind};
use crate::orphan::{self, By, Failed, Orphan, Program};
use crate::spec::Isolation;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

static HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stockade-init"));

/// Starts the supervisor in a user, pid and mount namespace of its own, or in none, with `socket` as its standard input.
pub(crate) fn supervisor(socket: RawFd, isolation: Isolation) -> Result<Orphan, Error> {
    let file = helper()?;
    let program = Program {
        namespaces: match isolation {
            Isolation::Namespaces => libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS,
            Isolation::Restrict => 0,
        },
        dir: file.as_raw_fd(),
        path: c"",
        argv: &[c"stockade".into()],
        stdin: socket,
    };
    orphan::start(&program).map_err(|Failed { error: e, by }| {
        let errno = e.raw_os_error().unwrap_or(0);
        let refused = matches!(errno, libc::EPERM | libc::EACCES);
        let app_armor = match isolation {
            _ if !refused => None,
            Isolation::Namespaces => apparmor::advice(),
            Isolation::Restrict => apparmor::confined(),
        };
        let advice = match errno {
            // A security module says EACCES, or EPERM.
            _ if by == By::Clone && app_armor.is_some() => "user namespaces are refused here",
            _ if by == By::Clone && refused => {
                "user namespaces are refused here: on Ubuntu by AppArmor (kernel.apparmor_restrict_unprivileged_userns), for which \
                 Stockade brings a profile (share/stockade/apparmor), elsewhere by kernel.unprivileged_userns_clone or an outer \
                 container's seccomp profile; `stockade doctor` prints the fix, and isolation=restrict runs without them, with less"
            }
            libc::ENOSPC => {
                "the limit user.max_user_namespaces is reached: raise it with sysctl; isolation=restrict runs without user \
                 namespaces, with less"
            }
            libc::EACCES => "executing the helper is refused (noexec, vm.memfd_noexec or a security module): install it as a file and set STOCKADE_INIT",
            libc::EAGAIN => "the limit on processes (ulimit -u) is reached",
            libc::EMFILE => "the limit on open descriptors (ulimit -n) is reached",
            _ => "`stockade doctor` says what this host lacks",
        };
        let kind = match errno {
            libc::EACCES if by == By::Clone || app_armor.is_some() => ErrorKind::Unsupported,
            libc::EPERM | libc::ENOSPC | libc::ENOSYS | libc::EINVAL => ErrorKind::Unsupported,
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => ErrorKind::Resource,
            _ => ErrorKind::Setup,
        };
        let place = match isolation {
            Isolation::Namespaces => " in a user namespace",
            Isolation::Restrict => "",
        };
        let app_armor = app_armor.map_or(String::new(), |more| format!("; {more}"));
        Error::new(kind, format!("starting the supervisor{place}: {e}; {advice}{app_armor}"))
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
    let program = Program {
        namespaces: 0,
        dir: libc::AT_FDCWD,
        path: &path,
        argv: &argv,
        stdin: null.as_raw_fd(),
    };
    orphan::run(&program).map_err(|failed| Error::system(what(), failed.error))
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
