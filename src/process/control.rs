//! Stopping a program and all that it started, letting them go on, and what they use meanwhile.

use super::{Process, split_reads};
use crate::channel::Channel;
use crate::error::Error;
use crate::outcome::{Stats, Usage};
use crate::plan::{bytes_of, read_of};
use crate::verdict::fill_usage;
use crate::wire::{Message, Now, PAUSE, RESUME, RUN_OVER, STATS, UNKNOWN};
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
    /// run, that reaches only the program's process group. A program that has a timer send it SIGCONT goes on; that is
    /// seen within a third of a second, it is stopped again, and time in which it went on counts as ever for the limits.
    ///
    /// # Errors
    /// Some process could not be frozen within two seconds, since it waits in the kernel without end; the others are, and
    /// it will be. The handle belongs to another process.
    pub fn pause(&self) -> Result<(), Error> {
        self.request(PAUSE, "pausing the program").map(drop)
    }

    /// Lets a paused program go on. No error if it has ended or is not paused.
    ///
    /// # Errors
    /// As [`pause`](Process::pause).
    pub fn resume(&self) -> Result<(), Error> {
        self.request(RESUME, "resuming the program").map(drop)
    }

    /// What the program and everything it started use now; `None` if it has ended: then the outcome says what it used.
    ///
    /// Takes about 50 microseconds with cgroups. Without, the processes are looked at, which takes longer the more there
    /// are, and CPU time is counted in ticks of 10 ms.
    ///
    /// # Errors
    /// The handle belongs to another process.
    pub fn stats(&self) -> Result<Option<Stats>, Error> {
        let Some(bytes) = self.request(STATS, "asking what the program uses")? else {
            return Ok(None);
        };
        let Some(now) = read_of::<Now>(&bytes) else {
            return Ok(None);
        };
        let reads = split_reads(&bytes[size_of::<Now>()..], now.exit.reads as usize);
        let limit = self.lock().judged.memory();
        let mut usage = Usage::default();
        fill_usage(&mut usage, &now.exit, &reads, &self.host.cgroup, limit);
        let known = |figure: u64| (figure != UNKNOWN).then_some(figure);
        let mut stats = Stats {
            paused: now.paused != 0,
            wall_time: usage.wall_time,
            paused_time: usage.paused_time,
            cpu_time: usage.cpu_time,
            throttled_time: usage.throttled_time,
            memory_current: known(now.memory),
            memory_peak: usage.memory_peak,
            pids_current: known(now.pids),
            pids_peak: usage.pids_peak,
        };
        self.host.cgroup.fill_stats(&reads, &mut stats);
        Ok(Some(stats))
    }

    /// [`stats`](Process::stats) now and then after every `interval`, until the program has ended. Waits in between,
    /// moving captured output along.
    pub fn stats_every(
        &self,
        interval: Duration,
    ) -> impl Iterator<Item = Result<Stats, Error>> + '_ {
        let mut first = true;
        std::iter::from_fn(move || {
            if !std::mem::take(&mut first) {
                match self.wait_timeout(interval) {
                    Ok(None) => {}
                    Ok(Some(_)) => return None,
                    Err(e) => return Some(Err(e)),
                }
            }
            self.stats().transpose()
        })
    }

    fn request(&self, kind: u32, what: &str) -> Result<Option<Vec<u8>>, Error> {
        self.ask(bytes_of(&Message { kind, arg: 0 }), what)
    }

    /// Asks the supervisor and waits for its answer: the bytes of it, `None` if the run is over.
    pub(super) fn ask(&self, message: &[u8], what: &str) -> Result<Option<Vec<u8>>, Error> {
        ask(&self.channel, message, what)
    }
}

/// Asks the supervisor over the channel of a run and waits for its answer: the bytes of it, `None` if the run is over.
pub(crate) fn ask(channel: &Channel, message: &[u8], what: &str) -> Result<Option<Vec<u8>>, Error> {
    loop {
        let Some(received) = channel.ask(message)? else {
            return Ok(None);
        };
        let answer = read_of::<Message>(&received.bytes);
        let short = received.bytes.len() == size_of::<Message>();
        match answer
            .filter(|_| short)
            .map_or(0, |answer| answer.arg as i32)
        {
            0 => return Ok(answer.map(|_| received.bytes)),
            libc::EAGAIN | libc::EBUSY => std::thread::sleep(AGAIN),
            errno if errno == RUN_OVER as i32 => return Ok(None),
            errno => {
                return Err(Error::system(what, io::Error::from_raw_os_error(errno)));
            }
        }
    }
}
