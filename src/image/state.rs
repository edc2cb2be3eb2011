//! What the store holds, in one document that is only ever replaced as a whole.

use super::lock::{Hold, Lock, Scratch};
use super::{Digest, Dropped, bad, from_io, fs, name, not_found};
use crate::error::{Error, ErrorKind};
use crate::ids::Given;
use nix::errno::Errno;
use nix::fcntl::renameat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

const FILE: &str = "state.json";
/// With layers whose files were given to sub-ids; without any it is 1, which knows none.
const VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub version: u32,
    /// By their ids, which are the digests of their configurations.
    pub images: BTreeMap<Digest, Record>,
    pub names: BTreeMap<String, Digest>,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub manifest: Digest,
    pub layers: Vec<Layer>,
    /// When it came here, in seconds since the epoch.
    pub added: u64,
}

/// A layer, in the place that it has in an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// The digest of it and all below it: what its unpacked form is called.
    pub chain_id: Digest,
    /// The digest of its tar stream.
    pub diff_id: Digest,
    /// How long that is.
    pub size: u64,
    /// The digest of the same, as it came: maybe compressed.
    pub blob: Digest,
    pub blob_size: u64,
    pub media_type: String,
    pub entries: u64,
    pub dropped: Dropped,
    /// The sub-ids that its files have been given to, if to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

impl State {
    pub fn read(root: &OwnedFd) -> Result<State, Error> {
        let mut text = Vec::new();
        match fs::open_file_at(root, FILE.as_bytes()) {
            Ok(mut file) => file.read_to_end(&mut text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(State {
                    version: 1,
                    images: BTreeMap::new(),
                    names: BTreeMap::new(),
                });
            }
            Err(error) => Err(error),
        }
        .map_err(|e| Error::system(format_args!("read the store's `{FILE}`"), e))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e| bad("store", format!("the store's `{FILE}` is damaged: {e}"));
        let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the store is of version {version}, made by a later stockade; this one knows {VERSION}"
                ),
            ));
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    /// Changes the document. Nobody else does meanwhile; readers see the old one or the new.
    pub fn change<T>(
        root: &OwnedFd,
        tmp: &OwnedFd,
        change: impl FnOnce(&mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = Lock::of(root, "state.lock", Hold::Exclusive)?;
        let mut state = State::read(root)?;
        let result = change(&mut state)?;
        let mut layers = state.images.values().flat_map(|record| &record.layers);
        let given = layers.any(|layer| layer.given.is_some());
        state.version = if given { VERSION } else { 1 };
        let text = serde_json::to_vec(&state).expect("texts and numbers only");
        let scratch = Scratch::new(tmp)?;
        let (mut file, name) = scratch.file()?;
        let fault = |e: std::io::Error| from_io(format_args!("write the store's `{FILE}`"), e);
        file.write_all(&text).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        renameat(scratch.dir(), &*name, root, FILE)
            .and_then(|()| nix::unistd::fsync(root))
            .map_err(|errno: Errno| fault(errno.into()))?;
        Ok(result)
    }

    /// The image that `reference` means: a name, the end of one, or the beginning of an id.
    pub fn find(&self, reference: &str) -> Result<(&Digest, &Record), Error> {
        let whole = name::parse_known(reference).ok();
        let get = |id: &Digest| self.images.get_key_value(id);
        if let Some(found) = whole
            .as_ref()
            .and_then(|name| self.names.get(name))
            .and_then(get)
        {
            return Ok(found);
        }
        let mut found: Vec<(String, &Digest)> = Vec::new();
        if let Some(whole) = &whole {
            let ends = self
                .names
                .iter()
                .filter(|(long, _)| name::is_end_of(whole, long));
            found.extend(ends.map(|(name, id)| (name.clone(), id)));
        }
        if found.is_empty()
            && let Some(prefix) = name::id_prefix(reference)
        {
            let ids = self.images.keys().filter(|id| id.hex().starts_with(prefix));
            found.extend(ids.map(|id| (id.to_string(), id)));
        }
        let one = found.first().map(|(_, id)| *id);
        match one {
            Some(id) if found.iter().all(|(_, other)| *other == id) => {
                get(id).ok_or_else(|| not_found(format!("the image `{id}` is not in the store")))
            }
            None => Err(not_found(format!(
                "no image `{}` in the store; `stockade images` lists what is there",
                reference.escape_debug()
            ))),
            Some(_) => {
                let names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
                Err(Error::invalid(format!(
                    "`{}` could be any of {}",
                    reference.escape_debug(),
                    names.join(", ")
                )))
            }
        }
    }

    /// The names of an image.
    pub fn names_of(&self, id: &Digest) -> Vec<String> {
        let own = self.names.iter().filter(|(_, of)| *of == id);
        own.map(|(name, _)| name.clone()).collect()
    }
}
