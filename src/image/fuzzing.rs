//! What in images reads bytes that nobody vouches for, each by itself and with what must hold afterwards. Built for the
//! fuzz targets in `fuzz/` only (`--cfg fuzzing`), where checksums and digests are not compared: no mutation has the
//! right ones.

use super::compress::Decoder;
use super::limits::Budget;
use super::lower::Lower;
use super::manifest::{DockerImage, Document, INDEX, MANIFEST, parse};
use super::tar::Archive;
use super::unpack::unpack;
use super::verify::compare;
use super::{
    Digest, Image, ImageConfig, Import, Load, LoadLimits, Source, Store, Upper, fs,
    layer_from_upper, name,
};
use crate::error::{Error, ErrorKind};
use crate::spec::Spec;
use std::fs as std_fs;
use std::io::{Cursor, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Few means, so that it is fast: what needs more is refused in the same way.
fn limits() -> LoadLimits {
    LoadLimits::default()
        .size(1 << 20)
        .entries(300)
        .ratio(50)
        .layers(6)
}

/// What a caller can be told: never a fault of ours.
fn assert_named(error: &Error) {
    assert!(!error.to_string().is_empty());
    let named = match error.kind() {
        ErrorKind::Image => !error.step().is_empty(),
        ErrorKind::InvalidArgument | ErrorKind::Unsupported => true,
        // The file system has limits of its own, and people may close directories to themselves.
        _ => matches!(
            error.errno(),
            libc::ENAMETOOLONG | libc::EACCES | libc::EINVAL | libc::EMLINK | libc::ENOSPC
        ),
    };
    assert!(named, "{:?} {}: {error}", error.kind(), error.errno());
}

/// A layer to unpack into, over one that has something of every kind, beside a directory that nothing may touch.
pub struct Place {
    path: PathBuf,
    lower: PathBuf,
    before: Vec<String>,
    /// Some image, to be given configurations.
    image: Image,
}

impl Place {
    /// Makes one in the directory `path`.
    pub fn new(path: PathBuf) -> Place {
        let (outside, lower) = (path.join("outside"), path.join("lower"));
        for dir in ["sub", "d/e", "closed"] {
            std_fs::create_dir_all(lower.join(dir)).expect("a directory");
        }
        std_fs::create_dir(&outside).expect("a directory");
        std_fs::write(outside.join("secret"), "secret").expect("a file");
        std_fs::write(lower.join("a"), "a").expect("a file");
        std_fs::write(lower.join("d/f"), "f").expect("a file");
        std::os::unix::fs::symlink("../outside", lower.join("l")).expect("a link");
        std::os::unix::fs::symlink("../../outside/secret", lower.join("d/s")).expect("a link");
        nix::unistd::mkfifo(&lower.join("p"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let opaque = fs::open_dir(&lower.join("d/e")).expect("a directory");
        fs::set_opaque(&opaque).expect("attributes");
        fs::set_mode(fs::open_dir(&lower.join("closed")).expect("there"), 0).expect("its mode");
        let before = Place::look(&path);
        let store = Store::open(Some(&path.join("store"))).expect("a store");
        let none = Source::Stream(Box::new(Cursor::new([0; 1024])));
        let image = store.import(none, Import::default()).expect("no files");
        Place {
            image: store.resolve(image.id.as_str()).expect("just made"),
            path,
            lower,
            before,
        }
    }

    /// Everything about everything that is not a layer to unpack into.
    fn look(path: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut left = vec![path.join("outside"), path.join("lower")];
        while let Some(path) = left.pop() {
            let meta = path.symlink_metadata().expect("it stays");
            all.push(format!(
                "{} {:o} {} {} {} {} {}",
                path.display(),
                meta.mode(),
                meta.nlink(),
                meta.size(),
                meta.ino(),
                meta.ctime(),
                meta.ctime_nsec()
            ));
            if meta.is_dir()
                && let Ok(entries) = std_fs::read_dir(&path)
            {
                let mut entries: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
                entries.sort();
                left.extend(entries);
            }
        }
        all
    }

    fn layer(&self, name: &str) -> OwnedFd {
        let path = self.path.join(name);
        if path.exists() {
            let above = fs::open_dir(&self.path).expect("it stays");
            fs::remove_tree(&above, name.as_bytes()).expect("removable");
        }
        std_fs::create_dir(&path).expect("a directory");
        fs::open_dir(&path).expect("just made")
    }

    fn unpack(&self, to: &OwnedFd, tar: &[u8]) -> Result<(), Error> {
        let lower = Lower(vec![fs::open_dir(&self.lower).expect("it stays")]);
        let mut budget = Budget::new(&limits());
        unpack(&mut Archive::new(tar), to, &lower, &mut budget, None).map(drop)
    }

    /// A layer: nothing outside is touched, it is unpacked the same again, and, written as a layer, it is that layer.
    pub fn tar(&self, data: &[u8]) {
        let first = self.layer("first");
        let unpacked = self.unpack(&first, data);
        assert_eq!(self.before, Place::look(&self.path), "something outside");
        if let Err(error) = unpacked {
            return assert_named(&error);
        }
        let second = self.layer("second");
        self.unpack(&second, data).expect("as before");
        assert_same(&first, &second);
        let write = |layer: &OwnedFd| {
            let mut tar = Vec::new();
            layer_from_upper(&Upper::new(layer.as_fd()), &mut tar).map(|_| tar)
        };
        match write(&first) {
            Err(error) => assert_named(&error),
            Ok(tar) => {
                let third = self.layer("third");
                self.unpack(&third, &tar).expect("our own");
                assert_eq!(write(&third).expect("as before"), tar);
            }
        }
    }

    /// Users as an image has them: `user`, `/etc/passwd` and `/etc/group` with a NUL between them.
    pub fn passwd(&self, data: &[u8]) {
        let mut parts = data.splitn(3, |&b| b == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (user, passwd, group) = (part(), part(), part());
        let root = self.path.join("root");
        std_fs::create_dir_all(root.join("etc")).expect("a directory");
        std_fs::write(root.join("etc/passwd"), passwd).expect("a file");
        std_fs::write(root.join("etc/group"), group).expect("a file");
        let mut config = ImageConfig::empty();
        config.config.user = String::from_utf8_lossy(user).into_owned();
        self.with_image(root, config);
    }

    /// A configuration: read, written, read again; and a program that is run by it.
    pub fn config(&self, data: &[u8]) {
        match ImageConfig::parse(data) {
            Err(error) => assert_named(&error),
            Ok(config) => {
                let again = ImageConfig::parse(&config.to_json()).expect("our own");
                assert_eq!(again, config);
                self.with_image(self.lower.clone(), config);
            }
        }
    }

    fn with_image(&self, layer: PathBuf, config: ImageConfig) {
        let mut image = self.image.clone();
        (image.config, image.layers) = (config, vec![layer]);
        match super::run::program(&Spec::default(), &image) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}"),
            Ok(spec) => {
                let user = spec.user.expect("always given");
                let (user, group) = user.split_once(':').expect("two numbers");
                user.parse::<u32>().expect("a number");
                group.parse::<u32>().expect("a number");
                assert!(!spec.args.is_empty());
                assert!(spec.cwd.is_none_or(|cwd| cwd.starts_with('/')));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::open_dir(&self.path).map(|dir| fs::clear(&dir));
    }
}

fn assert_same(should: &OwnedFd, is: &OwnedFd) {
    let mut differences = Vec::new();
    compare(should, is, &mut Vec::new(), &mut differences).expect("readable");
    assert_eq!(differences, [""; 0]);
}

/// A store for archives of images.
pub struct Images(Store);

impl Images {
    /// Opens one in the directory `path`.
    pub fn new(path: &Path) -> Images {
        Images(Store::open(Some(path)).expect("a store"))
    }

    /// An archive: all of it gets in or nothing, and all of it can be removed.
    pub fn archive(&self, data: &[u8]) {
        let source = Source::Stream(Box::new(Cursor::new(data.to_vec())));
        match self.0.load(source, Load::default().limits(limits())) {
            Err(error) => assert_named(&error),
            Ok(images) => {
                for info in images {
                    let image = self.0.resolve(info.id.as_str()).expect("just loaded");
                    assert!(image.layers.iter().all(|layer| layer.is_dir()));
                }
                self.0.prune(true).expect("nothing is used");
            }
        }
        for dir in ["blobs/sha256", "layers", "tmp"] {
            let left = std_fs::read_dir(self.0.path().join(dir)).expect("it stays");
            assert_eq!(left.count(), 0, "{dir}");
        }
    }
}

/// A compressed stream: within limits, and the same however it is read.
pub fn decompress(data: &[u8]) {
    let read = |piece: usize| {
        let mut decoder = match Decoder::new(data, &limits()) {
            Ok(decoder) => decoder,
            Err(error) => return (Vec::new(), Some(error.to_string())),
        };
        let (mut out, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match decoder.read(&mut buffer) {
                Ok(0) => return (out, None),
                Ok(n) => out.extend_from_slice(&buffer[..n]),
                Err(error) => return (out, Some(error.to_string())),
            }
            assert!(out.len() <= 1 << 20, "more than allowed");
        }
    };
    let (whole, error) = read(1 << 16);
    let (pieces, other) = read(1 << 10);
    if error.is_none() || other.is_none() {
        assert!(whole == pieces && error == other, "{error:?} {other:?}");
    }
}

/// An index, a manifest, and Docker's list of images.
pub fn manifest(data: &[u8]) {
    for said in ["", MANIFEST, INDEX] {
        let again = match Document::parse(said, data) {
            Err(error) => {
                assert_named(&error);
                continue;
            }
            Ok(Document::Index(index)) => serde_json::to_vec(&index),
            Ok(Document::Manifest(manifest)) => serde_json::to_vec(&manifest),
        };
        let again = again.expect("texts and numbers only");
        assert!(Document::parse(said, &again).is_ok());
    }
    if let Ok(images) = parse::<Vec<DockerImage>>("manifest.json", data) {
        let again = serde_json::to_vec(&images).expect("texts and numbers only");
        parse::<Vec<DockerImage>>("manifest.json", &again).expect("our own");
    }
}

/// Names of images and digests, and paths in layers.
pub fn names(data: &[u8]) {
    if let Ok(parts) = fs::components(data, "the path") {
        let joined = parts.join(&b'/');
        assert_eq!(fs::components(&joined, "the path").expect("clean"), parts);
        assert!(!parts.contains(&&b".."[..]) && !parts.contains(&&b"."[..]));
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = name::parse(text) {
        assert_eq!(name::parse(&name).expect("whole"), name);
        let (repository, tag) = name::split(&name);
        assert_eq!(format!("{repository}:{}", tag.expect("it has one")), name);
        // What is a name is never a way out of a directory.
        assert!(fs::components(repository.as_bytes(), "").is_ok() && !name.starts_with('/'));
        assert!(name::id_prefix(&name).is_none());
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
        assert_eq!(name::id_prefix(text), Some(digest.hex()));
    }
}
