//! The C face as C sees it: header, libraries, installation, and C programs run against them.

mod build;
mod header;
mod library;
mod nulls;
mod programs;
mod scenarios;
#[path = "../suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros)] // the suite uses all of it
mod support;
