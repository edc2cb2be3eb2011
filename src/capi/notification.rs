//! Being told while a program runs that it has used so much.

use super::error::stockade_error;
use super::ffi::{call, give, required};
use super::process::stockade_process;
use super::update::STOCKADE_UNLIMITED;
use crate::process::Notification;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::Duration;

/// None came in that time, or the program has ended and all are taken.
pub const STOCKADE_NOTIFICATION_NONE: c_int = 0;
/// Of CPU time: nanoseconds.
pub const STOCKADE_NOTIFICATION_CPU_TIME: c_int = 1;
/// Of memory: bytes.
pub const STOCKADE_NOTIFICATION_MEMORY: c_int = 2;

/// Has the caller told once when the program and everything it started have used so much CPU time: nanoseconds, more
/// than 0, in place of the threshold before; STOCKADE_UNLIMITED to be told no more. A threshold that is passed already
/// is told at once. No error if the program has ended.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_notify_cpu_time(
    process: Option<&stockade_process>,
    nanoseconds: u64,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let threshold =
            (nanoseconds != STOCKADE_UNLIMITED).then(|| Duration::from_nanos(nanoseconds));
        let process = required(process, "process")?.process();
        process.notify_cpu_time(threshold)
    })
}

/// The same when so many bytes of memory are in use. That is looked at every 20 ms at least, so use that is shorter may
/// pass unseen.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_notify_memory(
    process: Option<&stockade_process>,
    bytes: u64,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let threshold = (bytes != STOCKADE_UNLIMITED).then_some(bytes);
        let process = required(process, "process")?.process();
        process.notify_memory(threshold)
    })
}

/// Takes the next notification, in the order in which they came; waits for it at most that long, and without end if
/// that is UINT64_MAX. notification receives its STOCKADE_NOTIFICATION_ number; threshold what was asked for and used
/// what was used when that was seen, both nanoseconds or bytes, both may be NULL. None is lost if it is taken late. One
/// that comes makes the descriptor of stockade_process_fd readable until this or stockade_process_poll has looked.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_next_notification(
    process: Option<&stockade_process>,
    nanoseconds: u64,
    notification: Option<&mut MaybeUninit<c_int>>,
    threshold: Option<&mut MaybeUninit<u64>>,
    used: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    let (mut at, mut of) = (0, 0);
    let status = give(
        (notification, "notification"),
        STOCKADE_NOTIFICATION_NONE,
        error,
        || {
            let timeout = (nanoseconds != u64::MAX).then(|| Duration::from_nanos(nanoseconds));
            let process = required(process, "process")?.process();
            let time = |t: Duration| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
            Ok(match process.next_notification(timeout)? {
                None => STOCKADE_NOTIFICATION_NONE,
                Some(Notification::CpuTime { threshold, used }) => {
                    (at, of) = (time(threshold), time(used));
                    STOCKADE_NOTIFICATION_CPU_TIME
                }
                Some(Notification::Memory { threshold, used }) => {
                    (at, of) = (threshold, used);
                    STOCKADE_NOTIFICATION_MEMORY
                }
            })
        },
    );
    for (place, value) in [(threshold, at), (used, of)] {
        if let Some(place) = place {
            place.write(value);
        }
    }
    status
}
