//! Host directories, memory file systems and roots of one's own.

use crate::support::{fields, guest_dir, guest_spec};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use stockade::{ErrorKind, Rootfs, Spec, Tmpfs, Verdict, Volume};

/// A volume.
pub fn volume(host: &Path, inside: &str, writable: bool) -> Volume {
    Volume {
        host: host.display().to_string(),
        inside: inside.into(),
        writable,
    }
}

/// A directory that everyone may write to: as root, the program inside is somebody else.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    dir
}

#[test]
fn volumes_are_read_only_or_writable_as_asked() {
    let dir = open_dir();
    std::fs::write(dir.path().join("given"), "from the host").expect("write");
    let read = guest_spec(["read", "/data/given"])
        .volume(volume(dir.path(), "/data", false))
        .run()
        .expect("starts");
    assert_eq!(read.stdout.to_text(), "from the host", "{read:?}");
    let refused = guest_spec(["write-file", "/data/new", "3"])
        .volume(volume(dir.path(), "/data", false))
        .run()
        .expect("starts");
    assert_eq!(fields(&refused)["error"], "EROFS", "{refused:?}");
    assert!(!dir.path().join("new").exists());
    let written = guest_spec(["write-file", "/data/new", "3"])
        .volume(volume(dir.path(), "/data", true))
        .run()
        .expect("starts");
    assert_eq!(written.verdict, Verdict::Ok, "{written:?}");
    let file = std::fs::metadata(dir.path().join("new")).expect("it is on the host");
    assert_eq!(file.len(), 3);
    assert_ne!(file.uid(), 0, "never as root");
}

#[test]
fn one_file_can_be_a_volume() {
    let dir = open_dir();
    let path = dir.path().join("one");
    std::fs::write(&path, "alone").expect("write");
    let outcome = guest_spec(["read", "/etc/one"])
        .volume(volume(&path, "/etc/one", false))
        .run()
        .expect("starts");
    assert_eq!(outcome.stdout.to_text(), "alone", "{outcome:?}");
}

#[test]
fn volumes_bring_no_devices_and_no_set_id() {
    let dir = open_dir();
    let outcome = guest_spec(["statfs", "/data"])
        .volume(volume(dir.path(), "/data", true))
        .run()
        .expect("starts");
    let what = &fields(&outcome)["/data"];
    assert!(what.contains("nosuid") && what.contains("nodev"), "{what}");
}

#[test]
fn a_tmpfs_has_its_own_size() {
    let spec = |args: &[&str]| {
        guest_spec(args).tmpfs(Tmpfs {
            path: "/scratch".into(),
            size: Some(2 << 20),
            inodes: Some(10),
        })
    };
    let sizes = fields(&spec(&["statfs", "/scratch"]).run().expect("starts"));
    assert!(
        sizes["/scratch"].starts_with("2097152 10 rw nosuid nodev"),
        "{sizes:?}"
    );
    let full = spec(&["write-file", "/scratch/f", "4m"])
        .run()
        .expect("starts");
    assert_eq!(fields(&full)["error"], "ENOSPC");
    let many = spec(&["many-files", "/scratch", "100"])
        .run()
        .expect("starts");
    assert_eq!(fields(&many)["error"], "ENOSPC");
}

/// A root of one's own: a directory with the guest in it and what `change` puts there.
fn root_with(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Spec) {
    let root = open_dir();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::copy(guest_dir().join("guest"), root.path().join("guest")).expect("copy");
    change(root.path());
    let spec = Spec::new(["/guest", "say", "inside"])
        .rootfs(Rootfs::Directory(root.path().display().to_string()));
    (root, spec)
}

#[test]
fn a_directory_can_be_the_root() {
    let (_root, spec) = root_with(|_| {});
    let outcome = spec.run().expect("starts");
    assert_eq!(
        (outcome.verdict, outcome.stdout.to_text().as_str()),
        (Verdict::Ok, "inside\n"),
        "{outcome:?}"
    );
    let (_root, mut spec) =
        root_with(|root| std::fs::write(root.join("mark"), "of this root").expect("write"));
    spec.args = ["/guest", "read", "/mark"].iter().map(Into::into).collect();
    assert_eq!(spec.run().expect("starts").stdout.to_text(), "of this root");
    spec.args = [
        "/guest",
        "walk-writable",
        "/",
        "/proc",
        "/work",
        "/tmp",
        "/dev",
    ]
    .iter()
    .map(Into::into)
    .collect();
    let walked = spec.run().expect("starts").stdout.to_text();
    assert!(
        walked.starts_with("checked ") && walked.lines().count() == 1,
        "{walked}"
    );
}

#[test]
fn a_hostile_root_misleads_nobody() {
    roots_hold();
}

pub fn roots_hold() {
    // The places where we mount are symbolic links out of the root.
    let outside = open_dir();
    for name in ["proc", "dev", "work", "tmp", "data", "etc"] {
        let (_root, spec) =
            root_with(|root| symlink(outside.path(), root.join(name)).expect("symlink"));
        let spec = spec
            .file("a", "b")
            .volume(volume(guest_dir(), "/data/x", false));
        match spec.run() {
            Ok(outcome) => assert_eq!(outcome.stdout.to_text(), "inside\n", "{name}: {outcome:?}"),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Setup | ErrorKind::InvalidArgument),
                "{name}: {error:?}"
            ),
        }
        let made = std::fs::read_dir(outside.path())
            .expect("a directory")
            .count();
        assert_eq!(made, 0, "{name}: something was made outside");
    }
}

#[test]
fn a_root_that_changes_meanwhile_misleads_nobody() {
    // Somebody who may write in it puts a link in a directory's place, and back, all the time.
    let outside = open_dir();
    std::fs::write(outside.path().join("secret"), "secret").expect("a file");
    let (root, spec) = root_with(|root| {
        std::fs::create_dir(root.join("data")).expect("mkdir");
        symlink(outside.path(), root.join("other")).expect("symlink");
    });
    let path = |name: &str| {
        let path = root.path().join(name).into_os_string().into_encoded_bytes();
        std::ffi::CString::new(path).expect("a path")
    };
    let (one, other) = (path("data"), path("other"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (here, exchange) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
                // SAFETY: two paths that end with NUL and live through the call.
                unsafe { libc::renameat2(here, one.as_ptr(), here, other.as_ptr(), exchange) };
            }
        });
        let mut ended = [0; 2];
        for round in 0..80 {
            // Another root each time: one that has been made is kept.
            let point = format!("/point-{round}");
            let mut spec = spec.clone().volume(volume(outside.path(), &point, false));
            spec.args = ["/guest", "open", "/data/secret", "/other/secret"]
                .iter()
                .map(Into::into)
                .collect();
            match spec.run() {
                Ok(outcome) => {
                    let opened = outcome.stdout.to_text();
                    if opened.contains("=OK") {
                        done.store(true, Ordering::Relaxed);
                    }
                    assert!(!opened.contains("=OK"), "in round {round}: {opened}");
                    ended[0] += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
                    ended[1] += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(ended[0] > 0, "it never runs: {ended:?}");
    });
}

#[test]
fn what_is_mounted_below_a_volume_is_as_the_volume_is() {
    // /dev/shm is a file system of its own, writable for everyone.
    let spec =
        |args: &[&str]| guest_spec(args).volume(volume(Path::new("/dev"), "/devices", false));
    let outcome = spec(&["walk-writable", "/devices"]).run().expect("starts");
    let walked = outcome.stdout.to_text();
    assert_eq!(walked.lines().count(), 1, "{walked}");
    let opened = fields(
        &spec(&["open", "/devices/null", "/devices/zero"])
            .run()
            .expect("starts"),
    );
    assert!(
        opened.values().all(|result| result == "EACCES"),
        "{opened:?}"
    );
}

#[test]
fn volumes_go_up_to_their_number() {
    let dir = open_dir();
    std::fs::write(dir.path().join("mark"), "seen").expect("write");
    let with = |count: usize| {
        let mut spec = guest_spec(["read", &format!("/v/{}/mark", count - 2)]);
        for number in 0..count - 1 {
            spec = spec.volume(volume(dir.path(), &format!("/v/{number}"), number % 2 == 0));
        }
        spec
    };
    assert_eq!(with(64).run().expect("starts").stdout.to_text(), "seen");
    assert_eq!(
        with(65).run().expect_err("too many").kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn volumes_go_onto_the_writable_directories_and_into_each_other() {
    let (one, two) = (open_dir(), open_dir());
    std::fs::write(one.path().join("mark"), "one").expect("write");
    std::fs::create_dir(one.path().join("sub")).expect("mkdir");
    std::fs::write(two.path().join("mark"), "two").expect("write");
    for (at, inner) in [
        ("/work", "/work/sub"),
        ("/tmp/here", "/tmp/here/sub"),
        ("/a/b", "/a/b/sub"),
    ] {
        let read = |path: &str| {
            let spec = guest_spec(["read", path])
                .volume(volume(one.path(), at, false))
                .volume(volume(two.path(), inner, false));
            spec.run().expect("starts").stdout.to_text()
        };
        assert_eq!(
            (
                &*read(&format!("{at}/mark")),
                &*read(&format!("{inner}/mark"))
            ),
            ("one", "two"),
            "{at}"
        );
    }
}
