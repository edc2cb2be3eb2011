//! The outcome of a run in words, as JSON and as an exit status.

use super::FAILED;
use serde_json::json;
use std::time::Duration;
use stockade::{EnforcementStatus, Error, Outcome, Spec, Verdict};

/// What `timeout` has made the status of "a limit ended it".
const LIMIT: u8 = 124;

/// The exit status for an outcome.
pub fn status(outcome: &Outcome) -> u8 {
    match outcome.verdict {
        Verdict::TimeLimit
        | Verdict::WallTimeLimit
        | Verdict::IdlenessLimit
        | Verdict::MemoryLimit
        | Verdict::OutputLimit
        | Verdict::DiskLimit => LIMIT,
        Verdict::SandboxError => FAILED,
        _ => match (outcome.signal, outcome.returncode) {
            (Some(signal), _) => 128 + u8::try_from(signal & 0x7f).unwrap_or(0),
            // A program that was executed has an exit status of eight bits.
            (None, code) => u8::try_from(code).unwrap_or(FAILED),
        },
    }
}

/// One line for the user where the exit status does not say it all.
pub fn line(outcome: &Outcome, spec: &Spec) -> Option<String> {
    let usage = &outcome.usage;
    let text = match outcome.verdict {
        Verdict::Ok | Verdict::NonzeroExit | Verdict::Signaled | Verdict::Killed => return None,
        Verdict::TimeLimit => {
            let used = seconds(usage.cpu_time);
            format!("used {used} of CPU time{}", of(spec.cpu_time.map(seconds)))
        }
        Verdict::WallTimeLimit => {
            let ran = seconds(usage.wall_time);
            format!("ran for {ran}{}", of(spec.wall_time.map(seconds)))
        }
        Verdict::IdlenessLimit => "used no CPU time for too long".into(),
        Verdict::MemoryLimit => match usage.memory_peak {
            Some(peak) => format!("held {peak} bytes of memory{}", of(spec.memory)),
            None => format!("needed too much memory{}", of(spec.memory)),
        },
        Verdict::OutputLimit => format!("wrote too much output{}", of(spec.output)),
        Verdict::DiskLimit => match outcome.limit.as_deref() {
            Some("file_size") => format!("wrote too large a file{}", of(spec.file_size)),
            Some("inodes") => format!("made too many files{}", of(spec.inodes)),
            _ => format!("filled its writable file system{}", of(spec.disk)),
        },
        Verdict::Violation => match &outcome.violation {
            Some(violation) => format!("made a forbidden system call: {violation}"),
            None => "made a forbidden system call".into(),
        },
        // What kept it from being run says it all.
        _ => return outcome.message.clone(),
    };
    let message = outcome.message.iter().map(|message| format!("; {message}"));
    Some(format!(
        "{}: {text}{}",
        outcome.verdict,
        message.collect::<String>()
    ))
}

/// One line about the limits that were asked for and do not hold exactly, if there are any.
pub fn approximated(outcome: &Outcome, spec: &Spec) -> Option<String> {
    let asked = [
        ("cpu_time", spec.cpu_time.is_some()),
        ("wall_time", spec.wall_time.is_some()),
        ("memory", spec.memory.is_some()),
        ("swap", spec.swap.is_some()),
        ("pids", spec.pids.is_some()),
        ("cpus", spec.cpus.is_some()),
        ("cpu_weight", spec.cpu_weight.is_some()),
        ("cpu_idle", spec.cpu_idle),
        ("cpuset_cpus", spec.cpuset_cpus.is_some()),
        ("nice", spec.nice.is_some()),
        ("oom_score_adj", spec.oom_score_adj.is_some()),
        ("oom_group", spec.oom_group == Some(false)),
        ("io_read_bps", !spec.io_read_bps.is_empty()),
        ("io_write_bps", !spec.io_write_bps.is_empty()),
        ("io_read_iops", !spec.io_read_iops.is_empty()),
        ("io_write_iops", !spec.io_write_iops.is_empty()),
        ("io_weight", spec.io_weight.is_some()),
        ("hugetlb", !spec.hugetlb.is_empty()),
        ("file_size", spec.file_size.is_some()),
        ("open_files", spec.open_files.is_some()),
        ("stack", spec.stack.is_some()),
        ("disk", spec.disk.is_some()),
        ("inodes", spec.inodes.is_some()),
    ];
    let found: Vec<String> = asked
        .iter()
        .filter(|(_, asked)| *asked)
        .filter_map(|(name, _)| Some((name, outcome.enforcement.get(*name)?.status)))
        .filter_map(|(name, status)| match status {
            EnforcementStatus::Enforced => None,
            EnforcementStatus::Approximated => Some(format!("`{name}` is only approximated")),
            EnforcementStatus::NotEnforced => Some(format!("`{name}` is not enforced")),
        })
        .collect();
    match found.is_empty() {
        true => None,
        false => Some(format!("{}; `stockade doctor` says why", found.join(", "))),
    }
}

/// An error in the JSON that `--json` promises.
pub fn error(error: &Error) -> String {
    json!({"error": {
        "code": error.kind() as i32,
        "kind": format!("{:?}", error.kind()),
        "step": error.step(),
        "errno": error.errno(),
        "message": error.to_string(),
    }})
    .to_string()
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn of(limit: Option<impl std::fmt::Display>) -> String {
    limit.map_or_else(String::new, |limit| format!("; the limit is {limit}"))
}
