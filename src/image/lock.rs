//! What keeps processes out of each other's way, and what a killed one leaves from being used.

use super::fs;
use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A lock that ends with its descriptor: with the process, if nobody drops it before.
#[derive(Debug)]
pub(super) struct Lock {
    fd: OwnedFd,
    /// The process that has it: for one forked from that it is not to give back.
    owner: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Hold {
    Shared,
    Exclusive,
}

impl Lock {
    fn held(fd: OwnedFd) -> Lock {
        let owner = std::process::id();
        Lock { fd, owner }
    }

    /// Waits for the lock.
    pub fn wait(fd: OwnedFd, mode: Hold) -> nix::Result<Lock> {
        loop {
            match flock(&fd, mode, 0) {
                Err(Errno::EINTR) => {}
                done => return done.map(|()| Lock::held(fd)),
            }
        }
    }

    /// The lock, if nobody is in the way.
    pub fn now(fd: OwnedFd, mode: Hold) -> nix::Result<Option<Lock>> {
        match flock(&fd, mode, libc::LOCK_NB) {
            Ok(()) => Ok(Some(Lock::held(fd))),
            Err(Errno::EWOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The lock of the file `name` of `dir`, which is made if missing.
    pub fn of(dir: impl AsFd, name: &str, mode: Hold) -> Result<Lock, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(dir, name, flags, Mode::from_bits_truncate(0o600))
            .and_then(|fd| Lock::wait(fd, mode))
            .map_err(|errno| Error::system(format_args!("lock the store (`{name}`)"), errno))
    }
}

impl Drop for Lock {
    /// Not only by closing it: a process that another thread has forked just now, to execute a program, has it open too.
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // SAFETY: it takes a descriptor, which is open, and a number.
            unsafe { libc::flock(self.fd.as_raw_fd(), libc::LOCK_UN) };
        }
    }
}

fn flock(fd: &OwnedFd, mode: Hold, more: libc::c_int) -> nix::Result<()> {
    let operation = match mode {
        Hold::Shared => libc::LOCK_SH,
        Hold::Exclusive => libc::LOCK_EX,
    };
    // SAFETY: it takes a descriptor, which is open, and a number.
    Errno::result(unsafe { libc::flock(fd.as_raw_fd(), operation | more) }).map(drop)
}

/// A directory for what is not whole yet. It is locked as long as its owner lives, and removed with it or, if that was
/// killed, by the next who opens the store.
pub(super) struct Scratch {
    tmp: OwnedFd,
    name: String,
    dir: OwnedFd,
    names: AtomicU64,
    _lock: Lock,
}

impl Scratch {
    pub fn new(tmp: &OwnedFd) -> Result<Scratch, Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let fault = |errno: Errno| Error::system("make a temporary directory in the store", errno);
        let tmp = tmp
            .try_clone()
            .map_err(|e| Error::system("make a temporary directory in the store", e))?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}-{:x}", std::process::id(), now().1);
            match fs::make_dir_at(&tmp, name.as_bytes()) {
                Ok(dir) => {
                    let own = dir
                        .try_clone()
                        .map_err(|e| Error::system("lock a temporary directory", e))?;
                    // Whoever sweeps may have been quicker than we with the lock: then it is gone.
                    let lock = Lock::now(own, Hold::Exclusive).map_err(fault)?;
                    let there = fs::stat_at(&tmp, name.as_bytes()).map(|stat| stat.st_ino);
                    if let Some(lock) = lock
                        && there == fstat(&dir).map(|stat| stat.st_ino)
                    {
                        return Ok(Scratch {
                            tmp,
                            name,
                            dir,
                            names: AtomicU64::new(0),
                            _lock: lock,
                        });
                    }
                }
                Err(Errno::EEXIST | Errno::ENOENT) => {}
                Err(errno) => return Err(fault(errno)),
            }
        }
    }

    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// A name that is not used in it.
    pub fn fresh(&self) -> String {
        self.names.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// A new file in it, for writing and reading, and its name.
    pub fn file(&self) -> Result<(File, String), Error> {
        let name = self.fresh();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, &*name, flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| Error::system("make a temporary file in the store", errno))?;
        Ok((File::from(fd), name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        let _ = fs::remove_tree(&self.tmp, self.name.as_bytes());
    }
}

/// How often what the dead have left is tried to be removed.
const SWEEPS: u32 = 50;

/// Removes what the dead have left in `tmp`.
pub(super) fn sweep(tmp: &OwnedFd) -> nix::Result<()> {
    for name in fs::names(tmp)? {
        let name = name.to_bytes();
        let Ok(dir) = fs::open_dir_at(tmp, name) else {
            continue;
        };
        if let Ok(Some(_lock)) = Lock::now(dir, Hold::Exclusive) {
            // What a supervisor did for the dead with files of sub-ids ends a moment later than they: then it is in our way.
            for _ in 0..SWEEPS {
                match fs::remove_tree(tmp, name) {
                    Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
    Ok(())
}

/// Seconds since the epoch, and nanoseconds.
pub(super) fn now() -> (u64, u32) {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or((0, 0), |since| (since.as_secs(), since.subsec_nanos()))
}
