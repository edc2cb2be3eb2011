//! Programs that do without end what costs others something: the supervisor does not grow, other sandboxes of the same
//! process go on, and all of it ends when it is told to.

use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, alive, bury_orphans, cgroups_of, children, descendants, fields,
    guest_spec, no_pids_limit, open_descriptors, promise, resident, run_succeeds, skip, slowness,
    wait_until,
};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use stockade::{Enforce, Overflow, Process, Sandbox, Spec, Stdio, Verdict};

/// What others may have to wait for a program's start, on the machine that is flooded.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many programs another sandbox runs meanwhile.
const OTHERS: u32 = 20;
/// How much the supervisor may grow, which touches its tables as they fill.
const GROWTH: u64 = 256 << 10;

macro_rules! floods {
    ($($test:ident: $($word:literal)*;)*) => {
        $(#[test]
        fn $test() {
            flood(&[$($word),*]);
        })*
    };
}

floods! {
    output_without_end: "flood";
    one_program_after_another: "exec-storm";
    signals_to_everyone: "signal-storm";
    orphans_that_have_ended: "zombie-storm";
    processes_that_are_each_others_children: "hydra";
    processes_without_end: "forkbomb";
    descriptors_on_their_way: "in-flight";
    deep_trees_of_giants: "tree-storm" "/work";
    files_made_and_removed: "inode-storm" "/work";
}

fn flood(words: &[&str]) {
    if let Some(why) = no_pids_limit() {
        skip!("{why}");
    }
    let said = Host::start("flooded", &words.join(" ")).finish();
    let last = said.last().map(String::as_str);
    assert!(last.is_some_and(|it| it.starts_with("calm")), "{said:#?}");
}

/// The flooder, with two processors' worth of processes at most.
fn flooder(words: &[&str]) -> Spec {
    guest_spec(words)
        .pids(32)
        .memory(128 << 20)
        .enforce(Enforce::BestEffort)
        .output_overflow(Overflow::Discard)
        .output(1 << 20)
}

/// Plays a host: one sandbox floods, another works.
pub fn flooded(argument: &str) {
    let words: Vec<&str> = argument.split(' ').collect();
    adopt_orphans();
    let other = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let quick = || {
        let start = Instant::now();
        let outcome = other.run(&guest_spec(["true"]).wall_time(PATIENCE * slowness()));
        let outcome = outcome.expect("it is answered");
        assert_eq!(outcome.verdict, Verdict::Ok, "{words:?}: {outcome:?}");
        start.elapsed()
    };
    // Twice before the first look: what is used for the first time takes its size.
    for _ in 0..2 {
        let warm = flooder(&words)
            .wall_time(Duration::from_millis(300))
            .run()
            .expect("runs");
        assert_eq!(warm.verdict, Verdict::WallTimeLimit, "{warm:?}");
        quick();
    }
    let supervisor = children(std::process::id())[0];
    let look = || (resident(supervisor), open_descriptors(supervisor));
    let before = look();
    let flood = flooder(&words).spawn().expect("starts");
    let pid = flood.pid().expect("it runs");
    // Its output is taken, by a thread of the host's.
    let ended = std::thread::scope(|scope| {
        let reader = scope.spawn(|| flood.wait().expect("wait"));
        let mut slowest = Duration::ZERO;
        let mut during = before;
        for _ in 0..OTHERS {
            slowest = slowest.max(quick());
            let now = look();
            during = (during.0.max(now.0), during.1.max(now.1));
        }
        assert!(alive(pid), "the flood is over");
        let start = Instant::now();
        flood.kill().expect("kill");
        let outcome = reader.join().expect("no panic");
        let took = start.elapsed();
        assert!(took < promise(), "{words:?}: ended after {took:?}");
        say(&format!(
            "slowest {slowest:?}, ended in {took:?}, supervisor {before:?} then {during:?}"
        ));
        assert!(
            during.0 <= before.0 + GROWTH,
            "the supervisor has grown: {before:?} {during:?}"
        );
        outcome
    });
    let verdict = ended.verdict;
    let right = [Verdict::Killed, Verdict::OutputLimit];
    assert!(right.contains(&verdict), "{verdict:?}: {:?}", ended.usage);
    assert!(ended.stdout.len() <= 1 << 20);
    // The verdict of a clock is right as well.
    let limited = flooder(&words).wall_time(Duration::from_millis(300)).run();
    assert_eq!(limited.expect("runs").verdict, Verdict::WallTimeLimit);
    other.close().expect("closes");
    let gone = wait_until(promise() * 5, || {
        bury_orphans();
        descendants(std::process::id()).len() == 1
    });
    assert!(gone, "{:?}", descendants(std::process::id()));
    let after = look();
    assert!(
        after.0 <= before.0 + GROWTH && after.1 <= before.1 + 4,
        "{before:?} {after:?}"
    );
    let left = cgroups_of(std::process::id());
    assert!(left.iter().all(|path| !path.contains("-0/")), "{left:?}");
    run_succeeds();
    say("calm");
}

#[test]
fn a_program_queues_little_of_what_its_user_may() {
    let report = guest_spec(["report"]).run().expect("runs");
    let limit = |name: &str| fields(&report)[name].parse::<u64>().expect("a number");
    assert!(limit("rlimit.sigpending") <= 1024, "{report:?}");
    assert!(limit("rlimit.msgqueue") <= 128 << 10, "{report:?}");
}

#[test]
fn descriptors_of_a_program_leave_the_caller_some() {
    let said = Host::start("few-in-flight", "").finish();
    assert_eq!(said.last().map(String::as_str), Some("enough"), "{said:#?}");
}

/// Plays a host with the limit on descriptors that most systems give a user: the kernel counts those that are on their way
/// for the user, and the program has the user's id.
pub fn few_in_flight() {
    let limit = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 4096,
    };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let all: Vec<Process> = (0..3)
        .map(|_| {
            let spec = guest_spec(["in-flight"]).stdout(Stdio::Pipe);
            let process = spec.spawn().expect("starts");
            let stdout = process.take_stdout().expect("a pipe");
            let mut said = [0; 64];
            // SAFETY: a buffer of this length.
            let n = unsafe { libc::read(stdout.as_raw_fd(), said.as_mut_ptr().cast(), said.len()) };
            let said = String::from_utf8_lossy(&said[..n.max(0) as usize]).into_owned();
            say(&said.replace('\n', " "));
            assert!(
                said.contains("ETOOMANYREFS") || said.contains("EMFILE"),
                "{said}"
            );
            process
        })
        .collect();
    run_succeeds();
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    assert!(sandbox.run(&guest_spec(["true"])).expect("runs").success());
    let collected = guest_spec(["say", "x"]).file("a", "b").collect("a").run();
    let collected = collected.expect("runs");
    assert_eq!(collected.outputs["a"].error, None, "{collected:?}");
    drop(all);
    say("enough");
}
