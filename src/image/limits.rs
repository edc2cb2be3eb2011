//! How much of an image is read before it is refused, and what is left out of it.

use super::bad;
use super::tar::{Entry, Kind};
use crate::error::Error;
use serde::{Deserialize, Serialize};

/// Most that one call reads from an image. What is beyond is refused with an [`ErrorKind::Image`] whose
/// [`step`](crate::Error::step) is `"limit size"`, `"limit entries"`, `"limit ratio"`, `"limit layers"` or
/// `"limit metadata"`, and nothing of it is kept.
///
/// [`ErrorKind::Image`]: crate::ErrorKind::Image
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadLimits {
    /// Bytes of all layers when unpacked, holes in sparse files included (default 64 GiB).
    pub size: u64,
    /// Files, directories and other entries of all layers (default 2 million).
    pub entries: u64,
    /// How many times as large a compressed layer may become (default 400). The first 256 MiB are free.
    pub ratio: u64,
    /// Layers of an image (default 500, which is also the most that Linux mounts).
    pub layers: usize,
}

impl Default for LoadLimits {
    fn default() -> Self {
        LoadLimits {
            size: 64 << 30,
            entries: 2_000_000,
            ratio: 400,
            layers: 500,
        }
    }
}

impl LoadLimits {
    /// Sets [`size`](Self::size).
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Sets [`entries`](Self::entries).
    pub fn entries(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// Sets [`ratio`](Self::ratio).
    pub fn ratio(mut self, ratio: u64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets [`layers`](Self::layers).
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }
}

/// What is left of the limits, over all layers of a call.
pub(super) struct Budget {
    limits: LoadLimits,
    size: u64,
    entries: u64,
}

impl Budget {
    pub fn new(limits: &LoadLimits) -> Self {
        Budget {
            limits: limits.clone(),
            size: limits.size,
            entries: limits.entries,
        }
    }

    pub fn limits(&self) -> &LoadLimits {
        &self.limits
    }

    /// Counts an entry.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.entries = self.entries.checked_sub(1).ok_or_else(|| {
            let most = self.limits.entries;
            bad(
                "limit entries",
                format!("there are more than {most} entries"),
            )
        })?;
        let size = match entry.kind {
            Kind::File => entry.size,
            _ => 0,
        };
        self.size = self.size.checked_sub(size).ok_or_else(|| {
            let most = self.limits.size;
            bad(
                "limit size",
                format!("it unpacks to more than {most} bytes"),
            )
        })?;
        Ok(())
    }
}

/// Most bytes of paths that are held in memory for a layer: entries are counted, but each may have a path of 4 KiB.
const PATHS_MAX: usize = if cfg!(test) { 1 << 20 } else { 128 << 20 };

/// What is held of paths.
#[derive(Default)]
pub(super) struct Paths(usize);

impl Paths {
    /// Counts one more.
    pub fn hold(&mut self, path: &[u8]) -> Result<(), Error> {
        self.0 += path.len();
        match self.0 <= PATHS_MAX {
            true => Ok(()),
            false => Err(bad(
                "limit entries",
                format!("the paths of its entries take more than {PATHS_MAX} bytes"),
            )),
        }
    }
}

/// What the unpacked form of an image lacks. Its layers are kept as they came too, and saved so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Dropped {
    /// Device nodes, which only root may make.
    pub devices: u64,
    /// Set-user-id and set-group-id bits: sandboxes ignore them.
    pub set_id: u64,
    /// File capabilities (`security.capability`): sandboxes ignore them.
    pub capabilities: u64,
    /// Other extended attributes that are not the user's own.
    pub xattrs: u64,
    /// Files whose owner or group is another in the unpacked form: 0, where no id of the host's stands for it; or where none
    /// does for any, the one that all belong to.
    pub owners: u64,
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.devices += other.devices;
        self.set_id += other.set_id;
        self.capabilities += other.capabilities;
        self.xattrs += other.xattrs;
        self.owners += other.owners;
    }
}
