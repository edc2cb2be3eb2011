//! `stockade_enforcement`: what stands behind each limit and protection of an outcome.

use super::stockade_outcome;
use crate::capi::ffi::{c_string, c_text, read};
use crate::outcome::EnforcementStatus;
use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

/// The kernel holds it exactly.
pub const STOCKADE_ENFORCED: c_int = 0;
/// It is watched and acted upon, but can be passed for a short time or in part.
pub const STOCKADE_APPROXIMATED: c_int = 1;
/// Nothing holds it.
pub const STOCKADE_NOT_ENFORCED: c_int = 2;

/// What stands behind one limit or protection. Owned by its outcome.
pub struct stockade_enforcement {
    name: CString,
    status: c_int,
    by: CString,
}

fn table(outcome: &stockade_outcome) -> &[stockade_enforcement] {
    outcome.enforcement.get_or_init(|| {
        let row = |(name, e): (&String, &crate::outcome::Enforcement)| stockade_enforcement {
            name: c_string(name),
            status: match e.status {
                EnforcementStatus::Enforced => STOCKADE_ENFORCED,
                EnforcementStatus::Approximated => STOCKADE_APPROXIMATED,
                EnforcementStatus::NotEnforced => STOCKADE_NOT_ENFORCED,
            },
            by: c_string(&e.by),
        };
        outcome.outcome.enforcement.iter().map(row).collect()
    })
}

/// How many limits and protections there is something to say about.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_enforcement_count(outcome: Option<&stockade_outcome>) -> usize {
    read(outcome, 0, |o| table(o).len())
}

/// The one with that index, in the order of their names, or NULL if there are not so many. Owned by the outcome, as is
/// all that the stockade_enforcement_ accessors return.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_enforcement_at(
    outcome: Option<&stockade_outcome>,
    index: usize,
) -> *const stockade_enforcement {
    read(outcome, null(), |o| {
        table(o).get(index).map_or(null(), |e| e)
    })
}

/// The one with that name ("memory", "seccomp"), or NULL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_outcome_enforcement(
    outcome: Option<&stockade_outcome>,
    name: *const c_char,
) -> *const stockade_enforcement {
    read(outcome, null(), |o| {
        // SAFETY: C promises a NUL-terminated string.
        let Ok(name) = (unsafe { c_text(name, "name") }) else {
            return null();
        };
        let found = table(o)
            .iter()
            .find(|e| e.name.to_bytes() == name.as_bytes());
        found.map_or(null(), |e| e)
    })
}

/// Its name.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_enforcement_name(
    enforcement: Option<&stockade_enforcement>,
) -> *const c_char {
    read(enforcement, null(), |e| e.name.as_ptr())
}

/// Whether it holds: STOCKADE_ENFORCED, STOCKADE_APPROXIMATED or STOCKADE_NOT_ENFORCED, which is also what NULL gives.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_enforcement_status(enforcement: Option<&stockade_enforcement>) -> c_int {
    read(enforcement, STOCKADE_NOT_ENFORCED, |e| e.status)
}

/// By what it is enforced ("cgroup v2 memory.max"), or why it is not.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_enforcement_by(
    enforcement: Option<&stockade_enforcement>,
) -> *const c_char {
    read(enforcement, null(), |e| e.by.as_ptr())
}
