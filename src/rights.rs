//! What this process may not do itself with files of its sub-ids: they belong to users of its sandboxes, and to the host it is
//! a stranger. A child of a supervisor's does it, which has the rights of those sandboxes' root; so nothing is gained that
//! `newuidmap` would not give to whoever this process belongs to.
//!
//! Asked for only where the kernel has said no. What cannot be had is that same no again; but what is short just now is said,
//! as who is told no may go on as if there were nothing.

use crate::channel::{self, Channel, Received};
#[cfg(feature = "image")]
use crate::error::Error;
#[cfg(feature = "image")]
use crate::ids::{Given, Ids};
#[cfg(feature = "image")]
use crate::launch::sealed_memfd;
use crate::plan::{bytes_of, read_of};
use crate::supervisor::{self, Host};
use crate::wire::*;
use nix::errno::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// The sub-ids that files can be given to, if to any.
///
/// # Errors
/// If what is short just now keeps that from being found out.
#[cfg(feature = "image")]
pub(crate) fn given() -> Result<Option<Given>, Error> {
    let host = supervisor::with_sub_ids()?;
    Ok(host.and_then(|host| match host.ids {
        Ids::Range { users, groups, .. } => Some(Given { users, groups }),
        _ => None,
    }))
}

/// Sees that what is here can be asked for. Whoever takes a lock by which others know that he lives does so before: what
/// starts a supervisor has all descriptors of this process for a moment, and may survive it by that.
#[cfg(feature = "image")]
pub(crate) fn ready() {
    // If there is none, whoever asks will hear so.
    let _ = supervisor::with_sub_ids();
}

/// Opens `path` below `dir` with `flags`, never through a link.
pub(crate) fn open(dir: impl AsFd, path: &[u8], flags: i32) -> nix::Result<OwnedFd> {
    let ask = Ask {
        kind: OPEN_AT,
        arg: (flags & !(libc::O_NOFOLLOW | libc::O_CLOEXEC)) as u32,
        offset: 0,
    };
    let answer = done(&ask, path, &[dir.as_fd()])?;
    answer.fd.ok_or(Errno::EMFILE)
}

/// An extended attribute of what is open, or none if there is no such.
pub(crate) fn attribute(fd: impl AsFd, name: &CStr) -> nix::Result<Option<Vec<u8>>> {
    let ask = Ask {
        kind: ATTRIBUTE,
        arg: 0,
        offset: 0,
    };
    match done(&ask, name.to_bytes(), &[fd.as_fd()]) {
        Ok(answer) => Ok(Some(answer.bytes[size_of::<Failure>()..].to_vec())),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Gives what `list` names of what is below `dir`, as [`GIVE`] has it, to the sub-ids `given`.
#[cfg(feature = "image")]
pub(crate) fn give(dir: impl AsFd, list: &[u8], given: &Given) -> io::Result<()> {
    let memfd = sealed_memfd(list, false)?;
    let ask = Ask {
        kind: GIVE,
        arg: 0,
        offset: list.len() as u64,
    };
    let fds = [dir.as_fd(), memfd.as_fd()];
    // The list counts from where the supervisor's range begins: one that was started since may have another.
    let same = |host: &Host| host.ids.of_image(Some(given)).is_ok();
    Ok(done_by(&same, &ask, b"", &fds).map(drop)?)
}

/// Removes `name` of `dir` and all that is in it.
#[cfg(feature = "image")]
pub(crate) fn remove(dir: impl AsFd, name: &[u8]) -> nix::Result<()> {
    let ask = Ask {
        kind: REMOVE_TREE,
        arg: 0,
        offset: 0,
    };
    done(&ask, name, &[dir.as_fd()]).map(drop)
}

/// What `name` of `dir` itself is.
pub(crate) fn metadata(dir: &OwnedFd, name: &OsStr) -> io::Result<Metadata> {
    match place(dir).join(name).symlink_metadata() {
        Err(e) if denied(&e) => File::from(open(dir, name.as_bytes(), libc::O_PATH)?).metadata(),
        seen => seen,
    }
}

/// Opens `name` of `dir` with `flags`, never through a link.
pub(crate) fn open_at(dir: &OwnedFd, name: &OsStr, flags: i32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut plain = File::options();
    let plain = plain.read(true).custom_flags(flags | libc::O_NOFOLLOW);
    match plain.open(place(dir).join(name)) {
        Err(e) if denied(&e) => Ok(open(dir, name.as_bytes(), flags)?.into()),
        opened => opened,
    }
}

/// Where the link `name` of `dir` leads.
pub(crate) fn link(dir: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    match std::fs::read_link(place(dir).join(name)) {
        Err(e) if denied(&e) => {
            let link = open(dir, name.as_bytes(), libc::O_PATH)?;
            Ok(nix::fcntl::readlinkat(&link, c"")?.into())
        }
        led => led,
    }
}

/// The names in a directory.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    match std::fs::read_dir(place(dir)) {
        Err(e) if denied(&e) => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            listed(open(dir, b".", flags)?)
        }
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}

/// The names in a directory that is open for reading.
pub(crate) fn listed(dir: OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(dir)?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Not by its path: whatever is put in its place meanwhile, this is the directory.
fn place(dir: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string())
}

pub(crate) fn denied(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EACCES)
}

/// Asks, and waits until it is done.
fn done(ask: &Ask, path: &[u8], fds: &[BorrowedFd]) -> nix::Result<Received> {
    done_by(&|_| true, ask, path, fds)
}

/// The same by a child of a supervisor's for which `is_right` holds.
fn done_by(
    is_right: &dyn Fn(&Host) -> bool,
    ask: &Ask,
    path: &[u8],
    fds: &[BorrowedFd],
) -> nix::Result<Received> {
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let body = [path, b"\0"].concat();
    // Whoever has died without an answer, another may be asked: what is asked for comes to the same.
    let mut short = Errno::EAGAIN;
    for _ in 0..3 {
        let host = supervisor::with_sub_ids().map_err(|e| match e.errno() {
            0 => Errno::EAGAIN,
            errno => Errno::from_raw(errno),
        })?;
        let host = host.ok_or(Errno::EACCES)?;
        if !is_right(&host) {
            return Err(Errno::EACCES);
        }
        let answer = host.servants.with(|servant| {
            let servant = match servant.take() {
                Some(servant) => servant,
                None => start(&host)?,
            };
            let answer = asked(&host, &servant, ask, &body, fds)?;
            Ok((servant, answer))
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(errno) => {
                short = errno;
                if host.is_gone() {
                    host.give_up();
                }
                continue;
            }
        };
        return match read_of::<Failure>(&answer.bytes).map(|said| said.errno) {
            Some(0) => Ok(answer),
            Some(errno) => Err(Errno::from_raw(errno as i32)),
            None => Err(Errno::EIO),
        };
    }
    Err(short)
}

/// One who does what is asked, unless the supervisor has ended.
fn start(host: &Host) -> nix::Result<Channel> {
    let (servant, theirs) = Channel::new().map_err(|e| Errno::from_raw(e.errno()))?;
    supervisor::send_servant(host, &theirs).map_err(|e| unsent(&e))?;
    Ok(servant)
}

/// Why something was not sent; that the other end is gone is no more than that it is to be tried again.
fn unsent(e: &io::Error) -> Errno {
    match e.raw_os_error() {
        Some(errno) if !channel::is_gone(e) => Errno::from_raw(errno),
        _ => Errno::EAGAIN,
    }
}

/// Its answer, unless it has ended.
fn asked(
    host: &Host,
    servant: &Channel,
    ask: &Ask,
    body: &[u8],
    fds: &[BorrowedFd],
) -> nix::Result<Received> {
    let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    channel::send(servant.fd(), bytes_of(ask), body, &fds).map_err(|e| unsent(&e))?;
    host.hear(servant).ok_or(Errno::EAGAIN)
}

/// Those of one supervisor: no more than it has room for, each with one request at a time.
#[derive(Default)]
pub(crate) struct Servants {
    idle: Mutex<Idle>,
    freed: Condvar,
}

#[derive(Default)]
struct Idle {
    servants: Vec<Channel>,
    /// How many are at work.
    busy: usize,
}

/// The supervisor has places for more.
const AT_ONCE: usize = 8;

impl Servants {
    /// Does something with one, if there is one that has nothing to do; it is kept if it comes back.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Option<Channel>) -> nix::Result<(Channel, T)>,
    ) -> nix::Result<T> {
        let lock = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(lock(), |idle| idle.busy >= AT_ONCE);
        let mut idle = waited.unwrap_or_else(PoisonError::into_inner);
        idle.busy += 1;
        let mut servant = idle.servants.pop();
        drop(idle);
        let worked = work(&mut servant);
        let mut idle = lock();
        idle.busy -= 1;
        let result = worked.map(|(servant, result)| {
            idle.servants.push(servant);
            result
        });
        drop(idle);
        self.freed.notify_one();
        result
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use super::*;

    /// Not that there is nothing to be had, by which what is there would count as not there.
    #[test]
    fn what_is_short_just_now_is_said() {
        if !matches!(given(), Ok(Some(_))) {
            eprintln!("skipped: rights::what_is_short_just_now_is_said: it takes sub-ids");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let dir = File::open(place.path()).unwrap();
        // SAFETY: the child ends by `_exit` and never returns into the test runner.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let errno = given().ok().and_then(|_| {
                let highest = dir.try_clone().ok()?.as_raw_fd() as u64;
                let none = libc::rlimit {
                    rlim_cur: highest,
                    rlim_max: highest,
                };
                // SAFETY: the structure lives through the call.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) };
                open(&dir, b"nothing", libc::O_RDONLY).err()
            });
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(errno.map_or(0, |errno| errno as i32)) };
        }
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status}");
        let errno = Errno::from_raw(libc::WEXITSTATUS(status));
        assert_eq!(errno, Errno::EMFILE);
    }

    #[test]
    fn two_can_remove_the_same() {
        if !matches!(given(), Ok(Some(_))) {
            eprintln!("skipped: rights::two_can_remove_the_same: it takes sub-ids");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let dir = File::open(place.path()).unwrap();
        for round in 0..400 {
            let tree = place.path().join("tree");
            for n in 0..round % 20 {
                std::fs::create_dir_all(tree.join(format!("a/{n}/in"))).unwrap();
            }
            std::fs::create_dir_all(tree.join("only/one/in/each")).unwrap();
            let both = std::sync::Barrier::new(2);
            let remove = || {
                both.wait();
                super::remove(&dir, b"tree")
            };
            let done = std::thread::scope(|scope| {
                let other = scope.spawn(remove);
                (remove(), other.join().unwrap())
            });
            // Who comes last may find that there is none.
            assert_eq!(done, (Ok(()), Ok(())), "in round {round}");
            assert!(!tree.exists(), "in round {round}");
        }
    }
}
