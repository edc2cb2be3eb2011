//! Programs in images: what the image says of them, and what the specification says instead.

use crate::support::{enforced, fields, guest_dir, skip};
use std::time::Duration;
use stockade::image::{Import, Source, Store};
use stockade::{Bytes, ErrorKind, Outcome, Sandbox, Spec, Verdict};

/// A store with the image `box:1`: the guest, a user, and a configuration.
struct Boxed {
    dir: tempfile::TempDir,
}

impl Boxed {
    fn new(config: &str) -> Boxed {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        for path in ["bin", "etc", "srv"] {
            std::fs::create_dir_all(root.join(path)).expect("mkdir");
        }
        std::fs::copy(guest_dir().join("guest"), root.join("bin/guest")).expect("copy");
        let passwd = "root:x:0:0::/root:\nweb:x:33:34::/var/www:\n";
        std::fs::write(root.join("etc/passwd"), passwd).expect("write");
        std::fs::write(root.join("etc/group"), "adm:x:4:\n").expect("write");
        let boxed = Boxed { dir };
        let config = serde_json::from_str(config).expect("a configuration");
        let import = Import::default().name("box:1").config(config);
        boxed
            .store()
            .import(Source::Path(root), import)
            .expect("it is imported");
        boxed
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    fn store(&self) -> Store {
        Store::open(Some(&self.path())).expect("a store")
    }

    fn spec<const N: usize>(&self, args: [&str; N]) -> Spec {
        Spec::new(args)
            .image("box:1")
            .store(self.path().to_str().expect("UTF-8"))
            .wall_time(Duration::from_secs(30))
    }
}

const CONFIG: &str = r#"{"Entrypoint": ["/bin/guest"], "Cmd": ["args", "from the image"], "Env": ["A=1", "B=2"],
    "WorkingDir": "/srv", "User": "web"}"#;

fn ok(spec: Spec) -> Outcome {
    let outcome = spec.run().expect("it starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
}

fn text(outcome: &Outcome) -> String {
    outcome.stdout.to_text()
}

#[test]
fn what_the_image_says_holds() {
    let image = Boxed::new(CONFIG);
    let said = ok(image.spec([]));
    assert!(text(&said).contains("from the image"), "{said:?}");
    assert!(enforced(&said, "overlay"), "{:?}", said.enforcement);
    let env = text(&ok(image.spec(["env"])));
    for variable in ["A=1", "B=2", "HOME=/var/www"] {
        assert!(env.lines().any(|line| line == variable), "{env}");
    }
    assert!(text(&ok(image.spec(["cwd"]))).contains("/srv"));
    let report = ok(image.spec(["report"]));
    let ids = fields(&report);
    assert_eq!(ids["Uid"], "33 33 33 33", "{ids:?}");
    assert_eq!(ids["Gid"], "34 34 34 34", "{ids:?}");
}

#[test]
fn what_the_specification_says_comes_first() {
    let image = Boxed::new(CONFIG);
    let spec = image.spec(["env"]).env("B", "3").env("HOME", "/");
    let env = text(&ok(spec));
    for variable in ["A=1", "B=3", "HOME=/"] {
        assert!(env.lines().any(|line| line == variable), "{env}");
    }
    assert!(text(&ok(image.spec(["cwd"]).cwd("/etc"))).contains("/etc"));
    let ids = ok(image.spec(["report"]).user("web:adm"));
    assert_eq!(fields(&ids)["Gid"], "4 4 4 4");
    let entry = vec![Bytes::from("/bin/guest"), Bytes::from("args")];
    let said = text(&ok(image.spec([]).entrypoint(entry)));
    assert!(!said.contains("from the image"), "{said}");
}

/// Which are writable where nothing else of the image is, and have what it has there.
#[test]
fn volumes_of_the_image_are_writable() {
    let config = r#"{"Volumes": {"/srv": {}, "/new/deep/": {}, "/etc/passwd": {}, "/etc/passwd/x": {}, "/../up": {}, "/proc/x": {}}}"#;
    let image = Boxed::new(config);
    std::fs::write(image.dir.path().join("root/srv/given"), "by the image").expect("write");
    let config = serde_json::from_str(config).expect("a configuration");
    let again = Import::default().name("box:1").config(config);
    let root = Source::Path(image.dir.path().join("root"));
    image.store().import(root, again).expect("it is imported");
    for overlay in crate::overlay::drivers() {
        let steps = [
            "/bin/guest",
            "fs",
            "cat:/srv/given",
            "put:/srv/own:x",
            "put:/new/deep/own:x",
            "put:/etc/new:x",
            "put:/etc/passwd:x",
            "put:/new/x:x",
            "put:/srv2:x",
        ];
        for read_only in [true, false] {
            let mut spec = image.spec(steps).overlay(overlay);
            spec.read_only = read_only;
            let sandbox = Sandbox::start(&spec).expect("it starts");
            for _ in 0..2 {
                let outcome = sandbox.run(&spec).expect("it runs");
                let all = fields(&outcome);
                let of = |step: &str| all[step].clone();
                assert_eq!(
                    of("cat:/srv/given"),
                    "by the image:OK",
                    "{overlay:?}: {all:?}"
                );
                for own in ["put:/srv/own", "put:/new/deep/own"] {
                    assert_eq!(of(own), "OK", "{overlay:?}: {all:?}");
                }
                for other in ["put:/etc/new", "put:/etc/passwd", "put:/new/x", "put:/srv2"] {
                    let expected = if read_only { "EROFS" } else { "OK" };
                    assert_eq!(of(other), expected, "{overlay:?}: {other}: {all:?}");
                }
                sandbox.reset().expect("it begins anew");
            }
        }
    }
}

#[test]
fn the_image_stays_as_it_is_and_stays() {
    let image = Boxed::new("{}");
    let spec = image.spec([]);
    let sandbox = Sandbox::start(&spec).expect("it starts");
    let run = |args: &[&str]| {
        let mut program = spec.clone();
        program.args = args.iter().map(Bytes::from).collect();
        let outcome = sandbox.run(&program).expect("it runs");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        outcome
    };
    run(&["/bin/guest", "write-file", "/srv/new", "10"]);
    let changes = match sandbox.changes() {
        // A copy, where no overlay can be had, has no layer of its own.
        Err(error) if error.kind() == ErrorKind::Unsupported => skip!("{error}"),
        changes => changes.expect("changes"),
    };
    let new = changes.iter().find(|c| &*c.path == b"/srv/new");
    assert_eq!(new.map(|c| c.kind.letter()), Some('A'), "{changes:?}");
    // In use, it loses its name and no more.
    let removed = image.store().remove("box:1").expect("its name goes");
    assert_eq!(removed.images.len(), 0, "{removed:?}");
    run(&["/bin/guest", "true"]);
    sandbox.reset().expect("reset");
    assert!(sandbox.changes().expect("changes").is_empty());
    run(&["/bin/guest", "true"]);
    sandbox.close().expect("close");
    drop(sandbox);
    let error = image
        .spec(["/bin/guest", "true"])
        .run()
        .expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn contradictions_are_refused() {
    let image = Boxed::new(CONFIG);
    let kind = |spec: Spec| spec.run().expect_err("refused");
    let both = kind(image.spec(["x"]).rootfs("/".to_string().into()));
    assert!(both.to_string().contains("rootfs"), "{both}");
    let user = kind(image.spec(["report"]).user("nobody"));
    assert!(user.to_string().contains("/etc/passwd"), "{user}");
    let alone = kind(Spec::new(["true"]).entrypoint(vec!["x".into()]));
    assert!(alone.to_string().starts_with("entrypoint: "), "{alone}");
    let nothing = kind(Boxed::new("{}").spec([]));
    assert!(nothing.to_string().contains("no program"), "{nothing}");
    for error in [both, user, alone, nothing] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

/// Beside the first of them, a sandbox of an image costs no memory for it.
#[test]
fn many_sandboxes_share_one_image() {
    let image = Boxed::new("{}");
    let sandboxes: Vec<Sandbox> = (0..8)
        .map(|_| Sandbox::start(&image.spec([])).expect("it starts"))
        .collect();
    for (n, sandbox) in sandboxes.iter().enumerate() {
        let mut spec = image.spec(["/bin/guest", "write-file", "/srv/own", "10"]);
        if n % 2 == 1 {
            spec = image.spec(["/bin/guest", "open", "/srv/own"]);
        }
        let outcome = sandbox.run(&spec).expect("it runs");
        if n % 2 == 1 {
            assert!(text(&outcome).contains("ENOENT"), "{outcome:?}");
        }
    }
}

#[test]
fn the_stop_signal_is_the_image_s_unless_another_is_given() {
    let stopped = |stop_signal: &str, own: Option<i32>| {
        let boxed = Boxed::new(&format!(
            r#"{{"Entrypoint": ["/bin/guest"], "StopSignal": "{stop_signal}"}}"#
        ));
        let mut spec = boxed.spec(["sleep", "20"]);
        spec.stop_signal = own;
        let process = spec.spawn().expect("it starts");
        process.stop(Duration::from_secs(20)).unwrap().signal
    };
    assert_eq!(stopped("SIGUSR1", None), Some(libc::SIGUSR1));
    assert_eq!(stopped("2", None), Some(libc::SIGINT));
    assert_eq!(stopped("USR1", Some(libc::SIGHUP)), Some(libc::SIGHUP));
    assert_eq!(stopped("", None), Some(libc::SIGTERM));
    assert_eq!(
        stopped("NONSENSE", None),
        Some(libc::SIGTERM),
        "as in Docker"
    );
}
