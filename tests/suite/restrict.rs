//! `isolation=restrict`: programs without namespaces, against hostile ones of the caller's own user id.

use crate::landlock::abi;
use crate::support::{Host, fields, guest_dir, is_root, skip, slowness, start_clock, wait_until};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use stockade::{
    EnforcementStatus, ErrorKind, Isolation, Network, Outcome, Profile, Sandbox, Spec, Tmpfs,
    Verdict, Volume,
};

/// Runs the guest, which it finds where the host has it.
fn restricted<T: AsRef<[u8]>>(args: impl IntoIterator<Item = T>) -> Spec {
    with_guest(&guest_dir().display().to_string(), args)
}

fn with_guest<T: AsRef<[u8]>>(dir: &str, args: impl IntoIterator<Item = T>) -> Spec {
    let mut all = vec![format!("{dir}/guest").into_bytes()];
    all.extend(args.into_iter().map(|arg| arg.as_ref().to_vec()));
    Spec::new(all)
        .isolation(Isolation::Restrict)
        .volume(Volume {
            host: dir.into(),
            inside: dir.into(),
            writable: false,
        })
        .wall_time(Duration::from_secs(30))
}

/// Why this host has not the tier, if so.
fn lacks() -> Option<&'static str> {
    match (is_root(), abi()) {
        (true, _) => Some("isolation=restrict is not for root"),
        (_, 0..6) => Some("isolation=restrict needs Landlock with ABI 6"),
        _ => None,
    }
}

macro_rules! needs_it {
    () => {
        if let Some(why) = lacks() {
            skip!("{why}");
        }
    };
}

fn run(spec: Spec) -> Outcome {
    let outcome = spec.run().expect("it starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
}

#[test]
fn where_it_cannot_be_it_is_refused() {
    let Some(_) = lacks() else { return };
    let error = restricted(["true"]).run().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("isolation=restrict"), "{error}");
}

#[test]
fn what_needs_namespaces_is_refused_by_name() {
    needs_it!();
    let base = || restricted(["true"]);
    let document = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
    let elsewhere = Volume {
        host: "/usr".into(),
        inside: "/data".into(),
        writable: false,
    };
    let tmpfs = Tmpfs {
        path: "/t".into(),
        size: None,
        inodes: None,
    };
    for (spec, name) in [
        (
            base().rootfs(stockade::Rootfs::Directory("/usr".into())),
            "rootfs",
        ),
        (base().overlay(stockade::Overlay::Copy), "overlay"),
        (base().image("debian"), "image"),
        (base().tmpfs(tmpfs), "tmpfs"),
        (base().network(Network::Loopback), "network=loopback"),
        (base().user("0"), "user"),
        (base().hostname("box"), "hostname"),
        (
            base().profile(document.parse::<Profile>().expect("a profile")),
            "profile",
        ),
        (base().volume(elsewhere), "`/data`"),
        (base().file("/etc/file", "x"), "files"),
        (base().cwd("/usr"), "cwd"),
    ] {
        let error = spec.run().expect_err(name);
        let kinds = [ErrorKind::Unsupported, ErrorKind::InvalidArgument];
        assert!(kinds.contains(&error.kind()), "{name}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains("isolation=restrict"),
            "{name}: {text}"
        );
    }
    let error = Sandbox::start(&base()).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_program_works_in_a_directory_of_its_own() {
    needs_it!();
    let spec = Spec::new([
        "/bin/sh",
        "-c",
        "pwd; echo $HOME; echo $TMPDIR; cat given sub/too; echo out > made; ls",
    ])
    .isolation(Isolation::Restrict)
    .file("given", "one\n")
    .file("/work/sub/too", "two\n")
    .collect("made")
    .collect("/work/given");
    let outcome = run(spec);
    let text = outcome.stdout.to_text();
    let lines: Vec<&str> = text.lines().collect();
    let [dir, home, tmp, "one", "two", "given", "made", "sub"] = lines[..] else {
        panic!("{text}");
    };
    assert!(dir == home && dir == tmp, "{text}");
    assert_eq!(&*outcome.outputs["made"].content, b"out\n");
    assert_eq!(&*outcome.outputs["/work/given"].content, b"one\n");
    let gone = wait_until(Duration::from_secs(5) * slowness(), || {
        !std::path::Path::new(dir).exists()
    });
    assert!(gone, "{dir} is left");
    let given = restricted(["cwd"])
        .cwd("sub")
        .file("sub/x", "")
        .env("HOME", "/nowhere");
    let text = run(given).stdout.to_text();
    assert!(text.trim_end().ends_with("/sub"), "{text}");
}

#[test]
fn the_outcome_says_what_is_missing() {
    needs_it!();
    let said = run(restricted(["true"])).enforcement;
    for name in ["user", "pid", "mount", "ipc", "uts", "cgroup"] {
        let namespace = &said[&format!("{name}_namespace")];
        assert_eq!(namespace.status, EnforcementStatus::NotEnforced, "{name}");
        assert!(namespace.by.starts_with("isolation=restrict: "), "{name}");
    }
    for name in ["landlock", "seccomp", "no_new_privs", "network"] {
        assert_eq!(said[name].status, EnforcementStatus::Enforced, "{name}");
    }
    let on_host = run(restricted(["true"]).network(Network::Host)).enforcement;
    assert_eq!(on_host["network"].status, EnforcementStatus::NotEnforced);
}

/// Files of the caller's and a process of the caller's, by everything that the caller could do to them.
#[test]
fn the_callers_files_and_processes_are_out_of_reach() {
    needs_it!();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("sub")).expect("mkdir");
    std::fs::write(dir.path().join("file"), "secret").expect("write");
    let _listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
    let before = look(dir.path());
    let mut victim = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let pid = victim.id().to_string();
    for network in [Network::None, Network::Host] {
        let reach = restricted(["reach", dir.path().to_str().expect("UTF-8"), &pid]);
        let seen = fields(&run(reach.network(network)));
        assert!(seen.len() > 50, "{seen:?}");
        let internet = ["socket-inet", "socket-udp", "socket-netlink"];
        for (what, result) in &seen {
            let granted = what == "create-own"
                || (network == Network::Host && internet.contains(&what.as_str()));
            assert_eq!(result == "OK", granted, "{what}: {result}");
        }
    }
    victim.kill().expect("kill");
    victim.wait().expect("wait");
    assert_eq!(look(dir.path()), before);
}

fn look(dir: &std::path::Path) -> BTreeMap<String, (u32, i64)> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let seen = path.symlink_metadata().expect("stat");
            (path.display().to_string(), (seen.mode(), seen.mtime()))
        })
        .collect()
}

#[test]
fn the_host_is_not_probed_successfully() {
    needs_it!();
    let allowed = ["setuid-0"];
    let probes = fields(&run(restricted(["probe"])));
    assert!(probes.len() > 60, "{probes:?}");
    for (name, result) in probes {
        assert!(result != "OK" || allowed.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn volumes_are_granted_as_asked() {
    needs_it!();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "x").expect("write");
    let path = dir.path().display().to_string();
    for writable in [false, true] {
        let spec = Spec::new([
            "/bin/sh",
            "-c",
            &format!("cat {path}/file; echo y >> {path}/file"),
        ]);
        let outcome = spec
            .isolation(Isolation::Restrict)
            .volume(Volume {
                host: path.clone(),
                inside: path.clone(),
                writable,
            })
            .run()
            .expect("starts");
        assert!(outcome.stdout.to_text().starts_with('x'), "{outcome:?}");
        assert_eq!(outcome.success(), writable, "{outcome:?}");
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("file")).expect("read"),
        "xy\n"
    );
}

/// A guest in a place of its own, by which its processes are told from all others.
fn own_guest() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::copy(guest_dir().join("guest"), dir.path().join("guest")).expect("copy");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let path = dir.path().display().to_string();
    (dir, path)
}

fn alive(guest: &str) -> usize {
    let program = format!("{guest}/guest");
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(program.as_bytes())
    })
    .count()
}

#[test]
fn nothing_outlives_it() {
    needs_it!();
    let (_dir, guest) = own_guest();
    let limit = Duration::from_millis(500) * slowness();
    for (args, verdict) in [
        (&["daemon", "close", "60"][..], Verdict::Ok),
        (&["daemon", "keep", "60"], Verdict::Ok),
        (&["hydra"], Verdict::WallTimeLimit),
        (&["ignore-term", "60"], Verdict::WallTimeLimit),
        (&["stop-self"], Verdict::WallTimeLimit),
    ] {
        let start = start_clock();
        let outcome = with_guest(&guest, args)
            .wall_time(limit)
            .run()
            .expect("starts");
        assert_eq!(outcome.verdict, verdict, "{args:?}: {outcome:?}");
        assert_eq!(alive(&guest), 0, "{args:?}: something is left");
        assert!(
            start.elapsed() < limit + Duration::from_secs(1) * slowness(),
            "{args:?}"
        );
    }
}

#[test]
fn the_end_of_a_handle_is_the_end_of_all() {
    needs_it!();
    let (_dir, guest) = own_guest();
    let process = with_guest(&guest, ["outlive", "sleep", "60"])
        .spawn()
        .expect("starts");
    assert!(wait_until(Duration::from_secs(5) * slowness(), || alive(
        &guest
    ) > 0));
    drop(process);
    let all_gone = || alive(&guest) == 0;
    assert!(wait_until(Duration::from_secs(5) * slowness(), all_gone));
    let process = with_guest(&guest, ["sleep", "60"]).spawn().expect("starts");
    process.signal(libc::SIGUSR1).expect("signal");
    let outcome = process.wait().expect("wait");
    assert_eq!(outcome.signal, Some(libc::SIGUSR1), "{outcome:?}");
}

/// Without its init, which adopts what a program leaves, the supervisor does; without the supervisor, init ends all.
#[test]
fn whoever_of_its_keepers_dies_nothing_is_left() {
    needs_it!();
    for keeper in ["init", "supervisor"] {
        let said = Host::start("restrict-keeper-killed", keeper).finish();
        assert!(
            said.iter().any(|line| line == "nothing is left"),
            "{keeper}: {said:?}"
        );
    }
}

/// Plays a host program, one of whose keepers is killed by somebody outside.
pub fn keeper_killed(which: &str) {
    use crate::hosts::say;
    let (_dir, guest) = own_guest();
    let process = with_guest(&guest, ["outlive", "sleep", "60"])
        .spawn()
        .expect("starts");
    let pid = process.pid().expect("it runs");
    let init = parent(pid);
    let keeper = if which == "init" { init } else { parent(init) };
    // SAFETY: a plain call.
    assert_eq!(unsafe { libc::kill(keeper as i32, libc::SIGKILL) }, 0);
    let outcome = process.wait();
    let gone = wait_until(Duration::from_secs(5) * slowness(), || alive(&guest) == 0);
    say(&format!("{outcome:?}"));
    say(if gone {
        "nothing is left"
    } else {
        "something is left"
    });
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|pid| pid.trim().parse().ok()).expect("PPid")
}

#[test]
fn limits_hold_or_are_refused() {
    needs_it!();
    let ended = |spec: Spec| spec.run().expect("starts").verdict;
    assert_eq!(
        ended(restricted(["flood"]).output(1 << 20)),
        Verdict::OutputLimit
    );
    let many = restricted(["fill-files", ".", "100k", "100"]).disk(1 << 20);
    assert_eq!(ended(many), Verdict::DiskLimit);
    let nofile = fields(&run(restricted(["open-fds"]).open_files(20)));
    assert_eq!(nofile["error"], "EMFILE");
    for (limit, spec) in [
        ("memory", restricted(["true"]).memory(64 << 20)),
        ("pids", restricted(["true"]).pids(8)),
        (
            "cpu_time",
            restricted(["true"]).cpu_time(Duration::from_secs(5)),
        ),
    ] {
        match spec.run() {
            Ok(outcome) => {
                let said = &outcome.enforcement[limit];
                assert_eq!(
                    said.status,
                    EnforcementStatus::Enforced,
                    "{limit}: {said:?}"
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("isolation=restrict"), "{error}");
            }
        }
    }
}

/// A program may change the mode of a directory that it has open: what is written below one that nobody may look into is
/// counted all the same, and removed.
#[test]
fn no_mode_hides_what_is_written() {
    needs_it!();
    let place = tempfile::tempdir().expect("a directory");
    for mode in ["0", "100", "300", "400"] {
        let outcome = restricted(["hidden", mode, "4m", "64"])
            .upper_dir(place.path().to_str().expect("UTF-8"))
            .disk(16 << 20)
            .run()
            .expect("starts");
        assert_eq!(outcome.verdict, Verdict::DiskLimit, "{mode}: {outcome:?}");
        let empty = || std::fs::read_dir(place.path()).is_ok_and(|mut all| all.next().is_none());
        let gone = wait_until(Duration::from_secs(10) * slowness(), empty);
        assert!(gone, "{mode}: something is left");
    }
}

/// Whatever the mode that its program has given it.
#[test]
fn what_a_dead_process_has_left_is_removed_by_the_next() {
    needs_it!();
    let place = tempfile::tempdir().expect("a directory");
    let left = place.path().join("stockade-upper-1-0");
    let deep = left.join("one/two");
    std::fs::create_dir_all(&deep).expect("mkdir");
    std::fs::write(deep.join("file"), "x").expect("write");
    for dir in [&deep, &left.join("one"), &left] {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o0)).expect("chmod");
    }
    let place = place.path().to_str().expect("UTF-8");
    let said = Host::start("restrict-sweeps", place).finish();
    assert_eq!(said, ["nothing is left"]);
}

/// Plays a host program that is the next in that place.
pub fn sweeps(place: &str) {
    use crate::hosts::say;
    run(restricted(["true"]).upper_dir(place));
    let empty = || std::fs::read_dir(place).is_ok_and(|mut all| all.next().is_none());
    let gone = wait_until(Duration::from_secs(10) * slowness(), empty);
    say(if gone {
        "nothing is left"
    } else {
        "something is left"
    });
}

/// A host without user namespaces, which is made of one whose limit on them is 0.
#[test]
fn a_host_without_user_namespaces_is_told_what_to_do() {
    needs_it!();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
    let through = [
        "unshare",
        "--user",
        "--map-current-user",
        "--keep-caps",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let tried = std::process::Command::new(through[0])
        .args(&through[1..])
        .arg("true")
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        skip!("no user namespace can be made, or its limit not be set");
    }
    let host = Host::start_through(&through, "no-user-namespaces", "-");
    let said = host.finish();
    let text = said.join("\n");
    assert!(text.contains("namespaces: Unsupported"), "{text}");
    for remedy in ["isolation=restrict", "max_user_namespaces"] {
        assert!(text.contains(remedy), "{remedy}: {text}");
    }
    assert!(text.contains("restrict: Ok"), "{text}");
}

/// Plays a host program there.
pub fn no_user_namespaces() {
    use crate::hosts::say;
    match Spec::new(["/bin/true"]).run() {
        Err(error) => say(&format!("namespaces: {:?}: {error}", error.kind())),
        Ok(outcome) => say(&format!("namespaces: {outcome:?}")),
    }
    let outcome = Spec::new(["/bin/true"])
        .isolation(Isolation::Restrict)
        .run();
    match outcome {
        Err(error) => say(&format!("restrict: {error}")),
        Ok(outcome) => say(&format!("restrict: {:?}", outcome.verdict)),
    }
}
