//! Images that are built: what the steps come to, and when they are not done again.

use crate::commit::Boxed;
use crate::images::{Tree, merged};
use crate::support::{is_root, skip};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use stockade::image::{Build, BuildEvent, Copy, ImageInfo, Step};
use stockade::{Error, ErrorKind, Network, Sandbox, Spec, Verdict};

/// Whether an image's program can change its root here: by a copy it cannot be told what.
pub fn lacking(boxed: &Boxed) -> Option<String> {
    let sandbox = Sandbox::start(&boxed.spec("base:1", &[])).expect("it starts");
    sandbox.changes().err().map(|e| e.to_string())
}

/// Builds, and says of each step whether it was known.
fn built(boxed: &Boxed, build: Build<'_>, name: &str) -> Result<(ImageInfo, Vec<bool>), Error> {
    let mut known = Vec::new();
    let mut watch = |event: &BuildEvent<'_>| {
        if let BuildEvent::Step { cached, .. } = event {
            known.push(*cached);
        }
        ControlFlow::Continue(())
    };
    let image = build.watch(&mut watch).build(&boxed.store(), &[name])?;
    Ok((image, known))
}

fn tree_of(boxed: &Boxed, name: &str) -> Tree {
    merged(&boxed.store().resolve(name).expect("it is there").layers)
}

fn content<'t>(tree: &'t Tree, path: &str) -> &'t [u8] {
    &tree
        .get(Path::new(path))
        .unwrap_or_else(|| panic!("{path}: {:?}", tree.keys()))
        .content
}

fn context(boxed: &Boxed) -> std::path::PathBuf {
    let dir = boxed.at("context");
    std::fs::create_dir_all(dir.join("src/deep")).expect("mkdir");
    for (path, text) in [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("c.log", "c"),
        ("src/main", "main"),
        ("src/deep/x", "x"),
        ("src/deep/y.log", "y"),
    ] {
        std::fs::write(dir.join(path), text).expect("write");
    }
    if !dir.join("link").is_symlink() {
        symlink("/etc/shadow", dir.join("link")).expect("symlink");
    }
    std::fs::set_permissions(dir.join("src/main"), PermissionsExt::from_mode(0o750))
        .expect("chmod");
    dir
}

const FILE: &str = r#"
ARG BASE=base:1
FROM $BASE
ARG NAME=nobody
ENV GREETING="hello $NAME" B=2
WORKDIR /opt/app
COPY src .
RUN ["/bin/guest", "fs", "put:made:by a program", "rm:/srv/gone"]
LABEL one=1 two="2 3"
USER web
EXPOSE 80
CMD ["/bin/guest", "env"]
"#;

fn parsed<'a>(boxed: &Boxed, file: &str, args: &[(&str, &str)]) -> Build<'a> {
    let args: BTreeMap<_, _> = args
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let build = Build::parse("Stockadefile", file, args).expect("it is understood");
    build
        .context(context(boxed))
        .spec(Spec::new([""; 0]).wall_time(Duration::from_secs(30)))
}

#[test]
fn a_file_is_built_and_not_twice() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let (image, known) = built(&boxed, parsed(&boxed, FILE, &[]), "app:1").expect("it is built");
    // ARG and settings are always known.
    assert_eq!(
        known,
        [true, true, false, false, false, true, true, true, true]
    );
    assert_eq!(image.names, ["app:1"]);
    let config = serde_json::to_value(&image.config).expect("JSON");
    let inner = &config["config"];
    assert_eq!(
        inner["Env"],
        serde_json::json!(["A=1", "B=2", "GREETING=hello nobody"])
    );
    assert_eq!(inner["WorkingDir"], "/opt/app");
    assert_eq!(
        inner["Labels"],
        serde_json::json!({"one": "1", "two": "2 3"})
    );
    assert_eq!(
        (&inner["User"], &inner["Cmd"]),
        (&"web".into(), &serde_json::json!(["/bin/guest", "env"]))
    );
    // One line for each step, and for the base; layers for three of them.
    let history = config["history"].as_array().expect("history");
    assert_eq!(history.len(), 10);
    let layers = history
        .iter()
        .filter(|line| line["empty_layer"] != true)
        .count();
    assert_eq!((layers, image.layers.len()), (4, 4));
    let tree = tree_of(&boxed, "app:1");
    assert_eq!(content(&tree, "opt/app/deep/x"), b"x");
    assert_eq!(content(&tree, "opt/app/made"), b"by a program");
    assert_eq!(tree[Path::new("opt/app/main")].mode, 0o750);
    assert!(!tree.contains_key(Path::new("srv/gone")));
    // Nothing else is left of the way there.
    assert_eq!(boxed.store().list().expect("list").len(), 2);

    let (again, known) = built(&boxed, parsed(&boxed, FILE, &[]), "app:2").expect("it is built");
    assert_eq!(known, [true; 9]);
    assert_eq!(again.id, image.id, "the same is the same");
    assert_eq!(again.names, ["app:1", "app:2"]);
    // Times do not matter, contents and modes do.
    let main = boxed.at("context/src/main");
    let file = std::fs::File::options()
        .write(true)
        .open(&main)
        .expect("open");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("utimes");
    assert_eq!(
        built(&boxed, parsed_again(&boxed, FILE), "app:2")
            .expect("it is built")
            .1,
        [true; 9]
    );
    std::fs::set_permissions(&main, PermissionsExt::from_mode(0o700)).expect("chmod");
    let (_, known) = built(&boxed, parsed_again(&boxed, FILE), "app:2").expect("it is built");
    assert_eq!(known[2..5], [true, false, false], "all from there on");
    std::fs::write(&main, "other").expect("write");
    let (other, known) = built(&boxed, parsed_again(&boxed, FILE), "app:2").expect("it is built");
    assert_eq!(known[2..5], [true, false, false]);
    assert_ne!(other.id, image.id);
    // What an argument is counts where a program can see it.
    let (_, known) =
        built(&boxed, parsed(&boxed, FILE, &[("NAME", "you")]), "app:3").expect("it is built");
    assert_eq!(known[2..5], [false, false, false]);
    let (_, known) =
        built(&boxed, parsed(&boxed, FILE, &[]).no_cache(true), "app:4").expect("it is built");
    assert_eq!(known[2..5], [false, false, false]);

    let store = boxed.store();
    assert_eq!(store.verify().expect("verify").problems, [""; 0]);
    store.prune(false).expect("prune");
    assert_eq!(
        built(&boxed, parsed(&boxed, FILE, &[]), "app:5")
            .expect("it is built")
            .1,
        [true; 9]
    );
    // What no image has any more is forgotten.
    for n in 1..=5 {
        let _ = store.remove(&format!("app:{n}"));
    }
    store.prune(false).expect("prune");
    let cache = std::fs::read_dir(boxed.at("store/cache")).expect("it is there");
    assert_eq!(cache.count(), 0);
    assert_eq!(store.disk_use().expect("disk use").reclaimable, 0);
    let (_, known) = built(&boxed, parsed(&boxed, FILE, &[]), "app:1").expect("it is built");
    assert_eq!(known[2..5], [false, false, false]);
}

/// With the context as it is.
fn parsed_again<'a>(boxed: &Boxed, file: &str) -> Build<'a> {
    let build = Build::parse("Stockadefile", file, BTreeMap::new()).expect("it is understood");
    build.context(boxed.at("context"))
}

#[test]
fn programs_of_a_build_have_what_it_says() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let mut said = Vec::new();
    let mut watch = |event: &BuildEvent<'_>| {
        if let BuildEvent::Output(bytes) = event {
            said.extend_from_slice(bytes);
        }
        ControlFlow::Continue(())
    };
    let file = "ARG EARLY=early\nFROM base:1\nARG EARLY\nARG ONE=1\nARG A=no\nARG TWO\nENV E=e\nUSER web:adm\nRUN [\"/bin/guest\", \"env\"]\n\
                RUN [\"/bin/guest\", \"report\"]\nWORKDIR /srv/new\nRUN [\"/bin/guest\", \"cwd\"]\n";
    let build = Build::parse("F", file, BTreeMap::new()).expect("it is understood");
    build
        .watch(&mut watch)
        .build(&boxed.store(), &["x"])
        .expect("it is built");
    let said = String::from_utf8_lossy(&said);
    for line in ["ONE=1", "EARLY=early", "A=1", "E=e", "HOME=/var/www"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert!(!said.contains("TWO="), "{said}");
    assert!(
        said.contains("Uid=33 33 33 33") && said.contains("Gid=4 4 4 4"),
        "{said}"
    );
    assert!(said.contains("/srv/new"), "{said}");
    if is_root() {
        let image = boxed.store().resolve("x").expect("it is there");
        let top = image.layers.last().expect("a layer");
        let made = top.join("srv/new").metadata().expect("stat");
        assert_eq!(
            made.uid(),
            2_000_000_000,
            "a directory that WORKDIR makes is root's"
        );
    }
}

#[test]
fn files_are_copied_as_with_docker() {
    let boxed = Boxed::new();
    let dir = context(&boxed);
    std::fs::write(dir.join(".dockerignore"), "*.log\n**/*.log\n!keep.log\n").expect("write");
    std::fs::write(dir.join("keep.log"), "kept").expect("write");
    // A way through a link of the image's.
    let base = Build::from("base:1").step(Step::Files(BTreeMap::from([
        (
            "/etc/motd".to_string(),
            serde_json::from_str("\"hi\"").expect("JSON"),
        ),
        (
            "/usr/own/run".to_string(),
            serde_json::from_str(r##"{"content": "#!", "mode": 493}"##).expect("JSON"),
        ),
    ])));
    base.build(&boxed.store(), &["base:2"])
        .expect("it is built");
    let linked = boxed.at("linked");
    std::fs::create_dir_all(&linked).expect("mkdir");
    symlink("../usr/own", linked.join("own")).expect("symlink");
    let build = Build::from("base:2").context(&linked).copy(["."], "/opt");
    build
        .build(&boxed.store(), &["base:2"])
        .expect("it is built");

    let mut chosen = Copy::default();
    (chosen.sources, chosen.to) = (vec!["src/main".into()], "/opt/owned".into());
    (chosen.chown, chosen.chmod) = (Some("web:adm".into()), Some("0604".into()));
    let build = Build::from("base:2")
        .context(&dir)
        .copy(["a.txt"], "/srv")
        .copy(["a.txt"], "/new/name")
        .copy(["a.txt"], "/newdir/")
        .copy(["*.txt", "link"], "/many")
        .copy(["src"], "/tree")
        .copy(["a.txt"], "/opt/own/through")
        .workdir("/srv/sub")
        .copy(["b.txt"], "./x/")
        .copy(["."], "/all")
        .step(Step::Copy(chosen));
    let (image, _) = built(&boxed, build, "x").expect("it is built");
    let tree = tree_of(&boxed, "x");
    for (path, text) in [
        ("srv/a.txt", "a"),
        ("new/name", "a"),
        ("newdir/a.txt", "a"),
        ("many/a.txt", "a"),
        ("many/b.txt", "b"),
        ("many/link", "/etc/shadow"),
        ("tree/main", "main"),
        ("tree/deep/x", "x"),
        ("usr/own/through", "a"),
        ("srv/sub/x/b.txt", "b"),
        ("all/src/deep/x", "x"),
        ("all/keep.log", "kept"),
        ("etc/motd", "hi"),
    ] {
        assert_eq!(content(&tree, path), text.as_bytes(), "{path}");
    }
    assert_eq!(
        tree[Path::new("many/link")].kind,
        "link",
        "it is copied as it is"
    );
    for ignored in ["all/c.log", "all/src/deep/y.log", "tree/deep/y.log"] {
        assert!(!tree.contains_key(Path::new(ignored)), "{ignored}");
    }
    assert_eq!(tree[Path::new("opt/owned")].mode, 0o604);
    assert_eq!(tree[Path::new("usr/own/run")].mode, 0o755);
    let mut tar = Vec::new();
    boxed
        .store()
        .export(image.id.as_str(), &mut tar, None)
        .expect("exported");
    let owners = |tar: &[u8]| {
        let header = tar
            .chunks(512)
            .find(|block| block.starts_with(b"opt/owned\0"))
            .expect("it is there");
        (header[108..115].to_vec(), header[116..123].to_vec())
    };
    assert_eq!(
        owners(&tar),
        (b"0000041".to_vec(), b"0000004".to_vec()),
        "33:4"
    );
}

#[test]
fn what_a_build_refuses() {
    let boxed = Boxed::new();
    let dir = context(&boxed);
    symlink("/etc", dir.join("out")).expect("symlink");
    let before = boxed.store().list().expect("list").len();
    let fails = |build: Build<'_>, kind: ErrorKind, why: &str| {
        let error = build
            .context(&dir)
            .build(&boxed.store(), &["x"])
            .map(drop)
            .expect_err(why);
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(error.kind(), kind, "{error}");
    };
    let from = || Build::from("base:1");
    fails(
        from().copy(["../secret"], "/x"),
        ErrorKind::InvalidArgument,
        "`..`",
    );
    fails(from().copy(["none"], "/x"), ErrorKind::Setup, "step 1: ");
    fails(from().copy(["*.none"], "/x"), ErrorKind::Setup, "*.none");
    fails(
        from().copy(["out/passwd"], "/x"),
        ErrorKind::Setup,
        "out/passwd",
    );
    fails(
        from().copy(["s*/x"], "/x"),
        ErrorKind::InvalidArgument,
        "last component",
    );
    for own in ["/tmp/x", "/work", "/proc/x"] {
        fails(
            from().copy(["a.txt"], own),
            ErrorKind::InvalidArgument,
            "a sandbox has its own",
        );
        fails(
            from().workdir(own),
            ErrorKind::InvalidArgument,
            "a sandbox has its own",
        );
    }
    fails(
        from().user("x").arg("NO", "1"),
        ErrorKind::InvalidArgument,
        "`NO`",
    );
    fails(Build::from("none:1"), ErrorKind::NotFound, "none:1");
    fails(
        Build::scratch().run(["x"]),
        ErrorKind::InvalidArgument,
        "no layers",
    );
    let error = Build::from("base:1")
        .copy(["a"], "/x")
        .build(&boxed.store(), &[])
        .map(drop);
    assert!(
        error
            .expect_err("no context")
            .to_string()
            .contains("no context")
    );
    assert_eq!(boxed.store().list().expect("list").len(), before);
}

#[test]
fn a_program_that_fails_ends_the_build() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let file = "FROM base:1\nRUN [\"/bin/guest\", \"fs\", \"put:/srv/one:1\"]\nRUN [\"/bin/guest\", \"exit\", \"3\"]\n";
    let error = built(&boxed, parsed(&boxed, file, &[]), "x").expect_err("it fails");
    let text = error.to_string();
    assert!(
        text.starts_with(
            "Stockadefile:3: RUN [\"/bin/guest\", \"exit\", \"3\"]: it ended with status 3"
        ),
        "{text}"
    );
    assert_eq!((error.kind(), error.step()), (ErrorKind::Image, "run"));
    assert_eq!(
        boxed
            .store()
            .inspect("x")
            .map(drop)
            .expect_err("not there")
            .kind(),
        ErrorKind::NotFound
    );
    // What came before need not be done again.
    let better = file.replace("\"3\"", "\"0\"");
    assert_eq!(
        built(&boxed, parsed(&boxed, &better, &[]), "x")
            .expect("it is built")
            .1,
        [true, false]
    );

    let limited = |spec: Spec, args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        let build = Build::from("base:1").run(args).spec(spec);
        build
            .build(&boxed.store(), &[])
            .map(drop)
            .expect_err("it is ended")
            .to_string()
    };
    let spec = || Spec::new([""; 0]).wall_time(Duration::from_secs(30));
    let said = limited(
        spec().cpu_time(Duration::from_millis(200)),
        &["/bin/guest", "spin", "20"],
    );
    assert!(said.contains(Verdict::TimeLimit.name()), "{said}");
    let said = limited(spec().output(1 << 20), &["/bin/guest", "flood"]);
    assert!(said.contains("1048576 bytes of output"), "{said}");
    let said = limited(spec(), &["/bin/none"]);
    assert!(said.contains("/bin/none"), "{said}");
    assert_eq!(spec().network, Network::None);
    // And what the caller ends.
    let mut stop = |event: &BuildEvent<'_>| match event {
        BuildEvent::Output(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let build = Build::from("base:1")
        .run(["/bin/guest", "flood"])
        .watch(&mut stop);
    let error = build
        .build(&boxed.store(), &[])
        .map(drop)
        .expect_err("called off");
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
}

/// Somebody may know it by its id: only `prune` removes it.
#[test]
fn an_image_without_a_name_outlives_the_build_that_goes_on_from_it() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let step = |build: Build<'static>, text: &str| build.run(["/bin/guest", "fs", text]);
    let one = || step(Build::from("base:1"), "put:one:1");
    let image = one().build(&boxed.store(), &[]).expect("it is built");
    let more = step(one(), "put:two:2").build(&boxed.store(), &["more:1"]);
    let layers = more.expect("it is built").layers.len();
    assert_eq!(layers, image.layers.len() + 1);
    boxed.store().inspect(image.id.as_str()).expect("it stays");
    // What was only a step on the way is not kept.
    assert_eq!(boxed.store().prune(false).expect("pruned").images.len(), 1);
}

#[test]
fn from_nothing() {
    let boxed = Boxed::new();
    let guest = crate::support::guest_dir();
    let build = Build::scratch()
        .context(guest)
        .copy(["guest"], "/bin/guest")
        .cmd(["/bin/guest", "say", "made"]);
    let image = build
        .build(&boxed.store(), &["new:1"])
        .expect("it is built");
    assert_eq!(image.layers.len(), 1);
    let outcome = boxed.spec("new:1", &[]).run().expect("it runs");
    assert_eq!(outcome.stdout.to_text().trim(), "made");
}
