//! How long is waited for what: the end of a run takes the time that the kernel needs, what a sandbox's init does for the
//! host holds up no limit, and no program holds up another's start.

use crate::hosts::say;
use crate::support::{
    Host, alive, cgroups_of, guest_spec, promise, skip, slowness, start_clock, wait_until,
};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use stockade::{ErrorKind, Overlay, Process, Rootfs, Sandbox, Spec, Stdio, Update, Verdict};

/// Waits for the first line that the program writes.
fn begun(process: &Process) {
    let out = process.take_stdout().expect("a pipe");
    let mut line = String::new();
    let read = BufReader::new(std::fs::File::from(out)).read_line(&mut line);
    assert!(read.expect("a line") > 0, "it has ended");
}

/// Half a second and more is what the kernel takes for this one's end, or several times that.
fn large() -> Spec {
    guest_spec(["maps", "64m", "600", "60"])
        .stdout(Stdio::Pipe)
        .wall_time(Duration::from_secs(120) * slowness())
}

fn now() -> Update {
    Update::new().wall_time(Some(Duration::from_millis(1)))
}

#[test]
fn the_end_of_a_large_program_leaves_its_sandbox() {
    let sandbox = Sandbox::start(&large()).expect("starts");
    let process = sandbox.spawn(&large()).expect("starts");
    begun(&process);
    process.update(&now()).expect("updates");
    let outcome = process.wait().expect("waits");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert!(outcome.usage.max_rss > 64 << 20, "{:?}", outcome.usage);
    let next = sandbox.run(&guest_spec(["true"])).expect("it is there");
    assert_eq!(next.verdict, Verdict::Ok, "{next:?}");
}

#[test]
fn a_reset_ends_a_large_program_and_not_its_sandbox() {
    let tree = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(tree.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let root = Rootfs::Directory(tree.path().display().to_string());
    let overlaid = |spec: Spec| spec.rootfs(root.clone()).overlay(Overlay::Copy);
    let sandbox = Sandbox::start(&overlaid(large())).expect("starts");
    let process = sandbox.spawn(&overlaid(large())).expect("starts");
    begun(&process);
    sandbox.reset().expect("resets");
    assert_eq!(process.wait().expect("waits").verdict, Verdict::Killed);
    let next = sandbox.run(&overlaid(guest_spec(["true"])));
    assert_eq!(next.expect("it is there").verdict, Verdict::Ok);
}

#[test]
fn what_a_large_program_has_made_is_collected() {
    let process = large().file("/work/made", "x").collect("made");
    let process = process.spawn().expect("starts");
    begun(&process);
    process.update(&now()).expect("updates");
    let outcome = process.wait().expect("waits");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert_eq!(&*outcome.outputs["made"].content, b"x", "{outcome:?}");
    assert!(outcome.usage.max_rss > 64 << 20, "{:?}", outcome.usage);
}

/// A file that takes init a second to write, and a limit that is passed meanwhile.
#[test]
fn a_file_on_its_way_holds_up_no_limit() {
    const SIZE: u64 = 2 << 30;
    let memory = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let free = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let free: u64 = free
        .and_then(|kb| kb.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0);
    if free << 10 < 2 * SIZE {
        skip!("less than 4 GiB of memory are free");
    }
    let place = tempfile::tempdir().expect("a directory");
    let file = std::fs::File::create(place.path().join("large")).expect("a file");
    file.set_len(SIZE).expect("a hole");
    let spec = |args: &[&str]| guest_spec(args).disk(2 * SIZE);
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let process = sandbox.spawn(&spec(&["sleep", "60"])).expect("starts");
    process.pid().expect("it runs");
    std::thread::scope(|scope| {
        let put = scope.spawn(|| sandbox.put_tree("in", place.path()));
        std::thread::sleep(Duration::from_millis(50));
        process.update(&now()).expect("updates");
        let outcome = process.wait().expect("waits");
        assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
        // The next waits for the first, and neither for the other's thread.
        sandbox.put("small", b"x", None).expect("the next is put");
        put.join().expect("no panic").expect("it is put");
    });
    assert_eq!(sandbox.get("small").expect("it is there"), b"x");
    let next = sandbox.run(&spec(&["true"])).expect("it is there");
    assert_eq!(next.verdict, Verdict::Ok, "{next:?}");
}

#[test]
fn no_program_keeps_others_from_starting() {
    let spec = |args: &[&str]| guest_spec(args).wall_time(Duration::from_secs(2) * slowness());
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let long = guest_spec(["stop-others"]).wall_time(Duration::from_secs(120) * slowness());
    let hostile = sandbox.spawn(&long.stdout(Stdio::Pipe)).expect("starts");
    begun(&hostile);
    for _ in 0..3 {
        let start = start_clock();
        let outcome = sandbox.run(&spec(&["true"])).expect("an outcome");
        // Once it runs it can be stopped like any other.
        let ends = [Verdict::Ok, Verdict::WallTimeLimit];
        assert!(ends.contains(&outcome.verdict), "{outcome:?}");
        let limit = Duration::from_secs(2) * slowness() + promise();
        assert!(start.elapsed() < limit + promise(), "{:?}", start.elapsed());
    }
    // It was stopped itself now and then, and has gone on.
    let used = || hostile.stats().expect("stats").map(|now| now.cpu_time);
    let before = used();
    assert!(before.is_some() && wait_until(promise() * 10, || used() > before));
    hostile.kill().expect("kills");
    assert_eq!(hostile.wait().expect("waits").verdict, Verdict::Killed);
    let next = sandbox.run(&spec(&["true"])).expect("it is there");
    assert_eq!(next.verdict, Verdict::Ok, "{next:?}");
}

/// Of a sandbox whose init was killed from outside, and of its program.
#[test]
fn a_dead_sandbox_says_so_at_once() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let process = sandbox.spawn(&guest_spec(["sleep", "60"])).expect("starts");
    let pid = process.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let init = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let init: i32 = init.and_then(|pid| pid.trim().parse().ok()).expect("PPid");
    // SAFETY: signals a process of this test's.
    assert_eq!(unsafe { libc::kill(init, libc::SIGKILL) }, 0);
    let outcome = process.wait().expect("waits");
    assert_eq!(outcome.verdict, Verdict::SandboxError, "{outcome:?}");
    let message = outcome.message.unwrap_or_default();
    assert!(message.contains("the sandbox's init died"), "{message}");
    assert!(
        outcome.usage.wall_time > Duration::ZERO,
        "{:?}",
        outcome.usage
    );
    let source = &outcome.usage.sources["max_rss"];
    assert!(source.contains("not known"), "{source}");
    assert!(wait_until(promise(), || !alive(init as u32)));
    let start = start_clock();
    for _ in 0..20 {
        let error = sandbox.run(&guest_spec(["true"])).expect_err("it is dead");
        assert_eq!(error.kind(), ErrorKind::Supervisor, "{error}");
        let text = error.to_string();
        assert!(text.contains("its init was killed"), "{text}");
    }
    assert!(start.elapsed() < Duration::from_secs(5) * slowness());
}

/// A process that has left its program's group stays in that program's cgroup as long as its sandbox is there: then all of
/// them are removed, however many.
#[test]
fn no_cgroup_is_forgotten() {
    match &Host::start("groups-left", "").finish()[..] {
        [one] if one == "none" => skip!("no cgroup can be made"),
        said => assert_eq!(said, ["all are there", "none is left"]),
    }
}

/// Plays a host program with many such.
pub fn groups_left() {
    const MANY: usize = 100;
    // Each run's lie below those of this process.
    let below = |dir: &String| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    };
    let count = || -> usize { cgroups_of(std::process::id()).iter().map(below).sum() };
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let before = count();
    let long = sandbox.spawn(&guest_spec(["sleep", "60"])).expect("starts");
    long.pid().expect("it runs");
    if count() == before {
        return say("none");
    }
    for _ in 0..MANY {
        let left = sandbox.run(&guest_spec(["daemon", "close", "60"]));
        assert_eq!(left.expect("runs").verdict, Verdict::Ok);
    }
    say(match count() > before + MANY {
        true => "all are there",
        false => "some are gone",
    });
    sandbox.close().expect("closes");
    say(match wait_until(promise() * 10, || count() <= before) {
        true => "none is left",
        false => "some are left",
    });
}
