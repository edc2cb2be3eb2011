//! Blobs that are on their way into the store: kept, so that an interrupted pull goes on where it was.
//!
//! Each is a file of the store's `partial/`, named by its digest. Who writes to one, or gives its name to another file
//! or to none, holds its lock. What is in it counts for nothing until its digest has been compared.

use super::fs;
use super::lock::{Hold, Lock};
use super::store::Store;
use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const DIR: &str = "partial";

/// How long what nobody goes on with is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The directory.
pub(super) struct Partials(OwnedFd);

/// One of its files, which nobody else writes to or renames as long as this lives.
pub(super) struct Partial {
    pub file: File,
    /// Bytes in it when it was taken. If that is all of it, it may be a blob of the store, and must not be written to.
    pub length: u64,
    _lock: Lock,
}

impl Partials {
    /// Opens the directory of the store `root`, and makes it if missing.
    pub fn make(root: &OwnedFd) -> Result<Partials, Error> {
        match mkdirat(root, DIR, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => fs::open_dir_at(root, DIR.as_bytes()).map(Partials),
            Err(errno) => Err(errno),
        }
        .map_err(|e| Error::system(format_args!("open `{DIR}` in the store"), e))
    }

    /// The directory, if there is one: stores that nothing was pulled into have none.
    pub fn of(root: &OwnedFd) -> nix::Result<Option<Partials>> {
        match fs::open_dir_at(root, DIR.as_bytes()) {
            Ok(dir) => Ok(Some(Partials(dir))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub fn dir(&self) -> &OwnedFd {
        &self.0
    }

    /// The file `name`, new or as an earlier call left it; none if somebody else has it now. It is to have `size`
    /// bytes.
    pub fn take(&self, name: &str, size: u64) -> nix::Result<Option<Partial>> {
        loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let fd = openat(&self.0, name, flags, Mode::from_bits_truncate(0o600))?;
            let file = File::from(fd);
            let own = file.try_clone().map_err(errno_of)?;
            let Some(lock) = Lock::now(own.into(), Hold::Exclusive)? else {
                return Ok(None);
            };
            let stat = fstat(&file)?;
            if !self.is(name, &file)? {
                continue;
            }
            let length = stat.st_size as u64;
            // With a second name it may be a blob of the store, which nobody may ever write to again.
            match length > size || length < size && stat.st_nlink > 1 {
                true => self.forget(name)?,
                false => {
                    return Ok(Some(Partial {
                        file,
                        length,
                        _lock: lock,
                    }));
                }
            }
        }
    }

    /// Takes the name from the file that has it. The caller holds its lock.
    pub fn forget(&self, name: &str) -> nix::Result<()> {
        unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes a file, unless somebody has it now.
    pub fn discard(&self, name: &str) -> nix::Result<()> {
        let Ok(file) = fs::open_file_at(&self.0, name.as_bytes()) else {
            return Ok(());
        };
        let own = file.try_clone().map_err(errno_of)?;
        match Lock::now(own.into(), Hold::Exclusive)? {
            Some(_lock) if self.is(name, &file)? => self.forget(name),
            _ => Ok(()),
        }
    }

    /// Removes what nobody will go on with: what is a blob of the store by now, whose caller died before it could
    /// remove this, and what nobody has come back for.
    pub fn tidy(&self, store: &Store) -> nix::Result<u64> {
        self.sweep(|name, age| age >= KEPT || fs::stat_at(&store.blobs, name.as_bytes()).is_ok())
    }

    /// Removes what nobody has now and `over` is true of: of a name, and how long ago it was written to. Gives the bytes
    /// on disk that this freed.
    pub fn sweep(&self, over: impl Fn(&str, Duration) -> bool) -> nix::Result<u64> {
        let mut freed = 0;
        for name in fs::names(&self.0)? {
            let Ok(file) = fs::open_file_at(&self.0, name.to_bytes()) else {
                continue;
            };
            let stat = fstat(&file)?;
            let since = super::lock::now().0.saturating_sub(stat.st_mtime as u64);
            let name = name.to_string_lossy();
            let own = file.try_clone().map_err(errno_of)?;
            if over(&name, Duration::from_secs(since))
                && let Some(_lock) = Lock::now(own.into(), Hold::Exclusive)?
                && self.is(&name, &file)?
            {
                self.forget(&name)?;
                if stat.st_nlink == 1 {
                    freed += stat.st_blocks as u64 * 512;
                }
            }
        }
        Ok(freed)
    }

    /// Whether the name is still that of `file`: another may have come between the opening and the lock.
    fn is(&self, name: &str, file: &impl AsFd) -> nix::Result<bool> {
        let held = fstat(file)?;
        match fs::stat_at(&self.0, name.as_bytes()) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn one_at_a_time_and_never_another_name_of_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::open_dir(dir.path()).unwrap();
        assert!(Partials::of(&root).unwrap().is_none());
        let partials = Partials::make(&root).unwrap();
        let mut first = partials.take("x", 9).unwrap().unwrap();
        assert!(partials.take("x", 9).unwrap().is_none());
        assert_eq!(partials.sweep(|_, _| true).unwrap(), 0);
        assert!(dir.path().join("partial/x").exists());
        first.file.write_all(b"half").unwrap();
        drop(first);
        // Linked into the store: it must never be written to again.
        std::fs::hard_link(dir.path().join("partial/x"), dir.path().join("blob")).unwrap();
        let again = partials.take("x", 9).unwrap().unwrap();
        assert_eq!(again.length, 0);
        assert_eq!(std::fs::read(dir.path().join("blob")).unwrap(), b"half");
        drop(again);
        // Neither is what is longer than it can be.
        std::fs::write(dir.path().join("partial/x"), "0123456789").unwrap();
        assert_eq!(partials.take("x", 9).unwrap().unwrap().length, 0);
        partials
            .sweep(|name, age| name != "x" || age >= KEPT)
            .unwrap();
        assert!(dir.path().join("partial/x").exists());
        partials.sweep(|_, _| true).unwrap();
        assert!(!dir.path().join("partial/x").exists());
    }

    /// A caller died when its image was in the store; another is at work on the same layer.
    #[test]
    fn what_the_store_has_by_now_goes_when_it_is_opened_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Some(dir.path())).unwrap();
        let partials = Partials::make(&store.root).unwrap();
        let names = || {
            let all = std::fs::read_dir(dir.path().join("partial")).unwrap();
            let mut all: Vec<_> = all.map(|entry| entry.unwrap().file_name()).collect();
            all.sort();
            all
        };
        for name in ["held", "left", "unfinished"] {
            drop(partials.take(name, 4).unwrap().unwrap());
            std::fs::write(dir.path().join("partial").join(name), "all ").unwrap();
        }
        for name in ["held", "left"] {
            let blob = dir.path().join("blobs/sha256").join(name);
            std::fs::hard_link(dir.path().join("partial").join(name), blob).unwrap();
        }
        let held = partials.take("held", 4).unwrap().unwrap();
        Store::open(Some(dir.path())).unwrap();
        assert_eq!(names(), ["held", "unfinished"]);
        drop(held);
        Store::open(Some(dir.path())).unwrap();
        assert_eq!(names(), ["unfinished"]);
        assert!(dir.path().join("blobs/sha256/left").exists());
    }
}
