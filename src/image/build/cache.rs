//! What steps have come to before: a file for each, named by a digest of the step and all before it.

use super::super::lock::Scratch;
use super::super::state::Layer;
use super::super::store::Store;
use super::super::{Digest, from_io, fs};
use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

const DIRECTORY: &str = "cache";

/// What a step came to.
#[derive(Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Its layer, if it changed anything.
    pub chain_id: Option<Digest>,
    /// When.
    pub created: String,
}

/// The key of a step, from that of the step before it.
pub(super) fn key(before: &Digest, step: &impl Serialize) -> Digest {
    let json = serde_json::to_vec(&(before, step)).expect("texts and numbers only");
    Digest::of(json)
}

/// What the step came to, with its layer if it has one and the store still does.
pub(super) fn find(store: &Store, key: &Digest) -> Result<Option<(Outcome, Option<Layer>)>, Error> {
    let Some(dir) = open(store)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let read = fs::open_file_at(dir, key.hex().as_bytes())
        .and_then(|mut file| file.read_to_end(&mut text));
    // What cannot be read or understood is made again.
    let outcome = read
        .ok()
        .and_then(|_| serde_json::from_slice::<Outcome>(&text).ok());
    let Some(outcome) = outcome else {
        return Ok(None);
    };
    let Some(chain_id) = &outcome.chain_id else {
        return Ok(Some((outcome, None)));
    };
    let layer = store
        .layer(chain_id)?
        .filter(|layer| store.has_blob(&layer.blob));
    Ok(layer.map(|layer| (outcome, Some(layer))))
}

/// Remembers what the step came to.
pub(super) fn remember(store: &Store, key: &Digest, outcome: &Outcome) -> Result<(), Error> {
    let fault = |e: Errno| Error::system("write to the store's cache", e);
    match mkdirat(&store.root, DIRECTORY, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(fault(errno)),
    }
    let Some(dir) = open(store)? else {
        return Ok(());
    };
    let scratch = Scratch::new(&store.tmp)?;
    let (mut file, name) = scratch.file()?;
    file.write_all(&serde_json::to_vec(outcome).expect("texts only"))
        .map_err(|e| from_io("write to the store's cache", e))?;
    // Whole or not there: but for a power failure, after which it may be empty, and is made again.
    renameat(scratch.dir(), &*name, &dir, key.hex()).map_err(fault)
}

/// Forgets the steps whose layers the store has no more.
pub(in crate::image) fn sweep(store: &Store, kept: impl Fn(&str) -> bool) -> Result<(), Error> {
    let fault = |e: Errno| Error::system("clean the store's cache", e);
    let Some(dir) = open(store)? else {
        return Ok(());
    };
    for name in fs::names(&dir).map_err(fault)? {
        let mut text = Vec::new();
        let read = fs::open_file_at(&dir, name.to_bytes())
            .and_then(|mut file| file.read_to_end(&mut text));
        let outcome = read
            .ok()
            .and_then(|_| serde_json::from_slice::<Outcome>(&text).ok());
        let layer = outcome.and_then(|outcome| outcome.chain_id);
        if !layer.is_some_and(|layer| kept(layer.hex())) {
            match unlinkat(&dir, &*name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(fault(errno)),
            }
        }
    }
    Ok(())
}

fn open(store: &Store) -> Result<Option<OwnedFd>, Error> {
    match fs::open_dir_at(&store.root, DIRECTORY.as_bytes()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::system("open the store's cache", errno)),
    }
}
