//! What nobody reads, and what there is no room for, holds up nothing else.

use crate::hosts::say;
use crate::support::{Host, alive, guest_spec, promise, run_succeeds, start_clock, wait_until};
use std::time::{Duration, Instant};
use stockade::{ErrorKind, Overflow, Process, Sandbox, Spec, Stdio, Verdict};

/// More than a socket holds.
const OUTPUTS: usize = 2000;

/// Runs long enough for its pid to be asked for.
fn with_many_outputs() -> Spec {
    (0..OUTPUTS).fold(guest_spec(["sleep", "0.1"]), |spec, number| {
        spec.collect(format!("/work/{number}"))
    })
}

/// Waits until the program has ended, without reading of it.
fn let_end(process: &Process) {
    let pid = process.pid().expect("it runs");
    assert!(wait_until(promise(), || !alive(pid)));
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_process_that_is_not_read_holds_no_clock_up() {
    // Its wall-clock limit passes while the report waits for a reader: the program has kept it.
    let unread = with_many_outputs()
        .wall_time(Duration::from_secs(1))
        .spawn()
        .expect("starts");
    let_end(&unread);
    let start = Instant::now();
    let limited = guest_spec(["sleep", "30"])
        .wall_time(Duration::from_millis(200))
        .run()
        .expect("runs");
    assert_eq!(limited.verdict, Verdict::WallTimeLimit);
    assert!(start.elapsed() < promise(), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(1500));
    let outcome = unread.wait().expect("wait");
    assert_eq!(outcome.verdict, Verdict::Ok, "{:?}", outcome.usage);
    assert_eq!(outcome.outputs.len(), OUTPUTS);
}

#[test]
fn a_sandbox_closes_while_its_process_is_not_read() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let unread = sandbox.spawn(&with_many_outputs()).expect("starts");
    let_end(&unread);
    sandbox.close().expect("closes");
    // What its init had said is there; the rest died with it.
    let verdict = unread.wait().expect("wait").verdict;
    assert!(
        matches!(verdict, Verdict::Ok | Verdict::Killed),
        "{verdict:?}"
    );
    run_succeeds();
}

#[test]
fn a_process_dropped_unread_leaves_a_working_sandbox() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let unread = sandbox.spawn(&with_many_outputs()).expect("starts");
    let_end(&unread);
    drop(unread);
    assert!(sandbox.run(&guest_spec(["true"])).expect("runs").success());
}

#[test]
fn orphans_without_end_leave_init_a_word() {
    let start = start_clock();
    let outcome = guest_spec(["hydra"])
        .pids(50)
        .wall_time(Duration::from_millis(500))
        .run()
        .expect("runs");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit);
    assert!(start.elapsed() < Duration::from_millis(500) + promise());
    // Which only init can tell.
    assert!(outcome.usage.max_rss > 0, "{:?}", outcome.usage);
}

#[test]
fn a_sandbox_that_is_full_says_so() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let spec = guest_spec(["sleep", "30"]);
    let running: Vec<_> = (0..32)
        .map(|_| sandbox.spawn(&spec).expect("starts"))
        .collect();
    assert!(running.iter().all(|process| process.pid().is_some()));
    let error = sandbox.run(&spec).expect_err("one too many");
    assert_eq!(error.kind(), ErrorKind::Resource, "{error}");
    drop(running);
    assert!(wait_until(promise(), || {
        sandbox
            .run(&guest_spec(["true"]))
            .is_ok_and(|outcome| outcome.success())
    }));
}

#[test]
fn a_host_without_descriptors_gets_its_outcome() {
    let said = Host::start("no-descriptors", "").finish();
    assert_eq!(said, ["not collected"]);
}

pub fn no_descriptors() {
    let mut spec = guest_spec(["sleep", "0.2"])
        .file("/work/a", "content")
        .collect("/work/a");
    // No stream of its own, whose end would free a descriptor.
    (spec.stdout, spec.stderr) = (Some(Stdio::Null), Some(Stdio::Null));
    let process = spec.spawn().expect("starts");
    assert!(process.pid().is_some());
    let limit = libc::rlimit {
        rlim_cur: 100,
        rlim_max: 100,
    };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let all: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let outcome = process.wait().expect("wait");
    drop(all);
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let why = outcome.outputs["/work/a"].error.as_deref();
    assert!(
        why.is_some_and(|why| why.contains("descriptor")),
        "{outcome:?}"
    );
    say("not collected");
}

#[test]
fn what_goes_on_writing_does_not_hold_an_outcome_up() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let _other = sandbox.spawn(&guest_spec(["sleep", "30"])).expect("starts");
    let mut spec = guest_spec(["-"]).output_overflow(Overflow::Discard);
    let writers = "for i in 1 2 3 4; do setsid yes & done; sleep 0.3";
    spec.args = vec!["/bin/sh".into(), "-c".into(), writers.into()];
    let start = Instant::now();
    let outcome = sandbox.run(&spec).expect("runs");
    assert_eq!(outcome.exit_code, Some(0), "{:?}", outcome.message);
    assert!(
        start.elapsed() < Duration::from_millis(300) + promise(),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn too_few_descriptors_for_another_sandbox_are_an_error() {
    let said = Host::start("many-sandboxes", "").finish();
    assert_eq!(said, ["refused", "the others work", "works again"]);
}

/// The supervisor has as few descriptors as this process, and needs more of them.
pub fn many_sandboxes() {
    let limit = libc::rlimit {
        rlim_cur: 250,
        rlim_max: 250,
    };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut sandboxes = Vec::new();
    let error = loop {
        match Sandbox::start(&guest_spec(["-"])) {
            Ok(sandbox) => sandboxes.push(sandbox),
            Err(error) => break error,
        }
        assert!(sandboxes.len() < 200, "descriptors without end");
    };
    assert_eq!(error.kind(), ErrorKind::Resource, "{error}");
    assert!(sandboxes.len() > 8, "{}: {error}", sandboxes.len());
    say("refused");
    sandboxes.truncate(sandboxes.len() - 4);
    for sandbox in &sandboxes {
        assert!(sandbox.run(&guest_spec(["true"])).expect("runs").success());
    }
    say("the others work");
    sandboxes.clear();
    run_succeeds();
    say("works again");
}

/// What is asked of a sandbox while the last of its programs, and all that it has left, come to their ends.
#[test]
fn a_request_that_comes_with_the_end_of_a_program_is_heard() {
    let said = Host::start("asks-at-the-end", "").finish();
    assert_eq!(said, ["all are heard"]);
}

pub fn asks_at_the_end() {
    let sandbox = std::sync::Arc::new(Sandbox::start(&guest_spec(["-"])).expect("starts"));
    let (done, ended) = std::sync::mpsc::channel();
    let asking = sandbox.clone();
    std::thread::spawn(move || {
        for _ in 0..10 {
            let mut spec = guest_spec(["-"]);
            // What dies of a signal takes its time.
            let script = "for i in 1 2 3 4; do head -c 100000000 /dev/zero | tail -c 100000000 | sleep 30 & done; sleep 0.6";
            spec.args = ["/bin/sh", "-c", script].map(Into::into).into();
            let process = asking.spawn(&spec).expect("starts");
            while process.poll().expect("polls").is_none() {
                asking.put("/work/file", "content", None).expect("puts");
                let other = asking.spawn(&guest_spec(["sleep", "30"]));
                let other = other.expect("starts");
                other.kill().expect("kills");
                assert_eq!(other.wait().expect("waits").verdict, Verdict::Killed);
            }
        }
        done.send(()).expect("it is waited for");
    });
    match ended.recv_timeout(Duration::from_secs(30)) {
        Ok(()) => say("all are heard"),
        Err(_) => say("one is not"),
    }
}

/// While its files are written, say.
#[test]
fn a_program_that_is_killed_before_it_is_there_does_not_run() {
    let content = vec![b'x'; 24 << 20];
    let sandbox = Sandbox::start(&guest_spec(["-"]).disk(1 << 30)).expect("starts");
    for round in 0..40 {
        let start = Instant::now();
        let spec = guest_spec(["sleep", "20"]).disk(1 << 30);
        let spec = spec.file("/work/file", &*content);
        let process = match round % 2 {
            0 => spec.spawn(),
            _ => sandbox.spawn(&spec),
        };
        let process = process.expect("starts");
        std::thread::sleep(Duration::from_millis(round / 2));
        process.kill().expect("kills");
        let outcome = process.wait().expect("waits");
        assert_eq!(outcome.verdict, Verdict::Killed, "{round}: {outcome:?}");
        let took = start.elapsed();
        assert!(took < promise() * 3, "{round}: {took:?}");
    }
}
