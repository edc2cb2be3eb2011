//! `stockade_error`.

use super::ffi::{c_string, free, read};
use crate::error::{Error, ErrorKind};
use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

/// Status: the call succeeded.
pub const STOCKADE_OK: c_int = 0;
/// The specification or an argument is wrong. Nothing was started.
pub const STOCKADE_ERROR_INVALID_ARGUMENT: c_int = 1;
/// This host cannot do what was asked. Nothing was started.
pub const STOCKADE_ERROR_UNSUPPORTED: c_int = 2;
/// Setting up the sandbox failed, or reading or writing the image store; the error's step and errno say where. The
/// program did not run.
pub const STOCKADE_ERROR_SETUP: c_int = 3;
/// The call does not fit the state of the handle: closed, finished, made before a fork.
pub const STOCKADE_ERROR_STATE: c_int = 4;
/// The supervisor went away while the program ran; nothing of the sandbox is left.
pub const STOCKADE_ERROR_SUPERVISOR: c_int = 5;
/// The system refused a resource: memory, descriptors, processes.
pub const STOCKADE_ERROR_RESOURCE: c_int = 6;
/// A bug in stockade; please report it.
pub const STOCKADE_ERROR_INTERNAL: c_int = 7;
/// An image, or an archive of images, is damaged, is not what its digest says, or tries what an image must not. The
/// error's step is the rule that it breaks. Nothing of it was kept.
pub const STOCKADE_ERROR_IMAGE: c_int = 8;
/// The store has no such image; or a registry has none that it shows to who asks.
pub const STOCKADE_ERROR_NOT_FOUND: c_int = 9;
/// A registry cannot be reached, refuses, or does not answer as it should; the error's step says which: "connect",
/// "tls", "timeout", "proxy", "redirect", "auth", "http". What was downloaded is kept for the next try.
pub const STOCKADE_ERROR_REGISTRY: c_int = 10;

const _: () = {
    assert!(STOCKADE_ERROR_INVALID_ARGUMENT == ErrorKind::InvalidArgument as c_int);
    assert!(STOCKADE_ERROR_UNSUPPORTED == ErrorKind::Unsupported as c_int);
    assert!(STOCKADE_ERROR_SETUP == ErrorKind::Setup as c_int);
    assert!(STOCKADE_ERROR_STATE == ErrorKind::State as c_int);
    assert!(STOCKADE_ERROR_SUPERVISOR == ErrorKind::Supervisor as c_int);
    assert!(STOCKADE_ERROR_RESOURCE == ErrorKind::Resource as c_int);
    assert!(STOCKADE_ERROR_INTERNAL == ErrorKind::Internal as c_int);
    assert!(STOCKADE_ERROR_IMAGE == ErrorKind::Image as c_int);
    assert!(STOCKADE_ERROR_NOT_FOUND == ErrorKind::NotFound as c_int);
    assert!(STOCKADE_ERROR_REGISTRY == ErrorKind::Registry as c_int);
};

/// Why a call failed. A program that ran and failed is no error: that is an outcome with its verdict.
pub struct stockade_error {
    error: Error,
    step: CString,
    message: CString,
}

impl stockade_error {
    /// A handle for C, or NULL if nobody `wanted` it.
    pub(super) fn raw(error: Error, wanted: bool) -> *mut Self {
        if !wanted {
            return std::ptr::null_mut();
        }
        let (step, message) = (c_string(error.step()), c_string(&error.to_string()));
        Box::into_raw(Box::new(stockade_error {
            error,
            step,
            message,
        }))
    }
}

/// What kind of error it is: a STOCKADE_ERROR_ number, the same as the status of the call that failed.
/// STOCKADE_OK if error is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_error_kind(error: Option<&stockade_error>) -> c_int {
    read(error, STOCKADE_OK, |e| e.error.kind() as c_int)
}

/// The errno of the system call that failed, or 0 if none did.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_error_errno(error: Option<&stockade_error>) -> c_int {
    read(error, 0, |e| e.error.errno())
}

/// The step of the set-up that failed ("mount proc"), or "". NULL if error is NULL. Owned by the error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_error_step(error: Option<&stockade_error>) -> *const c_char {
    read(error, null(), |e| e.step.as_ptr())
}

/// The error in words: what failed, on what object, why, and what to do about it. NULL if error is NULL. Owned by
/// the error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_error_message(error: Option<&stockade_error>) -> *const c_char {
    read(error, null(), |e| e.message.as_ptr())
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_error_free(error: Option<Box<stockade_error>>) {
    free(error);
}
