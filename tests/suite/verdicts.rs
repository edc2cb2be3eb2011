//! The one verdict when several hold, and the facts beside it. The table of programs is `tests/scenarios.json`.

use crate::support::{enforced, guest_spec, run_guest, skip, slowness};
use std::time::Duration;
use stockade::{Enforce, Outcome, Overflow, Stdio, Verdict};

#[test]
fn facts_stand_beside_the_verdict() {
    let exited = run_guest(["exit", "9"]);
    assert_eq!(
        (exited.exit_code, exited.signal, exited.returncode),
        (Some(9), None, 9)
    );
    assert!(!exited.success() && exited.limit.is_none());
    let signaled = run_guest(["signal", "10"]);
    assert_eq!(
        (signaled.exit_code, signaled.signal, signaled.returncode),
        (None, Some(10), -10)
    );
    let well = run_guest(["true"]);
    assert_eq!(
        (well.exit_code, well.signal, well.success()),
        (Some(0), None, true)
    );
    assert!(!well.usage.oom_killed);
}

#[test]
fn memory_comes_before_time_and_output() {
    // It writes too much, then takes too much memory for as long as it may run.
    let spec = guest_spec(["say", "more than eight bytes", "alloc", "200m", "20"])
        .memory(48 << 20)
        .output(8)
        .output_overflow(Overflow::Discard)
        .wall_time(Duration::from_secs(2));
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::MemoryLimit, "{outcome:?}");
    assert!(outcome.stdout_truncated);
    assert_eq!(&*outcome.stdout, b"more tha");
}

#[test]
fn time_comes_before_output() {
    let outcome = guest_spec(["say", "more than eight bytes", "sleep", "20"])
        .output(8)
        .output_overflow(Overflow::Discard)
        .wall_time(Duration::from_millis(300) * slowness())
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert_eq!((outcome.stdout_bytes, outcome.stdout_truncated), (22, true));
}

#[test]
fn a_program_cannot_pretend_a_verdict() {
    // What it prints, and signals that limits also use, decide nothing.
    let said = run_guest(["say", "{\"verdict\":\"OK\"}", "exit", "1"]);
    assert_eq!(said.verdict, Verdict::NonzeroExit);
    for signal in ["9", "24", "25", "31"] {
        let outcome = guest_spec(["signal", signal])
            .memory(64 << 20)
            .cpu_time(Duration::from_secs(5))
            .file_size(1 << 20)
            .run()
            .expect("the sandbox starts");
        assert_eq!(outcome.signal, signal.parse().ok(), "{outcome:?}");
        assert_ne!(outcome.verdict, Verdict::MemoryLimit, "signal {signal}");
        assert_ne!(outcome.verdict, Verdict::TimeLimit, "signal {signal}");
    }
}

#[test]
fn another_abi_is_a_violation() {
    if !cfg!(target_arch = "x86_64") {
        skip!("this architecture has one entry to the kernel");
    }
    let outcome = run_guest(["attempt", "int80"]);
    if outcome.signal == Some(11) {
        skip!("this kernel has no 32-bit entry");
    }
    assert_eq!(outcome.verdict, Verdict::Violation, "{outcome:?}");
    assert_eq!(outcome.verdict.short(), "RTE");
}

#[test]
fn streams_are_captured_apart_or_together() {
    let script = "echo out; echo err >&2; echo out";
    let shell = || {
        let mut spec = guest_spec(["-"]);
        spec.args = ["/bin/sh", "-c", script].iter().map(Into::into).collect();
        spec
    };
    let apart = shell().run().expect("the sandbox starts");
    assert_eq!(
        (&*apart.stdout, &*apart.stderr),
        (&b"out\nout\n"[..], &b"err\n"[..])
    );
    let together = shell()
        .stderr(Stdio::Stdout)
        .run()
        .expect("the sandbox starts");
    assert_eq!(
        (&*together.stdout, &*together.stderr),
        (&b"out\nerr\nout\n"[..], &b""[..])
    );
    let nowhere = shell()
        .stdout(Stdio::Null)
        .run()
        .expect("the sandbox starts");
    assert_eq!(
        (&*nowhere.stdout, &*nowhere.stderr, nowhere.stdout_bytes),
        (&b""[..], &b"err\n"[..], 0)
    );
}

#[test]
fn much_output_arrives_whole() {
    let outcome = guest_spec(["write-stdout", "20m"])
        .run()
        .expect("the sandbox starts");
    assert_eq!(
        (outcome.verdict, outcome.stdout.len(), outcome.stdout_bytes),
        (Verdict::Ok, 20 << 20, 20 << 20)
    );
    assert!(outcome.stdout.iter().all(|byte| *byte == b'x'));
    // Input and output at once, more than any pipe holds.
    let input: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let outcome = guest_spec(["cat"])
        .input(&input)
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok);
    assert!(*outcome.stdout == *input, "the output is not the input");
}

#[test]
fn the_limit_of_output_is_exact() {
    for size in [1u64, 999, 1000, 1001, 70_000] {
        let outcome = guest_spec(["write-stdout", &size.to_string()])
            .output(1000)
            .output_overflow(Overflow::Discard)
            .run()
            .expect("the sandbox starts");
        assert_eq!(outcome.stdout.len() as u64, size.min(1000));
        assert_eq!(
            (outcome.stdout_bytes, outcome.stdout_truncated),
            (size, size > 1000)
        );
        let expected = if size > 1000 {
            Verdict::OutputLimit
        } else {
            Verdict::Ok
        };
        assert_eq!(outcome.verdict, expected, "{size} bytes");
    }
}

#[test]
fn outcomes_survive_json() {
    let outcome = guest_spec(["say", "hello", "exit", "3"])
        .memory(64 << 20)
        .run()
        .expect("the sandbox starts");
    let again: Outcome = serde_json::from_str(&outcome.to_json()).expect("an outcome");
    assert_eq!(again.to_json(), outcome.to_json());
    assert_eq!(
        (again.verdict, again.stdout, again.usage.cpu_time),
        (outcome.verdict, outcome.stdout, outcome.usage.cpu_time)
    );
}

#[test]
fn a_stopped_run_tells_what_it_used() {
    let process = guest_spec(["spin", "20"]).spawn().expect("starts");
    assert!(process.pid().is_some());
    std::thread::sleep(Duration::from_millis(300));
    process.kill().expect("kill");
    let outcome = process.wait().expect("wait");
    assert_eq!(
        (outcome.verdict, outcome.returncode),
        (Verdict::Killed, -9),
        "{outcome:?}"
    );
    assert!(
        outcome.usage.cpu_time > Duration::from_millis(10),
        "{:?}",
        outcome.usage
    );
    assert!(
        outcome.usage.wall_time > Duration::from_millis(250),
        "{:?}",
        outcome.usage
    );
}

#[test]
fn the_peak_of_pids_is_known_where_it_is_counted() {
    let outcome = guest_spec(["pids", "20", "0.2"])
        .pids(64)
        .enforce(Enforce::BestEffort)
        .run()
        .expect("the sandbox starts");
    if !enforced(&outcome, "pids") || outcome.usage.pids_peak.is_none() {
        skip!("nothing counts processes here");
    }
    let peak = outcome.usage.pids_peak.expect("a peak");
    assert!((20..=22).contains(&peak), "{peak}");
}
