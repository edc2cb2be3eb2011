//! What is asked of a live sandbox with a writable root: changes, a new beginning, files in and out.

use super::*;
use crate::support::fields;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use stockade::{ChangeKind, Sandbox, Volume};

#[test]
fn changes_are_what_docker_diff_would_say() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let sandbox = Sandbox::start(&over(&tree, overlay, ["-"])).expect("starts");
        if overlay == Overlay::Copy {
            assert_eq!(
                sandbox.upper().expect_err("no layer").kind(),
                ErrorKind::Unsupported
            );
        }
        assert_eq!(sandbox.changes().expect("changes"), [], "{overlay:?}");
        let steps = [
            "fs",
            "put:/data/file:upper",
            "rm:/data/gone",
            "rm:/data/sub/inner",
            "rmdir:/data/sub",
            "mkdir:/data/sub",
            "put:/data/sub/anew:x",
            "rmdir:/data/empty",
            "mkdir:/new",
            "put:/new/file:x",
            "put:/work/no-part:x",
            "put:/tmp/no-part:x",
        ];
        let outcome = sandbox.run(&over(&tree, overlay, steps)).expect("runs");
        assert!(
            fields(&outcome).values().all(|result| result == "OK"),
            "{overlay:?}: {outcome:?}"
        );
        let changes: Vec<String> = sandbox
            .changes()
            .expect("changes")
            .iter()
            .map(|c| format!("{} {}", c.kind.letter(), c.path.to_text()))
            .collect();
        assert_eq!(
            changes,
            [
                "C /data",
                "D /data/empty",
                "C /data/file",
                "D /data/gone",
                "C /data/sub",
                "A /data/sub/anew",
                "D /data/sub/inner",
                "A /new",
                "A /new/file",
            ],
            "{overlay:?}"
        );
        assert_eq!(
            sandbox.changes().expect("again")[0].kind,
            ChangeKind::Changed
        );
    }
}

/// A copy has no layer that says what has changed: kind, mode, time and content do.
#[test]
fn changes_of_a_copy_are_seen_in_the_files() {
    let tree = Tree::new();
    symlink("file", tree.at("data/link")).expect("symlink");
    for name in ["altered", "mode", "untouched"] {
        tree.write(&format!("data/{name}"), "lower");
    }
    let tree = tree.done();
    // Some is as old as the copy, some is from long before it.
    for settled in [false, true] {
        let spec = |args: &[&str]| over(&tree, Overlay::Copy, args);
        let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
        if settled {
            std::thread::sleep(Duration::from_millis(100));
        }
        sandbox.run(&spec(&["read", "/data/file"])).expect("runs");
        assert_eq!(sandbox.changes().expect("changes"), []);
        let steps = [
            "fs",
            "alter:/data/altered:UPPER",
            "chmod:/data/mode:600",
            "rm:/data/link",
            "symlink:/data/link:gone",
            "rm:/data/gone",
            "mkdir:/data/gone",
            "put:/data/gone/in:x",
            "rm:/data/sub/inner",
            "rmdir:/data/sub",
            "put:/data/sub:a file",
            "rm:/etc/hosts",
            "put:/etc/hosts:other",
            "rm:/etc/hostname",
            "chmod:/bin:700",
        ];
        let outcome = sandbox.run(&spec(&steps)).expect("runs");
        assert!(
            fields(&outcome).values().all(|result| result == "OK"),
            "{outcome:?}"
        );
        let changes: Vec<String> = sandbox
            .changes()
            .expect("changes")
            .iter()
            .map(|c| format!("{} {}", c.kind.letter(), c.path.to_text()))
            .collect();
        assert_eq!(
            changes,
            [
                "C /bin",
                "C /data",
                "C /data/altered",
                "C /data/gone",
                "A /data/gone/in",
                "C /data/link",
                "C /data/mode",
                "C /data/sub",
                "D /data/sub/inner",
                "C /etc",
                "D /etc/hostname",
                "C /etc/hosts",
            ]
        );
    }
}

#[test]
fn a_sandbox_begins_anew() {
    let tree = Tree::new().done();
    let given = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(given.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::write(given.path().join("given"), "given").expect("write");
    for overlay in drivers() {
        let mut own = over(&tree, overlay, ["-"]);
        own.volumes.push(Volume {
            host: given.path().display().to_string(),
            inside: "/mnt/vol".into(),
            writable: false,
        });
        let sandbox = Sandbox::start(&own).expect("starts");
        for round in 0..5 {
            let mut program = own.clone();
            program.args = over(
                &tree,
                overlay,
                [
                    "fs",
                    "cat:/data/file",
                    "put:/data/file:changed",
                    "rm:/data/gone",
                    "cat:/work/left",
                    "put:/work/left:left",
                    "cat:/mnt/vol/given",
                ],
            )
            .args;
            let outcome = sandbox.run(&program).expect("runs");
            let all = fields(&outcome);
            for (step, result) in [
                ("cat:/data/file", "lower:OK"),
                ("put:/data/file", "OK"),
                ("rm:/data/gone", "OK"),
                ("cat:/work/left", "ENOENT"),
                ("cat:/mnt/vol/given", "given:OK"),
            ] {
                assert_eq!(all[step], result, "{overlay:?}, round {round}: {all:?}");
            }
            // A program that runs ends with it.
            program.args = over(&tree, overlay, ["sleep", "20"]).args;
            let running = sandbox.spawn(&program).expect("spawns");
            assert!(running.pid().is_some());
            sandbox.reset().expect("resets");
            let outcome = running.wait().expect("an outcome");
            assert_eq!(
                (outcome.verdict, outcome.signal),
                (Verdict::Killed, Some(libc::SIGKILL)),
                "{overlay:?}: {outcome:?}"
            );
            assert_eq!(sandbox.changes().expect("changes"), [], "{overlay:?}");
        }
        sandbox.close().expect("closes");
        assert_eq!(
            sandbox.reset().expect_err("closed").kind(),
            ErrorKind::State
        );
    }
    let without = Sandbox::start(&crate::support::guest_spec(["-"])).expect("starts");
    assert_eq!(
        without.reset().expect_err("no root of its own").kind(),
        ErrorKind::State
    );
    assert_eq!(
        without.changes().expect_err("no root of its own").kind(),
        ErrorKind::State
    );
}

#[test]
fn files_and_trees_go_in_and_out() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let sandbox = Sandbox::start(&over(&tree, overlay, ["-"])).expect("starts");
        let run = |args: &[&str]| sandbox.run(&over(&tree, overlay, args)).expect("runs");
        // While a program runs.
        let running = sandbox
            .spawn(&over(&tree, overlay, ["sleep", "20"]))
            .expect("spawns");
        sandbox.put("/data/sub/put", "given", None).expect("puts");
        sandbox
            .put("deep/er/file", "below /work", Some(0o600))
            .expect("puts");
        let all = fields(&run(&["fs", "cat:/data/sub/put", "cat:/work/deep/er/file"]));
        assert_eq!(all["cat:/data/sub/put"], "given:OK", "{overlay:?}");
        assert_eq!(
            all["cat:/work/deep/er/file"], "below /work:OK",
            "{overlay:?}"
        );
        for (path, content) in [("/data/file", "lower"), ("/data/sub/put", "given")] {
            assert_eq!(
                sandbox.get(path).expect("gets"),
                content.as_bytes(),
                "{overlay:?}"
            );
        }
        drop(running);

        let out = tempfile::tempdir().expect("a directory");
        run(&[
            "fs",
            "symlink:/data/link:/etc/shadow",
            "rm:/data/gone",
            "put:/data/new:new",
        ]);
        let copy = out.path().join("data");
        sandbox.get_tree("/data", &copy).expect("copies");
        let read = |path: &str| std::fs::read_to_string(copy.join(path));
        assert_eq!(read("file").expect("there"), "lower", "{overlay:?}");
        assert_eq!(read("new").expect("there"), "new", "{overlay:?}");
        assert_eq!(read("sub/inner").expect("there"), "inner", "{overlay:?}");
        assert!(
            read("gone").is_err() && copy.join("empty").is_dir(),
            "{overlay:?}"
        );
        let link = std::fs::read_link(copy.join("link")).expect("a link");
        assert_eq!(link, Path::new("/etc/shadow"), "{overlay:?}");
        // And back in, elsewhere.
        sandbox.put_tree("/opt/copied", &copy).expect("copies");
        let all = fields(&run(&[
            "fs",
            "cat:/opt/copied/sub/inner",
            "cat:/opt/copied/new",
        ]));
        assert_eq!(all["cat:/opt/copied/sub/inner"], "inner:OK", "{overlay:?}");
        assert_eq!(all["cat:/opt/copied/new"], "new:OK", "{overlay:?}");
        assert!(
            sandbox.get_tree("/data", &copy).is_err(),
            "it is there already"
        );
    }
}

#[test]
fn no_link_is_followed_on_the_way_in_or_out() {
    let sandbox = Sandbox::start(&crate::support::guest_spec(["-"])).expect("starts");
    let links = [
        "fs",
        "symlink:/work/out:/proc/self",
        "symlink:/work/file:/etc/passwd",
        "mkdir:/work/dir",
    ];
    sandbox
        .run(&crate::support::guest_spec(links))
        .expect("runs");
    for path in ["out/status", "file", "/proc/self/status", "dir", "missing"] {
        let error = sandbox.get(path).expect_err("refused");
        assert!(error.to_string().contains(path), "{path}: {error}");
    }
    assert!(sandbox.put("out/x", "x", None).is_err());
    assert!(
        sandbox.put("/usr/x", "x", None).is_err(),
        "a read-only root"
    );
    assert!(sandbox.put("/work/../x", "x", None).is_err());
    assert!(sandbox.put("x", "x", Some(0o4755)).is_err());
    // A link in the place of a file is replaced, not written through.
    sandbox.put("file", "ours", None).expect("puts");
    assert_eq!(sandbox.get("file").expect("gets"), b"ours");
    let fifo = crate::support::guest_spec(["fifo", "/work/fifo"]);
    sandbox.run(&fifo).expect("runs");
    assert!(sandbox.get("fifo").is_err(), "it would wait for ever");
    let full = sandbox
        .put("big", vec![1; 65 << 20], None)
        .expect_err("larger than the disk");
    assert_eq!(full.errno(), libc::ENOSPC, "{full}");
    sandbox.close().expect("closes");
    assert_eq!(
        sandbox.get("file").expect_err("closed").kind(),
        ErrorKind::State
    );
}
