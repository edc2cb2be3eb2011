//! From the numbers after the end to the verdict.

use crate::cgroup::Cgroup;
use crate::outcome::{Outcome, Usage, Verdict};
use crate::spec::Spec;
use crate::wire::*;
use std::time::Duration;

/// The limits that a run had, as far as its verdict depends on them.
pub(crate) struct Judged {
    cpu_time: Option<Duration>,
    wall_time: Option<Duration>,
    file_size: bool,
    memory: Option<u64>,
    disk: bool,
}

impl Judged {
    pub fn new(spec: &Spec) -> Judged {
        Judged {
            cpu_time: spec.cpu_time,
            wall_time: spec.wall_time,
            file_size: spec.file_size.is_some(),
            memory: spec.memory,
            disk: true,
        }
    }

    /// Fills in everything that the report of the supervisor says.
    pub fn fill(
        &self,
        outcome: &mut Outcome,
        exit: &Exit,
        reads: &[Option<&[u8]>],
        cgroup: &Cgroup,
    ) {
        fill_usage(&mut outcome.usage, exit, reads, cgroup);
        if let Some(limit) = self.memory.filter(|_| cgroup.samples_memory())
            && outcome.usage.oom_killed
        {
            // The kernel kills when the limit is reached, whatever was seen before.
            outcome.usage.memory_peak = Some(limit);
            let from = "cgroup v2 memory.max, which was reached";
            outcome
                .usage
                .sources
                .insert("memory_peak".into(), from.into());
        }
        let status = exit.status;
        let signal = (status & 0x7f) as i32;
        if signal == 0 {
            let code = (status >> 8 & 0xff) as i32;
            outcome.exit_code = Some(code);
            outcome.returncode = code;
        } else {
            outcome.signal = Some(signal);
            outcome.returncode = -signal;
        }
        let (verdict, limit) = self.decide(outcome, exit);
        outcome.verdict = verdict;
        outcome.limit = limit.map(String::from);
    }

    fn decide(&self, outcome: &Outcome, exit: &Exit) -> (Verdict, Option<&'static str>) {
        let usage = &outcome.usage;
        let signal = outcome.signal.unwrap_or(0);
        let killed = exit.reason;
        if signal == libc::SIGSYS {
            return (Verdict::Violation, None);
        }
        if self.memory.is_some() && usage.oom_killed || killed == REASON_MEMORY {
            return (Verdict::MemoryLimit, Some("memory"));
        }
        if killed == REASON_CPU || self.cpu_time.is_some_and(|limit| usage.cpu_time > limit) {
            return (Verdict::TimeLimit, Some("cpu_time"));
        }
        if killed == REASON_WALL || self.wall_time.is_some_and(|limit| usage.wall_time > limit) {
            return (Verdict::WallTimeLimit, Some("wall_time"));
        }
        if killed == REASON_OUTPUT || outcome.stdout_truncated || outcome.stderr_truncated {
            return (Verdict::OutputLimit, Some("output"));
        }
        if self.file_size && signal == libc::SIGXFSZ {
            return (Verdict::DiskLimit, Some("file_size"));
        }
        let failed = signal != 0 || outcome.returncode != 0;
        // A full file system alone is no offence; a program that failed with one is taken at its word.
        if self.disk && failed && exit.disk_total > 0 {
            if exit.disk_free == 0 {
                return (Verdict::DiskLimit, Some("disk"));
            }
            if exit.inodes_free == 0 {
                return (Verdict::DiskLimit, Some("inodes"));
            }
        }
        if killed == REASON_CALLER {
            return (Verdict::Killed, None);
        }
        match (signal, outcome.returncode) {
            (0, 0) => (Verdict::Ok, None),
            (0, _) => (Verdict::NonzeroExit, None),
            _ => (Verdict::Signaled, None),
        }
    }
}

fn fill_usage(usage: &mut Usage, exit: &Exit, reads: &[Option<&[u8]>], cgroup: &Cgroup) {
    let ns = Duration::from_nanos;
    let mut source = |name: &str, from: &str| {
        usage.sources.insert(name.into(), from.into());
    };
    usage.cpu_user = ns(exit.user_ns);
    usage.cpu_system = ns(exit.system_ns);
    usage.cpu_time = usage.cpu_user + usage.cpu_system;
    source("cpu_time", "getrusage(2) of the tree's reaped processes");
    usage.wall_time = ns(exit.ended_at.saturating_sub(exit.started_at));
    source("wall_time", "CLOCK_MONOTONIC, from exec to exit");
    usage.max_rss = exit.max_rss;
    source("max_rss", "getrusage(2)");
    usage.csw_voluntary = exit.csw_voluntary;
    usage.csw_forced = exit.csw_forced;
    if exit.started_at == 0 {
        usage.wall_time = Duration::ZERO;
    }
    if exit.sampled_memory > 0 {
        usage.memory_peak = Some(exit.sampled_memory);
        source(
            "memory_peak",
            "sampled by the supervisor, every 20 ms or more often",
        );
    }
    if exit.disk_total > 0 {
        usage.disk_used = Some(exit.disk_total - exit.disk_free);
        // The root and its three directories are the sandbox's own.
        usage.inodes_used = Some((exit.inodes_total - exit.inodes_free).saturating_sub(4));
        source("disk_used", "statfs(2) of the writable tmpfs");
    }
    let by_rusage = usage.cpu_time;
    cgroup.fill_usage(reads, usage);
    if cgroup.kind() == crate::cgroup::Kind::None && ns(exit.sampled_cpu) > by_rusage {
        // Processes whose parent ignores SIGCHLD are missing from getrusage; the samples saw them.
        usage.cpu_time = ns(exit.sampled_cpu);
        usage
            .sources
            .insert("cpu_time".into(), "sampled by the supervisor".into());
    }
}
