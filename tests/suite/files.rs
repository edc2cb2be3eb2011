//! Files in and out: what a hostile program leaves cannot mislead the collecting of it.

use crate::support::{fields, guest_spec, run_guest};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use stockade::{ErrorKind, File, Rootfs, Sandbox, Spec, Tmpfs, Verdict, Volume};

fn volume(host: &std::path::Path, inside: &str, writable: bool) -> Volume {
    Volume {
        host: host.display().to_string(),
        inside: inside.into(),
        writable,
    }
}

fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    dir
}

#[test]
fn given_files_have_content_mode_and_owner() {
    let mut spec = guest_spec(["ls", "/work/deep/er"]);
    spec.files.insert(
        "deep/er/run".into(),
        File {
            content: (&b"#!"[..]).into(),
            mode: Some(0o750),
        },
    );
    spec.files.insert("/tmp/abs".into(), File::default());
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.stdout.to_text(), "run file 750 0:0 \n");
    // They are the program's own: it may change and remove them.
    let outcome = guest_spec(["write-file", "/work/a/b", "5"])
        .file("a/b", "old content")
        .collect("a/b")
        .run()
        .expect("starts");
    assert_eq!(
        (outcome.verdict, &*outcome.outputs["a/b"].content),
        (Verdict::Ok, &[0u8; 5][..])
    );
}

#[test]
fn large_files_go_in_and_come_out() {
    let content: Vec<u8> = (0..9_000_000u32).map(|i| (i % 253) as u8).collect();
    let outcome = guest_spec(["true"])
        .file("big", &content)
        .collect("big")
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{:?}", outcome.message);
    assert!(
        *outcome.outputs["big"].content == *content,
        "it is not what went in"
    );
}

#[test]
fn only_regular_files_are_collected() {
    let cases: [(&[&str], &str); 6] = [
        (&["link", "/etc/passwd", "/work/out"], "out"),
        (&["link", "/proc/self/environ", "/work/out"], "out"),
        (&["link", "/etc", "/work/dir"], "dir/passwd"),
        (&["fifo", "/work/out"], "out"),
        (&["mkdir", "/work/out"], "out"),
        (&["true"], "missing"),
    ];
    for (args, path) in cases {
        let outcome = guest_spec(args)
            .collect(path)
            .run()
            .expect("the sandbox starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        let file = &outcome.outputs[path];
        assert!(
            file.content.is_empty() && file.error.is_some(),
            "{args:?}: {file:?}"
        );
    }
}

#[test]
fn collected_files_are_cut_at_the_cap() {
    let mut spec = guest_spec(["sparse", "/work/out", "3g"]).collect("out");
    spec.output_file_size = Some(1000);
    let file = spec
        .run()
        .expect("the sandbox starts")
        .outputs
        .remove("out")
        .expect("out");
    assert_eq!(
        (file.content.len(), file.size, file.truncated, file.error),
        (1000, 3 << 30, true, None)
    );
}

#[test]
fn files_are_collected_after_every_kind_of_end() {
    let outcome = guest_spec(["sleep", "20"])
        .file("kept", "content")
        .collect("kept")
        .wall_time(std::time::Duration::from_millis(200))
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit);
    assert_eq!(&*outcome.outputs["kept"].content, b"content");
}

#[test]
fn more_files_than_the_disk_holds_is_an_error_in_words() {
    let content = vec![0u8; 4 << 20];
    match guest_spec(["true"])
        .disk(1 << 20)
        .file("big", content)
        .run()
    {
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Setup),
            "{error:?}"
        ),
        Ok(outcome) => panic!("{outcome:?}"),
    }
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
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
fn root_with(change: impl FnOnce(&std::path::Path)) -> (tempfile::TempDir, Spec) {
    let root = open_dir();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    std::fs::copy(
        crate::support::guest_dir().join("guest"),
        root.path().join("guest"),
    )
    .expect("copy");
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
    // The places where we mount are symbolic links out of the root.
    let outside = open_dir();
    for name in ["proc", "dev", "work", "tmp", "data", "etc"] {
        let (_root, spec) =
            root_with(|root| symlink(outside.path(), root.join(name)).expect("symlink"));
        let spec =
            spec.file("a", "b")
                .volume(volume(crate::support::guest_dir(), "/data/x", false));
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
fn a_hostile_program_misleads_no_later_file() {
    // In a sandbox that lives on, the first program replaces a directory with a link to where it must not write.
    let dir = open_dir();
    let base = || guest_spec(["true"]).volume(volume(dir.path(), "/data", true));
    let sandbox = Sandbox::start(&base()).expect("starts");
    let mut plant = base();
    plant.args = ["/guest/guest", "link", "/data", "/work/in"]
        .iter()
        .map(Into::into)
        .collect();
    assert_eq!(sandbox.run(&plant).expect("runs").verdict, Verdict::Ok);
    let _ = sandbox.run(&base().file("in/planted", "x"));
    assert!(
        !dir.path().join("planted").exists(),
        "written through the program's link"
    );
    // And again it can be used.
    assert_eq!(sandbox.run(&base()).expect("runs").verdict, Verdict::Ok);
}
