//! Passes the program's streams on while it runs.

use super::signals::Signals;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use stockade::{Error, Outcome, Overflow, Process};

/// What is moved at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// How a run went, as seen from here.
pub struct Pumped {
    /// The library's view.
    pub outcome: Outcome,
    /// Whether a stream passed the limit on output, which nobody but the pump can see.
    pub overflowed: bool,
    /// Why the program's output could not be passed on, if so.
    pub broken: Option<io::Error>,
}

/// What the pump is to hold to.
pub struct Limits {
    /// Bytes of each stream; the rest is not passed on.
    pub output: u64,
    /// What to do when there are more.
    pub overflow: Overflow,
    /// How long a program that was asked to stop may go on.
    pub stop_timeout: Duration,
}

/// One of the program's output streams and where it goes.
struct Stream {
    from: Option<OwnedFd>,
    to: BorrowedFd<'static>,
    left: u64,
    /// What was read of it and is not passed on yet.
    pending: Vec<u8>,
}

/// Runs until the program and all it started have ended and all it wrote is passed on.
pub fn pump(
    process: &Process,
    signals: &Signals,
    interactive: bool,
    limits: &Limits,
) -> Result<Pumped, Error> {
    let stream = |from: Option<OwnedFd>, to| Stream {
        from: from.map(nonblocking),
        to: standard(to),
        left: limits.output,
        pending: Vec::new(),
    };
    let mut streams = [
        stream(process.take_stdout(), libc::STDOUT_FILENO),
        stream(process.take_stderr(), libc::STDERR_FILENO),
    ];
    let mut input = Input::new(process.take_stdin().filter(|_| interactive));
    let (mut killed, mut asked) = (false, None);
    let mut overflowed = false;
    let mut broken = None;
    loop {
        // Once the program has ended there is nothing to wait for: what it wrote is in the pipes.
        let ended = process.poll()?;
        // Asked to stop, it may go on for a while.
        let stop = signals.received().is_some();
        if stop && asked.is_none() {
            asked = Some(Instant::now() + limits.stop_timeout);
            if !limits.stop_timeout.is_zero() {
                process.ask_to_stop()?;
            }
        }
        for stream in &mut streams {
            match stream.forward(signals, limits.overflow) {
                Ok(passed) => overflowed |= passed,
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        let left = asked.map(|end: Instant| end.saturating_duration_since(Instant::now()));
        // Whoever reads what it wrote last has as long.
        let slow = streams.iter().any(|stream| !stream.pending.is_empty());
        let running = ended.is_none();
        if let Some(outcome) = ended
            && !(slow && left.is_some_and(|left| !left.is_zero()))
        {
            return Ok(Pumped {
                outcome,
                overflowed,
                broken,
            });
        }
        let kill = left.is_some_and(|left| left.is_zero())
            || broken.is_some()
            || overflowed && limits.overflow == Overflow::Kill;
        if kill && !killed {
            process.kill()?;
            killed = true;
        }
        input.forward();
        let left = left.filter(|_| !killed || !running);
        let quiet = (killed || stop).then_some(left);
        let process = Some(process).filter(|_| running);
        if let Err(error) = wait(process, signals, &streams, &input, quiet) {
            broken = broken.or(Some(error.into()));
        }
    }
}

/// Sleeps until there is something to do; after a signal for so long at most.
fn wait(
    process: Option<&Process>,
    signals: &Signals,
    streams: &[Stream],
    input: &Input,
    heard: Option<Option<Duration>>,
) -> nix::Result<()> {
    let mut fds = Vec::new();
    fds.extend(process.map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
    if heard.is_none() {
        fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
    }
    for stream in streams {
        match &stream.from {
            _ if !stream.pending.is_empty() => {
                fds.push(PollFd::new(stream.to, PollFlags::POLLOUT));
            }
            Some(from) => fds.push(PollFd::new(from.as_fd(), PollFlags::POLLIN)),
            None => {}
        }
    }
    fds.extend(input.interest());
    let timeout = heard.flatten().map_or(PollTimeout::NONE, |left| {
        let whole = left.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
        PollTimeout::try_from(whole as i32).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Stream {
    /// Passes on what is there, and says whether it came to more than the limit.
    fn forward(&mut self, signals: &Signals, overflow: Overflow) -> io::Result<bool> {
        let mut buffer = [0; CHUNK];
        while self.pass_on(signals)?
            && let Some(from) = &self.from
        {
            let read = match unistd::read(from, &mut buffer) {
                Ok(0) => {
                    self.from = None;
                    break;
                }
                Ok(read) => read,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    self.from = None;
                    return Err(error.into());
                }
            };
            let keep = read.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= keep as u64;
            self.pending.extend_from_slice(&buffer[..keep]);
            if keep < read {
                // A program that is ended for it need not be read any further.
                if overflow == Overflow::Kill {
                    self.from = None;
                }
                self.pass_on(signals)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes what was read, and says whether that was all of it. Waits where the reader is slow, until a signal comes.
    fn pass_on(&mut self, signals: &Signals) -> io::Result<bool> {
        let mut done = 0;
        let all = loop {
            let bytes = &self.pending[done..];
            let heard = signals.received().is_some();
            let mut fds = [
                PollFd::new(self.to, PollFlags::POLLOUT),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            // So much can be written to a pipe that has room without waiting.
            let most = if heard { libc::PIPE_BUF } else { CHUNK };
            if bytes.is_empty() {
                break Ok(true);
            }
            if heard && !matches!(poll(&mut fds[..1], PollTimeout::ZERO), Ok(1..)) {
                break Ok(false);
            }
            match unistd::write(self.to, &bytes[..bytes.len().min(most)]) {
                Ok(written) => done += written,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if heard => break Ok(false),
                Err(Errno::EAGAIN) => match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..done);
        if all.is_err() {
            self.from = None;
            self.pending.clear();
        }
        Ok(all?)
    }
}

/// Our standard input on its way to the program.
struct Input {
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    sent: usize,
}

impl Input {
    fn new(to: Option<OwnedFd>) -> Self {
        Input {
            to: to.map(nonblocking),
            buffer: Vec::new(),
            sent: 0,
        }
    }

    /// What to wait for: room in the pipe if there is something to send, else something to send.
    fn interest(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        Some(match self.sent < self.buffer.len() {
            true => PollFd::new(to.as_fd(), PollFlags::POLLOUT),
            false => PollFd::new(standard(libc::STDIN_FILENO), PollFlags::POLLIN),
        })
    }

    /// Moves one step, never waiting. At the end of the input, or when the program reads no more, it closes.
    fn forward(&mut self) {
        let Some(to) = &self.to else { return };
        if self.sent == self.buffer.len() {
            let mut fds = [PollFd::new(standard(libc::STDIN_FILENO), PollFlags::POLLIN)];
            if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
                return;
            }
            self.buffer.resize(CHUNK, 0);
            self.sent = 0;
            match unistd::read(standard(libc::STDIN_FILENO), &mut self.buffer) {
                Ok(read @ 1..) => self.buffer.truncate(read),
                Err(Errno::EAGAIN | Errno::EINTR) => self.buffer.clear(),
                Ok(_) | Err(_) => {
                    self.to = None;
                    return;
                }
            }
        }
        match unistd::write(to, &self.buffer[self.sent..]) {
            Ok(written) => self.sent += written,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.to = None,
        }
    }
}

/// One of our own standard streams. Rust's start-up opens /dev/null for any that is closed.
fn standard(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: nothing here closes a standard stream, so it stays open for the life of the process.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Our end of a pipe whose other end has a file description of its own: nobody else sees the flag.
fn nonblocking(fd: OwnedFd) -> OwnedFd {
    // This cannot fail on a pipe; if it did, the pump would wait where it need not, and lose nothing.
    let _ = fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    fd
}
