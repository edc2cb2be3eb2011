//! What a layer hides, and what its directories get when all that is in them is there.

use super::Unpacker;
use super::way::looking;
use crate::error::Error;
use crate::image::{bad, fs};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknodat};
use std::os::fd::OwnedFd;

pub(super) const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of AUFS's own, which are no files.
const AUFS: &[u8] = b".wh..wh.";

impl Unpacker<'_> {
    /// Takes note of a whiteout. Whiteouts are about the layers below, so they come after all entries of this one.
    pub(super) fn hide(&mut self, name: &[u8], parents: &[&[u8]]) -> Result<(), Error> {
        let path = |name: &[u8]| [parents, &[name]].concat().join(&b'/');
        if name == OPAQUE {
            self.parent(parents)?;
            let directory = self.directories.get_mut(&parents.join(&b'/'));
            directory.expect("it has just been opened").opaque = true;
        } else if !name.starts_with(AUFS) {
            let name = &name[WHITEOUT.len()..];
            if matches!(name, b"" | b"." | b"..") {
                return Err(bad(
                    "whiteout",
                    format!(
                        "the whiteout `{}` hides no name",
                        [parents, &[WHITEOUT, name]]
                            .concat()
                            .join(&b'/')
                            .escape_ascii()
                    ),
                ));
            }
            let path = path(name);
            self.paths.hold(&path)?;
            self.hidden.insert(path);
        }
        Ok(())
    }

    /// What can only be done when every entry is there.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for path in std::mem::take(&mut self.hidden) {
            let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
            self.whiteout(&parts)?;
        }
        // What is below a directory comes before it.
        for (path, directory) in std::mem::take(&mut self.directories).into_iter().rev() {
            let parts: Vec<&[u8]> = path
                .split(|&b| b == b'/')
                .filter(|p| !p.is_empty())
                .collect();
            let fd = self.parent(&parts)?;
            let fault = |errno: Errno| {
                let hint = match errno {
                    Errno::EOPNOTSUPP => {
                        " (a store needs a file system with user attributes, such as ext4, xfs or btrfs)"
                    }
                    _ => "",
                };
                Error::system(
                    format_args!("unpack `{}`{hint}", path.escape_ascii()),
                    errno,
                )
            };
            if directory.opaque {
                fs::set_opaque(&fd).map_err(fault)?;
            }
            let (mode, mtime) = match directory.given {
                Some((mode, mtime, of)) => {
                    self.give(&fd, of).map_err(fault)?;
                    (mode, mtime)
                }
                None => {
                    let (mode, mtime, owner) = self.as_below(&parts, &fd)?;
                    if self.owners.is_none() && !path.is_empty() {
                        self.done.owners.imply(&path, owner);
                    }
                    (mode, mtime)
                }
            };
            fs::set_mode(&fd, mode).map_err(fault)?;
            fs::set_time(&fd, mtime).map_err(fault)?;
        }
        self.open.clear();
        Ok(())
    }

    fn whiteout(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let (name, parents) = parts.split_last().expect("a whiteout has a name");
        let below = self
            .lower
            .find(parts)
            .map_err(|error| looking(parts, error))?;
        let path = parts.join(&b'/');
        if let Some(directory) = self.directories.get_mut(&path) {
            // Removed and made anew: what was in it below is not in it now.
            directory.opaque = true;
            return Ok(());
        }
        // Where this layer has something else than a directory, what was in it is hidden already.
        if below.is_none() || self.check_way(parents).is_err() {
            return Ok(());
        }
        let parent = self.parent(parents)?;
        let name = fs::c_name(name).expect("no NUL in a path");
        match mknodat(&parent, &*name, SFlag::S_IFCHR, Mode::empty(), 0) {
            // Of no time, so that it is the same wherever it is made.
            Ok(()) => fs::set_time_at(&parent, name.to_bytes(), (0, 0))
                .map_err(|errno| Error::system("set the time of a whiteout", errno)),
            // Something of this layer hides it as well.
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => {
                let hint = match errno {
                    Errno::EPERM => {
                        " (a whiteout without privileges needs Linux 5.8, and a sandbox around us that allows mknod)"
                    }
                    _ => "",
                };
                Err(Error::system(
                    format_args!("make the whiteout `{}`{hint}", path.escape_ascii()),
                    errno,
                ))
            }
        }
    }

    /// The mode and time that an implied directory has in the layers below, whose attributes it gets; and whose it is there,
    /// if those layers were given to sub-ids.
    fn as_below(&self, parts: &[&[u8]], fd: &OwnedFd) -> Result<Below, Error> {
        let fault = |error| looking(parts, error);
        let given = |result: nix::Result<()>| {
            result.map_err(|e| {
                Error::system(
                    format_args!("unpack `{}`", parts.join(&b'/').escape_ascii()),
                    e,
                )
            })
        };
        let Some(found) = self.lower.find(parts).map_err(fault)? else {
            given(self.give(fd, (0, 0)))?;
            return Ok((0o755, (0, 0), None));
        };
        if self.owners.is_some() {
            given(fs::set_owner(fd, (found.stat.st_uid, found.stat.st_gid)))?;
        }
        for (name, value) in fs::xattrs(&found.fd).map_err(|e| fault(e.into()))? {
            if name.starts_with(b"user.") && !fs::is_overlay_xattr(&name) {
                // It was set once on this file system already.
                let _ = fs::set_xattr(fd, &name, &value);
            }
        }
        let mtime = (found.stat.st_mtime, found.stat.st_mtime_nsec as u32);
        let owner = (found.stat.st_uid, found.stat.st_gid);
        let owner = self.below.map(|below| below.inside(owner));
        Ok((found.stat.st_mode & 0o1777, mtime, owner))
    }
}

type Below = (u32, (i64, u32), Option<(u32, u32)>);
