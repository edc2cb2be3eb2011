//! A run ends when its program ends, or when a limit or the caller says so; nothing delays that, and nothing is left.

use crate::support::{Host, alive, guest_spec, promise, slowness, start_clock, wait_until};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use stockade::{Enforce, Error, ErrorKind, Process, Stdio, Verdict};

#[test]
fn a_program_that_ends_at_once_is_waited_for_no_longer() {
    for args in [
        &["daemon", "keep", "20"][..],
        &["daemon", "close", "20"],
        &["hold-pipe", "20"],
        &["zombies", "30"],
    ] {
        let start = start_clock();
        let outcome = guest_spec(args).run().expect("the sandbox starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{args:?}: {outcome:?}");
        assert!(
            start.elapsed() < promise(),
            "{args:?} took {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn limits_come_in_time_whatever_the_program_does() {
    let limit = Duration::from_millis(400);
    for args in [
        &["ignore-term", "20"][..],
        &["stop-self"],
        &["stop-all"],
        &["hydra"],
        &["forkbomb"],
        &["sleep", "20"],
        &["spin", "20", "8"],
        &["flood"],
        &["close-stdio", "20"],
    ] {
        let start = start_clock();
        let outcome = guest_spec(args)
            .wall_time(limit)
            .pids(64)
            .enforce(Enforce::BestEffort)
            .stdout(Stdio::Null)
            .run()
            .expect("the sandbox starts");
        assert_eq!(
            outcome.verdict,
            Verdict::WallTimeLimit,
            "{args:?}: {outcome:?}"
        );
        assert!(
            start.elapsed() < limit + promise(),
            "{args:?} took {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_reader_that_never_reads_delays_nothing() {
    // The pipe to the caller is full: the program stands still in write() until its limit.
    let limit = Duration::from_millis(300);
    let start = start_clock();
    let process = guest_spec(["flood"])
        .wall_time(limit)
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    let _kept = process.take_stdout();
    let outcome = process.wait().expect("wait");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert!(start.elapsed() < limit + promise(), "{:?}", start.elapsed());
}

#[test]
fn nothing_is_left_after_any_end() {
    let said = Host::start("leftovers", "").finish();
    assert_eq!(said.last().map(String::as_str), Some("clean"), "{said:#?}");
}

#[test]
fn limits_hold_while_the_host_stands_still() {
    let mut host = Host::start("stopped", "");
    let pid: u32 = host.line().expect("a pid").parse().expect("a number");
    let stop = |signal| {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(host.child.id() as i32, signal) };
    };
    stop(libc::SIGSTOP);
    let ended = wait_until(Duration::from_millis(500) + promise(), || !alive(pid));
    stop(libc::SIGCONT);
    assert!(
        ended,
        "the program outlived its limit while the host was stopped"
    );
    assert_eq!(host.finish(), ["WALL_TIME_LIMIT"]);
}

#[test]
fn processes_talk_and_are_waited_for() {
    let process = guest_spec(["echo-lines"])
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    assert!(process.pid().is_some_and(alive));
    let mut stdin = std::fs::File::from(process.take_stdin().expect("a pipe"));
    let mut stdout = BufReader::new(std::fs::File::from(process.take_stdout().expect("a pipe")));
    assert!(
        process.take_stdin().is_none() && process.take_stdout().is_none(),
        "handed out twice"
    );
    for text in ["one\n", "two\n"] {
        stdin.write_all(text.as_bytes()).expect("write");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("read");
        assert_eq!(line, format!("> {text}"));
    }
    assert!(process.poll().expect("poll").is_none());
    assert!(
        process
            .wait_timeout(Duration::from_millis(50))
            .expect("wait")
            .is_none()
    );
    drop(stdin);
    let outcome = process.wait().expect("wait");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    assert_eq!(
        process.wait().expect("again"),
        outcome,
        "waiting again gives the same"
    );
    assert_eq!(process.pid(), None);
}

#[test]
fn the_handles_descriptor_tells_of_the_end() {
    let process = guest_spec(["say", "hello", "sleep", "0.2"])
        .spawn()
        .expect("starts");
    let start = Instant::now();
    let outcome = loop {
        let mut poll = libc::pollfd {
            fd: process.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, alive for the call.
        let ready = unsafe { libc::poll(&mut poll, 1, 5000) };
        assert_eq!(ready, 1, "nothing happened in five seconds");
        if let Some(outcome) = process.poll().expect("poll") {
            break outcome;
        }
    };
    assert_eq!(
        (outcome.verdict, &*outcome.stdout),
        (Verdict::Ok, &b"hello\n"[..])
    );
    assert!(start.elapsed() < Duration::from_millis(200) + promise());
}

#[test]
fn signals_reach_the_program() {
    let process = guest_spec(["catch-term"])
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    let mut stdout = BufReader::new(std::fs::File::from(process.take_stdout().expect("a pipe")));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    process.signal(libc::SIGTERM).expect("signal");
    let outcome = process.wait().expect("wait");
    assert_eq!(
        (outcome.verdict, outcome.returncode),
        (Verdict::NonzeroExit, 7),
        "{outcome:?}"
    );
    process
        .signal(libc::SIGTERM)
        .expect("a signal to what has ended is no error");
}

#[test]
fn a_signal_from_the_caller_is_a_signal() {
    let process = guest_spec(["sleep", "20"]).spawn().expect("starts");
    process.signal(libc::SIGUSR1).expect("signal");
    let outcome = process.wait().expect("wait");
    assert_eq!(
        (outcome.verdict, outcome.signal),
        (Verdict::Signaled, Some(libc::SIGUSR1)),
        "{outcome:?}"
    );
    for bad in [-1, 65, 4096] {
        let process = guest_spec(["sleep", "20"]).spawn().expect("starts");
        assert_eq!(
            process.signal(bad).expect_err("no such signal").kind(),
            ErrorKind::InvalidArgument
        );
    }
}

#[test]
fn dropping_a_process_ends_it() {
    let process = guest_spec(["ignore-term", "20"]).spawn().expect("starts");
    let pid = process.pid().expect("it runs");
    drop(process);
    assert!(wait_until(promise(), || !alive(pid)), "it lives on");
}

#[test]
fn killing_ends_it_once_and_for_all() {
    let process = guest_spec(["say", "before", "stop-all"])
        .spawn()
        .expect("starts");
    std::thread::sleep(Duration::from_millis(100) * slowness());
    let start = Instant::now();
    process.kill().expect("kill");
    process.kill().expect("killing again is no error");
    let outcome = process.wait().expect("wait");
    assert!(start.elapsed() < promise());
    assert_eq!(
        (outcome.verdict, &*outcome.stdout),
        (Verdict::Killed, &b"before\n"[..])
    );
    process.kill().expect("killing what has ended is no error");
}

#[test]
fn waiting_works_from_many_threads() {
    let process: Process = guest_spec(["sleep", "0.3"]).spawn().expect("starts");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8).map(|_| scope.spawn(|| process.wait())).collect();
        for waiter in waiters {
            let outcome: Result<_, Error> = waiter.join().expect("no panic");
            assert_eq!(outcome.expect("wait").verdict, Verdict::Ok);
        }
    });
}

#[test]
fn killed_at_once_is_killed() {
    for round in 0..40 {
        let process = guest_spec(["ignore-term", "20"]).spawn().expect("starts");
        std::thread::sleep(Duration::from_micros(round * 50));
        process.kill().expect("kill");
        let outcome = process.wait().expect("wait");
        assert_eq!(outcome.verdict, Verdict::Killed, "{outcome:?}");
    }
}

#[test]
fn a_signal_right_after_the_start_is_not_lost() {
    for _ in 0..20 {
        let process = guest_spec(["sleep", "20"]).spawn().expect("starts");
        process.signal(libc::SIGUSR1).expect("signal");
        assert_eq!(process.wait().expect("wait").signal, Some(libc::SIGUSR1));
    }
}

#[test]
fn input_that_nobody_reads_delays_nothing() {
    let input = vec![0u8; 5_000_000];
    let start = start_clock();
    let outcome = guest_spec(["sleep", "0.2"])
        .input(&input)
        .run()
        .expect("runs");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let outcome = guest_spec(["sleep", "20"])
        .input(&input)
        .wall_time(Duration::from_millis(200))
        .run();
    assert_eq!(outcome.expect("runs").verdict, Verdict::WallTimeLimit);
    assert!(start.elapsed() < 2 * promise(), "{:?}", start.elapsed());
}

#[test]
fn a_hundred_live_at_the_same_time() {
    let all: Vec<Process> = (0..100)
        .map(|_| guest_spec(["catch-term"]).spawn().expect("starts"))
        .collect();
    let pids: Vec<u32> = all
        .iter()
        .map(|process| process.pid().expect("it runs"))
        .collect();
    assert!(pids.iter().all(|pid| alive(*pid)));
    let start = Instant::now();
    drop(all);
    assert!(
        wait_until(promise(), || !pids.iter().any(|pid| alive(*pid))),
        "some live on"
    );
    assert!(start.elapsed() < 2 * promise(), "{:?}", start.elapsed());
}

#[test]
fn waiting_for_no_time_at_all_only_looks() {
    let process = guest_spec(["sleep", "20"]).spawn().expect("starts");
    let start = Instant::now();
    for _ in 0..100 {
        assert!(
            process
                .wait_timeout(Duration::ZERO)
                .expect("wait")
                .is_none()
        );
    }
    assert!(
        start.elapsed() < Duration::from_millis(500) * slowness(),
        "{:?}",
        start.elapsed()
    );
    process.kill().expect("kill");
    let longest = process.wait_timeout(Duration::MAX).expect("wait");
    assert_eq!(longest.expect("it ends").verdict, Verdict::Killed);
}
