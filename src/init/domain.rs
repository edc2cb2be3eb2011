//! Programs in a Landlock domain: what they may do is a second time what their mounts let them do.
//!
//! Init itself stays outside, since it mounts, and since what is inside may neither signal nor trace what is not. The
//! program of a sandbox for one run enters the domain itself. A domain that each program of a live sandbox made for
//! itself would hide them from each other; they are started by a thread of init's that is in it for them all, and that a
//! `kill(-1)` of init's passes over. Who starts a program waits until that is executed, which others in the sandbox can hold
//! up by a signal that stops it: so there is such a thread without Landlock, too, and init's own goes on meanwhile.

use crate::mem::Global;
use crate::plan::Plan;
use crate::program::{self, Spawned, Start};
use crate::sys::*;
use crate::wire::*;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The ruleset of a sandbox's programs.
#[derive(Clone, Copy)]
pub struct Rules {
    /// -1 where there is no Landlock.
    pub ruleset: Fd,
    /// Of landlock_restrict_self(2).
    pub flags: u32,
}

impl Rules {
    pub const NONE: Rules = Rules {
        ruleset: -1,
        flags: 0,
    };

    /// Takes this thread into a domain of these rules.
    pub fn enter(&self) -> Result<()> {
        match self.ruleset {
            ..0 => Ok(()),
            ruleset => landlock_restrict(ruleset, self.flags).map(|_| ()),
        }
    }
}

/// What the thread is to do.
static WORD: AtomicU32 = AtomicU32::new(DONE);
const DONE: u32 = 0;
const WORK: u32 = 1;
const END: u32 = 2;

/// Not zero while the thread lives.
static LIVES: AtomicU32 = AtomicU32::new(0);
/// Its job, as an address.
static JOB: AtomicUsize = AtomicUsize::new(0);
static STACK: Global<[u8; 16 * 1024]> = Global::new([0; 16 * 1024]);

struct Job<'a, 'p> {
    rules: Rules,
    plan: &'a mut Plan<'p>,
    start: &'a Start,
    stack: &'a mut [u8],
    result: core::result::Result<Spawned, Failure>,
}

fn failure(errno: i32) -> Failure {
    Failure {
        kind: FAILED,
        section: IN_STEP,
        index: STEP_LANDLOCK,
        errno: errno as u32,
    }
}

/// After how long to see what keeps a start, and how often then.
const TICK: u64 = 2_000_000;

/// Waits for at most `time` until the program is started, or has failed to be; whether that is so.
pub fn wait(time: u64) -> bool {
    futex_wait_for(&WORD, WORK, time);
    WORD.load(Ordering::Acquire) != WORK
}

/// As [`program::spawn`], in the domain of all programs of this sandbox. While that takes long `meanwhile` is called. It must
/// open no descriptor: the child counts on the lowest free number.
pub fn spawn(
    rules: Rules,
    plan: &mut Plan,
    start: &Start,
    stack: &mut [u8],
    mut meanwhile: impl FnMut(),
) -> core::result::Result<Spawned, Failure> {
    let mut job = Job {
        rules,
        plan,
        start,
        stack,
        result: Err(failure(EPROTO)),
    };
    JOB.store(&raw mut job as usize, Ordering::Relaxed);
    WORD.store(WORK, Ordering::Release);
    if LIVES.load(Ordering::Relaxed) == 0 {
        start_thread(STACK.take(), thread, 0, &LIVES).map_err(failure)?;
    } else {
        futex_wake(&WORD);
    }
    while !wait(TICK) {
        meanwhile();
    }
    job.result
}

/// Ends the thread, when no program is left: the next one has a new one, in a new domain.
pub fn end() {
    if LIVES.load(Ordering::Acquire) != 0 {
        WORD.store(END, Ordering::Release);
        futex_wake(&WORD);
        futex_wait(&LIVES, 1);
    }
}

extern "C" fn thread(_: usize) -> ! {
    let mut entered = None;
    loop {
        futex_wait(&WORD, DONE);
        if WORD.load(Ordering::Acquire) == END {
            exit_thread();
        }
        // SAFETY: `spawn` has stored a live Job, and touches neither it nor anything else until the word is DONE.
        let job = unsafe { &mut *(JOB.load(Ordering::Relaxed) as *mut Job) };
        let entered = *entered.get_or_insert_with(|| job.rules.enter());
        job.result = match entered {
            Ok(()) => program::spawn(job.plan, job.start, job.stack),
            Err(errno) => Err(failure(errno)),
        };
        WORD.store(DONE, Ordering::Release);
        futex_wake(&WORD);
    }
}
