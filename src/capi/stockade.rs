//! What belongs to no handle: version, units, texts.

use super::error::stockade_error;
use super::ffi::{c_text, give};
use crate::error::Error;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;

/// The version of this header: major number.
pub const STOCKADE_VERSION_MAJOR: c_int = 0;
/// Minor number.
pub const STOCKADE_VERSION_MINOR: c_int = 1;
/// Patch number.
pub const STOCKADE_VERSION_PATCH: c_int = 0;

const _: () = {
    assert!(STOCKADE_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR")));
    assert!(STOCKADE_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR")));
    assert!(STOCKADE_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")));
};

const fn number(digits: &str) -> c_int {
    match c_int::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version has three numbers"),
    }
}

/// The version of the library that runs, "major.minor.patch". Static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Reads a size as people write it, "256m" or "1GiB": digits and one of b, k, m, g, t, all binary, as Docker's are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_parse_size(
    text: *const c_char,
    bytes: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((bytes, "bytes"), 0, error, || {
        // SAFETY: C promises a NUL-terminated string.
        crate::parse_size(unsafe { c_text(text, "text") }?)
    })
}

/// Reads a duration as people write it, "500ms" or "1.5s": a number and one of ns, us, ms, s, m, h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_parse_duration(
    text: *const c_char,
    nanoseconds: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((nanoseconds, "nanoseconds"), 0, error, || {
        // SAFETY: C promises a NUL-terminated string.
        let text = unsafe { c_text(text, "text") }?;
        u64::try_from(crate::parse_duration(text)?.as_nanos()).map_err(|_| {
            Error::invalid(format!(
                "`{text}`: the duration does not fit in 64 bits of nanoseconds"
            ))
        })
    })
}

/// Frees a text that stockade handed out as char *.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: C promises that it comes from `owned_text` and was not freed before.
        drop(unsafe { CString::from_raw(text) });
    }
}
