//! Which system calls a program may make.

use crate::error::Error;
use crate::seccomp::{self, Own};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;

/// The seccomp profile: which system calls the program may make. In text and JSON `default`, `strict`, or a profile in
/// Docker's format (an object).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Profile {
    /// What Docker's default profile allows a container that has no capability, and a little less.
    #[default]
    Default,
    /// What interpreters, compilers and the programs that they make need to compute, use files and start each other: no
    /// debugging, no System V IPC, no sockets but AF_UNIX in a sandbox without a network, ...
    Strict,
    /// A profile of the caller's, in place of the default one.
    Docker(DockerProfile),
}

/// A profile in the format of Docker's `--security-opt seccomp=`, and of `linux.seccomp` in the OCI runtime specification.
///
/// It is read for this machine and for a program without capabilities. Its rules mean what they mean to Docker, except
/// that other ABIs of the machine (32-bit, x32) always kill, that calls newer than Stockade do not exist, and that
/// nothing takes away what limits rest on: huge pages without `hugetlb`, `ioctl` requests that type into a terminal, and
/// `prlimit` of another process are refused as in the default profile. `SCMP_ACT_TRACE` and `SCMP_ACT_NOTIFY` are
/// refused, as are keys that are not known. `SCMP_ACT_KILL`, `KILL_THREAD` and `KILL_PROCESS` are one: the run ends.
#[derive(Clone, Debug)]
pub struct DockerProfile {
    document: Arc<Value>,
    own: Arc<Own>,
}

impl DockerProfile {
    /// Reads a document.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is not in that format, not for this architecture,
    /// contradicts itself, denies a call by a name that is not known, or does not allow `execve` and `exit_group`.
    pub fn new(document: Value) -> Result<DockerProfile, Error> {
        let own = Arc::new(Own::read(&document)?);
        let document = Arc::new(document);
        Ok(DockerProfile { document, own })
    }

    /// Its filters.
    #[cfg(fuzzing)]
    pub(crate) fn programs(&self) -> [&[libc::sock_filter]; 2] {
        [false, true].map(|huge_pages| self.own.program(huge_pages))
    }

    /// Whether it answers a call by SIGSYS.
    pub(crate) fn traps(&self) -> bool {
        self.own.traps()
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.document
    }
}

impl PartialEq for DockerProfile {
    fn eq(&self, other: &DockerProfile) -> bool {
        self.document == other.document
    }
}

impl Profile {
    /// The filter's bytes.
    pub(crate) fn filter(&self, network: bool, huge_pages: bool) -> &[u8] {
        seccomp::as_bytes(match self {
            Profile::Default => seccomp::default_program(huge_pages),
            Profile::Strict => seccomp::strict_program(network, huge_pages),
            Profile::Docker(profile) => profile.own.program(huge_pages),
        })
    }
}

impl TryFrom<Value> for Profile {
    type Error = Error;

    fn try_from(value: Value) -> Result<Profile, Error> {
        match value {
            Value::String(text) => text.parse(),
            document @ Value::Object(_) => DockerProfile::new(document).map(Profile::Docker),
            _ => Err(wrong()),
        }
    }
}

impl From<Profile> for Value {
    fn from(profile: Profile) -> Value {
        match profile {
            Profile::Default => "default".into(),
            Profile::Strict => "strict".into(),
            Profile::Docker(profile) => (*profile.document).clone(),
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    /// `default`, `strict`, or the text of a document.
    fn from_str(text: &str) -> Result<Profile, Error> {
        match text {
            "default" => Ok(Profile::Default),
            "strict" => Ok(Profile::Strict),
            _ if text.trim_start().starts_with('{') => {
                let document = serde_json::from_str(text)
                    .map_err(|e| Error::invalid(format!("profile: {e}")))?;
                DockerProfile::new(document).map(Profile::Docker)
            }
            _ => Err(wrong()),
        }
    }
}

fn wrong() -> Error {
    Error::invalid("profile: it is `default`, `strict` or a profile in Docker's JSON format")
}
