//! Archives that go to skopeo and umoci, and come from them: the same tree on both sides.

use super::{Place, merged, rootfs, tree, two_layers};
use crate::support::{is_root, skip};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use stockade::image::{Format, Load, Source, Target};

/// Runs a tool of others.
pub fn run(args: &[&OsStr]) {
    let output = Command::new(args[0]).args(&args[1..]).output().unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! run {
    ($($arg:expr),*) => { run(&[$(OsStr::new(&$arg)),*]) };
}

pub fn lacking() -> Option<&'static str> {
    let runs = |tool: &str| {
        Command::new(tool)
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    ["umoci", "skopeo"].into_iter().find(|tool| !runs(tool))
}

/// Unpacks an image of a layout with umoci.
pub fn umoci_unpack(layout: &Path, tag: &str, bundle: &Path) {
    let image = format!("{}:{tag}", layout.display());
    match is_root() {
        true => run!("umoci", "unpack", "--image", image, bundle),
        false => run!("umoci", "unpack", "--rootless", "--image", image, bundle),
    }
}

#[track_caller]
pub fn assert_same(ours: &super::Tree, theirs: &super::Tree) {
    let differences: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| (path, ours.get(path).map(brief), theirs.get(path).map(brief)))
        .collect();
    assert!(differences.is_empty(), "ours and theirs: {differences:?}");
}

fn brief(seen: &super::Seen) -> (&'static str, u32, i64, usize) {
    (seen.kind, seen.mode, seen.mtime, seen.content.len())
}

#[test]
fn what_we_save_they_unpack_the_same() {
    if let Some(tool) = lacking() {
        skip!("{tool} is not installed");
    }
    let place = Place::new();
    let store = place.store("store");
    two_layers(&store, &place, 50);
    let ours = merged(&store.resolve("two:1").unwrap().layers);
    assert!(
        !ours.contains_key(Path::new("etc/shadow")) && ours.contains_key(Path::new("opt/new/file"))
    );

    let layout = place.at("layout");
    store
        .save(
            &["two:1"],
            Format::OciDirectory,
            Target::Path(layout.clone()),
            None,
        )
        .unwrap();
    umoci_unpack(&layout, "1", &place.at("bundle"));
    assert_same(&ours, &tree(&place.at("bundle/rootfs")));

    for (format, transport) in [
        (Format::OciArchive, "oci-archive"),
        (Format::DockerArchive, "docker-archive"),
    ] {
        let archive = place.at(transport);
        store
            .save(&["two:1"], format, Target::Path(archive.clone()), None)
            .unwrap();
        let copy = place.at(&format!("{transport}-copy"));
        let from = format!("{transport}:{}", archive.display());
        let to = format!("oci:{}:copy", copy.display());
        run!(
            "skopeo",
            "--insecure-policy",
            "--tmpdir",
            place.at(""),
            "copy",
            "--quiet",
            from,
            to
        );
        let bundle = place.at(&format!("{transport}-bundle"));
        umoci_unpack(&copy, "copy", &bundle);
        assert_same(&ours, &tree(&bundle.join("rootfs")));
    }
}

#[test]
fn what_they_make_we_unpack_the_same() {
    if let Some(tool) = lacking() {
        skip!("{tool} is not installed");
    }
    let place = Place::new();
    let layout = place.at("layout");
    let image = |tag: &str| format!("{}:{tag}", layout.display());
    let mut bundle = place.at("bundle0");
    run!("umoci", "init", "--layout", layout);
    run!("umoci", "new", "--image", image("0"));
    umoci_unpack(&layout, "0", &bundle);
    rootfs(&bundle.join("rootfs"), 50);
    run!("umoci", "repack", "--image", image("1"), bundle);
    // Three more layers, each of which changes what is there.
    for layer in 1..4 {
        bundle = place.at(&format!("bundle{layer}"));
        umoci_unpack(&layout, &layer.to_string(), &bundle);
        let at = |name: &str| bundle.join("rootfs").join(name);
        match layer {
            1 => {
                std::fs::remove_file(at("etc/shadow")).unwrap();
                std::fs::remove_dir_all(at("var/cache/old")).unwrap();
                std::fs::write(at("tmp/new"), "in a directory that is not changed itself").unwrap();
            }
            2 => {
                // A directory where a file was, and a file where a directory was.
                std::fs::create_dir(at("etc/shadow")).unwrap();
                std::fs::write(at("etc/shadow/x"), "x").unwrap();
                std::fs::remove_dir_all(at("usr/share/doc")).unwrap();
                std::fs::write(at("usr/share/doc"), "a file").unwrap();
            }
            _ => {
                std::fs::remove_file(at("usr/share/doc")).unwrap();
                std::fs::create_dir(at("usr/share/doc")).unwrap();
                std::fs::write(at("usr/share/doc/again"), "again").unwrap();
                std::fs::remove_file(at("bin/dash")).unwrap();
            }
        }
        run!(
            "umoci",
            "repack",
            "--image",
            image(&(layer + 1).to_string()),
            bundle
        );
    }
    umoci_unpack(&layout, "4", &place.at("last"));
    let theirs = tree(&place.at("last/rootfs"));

    let store = place.store("store");
    let loaded = store
        .load(Source::Path(layout.clone()), Load::default())
        .unwrap();
    let whole = loaded
        .iter()
        .max_by_key(|image| image.layers.len())
        .unwrap();
    assert_eq!(whole.layers.len(), 4);
    assert_same(
        &merged(&store.resolve(whole.id.as_str()).unwrap().layers),
        &theirs,
    );
    assert_eq!(store.verify().unwrap().problems, [""; 0]);

    // The same through a Docker archive is the same image.
    let archive = place.at("docker.tar");
    let to = format!("docker-archive:{}:their/name:1", archive.display());
    run!(
        "skopeo",
        "--insecure-policy",
        "--tmpdir",
        place.at(""),
        "copy",
        "--quiet",
        format!("oci:{}", image("4")),
        to
    );
    let again = store.load(Source::Path(archive), Load::default()).unwrap();
    assert_eq!(again[0].id, whole.id);
    assert!(
        again[0].names[0].ends_with("their/name:1"),
        "{:?}",
        again[0].names
    );
}
