//! Limits of a running program are raised, lowered and lifted, and those that it has at the end decide.

use crate::support::{
    enforced, fields, guest_spec, no_pids_limit, promise, skip, slowness, start_clock,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use stockade::{
    Enforce, EnforcementStatus, ErrorKind, Outcome, Process, Sandbox, Spec, Stdio, Update, Verdict,
    Volume,
};

/// A program that waits for the word to go on, and then is `args`.
fn waiting(args: &[&str]) -> Spec {
    let mut all = vec!["sh", "-c", "echo ready; read line; exec \"$@\"", "sh"];
    all.extend(args);
    let mut spec = guest_spec(["true"]).stdin(Stdio::Pipe).stdout(Stdio::Pipe);
    spec.args = all.into_iter().map(Into::into).collect();
    spec
}

/// Starts it, changes its limits, and lets it go on.
fn change(spec: &Spec, update: Update) -> Outcome {
    let process = spec.spawn().expect("it starts");
    let mut out = BufReader::new(std::fs::File::from(process.take_stdout().unwrap()));
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    process.update(&update).expect("the limits can be changed");
    let mut input = std::fs::File::from(process.take_stdin().unwrap());
    input.write_all(b"go\n").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        process.wait().unwrap()
    })
}

/// Starts it with its output piped and waits for its first line.
fn until_ready(spec: &Spec) -> Process {
    let process = spec.clone().stdout(Stdio::Pipe).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(std::fs::File::from(process.take_stdout().unwrap()))
        .read_line(&mut line)
        .unwrap();
    process
}

const GUEST: &str = "/guest/guest";

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds) * slowness()
}

#[test]
fn cpu_time_up_down_and_lifted() {
    let seconds = format!("{}", 0.6 * f64::from(slowness()));
    let spin = waiting(&[GUEST, "spin", &seconds]);
    let short = ms(200);
    let long = Duration::from_secs(20);
    let raised = change(
        &spin.clone().cpu_time(short),
        Update::new().cpu_time(Some(long)),
    );
    assert_eq!(raised.verdict, Verdict::Ok, "{raised:?}");
    let lifted = change(&spin.clone().cpu_time(short), Update::new().cpu_time(None));
    assert_eq!(lifted.verdict, Verdict::Ok, "{lifted:?}");
    assert!(!lifted.enforcement.contains_key("cpu_time"));
    for spec in [spin.clone().cpu_time(long), spin] {
        let lowered = change(&spec, Update::new().cpu_time(Some(short)));
        assert_eq!(lowered.verdict, Verdict::TimeLimit, "{lowered:?}");
        assert_eq!(lowered.limit.as_deref(), Some("cpu_time"));
        assert!(lowered.usage.cpu_time < ms(450), "{lowered:?}");
        assert!(lowered.enforcement.contains_key("cpu_time"));
    }
}

/// A limit that no single process could have had raised: RLIMIT_CPU would end it 2 seconds after the old one.
#[test]
fn cpu_time_is_raised_beyond_what_a_resource_limit_of_the_start_would_allow() {
    let spec = waiting(&[GUEST, "spin", "3.5"]).cpu_time(ms(1000));
    let outcome = change(&spec, Update::new().cpu_time(Some(Duration::from_secs(25))));
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
}

#[test]
fn cpu_time_below_what_is_used_ends_it_at_once() {
    let process = guest_spec(["spin", "20"])
        .cpu_time(Duration::from_secs(25))
        .spawn()
        .unwrap();
    while process.stats().unwrap().unwrap().cpu_time < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let clock = start_clock();
    let limit = Some(Duration::from_millis(200));
    process.update(&Update::new().cpu_time(limit)).unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::TimeLimit, "{outcome:?}");
    assert!(clock.elapsed() < promise());
}

#[test]
fn wall_time_up_down_and_lifted() {
    let spec = guest_spec(["sleep", "0.8"]);
    let (short, long) = (ms(400), ms(10_000));
    for update in [Some(long), None] {
        let process = spec.clone().wall_time(short).spawn().unwrap();
        process.update(&Update::new().wall_time(update)).unwrap();
        let outcome = process.wait().unwrap();
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    }
    let process = guest_spec(["sleep", "25"])
        .wall_time(ms(60_000))
        .spawn()
        .unwrap();
    std::thread::sleep(short);
    let clock = start_clock();
    process
        .update(&Update::new().wall_time(Some(short / 2)))
        .unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert!(outcome.usage.wall_time > short / 2, "{outcome:?}");
    assert!(clock.elapsed() < promise());
}

#[test]
fn a_paused_program_keeps_its_clock_and_the_new_limits_go_on_with_it() {
    let pause = ms(700);
    let process = guest_spec(["sleep", "0.4"])
        .wall_time(ms(20_000))
        .spawn()
        .unwrap();
    process.pause().unwrap();
    std::thread::sleep(pause);
    process
        .update(&Update::new().wall_time(Some(ms(600))))
        .unwrap();
    assert_eq!(
        process.wait_timeout(ms(100)).unwrap(),
        None,
        "it has no clock"
    );
    process.resume().unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let process = guest_spec(["sleep", "25"]).spawn().unwrap();
    process.pause().unwrap();
    process
        .update(&Update::new().wall_time(Some(Duration::from_millis(1))))
        .unwrap();
    assert_eq!(
        process.wait_timeout(ms(200)).unwrap(),
        None,
        "it has no clock"
    );
    process.resume().unwrap();
    assert_eq!(process.wait().unwrap().verdict, Verdict::WallTimeLimit);
}

#[test]
fn memory_up_down_and_lifted() {
    let alloc = waiting(&[GUEST, "alloc", "96m", "0.3"]);
    let (small, large) = (48 << 20, 160 << 20);
    for update in [Some(large), None] {
        let outcome = change(&alloc.clone().memory(small), Update::new().memory(update));
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        assert_eq!(outcome.enforcement.contains_key("memory"), update.is_some());
    }
    for spec in [alloc.clone().memory(large), alloc] {
        let outcome = change(&spec, Update::new().memory(Some(small)));
        assert_eq!(outcome.verdict, Verdict::MemoryLimit, "{outcome:?}");
        assert_eq!(outcome.limit.as_deref(), Some("memory"));
        if enforced(&outcome, "memory") {
            assert!(outcome.usage.memory_peak.unwrap() <= small, "{outcome:?}");
        }
    }
}

#[test]
fn memory_below_what_is_in_use_ends_it() {
    for limit in [None, Some(160 << 20)] {
        let mut spec = guest_spec(["alloc", "96m", "25"]);
        spec.memory = limit;
        let process = until_ready(&spec);
        let clock = start_clock();
        process
            .update(&Update::new().memory(Some(32 << 20)))
            .unwrap();
        let outcome = process.wait().unwrap();
        assert_eq!(outcome.verdict, Verdict::MemoryLimit, "{outcome:?}");
        assert!(clock.elapsed() < promise());
    }
}

/// What is in use now counts, not the most that ever was.
#[test]
fn memory_below_what_was_in_use_once_lets_it_go_on() {
    let script = "/guest/guest alloc 96m 0.2 >/dev/null; echo free; exec /guest/guest sleep 0.5";
    let mut spec = guest_spec(["true"]);
    spec.args = ["sh", "-c", script].into_iter().map(Into::into).collect();
    let process = until_ready(&spec.memory(160 << 20));
    process
        .update(&Update::new().memory(Some(48 << 20)))
        .unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    assert!(
        outcome.usage.memory_peak.unwrap() >= 90 << 20,
        "{outcome:?}"
    );
}

#[test]
fn the_memory_of_page_cache_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let script = "/guest/guest fill-file /data/file 96m >/dev/null; sync /data/file; echo written; exec /guest/guest sleep 3";
    let mut spec = guest_spec(["true"]).volume(Volume {
        host: dir.path().to_str().unwrap().into(),
        inside: "/data".into(),
        writable: true,
    });
    spec.args = ["sh", "-c", script].into_iter().map(Into::into).collect();
    let process = until_ready(&spec);
    let used = process.stats().unwrap().unwrap().memory_current;
    process
        .update(&Update::new().memory(Some(32 << 20)))
        .unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    if enforced(&outcome, "memory") {
        assert!(used.unwrap() > 90 << 20, "{used:?}");
    }
}

#[test]
fn pids_up_down_and_lifted() {
    if let Some(why) = no_pids_limit() {
        skip!("{why}");
    }
    let script = "n=0; for i in 1 2 3 4 5 6 7 8; do /guest/guest sleep 0.5 & done; wait; echo done";
    let spec = waiting(&["sh", "-c", script]);
    let limited = |outcome: &Outcome| outcome.usage.pids_limit_hits.is_some_and(|n| n > 0);
    let process = spec.clone().pids(4).spawn().unwrap();
    let held = process.update(&Update::new().pids(Some(64)));
    process.kill().unwrap();
    let outcome = process.wait().unwrap();
    if !outcome.enforcement["pids"].by.contains("pids.max") {
        let error = held.expect_err("RLIMIT_NPROC cannot be changed");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
        skip!("{error}");
    }
    held.unwrap();
    for update in [Some(64), None] {
        let outcome = change(&spec.clone().pids(4), Update::new().pids(update));
        assert!(!limited(&outcome), "{outcome:?}");
    }
    for spec in [spec.clone().pids(64), spec] {
        let outcome = change(&spec, Update::new().pids(Some(4)));
        assert!(limited(&outcome), "{outcome:?}");
    }
}

#[test]
fn cpus_up_down_and_lifted() {
    let spin = waiting(&[GUEST, "spin", "0.5"]);
    let Ok(_) = spin.clone().cpus(0.5).spawn() else {
        skip!("nothing on this host holds cpus");
    };
    let started_without = spin.spawn().unwrap();
    let error = started_without.update(&Update::new().cpus(Some(0.5)));
    let error = error.expect_err("its group has no CPU controller");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("at the start"), "{error}");
    drop(started_without);
    // Half a second of work takes ten at 0.05, and five at 0.1.
    for update in [Some(1.0), None] {
        let outcome = change(&spin.clone().cpus(0.05), Update::new().cpus(update));
        let held = outcome.usage.throttled_time.unwrap();
        assert!(held < Duration::from_secs(4), "{outcome:?}");
    }
    for spec in [spin.clone().cpus(1.0), spin.cpu_weight(100)] {
        let outcome = change(&spec, Update::new().cpus(Some(0.1)));
        assert!(
            outcome.usage.wall_time > Duration::from_secs(4),
            "{outcome:?}"
        );
        assert!(enforced(&outcome, "cpus"), "{outcome:?}");
    }
}

#[test]
fn output_up_and_down() {
    let go = |spec: Spec, update: Option<u64>| {
        let mut all = waiting(&[GUEST, "write-stdout", "100k"]).stderr(Stdio::Null);
        all.stdout = None;
        all.output = spec.output;
        all.output_overflow = spec.output_overflow;
        let process = all.spawn().unwrap();
        process.update(&Update::new().output(update)).unwrap();
        let mut input = std::fs::File::from(process.take_stdin().unwrap());
        input.write_all(b"go\n").unwrap();
        process.wait().unwrap()
    };
    let raised = go(Spec::default().output(1000), Some(1 << 20));
    assert_eq!(raised.verdict, Verdict::Ok, "{:?}", raised.verdict);
    assert_eq!(raised.stdout.len() as u64, raised.stdout_bytes);
    let default = go(Spec::default().output(1000), None);
    assert_eq!(default.verdict, Verdict::Ok, "{:?}", default.verdict);
    let lowered = go(Spec::default(), Some(2000));
    assert_eq!(
        lowered.verdict,
        Verdict::OutputLimit,
        "{:?}",
        lowered.verdict
    );
    assert_eq!(lowered.stdout.len(), 2000);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let process = guest_spec(["sleep", "0.3"])
        .memory(64 << 20)
        .wall_time(ms(20_000))
        .spawn()
        .unwrap();
    let short = Some(Duration::from_millis(1));
    for (update, word) in [
        (Update::new().memory(Some(1)), "memory"),
        (Update::new().cpu_time(Some(Duration::ZERO)), "cpu_time"),
        (Update::new().cpu_weight(Some(0)), "cpu_weight"),
        (Update::new().memory(None).swap(Some(1)), "swap"),
    ] {
        let error = process.update(&update.wall_time(short)).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with(word), "{error}");
    }
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    assert!(outcome.enforcement.contains_key("memory"));
}

#[test]
fn best_effort_says_what_is_not_held() {
    let process = guest_spec(["sleep", "0.2"])
        .enforce(Enforce::BestEffort)
        .spawn()
        .unwrap();
    process.update(&Update::new().cpus(Some(0.5))).unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let status = outcome.enforcement["cpus"].status;
    assert_eq!(status, EnforcementStatus::NotEnforced);
}

#[test]
fn programs_of_one_sandbox_are_changed_one_by_one() {
    let sandbox = Sandbox::start(&guest_spec(["true"])).unwrap();
    let spin = guest_spec(["spin", "0.6"]).cpu_time(Duration::from_secs(20));
    let (one, other) = (sandbox.spawn(&spin).unwrap(), sandbox.spawn(&spin).unwrap());
    one.update(&Update::new().cpu_time(Some(Duration::from_millis(200))))
        .unwrap();
    assert_eq!(one.wait().unwrap().verdict, Verdict::TimeLimit);
    // Without a cgroup the CPU time of one cannot be told from that of the other.
    let outcome = other.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
}

#[test]
fn changing_what_has_ended_is_no_error_and_changes_nothing() {
    let process = guest_spec(["spin", "0.1"]).spawn().unwrap();
    let outcome = process.wait().unwrap();
    let update = Update::new()
        .cpu_time(Some(Duration::from_millis(1)))
        .memory(Some(1 << 20));
    process.update(&update).unwrap();
    assert_eq!(process.wait().unwrap(), outcome);
    // It has ended, but nobody has looked yet.
    let process = guest_spec(["spin", "0.1"]).spawn().unwrap();
    std::thread::sleep(ms(600));
    process.update(&update).unwrap();
    assert_eq!(process.wait().unwrap().verdict, Verdict::Ok);
}

#[test]
fn changes_from_many_threads_race_with_the_end() {
    for _ in 0..10 {
        let process = guest_spec(["spin", "0.02"]).spawn().unwrap();
        std::thread::scope(|scope| {
            for n in 1..4u64 {
                let process = &process;
                scope.spawn(move || {
                    for round in 1..10 {
                        let update = Update::new()
                            .memory(Some((n * round + 64) << 20))
                            .wall_time(Some(Duration::from_secs(20 + n)));
                        process.update(&update).unwrap();
                    }
                });
            }
        });
        let outcome = process.wait().unwrap();
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    }
}

#[test]
fn other_processors() {
    let said = |update: Update| {
        let mut spec = waiting(&[GUEST, "sched"]).cpuset_cpus("0");
        spec.stdout = None;
        let process = spec.spawn().unwrap();
        let changed = process.update(&update);
        let mut input = std::fs::File::from(process.take_stdin().unwrap());
        input.write_all(b"go\n").unwrap();
        (changed, process.wait().unwrap())
    };
    let all = (0..std::thread::available_parallelism().map_or(1, usize::from))
        .map(|cpu| cpu.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let (changed, outcome) = said(Update::new().cpuset_cpus(None));
    match enforced_by_cgroup(&outcome, changed.is_ok()) {
        true => assert_eq!(fields(&outcome)["cpus"], all, "{outcome:?}"),
        false => assert_eq!(fields(&outcome)["cpus"], "0", "{outcome:?}"),
    }
    let exclusive = Update::new().cpuset_cpus(Some("exclusive".into()));
    let (refused, _) = said(exclusive);
    assert!(refused.is_err());
}

/// Only a cgroup can have other processors while its processes run.
fn enforced_by_cgroup(outcome: &Outcome, changed: bool) -> bool {
    let held = outcome.enforcement.get("cpuset_cpus");
    let cgroup = held.is_none_or(|held| held.by.starts_with("cgroup"));
    assert_eq!(cgroup, changed, "{held:?}");
    cgroup
}
