//! cgroups: which rung of the ladder this host allows, and what a run's groups are.
//!
//! Rung 1 is a writable cgroup v2 subtree, rung 2 a scope of systemd's, rung 3 the writable controllers of v1, rung 4
//! none at all. This module decides and prepares; the supervisor makes a group for each run below
//! the base directories that are prepared here, fills it in, reads and removes it, as a [`Layout`] says. The host
//! process itself is never moved, and nothing of its own group is changed.

mod host;
mod sweep;
mod systemd;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use crate::error::Error;
use crate::launch::above_stdio;
use crate::outcome::{Enforcement, EnforcementStatus, Usage};
use crate::spec::Spec;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks of the supervisor's at most, where a limit or a peak hangs on them, and where none does.
const LOOK_MAX: Duration = Duration::from_millis(20);
const LOOK_RARE: Duration = Duration::from_secs(1);

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
    /// The process that made it: a forked child must not remove what is its parent's.
    owner: u32,
    bases: Vec<Base>,
    dirs: Vec<OwnedFd>,
    reads: Vec<Read>,
    /// What keeps a group's memory out of swap: a file and its value; `None` where nothing does.
    swap: Option<Swap>,
    why_not: Option<String>,
}

/// A base directory and the controllers that can be used in it.
struct Base {
    path: PathBuf,
    controllers: Vec<&'static str>,
}

/// How a memory limit is made to count swap as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swap {
    /// This file limits swap.
    Limited(&'static str),
    /// This file, set to 0, forbids swapping.
    Forbidden(&'static str),
    /// This file limits memory and swap together.
    Counted(&'static str),
    /// This kernel does not swap.
    Absent,
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
    /// Which of `reads` says how much memory is in use, which says what that is, and which how much of it is the
    /// kernel's, if the former does not.
    pub memory: Option<u8>,
    pub stat: Option<u8>,
    pub kernel: Option<u8>,
    /// Which says how much swap is in use, if nothing says how much was; and whether it counts memory as well.
    pub swap: Option<u8>,
    pub swap_with_memory: bool,
    /// Which of `reads` counts OOM kills behind `oom_kill`, if the kernel does not end the whole group itself.
    pub oom: Option<u8>,
}

/// A control file to fill in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub dir: u8,
    pub file: &'static str,
    pub value: String,
    /// Whether failing is an error.
    pub required: bool,
}

/// A file to read: at the end, or only while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub dir: u8,
    pub file: &'static str,
    pub at_end: bool,
}

/// How the supervisor reads CPU time while the program runs: the number behind `key` (or the first of the file).
pub(crate) struct CpuClock {
    pub read: u8,
    pub key: &'static str,
    pub unit_ns: u32,
}

/// What a rung has prepared: base directories, and for the controllers that it lacks the reasons.
struct Prepared {
    bases: Vec<Base>,
    lacks: Vec<String>,
}

impl Cgroup {
    /// Prepares the group that the caller has named; with the CPU controller if `cpu`.
    ///
    /// # Errors
    /// If it cannot be used, or if this process has no descriptors left.
    pub fn in_parent(parent: &str, cpu: bool) -> Result<Cgroup, Error> {
        let name = sweep::new_name();
        let prepared = v2::prepare_given(&host::Host::read(), Path::new(parent), &name, cpu)
            .map_err(|why| Error::invalid(format!("cgroup_parent: `{parent}`: {why}")))?;
        Cgroup::with(Kind::V2, name, prepared)
    }

    /// Finds the best rung for the supervisor, process `pid`, and prepares it, likewise. Where there is no cgroup to be had, that
    /// is a rung too, with its reason.
    ///
    /// # Errors
    /// If this process has no descriptors left.
    pub fn find(pid: i32, cpu: bool) -> Result<Cgroup, Error> {
        let name = sweep::new_name();
        let host = host::Host::read();
        type Rung<'a> = (&'a str, Kind, &'a dyn Fn() -> Result<Prepared, String>);
        let rungs: [Rung; 3] = [
            ("cgroup v2", Kind::V2, &|| v2::prepare(&host, &name, cpu)),
            ("systemd", Kind::V2, &|| {
                systemd::prepare(&host, &name, pid, cpu)
            }),
            ("cgroup v1", Kind::V1, &|| v1::prepare(&host, &name, cpu)),
        ];
        let mut lacks = Vec::new();
        for (rung, kind, prepare) in rungs {
            match prepare() {
                Ok(prepared) => return Cgroup::with(kind, name.clone(), prepared),
                Err(why) => lacks.push(format!("{rung}: {why}")),
            }
        }
        let none = Prepared {
            bases: Vec::new(),
            lacks,
        };
        Cgroup::with(Kind::None, String::new(), none)
    }

    fn with(kind: Kind, name: String, prepared: Prepared) -> Result<Cgroup, Error> {
        let Prepared { bases, lacks } = prepared;
        let mut cgroup = Cgroup {
            kind,
            name,
            owner: std::process::id(),
            bases,
            dirs: Vec::new(),
            reads: Vec::new(),
            swap: None,
            why_not: (!lacks.is_empty()).then(|| lacks.join("; ")),
        };
        for base in &cgroup.bases {
            let opened = std::fs::File::open(&base.path).and_then(|dir| above_stdio(dir.into()));
            match opened {
                Ok(dir) => cgroup.dirs.push(dir),
                Err(e) => {
                    cgroup.remove();
                    let what = format!("opening cgroup {}", base.path.display());
                    return Err(Error::system(what, e));
                }
            }
        }
        let (reads, swap) = match kind {
            Kind::None => (Vec::new(), None),
            Kind::V2 => {
                let mut reads = cgroup.present(&v2::READS, true);
                let mut looks = cgroup.present(&v2::LOOKS, false);
                if !reads.iter().any(|read| read.file == v2::PEAK) {
                    looks
                        .iter_mut()
                        .filter(|read| read.file == v2::CURRENT)
                        .for_each(|read| read.at_end = true);
                }
                if reads.iter().any(|read| read.file == v2::SWAP_PEAK) {
                    looks.retain(|read| read.file != v2::SWAP_CURRENT);
                }
                reads.extend(looks);
                (reads, v2::swap(&cgroup))
            }
            Kind::V1 => {
                let mut reads = cgroup.present(&v1::READS, true);
                reads.extend(cgroup.present(&v1::LOOKS, false));
                (reads, v1::swap(&cgroup))
            }
        };
        (cgroup.reads, cgroup.swap) = (reads, swap);
        Ok(cgroup)
    }

    /// Those of `files`, each of a controller (`""`: of every group), that this kernel has.
    fn present(&self, files: &[(&str, &'static str)], at_end: bool) -> Vec<Read> {
        let read = |&(controller, file)| {
            let dir = match controller {
                "" => 0,
                controller => self.dir(controller)?,
            };
            self.has(dir, file).then_some(Read { dir, file, at_end })
        };
        files.iter().filter_map(read).collect()
    }

    /// Whether the groups in base directory `dir` have `file`: those that the base directory has itself.
    fn has(&self, dir: u8, file: &str) -> bool {
        self.bases[usize::from(dir)].path.join(file).exists()
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

    /// Why a controller, or every one, is not used: in words, with what to do about it.
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
        let (enter_file, memory, clock) = match self.kind {
            Kind::None => return Layout::default(),
            Kind::V2 => (v2::ENTER, v2::MEMORY, v2::CLOCK),
            Kind::V1 => (v1::ENTER, v1::MEMORY, v1::CLOCK),
        };
        let swap = spec.swap.unwrap_or(0);
        let mut writes = Vec::new();
        let mut write = |dir, file, value: String, required| {
            writes.push(Write {
                dir,
                file,
                value,
                required,
            });
        };
        if let (Some(limit), Some(dir)) = (spec.memory, self.dir("memory")) {
            write(dir, memory, limit.to_string(), true);
            match self.swap {
                Some(Swap::Limited(file)) => write(dir, file, swap.to_string(), true),
                Some(Swap::Forbidden(file)) if swap == 0 => write(dir, file, "0".into(), true),
                Some(Swap::Counted(file)) => write(dir, file, (limit + swap).to_string(), true),
                Some(Swap::Forbidden(_) | Swap::Absent) | None => {}
            }
            if self.kind == Kind::V2 {
                write(dir, v2::OOM_GROUP, "1".into(), false); // Linux 4.19 and later
            }
        }
        if let (Some(limit), Some(dir)) = (spec.pids, self.dir("pids")) {
            write(dir, "pids.max", limit.to_string(), true);
        }
        if let Some(dir) = self.dir("cpu") {
            let (bandwidth, weight) = match self.kind {
                Kind::V1 => (v1::bandwidth as fn(f64) -> _, v1::weight as fn(u64) -> _),
                _ => (v2::bandwidth as fn(f64) -> _, v2::weight as fn(u64) -> _),
            };
            for (file, value) in spec.cpus.map(bandwidth).into_iter().flatten() {
                write(dir, file, value, true);
            }
            if let Some((file, value)) = spec.cpu_weight.map(weight) {
                write(dir, file, value, true);
            }
        }
        let (file, key, unit_ns) = clock;
        let place = |file: &str| self.reads.iter().position(|read| read.file == file);
        let either =
            |files: [&str; 2]| files.iter().find_map(|file| place(file)).map(|at| at as u8);
        let oom = place(v1::OOM).filter(|_| spec.memory.is_some());
        Layout {
            writes,
            enter: (0..self.bases.len() as u8).collect(),
            enter_file,
            reads: self.reads.clone(),
            cpu: place(file).map(|at| CpuClock {
                read: at as u8,
                key,
                unit_ns,
            }),
            memory: either([v2::CURRENT, v1::CURRENT]),
            stat: either([v2::STAT, v1::STAT]),
            kernel: either([v1::KERNEL, v1::KERNEL]),
            swap: either([v2::SWAP_CURRENT, v1::MEMORY_SWAP]),
            swap_with_memory: self.kind == Kind::V1,
            oom: oom.map(|at| at as u8),
        }
    }

    /// What holds `limit` (`"memory"`, `"swap"`, `"pids"`, `"cpu_time"`, `"cpus"`, `"cpu_weight"`) here; `None` if no cgroup does.
    pub fn enforcement(&self, limit: &str) -> Option<Enforcement> {
        let (version, memory, clock) = match self.kind {
            Kind::None => return None,
            Kind::V2 => ("v2", v2::MEMORY, v2::CLOCK.0),
            Kind::V1 => ("v1", v1::MEMORY, v1::CLOCK.0),
        };
        let enforced = |by| (EnforcementStatus::Enforced, by);
        let (status, by) = match limit {
            "memory" => {
                self.dir("memory")?;
                let by = format!("cgroup {version} {memory}");
                match self.swap {
                    Some(_) => enforced(by),
                    None => (
                        EnforcementStatus::Approximated,
                        format!("{by}, without what is swapped out: this kernel counts no swap"),
                    ),
                }
            }
            "swap" => {
                self.dir("memory")?;
                match self.swap? {
                    Swap::Limited(file) => enforced(format!("cgroup {version} {file}")),
                    Swap::Counted(file) => {
                        enforced(format!("cgroup {version} {file}, less memory"))
                    }
                    Swap::Absent => enforced("this kernel was built without swap".into()),
                    Swap::Forbidden(_) => return None,
                }
            }
            "cpus" => {
                self.dir("cpu")?;
                let file = match self.kind {
                    Kind::V1 => v1::BANDWIDTH,
                    _ => v2::BANDWIDTH,
                };
                enforced(format!("cgroup {version} {file}"))
            }
            "cpu_weight" => {
                self.dir("cpu")?;
                let file = match self.kind {
                    Kind::V1 => v1::WEIGHT,
                    _ => v2::WEIGHT,
                };
                enforced(format!("cgroup {version} {file}"))
            }
            "pids" => {
                self.dir("pids")?;
                enforced(format!("cgroup {version} pids.max"))
            }
            "cpu_time" => {
                self.reads.iter().find(|read| read.file == clock)?;
                enforced(format!(
                    "the supervisor's clock on cgroup {version} {clock}"
                ))
            }
            _ => return None,
        };
        Some(Enforcement { status, by })
    }

    /// Whether the most memory that was in use is only what was seen.
    pub fn samples_memory(&self) -> bool {
        let current = |read: &Read| read.file == v2::CURRENT && read.at_end;
        self.reads.iter().any(current)
    }

    /// Whether nothing counts memory and processes, so that the processes themselves are looked at.
    pub fn samples_processes(&self) -> bool {
        self.dir("memory").is_none()
    }

    /// The longest time between two looks at memory. Where the most is known otherwise, they are for what it is, and
    /// grow rare as the run gets old.
    pub fn look_max(&self, limit: Option<u64>) -> Duration {
        let needed = self.samples_memory() || (self.samples_processes() && limit.is_some());
        match needed {
            true => LOOK_MAX,
            false => LOOK_RARE,
        }
    }

    /// Where the looks at memory find what it is; swap likewise.
    pub fn looks_at(&self) -> (&'static str, &'static str) {
        match self.kind {
            _ if self.samples_processes() => ("procfs and statfs(2) of the sandbox", ""),
            Kind::None => ("", ""),
            Kind::V2 => ("cgroup v2 memory.stat", "cgroup v2 memory.swap.current"),
            Kind::V1 => (
                "cgroup v1 memory.stat",
                "cgroup v1 memory.memsw.usage_in_bytes, less memory",
            ),
        }
    }

    /// Fills in what the files of [`Layout::reads`] say; `None` for one that could not be read. `limit`: on memory.
    pub fn fill_usage(&self, reads: &[Option<&[u8]>], limit: Option<u64>, usage: &mut Usage) {
        for (read, content) in self.reads.iter().zip(reads) {
            let Some(text) = content.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
                continue;
            };
            match self.kind {
                Kind::None => {}
                Kind::V1 => v1::fill(read.file, text, usage),
                Kind::V2 => v2::fill(read.file, text, usage),
            }
        }
        if self.kind == Kind::V1 {
            v1::judge_kills(limit, usage);
        }
    }

    /// Removes the base directories, if the supervisor has not: it does so when it ends in order.
    pub fn remove(&self) {
        if self.owner == std::process::id() {
            for base in &self.bases {
                sweep::remove_tree(&base.path);
            }
        }
    }
}

/// Whether the supervisor may write `path`. It has the caller's ids, but none of the capabilities that root may have.
fn may_write(path: &Path) -> bool {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    std::fs::metadata(path).is_ok_and(|file| {
        let bits = if file.uid() == user.as_raw() {
            0o200
        } else if file.gid() == group.as_raw() {
            0o020
        } else {
            0o002
        };
        file.mode() & bits != 0
    })
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
