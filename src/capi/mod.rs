//! The C face: the same nouns as the Rust one, behind opaque handles. `docs/abi.md` states its rules and
//! `include/stockade.h` is generated from the comments and signatures here.
//!
//! Handles come in as `Option<&T>` and leave as boxes, so that most functions need no `unsafe`: what C must promise
//! for that (a handle is live, not freed by another thread meanwhile, and out-parameters point to something
//! writable) is written at the top of the header.
#![allow(non_camel_case_types, reason = "the names of the handles are C's")]

mod build;
mod changes;
mod commit;
mod doctor;
mod error;
mod ffi;
mod files;
mod notification;
mod outcome;
mod process;
mod pull;
mod quiet;
mod sandbox;
mod spec;
mod stats;
mod stockade;
mod store;
#[cfg(test)]
mod tests;
mod update;
