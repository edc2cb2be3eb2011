//! A program's standard streams: opened, and captured up to a limit.

use crate::error::Error;
use crate::launch::{above_stdio, sealed_memfd};
use crate::limits::OUTPUT_DEFAULT;
use crate::spec::{Spec, Stdio};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// How much is read of one stream before the other gets its turn.
const TURN: usize = 1 << 20;

/// Both captured streams.
pub(crate) struct Streams {
    pub stdout: Stream,
    pub stderr: Stream,
}

/// One captured stream: its head is kept, the rest counted.
pub(crate) struct Stream {
    fd: Option<OwnedFd>,
    /// At its end, until whoever waits on it has let it go.
    ended: Option<OwnedFd>,
    kept: Vec<u8>,
    total: u64,
    limit: u64,
    /// Why it could not be read to its end.
    broken: Option<nix::errno::Errno>,
}

/// What was captured.
pub(crate) struct Captured {
    pub kept: Vec<u8>,
    pub total: u64,
}

type Ends = [Option<OwnedFd>; 3];

impl Streams {
    /// Opens what `spec` asks for: the captured streams, the caller's ends of pipes, the program's ends.
    pub fn open(spec: &Spec) -> Result<(Streams, Ends, Ends), Error> {
        let limit = spec.output.unwrap_or(OUTPUT_DEFAULT);
        let mut streams = Streams {
            stdout: Stream::new(limit),
            stderr: Stream::new(limit),
        };
        let (mut ours, mut theirs): (Ends, Ends) = Default::default();
        match (&spec.input, spec.stdin) {
            (Some(input), _) => {
                let memfd = sealed_memfd(input, false)
                    .map_err(|e| Error::system("keeping the input in a memfd", e))?;
                theirs[0] = Some(memfd);
            }
            (None, Some(Stdio::Pipe)) => {
                let (read, write) = pipe()?;
                (theirs[0], ours[0]) = (Some(read), Some(write));
            }
            (None, Some(Stdio::Fd(fd))) => theirs[0] = Some(pass(fd, "stdin")?),
            _ => {}
        }
        for (number, wanted, name) in [(1, spec.stdout, "stdout"), (2, spec.stderr, "stderr")] {
            match wanted.unwrap_or(Stdio::Capture) {
                Stdio::Capture => {
                    let (read, write) = pipe()?;
                    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                        .map_err(|e| Error::system("setting a pipe non-blocking", e))?;
                    let stream = if number == 1 {
                        &mut streams.stdout
                    } else {
                        &mut streams.stderr
                    };
                    stream.fd = Some(read);
                    theirs[number] = Some(write);
                }
                Stdio::Pipe => {
                    let (read, write) = pipe()?;
                    (ours[number], theirs[number]) = (Some(read), Some(write));
                }
                Stdio::Fd(fd) => theirs[number] = Some(pass(fd, name)?),
                Stdio::Null | Stdio::Stdout => {}
            }
        }
        Ok((streams, ours, theirs))
    }

    /// Reads what there is, a turn of each.
    pub fn read(&mut self) {
        self.stdout.read(TURN);
        self.stderr.read(TURN);
    }

    /// Reads all there is now. In a live sandbox somebody may go on writing, so not all there ever will be.
    pub fn drain(&mut self) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            let waiting = stream.waiting();
            stream.read(waiting);
            // Nothing more, or the end, which closes it.
            stream.read(1);
        }
    }

    /// Another limit from now on. What is over it goes; what was over one before does not come back.
    pub fn limit(&mut self, limit: Option<u64>) {
        let limit = limit.unwrap_or(OUTPUT_DEFAULT);
        for stream in [&mut self.stdout, &mut self.stderr] {
            let whole = stream.kept.len() as u64 == stream.total;
            stream
                .kept
                .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            stream.limit = match whole {
                true => limit,
                // There is a gap behind what is kept.
                false => stream.kept.len() as u64,
            };
        }
    }

    /// Whether a stream has passed its limit.
    pub fn over(&self) -> bool {
        [&self.stdout, &self.stderr]
            .iter()
            .any(|s| s.total > s.limit)
    }

    /// What is not whole, as its descriptor could not be read: closed by the host, say, behind our back.
    pub fn broken(&self) -> Option<Error> {
        let named = [("output", &self.stdout), ("error", &self.stderr)];
        named.iter().find_map(|(name, stream)| {
            let what = format!("reading the program's standard {name}");
            Some(Error::system(what, stream.broken?).with_step("reading a captured stream"))
        })
    }

    /// Those that have come to their ends since.
    pub fn ended(&mut self) -> impl Iterator<Item = OwnedFd> {
        let [out, err] = [&mut self.stdout, &mut self.stderr].map(|s| s.ended.take());
        out.into_iter().chain(err)
    }

    pub fn open_fds(&self) -> Vec<RawFd> {
        [&self.stdout, &self.stderr]
            .iter()
            .filter_map(|s| s.fd.as_ref())
            .map(|fd| fd.as_raw_fd())
            .collect()
    }
}

impl Stream {
    fn new(limit: u64) -> Stream {
        Stream {
            fd: None,
            ended: None,
            kept: Vec::new(),
            total: 0,
            limit,
            broken: None,
        }
    }

    /// How many bytes the pipe holds.
    fn waiting(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        if let Some(fd) = &self.fd {
            // SAFETY: an open descriptor, and an int that lives through the call.
            unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        }
        bytes.max(0) as usize
    }

    fn read(&mut self, most: usize) {
        let Some(fd) = &self.fd else { return };
        let mut buffer = [0u8; 64 * 1024];
        let mut turn = 0;
        while turn < most {
            match nix::unistd::read(fd, &mut buffer) {
                Ok(0) => {
                    self.ended = self.fd.take();
                    return;
                }
                Ok(n) => {
                    let room =
                        (self.limit.saturating_sub(self.kept.len() as u64)).min(n as u64) as usize;
                    self.kept.extend_from_slice(&buffer[..room]);
                    self.total += n as u64;
                    turn += n;
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(errno) => {
                    (self.fd, self.broken) = (None, Some(errno));
                    return;
                }
            }
        }
    }

    pub fn take(&mut self) -> Captured {
        (self.fd, self.ended) = (None, None);
        Captured {
            kept: std::mem::take(&mut self.kept),
            total: self.total,
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let made = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from);
    let (read, write) = made.map_err(|e| Error::system("making a pipe", e))?;
    let up = |fd| above_stdio(fd).map_err(|e| Error::system("making a pipe", e));
    Ok((up(read)?, up(write)?))
}

/// A duplicate of the caller's descriptor, if it is of a kind that the program cannot open again with other rights.
fn pass(fd: RawFd, name: &str) -> Result<OwnedFd, Error> {
    if fd < 0 {
        return Err(Error::invalid(format!("{name}: {fd} is not a descriptor")));
    }
    // SAFETY: only duplicated, at once; the caller names an open descriptor or gets EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = nix::sys::stat::fstat(borrowed)
        .map_err(|e| Error::system(format!("{name}: descriptor {fd}"), e).into_invalid())?;
    if !matches!(stat.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK) {
        return Err(Error::invalid(format!(
            "{name}: descriptor {fd} is neither a pipe nor a socket; a file or terminal could be opened again for writing from inside, \
             so pass its content instead, or pump it through a pipe"
        )));
    }
    borrowed
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| Error::system(format!("{name}: duplicating descriptor {fd}"), e))
}
