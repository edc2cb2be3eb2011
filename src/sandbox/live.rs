//! What can be done with the writable root of a live sandbox.

use super::Sandbox;
use crate::changes::copied::{self, Original};
use crate::changes::{self, Change};
use crate::channel::{self, Channel};
use crate::error::{Error, ErrorKind};
use crate::mounts::TOP;
use crate::overlay::{self, Driver};
use crate::plan::read_of;
use crate::supervisor;
use crate::wire::*;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl Sandbox {
    /// Takes the sandbox back to its start: what runs in it is killed, and its root, `/work`, `/tmp`, `/dev/shm` and every
    /// `tmpfs` are as they were then. Volumes are not touched. Takes about as long as a start, however much was written.
    ///
    /// # Errors
    /// [`ErrorKind::State`] without an [`overlay`](crate::Spec::overlay), after [`close`](Sandbox::close), or in a forked
    /// child. [`ErrorKind::Setup`] if the root could not be made anew: then the sandbox has ended.
    pub fn reset(&self) -> Result<(), Error> {
        self.check_open()?;
        self.overlay()?;
        let answer = self.ask(|theirs| {
            supervisor::send_plan(self.channel.fd(), RESET, &self.plan, theirs, &[], false)
        })?;
        self.done(answer)?;
        self.made.store(now(), Ordering::Release);
        Ok(())
    }

    /// What differs from the root file system that it was started with, as `docker diff`, sorted by path. `/work`, `/tmp`,
    /// `/dev/shm`, volumes and every `tmpfs` are no part of that.
    ///
    /// Read while programs run, it is what was there at one moment or another. With `overlay=copy` the whole root is looked
    /// through, and what was changed since the start is compared with the original by kind, mode, owner, size, time and
    /// content.
    ///
    /// # Errors
    /// [`ErrorKind::State`] as of [`reset`](Sandbox::reset); and if something cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>, Error> {
        self.check_open()?;
        let chosen = self.overlay()?;
        let layer = self.layer()?;
        if chosen.driver != Driver::Copy {
            return changes::of(layer, &chosen.lowers, chosen.driver == Driver::Fuse);
        }
        let ids = &self.host.ids;
        let has_owner = |owner| ids.supervisors(owner).is_some();
        let original = Original {
            lowers: &chosen.lowers,
            own: self.plan.made_in(TOP),
            has_owner: &has_owner,
            made: Duration::from_nanos(self.made.load(Ordering::Acquire)),
        };
        copied::of(&layer, &original)
    }

    /// The upper layer of the root: a directory, open for reading, with what was changed. Names that were removed are
    /// character devices 0, 0, and a directory that hides what is below has the attribute `user.overlay.opaque`; of
    /// fuse-overlayfs, `user.fuseoverlayfs.opaque`.
    ///
    /// Programs can have put anything there: follow no links in it. It stays usable after the sandbox's end, and its memory
    /// in use until it is closed; but with `upper_dir` its files are removed with the sandbox.
    ///
    /// # Errors
    /// [`ErrorKind::State`] as of [`reset`](Sandbox::reset); [`ErrorKind::Unsupported`] with `overlay=copy`, where there is
    /// no such layer.
    pub fn upper(&self) -> Result<OwnedFd, Error> {
        self.check_open()?;
        if self.overlay()?.driver == Driver::Copy {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "overlay=copy: a copy has no layer of its own that would hold the changes; use overlay=kernel or fuse",
            ));
        }
        self.layer()
    }

    /// The upper layer, or the copy.
    fn layer(&self) -> Result<OwnedFd, Error> {
        let ask = Ask {
            kind: UPPER_LAYER,
            arg: 0,
            offset: 0,
        };
        let answer =
            self.ask(|theirs| supervisor::send_ask(self.channel.fd(), &ask, &[], theirs, None))?;
        let answer = self.done(answer)?;
        answer.fd.ok_or_else(|| {
            Error::new(
                ErrorKind::Resource,
                "the upper layer: no descriptor came; the limit on open descriptors may be reached",
            )
        })
    }

    pub(super) fn overlay(&self) -> Result<overlay::Chosen, Error> {
        overlay::choose(self.effective(), &self.host, None)?.ok_or_else(|| {
            Error::new(
                ErrorKind::State,
                "the sandbox has no writable root: give `overlay` when it is started",
            )
        })
    }

    /// Sends a request, by `send` with the socket for the answer, and waits for that.
    pub(super) fn ask(
        &self,
        send: impl Fn(&OwnedFd) -> std::io::Result<()>,
    ) -> Result<Answer, Error> {
        let gone = || match self.check_open() {
            Err(closed) => closed,
            Ok(()) => self.host.sandbox_lost(&self.channel),
        };
        let (answer, theirs) = Channel::new()?;
        send(&theirs).map_err(|e| match channel::is_gone(&e) {
            true => gone(),
            false => Error::system("sending to the sandbox", e),
        })?;
        drop(theirs);
        let received = answer.receive_or_end(&self.channel)?.ok_or_else(gone)?;
        let failure = read_of::<Failure>(&received.bytes).ok_or_else(gone)?;
        Ok(Answer {
            failure,
            fd: received.fd,
            body: received.bytes[size_of::<Failure>()..].to_vec(),
        })
    }

    /// An answer that says it was done.
    fn done(&self, answer: Answer) -> Result<Answer, Error> {
        match answer.failure.section {
            0 => Ok(answer),
            _ => Err(self.plan.explain(&answer.failure)),
        }
    }
}

/// Nanoseconds since the epoch, as files have it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// What a sandbox's init answers.
pub(super) struct Answer {
    pub failure: Failure,
    pub fd: Option<OwnedFd>,
    pub body: Vec<u8>,
}
