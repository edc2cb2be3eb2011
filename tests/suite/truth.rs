//! The truth of `enforcement`: for each limit a program that breaks it, on whatever host this is. What the outcome says
//! must be what happens to the program: `enforced` holds it exactly, `approximated` within the slack that is stated
//! here, and what nothing holds is refused, with a remedy, or run and called `not_enforced`.
//!
//! Each proof says one line, `truth: LIMIT: enforced|approximated|refused: BY`, from which the table in docs/cgroups.md
//! is made. A further limit is a further block of [`limits!`].

use crate::support::{
    OnDisk, fields, free_huge_pages, guest_spec, promise, say_aloud, skip, slowness, status,
};
use std::time::Duration;
use stockade::{
    Enforce, Enforcement, EnforcementStatus, Error, ErrorKind, HugePages, Outcome, Process, Spec,
    Verdict,
};

const MIB: u64 = 1 << 20;

/// A limit, and programs against it.
struct Row {
    /// Its name in a specification and in `enforcement`.
    limit: &'static str,
    /// Why it cannot be tried on this host, if so.
    lacks: fn() -> Option<&'static str>,
    /// Asks for it.
    ask: fn(Spec) -> Spec,
    /// A program that stays within the limit, and must run as if there were none.
    within: &'static [&'static str],
    /// One that does not.
    breaks: &'static [&'static str],
    /// What runs at the same time, where only that shows anything: then both are watched for a while, and killed.
    beside: Option<fn() -> Spec>,
    /// What must have happened to the program if the limit is called enforced,
    enforced: fn(&Runs),
    /// if it is called approximated, where it ever may be,
    approximated: Option<fn(&Runs)>,
    /// and if it is run without, where that ever may be needed.
    without: Option<fn(&Runs)>,
}

/// What came of the program that breaks the limit, and the CPU time of it and of the one beside it while both ran.
struct Runs {
    outcome: Outcome,
    watched: Option<(Duration, Duration)>,
}

impl Runs {
    /// A number that the program said.
    fn said(&self, key: &str) -> u64 {
        let said = fields(&self.outcome);
        let number = said.get(key).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("it did not say {key}: {:?}", self.outcome))
    }

    fn said_error(&self, name: &str) {
        let said = fields(&self.outcome);
        let error = said.get("error").map(String::as_str);
        assert_eq!(error, Some(name), "{:?}", self.outcome);
    }

    fn ended_as(&self, verdict: Verdict, limit: &str) {
        let ended = (self.outcome.verdict, self.outcome.limit.as_deref());
        assert_eq!(ended, (verdict, Some(limit)), "{:?}", self.outcome);
    }

    /// After it was watched.
    fn was_killed(&self) {
        assert_eq!(self.outcome.verdict, Verdict::Killed, "{:?}", self.outcome);
    }

    fn ended_well(&self) {
        assert_eq!(self.outcome.verdict, Verdict::Ok, "{:?}", self.outcome);
    }
}

/// What a row need not say.
const PLAIN: Row = Row {
    limit: "",
    lacks: || None,
    ask: |spec| spec,
    within: &["true"],
    breaks: &[],
    beside: None,
    enforced: |_| {},
    approximated: None,
    without: None,
};

macro_rules! limits {
    ($($limit:ident { $($row:tt)* })*) => {
        $(#[test]
        fn $limit() {
            prove(&Row { limit: stringify!($limit), $($row)*, ..PLAIN });
        })*
        const PROVEN: &[&str] = &[$(stringify!($limit)),*];
    };
}

limits! {
    memory {
        ask: |spec| spec.memory(48 * MIB),
        within: &["alloc", "32m"],
        breaks: &["alloc", "200m", "20"],
        enforced: |runs| {
            runs.ended_as(Verdict::MemoryLimit, "memory");
            // It was stopped before it had what it wanted.
            assert!(runs.outcome.stdout.is_empty(), "{:?}", runs.outcome);
            assert!(runs.outcome.usage.memory_peak <= Some(49 * MIB), "{:?}", runs.outcome);
        },
        // Looked at from time to time: what is too much is found and ended, not prevented.
        approximated: Some(|runs| {
            runs.ended_as(Verdict::MemoryLimit, "memory");
            assert!(runs.outcome.usage.wall_time < promise(), "{:?}", runs.outcome);
        })
    }
    swap {
        ask: |spec| spec.memory(32 * MIB).swap(16 * MIB),
        // Not more: pages on their way out count as both.
        within: &["alloc", "24m"],
        // All the swap of the virtual machines would be enough for it.
        breaks: &["alloc", "72m", "20"],
        enforced: |runs| {
            runs.ended_as(Verdict::MemoryLimit, "memory");
            assert!(runs.outcome.stdout.is_empty(), "{:?}", runs.outcome);
            if let (true, Some(swapped)) = (host_swaps(), runs.outcome.usage.swap_peak) {
                assert!((1..=17 * MIB).contains(&swapped), "{:?}", runs.outcome);
            }
        },
        without: Some(|runs| {
            // What can be said of memory alone is another row's.
            let ended = runs.outcome.verdict;
            assert!(matches!(ended, Verdict::Ok | Verdict::MemoryLimit | Verdict::WallTimeLimit), "{:?}", runs.outcome);
        })
    }
    pids {
        ask: |spec| spec.pids(10),
        within: &["pids", "9"],
        breaks: &["pids", "100"],
        enforced: |runs| {
            // The limit counts the program itself.
            assert_eq!(runs.said("started"), 9, "{:?}", runs.outcome);
            runs.said_error("EAGAIN");
        },
        without: Some(|runs| assert_eq!(runs.said("started"), 100, "{:?}", runs.outcome))
    }
    cpu_time {
        ask: |spec| spec.cpu_time(cpu_time_limit()),
        within: &["spin", "0.1"],
        breaks: &["children-spin", "3", "20"],
        enforced: |runs| stopped_by_cpu_time(runs, Duration::from_millis(100)),
        // What ends unseen between two looks is missed, what lives is not.
        approximated: Some(|runs| stopped_by_cpu_time(runs, Duration::from_millis(200)))
    }
    wall_time {
        ask: |spec| spec.wall_time(Duration::from_millis(300) * slowness()),
        within: &["sleep", "0.05"],
        breaks: &["sleep", "25"],
        enforced: |runs| {
            runs.ended_as(Verdict::WallTimeLimit, "wall_time");
            let limit = Duration::from_millis(300) * slowness();
            let ran = runs.outcome.usage.wall_time;
            assert!(ran >= limit && ran < limit + promise(), "{:?}", runs.outcome);
        }
    }
    cpus {
        ask: |spec| spec.cpus(0.5),
        breaks: &["spin", "0.25", "2"],
        enforced: |runs| {
            runs.ended_well();
            let usage = &runs.outcome.usage;
            assert!(usage.cpu_time >= Duration::from_millis(490), "{usage:?}");
            // What is held back in one period may be used at the beginning of the next.
            let most = usage.wall_time / 2 + Duration::from_millis(100) * slowness().min(3);
            assert!(usage.cpu_time <= most, "{usage:?}");
        },
        without: Some(Runs::ended_well)
    }
    cpu_weight {
        ask: |spec| spec.cpu_weight(10),
        breaks: &["spin", "25", "8"],
        beside: Some(|| guest_spec(["spin", "25", "8"]).cpu_weight(1000)),
        // Both want more processors than there are. A hundredth of the other's share is too little to see, but a third
        // would be too much.
        enforced: |runs| {
            let (light, heavy) = runs.watched.expect("both ran");
            assert!(light * 3 < heavy, "{light:?} beside {heavy:?}");
        },
        without: Some(Runs::was_killed)
    }
    oom_group {
        ask: |spec| spec.memory(48 * MIB).oom_group(false),
        breaks: &["outlive", "alloc", "200m", "2"],
        enforced: |runs| {
            runs.ended_well();
            assert_eq!(runs.outcome.usage.oom_kills, Some(1), "{:?}", runs.outcome);
        },
        without: Some(|runs| runs.ended_as(Verdict::MemoryLimit, "memory"))
    }
    cpu_idle {
        ask: |spec| spec.cpu_idle(true),
        breaks: &["spin", "25", "8"],
        beside: Some(|| guest_spec(["spin", "25", "8"]).cpu_weight(100)),
        enforced: |runs| {
            let (idle, busy) = runs.watched.expect("both ran");
            assert!(idle * 3 < busy, "{idle:?} beside {busy:?}");
        },
        approximated: Some(Runs::was_killed)
    }
    cpuset_cpus {
        ask: |spec| spec.cpuset_cpus("0"),
        breaks: &["sched-undo"],
        enforced: |runs| assert_eq!(fields(&runs.outcome)["cpus"], "0"),
        approximated: Some(Runs::ended_well)
    }
    nice {
        ask: |spec| spec.nice(7),
        breaks: &["sched-undo"],
        enforced: |runs| assert_eq!(runs.said("nice"), 7),
        // It is held, but does not count everywhere.
        approximated: Some(|runs| assert_eq!(runs.said("nice"), 7))
    }
    oom_score_adj {
        ask: |spec| spec.oom_score_adj(700),
        breaks: &["sched"],
        enforced: |_| panic!("the program can lower it again"),
        approximated: Some(|runs| assert_eq!(runs.said("oom_score_adj"), 700))
    }
    io_read_bps {
        lacks: no_disk,
        ask: |spec| on_disk(|disk| spec.volume(disk.volume()).io_read_bps(disk.rate(4 * MIB))),
        breaks: &["direct", "read", "/disk/file", "4m"],
        enforced: took_a_second,
        without: Some(Runs::ended_well)
    }
    io_write_bps {
        lacks: no_disk,
        ask: |spec| on_disk(|disk| spec.volume(disk.volume()).io_write_bps(disk.rate(4 * MIB))),
        breaks: &["direct", "write", "/disk/file", "4m"],
        enforced: took_a_second,
        approximated: Some(took_a_second),
        without: Some(Runs::ended_well)
    }
    io_read_iops {
        lacks: no_disk,
        ask: |spec| on_disk(|disk| spec.volume(disk.volume()).io_read_iops(disk.rate(64))),
        breaks: &["direct", "read", "/disk/file", "256k", "4k"],
        enforced: took_a_second,
        without: Some(Runs::ended_well)
    }
    io_write_iops {
        lacks: no_disk,
        ask: |spec| on_disk(|disk| spec.volume(disk.volume()).io_write_iops(disk.rate(64))),
        breaks: &["direct", "write", "/disk/file", "256k", "4k"],
        enforced: took_a_second,
        approximated: Some(took_a_second),
        without: Some(Runs::ended_well)
    }
    io_weight {
        // A share of a disk that has to be fought for is not to be measured here; that the kernel takes it is.
        ask: |spec| spec.io_weight(50),
        breaks: &["true"],
        enforced: Runs::ended_well,
        without: Some(Runs::ended_well)
    }
    hugetlb {
        lacks: || (free_huge_pages() < 8).then_some("the host has no pool of huge pages (vm.nr_hugepages)"),
        ask: |spec| spec.hugetlb(HugePages { size: 2 * MIB, limit: 4 * MIB }),
        within: &["huge", "4m"],
        breaks: &["huge", "8m"],
        enforced: |runs| assert_eq!(runs.outcome.signal, Some(libc::SIGBUS), "{:?}", runs.outcome),
        without: Some(Runs::ended_well)
    }
    output {
        ask: |spec| spec.output(1000),
        within: &["write-stdout", "1000"],
        breaks: &["flood"],
        enforced: |runs| {
            runs.ended_as(Verdict::OutputLimit, "output");
            assert_eq!(runs.outcome.stdout.len(), 1000);
        }
    }
    file_size {
        ask: |spec| spec.file_size(MIB),
        within: &["fsize", "/work/f", "1m"],
        breaks: &["fsize", "/work/f", "2m"],
        enforced: |runs| {
            assert_eq!(runs.said("written"), MIB, "{:?}", runs.outcome);
            runs.said_error("EFBIG");
        }
    }
    open_files {
        ask: |spec| spec.open_files(50),
        breaks: &["open-fds"],
        enforced: |runs| {
            // Beside the three standard streams.
            assert_eq!(runs.said("opened"), 47, "{:?}", runs.outcome);
            runs.said_error("EMFILE");
        }
    }
    stack {
        ask: |spec| spec.stack(MIB),
        within: &["stack", "768k"],
        breaks: &["stack", "1100k"],
        enforced: |runs| {
            assert_eq!(runs.outcome.signal, Some(libc::SIGSEGV), "{:?}", runs.outcome);
        }
    }
    disk {
        ask: |spec| spec.disk(8 * MIB),
        within: &["write-file", "/work/f", "7m"],
        breaks: &["write-file", "/work/f", "9m"],
        enforced: |runs| {
            runs.ended_as(Verdict::DiskLimit, "disk");
            assert!(runs.said("written") <= 8 * MIB, "{:?}", runs.outcome);
            runs.said_error("ENOSPC");
        }
    }
    inodes {
        ask: |spec| spec.inodes(100),
        within: &["many-files", "/work", "80"],
        breaks: &["many-files", "/work", "101"],
        enforced: |runs| {
            runs.ended_as(Verdict::DiskLimit, "inodes");
            assert!(runs.said("made") <= 100, "{:?}", runs.outcome);
            runs.said_error("ENOSPC");
        }
    }
}

/// An emulated processor counts also while it waits for a real one.
fn cpu_time_limit() -> Duration {
    Duration::from_millis(400) * slowness().min(4)
}

fn stopped_by_cpu_time(runs: &Runs, slack: Duration) {
    runs.ended_as(Verdict::TimeLimit, "cpu_time");
    let limit = cpu_time_limit();
    let used = runs.outcome.usage.cpu_time;
    assert!(
        used >= limit - Duration::from_millis(1) && used < limit + slack * slowness(),
        "{:?}",
        runs.outcome
    );
}

thread_local! {
    /// Each test has a thread of its own, at whose end it is removed.
    static DISK: Option<OnDisk> = OnDisk::find();
}

fn no_disk() -> Option<&'static str> {
    DISK.with(|disk| disk.is_none().then_some("/var/tmp is on no block device"))
}

fn on_disk(ask: impl FnOnce(&OnDisk) -> Spec) -> Spec {
    DISK.with(|disk| ask(disk.as_ref().expect("it is not lacking")))
}

/// What it does is a second's worth of the rate, less what a burst may bring.
fn took_a_second(runs: &Runs) {
    runs.ended_well();
    let time = runs.outcome.usage.wall_time;
    assert!(time > Duration::from_millis(700), "{:?}", runs.outcome);
}

/// Whether there is swap to be had.
fn host_swaps() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().count() > 1
}

/// Holds what is said of a limit against what happens to a program that breaks it.
fn prove(row: &Row) {
    if let Some(why) = (row.lacks)() {
        skip!("{why}");
    }
    let within = (row.ask)(guest_spec(row.within)).enforce(Enforce::BestEffort);
    let within = within.run().expect("the sandbox starts");
    assert_eq!(within.verdict, Verdict::Ok, "within the limit: {within:?}");

    match run(row, Enforce::Strict) {
        Ok(runs) => {
            let Enforcement { by, .. } = &runs.outcome.enforcement[row.limit];
            match status(&runs.outcome, row.limit) {
                EnforcementStatus::Enforced => {
                    (row.enforced)(&runs);
                    say(row, "enforced", by);
                }
                EnforcementStatus::Approximated => {
                    let check = row.approximated.expect("it is never only approximated");
                    check(&runs);
                    say(row, "approximated", by);
                }
                EnforcementStatus::NotEnforced => {
                    panic!("strict, and run without: {:?}", runs.outcome.enforcement)
                }
            }
        }
        Err(error) => {
            let reason = refused(row, &error);
            let runs = run(row, Enforce::BestEffort).expect("it is run without the limit");
            assert_eq!(
                status(&runs.outcome, row.limit),
                EnforcementStatus::NotEnforced
            );
            // The same words, before and after.
            assert_eq!(runs.outcome.enforcement[row.limit].by, reason);
            (row.without.expect("every host can hold it"))(&runs);
            say(row, "refused", &reason);
        }
    }
}

/// Runs the program that breaks the limit.
fn run(row: &Row, enforce: Enforce) -> Result<Runs, Error> {
    let spec = (row.ask)(guest_spec(row.breaks)).enforce(enforce);
    let Some(beside) = row.beside else {
        let outcome = spec.run()?;
        return Ok(Runs {
            outcome,
            watched: None,
        });
    };
    let process = spec.spawn()?;
    // Only then the other: beside it a program that gets nothing would not even begin.
    process.pid();
    let other = beside().enforce(Enforce::BestEffort).spawn()?;
    let cpu_time =
        |of: &Process| -> Result<Duration, Error> { Ok(of.stats()?.expect("it runs").cpu_time) };
    let used = || -> Result<_, Error> { Ok((cpu_time(&process)?, cpu_time(&other)?)) };
    while used()?.1.is_zero() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = used()?;
    std::thread::sleep(Duration::from_millis(1500) + Duration::from_millis(200) * slowness());
    let after = used()?;
    process.kill()?;
    other.kill()?;
    other.wait()?;
    Ok(Runs {
        outcome: process.wait()?,
        watched: Some((after.0 - before.0, after.1 - before.1)),
    })
}

/// A refusal names the limit and says what to do; the reason in it.
fn refused(row: &Row, error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let text = error.to_string();
    let start = format!("{}: nothing on this host can enforce it: ", row.limit);
    let reason = text
        .strip_prefix(&start)
        .unwrap_or_else(|| panic!("it does not begin with `{start}`: {text}"));
    let (reason, remedy) = reason.rsplit_once(". ").expect("a remedy");
    assert!(
        remedy.contains("cgroup_parent") && remedy.contains("enforce=best-effort"),
        "{text}"
    );
    reason.into()
}

fn say(row: &Row, status: &str, by: &str) {
    say_aloud(&format!("truth: {}: {status}: {by}", row.limit));
}

/// What a specification has that is no limit.
const OTHERS: &[&str] = &[
    "args",
    "cgroup_parent",
    "cwd",
    "deterministic",
    "enforce",
    "env",
    "files",
    "entrypoint",
    "hostname",
    "image",
    "input",
    "isolation",
    "network",
    "stop_signal",
    "output_overflow",
    "profile",
    "read_only",
    "overlay",
    "output_file_size",
    "outputs",
    "overlay",
    "read_only",
    "rootfs",
    "stderr",
    "stdin",
    "stdout",
    "store",
    "tmpfs",
    "upper_dir",
    "uptime",
    "user",
    "volumes",
];

#[test]
fn no_limit_is_left_unproven() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    say_aloud(&format!("truth: kernel: Linux {}", release.trim()));
    let spec = Spec::new(["true"]).to_json().expect("JSON");
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
    for key in spec.as_object().expect("an object").keys() {
        let known = PROVEN.contains(&key.as_str()) || OTHERS.contains(&key.as_str());
        assert!(
            known,
            "`{key}` has no block of `limits!`, and is not said to be no limit"
        );
    }
    for limit in PROVEN {
        assert!(
            spec.get(limit).is_some(),
            "`{limit}` is not in a specification"
        );
    }
}
