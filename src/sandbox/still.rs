//! A live sandbox whose programs stand still.

use super::Sandbox;
use crate::channel::Channel;
use crate::error::Error;
use crate::plan::{bytes_of, read_of};
use crate::process::ask;
use crate::wire::{Message, Now, PAUSE, RESUME, STATS};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};

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
            // Its end, or the supervisor's, is seen by whoever waits for it.
            let _ = request(channel, RESUME, "resuming the sandbox");
        }
    }
}

fn request(channel: &Channel, kind: u32, what: &str) -> Result<Option<Vec<u8>>, Error> {
    ask(channel, bytes_of(&Message { kind, arg: 0 }), what)
}
