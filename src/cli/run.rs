//! `stockade run`.

use super::flags::{self, Parsed, Run};
use super::left::{self, Left};
use super::pump::{Limits, pump};
use super::signals::Signals;
use super::{FAILED, fail, help, note, pull, report, say};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use stockade::{Error, Outcome, Sandbox, Stdio, Verdict};

/// The whole command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let run = match flags::parse(args) {
        Ok(Parsed::Run(run)) => *run,
        Ok(Parsed::Help) => return help::of("run"),
        Err(why) => return fail(format_args!("run: {why}")),
    };
    // Ctrl-C ends it as any program: there is nothing to clean up.
    if let Err(why) = pull::before_run(run.pull, &run.spec, run.quiet) {
        return fail(format_args!("run: {why}"));
    }
    // Before the start: no signal may find a run that nobody would end.
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return fail(format_args!("cannot catch signals: {error}")),
    };
    let result = match run.json {
        true => captured(&run, &signals),
        false => live(&run, &signals),
    };
    match result {
        Ok(ended) => finish(&run, ended),
        Err(error) => {
            if run.json {
                say(report::error(&error) + "\n");
            }
            fail(error)
        }
    }
}

/// An ended run, and what of it only this program knows.
struct Ended {
    outcome: Outcome,
    /// The sandbox that it ran in, where something is to be done with what it left.
    sandbox: Option<Sandbox>,
    signal: Option<i32>,
    broken: Option<io::Error>,
}

/// Passes the streams on as they come.
fn live(run: &Run, signals: &Signals) -> Result<Ended, Error> {
    let mut spec = run.spec.clone();
    let limits = Limits {
        // The library counts what it captures; here nothing is.
        output: spec.output.take().unwrap_or(u64::MAX),
        overflow: spec.output_overflow,
        stop_timeout: run.stop_timeout,
    };
    spec.stdin = stdin(run);
    for stream in [&mut spec.stdout, &mut spec.stderr] {
        if matches!(stream, None | Some(Stdio::Capture)) {
            *stream = Some(Stdio::Pipe);
        }
    }
    let (sandbox, process) = left::start(run, &spec)?;
    let mut pumped = pump(&process, signals, run.interactive, &limits)?;
    if pumped.overflowed && may_be_output(pumped.outcome.verdict) {
        pumped.outcome.verdict = Verdict::OutputLimit;
        pumped.outcome.limit = Some("output".into());
    }
    Ok(Ended {
        signal: ended_by(run, signals, &pumped.outcome),
        outcome: pumped.outcome,
        sandbox,
        broken: pumped.broken,
    })
}

/// Whether the limit on output comes before this verdict.
fn may_be_output(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Ok
            | Verdict::NonzeroExit
            | Verdict::Signaled
            | Verdict::Killed
            | Verdict::DiskLimit
    )
}

/// The signal that ended it, if one did: a program that was asked to stop, and did so itself, has a status of its own.
fn ended_by(run: &Run, signals: &Signals, outcome: &Outcome) -> Option<i32> {
    let killed = run.stop_timeout.is_zero() || outcome.verdict == Verdict::Killed;
    signals.received().filter(|_| killed)
}

/// Keeps the streams for the outcome.
fn captured(run: &Run, signals: &Signals) -> Result<Ended, Error> {
    let mut spec = run.spec.clone();
    spec.stdin = stdin(run);
    for stream in [&mut spec.stdout, &mut spec.stderr] {
        if matches!(stream, None | Some(Stdio::Pipe)) {
            *stream = Some(Stdio::Capture);
        }
    }
    let (sandbox, process) = left::start(run, &spec)?;
    let limits = Limits {
        output: u64::MAX,
        overflow: spec.output_overflow,
        stop_timeout: run.stop_timeout,
    };
    let pumped = pump(&process, signals, run.interactive, &limits)?;
    Ok(Ended {
        signal: ended_by(run, signals, &pumped.outcome),
        outcome: pumped.outcome,
        sandbox,
        broken: None,
    })
}

fn stdin(run: &Run) -> Option<Stdio> {
    match (&run.spec.input, run.interactive) {
        (Some(_), _) => None,
        (None, true) => Some(Stdio::Pipe),
        (None, false) => Some(Stdio::Null),
    }
}

/// Writes what was collected, says what there is to say, and finds the exit status.
fn finish(run: &Run, ended: Ended) -> ExitCode {
    let Ended {
        outcome,
        sandbox,
        signal,
        broken,
    } = ended;
    let mut failed = false;
    let left = left::of(run, sandbox, &outcome).unwrap_or_else(|error| {
        note(error);
        failed = true;
        Left::default()
    });
    for (inside, host) in &run.collect {
        let written = match outcome.outputs.get(inside) {
            None => Err("was not collected".to_string()),
            Some(file) => match &file.error {
                Some(error) => Err(error.clone()),
                None if file.truncated => Err(format!(
                    "is longer than what is collected ({} bytes)",
                    file.size
                )),
                None => std::fs::write(host, &file.content[..])
                    .map_err(|e| format!("`{}`: {e}", host.display())),
            },
        };
        if let Err(why) = written {
            note(format_args!("collecting `{inside}`: {why}"));
            failed = true;
        }
    }
    if run.json && say(left.in_json(outcome.to_json()) + "\n") != ExitCode::SUCCESS {
        return FAILED.into();
    }
    if !run.quiet && !run.json {
        report::approximated(&outcome, &run.spec)
            .into_iter()
            .for_each(note);
    }
    if let Some(signal) = signal {
        return ExitCode::from(128 + u8::try_from(signal & 0x7f).unwrap_or(0));
    }
    match broken {
        // Whoever read our output has had enough: end as any program would.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::from(128 + libc::SIGPIPE as u8);
        }
        Some(error) => return fail(format_args!("passing the program's output on: {error}")),
        None => {}
    }
    if !run.json
        && let Some(line) = report::line(&outcome, &run.spec)
    {
        note(line);
    }
    match report::status(&outcome) {
        0 if failed => FAILED.into(),
        status => status.into(),
    }
}
