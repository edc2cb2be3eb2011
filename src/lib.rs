//! Stockade: rootless Linux sandboxes that other programs embed.
mod bytes;
mod error;
mod outcome;
mod spec;
mod units;

pub use bytes::Bytes;
pub use error::{Error, ErrorKind};
pub use outcome::{Enforcement, EnforcementStatus, Outcome, OutputFile, Usage, Verdict};
pub use spec::{Enforce, File, Network, Overflow, Rootfs, Spec, Stdio, Tmpfs, Volume};
pub use units::{parse_duration, parse_size};
