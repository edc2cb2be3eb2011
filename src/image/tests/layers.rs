//! What layers are once they are unpacked over one another, and what becomes a layer again.

use super::{Header, Place, Tar};
use crate::image::{Upper, layer_from_upper, verify};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

fn is_whiteout(place: &Place, path: &str) -> bool {
    place
        .path()
        .join(path)
        .symlink_metadata()
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn is_opaque(place: &Place, path: &str) -> bool {
    super::fs::is_opaque(place.open(path)).unwrap()
}

fn base(place: &Place) {
    let mut closed = Header::new("tmp", b'5', 0);
    closed.put(100, b"0001777\0");
    let tar = Tar::default()
        .entry(&closed, b"")
        .dir("d")
        .file("d/a", "1")
        .file("d/b", "1")
        .file("f", "1")
        .link("s", b'2', "d")
        .end();
    place.unpack("base", &tar, &[]).unwrap();
}

#[test]
fn whiteouts_hide_what_is_below() {
    let place = Place::new();
    base(&place);
    let tar = Tar::default()
        .file("d/.wh.a", "")
        .file(".wh.f", "")
        .file(".wh.never", "")
        .file("no/such/.wh.x", "")
        .end();
    place.unpack("top", &tar, &["base"]).unwrap();
    assert!(is_whiteout(&place, "top/d/a"));
    assert!(is_whiteout(&place, "top/f"));
    // What is not there needs no hiding: it would be seen in a listing.
    assert!(!is_whiteout(&place, "top/never"));
    assert!(!place.path().join("top/no").exists());
    // Hidden once, it is gone for the layers above.
    place
        .unpack(
            "third",
            &Tar::default().file(".wh.f", "").end(),
            &["base", "top"],
        )
        .unwrap();
    assert!(!is_whiteout(&place, "third/f"));
}

#[test]
fn whiteouts_are_about_layers_below_in_any_order() {
    for (order, tar) in [
        (
            "before",
            Tar::default()
                .file(".wh.d", "")
                .dir("d")
                .file("d/new", "2")
                .file(".wh.f", "")
                .file("f", "2"),
        ),
        (
            "after",
            Tar::default()
                .dir("d")
                .file("d/new", "2")
                .file(".wh.d", "")
                .file("f", "2")
                .file(".wh.f", ""),
        ),
    ] {
        let place = Place::new();
        base(&place);
        place.unpack("top", &tar.end(), &["base"]).unwrap();
        assert!(is_opaque(&place, "top/d"), "{order}");
        assert_eq!(std::fs::read(place.path().join("top/d/new")).unwrap(), b"2");
        assert_eq!(std::fs::read(place.path().join("top/f")).unwrap(), b"2");
    }
}

/// As umoci writes what was replaced by a file: all that was in it is removed one by one.
#[test]
fn whiteouts_behind_what_replaced_their_directory() {
    let place = Place::new();
    base(&place);
    for (name, tar) in [
        (
            "file",
            Tar::default()
                .file("d/.wh.a", "")
                .file("d", "2")
                .file("d/.wh.b", ""),
        ),
        (
            "link",
            Tar::default()
                .link("d", b'2', "../outside")
                .file("d/.wh.b", ""),
        ),
    ] {
        place.unpack(name, &tar.end(), &["base"]).unwrap();
        assert!(
            !place
                .path()
                .join(name)
                .join("d")
                .symlink_metadata()
                .unwrap()
                .is_dir()
        );
    }
    place.assert_untouched();
}

#[test]
fn opaque_directories() {
    let place = Place::new();
    base(&place);
    place
        .unpack(
            "top",
            &Tar::default()
                .file("d/.wh..wh..opq", "")
                .file("d/new", "2")
                .end(),
            &["base"],
        )
        .unwrap();
    assert!(is_opaque(&place, "top/d") && !is_opaque(&place, "top"));
    assert!(!place.path().join("top/d/.wh..wh..opq").exists());
    // What is behind an opaque directory is not there to be hidden.
    place
        .unpack(
            "third",
            &Tar::default().file("d/.wh.a", "").end(),
            &["base", "top"],
        )
        .unwrap();
    assert!(!is_whiteout(&place, "third/d/a"));
}

#[test]
fn implied_directories_are_as_below() {
    let place = Place::new();
    base(&place);
    place
        .unpack(
            "top",
            &Tar::default().file("tmp/x", "2").file("new/y", "2").end(),
            &["base"],
        )
        .unwrap();
    let meta = |path: &str| std::fs::metadata(place.path().join(path)).unwrap();
    assert_eq!(meta("top/tmp").mode() & 0o7777, 0o1777);
    assert_eq!(meta("top/tmp").mtime(), 100);
    assert_eq!(
        (meta("top/new").mode() & 0o7777, meta("top/new").mtime()),
        (0o755, 0)
    );
    // A link below, and something behind it: nobody knows which of two places is meant.
    for name in ["s/x", "f/x"] {
        let error = place
            .unpack(
                &name.replace('/', "-"),
                &Tar::default().file(name, "2").end(),
                &["base"],
            )
            .unwrap_err();
        assert_eq!(error.step(), "path", "{error}");
    }
}

#[test]
fn directories_that_keep_their_owner_out() {
    let place = Place::new();
    let mut closed = Header::new("c", b'5', 0);
    closed.put(100, b"0000000\0");
    let tar = Tar::default()
        .entry(&closed, b"")
        .file("c/a", "1")
        .file("c/d/e", "1")
        .end();
    place.unpack("layer", &tar, &[]).unwrap();
    let meta = std::fs::metadata(place.path().join("layer/c")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0);
}

/// What a directory becomes as a layer.
fn packed(place: &Place, dir: &str, fuse: bool) -> Result<Vec<u8>, crate::Error> {
    let (dir, mut tar) = (place.open(dir), Vec::new());
    layer_from_upper(&Upper::new(dir.as_fd()).fuse(fuse), &mut tar)?;
    Ok(tar)
}

#[test]
fn a_layer_survives_being_packed_and_unpacked() {
    let place = Place::new();
    base(&place);
    let long = "long/".repeat(40) + "name";
    let tar = Tar::default()
        .file("d/.wh.a", "")
        .dir("n")
        .file("n/.wh..wh..opq", "")
        .file("n/x", "hello")
        .link("n/h", b'1', "n/x")
        .link("n/s", b'2', "/etc/passwd")
        .other("n/fifo", b'6')
        .pax(&[("path", long.as_bytes()), ("SCHILY.xattr.user.a", b"\0\n=")])
        .file("x", "deep")
        .pax(&[("linkpath", &[b'l'; 300])])
        .link("n/far", b'2', "x")
        .end();
    place.unpack("top", &tar, &["base"]).unwrap();
    let one = packed(&place, "top", false).unwrap();
    assert_eq!(
        one,
        packed(&place, "top", false).unwrap(),
        "the same directory gives the same bytes"
    );
    place.unpack("again", &one, &["base"]).unwrap();
    let mut differences = Vec::new();
    verify::compare(
        &place.open("top"),
        &place.open("again"),
        &mut Vec::new(),
        &mut differences,
    )
    .unwrap();
    assert_eq!(differences, [""; 0]);
    let inode = |name: &str| std::fs::metadata(place.path().join(name)).unwrap().ino();
    assert_eq!(inode("again/n/x"), inode("again/n/h"));
    assert!(is_opaque(&place, "again/n"));
    // Other tools read it as well.
    let archive = place.path().join("one.tar");
    std::fs::write(&archive, &one).unwrap();
    let listed = std::process::Command::new("tar")
        .arg("tf")
        .arg(&archive)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line == "d/.wh.a"), "{listed}");
    assert!(listed.contains(&long), "{listed}");
}

#[test]
fn names_that_no_layer_can_hold() {
    let place = Place::new();
    drop(place.layer("upper"));
    std::fs::write(place.path().join("upper/.wh.etc"), "").unwrap();
    let error = packed(&place, "upper", false).unwrap_err();
    assert_eq!(error.step(), "whiteout", "{error}");
    // fuse-overlayfs writes them where it may not make devices.
    let tar = packed(&place, "upper", true).unwrap();
    assert!(tar.starts_with(b".wh.etc\0"));
}

#[test]
fn overlays_that_share_data_with_their_lower_layers() {
    let place = Place::new();
    let upper = place.layer("upper");
    std::fs::create_dir(place.path().join("upper/moved")).unwrap();
    let moved = place.open("upper/moved");
    if super::fs::set_xattr(&moved, b"user.overlay.redirect", b"/d").is_err() {
        return; // no user attributes here; the rest of the suite needs none either
    }
    assert_eq!(
        packed(&place, "upper", false).unwrap_err().step(),
        "overlay"
    );
    drop(upper);
}
