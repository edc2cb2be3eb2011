//! Sandboxes side by side and one after another: nothing of one reaches another.

use crate::hosts::say;
use crate::support::{Host, fields, guest_spec, note_skip, run_guest, skip};
use crate::volumes::{open_dir, volume};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use stockade::{
    DockerProfile, EnforcementStatus, ErrorKind, Network, Outcome, Overlay, Process, Profile,
    Rootfs, Sandbox, Spec, Stdio, Verdict,
};

/// Starts the guest and waits for its first line, `ready`.
fn start_ready(args: &[&str]) -> Process {
    until_ready(
        guest_spec(args)
            .stdout(Stdio::Pipe)
            .spawn()
            .expect("starts"),
    )
}

fn until_ready(process: Process) -> Process {
    wait_ready(&process);
    process
}

pub fn wait_ready(process: &Process) {
    let stdout = process.take_stdout().expect("a pipe");
    let mut line = [0u8; 6];
    let mut got = 0;
    while got < line.len() {
        // SAFETY: the buffer has that much room, and the descriptor is open.
        let n = unsafe {
            libc::read(
                stdout.as_raw_fd(),
                line[got..].as_mut_ptr().cast(),
                line.len() - got,
            )
        };
        assert!(n > 0, "the guest ended before it was ready");
        got += n as usize;
    }
    assert_eq!(&line, b"ready\n");
}

#[test]
fn abstract_sockets_do_not_cross() {
    let listening = start_ready(&["abstract-listen", "guest", "20"]);
    let beside = fields(&run_guest(["abstract-connect", "guest"]));
    assert_eq!(beside["connect"], "ECONNREFUSED");
    listening.kill().expect("kill");
    assert_eq!(listening.wait().expect("wait").verdict, Verdict::Killed);
    // The same network namespace may be used again: of the last run nothing may be left in it.
    for _ in 0..20 {
        let outcome = run_guest(["abstract-listen", "guest", "0"]);
        assert_eq!(
            outcome.verdict,
            Verdict::Ok,
            "the name is taken: {outcome:?}"
        );
    }
    for _ in 0..5 {
        let outcome = guest_spec(["abstract-listen", "guest", "0"])
            .network(Network::Loopback)
            .run()
            .expect("starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    }
}

#[test]
fn shared_memory_and_queues_do_not_cross() {
    let left = fields(&run_guest(["ipc-leave"]));
    assert_eq!(left["devshm"], "OK", "/dev/shm is there to be used");
    for _ in 0..10 {
        for (what, result) in fields(&run_guest(["ipc-find"])) {
            assert_ne!(result, "OK", "{what} is seen by the next sandbox");
        }
    }
}

#[test]
fn files_do_not_cross() {
    for path in ["/work/left", "/tmp/left", "/dev/shm/left"] {
        assert_eq!(run_guest(["write-file", path, "10"]).verdict, Verdict::Ok);
        let seen = fields(&run_guest(["open", path]));
        assert_eq!(seen[path], "ENOENT");
    }
}

#[test]
fn processes_do_not_cross() {
    let sleeping = guest_spec(["sleep", "20"]).spawn().expect("starts");
    let outcome = run_guest(["ps"]);
    assert!(outcome.stdout.to_text().lines().count() <= 2, "{outcome:?}");
    // Killing everything it can see does nothing to the other.
    assert_eq!(run_guest(["kill-all"]).verdict, Verdict::Ok);
    assert!(
        sleeping.poll().expect("poll").is_none(),
        "the other sandbox ended"
    );
    sleeping.kill().expect("kill");
}

/// A file of the host's that every sandbox with its root shows.
const SHARED: &str = "/usr/bin/env";

/// What `finder` finds in a sandbox while `leaver` runs in another: of the same specification otherwise.
fn beside(
    base: impl Fn(&[&str]) -> Spec,
    leaver: &[&str],
    finder: &[&str],
) -> Result<BTreeMap<String, String>, stockade::Error> {
    let holding = until_ready(base(leaver).stdout(Stdio::Pipe).spawn()?);
    let found = fields(&base(finder).run()?);
    assert!(holding.poll()?.is_none(), "it ended too soon");
    holding.kill()?;
    holding.wait()?;
    Ok(found)
}

fn all_are(found: &BTreeMap<String, String>, result: &str) {
    assert!(
        !found.is_empty() && found.values().all(|one| one == result),
        "not all are {result}: {found:?}"
    );
}

#[test]
fn what_lives_in_one_sandbox_is_not_seen_in_another() {
    let found = beside(
        |args| guest_spec(args),
        &["sysv-leave", "20"],
        &["sysv-find"],
    );
    all_are(&found.expect("runs"), "ENOENT");
}

/// A root file system of directories and links: its programs are the host's.
fn root_dir() -> tempfile::TempDir {
    let root = open_dir();
    let dir = root.path().join("data");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("shared"), "x").expect("a file");
    std::os::unix::fs::symlink("data/shared", root.path().join("link")).expect("a link");
    root
}

/// Specifications with a root, by their arguments, and paths there.
type Rooted<'a> = (&'a dyn Fn(&[&str]) -> Spec, &'a [&'a str]);

fn in_dir(root: &Path, args: &[&str]) -> Spec {
    let mut spec = guest_spec(args);
    spec.rootfs = Rootfs::Directory(root.display().to_string());
    spec
}

/// What stands in the way of locks that are the sandbox's own on this host, by an outcome.
fn shared(outcome: &Outcome) -> Option<String> {
    let locks = &outcome.enforcement["locks"];
    (locks.status != EnforcementStatus::Enforced).then(|| locks.by.clone())
}

/// Whether a program of this specification has a root of files of its own; else notes why not, having seen that the
/// kernel is one that has no such overlays.
fn own_files(spec: &Spec) -> bool {
    let Some(why) = shared(&spec.run().expect("runs")) else {
        return true;
    };
    let known = [
        "no user namespace may mount",
        "no overlayfs",
        "mounted below",
        "does not take",
    ];
    assert!(known.iter().any(|part| why.contains(part)), "{why}");
    note_skip(&why);
    false
}

#[test]
fn locks_on_files_of_the_root_do_not_cross() {
    let root = root_dir();
    let host = |args: &[&str]| guest_spec(args);
    let dir = |args: &[&str]| in_dir(root.path(), args);
    let written = |args: &[&str]| in_dir(root.path(), args).overlay(Overlay::Kernel);
    let specs: [Rooted; 3] = [
        (&host, &[SHARED, "/usr", "/etc/ld.so.cache", "/etc", "/"]),
        (&dir, &["/data/shared", "/data", "/"]),
        (&written, &["/data/shared", "/data"]),
    ];
    for (spec, paths) in specs {
        match spec(&["true"]).run() {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                note_skip(&error.to_string());
                continue;
            }
            outcome => drop(outcome.expect("runs")),
        }
        let own = own_files(&spec(&["true"]));
        for path in paths {
            let (lock, find) = (["lock", path, "20"], ["try-lock", path]);
            let found = beside(spec, &lock, &find).expect("runs");
            match own {
                true => all_are(&found, "OK"),
                // Then a lock on the host's files is seen, as the outcome says.
                false if path.matches('/').count() > 1 && !path.starts_with("/etc") => {
                    assert_eq!((&*found["flock"], &*found["fcntl"]), ("EAGAIN", "locked"));
                }
                false => {}
            }
            // It ends with who holds it.
            all_are(&fields(&spec(&find).run().expect("runs")), "OK");
            // A live sandbox beside one for one run, and the other way round.
            let live = Sandbox::start(&spec(&["-"])).expect("starts");
            let holding = live
                .spawn(&spec(&lock).stdout(Stdio::Pipe))
                .expect("starts");
            wait_ready(&holding);
            let beside = fields(&spec(&find).run().expect("runs"));
            let within = fields(&live.run(&spec(&find)).expect("runs"));
            if own {
                all_are(&beside, "OK");
            }
            assert_eq!((&*within["flock"], &*within["ofd"]), ("EAGAIN", "locked"));
            holding.kill().expect("kill");
            holding.wait().expect("wait");
        }
    }
}

/// The end of a sandbox whose root others share, and which was put away for others meanwhile, gives nobody else's away.
#[test]
fn locks_do_not_cross_when_many_roots_have_come_and_gone() {
    if own_files(&guest_spec(["true"])) {
        let root = root_dir();
        let root = root.path().display().to_string();
        assert_eq!(Host::start("many-roots", &root).finish(), ["none cross"]);
    }
}

pub fn many_roots(root: &str) {
    let start = |spec: &Spec| Sandbox::start(spec).expect("starts");
    let oldest = start(&in_dir(Path::new(root), &["-"]).overlay(Overlay::Copy));
    let many: Vec<_> = (0..20).map(|_| start(&guest_spec(["-"]))).collect();
    drop(many);
    let other = open_dir();
    let with = |args: &[&str]| guest_spec(args).volume(volume(other.path(), "/other", false));
    let live = start(&with(&["-"]));
    let lock = with(&["lock", SHARED, "20"]).stdout(Stdio::Pipe);
    let holding = live.spawn(&lock).expect("starts");
    wait_ready(&holding);
    drop(oldest);
    let found = fields(&with(&["try-lock", SHARED]).run().expect("runs"));
    all_are(&found, "OK");
    say("none cross");
}

#[test]
fn locks_on_files_of_the_host_are_not_the_hosts() {
    if !own_files(&guest_spec(["true"])) {
        return;
    }
    let file = std::fs::File::open(SHARED).expect("a file");
    // SAFETY: an open descriptor.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
    all_are(&fields(&run_guest(["try-lock", SHARED])), "OK");
}

#[test]
fn what_others_open_is_not_watched() {
    let root = root_dir();
    let host = |args: &[&str]| guest_spec(args);
    let dir = |args: &[&str]| in_dir(root.path(), args);
    let specs: [Rooted; 2] = [
        (&host, &[SHARED, "/usr/bin", "/etc/ld.so.cache", "/etc"]),
        (&dir, &["/data/shared", "/data"]),
    ];
    for (spec, paths) in specs {
        let own = own_files(&spec(&["true"]));
        let mut watch = vec!["watch"];
        watch.extend(paths);
        let watching = spec(&watch).stdin(Stdio::Pipe).stdout(Stdio::Pipe);
        let watching = watching.spawn().expect("starts");
        let stdin = watching.take_stdin().expect("a pipe");
        let mut lines =
            BufReader::new(std::fs::File::from(watching.take_stdout().expect("a pipe"))).lines();
        let mut next = || lines.next().expect("a line").expect("readable");
        assert_eq!(next(), "ready");
        let mut open = vec!["open"];
        open.extend(paths);
        let opened = fields(&spec(&open).run().expect("runs"));
        // A directory is opened, too, and then not read.
        let there = |result: &String| result.starts_with("OK") || result == "EISDIR";
        assert!(opened.values().all(there), "{opened:?}");
        for path in paths {
            let path = Path::new(path);
            let mine = root.path().join(path.strip_prefix("/").expect("absolute"));
            drop(std::fs::File::open(if mine.exists() {
                &mine
            } else {
                path
            }));
        }
        drop(stdin);
        let others = if own { "nothing" } else { "seen" };
        assert_eq!(next(), format!("others={others}"), "{paths:?}");
        assert_eq!(next(), "own=seen", "{paths:?}");
        watching.wait().expect("wait");
    }
}

/// The overlay is made before, and caches: it must not show what has been.
#[test]
fn what_the_host_changes_is_there_in_the_next_sandbox() {
    let root = root_dir();
    let file = root.path().join("data/file");
    let seen = || {
        fields(
            &in_dir(root.path(), &["fs", "cat:/data/file"])
                .run()
                .expect("runs"),
        )
    };
    let there = |content: &str| BTreeMap::from([("cat:/data/file".into(), content.into())]);
    for round in 0..3 {
        assert_eq!(seen(), there("ENOENT"), "{round}");
        for content in ["one", "two"] {
            // A new file takes the place of the one that was seen.
            let new = root.path().join("data/new");
            std::fs::write(&new, content).expect("a file");
            std::fs::rename(&new, &file).expect("renamed");
            assert_eq!(seen(), there(&format!("{content}:OK")), "{round}");
        }
        std::fs::write(&file, "three").expect("a file");
        assert_eq!(seen(), there("three:OK"), "{round}");
        std::fs::remove_file(&file).expect("removed");
    }
}

/// What is mounted with more rights than programs have looks with more rights, too.
#[test]
fn what_the_host_closes_is_closed_to_a_live_sandbox() {
    let root = root_dir();
    let file = root.path().join("data/shared");
    let sandbox = Sandbox::start(&in_dir(root.path(), &["-"])).expect("starts");
    let open = || {
        let spec = in_dir(root.path(), &["open", "/data/shared"]);
        fields(&sandbox.run(&spec).expect("runs"))
    };
    all_are(&open(), "OK 1");
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&file, closed).expect("chmod");
    all_are(&open(), "EACCES");
}

#[test]
fn locks_are_listed_of_nobody_else() {
    let holding = start_ready(&["lock", "/tmp", "20"]);
    let listed = run_guest(["fs", "cat:/proc/locks"]);
    assert_eq!(listed.stdout.to_text(), "cat:/proc/locks=:OK\n");
    assert!(holding.poll().expect("poll").is_none(), "it ended too soon");
    holding.kill().expect("kill");
}

#[test]
fn a_mount_below_a_directory_of_the_root_is_not_hidden() {
    let root = root_dir();
    let below = root.path().join("data/below");
    std::fs::create_dir(&below).expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&below)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        skip!("only root mounts a file system for this test");
    }
    std::fs::write(below.join("file"), "x").expect("a file");
    // By a process of its own: where mounts are not propagated, a supervisor has those that were there when it began.
    let root = root.path().to_str().expect("UTF-8");
    let said = Host::start("mounted-below", root).finish();
    let unmounted = Command::new("umount").arg(&below).status();
    assert!(unmounted.expect("umount").success());
    let [why] = &said[..] else {
        panic!("not one line: {said:?}")
    };
    assert!(
        why.contains("mounted below") && why.contains("`/data`"),
        "{why}"
    );
}

/// A host that runs a program in this directory.
pub fn mounted_below(root: &str) {
    let outcome = in_dir(Path::new(root), &["open", "/data/below/file"]).run();
    let outcome = outcome.expect("runs");
    all_are(&fields(&outcome), "OK 1");
    say(&shared(&outcome).expect("no overlay over it"));
}

#[test]
fn leases_and_watches_of_shared_files_are_refused() {
    let dir = open_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let spec = guest_spec(["watch-file", "/data/file"]).volume(volume(dir.path(), "/data", false));
    let default = fields(&spec.run().expect("runs"));
    for what in ["lease", "lease-high", "notify"] {
        assert_eq!(default[what], "EINVAL", "{what}");
    }
    assert_eq!(default["fanotify"], "EPERM");
    assert_eq!(default["inotify"], "OK");
    let strict = fields(&spec.profile(Profile::Strict).run().expect("runs"));
    for what in ["lease", "lease-high", "notify"] {
        assert_eq!(strict[what], "EINVAL", "{what}");
    }
    assert_eq!(strict["fanotify"], "EPERM");
    assert_eq!(strict["inotify"], "ENOSYS");
}

#[test]
fn one_program_of_a_live_sandbox_leaves_files_to_the_next_and_nothing_else() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let run = |args: &[&str]| {
        let outcome = sandbox.run(&guest_spec(args)).expect("runs");
        assert_eq!(outcome.verdict, Verdict::Ok, "{args:?}: {outcome:?}");
        outcome
    };
    for _ in 0..3 {
        run(&["sysv-leave"]);
        all_are(&fields(&run(&["sysv-find"])), "ENOENT");
        run(&["ipc-leave"]);
        let found = fields(&run(&["ipc-find"]));
        assert_eq!((&*found["shm"], &*found["mq"]), ("ENOENT", "ENOENT"));
        // Which is a file, like those in /work and /tmp.
        assert_eq!(found["devshm"], "OK");
        run(&["abstract-listen", "guest", "0"]);
        let connect = &fields(&run(&["abstract-connect", "guest"]))["connect"];
        assert_eq!(connect, "ECONNREFUSED");
        run(&["lock", SHARED, "0"]);
        all_are(&fields(&run(&["try-lock", SHARED])), "OK");
        run(&["timer-leave"]);
        run(&["sleep", "0.3"]);
        run(&["daemon", "close", "20"]);
        let seen = run(&["ps"]).stdout.to_text();
        assert!(seen.lines().count() <= 2, "{seen}");
        assert_eq!(run(&["env"]).stdout.to_text(), "", "an environment");
    }
    let number = || -> u64 { fields(&run(&["report"]))["pid"].parse().expect("a number") };
    assert!(number() < number(), "process numbers go on");
}

#[test]
fn side_by_side_the_programs_of_a_sandbox_share_what_it_has() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let leaving = guest_spec(["sysv-leave", "20"]).stdout(Stdio::Pipe);
    let leaving = until_ready(sandbox.spawn(&leaving).expect("starts"));
    // The end of another does not take it away.
    for _ in 0..2 {
        all_are(
            &fields(&sandbox.run(&guest_spec(["sysv-find"])).expect("runs")),
            "OK",
        );
    }
    leaving.kill().expect("kill");
    leaving.wait().expect("wait");
    all_are(
        &fields(&sandbox.run(&guest_spec(["sysv-find"])).expect("runs")),
        "ENOENT",
    );
}

#[test]
fn keys_do_not_cross_even_if_a_profile_lets_programs_have_them() {
    let everything = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let profile = Profile::Docker(DockerProfile::new(everything).expect("a profile"));
    let spec = |args: &[&str]| guest_spec(args).profile(profile.clone());
    let left = fields(&spec(&["key-leave"]).run().expect("runs"));
    if left["session"] != "OK" {
        skip!("this kernel has no keyrings: {left:?}");
    }
    all_are(&fields(&spec(&["key-find"]).run().expect("runs")), "ENOKEY");
    // Nor from one program of a sandbox to the next, by the session.
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    for user in ["ENOKEY", "OK"] {
        let found = fields(&sandbox.run(&spec(&["key-find"])).expect("runs"));
        // They have one user, who has one keyring.
        assert_eq!((&*found["session"], &*found["user"]), ("ENOKEY", user));
        sandbox.run(&spec(&["key-leave"])).expect("runs");
    }
}
