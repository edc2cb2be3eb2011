//! The view that the layers below one give: what a path is there.

use super::fs;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The layers below, the topmost first.
#[derive(Default)]
pub(super) struct Lower(pub Vec<OwnedFd>);

/// What a path is in the layers below.
pub(super) struct Found {
    pub stat: FileStat,
    /// Open only to look at.
    pub fd: OwnedFd,
}

pub(super) enum Step {
    Found(Found),
    /// Not in this layer; layers below may have it.
    Below,
    /// Nowhere: hidden from here down.
    Hidden,
}

impl Lower {
    /// What `path` is in the merged view, without following links.
    pub fn find(&self, path: &[&[u8]]) -> io::Result<Option<Found>> {
        for layer in &self.0 {
            match look(layer, path)? {
                Step::Found(found) => return Ok(Some(found)),
                Step::Below => {}
                Step::Hidden => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What a path is in one layer.
pub(super) fn look(layer: &OwnedFd, path: &[&[u8]]) -> io::Result<Step> {
    let mut here = layer.try_clone()?;
    let mut hides = fs::is_opaque(&here)?;
    for (i, part) in path.iter().enumerate() {
        let fd = match fs::hold_at(&here, part) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) if hides => return Ok(Step::Hidden),
            Err(Errno::ENOENT) => return Ok(Step::Below),
            // A directory that even its owner may not search: nobody knows.
            Err(Errno::EACCES) => return Ok(Step::Hidden),
            Err(errno) => return Err(errno.into()),
        };
        let stat = fstat(&fd)?;
        if fs::is_whiteout(&stat) {
            return Ok(Step::Hidden);
        }
        if i + 1 == path.len() {
            return Ok(Step::Found(Found { stat, fd }));
        }
        if !fs::is_dir(&stat) {
            return Ok(Step::Hidden);
        }
        hides |= fs::is_opaque(fd.as_fd())?;
        here = fd;
    }
    Ok(Step::Found(Found {
        stat: fstat(&here)?,
        fd: here,
    }))
}
