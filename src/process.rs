//! A program started in a sandbox.

use crate::bytes::Bytes;
use crate::capture::{Stream, Streams};
use crate::channel::{Channel, Received};
use crate::cores::Lease;
use crate::error::{Error, ErrorKind};
use crate::image;
use crate::launch::above_stdio;
use crate::limits;
use crate::outcome::{Enforcement, Outcome, OutputFile, Usage, Verdict};
use crate::plan::{Plan, read_of};
use crate::spec::{Overflow, Spec, Stdio};
use crate::supervisor::{self, Host};
use crate::update::changeable;
use crate::verdict::Judged;
use crate::wire::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

mod collected;
mod control;
mod notifications;
mod reads;
mod start;
mod update;

#[cfg(feature = "image")]
pub(crate) use control::ask;
pub use notifications::Notification;
use notifications::Waiting;

pub(crate) use reads::split_reads;
pub(crate) use start::{Live, check_ends, start};

/// A program started in a sandbox. Dropping it ends the program and everything it started.
///
/// All methods may be called from any thread, at the same time. After a fork of the host, the child's calls fail with
/// [`ErrorKind::State`], and the parent's go on as before.
pub struct Process {
    channel: Arc<Channel>,
    state: Mutex<State>,
    epoll: OnceLock<Epoll>,
    host: Arc<Host>,
    /// Those that can be changed, as they are now. Held while they are.
    limits: Mutex<Spec>,
    /// Readable while there are notifications that nobody has taken; made with the first threshold.
    waiting: OnceLock<Waiting>,
    /// The signal that asks the program to end.
    stop_signal: i32,
    /// Whether the live sandbox that it is for was closed.
    sandbox_closed: Option<Arc<AtomicBool>>,
}

struct State {
    plan: Plan,
    judged: Judged,
    streams: Streams,
    overflow: Overflow,
    paths: Vec<String>,
    output_file_size: u64,
    enforcement: BTreeMap<String, Enforcement>,
    outputs: BTreeMap<String, OutputFile>,
    pid: Option<u32>,
    pidfd: Option<OwnedFd>,
    started: bool,
    told_overflow: bool,
    pipes: [Option<OwnedFd>; 3],
    ended: Option<Result<Outcome, Failed>>,
    notifications: VecDeque<Notification>,
    /// Processors of its own, until it has ended.
    lease: Option<Lease>,
    /// Its image, which stays in the store until it has ended.
    image: Option<image::Image>,
}

/// An error that can be given out more than once.
#[derive(Clone)]
struct Failed {
    kind: ErrorKind,
    message: String,
    errno: i32,
    step: &'static str,
}

impl From<Failed> for Error {
    fn from(f: Failed) -> Error {
        Error::new(f.kind, f.message)
            .with_errno(f.errno)
            .with_step(f.step)
    }
}

impl Process {
    /// The program's process id on the host; `None` when it has ended or could not be started.
    ///
    /// Waits for the start of the program, which takes about a millisecond.
    pub fn pid(&self) -> Option<u32> {
        self.channel.check_owner().ok()?;
        loop {
            {
                let mut state = self.lock();
                if state.ended.is_some() {
                    return None;
                }
                if state.started {
                    return state.pid;
                }
                self.advance(&mut state);
                if state.started || state.ended.is_some() {
                    continue;
                }
            }
            self.block(None);
        }
    }

    /// The writing end of the program's standard input, once, if that is [`Stdio::Pipe`](crate::Stdio::Pipe).
    pub fn take_stdin(&self) -> Option<OwnedFd> {
        self.lock().pipes[0].take()
    }

    /// The reading end of its standard output, likewise.
    pub fn take_stdout(&self) -> Option<OwnedFd> {
        self.lock().pipes[1].take()
    }

    /// The reading end of its standard error, likewise.
    pub fn take_stderr(&self) -> Option<OwnedFd> {
        self.lock().pipes[2].take()
    }

    /// Moves captured output along and gives the outcome if the program has ended. Never blocks.
    ///
    /// # Errors
    /// The program could not be started, or the handle belongs to another process.
    pub fn poll(&self) -> Result<Option<Outcome>, Error> {
        self.channel.check_owner()?;
        let mut state = self.lock();
        self.advance(&mut state);
        match &state.ended {
            None => Ok(None),
            Some(Ok(outcome)) => Ok(Some(outcome.clone())),
            Some(Err(failed)) => Err(failed.clone().into()),
        }
    }

    /// Waits until the program and everything it started have ended. Can be called again.
    ///
    /// # Errors
    /// As [`poll`](Process::poll).
    pub fn wait(&self) -> Result<Outcome, Error> {
        loop {
            if let Some(outcome) = self.poll()? {
                return Ok(outcome);
            }
            self.block(None);
        }
    }

    /// The same for at most `timeout`; `None` if it still runs then.
    ///
    /// # Errors
    /// As [`poll`](Process::poll).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Outcome>, Error> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(outcome) = self.poll()? {
                return Ok(Some(outcome));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.block(left);
        }
    }

    /// Sends a signal to the program, not to its children. No error if it has ended.
    ///
    /// # Errors
    /// No such signal, or the handle belongs to another process.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=64).contains(&signal) {
            return Err(Error::invalid(format!(
                "signal: {signal} is not between 1 and 64"
            )));
        }
        self.channel.tell(SIGNAL, signal as u32)
    }

    /// Asks the program to end, by the signal [`stop_signal`](Spec::stop_signal) of its specification, and ends it and
    /// everything it started if it still runs after `timeout`, as `docker stop` does. The outcome is by how it ended: a
    /// program that ends itself when it is asked may be `OK`, one that has to be killed is `KILLED`. A paused program goes
    /// on. Waits until all of it has ended.
    ///
    /// # Errors
    /// As [`poll`](Process::poll).
    pub fn stop(&self, timeout: Duration) -> Result<Outcome, Error> {
        self.ask_to_stop()?;
        match self.wait_timeout(timeout)? {
            Some(outcome) => Ok(outcome),
            None => {
                self.kill()?;
                self.wait()
            }
        }
    }

    /// The first half of [`stop`](Process::stop): sends the signal, and lets a paused program go on.
    ///
    /// # Errors
    /// The handle belongs to another process.
    pub fn ask_to_stop(&self) -> Result<(), Error> {
        // First, as it waits until a program that is just being started is there.
        self.resume()?;
        self.signal(self.stop_signal)
    }

    /// Ends the program and everything it started; the verdict is `KILLED`. No error if it has ended.
    ///
    /// # Errors
    /// The handle belongs to another process.
    pub fn kill(&self) -> Result<(), Error> {
        self.channel.tell(KILL, REASON_CALLER)
    }

    /// Its channel, for who keeps count of a sandbox's programs.
    #[cfg(feature = "image")]
    pub(crate) fn channel(&self) -> Arc<Channel> {
        self.channel.clone()
    }

    /// The descriptor of [`as_fd`](Process::as_fd), made at the first call.
    pub(crate) fn pollable(&self) -> Result<BorrowedFd<'_>, Error> {
        if self.epoll.get().is_none() {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
                .map_err(std::io::Error::from)
                .and_then(|epoll| above_stdio(epoll.0))
                .map(Epoll)
                .map_err(|e| Error::system("making a descriptor to wait on", e))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
            let _ = epoll.add(&self.channel, event);
            // Until it is there for `advance`, which takes those out again.
            let state = self.lock();
            for fd in state.streams.open_fds() {
                // SAFETY: open now, as it is among the streams, which are locked.
                let _ = epoll.add(unsafe { BorrowedFd::borrow_raw(fd) }, event);
            }
            // Another thread may have been first: then this one goes.
            let _ = self.epoll.set(epoll);
        }
        Ok(self.epoll.get().expect("set above").0.as_fd())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do; whether a signal to the host cut that short.
    pub(crate) fn block(&self, timeout: Option<Duration>) -> bool {
        self.block_with(timeout, None)
    }

    /// The same, or until `also` is readable.
    pub(crate) fn block_with(
        &self,
        timeout: Option<Duration>,
        also: Option<BorrowedFd<'_>>,
    ) -> bool {
        let timeout = timeout.map_or(PollTimeout::NONE, |t| {
            PollTimeout::try_from(t.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32)
                .unwrap_or(PollTimeout::MAX)
        });
        let streams: Vec<_> = self.lock().streams.open_fds();
        let mut fds = vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        fds.extend(also.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        for fd in &streams {
            // SAFETY: a stream is closed only at its end, under poll() of this process; a number that is closed or used
            // again meanwhile makes this wait end early at worst, after which everything is looked at anew.
            fds.push(PollFd::new(
                unsafe { BorrowedFd::borrow_raw(*fd) },
                PollFlags::POLLIN,
            ));
        }
        poll(&mut fds, timeout) == Err(Errno::EINTR)
    }

    fn advance(&self, state: &mut State) {
        if state.ended.is_some() {
            return;
        }
        state.streams.read();
        for fd in state.streams.ended() {
            // Closing is not enough: a child that the host has forked meanwhile has it open too, and it would stay readable.
            if let Some(epoll) = self.epoll.get() {
                let _ = epoll.delete(fd);
            }
        }
        if let Some(e) = state.streams.broken() {
            let _ = self.kill();
            return self.fail(state, &e);
        }
        if state.overflow == Overflow::Kill && !state.told_overflow && state.streams.over() {
            state.told_overflow = true;
            let _ = self.channel.tell(KILL, REASON_OUTPUT);
        }
        while state.ended.is_none() {
            match self.channel.receive(false) {
                Ok(None) => return,
                Ok(Some(received)) => self.hear(state, received),
                Err(e) => {
                    // Said aloud, as when it is dropped: this handle will say nothing more.
                    let _ = self.kill();
                    self.fail(state, &e);
                }
            }
        }
        (state.lease, state.image) = (None, None);
        // The supervisor keeps its end until we have heard the last word.
        self.channel.close();
    }

    fn hear(&self, state: &mut State, received: Received) {
        let Some(message) = read_of::<Message>(&received.bytes) else {
            let end = self.host.lost();
            let closed = self.sandbox_closed.as_ref();
            if end.is_none() && closed.is_some_and(|closed| closed.load(Ordering::Acquire)) {
                // Of a program that was started we would hear.
                return self.fail(state, &crate::sandbox::closed());
            }
            let end = end.map_or("has closed the run's channel".into(), |end| {
                format!("{end} while the program ran")
            });
            let why = format!("the supervisor {end}; nothing of the program is left");
            return self.sandbox_error(state, &why);
        };
        match message.kind {
            STARTED => {
                state.started = true;
                state.pid = received.fd.as_ref().and_then(pid_of);
                state.pidfd = received.fd;
            }
            OUTPUT => {
                if let Some(collected) = read_of::<Collected>(&received.bytes) {
                    state.collect(&collected, received.fd);
                }
            }
            FAILED => {
                let Some(failure) = read_of::<Failure>(&received.bytes) else {
                    return;
                };
                let error = state.plan.explain(&failure);
                if let Some(why) = state.judged.too_small(&failure, &error) {
                    self.sandbox_error(state, &why);
                } else if state.plan.is_exec_failure(&failure) {
                    let mut outcome = state.outcome();
                    outcome.verdict = Verdict::ExecFailed;
                    outcome.returncode = if failure.errno == libc::ENOENT as u32 {
                        127
                    } else {
                        126
                    };
                    outcome.message = Some(error.to_string());
                    state.ended = Some(Ok(outcome));
                } else if failure.section == IN_STEP
                    && [STEP_INIT_DIED, STEP_STOPPED, STEP_STUCK].contains(&failure.index)
                {
                    self.sandbox_error(state, &error.to_string());
                } else {
                    self.fail(state, &error);
                }
            }
            NOTIFY => {
                if let Some(threshold) = read_of::<Threshold>(&received.bytes) {
                    self.notified(state, &threshold);
                }
            }
            EXIT => {
                let Some(exit) = read_of::<Exit>(&received.bytes) else {
                    return;
                };
                // All that could write is dead: what is in the pipes is all there will be.
                state.streams.drain();
                if let Some(e) = state.streams.broken() {
                    return self.fail(state, &e);
                }
                let reads = split_reads(&received.bytes[size_of::<Exit>()..], exit.reads as usize);
                let mut outcome = state.outcome();
                state
                    .judged
                    .fill(&mut outcome, &exit, &reads, &self.host.cgroup);
                state.ended = Some(Ok(outcome));
            }
            _ => {}
        }
    }

    fn fail(&self, state: &mut State, error: &Error) {
        state.ended = Some(Err(Failed {
            kind: error.kind(),
            message: error.to_string(),
            errno: error.errno(),
            step: error.step_static(),
        }));
    }

    fn sandbox_error(&self, state: &mut State, why: &str) {
        state.streams.drain();
        let mut outcome = state.outcome();
        outcome.verdict = Verdict::SandboxError;
        outcome.returncode = -libc::SIGKILL;
        outcome.signal = Some(libc::SIGKILL);
        outcome.message = Some(why.into());
        state.ended = Some(Ok(outcome));
    }
}

impl AsFd for Process {
    /// A descriptor that is readable whenever [`poll`](Process::poll) has something to do; for use in an event loop.
    ///
    /// It belongs to the process, stays the same, and is for waiting only.
    ///
    /// # Panics
    /// At the first call, if the host has no descriptor left.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.pollable() {
            Ok(fd) => fd,
            Err(e) => panic!("{e}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Said aloud, since a forked child may hold the channel open.
        if self.channel.is_ours() && self.lock().ended.is_none() {
            let _ = self.kill();
        }
    }
}

impl State {
    /// An outcome with everything in it that does not depend on how it ended.
    fn outcome(&mut self) -> Outcome {
        self.not_collected();
        let [out, err] = [&mut self.streams.stdout, &mut self.streams.stderr].map(Stream::take);
        Outcome {
            verdict: Verdict::Ok,
            returncode: 0,
            exit_code: None,
            signal: None,
            limit: None,
            violation: None,
            stdout_truncated: out.total > out.kept.len() as u64,
            stderr_truncated: err.total > err.kept.len() as u64,
            stdout_bytes: out.total,
            stderr_bytes: err.total,
            stdout: Bytes(out.kept),
            stderr: Bytes(err.kept),
            outputs: std::mem::take(&mut self.outputs),
            usage: Usage::default(),
            enforcement: std::mem::take(&mut self.enforcement),
            message: None,
        }
    }
}

/// The process id behind a pidfd, as this process's /proc sees it.
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))?
        .trim()
        .parse::<i64>()
        .ok()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}
