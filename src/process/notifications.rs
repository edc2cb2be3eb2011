//! What the host is told of while a program runs: that it has used so much.

use super::{Process, State};
use crate::error::Error;
use crate::launch::above_stdio;
use crate::plan::bytes_of;
use crate::wire::{NOTIFY, OF_CPU_TIME, OF_MEMORY, Threshold};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A running program has used as much as was to be told: see [`Process::next_notification`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// CPU time.
    CpuTime {
        /// What was to be told.
        threshold: Duration,
        /// What was used when that was seen.
        used: Duration,
    },
    /// Bytes of memory.
    Memory {
        /// What was to be told.
        threshold: u64,
        /// What was in use when that was seen.
        used: u64,
    },
}

/// What waits for notifications wait on.
pub(super) struct Waiting {
    /// Readable while there are some that nobody has taken.
    event: OwnedFd,
    /// Readable then, and whenever there is something to hear from the supervisor: for event loops in which other tasks
    /// may hear it first.
    #[cfg(feature = "python")]
    any: nix::sys::epoll::Epoll,
}

impl Process {
    /// Has the host told once when the program and everything it started have used so much CPU time; in place of the
    /// threshold before, and `None` to be told no more. Not an error if it has ended.
    ///
    /// It is told as soon as that is seen: it could be passed at the earliest when all processors work for the program,
    /// and is looked at then. A program that ends before that is told of no more.
    ///
    /// # Errors
    /// The threshold is 0, the host has no descriptor left, or the handle belongs to another process.
    pub fn notify_cpu_time(&self, threshold: Option<Duration>) -> Result<(), Error> {
        let nanoseconds = threshold.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        self.notify("notify_cpu_time", OF_CPU_TIME, nanoseconds)
    }

    /// The same when so many bytes of memory are in use: as the `memory` limit counts them, 1 or more. What is in use is
    /// looked at every 20 ms at least, so use that is shorter than that may pass unseen.
    ///
    /// ```
    /// # use stockade::{Error, Notification, Spec, Update, Verdict};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Error> {
    /// // A soft limit: one that passes it is given ten seconds to end.
    /// let process = Spec::new(["sh", "-c", "sleep 0.2; x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 0.2"])
    ///     .memory(256 << 20)
    ///     .spawn()?;
    /// process.notify_memory(Some(16 << 20))?;
    /// for notification in process.notifications() {
    ///     let Notification::Memory { used, .. } = notification? else { continue };
    ///     assert!(used >= 16 << 20);
    ///     process.update(&Update::new().wall_time(Some(Duration::from_secs(10))))?;
    /// }
    /// assert_eq!(process.wait()?.verdict, Verdict::Ok);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`notify_cpu_time`](Process::notify_cpu_time).
    pub fn notify_memory(&self, threshold: Option<u64>) -> Result<(), Error> {
        self.notify("notify_memory", OF_MEMORY, threshold)
    }

    /// The next notification, in the order in which they came: waits for it, at most `timeout`, moving captured output
    /// along. `None` if none came in that time, or the program has ended and all are taken. None is lost if it is taken
    /// late.
    ///
    /// One that comes makes the descriptor of [`as_fd`](Process::as_fd) readable until [`poll`](Process::poll) or this
    /// has looked: whoever waits on that takes notifications with a timeout of 0 after each.
    ///
    /// # Errors
    /// As [`poll`](Process::poll).
    pub fn next_notification(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Option<Notification>, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(notification) = self.take_notification()? {
                return Ok(Some(notification));
            }
            if self.poll()?.is_some() {
                // The last may have come with the end.
                return self.take_notification();
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.block_for_notification(left);
        }
    }

    /// All notifications, each when it comes, until the program has ended.
    pub fn notifications(&self) -> impl Iterator<Item = Result<Notification, Error>> + '_ {
        std::iter::from_fn(move || self.next_notification(None).transpose())
    }

    /// One that has come; never waits.
    pub(crate) fn take_notification(&self) -> Result<Option<Notification>, Error> {
        self.channel.check_owner()?;
        let mut state = self.lock();
        self.advance(&mut state);
        let notification = state.notifications.pop_front();
        if let (Some(waiting), true) = (self.waiting.get(), state.notifications.is_empty()) {
            let _ = nix::unistd::read(&waiting.event, &mut [0; 8]);
        }
        Ok(notification)
    }

    /// Waits until there may be one; whether a signal to the host cut that short.
    pub(crate) fn block_for_notification(&self, timeout: Option<Duration>) -> bool {
        let event = self.waiting.get().map(|waiting| waiting.event.as_fd());
        self.block_with(timeout, event)
    }

    /// A descriptor that is readable when there may be one, whoever else has looked.
    #[cfg(feature = "python")]
    pub(crate) fn notification_fd(&self) -> Result<std::os::fd::BorrowedFd<'_>, Error> {
        Ok(self.waiting()?.any.0.as_fd())
    }

    fn notify(&self, name: &str, of: u32, threshold: Option<u64>) -> Result<(), Error> {
        if threshold == Some(0) {
            return Err(Error::invalid(format!("{name}: it is more than 0")));
        }
        self.channel.check_owner()?;
        self.waiting()?;
        self.channel.say(bytes_of(&Threshold {
            kind: NOTIFY,
            of,
            at: threshold.unwrap_or(0),
            used: 0,
        }))
    }

    pub(super) fn notified(&self, state: &mut State, threshold: &Threshold) {
        let (at, used) = (threshold.at, threshold.used);
        state.notifications.push_back(match threshold.of {
            OF_CPU_TIME => Notification::CpuTime {
                threshold: Duration::from_nanos(at),
                used: Duration::from_nanos(used),
            },
            _ => Notification::Memory {
                threshold: at,
                used,
            },
        });
        if let Some(waiting) = self.waiting.get() {
            let _ = nix::unistd::write(&waiting.event, &1u64.to_ne_bytes());
        }
    }

    fn waiting(&self) -> Result<&Waiting, Error> {
        if let Some(waiting) = self.waiting.get() {
            return Ok(waiting);
        }
        let failed = |e: std::io::Error| Error::system("making a descriptor to wait on", e);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).map_err(|e| failed(e.into()))?;
        let event = above_stdio(OwnedFd::from(event)).map_err(failed)?;
        let waiting = Waiting {
            #[cfg(feature = "python")]
            any: {
                use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
                let any = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
                let any = Epoll(above_stdio(any.map_err(|e| failed(e.into()))?.0).map_err(failed)?);
                for fd in [event.as_fd(), self.pollable()?] {
                    any.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))
                        .map_err(|e| failed(e.into()))?;
                }
                any
            },
            event,
        };
        // Another thread may have been first: then these go.
        let _ = self.waiting.set(waiting);
        Ok(self.waiting.get().expect("set above"))
    }
}
