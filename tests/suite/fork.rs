//! A host that forks: the child has runs of its own, and the parent's go on.

use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, bury_orphans, children, guest_spec, promise, run_guest, run_succeeds,
    skip, wait_until,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};
use stockade::{ErrorKind, Sandbox, Stdio, Verdict};

#[test]
fn child_and_parent_both_work() {
    assert_eq!(
        Host::start("forks", "").finish(),
        ["child: works", "parent: works"]
    );
}

#[test]
fn forks_while_other_threads_run_programs() {
    assert_eq!(
        Host::start("forks-with-threads", "").finish(),
        ["20 of 20 children work", "threads work"]
    );
}

#[test]
fn what_others_fork_meanwhile_keeps_no_sandbox_from_being_closed() {
    let said = Host::start("closes-while-others-fork", "").finish();
    assert_eq!(said, ["none waits"]);
}

/// Closing a descriptor takes it out of an epoll only if nobody else has what it is of.
#[test]
fn a_stream_that_is_over_wakes_nobody_though_a_child_has_it_open() {
    let process = stockade::Spec::new(["sh", "-c", "exec >&- 2>&-; exec sleep 1"])
        .spawn()
        .expect("starts");
    let fd = process.as_fd();
    // SAFETY: the child only waits for a signal.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: always.
            unsafe { libc::pause() };
        }
    }
    let mut woken = 0;
    while process.poll().expect("it runs").is_none() {
        let mut wait = [PollFd::new(fd, PollFlags::POLLIN)];
        let _ = poll(&mut wait, PollTimeout::from(5000u16));
        woken += 1;
    }
    // SAFETY: the child of above.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    assert!(woken < 50, "{woken}");
}

/// Forks; the child does `work`, and its success is its exit status. The wait status in the parent.
fn forked(work: impl FnOnce()) -> i32 {
    // SAFETY: the child ends by `_exit` and never returns into the test runner.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        adopt_orphans();
        // SAFETY: a child that hangs is ended by this.
        unsafe { libc::alarm(20) };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if worked { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is alive for the call.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

pub fn forks() {
    adopt_orphans();
    run_succeeds();
    let process = guest_spec(["echo-lines"])
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let mut handles = Some((process, sandbox));
    let own = children(std::process::id());
    let status = forked(|| {
        let (process, sandbox) = handles.take().expect("inherited");
        // Its own runs work, by a supervisor of its own.
        assert_eq!(run_guest(["exit", "5"]).returncode, 5);
        assert_eq!(children(std::process::id()).len(), 1);
        // What belongs to the parent is refused, not taken over.
        assert_eq!(
            process
                .wait_timeout(Duration::from_millis(10))
                .expect_err("the parent's")
                .kind(),
            ErrorKind::State
        );
        assert_eq!(
            process.kill().expect_err("the parent's").kind(),
            ErrorKind::State
        );
        assert_eq!(
            sandbox
                .run(&guest_spec(["true"]))
                .expect_err("the parent's")
                .kind(),
            ErrorKind::State
        );
        // Dropping them here must not end them there.
        drop((process, sandbox));
    });
    assert_eq!(status, 0, "the child failed");
    say("child: works");
    let same = wait_until(promise(), || {
        bury_orphans();
        children(std::process::id()) == own
    });
    assert!(same, "the supervisor is another now, or the child's lives");
    let (process, sandbox) = handles.take().expect("the parent's");
    assert!(
        process.poll().expect("poll").is_none(),
        "the child ended the parent's program"
    );
    let mut stdin = std::fs::File::from(process.take_stdin().expect("a pipe"));
    let mut stdout = std::fs::File::from(process.take_stdout().expect("a pipe"));
    std::io::Write::write_all(&mut stdin, b"still\n").expect("write");
    let mut answer = [0; 8];
    std::io::Read::read_exact(&mut stdout, &mut answer).expect("read");
    assert_eq!(&answer, b"> still\n");
    drop(stdin);
    assert_eq!(process.wait().expect("wait").verdict, Verdict::Ok);
    assert_eq!(
        sandbox
            .run(&guest_spec(["exit", "6"]))
            .expect("runs")
            .returncode,
        6
    );
    run_succeeds();
    say("parent: works");
}

pub fn forks_with_threads() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let workers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                while !DONE.load(Ordering::Relaxed) {
                    run_succeeds();
                }
            })
        })
        .collect();
    // At whatever point of a run the fork comes, with whatever locks held.
    let worked = (0..20).filter(|_| forked(run_succeeds) == 0).count();
    say(&format!("{worked} of 20 children work"));
    DONE.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().expect("no panic");
    }
    say("threads work");
}

/// Plays a host one of whose threads forks children, as for a pool of workers, that live on with copies of all descriptors,
/// in whatever state another thread has them just then.
pub fn closes_while_others_fork() {
    /// Seconds.
    const LIVES: u32 = 4;
    /// So many of them at a time.
    const MOST: usize = 48;
    /// How many are still to be forked; below 0 to end.
    static WANTED: AtomicI32 = AtomicI32::new(0);
    run_succeeds();
    let end = |pid| {
        // SAFETY: a child of ours that nobody has waited for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    };
    let forker = std::thread::spawn(move || {
        let mut pids = VecDeque::new();
        loop {
            match WANTED.load(Ordering::Relaxed) {
                ..0 => break,
                0 => std::hint::spin_loop(),
                _ => {
                    // SAFETY: the child waits for its end by a signal, and never returns into the test.
                    match unsafe { libc::fork() } {
                        0 => loop {
                            // SAFETY: plain calls.
                            unsafe {
                                libc::alarm(LIVES);
                                libc::pause();
                            }
                        },
                        pid => pids.push_back(pid),
                    }
                    let _ = WANTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wanted| {
                        (wanted > 0).then(|| wanted - 1)
                    });
                    if pids.len() > MOST {
                        pids.pop_front().into_iter().for_each(end);
                    }
                }
            }
        }
        pids.into_iter().for_each(end);
    });
    let long = Duration::from_secs(u64::from(LIVES)) / 2;
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        WANTED.store(8, Ordering::Relaxed);
        let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
        WANTED.store(0, Ordering::Relaxed);
        let start = Instant::now();
        sandbox.close().expect("closes");
        longest = longest.max(start.elapsed());
        if longest > long {
            break;
        }
    }
    // What is asked of a run that is over, and that nobody has looked at yet.
    for _ in 0..20 {
        let process = guest_spec(["true"]).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..30 {
            WANTED.store(2, Ordering::Relaxed);
            let start = Instant::now();
            process.stats().expect("answers");
            longest = longest.max(start.elapsed());
        }
        WANTED.store(0, Ordering::Relaxed);
        process.wait().expect("waits");
        if longest > long {
            break;
        }
    }
    WANTED.store(-1, Ordering::Relaxed);
    forker.join().expect("no panic");
    match longest > long {
        true => say(&format!("one took {longest:?}")),
        false => say("none waits"),
    }
}

#[test]
fn what_others_fork_meanwhile_keeps_no_build_from_its_end() {
    let said = Host::start("builds-while-others-fork", "").finish();
    if let Some(why) = said[0].strip_prefix("skip: ") {
        skip!("{why}");
    }
    assert_eq!(said, ["none waits"]);
}

/// Plays a host that forks children which live on, as for a pool of workers, while a program of a build is started: they
/// have the writing end of its pipe.
pub fn builds_while_others_fork() {
    /// Seconds.
    const LIVES: u32 = 12;
    let boxed = crate::commit::Boxed::new();
    if let Some(why) = crate::build::lacking(&boxed) {
        return say(&format!("skip: {why}"));
    }
    let go_on = AtomicBool::new(true);
    let slowest = std::thread::scope(|scope| {
        let forker = scope.spawn(|| {
            let mut pids = Vec::new();
            while go_on.load(Ordering::Relaxed) && pids.len() < 500 {
                // SAFETY: the child waits for its end by a signal, and never returns into the test.
                match unsafe { libc::fork() } {
                    0 => loop {
                        // SAFETY: plain calls.
                        unsafe {
                            libc::alarm(LIVES);
                            libc::pause();
                        }
                    },
                    pid => pids.push(pid),
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            pids
        });
        let build = || {
            stockade::image::Build::from("base:1")
                .no_cache(true)
                .run(["/bin/guest", "true"])
        };
        let mut slowest = Duration::ZERO;
        for _ in 0..3 {
            let began = Instant::now();
            build().build(&boxed.store(), &["x"]).expect("it is built");
            slowest = slowest.max(began.elapsed());
        }
        go_on.store(false, Ordering::Relaxed);
        for pid in forker.join().expect("no panic") {
            // SAFETY: a child of ours that nobody has waited for.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
        slowest
    });
    match slowest < Duration::from_secs(u64::from(LIVES) / 2) {
        true => say("none waits"),
        false => say(&format!("{slowest:?}")),
    }
}
