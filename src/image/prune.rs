//! What leaves the store, and what is in it takes on disk.

use super::build::cache;
use super::lock::{Hold, Lock, Scratch};
use super::partial::Partials;
use super::state::State;
use super::store::{Claim, Store, needed};
use super::{Digest, fs, name};
use crate::error::Error;
use crate::rights;
use nix::errno::Errno;
use nix::fcntl::renameat;
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::fd::AsFd;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Names that are no more.
    pub names: Vec<String>,
    /// Images that are no more.
    pub images: Vec<Digest>,
    /// Bytes on disk that were freed.
    pub bytes: u64,
}

/// What the store takes on disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiskUse {
    /// Images in it.
    pub images: u64,
    /// Configurations, manifests and layers as they came.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// What is not whole yet, of calls under way or of dead processes, and layers that were not downloaded to their ends.
    pub temporary: u64,
    /// What [`Store::prune`] of all images that have no name would free.
    pub reclaimable: u64,
}

impl Store {
    /// Removes a name; and the image, if that was its last and nobody uses it. An id removes all the names of the image
    /// that it is.
    pub fn remove(&self, reference: &str) -> Result<Removed, Error> {
        let lock = Lock::of(&self.root, "lock", Hold::Exclusive)?;
        let mut removed = Removed::default();
        let claimed = State::change(&self.root, &self.tmp, |state| {
            let id = state.find(reference)?.0.clone();
            let by_name = name::parse_known(reference)
                .ok()
                .filter(|name| state.names.contains_key(name));
            let by_end = || {
                let whole = name::parse_known(reference).ok()?;
                let ends = state
                    .names
                    .iter()
                    .find(|(long, of)| **of == id && name::is_end_of(&whole, long));
                ends.map(|(long, _)| long.clone())
            };
            removed.names = match by_name.or_else(by_end) {
                Some(name) => vec![name],
                None => state.names_of(&id),
            };
            for name in &removed.names {
                state.names.remove(name);
            }
            if !state.names_of(&id).is_empty() {
                return Ok(None);
            }
            match self.claim(&id)? {
                Claim::Used => Ok(None),
                free => {
                    state.images.remove(&id);
                    removed.images.push(id);
                    Ok(Some(free))
                }
            }
        })?;
        if claimed.is_some() {
            drop(claimed);
            removed.bytes = self.collect(lock)?;
        }
        Ok(removed)
    }

    /// Removes the images that have no name and, with `all`, every image; but none that is in use. Whatever no image
    /// needs goes too, and what was not downloaded to its end.
    pub fn prune(&self, all: bool) -> Result<Removed, Error> {
        let lock = Lock::of(&self.root, "lock", Hold::Exclusive)?;
        let mut removed = Removed::default();
        // Each claim is a descriptor, of which there are not many.
        let mut asked = BTreeSet::new();
        loop {
            let claims = State::change(&self.root, &self.tmp, |state| {
                let named: BTreeSet<Digest> = state.names.values().cloned().collect();
                let ids = state.images.keys().cloned();
                let ids = ids.filter(|id| (all || !named.contains(id)) && !asked.contains(id));
                let ids: Vec<Digest> = ids.take(200).collect();
                let mut claims = Vec::new();
                for id in ids {
                    asked.insert(id.clone());
                    let claim = self.claim(&id)?;
                    if matches!(claim, Claim::Free(_)) {
                        removed.names.extend(state.names_of(&id));
                        state.names.retain(|_, of| *of != id);
                        state.images.remove(&id);
                        removed.images.push(id);
                    }
                    claims.push(claim);
                }
                Ok(claims)
            })?;
            if claims.is_empty() {
                break;
            }
        }
        let (_, layers) = needed(&State::read(&self.root)?, |_| true);
        cache::sweep(self, |layer| layers.contains(layer))?;
        removed.bytes = self.collect(lock)?;
        let fault = |e| Error::system("remove what was not downloaded to its end", e);
        if let Some(partials) = Partials::of(&self.root).map_err(fault)? {
            removed.bytes += partials.sweep(|_, _| true).map_err(fault)?;
        }
        Ok(removed)
    }

    /// What the store takes.
    pub fn disk_use(&self) -> Result<DiskUse, Error> {
        let state = State::read(&self.root)?;
        let fault = |e| Error::system("measure the store", e);
        let named: BTreeSet<&Digest> = state.names.values().collect();
        let (kept_blobs, kept_layers) = needed(&state, |id| named.contains(id));
        let mut used = DiskUse {
            images: state.images.len() as u64,
            temporary: size_of(&self.tmp).map_err(fault)?
                + match Partials::of(&self.root).map_err(fault)? {
                    Some(partials) => size_of(partials.dir()).map_err(fault)?,
                    None => 0,
                },
            ..DiskUse::default()
        };
        for (dir, kept, sum) in [
            (&self.blobs, &kept_blobs, &mut used.blobs),
            (&self.layers, &kept_layers, &mut used.layers),
        ] {
            for name in fs::names(dir).map_err(fault)? {
                let size = size_at(dir, name.to_bytes()).map_err(fault)?;
                *sum += size;
                if !name.to_str().is_ok_and(|name| kept.contains(name)) {
                    used.reclaimable += size;
                }
            }
        }
        Ok(used)
    }

    /// Removes every blob and layer that no image has. The lock keeps those who add away.
    fn collect(&self, lock: Lock) -> Result<u64, Error> {
        let fault = |e: Errno| Error::system("collect what no image needs", e);
        let (blobs, layers) = needed(&State::read(&self.root)?, |_| true);
        let mut unneeded = Vec::new();
        for (dir, kept) in [(&self.blobs, &blobs), (&self.layers, &layers)] {
            let mut names = fs::names(dir).map_err(fault)?;
            names.retain(|name| !name.to_str().is_ok_and(|name| kept.contains(name)));
            unneeded.push((dir, names));
        }
        if unneeded.iter().any(|(_, names)| !names.is_empty()) {
            rights::ready();
        }
        let scratch = Scratch::new(&self.tmp)?;
        for (dir, names) in unneeded {
            for name in names {
                renameat(dir, &*name, scratch.dir(), &*scratch.fresh()).map_err(fault)?;
            }
        }
        // Out of the way at once; the removing itself may take its time.
        drop(lock);
        size_of(scratch.dir()).map_err(fault)
    }
}

/// Bytes on disk of all below `dir`.
fn size_of(dir: impl AsFd) -> nix::Result<u64> {
    let mut sum = 0;
    for name in fs::names(&dir)? {
        sum += size_at(&dir, name.to_bytes())?;
    }
    Ok(sum)
}

fn size_at(dir: impl AsFd, name: &[u8]) -> nix::Result<u64> {
    let stat = match fs::stat_at(&dir, name) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let mut sum = stat.st_blocks as u64 * 512 / stat.st_nlink.max(1) as u64;
    if fs::is_dir(&stat) {
        sum = stat.st_blocks as u64 * 512;
        match fs::open_dir_at(&dir, name) {
            Ok(dir) => sum += size_of(dir)?,
            // Gone, or closed to its owner.
            Err(Errno::ENOENT | Errno::EACCES) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(sum)
}
