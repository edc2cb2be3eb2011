//! `stockade_process`.

use super::error::stockade_error;
use super::ffi::{call, free, give, known, read, required};
use super::outcome::stockade_outcome;
use crate::process::Process;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

/// A program started in a sandbox. Every call may be made from any thread, also at the same time. Captured output
/// moves along only in stockade_process_poll and the waits.
pub struct stockade_process(Process);

impl stockade_process {
    /// A handle for C.
    pub(super) fn raw(process: Process) -> *mut Self {
        Box::into_raw(Box::new(stockade_process(process)))
    }

    pub(super) fn process(&self) -> &Process {
        &self.0
    }
}

/// The program's process id on the host: true if it runs; false (and pid untouched) if it has ended or could not be
/// started. Waits for its start, about a millisecond. pid may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_pid(
    process: Option<&stockade_process>,
    pid: Option<&mut MaybeUninit<i32>>,
) -> bool {
    let value = read(process, None, |p| p.0.pid());
    known(pid, value.and_then(|pid| i32::try_from(pid).ok()))
}

/// A descriptor that poll(2) finds readable (POLLIN) whenever stockade_process_poll has something to do. Owned by
/// the process: do not read or close it. -1 if process is NULL, or the caller has no descriptor left (EMFILE, ENFILE).
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_fd(process: Option<&stockade_process>) -> c_int {
    read(process, -1, |p| {
        p.0.pollable().map_or(-1, |fd| fd.as_raw_fd())
    })
}

/// The writing end of the program's standard input, if that is STOCKADE_STDIO_PIPE and was not taken before; else -1.
/// Owned by the caller from now on: close it, or the program sees no end of its input.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_take_stdin(process: Option<&stockade_process>) -> c_int {
    read(process, -1, |p| taken(p.0.take_stdin()))
}

/// The reading end of its standard output, likewise.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_take_stdout(process: Option<&stockade_process>) -> c_int {
    read(process, -1, |p| taken(p.0.take_stdout()))
}

/// The reading end of its standard error, likewise.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_take_stderr(process: Option<&stockade_process>) -> c_int {
    read(process, -1, |p| taken(p.0.take_stderr()))
}

fn taken(fd: Option<OwnedFd>) -> c_int {
    fd.map_or(-1, IntoRawFd::into_raw_fd)
}

/// Moves captured output along and, if the program has ended, hands out its outcome; else outcome is set to NULL,
/// which is no error. Never blocks. Free the outcome with stockade_outcome_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_poll(
    process: Option<&stockade_process>,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        Ok(required(process, "process")?
            .0
            .poll()?
            .map_or(null_mut(), stockade_outcome::raw))
    })
}

/// Waits until the program and all it started have ended. Waiting again gives the same outcome. Free each with
/// stockade_outcome_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_wait(
    process: Option<&stockade_process>,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        Ok(stockade_outcome::raw(
            required(process, "process")?.0.wait()?,
        ))
    })
}

/// The same for at most that long; outcome is set to NULL, which is no error, if the program still runs then.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_wait_timeout(
    process: Option<&stockade_process>,
    nanoseconds: u64,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        let outcome = required(process, "process")?
            .0
            .wait_timeout(Duration::from_nanos(nanoseconds))?;
        Ok(outcome.map_or(null_mut(), stockade_outcome::raw))
    })
}

/// Sends a signal to the program, not to its children. No error if it has ended.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_signal(
    process: Option<&stockade_process>,
    signal: c_int,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(process, "process")?.0.signal(signal))
}

/// Asks the program to end, by the stop signal of its specification, and ends it and everything it started if it still
/// runs after that many nanoseconds (docker stop waits 10 seconds). The outcome, as of stockade_process_wait, is by how it
/// ended: STOCKADE_VERDICT_KILLED only if it had to be killed. A paused program goes on.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_stop(
    process: Option<&stockade_process>,
    nanoseconds: u64,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        let timeout = Duration::from_nanos(nanoseconds);
        Ok(stockade_outcome::raw(
            required(process, "process")?.0.stop(timeout)?,
        ))
    })
}

/// Ends the program and everything it started; the verdict is STOCKADE_VERDICT_KILLED. No error if it has
/// ended.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_kill(
    process: Option<&stockade_process>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(process, "process")?.0.kill())
}

/// Stops the program and everything it started, until stockade_process_resume; returns when none of them runs any more.
/// Meanwhile wall_time does not go on, and they can be killed. With cgroup v2 the kernel freezes them (cgroup.freeze),
/// which they cannot notice; elsewhere they are stopped by SIGSTOP, in a live sandbox in which other programs run only
/// the program's process group. One that has a timer send it SIGCONT goes on; it is stopped again, and that time counts
/// for its limits as ever. No error if it has ended or is paused; ETIMEDOUT if a process could not be frozen within two
/// seconds, since it waits in the kernel.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_pause(
    process: Option<&stockade_process>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(process, "process")?.0.pause())
}

/// Lets a paused program go on. No error if it has ended or is not paused.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_resume(
    process: Option<&stockade_process>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(process, "process")?.0.resume())
}

/// Ends the program, and everything it started, if it still runs, and frees the process.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_process_free(process: Option<Box<stockade_process>>) {
    free(process);
}
