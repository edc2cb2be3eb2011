//! Stockade: rootless Linux sandboxes that other programs embed.
//!
//! One call runs an untrusted program in a container of its own and comes back with a verdict and a bill:
//!
//! ```
//! use stockade::{Spec, Verdict};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), stockade::Error> {
//! let outcome = Spec::new(["echo", "hello"]).wall_time(Duration::from_secs(10)).run()?;
//! assert_eq!(outcome.verdict, Verdict::Ok);
//! assert_eq!(&*outcome.stdout, b"hello\n");
//! # Ok(())
//! # }
//! ```

mod apparmor;
mod bytes;
#[cfg(feature = "capi")]
mod capi;
mod capture;
mod cgroup;
mod changes;
mod channel;
mod cores;
mod doctor;
mod enforcement;
mod error;
#[cfg(all(fuzzing, feature = "image"))]
pub mod fuzzing;
mod ids;
#[cfg(feature = "image")]
pub mod image;
#[cfg(not(feature = "image"))]
#[path = "image_off.rs"]
mod image;
mod landlock;
mod launch;
mod limits;
mod mounts;
mod once;
mod orphan;
mod outcome;
mod overlay;
mod plan;
mod process;
#[cfg(feature = "python")]
mod python;
mod rates;
mod remedy;
mod restrict;
mod rights;
mod sandbox;
mod seccomp;
mod sparse;
mod spec;
mod supervisor;
mod units;
mod update;
mod verdict;
mod violation;
#[allow(dead_code)] // each side uses its half
mod wire;

pub use bytes::Bytes;
pub use changes::{Change, ChangeKind};
pub use doctor::{Check, CheckStatus, doctor};
pub use error::{Error, ErrorKind};
pub use outcome::{Enforcement, EnforcementStatus, Outcome, OutputFile, Stats, Usage, Verdict};
pub use process::{Notification, Process};
pub use rates::{DeviceRate, HugePages};
pub use sandbox::Sandbox;
pub use spec::{
    DockerProfile, Enforce, File, Isolation, Network, Overflow, Overlay, Profile, Rootfs, Spec,
    Stdio, Tmpfs, Volume,
};
pub use units::{parse_duration, parse_signal, parse_size};
pub use update::Update;
pub use violation::Violation;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
