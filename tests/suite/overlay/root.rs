//! What programs see and change in a writable root, and what is said of it.

use super::*;
use crate::support::{fields, skip, status};
use stockade::{EnforcementStatus, Network, Sandbox};

#[test]
fn a_root_can_be_changed_and_stays_as_it_was() {
    let tree = Tree::new().done();
    let before = content(tree.0.path());
    for overlay in drivers() {
        let all = fields(&run(&over(
            &tree,
            overlay,
            [
                "fs",
                "put:/data/file:upper",
                "cat:/data/file",
                "rm:/data/gone",
                "cat:/data/gone",
                "rm:/data/sub/inner",
                "rmdir:/data/sub",
                "mkdir:/data/sub",
                "cat:/data/sub/inner",
                "put:/data/sub/inner:anew",
                "mkdir:/new",
                "put:/new/file:new",
                "mv:/new/file:/data/moved",
                "cat:/data/moved",
                "chmod:/data:700",
                "symlink:/link:/data/file",
                "cat:/link",
            ],
        )));
        for (step, result) in [
            ("put:/data/file", "OK"),
            ("cat:/data/file", "upper:OK"),
            ("cat:/data/gone", "ENOENT"),
            ("mkdir:/data/sub", "OK"),
            ("cat:/data/sub/inner", "ENOENT"),
            ("put:/data/sub/inner", "OK"),
            ("cat:/data/moved", "new:OK"),
            ("chmod:/data", "OK"),
            ("cat:/link", "upper:OK"),
        ] {
            assert_eq!(all[step], result, "{overlay:?}: {step} of {all:?}");
        }
        assert_eq!(content(tree.0.path()), before, "{overlay:?}");
        // Another sandbox sees nothing of it.
        let fresh = fields(&run(&over(
            &tree,
            overlay,
            ["fs", "cat:/data/file", "cat:/data/gone"],
        )));
        assert_eq!(fresh["cat:/data/file"], "lower:OK", "{overlay:?}");
        assert_eq!(fresh["cat:/data/gone"], "to be removed:OK", "{overlay:?}");
    }
}

#[test]
fn two_sandboxes_over_one_root_do_not_see_each_other() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let [one, two] =
            [(); 2].map(|()| Sandbox::start(&over(&tree, overlay, ["-"])).expect("starts"));
        let write = |sandbox: &Sandbox, text: &str| {
            let step = format!("put:/data/file:{text}");
            let outcome = sandbox
                .run(&over(&tree, overlay, ["fs", &step]))
                .expect("runs");
            assert_eq!(fields(&outcome)["put:/data/file"], "OK", "{overlay:?}");
        };
        let read = |sandbox: &Sandbox| {
            let outcome = sandbox
                .run(&over(&tree, overlay, ["fs", "cat:/data/file"]))
                .expect("runs");
            fields(&outcome)["cat:/data/file"].clone()
        };
        write(&one, "one");
        assert_eq!(
            (read(&one), read(&two)),
            ("one:OK".into(), "lower:OK".into()),
            "{overlay:?}"
        );
        write(&two, "two");
        // What one has written is there for its next program, whatever ended meanwhile.
        assert_eq!(
            (read(&one), read(&two)),
            ("one:OK".into(), "two:OK".into()),
            "{overlay:?}"
        );
    }
}

#[test]
fn layers_are_joined_with_whiteouts_and_opaque_directories() {
    let low = Tree::new();
    std::fs::create_dir(low.at("data/hidden")).expect("mkdir");
    low.write("data/hidden/below", "below");
    let high = Tree::empty();
    std::fs::create_dir_all(high.at("data/hidden")).expect("mkdir");
    high.write("data/hidden/above", "above");
    high.write("data/file", "high");
    let whiteout = std::ffi::CString::new(high.at("data/gone").as_os_str().as_encoded_bytes())
        .expect("no NUL");
    // SAFETY: a plain call on a string that lives through it.
    let made = unsafe { libc::mknod(whiteout.as_ptr(), libc::S_IFCHR | 0o600, 0) };
    if made != 0 {
        skip!("this kernel lets no user make a whiteout");
    }
    let hidden = std::ffi::CString::new(high.at("data/hidden").as_os_str().as_encoded_bytes())
        .expect("no NUL");
    let name = c"user.overlay.opaque";
    // SAFETY: as above.
    let set = unsafe { libc::setxattr(hidden.as_ptr(), name.as_ptr(), b"y".as_ptr().cast(), 1, 0) };
    if set != 0 {
        skip!("the temporary directory takes no attributes of users");
    }
    let (low, high) = (low.done(), high.done());
    for overlay in drivers() {
        let layers = Rootfs::Layers(vec![low.path(), high.path()]);
        let all = fields(&run(&spec(
            layers,
            overlay,
            [
                "fs",
                "cat:/data/file",
                "cat:/data/gone",
                "cat:/data/hidden/below",
                "cat:/data/hidden/above",
                "cat:/data/sub/inner",
            ],
        )));
        for (step, result) in [
            ("cat:/data/file", "high:OK"),
            ("cat:/data/gone", "ENOENT"),
            ("cat:/data/hidden/below", "ENOENT"),
            ("cat:/data/hidden/above", "above:OK"),
            ("cat:/data/sub/inner", "inner:OK"),
        ] {
            assert_eq!(all[step], result, "{overlay:?}: {step}");
        }
    }
}

#[test]
fn users_are_the_images_and_hosts_are_ours() {
    let tree = Tree::new();
    tree.write("etc/hosts", "6.6.6.6 localhost\n");
    let tree = tree.done();
    for overlay in drivers() {
        let spec = over(
            &tree,
            overlay,
            [
                "fs",
                "cat:/etc/passwd",
                "cat:/etc/hosts",
                "cat:/etc/hostname",
            ],
        );
        let all = fields(&run(&spec.hostname("inside")));
        assert!(
            all["cat:/etc/passwd"].starts_with("image:"),
            "{overlay:?}: {all:?}"
        );
        assert!(
            all["cat:/etc/hosts"].starts_with("127.0.0.1 localhost inside"),
            "{overlay:?}: {all:?}"
        );
        assert_eq!(all["cat:/etc/hostname"], "inside", "{overlay:?}: {all:?}");
    }
}

#[test]
fn a_root_can_be_read_only_all_the_same() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let all = fields(&run(&over(
            &tree,
            overlay,
            ["fs", "put:/data/file:x", "put:/work/x:x", "put:/tmp/x:x"],
        )
        .read_only(true)));
        assert_eq!(all["put:/data/file"], "EROFS", "{overlay:?}");
        assert_eq!(
            (&*all["put:/work/x"], &*all["put:/tmp/x"]),
            ("OK", "OK"),
            "{overlay:?}"
        );
    }
}

#[test]
fn outputs_and_files_work_in_the_root() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let spec = over(
            &tree,
            overlay,
            ["fs", "cat:/data/placed", "put:/data/result:out"],
        );
        let outcome = run(&spec
            .file("/data/placed", "placed")
            .collect("/data/result")
            .collect("/data/file"));
        assert_eq!(
            fields(&outcome)["cat:/data/placed"],
            "placed:OK",
            "{overlay:?}"
        );
        for (path, content) in [("/data/result", b"out" as &[u8]), ("/data/file", b"lower")] {
            let output = &outcome.outputs[path];
            assert_eq!(&*output.content, content, "{overlay:?}: {output:?}");
        }
    }
}

#[test]
fn the_network_host_has_the_hosts_resolver() {
    let Ok(resolver) = std::fs::read_to_string("/etc/resolv.conf") else {
        skip!("this host has no /etc/resolv.conf");
    };
    let tree = Tree::new().done();
    let first = resolver.lines().next().unwrap_or_default().to_string();
    let outcome =
        run(&over(&tree, Overlay::Auto, ["read", "/etc/resolv.conf"]).network(Network::Host));
    assert!(outcome.stdout.to_text().contains(&first), "{outcome:?}");
}

#[test]
fn the_outcome_says_which_driver_and_why() {
    let tree = Tree::new().done();
    for (overlay, word) in [
        (Overlay::Kernel, "kernel"),
        (Overlay::Fuse, "fuse-overlayfs"),
        (Overlay::Copy, "copy"),
    ] {
        if drivers().contains(&overlay) {
            let outcome = run(&over(&tree, overlay, ["true"]));
            assert_eq!(status(&outcome, "overlay"), EnforcementStatus::Enforced);
            let by = &outcome.enforcement["overlay"].by;
            assert!(by.contains(word) && by.contains("asked for"), "{by}");
        }
    }
    let outcome = run(&over(&tree, Overlay::Auto, ["true"]));
    assert!(!outcome.enforcement["overlay"].by.contains("asked for"));
    assert!(
        !run(&crate::support::guest_spec(["true"]))
            .enforcement
            .contains_key("overlay")
    );
}

#[test]
fn mistakes_are_refused_before_anything_starts() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let layers = |layers: &[&str]| Rootfs::Layers(layers.iter().map(|s| s.to_string()).collect());
    for (root, word) in [
        (Rootfs::Host, "overlay"),
        (layers(&[]), "no directories"),
        (layers(&["relative"]), "absolute"),
        (layers(&["/no/such/layer"]), "/no/such/layer"),
        (
            layers(&[&file.path().display().to_string()]),
            "Not a directory",
        ),
        (Rootfs::Layers(vec!["/usr".into(); 129]), "129"),
    ] {
        let error = spec(root.clone(), Overlay::Auto, ["true"])
            .run()
            .expect_err("refused");
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidArgument,
            "{root:?}: {error}"
        );
        assert!(error.to_string().contains(word), "{root:?}: {error}");
    }
}
