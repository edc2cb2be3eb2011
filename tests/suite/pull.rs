//! Pulling from registries: from Debian's `docker-registry`, filled by skopeo, and from a server of the tests' own that
//! does what that one never would.

mod answers;
mod auth;
mod cancel;
mod cli;
mod debian;
mod killed;
mod resume;
mod server;

use crate::images::{Place, two_layers};
use server::Repository;
use std::time::Duration;
use stockade::image::{ImageInfo, Import, Pull, Source, Store};
use stockade::{Error, ErrorKind};

/// The password of every test: no text that anybody sees may hold it.
const SECRET: &str = "s3cret-of-the-tests";

/// A store with an image of `layers` layers of random bytes, `size` each, and what a registry would serve of it.
fn random_image(place: &Place, layers: usize, size: usize) -> Repository {
    let store = place.store("source");
    let root = place.at("random");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("0"), random(0, size)).unwrap();
    store
        .import(Source::Path(root), Import::default().name("random:0"))
        .unwrap();
    for i in 1..layers {
        let base = store.resolve(&format!("random:{}", i - 1)).unwrap();
        let layer = tar_of(&i.to_string(), &random(i, size));
        let write = |to: &mut dyn std::io::Write| {
            to.write_all(&layer).expect("the store takes it");
            Ok(())
        };
        let name = format!("random:{i}");
        store
            .append(Some(&base), write, |_| {}, &[&name], "test")
            .unwrap();
    }
    Repository::of(&store, &format!("random:{}", layers - 1), place)
}

fn random(seed: usize, size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (seed as u64 + 1) << 17;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A tar archive with one file.
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), content).unwrap();
    let tar = std::process::Command::new("tar")
        .arg("-cC")
        .arg(dir.path())
        .args(["--owner=0", "--group=0", name])
        .output()
        .unwrap();
    assert!(tar.status.success());
    tar.stdout
}

/// Options for a test: quick to give up, and without anybody's credentials.
fn options() -> Pull<'static> {
    Pull::default()
        .auth_file("/dev/null")
        .timeout(Duration::from_secs(10))
}

/// Pulls, and holds an error against what every error must be.
fn pull(store: &Store, name: &str, options: Pull<'_>) -> Result<ImageInfo, Error> {
    let result = store.pull(name, options);
    if let Err(error) = &result {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
        assert!(
            text.contains(name.split([':', '@']).next().unwrap()),
            "it names the image: {text}"
        );
    }
    result
}

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(
    result: Result<T, Error>,
    kind: ErrorKind,
    step: &str,
) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.step()), (kind, step), "{error}");
    error.to_string()
}

/// Everything in the store is whole, and nothing but it is there.
#[track_caller]
fn assert_whole(store: &Store, images: u64) {
    let found = store.verify().unwrap();
    assert_eq!(found.problems, [""; 0]);
    assert_eq!(store.disk_use().unwrap().images, images);
}

/// What is in the store's directory of partial blobs: names and lengths.
fn partial(store: &Store) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(store.path().join("partial")) else {
        return Vec::new();
    };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let length = entry.metadata().unwrap().len();
            (entry.file_name().into_string().unwrap(), length)
        })
        .collect()
}
