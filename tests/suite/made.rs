//! The command line's ways to make images, and `kill -9` at any moment of them.

use crate::commit::Boxed;
use crate::images::command;
use crate::support::skip;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use stockade::image::Store;

/// The command line on the store of `boxed`.
fn stockade(boxed: &Boxed, args: &[&str]) -> Command {
    let mut command = command().expect("it is here");
    let store = boxed.at("store");
    command
        .arg(args[0])
        .arg("--store")
        .arg(store)
        .args(&args[1..]);
    command.stdin(Stdio::null());
    command
}

fn output(boxed: &Boxed, args: &[&str]) -> Output {
    stockade(boxed, args).output().expect("it is run")
}

#[track_caller]
fn says(output: &Output, status: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    (out, err)
}

/// Why nothing can be committed here.
fn lacking(boxed: &Boxed) -> Option<String> {
    if command().is_none() {
        return Some("the program `stockade` is not here".into());
    }
    let run = output(boxed, &["run", "--image", "base:1", "--diff", "--", "true"]);
    (run.status.code() == Some(125)).then(|| says(&run, 125).1)
}

#[test]
fn a_run_is_committed() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let run = |args: &[&str]| {
        output(
            &boxed,
            &[&["run", "--image", "base:1", "-u", "0"], args].concat(),
        )
    };
    // The image's own entry point is before the arguments, as without.
    let made = run(&[
        "--diff",
        "--commit",
        "new:1",
        "--change",
        "CMD [\"say\", \"new\"]",
        "--message",
        "m",
        "fs",
        "put:/srv/new:x",
        "rm:/srv/gone",
    ]);
    let (out, err) = says(&made, 0);
    assert!(out.contains("put:/srv/new=OK"), "{out}");
    assert_eq!(err, "C /srv\nD /srv/gone\nA /srv/new\n");
    let (out, _) = says(&output(&boxed, &["run", "--image", "new:1"]), 0);
    assert_eq!(out.trim(), "new");
    let (out, _) = says(&output(&boxed, &["diff", "new:1"]), 0);
    assert_eq!(out, "C /srv\nD /srv/gone\nA /srv/new\n");
    let (out, _) = says(&output(&boxed, &["diff", "new:1", "base:1"]), 0);
    assert_eq!(out, "C /srv\nA /srv/gone\nD /srv/new\n");

    // Names are anything: they neither make lines of their own nor tell a terminal what to do.
    let put = "put:/srv/odd\nD \u{1b}[2J\u{9b}2J:x";
    let (_, err) = says(&run(&["--diff", "--commit", "odd:1", "fs", put]), 0);
    let changes = "C /srv\nA /srv/odd\\nD \\u{1b}[2J\\u{9b}2J\n";
    assert_eq!(err, changes);
    let (out, _) = says(&output(&boxed, &["diff", "odd:1"]), 0);
    assert_eq!(out, changes);

    // Only what ended well, unless all is wanted.
    let (_, err) = says(&run(&["--commit", "bad:1", "exit", "3"]), 3);
    assert!(err.contains("`bad:1` is not made"), "{err}");
    says(&output(&boxed, &["inspect", "bad:1"]), 125);
    says(
        &run(&["--commit", "bad:1", "--commit-always", "exit", "3"]),
        3,
    );
    says(&output(&boxed, &["inspect", "bad:1"]), 0);
    let (out, _) = says(
        &run(&[
            "--json",
            "--diff",
            "--commit",
            "json:1",
            "fs",
            "put:/srv/new:x",
        ]),
        0,
    );
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        json["changes"][1],
        serde_json::json!({"path": "/srv/new", "kind": "A"})
    );
    assert!(
        json["image"]
            .as_str()
            .is_some_and(|id| id.starts_with("sha256:")),
        "{json}"
    );
    assert_eq!(json["verdict"], "OK");
    let (_, err) = says(&run(&["--commit", "UPPER:1", "true"]), 125);
    assert!(err.contains("no name of an image"), "{err}");
}

#[test]
fn images_of_images() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let context = boxed.at("context");
    std::fs::create_dir(&context).expect("mkdir");
    std::fs::write(context.join("file"), "text").expect("write");
    let file = "ARG BASE\nFROM $BASE\nRUN [\"/bin/guest\", \"say\", \"built\"]\nCOPY file /srv/\nCMD [\"say\", \"run\"]\n";
    std::fs::write(context.join("Stockadefile"), file).expect("write");
    let dir = context.to_str().expect("UTF-8");
    let build = |more: &[&str]| {
        output(
            &boxed,
            &[
                &["build", "-t", "app:1", "--build-arg", "BASE=base:1"],
                more,
                &[dir],
            ]
            .concat(),
        )
    };
    let (id, err) = says(&build(&["-m", "256m", "--wall-time", "30"]), 0);
    assert!(id.starts_with("sha256:"), "{id}");
    assert!(
        err.contains("[1/3] RUN [\"/bin/guest\", \"say\", \"built\"]\nbuilt"),
        "{err}"
    );
    let (again, err) = says(&build(&[]), 0);
    assert_eq!(again, id);
    assert!(err.contains("[2/3] COPY file /srv/ (cached)"), "{err}");
    assert_eq!(says(&build(&["-q"]), 0), (id.clone(), String::new()));
    let (_, err) = says(&build(&["--no-cache", "-t", "app:2"]), 0);
    assert!(!err.contains("COPY file /srv/ (cached)"), "{err}");
    assert_eq!(
        says(&output(&boxed, &["run", "--image", "app:1"]), 0)
            .0
            .trim(),
        "run"
    );

    let (other, _) = says(
        &output(
            &boxed,
            &["commit", "-c", "CMD [\"say\", \"other\"]", "app:1", "app:3"],
        ),
        0,
    );
    assert_ne!(other, id);
    assert_eq!(
        says(&output(&boxed, &["run", "--image", "app:3"]), 0)
            .0
            .trim(),
        "other"
    );
    let tar = output(&boxed, &["export", "app:1"]);
    assert!(tar.status.success());
    let tar_file = boxed.at("root.tar");
    std::fs::write(&tar_file, &tar.stdout).expect("write");
    let tar_file = tar_file.to_str().expect("UTF-8");
    says(
        &output(
            &boxed,
            &[
                "import",
                "-c",
                "ENTRYPOINT [\"/bin/guest\"]",
                "-c",
                "CMD [\"say\", \"flat\"]",
                tar_file,
                "flat:1",
            ],
        ),
        0,
    );
    assert_eq!(
        says(&output(&boxed, &["run", "--image", "flat:1"]), 0)
            .0
            .trim(),
        "flat"
    );
    assert_eq!(says(&output(&boxed, &["diff", "app:1", "flat:1"]), 0).0, "");
    assert_eq!(
        says(&output(&boxed, &["rm", "app:3"]), 0).0,
        format!("Untagged: app:3\nDeleted: {other}")
    );

    std::fs::write(context.join("Stockadefile"), "FROM base:1\n\nADD x /\n").expect("write");
    let kept = boxed.at("kept.tar");
    std::fs::write(&kept, "kept").expect("write");
    let kept_file = kept.to_str().expect("UTF-8");
    for (args, why) in [
        (
            &["build", dir][..],
            "Stockadefile:3: `ADD`: no such instruction",
        ),
        (&["build", "-f", "/no/such", dir], "/no/such"),
        (&["build", "--mount", dir], "unknown flag `--mount`"),
        (&["build", "/", "/"], "unexpected argument"),
        (&["build", "-m", "x", dir], "-m: `x`"),
        (&["commit", "app:1"], "--commit NAME"),
        (&["commit", "-c", "RUN x", "app:1", "x"], "RUN x"),
        (&["diff"], "give an image, or two"),
        (&["export", "a", "b"], "give one image"),
        (&["export", "-o", kept_file, "no:1"], "no image `no:1`"),
        (&["import", "-c", "x", "/tmp"], "change: `x`"),
    ] {
        let (_, err) = says(&output(&boxed, args), 125);
        assert!(err.contains(why), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert_eq!(std::fs::read(&kept).expect("read"), b"kept");
    for command in ["build", "commit", "diff", "export", "rm"] {
        let help = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["help", command])
            .output()
            .expect("it is run");
        assert!(says(&help, 0).0.contains("Usage: stockade"), "{command}");
    }
}

/// Sixty times a process that commits or builds is killed. Afterwards all that the store lists is whole, and nothing is left
/// of the dead.
#[test]
fn a_killed_commit_breaks_nothing() {
    let boxed = Boxed::new();
    if let Some(why) = lacking(&boxed) {
        skip!("{why}");
    }
    let context = boxed.at("context");
    std::fs::create_dir(&context).expect("mkdir");
    for i in 0..50 {
        std::fs::write(context.join(i.to_string()), vec![i as u8; 20_000]).expect("write");
    }
    let dir = context.to_str().expect("UTF-8");
    let file = "FROM base:1\nRUN [\"/bin/guest\", \"many-files\", \"/srv\", \"50\"]\nCOPY . /all/\nRUN [\"/bin/guest\", \"fs\", \"put:/x:x\"]\n";
    std::fs::write(context.join("Stockadefile"), file).expect("write");
    let commit = [
        "run",
        "--image",
        "base:1",
        "-u",
        "0",
        "--commit",
        "new:1",
        "many-files",
        "/srv",
        "100",
    ];
    let build = ["build", "-q", "--no-cache", "-t", "built:1", dir];
    let begin = |args: &[&str]| {
        let mut command = stockade(&boxed, args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it starts")
    };
    let whole = [&commit[..], &build].map(|args| {
        let begun = Instant::now();
        assert!(begin(args).wait().expect("wait").success());
        begun.elapsed()
    });
    let (mut killed, mut state) = (0, 0x2545_f491_4f6c_dd1d_u64);
    for round in 0..60 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let which = round % 2;
        let mut child = begin([&commit[..], &build][which]);
        std::thread::sleep(Duration::from_nanos(state % whole[which].as_nanos() as u64));
        child.kill().expect("kill");
        killed += u32::from(!child.wait().expect("wait").success());
        let store = Store::open(Some(&boxed.at("store"))).expect("it opens");
        assert_eq!(
            store.disk_use().expect("disk use").temporary,
            0,
            "round {round}"
        );
        for image in store.list().expect("list") {
            let held = store.resolve(image.id.as_str()).expect("it is there");
            assert!(
                held.layers.iter().all(|layer| layer.is_dir()),
                "round {round}: {held:?}"
            );
        }
        if round % 10 == 9 {
            assert_eq!(
                store.verify().expect("verify").problems,
                [""; 0],
                "round {round}"
            );
        }
    }
    assert!(
        killed > 30,
        "only {killed} of 60 were killed while they worked"
    );
    let store = boxed.store();
    assert!(
        begin(&build).wait().expect("wait").success(),
        "it can be built again"
    );
    store.prune(true).expect("prune");
    let used = store.disk_use().expect("disk use");
    assert_eq!(
        (used.images, used.blobs, used.layers),
        (0, 0, 0),
        "nothing is lost for good"
    );
}
