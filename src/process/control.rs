//! Stopping a program and all that it started, and letting them go on.

use super::Process;
use crate::error::Error;
use crate::wire::{PAUSE, RESUME};
use std::io;
use std::time::Duration;

/// Until it is tried again, where the program is being started or another pause is under way.
const AGAIN: Duration = Duration::from_micros(500);

impl Process {
    /// Stops the program and everything it started, until [`resume`](Process::resume). Returns when none of them runs any
    /// more. Meanwhile `wall_time` does not go on, and they can be killed. No error if it has ended or is paused.
    ///
    /// With cgroup v2 the kernel freezes them (cgroup.freeze, Linux 5.2 and later), which they cannot notice. Elsewhere
    /// they are stopped by SIGSTOP, which their parents among them can see; in a live sandbox in which other programs
    /// run, that reaches only the program's process group.
    ///
    /// # Errors
    /// Some process could not be frozen within two seconds, since it waits in the kernel without end; the others are, and
    /// it will be. The handle belongs to another process.
    pub fn pause(&self) -> Result<(), Error> {
        self.ask(PAUSE, "pausing the program")
    }

    /// Lets a paused program go on. No error if it has ended or is not paused.
    ///
    /// # Errors
    /// As [`pause`](Process::pause).
    pub fn resume(&self) -> Result<(), Error> {
        self.ask(RESUME, "resuming the program")
    }

    fn ask(&self, kind: u32, what: &str) -> Result<(), Error> {
        loop {
            match self.channel.ask(kind)? {
                None | Some(0) => return Ok(()),
                Some(libc::EAGAIN | libc::EBUSY) => std::thread::sleep(AGAIN),
                Some(errno) => {
                    return Err(Error::system(what, io::Error::from_raw_os_error(errno)));
                }
            }
        }
    }
}
