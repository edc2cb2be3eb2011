//! Images: a store of layers, what goes into it and what comes out.
//!
//! ```no_run
//! use stockade::image::{Source, Store};
//!
//! # fn main() -> Result<(), stockade::Error> {
//! let store = Store::open(None)?;
//! for image in store.load(Source::Path("python.tar".into()), Default::default())? {
//!     println!("{} {}", image.id, image.names.join(" "));
//! }
//! let image = store.resolve("python:3.12")?; // kept until it is dropped
//! println!("{:?}", image.layers);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Store`] is a directory that any number of processes use at once, with no daemon. What it holds is named by its
//! digest, checked on the way in; what is written appears whole or not at all, wherever the writer is killed. Layers are
//! unpacked into the form that overlayfs and fuse-overlayfs mount. Nothing that is read is trusted: see [`LoadLimits`], and
//! `docs/images.md` for what becomes of every kind of entry.

mod append;
mod build;
mod commit;
mod compress;
mod config;
mod diff;
mod digest;
mod flatten;
mod fs;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod layer;
mod limits;
mod lock;
mod lower;
mod manifest;
mod name;
mod owners;
#[cfg_attr(
    not(feature = "pull"),
    allow(dead_code, reason = "what others have left is still removed")
)]
mod partial;
mod prune;
#[cfg(feature = "pull")]
mod pull;
mod read;
mod reading;
mod run;
mod save;
mod source;
mod state;
mod step;
mod store;
mod tar;
mod tar_write;
mod unpack;
mod verify;
mod words;

#[cfg(test)]
mod tests;

pub use build::{Build, BuildEvent};
pub use commit::Commit;
pub use config::{Config, ImageConfig};
pub use digest::Digest;
pub use layer::{Upper, layer_from_upper};
pub use limits::{Dropped, LoadLimits};
pub use prune::{DiskUse, Removed};
#[cfg(feature = "pull")]
pub use pull::Pull;
pub use read::{Import, Load, Progress, Source};
pub use save::{Format, Target};
pub use step::{Command, Copy, Step};
pub use store::{Image, ImageInfo, LayerInfo, Store};
pub use verify::Verified;

pub(crate) use append::Note;
#[cfg(any(feature = "capi", feature = "python"))]
pub(crate) use build::BuildRequest;
pub(crate) use run::{in_image, of, program};
pub(crate) use tar::{Entry, Kind};
pub(crate) use tar_write::Builder;

use crate::error::{Error, ErrorKind};
use limits::Budget;
use std::fmt::Display;
use std::io;

/// What was read is not what it should be. `rule` is the word for it that programs can rely on.
fn bad(rule: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, message).with_step(rule)
}

/// There is no image, or no layer of it, of that name.
fn not_found(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

/// Carries an error of ours through a reader.
fn into_io(error: Error) -> io::Error {
    io::Error::other(error)
}

/// Whether `error` carries one of ours.
fn carried(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Error>())
}

/// What came out of a reader: an error of ours that it carried, or one of the system's.
pub(crate) fn from_io(what: impl Display, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => bad("format", format!("{what}: it is cut off")),
            _ => Error::system(what, error),
        },
    }
}

/// Puts what it was about in front of an error of ours.
trait About<T> {
    fn about(self, what: impl Display) -> Result<T, Error>;
}

impl<T> About<T> for Result<T, Error> {
    fn about(self, what: impl Display) -> Result<T, Error> {
        self.map_err(|error| error.about(what))
    }
}
