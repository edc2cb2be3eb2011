//! Rung 1: a subtree of the unified hierarchy (Linux's admin-guide/cgroup-v2).

use super::host::Host;
use super::layout::{Setting, Words, setting};
use super::refused::{self, Refused, exists, may_write};
use super::{Base, Cgroup, Controllers, Prepared, Swap, keyed, sweep, systemd};
use crate::error::Error;
use crate::outcome::Usage;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The controllers used: CPU time is counted in every group without one, and each costs in every run's mkdir.
const WANTED: [&str; 2] = ["memory", "pids"];
/// The controller of block devices.
const IO: &str = "io";

pub(super) const WORDS: Words = Words {
    // Where entering is done by writing.
    enter: "cgroup.procs",
    memory: "memory.max",
    clock: ("cpu.stat", "usage_usec", 1000),
    bandwidth: |cpus| vec![setting("cpu.max", format!("{} {PERIOD}", quota(cpus)))],
    weight: |weight| setting("cpu.weight", weight),
    io: IO,
    io_max,
    hugetlb: |size| format!("hugetlb.{size}.max"),
};

/// The kernel's own default, in microseconds.
pub(super) const PERIOD: u32 = 100_000;
pub(super) const OOM_GROUP: &str = "memory.oom.group";
/// The most memory that was in use: since Linux 5.19.
pub(super) const PEAK: &str = "memory.peak";
/// Before, the supervisor looks from time to time.
pub(super) const CURRENT: &str = "memory.current";
pub(super) const STAT: &str = "memory.stat";
/// The same of swap, the peak since Linux 6.5.
pub(super) const SWAP_PEAK: &str = "memory.swap.peak";
pub(super) const SWAP_CURRENT: &str = "memory.swap.current";
/// What to read at the end: controller and file.
pub(super) const READS: [(&str, &str); 10] = [
    ("", "cpu.stat"),
    ("", "cpu.pressure"),
    ("", "memory.pressure"),
    ("", "io.pressure"),
    ("memory", PEAK),
    ("memory", SWAP_PEAK),
    ("memory", "memory.events"),
    ("pids", "pids.peak"),
    ("pids", "pids.events"),
    (IO, "io.stat"),
];
/// What the supervisor looks at while the program runs.
pub(super) const LOOKS: [(&str, &str); 4] = [
    ("memory", CURRENT),
    ("memory", STAT),
    ("memory", SWAP_CURRENT),
    ("pids", super::PIDS_CURRENT),
];

pub(super) fn swap(cgroup: &Cgroup) -> Result<Option<Swap>, Error> {
    let Some(dir) = cgroup.dir("memory") else {
        return Ok(None);
    };
    let file = "memory.swap.max";
    if cgroup.shows(dir, file)? {
        Ok(Some(Swap::Limited(file)))
    } else {
        swapless()
    }
}

/// [`Swap::Absent`] if this kernel was built without swap.
pub(super) fn swapless() -> Result<Option<Swap>, Error> {
    Ok((!exists(Path::new("/proc/swaps"))?).then_some(Swap::Absent))
}

/// Prepares a base beside this process's own group; in it, where that is the hierarchy's root. `more`: controllers
/// beyond those that every run has.
///
/// A group that holds processes can have no controllers for its children, and the own group holds this one. The root
/// is exempt.
pub(super) fn prepare(host: &Host, name: &str, more: Controllers) -> Result<Prepared, Refused> {
    let own = host
        .own_v2()
        .ok_or("it is not mounted, or this process's group is not in sight")?;
    let parent = match own.parent() {
        _ if is_root(&own)? => own.as_path(),
        Some(above) if exists(&above.join("cgroup.procs"))? => above,
        _ => {
            return Err(Refused::Why(format!(
                "`{}` holds this process, so its children can have no controllers, and no group above it is in \
                 sight: start the program in a group of its own below it",
                own.display()
            )));
        }
    };
    if systemd::manages(parent)? {
        return Err(Refused::Why(format!(
            "`{}`, the group above this process's own, is systemd's to manage",
            parent.display()
        )));
    }
    if !may_write(&parent.join("cgroup.procs"))? {
        return Err(why_not_above(&own, parent)?.into());
    }
    let prepared = prepare_in(parent, name, more);
    prepared.map_err(|no| no.map(|why| format!("`{}`: {why}", parent.display())))
}

/// Why nothing can be made in `parent`, which may not be written, and what to do: that depends on the own group.
fn why_not_above(own: &Path, parent: &Path) -> Result<String, Error> {
    let (own_path, parent) = (own.display(), parent.display());
    if !may_write(&own.join("cgroup.procs"))? {
        return Ok(format!(
            "`{parent}`, the group above this process's own, may not be written: start the program in a delegated group"
        ));
    }
    // The whole of what is delegated is the group that this process is in, and it is not ours to move it.
    Ok(format!(
        "`{own_path}` is delegated, but holds this process, so its children can have no controllers, and `{parent}` \
         above it may not be written: start the program in a child of its group (`DelegateSubgroup=main` in a systemd \
         unit, or in the shell before it: mkdir {own_path}/main && echo $$ > {own_path}/main/cgroup.procs)"
    ))
}

/// Prepares a base in a directory that the caller has named.
pub(super) fn prepare_given(
    host: &Host,
    parent: &Path,
    name: &str,
    more: Controllers,
) -> Result<Prepared, Refused> {
    let not_v2 = "it is not a cgroup v2 directory (an absolute path such as /sys/fs/cgroup/...)";
    if !parent.is_absolute() || !exists(&parent.join("cgroup.controllers"))? {
        return Err(not_v2.into());
    }
    let parent = refused::unless_short(parent.canonicalize(), parent.display())?;
    let parent = parent.map_err(|_| not_v2)?;
    // Whoever puts a process into a group must be allowed to write in the group that holds both where it comes from
    // and where it goes to.
    if let Some(common) = host.common_v2(&parent)
        && !may_write(&common.join("cgroup.procs"))?
    {
        return Err(Refused::Why(format!(
            "the kernel lets nobody be put into it from where this program is, since `{}` holds both and may not be \
             written: start the program in a child of the directory",
            common.display()
        )));
    }
    prepare_in(&parent, name, more)
}

/// The root of the hierarchy is the only group that has no type.
pub(super) fn is_root(dir: &Path) -> Result<bool, Error> {
    Ok(!exists(&dir.join("cgroup.type"))?)
}

/// Prepares a base in `parent`, a group without processes.
pub(super) fn prepare_in(
    parent: &Path,
    name: &str,
    more: Controllers,
) -> Result<Prepared, Refused> {
    let kind = refused::read(&parent.join("cgroup.type"))?;
    if !matches!(kind.trim(), "" | "domain") {
        return Err(Refused::Why(format!(
            "its cgroup.type is `{}`, and threaded groups count no memory: start the program in, or name, a group \
             of type `domain`",
            kind.trim()
        )));
    }
    if !offers_any(parent)? {
        return Err(
            "no memory and pids controllers are delegated to it (its cgroup.controllers)".into(),
        );
    }
    // Enabling a controller in a group that holds processes is refused only for some: others make it and all below it
    // threaded. So it is not even tried.
    if !is_root(parent)? {
        match fs::read_to_string(parent.join("cgroup.procs")) {
            Ok(processes) if processes.is_empty() => {}
            Ok(_) => {
                return Err("it holds processes, so its children can have no controllers: move them to a child of it".into());
            }
            Err(e) => {
                return Err(Refused::by("its processes cannot be listed", e));
            }
        }
    }
    sweep::sweep(parent);
    let path = parent.join(name);
    fs::create_dir(&path).map_err(|e| match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "no group may be made in it: start the program in a delegated group".into()
        }
        Some(libc::EROFS) => "it is mounted read-only".into(),
        _ => Refused::making("making a group in it", e),
    })?;
    let mut changed = Vec::new();
    let prepared = enable(parent, &path, more, &mut changed);
    if prepared.is_err() {
        sweep::remove_tree(&path);
        for controller in changed {
            let _ = fs::write(
                parent.join("cgroup.subtree_control"),
                format!("-{controller}"),
            );
        }
    }
    prepared
}

/// Enables the controllers for the children of `path`, a new group in `parent`; lists those enabled in `parent`.
fn enable(
    parent: &Path,
    path: &Path,
    more: Controllers,
    changed: &mut Vec<&'static str>,
) -> Result<Prepared, Refused> {
    let mut controllers = Vec::new();
    let mut lacks = Vec::new();
    for controller in WANTED.into_iter().chain(more.names(IO)) {
        let mut switch_on = || -> Result<(), Refused> {
            if !words(parent, "cgroup.controllers")?
                .iter()
                .any(|c| c == controller)
            {
                return Err("it is not delegated (cgroup.controllers)".into());
            }
            for dir in [parent, path] {
                if words(dir, "cgroup.subtree_control")?
                    .iter()
                    .any(|c| c == controller)
                {
                    continue;
                }
                fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
                    .map_err(|e| Refused::by("enabling it in cgroup.subtree_control", e))?;
                if dir == parent {
                    changed.push(controller);
                }
            }
            Ok(())
        };
        match switch_on() {
            Ok(()) => controllers.push(controller),
            Err(Refused::Why(why)) => {
                lacks.push(format!("{controller} in `{}`: {why}", parent.display()));
            }
            Err(short) => return Err(short),
        }
    }
    if controllers.is_empty() {
        return Err(lacks.join(", ").into());
    }
    let base = Base {
        path: path.into(),
        controllers,
    };
    Ok(Prepared {
        bases: vec![base],
        lacks,
    })
}

/// Whether any controller that is wanted can be used in `dir`.
pub(super) fn offers_any(dir: &Path) -> Result<bool, Error> {
    let offered = words(dir, "cgroup.controllers")?;
    Ok(WANTED.iter().any(|c| offered.iter().any(|o| o == c)))
}

fn words(dir: &Path, file: &str) -> Result<Vec<String>, Error> {
    let text = refused::read(&dir.join(file))?;
    Ok(text.split_whitespace().map(String::from).collect())
}

/// One line for a device: `8:0 rbps=1048576 wiops=100`.
fn io_max(device: &str, rates: [Option<u64>; 4]) -> Vec<Setting> {
    let keys = ["rbps", "wbps", "riops", "wiops"];
    let words: Vec<String> = std::iter::once(device.to_string())
        .chain(
            keys.iter()
                .zip(rates)
                .filter_map(|(key, rate)| Some(format!("{key}={}", rate?))),
        )
        .collect();
    vec![setting("io.max", words.join(" "))]
}

/// Microseconds in each period of [`PERIOD`].
pub(super) fn quota(cpus: f64) -> u64 {
    (cpus * f64::from(PERIOD)).round() as u64
}

pub(super) fn fill(file: &str, text: &str, usage: &mut Usage) {
    let from = format!("cgroup v2 {file}");
    let micros = |key| keyed(text, key).map(Duration::from_micros);
    match file {
        "cpu.stat" => {
            if let (Some(all), Some(user)) = (micros("usage_usec"), micros("user_usec")) {
                usage.source(&["cpu_time", "cpu_user", "cpu_system"], &from);
                // Each figure is cut to microseconds by itself: the two parts as given need not add up.
                let system = all.saturating_sub(user);
                (usage.cpu_time, usage.cpu_user, usage.cpu_system) = (all, user, system);
            }
            usage.throttled_time = micros("throttled_usec");
            usage.throttled_periods = keyed(text, "nr_throttled");
            if usage.throttled_time.is_some() {
                usage.source(&["throttled_time", "throttled_periods"], &from);
            }
        }
        "cpu.pressure" => {
            usage.cpu_pressure_some = stall(text, "some");
            usage.source(&["cpu_pressure_some"], &from);
            // Linux 5.10 has no such line for processors.
            usage.cpu_pressure_full = stall(text, "full");
            if usage.cpu_pressure_full.is_some() {
                usage.source(&["cpu_pressure_full"], &from);
            }
        }
        "memory.pressure" => {
            usage.memory_pressure_some = stall(text, "some");
            usage.memory_pressure_full = stall(text, "full");
            usage.source(&["memory_pressure_some", "memory_pressure_full"], &from);
        }
        "io.pressure" => {
            usage.io_pressure_some = stall(text, "some");
            usage.io_pressure_full = stall(text, "full");
            usage.source(&["io_pressure_some", "io_pressure_full"], &from);
        }
        PEAK => {
            usage.source(&["memory_peak"], &from);
            usage.memory_peak = text.trim().parse().ok();
        }
        SWAP_PEAK => {
            usage.source(&["swap_peak"], &from);
            usage.swap_peak = text.trim().parse().ok();
        }
        CURRENT => {
            // At the end; the supervisor may have seen more before.
            usage.memory_peak = usage.memory_peak.max(text.trim().parse().ok());
        }
        "memory.events" => {
            let kills = keyed(text, "oom_kill");
            // A kill without this group's own limit having been reached is for one further up, or for the whole host.
            let own = keyed(text, "oom").is_some_and(|n| n > 0);
            usage.oom_killed = own && kills.is_some_and(|n| n > 0);
            usage.oom_kills = kills;
            usage.memory_limit_hits = keyed(text, "max");
            usage.source(&["oom_killed", "oom_kills", "memory_limit_hits"], &from);
        }
        "pids.peak" => {
            usage.source(&["pids_peak"], &from);
            usage.pids_peak = text.trim().parse().ok();
        }
        "pids.events" => {
            usage.source(&["pids_limit_hits"], &from);
            usage.pids_limit_hits = keyed(text, "max");
        }
        "io.stat" => fill_io(text, &from, usage),
        _ => {}
    }
}

/// A line for each device that was used: `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn fill_io(text: &str, from: &str, usage: &mut Usage) {
    let sum = |key: &str| -> u64 {
        text.split_whitespace()
            .filter_map(|word| {
                word.strip_prefix(key)?
                    .strip_prefix('=')?
                    .parse::<u64>()
                    .ok()
            })
            .fold(0, u64::saturating_add)
    };
    usage.io_read = Some(sum("rbytes"));
    usage.io_write = Some(sum("wbytes"));
    usage.io_read_ops = Some(sum("rios"));
    usage.io_write_ops = Some(sum("wios"));
    usage.source(
        &["io_read", "io_write", "io_read_ops", "io_write_ops"],
        from,
    );
}

/// The total of a line of a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, microseconds.
fn stall(text: &str, key: &str) -> Option<Duration> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let total = line.split_once("total=")?.1.trim().parse().ok()?;
    Some(Duration::from_micros(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegated_group_with_the_host_in_it_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        let none = why_not_above(&own, dir.path()).unwrap();
        assert!(
            none.contains("start the program in a delegated group"),
            "{none}"
        );
        fs::write(own.join("cgroup.procs"), "").unwrap();
        let child = format!("mkdir {}/main", own.display());
        let delegated = why_not_above(&own, dir.path()).unwrap();
        assert!(delegated.contains(&child), "{delegated}");
    }

    #[test]
    fn usage_from_files() {
        let mut usage = Usage::default();
        let cpu = "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_throttled 0\nthrottled_usec 5\n";
        fill("cpu.stat", cpu, &mut usage);
        fill("memory.peak", "4096\n", &mut usage);
        fill("pids.peak", "3\n", &mut usage);
        assert_eq!(usage.cpu_time, Duration::from_secs(3));
        assert_eq!(usage.cpu_user, Duration::from_secs(2));
        assert_eq!(usage.throttled_time, Some(Duration::from_micros(5)));
        assert_eq!((usage.memory_peak, usage.pids_peak), (Some(4096), Some(3)));
        assert_eq!(usage.sources["memory_peak"], "cgroup v2 memory.peak");
    }

    #[test]
    fn pressure_events_and_io() {
        let mut usage = Usage::default();
        let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500\n";
        fill("cpu.pressure", some, &mut usage);
        assert_eq!(
            (usage.cpu_pressure_some, usage.cpu_pressure_full),
            (Some(Duration::from_micros(1500)), None)
        );
        assert!(!usage.sources.contains_key("cpu_pressure_full"));
        let full = format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        fill("io.pressure", &full, &mut usage);
        assert_eq!(usage.io_pressure_full, Some(Duration::from_micros(7)));
        fill("pids.events", "max 4\n", &mut usage);
        assert_eq!(usage.pids_limit_hits, Some(4));
        let io = "8:0 rbytes=4096 wbytes=1 rios=2 wios=1 dbytes=0 dios=0\n259:1 rbytes=1 wbytes=8 rios=1 wios=3\n";
        fill("io.stat", io, &mut usage);
        assert_eq!((usage.io_read, usage.io_write), (Some(4097), Some(9)));
        assert_eq!((usage.io_read_ops, usage.io_write_ops), (Some(3), Some(4)));
        let mut none = Usage::default();
        fill("io.stat", "", &mut none);
        assert_eq!(none.io_read, Some(0));
    }

    #[test]
    fn a_peak_that_was_seen_is_not_lost() {
        for (seen, at_the_end, peak) in [(None, "4096\n", 4096), (Some(8192), "4096\n", 8192)] {
            let mut usage = Usage {
                memory_peak: seen,
                ..Usage::default()
            };
            fill(CURRENT, at_the_end, &mut usage);
            assert_eq!(usage.memory_peak, Some(peak));
        }
    }

    #[test]
    fn only_the_own_limit_counts_as_out_of_memory() {
        for (events, killed) in [
            (
                "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n",
                true,
            ),
            (
                "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n",
                false,
            ),
            ("low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n", false),
        ] {
            let mut usage = Usage::default();
            fill("memory.events", events, &mut usage);
            assert_eq!(usage.oom_killed, killed, "{events}");
            assert_eq!(usage.oom_kills, keyed(events, "oom_kill"));
            assert_eq!(usage.memory_limit_hits, keyed(events, "max"));
        }
    }
}
