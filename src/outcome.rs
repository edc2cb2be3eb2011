//! How a program ended and what it used.

use crate::bytes::Bytes;
use crate::units;
use crate::violation::Violation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How a program ended: one verdict and every fact beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The one primary verdict.
    pub verdict: Verdict,
    /// As in Python's `subprocess`: the exit status, or the negated signal number. 127 or 126 with
    /// [`Verdict::ExecFailed`].
    pub returncode: i32,
    /// The exit status, if the program exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the program, if one did.
    pub signal: Option<i32>,
    /// The name of the limit that decided the verdict (`"memory"`), if one did.
    pub limit: Option<String>,
    /// The system call that the run was ended for, with [`Verdict::Violation`]. `None` if the kernel killed the program
    /// itself: see `enforcement["violation"]`.
    pub violation: Option<Violation>,
    /// What the program wrote to standard output, if captured: the first `output` bytes.
    pub stdout: Bytes,
    /// The same for standard error.
    pub stderr: Bytes,
    /// Whether more than was kept came through standard output.
    pub stdout_truncated: bool,
    /// The same for standard error.
    pub stderr_truncated: bool,
    /// How many bytes came through standard output, kept or not.
    pub stdout_bytes: u64,
    /// The same for standard error.
    pub stderr_bytes: u64,
    /// The collected files: every path of `Spec::outputs`.
    pub outputs: BTreeMap<String, OutputFile>,
    /// What was used.
    pub usage: Usage,
    /// Per limit and per protection: what enforced it, or why nothing did.
    pub enforcement: BTreeMap<String, Enforcement>,
    /// What else there is to say in words: why the program could not be started, what of the sandbox failed.
    pub message: Option<String>,
}

/// The primary verdict. When several hold, the first of this order counts: `SANDBOX_ERROR`, `EXEC_FAILED`,
/// `VIOLATION`, `MEMORY_LIMIT`, `TIME_LIMIT`, `WALL_TIME_LIMIT`, `IDLENESS_LIMIT`, `OUTPUT_LIMIT`, `DISK_LIMIT`,
/// `KILLED`, `SIGNALED`, `NONZERO_EXIT`, `OK`. The numbers are the C API's and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
#[repr(i32)]
pub enum Verdict {
    /// Exited with status 0 within every limit.
    Ok = 0,
    /// Exited with another status.
    NonzeroExit = 1,
    /// Ended by a signal.
    Signaled = 2,
    /// Used more CPU time than `cpu_time`.
    TimeLimit = 3,
    /// Ran longer than `wall_time`.
    WallTimeLimit = 4,
    /// Used no CPU time for longer than `idle_time`.
    IdlenessLimit = 5,
    /// Needed more memory than `memory`.
    MemoryLimit = 6,
    /// Wrote more than `output` to a captured stream.
    OutputLimit = 7,
    /// Filled the writable file system (`disk`, `inodes`) or wrote a larger file than `file_size`.
    DiskLimit = 8,
    /// Some process of the run made a system call for which the seccomp profile kills.
    Violation = 9,
    /// Ended by the caller.
    Killed = 10,
    /// The program could not be executed: not found, not executable, too long arguments.
    ExecFailed = 11,
    /// The sandbox itself failed; says nothing about the program.
    SandboxError = 12,
}

impl Verdict {
    /// Every verdict, in the order of their numbers.
    pub const ALL: [Verdict; 13] = [
        Verdict::Ok,
        Verdict::NonzeroExit,
        Verdict::Signaled,
        Verdict::TimeLimit,
        Verdict::WallTimeLimit,
        Verdict::IdlenessLimit,
        Verdict::MemoryLimit,
        Verdict::OutputLimit,
        Verdict::DiskLimit,
        Verdict::Violation,
        Verdict::Killed,
        Verdict::ExecFailed,
        Verdict::SandboxError,
    ];

    /// The name used in every language: `"TIME_LIMIT"`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "OK",
            Verdict::NonzeroExit => "NONZERO_EXIT",
            Verdict::Signaled => "SIGNALED",
            Verdict::TimeLimit => "TIME_LIMIT",
            Verdict::WallTimeLimit => "WALL_TIME_LIMIT",
            Verdict::IdlenessLimit => "IDLENESS_LIMIT",
            Verdict::MemoryLimit => "MEMORY_LIMIT",
            Verdict::OutputLimit => "OUTPUT_LIMIT",
            Verdict::DiskLimit => "DISK_LIMIT",
            Verdict::Violation => "VIOLATION",
            Verdict::Killed => "KILLED",
            Verdict::ExecFailed => "EXEC_FAILED",
            Verdict::SandboxError => "SANDBOX_ERROR",
        }
    }

    /// What judges write: OK, RTE, TLE, ILE, MLE, OLE, SE.
    pub fn short(self) -> &'static str {
        match self {
            Verdict::Ok => "OK",
            Verdict::NonzeroExit
            | Verdict::Signaled
            | Verdict::Violation
            | Verdict::Killed
            | Verdict::ExecFailed => "RTE",
            Verdict::TimeLimit | Verdict::WallTimeLimit => "TLE",
            Verdict::IdlenessLimit => "ILE",
            Verdict::MemoryLimit => "MLE",
            Verdict::OutputLimit | Verdict::DiskLimit => "OLE",
            Verdict::SandboxError => "SE",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A collected file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Its content; empty if there is an `error`.
    pub content: Bytes,
    /// Its whole size; more than was collected if it is over the cap.
    pub size: u64,
    /// Whether the content was cut at the cap.
    pub truncated: bool,
    /// Why it was not collected: missing, not a regular file, a symbolic link on the way.
    pub error: Option<String>,
}

/// What a run used. A figure that nothing on this host gives is `None`, never 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of the whole tree, user and system.
    #[serde(with = "units::duration_seconds")]
    pub cpu_time: Duration,
    /// The user part.
    #[serde(with = "units::duration_seconds")]
    pub cpu_user: Duration,
    /// The system part.
    #[serde(with = "units::duration_seconds")]
    pub cpu_system: Duration,
    /// From the program's start to its end.
    #[serde(with = "units::duration_seconds")]
    pub wall_time: Duration,
    /// For how long of that it was paused by the caller; the `wall_time` limit does not count it.
    #[serde(with = "units::duration_seconds")]
    pub paused_time: Duration,
    /// The most memory the sandbox held at one time, bytes (cgroup; sampled where there is none).
    pub memory_peak: Option<u64>,
    /// The part of the memory that was anonymous (heap, stacks, private mappings), bytes, when the supervisor saw the
    /// most in use; `None` if the run was over before its first look, after 1 ms.
    pub memory_anon: Option<u64>,
    /// The part that was page cache of files on disks, at the same time.
    pub memory_file: Option<u64>,
    /// The part that was shared memory and memory file systems (tmpfs, memfd, `/work`), at the same time.
    pub memory_shmem: Option<u64>,
    /// The part that was the kernel's own for the sandbox (page tables, stacks, slabs), at the same time.
    pub memory_kernel: Option<u64>,
    /// The most swap in use at one time, bytes.
    pub swap_peak: Option<u64>,
    /// The largest resident set of one process, bytes (`getrusage`).
    pub max_rss: u64,
    /// Whether the kernel's OOM killer ended a process of the sandbox for its memory limit.
    pub oom_killed: bool,
    /// How many processes of the sandbox the kernel's OOM killer ended, for whichever limit or want.
    pub oom_kills: Option<u64>,
    /// How often the memory limit was run into, mostly with page cache given back and no harm done.
    pub memory_limit_hits: Option<u64>,
    /// The most processes and threads at one time.
    pub pids_peak: Option<u64>,
    /// How often a fork or a new thread was refused for the `pids` limit.
    pub pids_limit_hits: Option<u64>,
    /// Voluntary context switches.
    pub csw_voluntary: u64,
    /// Forced context switches.
    pub csw_forced: u64,
    /// How long the CPU controller held the sandbox back.
    #[serde(with = "units::duration")]
    pub throttled_time: Option<Duration>,
    /// In how many periods of 100 ms it did.
    pub throttled_periods: Option<u64>,
    /// How long some thread of the sandbox was ready to run and had no processor (PSI, here and below).
    #[serde(with = "units::duration")]
    pub cpu_pressure_some: Option<Duration>,
    /// How long that held for all threads that were not idle: nothing got on. Since Linux 5.13.
    #[serde(with = "units::duration")]
    pub cpu_pressure_full: Option<Duration>,
    /// How long some thread waited for memory: reclaim, refaults, swapping in.
    #[serde(with = "units::duration")]
    pub memory_pressure_some: Option<Duration>,
    /// How long all did.
    #[serde(with = "units::duration")]
    pub memory_pressure_full: Option<Duration>,
    /// How long some thread waited for block devices.
    #[serde(with = "units::duration")]
    pub io_pressure_some: Option<Duration>,
    /// How long all did.
    #[serde(with = "units::duration")]
    pub io_pressure_full: Option<Duration>,
    /// Bytes read from block devices.
    pub io_read: Option<u64>,
    /// Bytes written to block devices; without an io controller, bytes that were to be written.
    pub io_write: Option<u64>,
    /// Operations of reading from block devices.
    pub io_read_ops: Option<u64>,
    /// Operations of writing to them.
    pub io_write_ops: Option<u64>,
    /// Bytes in the writable file system at the end.
    pub disk_used: Option<u64>,
    /// Files and directories there.
    pub inodes_used: Option<u64>,
    /// Where each figure that is known comes from: `"cpu_time": "cgroup v2 cpu.stat"`.
    pub sources: BTreeMap<String, String>,
}

impl Usage {
    /// Notes where the figures `names` come from.
    pub(crate) fn source(&mut self, names: &[&str], from: &str) {
        for name in names {
            self.sources.insert((*name).into(), from.into());
        }
    }
}

/// What a program that still runs uses, it and everything it started. What nothing on this host gives is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Whether it is paused.
    pub paused: bool,
    /// Since the program's start.
    #[serde(with = "units::duration_seconds")]
    pub wall_time: Duration,
    /// For how long of that it was paused.
    #[serde(with = "units::duration_seconds")]
    pub paused_time: Duration,
    /// CPU time until now, user and system.
    #[serde(with = "units::duration_seconds")]
    pub cpu_time: Duration,
    /// How long the CPU controller has held it back.
    #[serde(with = "units::duration")]
    pub throttled_time: Option<Duration>,
    /// Memory in use now, bytes; as [`Usage::memory_peak`] counts.
    pub memory_current: Option<u64>,
    /// The most until now.
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    pub pids_current: Option<u64>,
    /// The most at one time until now.
    pub pids_peak: Option<u64>,
}

/// What stands behind one limit or protection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Whether it holds.
    pub status: EnforcementStatus,
    /// By what it is enforced (`"cgroup v2 memory.max"`), or why not.
    pub by: String,
}

/// Whether a limit or protection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementStatus {
    /// The kernel holds it exactly.
    Enforced,
    /// It is watched and acted upon, but can be passed for a short time or in part.
    Approximated,
    /// Nothing holds it.
    NotEnforced,
}

impl Outcome {
    /// Whether the verdict is [`Verdict::Ok`].
    pub fn success(&self) -> bool {
        self.verdict == Verdict::Ok
    }

    /// This outcome as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an outcome has only string keys and finite numbers")
    }
}
