//! The command line as its users meet it: flags in, streams, files and exit status out.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn stockade(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    stockade(args).output().unwrap()
}

/// Runs a shell inside with `flags`.
fn shell(flags: &[&str], script: &str) -> Output {
    let args = [&["run"], flags, &["--", "/bin/sh", "-c", script]].concat();
    output(&args)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "stdout: {:?}\nstderr: {:?}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn streams_and_status_are_the_programs_own() {
    let run = shell(&[], "echo out; echo err >&2; exit 7");
    assert_status(&run, 7);
    assert_eq!(text(&run.stdout), "out\n");
    assert_eq!(text(&run.stderr), "err\n");
}

#[test]
fn signals_are_128_and_more() {
    assert_status(&shell(&[], "kill -TERM $$"), 128 + 15);
    assert_status(&shell(&[], "kill -SEGV $$"), 128 + 11);
}

#[test]
fn a_call_that_the_profile_kills_for_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile.json");
    let kills = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]}"#;
    std::fs::write(&profile, kills).unwrap();
    let flags = ["--profile", profile.to_str().unwrap()];
    let run = shell(&flags, "mkdir -m 705 made; echo after");
    assert_status(&run, 128 + 9);
    let said = text(&run.stderr);
    assert!(
        said.contains("VIOLATION: made a forbidden system call: mkdir"),
        "{said}"
    );
    assert!(
        said.contains(", by process ") && said.contains(" (mkdir)"),
        "{said}"
    );
    let run = shell(&[&flags[..], &["--json"]].concat(), "mkdir made");
    let found = &json(&run)["violation"];
    assert!(found["syscall"].as_str().unwrap().starts_with("mkdir"));
    assert_eq!(found["main"], false);
    assert!(found["args"].as_array().unwrap().contains(&"0x1ff".into()));
}

#[test]
fn what_cannot_be_executed_is_126_or_127() {
    let run = output(&["run", "no-such-program"]);
    assert_status(&run, 127);
    assert!(text(&run.stderr).contains("no-such-program"), "{run:?}");
    assert_status(&output(&["run", "/etc"]), 126);
}

#[test]
fn our_own_failures_are_125() {
    for args in [
        &["run", "--no-such-flag", "true"][..],
        &["run"],
        &["run", "-m", "lots", "true"],
        &["no-such-command"],
        &["doctor", "--no-such-flag"],
        &["run", "-v", "/no/such/directory:/data", "true"],
        &["run", "--spec", "/no/such/file"],
    ] {
        let run = output(args);
        assert_status(&run, 125);
        assert_eq!(text(&run.stdout), "");
        assert_eq!(text(&run.stderr).lines().count(), 1, "{run:?}");
        assert!(text(&run.stderr).starts_with("stockade: "), "{run:?}");
    }
}

#[test]
fn a_limit_is_124_and_one_line() {
    let run = shell(&["--wall-time", "200ms"], "echo begun; sleep 30");
    assert_status(&run, 124);
    assert_eq!(text(&run.stdout), "begun\n");
    assert!(
        text(&run.stderr).contains("WALL_TIME_LIMIT: ran for 0.2"),
        "{run:?}"
    );

    let run = shell(&["-q", "--cpu-time", "100ms"], "while :; do :; done");
    assert_status(&run, 124);
    assert!(
        text(&run.stderr).starts_with("stockade: TIME_LIMIT: used 0.1"),
        "{run:?}"
    );
    assert_eq!(text(&run.stderr).lines().count(), 1);
}

#[test]
fn output_is_cut_at_its_limit() {
    let run = shell(&["--output", "10"], "echo 0123456789abcdef; sleep 30");
    assert_status(&run, 124);
    assert_eq!(text(&run.stdout), "0123456789");
    assert!(
        text(&run.stderr).contains("OUTPUT_LIMIT: wrote too much output; the limit is 10"),
        "{run:?}"
    );
    // Let go on, it ends as it would have.
    let run = shell(
        &["--output", "10", "--output-overflow", "discard"],
        "echo 0123456789abcdef; echo ok >&2",
    );
    assert_status(&run, 124);
    assert_eq!(text(&run.stdout), "0123456789");
    assert!(text(&run.stderr).starts_with("ok\n"), "{run:?}");
}

#[test]
fn much_output_passes_whole() {
    let run = shell(
        &[],
        "head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2",
    );
    assert_status(&run, 0);
    assert_eq!((run.stdout.len(), run.stderr.len()), (3_000_000, 200_000));
}

#[test]
fn output_comes_as_it_is_written() {
    let mut child = stockade(&[
        "run",
        "-i",
        "--",
        "/bin/sh",
        "-c",
        "echo ready; read line; echo got $line",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    child.stdin.take().unwrap().write_all(b"word\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got word\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn standard_input_is_read_only_when_asked() {
    let run = |flags: &[&str]| {
        let args = [&["run"], flags, &["--", "/bin/cat"]].concat();
        let mut child = stockade(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let data = vec![b'x'; 300_000];
        let writer = std::thread::spawn(move || {
            // Without -i nobody reads, and the pipe breaks when the run is over.
            let _ = stdin.write_all(&data);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_status(&output, 0);
        output.stdout.len()
    };
    assert_eq!(run(&["-i"]), 300_000);
    assert_eq!(run(&[]), 0);
}

#[test]
fn a_program_that_reads_nothing_does_not_hold_the_call() {
    let mut child = stockade(&["run", "-i", "--", "/bin/true"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open: the run must end without the end of its input.
    let _stdin = child.stdin.take();
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn environment_directory_user_and_host_name() {
    let script = "echo \"$A|$B|$HOME|$(pwd)|$(id -u):$(id -g)|$(uname -n)\"";
    let flags = [
        "-e",
        "A=1",
        "--env=B=2",
        "-w",
        "/tmp",
        "-u",
        "7:8",
        "-h",
        "inside",
    ];
    let run = shell(&flags, script);
    assert_status(&run, 0);
    assert_eq!(text(&run.stdout), "1|2||/tmp|7:8|inside\n");
}

#[test]
fn files_go_in_and_come_out() {
    let dir = tempfile::TempDir::new().unwrap();
    let (input, result) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::write(&input, "hello").unwrap();
    let file = format!("a/b.txt={}", input.display());
    let collect = format!("c.txt={}", result.display());
    let run = shell(
        &["--file", &file, "--collect", &collect],
        "tr a-z A-Z < a/b.txt > c.txt",
    );
    assert_status(&run, 0);
    assert_eq!(std::fs::read_to_string(&result).unwrap(), "HELLO");
    // What is not there to collect is a failure, though the program was content.
    let run = shell(&["--collect", &collect], "true");
    assert_status(&run, 125);
    assert!(text(&run.stderr).contains("collecting `c.txt`"), "{run:?}");
    // A link out of the sandbox is not followed.
    let run = shell(&["--collect", &collect], "ln -s /etc/passwd c.txt");
    assert_status(&run, 125);
}

#[test]
fn json_is_the_outcome() {
    let run = shell(&["--json", "-m", "64m", "--pids", "8"], "echo out; exit 3");
    assert_status(&run, 3);
    let outcome = json(&run);
    assert_eq!(outcome["verdict"], "NONZERO_EXIT");
    assert_eq!(outcome["returncode"], 3);
    assert_eq!(outcome["stdout"], "out\n");
    assert!(
        outcome["enforcement"]["memory"]["by"].is_string(),
        "{outcome}"
    );
    let run = output(&["run", "--json", "-v", "/no/such/directory:/data", "true"]);
    assert_status(&run, 125);
    assert!(
        json(&run)["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/no/such/directory")
    );
}

#[test]
fn what_is_written_can_be_kept_on_a_disk() {
    use std::os::unix::fs::PermissionsExt;
    let [root, kept] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let [at, keep] = [&root, &kept].map(|dir| dir.path().to_str().unwrap());
    let mut flags = vec![
        "--json",
        "--rootfs",
        at,
        "--overlay",
        "auto",
        "-v",
        "/usr:/usr",
    ];
    for dir in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{dir}"), root.path().join(dir)).unwrap();
    }
    flags.extend(["--upper-dir", keep]);
    let outcome = json(&shell(&flags, "echo x >/tmp/x"));
    assert_eq!(outcome["verdict"], "OK", "{outcome}");
    let disk = &outcome["enforcement"]["disk"];
    assert_eq!(disk["status"], "approximated", "{disk}");
    assert!(disk["by"].as_str().unwrap().contains(keep), "{disk}");
    let missing = shell(&["--upper-dir", keep], "true");
    assert_status(&missing, 125);
    assert!(text(&missing.stderr).contains("overlay"), "{missing:?}");
}

#[test]
fn json_with_standard_input() {
    let mut child = stockade(&["run", "--json", "-i", "/bin/cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let run = child.wait_with_output().unwrap();
    assert_status(&run, 0);
    assert_eq!(json(&run)["stdout"], "through");
}

#[test]
fn a_specification_in_json() {
    let mut child = stockade(&["run", "--spec", "-", "-e", "B=2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let spec = br#"{"args": ["/bin/sh", "-c", "cat; echo $A$B"], "env": {"A": "1"}, "input": "in\n", "wall_time": "10s"}"#;
    child.stdin.take().unwrap().write_all(spec).unwrap();
    let run = child.wait_with_output().unwrap();
    assert_status(&run, 0);
    assert_eq!(text(&run.stdout), "in\n12\n");
}

#[test]
fn an_interrupt_ends_everything() {
    for json in [false, true] {
        let flags: &[&str] = if json { &["--json"] } else { &[] };
        let script = "trap '' INT TERM; (sleep 1000 &) ; echo ready; sleep 1000";
        let args = [&["run"], flags, &["--", "/bin/sh", "-c", script]].concat();
        // These tests may run with the signal ignored (a shell's background job does), and the program would keep that.
        let mut child = Command::new("env")
            .args(["--default-signal=INT", env!("CARGO_BIN_EXE_stockade")])
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        if json {
            std::thread::sleep(Duration::from_millis(300));
        } else {
            stdout.read_exact(&mut [0; 6]).unwrap();
        }
        let started = Instant::now();
        let pid = i32::try_from(child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGINT).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(rest.contains("\"verdict\":\"KILLED\""), json, "{rest}");
    }
}

/// Whoever should read the output does not, and the program writes more than a pipe holds.
#[test]
fn an_interrupt_ends_everything_though_nobody_reads() {
    let mut child = stockade(&["run", "--", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            None if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            status => break status,
        }
    };
    let _ = child.kill();
    assert_eq!(status.and_then(|status| status.code()), Some(143));
}

#[test]
fn a_program_may_stop_by_itself() {
    let stopped = |flags: &[&str], script: &str| {
        let mut child = stockade(&[&["run"], flags, &["--", "/bin/sh", "-c", script]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap().code(), rest)
    };
    let polite = "trap 'echo bye; exit 7' TERM INT; echo ready; while :; do sleep 0.02; done";
    let bye = |code| (Some(code), "bye\n".to_string());
    assert_eq!(stopped(&["--stop-timeout", "20"], polite), bye(7));
    let flags = ["--stop-timeout", "20", "--stop-signal", "INT"];
    assert_eq!(stopped(&flags, polite), bye(7));
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let killed = (Some(128 + 15), String::new());
    assert_eq!(stopped(&["--stop-timeout", "100ms"], deaf), killed);
    assert_eq!(stopped(&[], polite), killed);
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let mut child = stockade(&["run", "--", "/bin/sh", "-c", "while :; do echo yes; done"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut [0; 4])
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_status(&ended, 128 + 13);
    assert_eq!(ended.status.signal(), None);
    assert_eq!(text(&ended.stderr), "");
}

#[test]
fn doctor_finds_that_programs_run_here() {
    let run = output(&["doctor"]);
    assert_status(&run, 0);
    assert!(
        text(&run.stdout).starts_with("ok        trial run"),
        "{run:?}"
    );
    let checks = json(&output(&["doctor", "--json"]));
    let checks = checks.as_array().unwrap();
    assert!(checks.len() > 12);
    for check in checks {
        // What is lacking here has a fix; what is there needs none.
        assert_eq!(check["status"] == "ok", check["fix"].is_null(), "{check}");
    }
}

/// Runs `stockade doctor` in a namespace of unshare(1) that `script` has spoiled first.
fn doctor_where(unshare: &str, script: &str) -> Vec<serde_json::Value> {
    let script = format!("{script} && exec \"$0\" doctor --json");
    let run = Command::new("unshare")
        .args([
            unshare,
            "/bin/sh",
            "-c",
            &script,
            env!("CARGO_BIN_EXE_stockade"),
        ])
        .output()
        .unwrap();
    assert_status(&run, 1);
    let checks: Vec<_> = json(&run).as_array().unwrap().clone();
    checks
        .into_iter()
        .filter(|check| check["status"] == "missing")
        .collect()
}

#[track_caller]
fn assert_check(check: &serde_json::Value, name: &str, fix: &str) {
    assert_eq!(check["name"], name);
    assert!(check["fix"].as_str().unwrap().contains(fix), "{check}");
}

#[test]
fn doctor_finds_what_keeps_programs_from_running() {
    let missing = doctor_where("-Ur", "echo 0 > /proc/sys/user/max_user_namespaces");
    assert_eq!(
        (missing.len(), &missing[0]["name"]),
        (2, &"trial run".into()),
        "{missing:?}"
    );
    assert_check(
        &missing[1],
        "user namespace",
        "sysctl -w user.max_user_namespaces=65536",
    );

    let missing = doctor_where("-Ur", "echo 0 > /proc/sys/user/max_net_namespaces");
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_check(
        &missing[1],
        "network namespace",
        "sysctl -w user.max_net_namespaces=65536",
    );

    let missing = doctor_where("-Urm", "mount --bind /dev/null /proc/interrupts");
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_check(&missing[1], "proc", "systempaths=unconfined");
    assert!(
        missing[1]["detail"]
            .as_str()
            .unwrap()
            .contains("/proc/interrupts")
    );
}

#[test]
fn doctor_inside_a_sandbox_says_that_the_sandbox_refuses() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_stockade"));
    let volume = format!("{}:/tool", program.parent().unwrap().display());
    let run = output(&["run", "-v", &volume, "/tool/stockade", "doctor", "--json"]);
    assert_status(&run, 1);
    let checks = json(&run);
    let user = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "user namespace");
    assert_eq!(user.unwrap()["status"], "missing", "{checks}");
}

#[test]
fn help_is_printed_where_it_was_asked_for() {
    for args in [
        &["help"][..],
        &["--help"],
        &["help", "run"],
        &["run", "--help"],
        &["doctor", "--help"],
    ] {
        let run = output(args);
        assert_status(&run, 0);
        assert!(text(&run.stdout).contains("Usage:"), "{run:?}");
        assert!(text(&run.stdout).lines().all(|line| line.len() <= 120));
    }
    let version = output(&["--version"]);
    assert_eq!(
        text(&version.stdout),
        format!("stockade {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_status(&output(&["help", "no-such-command"]), 125);
}

#[test]
fn images_in_and_out() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        place
            .path()
            .join(name)
            .into_os_string()
            .into_string()
            .unwrap()
    };
    std::fs::create_dir(at("rootfs")).unwrap();
    std::fs::write(at("rootfs/file"), "hello").unwrap();
    let store = at("store");
    let image = |args: &[&str]| output(&[args, &["--store", &store]].concat());

    let import = image(&["import", &at("rootfs"), "some/name:1"]);
    assert_status(&import, 0);
    let id = text(&import.stdout).trim().to_string();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_status(&image(&["tag", "name:1", "other"]), 0);
    let list = image(&["images"]);
    let lines: Vec<&str> = text(&list.stdout).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("REPOSITORY   TAG      IMAGE ID"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("other        latest   "), "{lines:?}");
    assert_eq!(json(&image(&["inspect", "other"]))[0]["id"], id.as_str());

    // Out by a file, and in by standard input; out by standard output, and in by a file.
    assert_status(&image(&["save", "-o", &at("saved"), "other", "name:1"]), 0);
    assert_eq!(
        text(&image(&["rmi", "other"]).stdout),
        "Untagged: other:latest\n"
    );
    let gone = image(&["rmi", "some/name:1"]);
    assert_eq!(
        text(&gone.stdout),
        format!("Untagged: some/name:1\nDeleted: {id}\n")
    );
    let load = stockade(&["load", "--store", &store])
        .stdin(std::fs::File::open(at("saved")).unwrap())
        .output()
        .unwrap();
    assert_status(&load, 0);
    assert_eq!(
        text(&load.stdout),
        "Loaded image: other:latest\nLoaded image: some/name:1\n"
    );
    let saved = image(&["save", "--format", "oci-archive", &id]);
    std::fs::write(at("again"), &saved.stdout).unwrap();
    let again = image(&["load", "-i", &at("again"), "--tag", "third"]);
    assert!(
        text(&again.stdout).contains("Loaded image: third:latest\n"),
        "{again:?}"
    );

    assert_eq!(
        text(&image(&["verify"]).stdout),
        "3 blobs and 1 layers checked\n"
    );
    assert_eq!(json(&image(&["df", "--json"]))["images"], 1);
    let prune = image(&["prune", "-a"]);
    assert!(
        text(&prune.stdout).contains("Total reclaimed space: "),
        "{prune:?}"
    );
    assert_eq!(json(&image(&["images", "--json"])), serde_json::json!([]));
}

#[test]
fn image_commands_fail_with_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let store = place
        .path()
        .join("store")
        .into_os_string()
        .into_string()
        .unwrap();
    for (args, says) in [
        (&["inspect", "nothing"][..], "no image `nothing`"),
        (&["rmi"], "no image given"),
        (&["load", "-i", "/etc/passwd"], "no tar archive"),
        (&["load", "-i", "/no/such/file"], "/no/such/file"),
        (&["load", "--all"], "unknown flag `--all`"),
        (
            &["save", "-o", "/dev/null", "--format", "zip", "x"],
            "docker-archive, oci-archive or oci-dir",
        ),
        (&["tag", "one"], "an image and its new name"),
        (&["images", "extra"], "unexpected argument `extra`"),
    ] {
        let run = output(&[args, &["--store", &store]].concat());
        assert_status(&run, 125);
        assert_eq!(text(&run.stderr).lines().count(), 1, "{run:?}");
        assert!(text(&run.stderr).contains(says), "{run:?}");
    }
    for command in [
        "load", "import", "save", "images", "inspect", "tag", "rmi", "prune", "df", "verify",
    ] {
        assert!(
            text(&output(&["help", command]).stdout).contains(&format!("stockade {command}")),
            "{command}"
        );
        assert_status(&output(&[command, "--help"]), 0);
    }
}
