//! Processors, devices, huge pages, and what the scheduler and the OOM killer are told.

use crate::support::{ON_DISK_SIZE, OnDisk, enforced, fields, guest_spec, skip, slowness, status};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use stockade::{Enforce, EnforcementStatus, ErrorKind, Outcome, Spec, Verdict};

const MIB: u64 = 1 << 20;
const _: () = assert!(ON_DISK_SIZE as u64 == 4 * MIB);

fn ok(spec: Spec) -> Outcome {
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
}

#[test]
fn a_list_of_processors() {
    let outcome = ok(guest_spec(["sched"]).cpuset_cpus("0"));
    assert_eq!(fields(&outcome)["cpus"], "0");
    let by = &outcome.enforcement["cpuset_cpus"].by;
    let undone = &fields(&ok(guest_spec(["sched-undo"]).cpuset_cpus("0")))["cpus"];
    match status(&outcome, "cpuset_cpus") {
        EnforcementStatus::Enforced => assert_eq!(undone, "0", "{by}"),
        _ => assert!(by.contains("the program can undo"), "{by}"),
    }
}

/// As many runs as there are cores get one each, and the next is told that it has none of its own.
#[test]
fn processors_of_their_own() {
    let cores = cores();
    let spec = guest_spec(["sched", "20"]).cpuset_cpus("exclusive");
    let runs: Vec<_> = (0..cores.len() + 1)
        .map(|_| spec.spawn().expect("it starts"))
        .collect();
    assert!(
        runs.iter().all(|run| run.pid().is_some()),
        "they have begun"
    );
    let mut taken = BTreeSet::new();
    let mut alone = 0;
    for run in &runs {
        // What was said is there before the sleep.
        std::thread::sleep(Duration::from_millis(100) * slowness());
        run.kill().expect("it is killed");
        let outcome = run.wait().expect("it ends");
        let by = &outcome.enforcement["cpuset_cpus"].by;
        if by.contains("shares the processors") {
            assert_eq!(
                status(&outcome, "cpuset_cpus"),
                EnforcementStatus::Approximated
            );
            continue;
        }
        alone += 1;
        let cpu = fields(&outcome)["cpus"].clone();
        assert!(!cpu.contains(','), "{cpu}");
        assert!(taken.insert(cpu.clone()), "{cpu} was leased twice");
    }
    // Other tests of this process lease too.
    assert!((1..=cores.len()).contains(&alone), "{alone} of {cores:?}");
    assert!(runs.len() > alone);
}

/// The first thread of each core that this process may use.
fn cores() -> BTreeSet<String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).unwrap_or(cpu.to_string())
    };
    (0..cpus).map(siblings).collect()
}

#[test]
fn what_is_yielded_cannot_be_taken_back() {
    let spec = guest_spec(["sched-undo"]).nice(9).oom_score_adj(700);
    let outcome = ok(spec);
    assert_eq!(fields(&outcome)["nice"], "9");
    for limit in ["nice", "oom_score_adj"] {
        assert_ne!(status(&outcome, limit), EnforcementStatus::NotEnforced);
    }
    let outcome = ok(guest_spec(["sched"]).oom_score_adj(700));
    assert_eq!(fields(&outcome)["oom_score_adj"], "700");
    let idle = ok(guest_spec(["sched-undo"]).cpu_idle(true));
    if !enforced(&idle, "cpu_idle") {
        const SCHED_IDLE: &str = "5";
        assert_eq!(fields(&idle)["policy"], SCHED_IDLE);
    }
}

/// A program that runs when nobody else wants to gets next to nothing beside one that always does, on one processor.
#[test]
fn an_idle_program_yields() {
    let spec = |idle| {
        let spec = guest_spec(["spin", "600"]).wall_time(Duration::from_secs(2) * slowness());
        spec.cpuset_cpus("0").cpu_idle(idle)
    };
    let busy = spec(false).cpu_weight(100).enforce(Enforce::BestEffort);
    // It would not begin beside the other.
    let idle = spec(true).spawn().expect("it starts");
    assert!(idle.pid().is_some());
    let busy = busy.run().expect("it starts");
    let idle = idle.wait().expect("it ends");
    if !enforced(&idle, "cpu_idle") || !enforced(&busy, "cpu_weight") {
        skip!("no CPU controller: {}", idle.enforcement["cpu_idle"].by);
    }
    let (busy, idle) = (busy.usage.cpu_time, idle.usage.cpu_time);
    assert!(idle * 3 < busy, "{idle:?} beside {busy:?}");
}

/// Two that read as fast as they can, past the page cache: weights count among the runs of one process.
#[test]
fn a_disk_is_shared_by_weight() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let file = std::fs::File::create(dir.path().join("file")).expect("a file");
    (&file)
        .write_all(&vec![7; 64 << 20])
        .and_then(|()| file.sync_all())
        .expect("64 MiB");
    for (path, mode) in [
        (dir.path().to_path_buf(), 0o755),
        (dir.path().join("file"), 0o644),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    }
    let script = "while :; do /guest/guest direct read /disk/file 64m 64k >/dev/null; done";
    let spec = |weight| {
        let volume = format!("{}:/disk", dir.path().display());
        let mut spec = guest_spec(["-"]).volume(volume.parse().expect("a volume"));
        spec.args = ["sh", "-c", script].map(Into::into).into();
        let spec = spec.wall_time(Duration::from_secs(1) * slowness());
        spec.io_weight(weight).enforce(Enforce::BestEffort)
    };
    let heavy = spec(10_000).spawn().expect("it starts");
    let light = spec(10).run().expect("it starts");
    let heavy = heavy.wait().expect("it ends");
    if !enforced(&light, "io_weight") {
        skip!("{}", light.enforcement["io_weight"].by);
    }
    let read = |outcome: &Outcome| outcome.usage.io_read.expect("it is counted");
    let (heavy, light) = (read(&heavy), read(&light));
    // A thousand to one, of a disk that others of this machine use as well, and that waits for a processor at times.
    assert!(2 * heavy > 3 * light && light > 0, "{heavy} beside {light}");
}

#[test]
fn a_disk_is_read_and_written_no_faster() {
    let Some(disk) = OnDisk::find() else {
        skip!("/var/tmp is on no block device");
    };
    let run = |what, limit: &str, set: &dyn Fn(Spec) -> Spec| -> Option<Duration> {
        let args = ["direct", what, "/disk/file", "4m", "64k"];
        let spec = set(guest_spec(args).volume(disk.volume()));
        let outcome = ok(spec.enforce(Enforce::BestEffort));
        let held = status(&outcome, limit) != EnforcementStatus::NotEnforced;
        held.then_some(outcome.usage.wall_time)
    };
    // 4 MiB at 4 MiB in a second, and 64 operations at 64.
    let times = [
        run("read", "io_read_bps", &|s| {
            s.io_read_bps(disk.rate(4 * MIB))
        }),
        run("write", "io_write_bps", &|s| {
            s.io_write_bps(disk.rate(4 * MIB))
        }),
        run("read", "io_read_iops", &|s| s.io_read_iops(disk.rate(64))),
        run("write", "io_write_iops", &|s| {
            s.io_write_iops(disk.rate(64))
        }),
    ];
    if times.iter().all(Option::is_none) {
        skip!("no io controller");
    }
    for time in times {
        let time = time.expect("all or none");
        assert!(time > Duration::from_millis(700), "{times:?}");
        assert!(time < Duration::from_secs(4) * slowness(), "{times:?}");
    }
}

#[test]
fn a_limit_of_devices_that_nothing_holds_is_refused() {
    let Some(disk) = OnDisk::find() else {
        skip!("/var/tmp is on no block device");
    };
    match guest_spec(["true"]).io_read_bps(disk.rate(MIB)).run() {
        Ok(outcome) => assert_ne!(
            status(&outcome, "io_read_bps"),
            EnforcementStatus::NotEnforced
        ),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().starts_with("io_read_bps: "), "{error}");
        }
    }
}

#[test]
fn a_share_of_the_devices() {
    match guest_spec(["true"]).io_weight(50).run() {
        Ok(outcome) => assert!(enforced(&outcome, "io_weight"), "{outcome:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("io.cost.qos"), "{error}");
        }
    }
}

#[test]
fn huge_pages() {
    let none = ok(guest_spec(["huge", "2m"]));
    assert_eq!(fields(&none)["mmap"], "ENOMEM", "no limit, no huge pages");
}
