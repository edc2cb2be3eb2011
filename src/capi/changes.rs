//! The writable root of a live sandbox, and `stockade_changes`.

use super::error::stockade_error;
use super::ffi::{call, free, give, read, required};
use super::sandbox::stockade_sandbox;
use crate::changes::Change;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr::{null, null_mut};

/// What differs in a sandbox from the root file system that it was started with: a value that does not change.
pub struct stockade_changes {
    paths: Vec<CString>,
    changes: Vec<Change>,
}

impl stockade_changes {
    pub(super) fn raw(changes: Vec<Change>) -> *mut stockade_changes {
        let path = |change: &Change| CString::new(change.path.to_vec());
        let paths = changes.iter().map(path).collect::<Result<_, _>>();
        let paths = paths.expect("the kernel has no name with a NUL");
        Box::into_raw(Box::new(stockade_changes { paths, changes }))
    }
}

/// Takes a sandbox with an overlay back to its start: what runs in it is killed, and its root, /work, /tmp, /dev/shm and
/// every tmpfs are as they were then. Takes about as long as a start, however much was written.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_reset(
    sandbox: Option<&stockade_sandbox>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || required(sandbox, "sandbox")?.inner().reset())
}

/// What differs from the root file system that the sandbox was started with, as docker diff, sorted by path. Free it
/// with stockade_changes_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_changes(
    sandbox: Option<&stockade_sandbox>,
    changes: Option<&mut MaybeUninit<*mut stockade_changes>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((changes, "changes"), null_mut(), error, || {
        Ok(stockade_changes::raw(
            required(sandbox, "sandbox")?.inner().changes()?,
        ))
    })
}

/// The upper layer of the sandbox's root as a descriptor of a directory, open for reading, which the caller closes: what
/// was changed, with character devices 0, 0 for names that were removed and the attribute user.overlay.opaque on
/// directories that hide what is below. Programs can have put anything there: follow no links in it. fd is -1 after a
/// failure.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_upper(
    sandbox: Option<&stockade_sandbox>,
    fd: Option<&mut MaybeUninit<c_int>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((fd, "fd"), -1, error, || {
        Ok(required(sandbox, "sandbox")?.inner().upper()?.into_raw_fd())
    })
}

/// How many paths differ.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_changes_count(changes: Option<&stockade_changes>) -> usize {
    read(changes, 0, |c| c.changes.len())
}

/// The absolute path inside of the one with that index, or NULL if there are not so many. Not always UTF-8. Owned by the
/// changes.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_changes_path(
    changes: Option<&stockade_changes>,
    index: usize,
) -> *const c_char {
    read(changes, null(), |c| {
        c.paths.get(index).map_or(null(), |path| path.as_ptr())
    })
}

/// What has become of it: 'A' if it was not there before, 'C' if it or something below it may differ, 'D' if it is no
/// longer there; 0 if there are not so many.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_changes_kind(
    changes: Option<&stockade_changes>,
    index: usize,
) -> c_char {
    read(changes, 0, |c| {
        let letter = |change: &Change| change.kind.letter() as u8 as c_char;
        c.changes.get(index).map_or(0, letter)
    })
}

/// Frees the changes.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_changes_free(changes: Option<Box<stockade_changes>>) {
    free(changes);
}
