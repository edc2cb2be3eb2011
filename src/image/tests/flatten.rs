//! The root file system that layers make together, as one stream.

use super::super::store::Store;
use super::super::tar::Archive;
use super::{Tar, tempdir};
use std::collections::BTreeMap;
use std::io::Write;

/// What is in a stream: the last of each name, with its kind, owner, target and data.
fn listed(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = Archive::new(tar);
    let mut all = BTreeMap::new();
    while let Some(entry) = archive.next().unwrap() {
        let mut data = vec![0; entry.size as usize];
        let n = archive.data(&mut data).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (block, major, minor) = entry.device;
        let device = match (block, major, minor) {
            (false, 0, 0) => String::new(),
            _ => format!("{block} {major} {minor}"),
        };
        let what = format!(
            "{:?} {} {}{}{device}",
            entry.kind,
            entry.uid,
            text(&entry.link),
            text(&data[..n])
        );
        let old = all.insert(text(&entry.path), what);
        assert_eq!(old, None, "`{}` comes twice", text(&entry.path));
    }
    all
}

fn flat(layers: &[Tar]) -> BTreeMap<String, String> {
    let dir = tempdir();
    let store = Store::open(Some(dir.path())).unwrap();
    let mut image = None;
    for layer in layers {
        let tar = layer.clone().end();
        let write = |to: &mut dyn Write| {
            to.write_all(&tar).unwrap();
            Ok(())
        };
        store
            .append(image.as_ref(), write, |_| {}, &["x"], "test")
            .unwrap();
        image = Some(store.resolve("x").unwrap());
    }
    let mut tar = Vec::new();
    store.export("x", &mut tar, None).unwrap();
    listed(&tar)
}

#[track_caller]
fn assert_flat(layers: &[Tar], expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    assert_eq!(flat(layers), expected);
}

#[test]
fn what_is_above_counts() {
    let low = Tar::default()
        .dir("./")
        .dir("a")
        .file("a/x", "low")
        .file("a/y", "low")
        .dir("b")
        .file("b/z", "low");
    let high = Tar::default()
        .dir("a/")
        .file("./a/x", "high")
        .file(".wh.b", "")
        .file("a/.wh.y", "");
    assert_flat(
        &[low, high],
        &[
            ("./", "Directory 0 "),
            ("a/", "Directory 0 "),
            ("a/x", "File 0 high"),
        ],
    );
}

#[test]
fn hidden_directories_and_what_comes_again() {
    let low = Tar::default()
        .dir("d")
        .file("d/old", "low")
        .dir("e")
        .file("e/old", "low")
        .file("f/old", "low");
    // `e` is removed and made anew; `f` becomes a file.
    let middle = Tar::default()
        .file("d/.wh..wh..opq", "")
        .file("d/new", "middle")
        .file(".wh.e", "")
        .dir("e")
        .file("f", "a file");
    let high = Tar::default().dir("f").file("f/new", "high");
    assert_flat(
        &[low, middle, high],
        &[
            ("d/", "Directory 0 "),
            ("d/new", "File 0 middle"),
            ("e/", "Directory 0 "),
            ("f/", "Directory 0 "),
            ("f/new", "File 0 high"),
        ],
    );
}

#[test]
fn files_of_several_names_lose_some() {
    let low = Tar::default()
        .file("one", "data")
        .link("two", b'1', "one")
        .link("three", b'1', "./one")
        .file("first", "x")
        .link("second", b'1', "first");
    let high = Tar::default().file(".wh.one", "").file("second", "other");
    assert_flat(
        &[low, high],
        &[
            ("two", "File 0 data"),
            ("three", "Hardlink 0 two"),
            ("first", "File 0 x"),
            ("second", "File 0 other"),
        ],
    );
}

/// Also what a plain user's store cannot unpack.
#[test]
fn owners_and_devices_are_kept() {
    let mut header = super::Header::new("owned", b'0', 1);
    header.put(108, b"0000041\0").put(100, b"0004755\0");
    let low = Tar::default()
        .entry(&header, b"x")
        .entry(
            super::Header::new("dev", b'4', 0)
                .put(329, b"0000010\0")
                .put(337, b"0000005\0"),
            b"",
        )
        .link("link", b'2', "/etc");
    assert_flat(
        &[low],
        &[
            ("owned", "File 33 x"),
            ("dev", "Device 0 true 8 5"),
            ("link", "Symlink 0 /etc"),
        ],
    );
}
