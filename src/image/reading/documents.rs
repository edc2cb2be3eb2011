//! The documents of an archive, which say what its images are: those of Docker's form and those of an OCI layout.

use super::{Expected, Reading, Ready, Stack, check_digest, check_size};
use crate::error::{Error, ErrorKind};
use crate::image::config::ImageConfig;
use crate::image::manifest::{
    DOCUMENT_MAX, Descriptor, DockerImage, Document, Manifest, Platform, parse,
};
use crate::image::source::Bundle;
use crate::image::{About, Digest, bad, name};
use std::collections::BTreeMap;

impl Reading<'_, '_> {
    /// The images of a Docker archive.
    pub fn docker(&mut self, bundle: &Bundle, json: &[u8]) -> Result<Vec<Ready>, Error> {
        let images: Vec<DockerImage> = parse("manifest.json", json)?;
        if images.is_empty() {
            return Err(bad("manifest", "the archive has no image"));
        }
        let mut ready = Vec::new();
        for image in images {
            let missing = |name: &str| {
                bad(
                    "manifest",
                    format!("the archive lacks `{}`", name.escape_debug()),
                )
            };
            let config = bundle
                .small(&image.config, DOCUMENT_MAX)?
                .ok_or_else(|| missing(&image.config))?;
            let diff_ids = diff_ids(&config, image.layers.len(), self.budget.limits().layers)?;
            let mut stack = Stack::default();
            for (i, (layer, diff_id)) in image.layers.iter().zip(diff_ids).enumerate() {
                let expected = Expected {
                    blob: None,
                    diff_id: Some(diff_id),
                };
                if self.known(&mut stack, &expected)? {
                    continue;
                }
                let (reader, size) = bundle.file(layer)?.ok_or_else(|| missing(layer))?;
                let what = format!("layer {}/{}", i + 1, image.layers.len());
                self.layer(&mut stack, reader, Some(size), expected, what)?;
            }
            let tags = image.repo_tags.unwrap_or_default();
            let names = tags
                .iter()
                .map(|tag| foreign_name(tag))
                .collect::<Result<_, _>>()?;
            ready.push(self.image(&config, None, stack, names)?);
        }
        Ok(ready)
    }

    /// The images of an OCI layout that are for `platform`.
    pub fn layout(
        &mut self,
        bundle: &Bundle,
        json: &[u8],
        platform: &Platform,
    ) -> Result<Vec<Ready>, Error> {
        let Document::Index(index) = Document::parse("", json).about("index.json")? else {
            return Err(bad("manifest", "index.json is no index"));
        };
        // Of what has the same name the one that fits best.
        let mut chosen: BTreeMap<(bool, String), Vec<Descriptor>> = BTreeMap::new();
        for descriptor in index.manifests {
            let key = match descriptor.name() {
                Some(name) => (true, name.to_string()),
                None if descriptor.platform.is_some() => (false, String::new()),
                None => (false, descriptor.digest.to_string()),
            };
            chosen.entry(key).or_default().push(descriptor);
        }
        if chosen.is_empty() {
            return Err(bad("manifest", "the layout has no image"));
        }
        let mut ready = Vec::new();
        for ((named, name), descriptors) in chosen {
            let (manifest, json) = self.choose(bundle, descriptors, platform, 0)?;
            // A name that is only a tag belongs to a repository that nobody told.
            let names = match named && (name.contains(':') || name.contains('/')) {
                true => vec![foreign_name(&name)?],
                false => Vec::new(),
            };
            ready.push(self.oci(bundle, manifest, &json, names)?);
        }
        Ok(ready)
    }

    /// The manifest among `descriptors` that fits best, through indexes if need be.
    fn choose(
        &self,
        bundle: &Bundle,
        descriptors: Vec<Descriptor>,
        platform: &Platform,
        depth: usize,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        let best = platform.best(&descriptors)?;
        let json = self.document(bundle, best)?;
        match Document::parse(&best.media_type, &json)? {
            Document::Manifest(manifest) => Ok((manifest, json)),
            Document::Index(_) if depth == 4 => Err(bad("manifest", "indexes are nested too deep")),
            Document::Index(index) => self.choose(bundle, index.manifests, platform, depth + 1),
        }
    }

    fn oci(
        &mut self,
        bundle: &Bundle,
        manifest: Manifest,
        json: &[u8],
        names: Vec<String>,
    ) -> Result<Ready, Error> {
        let config = self.document(bundle, &manifest.config)?;
        let diff_ids = diff_ids(&config, manifest.layers.len(), self.budget.limits().layers)?;
        let mut stack = Stack::default();
        for (i, (layer, diff_id)) in manifest.layers.iter().zip(diff_ids).enumerate() {
            if layer.media_type.contains("encrypted") {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the layers of the image are encrypted",
                ));
            }
            let expected = Expected {
                blob: Some((layer.digest.clone(), layer.size)),
                diff_id: Some(diff_id),
            };
            if self.known(&mut stack, &expected)? {
                continue;
            }
            let (reader, size) = bundle
                .file(&blob_path(&layer.digest))?
                .ok_or_else(|| lacks(&layer.digest))?;
            check_size(&layer.digest, layer.size, size)?;
            let what = format!("layer {}/{}", i + 1, manifest.layers.len());
            self.layer(&mut stack, reader, Some(layer.size), expected, what)?;
        }
        self.image(&config, Some(json), stack, names)
    }

    /// A document of a layout, which is what its descriptor says.
    fn document(&self, bundle: &Bundle, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let digest = &descriptor.digest;
        let data = bundle
            .small(&blob_path(digest), DOCUMENT_MAX)?
            .ok_or_else(|| lacks(digest))?;
        check_size(digest, descriptor.size, data.len() as u64)?;
        check_digest("blob", digest, &Digest::of(&data))?;
        Ok(data)
    }
}

/// The layers that a configuration names.
pub(in crate::image) fn diff_ids(
    config: &[u8],
    layers: usize,
    most: usize,
) -> Result<Vec<Digest>, Error> {
    let config = ImageConfig::parse(config)?;
    let diff_ids = config.rootfs.diff_ids;
    if config.os != "linux" && !config.os.is_empty() {
        return Err(bad(
            "platform",
            format!("the image is for {}", config.os.escape_debug()),
        ));
    }
    if diff_ids.len() != layers {
        return Err(bad(
            "manifest",
            format!(
                "the manifest has {layers} layers, the configuration {}",
                diff_ids.len()
            ),
        ));
    }
    match layers > most {
        true => Err(bad(
            "limit layers",
            format!("the image has {layers} layers, more than {most}"),
        )),
        false => Ok(diff_ids),
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn lacks(digest: &Digest) -> Error {
    bad("manifest", format!("the layout lacks the blob `{digest}`"))
}

/// A name that an archive gives.
fn foreign_name(text: &str) -> Result<String, Error> {
    name::parse(text).map_err(|error| bad("name", error.to_string()))
}
