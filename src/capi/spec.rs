//! `stockade_spec`: the handle, JSON, and running it.

mod limits;
mod place;
mod program;

use super::error::stockade_error;
use super::ffi::{c_text, free, give, owned_text, required, stop_panics};
use super::outcome::stockade_outcome;
use super::process::stockade_process;
use crate::error::{Error, ErrorKind};
use crate::spec::Spec;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// What to run, in what, and with which limits. A plain value: it may be run any number of times, by many threads at
/// once, but not be changed meanwhile.
///
/// The return value of its setters need not be looked at: a spec with a setter that failed cannot be run, started or
/// written as JSON; all these then fail with the error of the first such setter, so that no limit is lost unseen.
#[derive(Default)]
pub struct stockade_spec {
    spec: Spec,
    refused: Option<(ErrorKind, String)>,
}

impl stockade_spec {
    /// The specification, if no setter was refused.
    pub(super) fn usable(handle: Option<&Self>) -> Result<&Spec, Error> {
        let handle = required(handle, "spec")?;
        match &handle.refused {
            None => Ok(&handle.spec),
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
        }
    }
}

/// The entry of every setter.
fn set(
    spec: Option<&mut stockade_spec>,
    change: impl FnOnce(&mut Spec) -> Result<(), Error>,
) -> c_int {
    let Some(handle) = spec else {
        return ErrorKind::InvalidArgument as c_int;
    };
    match stop_panics(|| change(&mut handle.spec)) {
        Ok(()) => 0,
        Err(e) => {
            handle
                .refused
                .get_or_insert_with(|| (e.kind(), e.to_string()));
            e.kind() as c_int
        }
    }
}

/// The refusal of `value` for the setting called `name`.
fn unknown(name: &str, value: impl std::fmt::Display, known: &str) -> Error {
    Error::invalid(format!("{name}: {value} is not one of {known}"))
}

/// A specification with every default and no program. Free it with stockade_spec_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_new() -> *mut stockade_spec {
    Box::into_raw(Box::default())
}

/// A copy, its refusals included; NULL if spec is NULL. Free it with stockade_spec_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_clone(spec: Option<&stockade_spec>) -> *mut stockade_spec {
    super::ffi::read(spec, null_mut(), |s| {
        Box::into_raw(Box::new(stockade_spec {
            spec: s.spec.clone(),
            refused: s.refused.clone(),
        }))
    })
}

/// Reads a specification from JSON, the same in every language. An unknown key, a wrong type or a bad unit is an error
/// that names it. Free it with stockade_spec_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_from_json(
    json: *const c_char,
    spec: Option<&mut MaybeUninit<*mut stockade_spec>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((spec, "spec"), null_mut(), error, || {
        // SAFETY: C promises a NUL-terminated string.
        let spec = Spec::from_json(unsafe { c_text(json, "json") }?)?;
        Ok(Box::into_raw(Box::new(stockade_spec {
            spec,
            refused: None,
        })))
    })
}

/// Writes it as JSON. A descriptor of the caller's cannot be written and is an error. Free the text with
/// stockade_string_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_to_json(
    spec: Option<&stockade_spec>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        Ok(owned_text(&stockade_spec::usable(spec)?.to_json()?))
    })
}

/// Runs the program in a sandbox of its own and waits for its end. Free the outcome with stockade_outcome_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_run(
    spec: Option<&stockade_spec>,
    outcome: Option<&mut MaybeUninit<*mut stockade_outcome>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((outcome, "outcome"), null_mut(), error, || {
        Ok(stockade_outcome::raw(stockade_spec::usable(spec)?.run()?))
    })
}

/// Starts the program in a sandbox of its own, without waiting. Free the process with stockade_process_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_spawn(
    spec: Option<&stockade_spec>,
    process: Option<&mut MaybeUninit<*mut stockade_process>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((process, "process"), null_mut(), error, || {
        Ok(stockade_process::raw(stockade_spec::usable(spec)?.spawn()?))
    })
}

/// Frees a specification. What was started from it goes on.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_free(spec: Option<Box<stockade_spec>>) {
    free(spec);
}
