//! `stockade_update`: which limits of a running program are to be others.

use super::error::stockade_error;
use super::ffi::{c_text, call, free, required};
use super::process::stockade_process;
use crate::error::ErrorKind;
use crate::update::Update;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::time::Duration;

/// In place of a limit, in an update: none, as if the specification had none.
pub const STOCKADE_UNLIMITED: u64 = u64::MAX;

/// Limits to change while a program runs: a plain value. A limit that is not set stays as it is; one that is set
/// replaces that of the specification, with the same meaning and range, or takes it away if it is STOCKADE_UNLIMITED.
/// The setters fail only if update is NULL; values are looked at by stockade_process_update.
#[derive(Default)]
pub struct stockade_update(Update);

fn set(update: Option<&mut stockade_update>, change: impl FnOnce(&mut Update)) -> c_int {
    match update {
        Some(update) => {
            change(&mut update.0);
            0
        }
        None => ErrorKind::InvalidArgument as c_int,
    }
}

fn number(value: u64) -> Option<u64> {
    (value != STOCKADE_UNLIMITED).then_some(value)
}

fn time(nanoseconds: u64) -> Option<Duration> {
    number(nanoseconds).map(Duration::from_nanos)
}

/// An update that changes nothing. Free it with stockade_update_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_new() -> *mut stockade_update {
    Box::into_raw(Box::default())
}

/// The limit on CPU time: nanoseconds. What was used until now counts; if it is more, the program is ended.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_cpu_time(
    update: Option<&mut stockade_update>,
    nanoseconds: u64,
) -> c_int {
    set(update, |u| u.cpu_time = Some(time(nanoseconds)))
}

/// The limit on wall-clock time: nanoseconds from the program's start, as ever.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_wall_time(
    update: Option<&mut stockade_update>,
    nanoseconds: u64,
) -> c_int {
    set(update, |u| u.wall_time = Some(time(nanoseconds)))
}

/// The limit on memory: bytes. If more is in use, the kernel takes back what it can and, if that is not enough, the
/// program is ended: STOCKADE_VERDICT_MEMORY_LIMIT.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_memory(
    update: Option<&mut stockade_update>,
    bytes: u64,
) -> c_int {
    set(update, |u| u.memory = Some(number(bytes)))
}

/// The limit on swap: bytes. What is swapped out already stays there. STOCKADE_UNLIMITED is the default, 0.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_swap(
    update: Option<&mut stockade_update>,
    bytes: u64,
) -> c_int {
    set(update, |u| u.swap = Some(number(bytes)))
}

/// The limit on processes and threads. If there are more, none is ended, and none can be added.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_pids(
    update: Option<&mut stockade_update>,
    count: u64,
) -> c_int {
    set(update, |u| u.pids = Some(number(count)))
}

/// The limit on processors' time. INFINITY: none.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_cpus(
    update: Option<&mut stockade_update>,
    cpus: f64,
) -> c_int {
    set(update, |u| {
        u.cpus = Some((cpus != f64::INFINITY).then_some(cpus));
    })
}

/// The share of the processors. STOCKADE_UNLIMITED is the default, 100.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_cpu_weight(
    update: Option<&mut stockade_update>,
    weight: u64,
) -> c_int {
    set(update, |u| u.cpu_weight = Some(number(weight)))
}

/// The processors that it may use: a list such as "0-2,4". NULL is the default, all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_update_set_cpuset_cpus(
    update: Option<&mut stockade_update>,
    list: *const c_char,
) -> c_int {
    let list = match list.is_null() {
        true => None,
        // SAFETY: C promises a NUL-terminated string.
        false => match unsafe { c_text(list, "list") } {
            Ok(list) => Some(list.to_string()),
            Err(e) => return e.kind() as c_int,
        },
    };
    set(update, |u| u.cpuset_cpus = Some(list))
}

/// The share of the block devices. STOCKADE_UNLIMITED is the default, 100.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_io_weight(
    update: Option<&mut stockade_update>,
    weight: u64,
) -> c_int {
    set(update, |u| u.io_weight = Some(number(weight)))
}

/// The limit on captured output: bytes. STOCKADE_UNLIMITED is the default, 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_set_output(
    update: Option<&mut stockade_update>,
    bytes: u64,
) -> c_int {
    set(update, |u| u.output = Some(number(bytes)))
}

/// Changes limits of the running program, up or down. The outcome's verdict and enforcement go by those that it has at
/// the end. A limit below what is used already has its effect at once, except of a paused program, whose clocks go on
/// with stockade_process_resume. No error if it has ended.
///
/// On an error nothing is changed: a value that is out of range; a limit that nothing on this host holds
/// (STOCKADE_ERROR_UNSUPPORTED), such as cpus for a program that was started without cpus and cpu_weight, or pids where
/// no cgroup holds it.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_update(
    process: Option<&stockade_process>,
    update: Option<&stockade_update>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let update = required(update, "update")?;
        required(process, "process")?.process().update(&update.0)
    })
}

/// Frees the update.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_update_free(update: Option<Box<stockade_update>>) {
    free(update);
}
