//! What one image changes of another.

use super::{Image, Store, fs};
use crate::changes::{self, Change, ChangeKind};
use crate::error::Error;
use crate::overlay::Lowers;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl Store {
    /// What `image` changes of the image `base`, as `docker diff`, sorted by path; without `base`, what its topmost layer
    /// changes of those below. Of two images, what has another kind, mode, owner, size or time has changed, and so have the
    /// directories that it is in.
    pub fn diff(&self, image: &str, base: Option<&str>) -> Result<Vec<Change>, Error> {
        let image = self.resolve(image)?;
        if let Some(base) = base {
            let base = self.resolve(base)?;
            let mut compared = Compared {
                old: joined(&base.layers)?,
                new: joined(&image.layers)?,
                changes: Vec::new(),
            };
            compared.directory(Path::new(""), 0)?;
            compared.changes.sort();
            return Ok(compared.changes);
        }
        let Some((top, below)) = image.layers.split_last() else {
            return Ok(Vec::new());
        };
        let dir = fs::open_dir(top)
            .map_err(|e| Error::system(format_args!("open {}", fs::shown(top)), e))?;
        changes::of(dir, &joined(below)?, false)
    }
}

fn joined(layers: &[PathBuf]) -> Result<Lowers, Error> {
    Lowers::new(&Image::directories(layers)?)
}

struct Compared {
    old: Lowers,
    new: Lowers,
    changes: Vec<Change>,
}

impl Compared {
    /// All in a directory that both have; whether anything in it differs.
    fn directory(&mut self, dir: &Path, depth: usize) -> Result<bool, Error> {
        if depth > fs::DEPTH_MAX {
            return Err(super::bad(
                "path",
                format!("{} is too deep", fs::shown(dir)),
            ));
        }
        let before = self.changes.len();
        let names = self.new.names(dir)?;
        for name in &names {
            let path = dir.join(name);
            let Some(new) = self.new.find(&path)? else {
                continue;
            };
            match self.old.find(&path)? {
                None => self.added(&path, &new, depth)?,
                Some(old) if old.is_dir() && new.is_dir() => {
                    if self.directory(&path, depth + 1)? || attributes(&old) != attributes(&new) {
                        self.note(&path, ChangeKind::Changed);
                    }
                }
                Some(old) => {
                    if !same(&old, &new) {
                        self.note(&path, ChangeKind::Changed);
                        if new.is_dir() {
                            self.below(&path, depth + 1)?;
                        }
                    }
                }
            }
        }
        for name in self.old.names(dir)? {
            if names.binary_search(&name).is_err() {
                self.note(&dir.join(name), ChangeKind::Deleted);
            }
        }
        Ok(self.changes.len() > before)
    }

    fn added(&mut self, path: &Path, new: &Metadata, depth: usize) -> Result<(), Error> {
        self.note(path, ChangeKind::Added);
        match new.is_dir() {
            true => self.below(path, depth + 1),
            false => Ok(()),
        }
    }

    /// All in a directory that only the new image has.
    fn below(&mut self, dir: &Path, depth: usize) -> Result<(), Error> {
        if depth > fs::DEPTH_MAX {
            return Ok(());
        }
        for name in self.new.names(dir)? {
            let path = dir.join(name);
            if let Some(new) = self.new.find(&path)? {
                self.added(&path, &new, depth)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &Path, kind: ChangeKind) {
        let path = [b"/", path.as_os_str().as_bytes()].concat();
        self.changes.push(Change {
            path: path.into(),
            kind,
        });
    }
}

/// What a directory has of its own.
fn attributes(meta: &Metadata) -> (u32, u32, u32) {
    (meta.mode(), meta.uid(), meta.gid())
}

fn same(old: &Metadata, new: &Metadata) -> bool {
    let content = |meta: &Metadata| (meta.size(), meta.mtime(), meta.rdev());
    (old.dev(), old.ino()) == (new.dev(), new.ino())
        || attributes(old) == attributes(new) && content(old) == content(new)
}
