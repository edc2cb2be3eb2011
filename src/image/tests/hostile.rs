//! Streams that try what they must not: refused by the name of the rule, or contained.

use super::{Header, Place, Tar};
use crate::error::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// Unpacks a stream that must be refused by `rule`, with nothing written outside.
#[track_caller]
fn refused(rule: &str, tar: Vec<u8>) {
    let place = Place::new();
    let error = place.unpack("layer", &tar, &[]).unwrap_err();
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::Image, rule),
        "{error}"
    );
    place.assert_untouched();
}

/// Unpacks a stream that is contained.
#[track_caller]
fn contained(tar: Vec<u8>) -> Place {
    let place = Place::new();
    place.unpack("layer", &tar, &[]).unwrap();
    place.assert_untouched();
    place
}

#[test]
fn paths_that_leave() {
    for name in [
        "../outside/new",
        "a/../../outside/new",
        "..",
        "a/..",
        "./../outside/secret",
    ] {
        refused("path", Tar::default().file(name, "x").end());
        refused("path", Tar::default().dir(name).end());
        refused("path", Tar::default().link(name, b'2', "x").end());
        refused(
            "path",
            Tar::default().file("a", "x").link(name, b'1', "a").end(),
        );
        refused(
            "path",
            Tar::default().file("a", "x").link("b", b'1', name).end(),
        );
        refused(
            "path",
            Tar::default()
                .pax(&[("path", name.as_bytes())])
                .file("x", "x")
                .end(),
        );
    }
    // As Docker does, an absolute name is one of the image's.
    let place = contained(
        Tar::default()
            .file("/outside/new", "x")
            .file("//a//./b", "y")
            .end(),
    );
    assert_eq!(
        std::fs::read(place.path().join("layer/outside/new")).unwrap(),
        b"x"
    );
    assert_eq!(std::fs::read(place.path().join("layer/a/b")).unwrap(), b"y");
}

#[test]
fn links_as_parents() {
    for target in ["../outside", "/", "..", ".", "a", "/proc/self/cwd"] {
        let link = Tar::default().dir("a").link("way", b'2', target);
        refused("path", link.clone().file("way/new", "x").end());
        refused("path", link.clone().file("way/deep/new", "x").end());
        refused("path", link.clone().link("b", b'1', "way/secret").end());
        refused("path", link.clone().file("way/.wh..wh..opq", "").end());
        // The link itself may be replaced; what was behind it stays.
        let place = contained(link.clone().dir("way").file("way/new", "x").end());
        assert!(
            place
                .path()
                .join("layer/way")
                .symlink_metadata()
                .unwrap()
                .is_dir()
        );
        contained(link.file("way", "x").end());
    }
    // A hard link to a symbolic link is one more name of the link.
    let place = contained(
        Tar::default()
            .link("s", b'2', "../outside/secret")
            .link("h", b'1', "s")
            .file("h", "x")
            .end(),
    );
    assert_eq!(std::fs::read(place.path().join("layer/h")).unwrap(), b"x");
    refused("path", Tar::default().file("a", "x").file("a/b", "y").end());
}

#[test]
fn hard_links_out() {
    refused("entry", Tar::default().link("a", b'1', "/etc/passwd").end());
    refused("entry", Tar::default().link("a", b'1', "no/such").end());
    refused("entry", Tar::default().link("a", b'1', "/").end());
    refused(
        "entry",
        Tar::default().dir("d").link("d/a", b'1', "d").end(),
    );
    // Its target is where it should be itself.
    let place = contained(Tar::default().file("a", "x").link("a", b'1', "a").end());
    assert_eq!(std::fs::read(place.path().join("layer/a")).unwrap(), b"x");
    refused(
        "entry",
        Tar::default()
            .dir("d")
            .file("d/a", "x")
            .link("d", b'1', "d/a")
            .end(),
    );
}

#[test]
fn the_root_is_a_directory() {
    for name in [".", "/", "./", "//", "./."] {
        refused("entry", Tar::default().link(name, b'2', "../outside").end());
        refused(
            "entry",
            Tar::default()
                .pax(&[("path", name.as_bytes())])
                .file("x", "x")
                .end(),
        );
        refused(
            "entry",
            Tar::default().file("a", "x").link(name, b'1', "a").end(),
        );
        refused("entry", Tar::default().other(name, b'6').end());
        let mut root = Header::new(name, b'5', 0);
        root.put(100, b"0000700\0");
        let place = contained(Tar::default().entry(&root, b"").file("a", "x").end());
        let meta = std::fs::metadata(place.path().join("layer")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o700, 100));
    }
    refused("entry", Tar::default().file("", "x").end());
}

#[test]
fn whiteouts_of_what_has_no_name() {
    for name in [".wh.", "a/.wh.", ".wh...", "a/.wh...", ".wh.."] {
        refused("whiteout", Tar::default().file(name, "").end());
    }
    // AUFS's own.
    let place = contained(
        Tar::default()
            .file(".wh..wh.aufs", "")
            .dir(".wh..wh.plnk")
            .end(),
    );
    assert_eq!(
        std::fs::read_dir(place.path().join("layer"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn paths_are_counted_by_their_length() {
    let long = ["x".repeat(200).as_str(); 18].join("/");
    let tar = (0..300).fold(Tar::default(), |tar, i| {
        let path = format!("{long}/.wh.{i}");
        tar.pax(&[("path", path.as_bytes())]).file("short", "")
    });
    refused("limit entries", tar.end());
}

#[test]
fn what_comes_twice() {
    let place = contained(
        Tar::default()
            .dir("d")
            .file("d/a", "1")
            .dir("d/e")
            .file("d/e/f", "1")
            .file("d", "2") // in place of a whole tree
            .dir("d")
            .file("d/a", "3")
            .file("x", "1")
            .link("y", b'1', "x")
            .file("x", "22") // y stays what it was
            .end(),
    );
    let read = |name: &str| std::fs::read_to_string(place.path().join("layer").join(name)).unwrap();
    assert_eq!(
        (read("d/a"), read("x"), read("y")),
        ("3".into(), "22".into(), "1".into())
    );
    assert!(!place.path().join("layer/d/e").exists());
}

#[test]
fn what_only_root_may_make() {
    let mut set_id = Header::new("su", b'0', 1);
    set_id.put(100, b"0006755\0").put(108, b"0001750\0");
    let place = Place::new();
    let tar = Tar::default()
        .other("null", b'3')
        .other("disk", b'4')
        .entry(&set_id, b"x")
        .pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("SCHILY.xattr.user.ok", b"v"),
        ])
        .file("cap", "x")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ])
        .dir("over")
        .other("fifo", b'6')
        .end();
    let dropped = place.unpack("layer", &tar, &[]).unwrap().dropped;
    assert_eq!(
        (dropped.devices, dropped.set_id, dropped.capabilities),
        (2, 1, 1)
    );
    // Root can give files to the ids that its sandboxes have.
    let kept = crate::ids::Ids::of_files().unwrap().is_some();
    assert_eq!(dropped.owners, u64::from(!kept));
    assert!(dropped.xattrs >= 2);
    let at = |name: &str| place.path().join("layer").join(name);
    assert!(!at("null").exists() && !at("disk").exists());
    let su = std::fs::metadata(at("su")).unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o755);
    match crate::ids::Ids::of_files().unwrap() {
        Some((users, _)) => assert!(u64::from(su.uid()) >= users.start && su.uid() > 65_536),
        None => assert_eq!(su.uid(), nix::unistd::geteuid().as_raw()),
    }
    assert!(std::fs::metadata(at("fifo")).unwrap().file_type().is_fifo());
    for file in ["over", "cap"] {
        let attributes = super::fs::xattrs(std::fs::File::open(at(file)).unwrap()).unwrap();
        assert!(
            attributes.iter().all(|(name, _)| name == b"user.ok"),
            "{attributes:?}"
        );
    }
}

#[test]
fn headers_that_lie() {
    let cut = |tar: Vec<u8>, n: usize| tar[..n].to_vec();
    let whole = Tar::default().file("a", &"x".repeat(1000)).end();
    for n in [1, 511, 513, 1000, 1500] {
        refused("format", cut(whole.clone(), n));
    }
    // An end that is left out.
    contained(cut(whole.clone(), 512 + 1024));
    let mut wrong = whole.clone();
    wrong[0] = b'b';
    refused("format", wrong);
    refused("format", vec![b'x'; 2048]);
    contained(Vec::new());
    // What different tools would see differently.
    refused(
        "format",
        Tar::default()
            .file("a", "")
            .raw(&[0; 512])
            .file("b", "")
            .end(),
    );
    for size in [
        &b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"9999999999\0\0",
        b"-0000000001\0",
    ] {
        let mut header = Header::new("a", b'0', 0);
        header.put(124, size);
        refused("format", Tar::default().entry(&header, b"").end());
    }
    // A size that promises more than the limit is refused before anything is written.
    let mut header = Header::new("a", b'0', 0);
    header.put(124, b"\x80\0\0\0\0\0\0\x10\0\0\0\0");
    refused("limit size", Tar::default().entry(&header, b"").end());
    let pax = |records: &[(&str, &[u8])]| Tar::default().pax(records).file("a", "x").end();
    refused("format", pax(&[("size", b"-1")]));
    refused("format", pax(&[("size", b"99999999999999999999999")]));
    refused("format", pax(&[("size", b"100000")]));
    refused("format", pax(&[("mtime", b"yesterday")]));
    refused("path", pax(&[("path", b"a\0b")]));
    refused("path", pax(&[("path", "a/".repeat(300).as_bytes())]));
    refused("path", pax(&[("path", &[b'a'; 256])]));
    refused("path", pax(&[("path", &[b'a'; 5000])]));
    refused("limit metadata", pax(&[("comment", &vec![b'a'; 2 << 20])]));
    for records in [
        "5 a=b",
        "x a=b\n",
        "6 a=b\n7",
        "999999999999999999999 a=b\n",
        "3 \n",
        "-6 a=b\n",
    ] {
        let header = Header::new("p", b'x', records.len() as u64);
        refused(
            "format",
            Tar::default()
                .entry(&header, records.as_bytes())
                .file("a", "")
                .end(),
        );
    }
    refused("format", Tar::default().other("a", b'M').end());
    refused("entry", Tar::default().link("a", b'2', "").end());
}

#[test]
fn times_of_any_age() {
    for time in [
        "-99999999999999",
        "99999999999999999",
        "-1.5",
        "1.999999999999",
        "0.000000001",
    ] {
        contained(
            Tar::default()
                .pax(&[("mtime", time.as_bytes())])
                .file("a", "x")
                .end(),
        );
    }
    let place = contained(
        Tar::default()
            .pax(&[("mtime", b"-1.25")])
            .file("a", "x")
            .end(),
    );
    let meta = std::fs::metadata(place.path().join("layer/a")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 750_000_000));
}

#[test]
fn sparse_files_that_lie() {
    let sparse = |size: &str, map: &str, data: &str| {
        let records = [
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        Tar::default().pax(&records).file("a", data).end()
    };
    let place = contained(sparse("1000000", "0,2,500000,3", "abcde"));
    let data = std::fs::read(place.path().join("layer/a")).unwrap();
    assert_eq!(
        (data.len(), &data[..2], &data[500_000..500_003]),
        (1_000_000, &b"ab"[..], &b"cde"[..])
    );
    assert!(
        std::fs::metadata(place.path().join("layer/a"))
            .unwrap()
            .blocks()
            < 100
    );
    refused("format", sparse("4", "0,2,500000,3", "abcde"));
    refused("format", sparse("1000000", "0,2,1,3", "abcde"));
    refused("format", sparse("1000000", "5,3,0,2", "abcde"));
    refused("format", sparse("1000000", "0,2,500000", "abcde"));
    refused("format", sparse("1000000", "0,2", "abcde"));
    refused(
        "format",
        sparse("1000000", "18446744073709551615,2,0,3", "abcde"),
    );
    refused("limit size", sparse("9000000000000", "0,5", "abcde"));
    let one = |map: &str| {
        let records = [
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.realsize", b"9000"),
            ("GNU.sparse.name", b"named"),
        ];
        Tar::default()
            .pax(&records)
            .file("a", &format!("{map:\0<512}abc"))
            .end()
    };
    let place = contained(one("1\n4096\n3\n"));
    assert_eq!(
        std::fs::read(place.path().join("layer/named")).unwrap()[4096..4099],
        *b"abc"
    );
    for map in [
        "2\n4096\n3\n",
        "x\n",
        "\n\n\n",
        "99999999999999999999999\n",
        "70000\n",
        "1\n4096\n4\n",
    ] {
        refused("format", one(map));
    }
    let old = |pieces: &[&str], size: &str| {
        let mut header = Header::new("a", b'S', 3);
        header.put(257, b"ustar  \0").put(483, size.as_bytes());
        for (i, piece) in pieces.iter().enumerate() {
            header.put(386 + 24 * i, piece.as_bytes());
        }
        Tar::default().entry(&header, b"abc").end()
    };
    let place = contained(old(&["00000010000\x0000000000003\0"], "00000020000\0"));
    assert_eq!(
        std::fs::read(place.path().join("layer/a")).unwrap()[4096..4099],
        *b"abc"
    );
    refused(
        "format",
        old(&["00000010000\x0000000000004\0"], "00000020000\0"),
    );
    refused(
        "format",
        old(&["00000010000\x0000000000003\0"], "00000000000\0"),
    );
}

#[test]
fn too_many_entries() {
    let mut tar = Tar::default();
    for i in 0..5001 {
        tar = tar.dir(&format!("{i}"));
    }
    refused("limit entries", tar.end());
}

/// No stream, however it is bent, makes the reader panic, hang or leave its directory.
#[test]
fn bent_streams() {
    let tar = Tar::default()
        .dir("d")
        .file("d/a", "hello")
        .link("d/s", b'2', "../../outside")
        .link("d/h", b'1', "d/a")
        .pax(&[
            ("path", b"d/long"),
            ("SCHILY.xattr.user.x", b"y"),
            ("mtime", b"5.5"),
        ])
        .file("x", "world")
        .entry(&Header::new("L", b'L', 10), b"d/gnu-long")
        .file("x", "!")
        .file("d/.wh.gone", "")
        .pax(&[
            ("GNU.sparse.size", b"5000"),
            ("GNU.sparse.map", b"0,2,4000,3"),
        ])
        .file("d/sparse", "abcde")
        .end();
    // A fixed sequence, so that a failure comes again.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let place = Place::new();
    for round in 0..3000 {
        let mut bent = tar.clone();
        for _ in 0..=random(3) {
            // In the header of an entry, mostly.
            let header = random(bent.len() / 512) * 512;
            let at = header + random(512);
            bent[at] = match random(4) {
                0 => b'.',
                1 => b'/',
                2 => 0,
                _ => random(256) as u8,
            };
        }
        for header in (0..bent.len()).step_by(512) {
            // With a good checksum, so that it is believed.
            if bent[header + 257..].starts_with(b"ustar") {
                let mut block: [u8; 512] = bent[header..header + 512].try_into().unwrap();
                block = Header(block).sealed();
                bent[header..header + 512].copy_from_slice(&block);
            }
        }
        if random(8) == 0 {
            bent.truncate(random(bent.len()));
        }
        let name = format!("layer{round}");
        let _ = place.unpack(&name, &bent, &[]);
        let dir = super::fs::open_dir(place.path()).unwrap();
        super::fs::remove_tree(&dir, name.as_bytes()).unwrap();
    }
    place.assert_untouched();
    let left: Vec<_> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["outside"]);
}
