//! The doctor.

use super::error::stockade_error;
use super::ffi::{give, owned_text};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// What this host can do: a JSON array of {"name", "status", "detail", "fix"}, where status is "ok", "degraded" or
/// "missing" and fix the exact remedy, or null. Changes nothing; takes some milliseconds. Free the text with
/// stockade_string_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_doctor(
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let text = serde_json::to_string(&crate::doctor()).expect("checks are plain texts");
        Ok(owned_text(&text))
    })
}
