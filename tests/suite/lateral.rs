//! Sandboxes side by side and one after another: nothing of one reaches another.

use crate::support::{fields, guest_spec, note_skip, run_guest, skip};
use crate::volumes::{open_dir, volume};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use stockade::{
    DockerProfile, ErrorKind, Network, Overlay, Process, Profile, Rootfs, Sandbox, Spec, Stdio,
    Verdict,
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

#[test]
fn locks_on_a_root_of_the_sandboxs_own_do_not_cross() {
    let root = open_dir();
    std::fs::write(root.path().join("shared"), "x").expect("a file");
    let base = |args: &[&str]| {
        let mut spec = guest_spec(args);
        spec.rootfs = Rootfs::Directory(root.path().display().to_string());
        spec
    };
    let (lock, find) = (["lock", "/shared", "20"], ["try-lock", "/shared"]);
    match beside(|args| base(args).overlay(Overlay::Kernel), &lock, &find) {
        Err(error) if error.kind() == ErrorKind::Unsupported => note_skip(&error.to_string()),
        found => all_are(&found.expect("runs"), "OK"),
    }
    // Without an overlay it is the host's file, as those of /usr are: then a lock is seen, as the documents say.
    for (lock, find) in [(lock, find), (["lock", SHARED, "20"], ["try-lock", SHARED])] {
        let own = find[1] == SHARED;
        let spec = |args: &[&str]| if own { guest_spec(args) } else { base(args) };
        let found = beside(spec, &lock, &find).expect("runs");
        assert_eq!((&*found["flock"], &*found["fcntl"]), ("EAGAIN", "locked"));
        // It ends with who holds it.
        all_are(&fields(&spec(&find).run().expect("runs")), "OK");
    }
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
    assert_eq!(default["inotify"], "OK");
    let strict = fields(&spec.profile(Profile::Strict).run().expect("runs"));
    for what in ["lease", "lease-high", "notify"] {
        assert_eq!(strict[what], "EINVAL", "{what}");
    }
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
