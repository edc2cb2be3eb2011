//! Out of the store: archives that Docker, podman, skopeo and umoci read.

use super::compress::Decoder;
use super::digest::Hashing;
use super::manifest::{
    CONTAINERD_NAME, Descriptor, DockerImage, INDEX, Index, MANIFEST, REF_NAME, parse,
};
use super::read::{Progress, Watch};
use super::state::{Layer, State};
use super::store::Store;
use super::tar_write::Builder;
use super::{Digest, Image, LoadLimits, bad, from_io, fs, into_io, name};
use crate::error::{Error, ErrorKind};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The form of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// What `docker save` writes: a tar file with `manifest.json`, layers uncompressed.
    #[default]
    DockerArchive,
    /// An OCI layout as a tar file, layers as they came.
    OciArchive,
    /// An OCI layout as a directory, layers as they came.
    OciDirectory,
}

/// Where an archive is written to.
#[non_exhaustive]
pub enum Target<'a> {
    /// A file, which is replaced when the archive is whole; or, for [`Format::OciDirectory`], a directory that is
    /// missing or empty.
    Path(PathBuf),
    /// A stream, for the forms that are files.
    Stream(&'a mut dyn Write),
}

impl Format {
    /// The form called `docker-archive`, `oci-archive` or `oci-dir`, as `podman save` calls them.
    pub fn parse(text: &str) -> Result<Format, Error> {
        match text {
            "docker-archive" => Ok(Format::DockerArchive),
            "oci-archive" => Ok(Format::OciArchive),
            "oci-dir" => Ok(Format::OciDirectory),
            _ => Err(Error::invalid(format!(
                "`{}`: a format is docker-archive, oci-archive or oci-dir",
                text.escape_debug()
            ))),
        }
    }
}

/// An image to be saved, held.
struct Saved {
    image: Image,
    /// The names by which it was asked for.
    names: Vec<String>,
    manifest: Digest,
    layers: Vec<Layer>,
}

impl Store {
    /// Writes images into one archive. What is given by a name has it there, what is given by its id has none.
    pub fn save(
        &self,
        references: &[&str],
        format: Format,
        target: Target<'_>,
        progress: Option<&mut Watch<'_>>,
    ) -> Result<(), Error> {
        if references.is_empty() {
            return Err(Error::invalid("no image to save is given"));
        }
        let mut images: Vec<Saved> = Vec::new();
        for reference in references {
            let image = self.resolve(reference)?;
            let state = State::read(&self.root)?;
            let (id, record) = state.find(&image.id.to_string())?;
            let known = name::parse(reference).ok();
            let own = state.names_of(id);
            let name = known.and_then(|known| {
                own.into_iter()
                    .find(|long| *long == known || name::is_end_of(&known, long))
            });
            let again = images
                .iter_mut()
                .find(|saved: &&mut Saved| saved.image.id == *id);
            if let Some(again) = again {
                again.names.extend(name);
                continue;
            }
            images.push(Saved {
                names: name.into_iter().collect(),
                manifest: record.manifest.clone(),
                layers: record.layers.clone(),
                image,
            });
        }
        let mut quiet = |_: &Progress| std::ops::ControlFlow::Continue(());
        let mut saving = Saving {
            store: self,
            images,
            watch: progress.unwrap_or(&mut quiet),
        };
        match (format, target) {
            (Format::OciDirectory, Target::Path(path)) => saving.directory(&path),
            (Format::OciDirectory, Target::Stream(_)) => Err(Error::invalid(
                "an oci-dir is a directory, and cannot be written to a stream",
            )),
            (_, Target::Stream(to)) => saving.tar(format, to),
            (_, Target::Path(path)) => {
                let fault = |e| from_io(format_args!("write {}", fs::shown(&path)), e);
                // A device or a pipe is written to as it is.
                if std::fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
                    let mut file = File::options().write(true).open(&path).map_err(fault)?;
                    return saving.tar(format, &mut file);
                }
                let (partial, mut file) = beside(&path).map_err(fault)?;
                let written = saving.tar(format, &mut file).and_then(|()| {
                    file.sync_all().map_err(fault)?;
                    std::fs::rename(&partial, &path).map_err(fault)
                });
                if written.is_err() {
                    let _ = std::fs::remove_file(&partial);
                }
                written
            }
        }
    }
}

/// A new file beside `path`. Another thread may have one, and a process of the same id, in another container or killed.
fn beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}-{count}.partial", std::process::id()));
        match File::create_new(&name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((name.into(), file?)),
        }
    }
}

struct Saving<'a, 'w> {
    store: &'a Store,
    images: Vec<Saved>,
    watch: &'a mut Watch<'w>,
}

impl Saving<'_, '_> {
    fn tar(&mut self, format: Format, to: &mut dyn Write) -> Result<(), Error> {
        let fault = |e| from_io("write the archive", e);
        let mut builder = Builder::new(BufWriter::with_capacity(1 << 17, to));
        match format {
            Format::DockerArchive => self.docker(&mut builder)?,
            _ => {
                builder.append_bytes("oci-layout", LAYOUT).map_err(fault)?;
                builder
                    .append_bytes("index.json", &self.index()?)
                    .map_err(fault)?;
                builder.append_dir("blobs/").map_err(fault)?;
                builder.append_dir("blobs/sha256/").map_err(fault)?;
                self.blobs(|name, size, reader| {
                    builder.append_stream(&format!("blobs/sha256/{name}"), size, reader)
                })?;
            }
        }
        builder.finish().map(drop).map_err(fault)
    }

    fn directory(&mut self, path: &Path) -> Result<(), Error> {
        let fault = |e| from_io(format_args!("write {}", fs::shown(path)), e);
        std::fs::create_dir_all(path).map_err(fault)?;
        if std::fs::read_dir(path).map_err(fault)?.next().is_some() {
            return Err(Error::invalid(format!("{} is not empty", fs::shown(path))));
        }
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(fault)?;
        self.blobs(|name, size, reader| {
            let mut file = File::create_new(blobs.join(name))?;
            match io::copy(reader, &mut file)? == size {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })?;
        std::fs::write(path.join("oci-layout"), LAYOUT).map_err(fault)?;
        // By this file a layout is known: it comes last.
        std::fs::write(path.join("index.json"), self.index()?).map_err(fault)
    }

    /// Docker's form: every layer uncompressed, under its diff id.
    fn docker(&mut self, builder: &mut Builder<BufWriter<&mut dyn Write>>) -> Result<(), Error> {
        let fault = |e| from_io("write the archive", e);
        let mut done = BTreeSet::new();
        let mut manifest = Vec::new();
        for i in 0..self.images.len() {
            let (id, layers) = (
                self.images[i].image.id.clone(),
                self.images[i].layers.clone(),
            );
            for (n, layer) in layers.iter().enumerate() {
                if done.insert(layer.diff_id.clone()) {
                    let what = format!("layer {}/{}", n + 1, layers.len());
                    let name = format!("{}.tar", layer.diff_id.hex());
                    let reader = self.reader(&layer.blob, layer.size, what)?;
                    let limits = LoadLimits::default().size(u64::MAX).ratio(u64::MAX);
                    let decoder = Decoder::new(reader, &limits).map_err(fault)?;
                    let mut tar = Checked::new(decoder, layer.diff_id.clone());
                    builder
                        .append_stream(&name, layer.size, &mut tar)
                        .map_err(fault)?;
                    tar.end().map_err(fault)?;
                }
            }
            let config = format!("{}.json", id.hex());
            if done.insert(id.clone()) {
                builder
                    .append_bytes(&config, &self.store.blob(&id)?)
                    .map_err(fault)?;
            }
            manifest.push(DockerImage {
                config,
                repo_tags: Some(self.images[i].names.clone()),
                layers: layers
                    .iter()
                    .map(|layer| format!("{}.tar", layer.diff_id.hex()))
                    .collect(),
            });
        }
        let manifest = serde_json::to_vec(&manifest).expect("texts only");
        builder
            .append_bytes("manifest.json", &manifest)
            .map_err(fault)
    }

    /// The index of an OCI layout.
    fn index(&self) -> Result<Vec<u8>, Error> {
        let mut manifests = Vec::new();
        for saved in &self.images {
            let json = self.store.blob(&saved.manifest)?;
            #[derive(serde::Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct Said {
                #[serde(default)]
                media_type: String,
            }
            let said: Said = parse("the manifest", &json)?;
            let media_type = match said.media_type.as_str() {
                "" => MANIFEST,
                said => said,
            };
            let descriptor = Descriptor::new(media_type, saved.manifest.clone(), json.len() as u64);
            if saved.names.is_empty() {
                manifests.push(descriptor.clone());
            }
            for whole in &saved.names {
                // umoci and skopeo choose by the tag; where that says too little, by the whole name.
                let tag = |name: &str| name::split(name).1.unwrap_or_default().to_string();
                let names = self.images.iter().flat_map(|other| &other.names);
                let short = match names.filter(|other| tag(other) == tag(whole)).count() {
                    1 => tag(whole),
                    _ => whole.clone(),
                };
                let mut named = descriptor.clone();
                named.annotations.insert(REF_NAME.into(), short);
                named
                    .annotations
                    .insert(CONTAINERD_NAME.into(), whole.clone());
                manifests.push(named);
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: INDEX.into(),
            manifests,
        };
        Ok(serde_json::to_vec(&index).expect("texts and numbers only"))
    }

    /// Every blob of the images once, checked as it passes.
    fn blobs(
        &mut self,
        mut add: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut all: Vec<(Digest, String)> = Vec::new();
        for saved in &self.images {
            let count = saved.layers.len();
            for (n, layer) in saved.layers.iter().enumerate() {
                all.push((layer.blob.clone(), format!("layer {}/{count}", n + 1)));
            }
            all.push((saved.image.id.clone(), "configuration".into()));
            all.push((saved.manifest.clone(), "manifest".into()));
        }
        let mut done = BTreeSet::new();
        for (digest, what) in all {
            if done.insert(digest.clone()) {
                let file = self.open(&digest)?;
                let size = file
                    .metadata()
                    .map_err(|e| from_io("read the store", e))?
                    .len();
                let reader = self.reader(&digest, size, what)?;
                let mut checked = Checked::new(reader, digest.clone());
                add(digest.hex(), size, &mut checked)
                    .and_then(|()| checked.end())
                    .map_err(|e| from_io(format_args!("write the blob `{digest}`"), e))?;
            }
        }
        Ok(())
    }

    fn open(&self, digest: &Digest) -> Result<File, Error> {
        fs::open_file_at(&self.store.blobs, digest.hex().as_bytes())
            .map_err(|e| self.store.missing("blob", digest, e))
    }

    fn reader<'s>(
        &'s mut self,
        digest: &Digest,
        total: u64,
        what: String,
    ) -> Result<impl Read + use<'s>, Error> {
        let file = self.open(digest)?;
        let progress = Progress {
            what,
            done: 0,
            total: Some(total),
        };
        Ok(Told {
            file,
            watch: &mut *self.watch,
            progress,
        })
    }
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

struct Told<'a, 'w> {
    file: File,
    watch: &'a mut Watch<'w>,
    progress: Progress,
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        let before = self.progress.done >> 20;
        self.progress.done += n as u64;
        if (n == 0 || before != self.progress.done >> 20) && (self.watch)(&self.progress).is_break()
        {
            return Err(into_io(Error::new(ErrorKind::State, "it was called off")));
        }
        Ok(n)
    }
}

/// What must have a digest, which is known at its end.
struct Checked<R> {
    inner: Hashing<R>,
    said: Digest,
}

impl<R: Read> Checked<R> {
    fn new(reader: R, said: Digest) -> Self {
        Checked {
            inner: Hashing::new(reader),
            said,
        }
    }

    fn end(mut self) -> io::Result<()> {
        io::copy(&mut self.inner, &mut io::sink())?;
        let (_, is, _) = self.inner.finish();
        match is == self.said {
            true => Ok(()),
            false => Err(into_io(bad(
                "digest",
                format!(
                    "`{}` in the store is damaged: its digest is `{is}`",
                    self.said
                ),
            ))),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}
