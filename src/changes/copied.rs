//! What a copy has become, held against what it was made of: a copy has no layer of its own that would say.

use super::{Change, ChangeKind, DEPTH_MAX, sorted};
use crate::error::Error;
use crate::overlay::Lowers;
use crate::plan::Made;
use crate::rights;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How coarse the times of files are at most.
const GRAIN: Duration = Duration::from_millis(20);

/// What a copy was made of, and when.
pub(crate) struct Original<'a> {
    pub lowers: &'a Lowers,
    /// What the sandbox has of its own, over all layers.
    pub own: BTreeMap<PathBuf, Made>,
    /// Whether files of the host's ids in a layer have the same in the copy.
    pub has_owner: &'a dyn Fn((u32, u32)) -> bool,
    /// Since the epoch, when no program had run yet: what was changed before is as it was copied.
    pub made: Duration,
}

/// What the copy `dir` has changed.
pub(crate) fn of(dir: &OwnedFd, original: &Original) -> Result<Vec<Change>, Error> {
    let mut walk = Walk {
        original,
        changes: Vec::new(),
    };
    walk.directory(dir, Path::new(""), 0)?;
    Ok(sorted(walk.changes))
}

struct Walk<'a> {
    original: &'a Original<'a>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn note(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(Change::new(path, kind));
    }

    /// One directory that the original has too; true if anything in it differs.
    fn directory(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<bool, Error> {
        let failed = |e| Error::system(format!("looking for changes in `/{}`", path.display()), e);
        if depth > DEPTH_MAX {
            return Err(failed(std::io::Error::from_raw_os_error(
                libc::ENAMETOOLONG,
            )));
        }
        let before = self.changes.len();
        let there: BTreeSet<OsString> = rights::names(dir).map_err(failed)?.into_iter().collect();
        for name in self.names(path)? {
            if !there.contains(&name) {
                self.note(&path.join(name), ChangeKind::Deleted);
            }
        }
        for name in there {
            match rights::metadata(dir, &name) {
                Ok(seen) => self.entry(dir, &path.join(&name), &name, &seen, depth)?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(self.changes.len() > before)
    }

    fn entry(
        &mut self,
        here: &OwnedFd,
        path: &Path,
        name: &OsString,
        seen: &Metadata,
        depth: usize,
    ) -> Result<(), Error> {
        let at = At(here, name);
        let was = self.original.find(path)?;
        let Some(was) = was else {
            self.note(path, ChangeKind::Added);
            return match open_directory(&at, seen, path)? {
                Some(dir) => self.added(&dir, path, depth + 1),
                None => Ok(()),
            };
        };
        if seen.is_dir() && was.is_dir() {
            let below = match open_directory(&at, seen, path)? {
                Some(dir) => self.directory(&dir, path, depth + 1)?,
                None => false,
            };
            if below || self.original.differs(&was, seen, &at, path)? {
                self.note(path, ChangeKind::Changed);
            }
            return Ok(());
        }
        if self.original.differs(&was, seen, &at, path)? {
            self.note(path, ChangeKind::Changed);
            if was.is_dir() {
                for name in self.names(path)? {
                    self.note(&path.join(name), ChangeKind::Deleted);
                }
            } else if let Some(dir) = open_directory(&at, seen, path)? {
                return self.added(&dir, path, depth + 1);
            }
        }
        Ok(())
    }

    /// A directory that the original has not.
    fn added(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<(), Error> {
        let failed = |e| Error::system(format!("looking for changes in `/{}`", path.display()), e);
        if depth > DEPTH_MAX {
            return Err(failed(std::io::Error::from_raw_os_error(
                libc::ENAMETOOLONG,
            )));
        }
        for name in rights::names(dir).map_err(failed)? {
            let Ok(seen) = rights::metadata(dir, &name) else {
                continue;
            };
            let path = path.join(&name);
            self.note(&path, ChangeKind::Added);
            if let Some(dir) = open_directory(&At(dir, &name), &seen, &path)? {
                self.added(&dir, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// What the original has in a directory, of what is copied.
    fn names(&self, path: &Path) -> Result<BTreeSet<OsString>, Error> {
        let mut names = BTreeSet::new();
        for name in self.original.lowers.names(path)? {
            if self.original.find(&path.join(&name))?.is_some() {
                names.insert(name);
            }
        }
        let own = self.original.own.keys();
        let own = own.filter(|own| own.parent() == Some(path));
        names.extend(own.filter_map(|own| own.file_name().map(OsString::from)));
        Ok(names)
    }
}

/// A name in a directory of the copy.
struct At<'a>(&'a OwnedFd, &'a OsStr);

/// What a path was before any program ran.
enum Was<'a> {
    Lower(Metadata),
    Own(&'a Made),
}

impl Was<'_> {
    fn is_dir(&self) -> bool {
        match self {
            Was::Lower(seen) => seen.is_dir(),
            Was::Own(made) => matches!(made, Made::Directory(_)),
        }
    }
}

impl Original<'_> {
    fn find(&self, path: &Path) -> Result<Option<Was<'_>>, Error> {
        if let Some(made) = self.own.get(path) {
            return Ok(Some(Was::Own(made)));
        }
        // Below a file of our own there is nothing.
        let hidden = path.ancestors().skip(1).any(|parent| {
            let own = self.own.get(parent);
            own.is_some_and(|made| !matches!(made, Made::Directory(_)))
        });
        let Some(seen) = self.lowers.find(path)?.filter(|_| !hidden) else {
            return Ok(None);
        };
        let kind = seen.file_type();
        let copied = kind.is_dir() || kind.is_file() || kind.is_symlink() || kind.is_fifo();
        Ok(copied.then_some(Was::Lower(seen)))
    }

    /// Whether what is at `at` is another than it was.
    fn differs(&self, was: &Was, seen: &Metadata, at: &At, path: &Path) -> Result<bool, Error> {
        let changed = Duration::new(seen.ctime().max(0) as u64, seen.ctime_nsec() as u32);
        if changed + GRAIN < self.made {
            return Ok(false);
        }
        let failed = |e| Error::system(format!("comparing `/{}`", path.display()), e);
        let mode = seen.mode() & 0o7777;
        Ok(match was {
            Was::Own(Made::Directory(made)) => !seen.is_dir() || mode != *made,
            Was::Own(Made::File(made, content)) => {
                let same = seen.is_file()
                    && mode == *made
                    && seen.len() == content.len() as u64
                    && same_content(&mut regular(at).map_err(failed)?, &mut &content[..])
                        .map_err(failed)?;
                !same
            }
            // A copy of the host's: what it was then is not known.
            Was::Own(Made::Copied) => changed > self.made + GRAIN,
            Was::Lower(lower) => {
                let kept = if lower.is_dir() { 0o1777 } else { 0o777 };
                let owner = (lower.uid(), lower.gid());
                let same_owner = !(self.has_owner)(owner) || owner == (seen.uid(), seen.gid());
                if lower.file_type() != seen.file_type() || !same_owner {
                    return Ok(true);
                }
                if seen.is_symlink() {
                    let here = rights::link(at.0, at.1).map_err(failed)?;
                    return Ok(self.lowers.link(path)?.is_none_or(|there| there != here));
                }
                if mode != lower.mode() & kept {
                    return Ok(true);
                }
                if !seen.is_file() {
                    return Ok(false);
                }
                let (here, there) = (seen.mtime(), lower.mtime());
                if seen.len() != lower.len()
                    || (here, seen.mtime_nsec()) != (there, lower.mtime_nsec())
                {
                    return Ok(true);
                }
                // The time of a file can be set to what it was.
                let Some(mut lower) = self.lowers.open(path).map_err(failed)? else {
                    return Ok(true);
                };
                !same_content(&mut regular(at).map_err(failed)?, &mut lower).map_err(failed)?
            }
        })
    }
}

/// Opens a regular file of the copy, whatever has come to its place.
fn regular(at: &At) -> std::io::Result<File> {
    let file = rights::open_at(at.0, at.1, libc::O_NONBLOCK)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

fn same_content(one: &mut impl Read, two: &mut impl Read) -> std::io::Result<bool> {
    let [mut first, mut second] = [(); 2].map(|()| vec![0; 64 << 10]);
    loop {
        let filled = fill(one, &mut first)?;
        if filled != fill(two, &mut second)? || first[..filled] != second[..filled] {
            return Ok(false);
        }
        if filled == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The directory `at`, if it is one, whatever has come to its place.
fn open_directory(at: &At, seen: &Metadata, path: &Path) -> Result<Option<OwnedFd>, Error> {
    if !seen.is_dir() {
        return Ok(None);
    }
    match rights::open_at(at.0, at.1, libc::O_DIRECTORY) {
        Ok(dir) => Ok(Some(dir.into())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            let what = format!("looking for changes in `/{}`", path.display());
            Err(Error::system(what, e))
        }
    }
}
