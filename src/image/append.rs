//! An image on another: one more layer, another configuration, or both.

use super::config::{ImageConfig, rfc3339};
use super::lock::{Hold, Lock, now};
use super::lower::Lower;
use super::reading::{Reading, Stack};
use super::state::{Layer, State};
use super::store::{Claim, Store};
use super::{Digest, Image, ImageInfo, LoadLimits, bad, fs, name, not_found};
use crate::error::Error;
use crate::wire::LOWERS_MAX;
use std::io::Write;
use std::path::PathBuf;

/// What an image is made on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(super) layers: Vec<Layer>,
    pub(crate) config: ImageConfig,
}

/// What the history of an image says about its last change.
#[derive(Default)]
pub(crate) struct Note<'a> {
    pub by: &'a str,
    pub author: &'a str,
    pub comment: &'a str,
}

/// Writes a layer as a tar stream.
pub(crate) type WriteLayer<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

impl Ground {
    /// Nothing: no layer, and a configuration that says only what machines it is for.
    pub(super) fn scratch() -> Ground {
        Ground {
            layers: Vec::new(),
            config: ImageConfig::empty(),
        }
    }
}

impl Store {
    /// Makes an image of another and one more layer, which `write` writes as a tar stream (see
    /// [`layer_from_upper`](super::layer_from_upper)), with the configuration as `change` leaves it; `by` says in its
    /// history what made it. Without `base` the layer is all there is.
    pub fn append(
        &self,
        base: Option<&Image>,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
        change: impl FnOnce(&mut ImageConfig),
        names: &[&str],
        by: &str,
    ) -> Result<ImageInfo, Error> {
        let mut ground = base.map_or_else(|| Ok(Ground::scratch()), |base| self.ground(base))?;
        change(&mut ground.config);
        let mut write = Some(write);
        let mut once = |to: &mut dyn Write| write.take().expect("it is called once")(to);
        let note = Note {
            by,
            ..Note::default()
        };
        Ok(self.compose(ground, Some(&mut once), Some(note), names)?.0)
    }

    /// What `image` is made of.
    pub(crate) fn ground(&self, image: &Image) -> Result<Ground, Error> {
        let state = State::read(&self.root)?;
        let record = state
            .images
            .get(&image.id)
            .ok_or_else(|| not_found(format!("the image `{}` is gone", image.id)))?;
        Ok(Ground {
            layers: record.layers.clone(),
            config: image.config.clone(),
        })
    }

    /// Makes an image of what there is and, if `write` writes one, one more layer; held, so that it stays even without a
    /// name. A layer needs a note; without one, history says nothing of it.
    pub(crate) fn compose(
        &self,
        ground: Ground,
        write: Option<&mut WriteLayer<'_>>,
        note: Option<Note<'_>>,
        names: &[&str],
    ) -> Result<(ImageInfo, Image), Error> {
        let names = names
            .iter()
            .map(|text| name::parse(text))
            .collect::<Result<_, _>>()?;
        // Until it is held nothing may be removed.
        let _adding = Lock::of(&self.root, "lock", Hold::Shared)?;
        let Ground { layers, mut config } = ground;
        for layer in &layers {
            if self.layer(&layer.chain_id)?.is_none() || !self.has_blob(&layer.blob) {
                return Err(not_found(format!(
                    "the layer `{}` has been removed from the store meanwhile",
                    layer.chain_id
                )));
            }
        }
        let mut reading = Reading::new(self, &LoadLimits::default(), None)?;
        let mut stack = Stack { layers };
        let mut made = None;
        if let Some(write) = write {
            if stack.layers.len() as u64 >= LOWERS_MAX {
                return Err(bad(
                    "limit layers",
                    format!(
                        "an image of more than {LOWERS_MAX} layers could not be run: `export` this one and `import` it as \
                         one layer"
                    ),
                ));
            }
            reading.written(&mut stack, write, "layer".into())?;
            made = stack.layers.last().map(|layer| layer.diff_id.clone());
        }
        if let Some(note) = note {
            if !note.author.is_empty() {
                let author = note.author.into();
                config.other.insert("author".into(), author);
            }
            config.push(made, &rfc3339(now().0), &note);
        }
        let image = reading.image(&config.to_json(), None, stack, names)?;
        let info = reading.finish(vec![image])?.remove(0);
        let image = self.resolve(info.id.as_str())?;
        Ok((info, image))
    }

    /// Removes an image that has no name and that nobody uses; what it is made of stays for the next removal.
    pub(super) fn forget(&self, id: &Digest) -> Result<(), Error> {
        State::change(&self.root, &self.tmp, |state| {
            if state.names_of(id).is_empty()
                && let claim @ Claim::Free(_) = self.claim(id)?
            {
                state.images.remove(id);
                return Ok(Some(claim));
            }
            Ok(None)
        })
        .map(drop)
    }

    /// Where layers are unpacked.
    pub(super) fn layer_paths(&self, layers: &[Layer]) -> Vec<PathBuf> {
        let path = |layer: &Layer| self.layer_path(&layer.chain_id);
        layers.iter().map(path).collect()
    }

    /// What layers show together.
    pub(super) fn view(&self, layers: &[Layer]) -> Result<Lower, Error> {
        let open = |layer: &Layer| {
            let holder = fs::open_dir_at(&self.layers, layer.chain_id.hex().as_bytes())?;
            fs::walk_dir_at(holder, b"diff")
        };
        let all: nix::Result<_> = layers.iter().rev().map(open).collect();
        all.map(Lower)
            .map_err(|e| Error::system("open the layers of the image", e))
    }
}
