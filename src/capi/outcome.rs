//! `stockade_outcome`: the verdict and every fact beside it.

mod enforcement;
mod output;
mod usage;
mod violation;

use super::error::stockade_error;
use super::ffi::{c_string, free, give, known, owned_text, read, required};
use crate::bytes::Bytes;
use crate::outcome::{Outcome, Verdict};
use enforcement::stockade_enforcement;
use output::stockade_output;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use violation::stockade_violation;

/// Exited with status 0 within every limit.
pub const STOCKADE_VERDICT_OK: c_int = 0;
/// Exited with another status.
pub const STOCKADE_VERDICT_NONZERO_EXIT: c_int = 1;
/// Ended by a signal.
pub const STOCKADE_VERDICT_SIGNALED: c_int = 2;
/// Used more CPU time than cpu_time.
pub const STOCKADE_VERDICT_TIME_LIMIT: c_int = 3;
/// Ran longer than wall_time.
pub const STOCKADE_VERDICT_WALL_TIME_LIMIT: c_int = 4;
/// Used no CPU time for too long.
pub const STOCKADE_VERDICT_IDLENESS_LIMIT: c_int = 5;
/// Needed more memory than memory.
pub const STOCKADE_VERDICT_MEMORY_LIMIT: c_int = 6;
/// Wrote more than output to a captured stream.
pub const STOCKADE_VERDICT_OUTPUT_LIMIT: c_int = 7;
/// Filled the writable file system (disk, inodes) or wrote a larger file than file_size.
pub const STOCKADE_VERDICT_DISK_LIMIT: c_int = 8;
/// Some process of the run made a system call for which the seccomp profile kills.
pub const STOCKADE_VERDICT_VIOLATION: c_int = 9;
/// Ended by the caller.
pub const STOCKADE_VERDICT_KILLED: c_int = 10;
/// The program could not be executed: not found, not executable, too long arguments.
pub const STOCKADE_VERDICT_EXEC_FAILED: c_int = 11;
/// The sandbox itself failed; says nothing about the program.
pub const STOCKADE_VERDICT_SANDBOX_ERROR: c_int = 12;

const _: () = {
    assert!(STOCKADE_VERDICT_OK == Verdict::Ok as c_int);
    assert!(STOCKADE_VERDICT_NONZERO_EXIT == Verdict::NonzeroExit as c_int);
    assert!(STOCKADE_VERDICT_SIGNALED == Verdict::Signaled as c_int);
    assert!(STOCKADE_VERDICT_TIME_LIMIT == Verdict::TimeLimit as c_int);
    assert!(STOCKADE_VERDICT_WALL_TIME_LIMIT == Verdict::WallTimeLimit as c_int);
    assert!(STOCKADE_VERDICT_IDLENESS_LIMIT == Verdict::IdlenessLimit as c_int);
    assert!(STOCKADE_VERDICT_MEMORY_LIMIT == Verdict::MemoryLimit as c_int);
    assert!(STOCKADE_VERDICT_OUTPUT_LIMIT == Verdict::OutputLimit as c_int);
    assert!(STOCKADE_VERDICT_DISK_LIMIT == Verdict::DiskLimit as c_int);
    assert!(STOCKADE_VERDICT_VIOLATION == Verdict::Violation as c_int);
    assert!(STOCKADE_VERDICT_KILLED == Verdict::Killed as c_int);
    assert!(STOCKADE_VERDICT_EXEC_FAILED == Verdict::ExecFailed as c_int);
    assert!(STOCKADE_VERDICT_SANDBOX_ERROR == Verdict::SandboxError as c_int);
    assert!(Verdict::ALL.len() == 13);
};

/// How a program ended and what it used. Nothing in it changes: read it from as many threads as you like. What its
/// accessors return is owned by it and valid until it is freed.
pub struct stockade_outcome {
    outcome: Outcome,
    limit: Option<CString>,
    message: Option<CString>,
    violation: Option<stockade_violation>,
    // The tables are made when first asked for: most callers read a verdict and the output.
    outputs: OnceLock<Vec<stockade_output>>,
    enforcement: OnceLock<Vec<stockade_enforcement>>,
    sources: OnceLock<Vec<Option<CString>>>,
}

impl stockade_outcome {
    /// A handle for C.
    pub(super) fn raw(mut outcome: Outcome) -> *mut Self {
        terminate(&mut outcome.stdout);
        terminate(&mut outcome.stderr);
        for output in outcome.outputs.values_mut() {
            terminate(&mut output.content);
        }
        Box::into_raw(Box::new(stockade_outcome {
            limit: outcome.limit.as_deref().map(c_string),
            message: outcome.message.as_deref().map(c_string),
            violation: outcome.violation.as_ref().map(stockade_violation::new),
            outputs: OnceLock::new(),
            enforcement: OnceLock::new(),
            sources: OnceLock::new(),
            outcome,
        }))
    }
}

/// Puts a NUL behind the bytes, in the spare capacity: the content stays what it is and `printf("%s")` stays in it.
fn terminate(bytes: &mut Bytes) {
    bytes.0.reserve_exact(1);
    bytes.0.spare_capacity_mut()[0].write(0);
}

/// Where terminated bytes begin, and through `len` how many they are.
fn span(bytes: &Bytes, len: Option<&mut MaybeUninit<usize>>) -> *const c_char {
    known(len, Some(bytes.0.len()));
    bytes.0.as_ptr().cast()
}

/// The name of a verdict, the same in every language: "TIME_LIMIT". NULL if there is no such verdict. Static.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_verdict_name(verdict: c_int) -> *const c_char {
    let name = match verdict {
        STOCKADE_VERDICT_OK => c"OK",
        STOCKADE_VERDICT_NONZERO_EXIT => c"NONZERO_EXIT",
        STOCKADE_VERDICT_SIGNALED => c"SIGNALED",
        STOCKADE_VERDICT_TIME_LIMIT => c"TIME_LIMIT",
        STOCKADE_VERDICT_WALL_TIME_LIMIT => c"WALL_TIME_LIMIT",
        STOCKADE_VERDICT_IDLENESS_LIMIT => c"IDLENESS_LIMIT",
        STOCKADE_VERDICT_MEMORY_LIMIT => c"MEMORY_LIMIT",
        STOCKADE_VERDICT_OUTPUT_LIMIT => c"OUTPUT_LIMIT",
        STOCKADE_VERDICT_DISK_LIMIT => c"DISK_LIMIT",
        STOCKADE_VERDICT_VIOLATION => c"VIOLATION",
        STOCKADE_VERDICT_KILLED => c"KILLED",
        STOCKADE_VERDICT_EXEC_FAILED => c"EXEC_FAILED",
        STOCKADE_VERDICT_SANDBOX_ERROR => c"SANDBOX_ERROR",
        _ => return null(),
    };
    name.as_ptr()
}

/// What judges write for a verdict: OK, RTE, TLE, ILE, MLE, OLE or SE. NULL if there is no such verdict. Static.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_verdict_short(verdict: c_int) -> *const c_char {
    let short = match usize::try_from(verdict)
        .ok()
        .and_then(|number| Verdict::ALL.get(number))
    {
        Some(verdict) => verdict.short(),
        None => return null(),
    };
    let short = match short {
        "OK" => c"OK",
        "RTE" => c"RTE",
        "TLE" => c"TLE",
        "ILE" => c"ILE",
        "MLE" => c"MLE",
        "OLE" => c"OLE",
        _ => c"SE",
    };
    short.as_ptr()
}

/// The one primary verdict, a STOCKADE_VERDICT_ number. -1 if outcome is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_verdict(outcome: Option<&stockade_outcome>) -> c_int {
    read(outcome, -1, |o| o.outcome.verdict as c_int)
}

/// The exit status, or the negated number of the signal that ended the program; 127 (not found) or 126 with
/// STOCKADE_VERDICT_EXEC_FAILED.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_returncode(outcome: Option<&stockade_outcome>) -> c_int {
    read(outcome, -1, |o| o.outcome.returncode)
}

/// Whether the program exited, and with which status. status may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_exit_code(
    outcome: Option<&stockade_outcome>,
    status: Option<&mut MaybeUninit<c_int>>,
) -> bool {
    known(status, read(outcome, None, |o| o.outcome.exit_code))
}

/// Whether a signal ended the program, and which. signal may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_signal(
    outcome: Option<&stockade_outcome>,
    signal: Option<&mut MaybeUninit<c_int>>,
) -> bool {
    known(signal, read(outcome, None, |o| o.outcome.signal))
}

/// The name of the limit that decided the verdict ("memory"), or NULL if none did.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_limit(outcome: Option<&stockade_outcome>) -> *const c_char {
    read(outcome, null(), |o| text(&o.limit))
}

/// What else there is to say in words: why the program could not be started, what of the sandbox failed. NULL if
/// there is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_message(outcome: Option<&stockade_outcome>) -> *const c_char {
    read(outcome, null(), |o| text(&o.message))
}

fn text(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |t| t.as_ptr())
}

/// What the program wrote to standard output, if captured: the first bytes, up to the output limit. Their number goes
/// to length, which may be NULL; behind them stands a NUL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stdout(
    outcome: Option<&stockade_outcome>,
    length: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    stream(outcome, length, |o| &o.stdout)
}

/// The same for standard error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stderr(
    outcome: Option<&stockade_outcome>,
    length: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    stream(outcome, length, |o| &o.stderr)
}

fn stream(
    outcome: Option<&stockade_outcome>,
    length: Option<&mut MaybeUninit<usize>>,
    of: fn(&Outcome) -> &Bytes,
) -> *const c_char {
    match outcome {
        Some(outcome) => span(of(&outcome.outcome), length),
        None => {
            known(length, Some(0));
            null()
        }
    }
}

/// How many bytes came through standard output, kept or not.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stdout_bytes(outcome: Option<&stockade_outcome>) -> u64 {
    read(outcome, 0, |o| o.outcome.stdout_bytes)
}

/// The same for standard error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stderr_bytes(outcome: Option<&stockade_outcome>) -> u64 {
    read(outcome, 0, |o| o.outcome.stderr_bytes)
}

/// Whether more came through standard output than was kept.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stdout_truncated(outcome: Option<&stockade_outcome>) -> bool {
    read(outcome, false, |o| o.outcome.stdout_truncated)
}

/// The same for standard error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_stderr_truncated(outcome: Option<&stockade_outcome>) -> bool {
    read(outcome, false, |o| o.outcome.stderr_truncated)
}

/// The whole outcome as JSON, as in every language. Free the text with stockade_string_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_to_json(
    outcome: Option<&stockade_outcome>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        Ok(owned_text(&required(outcome, "outcome")?.outcome.to_json()))
    })
}

/// Frees an outcome, and with it all that its accessors returned.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_free(outcome: Option<Box<stockade_outcome>>) {
    free(outcome);
}
