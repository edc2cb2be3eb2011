//! From an archive's documents and layers to parts of the store, all checked before any of them is in it.

mod documents;
mod streams;

use super::compress::Decoder;
use super::digest::{Hashing, chain};
use super::limits::Budget;
use super::lock::{Hold, Lock, Scratch, now};
use super::lower::Lower;
use super::manifest::{CONFIG, Descriptor, MANIFEST, Manifest};
use super::read::{Progress, Watch};
use super::state::{Layer, Record, State};
use super::store::Store;
use super::tar::Archive;
use super::unpack::unpack;
use super::{About, Digest, ImageInfo, LoadLimits, bad, from_io, layer, owners};
use crate::error::Error;
use crate::rights;
#[cfg(feature = "pull")]
pub(super) use documents::diff_ids;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::linkat;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use streams::{Tee, Watched};

/// What a layer is said to be.
#[derive(Default)]
pub(super) struct Expected {
    pub blob: Option<(Digest, u64)>,
    pub diff_id: Option<Digest>,
}

/// The layers of an image so far.
#[derive(Default)]
pub(super) struct Stack {
    pub layers: Vec<Layer>,
}

/// An image that is whole, but for its being in the store's state.
pub(super) struct Ready {
    pub id: Digest,
    record: Record,
    pub names: Vec<String>,
}

/// One call's reading. Nothing of it is in the store before [`finish`](Self::finish).
pub(super) struct Reading<'s, 'a> {
    store: &'s Store,
    pub scratch: Scratch,
    /// Keeps the store's sweeping away.
    _adding: Lock,
    budget: Budget,
    watch: Option<Rc<RefCell<&'a mut Watch<'a>>>>,
    /// What is ready, and its name in `scratch`.
    blobs: BTreeMap<Digest, String>,
    layers: BTreeMap<Digest, String>,
}

impl<'s, 'a> Reading<'s, 'a> {
    pub fn new(
        store: &'s Store,
        limits: &LoadLimits,
        watch: Option<&'a mut Watch<'a>>,
    ) -> Result<Self, Error> {
        rights::ready();
        Reading::with(store, Scratch::new(&store.tmp)?, limits, watch)
    }

    /// The same, with what is in `scratch` already.
    pub fn with(
        store: &'s Store,
        scratch: Scratch,
        limits: &LoadLimits,
        watch: Option<&'a mut Watch<'a>>,
    ) -> Result<Self, Error> {
        Ok(Reading {
            store,
            scratch,
            _adding: Lock::of(&store.root, "lock", Hold::Shared)?,
            budget: Budget::new(limits),
            watch: watch.map(|watch| Rc::new(RefCell::new(watch))),
            blobs: BTreeMap::new(),
            layers: BTreeMap::new(),
        })
    }

    /// Whether the layer is in the store, whole, and has been checked when it came.
    pub fn known(&mut self, stack: &mut Stack, expected: &Expected) -> Result<bool, Error> {
        let Some(diff_id) = &expected.diff_id else {
            return Ok(false);
        };
        let chain_id = chain(stack.layers.last().map(|layer| &layer.chain_id), diff_id);
        if self.layers.contains_key(&chain_id) {
            return Ok(false);
        }
        let Some(layer) = self.store.layer(&chain_id)? else {
            return Ok(false);
        };
        let same = expected
            .blob
            .as_ref()
            .is_none_or(|(blob, size)| (blob, *size) == (&layer.blob, layer.blob_size));
        let there = same && self.store.has_blob(&layer.blob);
        if there {
            stack.layers.push(layer);
        }
        Ok(there)
    }

    /// A layer that the caller writes.
    pub fn written(
        &mut self,
        stack: &mut Stack,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
        what: String,
    ) -> Result<(), Error> {
        let (file, name) = self.scratch.file()?;
        let mut file = layer::into_file(file, write)?;
        let size = file
            .stream_position()
            .map_err(|e| from_io("write the layer", e))?;
        file.seek(SeekFrom::Start(0))
            .map_err(|e| from_io("write the layer", e))?;
        self.read_layer(
            stack,
            Box::new(file),
            Some(size),
            None,
            name,
            Expected::default(),
            what,
        )
    }

    /// A layer from outside: copied, checked and unpacked in one pass.
    pub fn layer(
        &mut self,
        stack: &mut Stack,
        reader: Box<dyn Read>,
        size: Option<u64>,
        expected: Expected,
        what: String,
    ) -> Result<(), Error> {
        let (file, name) = self.scratch.file()?;
        self.read_layer(stack, reader, size, Some(file), name, expected, what)
    }

    /// A layer that is copied to `copy`, or is in `scratch` as `blob_name` already.
    #[allow(clippy::too_many_arguments, reason = "each is another thing")]
    pub fn read_layer(
        &mut self,
        stack: &mut Stack,
        reader: Box<dyn Read>,
        total: Option<u64>,
        copy: Option<File>,
        blob_name: String,
        expected: Expected,
        what: String,
    ) -> Result<(), Error> {
        let fault = |e| from_io("read the layer", e);
        let name = self.scratch.fresh();
        let holder = super::fs::make_dir_at(self.scratch.dir(), name.as_bytes())
            .map_err(|e| Error::system("make a directory in the store", e))?;
        let diff = super::fs::make_dir_at(&holder, b"diff")
            .map_err(|e| Error::system("make a directory in the store", e))?;

        let lower = self.lower(stack)?;
        // One more than is said, to see a lie.
        let most = expected
            .blob
            .as_ref()
            .map_or(u64::MAX, |(_, size)| size.saturating_add(1));
        let watched = self.watched(reader.take(most), what.clone(), total);
        let blob = Hashing::new(Tee {
            from: watched,
            to: copy,
        });
        let decoder = Decoder::new(blob, self.budget.limits()).map_err(fault)?;
        let media_type = decoder.compression().layer_type();
        let mut archive = Archive::new(Hashing::new(decoder));
        let given = owners::for_layer_on(&stack.layers)?;
        let below = given.filter(|_| !stack.layers.is_empty());
        let unpacked = unpack(&mut archive, &diff, &lower, &mut self.budget, below);
        let mut unpacked = unpacked.about(&what)?;
        // What follows the end of the archive belongs to the digests.
        let mut tar = archive.into_inner();
        io::copy(&mut tar, &mut io::sink())
            .map_err(fault)
            .about(&what)?;
        let (decoder, diff_id, size) = tar.finish();
        let mut blob = decoder.into_inner();
        io::copy(&mut blob, &mut io::sink())
            .map_err(fault)
            .about(&what)?;
        let (_, digest, blob_size) = blob.finish();

        if let Some((said, said_size)) = &expected.blob {
            check_size(said, *said_size, blob_size).about(&what)?;
            check_digest("blob", said, &digest).about(&what)?;
        }
        if let Some(said) = &expected.diff_id {
            check_digest("layer", said, &diff_id).about(&what)?;
        }
        let given = owners::give(&diff, &mut unpacked, given).about(&what)?;
        let layer = Layer {
            chain_id: chain(stack.layers.last().map(|below| &below.chain_id), &diff_id),
            diff_id,
            size,
            blob: digest.clone(),
            blob_size,
            media_type: media_type.into(),
            entries: unpacked.entries,
            dropped: unpacked.dropped,
            given,
        };
        let mut meta = super::fs::create_file_at(&holder, b"layer.json")
            .map_err(|e| Error::system("write the layer", e))?;
        meta.write_all(&serde_json::to_vec(&layer).expect("texts and numbers only"))
            .map_err(fault)?;
        if !unpacked.owners.is_empty() {
            super::fs::create_file_at(&holder, owners::FILE.as_bytes())
                .map_err(|e| Error::system("write the layer", e))?
                .write_all(&unpacked.owners.to_json())
                .map_err(fault)?;
        }
        self.blobs.insert(digest, blob_name);
        self.layers.entry(layer.chain_id.clone()).or_insert(name);
        stack.layers.push(layer);
        Ok(())
    }

    /// The layers below the next one, in the store or on their way there.
    fn lower(&self, stack: &Stack) -> Result<Lower, Error> {
        let open = |layer: &Layer| -> nix::Result<OwnedFd> {
            let holder = match self.layers.get(&layer.chain_id) {
                Some(name) => super::fs::open_dir_at(self.scratch.dir(), name.as_bytes()),
                None => super::fs::open_dir_at(&self.store.layers, layer.chain_id.hex().as_bytes()),
            }?;
            super::fs::walk_dir_at(holder, b"diff")
        };
        let all: nix::Result<_> = stack.layers.iter().rev().map(open).collect();
        all.map(Lower)
            .map_err(|e| Error::system("open the layers below", e))
    }

    /// An image of these layers. Without a manifest of its own it gets one.
    pub fn image(
        &mut self,
        config: &[u8],
        manifest: Option<&[u8]>,
        stack: Stack,
        names: Vec<String>,
    ) -> Result<Ready, Error> {
        let id = self.blob(config)?;
        let manifest = match manifest {
            Some(manifest) => self.blob(manifest)?,
            None => {
                let layers = stack.layers.iter().map(|layer| {
                    Descriptor::new(&layer.media_type, layer.blob.clone(), layer.blob_size)
                });
                let manifest = Manifest {
                    schema_version: 2,
                    media_type: MANIFEST.into(),
                    config: Descriptor::new(CONFIG, id.clone(), config.len() as u64),
                    layers: layers.collect(),
                };
                self.blob(&serde_json::to_vec(&manifest).expect("texts and numbers only"))?
            }
        };
        let record = Record {
            manifest,
            layers: stack.layers,
            added: now().0,
        };
        Ok(Ready { id, record, names })
    }

    fn blob(&mut self, data: &[u8]) -> Result<Digest, Error> {
        let (mut file, name) = self.scratch.file()?;
        file.write_all(data)
            .map_err(|e| from_io("write to the store", e))?;
        let digest = Digest::of(data);
        self.blobs.insert(digest.clone(), name);
        Ok(digest)
    }

    pub fn watched<R: Read>(&self, from: R, what: String, total: Option<u64>) -> Watched<'a, R> {
        Watched {
            from,
            watch: self.watch.clone(),
            progress: Progress {
                what,
                done: 0,
                total,
            },
            told: 0,
        }
    }

    /// Puts all of it into the store: the parts first, and when they are safe, what refers to them.
    pub fn finish(self, mut images: Vec<Ready>) -> Result<Vec<ImageInfo>, Error> {
        let fault = |what: &'static str| move |errno: Errno| Error::system(what, errno);
        nix::unistd::syncfs(self.scratch.dir()).map_err(fault("write the store to disk"))?;
        for (names, to, of_layers) in [
            (&self.blobs, &self.store.blobs, false),
            (&self.layers, &self.store.layers, true),
        ] {
            for (digest, name) in names {
                let moved = match of_layers {
                    true => renameat(self.scratch.dir(), &**name, to, digest.hex()),
                    // A file that is there may be held by who uses the image: it is not replaced.
                    false => linkat(
                        self.scratch.dir(),
                        &**name,
                        to,
                        digest.hex(),
                        AtFlags::empty(),
                    ),
                };
                match moved {
                    // It was there, or another process was quicker with the same.
                    Ok(()) | Err(Errno::EEXIST | Errno::ENOTEMPTY) => {}
                    Err(errno) => return Err(fault("move a part into the store")(errno)),
                }
            }
            nix::unistd::fsync(to).map_err(fault("write the store to disk"))?;
        }
        // Of a layer that another process was quicker with, that process knows whom it has given its files to.
        for layer in images.iter_mut().flat_map(|image| &mut image.record.layers) {
            if self.layers.contains_key(&layer.chain_id)
                && let Some(there) = self.store.layer(&layer.chain_id)?
            {
                (layer.given, layer.dropped) = (there.given, there.dropped);
            }
        }
        State::change(&self.store.root, &self.store.tmp, |state| {
            for image in &images {
                state
                    .images
                    .entry(image.id.clone())
                    .or_insert_with(|| image.record.clone());
                for name in &image.names {
                    state.names.insert(name.clone(), image.id.clone());
                }
            }
            Ok(())
        })?;
        let state = State::read(&self.store.root)?;
        let mut infos: Vec<ImageInfo> = Vec::new();
        for image in &images {
            // An archive may have it under several names.
            if infos.iter().all(|info| info.id != image.id) {
                infos.push(self.store.info(&state, &image.id)?);
            }
        }
        Ok(infos)
    }
}

fn check_digest(what: &str, said: &Digest, is: &Digest) -> Result<(), Error> {
    match said == is || cfg!(fuzzing) {
        true => Ok(()),
        false => Err(bad(
            "digest",
            format!("the {what} `{said}` has the digest `{is}`"),
        )),
    }
}

fn check_size(digest: &Digest, said: u64, is: u64) -> Result<(), Error> {
    let why = match is {
        _ if said == is => return Ok(()),
        _ if is > said => format!("is longer than the {said} bytes that its size says"),
        _ => format!("has {is} bytes, its size says {said}"),
    };
    Err(bad("size", format!("the blob `{digest}` {why}")))
}
