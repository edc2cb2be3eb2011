//! The way to an entry, one name at a time on descriptors, and what is in its place.

use super::Unpacker;
use crate::error::Error;
use crate::image::{bad, fs};
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most directories on the way to the current one that are kept open.
const KEPT: usize = 32;

impl Unpacker<'_> {
    /// The directory `parents`, made where it is missing.
    pub(super) fn parent(&mut self, parents: &[&[u8]]) -> Result<OwnedFd, Error> {
        let same = self
            .open
            .iter()
            .zip(parents)
            .take_while(|((open, _), part)| open == *part)
            .count();
        self.open.truncate(same);
        let base = self
            .open
            .last()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
        let mut here = clone(base)?;
        for depth in same..parents.len() {
            let name = parents[depth];
            let next = match fs::open_dir_at(&here, name) {
                Err(Errno::ENOENT) => {
                    let way = &parents[..=depth];
                    self.refuse_hidden_parent(way)?;
                    let way = way.join(&b'/');
                    self.paths.hold(&way)?;
                    self.directories.entry(way).or_default();
                    fs::make_dir_at(&here, name)
                }
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    return Err(self.no_directory(&here, parents, depth));
                }
                opened => opened,
            };
            here = next.map_err(|errno| {
                let way = parents[..=depth].join(&b'/');
                Error::system(format_args!("unpack `{}`", way.escape_ascii()), errno)
            })?;
            if depth < KEPT {
                self.open.push((name.to_vec(), clone(here.as_fd())?));
            }
        }
        Ok(here)
    }

    /// Says what is on the way where a directory should be.
    pub(super) fn check_way(&self, parents: &[&[u8]]) -> Result<(), Error> {
        let mut here = clone(self.root.as_fd())?;
        for depth in 0..parents.len() {
            here = match fs::open_dir_at(&here, parents[depth]) {
                Ok(next) => next,
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    return Err(self.no_directory(&here, parents, depth));
                }
                Err(_) => return Ok(()),
            };
        }
        Ok(())
    }

    fn no_directory(&self, here: &OwnedFd, parents: &[&[u8]], depth: usize) -> Error {
        let is_link =
            fs::stat_at(here, parents[depth]).is_ok_and(|stat| fs::type_of(&stat) == libc::S_IFLNK);
        way_is_no_directory(&parents[..=depth], is_link)
    }

    /// A directory that is only implied must be one in the layers below as well: the entry was made in its view.
    fn refuse_hidden_parent(&self, way: &[&[u8]]) -> Result<(), Error> {
        let found = self.lower.find(way).map_err(|error| looking(way, error))?;
        match found {
            Some(found) if !fs::is_dir(&found.stat) => {
                let is_link = fs::type_of(&found.stat) == libc::S_IFLNK;
                Err(way_is_no_directory(way, is_link))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn make_dir(
        &mut self,
        parent: OwnedFd,
        parents: &[&[u8]],
        name: &[u8],
    ) -> nix::Result<OwnedFd> {
        match fs::open_dir_at(&parent, name) {
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {
                self.replace(&parent, parents, name, |dir, name| {
                    fs::make_dir_at(dir, name)
                })
            }
            opened => opened,
        }
    }

    /// Makes `name`, in place of what an earlier entry of the same name was.
    pub(super) fn replace<T>(
        &mut self,
        parent: &OwnedFd,
        parents: &[&[u8]],
        name: &[u8],
        mut make: impl FnMut(&OwnedFd, &[u8]) -> nix::Result<T>,
    ) -> nix::Result<T> {
        match make(parent, name) {
            Err(Errno::EEXIST) => {
                self.remove(parent, parents, name)?;
                make(parent, name)
            }
            made => made,
        }
    }

    pub(super) fn remove(
        &mut self,
        parent: &OwnedFd,
        parents: &[&[u8]],
        name: &[u8],
    ) -> nix::Result<()> {
        match unlinkat(parent, &*fs::c_name(name)?, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            done => return done,
        }
        fs::remove_tree(parent, name)?;
        self.open.truncate(parents.len());
        let path = [parents, &[name]].concat().join(&b'/');
        self.done.owners.forget_below(&path);
        let below = [&path[..], b"/"].concat();
        self.directories.remove(&path);
        while let Some((known, _)) = self.directories.range(below.clone()..).next()
            && known.starts_with(&below)
        {
            let known = known.clone();
            self.directories.remove(&known);
        }
        Ok(())
    }
}

fn clone(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned()
        .map_err(|e| Error::system("unpack", e))
}

pub(super) fn looking(way: &[&[u8]], error: std::io::Error) -> Error {
    let way = way.join(&b'/');
    Error::system(
        format_args!("look for `{}` in the layers below", way.escape_ascii()),
        error,
    )
}

fn way_is_no_directory(way: &[&[u8]], is_link: bool) -> Error {
    let what = if is_link {
        "a symbolic link"
    } else {
        "no directory"
    };
    bad(
        "path",
        format!(
            "an entry lies behind `{}`, which is {what}",
            way.join(&b'/').escape_ascii()
        ),
    )
}
