//! What an upper layer changes of the layers below, as `docker diff` says it.

use crate::bytes::Bytes;
use crate::error::Error;
use crate::overlay::{Lowers, is_opaque, is_whiteout};
use crate::rights;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) mod copied;

/// The deepest directory that is looked into, so that no program can make us run out of descriptors.
const DEPTH_MAX: usize = 256;

/// One path that differs from what a sandbox was started with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// The absolute path inside.
    pub path: Bytes,
    /// What has become of it.
    pub kind: ChangeKind,
}

impl Change {
    /// Of a path relative to the root.
    fn new(path: &Path, kind: ChangeKind) -> Change {
        let path = [b"/", path.as_os_str().as_bytes()].concat();
        Change {
            path: Bytes(path),
            kind,
        }
    }
}

/// What has become of a path. In JSON the letter that `docker diff` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// `A`: it was not there.
    #[serde(rename = "A")]
    Added,
    /// `C`: its content or attributes may differ, or those of something below it.
    #[serde(rename = "C")]
    Changed,
    /// `D`: it is no longer there.
    #[serde(rename = "D")]
    Deleted,
}

impl ChangeKind {
    /// The letter for it.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// What the upper layer `dir` changes of `lowers`. With `names`, as fuse-overlayfs writes it where it can make no devices
/// and set no attributes: by files called `.wh.NAME`.
pub(crate) fn of(dir: OwnedFd, lowers: &Lowers, names: bool) -> Result<Vec<Change>, Error> {
    let mut walk = Walk {
        lowers,
        names,
        changes: Vec::new(),
    };
    walk.directory(&dir, Path::new(""), true, 0)?;
    Ok(sorted(walk.changes))
}

/// By path.
fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort();
    changes
}

struct Walk<'a> {
    lowers: &'a Lowers,
    names: bool,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn note(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(Change::new(path, kind));
    }

    /// One directory of the upper layer; with `joined`, what lower layers have there is seen through it.
    fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        joined: bool,
        depth: usize,
    ) -> Result<(), Error> {
        let failed = |e| Error::system(format!("looking for changes in `/{}`", path.display()), e);
        if depth > DEPTH_MAX {
            return Err(Error::system(
                format!(
                    "looking for changes in `/{}`: directories are looked into {DEPTH_MAX} deep",
                    path.display()
                ),
                std::io::Error::from_raw_os_error(libc::ENAMETOOLONG),
            ));
        }
        for name in rights::names(dir).map_err(failed)? {
            let seen = match rights::metadata(dir, &name) {
                Ok(seen) => seen,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            let hidden = name.as_bytes().strip_prefix(b".wh.");
            if let Some(hidden) = hidden.filter(|_| self.names) {
                let hidden = path.join(OsStr::from_bytes(hidden));
                if joined && self.lower(&hidden)?.is_some() {
                    self.note(&hidden, ChangeKind::Deleted);
                }
                continue;
            }
            let path = path.join(&name);
            let lower = if joined { self.lower(&path)? } else { None };
            if is_whiteout(&seen) {
                if lower.is_some() {
                    self.note(&path, ChangeKind::Deleted);
                }
                continue;
            }
            let kind = match lower {
                Some(_) => ChangeKind::Changed,
                None => ChangeKind::Added,
            };
            self.note(&path, kind);
            if seen.is_dir() {
                self.below(dir, &path, lower == Some(true), depth)?;
            }
        }
        Ok(())
    }

    /// The directory in `dir` that is `path` inside; with `joined` lower layers have one there too.
    fn below(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        joined: bool,
        depth: usize,
    ) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        let dir: OwnedFd = match rights::open_at(dir, name, libc::O_DIRECTORY) {
            Ok(dir) => dir.into(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                let what = format!("looking for changes in `/{}`", path.display());
                return Err(Error::system(what, e));
            }
        };
        let marked = OsStr::new(".wh..wh..opq");
        let marked = self.names && rights::metadata(&dir, marked).is_ok();
        let failed = |e| Error::system(format!("looking for changes in `/{}`", path.display()), e);
        let opaque = is_opaque(dir.as_fd()).map_err(failed)? || marked;
        if joined && opaque {
            for name in self.lowers.names(path)? {
                if rights::metadata(&dir, &name).is_err() {
                    self.note(&path.join(name), ChangeKind::Deleted);
                }
            }
        }
        // What an opaque directory has in common with what it hides was made anew, and is told as changed.
        self.directory(&dir, path, joined, depth + 1)
    }

    /// Whether lower layers have something at `path`, and whether that is a directory.
    fn lower(&self, path: &Path) -> Result<Option<bool>, Error> {
        Ok(self.lowers.find(path)?.map(|seen| seen.is_dir()))
    }
}
