//! A program that is run for a build: in a sandbox, with its output passed on as it comes.

use super::super::bad;
use super::building::{Watching, called_off};
use crate::error::Error;
use crate::outcome::Verdict;
use crate::sandbox::Sandbox;
use crate::spec::{Spec, Stdio};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

/// What of the output an error shows.
const TAIL: usize = 2048;
/// How often the caller is asked whether to go on, in milliseconds, while a program says nothing.
const WAIT_MS: u16 = 200;
const OUTPUT_DEFAULT: u64 = 64 << 20;

/// Runs the program of `spec` in a sandbox, which stays.
pub(super) fn run(spec: &Spec, watch: &mut Watching<'_>) -> Result<Sandbox, Error> {
    let sandbox = Sandbox::start(spec)?;
    let (mut reader, writer) = std::io::pipe().map_err(|e| Error::system("RUN: a pipe", e))?;
    let mut spec = spec.clone();
    spec.stdout = Some(Stdio::Fd(writer.as_raw_fd()));
    spec.stderr = Some(Stdio::Stdout);
    let process = sandbox.spawn(&spec)?;
    drop(writer);
    let most = spec.output.unwrap_or(OUTPUT_DEFAULT);
    let (mut tail, mut length, mut buffer) = (Vec::new(), 0, [0; 1 << 14]);
    let mut ended = None;
    loop {
        // What has left its program's group may hold the pipe for ever, and so may a child that the host has forked: when the
        // program has ended, what is there is all.
        let mut ends = [
            PollFd::new(reader.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
        ];
        let until = match ended {
            Some(_) => PollTimeout::ZERO,
            None => PollTimeout::from(WAIT_MS),
        };
        let silent = match poll(&mut ends, until) {
            Err(nix::errno::Errno::EINTR) => continue,
            ready => ready.map_err(|e| Error::system("RUN: waiting", e))? == 0,
        };
        let readable = ends[0].revents().is_some_and(|events| !events.is_empty());
        if readable {
            let n = reader
                .read(&mut buffer)
                .map_err(|e| Error::system("RUN: its output", e))?;
            if n == 0 {
                break;
            }
            length += n as u64;
            tail.extend_from_slice(&buffer[..n]);
            tail.drain(..tail.len().saturating_sub(TAIL));
            if length > most || watch.output(&buffer[..n]).is_break() {
                process.kill()?;
                process.wait()?;
                return Err(match length > most {
                    true => bad("run", format!("it wrote more than {most} bytes of output")),
                    false => called_off(),
                });
            }
        } else if ended.is_some() {
            // The other end stays readable.
            break;
        } else if silent && watch.output(&[]).is_break() {
            process.kill()?;
            process.wait()?;
            return Err(called_off());
        } else {
            ended = process.poll()?;
        }
    }
    let outcome = match ended {
        Some(outcome) => outcome,
        None => process.wait()?,
    };
    if outcome.verdict == Verdict::Ok {
        return Ok(sandbox);
    }
    let what = match (outcome.verdict, outcome.returncode, &outcome.message) {
        (Verdict::NonzeroExit, code, _) => format!("it ended with status {code}"),
        (verdict, _, Some(message)) => format!("{verdict}: {message}"),
        (verdict, _, None) => format!("{verdict}"),
    };
    let tail = String::from_utf8_lossy(&tail);
    let said = match tail.trim_end() {
        "" => String::new(),
        said => format!("; it said: {said}"),
    };
    Err(bad("run", format!("{what}{said}")))
}
