//! Calling off: one flag that every wait of a pull looks at.

use crate::error::{Error, ErrorKind};
use std::io;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn set(&self) {
        *self.stopped.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.changed.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An error if it is set.
    pub fn check(&self) -> io::Result<()> {
        match self.is_set() {
            true => Err(io::Error::other(called_off())),
            false => Ok(()),
        }
    }

    /// Waits so long, or until it is set, which is an error.
    pub fn sleep(&self, time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        let mut stopped = self.stopped.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match () {
                () if *stopped => return Err(called_off()),
                () if left.is_zero() => return Ok(()),
                () => {
                    let waited = self.changed.wait_timeout(stopped, left);
                    stopped = waited.unwrap_or_else(|e| e.into_inner()).0;
                }
            }
        }
    }
}

pub(super) fn called_off() -> Error {
    Error::new(ErrorKind::State, "it was called off")
}
