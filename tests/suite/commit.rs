//! What a sandbox has changed, as an image and as a tar stream.

use crate::images::tools::{assert_same, lacking, run, umoci_unpack};
use crate::images::{Place, Tree, merged, tree};
use crate::support::{fields, guest_dir, is_root, note_skip, slowness, wait_until};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stockade::image::{Build, Commit, Copy, Format, Import, Source, Step, Store, Target};
use stockade::{Bytes, ErrorKind, Outcome, Overlay, Sandbox, Spec, Verdict};

/// A store with the image `base:1`.
pub struct Boxed {
    place: Place,
}

impl Boxed {
    pub fn new() -> Boxed {
        let place = Place::new();
        let root = place.at("root");
        for path in ["bin", "etc", "srv/sub", "srv/full", "opt"] {
            std::fs::create_dir_all(root.join(path)).expect("mkdir");
        }
        std::fs::copy(guest_dir().join("guest"), root.join("bin/guest")).expect("copy");
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/root:\nweb:x:33:34::/var/www:\n"),
            ("etc/group", "adm:x:4:\n"),
            ("srv/file", "lower"),
            ("srv/gone", "to be removed"),
            ("srv/closed", "nobody reads it"),
            ("srv/one", "of two names"),
            ("srv/sub/inner", "inner"),
            ("srv/full/a", "a"),
            ("srv/full/b", "b"),
        ] {
            std::fs::write(root.join(path), text).expect("write");
        }
        std::fs::hard_link(root.join("srv/one"), root.join("srv/two")).expect("link");
        let boxed = Boxed { place };
        let config = r#"{"Entrypoint": ["/bin/guest"], "Cmd": ["true"], "Env": ["A=1"], "WorkingDir": "/srv"}"#;
        let config = serde_json::from_str(config).expect("a configuration");
        let import = Import::default().name("base:1").config(config);
        boxed
            .store()
            .import(Source::Path(root), import)
            .expect("it is imported");
        boxed
    }

    pub fn at(&self, name: &str) -> std::path::PathBuf {
        self.place.at(name)
    }

    pub fn store(&self) -> Store {
        self.place.store("store")
    }

    pub fn spec(&self, image: &str, args: &[&str]) -> Spec {
        Spec::new(args)
            .image(image)
            .store(self.at("store").to_str().expect("UTF-8"))
            .user("0:0")
            .wall_time(Duration::from_secs(30) * slowness())
    }

    /// Runs the guest in a live sandbox.
    pub fn run(&self, sandbox: &Sandbox, args: &[&str]) -> Outcome {
        let mut spec = sandbox.spec().clone();
        spec.args = std::iter::once(&"/bin/guest")
            .chain(args)
            .map(Bytes::from)
            .collect();
        let outcome = sandbox.run(&spec).expect("it runs");
        assert_eq!(outcome.verdict, Verdict::Ok, "{args:?}: {outcome:?}");
        outcome
    }

    /// Live sandboxes of `base:1`, one with each driver that has a layer of its own.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        let start = |overlay| match Sandbox::start(&self.spec("base:1", &[]).overlay(overlay)) {
            Ok(sandbox) => Some(sandbox),
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                note_skip(&e.to_string());
                None
            }
            Err(e) => panic!("{overlay:?}: {e}"),
        };
        [Overlay::Kernel, Overlay::Fuse]
            .into_iter()
            .filter_map(start)
            .collect()
    }
}

/// What a tar stream unpacks to, with GNU's tar.
pub fn untar(tar: &[u8], to: &Path) -> Tree {
    std::fs::create_dir_all(to).expect("mkdir");
    let mut child = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--numeric-owner",
            "--directory",
        ])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(tar)
        .expect("it is read");
    assert!(child.wait().expect("wait").success());
    tree(to)
}

pub fn export(sandbox: &Sandbox, path: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    let done = sandbox.export(path, &mut tar);
    done.unwrap_or_else(|e| panic!("{:?}: {path}: {e}", sandbox.spec().overlay));
    tar
}

/// Without what a sandbox has of its own, and the times of directories that it has put its own into.
fn without_own(mut tree: Tree) -> Tree {
    for own in ["dev", "proc", "sys", "tmp", "work"] {
        tree.retain(|path, _| !path.starts_with(own));
    }
    for own in ["etc", "etc/hosts", "etc/hostname", "etc/nsswitch.conf"] {
        tree.remove(Path::new(own));
    }
    tree
}

/// Changes of every kind.
fn change(boxed: &Boxed, sandbox: &Sandbox) {
    let outcome = boxed.run(
        sandbox,
        &[
            "fs",
            "put:/srv/file:upper",
            "rm:/srv/gone",
            "chmod:/srv/closed:0",
            "rm:/srv/full/a",
            "rm:/srv/full/b",
            "rmdir:/srv/full",
            "mkdir:/srv/full",
            "put:/srv/full/c:c",
            "mkdir:/new",
            "mkdir:/new/deep",
            "put:/new/deep/file:new",
            "chmod:/new/deep:700",
            "symlink:/new/link:/nowhere/at/all",
            "ln:/new/twice:/new/deep/file",
            "rm:/srv/sub/inner",
            "rmdir:/srv/sub",
            "put:/srv/sub:a file now",
        ],
    );
    let all = fields(&outcome);
    let wrong: Vec<_> = all
        .iter()
        .filter(|(_, result)| !result.ends_with("OK"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    boxed.run(sandbox, &["fifo", "/new/fifo"]);
    // More than anybody has a disk for, of nothing.
    boxed.run(sandbox, &["sparse", "/new/holes", "64m"]);
}

#[test]
fn a_commit_is_what_the_sandbox_saw() {
    let boxed = Boxed::new();
    for (n, sandbox) in boxed.sandboxes().into_iter().enumerate() {
        change(&boxed, &sandbox);
        let seen = untar(&export(&sandbox, "/"), &boxed.at(&format!("seen{n}")));
        assert!(
            seen.contains_key(Path::new("new/fifo")),
            "{:?}",
            seen.keys()
        );
        assert!(!seen.contains_key(Path::new("srv/gone")));

        let name = format!("new:{n}");
        let commit = Commit::new()
            .change("CMD [\"echo-lines\"]")
            .change("ENV B=$A-2")
            .author("An Author")
            .message("a message");
        let info = sandbox.commit(&[&name], &commit).expect("it is committed");
        assert_eq!(info.names, std::slice::from_ref(&name));
        assert_eq!(info.layers.len(), 2);
        let config = serde_json::to_value(&info.config).expect("JSON");
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["echo-lines"]));
        assert_eq!(config["config"]["Env"], serde_json::json!(["A=1", "B=1-2"]));
        assert_eq!(config["author"], "An Author");
        let line = &config["history"][1];
        assert_eq!(
            (&line["author"], &line["comment"]),
            (&"An Author".into(), &"a message".into())
        );
        assert!(
            info.layers[1].size < 1 << 20,
            "holes are not written: {:?}",
            info.layers[1]
        );

        let store = boxed.store();
        assert_eq!(store.verify().expect("verify").problems, [""; 0]);
        let ours = merged(&store.resolve(&name).expect("it is there").layers);
        assert_same(&without_own(ours.clone()), &without_own(seen));
        let mut tar = Vec::new();
        store.export(&name, &mut tar, None).expect("it is exported");
        assert_same(&ours, &untar(&tar, &boxed.at(&format!("flat{n}"))));

        // And a sandbox of it sees the same.
        let again = Sandbox::start(&boxed.spec(&name, &[])).expect("it starts");
        let outcome = boxed.run(
            &again,
            &[
                "fs",
                "cat:/srv/file",
                "cat:/srv/gone",
                "cat:/srv/full/a",
                "cat:/srv/sub",
            ],
        );
        let all = fields(&outcome);
        for (step, result) in [
            ("cat:/srv/file", "upper:OK"),
            ("cat:/srv/gone", "ENOENT"),
            ("cat:/srv/full/a", "ENOENT"),
            ("cat:/srv/sub", "a file now:OK"),
        ] {
            assert_eq!(all[step], result, "{:?}: {step}", sandbox.spec().overlay);
        }

        if let Some(tool) = lacking() {
            note_skip(&format!("{tool} is not installed"));
            continue;
        }
        let layout = boxed.at(&format!("layout{n}"));
        let target = Target::Path(layout.clone());
        store
            .save(&[&name], Format::OciDirectory, target, None)
            .expect("it is saved");
        let bundle = boxed.at(&format!("bundle{n}"));
        umoci_unpack(&layout, &n.to_string(), &bundle);
        assert_same(&ours, &tree(&bundle.join("rootfs")));

        let archive = boxed.at(&format!("archive{n}"));
        let target = Target::Path(archive.clone());
        store
            .save(&[&name], Format::DockerArchive, target, None)
            .expect("it is saved");
        let copy = boxed.at(&format!("copy{n}"));
        let places = [
            format!("docker-archive:{}", archive.display()),
            format!("oci:{}:copy", copy.display()),
        ];
        let words = [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            &places[0],
            &places[1],
        ];
        run(&words.map(OsStr::new));
        let bundle = boxed.at(&format!("second-bundle{n}"));
        umoci_unpack(&copy, "copy", &bundle);
        assert_same(&ours, &tree(&bundle.join("rootfs")));
    }
}

#[test]
fn owners_are_those_inside() {
    let boxed = Boxed::new();
    let root = match is_root() {
        true => 2_000_000_000,
        false => nix::unistd::geteuid().as_raw(),
    };
    for (n, sandbox) in boxed.sandboxes().into_iter().enumerate() {
        boxed.run(&sandbox, &["fs", "put:/srv/new:x"]);
        let image = sandbox.snapshot().expect("a snapshot");
        let saved = boxed.at(&format!("saved{n}"));
        let target = Target::Path(saved.clone());
        boxed
            .store()
            .save(&[image.id.as_str()], Format::DockerArchive, target, None)
            .expect("saved");
        let own = image
            .layers
            .last()
            .expect("a layer")
            .join("srv/new")
            .metadata()
            .expect("stat");
        assert_eq!(own.uid(), root);
        let list = listed(&boxed.store(), image.id.as_str());
        let line = list
            .lines()
            .find(|line| line.ends_with("srv/new"))
            .expect("it is there");
        assert!(line.contains(" 0/0 "), "{line}");
    }
}

/// What is in an image's root file system, as GNU's tar lists it.
fn listed(store: &Store, image: &str) -> String {
    let mut tar = tempfile::NamedTempFile::new().expect("a file");
    store.export(image, &mut tar, None).expect("exported");
    let list = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(tar.path())
        .output()
        .expect("tar");
    assert!(list.status.success());
    String::from_utf8(list.stdout).expect("UTF-8")
}

/// Whose files are is not lost by a commit, in a store in which all belong to one neither.
#[test]
fn owners_stay_who_they_are() {
    let boxed = Boxed::new();
    let store = boxed.store();
    // A directory of the user `web`, and a layer that only implies it.
    let context = boxed.at("context");
    std::fs::create_dir_all(context.join("web/sub")).expect("mkdir");
    std::fs::write(context.join("web/own"), "own").expect("write");
    let mut copy = Copy::default();
    (copy.sources, copy.to, copy.chown) = (vec!["web".into()], "/web".into(), Some("web".into()));
    Build::from("base:1")
        .context(&context)
        .step(Step::Copy(copy))
        .file("/web/given", "root's")
        .build(&store, &["web:1"])
        .expect("it is built");
    let owner = |list: &str, name: &str| {
        let line = list
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let line = line.unwrap_or_else(|| panic!("{name}: {list}"));
        line.split_whitespace()
            .nth(1)
            .expect("an owner")
            .to_string()
    };
    let folded = store.inspect("web:1").expect("it is there").owners;
    let folded = folded.starts_with("folded");
    for overlay in [Overlay::Kernel, Overlay::Fuse] {
        let spec = boxed.spec("web:1", &[]).user("web").overlay(overlay);
        let sandbox = match Sandbox::start(&spec) {
            Err(e) if e.kind() == ErrorKind::Unsupported => continue,
            sandbox => sandbox.expect("it starts"),
        };
        boxed.run(
            &sandbox,
            &[
                "fs",
                "put:/web/own:changed",
                "put:/web/new:new",
                "mkdir:/web/sub/dir",
                "chmod:/web/sub:755",
            ],
        );
        let image = sandbox.snapshot().expect("a snapshot");
        let list = listed(&store, image.id.as_str());
        for name in ["web/", "web/own", "web/new", "web/sub/", "web/sub/dir/"] {
            assert_eq!(owner(&list, name), "33/34", "{overlay:?}: {name}: {list}");
        }
        assert_eq!(owner(&list, "web/given"), "0/0", "{overlay:?}: {list}");
        for name in ["srv/", "etc/passwd"] {
            let before = owner(&listed(&store, "base:1"), name);
            assert_eq!(owner(&list, name), before, "{overlay:?}: {name}: {list}");
        }
        // And on top of that.
        let spec = boxed.spec(image.id.as_str(), &[]).overlay(overlay);
        let again = Sandbox::start(&spec).expect("it starts");
        if folded {
            // Where files have their owners, root in the sandbox has no right to what is another's.
            boxed.run(&again, &["fs", "put:/web/new:by root", "put:/web/mine:x"]);
            let list = listed(&store, again.snapshot().expect("a snapshot").id.as_str());
            for (name, of) in [("web/", "33/34"), ("web/new", "33/34"), ("web/mine", "0/0")] {
                assert_eq!(owner(&list, name), of, "{overlay:?}: {name}: {list}");
            }
        }
    }
    assert_eq!(store.verify().expect("verify").problems, [""; 0]);
}

#[test]
fn directories_that_keep_their_owner_out() {
    let boxed = Boxed::new();
    let store = boxed.store();
    for sandbox in boxed.sandboxes() {
        boxed.run(
            &sandbox,
            &[
                "fs",
                "mkdir:/srv/shut",
                "put:/srv/shut/in:x",
                "chmod:/srv/shut:0",
            ],
        );
        let image = sandbox.snapshot().expect("a snapshot");
        let list = listed(&store, image.id.as_str());
        for (mode, name) in [("d---------", "srv/shut/"), ("-rw-r--r--", "srv/shut/in")] {
            let line = list.lines().find(|line| line.ends_with(name));
            assert!(line.is_some_and(|line| line.starts_with(mode)), "{list}");
        }
        drop(image);
        // So that the directory of the test can be removed.
        store.prune(false).expect("prune");
    }
}

#[test]
fn a_snapshot_stays_while_it_is_used() {
    let boxed = Boxed::new();
    let store = boxed.store();
    for sandbox in boxed.sandboxes() {
        boxed.run(&sandbox, &["fs", "put:/srv/state:one"]);
        let image = sandbox.snapshot().expect("a snapshot");
        boxed.run(&sandbox, &["fs", "put:/srv/state:two"]);
        assert_eq!(
            store.prune(false).expect("prune").images.len(),
            0,
            "it is held"
        );

        let from = |id: &str| Sandbox::start(&boxed.spec(id, &[])).expect("it starts");
        let forks = [from(image.id.as_str()), from(image.id.as_str())];
        for fork in &forks {
            assert_eq!(
                fields(&boxed.run(fork, &["fs", "cat:/srv/state"]))["cat:/srv/state"],
                "one:OK"
            );
            assert_eq!(fork.changes().expect("changes"), []);
        }
        let id = image.id.clone();
        drop(image);
        assert_eq!(
            store.prune(false).expect("prune").images.len(),
            0,
            "sandboxes use it"
        );
        // A snapshot of a snapshot has what both changed.
        boxed.run(&forks[0], &["fs", "put:/srv/more:more"]);
        let second = forks[0].snapshot().expect("a snapshot");
        assert_eq!(second.layers.len(), 3);
        drop(forks);
        assert_eq!(store.prune(false).expect("prune").images, [id]);
        let both = from(second.id.as_str());
        let all = fields(&boxed.run(&both, &["fs", "cat:/srv/state", "cat:/srv/more"]));
        assert_eq!(
            (
                all["cat:/srv/state"].as_str(),
                all["cat:/srv/more"].as_str()
            ),
            ("one:OK", "more:OK")
        );
        // Nothing changed: no layer.
        assert_eq!(both.snapshot().expect("a snapshot").layers.len(), 3);
        drop((both, second));
        store.prune(false).expect("prune");
        assert_eq!(store.list().expect("list").len(), 1, "only base:1 is left");
        assert_eq!(store.verify().expect("verify").problems, [""; 0]);
    }
}

#[test]
fn programs_stand_still_for_a_commit() {
    let boxed = Boxed::new();
    for sandbox in boxed.sandboxes() {
        let start = || {
            let mut spec = sandbox.spec().clone();
            spec.args = ["/bin/guest", "spin", "30"].map(Bytes::from).into();
            let process = sandbox.spawn(&spec).expect("it starts");
            process.pid().expect("it runs");
            process
        };
        let (running, paused) = (start(), start());
        paused.pause().expect("it is paused");
        sandbox.commit(&["x"], &Commit::new()).expect("committed");
        let stats = running.stats().expect("stats").expect("it runs");
        assert!(!stats.paused, "it goes on");
        let stood = stats.paused_time;
        assert!(stood > Duration::ZERO, "it stood still: {stats:?}");
        assert!(
            paused.stats().expect("stats").expect("it is there").paused,
            "as it was"
        );
        sandbox
            .commit(&["x"], &Commit::new().pause(false))
            .expect("committed");
        assert_eq!(
            running
                .stats()
                .expect("stats")
                .expect("it runs")
                .paused_time,
            stood
        );
        let before = running.stats().expect("stats").expect("it runs").cpu_time;
        let goes_on = || running.stats().expect("stats").expect("it runs").cpu_time > before;
        assert!(
            wait_until(Duration::from_secs(20), goes_on),
            "it uses CPU time"
        );
    }
}

#[test]
fn what_cannot_be_committed() {
    let boxed = Boxed::new();
    let store = boxed.store();
    let before = store.list().expect("list").len();
    let copy =
        Sandbox::start(&boxed.spec("base:1", &[]).overlay(Overlay::Copy)).expect("it starts");
    let error = copy.commit(&["x"], &Commit::new()).expect_err("a copy");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let bare = Sandbox::start(&Spec::new([""; 0])).expect("it starts");
    let error = bare.snapshot().map(drop).expect_err("no image");
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("import"), "{error}");
    for sandbox in boxed.sandboxes() {
        let kind = |names: &[&str], commit| {
            let error = sandbox.commit(names, &commit).expect_err("refused");
            (error.kind(), error.to_string())
        };
        let (what, why) = kind(&["A"], Commit::new());
        assert_eq!(what, ErrorKind::InvalidArgument, "{why}");
        let (what, why) = kind(&[], Commit::new().change("RUN x"));
        assert_eq!(what, ErrorKind::InvalidArgument, "{why}");
        assert!(why.contains("RUN x"), "{why}");
        if sandbox.spec().overlay == Some(Overlay::Kernel) {
            boxed.run(&sandbox, &["fs", "put:/srv/.wh.x:x"]);
            let error = sandbox
                .commit(&[], &Commit::new())
                .expect_err("no layer can hold it");
            assert_eq!(
                (error.kind(), error.step()),
                (ErrorKind::Image, "whiteout"),
                "{error}"
            );
        }
        sandbox.close().expect("close");
        assert_eq!(kind(&[], Commit::new()).0, ErrorKind::State);
    }
    assert_eq!(store.list().expect("list").len(), before);
    assert_eq!(store.disk_use().expect("disk use").temporary, 0);
}
