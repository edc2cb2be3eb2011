//! Every system call of a run, of the host's library, the supervisor and the sandbox's init, fails once with each error
//! that it can fail with, and each of them is killed there once: the call returns soon, with a clear error or with what it
//! would have said anyway, nothing is left, and the next run is as ever.

#![cfg(target_arch = "x86_64")]

mod calls;
mod judge;
mod scenarios;
mod tracer;

use crate::hosts::say;
use crate::support::{
    Host, adopt_orphans, all_cgroups_of, bury_orphans, children, descendants, is_root, mount_count,
    open_descriptors, owner, skip, slowness, wait_until,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tracer::{Harm, Point, Role, Trace};

pub use scenarios::injected;

/// Tries all of the points whose names have every part of `parts` in them; `nth<N`: of the first calls only.
fn try_points(name: &str, warm: bool, parts: &str) {
    try_these(name, warm, parts, "", false);
}

/// The same, with `late` for calls that fail only when their process has been sent something, which it then never reads.
/// `perhaps`: not every host makes such calls.
fn try_these(name: &str, warm: bool, parts: &str, when: &str, perhaps: bool) {
    let said = Host::start_with(
        "injector",
        &format!("{name} {warm} {} 1", u64::MAX),
        |host| {
            host.env("STOCKADE_SUITE_POINT", parts)
                .env("STOCKADE_SUITE_WHEN", when);
        },
    );
    let said = said.finish();
    if let Some(why) = said.iter().find_map(|line| line.strip_prefix("lacks ")) {
        skip!("{name}: {why}");
    }
    let last = said.last().map_or("", String::as_str);
    let some = perhaps || !last.contains(" 0 tried");
    assert!(some && last.ends_with(" 0 wrong"), "{said:#?}");
}

// What such failures have done once.

#[test]
fn root_that_cannot_read_its_ids_runs_nothing() {
    try_points("plain", false, "Host openat#|EMFILE");
}

#[test]
fn a_supervisor_that_cannot_enter_a_root_is_not_in_the_hosts() {
    try_points("between", true, "Supervisor chroot#|E");
    try_points("between", true, "Supervisor setns#|E");
}

#[test]
fn a_supervisor_without_its_capabilities_does_not_begin() {
    try_points("plain", false, "Supervisor capset#1 E");
    try_points("plain", false, "Supervisor prctl#2|E");
}

#[test]
fn a_file_system_that_could_not_be_opened_once_is_looked_at_later() {
    // Before its first looks are over; those that follow are many.
    try_points("files", true, "Supervisor openat#|EMFILE|nth<12");
}

#[test]
fn a_supervisor_that_cannot_say_that_it_is_ready_is_not_waited_for() {
    try_points("loopback", false, "Supervisor sendmsg#1 E");
}

#[test]
fn no_process_of_others_is_seen_though_a_mount_failed() {
    try_points("loopback", true, "Init mount#1 E");
}

#[test]
fn the_last_word_of_an_init_is_heard() {
    // What it has not read is that its ids are mapped.
    try_these("live", true, "Init prctl#1 EPERM", "late", false);
}

#[test]
fn a_root_that_cannot_be_looked_at_lacks_nothing() {
    try_points("plain", false, "Host statx#|EIO");
    try_points("directory", false, "Host statx#|EIO");
}

#[test]
fn what_fails_once_says_nothing_of_a_driver() {
    try_points("kernel", false, "Supervisor fchdir#|E");
    try_points("kernel", false, "Init mount#|EPERM");
}

#[test]
fn what_fails_once_says_nothing_of_landlock() {
    try_points("kernel", false, "Host landlock_create_ruleset#1 E");
}

#[test]
fn what_is_short_for_a_moment_says_nothing_of_cgroups() {
    try_points("plain", false, "Host openat#|EMFILE");
    // What it makes are groups, where it may make any.
    try_these("plain", false, "Host mkdir#|ENOMEM", "", true);
}

#[test]
fn a_file_that_cannot_be_looked_at_is_told_as_that() {
    try_points("live", true, "Init newfstatat#|EIO");
}

#[test]
fn a_store_that_cannot_be_looked_at_leaves_nothing_open() {
    try_points("image", true, "Host |stat|EIO");
}

#[test]
fn a_root_has_all_of_its_directories() {
    try_points("directory", false, "Supervisor mount#|EPERM");
    try_points("directory", false, "Supervisor umount2#|EPERM");
}

#[test]
fn a_group_is_not_left() {
    try_points("plain", true, "Supervisor openat#|EMFILE");
    if !is_root() {
        skip!("removing groups: only root is sure to have some");
    }
    try_points("plain", true, "Supervisor unlinkat#|EIO");
}

fn try_scenario(name: &str, warm: bool) {
    let seconds = match std::env::var("STOCKADE_SUITE_FAULTS").as_deref() {
        Ok("all") => u64::MAX,
        Ok(n) => n.parse().expect("seconds, or `all`"),
        // What is tried first depends on how many calls there are this time; what it finds is no change's fault.
        Err(_) => skip!(
            "{name}: for so many seconds with STOCKADE_SUITE_FAULTS, every point with `make faults`; those that have \
             once been wrong are tried always"
        ),
    };
    let seed =
        std::env::var("STOCKADE_SUITE_SEED").map_or(1, |n| n.parse::<u64>().expect("a number"));
    let argument = format!("{name} {warm} {seconds} {seed}");
    let mut injector = Host::start("injector", &argument);
    let mut said = Vec::new();
    while let Some(line) = injector.line() {
        if seconds == u64::MAX {
            crate::support::say_aloud(&format!("faults: {name}: {line}")); // it takes long
        }
        said.push(line);
    }
    injector.finish();
    if let Some(why) = said.iter().find_map(|line| line.strip_prefix("lacks ")) {
        skip!("{name}: {why}");
    }
    let last = said.last().map_or("", String::as_str);
    assert!(last.ends_with(" 0 wrong"), "{argument}: {said:#?}");
    crate::support::say_aloud(&format!("faults: {name} warm={warm}: {last}"));
}

macro_rules! scenarios {
    ($($test:ident: $name:literal, $warm:literal;)*) => {
        $(#[test]
        fn $test() {
            try_scenario($name, $warm);
        })*
    };
}

scenarios! {
    a_first_run: "plain", false;
    a_later_run: "plain", true;
    a_run_with_loopback: "loopback", true;
    a_run_with_volumes: "volumes", true;
    a_run_in_a_directory: "directory", false;
    a_live_sandbox: "live", true;
    a_first_writable_root: "kernel", false;
    a_writable_root: "kernel", true;
    a_root_that_fuse_overlayfs_serves: "fuse", true;
    a_root_that_is_copied: "copy", true;
    a_root_on_a_disk: "disk", true;
    a_run_in_an_image: "image", true;
}

/// What is looked at from outside, when nothing runs.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    supervisors: usize,
    below: usize,
    host_descriptors: usize,
    descriptors: usize,
    mounts: usize,
    files: usize,
    cgroups: usize,
}

/// One host that was followed.
struct Case {
    trace: Trace,
    first: Option<Value>,
    second: Option<Value>,
    looks: Vec<Look>,
    left: Vec<String>,
    /// Groups and directories of a host that was killed before its supervisor knew of them, or whose supervisor could not
    /// remove them: they are empty, and the next host does.
    later: BTreeSet<String>,
}

/// Tries a scenario: `NAME WARM SECONDS SEED`.
pub fn injector(argument: &str) {
    let words: Vec<&str> = argument.split(' ').collect();
    let (name, warm) = (words[0], words[1] == "true");
    let seconds: u64 = words[2].parse().expect("seconds");
    let mut random: u64 = words[3].parse::<u64>().expect("a seed") | 1;
    let scratch = tempfile::tempdir().expect("a directory");
    scenarios::prepare(scratch.path());
    adopt_orphans();
    let dir = scratch.path();
    // In a process of its own, so that none of it is ours.
    let only = std::env::var("STOCKADE_SUITE_POINT").ok();
    let plain = Case::of(name, dir, warm, None, None);
    let Some(first) = &plain.first else {
        panic!("the host said nothing")
    };
    if first["kind"] == "Unsupported" {
        return say(&format!("lacks {}", first["error"]));
    }
    let base = judge::Base::new(&plain);
    if std::env::var("STOCKADE_SUITE_TRACE").is_ok() {
        for (point, _) in &plain.trace.calls {
            say(&point.to_string());
        }
        say(&format!("{first:#}"));
        say(&format!("{:?}", plain.looks));
    }
    let mut harms = Vec::new();
    for (point, second) in &plain.trace.calls {
        let host = point.role == Role::Host;
        let errors = calls::errors(point.call, *second, host);
        harms.extend(errors.iter().map(|errno| (*point, Harm::Errno(*errno))));
        if !errors.is_empty() || point.nth <= 2 {
            harms.extend([(*point, Harm::Kill), (*point, Harm::KillAfter)]);
        }
    }
    let all_of = |harm: (Point, Harm), only: &str| {
        only.split('|').all(|it| match it.strip_prefix("nth<") {
            Some(end) => harm.0.nth < end.parse().expect("a number"),
            None => told(harm).contains(it),
        })
    };
    harms.retain(|harm| only.as_ref().is_none_or(|only| all_of(*harm, only)));
    let all = harms.len();
    let start = Instant::now();
    let (mut tried, mut hit, mut wrong) = (0, 0, 0);
    let mut later = BTreeSet::new();
    let limit = Duration::from_secs(seconds.min(1 << 30)) * slowness();
    while !harms.is_empty() && start.elapsed() < limit {
        let which = if seconds == u64::MAX {
            0
        } else {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % harms.len()
        };
        let harm = harms.remove(which);
        let case = Case::of(name, dir, warm, Some(harm), Some(&base.usual(harm)));
        later.extend(case.later.iter().cloned());
        tried += 1;
        if tried % 500 == 0 {
            say(&format!("{tried} tried"));
        }
        hit += usize::from(case.trace.hit);
        let faults = base.faults(&case, harm);
        wrong += usize::from(!faults.is_empty());
        for fault in faults {
            say(&format!("{}: {fault}", told(harm)));
        }
    }
    Case::of(name, dir, warm, None, None);
    later.retain(|left| Path::new(left).exists());
    if !later.is_empty() {
        wrong += 1;
        say(&format!("left by hosts that were gone: {later:?}"));
    }
    say(&format!("of {all} {tried} tried, {hit} hit, {wrong} wrong"));
}

fn told((point, harm): (Point, Harm)) -> String {
    let what = match harm {
        Harm::Errno(errno) => nix::errno::Errno::from_raw(errno).to_string(),
        Harm::Kill => "KILL".into(),
        Harm::KillAfter => "KILL AFTER".into(),
    };
    format!("{point} {what}")
}

impl Case {
    /// `usual` is what is seen when nothing fails.
    fn of(
        name: &str,
        dir: &Path,
        warm: bool,
        harm: Option<(Point, Harm)>,
        usual: Option<&Look>,
    ) -> Case {
        let argument = format!(
            "{name} {}{}",
            dir.display(),
            if warm { " warm" } else { "" }
        );
        let tmp = dir.join("tmp");
        let mut host = Host::start_with("injected", &argument, |command| {
            command
                .env("TMPDIR", &tmp)
                .env("XDG_RUNTIME_DIR", &tmp)
                .stderr(std::process::Stdio::null());
        });
        let pid = host.child.id() as i32;
        let owner = owner(pid as u32);
        // A host that hangs is ended, which is then seen.
        let (done, watched) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if watched.recv_timeout(Duration::from_secs(40) * slowness())
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                // SAFETY: a signal to our child, which is not reaped before this thread is joined or has ended on its own.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        });
        let mut stdin = host.child.stdin.take().expect("a pipe");
        let mut go = || drop(stdin.write_all(b"\n"));
        let ready = host.line().expect("it starts");
        let tid = ready.strip_prefix("ready ").expect("a thread").parse();
        let tid = tid.expect("a number");
        let late = std::env::var("STOCKADE_SUITE_WHEN").is_ok_and(|when| when == "late");
        let trace = tracer::follow(tid, &supervisors(pid as u32), harm, late, &mut go);
        let mut looks = Vec::new();
        let mut said = |what: &str| {
            let line = host.line()?;
            let value = line.strip_prefix(what).expect("in order");
            looks.push(Look::at(pid as u32, dir, usual));
            go();
            Some(serde_json::from_str::<Value>(value).expect("JSON"))
        };
        let first = said("first ");
        let second = first.as_ref().and_then(|_| said("second "));
        while host.line().is_some() {}
        drop(done);
        watch.join().expect("no panic");
        let mut left = Vec::new();
        let gone = wait_until(Duration::from_secs(5) * slowness(), || {
            bury_orphans();
            descendants(std::process::id()).is_empty()
        });
        if !gone {
            left.push(format!("{:?}", descendants(std::process::id())));
            for pid in descendants(std::process::id()).keys() {
                // SAFETY: a signal to what one of our children has left.
                unsafe { libc::kill(*pid as i32, libc::SIGKILL) };
            }
        }
        let entries = |place| {
            let all = std::fs::read_dir(dir.join(place)).expect("it is there");
            all.map(|entry| entry.expect("an entry").path().display().to_string())
        };
        left.extend(entries("tmp"));
        let mut later = all_cgroups_of(&owner);
        later.extend(entries("upper"));
        Case {
            trace,
            first,
            second,
            looks,
            left,
            later,
        }
    }
}

/// The supervisors of a host, whose orphans are ours.
fn supervisors(host: u32) -> Vec<u32> {
    bury_orphans();
    let mut all = children(std::process::id());
    all.retain(|pid| *pid != host);
    all
}

impl Look {
    /// Once nothing runs any more. Ends are seen a moment before they are heard of, so that more than `usual` counts only
    /// if it stays.
    fn at(host: u32, dir: &Path, usual: Option<&Look>) -> Look {
        let mut look = Look::now(host, dir);
        wait_until(Duration::from_secs(10) * slowness(), || {
            look = Look::now(host, dir);
            look.below <= usual.map_or(0, |usual| usual.below) && look.files == 0
        });
        let long = match usual {
            Some(_) => Duration::from_secs(2),
            None => Duration::from_millis(200),
        };
        wait_until(long * slowness(), || {
            std::thread::sleep(Duration::from_millis(10));
            look = Look::now(host, dir);
            usual.is_some_and(|usual| !look.has_more(usual))
        });
        look
    }

    /// Than is usual. The groups of a supervisor that was killed are there until the next begins.
    fn has_more(&self, usual: &Look) -> bool {
        self.below > usual.below
            || self.supervisors > usual.supervisors
            || self.host_descriptors > usual.host_descriptors
            || self.descriptors > usual.descriptors
            || (self.cgroups > usual.cgroups && self.supervisors > 0)
    }

    fn now(host: u32, dir: &Path) -> Look {
        let below = || supervisors(host).into_iter().flat_map(descendants).count();
        let entries = |place: &str| std::fs::read_dir(dir.join(place)).map_or(0, Iterator::count);
        let supervisors = supervisors(host);
        let count = |of: fn(u32) -> usize| supervisors.iter().map(|pid| of(*pid)).sum();
        // A supervisor keeps a network for each sandbox that it has seen at one time, and the last 16 shapes of roots.
        fn but_kept(pid: u32) -> usize {
            let all = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten();
            let links = all.flatten().map(|fd| std::fs::read_link(fd.path()));
            let kept = |link: &std::path::PathBuf| {
                let link = link.to_string_lossy();
                link.starts_with("net:") || link.starts_with("mnt:")
            };
            links.flatten().filter(|link| !kept(link)).count()
        }
        Look {
            supervisors: supervisors.len(),
            below: below(),
            host_descriptors: open_descriptors(host),
            descriptors: count(but_kept),
            mounts: count(mount_count),
            files: entries("tmp") + entries("upper"),
            cgroups: all_cgroups_of(&owner(host)).len(),
        }
    }
}
