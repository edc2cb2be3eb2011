//! The root file system that an image's layers make together, as one tar stream: every owner, device node and bit that
//! came with them is in it, which the unpacked layers may lack.
//!
//! The layers are read twice: first from the top down to find which entry of which layer counts, then from the bottom up to
//! write those.

use super::compress::Decoder;
use super::fs::components;
use super::limits::Paths;
use super::read::{Progress, Watch};
use super::state::{Layer, State};
use super::store::Store;
use super::tar::{Archive, Entry, Kind};
use super::tar_write::Builder;
use super::{LoadLimits, from_io, fs, into_io};
use crate::error::{Error, ErrorKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Read, Write};

impl Store {
    /// Writes the whole root file system of an image as one tar stream, as `docker export`: what its layers make
    /// together, with the owners, device nodes and set-id bits that came with them. [`import`](Store::import) takes it.
    pub fn export(
        &self,
        reference: &str,
        to: &mut dyn Write,
        progress: Option<&mut Watch<'_>>,
    ) -> Result<(), Error> {
        let image = self.resolve(reference)?;
        let state = State::read(&self.root)?;
        let layers = &state.find(image.id.as_str())?.1.layers;
        let mut quiet = |_: &Progress| std::ops::ControlFlow::Continue(());
        let watch = progress.unwrap_or(&mut quiet);
        let mut above = Above::default();
        let mut kept: Vec<HashMap<u64, Vec<u8>>> = Vec::new();
        for layer in layers.iter().rev() {
            kept.push(above.look(&mut self.archive(layer)?)?);
        }
        let mut builder = Builder::new(BufWriter::with_capacity(1 << 17, to));
        for (n, (layer, kept)) in layers.iter().zip(kept.iter().rev()).enumerate() {
            let mut now = Progress {
                what: format!("layer {}/{}", n + 1, layers.len()),
                done: 0,
                total: Some(layer.size),
            };
            let mut archive = self.archive(layer)?;
            // The names of files whose own are not kept.
            let mut renamed: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            let mut at = 0;
            while let Some(entry) = archive.next()? {
                if let Some(path) = kept.get(&at) {
                    copy(&mut builder, &mut archive, entry, path, &mut renamed)?;
                }
                at += 1;
                let before = now.done >> 20;
                now.done = archive.position();
                if now.done >> 20 != before && watch(&now).is_break() {
                    return Err(Error::new(ErrorKind::State, "it was called off"));
                }
            }
        }
        builder
            .finish()
            .map(drop)
            .map_err(|e| from_io("write the tar stream", e))
    }

    fn archive(&self, layer: &Layer) -> Result<Archive<Decoder<File>>, Error> {
        let file = fs::open_file_at(&self.blobs, layer.blob.hex().as_bytes())
            .map_err(|e| self.missing("layer", &layer.blob, e))?;
        // It was within limits when it came.
        let limits = LoadLimits::default().size(u64::MAX).ratio(u64::MAX);
        let decoder = Decoder::new(file, &limits).map_err(|e| from_io("read the layer", e))?;
        Ok(Archive::new(decoder))
    }
}

/// Writes an entry under the name `path`. A hard link whose target is not kept becomes the file, which is the first of
/// them; the others link to it.
fn copy<R: Read>(
    builder: &mut Builder<impl Write>,
    archive: &mut Archive<R>,
    mut entry: Entry,
    path: &[u8],
    renamed: &mut HashMap<Vec<u8>, Vec<u8>>,
) -> Result<(), Error> {
    let own = normal(&entry.path)?;
    if own != path {
        renamed.insert(own, path.to_vec());
    }
    if entry.kind == Kind::Hardlink {
        let target = normal(&entry.link)?;
        let target = renamed.get(&target).cloned().unwrap_or(target);
        // It is that file.
        if target == path {
            return Ok(());
        }
        entry.link = target;
    }
    entry.path = match (path, entry.kind) {
        (b"", _) => b"./".to_vec(),
        (path, Kind::Directory) => [path, b"/"].concat(),
        (path, _) => path.to_vec(),
    };
    let mut data = EntryData(archive);
    let what = format_args!("export `{}`", path.escape_ascii());
    builder
        .append(&entry, &mut data)
        .map_err(|e| from_io(what, e))
}

struct EntryData<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for EntryData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.data(buffer).map_err(into_io)
    }
}

/// What the layers above the one that is looked at have and hide.
#[derive(Default)]
struct Above {
    /// Every path, and whether it is a directory.
    paths: HashMap<Vec<u8>, bool>,
    /// Paths that are removed, with all below.
    removed: HashSet<Vec<u8>>,
    held: Paths,
    /// Directories of which nothing below is seen.
    opaque: HashSet<Vec<u8>>,
}

/// What one layer has under a path.
struct Own {
    at: u64,
    directory: bool,
    /// The path that this is a hard link to.
    link: Option<Vec<u8>>,
}

impl Above {
    /// Which entries of a layer are seen, by their place in it, and under which paths.
    fn look<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<HashMap<u64, Vec<u8>>, Error> {
        let mut own: BTreeMap<Vec<u8>, Own> = BTreeMap::new();
        let (mut removed, mut opaque) = (BTreeSet::new(), BTreeSet::new());
        let mut at = 0;
        while let Some(entry) = archive.next()? {
            self.note(&entry, at, &mut own, &mut removed, &mut opaque)?;
            at += 1;
        }
        let mut kept = HashMap::new();
        // Of a file whose own name is hidden, the first hard link that is not.
        let mut heirs: HashMap<&[u8], (u64, Vec<u8>)> = HashMap::new();
        for (path, this) in &own {
            if !self.hides(path) {
                kept.insert(this.at, path.clone());
            }
        }
        for (path, this) in &own {
            if let (Some(link), Some(_)) = (&this.link, kept.get(&this.at))
                && let Some(target) = own.get(link)
                && !kept.contains_key(&target.at)
            {
                let heir = heirs.entry(link).or_insert((this.at, path.clone()));
                if this.at < heir.0 {
                    *heir = (this.at, path.clone());
                }
            }
        }
        let heirs: Vec<_> = heirs
            .into_iter()
            .map(|(link, (_, path))| (own[link].at, path))
            .collect();
        kept.extend(heirs);
        for (path, this) in own {
            // What is above says what it is; but a file here hides what was below a directory of lower layers, even where a
            // layer above has a directory again.
            if !this.directory && self.paths.get(&path) == Some(&true) {
                self.opaque.insert(path);
            } else {
                self.paths.entry(path).or_insert(this.directory);
            }
        }
        self.removed.extend(removed);
        self.opaque.extend(opaque);
        Ok(kept)
    }

    fn note(
        &mut self,
        entry: &Entry,
        at: u64,
        own: &mut BTreeMap<Vec<u8>, Own>,
        removed: &mut BTreeSet<Vec<u8>>,
        opaque: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), Error> {
        let parts = components(&entry.path, "the path")?;
        let path = parts.join(&b'/');
        self.held.hold(&path)?;
        let name = parts.last().copied().unwrap_or_default();
        let parent = || parts[..parts.len().saturating_sub(1)].join(&b'/');
        if name == b".wh..wh..opq" {
            opaque.insert(parent());
        } else if let Some(hidden) = name.strip_prefix(b".wh.") {
            if !hidden.starts_with(b".wh.") {
                let parent = parent();
                let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
                removed.insert([&parent, slash, hidden].concat());
            }
        } else {
            let directory = entry.kind == Kind::Directory;
            if !directory && own.get(&path).is_some_and(|old| old.directory) {
                let below = [&path[..], b"/"].concat();
                while let Some((other, _)) = own.range(below.clone()..).next()
                    && other.starts_with(&below)
                {
                    let other = other.clone();
                    own.remove(&other);
                }
            }
            let link = match entry.kind {
                Kind::Hardlink => Some(normal(&entry.link)?),
                _ => None,
            };
            let new = Own {
                at,
                directory,
                link,
            };
            own.insert(path, new);
        }
        Ok(())
    }

    /// Whether layers above keep `path` of a layer below from being seen.
    fn hides(&self, path: &[u8]) -> bool {
        let gone = |path: &[u8]| self.removed.contains(path);
        if self.paths.contains_key(path) || gone(path) {
            return true;
        }
        if !path.is_empty() && self.opaque.contains(&b""[..]) {
            return true;
        }
        let parents = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| &path[..i]);
        parents.into_iter().any(|parent| {
            gone(parent) || self.opaque.contains(parent) || self.paths.get(parent) == Some(&false)
        })
    }
}

fn normal(path: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(components(path, "the path")?.join(&b'/'))
}
