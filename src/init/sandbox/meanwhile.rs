//! What cannot wait while init does something longer: the end of a run, a signal, a pause, the limit on a disk. An init
//! that does not hear of the end of a run is killed for that, with all that is in its sandbox.

use super::*;

/// How long a start may take while others keep stopping it: so long beyond the program's own limit on wall-clock time, and
/// so long at most.
const START_BEYOND: u64 = 1_000_000_000;
const START_MOST: u64 = 10_000_000_000;
/// How often it is only told to go on, before all others are stopped meanwhile.
const TOLD_TO_GO_ON: u32 = 3;
/// How often it is told then, a millisecond each: those on other processors stop a moment later.
const TOLD_ALONE: u32 = 10;

impl Init {
    /// Hears what the supervisor says. It says nothing that takes long meanwhile: it passes the host's requests on one by
    /// one.
    fn hear_meanwhile(&mut self) {
        const LENGTH: usize = size_of::<Envelope>() + size_of::<Message>();
        let mut buffer = [0u64; LENGTH.div_ceil(8)];
        let bytes = as_bytes(&mut buffer);
        while let Ok((n, _)) = receive(CONTROL, bytes, &mut [-1; FDS_MAX], false) {
            if n == 0 {
                self.leave(0);
            }
            let message = bytes.get(size_of::<Envelope>()..).and_then(read_of);
            if let (Some(envelope), Some(message)) = (read_of::<Envelope>(bytes), message) {
                self.obey_at_once(envelope.run, &message);
            }
        }
    }

    /// Does what the supervisor says of a run.
    pub(super) fn obey_at_once(&mut self, run: u32, message: &Message) {
        match message.kind {
            KILL => {
                self.signal_all(run, SIGKILL);
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
            SIGNAL => {
                if let Some(pid) = self.pid(run) {
                    let _ = kill(pid, message.arg as i32);
                }
            }
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
