//! Many runs in a row: the host and the supervisor are after the last what they were after the first.

use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, cgroups_of, children, descendants, guest_spec, mount_count,
    open_descriptors, resident, run_succeeds, wait_until,
};
use std::time::{Duration, Instant};
use stockade::{Enforce, Network, Sandbox};

/// How many runs; `STOCKADE_SUITE_RUNS` changes it.
const RUNS: u32 = 10_000;

/// Runs before the first look, at most: allocators and pools take their size.
const WARM_UP: u32 = 300;

#[test]
fn many_runs_leave_no_trace() {
    let runs = std::env::var("STOCKADE_SUITE_RUNS").map_or(RUNS, |n| n.parse().expect("a number"));
    let said = Host::start("many-runs", &runs.to_string()).finish();
    assert_eq!(said.last().map(String::as_str), Some("steady"), "{said:#?}");
}

#[test]
fn roots_of_many_at_once_are_not_all_kept() {
    let said = Host::start("many-at-once", "").finish();
    assert_eq!(said, ["few"]);
}

#[derive(Clone, Copy, Debug)]
struct State {
    processes: usize,
    host_descriptors: usize,
    supervisor_descriptors: usize,
    host_mounts: usize,
    supervisor_mounts: usize,
    cgroups: usize,
    host_memory: u64,
    supervisor_memory: u64,
}

fn look() -> State {
    let own = std::process::id();
    let supervisor = children(own)[0];
    State {
        processes: descendants(own).len(),
        host_descriptors: open_descriptors(own),
        supervisor_descriptors: open_descriptors(supervisor),
        host_mounts: mount_count(own),
        supervisor_mounts: mount_count(supervisor),
        cgroups: cgroups_of(own).len(),
        host_memory: resident(own),
        supervisor_memory: resident(supervisor),
    }
}

/// One of the kinds of run; mostly the plain one.
fn one(number: u32) {
    match number % 50 {
        1 => assert!(
            guest_spec(["true"])
                .network(Network::Loopback)
                .run()
                .expect("runs")
                .success()
        ),
        2 => assert_eq!(guest_spec(["segv"]).run().expect("runs").signal, Some(11)),
        3 => assert!(
            guest_spec(["true"])
                .memory(64 << 20)
                .pids(20)
                .enforce(Enforce::BestEffort)
                .run()
                .expect("runs")
                .success()
        ),
        4 => assert!(
            guest_spec(["true"])
                .file("in", "content")
                .collect("in")
                .run()
                .expect("runs")
                .success()
        ),
        5 => assert!(
            guest_spec(["daemon", "close", "30"])
                .run()
                .expect("runs")
                .success()
        ),
        6 => assert!(
            !guest_spec(["true"])
                .cwd("/no/such")
                .run()
                .is_ok_and(|outcome| outcome.success())
        ),
        7 => drop(guest_spec(["sleep", "30"]).spawn().expect("starts")),
        8 => {
            let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
            assert!(sandbox.run(&guest_spec(["true"])).expect("runs").success());
        }
        _ => run_succeeds(),
    }
}

/// Waits for the last sandbox to go, which takes time on a busy machine, and a moment for what the library prepares
/// ahead, and looks.
fn settled() -> State {
    wait_until(Duration::from_secs(10), || {
        descendants(std::process::id()).len() <= 1
    });
    std::thread::sleep(Duration::from_millis(300));
    look()
}

pub fn many_runs(runs: u32) {
    adopt_orphans();
    (0..WARM_UP.min(runs)).for_each(one);
    let first = settled();
    let start = Instant::now();
    (0..runs).for_each(one);
    let took = start.elapsed();
    let last = settled();
    say(&format!("{first:?}"));
    say(&format!("{last:?}"));
    say(&format!(
        "{runs} runs in {took:?}, {:.0} a second",
        f64::from(runs) / took.as_secs_f64()
    ));
    let counts = |s: &State| {
        [
            s.processes,
            s.host_descriptors,
            s.host_mounts,
            s.supervisor_mounts,
            s.cgroups,
        ]
    };
    let mut grown = counts(&first)
        .iter()
        .zip(counts(&last))
        .any(|(before, after)| after > *before);
    // On a busy machine sandboxes die late, and the supervisor keeps a network for each that overlapped.
    grown |= last.supervisor_descriptors > first.supervisor_descriptors + 32;
    let memory = |before: u64, after: u64| after > before + (512 << 10);
    let fat = memory(first.host_memory, last.host_memory)
        || memory(first.supervisor_memory, last.supervisor_memory);
    say(if grown || fat { "grown" } else { "steady" });
}

/// Each of so many has a root that nobody shares with it, of which the supervisor keeps a few for the next.
pub fn many_at_once() {
    const MANY: usize = 60;
    const KEPT: usize = 16;
    adopt_orphans();
    run_succeeds();
    let start = |_| Sandbox::start(&guest_spec(["-"])).expect("starts");
    let sandboxes: Vec<_> = (0..MANY).map(start).collect();
    drop(sandboxes);
    settled();
    let supervisor = children(std::process::id())[0];
    let open = std::fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it is there");
    let links = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let roots = links.filter(|link| link.to_string_lossy().starts_with("mnt:"));
    // And the host's.
    match roots.count() {
        few if few <= KEPT + 1 => say("few"),
        many => say(&many.to_string()),
    }
}
