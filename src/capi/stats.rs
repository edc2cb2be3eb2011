//! `stockade_stats`: what a program that still runs uses.

use super::error::stockade_error;
use super::ffi::{free, give, known, read, required};
use super::process::stockade_process;
use crate::outcome::Stats;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::time::Duration;

/// 1 if the program is paused, else 0.
pub const STOCKADE_STATS_PAUSED: c_int = 0;
/// Since the program's start, nanoseconds.
pub const STOCKADE_STATS_WALL_TIME: c_int = 1;
/// For how long of that it was paused, nanoseconds.
pub const STOCKADE_STATS_PAUSED_TIME: c_int = 2;
/// CPU time until now, user and system, nanoseconds.
pub const STOCKADE_STATS_CPU_TIME: c_int = 3;
/// How long the CPU controller has held it back, nanoseconds.
pub const STOCKADE_STATS_THROTTLED_TIME: c_int = 4;
/// Memory in use now, bytes; as STOCKADE_USAGE_MEMORY_PEAK counts.
pub const STOCKADE_STATS_MEMORY_CURRENT: c_int = 5;
/// The most until now, bytes.
pub const STOCKADE_STATS_MEMORY_PEAK: c_int = 6;
/// Processes and threads now.
pub const STOCKADE_STATS_PIDS_CURRENT: c_int = 7;
/// The most at one time until now.
pub const STOCKADE_STATS_PIDS_PEAK: c_int = 8;

/// What a program that still runs used at one moment: a value that does not change.
pub struct stockade_stats(Stats);

/// What the program and everything it started use now; stats is set to NULL, which is no error, if it has ended: then
/// the outcome says what it used. Takes about 50 microseconds with cgroups. Free the stats with stockade_stats_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_stats(
    process: Option<&stockade_process>,
    stats: Option<&mut MaybeUninit<*mut stockade_stats>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((stats, "stats"), null_mut(), error, || {
        let stats = required(process, "process")?.process().stats()?;
        Ok(stats.map_or(null_mut(), |stats| {
            Box::into_raw(Box::new(stockade_stats(stats)))
        }))
    })
}

/// One figure by its STOCKADE_STATS_ number: true and the value if it is known; false (and value untouched) if nothing
/// on this host gives it, or if this library does not know the number. value may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_stats_figure(
    stats: Option<&stockade_stats>,
    figure: c_int,
    value: Option<&mut MaybeUninit<u64>>,
) -> bool {
    known(value, read(stats, None, |s| number(&s.0, figure)))
}

/// Frees the stats.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_stats_free(stats: Option<Box<stockade_stats>>) {
    free(stats);
}

fn number(stats: &Stats, figure: c_int) -> Option<u64> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).ok();
    match figure {
        STOCKADE_STATS_PAUSED => Some(u64::from(stats.paused)),
        STOCKADE_STATS_WALL_TIME => nanoseconds(stats.wall_time),
        STOCKADE_STATS_PAUSED_TIME => nanoseconds(stats.paused_time),
        STOCKADE_STATS_CPU_TIME => nanoseconds(stats.cpu_time),
        STOCKADE_STATS_THROTTLED_TIME => stats.throttled_time.and_then(nanoseconds),
        STOCKADE_STATS_MEMORY_CURRENT => stats.memory_current,
        STOCKADE_STATS_MEMORY_PEAK => stats.memory_peak,
        STOCKADE_STATS_PIDS_CURRENT => stats.pids_current,
        STOCKADE_STATS_PIDS_PEAK => stats.pids_peak,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_number() {
        let second = Duration::from_secs(1);
        let all = Stats {
            paused: true,
            wall_time: second,
            paused_time: second,
            cpu_time: second,
            throttled_time: Some(second),
            memory_current: Some(1),
            memory_peak: Some(1),
            pids_current: Some(1),
            pids_peak: Some(1),
        };
        let fields = serde_json::to_value(&all).unwrap();
        let count = c_int::try_from(fields.as_object().unwrap().len()).unwrap();
        assert!((0..count).all(|n| number(&all, n).is_some()));
        assert_eq!(number(&all, count), None);
    }
}
