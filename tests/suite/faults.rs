//! Sudden deaths: of the host, at any point, and of the supervisor.

use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, bury_orphans, cgroups_of, children, descendants, guest_spec, promise,
    run_guest, run_succeeds, skip, slowness, wait_until,
};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stockade::{Enforce, ErrorKind, Sandbox, Verdict};

/// How often the host is killed; `STOCKADE_SUITE_KILLS` changes it.
const KILLS: u32 = 200;

#[test]
fn a_host_killed_at_any_point_leaves_nothing() {
    let kills =
        std::env::var("STOCKADE_SUITE_KILLS").map_or(KILLS, |n| n.parse().expect("a number"));
    // A process of its own that inherits every orphan, so that nothing left can go unseen.
    let said = Host::start("killer", &format!("{kills} victim")).finish();
    assert_eq!(said.last().map(String::as_str), Some("clean"), "{said:#?}");
}

/// A host that does everything the library can, from several threads, until it is killed.
pub fn victim() {
    std::thread::scope(|scope| {
        for number in 0..3u32 {
            scope.spawn(move || {
                for round in number.. {
                    match round % 7 {
                        0 => drop(guest_spec(["true"]).run()),
                        1 => drop(guest_spec(["daemon", "close", "30"]).run()),
                        2 => drop(
                            guest_spec(["true"])
                                .memory(64 << 20)
                                .pids(20)
                                .enforce(Enforce::BestEffort)
                                .file("a", "b")
                                .collect("a")
                                .run(),
                        ),
                        3 => drop(
                            guest_spec(["ignore-term", "30"])
                                .wall_time(Duration::from_millis(20))
                                .run(),
                        ),
                        4 => drop(
                            guest_spec(["hydra"])
                                .pids(30)
                                .enforce(Enforce::BestEffort)
                                .wall_time(Duration::from_millis(20))
                                .run(),
                        ),
                        5 => drop(guest_spec(["sleep", "30"]).spawn()),
                        _ => {
                            let sandbox = Sandbox::start(&guest_spec(["-"]));
                            drop(sandbox.and_then(|sandbox| {
                                sandbox.run(
                                    &guest_spec(["stop-all"]).wall_time(Duration::from_millis(20)),
                                )
                            }));
                        }
                    }
                }
            });
        }
    });
}

/// Numbers that look random enough.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Starts a victim and kills it, again and again; then looks for anything that was a victim's.
///
/// The argument: how often, the victim's role, and the argument for that.
pub fn killer(argument: &str) {
    let (kills, victim) = argument.split_once(' ').expect("a number and a role");
    let kills: u32 = kills.parse().expect("a number");
    let (role, for_it) = victim.split_once(' ').unwrap_or((victim, ""));
    adopt_orphans();
    let scratch = tempfile::tempdir().expect("a directory");
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let before = mounts();
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64
        | 1;
    say(&format!("seed {seed}"));
    let mut random = Random(seed);
    let mut victims = Vec::new();
    for number in 0..kills {
        let mut host = Host::start_with(role, for_it, |command| {
            command
                .env("TMPDIR", scratch.path())
                .env("XDG_RUNTIME_DIR", scratch.path())
                .stderr(Stdio::null()); // newuidmap complains there when its target dies
        });
        let pid = host.child.id();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        host.child.kill().expect("kill");
        host.child.wait().expect("wait");
        let gone = wait_until(Duration::from_secs(5), || {
            bury_orphans();
            descendants(std::process::id()).is_empty()
        });
        let left = descendants(std::process::id());
        assert!(gone, "kill {number}: processes are left: {left:?}");
        victims.push(pid);
        let files = std::fs::read_dir(scratch.path())
            .expect("the directory")
            .count();
        assert_eq!(files, 0, "kill {number}: files are left");
        assert_eq!(mounts(), before, "kill {number}: mounts are left");
    }
    // Groups go with the supervisor. One that was killed before it knew of them leaves them, empty, to the next host.
    run_succeeds();
    for pid in victims {
        let left = cgroups_of(pid);
        assert!(left.is_empty(), "cgroups are left: {left:?}");
    }
    say("clean");
}

#[test]
fn a_killed_supervisor_is_an_error_and_the_next_run_works() {
    let said = Host::start("supervisor-killed", "").finish();
    assert_eq!(said, ["idle: works", "busy: works", "sandbox: works"]);
}

fn kill_supervisor() {
    bury_orphans();
    let all = children(std::process::id());
    assert_eq!(all.len(), 1, "one child: the supervisor");
    // SAFETY: a signal to a child.
    assert_eq!(unsafe { libc::kill(all[0] as i32, libc::SIGKILL) }, 0);
}

/// The one child but `other`, which is dead then.
fn kill_supervisor_beside(other: u32) {
    bury_orphans();
    let mut all = children(std::process::id());
    all.retain(|pid| *pid != other);
    assert_eq!(all.len(), 1, "one child: the supervisor");
    // SAFETY: a signal to a child.
    assert_eq!(unsafe { libc::kill(all[0] as i32, libc::SIGKILL) }, 0);
    // SAFETY: all-zero is valid for it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let how = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: `info` lives through the call. If another thread has heard of it first, it is dead as well.
    unsafe { libc::waitid(libc::P_PID, all[0], &raw mut info, how) };
}

pub fn supervisor_killed() {
    adopt_orphans();
    // With nothing running: the next run does not even notice.
    run_succeeds();
    let groups = cgroups_of(std::process::id()).len();
    kill_supervisor();
    std::thread::sleep(Duration::from_millis(50) * slowness());
    assert_eq!(run_guest(["exit", "3"]).returncode, 3);
    say("idle: works");

    // With a program running: it came to no end of its own, the verdict says so, and it is really gone.
    let process = guest_spec(["ignore-term", "30"]).spawn().expect("starts");
    let pid = process.pid().expect("it runs");
    let start = Instant::now();
    kill_supervisor();
    let outcome = process.wait().expect("wait");
    assert_eq!(outcome.verdict, Verdict::SandboxError, "{outcome:?}");
    assert!(
        outcome
            .message
            .as_deref()
            .is_some_and(|why| why.contains("supervisor")),
        "{outcome:?}"
    );
    assert!(start.elapsed() < promise(), "{:?}", start.elapsed());
    assert!(
        wait_until(promise(), || !Path::new(&format!("/proc/{pid}")).exists()),
        "the program lives on"
    );
    drop(process);
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
    say("busy: works");

    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    kill_supervisor();
    // Whether the request is still taken or not: nothing ran.
    match sandbox.run(&guest_spec(["true"])) {
        Ok(outcome) => assert_eq!(outcome.verdict, Verdict::SandboxError, "{outcome:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Supervisor, "{error}"),
    }
    drop(sandbox);
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
    say("sandbox: works");
    let left = cgroups_of(std::process::id());
    assert_eq!(
        left.len(),
        groups,
        "groups of dead supervisors are left: {left:?}"
    );
}

#[test]
fn busy_groups_of_a_killed_supervisor_go_before_the_next() {
    let said = Host::start("supervisor-killed-busy", "").finish();
    if let Some(why) = said[0].strip_prefix("lacks ") {
        skip!("{why}");
    }
    assert_eq!(said, ["clean"]);
}

/// Something is in its groups that ends later, as a program with much memory does.
pub fn supervisor_killed_busy() {
    adopt_orphans();
    run_succeeds();
    let before = cgroups_of(std::process::id());
    let mut busy = Command::new("/bin/sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .spawn()
        .expect("sleep");
    let enter = |base: &String| {
        let inside = Path::new(base).join("busy");
        std::fs::create_dir(&inside)?;
        std::fs::write(inside.join("cgroup.procs"), busy.id().to_string())
    };
    let entered = before.iter().map(enter).collect::<Result<Vec<_>, _>>();
    if !before.is_empty() && entered.is_ok() {
        kill_supervisor_beside(busy.id());
        run_succeeds();
        let now = cgroups_of(std::process::id());
        assert!(now.is_superset(&before), "{now:?} for {before:?}");
    }
    busy.kill().expect("kill");
    busy.wait().expect("wait");
    if before.is_empty() || entered.is_err() {
        return say("lacks cgroups that other processes can enter");
    }
    kill_supervisor_beside(0);
    run_succeeds();
    let now = cgroups_of(std::process::id());
    assert_eq!(now.len(), before.len(), "{now:?} for {before:?}");
    say("clean");
}
