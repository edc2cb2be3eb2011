//! Rung 3: the controllers of cgroup v1, each where it can be written: as root, or in what an administrator has given away.

use super::host::Host;
use super::layout::{CPUSET, CPUSET_MEMORY, Setting, Words, setting};
use super::refused::{Refused, unless_short};
use super::v2::{PERIOD, quota, swapless};
use super::{Base, Cgroup, Controllers, Prepared, Swap, keyed, sweep};
use crate::error::Error;
use crate::outcome::Usage;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Each is a hierarchy that every run makes a group in and enters.
const WANTED: [&str; 3] = ["memory", "pids", "cpuacct"];
/// The controller of block devices.
const IO: &str = "blkio";
/// Clock ticks of cpuacct.stat.
const TICK: Duration = Duration::from_millis(10);

pub(super) const WORDS: Words = Words {
    // The program's process, which has one thread when it enters, writes here. By `cgroup.procs` the kernel locks against
    // every fork of the host first, which takes 8 ms after some idle time; moving one's own thread needs no such lock.
    enter: "tasks",
    memory: "memory.limit_in_bytes",
    clock: ("cpuacct.usage", "", 1),
    bandwidth: |cpus| {
        vec![
            setting("cpu.cfs_period_us", PERIOD),
            setting("cpu.cfs_quota_us", quota(cpus)),
        ]
    },
    weight: |weight| setting("cpu.shares", (weight * SHARES_DEFAULT / 100).max(2)),
    io: IO,
    io_max,
    hugetlb: |size| format!("hugetlb.{size}.limit_in_bytes"),
};

/// After an OOM kill the kernel lets the rest of the group go on.
pub(super) const OOM: &str = "memory.oom_control";
/// What to read at the end: controller and file. `cpuacct.usage` stands before `cpuacct.stat`, which shares it out.
pub(super) const READS: [(&str, &str); 11] = [
    ("cpuacct", "cpuacct.usage"),
    ("cpuacct", "cpuacct.stat"),
    ("memory", "memory.max_usage_in_bytes"),
    ("memory", OOM),
    ("memory", FAILURES),
    ("memory", FAILURES_WITH_SWAP),
    ("pids", "pids.peak"),
    ("pids", "pids.events"),
    ("cpu", "cpu.stat"),
    (IO, IO_BYTES),
    (IO, IO_OPERATIONS),
];
/// How often the limit was run into: that on memory and swap together is tried first, and counts by itself.
const FAILURES: &str = "memory.failcnt";
const FAILURES_WITH_SWAP: &str = "memory.memsw.failcnt";
const IO_BYTES: &str = "blkio.throttle.io_service_bytes";
const IO_OPERATIONS: &str = "blkio.throttle.io_serviced";
/// What the supervisor looks at while the program runs.
pub(super) const LOOKS: [(&str, &str); 5] = [
    ("memory", CURRENT),
    ("memory", STAT),
    ("memory", KERNEL),
    ("memory", MEMORY_SWAP),
    ("pids", super::PIDS_CURRENT),
];
pub(super) const CURRENT: &str = "memory.usage_in_bytes";
pub(super) const STAT: &str = "memory.stat";
pub(super) const KERNEL: &str = "memory.kmem.usage_in_bytes";
/// Memory and swap together.
pub(super) const MEMORY_SWAP: &str = "memory.memsw.usage_in_bytes";
/// What v2 calls a weight of 100.
const SHARES_DEFAULT: u64 = 1024;

/// A file for each kind of rate, with a line for a device.
fn io_max(device: &str, rates: [Option<u64>; 4]) -> Vec<Setting> {
    let files = [
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ];
    let set = |(file, rate): (&'static str, Option<u64>)| {
        Some(setting(file, format!("{device} {}", rate?)))
    };
    files.into_iter().zip(rates).filter_map(set).collect()
}

pub(super) fn swap(cgroup: &Cgroup) -> Result<Option<Swap>, Error> {
    let Some(dir) = cgroup.dir("memory") else {
        return Ok(None);
    };
    let (counted, swappiness) = ("memory.memsw.limit_in_bytes", "memory.swappiness");
    if cgroup.shows(dir, counted)? {
        Ok(Some(Swap::Counted(counted)))
    } else if cgroup.shows(dir, swappiness)? {
        Ok(Some(Swap::Forbidden(swappiness)))
    } else {
        swapless()
    }
}

/// Prepares a base in this process's own group of each hierarchy.
pub(super) fn prepare(host: &Host, name: &str, more: Controllers) -> Result<Prepared, Refused> {
    let mut bases: Vec<Base> = Vec::new();
    let mut lacks = Vec::new();
    for controller in WANTED.into_iter().chain(more.names(IO)) {
        let Some(parent) = host.own_v1(controller) else {
            lacks.push(format!("{controller} is not mounted"));
            continue;
        };
        let path = parent.join(name);
        // Controllers can share a hierarchy.
        if let Some(base) = bases.iter_mut().find(|base| base.path == path) {
            base.controllers.push(controller);
            continue;
        }
        sweep::sweep(&parent);
        let made = fs::create_dir(&path).and_then(|()| match controller {
            "cpuset" => inherit(&parent, &path).inspect_err(|_| sweep::remove_tree(&path)),
            _ => Ok(()),
        });
        match made {
            Ok(()) => bases.push(Base {
                path,
                controllers: vec![controller],
            }),
            Err(e) => {
                let what = format!("no group can be made in `{}`", parent.display());
                match Refused::making(what, e) {
                    Refused::Why(why) => lacks.push(why),
                    short => {
                        bases.iter().for_each(|base| sweep::remove_tree(&base.path));
                        return Err(short);
                    }
                }
            }
        }
    }
    if WANTED.iter().all(|c| host.own_v1(c).is_none()) {
        Err("not mounted".into())
    } else if bases.is_empty() {
        Err(lacks.join(", ").into())
    } else {
        Ok(Prepared { bases, lacks })
    }
}

/// Gives a new group of the cpuset controller what `parent` has: it would have no processors and no memory.
fn inherit(parent: &Path, path: &Path) -> io::Result<()> {
    for file in [CPUSET, CPUSET_MEMORY] {
        let all = fs::read(parent.join(file))?;
        fs::write(path.join(file), all)?;
    }
    Ok(())
}

/// Processors and memory nodes of the base of the cpuset controller, which a run has that asks for no others.
pub(super) fn cpuset(cgroup: &Cgroup) -> Result<Option<(String, String)>, Error> {
    let Some(dir) = cgroup.dir("cpuset") else {
        return Ok(None);
    };
    let base = &cgroup.bases[usize::from(dir)].path;
    let read = |file: &str| {
        let text = unless_short(fs::read_to_string(base.join(file)), file)?;
        Ok::<_, Error>(text.ok().map(|text| text.trim().to_string()))
    };
    Ok(read(CPUSET)?.zip(read(CPUSET_MEMORY)?))
}

pub(super) fn fill(file: &str, text: &str, usage: &mut Usage) {
    let from = format!("cgroup v1 {file}");
    match file {
        "cpuacct.usage" => {
            if let Ok(ns) = text.trim().parse() {
                usage.source(&["cpu_time"], &from);
                usage.cpu_time = Duration::from_nanos(ns);
            }
        }
        "cpuacct.stat" => {
            let ticks = |key| keyed(text, key).map(|n| TICK * u32::try_from(n).unwrap_or(u32::MAX));
            if let (Some(user), Some(system)) = (ticks("user"), ticks("system")) {
                // In ticks only, but the sum is exact: share it out in the same proportion.
                let all = usage.cpu_time;
                let part = match (user + system).as_secs_f64() {
                    0.0 => 1.0,
                    sum => user.as_secs_f64() / sum,
                };
                usage.cpu_user = all.mul_f64(part);
                usage.cpu_system = all - usage.cpu_user.min(all);
                let from =
                    format!("{from}, which counts ticks of 10 ms: its proportion of cpu_time");
                usage.source(&["cpu_user", "cpu_system"], &from);
            }
        }
        "cpu.stat" => {
            usage.throttled_time = keyed(text, "throttled_time").map(Duration::from_nanos);
            usage.throttled_periods = keyed(text, "nr_throttled");
            usage.source(&["throttled_time", "throttled_periods"], &from);
        }
        "memory.max_usage_in_bytes" => {
            usage.source(&["memory_peak"], &from);
            usage.memory_peak = text.trim().parse().ok();
        }
        OOM => {
            usage.oom_kills = keyed(text, "oom_kill");
            usage.oom_killed = usage.oom_kills.is_some_and(|n| n > 0);
            usage.source(&["oom_killed", "oom_kills"], &from);
        }
        FAILURES | FAILURES_WITH_SWAP => {
            // Linux 6.18 counts no failures there, so that none may mean some.
            if let Some(hits) = text.trim().parse().ok().filter(|n: &u64| *n > 0) {
                usage.memory_limit_hits = Some(usage.memory_limit_hits.unwrap_or(0) + hits);
                let both = "cgroup v1 memory.failcnt and memory.memsw.failcnt";
                usage.source(&["memory_limit_hits"], both);
            }
        }
        "pids.events" => {
            usage.source(&["pids_limit_hits"], &from);
            usage.pids_limit_hits = keyed(text, "max");
        }
        IO_BYTES => {
            (usage.io_read, usage.io_write) = (Some(io(text, "Read")), Some(io(text, "Write")));
            usage.source(&["io_read", "io_write"], &from);
        }
        IO_OPERATIONS => {
            usage.io_read_ops = Some(io(text, "Read"));
            usage.io_write_ops = Some(io(text, "Write"));
            usage.source(&["io_read_ops", "io_write_ops"], &from);
        }
        "pids.peak" => {
            usage.source(&["pids_peak"], &from);
            usage.pids_peak = text.trim().parse().ok();
        }
        _ => {}
    }
}

/// A kill without this group's own limit having been reached is for a group further up, or for the whole host.
pub(super) fn judge_kills(limit: Option<u64>, usage: &mut Usage) {
    // Each processor may hold that much of what is charged in reserve.
    const BATCHES: u64 = 4 << 20;
    let peak = usage.memory_peak.unwrap_or(0);
    let full = limit.is_some_and(|limit| peak.saturating_add(BATCHES.min(limit / 4)) >= limit);
    usage.oom_killed &= full || usage.memory_limit_hits.is_some();
}

/// The sum over all devices of one kind of line: `8:0 Read 4096`.
fn io(text: &str, kind: &str) -> u64 {
    let number = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == kind)
            .then(|| words.next()?.parse::<u64>().ok())
            .flatten()
    };
    text.lines().filter_map(number).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_from_files() {
        let mut usage = Usage::default();
        fill("cpuacct.usage", "1000000000\n", &mut usage);
        fill("cpuacct.stat", "user 75\nsystem 25\n", &mut usage);
        let oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
        fill("memory.oom_control", oom, &mut usage);
        fill("memory.max_usage_in_bytes", "8192\n", &mut usage);
        assert_eq!(usage.cpu_user, Duration::from_millis(750));
        assert_eq!(usage.cpu_system, Duration::from_millis(250));
        assert!(usage.oom_killed);
        assert_eq!(usage.memory_peak, Some(8192));
    }

    #[test]
    fn a_kill_for_a_group_above_is_not_for_the_own_limit() {
        for (failures, peak, own) in [("3\n", 1, true), ("0\n", 64, true), ("0\n", 32, false)] {
            let mut usage = Usage::default();
            let oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
            fill(OOM, oom, &mut usage);
            fill(FAILURES, failures, &mut usage);
            usage.memory_peak = Some(peak << 20);
            judge_kills(Some(64 << 20), &mut usage);
            assert_eq!((usage.oom_killed, usage.oom_kills), (own, Some(1)));
        }
    }

    #[test]
    fn io_of_all_devices() {
        let mut usage = Usage::default();
        let text =
            "8:0 Read 4096\n8:0 Write 1\n8:0 Sync 1\n8:16 Read 4\n8:16 Write 2\nTotal 4103\n";
        fill(IO_BYTES, text, &mut usage);
        assert_eq!((usage.io_read, usage.io_write), (Some(4100), Some(3)));
    }

    #[test]
    fn a_short_run_has_no_ticks() {
        let mut usage = Usage::default();
        fill("cpuacct.usage", "700000\n", &mut usage);
        fill("cpuacct.stat", "user 0\nsystem 0\n", &mut usage);
        assert_eq!(usage.cpu_time, Duration::from_micros(700));
        assert_eq!(usage.cpu_user + usage.cpu_system, usage.cpu_time);
    }
}
