//! Whose the files of an image are: those that it says, where ids of the host's stand for them.

use super::{Place, command};
use crate::support::{fields, guest_dir, is_root, note_skip, skip, slowness};
use std::fs::{File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stockade::image::{Commit, Format, Import, Load, Source, Store, Target};
use stockade::{Bytes, EnforcementStatus, ErrorKind, Overlay, Sandbox, Spec, Verdict};

/// A name, its user, group and mode; and which user and group a sandbox sees.
type Owned = (&'static str, u32, u32, u32, (u32, u32));

/// What the archive has.
const FILES: [Owned; 8] = [
    ("srv", 0, 0, 0o755, (0, 0)),
    ("srv/web", 33, 33, 0o700, (33, 33)),
    ("srv/open", 33, 42, 0o755, (33, 42)),
    ("srv/open/page", 33, 42, 0o600, (33, 42)),
    ("srv/set", 0, 42, 0o2775, (0, 42)),
    ("srv/user", 1000, 1000, 0o644, (1000, 1000)),
    ("srv/far", 70_000, 70_000, 0o644, (0, 0)),
    ("srv/root", 0, 0, 0o600, (0, 0)),
];

/// An archive of a root file system of several owners, by GNU's tar.
pub fn archive(place: &Place) -> PathBuf {
    let (root, tar) = (place.at("owned"), place.at("owned.tar"));
    for dir in ["bin", "srv/web", "srv/open", "srv/set"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy(guest_dir().join("guest"), root.join("bin/guest")).unwrap();
    for file in ["web/page", "open/page", "user", "far", "root"] {
        std::fs::write(root.join("srv").join(file), file).unwrap();
    }
    std::fs::hard_link(root.join("srv/web/page"), root.join("srv/web/hard")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("srv/open/link")).unwrap();
    let add = |user: u32, group: u32, mode: Option<u32>, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(&root).arg("-rf").arg(&tar);
        command.args(["--no-recursion", "--numeric-owner"]);
        command.args([format!("--owner={user}"), format!("--group={group}")]);
        command.args(mode.map(|mode| format!("--mode={mode:o}")));
        assert!(command.args(names).status().unwrap().success());
    };
    add(0, 0, Some(0o755), &["bin", "bin/guest"]);
    for (name, user, group, mode, _) in FILES {
        add(user, group, Some(mode), &[name]);
    }
    add(33, 42, Some(0o600), &["srv/web/page", "srv/web/hard"]);
    add(33, 7, None, &["srv/open/link"]);
    tar
}

fn import(store: &Store, archive: &Path) -> stockade::image::ImageInfo {
    let import = Import::default().name("owned:1");
    store.import(Source::Path(archive.into()), import).unwrap()
}

fn spec(store: &Path, image: &str, user: &str) -> Spec {
    Spec::new::<[&str; 0], &str>([])
        .image(image)
        .store(store.to_str().unwrap())
        .user(user)
        .wall_time(Duration::from_secs(30) * slowness())
}

/// What the steps of the guest's `fs` say.
fn steps(sandbox: &Sandbox, steps: &[&str]) -> std::collections::BTreeMap<String, String> {
    let mut spec = sandbox.spec().clone();
    spec.args = ["/bin/guest", "fs"]
        .iter()
        .chain(steps)
        .map(Bytes::from)
        .collect();
    let outcome = sandbox.run(&spec).unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let owners = &outcome.enforcement["owners"];
    assert_eq!(owners.status, EnforcementStatus::Enforced, "{owners:?}");
    fields(&outcome)
}

/// Whose the files are that the image has, seen by a user that may see them.
fn assert_owners(sandbox: &Sandbox) {
    for (name, .., mode, (user, group)) in FILES {
        let step = format!("own:/{name}");
        let said = steps(sandbox, &[&step])[&step].clone();
        // No layer has set-id bits once it is unpacked.
        assert_eq!(
            said,
            format!("{user},{group},{:o}:OK", mode & 0o1777),
            "{name}"
        );
    }
    let link = "own:/srv/open/link";
    assert_eq!(steps(sandbox, &[link])[link], "33,7,777:OK");
}

/// A store of the archive; `None` where no id stands for an owner.
fn given(place: &Place) -> Option<Store> {
    let store = place.store("store");
    let info = import(&store, &archive(place));
    if let Some(why) = info.owners.strip_prefix("folded: ") {
        note_skip(&format!("owners are not told apart: {why}"));
        return None;
    }
    assert_eq!(
        info.dropped.owners, 1,
        "70000 is beyond all ranges: {info:?}"
    );
    Some(store)
}

#[test]
fn a_sandbox_sees_the_owners_of_its_image() {
    let place = Place::new();
    let Some(_store) = given(&place) else { return };
    let on_disk = place.at("upper");
    std::fs::create_dir(&on_disk).unwrap();
    for overlay in [Overlay::Kernel, Overlay::Fuse, Overlay::Copy] {
        for dir in [None, Some(on_disk.to_str().unwrap())] {
            for user in ["0", "33"] {
                let mut spec = spec(&place.at("store"), "owned:1", user).overlay(overlay);
                spec.upper_dir = dir.map(String::from);
                let sandbox = match Sandbox::start(&spec) {
                    Err(e) if e.kind() == ErrorKind::Unsupported => continue,
                    Err(e) if e.kind() == ErrorKind::Resource => continue, // no room on that disk
                    sandbox => sandbox.unwrap(),
                };
                // Programs have no capability, whoever they are: what is another's is.
                let page = [
                    "cat:/srv/open/page",
                    "put:/srv/web/new:x",
                    "put:/srv/user:x",
                ];
                let own = ["cat:/srv/root", "put:/srv/new:x", "put:/srv/user:x"];
                let (may, may_not) = match user {
                    "0" => (own, page),
                    _ => (page, own),
                };
                let what = format!("{overlay:?} {dir:?} {user}");
                for _ in 0..2 {
                    assert_owners(&sandbox);
                    let said = steps(&sandbox, &may[..2]);
                    assert!(
                        said.values().all(|said| said.ends_with("OK")),
                        "{what}: {said:?}"
                    );
                    let said = steps(&sandbox, &may_not);
                    assert!(
                        said.values().all(|said| said == "EACCES"),
                        "{what}: {said:?}"
                    );
                    let new = match user {
                        "0" => "/srv/new",
                        _ => "/srv/web/new",
                    };
                    let changes = sandbox.changes().unwrap();
                    let told = changes.iter().any(|c| &*c.path == new.as_bytes());
                    assert!(told, "{what}: {changes:?}");
                    sandbox.put("in", "and out", None).unwrap();
                    assert_eq!(&*sandbox.get("in").unwrap(), b"and out", "{what}");
                    sandbox.reset().unwrap();
                    assert_eq!(sandbox.changes().unwrap(), [], "{what}");
                }
            }
        }
    }
    let left = std::fs::read_dir(&on_disk).unwrap().count();
    let gone = || std::fs::read_dir(&on_disk).unwrap().count() == 0;
    assert!(
        crate::support::wait_until(Duration::from_secs(20), gone),
        "{left} are left"
    );
}

#[test]
fn what_is_committed_and_saved_has_them_too() {
    let place = Place::new();
    let Some(store) = given(&place) else { return };
    let second = place.store("second");
    let mut committed = Vec::new();
    for (overlay, name) in [(Overlay::Kernel, "kernel:1"), (Overlay::Fuse, "fuse:1")] {
        let spec = spec(&place.at("store"), "owned:1", "33").overlay(overlay);
        let sandbox = match Sandbox::start(&spec) {
            Err(e) if e.kind() == ErrorKind::Unsupported => continue,
            sandbox => sandbox.unwrap(),
        };
        let made = [
            "mkdir:/srv/web/dir",
            "put:/srv/web/dir/new:x",
            "chmod:/srv/web/dir/new:600",
        ];
        let last = ["chmod:/srv/web/dir:700", "put:/srv/open/page:changed"];
        let said = steps(&sandbox, &[&made[..], &last[..]].concat());
        assert!(said.values().all(|said| said == "OK"), "{said:?}");
        sandbox.commit(&[name], &Commit::new()).unwrap();
        committed.push(name);
        let archive = place.at(&name.replace(':', "-"));
        let to = Target::Path(archive.clone());
        store.save(&[name], Format::OciArchive, to, None).unwrap();
        second.load(Source::Path(archive), Load::default()).unwrap();
        for store in ["store", "second"] {
            let again = self::spec(&place.at(store), name, "33").overlay(overlay);
            let again = Sandbox::start(&again).unwrap();
            assert_owners(&again);
            let said = steps(
                &again,
                &[
                    "own:/srv/web/dir/new",
                    "cat:/srv/web/dir/new",
                    "cat:/srv/open/page",
                ],
            );
            assert_eq!(
                said["own:/srv/web/dir/new"], "33,33,600:OK",
                "{store} {name}"
            );
            assert_eq!(said["cat:/srv/web/dir/new"], "x:OK", "{store} {name}");
            assert_eq!(said["cat:/srv/open/page"], "changed:OK", "{store} {name}");
        }
        let changes = store.diff(name, None).unwrap();
        let told = changes.iter().any(|c| &*c.path == b"/srv/web/dir/new");
        assert!(told, "{changes:?}");
    }
    // Many at once: each looks into directories that are closed to us.
    if let Some(name) = committed.first() {
        let one = store.diff(name, Some("owned:1")).unwrap();
        assert!(!one.is_empty());
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..24)
                .map(|_| scope.spawn(|| store.diff(name, Some("owned:1"))))
                .collect();
            for other in all {
                assert_eq!(other.join().unwrap().unwrap(), one);
            }
        });
    }
    // What goes out is what came, the ids beyond all ranges too.
    let mut tar = tempfile::NamedTempFile::new().unwrap();
    store.export("owned:1", &mut tar, None).unwrap();
    let list = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(tar.path())
        .output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    for (name, user, group, ..) in FILES {
        let line = list
            .lines()
            .find(|line| line.trim_end_matches('/').ends_with(&format!(" {name}")));
        assert!(
            line.is_some_and(|line| line.contains(&format!(" {user}/{group} "))),
            "{name}: {list}"
        );
    }
    for store in [&store, &second] {
        assert_eq!(store.verify().unwrap().problems, [""; 0]);
    }
    drop(second);
    for name in ["kernel:1", "fuse:1", "owned:1"] {
        let _ = store.remove(name); // there is one for each driver that works here
    }
    store.prune(true).unwrap();
    for dir in ["layers", "tmp", "blobs/sha256"] {
        let left: Vec<_> = std::fs::read_dir(place.at("store").join(dir))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
}

#[test]
fn an_owner_that_was_changed_is_found() {
    let place = Place::new();
    let Some(store) = given(&place) else { return };
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
    let layer = store.inspect("owned:1").unwrap().layers[0].path.clone();
    // Whose directory it is in may put another in its place, which is its own.
    let user = layer.join("srv/user");
    let seen = user.metadata().unwrap();
    std::fs::remove_file(&user).unwrap();
    std::fs::write(&user, "user").unwrap();
    std::fs::set_permissions(&user, PermissionsExt::from_mode(seen.mode() & 0o7777)).unwrap();
    let times = FileTimes::new().set_modified(seen.modified().unwrap());
    File::options()
        .write(true)
        .open(&user)
        .unwrap()
        .set_times(times)
        .unwrap();
    let dir = File::open(layer.join("srv")).unwrap();
    let before = std::time::UNIX_EPOCH + Duration::from_secs(1);
    let _ = dir.set_times(FileTimes::new().set_modified(before));
    let problems = store.verify().unwrap().problems;
    let told = problems
        .iter()
        .any(|p| p.contains("/srv/user") && p.contains("owner"));
    assert!(told, "{problems:?}");
}

/// The caller is root where files have their owners, whoever the user is.
#[test]
fn a_volume_of_the_callers_is_roots() {
    if is_root() {
        skip!("root is nobody in its sandboxes");
    }
    let place = Place::new();
    let Some(_store) = given(&place) else { return };
    let volume = place.at("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, PermissionsExt::from_mode(0o755)).unwrap();
    for (user, result) in [("0", "OK"), ("33", "EACCES")] {
        let mut spec = spec(&place.at("store"), "owned:1", user);
        let shown = format!("{}:/vol:rw", volume.display());
        spec.volumes = vec![shown.parse().unwrap()];
        let sandbox = Sandbox::start(&spec).unwrap();
        let said = steps(&sandbox, &["own:/vol", "put:/vol/new:x", "own:/work"]);
        assert_eq!(said["own:/vol"], "0,0,755:OK", "{user}");
        assert_eq!(said["put:/vol/new"], result, "{user}");
        assert_eq!(said["own:/work"], format!("{user},{user},755:OK"));
    }
}

/// Where the sub-ids are others than those that the files were given to, nothing is run with the wrong owners.
#[test]
fn sub_ids_that_changed_are_noticed() {
    if is_root() {
        skip!("root's files are given to ids that are nobody's");
    }
    let place = Place::new();
    let Some(store) = given(&place) else { return };
    let state = place.at("store").join("state.json");
    let said = std::fs::read_to_string(&state).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        document["version"], 2,
        "what knows no sub-ids must not read it"
    );
    let images = document["images"].as_object_mut().unwrap();
    for image in images.values_mut() {
        let start = &mut image["layers"][0]["given"]["users"]["start"];
        *start = (start.as_u64().unwrap() + 1).into();
    }
    std::fs::write(&state, document.to_string()).unwrap();
    let mut run = spec(&place.at("store"), "owned:1", "0");
    run.args = vec!["/bin/guest".into(), "true".into()];
    let error = run.run().unwrap_err();
    assert!(error.to_string().contains("/etc/subuid"), "{error}");
    let problems = store.verify().unwrap().problems;
    assert!(
        problems.iter().any(|p| p.contains("/etc/subuid")),
        "{problems:?}"
    );
    std::fs::write(&state, said).unwrap();
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
}

/// A user without sub-ids: all files belong to one, and that is said.
#[test]
fn without_sub_ids_it_is_said() {
    if is_root() {
        skip!("root needs no sub-ids");
    }
    let Some(stockade) = command() else {
        skip!("the program `stockade` is not here");
    };
    let place = Place::new();
    let archive = archive(&place);
    // Root of a user namespace with no other id in it has none either.
    let mut folded = Command::new("unshare");
    folded
        .args(["--user", "--map-root-user"])
        .arg(stockade.get_program());
    folded
        .arg("import")
        .arg(&archive)
        .arg("owned:1")
        .arg("--store")
        .arg(place.at("store"));
    let said = folded.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}");
    assert!(text.contains("all files belong to one"), "{text}");
    let store = place.store("store");
    let info = store.inspect("owned:1").unwrap();
    assert!(info.owners.starts_with("folded: "), "{info:?}");
    assert!(info.dropped.owners >= 6, "{info:?}");
    // So it stays, for whoever runs it, and for what is put on top of it.
    let mut run = spec(&place.at("store"), "owned:1", "33");
    run.args = ["/bin/guest", "fs", "own:/srv/root", "own:/srv/user"]
        .map(Bytes::from)
        .to_vec();
    let outcome = run.run().unwrap();
    let owners = &outcome.enforcement["owners"];
    assert_eq!(owners.status, EnforcementStatus::NotEnforced, "{owners:?}");
    let all = fields(&outcome);
    assert_eq!(all["own:/srv/root"], "33,33,600:OK", "{all:?}");
    assert_eq!(all["own:/srv/user"], "33,33,644:OK", "{all:?}");
    let sandbox = Sandbox::start(&run).unwrap();
    sandbox.put("/srv/new", "x", None).unwrap();
    let above = sandbox.commit(&["above:1"], &Commit::new()).unwrap();
    assert!(above.owners.starts_with("folded: "), "{above:?}");
    drop(sandbox);
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
    // Loaded anew it has what this user has.
    store.remove("above:1").unwrap();
    store.remove("owned:1").unwrap();
    let anew = import(&store, &archive);
    let ids = given(&Place::new()).is_some();
    assert_eq!(anew.owners == "sub-ids", ids, "{anew:?}");
}
