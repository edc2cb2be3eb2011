//! What is written is kept in a directory on a disk: counted, and gone when the sandbox is.

use super::*;
use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, children, fields, guest_spec, promise, skip, status, wait_until,
};
use std::os::fd::AsRawFd;
use std::path::Path;
use stockade::{ChangeKind, EnforcementStatus, Sandbox};

/// A directory to keep it in.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a directory")
}

fn path(dir: &tempfile::TempDir) -> String {
    dir.path().display().to_string()
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("read_dir").count()
}

/// How long the removal of a directory may take.
fn soon() -> Duration {
    10 * promise()
}

/// Nothing is left in it, soon.
fn is_empty(dir: &Path) -> bool {
    wait_until(soon(), || entries(dir) == 0)
}

/// Whether nobody has the lock of what is in it.
fn is_unlocked(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("read_dir").all(|entry| {
        let path = entry.expect("an entry").path();
        let file = std::fs::File::open(path).expect("opens");
        // SAFETY: a plain call on a descriptor that is open.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
    })
}

/// The drivers that work over a directory on this disk.
fn drivers_on(dir: &str) -> Vec<Overlay> {
    let tree = Tree::new().done();
    let works = |overlay: &Overlay| match over(&tree, *overlay, ["true"]).upper_dir(dir).run() {
        Ok(outcome) => outcome.verdict == Verdict::Ok,
        Err(e) if e.kind() == ErrorKind::Unsupported => false,
        Err(e) => panic!("{overlay:?}: {e}"),
    };
    let found: Vec<Overlay> = [Overlay::Kernel, Overlay::Fuse, Overlay::Copy]
        .into_iter()
        .filter(works)
        .collect();
    // What works in memory does so here.
    for overlay in drivers() {
        assert!(found.contains(&overlay), "{overlay:?}");
    }
    found
}

#[test]
fn what_is_written_is_on_the_disk_and_goes_with_the_sandbox() {
    let (tree, disk) = (Tree::new().done(), disk());
    let before = content(tree.0.path());
    for overlay in drivers_on(&path(&disk)) {
        let spec = |args: &[&str]| over(&tree, overlay, args).upper_dir(path(&disk));
        assert!(is_empty(disk.path()), "{overlay:?}: of the probe");
        let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
        let steps = [
            "fs",
            "put:/data/file:upper",
            "rm:/data/gone",
            "put:/work/w:x",
            "put:/tmp/t:x",
            "put:/dev/shm/s:x",
        ];
        let outcome = sandbox.run(&spec(&steps)).expect("runs");
        let results = fields(&outcome);
        assert!(
            results.values().all(|result| result == "OK"),
            "{overlay:?}: {outcome:?}"
        );
        assert_eq!(entries(disk.path()), 1, "{overlay:?}");
        let used = outcome.usage.disk_used.expect("counted");
        assert!(
            (1..1 << 20).contains(&used) || overlay == Overlay::Copy,
            "{overlay:?}: {used}"
        );
        if overlay != Overlay::Copy {
            let changes = sandbox.changes().expect("changes");
            assert!(
                changes.iter().any(|c| c.kind == ChangeKind::Deleted),
                "{changes:?}"
            );
        }
        for (name, word) in [
            ("disk", "counted"),
            ("inodes", "counted"),
            ("overlay", "/var/tmp"),
        ] {
            let found = &outcome.enforcement[name];
            assert!(found.by.contains(word), "{overlay:?}: {name}: {found:?}");
        }
        assert_eq!(status(&outcome, "disk"), EnforcementStatus::Approximated);
        // Again and again from the start, and nothing of before is kept.
        for _ in 0..3 {
            sandbox.reset().expect("resets");
            let outcome = sandbox.run(&spec(&["fs", "cat:/data/file", "cat:/work/w"]));
            let all = fields(&outcome.expect("runs"));
            assert_eq!(all["cat:/data/file"], "lower:OK", "{overlay:?}");
            assert_eq!(all["cat:/work/w"], "ENOENT", "{overlay:?}");
            sandbox.run(&spec(&steps)).expect("runs");
        }
        let own = std::fs::read_dir(disk.path()).expect("read_dir").next();
        let own = own.expect("one").expect("an entry").path();
        if !is_root() {
            let last = || entries(&own) == 1;
            let gone = wait_until(promise() * 10, last);
            assert!(gone, "{overlay:?}: more is left than of the last reset");
        }
        sandbox.close().expect("closes");
        assert!(is_empty(disk.path()), "{overlay:?}");
        assert_eq!(content(tree.0.path()), before, "{overlay:?}");
    }
}

#[test]
fn the_limits_hold_on_a_disk_approximately() {
    let (tree, disk) = (Tree::new().done(), disk());
    let used: u64 = content(tree.0.path())
        .values()
        .map(|(.., bytes)| bytes.len().next_multiple_of(4096) as u64)
        .sum();
    for overlay in drivers_on(&path(&disk)) {
        let own = if overlay == Overlay::Copy {
            used + (1 << 20)
        } else {
            0
        };
        let spec = |args: &[&str]| over(&tree, overlay, args).upper_dir(path(&disk));
        // One file: held exactly.
        let outcome = spec(&["write-file", "/data/big", "64m"])
            .disk(own + (2 << 20))
            .run();
        let outcome = outcome.expect("starts");
        assert_eq!(
            (outcome.verdict, outcome.limit.as_deref()),
            (Verdict::DiskLimit, Some("disk")),
            "{overlay:?}: {outcome:?}"
        );
        // Many that are small: seen soon.
        let start = std::time::Instant::now();
        let outcome = spec(&["fill-files", "/data/empty", "1m", "2000"])
            .disk(own + (8 << 20))
            .run()
            .expect("starts");
        assert_eq!(
            (outcome.verdict, outcome.limit.as_deref()),
            (Verdict::DiskLimit, Some("disk")),
            "{overlay:?}: {outcome:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(5) + promise(),
            "{overlay:?}"
        );
        let outcome = spec(&["many-files", "/data/empty", "100000"])
            .inodes(500)
            .run();
        let outcome = outcome.expect("starts");
        assert_eq!(
            (outcome.verdict, outcome.limit.as_deref()),
            (Verdict::DiskLimit, Some("inodes")),
            "{overlay:?}: {outcome:?}"
        );
        // What an earlier program has filled is none of the next one's to add to.
        let full = |args: &[&str]| spec(args).disk(own + (4 << 20));
        let sandbox = Sandbox::start(&full(&["-"])).expect("starts");
        for _ in 0..2 {
            let outcome = sandbox.run(&full(&["fill-files", "/tmp", "1m", "2000"]));
            let outcome = outcome.expect("runs");
            assert_eq!(
                outcome.verdict,
                Verdict::DiskLimit,
                "{overlay:?}: {outcome:?}"
            );
            assert_ne!(outcome.returncode, 0, "{overlay:?}: it was ended");
        }
        sandbox.reset().expect("resets");
        let outcome = sandbox.run(&full(&["true"])).expect("runs");
        assert_eq!(outcome.verdict, Verdict::Ok, "{overlay:?}: {outcome:?}");
        sandbox.close().expect("closes");
        // What stays below is left alone.
        let outcome = spec(&["write-file", "/data/small", "1m"])
            .disk(own + (8 << 20))
            .run();
        let outcome = outcome.expect("starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{overlay:?}: {outcome:?}");
        let used = outcome.usage.disk_used.expect("counted");
        assert!(used + (16 << 10) >= 1 << 20, "{overlay:?}: {used}");
        assert!(is_empty(disk.path()), "{overlay:?}");
    }
}

/// A tree deeper than any path, with names that are in the way of its removal, and directories that nobody may enter.
#[test]
fn a_hostile_tree_is_removed_all_the_same() {
    let (tree, disk) = (Tree::new().done(), disk());
    let spec = |args: &[&str]| {
        over(&tree, Overlay::Auto, args)
            .upper_dir(path(&disk))
            .inodes(1 << 20)
    };
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let steps = [
        "fs",
        "mkdir:/work/moved-1",
        "put:/work/moved-1/x:x",
        "put:/work/moved-2:x",
        "mkdir:/work/closed",
        "mkdir:/work/closed/in",
        "put:/work/closed/in/x:x",
        "chmod:/work/closed/in:0",
        "chmod:/work/closed:0",
        "symlink:/work/link:/etc",
    ];
    sandbox.run(&spec(&steps)).expect("runs");
    let outcome = sandbox
        .run(&spec(&["deep", "/work/deep", "5000"]))
        .expect("runs");
    assert_eq!(
        (outcome.verdict, outcome.limit.as_deref()),
        (Verdict::DiskLimit, Some("inodes")),
        "deeper than can be counted: {outcome:?}"
    );
    sandbox.close().expect("closes");
    assert!(is_empty(disk.path()), "{:?}", disk.path());
}

/// Starts sandboxes over the tree `path` that write into `STOCKADE_SUITE_DISK`, until it is killed.
pub fn victim(path: &str) {
    adopt_orphans();
    let disk = std::env::var("STOCKADE_SUITE_DISK").expect("the directory");
    let root = Rootfs::Directory(path.into());
    let spec = |args: &[&str]| spec(root.clone(), Overlay::Auto, args).upper_dir(&*disk);
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    sandbox
        .run(&spec(&["fs", "put:/data/file:upper"]))
        .expect("runs");
    let _left = sandbox.spawn(&spec(&["sleep", "60"])).expect("spawns");
    say(&children(std::process::id())[0].to_string());
    std::thread::sleep(Duration::from_secs(60));
}

/// Whoever dies leaves nothing that the next one does not remove; what is another's stays.
#[test]
fn what_the_dead_left_is_removed() {
    let (tree, disk) = (Tree::new().done(), disk());
    let before = content(tree.0.path());
    let start = || {
        Host::start_with("disk-victim", &tree.path(), |command| {
            command.env("STOCKADE_SUITE_DISK", disk.path());
        })
    };
    let supervisor = |host: &mut Host| -> i32 {
        let said = host.line().expect("the supervisor's pid");
        said.parse().expect("a number")
    };
    let kill = |host: &mut Host| {
        host.child.kill().expect("kill");
        host.child.wait().expect("wait");
    };
    // The host alone: its supervisor clears away.
    let mut first = start();
    supervisor(&mut first);
    // That of the probe goes as well.
    let come_to = |count| wait_until(soon(), || entries(disk.path()) == count);
    assert!(come_to(1));
    kill(&mut first);
    assert!(is_empty(disk.path()), "the supervisor removes it");
    // Both: the next one does, and leaves alone what is in use and what is not ours.
    let mut second = start();
    let pid = supervisor(&mut second);
    assert!(come_to(1));
    // SAFETY: a plain call, on a process that is ours.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    kill(&mut second);
    assert_eq!(entries(disk.path()), 1);
    assert!(
        wait_until(soon(), || is_unlocked(disk.path())),
        "it is dead"
    );
    std::fs::create_dir(disk.path().join("another")).expect("mkdir");
    let over_disk = |args: &[&str]| over(&tree, Overlay::Auto, args).upper_dir(path(&disk));
    let mut third = start();
    supervisor(&mut third);
    assert!(come_to(2), "the dead one's");
    run(&over_disk(&["true"]));
    assert!(come_to(2));
    kill(&mut third);
    assert!(come_to(1));
    assert_eq!(content(tree.0.path()), before);
}

#[test]
fn mistakes_are_refused() {
    let tree = Tree::new().done();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let file = file.path().display().to_string();
    for (dir, word) in [
        ("relative", "absolute"),
        ("/no/such/dir", "No such"),
        (&file, "Not a"),
    ] {
        let error = over(&tree, Overlay::Auto, ["true"]).upper_dir(dir).run();
        let error = error.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = guest_spec(["true"]).upper_dir("/var/tmp").run();
    let error = error.expect_err("no overlay");
    assert!(error.to_string().contains("overlay"), "{error}");
}

/// A copy on a file system that can share blocks takes next to none.
#[test]
fn a_copy_shares_blocks_where_it_can() {
    let mkfs = ["/sbin/mkfs.btrfs", "/usr/sbin/mkfs.btrfs"];
    let Some(mkfs) = mkfs.into_iter().find(|path| Path::new(path).exists()) else {
        skip!("mkfs.btrfs is not installed");
    };
    if !is_root() {
        skip!("only root can mount a file system in a file");
    }
    match &*Host::start("reflink", mkfs).finish() {
        [said] if said == "shared" => {}
        [why] => skip!("{why}"),
        said => panic!("{said:?}"),
    }
}

/// In a mount namespace of its own.
pub fn reflink(mkfs: &str) {
    let dir = disk();
    let (image, mounted) = (dir.path().join("image"), dir.path().join("mounted"));
    std::fs::create_dir(&mounted).expect("mkdir");
    let file = std::fs::File::create(&image).expect("create");
    file.set_len(512 << 20).expect("set_len");
    let done = |program: &str, args: &[&Path]| {
        let output = std::process::Command::new(program).args(args).output();
        output.is_ok_and(|output| output.status.success())
    };
    // SAFETY: a plain call; this thread alone leaves the namespace.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    assert!(done(
        "mount",
        &[Path::new("--make-rprivate"), Path::new("/")]
    ));
    assert!(done(mkfs, &[Path::new("-q"), &image]));
    if !done(
        "mount",
        &[Path::new("-o"), Path::new("loop"), &image, &mounted],
    ) {
        return say("this kernel mounts no btrfs here");
    }
    let tree = Tree(tempfile::tempdir_in(&mounted).expect("a directory"));
    std::fs::create_dir(tree.at("bin")).expect("mkdir");
    std::fs::copy(
        crate::support::guest_dir().join("guest"),
        tree.at("bin/guest"),
    )
    .expect("copy");
    std::fs::write(tree.at("large"), vec![7; 64 << 20]).expect("write");
    let tree = tree.done();
    let upper = mounted.join("upper");
    std::fs::create_dir(&upper).expect("mkdir");
    let free = || {
        // What was written so far is on the disk.
        assert!(done("sync", &[Path::new("-f"), &mounted]));
        let disk = nix::sys::statvfs::statvfs(&mounted).expect("statvfs");
        disk.blocks_free() * disk.fragment_size()
    };
    let before = free();
    let spec = |args: &[&str]| {
        over(&tree, Overlay::Copy, args)
            .upper_dir(upper.display().to_string())
            .disk(256 << 20)
    };
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let taken = before.saturating_sub(free());
    assert!(taken < 16 << 20, "{taken} bytes were copied");
    let outcome = sandbox.run(&spec(&["fs", "put:/large:own"])).expect("runs");
    assert_eq!(fields(&outcome)["put:/large"], "OK");
    let large = std::fs::metadata(tree.at("large")).expect("stat").len();
    assert_eq!(large, 64 << 20, "the image's own file is as it was");
    sandbox.close().expect("closes");
    assert!(is_empty(&upper));
    drop(tree);
    assert!(done("umount", &[&mounted]));
    say("shared");
}
