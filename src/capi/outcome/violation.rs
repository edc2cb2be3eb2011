//! `stockade_violation`: the system call that a run was ended for.

use super::{stockade_outcome, text};
use crate::capi::ffi::{c_string, read};
use crate::violation::Violation;
use std::ffi::{CString, c_char, c_uint};
use std::ptr::null;

/// A system call for which the seccomp profile kills. Owned by its outcome.
pub struct stockade_violation {
    violation: Violation,
    syscall: Option<CString>,
    arch: CString,
    command: Option<CString>,
}

impl stockade_violation {
    pub(super) fn new(violation: &Violation) -> Self {
        stockade_violation {
            syscall: violation.syscall.as_deref().map(c_string),
            arch: c_string(&violation.arch),
            command: violation.command.as_deref().map(c_string),
            violation: violation.clone(),
        }
    }
}

/// The system call that the run was ended for, with STOCKADE_VERDICT_VIOLATION. NULL if there was none, or if the kernel
/// killed the program itself (see the enforcement "violation"). Owned by the outcome, as is all that the
/// stockade_violation_ accessors return.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_violation(
    outcome: Option<&stockade_outcome>,
) -> *const stockade_violation {
    read(outcome, null(), |o| {
        o.violation.as_ref().map_or(null(), |violation| violation)
    })
}

/// Its name ("ptrace"), or NULL if it has none here, as those of 32-bit ABIs and of the future.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_syscall(
    violation: Option<&stockade_violation>,
) -> *const c_char {
    read(violation, null(), |v| text(&v.syscall))
}

/// Its number in that ABI.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_number(violation: Option<&stockade_violation>) -> u32 {
    read(violation, 0, |v| v.violation.number)
}

/// By which ABI of the machine it was made: "x86_64", "x32", "i386", "aarch64" or "arm".
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_arch(violation: Option<&stockade_violation>) -> *const c_char {
    read(violation, null(), |v| v.arch.as_ptr())
}

/// The argument with that index, from 0 to 5, whether it takes so many or not. 0 for others.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_arg(
    violation: Option<&stockade_violation>,
    index: c_uint,
) -> u64 {
    read(violation, 0, |v| {
        let arg = v.violation.args.get(index as usize);
        arg.copied().unwrap_or(0)
    })
}

/// Where it was made.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_instruction_pointer(
    violation: Option<&stockade_violation>,
) -> u64 {
    read(violation, 0, |v| v.violation.instruction_pointer)
}

/// The process that made it, by its number inside the sandbox.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_pid(violation: Option<&stockade_violation>) -> u32 {
    read(violation, 0, |v| v.violation.pid)
}

/// Whether that is the program itself, not one that it started.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_main(violation: Option<&stockade_violation>) -> bool {
    read(violation, false, |v| v.violation.main)
}

/// The name of the thread (/proc/PID/comm), which the program can choose. NULL if it is not known.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_violation_command(
    violation: Option<&stockade_violation>,
) -> *const c_char {
    read(violation, null(), |v| text(&v.command))
}
