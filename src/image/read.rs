//! Into the store: archives of images, OCI layouts, root file systems.

use super::append::Note;
use super::config::{Config, ImageConfig, architecture, rfc3339};
use super::lock::now;
use super::manifest::{DOCUMENT_MAX, Platform};
use super::reading::{Expected, Reading, Stack};
use super::source::Bundle;
use super::store::Store;
use super::{ImageInfo, LoadLimits, bad, from_io, layer, name};
use crate::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Where an image is read from.
#[non_exhaustive]
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// A stream. An archive of images is copied to the store's temporary directory first, as it has to be read in
    /// another order.
    Stream(Box<dyn Read>),
}

/// How far a long call is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What is read or written: `layer 2/5`.
    pub what: String,
    /// Bytes of it that are done.
    pub done: u64,
    /// Bytes of it in all, if that is known.
    pub total: Option<u64>,
}

/// Called some times a second at most for each MiB; [`ControlFlow::Break`] ends the call with a
/// [`State`](crate::ErrorKind::State) error, and nothing of it is kept.
pub(super) type Watch<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// How to load images.
#[derive(Default)]
pub struct Load<'a> {
    platform: Option<String>,
    name: Option<String>,
    limits: LoadLimits,
    progress: Option<&'a mut Watch<'a>>,
}

impl<'a> Load<'a> {
    /// The platform to choose where there are several, as `os/architecture[/variant]` (default: this machine's).
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// One more name for the image, if there is one only.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How much to read.
    pub fn limits(mut self, limits: LoadLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What is told how far it is.
    pub fn progress(mut self, progress: &'a mut Watch<'a>) -> Self {
        self.progress = Some(progress);
        self
    }
}

/// How to make an image of a root file system.
#[derive(Default)]
pub struct Import<'a> {
    name: Option<String>,
    config: Config,
    limits: LoadLimits,
    progress: Option<&'a mut Watch<'a>>,
}

impl<'a> Import<'a> {
    /// The image's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How its programs want to be run.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How much to read.
    pub fn limits(mut self, limits: LoadLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What is told how far it is.
    pub fn progress(mut self, progress: &'a mut Watch<'a>) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl Store {
    /// Reads every image of an archive that `docker save` or `podman save` wrote, or of an OCI layout, as a tar file
    /// (plain, gzip or zstd) or a directory. A name that another image has becomes this one's.
    ///
    /// # Errors
    /// [`Image`](crate::ErrorKind::Image) if it is damaged or hostile.
    pub fn load(&self, source: Source, options: Load<'_>) -> Result<Vec<ImageInfo>, Error> {
        let platform = match &options.platform {
            Some(text) => parse_platform(text)?,
            None => own_platform(),
        };
        let extra = options.name.as_deref().map(name::parse).transpose()?;
        let mut reading = Reading::new(self, &options.limits, options.progress)?;
        let bundle = match source {
            Source::Path(path) => {
                let what = format!("open {}", super::fs::shown(&path));
                let file = File::open(&path).map_err(|e| Error::system(&what, e))?;
                match file
                    .metadata()
                    .map_err(|e| Error::system(&what, e))?
                    .is_dir()
                {
                    true => Bundle::Directory(file.into()),
                    false => Bundle::open(file, &reading.scratch, &options.limits)?,
                }
            }
            Source::Stream(mut stream) => {
                let (file, _) = reading.scratch.file()?;
                let most = options.limits.size;
                let mut watched =
                    reading.watched((&mut stream).take(most + 1), "archive".into(), None);
                let n = io::copy(&mut watched, &mut &file)
                    .map_err(|e| from_io("read the archive", e))?;
                if n > most {
                    return Err(bad(
                        "limit size",
                        format!("the archive has more than {most} bytes"),
                    ));
                }
                Bundle::open(file, &reading.scratch, &options.limits)?
            }
        };
        let mut images = match bundle.small("manifest.json", DOCUMENT_MAX)? {
            Some(json) => reading.docker(&bundle, &json)?,
            None => match bundle.small("index.json", DOCUMENT_MAX)? {
                Some(json) => reading.layout(&bundle, &json, &platform)?,
                None => {
                    return Err(bad(
                        "format",
                        "it is no archive of images (it has no manifest.json and no index.json); \
                         a root file system is for `import`",
                    ));
                }
            },
        };
        if let Some(extra) = extra {
            let one = images.iter().all(|image| image.id == images[0].id);
            if !one {
                return Err(Error::invalid(format!(
                    "a name can be given to one image, and the archive has {}",
                    images.len()
                )));
            }
            images[0].names.push(extra);
        }
        reading.finish(images)
    }

    /// Makes an image of one layer of a root file system: a tar stream (plain, gzip or zstd), or a directory.
    pub fn import(&self, source: Source, options: Import<'_>) -> Result<ImageInfo, Error> {
        let names = options.name.as_deref().map(name::parse).transpose()?;
        let mut reading = Reading::new(self, &options.limits, options.progress)?;
        let mut stack = Stack::default();
        let what = || "root file system".to_string();
        match source {
            Source::Stream(stream) => {
                reading.layer(&mut stack, stream, None, Expected::default(), what())?
            }
            Source::Path(path) => {
                let fault = |e| Error::system(format_args!("open {}", super::fs::shown(&path)), e);
                let file = File::open(&path).map_err(fault)?;
                let meta = file.metadata().map_err(fault)?;
                if meta.is_dir() {
                    reading.written(
                        &mut stack,
                        |to| layer::layer_from_tree(file.as_fd(), to).map(drop),
                        what(),
                    )?;
                } else {
                    let size = meta.is_file().then_some(meta.len());
                    reading.layer(
                        &mut stack,
                        Box::new(file),
                        size,
                        Expected::default(),
                        what(),
                    )?;
                }
            }
        }
        let mut config = ImageConfig::empty();
        config.config = options.config;
        let note = Note {
            by: "stockade import",
            ..Note::default()
        };
        config.push(
            Some(stack.layers[0].diff_id.clone()),
            &rfc3339(now().0),
            &note,
        );
        let image = reading.image(&config.to_json(), None, stack, names.into_iter().collect())?;
        Ok(reading.finish(vec![image])?.remove(0))
    }
}

/// This machine's.
pub(super) fn own_platform() -> Platform {
    Platform {
        os: "linux".into(),
        architecture: architecture().into(),
        variant: String::new(),
    }
}

pub(super) fn parse_platform(text: &str) -> Result<Platform, Error> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        ["linux", architecture] | ["linux", architecture, _] if !architecture.is_empty() => {
            Ok(Platform {
                os: "linux".into(),
                architecture: architecture.into(),
                variant: parts.get(2).unwrap_or(&"").to_string(),
            })
        }
        _ => Err(Error::invalid(format!(
            "`{}`: a platform is linux/ARCHITECTURE[/VARIANT], such as linux/amd64",
            text.escape_debug()
        ))),
    }
}
