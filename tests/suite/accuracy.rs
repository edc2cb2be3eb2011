//! Programs with known use, held against what is measured. The bars of error are those of docs/measurement.md.

use crate::support::{enforced, guest_spec, is_root, skip, slowness};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stockade::{EnforcementStatus, Outcome, Spec, Usage, Verdict, Volume};

/// CPU time, as a part of it: by a cgroup's clock, and by getrusage and looks where there is none.
const CPU_BAR: f64 = 0.02;
const CPU_BAR_SAMPLED: f64 = 0.05;
/// What a program's start and each of its children add to the CPU time that it was made to use.
const START: Duration = Duration::from_millis(10);
const CHILD: Duration = Duration::from_millis(1);
/// One kind of memory, bytes.
const MEMORY_BAR: u64 = 2 << 20;
/// All of it: the kernel's own, page cache of the program, and what a cgroup charges in batches come in addition.
const PEAK_BAR: u64 = 8 << 20;

const MIB: u64 = 1 << 20;

fn ok(spec: Spec) -> Usage {
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome.usage
}

fn by_cgroup(usage: &Usage, figure: &str) -> bool {
    usage.sources[figure].starts_with("cgroup")
}

/// CPU time `expected`, and what the starts add.
fn assert_cpu(usage: &Usage, expected: Duration, starts: Duration) {
    let bar = match by_cgroup(usage, "cpu_time") {
        true => CPU_BAR,
        false => CPU_BAR_SAMPLED,
    };
    let least = expected.mul_f64(1.0 - bar);
    // An emulated processor counts also when it waits for a real one.
    let stolen = match slowness() {
        1 => Duration::ZERO,
        _ => expected * 2,
    };
    let most = expected.mul_f64(1.0 + bar) + starts * slowness() + stolen;
    assert!(
        (least..=most).contains(&usage.cpu_time),
        "{:?} is not between {least:?} and {most:?}: {}",
        usage.cpu_time,
        usage.sources["cpu_time"]
    );
}

fn assert_bytes(usage: &Usage, name: &str, figure: Option<u64>, expected: u64, bar: u64) {
    let bytes = figure.unwrap_or_else(|| panic!("{name} is known: {usage:?}"));
    assert!(
        bytes.abs_diff(expected) <= bar,
        "{name}: {bytes} is not {expected}, give or take {bar}: {usage:?}"
    );
}

fn assert_peak(usage: &Usage) {
    assert_bytes(usage, "memory_peak", usage.memory_peak, 100 * MIB, PEAK_BAR);
}

#[test]
fn one_second_on_one_thread() {
    assert_cpu(
        &ok(guest_spec(["spin", "1.00"])),
        Duration::from_secs(1),
        START,
    );
}

#[test]
fn one_second_on_each_of_four_threads() {
    let usage = ok(guest_spec(["spin", "1.00", "4"]));
    assert_cpu(&usage, Duration::from_secs(4), START);
}

#[test]
fn fifty_short_children() {
    let usage = ok(guest_spec(["short-children", "50", "20"]));
    assert_cpu(&usage, Duration::from_secs(1), START + CHILD * 50);
}

#[test]
fn anonymous_memory() {
    let usage = ok(guest_spec(["alloc", "100m", "0.5"]));
    assert_bytes(
        &usage,
        "memory_anon",
        usage.memory_anon,
        100 * MIB,
        MEMORY_BAR,
    );
    assert_bytes(&usage, "memory_shmem", usage.memory_shmem, 0, MEMORY_BAR);
    assert_peak(&usage);
}

#[test]
fn memory_file_systems() {
    for path in ["/dev/shm/file", "/work/file"] {
        let usage = ok(guest_spec(["fill-file", path, "100m", "0.5"]).disk(200 * MIB));
        assert_bytes(
            &usage,
            "memory_shmem",
            usage.memory_shmem,
            100 * MIB,
            MEMORY_BAR,
        );
        assert_bytes(&usage, "memory_anon", usage.memory_anon, 0, MEMORY_BAR);
        assert_peak(&usage);
        assert!(
            usage
                .disk_used
                .is_some_and(|n| n.abs_diff(100 * MIB) < MIB / 8)
        );
    }
}

#[test]
fn page_cache() {
    let on_disk = |dir: &&str| {
        let kind = nix::sys::statfs::statfs(*dir).map(|fs| fs.filesystem_type());
        kind.is_ok_and(|kind| kind != nix::sys::statfs::TMPFS_MAGIC && kind.0 != 0x794c_7630)
    };
    let Some(place) = ["/tmp", "/var/tmp"].into_iter().find(on_disk) else {
        skip!("neither /tmp nor /var/tmp is on a disk");
    };
    let dir = tempfile::tempdir_in(place).expect("a directory");
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("chmod");
    let usage = ok(
        guest_spec(["fill-file", "/disk/file", "100m", "0.5"]).volume(Volume {
            host: dir.path().display().to_string(),
            inside: "/disk".into(),
            writable: true,
        }),
    );
    if !by_cgroup(&usage, "memory_anon") {
        assert_eq!(usage.memory_file, None, "no process holds page cache");
        skip!("without a cgroup nothing counts page cache");
    }
    assert_bytes(
        &usage,
        "memory_file",
        usage.memory_file,
        100 * MIB,
        MEMORY_BAR,
    );
    assert_bytes(&usage, "memory_anon", usage.memory_anon, 0, MEMORY_BAR);
    // File systems keep their own lists of what is to be written.
    let peak = usage.memory_peak.expect("a cgroup knows it");
    assert!(
        (98 * MIB..=100 * MIB + 3 * PEAK_BAR).contains(&peak),
        "{usage:?}"
    );
}

#[test]
fn every_known_figure_has_a_source() {
    for args in [&["true"][..], &["alloc", "8m", "0.1"]] {
        let usage = ok(guest_spec(args));
        let json = serde_json::to_value(&usage).expect("JSON");
        for (name, value) in json.as_object().expect("an object") {
            let has = usage.sources.contains_key(name);
            if name != "sources" {
                assert_eq!(has, !value.is_null(), "{name}: {value}: {usage:?}");
            }
        }
        for name in usage.sources.keys() {
            assert!(json.get(name).is_some(), "no figure is called {name}");
        }
    }
}

/// Burns every processor until dropped.
struct Noise(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Noise {
    fn start() -> Noise {
        let stop = Arc::new(AtomicBool::new(false));
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let burn = || {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(|_| burn()).collect();
        Noise(stop, threads)
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1
            .drain(..)
            .for_each(|thread| thread.join().expect("it only burns"));
    }
}

#[test]
fn a_noisy_machine_changes_no_verdict() {
    let limit = Duration::from_millis(600) * slowness().min(3);
    let part = |share: f64| (limit.as_secs_f64() * share).to_string();
    let run = |share: f64| -> Outcome {
        let spec = guest_spec(["spin", &part(share)]).cpu_time(limit);
        spec.run().expect("the sandbox starts")
    };
    for noisy in [false, true] {
        let _noise = noisy.then(Noise::start);
        // What the start costs is little only on a real processor.
        let near = run(if slowness() == 1 { 0.85 } else { 0.5 });
        assert_eq!(near.verdict, Verdict::Ok, "noisy={noisy}: {near:?}");
        let over = run(1.3);
        assert_eq!(over.verdict, Verdict::TimeLimit, "noisy={noisy}: {over:?}");
        if noisy && let Some(waited) = near.usage.cpu_pressure_some {
            assert!(waited > Duration::ZERO, "{near:?}");
        }
    }
}

#[test]
fn held_back_time_is_told() {
    let spec = guest_spec(["spin", "0.1"])
        .cpus(0.05)
        .enforce(stockade::Enforce::BestEffort);
    let outcome = spec.run().expect("the sandbox starts");
    if !enforced(&outcome, "cpus") {
        skip!("no CPU controller: {}", outcome.enforcement["cpus"].by);
    }
    let usage = &outcome.usage;
    assert!(
        usage.throttled_time.is_some_and(|t| t > Duration::ZERO),
        "{usage:?}"
    );
    assert!(usage.throttled_periods.is_some_and(|n| n > 0), "{usage:?}");
}

/// A group that is removed at the end.
struct Group(PathBuf);

impl Group {
    fn make(parent: &Path) -> Option<Group> {
        let path = parent.join(format!("accuracy-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(Group(path))
    }

    fn write(&self, file: &str, value: &str) -> bool {
        std::fs::write(self.0.join(file), value).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn out_of_memory_further_up_is_not_the_programs_v2() {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_to_string(root.join("cgroup.subtree_control"));
    if !is_root() || !controllers.is_ok_and(|all| all.contains("memory")) {
        skip!("it takes root and cgroup v2 with the memory controller at /sys/fs/cgroup");
    }
    let Some(group) = Group::make(root) else {
        skip!("no group can be made in /sys/fs/cgroup");
    };
    assert!(group.write("memory.max", &(64 * MIB).to_string()));
    group.write("memory.swap.max", "0");
    let outcome = guest_spec(["alloc", "200m", "1"])
        .memory(256 * MIB)
        .cgroup_parent(group.0.display().to_string())
        .run()
        .expect("the sandbox starts");
    assert_not_its_own(&outcome);
    // And the same program with the lower limit as its own.
    let own = guest_spec(["alloc", "200m", "1"]).memory(32 * MIB);
    let own = own.cgroup_parent(group.0.display().to_string()).run();
    assert_eq!(own.expect("it starts").verdict, Verdict::MemoryLimit);
}

fn assert_not_its_own(outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::SandboxError, "{outcome:?}");
    let message = outcome.message.as_deref().unwrap_or("");
    assert!(
        message.contains("own memory limit was not reached"),
        "{message}"
    );
    assert!(
        outcome.usage.oom_kills.is_some_and(|n| n > 0),
        "{outcome:?}"
    );
    assert!(!outcome.usage.oom_killed, "{outcome:?}");
}

/// Likewise of cgroup v1, whose base is in the caller's own group: so a caller is put into a small one.
#[test]
fn out_of_memory_further_up_is_not_the_programs_v1() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
    let (Some(own), true) = (own, is_root()) else {
        skip!("it takes root and cgroup v1 with the memory controller");
    };
    let Some(program) = option_env!("CARGO_BIN_EXE_stockade").filter(|p| Path::new(p).exists())
    else {
        skip!("the program `stockade` is not there");
    };
    let parent = Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/'));
    let Some(group) = Group::make(&parent) else {
        skip!("no group can be made in {}", parent.display());
    };
    if !group.write("memory.limit_in_bytes", &(64 * MIB).to_string()) {
        skip!("its limit cannot be set");
    }
    let guest = crate::support::guest_dir().display().to_string();
    let enter = "echo $$ >$0/tasks && exec \"$@\"";
    let output = Command::new("/bin/sh")
        .args(["-c", enter])
        .arg(&group.0)
        .args([program, "run", "--json", "--memory", "256m", "--volume"])
        .arg(format!("{guest}:/guest"))
        .args(["--", "/guest/guest", "alloc", "200m", "1"])
        .output()
        .expect("a shell");
    let outcome: Outcome = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_not_its_own(&outcome);
}

/// A limit that is too small for what a program is started with says so, and is never the program's fault.
#[test]
fn a_limit_too_small_for_the_start() {
    let huge = "x".repeat(100_000);
    let mut args = vec!["true"];
    args.extend(std::iter::repeat_n(huge.as_str(), 12));
    let outcome = guest_spec(args).memory(MIB).run();
    let outcome = outcome.expect("an outcome, not an error");
    if outcome.enforcement["memory"].status != EnforcementStatus::Enforced {
        skip!("no cgroup holds the limit");
    }
    assert_eq!(outcome.verdict, Verdict::SandboxError, "{outcome:?}");
    let message = outcome.message.as_deref().unwrap_or("");
    assert!(
        message.contains("memory") && message.contains("too small"),
        "{message}"
    );
}
