//! Images from registries, by the OCI distribution specification.
//!
//! Manifest, configuration and layers are asked for in a thread of the call's own ([`threads`]), layers by several,
//! while the caller's thread tells how far it is and may call it off. Layers come into the store's directory of partial
//! blobs ([`blob`]), where an interrupted download goes on, also in a later call. Then they are unpacked as those of an
//! archive are, with the same checks. No lock is held while anything is downloaded.

mod blob;
mod challenge;
mod credentials;
mod failure;
mod http;
mod options;
mod proxy;
mod reference;
mod registry;
mod retry;
mod sources;
mod stop;
mod threads;
mod token;
mod wire;

pub use options::Pull;
use options::Settings;

use super::config::ImageConfig;
use super::digest::chain;
use super::lock::Scratch;
use super::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, INDEX, MANIFEST, Manifest, Platform,
};
use super::partial::Partials;
use super::read::{own_platform, parse_platform};
use super::reading::{Expected, Reading, Ready, Stack, diff_ids};
use super::state::State;
use super::store::Store;
use super::{Digest, ImageInfo, LoadLimits, Progress, bad, from_io, fs, name};
use crate::error::{Error, ErrorKind};
use crate::rights;
use blob::{Fetcher, Wanted};
use credentials::{Credentials, Found};
use http::Http;
use reference::Reference;
use registry::Source;
use sources::Sources;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};
use stop::Stop;
use threads::Board;
use wire::Tcp;

/// What a manifest may be.
fn accept() -> String {
    [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ")
}
/// Most indexes in indexes.
const DEPTH_MAX: usize = 4;
/// How often to download what somebody else removes meanwhile.
const TRIES: usize = 5;

/// An image as a registry has it, but for the layers that are in the store.
struct Fetched {
    manifest: Manifest,
    json: Vec<u8>,
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
    /// Layers by the names that they have in the scratch directory.
    layers: BTreeMap<Digest, String>,
}

impl Store {
    /// Pulls the image called `name`, in Docker's grammar: `[registry[:port]/]repository[:tag][@digest]`, of
    /// `docker.io` and `latest` if not said otherwise. The store keeps it by its whole name
    /// (`docker.io/library/busybox:latest`), and a name as `docker save` writes it (`busybox:latest`) becomes its too,
    /// if the store has it. With a digest that is the name.
    ///
    /// What the store has is not downloaded, and what an interrupted call has left is gone on with, for a week. All is
    /// compared with the digests that lead to it. The call starts threads of its own, which end before it does.
    ///
    /// # Errors
    /// [`Registry`](ErrorKind::Registry) if the registry cannot be reached or refuses;
    /// [`NotFound`](ErrorKind::NotFound) if it has no such image; [`Image`](ErrorKind::Image) if what it sends is
    /// damaged or hostile; [`State`](ErrorKind::State) if it was called off.
    pub fn pull(&self, name: &str, options: Pull<'_>) -> Result<ImageInfo, Error> {
        let reference = Reference::parse(name)?;
        let about = format!("`{}`", reference.name());
        self.pulled(&reference, options)
            .map_err(|error| error.about(about))
    }

    fn pulled(&self, reference: &Reference, options: Pull<'_>) -> Result<ImageInfo, Error> {
        let Pull {
            settings: options,
            mut progress,
        } = options;
        let platform = match &options.platform {
            Some(text) => parse_platform(text)?,
            None => own_platform(),
        };
        let stop = Arc::new(Stop::default());
        let http = Http {
            tcp: Tcp {
                stop: stop.clone(),
                patience: options.timeout,
            },
            tls_verify: options.tls_verify,
            ca_file: options.ca_file.clone(),
            proxies: proxy::Proxies::from_env(),
            roots: OnceLock::new(),
            agents: Mutex::default(),
        };
        let sources = sources(reference, &options, &http)?;
        let partials = Partials::make(&self.root)?;
        // If it cannot be removed now, it is another time.
        let _ = partials.tidy(self);
        let limits = options.limits;
        let mut tell = |now: &Progress| match &mut progress {
            Some(progress) => progress(now),
            None => ControlFlow::Continue(()),
        };
        rights::ready();
        for _ in 0..TRIES {
            let scratch = Scratch::new(&self.tmp)?;
            let board = Board::default();
            let fetcher = Fetcher {
                store: self,
                partials: &partials,
                scratch: &scratch,
                sources: &sources,
                stop: &stop,
            };
            let most = options.max_concurrent_downloads;
            let fetched = threads::watched(&stop, &board, &mut tell, || {
                fetch(&fetcher, reference, &platform, &limits, most, &board)
            })?;
            let mut reading = Reading::with(self, scratch, &limits, Some(&mut tell))?;
            let names = names(self, reference)?;
            let ready = assemble(&mut reading, &fetched, names);
            let images = match ready {
                Ok(None) => continue,
                Ok(Some(ready)) => reading.finish(vec![ready]),
                Err(error) => Err(error),
            };
            // They are in the store, or nobody wants them. If one cannot be removed now, the next opening of the store does it.
            let over = |error: &Error| error.kind() == ErrorKind::Image;
            if images.as_ref().err().is_none_or(over) {
                for digest in fetched.layers.keys() {
                    let _ = partials.discard(digest.hex());
                }
            }
            return Ok(images?.remove(0));
        }
        Err(Error::new(
            ErrorKind::State,
            "somebody removes its layers from the store as fast as they come",
        ))
    }
}

/// The names that the image gets.
fn names(store: &Store, reference: &Reference) -> Result<Vec<String>, Error> {
    let state = State::read(&store.root)?;
    let short = reference
        .short()
        .filter(|short| state.names.contains_key(short));
    Ok(std::iter::once(reference.name()).chain(short).collect())
}

/// The places to ask.
fn sources<'h>(
    reference: &Reference,
    options: &Settings,
    http: &'h Http,
) -> Result<Sources<'h>, Error> {
    let source = |name: &str, path: String, found: Found| Source {
        http,
        name: name.into(),
        authority: reference::host_of(name).into(),
        path,
        found,
        authorization: Mutex::default(),
        plain: false.into(),
        answered: false.into(),
        dead: false.into(),
    };
    let find = |name: &str, path: &str| credentials::find(options.auth_file.as_deref(), name, path);
    let mut all = Vec::new();
    for mirror in &options.mirrors {
        let refuse = |why: &str| {
            let mirror = mirror.escape_debug();
            Error::invalid(format!(
                "`{mirror}` is no mirror: {why}; give HOST[:PORT][/PATH]"
            ))
        };
        let (host, below) = mirror.split_once('/').unwrap_or((mirror, ""));
        reference::check_host(host).map_err(refuse)?;
        let path = match below.trim_end_matches('/') {
            "" => reference.path.clone(),
            below => format!("{below}/{}", reference.path),
        };
        if path.contains(':') || name::parse(&format!("x/{path}")).is_err() {
            return Err(refuse("its path is none"));
        }
        let found = find(host, &path)?;
        all.push(source(host, path, found));
    }
    let found = match &options.credentials {
        Some(Credentials::Password { user, .. }) if user.is_empty() || user.contains(':') => {
            return Err(Error::invalid(
                "a user of a registry has a name without a colon",
            ));
        }
        Some(given) => Found {
            credentials: Some(given.clone()),
            helper: None,
        },
        None => find(&reference.registry, &reference.path)?,
    };
    all.push(source(&reference.registry, reference.path.clone(), found));
    Ok(Sources {
        all,
        retries: options.retry,
    })
}

/// Gets the image's documents, and those of its layers that the store lacks.
fn fetch(
    fetcher: &Fetcher<'_, '_>,
    reference: &Reference,
    platform: &Platform,
    limits: &LoadLimits,
    most: usize,
    board: &Board,
) -> Result<Fetched, Error> {
    let (manifest, json) = choose(fetcher.sources, reference, platform)?;
    let config = small(fetcher, &manifest.config)?;
    let diff_ids = diff_ids(&config, manifest.layers.len(), limits.layers)?;
    let own = ImageConfig::parse(&config)?.architecture;
    if !own.is_empty() && own != platform.architecture {
        let own = own.escape_debug();
        return Err(bad(
            "platform",
            format!(
                "it is for linux/{own}, not for linux/{}; ask for that platform to have it all the same",
                platform.architecture
            ),
        ));
    }
    if manifest
        .layers
        .iter()
        .any(|layer| layer.media_type.contains("encrypted"))
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the layers of the image are encrypted",
        ));
    }
    let missing = missing(fetcher.store, &manifest.layers, &diff_ids);
    blob::check_sizes(missing.iter().map(|(_, layer)| &layer.size), limits.size)?;
    let wanted: Vec<Arc<Wanted>> = missing
        .into_iter()
        .map(|(at, layer)| {
            Arc::new(Wanted {
                digest: layer.digest.clone(),
                size: layer.size,
                what: format!("download {}/{}", at + 1, manifest.layers.len()),
                done: 0.into(),
            })
        })
        .collect();
    *board.lock().unwrap_or_else(|e| e.into_inner()) = wanted.clone();
    let layers = threads::fetch_all(fetcher, &wanted, most)?;
    Ok(Fetched {
        manifest,
        json,
        config,
        diff_ids,
        layers,
    })
}

/// The manifest that the reference leads to, through indexes if need be.
fn choose(
    sources: &Sources<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Manifest, Vec<u8>), Error> {
    let accept = accept();
    let what = format!("manifests/{}", reference.what());
    let by_digest = reference.digest.as_ref().map(|digest| (digest, None));
    let mut document = sources.document(&what, Some(&accept), by_digest)?;
    for _ in 0..=DEPTH_MAX {
        let known = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_LIST];
        let media_type = match known.contains(&document.media_type.as_str()) {
            true => document.media_type.as_str(),
            // Some say only that it is JSON. It tells itself.
            false => "",
        };
        match Document::parse(media_type, &document.json)? {
            Document::Manifest(manifest) => return Ok((manifest, document.json)),
            Document::Index(index) => {
                let Descriptor {
                    digest,
                    size,
                    media_type,
                    ..
                } = platform.best(&index.manifests)?;
                let what = format!("manifests/{digest}");
                let expected = Some((digest, Some(*size)));
                document = sources.document(&what, Some(&accept), expected)?;
                document.media_type.clone_from(media_type);
            }
        }
    }
    Err(bad("manifest", "indexes are nested too deep"))
}

/// A document that is a blob: from the store, or the registry.
fn small(fetcher: &Fetcher<'_, '_>, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let digest = &descriptor.digest;
    if let Ok(own) = fetcher.store.blob(digest)
        && own.len() as u64 == descriptor.size
        && Digest::of(&own) == *digest
    {
        return Ok(own);
    }
    let what = format!("blobs/{digest}");
    let document = fetcher
        .sources
        .document(&what, None, Some((digest, Some(descriptor.size))))?;
    Ok(document.json)
}

/// The layers that the store lacks, with their places. What is found missing here may come meanwhile, and what is there
/// may go: both are looked at again under the store's lock.
fn missing<'m>(
    store: &Store,
    layers: &'m [Descriptor],
    diff_ids: &[Digest],
) -> Vec<(usize, &'m Descriptor)> {
    let mut missing: Vec<(usize, &Descriptor)> = Vec::new();
    let mut below: Option<Digest> = None;
    for (at, (layer, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
        let chain_id = chain(below.as_ref(), diff_id);
        let own = store.layer(&chain_id).ok().flatten();
        let there =
            own.is_some_and(|own| (&own.blob, own.blob_size) == (&layer.digest, layer.size));
        let twice = missing
            .iter()
            .any(|(_, other)| other.digest == layer.digest);
        let there = there && store.has_blob(&layer.digest);
        if !there && !twice {
            missing.push((at, layer));
        }
        below = Some(chain_id);
    }
    missing
}

/// The image, of what was fetched and what the store has; none if that has lost a layer meanwhile.
fn assemble(
    reading: &mut Reading<'_, '_>,
    fetched: &Fetched,
    names: Vec<String>,
) -> Result<Option<Ready>, Error> {
    let mut stack = Stack::default();
    let layers = &fetched.manifest.layers;
    for (at, (layer, diff_id)) in layers.iter().zip(&fetched.diff_ids).enumerate() {
        let expected = Expected {
            blob: Some((layer.digest.clone(), layer.size)),
            diff_id: Some(diff_id.clone()),
        };
        if reading.known(&mut stack, &expected)? {
            continue;
        }
        let Some(name) = fetched.layers.get(&layer.digest) else {
            return Ok(None);
        };
        let file = fs::open_file_at(reading.scratch.dir(), name.as_bytes())
            .map_err(|e| from_io("open the layer", e))?;
        let what = format!("layer {}/{}", at + 1, layers.len());
        let size = Some(layer.size);
        reading.read_layer(
            &mut stack,
            Box::new(file),
            size,
            None,
            name.clone(),
            expected,
            what,
        )?;
    }
    reading
        .image(&fetched.config, Some(&fetched.json), stack, names)
        .map(Some)
}
