//! Many threads of one host, and hosts of unusual habits.

use crate::hosts::say;
use crate::support::{Host, adopt_orphans, children, guest_spec, run_guest};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;
use stockade::{Sandbox, Verdict};

const THREADS: usize = 64;

#[test]
fn sixty_four_threads_run_while_others_allocate() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                while !DONE.load(Ordering::Relaxed) {
                    kept.push(vec![1; 100_000 + kept.len() * 100]);
                    if kept.len() > 50 {
                        kept.clear();
                    }
                    // Leave the processors to the runs: it is the allocator's locks that matter.
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let workers: Vec<_> = (0..THREADS)
            .map(|number| {
                let wrong = &wrong;
                scope.spawn(move || {
                    for round in 0..5 {
                        let status = (number + round) % 200 + 1;
                        let outcome =
                            guest_spec(["say", &format!("{number}"), "exit", &status.to_string()])
                                .run();
                        let right = outcome.as_ref().is_ok_and(|outcome| {
                            outcome.returncode == status as i32
                                && outcome.stdout.to_text() == format!("{number}\n")
                        });
                        if !right {
                            wrong.lock().unwrap().push(outcome);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("no panic");
        }
        DONE.store(true, Ordering::Relaxed);
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "runs came out wrong: {wrong:?}");
}

#[test]
fn one_sandbox_serves_many_threads() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    std::thread::scope(|scope| {
        for number in 1..=16 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for _ in 0..4 {
                    let outcome = sandbox
                        .run(&guest_spec(["exit", &number.to_string()]))
                        .expect("runs");
                    assert_eq!(
                        (outcome.verdict, outcome.returncode),
                        (Verdict::NonzeroExit, number),
                        "{outcome:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_run_outlives_the_thread_that_started_it() {
    // A death signal set for the wrong task would end it with the thread.
    let process = std::thread::spawn(|| {
        guest_spec(["say", "done", "sleep", "0.3"])
            .spawn()
            .expect("starts")
    })
    .join()
    .expect("no panic");
    let outcome = process.wait().expect("wait");
    assert_eq!(
        (outcome.verdict, &*outcome.stdout),
        (Verdict::Ok, &b"done\n"[..])
    );
}

#[test]
fn the_first_use_by_many_threads_starts_one_supervisor() {
    assert_eq!(Host::start("first-use", "").finish(), ["1"]);
}

pub fn first_use() {
    adopt_orphans();
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
            });
        }
    });
    say(&children(std::process::id()).len().to_string());
}

#[test]
fn a_host_that_ignores_its_children() {
    assert_eq!(Host::start("sigchld-ignored", "").finish(), ["works"]);
}

#[test]
fn a_host_that_reaps_every_child() {
    assert_eq!(Host::start("reaps-all", "").finish(), ["works"]);
}

#[test]
fn a_host_without_standard_streams() {
    assert_eq!(Host::start("closed-streams", "").finish(), ["works"]);
}

#[test]
fn a_host_that_signals_interrupt() {
    assert_eq!(Host::start("interrupted", "").finish(), ["works"]);
}

#[test]
fn a_host_in_odd_surroundings() {
    assert_eq!(Host::start("odd-surroundings", "").finish(), ["works"]);
}

#[test]
fn the_host_is_not_changed_and_gets_no_thread() {
    assert_eq!(
        Host::start("undisturbed", "").finish(),
        ["works, 2 threads"]
    );
}
