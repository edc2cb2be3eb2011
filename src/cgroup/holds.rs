//! Which control file holds which limit here.

use super::layout::{CPUSET, IDLE};
use super::{Cgroup, IN_SCOPE, Swap};
use crate::outcome::{Enforcement, EnforcementStatus};
use crate::spec::Spec;
use EnforcementStatus::{Approximated, Enforced};

impl Cgroup {
    /// What holds the limit of `spec` that is called `limit`; `None` if no cgroup does.
    pub fn enforcement(&self, limit: &str, spec: &Spec) -> Option<Enforcement> {
        let words = self.kind.words()?;
        let version = self.kind.version();
        let enforced = |file: &str| (Enforced, format!("cgroup {version} {file}"));
        let (status, by) = match limit {
            "memory" => {
                self.dir("memory")?;
                let (status, by) = enforced(words.memory);
                match self.swap {
                    Some(_) => (status, by),
                    None => (
                        Approximated,
                        format!("{by}, without what is swapped out: this kernel counts no swap"),
                    ),
                }
            }
            "swap" => {
                self.dir("memory")?;
                match self.swap? {
                    Swap::Limited(file) => enforced(file),
                    Swap::Counted(file) => enforced(&format!("{file}, less memory")),
                    Swap::Absent => (Enforced, "this kernel was built without swap".into()),
                    Swap::Forbidden(_) => return None,
                }
            }
            "oom_group" => {
                self.dir("memory")?;
                enforced("lets the kernel end single processes")
            }
            "pids" => {
                self.dir("pids")?;
                enforced("pids.max")
            }
            "cpu_time" => {
                let clock = words.clock.0;
                self.reads.iter().find(|read| read.file == clock)?;
                let by = format!("the supervisor's clock on cgroup {version} {clock}");
                (Enforced, by)
            }
            "cpus" => {
                self.dir("cpu")?;
                enforced(&(words.bandwidth)(1.0).last()?.0)
            }
            "cpu_weight" => {
                self.dir("cpu")?;
                enforced(&(words.weight)(100).0)
            }
            "cpu_idle" => {
                let dir = self.dir("cpu")?;
                self.has_file(dir, IDLE).then(|| enforced(IDLE))?
            }
            "cpuset_cpus" => {
                self.dir("cpuset")?;
                let list = spec.cpuset_cpus.as_deref().unwrap_or("");
                enforced(&format!("{CPUSET}: {list}"))
            }
            "io_read_bps" | "io_write_bps" | "io_read_iops" | "io_write_iops" => {
                let dir = self.dir(words.io)?;
                let which = [
                    "io_read_bps",
                    "io_write_bps",
                    "io_read_iops",
                    "io_write_iops",
                ];
                let rates = which.map(|name| (name == limit).then_some(1));
                let file = (words.io_max)("8:0", rates).pop()?.0;
                if !self.has_file(dir, &file) {
                    return None;
                }
                match self.kind {
                    super::Kind::V1 if limit.starts_with("io_write") => (
                        Approximated,
                        format!(
                            "cgroup v1 {file}: writes that wait for the device only (O_DIRECT, O_SYNC, fsync); what goes \
                             through the page cache is written by the kernel's own threads"
                        ),
                    ),
                    _ => enforced(&file),
                }
            }
            "io_weight" => {
                self.dir(words.io)?;
                enforced(self.io_weight?.file)
            }
            "hugetlb" => {
                let dir = self.dir("hugetlb")?;
                let files = spec
                    .hugetlb
                    .iter()
                    .map(|huge| (words.hugetlb)(&huge.name()));
                let files: Vec<String> = files.collect();
                if !files.iter().all(|file| self.has_file(dir, file)) {
                    return None;
                }
                enforced(&files.join(", "))
            }
            _ => return None,
        };
        let by = match (self.scope, by.split_once(": ")) {
            (false, _) => by,
            (true, None) => format!("{by}{IN_SCOPE}"),
            (true, Some((by, why))) => format!("{by}{IN_SCOPE}: {why}"),
        };
        Some(Enforcement { status, by })
    }
}
