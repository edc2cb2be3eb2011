//! What this host can do, and how to mend what it lacks.

mod cgroup;
mod host;
mod ids;
mod kernel;
mod namespaces;
mod proc;
mod storage;

use self::host::{Host, Trial};
use serde::{Deserialize, Serialize};

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: `"user namespace"`.
    pub name: String,
    /// What was found.
    pub status: CheckStatus,
    /// In words: `"works"`, `"ABI 7"`, `"EPERM: ..."`.
    pub detail: String,
    /// The exact command or text that mends it, if it can be mended.
    pub fix: Option<String>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// It works.
    Ok,
    /// It does not, and stockade works without it, with less.
    Degraded,
    /// It does not, and stockade cannot run programs without it.
    Missing,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Check {
            name: name.into(),
            status: CheckStatus::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    fn degraded(name: &str, detail: impl Into<String>) -> Self {
        Check {
            status: CheckStatus::Degraded,
            ..Check::ok(name, detail)
        }
    }

    fn missing(name: &str, detail: impl Into<String>) -> Self {
        Check {
            status: CheckStatus::Missing,
            ..Check::ok(name, detail)
        }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Looks at this host, as the calling process sees it, and runs one empty program in a sandbox to know rather than to
/// guess. Changes nothing on the host; takes some milliseconds, never more than ten seconds. May be called from any
/// thread.
///
/// The checks come in a fixed order: the trial run, then what it needs, then what is only of use. A check that is
/// [`CheckStatus::Missing`] is a reason why no program can be run here.
pub fn doctor() -> Vec<Check> {
    examine(&Host::this(), &Trial::run())
}

/// The checks themselves, apart from where the facts come from, so that tests can describe other hosts.
fn examine(host: &Host, trial: &Trial) -> Vec<Check> {
    let mut checks = vec![trial.check(), kernel::version(host)];
    checks.extend(namespaces::checks(host, trial));
    checks.push(proc::check(host, trial));
    checks.push(kernel::seccomp());
    checks.push(kernel::memfd(host, trial));
    checks.push(cgroup::check(host, trial));
    checks.push(ids::check(host));
    checks.push(kernel::landlock());
    checks.push(storage::overlay(host));
    checks.push(storage::fuse(host));
    checks
}

#[cfg(test)]
mod tests;
