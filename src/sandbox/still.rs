//! A live sandbox whose programs stand still.

use super::Sandbox;
use crate::channel::Channel;
use crate::error::{Error, ErrorKind};
use crate::plan::{bytes_of, read_of};
use crate::process::ask;
use crate::wire::{Message, Now, PAUSE, RESUME, STATS};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

/// How often, and how soon again, a program is told to go on if that cannot be asked for.
const TRIES: u32 = 1000;
const AGAIN: Duration = Duration::from_millis(10);

/// The programs that have been started in a sandbox.
#[derive(Default)]
pub(super) struct Programs {
    channels: Mutex<Vec<Weak<Channel>>>,
    /// Held shared by who starts one.
    starting: RwLock<()>,
}

impl Programs {
    /// Starts one by `start`, which gives its channel too.
    pub fn start<T>(
        &self,
        start: impl FnOnce() -> Result<(Arc<Channel>, T), Error>,
    ) -> Result<T, Error> {
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        let (channel, started) = start()?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|channel| channel.strong_count() > 0);
        channels.push(Arc::downgrade(&channel));
        Ok(started)
    }
}

/// As long as it lives no program of the sandbox runs, and none starts.
pub(super) struct Still<'a> {
    paused: Vec<Arc<Channel>>,
    _starting: RwLockWriteGuard<'a, ()>,
}

impl<'a> Still<'a> {
    /// Stops all that run. Who is paused already stays so in the end.
    pub fn new(sandbox: &'a Sandbox) -> Result<Self, Error> {
        let programs = &sandbox.programs;
        let starting = programs.starting.write();
        let mut still = Still {
            paused: Vec::new(),
            _starting: starting.unwrap_or_else(PoisonError::into_inner),
        };
        let channels = programs.channels.lock();
        let channels = channels.unwrap_or_else(PoisonError::into_inner).clone();
        for channel in channels.iter().filter_map(Weak::upgrade) {
            let what = "pausing the sandbox";
            let stats = request(&channel, STATS, what)?;
            let now = stats.and_then(|bytes| read_of::<Now>(&bytes));
            if now.is_some_and(|now| now.paused == 0) {
                // Remembered first: what could not be stopped in time is stopped later, and must go on too.
                still.paused.push(channel.clone());
                request(&channel, PAUSE, what)?;
            }
        }
        Ok(still)
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        for channel in &self.paused {
            // What is short just now leaves no program stopped for good; what else there is, its end or the supervisor's, is
            // seen by whoever waits for it.
            let resume = || request(channel, RESUME, "resuming the sandbox");
            let passes = |e: Error| e.kind() == ErrorKind::Resource;
            for _ in 0..TRIES {
                if !resume().is_err_and(passes) {
                    break;
                }
                std::thread::sleep(AGAIN);
            }
        }
    }
}

fn request(channel: &Channel, kind: u32, what: &str) -> Result<Option<Vec<u8>>, Error> {
    ask(channel, bytes_of(&Message { kind, arg: 0 }), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    fn set_open_files(most: u64) -> u64 {
        let mut now = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the structure lives through the call.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut now) };
        let before = std::mem::replace(&mut now.rlim_cur, most);
        // SAFETY: likewise.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &now) };
        before
    }

    /// Whether a program runs after a sandbox stood still, in the end of which no descriptor was to be had for a moment.
    fn goes_on() -> Option<bool> {
        let spec = Spec::new(["/bin/sleep", "60"]);
        let sandbox = Sandbox::start(&spec).ok()?;
        let process = sandbox.spawn(&spec).ok()?;
        process.pid()?;
        let still = Still::new(&sandbox).ok()?;
        let before = set_open_files(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                set_open_files(before)
            });
            drop(still);
        });
        Some(!process.stats().ok()??.paused)
    }

    #[test]
    fn programs_go_on_though_descriptors_are_short() {
        // SAFETY: the child ends by `_exit` and never returns into the test runner.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let status = match goes_on() {
                Some(true) => 0,
                Some(false) => 1,
                None => 2,
            };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status}");
        assert_eq!(libc::WEXITSTATUS(status), 0);
    }
}
