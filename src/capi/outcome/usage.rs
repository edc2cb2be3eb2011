//! The figures of what a run used.

use super::{stockade_outcome, text};
use crate::capi::ffi::{c_string, known, read};
use crate::outcome::Usage;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::null;
use std::time::Duration;

/// CPU time of the whole tree, user and system, nanoseconds.
pub const STOCKADE_USAGE_CPU_TIME: c_int = 0;
/// The user part, nanoseconds.
pub const STOCKADE_USAGE_CPU_USER: c_int = 1;
/// The system part, nanoseconds.
pub const STOCKADE_USAGE_CPU_SYSTEM: c_int = 2;
/// From the program's start to its end, nanoseconds.
pub const STOCKADE_USAGE_WALL_TIME: c_int = 3;
/// The most memory the sandbox held at one time, bytes.
pub const STOCKADE_USAGE_MEMORY_PEAK: c_int = 4;
/// The largest resident set of one process, bytes.
pub const STOCKADE_USAGE_MAX_RSS: c_int = 5;
/// 1 if the kernel's OOM killer ended a process of the sandbox for its memory limit, else 0.
pub const STOCKADE_USAGE_OOM_KILLED: c_int = 6;
/// The most processes and threads at one time.
pub const STOCKADE_USAGE_PIDS_PEAK: c_int = 7;
/// Voluntary context switches.
pub const STOCKADE_USAGE_CSW_VOLUNTARY: c_int = 8;
/// Forced context switches.
pub const STOCKADE_USAGE_CSW_FORCED: c_int = 9;
/// How long the CPU controller held the sandbox back, nanoseconds.
pub const STOCKADE_USAGE_THROTTLED_TIME: c_int = 10;
/// Bytes read from block devices.
pub const STOCKADE_USAGE_IO_READ: c_int = 11;
/// Bytes written to block devices.
pub const STOCKADE_USAGE_IO_WRITE: c_int = 12;
/// Bytes in the writable file system at the end.
pub const STOCKADE_USAGE_DISK_USED: c_int = 13;
/// Files and directories there.
pub const STOCKADE_USAGE_INODES_USED: c_int = 14;
/// The part of the memory that was anonymous when the supervisor saw the most in use, bytes.
pub const STOCKADE_USAGE_MEMORY_ANON: c_int = 15;
/// The part that was page cache of files on disks, at the same time, bytes.
pub const STOCKADE_USAGE_MEMORY_FILE: c_int = 16;
/// The part that was shared memory and memory file systems, at the same time, bytes.
pub const STOCKADE_USAGE_MEMORY_SHMEM: c_int = 17;
/// The part that was the kernel's own for the sandbox, at the same time, bytes.
pub const STOCKADE_USAGE_MEMORY_KERNEL: c_int = 18;
/// The most swap in use at one time, bytes.
pub const STOCKADE_USAGE_SWAP_PEAK: c_int = 19;
/// How many processes of the sandbox the kernel's OOM killer ended, for whichever limit or want.
pub const STOCKADE_USAGE_OOM_KILLS: c_int = 20;
/// How often the memory limit was run into, mostly with page cache given back and no harm done.
pub const STOCKADE_USAGE_MEMORY_LIMIT_HITS: c_int = 21;
/// How often a fork or a new thread was refused for the pids limit.
pub const STOCKADE_USAGE_PIDS_LIMIT_HITS: c_int = 22;
/// In how many periods of 100 ms the CPU controller held the sandbox back.
pub const STOCKADE_USAGE_THROTTLED_PERIODS: c_int = 23;
/// How long some thread of the sandbox was ready to run and had no processor (PSI, here and below), nanoseconds.
pub const STOCKADE_USAGE_CPU_PRESSURE_SOME: c_int = 24;
/// How long that held for all threads that were not idle, nanoseconds.
pub const STOCKADE_USAGE_CPU_PRESSURE_FULL: c_int = 25;
/// How long some thread waited for memory, nanoseconds.
pub const STOCKADE_USAGE_MEMORY_PRESSURE_SOME: c_int = 26;
/// How long all did, nanoseconds.
pub const STOCKADE_USAGE_MEMORY_PRESSURE_FULL: c_int = 27;
/// How long some thread waited for block devices, nanoseconds.
pub const STOCKADE_USAGE_IO_PRESSURE_SOME: c_int = 28;
/// How long all did, nanoseconds.
pub const STOCKADE_USAGE_IO_PRESSURE_FULL: c_int = 29;
/// Operations of reading from block devices.
pub const STOCKADE_USAGE_IO_READ_OPS: c_int = 30;
/// Operations of writing to block devices.
pub const STOCKADE_USAGE_IO_WRITE_OPS: c_int = 31;

/// The names of the figures, by their numbers: those of [`Usage`] and of its `sources`.
const NAMES: [&str; 32] = [
    "cpu_time",
    "cpu_user",
    "cpu_system",
    "wall_time",
    "memory_peak",
    "max_rss",
    "oom_killed",
    "pids_peak",
    "csw_voluntary",
    "csw_forced",
    "throttled_time",
    "io_read",
    "io_write",
    "disk_used",
    "inodes_used",
    "memory_anon",
    "memory_file",
    "memory_shmem",
    "memory_kernel",
    "swap_peak",
    "oom_kills",
    "memory_limit_hits",
    "pids_limit_hits",
    "throttled_periods",
    "cpu_pressure_some",
    "cpu_pressure_full",
    "memory_pressure_some",
    "memory_pressure_full",
    "io_pressure_some",
    "io_pressure_full",
    "io_read_ops",
    "io_write_ops",
];

fn figure(usage: &Usage, figure: c_int) -> Option<u64> {
    let nanoseconds = |d: Duration| Some(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
    match figure {
        STOCKADE_USAGE_CPU_TIME => nanoseconds(usage.cpu_time),
        STOCKADE_USAGE_CPU_USER => nanoseconds(usage.cpu_user),
        STOCKADE_USAGE_CPU_SYSTEM => nanoseconds(usage.cpu_system),
        STOCKADE_USAGE_WALL_TIME => nanoseconds(usage.wall_time),
        STOCKADE_USAGE_MEMORY_PEAK => usage.memory_peak,
        STOCKADE_USAGE_MAX_RSS => Some(usage.max_rss),
        STOCKADE_USAGE_OOM_KILLED => Some(u64::from(usage.oom_killed)),
        STOCKADE_USAGE_PIDS_PEAK => usage.pids_peak,
        STOCKADE_USAGE_CSW_VOLUNTARY => Some(usage.csw_voluntary),
        STOCKADE_USAGE_CSW_FORCED => Some(usage.csw_forced),
        STOCKADE_USAGE_THROTTLED_TIME => usage.throttled_time.and_then(nanoseconds),
        STOCKADE_USAGE_IO_READ => usage.io_read,
        STOCKADE_USAGE_IO_WRITE => usage.io_write,
        STOCKADE_USAGE_DISK_USED => usage.disk_used,
        STOCKADE_USAGE_INODES_USED => usage.inodes_used,
        STOCKADE_USAGE_MEMORY_ANON => usage.memory_anon,
        STOCKADE_USAGE_MEMORY_FILE => usage.memory_file,
        STOCKADE_USAGE_MEMORY_SHMEM => usage.memory_shmem,
        STOCKADE_USAGE_MEMORY_KERNEL => usage.memory_kernel,
        STOCKADE_USAGE_SWAP_PEAK => usage.swap_peak,
        STOCKADE_USAGE_OOM_KILLS => usage.oom_kills,
        STOCKADE_USAGE_MEMORY_LIMIT_HITS => usage.memory_limit_hits,
        STOCKADE_USAGE_PIDS_LIMIT_HITS => usage.pids_limit_hits,
        STOCKADE_USAGE_THROTTLED_PERIODS => usage.throttled_periods,
        STOCKADE_USAGE_CPU_PRESSURE_SOME => usage.cpu_pressure_some.and_then(nanoseconds),
        STOCKADE_USAGE_CPU_PRESSURE_FULL => usage.cpu_pressure_full.and_then(nanoseconds),
        STOCKADE_USAGE_MEMORY_PRESSURE_SOME => usage.memory_pressure_some.and_then(nanoseconds),
        STOCKADE_USAGE_MEMORY_PRESSURE_FULL => usage.memory_pressure_full.and_then(nanoseconds),
        STOCKADE_USAGE_IO_PRESSURE_SOME => usage.io_pressure_some.and_then(nanoseconds),
        STOCKADE_USAGE_IO_PRESSURE_FULL => usage.io_pressure_full.and_then(nanoseconds),
        STOCKADE_USAGE_IO_READ_OPS => usage.io_read_ops,
        STOCKADE_USAGE_IO_WRITE_OPS => usage.io_write_ops,
        _ => None,
    }
}

/// One figure of what the run used, by its STOCKADE_USAGE_ number: true and the value if it is known; false (and value
/// untouched) if nothing on this host gives it, or if this library does not know the number. value may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_usage(
    outcome: Option<&stockade_outcome>,
    usage: c_int,
    value: Option<&mut MaybeUninit<u64>>,
) -> bool {
    known(
        value,
        read(outcome, None, |o| figure(&o.outcome.usage, usage)),
    )
}

/// Where a figure comes from ("cgroup v2 cpu.stat"), or NULL if it does not say.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_usage_source(
    outcome: Option<&stockade_outcome>,
    usage: c_int,
) -> *const c_char {
    read(outcome, null(), |o| {
        let source = |name: &&str| o.outcome.usage.sources.get(*name).map(|s| c_string(s));
        let sources: &[Option<CString>] =
            o.sources.get_or_init(|| NAMES.iter().map(source).collect());
        usize::try_from(usage)
            .ok()
            .and_then(|number| sources.get(number))
            .map_or(null(), text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_usage_has_a_number() {
        let json = serde_json::to_value(Usage::default()).unwrap();
        let mut fields: Vec<&str> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut named = NAMES.to_vec();
        named.push("sources");
        fields.sort_unstable();
        named.sort_unstable();
        assert_eq!(fields, named);
    }

    #[test]
    fn each_number_reads_its_own_field() {
        let json = |name: &str, value: u64| {
            let mut usage = serde_json::to_value(Usage::default()).unwrap();
            usage[name] = match name {
                "oom_killed" => serde_json::Value::Bool(value != 0),
                _ => value.into(),
            };
            serde_json::from_value::<Usage>(usage).unwrap()
        };
        for (number, name) in NAMES.iter().enumerate() {
            let expected = match *name {
                "oom_killed" => 1,
                name if name.starts_with("cpu_")
                    || name.ends_with("_time")
                    || name.contains("_pressure_") =>
                {
                    1_000_000_000
                }
                _ => 1,
            };
            let number = c_int::try_from(number).unwrap();
            assert_eq!(figure(&json(name, 1), number), Some(expected), "{name}");
        }
        let unknown: Vec<&str> = NAMES
            .iter()
            .enumerate()
            .filter(|(n, _)| figure(&Usage::default(), *n as c_int).is_none())
            .map(|(_, name)| *name)
            .collect();
        assert_eq!(
            unknown,
            [
                "memory_peak",
                "pids_peak",
                "throttled_time",
                "io_read",
                "io_write",
                "disk_used",
                "inodes_used",
                "memory_anon",
                "memory_file",
                "memory_shmem",
                "memory_kernel",
                "swap_peak",
                "oom_kills",
                "memory_limit_hits",
                "pids_limit_hits",
                "throttled_periods",
                "cpu_pressure_some",
                "cpu_pressure_full",
                "memory_pressure_some",
                "memory_pressure_full",
                "io_pressure_some",
                "io_pressure_full",
                "io_read_ops",
                "io_write_ops"
            ]
        );
    }
}
