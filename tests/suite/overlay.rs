//! Writable roots: a layer of the sandbox's own over directories that stay as they are. Every test runs with each
//! driver that this host has.

use crate::hosts::say;
use crate::support::{
    Host, descendants, enforced, fields, guest_dir, is_root, skip, status, wait_until,
};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stockade::{
    ChangeKind, Enforce, EnforcementStatus, ErrorKind, Network, Outcome, Overlay, Rootfs, Sandbox,
    Spec, Tmpfs, Verdict, Volume,
};

/// Root's sandboxes have the host's ids from here on: what they may change is owned by those.
const ROOTS_IDS: u32 = 2_000_000_000;

/// A directory to be a root file system: the guest, a passwd, and some files. As root it belongs to root inside.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a directory"));
        for dir in ["bin", "etc", "data", "data/sub", "data/empty"] {
            std::fs::create_dir(tree.at(dir)).expect("mkdir");
        }
        std::fs::copy(guest_dir().join("guest"), tree.at("bin/guest")).expect("copy");
        for (path, content) in [
            ("etc/passwd", "image:x:0:0::/:/bin/guest\n"),
            ("data/file", "lower"),
            ("data/gone", "to be removed"),
            ("data/sub/inner", "inner"),
        ] {
            tree.write(path, content);
        }
        tree
    }

    fn empty() -> Tree {
        Tree(tempfile::tempdir().expect("a directory"))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        std::fs::write(self.at(path), content).expect("write");
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    /// As it should be when a sandbox sees it.
    fn done(self) -> Tree {
        std::fs::set_permissions(self.0.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        if is_root() {
            own(self.0.path());
        }
        self
    }
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(ROOTS_IDS), Some(ROOTS_IDS)).expect("chown");
    if path.symlink_metadata().expect("stat").is_dir() {
        for entry in std::fs::read_dir(path).expect("read_dir") {
            own(&entry.expect("an entry").path());
        }
    }
}

/// Every path in a tree, with what it is and has.
fn content(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let seen = path.symlink_metadata().expect("stat");
        let mut bytes = Vec::new();
        if seen.is_dir() {
            let entries = std::fs::read_dir(&path).expect("read_dir");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if seen.is_file() {
            bytes = std::fs::read(&path).expect("read");
        }
        all.insert(path, (seen.mode(), seen.mtime(), bytes));
    }
    all
}

fn spec<T: AsRef<[u8]>>(root: Rootfs, overlay: Overlay, args: impl IntoIterator<Item = T>) -> Spec {
    let mut all = vec![b"/bin/guest".to_vec()];
    all.extend(args.into_iter().map(|arg| arg.as_ref().to_vec()));
    Spec::new(all)
        .rootfs(root)
        .overlay(overlay)
        .user("0")
        .wall_time(Duration::from_secs(30))
}

fn over<T: AsRef<[u8]>>(tree: &Tree, overlay: Overlay, args: impl IntoIterator<Item = T>) -> Spec {
    spec(Rootfs::Directory(tree.path()), overlay, args)
}

/// The drivers that work here; why another does not is noted.
fn drivers() -> Vec<Overlay> {
    let tree = Tree::new().done();
    let mut found = Vec::new();
    for overlay in [Overlay::Kernel, Overlay::Fuse, Overlay::Copy] {
        match over(&tree, overlay, ["true"]).run() {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Ok, "{overlay:?}: {outcome:?}");
                found.push(overlay);
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                crate::support::note_skip(&e.to_string());
            }
            Err(e) => panic!("{overlay:?}: {e}"),
        }
    }
    found
}

fn run(spec: &Spec) -> Outcome {
    let outcome = spec
        .run()
        .unwrap_or_else(|e| panic!("{:?}: {e}", spec.overlay));
    assert_eq!(
        outcome.verdict,
        Verdict::Ok,
        "{:?}: {outcome:?}",
        spec.overlay
    );
    outcome
}

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
fn the_disk_and_inode_limits_hold_for_the_root() {
    let tree = Tree::new().done();
    let used: u64 = content(tree.0.path())
        .values()
        .map(|(.., bytes)| bytes.len().next_multiple_of(4096) as u64)
        .sum();
    for overlay in drivers() {
        // A copy is the program's own use.
        let own = if overlay == Overlay::Copy { used } else { 0 };
        let outcome = over(&tree, overlay, ["write-file", "/data/big", "8m"])
            .disk(own + (2 << 20))
            .run()
            .expect("starts");
        let written: u64 = fields(&outcome)["written"].parse().expect("a number");
        assert_eq!(
            fields(&outcome)["error"],
            "ENOSPC",
            "{overlay:?}: {outcome:?}"
        );
        assert!(
            (1 << 20..=2 << 20).contains(&written),
            "{overlay:?}: {written}"
        );
        assert_eq!(
            outcome.verdict,
            Verdict::DiskLimit,
            "{overlay:?}: {outcome:?}"
        );
        let outcome = over(&tree, overlay, ["many-files", "/data/empty", "1000"])
            .inodes(100)
            .run()
            .expect("starts");
        let made: u64 = fields(&outcome)["made"].parse().expect("a number");
        assert!(made < 100, "{overlay:?}: {outcome:?}");
    }
}

#[test]
fn the_memory_and_time_limits_hold_over_a_root() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let spec = over(&tree, overlay, ["alloc", "256m", "hold"]);
        let outcome = spec.memory(32 << 20).run().expect("starts");
        assert_eq!(
            outcome.verdict,
            Verdict::MemoryLimit,
            "{overlay:?}: {outcome:?}"
        );
        let spec = over(&tree, overlay, ["pids", "20"]).enforce(Enforce::BestEffort);
        let outcome = spec.pids(8).run().expect("starts");
        if enforced(&outcome, "pids") {
            assert_eq!(fields(&outcome)["started"], "7", "{overlay:?}: {outcome:?}");
        }
        let spec = over(&tree, overlay, ["spin", "20"]).cpu_time(Duration::from_millis(200));
        let outcome = spec.run().expect("starts");
        assert_eq!(
            outcome.verdict,
            Verdict::TimeLimit,
            "{overlay:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_copy_that_does_not_fit_is_an_error_that_says_so() {
    let tree = Tree::new().done();
    let error = over(&tree, Overlay::Copy, ["true"])
        .disk(64 << 10)
        .run()
        .expect_err("too small");
    assert!(
        error.to_string().contains("`disk` or `inodes` limit"),
        "{error}"
    );
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

#[test]
fn changes_are_what_docker_diff_would_say() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let sandbox = Sandbox::start(&over(&tree, overlay, ["-"])).expect("starts");
        if overlay == Overlay::Copy {
            assert_eq!(
                sandbox.changes().expect_err("no layer").kind(),
                ErrorKind::Unsupported
            );
            continue;
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
            if overlay != Overlay::Copy {
                assert_eq!(sandbox.changes().expect("changes"), [], "{overlay:?}");
            }
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

/// Starts, changes and resets sandboxes over the tree `path` until it is killed.
pub fn victim(path: &str) {
    let drivers = std::env::var("STOCKADE_SUITE_DRIVERS").expect("the drivers");
    let root = Rootfs::Directory(path.into());
    for driver in drivers.split(' ').cycle() {
        let json = format!("{{\"overlay\": \"{driver}\"}}");
        let overlay = Spec::from_json(&json)
            .expect("a driver")
            .overlay
            .expect("one");
        let spec = |args: &[&str]| spec(root.clone(), overlay, args);
        let change = ["fs", "put:/data/file:upper", "rm:/data/gone"];
        let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
        sandbox.run(&spec(&change)).expect("runs");
        let _left = sandbox.spawn(&spec(&["sleep", "20"])).expect("spawns");
        sandbox.reset().expect("resets");
        spec(&change).run().expect("runs");
    }
}

#[test]
fn nothing_is_left_when_the_host_is_killed() {
    let tree = Tree::new().done();
    let before = content(tree.0.path());
    let names: Vec<&str> = drivers()
        .iter()
        .map(|overlay| match overlay {
            Overlay::Kernel => "kernel",
            Overlay::Fuse => "fuse",
            _ => "copy",
        })
        .collect();
    let argument = format!("40 overlay-victim {}", tree.path());
    let said = Host::start_with("killer", &argument, |command| {
        command.env("STOCKADE_SUITE_DRIVERS", names.join(" "));
    })
    .finish();
    assert_eq!(said.last().map(String::as_str), Some("clean"), "{said:?}");
    assert_eq!(content(tree.0.path()), before);
}

/// What serves a root is killed: the program is told of it, and the sandbox ends as any other.
#[test]
fn the_end_of_what_serves_a_root_is_no_hang() {
    if !drivers().contains(&Overlay::Fuse) {
        skip!("fuse-overlayfs does not work here");
    }
    let tree = Tree::new().done();
    let said = Host::start("server-killed", &tree.path()).finish();
    assert_eq!(said, ["clean"]);
}

/// Kills what serves the root of a sandbox in which programs run.
pub fn server_killed(path: &str) {
    crate::support::adopt_orphans();
    let root = Rootfs::Directory(path.into());
    let spec = |args: &[&str]| spec(root.clone(), Overlay::Fuse, args);
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let running = sandbox.spawn(&spec(&["sleep", "20"])).expect("spawns");
    assert!(running.pid().is_some());
    let servers: Vec<u32> = descendants(std::process::id())
        .into_iter()
        .filter(|(_, name)| name == "fuse-overlayfs")
        .map(|(pid, _)| pid)
        .collect();
    assert_eq!(
        servers.len(),
        1,
        "one for each sandbox, and none of the probe"
    );
    // SAFETY: a plain call, on a process that is ours.
    assert_eq!(unsafe { libc::kill(servers[0] as i32, libc::SIGKILL) }, 0);
    let outcome = sandbox.run(&spec(&["true"])).expect("an outcome");
    assert_eq!(outcome.verdict, Verdict::ExecFailed, "{outcome:?}");
    assert!(running.kill().is_ok());
    // A page of its own program that it needs meanwhile is not to be had: SIGBUS.
    let verdict = running.wait().expect("an outcome").verdict;
    assert!(
        [Verdict::Killed, Verdict::Signaled].contains(&verdict),
        "{verdict:?}"
    );
    sandbox.reset().expect("a reset starts another");
    assert_eq!(
        sandbox.run(&spec(&["true"])).expect("runs").verdict,
        Verdict::Ok
    );
    sandbox.close().expect("closes");
    let left = || {
        descendants(std::process::id())
            .into_values()
            .any(|name| name == "fuse-overlayfs")
    };
    assert!(wait_until(Duration::from_secs(5), || !left()), "it is left");
    say("clean");
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
