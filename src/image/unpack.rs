//! From a layer's tar stream to a directory in overlayfs form, whatever the stream tries.
//!
//! Every entry is reached from the layer's root by descriptors, one name at a time, never through a symbolic link and
//! never by `..`; so nothing outside the directory can be named, by no order of entries. The kernel's openat2 would
//! refuse the same, but exists only since 5.6 and takes no path longer than 4 KiB.
//!
//! | in the stream | in the directory |
//! |---|---|
//! | `.wh.NAME` | a character device 0:0 called NAME, if a layer below has something to hide |
//! | `.wh..wh..opq` | its directory has the attribute `user.overlay.opaque` |
//! | a directory that is only part of a path | made like the one in the layers below, so as not to change it |
//! | an owner | in root's store the id on the host that stands for it; in any other the store's, until all is there (`owners`) |
//! | set-user-id and set-group-id bits, device nodes, attributes other than `user.` | dropped, and counted |

mod ending;
mod way;

use super::fs::{self, components};
use super::limits::Paths;
use super::lower::Lower;
use super::owners::Owners;
use super::tar::{Archive, Entry, Kind};
use super::{Budget, Dropped, bad, from_io};
use crate::error::Error;
use crate::ids::{Extent, Given, Ids};
use ending::WHITEOUT;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::unistd::{linkat, mkfifoat, symlinkat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What came of a stream.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub entries: u64,
    pub dropped: Dropped,
    /// Whose the entries are, where all belong to the caller as yet.
    pub owners: Owners,
}

/// Unpacks `archive` into the empty directory `root`, over the layers `lower`, whose files were given to the sub-ids `below`.
pub(super) fn unpack<R: Read>(
    archive: &mut Archive<R>,
    root: &OwnedFd,
    lower: &Lower,
    budget: &mut Budget,
    below: Option<Given>,
) -> Result<Unpacked, Error> {
    let mut unpacker = Unpacker {
        root,
        lower,
        open: Vec::new(),
        directories: BTreeMap::new(),
        hidden: BTreeSet::new(),
        paths: Paths::default(),
        done: Unpacked::default(),
        buffer: vec![0; 1 << 17],
        owners: Ids::of_files()?,
        below,
    };
    unpacker
        .directories
        .insert(Vec::new(), Directory::default());
    while let Some(entry) = archive.next()? {
        budget.entry(&entry)?;
        unpacker.done.entries += 1;
        unpacker.add(archive, &entry)?;
    }
    unpacker.finish()?;
    Ok(unpacker.done)
}

struct Unpacker<'a> {
    root: &'a OwnedFd,
    lower: &'a Lower,
    /// The way to the directory that was used last.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// Every directory of this layer by its path, with what it gets in the end.
    directories: BTreeMap<Vec<u8>, Directory>,
    /// The paths that this layer hides.
    hidden: BTreeSet<Vec<u8>>,
    paths: Paths,
    done: Unpacked,
    buffer: Vec<u8>,
    /// Whom the files of root's sandboxes belong to on the host; else all belong to the caller.
    owners: Option<(Extent, Extent)>,
    /// The sub-ids that the files of the layers below were given to.
    below: Option<Given>,
}

/// What a directory gets when all that is in it is there: it may have a mode that would keep us out.
#[derive(Default)]
struct Directory {
    /// Mode, time and owner, if an entry gives them.
    given: Option<Stated>,
    opaque: bool,
}

type Stated = (u32, (i64, u32), (u64, u64));

impl Unpacker<'_> {
    /// The owner that a file of the image's user and group has on the host, if it is given to anybody: one that sandboxes
    /// do not have is their 0.
    fn owner(&self, (user, group): (u64, u64)) -> Option<(u32, u32)> {
        let (users, groups) = self.owners?;
        let host = |id: u64, all: Extent| {
            let id = if id < all.count { id } else { 0 };
            u32::try_from(all.start + id).ok()
        };
        Some((host(user, users)?, host(group, groups)?))
    }

    fn give(&self, fd: impl AsFd, of: (u64, u64)) -> nix::Result<()> {
        self.owner(of)
            .map_or(Ok(()), |owner| fs::set_owner(fd, owner))
    }

    fn give_at(&self, dir: impl AsFd, name: &[u8], of: (u64, u64)) -> nix::Result<()> {
        let owner = self.owner(of);
        owner.map_or(Ok(()), |owner| fs::set_owner_at(dir, name, owner))
    }

    fn add<R: Read>(&mut self, archive: &mut Archive<R>, entry: &Entry) -> Result<(), Error> {
        let parts = components(&entry.path, "the path")?;
        let dropped = &mut self.done.dropped;
        let of = (entry.uid, entry.gid);
        let known = |all: &(Extent, Extent)| entry.uid < all.0.count && entry.gid < all.1.count;
        dropped.owners += u64::from(of != (0, 0) && !self.owners.as_ref().is_some_and(known));
        if entry.kind != Kind::Symlink && entry.kind != Kind::Hardlink {
            dropped.set_id += u64::from(entry.mode & SET_ID != 0);
        }
        let Some((&name, parents)) = parts.split_last() else {
            return self.add_root(entry);
        };
        if name.starts_with(WHITEOUT) {
            return self.hide(name, parents);
        }
        if self.owners.is_none() && entry.kind != Kind::Device {
            let link = match entry.kind {
                Kind::Hardlink => {
                    Some(components(&entry.link, "the target of the hard link")?.join(&b'/'))
                }
                _ => None,
            };
            let owners = &mut self.done.owners;
            owners.note(parts.join(&b'/'), entry, link.as_deref());
        }
        let fault = |errno: Errno| cannot(entry, errno);
        match entry.kind {
            Kind::Directory => {
                let path = parts.join(&b'/');
                self.paths.hold(&path)?;
                let directory = self.directories.entry(path).or_default();
                directory.given = Some((entry.mode & !SET_ID, entry.mtime, of));
                let parent = self.parent(parents)?;
                let fd = self.make_dir(parent, parents, name).map_err(fault)?;
                self.set_xattrs(entry, &fd);
            }
            Kind::File => {
                let parent = self.parent(parents)?;
                let mut file = self.replace(&parent, parents, name, |dir, name| {
                    fs::create_file_at(dir, name)
                });
                let file = file.as_mut().map_err(|&mut errno| fault(errno))?;
                self.write(archive, entry, file)?;
                self.set_xattrs(entry, &*file);
                self.give(&*file, of).map_err(fault)?;
                fs::set_mode(&*file, entry.mode & !SET_ID).map_err(fault)?;
                fs::set_time(&*file, entry.mtime).map_err(fault)?;
            }
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(refused(entry, "is a symbolic link to nothing"));
                }
                let parent = self.parent(parents)?;
                let target = fs::c_name(&entry.link).map_err(fault)?;
                self.replace(&parent, parents, name, |dir, name| {
                    symlinkat(&*target, dir, &*fs::c_name(name)?)
                })
                .map_err(fault)?;
                self.give_at(&parent, name, of).map_err(fault)?;
                fs::set_time_at(&parent, name, entry.mtime).map_err(fault)?;
                self.done.dropped.xattrs += entry.xattrs.len() as u64;
            }
            Kind::Hardlink => self.link(entry, parents, name)?,
            Kind::Fifo => {
                let parent = self.parent(parents)?;
                self.replace(&parent, parents, name, |dir, name| {
                    mkfifoat(dir, &*fs::c_name(name)?, Mode::S_IRUSR | Mode::S_IWUSR)
                })
                .map_err(fault)?;
                self.give_at(&parent, name, of).map_err(fault)?;
                fs::set_mode_at(&parent, name, entry.mode & !SET_ID).map_err(fault)?;
                fs::set_time_at(&parent, name, entry.mtime).map_err(fault)?;
            }
            Kind::Device => {
                // What an earlier entry put there is replaced by nothing.
                if self.directories.contains_key(&parents.join(&b'/')) || parents.is_empty() {
                    let parent = self.parent(parents)?;
                    self.remove(&parent, parents, name).map_err(fault)?;
                    self.done.owners.forget(&parts.join(&b'/'));
                }
                self.done.dropped.devices += 1;
            }
        }
        Ok(())
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(refused(entry, "would replace the root directory"));
        }
        let root = self
            .directories
            .get_mut(&b""[..])
            .expect("made at the start");
        root.given = Some((entry.mode & !SET_ID, entry.mtime, (entry.uid, entry.gid)));
        if self.owners.is_none() {
            self.done.owners.note(Vec::new(), entry, None);
        }
        self.set_xattrs(entry, self.root);
        Ok(())
    }

    fn link(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), Error> {
        let target = components(&entry.link, "the target of the hard link")?;
        let Some((&target_name, target_parents)) = target.split_last() else {
            return Err(refused(entry, "is a hard link to the root directory"));
        };
        if (target_parents, target_name) == (parents, name) {
            return Ok(());
        }
        let missing = || {
            let to = entry.link.escape_ascii();
            refused(
                entry,
                &format!("is a hard link to `{to}`, which this layer does not have"),
            )
        };
        let known = self.directories.contains_key(&target_parents.join(&b'/'));
        if !known && !target_parents.is_empty() {
            // A symbolic link on the way has an error of its own.
            self.check_way(target_parents)?;
            return Err(missing());
        }
        let from = self.parent(target_parents)?;
        let stat = match fs::stat_at(&from, target_name) {
            Ok(stat) if fs::is_dir(&stat) => {
                return Err(refused(entry, "is a hard link to a directory"));
            }
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Err(missing()),
            Err(errno) => return Err(cannot(entry, errno)),
        };
        let parent = self.parent(parents)?;
        if fs::stat_at(&parent, name).is_ok_and(|there| there.st_ino == stat.st_ino) {
            return Ok(());
        }
        let target_name = fs::c_name(target_name).map_err(|errno| cannot(entry, errno))?;
        self.replace(&parent, parents, name, |dir, name| {
            linkat(
                &from,
                &*target_name,
                dir,
                &*fs::c_name(name)?,
                AtFlags::empty(),
            )
        })
        .map_err(|errno| match errno {
            // Removing what was called `name` took the target along.
            Errno::ENOENT => missing(),
            errno => cannot(entry, errno),
        })
    }

    /// Copies the data of a file, leaving its holes.
    fn write<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        entry: &Entry,
        file: &mut File,
    ) -> Result<(), Error> {
        let fault = |error: std::io::Error| from_io(format_args!("unpack {}", shown(entry)), error);
        let mut copy = |archive: &mut Archive<R>, file: &mut File, mut left: u64| {
            while left > 0 {
                let most = self
                    .buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                let n = archive.data(&mut self.buffer[..most])?;
                if n == 0 {
                    return Err(refused(entry, "has less data than its size says"));
                }
                file.write_all(&self.buffer[..n]).map_err(fault)?;
                left -= n as u64;
            }
            Ok(())
        };
        let Some(pieces) = &entry.pieces else {
            return copy(archive, file, entry.size);
        };
        file.set_len(entry.size).map_err(fault)?;
        for &(offset, length) in pieces {
            file.seek(SeekFrom::Start(offset)).map_err(fault)?;
            copy(archive, file, length)?;
        }
        Ok(())
    }

    fn set_xattrs(&mut self, entry: &Entry, fd: impl AsFd) {
        for (name, value) in &entry.xattrs {
            let dropped = &mut self.done.dropped;
            if name == b"security.capability" {
                dropped.capabilities += 1;
            } else if !name.starts_with(b"user.")
                || fs::is_overlay_xattr(name)
                || fs::set_xattr(&fd, name, value).is_err()
            {
                dropped.xattrs += 1;
            }
        }
    }
}

fn shown(entry: &Entry) -> String {
    format!("`{}`", entry.path.escape_ascii())
}

fn refused(entry: &Entry, why: &str) -> Error {
    bad("entry", format!("{} {why}", shown(entry)))
}

fn cannot(entry: &Entry, errno: Errno) -> Error {
    Error::system(format_args!("unpack {}", shown(entry)), errno)
}
