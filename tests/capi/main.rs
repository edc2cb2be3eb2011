//! The C face as C sees it: header, libraries, installation, and C programs run against them.

mod build;
mod header;
mod library;
mod programs;
