//! Lower directories, looked into as overlayfs joins them: the highest that has an entry decides.

use crate::error::Error;
use crate::rights;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
#[cfg(feature = "image")]
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Directories that are joined, the highest first. They belong to the caller and are trusted as far as names go; links
/// in them are never followed.
#[derive(Clone, Debug)]
pub(crate) struct Lowers {
    directories: Vec<PathBuf>,
}

impl Lowers {
    /// From paths with the lowest first.
    pub fn new(directories: &[String]) -> Result<Lowers, Error> {
        for dir in directories {
            if !dir.starts_with('/') || dir.contains('\0') {
                return Err(Error::invalid(format!(
                    "rootfs: `{}`: it is `host` or an absolute path",
                    dir.escape_default()
                )));
            }
            let bad = |e| Error::system(format!("rootfs: `{dir}`"), e).into_invalid();
            if !std::fs::metadata(dir).map_err(bad)?.is_dir() {
                return Err(bad(std::io::Error::from_raw_os_error(libc::ENOTDIR)));
            }
        }
        Ok(Lowers {
            directories: directories.iter().rev().map(PathBuf::from).collect(),
        })
    }

    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// What the joined tree has at `path`, which is relative; its top for an empty one.
    pub fn find(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, Error> {
        let path = path.as_ref();
        let look = || {
            let mut current = self.tops();
            let mut found = match self.directories.first() {
                Some(top) => known(top.metadata())?,
                None => None,
            };
            for name in path {
                (found, current) = step(&current, name)?;
                if found.is_none() {
                    break;
                }
            }
            Ok(found)
        };
        look().map_err(|e| failed(path, e))
    }

    /// Where the symbolic link leads that the joined tree has at `path`.
    pub fn link(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let look = || match self.place(path)? {
            Some(place) => place.link().map(Some),
            None => Ok(None),
        };
        look().map_err(|e| failed(path, e))
    }

    /// The regular file that the joined tree has at `path`, open for reading.
    pub fn open(&self, path: &Path) -> std::io::Result<Option<File>> {
        let Some(place) = self.place(path)? else {
            return Ok(None);
        };
        let file = place.open(libc::O_NONBLOCK)?;
        Ok(file.metadata()?.is_file().then_some(file))
    }

    /// Where what the joined tree has at `path` lies.
    fn place(&self, path: &Path) -> std::io::Result<Option<Place<'_>>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let mut current = self.tops();
        for part in parent {
            current = step(&current, part)?.1;
        }
        if step(&current, name)?.0.is_none() {
            return Ok(None);
        }
        for place in current.iter().map(|dir| dir.join(name)) {
            if known(place.seen())?.is_some() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn tops(&self) -> Vec<Place<'_>> {
        let top = self.directories.iter().map(|top| Place {
            top: top.as_path(),
            below: PathBuf::new(),
        });
        top.collect()
    }

    /// The content of the regular file that the joined tree has at `path`, at most `most` bytes of it; `None` if it has
    /// none there. A FIFO is not waited for, nor a link followed.
    #[cfg(feature = "image")]
    pub fn read(&self, path: &str, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(Path::new(path))? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(most).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// The names that the joined tree has in the directory `path`, which is relative; none if it has no such directory.
    pub fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let look = || {
            let mut current = self.tops();
            for name in path {
                current = step(&current, name)?.1;
            }
            let mut names = BTreeSet::new();
            for dir in &current {
                if let Some(dir) = known(dir.open(libc::O_DIRECTORY))? {
                    names.extend(rights::listed(dir.into())?);
                }
            }
            let mut there = Vec::new();
            for name in names {
                if step(&current, &name)?.0.is_some() {
                    there.push(name);
                }
            }
            Ok(there)
        };
        look().map_err(|e| failed(path, e))
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    let what = format!("looking at `/{}` in the root file system", path.display());
    Error::system(what, e)
}

/// Whether an error says that there is nothing, or nothing that the caller can know of.
pub(crate) fn is_nothing(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(e.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// What is there; that it cannot be found out is no reason to go on as if it were not.
fn known<T>(looked: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(e) if is_nothing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What lies in one of the directories. It may belong to one of the caller's sub-ids, and be closed to the caller.
struct Place<'a> {
    top: &'a Path,
    below: PathBuf,
}

impl<'a> Place<'a> {
    fn join(&self, name: &std::ffi::OsStr) -> Place<'a> {
        Place {
            top: self.top,
            below: self.below.join(name),
        }
    }

    fn path(&self) -> PathBuf {
        self.top.join(&self.below)
    }

    fn seen(&self) -> std::io::Result<Metadata> {
        match self.path().symlink_metadata() {
            Err(e) if rights::denied(&e) => File::from(self.reach(libc::O_PATH)?).metadata(),
            seen => seen,
        }
    }

    /// Opens it for reading, never through a link.
    fn open(&self, flags: i32) -> std::io::Result<File> {
        let mut open = File::options();
        let open = open.read(true).custom_flags(flags | libc::O_NOFOLLOW);
        // The directory itself is the caller's to name, by a link if need be.
        let path = match self.below.as_os_str().is_empty() {
            true => self.top.join("."),
            false => self.path(),
        };
        match open.open(path) {
            Err(e) if rights::denied(&e) => Ok(self.reach(flags)?.into()),
            opened => opened,
        }
    }

    fn link(&self) -> std::io::Result<PathBuf> {
        match std::fs::read_link(self.path()) {
            Err(e) if rights::denied(&e) => {
                let link = self.reach(libc::O_PATH)?;
                Ok(nix::fcntl::readlinkat(&link, c"")?.into())
            }
            led => led,
        }
    }

    /// Opens it with rights over sub-ids.
    fn reach(&self, flags: i32) -> std::io::Result<OwnedFd> {
        let mut top = File::options();
        let top = top
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(self.top)?;
        Ok(rights::open(top, self.below.as_os_str().as_bytes(), flags)?)
    }

    fn is_opaque(&self) -> std::io::Result<bool> {
        match known(self.open(libc::O_DIRECTORY))? {
            Some(dir) => is_opaque(dir.as_fd()),
            None => Ok(false),
        }
    }
}

/// What a name is, and the directories that are joined below it.
type Below<'a> = (Option<Metadata>, Vec<Place<'a>>);

/// One name in joined directories.
fn step<'a>(current: &[Place<'a>], name: &OsStr) -> std::io::Result<Below<'a>> {
    let (mut found, mut below) = (None, Vec::new());
    for dir in current {
        let path = dir.join(name);
        let Some(seen) = known(path.seen())? else {
            continue;
        };
        if is_whiteout(&seen) || (found.is_some() && !seen.is_dir()) {
            break;
        }
        let directory = seen.is_dir();
        found.get_or_insert(seen);
        let last = !directory || path.is_opaque()?;
        if directory {
            below.push(path);
        }
        if last {
            break;
        }
    }
    Ok((found, below))
}

/// Whether it stands for "there is nothing here": a character device 0, 0.
pub(crate) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a directory hides what is below it in lower layers, as either driver marks that.
pub(crate) fn is_opaque(dir: BorrowedFd) -> std::io::Result<bool> {
    for name in [c"user.overlay.opaque", c"user.fuseoverlayfs.opaque"] {
        let mut value = [0u8; 4];
        // SAFETY: an open descriptor, a string with its NUL, and a buffer of the length that is given.
        let len = unsafe {
            libc::fgetxattr(
                dir.as_raw_fd(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        let yes = match len {
            1 => value[0] == b'y',
            0.. => false,
            _ => match std::io::Error::last_os_error() {
                e if rights::denied(&e) => rights::attribute(dir, name)?.is_some_and(|v| v == b"y"),
                // There is none, there are none at all, or it is longer.
                e if matches!(
                    e.raw_os_error(),
                    Some(libc::ENODATA | libc::EOPNOTSUPP | libc::ENOSYS | libc::ERANGE)
                ) =>
                {
                    false
                }
                e => return Err(e),
            },
        };
        if yes {
            return Ok(true);
        }
    }
    Ok(false)
}
