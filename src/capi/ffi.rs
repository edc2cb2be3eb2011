//! What stands between C and Rust at every entry: NULL, text, bytes, out-parameters and panics.

use super::error::stockade_error;
use crate::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An out-parameter: NULL, or a place that C need not have initialised.
///
/// Signatures write it out, since cbindgen does not see through aliases with parameters.
pub(super) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Runs `body` and turns a panic into an [`Internal`](crate::ErrorKind::Internal) error.
pub(super) fn stop_panics<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What a panic leaves half done stays behind a handle whose methods keep their own invariants (locks poison),
    // or is dropped here: nothing broken can be seen afterwards.
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|payload| Err(Error::from_panic(payload.as_ref())))
}

/// The entry of a function without a result: its status, and the error through `error`.
pub(super) fn call(
    error: Out<'_, *mut stockade_error>,
    body: impl FnOnce() -> Result<(), Error>,
) -> c_int {
    let (status, object) = match stop_panics(body) {
        Ok(()) => (0, std::ptr::null_mut()),
        Err(e) => (e.kind() as c_int, stockade_error::raw(e, error.is_some())),
    };
    if let Some(error) = error {
        error.write(object);
    }
    status
}

/// The entry of a function that hands something out through `out`, which is named `name` in C. On failure `out`
/// is set to `empty`.
pub(super) fn give<T: Copy>(
    (out, name): (Out<'_, T>, &str),
    empty: T,
    error: Out<'_, *mut stockade_error>,
    body: impl FnOnce() -> Result<T, Error>,
) -> c_int {
    call(error, || {
        let out = required(out, name)?.write(empty);
        *out = body()?;
        Ok(())
    })
}

/// The entry of a function that only reads a handle: `none` if the handle is NULL or a panic comes.
pub(super) fn read<T, R>(handle: Option<&T>, none: R, body: impl FnOnce(&T) -> R) -> R {
    match handle {
        Some(handle) => catch_unwind(AssertUnwindSafe(|| body(handle))).unwrap_or(none),
        None => none,
    }
}

/// The entry of a function that reads a figure which may be missing: whether it is known.
pub(super) fn known<T: Copy>(out: Out<'_, T>, value: Option<T>) -> bool {
    match (value, out) {
        (Some(value), Some(out)) => {
            out.write(value);
            true
        }
        (value, _) => value.is_some(),
    }
}

/// Frees a handle; NULL is nothing to free.
pub(super) fn free<T>(handle: Option<Box<T>>) {
    // A drop that panics has been reported by the panic hook; C has no place for it.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handle)));
}

/// The handle or place called `name`, or an error if it is NULL.
pub(super) fn required<T>(handle: Option<T>, name: &str) -> Result<T, Error> {
    handle.ok_or_else(|| Error::invalid(format!("argument `{name}` is NULL")))
}

/// The C string called `name` as bytes.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that does not change during `'a`.
pub(super) unsafe fn c_bytes<'a>(text: *const c_char, name: &str) -> Result<&'a [u8], Error> {
    if text.is_null() {
        return Err(Error::invalid(format!("argument `{name}` is NULL")));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// The C string called `name` as text.
///
/// # Safety
/// As for [`c_bytes`].
pub(super) unsafe fn c_text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { c_bytes(text, name) }?;
    std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid(format!(
            "argument `{name}` is not UTF-8: \"{}\"",
            bytes.escape_ascii()
        ))
    })
}

/// The `len` bytes at `data`, called `name`. NULL is fine if there are none.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that do not change during `'a`.
pub(super) unsafe fn byte_string<'a>(
    data: *const c_void,
    len: usize,
    name: &str,
) -> Result<&'a [u8], Error> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Error::invalid(format!(
            "argument `{name}` is NULL, but its length is {len}"
        ))),
        (false, _) if len > isize::MAX as usize => Err(Error::invalid(format!(
            "argument `{name}`: {len} bytes are more than an address space holds"
        ))),
        // SAFETY: not NULL, no longer than an object can be; the rest is the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

/// `text` as a C string. A NUL inside, which only damaged data has, becomes U+FFFD.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{FFFD}")).expect("every NUL is replaced")
}

/// The same, to be freed by C with `stockade_string_free`.
pub(super) fn owned_text(text: &str) -> *mut c_char {
    c_string(text).into_raw()
}
