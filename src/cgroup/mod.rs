//! cgroups: which rung of the ladder this host allows, and what a run's groups are.
//!
//! Rung 1 is a writable cgroup v2 subtree, rung 3 the writable controllers of v1, rung 4 none at all (rung 2, systemd's
//! user manager, is not here yet). This module decides and prepares; the supervisor makes a group for each run below
//! the base directories that are prepared here, fills it in, reads and removes it, as a [`Layout`] says. The host
//! process itself is never moved.

mod host;
mod sweep;
mod v1;
mod v2;

use crate::error::Error;
use crate::outcome::{Enforcement, EnforcementStatus, Usage};
use crate::spec::Spec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Which kind of cgroups is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    V2,
    V1,
}

/// The base groups of one supervisor.
pub(crate) struct Cgroup {
    kind: Kind,
    name: String,
    bases: Vec<Base>,
    dirs: Vec<OwnedFd>,
    why_not: Option<String>,
}

/// A base directory and the controllers that can be used in it.
struct Base {
    path: PathBuf,
    controllers: Vec<&'static str>,
}

/// What the supervisor does for one run. Numbers of directories are places in [`Cgroup::dirs`].
#[derive(Default)]
pub(crate) struct Layout {
    pub writes: Vec<Write>,
    /// Groups that the program enters.
    pub enter: Vec<u8>,
    /// The file to enter by, where it is done by writing.
    pub enter_file: &'static str,
    pub reads: Vec<Read>,
    pub cpu: Option<CpuClock>,
}

/// A control file to fill in.
pub(crate) struct Write {
    pub dir: u8,
    pub file: &'static str,
    pub value: String,
    /// Whether failing is an error; else the file may be missing on this kernel.
    pub required: bool,
}

/// A file to read at the end.
#[derive(Clone, Copy)]
pub(crate) struct Read {
    pub dir: u8,
    pub file: &'static str,
}

/// How the supervisor reads CPU time while the program runs: the number behind `key` (or the first of the file).
pub(crate) struct CpuClock {
    pub read: u8,
    pub key: &'static str,
    pub unit_ns: u32,
}

impl Cgroup {
    /// Finds the best rung and prepares it. Where there is no cgroup to be had, that is a rung too, with its reason.
    ///
    /// # Errors
    /// Only for a `cgroup_parent` that cannot be used.
    pub fn prepare(cgroup_parent: Option<&str>) -> Result<Cgroup, Error> {
        let name = sweep::new_name();
        if let Some(parent) = cgroup_parent {
            let base = v2::prepare_given(Path::new(parent), &name)
                .map_err(|why| Error::invalid(format!("cgroup_parent: `{parent}`: {why}")))?;
            return Cgroup::with(Kind::V2, name, vec![base], None);
        }
        let mut reasons = Vec::new();
        let host = host::Host::read();
        match v2::prepare(&host, &name) {
            Ok(base) => return Cgroup::with(Kind::V2, name, vec![base], None),
            Err(why) => reasons.push(format!("cgroup v2: {why}")),
        }
        match v1::prepare(&host, &name) {
            Ok(bases) => return Cgroup::with(Kind::V1, name, bases, None),
            Err(why) => reasons.push(format!("cgroup v1: {why}")),
        }
        Cgroup::with(
            Kind::None,
            String::new(),
            Vec::new(),
            Some(reasons.join("; ")),
        )
    }

    fn with(
        kind: Kind,
        name: String,
        bases: Vec<Base>,
        why_not: Option<String>,
    ) -> Result<Cgroup, Error> {
        let mut cgroup = Cgroup {
            kind,
            name,
            bases,
            dirs: Vec::new(),
            why_not,
        };
        for base in &cgroup.bases {
            match std::fs::File::open(&base.path) {
                Ok(dir) => cgroup.dirs.push(dir.into()),
                Err(e) => {
                    cgroup.remove();
                    return Err(Error::system(
                        format!("opening cgroup {}", base.path.display()),
                        e,
                    ));
                }
            }
        }
        Ok(cgroup)
    }

    /// The base directories.
    pub fn dirs(&self) -> &[OwnedFd] {
        &self.dirs
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of the base directory in each hierarchy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why there is no cgroup, in words with what to do about it.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// The place of the base directory that has `controller`.
    fn dir(&self, controller: &str) -> Option<u8> {
        self.bases
            .iter()
            .position(|base| base.controllers.contains(&controller))
            .map(|i| i as u8)
    }

    pub fn layout(&self, spec: &Spec) -> Layout {
        match self.kind {
            Kind::None => Layout::default(),
            Kind::V2 => v2::layout(self, spec),
            Kind::V1 => v1::layout(self, spec),
        }
    }

    /// What holds `limit` (`"memory"`, `"pids"`, `"cpu_time"`) here; `None` if no cgroup does.
    pub fn enforcement(&self, limit: &str) -> Option<Enforcement> {
        let by = match self.kind {
            Kind::None => return None,
            Kind::V2 => v2::enforced_by(self, limit)?,
            Kind::V1 => v1::enforced_by(self, limit)?,
        };
        Some(Enforcement {
            status: EnforcementStatus::Enforced,
            by: by.into(),
        })
    }

    /// Fills in what the files of [`Layout::reads`] say; `None` for one that could not be read.
    pub fn fill_usage(&self, reads: &[Option<&[u8]>], usage: &mut Usage) {
        let files = match self.kind {
            Kind::None => return,
            Kind::V2 => v2::reads(self),
            Kind::V1 => v1::reads(self),
        };
        for (read, content) in files.iter().zip(reads) {
            let Some(text) = content.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
                continue;
            };
            match self.kind {
                Kind::V1 => v1::fill(read.file, text, usage),
                _ => v2::fill(read.file, text, usage),
            }
        }
    }

    /// Removes the base directories; the supervisor does it when it ends in order.
    pub fn remove(&self) {
        for base in &self.bases {
            sweep::remove_tree(&base.path);
        }
    }
}

/// The number behind `key` in a flat keyed file.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}
