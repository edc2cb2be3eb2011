//! What cannot wait while init does something longer: the end of a run, a signal, a pause, the limit on a disk. An init
//! that does not hear of the end of a run is killed for that, with all that is in its sandbox. What can wait is kept.

use super::*;

/// What has come and waits. Only init's own thread touches it.
static LATER: Global<[u64; MESSAGE_MAX / 8]> = Global::new([0; MESSAGE_MAX / 8]);

/// A request of the host's that waits: how long it is, and its descriptors.
pub(super) struct Later {
    length: usize,
    fds: [Fd; FDS_MAX],
    count: usize,
}

impl Later {
    /// Puts it into `buffer`: its length, and how many descriptors are in `fds`.
    pub fn take(self, buffer: &mut [u8], fds: &mut [Fd; FDS_MAX]) -> (usize, usize) {
        let length = self.length.min(buffer.len());
        buffer[..length].copy_from_slice(&as_bytes(LATER.take())[..length]);
        *fds = self.fds;
        (length, self.count)
    }
}

/// The run whose program is to be started, from when that is heard, and what that is to be sent as soon as it is there: one
/// bit for each signal.
#[derive(Clone, Copy)]
pub(super) struct Awaited {
    run: u32,
    signals: u64,
}

/// How long a start may take while others keep stopping it: so long beyond the program's own limit on wall-clock time, and
/// so long at most.
const START_BEYOND: u64 = 1_000_000_000;
const START_MOST: u64 = 10_000_000_000;
/// How often it is only told to go on, before all others are stopped meanwhile.
const TOLD_TO_GO_ON: u32 = 3;
/// How often it is told then, a millisecond each: those on other processors stop a moment later.
const TOLD_ALONE: u32 = 10;

impl Init {
    /// Hears what the supervisor says. Of the host's requests, which take long, it passes one on and waits for its answer: that
    /// one is done later.
    fn hear_meanwhile(&mut self) {
        const SHORT: usize = size_of::<Envelope>() + size_of::<Message>();
        let mut short = [0u64; SHORT.div_ceil(8)];
        loop {
            let bytes = match self.later {
                None => as_bytes(LATER.take()),
                Some(_) => as_bytes(&mut short),
            };
            let mut fds = [-1; FDS_MAX];
            let Ok((n, count)) = receive(CONTROL, bytes, &mut fds, false) else {
                return;
            };
            if n == 0 {
                self.leave(0);
            }
            let message: Option<Message> = bytes.get(size_of::<Envelope>()..).and_then(read_of);
            if let (Some(envelope), Some(message)) = (read_of::<Envelope>(bytes), message) {
                match message.kind {
                    EXEC | RESET..=READ if self.later.is_none() => {
                        if message.kind == EXEC {
                            self.await_start(envelope.run);
                        }
                        let length = n;
                        self.later = Some(Later { length, fds, count });
                    }
                    _ => self.obey_at_once(envelope.run, &message),
                }
            }
        }
    }

    /// From now on what is meant for the program of `run` is kept until that is there.
    pub(super) fn await_start(&mut self, run: u32) {
        if self.awaited.is_none_or(|awaited| awaited.run != run) {
            self.awaited = Some(Awaited { run, signals: 0 });
        }
    }

    fn keep_signal(&mut self, run: u32, signal: i32) {
        if let Some(awaited) = self.awaited.as_mut().filter(|awaited| awaited.run == run) {
            awaited.signals |= 1u64.checked_shl(signal as u32 - 1).unwrap_or(0);
        }
    }

    /// Sends a program that has been started what was meant for it before, if it is there.
    pub(super) fn signal_started(&mut self) {
        let Some(Awaited { run, signals }) = self.awaited.take() else {
            return;
        };
        for signal in (1..=64).filter(|signal| signals >> (signal - 1) & 1 != 0) {
            match (self.pid(run), signal) {
                (Some(_), SIGKILL) => self.signal_all(run, SIGKILL),
                (Some(pid), _) => drop(kill(pid, signal)),
                _ => {}
            }
        }
    }

    /// Does what the supervisor says of a run.
    pub(super) fn obey_at_once(&mut self, run: u32, message: &Message) {
        match message.kind {
            KILL => {
                self.signal_all(run, SIGKILL);
                self.keep_signal(run, SIGKILL);
                self.tell(run, message, &[], &[]);
            }
            PAUSE | RESUME => {
                let stop = message.kind == PAUSE;
                self.signal_all(run, if stop { SIGSTOP } else { SIGCONT });
                let programs = self.programs.iter_mut().flatten();
                let running = programs.filter(|p| p.run == run && p.status.is_none());
                if running.map(|p| p.paused = stop).count() > 0 && message.arg != AGAIN {
                    self.tell(run, message, &[], &[]);
                }
            }
            SIGNAL => match self.pid(run) {
                Some(pid) => drop(kill(pid, message.arg as i32)),
                None => self.keep_signal(run, message.arg as i32),
            },
            _ => {}
        }
    }

    /// Sends a signal to all processes of a run, as far as they can be told from another's: everything if it is the only
    /// one, else its process group.
    pub(super) fn signal_all(&self, run: u32, signal: i32) {
        let programs = self.programs.iter().flatten();
        let mut others = programs.filter(|p| p.status.is_none()).map(|p| p.run);
        if !others.any(|other| other != run) && self.starting.is_none_or(|other| other == run) {
            self.signal_everything(signal);
        } else if let Some(pid) = self.pid(run) {
            let _ = kill(-pid, signal);
            let _ = kill(pid, signal);
        } else if let Some(pid) = program::starting().filter(|_| self.starting == Some(run)) {
            let _ = kill(pid, signal);
        }
    }

    /// Counts what is written, if it is time to, and ends all that runs if that is too much.
    pub(super) fn hold_disk(&mut self) {
        if self.programs.iter().all(Option::is_none) || self.tally.wait() > 0 {
            return;
        }
        self.count();
        if self.tally.is_over() {
            // There is no other way to hold it: the host's disk is not the sandbox's to fill.
            self.signal_everything(SIGKILL);
        }
    }

    pub(super) fn count(&mut self) {
        let mut tally = core::mem::replace(&mut self.tally, Tally::NONE);
        tally.count(&mut || self.hear_meanwhile());
        self.tally = tally;
    }

    /// Between two parts of what init itself writes.
    pub(super) fn meanwhile(&mut self) {
        self.hear_meanwhile();
        self.hold_disk();
    }

    /// Kills and reaps everything but init; with `tell` the supervisor hears when the signal is sent, which it has not asked
    /// for then.
    pub(super) fn end_everything(&mut self, tell: bool) {
        self.signal_everything(SIGKILL);
        if tell {
            for program in self.programs.iter().flatten() {
                self.tell(program.run, &Message { kind: KILL, arg: 0 }, &[], &[]);
            }
        }
        if self.children.are_watched() {
            let children = self.children;
            children.end(
                |_| true,
                |ended| match ended {
                    Some((pid, status)) => self.note(pid, status),
                    None => self.hear_meanwhile(),
                },
            );
        }
        loop {
            match wait_any(false) {
                Ok(Some((pid, status))) => self.note(pid, status),
                Ok(None) => self.wait_for_end(),
                Err(_) => return,
            }
        }
    }

    /// Waits until a process has ended, while the supervisor is heard.
    fn wait_for_end(&mut self) {
        let mut ready = [CONTROL, self.signals].map(|fd| PollFd {
            fd,
            events: 1,
            revents: 0,
        });
        // The kernel tells of every end; should it not, we look again.
        const AGAIN: u64 = 100_000_000;
        let _ = poll(&mut ready, AGAIN);
        if ready[1].revents != 0 {
            let _ = read(self.signals, &mut [0; 128 * 8]);
        }
        if ready[0].revents != 0 {
            self.hear_meanwhile();
        }
    }

    /// Starts a program beside others, which may stop it by a signal before it is executed, and so whoever waits for that.
    pub(super) fn start_beside(
        &mut self,
        plan: &mut Plan,
        with: &Start,
        run: u32,
    ) -> core::result::Result<Spawned, Failure> {
        let most = match plan.head.clocks.wall_time {
            0 => START_MOST,
            limit => limit.saturating_add(START_BEYOND).min(START_MOST),
        };
        let (begun, mut stops, mut given_up) = (now(), 0, false);
        self.starting = Some(run);
        let rules = self.rules;
        let started = domain::spawn(rules, plan, with, STACK.take(), || {
            self.hear_meanwhile();
            let Some(pid) = program::starting().filter(|pid| is_stopped(*pid)) else {
                return;
            };
            stops += 1;
            if now() >= begun.saturating_add(most) {
                given_up = true;
                let _ = kill(pid, SIGKILL);
            } else if stops <= TOLD_TO_GO_ON {
                let _ = kill(pid, SIGCONT);
            } else {
                self.let_go_on_alone(pid);
            }
        });
        self.starting = None;
        match started {
            Ok(spawned) if given_up => {
                close(spawned.pidfd);
                close(spawned.listener);
                Err(Failure {
                    kind: FAILED,
                    section: IN_STEP,
                    index: STEP_STOPPED,
                    errno: 0,
                })
            }
            started => started,
        }
    }

    /// Lets `pid`, which is being started, go on while all others are stopped; then these go on, too, but for those that the
    /// host has paused.
    fn let_go_on_alone(&self, pid: i32) {
        self.signal_everything(SIGSTOP);
        for _ in 0..TOLD_ALONE {
            let _ = kill(pid, SIGCONT);
            if domain::wait(1_000_000) {
                break;
            }
        }
        self.signal_everything(SIGCONT);
        for paused in self.programs.iter().flatten().filter(|p| p.paused) {
            let _ = kill(-paused.pid, SIGSTOP);
        }
    }
}
