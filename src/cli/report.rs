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
        Verdict::TimeLimit => format!(
            "used {} of CPU time{}",
            seconds(usage.cpu_time),
            of(spec.cpu_time)
        ),
        Verdict::WallTimeLimit => {
            format!("ran for {}{}", seconds(usage.wall_time), of(spec.wall_time))
        }
        Verdict::IdlenessLimit => "used no CPU time for too long".into(),
        Verdict::MemoryLimit => match (usage.memory_peak, spec.memory) {
            (Some(peak), Some(limit)) => {
                format!("held {peak} bytes of memory; the limit is {limit}")
            }
            _ => "needed more memory than the limit".into(),
        },
        Verdict::OutputLimit => match spec.output {
            Some(limit) => format!("wrote more than {limit} bytes"),
            None => "wrote more than the limit".into(),
        },
        Verdict::DiskLimit => match outcome.limit.as_deref() {
            Some(limit) => format!("came to the limit `{limit}`"),
            None => "filled its writable file system".into(),
        },
        Verdict::Violation => "made a forbidden system call".into(),
        _ => String::new(),
    };
    let message = outcome
        .message
        .iter()
        .filter(|message| !message.is_empty())
        .cloned();
    let words: Vec<String> = Some(text)
        .filter(|text| !text.is_empty())
        .into_iter()
        .chain(message)
        .collect();
    Some(format!("{}: {}", outcome.verdict, words.join("; ")))
}

/// A line for each limit that was asked for and does not hold exactly.
pub fn approximated(outcome: &Outcome, spec: &Spec) -> Vec<String> {
    let asked = [
        ("cpu_time", spec.cpu_time.is_some()),
        ("wall_time", spec.wall_time.is_some()),
        ("memory", spec.memory.is_some()),
        ("pids", spec.pids.is_some()),
        ("file_size", spec.file_size.is_some()),
        ("open_files", spec.open_files.is_some()),
        ("stack", spec.stack.is_some()),
        ("disk", spec.disk.is_some()),
        ("inodes", spec.inodes.is_some()),
    ];
    asked
        .iter()
        .filter(|(_, asked)| *asked)
        .filter_map(|(name, _)| Some((name, outcome.enforcement.get(*name)?)))
        .filter_map(|(name, found)| match found.status {
            EnforcementStatus::Enforced => None,
            EnforcementStatus::Approximated => {
                Some(format!("limit `{name}` is only approximated: {}", found.by))
            }
            EnforcementStatus::NotEnforced => {
                Some(format!("limit `{name}` is not enforced: {}", found.by))
            }
        })
        .collect()
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

fn of(limit: Option<Duration>) -> String {
    limit.map_or_else(String::new, |limit| {
        format!("; the limit is {}", seconds(limit))
    })
}
