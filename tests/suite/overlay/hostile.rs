//! Trees that mean harm, and programs that do.

use super::*;
use crate::support::fields;
use std::os::unix::fs::{PermissionsExt, symlink};
use stockade::{Tmpfs, Volume};

/// Init holds the root that it has made the sandbox's of, and more: none of it is a way out for who names it.
#[test]
fn no_descriptor_of_inits_is_a_working_directory() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let sandbox = stockade::Sandbox::start(&over(&tree, overlay, ["-"])).expect("starts");
        let mut outside = 0;
        for fd in 0..40 {
            let spec = over(&tree, overlay, ["cwd"]).cwd(format!("/proc/self/fd/{fd}"));
            let said = match sandbox.run(&spec) {
                Ok(outcome) if outcome.verdict == Verdict::Ok => continue, // where it is it can say
                Ok(outcome) => {
                    assert_eq!(
                        outcome.verdict,
                        Verdict::ExecFailed,
                        "{overlay:?}: {outcome:?}"
                    );
                    outcome.message.unwrap_or_default()
                }
                Err(e) => e.to_string(),
            };
            outside += usize::from(said.contains("lies inside"));
        }
        assert!(outside > 0, "{overlay:?}: nothing was tried");
    }
}

#[test]
fn a_hostile_tree_leads_nowhere() {
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    let tree = Tree::new();
    for name in ["dev", "proc", "sys", "tmp", "work", "run", "mnt"] {
        symlink(outside.path(), tree.at(name)).expect("symlink");
    }
    std::fs::remove_file(tree.at("etc/passwd")).expect("remove");
    let fifo = std::ffi::CString::new(tree.at("etc/passwd").as_os_str().as_encoded_bytes())
        .expect("no NUL");
    // SAFETY: a plain call on a string that lives through it.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);
    symlink(outside.path().join("hosts"), tree.at("etc/hosts")).expect("symlink");
    symlink(outside.path().join("hostname"), tree.at("etc/hostname")).expect("symlink");
    let tree = tree.done();
    for overlay in drivers() {
        let mut spec = over(
            &tree,
            overlay,
            [
                "fs",
                "cat:/etc/hosts",
                "cat:/etc/passwd",
                "put:/dev/null:x",
                "put:/work/x:x",
                "put:/tmp/x:x",
                "put:/dev/shm/x:x",
                "put:/mnt/own/x:x",
                "cat:/mnt/vol/given",
            ],
        );
        let given = outside.path().join("given");
        std::fs::create_dir_all(&given).expect("mkdir");
        std::fs::write(given.join("given"), "given").expect("write");
        spec.tmpfs.push(Tmpfs {
            path: "/mnt/own".into(),
            size: None,
            inodes: None,
        });
        spec.volumes.push(Volume {
            host: given.display().to_string(),
            inside: "/mnt/vol".into(),
            writable: false,
        });
        let all = fields(&run(&spec.file("made", "by us")));
        assert!(
            all["cat:/etc/hosts"].starts_with("127.0.0.1 localhost"),
            "{overlay:?}: {all:?}"
        );
        assert!(
            all["cat:/etc/passwd"].starts_with("root:x:0:0"),
            "{overlay:?}: {all:?}"
        );
        for step in [
            "put:/dev/null",
            "put:/work/x",
            "put:/tmp/x",
            "put:/dev/shm/x",
            "put:/mnt/own/x",
        ] {
            assert_eq!(all[step], "OK", "{overlay:?}: {step}");
        }
        assert_eq!(all["cat:/mnt/vol/given"], "given:OK", "{overlay:?}");
        let left: Vec<_> = std::fs::read_dir(outside.path())
            .expect("read_dir")
            .map(|e| e.expect("an entry").file_name())
            .collect();
        assert_eq!(
            left,
            ["given"],
            "{overlay:?}: something was written outside"
        );
        std::fs::remove_dir_all(&given).expect("remove");
    }
}

/// An `/etc` that leads out is hidden as a whole.
#[test]
fn an_etc_that_is_a_link_is_hidden() {
    let tree = Tree::new();
    std::fs::remove_dir_all(tree.at("etc")).expect("remove");
    symlink("/proc/1/root/etc", tree.at("etc")).expect("symlink");
    let tree = tree.done();
    for overlay in drivers() {
        let all = fields(&run(&over(
            &tree,
            overlay,
            ["fs", "cat:/etc/hosts", "cat:/etc/shadow"],
        )));
        assert!(
            all["cat:/etc/hosts"].starts_with("127.0.0.1"),
            "{overlay:?}: {all:?}"
        );
        assert_eq!(all["cat:/etc/shadow"], "ENOENT", "{overlay:?}");
    }
}

#[test]
fn what_the_root_is_made_of_is_out_of_reach() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let all = fields(&run(&over(
            &tree,
            overlay,
            [
                "fs",
                "cat:/lower/0/data/file",
                "cat:/box/upper/x",
                "cat:/fuse",
                "cat:/../lower/0/data/file",
                "cat:/proc/1/root/lower/0/data/file",
                "cat:/usr/bin/env",
            ],
        )));
        assert!(
            all.values()
                .all(|result| ["ENOENT", "EACCES", "EPERM"].contains(&result.as_str())),
            "{overlay:?}: {all:?}"
        );
        // The program that serves the root is none of the sandbox's.
        let outcome = run(&over(&tree, overlay, ["ps"]));
        assert!(
            outcome.stdout.to_text().lines().count() <= 2,
            "{overlay:?}: {outcome:?}"
        );
    }
}
