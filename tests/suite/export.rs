//! Paths of a live sandbox as tar streams, whatever its programs do meanwhile.

use crate::commit::{Boxed, export, untar};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use stockade::image::Commit;
use stockade::{Bytes, ErrorKind, Overlay, Sandbox};

#[test]
fn any_path_is_exported() {
    let boxed = Boxed::new();
    let mut all: Vec<Sandbox> = boxed.sandboxes();
    all.push(Sandbox::start(&boxed.spec("base:1", &[]).overlay(Overlay::Copy)).expect("it starts"));
    for (n, sandbox) in all.into_iter().enumerate() {
        boxed.run(
            &sandbox,
            &[
                "fs",
                "mkdir:/work/out",
                "put:/work/out/file:text",
                "symlink:/work/out/link:/etc/passwd",
                "chmod:/work/out/file:640",
                "ln:/work/out/same:/work/out/file",
            ],
        );
        boxed.run(&sandbox, &["fifo", "/work/out/fifo"]);
        let to = boxed.at(&format!("out{n}"));
        let seen = untar(&export(&sandbox, "out"), &to);
        let names: Vec<_> = seen
            .keys()
            .map(|path| path.to_str().expect("UTF-8"))
            .collect();
        assert_eq!(
            names,
            ["out", "out/fifo", "out/file", "out/link", "out/same"]
        );
        assert_eq!(
            seen[Path::new("out/link")].content,
            b"/etc/passwd",
            "it is not followed"
        );
        assert_eq!(seen[Path::new("out/file")].mode, 0o640);
        let inode = |name: &str| to.join(name).metadata().expect("stat").ino();
        assert_eq!(inode("out/file"), inode("out/same"));

        let one = untar(
            &export(&sandbox, "/work/out/file"),
            &boxed.at(&format!("one{n}")),
        );
        assert_eq!(one[Path::new("file")].content, b"text");
        let link = untar(
            &export(&sandbox, "/work/out/link"),
            &boxed.at(&format!("link{n}")),
        );
        assert_eq!(link[Path::new("link")].kind, "link");
        assert_eq!(sandbox.get("/etc/hostname").expect("gets"), b"stockade\n");
        // What is mounted below is no part of it.
        let root = untar(&export(&sandbox, "/"), &boxed.at(&format!("root{n}")));
        for mounted in ["proc", "work", "tmp", "dev"] {
            let below = root.keys().filter(|path| path.starts_with(mounted));
            assert_eq!(below.count(), 1, "{mounted}");
        }
        let error = sandbox
            .export("/nothing", &mut Vec::new())
            .expect_err("not there");
        assert_eq!(error.errno(), libc::ENOENT, "{error}");
        let error = sandbox
            .export("/work/out/link/x", &mut Vec::new())
            .expect_err("behind a link");
        assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
        let error = sandbox
            .export("/a/../b", &mut Vec::new())
            .expect_err("`..`");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

/// A tree that changes and lies while it is read.
#[test]
fn a_hostile_tree_is_exported_and_committed_without_harm() {
    let boxed = Boxed::new();
    for (n, sandbox) in boxed.sandboxes().into_iter().enumerate() {
        let mut spec = sandbox.spec().clone();
        spec.args = ["/bin/guest", "swap", "/srv/swapped"]
            .map(Bytes::from)
            .into();
        let process = sandbox.spawn(&spec).expect("it starts");
        process.pid().expect("it runs");
        let secret = boxed.at(&format!("secret{n}"));
        std::fs::write(&secret, "secret").expect("write");
        let before = std::fs::metadata("/etc/shadow").expect("stat").mode();
        for _ in 0..30 {
            // What it is just then; never what a link leads to on the host.
            let mut tar = Vec::new();
            match sandbox.export("/srv", &mut tar) {
                Ok(_) => {}
                Err(e) => assert_eq!(e.kind(), ErrorKind::Setup, "{e}"),
            }
            match sandbox.commit(&["hostile"], &Commit::new().pause(false)) {
                Ok(_) => {}
                Err(e) => assert_eq!(e.kind(), ErrorKind::Setup, "{e}"),
            }
        }
        assert!(
            process.poll().expect("poll").is_none(),
            "it still does that"
        );
        assert_eq!(
            std::fs::metadata("/etc/shadow").expect("stat").mode(),
            before
        );
        assert_eq!(boxed.store().verify().expect("verify").problems, [""; 0]);
    }
}
