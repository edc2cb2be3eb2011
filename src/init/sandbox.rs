//! A sandbox's init: PID 1 of its pid namespace. Sets the sandbox up, starts programs, reaps everything.

use crate::descent::Children;
use crate::domain::{self, Rules};
use crate::files;
use crate::mem::{Global, bytes_of, read_of};
use crate::plan::{Plan, Text, pair, text};
use crate::program::{self, Spawned, Start, spawn};
use crate::s;
use crate::serve;
use crate::sys::*;
use crate::tally::Tally;
use crate::wire::*;

mod finish;
mod live;
mod meanwhile;
mod set_up;
mod violations;

use meanwhile::{Awaited, Later};
use violations::{LISTENERS_MAX, Listener};

/// Programs at one time in one sandbox.
const PROGRAMS_MAX: usize = 32;
/// How many are reaped before the supervisor is heard again.
const REAPED_AT_ONCE: usize = 256;
/// Where init's own end of the socket to the supervisor is. Those below 4 are `/dev/null`, and the program's streams while
/// one is started.
pub const CONTROL: Fd = 15;
/// Standard streams and groups of the first program.
pub const FIRST_STDIO: Fd = 4;
pub const FIRST_CGROUP: Fd = 7;
pub const FIRST_ENTER: Fd = 8;
/// Trees of the host's directories.
pub const FIRST_VOLUME: Fd = 16;

/// Those of `FIRST_ENTER` and [`serve::SERVER`] lie between.
const _: () = assert!(
    FIRST_ENTER + CGROUPS_MAX as Fd <= serve::SERVER
        && CONTROL > serve::SERVER
        && CONTROL < FIRST_VOLUME
);

/// A program's stack between clone and exec.
static STACK: Global<[u8; 32 * 1024]> = Global::new([0; 32 * 1024]);
static MESSAGE: Global<[u64; MESSAGE_MAX / 8]> = Global::new([0; MESSAGE_MAX / 8]);

/// Head of what init and the supervisor say to each other: which run it is about.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Envelope {
    pub run: u32,
    /// In [`EXEC`]: how many groups to enter by writing; `u32::MAX` for one to be born in.
    pub enter: u32,
}

struct Program {
    run: u32,
    pid: i32,
    started_at: u64,
    /// Stopped by the host's wish, where no cgroup does that.
    paused: bool,
    /// How it ended, once it has.
    status: Option<u32>,
    ended_at: u64,
    before: Usage,
    /// The call that it was ended for.
    violation: Violation,
    /// Why it cannot be ended for one by us.
    unheard: i32,
    /// The plan, kept for the outputs that it names, of a program that is not the sandbox's first.
    plan: Option<Plan<'static>>,
}

struct Init {
    flags: u32,
    signals: Fd,
    disk: Fd,
    /// The trees of the host's directories that wait to be attached.
    volumes: [Fd; VOLUMES_MAX],
    /// Without a pid namespace: what descends from us.
    children: Children,
    /// What its programs are held to below the mounts.
    rules: Rules,
    /// Whether something serves its root, and the socket to that.
    served: bool,
    server: Fd,
    /// With a writable root: the root that it was made in, and its upper layer; else -1.
    outer: Fd,
    upper: Fd,
    /// The upper layer and the root before a reset, until that is answered.
    old: [Fd; 2],
    /// On a disk: which directory in it holds what is written, and what that is.
    generation: u64,
    tally: Tally,
    programs: [Option<Program>; PROGRAMS_MAX],
    /// The run whose program is being started by another thread.
    starting: Option<u32>,
    /// What the host asks, which has come while something longer was done.
    later: Option<Later>,
    awaited: Option<Awaited>,
    listeners: [Listener; LISTENERS_MAX],
    /// What programs have left in the IPC namespace is there still, as no other could be made.
    stale_ipc: bool,
}

/// Becomes the init of the sandbox that `plan` describes. `run` is the number of its first program.
pub fn main(plan: &mut Plan, map: u32, run: u32, start: Start) -> ! {
    let mut init = Init {
        flags: plan.head.flags,
        signals: -1,
        disk: -1,
        volumes: core::array::from_fn(|i| FIRST_VOLUME + i as Fd),
        children: Children::NONE,
        rules: Rules::NONE,
        served: serve::is_wanted(plan),
        server: serve::SERVER,
        outer: -1,
        upper: -1,
        old: [-1; 2],
        generation: 0,
        tally: Tally::NONE,
        programs: [const { None }; PROGRAMS_MAX],
        starting: None,
        later: None,
        awaited: None,
        listeners: [Listener::NONE; LISTENERS_MAX],
        stale_ipc: false,
    };
    let made = match plan.head.flags & RESTRICT {
        0 => init.set_up(plan, map),
        _ => init.set_up_restricted(plan),
    };
    if let Err((section, index, errno)) = made {
        init.tell(
            run,
            &Failure {
                kind: FAILED,
                section,
                index,
                errno: errno as u32,
            },
            &[],
            &[],
        );
        exit(1);
    }
    close(serve::SERVER);
    init.show_files(plan, run);
    if plan.head.flags & HAS_RUN != 0 {
        init.await_start(run);
        init.start(plan, run, start);
        init.signal_started();
    } else {
        init.tell(
            run,
            &Failure {
                kind: READY,
                section: 0,
                index: 0,
                errno: 0,
            },
            &[],
            &[],
        );
    }
    let mut more = false;
    loop {
        let mut ready = [const {
            PollFd {
                fd: -1,
                events: 1,
                revents: 0,
            }
        }; 2 + LISTENERS_MAX];
        let listeners = init.listeners.iter().map(|l| l.fd).filter(|fd| *fd >= 0);
        let watched = [CONTROL, init.signals].into_iter().chain(listeners);
        let mut count = 0;
        for (place, fd) in ready.iter_mut().zip(watched) {
            place.fd = fd;
            count += 1;
        }
        let wait = init.time_left(more || init.later.is_some());
        if poll(&mut ready[..count], wait).is_err() {
            continue;
        }
        if ready[2..count].iter().any(|one| one.revents != 0) {
            init.hear_calls();
            init.close_listeners(false);
        }
        init.hold_disk();
        if more || ready[1].revents != 0 {
            let mut info = [0; 128 * 8];
            let _ = read(init.signals, &mut info);
            more = init.reap(plan);
        }
        if ready[0].revents != 0 || init.later.is_some() {
            init.obey(plan);
        }
    }
}

type Fault = (u32, u32, i32);

fn step(which: u32) -> impl Fn(i32) -> Fault {
    move |errno| (IN_STEP, which, errno)
}

impl Init {
    fn tell<T: Copy>(&self, run: u32, message: &T, body: &[u8], fds: &[Fd]) {
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Both<T>(Envelope, T);
        let both = Both(Envelope { run, enter: 0 }, *message);
        if send(CONTROL, bytes_of(&both), body, fds, true).is_err() {
            self.leave(1); // the supervisor is gone
        }
    }

    /// Ends, and everything in the sandbox before: with a pid namespace by that alone.
    fn leave(&self, status: i32) -> ! {
        if self.children.are_watched() {
            self.children.end(|_| true, |_| {});
        }
        exit(status)
    }

    /// To every process of the sandbox but init; without a pid namespace to its children, which is all if they die of it.
    fn signal_everything(&self, signal: i32) {
        if self.children.are_watched() {
            self.children.signal(signal, |_| true);
        } else if self.flags & RESTRICT == 0 {
            // One is enough: it holds the lock that fork needs, so no child can be born between.
            let _ = kill(-1, signal);
        }
    }

    /// How long to wait for something to happen.
    fn time_left(&self, more: bool) -> u64 {
        match self.programs.iter().any(Option::is_some) {
            _ if more => 0,
            true => self.tally.wait(),
            false => u64::MAX,
        }
    }

    /// The supervisor looks at the sandbox's processes and disk where no cgroup counts; through a root that is served
    /// it has no way to them, so that it is given them.
    fn show_files(&self, plan: &Plan, run: u32) {
        if !serve::is_wanted(plan) {
            return;
        }
        if let Ok(proc) = openat(AT_FDCWD, s!("/proc"), O_RDONLY | O_DIRECTORY, 0) {
            let shown = Message {
                kind: FILES,
                arg: 0,
            };
            let shows = [proc, self.disk];
            let count = if self.disk < 0 { 1 } else { 2 }; // a root that is only tried has no disk
            self.tell(run, &shown, &[], &shows[..count]);
            close(proc);
        }
    }

    /// Starts a program and says how it went; gives its place.
    fn start(&mut self, plan: &mut Plan, run: u32, mut with: Start) -> Option<usize> {
        // A program that is alone has a domain of its own; those of a live sandbox share one, and the thread that is in it.
        let shares = self.flags & ONE_SHOT == 0;
        with.others = u64::from(self.served) + u64::from(shares);
        if !shares {
            with.rules = self.rules;
        }
        if self.programs.iter().all(Option::is_none) {
            self.tally.begin();
        }
        let slot = self.programs.iter().position(|p| p.is_none());
        let fresh = match self.stale_ipc {
            true => unshare(CLONE_NEWIPC).map(|_| self.stale_ipc = false),
            false => Ok(()),
        };
        let result = match (slot, fresh) {
            (_, Err(errno)) => Err(Failure {
                kind: FAILED,
                section: IN_STEP,
                index: STEP_IPC,
                errno: errno as u32,
            }),
            (None, _) => Err(Failure {
                kind: FAILED,
                section: IN_STEP,
                index: STEP_SLOTS,
                errno: EBUSY as u32,
            }),
            (Some(slot), _) => self.make_files(plan).and_then(|()| {
                let before = children_usage();
                let spawned = match shares {
                    true => self.start_beside(plan, &with, run)?,
                    false => spawn(plan, &with, STACK.take())?,
                };
                self.listen(run, spawned.listener);
                Ok((
                    slot,
                    Program {
                        run,
                        pid: spawned.pid,
                        started_at: now(),
                        paused: false,
                        status: None,
                        ended_at: 0,
                        before,
                        violation: spawned.violation,
                        unheard: spawned.unheard,
                        plan: None,
                    },
                    spawned.pidfd,
                ))
            }),
        };
        with.close();
        match result {
            Ok((slot, program, pidfd)) => {
                let wanted = plan.head.flags & WANT_PIDFD != 0;
                let message = Started {
                    kind: STARTED,
                    has_pidfd: u32::from(wanted),
                    at: program.started_at,
                };
                self.tell(
                    run,
                    &message,
                    &[],
                    if wanted {
                        core::slice::from_ref(&pidfd)
                    } else {
                        &[]
                    },
                );
                close(pidfd);
                self.programs[slot] = Some(program);
                Some(slot)
            }
            Err(failure) => {
                // What was cloned has ended; another program may have as well.
                while let Ok(Some((pid, status))) = wait_any(false) {
                    self.note(pid, status);
                }
                self.tell(run, &failure, &[], &[]);
                if self.flags & ONE_SHOT != 0 {
                    exit(1);
                }
                None
            }
        }
    }

    fn make_files(&mut self, plan: &Plan) -> core::result::Result<(), Failure> {
        for (at, payload) in plan
            .steps(plan.head.run)
            .filter(|(at, _)| at.op.code == R_FILE)
        {
            let made = pair(payload).and_then(|(path, content)| {
                files::make_file(path.bytes(), at.op.a as u32, content, &mut || {
                    self.meanwhile()
                })
            });
            if let Err(errno) = made {
                return Err(Failure {
                    kind: FAILED,
                    section: IN_RUN,
                    index: at.index,
                    errno: errno as u32,
                });
            }
        }
        Ok(())
    }

    /// Reaps what has ended and tells of it. Whatever a program leaves running is killed: its process group at once,
    /// and what has left that, which nobody can tell from another's, when the last program has ended.
    ///
    /// True if there may be more to reap. Only so many are at a time: programs can leave orphans faster than they are
    /// reaped, and the supervisor must be heard all the same.
    fn reap(&mut self, plan: &Plan) -> bool {
        let ended = |init: &Init| init.programs.iter().flatten().any(|p| p.status.is_some());
        for _ in 0..REAPED_AT_ONCE {
            match wait_any(false) {
                Ok(Some((pid, status))) => self.note(pid, status),
                _ if ended(self) => break,
                _ => return false,
            }
            if ended(self) {
                break;
            }
        }
        if !ended(self) {
            return true;
        }
        // Before they are killed: who waits to be heard of has made its call before the end.
        self.hear_calls();
        if self.programs.iter().flatten().all(|p| p.status.is_some()) {
            self.end_everything(false);
        }
        self.finish_ended(plan);
        true
    }

    /// Tells of every program that has ended.
    fn finish_ended(&mut self, plan: &Plan) {
        for slot in 0..PROGRAMS_MAX {
            if let Some(program) = self.programs[slot].take_if(|p| p.status.is_some()) {
                let _ = kill(-program.pid, SIGKILL);
                self.unlisten(program.run);
                self.finish(&program, plan);
                if let Some(plan) = program.plan {
                    plan.free();
                }
            }
        }
        if self.flags & ONE_SHOT != 0 {
            exit(0);
        }
        let all = self.programs.iter().all(Option::is_none);
        self.close_listeners(all);
        // Queues, semaphores and memory outlive processes, and no limit of a later program counts them.
        if all {
            domain::end(); // whose thread is in the old one
            self.stale_ipc = unshare(CLONE_NEWIPC).is_err();
        }
    }

    fn note(&mut self, pid: i32, status: u32) {
        if let Some(program) = self
            .programs
            .iter_mut()
            .flatten()
            .find(|p| p.pid == pid && p.status.is_none())
        {
            program.status = Some(status);
            program.ended_at = now();
        }
    }

    /// Does what the supervisor says.
    fn obey(&mut self, plan: &Plan) {
        let buffer = as_bytes(MESSAGE.take());
        let mut fds = [-1; FDS_MAX];
        let heard = match self.later.take() {
            Some(later) => Ok(later.take(buffer, &mut fds)),
            None => receive(CONTROL, buffer, &mut fds, false),
        };
        let Ok((n, count)) = heard else {
            return;
        };
        if n == 0 {
            self.leave(0);
        }
        let Some(envelope) = read_of::<Envelope>(buffer) else {
            return;
        };
        let rest = &mut buffer[size_of::<Envelope>()..n];
        let Some(message) = read_of::<Message>(rest) else {
            return;
        };
        match message.kind {
            EXEC => {
                self.await_start(envelope.run);
                self.exec(envelope, rest, &fds[..count]);
                self.signal_started();
            }
            RESET..=READ => {
                self.answer(message, rest, &fds[..count], plan);
                self.tell(envelope.run, &Message { kind: DONE, arg: 0 }, &[], &[]);
            }
            _ => self.obey_at_once(envelope.run, &message),
        }
    }

    fn pid(&self, run: u32) -> Option<i32> {
        self.programs
            .iter()
            .flatten()
            .find(|p| p.run == run && p.status.is_none())
            .map(|p| p.pid)
    }

    /// Descriptors: standard streams as the flags say, then the groups, then the plan if it is in a memfd.
    fn exec(&mut self, envelope: Envelope, message: &mut [u8], fds: &[Fd]) {
        let mut start = Start::NONE;
        let mut left = fds.iter().copied();
        let plan = Plan::new(message, fds.last().copied());
        // A plan with outputs always comes in a memfd, whose mapping can be kept.
        let plan = plan.and_then(|plan| match fds.last() {
            Some(fd) if plan.head.in_memfd != 0 => match Plan::mapped(plan.head, *fd) {
                Ok(kept) => Ok((plan, Some(kept))),
                Err(errno) => {
                    plan.free();
                    Err(errno)
                }
            },
            _ => Ok((plan, None)),
        });
        match plan {
            Ok((mut plan, kept)) => {
                for (i, flag) in [HAS_STDIN, HAS_STDOUT, HAS_STDERR].iter().enumerate() {
                    if plan.head.flags & flag != 0 {
                        start.stdio[i] = left.next().unwrap_or(-1);
                    }
                }
                if envelope.enter == u32::MAX {
                    start.into_cgroup = left.next().unwrap_or(-1);
                } else {
                    for slot in start.enter.iter_mut().take(envelope.enter as usize) {
                        *slot = left.next().unwrap_or(-1);
                    }
                }
                let slot = self.start(&mut plan, envelope.run, start);
                plan.free();
                match (slot.and_then(|slot| self.programs[slot].as_mut()), kept) {
                    (Some(program), kept) => program.plan = kept,
                    (None, Some(kept)) => kept.free(),
                    (None, None) => {}
                }
            }
            Err(errno) => {
                let failure = Failure {
                    kind: FAILED,
                    section: IN_STEP,
                    index: STEP_PLAN,
                    errno: errno as u32,
                };
                self.tell(envelope.run, &failure, &[], &[]);
            }
        }
        left.for_each(close);
    }
}

pub fn as_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: any bytes are good u64s and the other way round; u8 has the smaller alignment.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}
