//! Images in a store: their names, who uses them, and what becomes of them.

use super::{Header, Place, Tar};
use crate::error::{Error, ErrorKind};
use crate::image::{Format, Import, Source, Store, Target};
use std::io::Cursor;
use std::ops::ControlFlow;

pub(super) fn stream(data: Vec<u8>) -> Source {
    Source::Stream(Box::new(Cursor::new(data)))
}

pub(super) fn store(place: &Place) -> Store {
    Store::open(Some(&place.path().join("store"))).unwrap()
}

pub(super) fn layer(text: &str) -> Vec<u8> {
    Tar::default().dir("etc").file("etc/text", text).end()
}

fn import(store: &Store, name: &str, text: &str) -> crate::image::ImageInfo {
    store
        .import(stream(layer(text)), Import::default().name(name))
        .unwrap()
}

#[track_caller]
pub(super) fn assert_intact(store: &Store) {
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
    assert_eq!(store.disk_use().unwrap().temporary, 0);
}

/// The names in a directory of the store.
pub(super) fn entries(store: &Store, dir: &str) -> usize {
    std::fs::read_dir(store.path().join(dir)).unwrap().count()
}

#[test]
fn names_ids_and_removal() {
    let place = Place::new();
    let store = store(&place);
    let (a, b) = (import(&store, "host/a", "a"), import(&store, "b:2", "b"));
    assert_eq!(a.names, ["host/a:latest"]);
    let id = |reference: &str| store.inspect(reference).map(|info| info.id);
    assert_eq!(id("a").unwrap(), a.id);
    assert_eq!(id("host/a:latest").unwrap(), a.id);
    assert_eq!(id(&a.id.hex()[..8]).unwrap(), a.id);
    for none in ["b", "a:2", "nothing", "../b", "sha256:", "ffffffffffffffff"] {
        assert_eq!(id(none).unwrap_err().kind(), ErrorKind::NotFound, "{none}");
    }
    store.tag("a", "c").unwrap();
    assert_eq!(
        store.tag("a", "A B").unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    // One of two names, then the other.
    let removed = store.remove("c").unwrap();
    assert_eq!(
        (removed.names, removed.images.len()),
        (vec!["c:latest".to_string()], 0)
    );
    let removed = store.remove("a").unwrap();
    assert_eq!(removed.names, ["host/a:latest"]);
    assert_eq!(removed.images, [a.id]);
    assert!(removed.bytes > 0);
    assert_eq!(entries(&store, "layers"), 1);
    // A name that moves leaves an image without one, until it is pruned.
    let other = import(&store, "b:2", "other");
    assert_eq!(id("b:2").unwrap(), other.id);
    assert!(store.disk_use().unwrap().reclaimable > 0);
    assert_eq!(store.list().unwrap().last().unwrap().names, [""; 0]);
    assert_eq!(store.prune(false).unwrap().images, [b.id]);
    assert_eq!(store.disk_use().unwrap().reclaimable, 0);
    assert_intact(&store);
    assert_eq!(store.prune(true).unwrap().names, ["b:2"]);
    assert_eq!(
        (entries(&store, "layers"), entries(&store, "blobs/sha256")),
        (0, 0)
    );
}

#[test]
fn what_is_used_stays() {
    let place = Place::new();
    let store = store(&place);
    let a = import(&store, "a", "a");
    let used = store.resolve("a").unwrap();
    let clone = used.clone();
    // By another process as well: a lock belongs to its open file.
    let elsewhere = Store::open(Some(store.path())).unwrap();
    assert_eq!(elsewhere.remove("a").unwrap().images, []);
    assert_eq!(elsewhere.prune(true).unwrap().images, []);
    drop(used);
    assert_eq!(elsewhere.prune(true).unwrap().images, []);
    assert_eq!(
        std::fs::read(clone.layers[0].join("etc/text")).unwrap(),
        b"a"
    );
    drop(clone);
    assert_eq!(elsewhere.prune(true).unwrap().images, [a.id]);
    assert_eq!(entries(&store, "layers"), 0);
}

#[test]
fn layers_are_shared() {
    let place = Place::new();
    let store = store(&place);
    import(&store, "a", "a");
    let base = store.resolve("a").unwrap();
    let more = |text: &'static str| {
        store
            .append(
                Some(&base),
                |to| {
                    to.write_all(&layer(text))
                        .map_err(|e| Error::system("write", e))
                },
                |config| config.config.cmd = vec![text.into()],
                &[text],
                "test",
            )
            .unwrap()
    };
    let (b, c) = (more("b"), more("c"));
    assert_eq!(b.layers[0].path, c.layers[0].path);
    assert_eq!((b.layers.len(), entries(&store, "layers")), (2, 3));
    assert_eq!(store.inspect("c").unwrap().config.config.cmd, ["c"]);
    store.remove("b").unwrap();
    assert_eq!(entries(&store, "layers"), 2);
    assert_intact(&store);
}

#[test]
fn a_directory_becomes_an_image() {
    let place = Place::new();
    let store = store(&place);
    let rootfs = place.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("bin")).unwrap();
    std::fs::write(rootfs.join("bin/x"), "x").unwrap();
    std::fs::hard_link(rootfs.join("bin/x"), rootfs.join("bin/y")).unwrap();
    std::os::unix::fs::symlink("bin", rootfs.join("link")).unwrap();
    let image = store
        .import(Source::Path(rootfs.clone()), Import::default().name("d"))
        .unwrap();
    assert_eq!(
        image.config.architecture,
        crate::image::config::architecture()
    );
    let unpacked = &image.layers[0].path;
    assert_eq!(std::fs::read(unpacked.join("bin/y")).unwrap(), b"x");
    assert_eq!(
        std::fs::read_link(unpacked.join("link")).unwrap().to_str(),
        Some("bin")
    );
    // The same directory is the same layer.
    let again = store
        .import(Source::Path(rootfs), Import::default())
        .unwrap();
    assert_eq!(again.layers[0].diff_id, image.layers[0].diff_id);
    assert_intact(&store);
}

#[test]
fn damage_is_found() {
    let place = Place::new();
    let store = store(&place);
    let a = import(&store, "a", "a");
    assert_intact(&store);
    let file = a.layers[0].path.join("etc/text");
    std::fs::write(&file, "b").unwrap();
    let problems = store.verify().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("`/etc/text`"),
        "{problems:?}"
    );
    let blob = store
        .path()
        .join("blobs/sha256")
        .join(a.layers[0].digest.hex());
    let mut data = std::fs::read(&blob).unwrap();
    data[600] ^= 1;
    std::fs::write(&blob, data).unwrap();
    let problems = store.verify().unwrap().problems;
    assert!(
        problems.iter().any(|p| p.contains("its digest is")),
        "{problems:?}"
    );
    let error = store
        .save(
            &["a"],
            Format::OciArchive,
            Target::Stream(&mut Vec::new()),
            None,
        )
        .unwrap_err();
    assert_eq!(error.step(), "digest", "{error}");
    // Loading it again after its removal mends it.
    store.remove("a").unwrap();
    import(&store, "a", "a");
    assert_intact(&store);
}

#[test]
fn a_call_can_be_called_off() {
    let place = Place::new();
    let store = store(&place);
    let mut calls = 0;
    let mut watch = |progress: &crate::image::Progress| {
        calls += 1;
        assert_eq!(progress.what, "root file system");
        ControlFlow::Break(())
    };
    let error = store
        .import(stream(layer("a")), Import::default().progress(&mut watch))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert_eq!(calls, 1);
    assert_eq!(entries(&store, "layers"), 0);
    assert_intact(&store);
}

#[test]
fn many_at_once() {
    let place = Place::new();
    let path = place.path().join("store");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..15 {
                    let store = Store::open(Some(path)).unwrap();
                    // Some of them the same as what others make just now.
                    let name = format!("image{}", (worker + round) % 3);
                    store
                        .import(stream(layer(&name)), Import::default().name(&name))
                        .unwrap();
                    if let Ok(image) = store.resolve(&name) {
                        assert!(image.layers[0].join("etc/text").exists(), "held, and gone");
                    }
                    match round % 5 {
                        0 => drop(store.prune(true).unwrap()),
                        3 => drop(store.remove(&name)),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_intact(&Store::open(Some(&path)).unwrap());
}

#[test]
fn what_the_dead_left_is_swept() {
    let place = Place::new();
    let first = store(&place);
    let left = first.path().join("tmp/dead");
    std::fs::create_dir_all(left.join("0/diff")).unwrap();
    let alive = crate::image::lock::Scratch::new(&first.tmp).unwrap();
    assert_eq!(entries(&first, "tmp"), 2);
    Store::open(Some(first.path())).unwrap();
    assert_eq!(entries(&first, "tmp"), 1, "only that of the living is left");
    drop(alive);
    assert_eq!(entries(&first, "tmp"), 0);
}

#[test]
fn locks_are_given_back_though_a_forked_process_has_them_open() {
    use crate::image::lock::{Hold, Lock};
    let place = Place::new();
    let store = store(&place);
    let open = || std::fs::File::open(store.path().join("lock")).unwrap();
    drop(Lock::of(&store.root, "lock", Hold::Shared).unwrap());
    let held = open();
    // As long as a program is not executed, and for good if none is.
    let forked = held.try_clone().unwrap();
    let lock = Lock::wait(held.into(), Hold::Exclusive).unwrap();
    let other = || Lock::now(open().into(), Hold::Shared).unwrap();
    assert!(other().is_none());
    // SAFETY: the child gives up what it has, which takes no lock of the process's, and ends.
    match unsafe { libc::fork() } {
        0 => {
            drop(lock);
            // SAFETY: it ends the process.
            unsafe { libc::_exit(0) }
        }
        // SAFETY: a plain call, for a child that nobody else waits for.
        child => unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) },
    };
    assert!(other().is_none(), "a forked process has given back ours");
    drop(lock);
    assert!(other().is_some());
    drop(forked);
}

#[test]
fn a_later_store_is_not_touched() {
    let place = Place::new();
    let path = store(&place).path().to_owned();
    for (text, kind) in [
        (r#"{"version":3,"other":[]}"#, ErrorKind::Unsupported),
        (r#"{"version":1,"images":"#, ErrorKind::Image),
    ] {
        std::fs::write(path.join("state.json"), text).unwrap();
        assert_eq!(Store::open(Some(&path)).unwrap_err().kind(), kind);
    }
}

/// Who may write in a directory like `/tmp` can remove no stranger's file from it.
#[test]
fn what_lies_in_a_sticky_directory_of_somebody_elses_is_removed() {
    let place = Place::new();
    let store = store(&place);
    let of = |name: &str, kind, mode: &[u8], owner: &[u8]| {
        let mut header = Header::new(name, kind, 0);
        header.put(100, mode).put(108, owner).put(116, owner);
        header
    };
    let tar = Tar::default()
        .entry(&of("spool", b'5', b"0001777\0", b"0000005\0"), b"")
        .entry(&of("spool/file", b'0', b"0000644\0", b"0000041\0"), b"")
        .end();
    store
        .import(stream(tar), Import::default().name("spool"))
        .unwrap();
    store.remove("spool").unwrap();
    assert_eq!(entries(&store, "layers"), 0);
    assert_eq!(entries(&store, "tmp"), 0);
    assert_intact(&store);
}
