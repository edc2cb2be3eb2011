//! What the supervisor does with a run's groups: which files it fills in, reads and watches.

use super::{Cgroup, Kind, Swap, io, v1, v2};
use crate::rates::HugePages;
use crate::spec::Spec;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;

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
    pub file: Cow<'static, str>,
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

/// What a version of cgroups calls things.
pub(super) struct Words {
    pub enter: &'static str,
    pub memory: &'static str,
    /// File, key and unit in nanoseconds.
    pub clock: (&'static str, &'static str, u32),
    pub bandwidth: fn(f64) -> Vec<Setting>,
    pub weight: fn(u64) -> Setting,
    /// The controller of block devices.
    pub io: &'static str,
    /// The settings of one device: `major:minor`, and of bytes read, written, operations read, written in a second
    /// what is limited.
    pub io_max: fn(&str, [Option<u64>; 4]) -> Vec<Setting>,
    /// The file for huge pages of a size, such as `2MB`.
    pub hugetlb: fn(&str) -> String,
}

/// A control file and what to write there.
pub(super) type Setting = (Cow<'static, str>, String);

pub(super) const CPUSET: &str = "cpuset.cpus";
pub(super) const CPUSET_MEMORY: &str = "cpuset.mems";
/// Since Linux 5.15, in both versions.
pub(super) const IDLE: &str = "cpu.idle";

impl Kind {
    pub(super) fn words(self) -> Option<&'static Words> {
        match self {
            Kind::None => None,
            Kind::V2 => Some(&v2::WORDS),
            Kind::V1 => Some(&v1::WORDS),
        }
    }
}

impl Cgroup {
    /// For a specification that was [checked](crate::limits::check).
    pub fn layout(&self, spec: &Spec) -> Layout {
        let Some(words) = self.kind.words() else {
            return Layout::default();
        };
        let place = |file: &str| self.reads.iter().position(|read| read.file == file);
        let either =
            |files: [&str; 2]| files.iter().find_map(|file| place(file)).map(|at| at as u8);
        let ends_alone = spec.memory.is_some() && spec.oom_group != Some(false);
        let (file, key, unit_ns) = words.clock;
        Layout {
            writes: self.writes(words, spec),
            enter: (0..self.bases.len() as u8).collect(),
            enter_file: words.enter,
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
            oom: place(v1::OOM).filter(|_| ends_alone).map(|at| at as u8),
        }
    }

    fn writes(&self, words: &Words, spec: &Spec) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut write = |dir, (file, value): Setting, required| {
            writes.push(Write {
                dir,
                file,
                value,
                required,
            });
        };
        if let (Some(limit), Some(dir)) = (spec.memory, self.dir("memory")) {
            let swap = spec.swap.unwrap_or(0);
            write(dir, setting(words.memory, limit), true);
            match self.swap {
                Some(Swap::Limited(file)) => write(dir, setting(file, swap), true),
                Some(Swap::Forbidden(file)) if swap == 0 => write(dir, setting(file, 0), true),
                Some(Swap::Counted(file)) => write(dir, setting(file, limit + swap), true),
                Some(Swap::Forbidden(_) | Swap::Absent) | None => {}
            }
            if self.kind == Kind::V2 && spec.oom_group != Some(false) {
                write(dir, setting(v2::OOM_GROUP, 1), false); // Linux 4.19 and later
            }
        }
        if let (Some(limit), Some(dir)) = (spec.pids, self.dir("pids")) {
            write(dir, setting("pids.max", limit), true);
        }
        if let Some(dir) = self.dir("cpu") {
            for bandwidth in spec.cpus.map(words.bandwidth).into_iter().flatten() {
                write(dir, bandwidth, true);
            }
            if let Some(weight) = spec.cpu_weight.map(words.weight) {
                write(dir, weight, true);
            }
            if spec.cpu_idle && self.has_file(dir, IDLE) {
                write(dir, setting(IDLE, 1), true);
            }
        }
        if let Some(dir) = self.dir("cpuset") {
            // Of v1 a new group has neither processors nor memory nodes, and nothing can enter it.
            let inherited = self.cpuset.as_ref();
            if let Some(memory) = inherited.map(|(_, memory)| memory) {
                write(dir, setting(CPUSET_MEMORY, memory), true);
            }
            let all = inherited.map(|(all, _)| all);
            if let Some(list) = spec.cpuset_cpus.as_ref().or(all) {
                write(dir, setting(CPUSET, list), true);
            }
        }
        if let Some(dir) = self.dir(words.io) {
            for (device, rates) in io::rates(spec) {
                for max in (words.io_max)(&device, rates) {
                    write(dir, max, true);
                }
            }
            if let (Some(weight), Some(file)) = (spec.io_weight, self.io_weight) {
                write(dir, file.setting(weight), true);
            }
        }
        if let Some(dir) = self.dir("hugetlb") {
            for (size, limit) in huge_pages(spec) {
                let file = (words.hugetlb)(&size);
                write(dir, (file.into(), limit.to_string()), true);
            }
        }
        writes
    }
}

/// A limit for each size of huge pages that this kernel has: nothing of those that are not named.
fn huge_pages(spec: &Spec) -> BTreeMap<String, u64> {
    let mut limits = BTreeMap::new();
    if spec.hugetlb.is_empty() {
        return limits;
    }
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten();
    for size in sizes.flatten() {
        let name = size.file_name();
        let kib = name.to_str().and_then(|name| {
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            kib.parse::<u64>().ok()
        });
        if let Some(kib) = kib {
            let (size, limit) = (kib << 10, 0);
            limits.insert(HugePages { size, limit }.name(), limit);
        }
    }
    limits.extend(spec.hugetlb.iter().map(|huge| (huge.name(), huge.limit)));
    limits
}

pub(super) fn setting(file: &'static str, value: impl ToString) -> Setting {
    (file.into(), value.to_string())
}
