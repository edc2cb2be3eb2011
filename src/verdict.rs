//! From the numbers after the end to the verdict.

use crate::cgroup::Cgroup;
use crate::enforcement;
use crate::error::Error;
use crate::limits;
use crate::once::Once;
use crate::outcome::{Outcome, Usage, Verdict};
use crate::remedy;
use crate::spec::{Profile, Spec};
use crate::violation::Violation;
use crate::wire::*;
use std::time::Duration;

const STARVED: &str = "the kernel's OOM killer ended a process of the program though its own memory limit was not reached: \
                       the host, or a cgroup above, is out of memory";

const SURVIVED: &str = "the kernel's OOM killer ended a process of the program for its memory limit (oom_group is off)";

/// Where a figure is from that nobody has told.
const LOST: &str = "nothing: the sandbox's init ended before it could tell; not known, where no other source is named";

const NO_SPACE: &str =
    "the file system of `upper_dir` is nearly full: the program was ended to keep room for others";

/// The limits that a run had, as far as its verdict depends on them.
pub(crate) struct Judged {
    cpu_time: Option<Duration>,
    wall_time: Option<Duration>,
    file_size: Option<u64>,
    /// The largest file that the limit on the disk allows, where that is all that holds it.
    on_disk: Option<u64>,
    memory: Option<u64>,
    /// Whether one process killed for want of memory is the end of the run.
    oom_group: bool,
    /// Whether there was a limit on memory at any time.
    memory_limited: bool,
    disk: bool,
    /// Whether its profile answers calls by a signal, of which init is not told.
    traps: bool,
    /// Whether arguments and environment are no longer than the kernel takes.
    args_fit: bool,
}

/// Below this a start can fail for the limit; above, a host that has no memory is likelier.
const SMALL: u64 = 16 << 20;

impl Judged {
    pub fn new(spec: &Spec) -> Judged {
        Judged {
            cpu_time: spec.cpu_time,
            wall_time: spec.wall_time,
            file_size: spec.file_size,
            on_disk: spec
                .upper_dir
                .as_ref()
                .map(|_| spec.disk.unwrap_or(crate::mounts::DISK_DEFAULT)),
            memory: spec.memory,
            oom_group: spec.oom_group != Some(false),
            memory_limited: spec.memory.is_some(),
            disk: true,
            traps: matches!(&spec.profile, Profile::Docker(own) if own.traps()),
            args_fit: args_fit(spec),
        }
    }

    /// Other limits from now on.
    pub fn update(&mut self, spec: &Spec) {
        (self.cpu_time, self.wall_time) = (spec.cpu_time, spec.wall_time);
        self.memory = spec.memory;
        self.memory_limited |= spec.memory.is_some();
    }

    /// The limit on memory.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// What to say of a start that failed because the memory limit leaves no room for it, if that is so. The kernel
    /// says that arguments are too long when there is no memory for them.
    pub fn too_small(&self, failure: &Failure, error: &Error) -> Option<String> {
        let limit = self.memory.filter(|limit| *limit < SMALL)?;
        let errno = failure.errno as i32;
        let at_start = matches!(failure.section, IN_RUN | IN_STEP);
        let short = errno == libc::ENOMEM || errno == libc::E2BIG && self.args_fit;
        (at_start && short).then(|| {
            format!(
                "memory: the limit of {limit} bytes is too small for the program's start (its arguments, environment, \
                 page tables and kernel stack count): {}",
                error
            )
        })
    }

    /// Fills in everything that the report of the supervisor says.
    pub fn fill(
        &self,
        outcome: &mut Outcome,
        exit: &Exit,
        reads: &[Option<&[u8]>],
        cgroup: &Cgroup,
    ) {
        fill_usage(&mut outcome.usage, exit, reads, cgroup, self.memory);
        if let Some(limit) = self.memory.filter(|_| cgroup.samples_memory())
            && outcome.usage.oom_killed
        {
            // The kernel kills when the limit is reached, whatever was seen before.
            let seen = outcome.usage.memory_peak;
            outcome.usage.memory_peak = seen.max(Some(limit));
            let from = "cgroup v2 memory.max, which was reached";
            outcome
                .usage
                .sources
                .insert("memory_peak".into(), from.into());
        }
        outcome.violation = Violation::seen(&exit.violation);
        if exit.unheard != 0 {
            let entry = enforcement::unheard(exit.unheard as i32);
            outcome.enforcement.insert("violation".into(), entry);
        }
        if exit.shared.count != 0 {
            let entry = enforcement::shared(&exit.shared);
            outcome.enforcement.insert("locks".into(), entry);
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
        if verdict == Verdict::SandboxError {
            outcome.message = Some(match exit.lost {
                0 => STARVED.into(),
                _ => remedy::init_died(),
            });
        } else if verdict == Verdict::DiskLimit && exit.disk_over == OVER_SPACE {
            outcome.message = Some(NO_SPACE.into());
        } else if verdict != Verdict::MemoryLimit && outcome.usage.oom_killed {
            outcome.message = Some(SURVIVED.into());
        }
    }

    /// How large a file may be, and by which limit.
    fn largest_file(&self) -> Option<(u64, &'static str)> {
        let by_size = self.file_size.map(|most| (most, "file_size"));
        let by_disk = self.on_disk.map(|most| (most, "disk"));
        by_size
            .into_iter()
            .chain(by_disk)
            .min_by_key(|(most, _)| *most)
    }

    fn decide(&self, outcome: &Outcome, exit: &Exit) -> (Verdict, Option<&'static str>) {
        let usage = &outcome.usage;
        let ran = usage.wall_time.saturating_sub(usage.paused_time);
        let signal = outcome.signal.unwrap_or(0);
        let killed = exit.reason;
        let violated = outcome.violation.is_some() || killed == REASON_VIOLATION;
        // A program can send itself that signal. Of calls that init is told of its word is the whole truth.
        let told = exit.unheard == 0 && !self.traps;
        if violated || signal == libc::SIGSYS && !told {
            return (Verdict::Violation, None);
        }
        if exit.lost != 0 && killed == REASON_NONE {
            return (Verdict::SandboxError, None);
        }
        let failed = signal != 0 || outcome.returncode != 0;
        // Killed for a limit further up or for want of memory on the whole host: that is not the program's doing.
        let starved = usage.oom_kills.is_some_and(|n| n > 0) && !usage.oom_killed;
        if starved && failed && matches!(killed, REASON_NONE | REASON_MEMORY) {
            return (Verdict::SandboxError, None);
        }
        // A program that was to survive, and did.
        let survived = !self.oom_group && killed == REASON_NONE && !failed;
        let oom_killed = self.memory_limited && usage.oom_killed && !survived;
        if oom_killed || killed == REASON_MEMORY {
            return (Verdict::MemoryLimit, Some("memory"));
        }
        if killed == REASON_CPU || self.cpu_time.is_some_and(|limit| usage.cpu_time > limit) {
            return (Verdict::TimeLimit, Some("cpu_time"));
        }
        if killed == REASON_WALL || self.wall_time.is_some_and(|limit| ran > limit) {
            return (Verdict::WallTimeLimit, Some("wall_time"));
        }
        if killed == REASON_OUTPUT || outcome.stdout_truncated || outcome.stderr_truncated {
            return (Verdict::OutputLimit, Some("output"));
        }
        if signal == libc::SIGXFSZ
            && let Some((_, limit)) = self.largest_file()
        {
            return (Verdict::DiskLimit, Some(limit));
        }
        match exit.disk_over {
            0 => {}
            OVER_INODES => return (Verdict::DiskLimit, Some("inodes")),
            _ => return (Verdict::DiskLimit, Some("disk")),
        }
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

/// execve(2): 128 KiB each, and all with their pointers a quarter of the stack limit.
fn args_fit(spec: &Spec) -> bool {
    let args = spec.args.iter().map(|arg| arg.len() + 1);
    let env = spec
        .env
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2);
    let stack = spec.stack.unwrap_or(limits::STACK_DEFAULT);
    let (all, longest) = args.chain(env).fold((0, 0), |(all, longest), len| {
        (all + len as u64 + 8, len.max(longest))
    });
    longest < 128 << 10 && all < (stack / 4).max(128 << 10)
}

pub(crate) fn fill_usage(
    usage: &mut Usage,
    exit: &Exit,
    reads: &[Option<&[u8]>],
    cgroup: &Cgroup,
    memory_limit: Option<u64>,
) {
    let ns = Duration::from_nanos;
    let reaped = match exit.lost {
        0 => "getrusage(2) of the tree's reaped processes",
        _ => LOST,
    };
    usage.cpu_user = ns(exit.user_ns);
    usage.cpu_system = ns(exit.system_ns);
    usage.cpu_time = usage.cpu_user + usage.cpu_system;
    usage.source(&["cpu_time", "cpu_user", "cpu_system"], reaped);
    if exit.started_at > 0 {
        usage.wall_time = ns(exit.ended_at.saturating_sub(exit.started_at));
    }
    usage.paused_time = ns(exit.paused);
    usage.source(&["wall_time"], "CLOCK_MONOTONIC, from exec to exit");
    usage.source(&["paused_time"], "CLOCK_MONOTONIC");
    usage.max_rss = exit.max_rss;
    usage.csw_voluntary = exit.csw_voluntary;
    usage.csw_forced = exit.csw_forced;
    usage.source(&["max_rss", "csw_voluntary", "csw_forced"], reaped);
    usage.source(&["oom_killed"], "nothing: no cgroup counts memory");
    if counts_blocks() && exit.lost == 0 {
        usage.io_read = Some(exit.blocks_read.saturating_mul(512));
        usage.io_write = Some(exit.blocks_written.saturating_mul(512));
        let from = "getrusage(2) of the tree's reaped processes: blocks of 512 bytes";
        usage.source(&["io_read", "io_write"], from);
    }
    if exit.disk_total > 0 {
        usage.disk_used = Some(exit.disk_total.saturating_sub(exit.disk_free));
        // The root and its three directories are the sandbox's own.
        let inodes = exit.inodes_total.saturating_sub(exit.inodes_free);
        usage.inodes_used = Some(inodes.saturating_sub(4));
        let from = "statfs(2) of the writable tmpfs";
        usage.source(&["disk_used", "inodes_used"], from);
    }
    let by_rusage = usage.cpu_time;
    fill_sampled(usage, exit, cgroup, memory_limit);
    cgroup.fill_usage(reads, memory_limit, usage);
    if cgroup.kind() == crate::cgroup::Kind::None && ns(exit.sampled_cpu) > by_rusage {
        // Processes whose parent ignores SIGCHLD are missing from getrusage; the samples saw them.
        usage.cpu_time = ns(exit.sampled_cpu);
        let from = format!(
            "procfs of the sandbox, {}",
            sampled(exit, usage, cgroup, None)
        );
        usage.source(&["cpu_time"], &from);
    }
}

/// What the supervisor has seen while the program ran.
fn fill_sampled(usage: &mut Usage, exit: &Exit, cgroup: &Cgroup, memory_limit: Option<u64>) {
    if exit.looks == 0 {
        return;
    }
    let how = sampled(exit, usage, cgroup, memory_limit);
    let (memory_from, swap_from) = cgroup.looks_at();
    if exit.sampled_memory > 0 {
        usage.memory_peak = Some(exit.sampled_memory);
        let from = match cgroup.samples_memory() {
            true => "cgroup v2 memory.current",
            false => memory_from,
        };
        usage.source(&["memory_peak"], &format!("{from}, {how}"));
    }
    if exit.sampled_pids > 0 {
        usage.pids_peak = Some(exit.sampled_pids);
        usage.source(&["pids_peak"], &format!("procfs of the sandbox, {how}"));
    }
    let known = |n: u64| (n != UNKNOWN).then_some(n);
    let split = exit.split;
    for (name, figure, bytes) in [
        ("memory_anon", &mut usage.memory_anon, split.anon),
        ("memory_file", &mut usage.memory_file, split.file),
        ("memory_shmem", &mut usage.memory_shmem, split.shmem),
        ("memory_kernel", &mut usage.memory_kernel, split.kernel),
    ] {
        *figure = known(bytes);
        if figure.is_some() {
            let from = match (name, cgroup.kind()) {
                ("memory_kernel", crate::cgroup::Kind::V1) => {
                    "cgroup v1 memory.kmem.usage_in_bytes"
                }
                _ => memory_from,
            };
            usage.sources.insert(name.into(), format!("{from}, {how}"));
        }
    }
    usage.swap_peak = known(exit.sampled_swap);
    if usage.swap_peak.is_some() {
        usage.source(&["swap_peak"], &format!("{swap_from}, {how}"));
    }
}

/// How often the supervisor has looked.
fn sampled(exit: &Exit, usage: &Usage, cgroup: &Cgroup, memory_limit: Option<u64>) -> String {
    let gap = (usage.wall_time / 50)
        .min(cgroup.look_max(memory_limit))
        .max(Duration::from_millis(20));
    format!(
        "sampled {} times, at most {} ms apart",
        exit.looks,
        gap.as_millis()
    )
}

/// Whether this kernel counts what each process reads and writes.
fn counts_blocks() -> bool {
    static COUNTS: Once<bool> = Once::new();
    *COUNTS.get_or_init(|| std::path::Path::new("/proc/self/io").exists())
}
