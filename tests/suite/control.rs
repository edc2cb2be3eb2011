//! A paused program does nothing and loses no time; it can be resumed, waited for and killed. What runs can be measured.

use crate::support::{guest_spec, promise, slowness, start_clock};
use std::time::Duration;
use stockade::{Process, Sandbox, Spec, Stdio, Verdict};

/// Several processes, one of them in a session of its own, that use all the CPU time they get.
fn busy() -> Spec {
    guest_spec(["orphan-spin", "0.5"])
}

fn start(spec: &Spec) -> Process {
    spec.spawn().expect("it starts")
}

fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_paused_program_uses_no_time_and_loses_none() {
    let pause = Duration::from_millis(3300) * slowness().min(4);
    let limit = Duration::from_millis(3000) * slowness().min(4);
    let process = start(&busy().wall_time(limit));
    process.pause().expect("it can be paused");
    std::thread::sleep(pause);
    assert_eq!(process.poll().unwrap(), None, "it goes on though paused");
    process.resume().expect("it can be resumed");
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let usage = outcome.usage;
    assert!(usage.paused_time >= pause, "{usage:?}");
    assert!(
        usage.wall_time >= pause + Duration::from_millis(450),
        "{usage:?}"
    );
    assert!(usage.cpu_time >= Duration::from_millis(450), "{usage:?}");
}

#[test]
fn nothing_happens_in_a_paused_sandbox() {
    use std::io::Read;
    let script = "while :; do echo tick; sleep 0.01; done & setsid sh -c 'while :; do echo tock; sleep 0.01; done' & wait";
    let process = start(&Spec::new(["sh", "-c", script]).stdout(Stdio::Pipe));
    let mut out = std::fs::File::from(process.take_stdout().unwrap());
    let mut seen = [0; 5];
    out.read_exact(&mut seen).unwrap();
    for _ in 0..3 {
        process.pause().unwrap();
        nix::fcntl::fcntl(
            &out,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        let mut rest = Vec::new();
        let _ = out.read_to_end(&mut rest);
        settle();
        let late = out.read(&mut seen).map_err(|e| e.kind());
        assert_eq!(
            late,
            Err(std::io::ErrorKind::WouldBlock),
            "written while paused"
        );
        nix::fcntl::fcntl(
            &out,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
        )
        .unwrap();
        process.resume().unwrap();
        out.read_exact(&mut seen).expect("it goes on");
    }
    process.pause().unwrap();
    let clock = start_clock();
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().verdict, Verdict::Killed);
    assert!(clock.elapsed() < promise());
}

#[test]
fn a_paused_program_is_ended_with_its_handle_and_its_sandbox() {
    let clock = start_clock();
    let process = start(&busy());
    process.pause().unwrap();
    drop(process);
    let sandbox = Sandbox::start(&busy()).unwrap();
    let process = sandbox.spawn(&busy()).unwrap();
    process.pause().unwrap();
    sandbox.close().unwrap();
    assert_ne!(process.wait().unwrap().verdict, Verdict::Ok);
    assert!(clock.elapsed() < 2 * promise());
}

/// What stops by a signal goes on by one, and a timer of the program's own can send it.
#[test]
fn a_program_that_goes_on_though_paused_passes_no_limit() {
    use std::io::Read;
    let limit = Duration::from_millis(1500) * slowness().min(4);
    let spec = guest_spec(["go-on", "60"]).stdout(Stdio::Pipe);
    for (spec, verdict) in [
        (spec.clone().wall_time(limit), Verdict::WallTimeLimit),
        (spec.clone().cpu_time(limit), Verdict::TimeLimit),
    ] {
        let process = start(&spec);
        let mut out = std::fs::File::from(process.take_stdout().unwrap());
        out.read_exact(&mut [0; 6]).expect("it says so");
        process.pause().expect("it is paused");
        // At once by the freezer of cgroup v2; else it may go on for a while, and has its limit as ever.
        let used = || process.stats().unwrap().map(|stats| stats.cpu_time);
        let mut before = None;
        while process.poll().unwrap().is_none() {
            std::thread::sleep(limit / 2);
            let now = used();
            if now.is_some() && now == std::mem::replace(&mut before, now) {
                process.kill().expect("what stands still can be ended");
            }
        }
        let outcome = process.wait().unwrap();
        if outcome.verdict == Verdict::Killed {
            continue;
        }
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
    }
}

#[test]
fn pausing_what_has_ended_or_is_paused_is_no_error() {
    let process = start(&guest_spec(["true"]));
    process.wait().unwrap();
    process.pause().unwrap();
    process.resume().unwrap();
    let process = start(&guest_spec(["sleep", "20"]));
    process.resume().unwrap();
    for _ in 0..2 {
        process.pause().unwrap();
    }
    for _ in 0..2 {
        process.resume().unwrap();
    }
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn pausing_works_from_many_threads_and_races_with_the_end() {
    for _ in 0..20 {
        let process = start(&guest_spec(["spin", "0.02"]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    process.pause().unwrap();
                    process.resume().unwrap();
                });
            }
        });
        process.resume().unwrap();
        assert_eq!(process.wait().unwrap().verdict, Verdict::Ok);
    }
}

/// What is asked of a run in the moment of its end must not cost its outcome: before Linux 6.2 a message to a socket that
/// the other side is just closing drops what that side has sent before.
#[test]
fn requests_in_the_last_moment_lose_no_outcome() {
    let until = std::time::Instant::now() + Duration::from_secs(4);
    while std::time::Instant::now() < until {
        let process = start(&guest_spec(["exit", "0"]));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| while process.stats().expect("it can be asked").is_some() {});
                // To nobody: the program goes on, and so do these.
                scope.spawn(|| {
                    for _ in 0..1000 {
                        process.signal(libc::SIGCONT).expect("it can be sent");
                    }
                });
            }
        });
        let outcome = process.wait().unwrap();
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    }
}

#[test]
fn a_program_is_asked_to_stop_and_killed_if_it_goes_on() {
    let shell = |script: &str| {
        let mut spec = Spec::new(["sh", "-c", script]).wall_time(promise() * 4);
        spec.stdout = Some(Stdio::Pipe);
        spec
    };
    let ready = |spec: &Spec| {
        let process = start(spec);
        let mut out = std::fs::File::from(process.take_stdout().expect("a pipe"));
        std::io::Read::read_exact(&mut out, &mut [0; 6]).expect("it says so");
        process
    };
    let polite = "trap 'exit 7' TERM; trap 'exit 8' INT; echo ready; while :; do sleep 0.02; done";
    let long = promise() * 3;
    let outcome = ready(&shell(polite)).stop(long).unwrap();
    assert_eq!(outcome.exit_code, Some(7), "{outcome:?}");
    let outcome = ready(&shell(polite).stop_signal(libc::SIGINT))
        .stop(long)
        .unwrap();
    assert_eq!(outcome.exit_code, Some(8), "{outcome:?}");
    let paused = ready(&shell(polite));
    paused.pause().unwrap();
    assert_eq!(paused.stop(long).unwrap().exit_code, Some(7));
    assert_eq!(paused.stop(long).unwrap().exit_code, Some(7), "again");
    // One that is just being started.
    let outcome = start(&guest_spec(["sleep", "20"])).stop(long).unwrap();
    assert_eq!(outcome.signal, Some(libc::SIGTERM), "{outcome:?}");
    assert_eq!(outcome.verdict, Verdict::Signaled, "{outcome:?}");

    let deaf = ready(&shell(
        "trap '' TERM; echo ready; while :; do sleep 0.02; done",
    ));
    let clock = start_clock();
    let outcome = deaf.stop(Duration::from_millis(200)).unwrap();
    assert_eq!(outcome.verdict, Verdict::Killed, "{outcome:?}");
    assert!(clock.elapsed() >= Duration::from_millis(200));
    for signal in [0, 65] {
        let refused = guest_spec(["true"]).stop_signal(signal).spawn();
        assert!(refused.is_err(), "{signal}");
    }
}

#[test]
fn what_a_running_program_uses() {
    use std::io::{BufRead, BufReader};
    let process = start(
        &guest_spec(["alloc", "32m", "60"])
            .pids(8)
            .stdout(Stdio::Pipe),
    );
    let mut line = String::new();
    BufReader::new(std::fs::File::from(process.take_stdout().unwrap()))
        .read_line(&mut line)
        .unwrap();
    let mut last = Duration::ZERO;
    for stats in process.stats_every(Duration::from_millis(20)).take(5) {
        let stats = stats.unwrap();
        assert!(!stats.paused && stats.wall_time > last, "{stats:?}");
        assert!(stats.memory_current.unwrap() >= 32 << 20, "{stats:?}");
        assert!(stats.memory_peak.unwrap() >= 32 << 20, "{stats:?}");
        assert!(stats.memory_peak.unwrap() < 48 << 20, "{stats:?}");
        assert_eq!(stats.pids_current, Some(1), "{stats:?}");
        last = stats.wall_time;
    }
    process.pause().unwrap();
    let stats = process.stats().unwrap().unwrap();
    assert!(
        stats.paused && stats.wall_time > stats.paused_time,
        "{stats:?}"
    );
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().verdict, Verdict::Killed);
    assert_eq!(process.stats().unwrap(), None);
    assert_eq!(process.stats_every(Duration::ZERO).count(), 0);
}
