//! A host that looks, after every kind of end and every kind of refusal, for what was left.

use super::say;
use crate::support::{
    adopt_orphans, cgroups_of, descendants, guest_spec, mount_count, open_descriptors,
    run_succeeds, wait_until,
};
use std::time::Duration;
use stockade::{Enforce, Network, Sandbox, Spec, Volume};

/// What of this host can be counted.
#[derive(Clone, Debug, PartialEq)]
struct Count {
    processes: usize,
    descriptors: usize,
    mounts: usize,
    cgroups: usize,
    files: usize,
}

fn count() -> Count {
    let own = std::process::id();
    let files = |dir: &str| {
        let entries = std::fs::read_dir(dir)
            .map(|all| all.flatten().collect::<Vec<_>>())
            .unwrap_or_default();
        entries
            .iter()
            .filter(|entry| entry.file_name().to_string_lossy().contains("stockade"))
            .count()
    };
    Count {
        processes: descendants(own).len(),
        descriptors: open_descriptors(own),
        mounts: mount_count(own),
        cgroups: cgroups_of(own).len(),
        files: files("/dev/shm"),
    }
}

/// Ends of every kind.
fn programs() -> Vec<Spec> {
    let limit = |args: &[&str]| {
        guest_spec(args)
            .wall_time(Duration::from_millis(150))
            .pids(64)
            .enforce(Enforce::BestEffort)
    };
    vec![
        guest_spec(["true"]),
        guest_spec(["exit", "1"]),
        guest_spec(["segv"]),
        guest_spec(["daemon", "keep", "30"]),
        guest_spec(["daemon", "close", "30"]),
        guest_spec(["hold-pipe", "30"]),
        guest_spec(["zombies", "20"]),
        guest_spec(["ipc-leave"]),
        guest_spec(["ipc-leave"]).network(Network::Loopback),
        guest_spec(["true"]).network(Network::Host),
        limit(&["stop-all"]),
        limit(&["hydra"]),
        limit(&["forkbomb"]),
        limit(&["ignore-term", "30"]),
        limit(&["flood"]),
        guest_spec(["spin", "30"]).cpu_time(Duration::from_millis(100)),
        guest_spec(["alloc", "200m", "1"]).memory(48 << 20),
        guest_spec(["write-stdout", "1m"]).output(1000),
        guest_spec(["write-file", "/work/f", "9m"]).disk(4 << 20),
        guest_spec(["true"])
            .file("a/b/c", "content")
            .collect("a/b/c"),
    ]
}

/// Refusals of every kind: none of these may start.
fn refusals() -> Vec<Spec> {
    vec![
        Spec::new(["/no/such/program"]),
        Spec::new(["/work"]),
        Spec::new(["/work/text"]).file("text", "no program"),
        Spec::new(Vec::<&str>::new()),
        guest_spec([&b"a\0b"[..]]),
        guest_spec(["args".to_string(), "x".repeat(3 << 20)]),
        guest_spec(["true"]).cwd("/no/such/dir"),
        guest_spec(["true"]).volume(Volume {
            host: "/no/such".into(),
            inside: "/x".into(),
            writable: false,
        }),
        guest_spec(["true"]).file("/usr/x", "y"),
        guest_spec(["true"])
            .disk(4096)
            .file("big", vec![0u8; 1 << 20]),
        guest_spec(["true"]).cgroup_parent("/sys/fs/cgroup/no/such/group"),
        guest_spec(["true"]).user("nobody-here"),
    ]
}

pub fn leftovers() {
    adopt_orphans();
    for _ in 0..3 {
        run_succeeds();
        // Sandboxes on the host's network have a supervisor of their own.
        assert!(
            guest_spec(["true"])
                .network(Network::Host)
                .run()
                .expect("runs")
                .success()
        );
    }
    // What the library prepares ahead for the next run may still be on its way.
    std::thread::sleep(Duration::from_millis(200));
    let before = count();
    let check = |what: &str| {
        let mut now = count();
        // A namespace goes a moment after its last process; a long one where the machine is emulated.
        wait_until(Duration::from_secs(5), || {
            now = count();
            now == before
        });
        if now != before {
            say(&format!(
                "{what}: {before:?} became {now:?}: {:?}",
                descendants(std::process::id())
            ));
            std::process::exit(1);
        }
    };
    for spec in programs() {
        let what = spec.to_json().expect("JSON");
        spec.run().unwrap_or_else(|e| panic!("{what}: {e}"));
        check(&what);
        drop(spec.spawn().expect("starts"));
        check(&format!("dropped: {what}"));
    }
    for spec in refusals() {
        let what: String = spec.to_json().expect("JSON").chars().take(200).collect();
        assert!(!spec.run().is_ok_and(|outcome| outcome.success()), "{what}");
        check(&what);
    }
    let lenient = |args: &[&str]| guest_spec(args).enforce(Enforce::BestEffort);
    let sandbox = Sandbox::start(&lenient(&["-"])).expect("starts");
    for spec in [
        lenient(&["daemon", "close", "30"]),
        lenient(&["hydra"])
            .wall_time(Duration::from_millis(100))
            .pids(64),
    ] {
        sandbox.run(&spec).expect("runs");
    }
    let kept = sandbox
        .spawn(&lenient(&["ignore-term", "30"]))
        .expect("starts");
    drop(sandbox);
    drop(kept);
    check("a sandbox and a process dropped");
    say("clean");
}
