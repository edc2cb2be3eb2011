//! What no C program can bring about.

use super::error::*;
use super::ffi::{c_string, call, known, read, stop_panics};
use super::outcome::{stockade_verdict_name, stockade_verdict_short};
use crate::error::{Error, ErrorKind};
use crate::outcome::Verdict;
use std::ffi::CStr;
use std::mem::MaybeUninit;

#[test]
fn a_panic_becomes_an_internal_error() {
    let mut place = MaybeUninit::uninit();
    let status = call(Some(&mut place), || panic!("on purpose, number {}", 7));
    // SAFETY: `call` has written it.
    let raw = unsafe { place.assume_init() };
    // SAFETY: a handle just made, from a box.
    let error = unsafe { Box::from_raw(raw) };
    assert_eq!(status, STOCKADE_ERROR_INTERNAL);
    assert_eq!(stockade_error_kind(Some(&error)), STOCKADE_ERROR_INTERNAL);
    // SAFETY: a C string owned by the error.
    let message = unsafe { CStr::from_ptr(stockade_error_message(Some(&error))) };
    assert_eq!(
        message.to_str().unwrap(),
        "a bug in stockade, please report it: on purpose, number 7"
    );
}

#[test]
fn a_panic_in_an_accessor_gives_its_neutral_value() {
    assert_eq!(read(Some(&1), -1, |_| panic!("on purpose")), -1);
}

#[test]
fn any_panic_payload_is_survived() {
    let error = stop_panics::<()>(|| std::panic::panic_any(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn an_error_nobody_asked_for_is_only_a_status() {
    assert_eq!(
        call(None, || Err(Error::new(ErrorKind::Resource, "full"))),
        STOCKADE_ERROR_RESOURCE
    );
}

#[test]
fn success_clears_the_error() {
    let mut place = MaybeUninit::new(std::ptr::dangling_mut());
    assert_eq!(call(Some(&mut place), || Ok(())), STOCKADE_OK);
    // SAFETY: initialised.
    assert!(unsafe { place.assume_init() }.is_null());
}

#[test]
fn an_error_keeps_errno_and_step() {
    let error = Error::new(ErrorKind::Setup, "cannot mount proc")
        .with_errno(libc::EPERM)
        .with_step("mount proc");
    let mut place = MaybeUninit::uninit();
    assert_eq!(call(Some(&mut place), || Err(error)), STOCKADE_ERROR_SETUP);
    // SAFETY: `call` has written a handle made from a box.
    let error = unsafe { Box::from_raw(place.assume_init()) };
    assert_eq!(stockade_error_errno(Some(&error)), libc::EPERM);
    // SAFETY: a C string owned by the error.
    let step = unsafe { CStr::from_ptr(stockade_error_step(Some(&error))) };
    assert_eq!(step, c"mount proc");
}

#[test]
fn a_missing_figure_leaves_the_place_alone() {
    let mut place = MaybeUninit::new(5);
    assert!(!known(Some(&mut place), None));
    // SAFETY: initialised.
    assert_eq!(unsafe { place.assume_init() }, 5);
    assert!(known::<u64>(None, Some(1)));
}

#[test]
fn a_nul_in_a_text_does_not_cut_it() {
    assert_eq!(c_string("a\0b").to_str().unwrap(), "a\u{FFFD}b");
}

#[test]
fn verdicts_have_the_names_they_have_in_rust() {
    for verdict in Verdict::ALL {
        let number = verdict as i32;
        // SAFETY: static C strings.
        let (name, short) = unsafe {
            (
                CStr::from_ptr(stockade_verdict_name(number)),
                CStr::from_ptr(stockade_verdict_short(number)),
            )
        };
        assert_eq!(
            (name.to_str().unwrap(), short.to_str().unwrap()),
            (verdict.name(), verdict.short())
        );
    }
    for number in [-1, Verdict::ALL.len() as i32, i32::MAX, i32::MIN] {
        assert!(
            stockade_verdict_name(number).is_null() && stockade_verdict_short(number).is_null(),
            "{number}"
        );
    }
}
