//! A run while it is paused.

use super::{Due, Run};
use crate::sys::*;
use crate::wire::*;

/// Between two looks at whether all of a group is frozen, and how often at most.
pub(super) const FREEZE_LOOK: u64 = 500_000;
const FREEZE_LOOKS: u32 = 4000;
/// Between two looks at what was stopped by signals: at first, and as long as it goes on; and at most.
const STOPPED_LOOK: u64 = 20_000_000;
const STOPPED_LOOK_MAX: u64 = 320_000_000;

/// What is known of a run that signals have stopped. A timer of its program's own can send the signal by which it goes on.
#[derive(Clone, Copy)]
pub(super) struct Stopped {
    /// When to look; `u64::MAX` for never.
    pub next_look: u64,
    /// When it was looked at last.
    looked: u64,
    /// The CPU time that it had used then, if that is known.
    cpu: u64,
}

impl Stopped {
    pub const NOT: Stopped = Stopped {
        next_look: u64::MAX,
        looked: 0,
        cpu: UNKNOWN,
    };

    fn at(now: u64) -> Stopped {
        Stopped {
            next_look: now.saturating_add(STOPPED_LOOK),
            looked: now,
            cpu: UNKNOWN,
        }
    }
}

impl Run {
    /// Whether it can be paused or resumed: it has begun, is not being ended, and nothing of the kind is under way.
    pub fn can_pause(&self) -> Result<()> {
        match self {
            Run { started_at: 0, .. } => Err(EAGAIN),
            Run { answer: 0.., .. } => Err(EBUSY),
            _ => Ok(()),
        }
    }

    /// Its processes are stopped from now on, or go on: so do its clocks. With `kernel` the kernel does that in its own
    /// time, and is looked at.
    pub fn pause(&mut self, pause: bool, kernel: bool, answer: Fd, now: u64) {
        if pause && self.paused_at == 0 {
            self.paused_at = now;
            self.stopped = match kernel {
                true => Stopped::NOT,
                false => Stopped::at(now),
            };
        } else if !pause && self.paused_at > 0 {
            let time = now - self.paused_at.min(now);
            self.paused_for += time;
            self.deadline = self.deadline.saturating_add(time);
            self.paused_at = 0;
            if self.reason == REASON_NONE && self.next_look != u64::MAX {
                // What was used between the last look and the pause is not known.
                self.next_look = now;
            }
        }
        self.answer = answer;
        if kernel {
            (self.freeze_looks, self.freeze_look) = (FREEZE_LOOKS, now);
        }
    }

    /// What there is to do while it is paused; `alone` if its sandbox has no other program.
    ///
    /// Where signals have stopped it, this looks whether it holds to that. Time in which it does not is no pause: the limits
    /// hold, and it is stopped again.
    pub fn check_paused(&mut self, now: u64, alone: bool) -> Due {
        match self.check_init(now) {
            Due::Nothing if self.reason == REASON_NONE => {}
            due => return due,
        }
        let before = self.stopped;
        if now < before.next_look {
            return Due::Nothing;
        }
        if let Some(reason) = self.look_at_limits() {
            return Due::Kill(reason);
        }
        let since = now - before.looked.min(now);
        // Where no cgroup counts, what others in the sandbox use cannot be told from it.
        let known = alone || self.cpu_read > 0;
        let went_on = known && before.cpu != UNKNOWN && self.seen.cpu > before.cpu;
        let next = match went_on {
            true => STOPPED_LOOK,
            false => (2 * since).clamp(STOPPED_LOOK, STOPPED_LOOK_MAX),
        };
        self.stopped = Stopped {
            next_look: now.saturating_add(next),
            looked: now,
            cpu: self.seen.cpu,
        };
        if !went_on {
            return Due::Nothing;
        }
        self.notify();
        self.paused_at = self.paused_at.saturating_add(since).min(now);
        // What is left of the pause is added to the deadline when it ends.
        match self.paused_at >= self.deadline {
            true => Due::Kill(REASON_WALL),
            false => Due::Stop,
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused_at > 0
    }

    /// Whoever asked is told.
    pub fn answered(&mut self) -> Fd {
        (self.freeze_looks, self.freeze_look) = (0, u64::MAX);
        core::mem::replace(&mut self.answer, -1)
    }

    /// For how long it was paused until it ended at `at`.
    pub fn paused(&self, at: u64) -> u64 {
        let now = match self.paused_at {
            0 => 0,
            since => at.saturating_sub(since),
        };
        self.paused_for + now
    }
}
