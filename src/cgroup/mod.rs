//! cgroups: which rung of the ladder this host allows, and what a run's groups are.
//!
//! Rung 1 is a writable cgroup v2 subtree, rung 2 a scope of systemd's, rung 3 the writable controllers of v1, rung 4
//! none at all. This module decides and prepares; the supervisor makes a group for each run below
//! the base directories that are prepared here, fills it in, reads and removes it, as a [`Layout`] says. The host
//! process itself is never moved, and nothing of its own group is changed.

mod holds;
mod host;
mod io;
mod layout;
mod refused;
mod sweep;
mod systemd;
#[cfg(test)]
mod tests;
mod update;
mod v1;
mod v2;

use crate::error::Error;
use crate::launch::above_stdio;
use crate::outcome::{Stats, Usage};
use crate::spec::Spec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use io::IoWeight;
pub(crate) use io::device;
pub(crate) use layout::Layout;
use layout::Read;
#[cfg(test)]
use layout::Write;
use refused::Refused;
pub(crate) use update::Unchanged;

/// Between two looks of the supervisor's at most, where a limit or a peak hangs on them, and where none does.
const LOOK_MAX: Duration = Duration::from_millis(20);
const LOOK_RARE: Duration = Duration::from_secs(1);

/// Said of what holds a limit on rung 2.
const IN_SCOPE: &str = ", in a scope of systemd's";

/// Processes and threads now.
const PIDS_CURRENT: &str = "pids.current";

/// Which kind of cgroups is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    V2,
    V1,
}

impl Kind {
    fn version(self) -> &'static str {
        match self {
            Kind::None => "",
            Kind::V2 => "v2",
            Kind::V1 => "v1",
        }
    }
}

/// Controllers beyond those that every run has: each costs in every run's mkdir, so they are for those who ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Controllers {
    pub cpu: bool,
    pub cpuset: bool,
    pub io: bool,
    pub hugetlb: bool,
}

impl Controllers {
    /// Those that the limits of `spec` need.
    pub fn of(spec: &Spec) -> Controllers {
        Controllers {
            cpu: spec.cpus.is_some() || spec.cpu_weight.is_some() || spec.cpu_idle,
            cpuset: spec.cpuset_cpus.is_some(),
            io: spec.io_weight.is_some() || spec.io_limits().iter().any(|(_, all)| !all.is_empty()),
            hugetlb: !spec.hugetlb.is_empty(),
        }
    }

    /// Their names, of which only that for block devices, `io`, depends on the version.
    fn names(self, io: &'static str) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.cpu, "cpu"),
            (self.cpuset, "cpuset"),
            (self.io, io),
            (self.hugetlb, "hugetlb"),
        ];
        all.into_iter()
            .filter_map(|(wanted, name)| wanted.then_some(name))
    }

    /// The name of one that is not among `others`.
    pub fn beyond(self, others: Controllers) -> Option<&'static str> {
        let others: Vec<&str> = others.names("io").collect();
        self.names("io").find(|name| !others.contains(name))
    }
}

/// The base groups of one supervisor.
pub(crate) struct Cgroup {
    kind: Kind,
    /// Whether they are in a scope that systemd has made.
    scope: bool,
    name: String,
    /// The process that made it: a forked child must not remove what is its parent's.
    owner: u32,
    bases: Vec<Base>,
    dirs: Vec<OwnedFd>,
    reads: Vec<Read>,
    /// What keeps a group's memory out of swap: a file and its value; `None` where nothing does.
    swap: Option<Swap>,
    /// What sets a share of the block devices; `None` where nothing minds.
    io_weight: Option<IoWeight>,
    /// Of v1: the processors and memory nodes of a run that asks for no others.
    cpuset: Option<(String, String)>,
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

/// What a rung has prepared: base directories, and for the controllers that it lacks the reasons.
struct Prepared {
    bases: Vec<Base>,
    lacks: Vec<String>,
}

impl Cgroup {
    /// Prepares the group that the caller has named, with the controllers `more` beyond those that every run has.
    ///
    /// # Errors
    /// If it cannot be used, or if descriptors or memory are short just now.
    pub fn in_parent(parent: &str, more: Controllers) -> Result<Cgroup, Error> {
        let name = sweep::new_name()?;
        let prepared = v2::prepare_given(&host::Host::read()?, Path::new(parent), &name, more)
            .map_err(|refused| match refused {
                Refused::Why(why) => Error::invalid(format!("cgroup_parent: `{parent}`: {why}")),
                Refused::Short(error) => error,
            })?;
        Cgroup::with(Kind::V2, name, prepared)
    }

    /// Finds the best rung for the supervisor, process `pid`, and prepares it, likewise. Where there is no cgroup to be had, that
    /// is a rung too, with its reason.
    ///
    /// # Errors
    /// If descriptors or memory are short just now, so that a rung cannot be tried: which it is stays for as long as the
    /// supervisor lives.
    pub fn find(pid: i32, more: Controllers) -> Result<Cgroup, Error> {
        let name = sweep::new_name()?;
        let host = host::Host::read()?;
        type Rung<'a> = (&'a str, Kind, &'a dyn Fn() -> Result<Prepared, Refused>);
        let rungs: [Rung; 3] = [
            ("cgroup v2", Kind::V2, &|| v2::prepare(&host, &name, more)),
            ("systemd", Kind::V2, &|| {
                systemd::prepare(&host, &name, pid, more)
            }),
            ("cgroup v1", Kind::V1, &|| v1::prepare(&host, &name, more)),
        ];
        let mut lacks = Vec::new();
        for (rung, kind, prepare) in rungs {
            match prepare() {
                Ok(prepared) => {
                    let cgroup = Cgroup::with(kind, name.clone(), prepared)?;
                    return Ok(Cgroup {
                        scope: rung == "systemd",
                        ..cgroup
                    });
                }
                Err(Refused::Why(why)) => lacks.push(format!("{rung}: {why}")),
                Err(Refused::Short(error)) => return Err(error),
            }
        }
        Cgroup::none(lacks)
    }

    /// None, as its supervisor runs no program.
    pub fn unneeded() -> Result<Cgroup, Error> {
        Cgroup::none(vec!["no program is run".into()])
    }

    fn none(lacks: Vec<String>) -> Result<Cgroup, Error> {
        let none = Prepared {
            bases: Vec::new(),
            lacks,
        };
        Cgroup::with(Kind::None, String::new(), none)
    }

    /// As on a host that has all of it, which nothing is made of.
    #[cfg(fuzzing)]
    pub fn pretended(kind: Kind) -> Cgroup {
        let none = Prepared {
            bases: Vec::new(),
            lacks: Vec::new(),
        };
        let mut cgroup = Cgroup::with(Kind::None, String::new(), none).expect("nothing is opened");
        let (reads, looks): (&[(&str, &str)], &[(&str, &str)]) = match kind {
            Kind::None => return cgroup,
            Kind::V1 => (&v1::READS, &v1::LOOKS),
            Kind::V2 => (&v2::READS, &v2::LOOKS),
        };
        cgroup.kind = kind;
        cgroup.bases.push(Base {
            path: "/nowhere".into(),
            controllers: vec![
                "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "pids", "hugetlb",
            ],
        });
        cgroup.swap = Some(Swap::Absent);
        for (files, at_end) in [(reads, true), (looks, false)] {
            let all = files.iter().map(|&(_, file)| Read {
                dir: 0,
                file,
                at_end,
            });
            cgroup.reads.extend(all);
        }
        cgroup
    }

    fn with(kind: Kind, name: String, prepared: Prepared) -> Result<Cgroup, Error> {
        let Prepared { bases, lacks } = prepared;
        let mut cgroup = Cgroup {
            kind,
            scope: false,
            name,
            owner: std::process::id(),
            bases,
            dirs: Vec::new(),
            reads: Vec::new(),
            swap: None,
            io_weight: None,
            cpuset: None,
            why_not: (!lacks.is_empty()).then(|| lacks.join("; ")),
        };
        match cgroup.look() {
            Ok(()) => Ok(cgroup),
            Err(e) => {
                cgroup.remove();
                Err(e)
            }
        }
    }

    /// Opens its bases and looks at what they have.
    fn look(&mut self) -> Result<(), Error> {
        for base in &self.bases {
            let opened = std::fs::File::open(&base.path).and_then(|dir| above_stdio(dir.into()));
            let what = || format!("opening cgroup {}", base.path.display());
            self.dirs
                .push(opened.map_err(|e| Error::system(what(), e))?);
        }
        let (reads, swap) = match self.kind {
            Kind::None => (Vec::new(), None),
            Kind::V2 => {
                let mut reads = self.present(&v2::READS, true)?;
                let mut looks = self.present(&v2::LOOKS, false)?;
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
                (reads, v2::swap(self)?)
            }
            Kind::V1 => {
                let mut reads = self.present(&v1::READS, true)?;
                reads.extend(self.present(&v1::LOOKS, false)?);
                (reads, v1::swap(self)?)
            }
        };
        (self.reads, self.swap) = (reads, swap);
        if self.kind == Kind::V1 {
            self.cpuset = v1::cpuset(self)?;
        }
        let io = self.kind.words().and_then(|words| self.dir(words.io));
        if let Some(dir) = io {
            let base = &self.bases[usize::from(dir)].path;
            self.io_weight = IoWeight::probe(self.kind, base)?;
        }
        Ok(())
    }

    /// Those of `files`, each of a controller (`""`: of every group), that this kernel has.
    fn present(&self, files: &[(&str, &'static str)], at_end: bool) -> Result<Vec<Read>, Error> {
        let mut reads = Vec::new();
        for &(controller, file) in files {
            let dir = match controller {
                "" => Some(0),
                controller => self.dir(controller),
            };
            if let Some(dir) = dir
                && self.shows(dir, file)?
            {
                reads.push(Read { dir, file, at_end });
            }
        }
        Ok(reads)
    }

    /// [`has_file`](Self::has_file), where the answer is kept.
    fn shows(&self, dir: u8, file: &str) -> Result<bool, Error> {
        refused::exists(&self.bases[usize::from(dir)].path.join(file))
    }

    /// Whether the groups in base directory `dir` have `file`: those that the base directory has itself.
    fn has_file(&self, dir: u8, file: &str) -> bool {
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

    /// Whether runs have groups of this controller, by its name in cgroup v2.
    pub fn has(&self, controller: &str) -> bool {
        let name = match (controller, self.kind.words()) {
            ("io", Some(words)) => words.io,
            _ => controller,
        };
        self.dir(name).is_some()
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
        for (read, content) in self.reads.iter().zip(reads).filter(|(read, _)| read.at_end) {
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

    /// The same of what is in use now: memory, and processes.
    pub fn fill_stats(&self, reads: &[Option<&[u8]>], stats: &mut Stats) {
        for (read, content) in self.reads.iter().zip(reads) {
            let figure = match read.file {
                v2::CURRENT | v1::CURRENT => &mut stats.memory_current,
                PIDS_CURRENT => &mut stats.pids_current,
                _ => continue,
            };
            let number =
                content.and_then(|bytes| std::str::from_utf8(bytes).ok()?.trim().parse().ok());
            if number.is_some() {
                *figure = number;
            }
        }
    }

    /// Removes the base directories, if the supervisor has not: it does so when it ends in order.
    pub fn remove(&self) {
        if self.owner == std::process::id() {
            for base in &self.bases {
                sweep::remove(&base.path);
            }
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
