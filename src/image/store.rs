//! The store and what it answers.

use super::config::ImageConfig;
use super::lock::{Hold, Lock, sweep};
use super::partial::Partials;
use super::state::{Layer, State};
use super::{Digest, Dropped, bad, fs, name, not_found};
use crate::error::{Error, ErrorKind};
use crate::ids::{Given, Ids, changed};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat, mkdirat};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store of images. Any number of processes and threads may use the same one at once.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    pub(super) root: OwnedFd,
    pub(super) blobs: OwnedFd,
    pub(super) layers: OwnedFd,
    pub(super) tmp: OwnedFd,
}

/// An image that is being used. As long as this value or a clone of it lives, and this process, nothing of the image is
/// removed from the store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Directories in overlayfs form, the lowest first.
    pub layers: Vec<PathBuf>,
    /// The sub-ids that its files have been given to, if to any.
    pub(crate) given: Option<Given>,
    _used: Arc<Lock>,
}

/// What is known about an image.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub digest: Digest,
    /// All its names.
    pub names: Vec<String>,
    /// Bytes of all its layers, as tar streams.
    pub size: u64,
    /// When it was put into the store, in seconds since the epoch.
    pub added: u64,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerInfo>,
    /// What its unpacked form lacks.
    pub dropped: Dropped,
    /// Whose its unpacked files are: `sub-ids` or, in root's store, `host ids`, which stand for the owners that the image has;
    /// or `folded: ` and why all of them belong to one, who in a sandbox is its user.
    pub owners: String,
}

/// What is known about a layer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LayerInfo {
    /// The digest of its tar stream.
    pub diff_id: Digest,
    /// The digest of the same, as it came: maybe compressed.
    pub digest: Digest,
    /// Bytes of the tar stream.
    pub size: u64,
    /// Bytes as it came.
    pub compressed_size: u64,
    /// What the blob is, as a media type.
    pub media_type: String,
    /// Entries of the tar stream.
    pub entries: u64,
    /// Where it is unpacked.
    pub path: PathBuf,
}

impl Store {
    /// Opens the store in the directory `path`, which is made if missing; by default `stockade` in `$XDG_DATA_HOME`,
    /// which is `~/.local/share` if unset. Removes what killed processes have left.
    ///
    /// # Errors
    /// If the directory belongs to somebody else, or a later version wrote it.
    pub fn open(path: Option<&Path>) -> Result<Store, Error> {
        let path = match path {
            Some(path) => {
                std::path::absolute(path).map_err(|e| Error::system("find the store", e))?
            }
            None => default_path()?,
        };
        let fault = |e| Error::system(format_args!("open the store {}", fs::shown(&path)), e);
        let parent = path.parent().unwrap_or(&path);
        // Looked at first: of what it cannot find out create_dir_all says that it exists.
        match parent.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(parent).map_err(fault)?;
            }
            Err(e) => return Err(fault(e)),
            Ok(_) => {}
        }
        match mkdirat(nix::fcntl::AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fault(errno.into())),
        }
        // It may be a link of the user's own.
        let path = std::fs::canonicalize(&path).map_err(fault)?;
        let root = fs::open_dir(&path).map_err(fault)?;
        let owner = fstat(&root).map_err(|e| fault(e.into()))?.st_uid;
        let own = nix::unistd::geteuid().as_raw();
        if owner != own {
            return Err(Error::invalid(format!(
                "the store {} belongs to user {owner}, not to user {own}: give another directory",
                fs::shown(&path)
            )));
        }
        let sub = |dir: &OwnedFd, name: &str| match mkdirat(dir, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {
                fs::open_dir_at(dir, name.as_bytes()).map_err(|e| fault(e.into()))
            }
            Err(errno) => Err(fault(errno.into())),
        };
        let blobs = sub(&sub(&root, "blobs")?, "sha256")?;
        let (layers, tmp) = (sub(&root, "layers")?, sub(&root, "tmp")?);
        sweep(&tmp).map_err(|e| fault(e.into()))?;
        let store = Store {
            path,
            root,
            blobs,
            layers,
            tmp,
        };
        State::read(&store.root)?;
        if let Some(partials) = Partials::of(&store.root).map_err(|e| fault(e.into()))? {
            partials.tidy(&store).map_err(|e| fault(e.into()))?;
        }
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image called `reference`: a name (`latest` if it has no tag), the end of one, an id or the beginning of one.
    /// It stays in the store as long as what is returned lives.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none.
    pub fn resolve(&self, reference: &str) -> Result<Image, Error> {
        loop {
            let id = State::read(&self.root)?.find(reference)?.0.clone();
            let file = match fs::open_file_at(&self.blobs, id.hex().as_bytes()) {
                Ok(file) => file,
                // Removed just now, then the next look finds no such image; or the store is damaged.
                Err(e) if State::read(&self.root)?.images.contains_key(&id) => {
                    return Err(self.missing("configuration", &id, e));
                }
                Err(_) => continue,
            };
            let fault = |e| Error::system(format_args!("hold the image `{id}`"), e);
            let held = fstat(&file).map_err(fault)?;
            let used = Lock::wait(file.into(), Hold::Shared).map_err(fault)?;
            // It may have been removed before we had it, and even have come again as another file.
            let state = State::read(&self.root)?;
            let there = fs::stat_at(&self.blobs, id.hex().as_bytes());
            let (Some(record), Ok(there)) = (state.images.get(&id), there) else {
                continue;
            };
            if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino) {
                continue;
            }
            let given = record.layers.iter().find_map(|layer| layer.given);
            if let Some(given) = given
                && record.layers.iter().any(|layer| layer.given != Some(given))
            {
                return Err(changed(&given));
            }
            let layers = record.layers.iter();
            let layers = layers.map(|layer| self.layer_path(&layer.chain_id));
            return Ok(Image {
                layers: layers.collect(),
                given,
                config: ImageConfig::parse(&self.blob(&id)?)?,
                id,
                _used: Arc::new(used),
            });
        }
    }

    /// Every image, those with names first.
    pub fn list(&self) -> Result<Vec<ImageInfo>, Error> {
        let state = State::read(&self.root)?;
        let mut all = Vec::new();
        for id in state.images.keys() {
            match self.info(&state, id) {
                Ok(info) => all.push(info),
                // Removed since the state was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| {
            (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id))
        });
        Ok(all)
    }

    /// What is known about an image.
    pub fn inspect(&self, reference: &str) -> Result<ImageInfo, Error> {
        let state = State::read(&self.root)?;
        let (id, _) = state.find(reference)?;
        self.info(&state, id)
    }

    /// Gives an image one more name, which another may have had.
    pub fn tag(&self, reference: &str, name: &str) -> Result<(), Error> {
        let name = name::parse(name)?;
        State::change(&self.root, &self.tmp, |state| {
            let id = state.find(reference)?.0.clone();
            state.names.insert(name, id);
            Ok(())
        })
    }

    /// Takes an image for its removal, if nobody uses it. Who resolves it waits for the claim's end, and then finds that
    /// the state does not have it: so the claim is held until that is so.
    pub(super) fn claim(&self, id: &Digest) -> Result<Claim, Error> {
        let fault = |e| Error::system(format_args!("look whether `{id}` is used"), e);
        match fs::open_file_at(&self.blobs, id.hex().as_bytes()) {
            Ok(file) => match Lock::now(file.into(), Hold::Exclusive) {
                Ok(Some(lock)) => Ok(Claim::Free(Some(lock))),
                Ok(None) => Ok(Claim::Used),
                Err(errno) => Err(fault(errno.into())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Claim::Free(None)),
            Err(error) => Err(fault(error)),
        }
    }

    pub(super) fn info(&self, state: &State, id: &Digest) -> Result<ImageInfo, Error> {
        let record = state
            .images
            .get(id)
            .ok_or_else(|| not_found(format!("the image `{id}` is gone")))?;
        let mut dropped = Dropped::default();
        let mut layers = Vec::new();
        for layer in &record.layers {
            dropped += layer.dropped;
            layers.push(LayerInfo {
                diff_id: layer.diff_id.clone(),
                digest: layer.blob.clone(),
                size: layer.size,
                compressed_size: layer.blob_size,
                media_type: layer.media_type.clone(),
                entries: layer.entries,
                path: self.layer_path(&layer.chain_id),
            });
        }
        Ok(ImageInfo {
            id: id.clone(),
            digest: record.manifest.clone(),
            names: state.names_of(id),
            size: record.layers.iter().map(|layer| layer.size).sum(),
            added: record.added,
            config: ImageConfig::parse(&self.blob(id)?)?,
            layers,
            dropped,
            owners: match record.layers.iter().find_map(|layer| layer.given) {
                Some(_) => "sub-ids".into(),
                None => match Ids::detect()? {
                    Ids::Root { .. } => "host ids".into(),
                    ids => format!("folded: {}", ids.why_folded()),
                },
            },
        })
    }

    pub(super) fn layer_path(&self, chain_id: &Digest) -> PathBuf {
        self.path.join("layers").join(chain_id.hex()).join("diff")
    }

    /// A layer that is unpacked, by its chain id.
    pub(super) fn layer(&self, chain_id: &Digest) -> Result<Option<Layer>, Error> {
        let damaged = |e: &dyn std::fmt::Display| {
            bad(
                "store",
                format!("the layer `{chain_id}` in the store is damaged: {e}"),
            )
        };
        let holder = match fs::walk_dir_at(&self.layers, chain_id.hex().as_bytes()) {
            Ok(holder) => holder,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(damaged(&errno)),
        };
        let mut text = Vec::new();
        let mut file = fs::open_file_at(holder, b"layer.json").map_err(|e| damaged(&e))?;
        file.read_to_end(&mut text).map_err(|e| damaged(&e))?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| damaged(&e))
    }

    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        fs::stat_at(&self.blobs, digest.hex().as_bytes()).is_ok()
    }

    /// The contents of a document.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let mut data = Vec::new();
        fs::open_file_at(&self.blobs, digest.hex().as_bytes())
            .and_then(|mut file| file.read_to_end(&mut data))
            .map_err(|e| self.missing("document", digest, e))?;
        Ok(data)
    }

    pub(super) fn missing(&self, what: &str, digest: &Digest, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                not_found(format!("the store lacks the {what} `{digest}`"))
            }
            _ => Error::system(format_args!("read the {what} `{digest}`"), error),
        }
    }
}

/// Whether an image may be removed.
pub(super) enum Claim {
    Used,
    /// Nobody uses it or will, as long as this lives. A damaged store may lack the file to be locked.
    Free(#[allow(dead_code, reason = "it is held")] Option<Lock>),
}

/// The names of the blobs and of the layers that the images have which `keep` chooses.
pub(super) fn needed(
    state: &State,
    keep: impl Fn(&Digest) -> bool,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
    for (id, record) in state.images.iter().filter(|(id, _)| keep(id)) {
        blobs.extend([id.hex().to_string(), record.manifest.hex().to_string()]);
        for layer in &record.layers {
            blobs.insert(layer.blob.hex().to_string());
            layers.insert(layer.chain_id.hex().to_string());
        }
    }
    (blobs, layers)
}

fn default_path() -> Result<PathBuf, Error> {
    let variable = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let data = variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("stockade")).ok_or_else(|| {
        Error::invalid("neither XDG_DATA_HOME nor HOME is set: give the store a directory")
    })
}
