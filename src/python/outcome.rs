//! Results as the plain values from which Python builds its dataclasses.

use crate::doctor::{Check, CheckStatus};
use crate::error::Error;
use crate::outcome::{Enforcement, EnforcementStatus, Outcome, OutputFile, Stats, Usage};
use crate::violation::Violation;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// Name, status, detail and fix of a check.
pub type CheckTuple = (String, &'static str, String, Option<String>);

pub fn check(check: Check) -> CheckTuple {
    let status = match check.status {
        CheckStatus::Ok => "ok",
        CheckStatus::Degraded => "degraded",
        CheckStatus::Missing => "missing",
    };
    (check.name, status, check.detail, check.fix)
}

pub fn from_json<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyDict>> {
    let outcome: Outcome =
        serde_json::from_str(text).map_err(|e| Error::invalid(format!("outcome: {e}")))?;
    to_dict(py, &outcome)
}

/// Sets the keys named by the fields of `$from` to their values.
macro_rules! set {
    ($dict:ident, $from:ident: $($name:ident)*) => {
        $($dict.set_item(pyo3::intern!($dict.py(), stringify!($name)), $from.$name.clone())?;)*
    };
    ($dict:ident: $($name:ident = $value:expr;)*) => {
        $($dict.set_item(pyo3::intern!($dict.py(), stringify!($name)), $value)?;)*
    };
}

/// The fields of an outcome: sizes in bytes, times in seconds, the verdict as its number, and `usage`, each of
/// `outputs` and each of `enforcement` as the fields of those.
pub fn to_dict<'py>(py: Python<'py>, outcome: &Outcome) -> PyResult<Bound<'py, PyDict>> {
    let outputs = PyDict::new(py);
    for (path, file) in &outcome.outputs {
        outputs.set_item(path, output_file(py, file)?)?;
    }
    let held = PyDict::new(py);
    for (name, by) in &outcome.enforcement {
        held.set_item(name, enforcement(by))?;
    }
    let dict = PyDict::new(py);
    set! { dict, outcome:
        returncode exit_code signal limit stdout_truncated stderr_truncated stdout_bytes stderr_bytes message
    }
    set! { dict:
        verdict = outcome.verdict as i32;
        stdout = PyBytes::new(py, &outcome.stdout);
        stderr = PyBytes::new(py, &outcome.stderr);
        outputs = outputs;
        violation = outcome.violation.as_ref().map(|one| violation(py, one)).transpose()?;
        usage = usage(py, &outcome.usage)?;
        enforcement = held;
    }
    Ok(dict)
}

fn usage<'py>(py: Python<'py>, usage: &Usage) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    set! { dict, usage:
        memory_peak memory_anon memory_file memory_shmem memory_kernel swap_peak max_rss
        oom_killed oom_kills memory_limit_hits pids_peak pids_limit_hits csw_voluntary csw_forced throttled_periods
        io_read io_write io_read_ops io_write_ops disk_used inodes_used sources
    }
    set! { dict:
        cpu_time = usage.cpu_time.as_secs_f64();
        cpu_user = usage.cpu_user.as_secs_f64();
        cpu_system = usage.cpu_system.as_secs_f64();
        wall_time = usage.wall_time.as_secs_f64();
        paused_time = usage.paused_time.as_secs_f64();
        throttled_time = usage.throttled_time.map(|t| t.as_secs_f64());
        cpu_pressure_some = usage.cpu_pressure_some.map(|t| t.as_secs_f64());
        cpu_pressure_full = usage.cpu_pressure_full.map(|t| t.as_secs_f64());
        memory_pressure_some = usage.memory_pressure_some.map(|t| t.as_secs_f64());
        memory_pressure_full = usage.memory_pressure_full.map(|t| t.as_secs_f64());
        io_pressure_some = usage.io_pressure_some.map(|t| t.as_secs_f64());
        io_pressure_full = usage.io_pressure_full.map(|t| t.as_secs_f64());
    }
    Ok(dict)
}

fn violation<'py>(py: Python<'py>, violation: &Violation) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    set! { dict, violation: syscall number arch instruction_pointer pid main command }
    set! { dict: args = PyTuple::new(py, violation.args)?; }
    Ok(dict)
}

fn output_file<'py>(py: Python<'py>, file: &OutputFile) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    set! { dict, file: size truncated error }
    set! { dict: content = PyBytes::new(py, &file.content); }
    Ok(dict)
}

fn enforcement(enforcement: &Enforcement) -> (&'static str, &str) {
    let status = match enforcement.status {
        EnforcementStatus::Enforced => "enforced",
        EnforcementStatus::Approximated => "approximated",
        EnforcementStatus::NotEnforced => "not_enforced",
    };
    (status, &enforcement.by)
}

/// The fields of `stockade.Stats`.
pub fn stats_to_dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    set! { dict, stats: paused memory_current memory_peak pids_current pids_peak }
    set! { dict:
        wall_time = stats.wall_time.as_secs_f64();
        paused_time = stats.paused_time.as_secs_f64();
        cpu_time = stats.cpu_time.as_secs_f64();
        throttled_time = stats.throttled_time.map(|t| t.as_secs_f64());
    }
    Ok(dict)
}
