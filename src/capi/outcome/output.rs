//! `stockade_output`: the collected files of an outcome.

use super::{span, stockade_outcome};
use crate::capi::ffi::{c_string, c_text, known, read};
use crate::outcome::OutputFile;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr::null;

/// A collected file. Owned by its outcome.
pub struct stockade_output {
    path: CString,
    error: Option<CString>,
    // The content is shared with the outcome: a pointer to the terminated bytes, which nothing changes or moves
    // while the outcome lives.
    content: *const c_char,
    length: usize,
    size: u64,
    truncated: bool,
}

// SAFETY: the pointer leads to bytes that the same outcome owns and nobody writes.
unsafe impl Send for stockade_output {}
// SAFETY: as above.
unsafe impl Sync for stockade_output {}

impl stockade_output {
    fn new(path: &str, file: &OutputFile) -> Self {
        stockade_output {
            path: c_string(path),
            error: file.error.as_deref().map(c_string),
            content: span(&file.content, None),
            length: file.content.len(),
            size: file.size,
            truncated: file.truncated,
        }
    }
}

fn table(outcome: &stockade_outcome) -> &[stockade_output] {
    outcome.outputs.get_or_init(|| {
        outcome
            .outcome
            .outputs
            .iter()
            .map(|(p, f)| stockade_output::new(p, f))
            .collect()
    })
}

/// How many collected files there are: one for each path of the spec's outputs.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_output_count(outcome: Option<&stockade_outcome>) -> usize {
    read(outcome, 0, |o| table(o).len())
}

/// The collected file with that index, in the order of the paths, or NULL if there are not so many. Owned by the
/// outcome, as is all that the stockade_output_ accessors return.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_outcome_output_at(
    outcome: Option<&stockade_outcome>,
    index: usize,
) -> *const stockade_output {
    read(outcome, null(), |o| {
        table(o).get(index).map_or(null(), |output| output)
    })
}

/// The collected file with that path, written as in stockade_spec_add_output, or NULL if it was not asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_outcome_output(
    outcome: Option<&stockade_outcome>,
    path: *const c_char,
) -> *const stockade_output {
    read(outcome, null(), |o| {
        // SAFETY: C promises a NUL-terminated string.
        let Ok(path) = (unsafe { c_text(path, "path") }) else {
            return null();
        };
        let found = table(o)
            .iter()
            .find(|output| output.path.to_bytes() == path.as_bytes());
        found.map_or(null(), |output| output)
    })
}

/// Its path.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_output_path(output: Option<&stockade_output>) -> *const c_char {
    read(output, null(), |o| o.path.as_ptr())
}

/// Its content. The number of bytes goes to length, which may be NULL; behind them stands a NUL. Empty if there is
/// an error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_output_content(
    output: Option<&stockade_output>,
    length: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    known(length, Some(read(output, 0, |o| o.length)));
    read(output, null(), |o| o.content)
}

/// Its whole size in bytes; more than the length of the content if it was cut at output_file_size.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_output_size(output: Option<&stockade_output>) -> u64 {
    read(output, 0, |o| o.size)
}

/// Whether the content was cut.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_output_truncated(output: Option<&stockade_output>) -> bool {
    read(output, false, |o| o.truncated)
}

/// Why it was not collected (missing, not a regular file, a symbolic link on the way), or NULL if it was.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_output_error(output: Option<&stockade_output>) -> *const c_char {
    read(output, null(), |o| {
        o.error.as_ref().map_or(null(), |e| e.as_ptr())
    })
}
