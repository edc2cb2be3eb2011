//! The supervisor: one per host process. Starts sandboxes, runs their clocks, tells the host, clears away.

use crate::descent::Children;
use crate::groups::{Bases, Groups, Reads};
use crate::mem::{Global, bytes_of, read_of};
use crate::plan::{Plan, Text, text};
use crate::program::Start;
use crate::remove;
use crate::run::{Due, Run};
use crate::s;
use crate::sandbox::{self, Envelope, as_bytes};
use crate::servant;
use crate::serve;
use crate::sys::*;
use crate::table::Table;
use crate::template::Templates;
use crate::wire::*;

mod removal;
mod reports;
mod requests;
mod starting;

pub const SANDBOXES_MAX: usize = 1024;
/// How long an init without namespaces may take to end what it has started, when everything ends.
const ASKED: u64 = 2_000_000_000;
const NETWORKS_MAX: usize = 256;
/// As many requests about files of sub-ids are done at once.
const SERVANTS_MAX: usize = 16;
const LEAVING_MAX: usize = 16 * 1024;
/// Between two tries to remove groups that are left, of so many; of more proportionally longer.
const LEAVING_LOOK: u64 = 5_000_000;
const LEAVING_FEW: usize = 64;
/// Descriptors kept free: those of a message that the kernel has no room for are lost, its channel among them.
const SPARE_FDS: u64 = 2 * FDS_MAX as u64;
/// The longest message of an init's: an [`Exit`] in its envelope.
const PARKED_MAX: usize = size_of::<Envelope>() + size_of::<Exit>();
/// Where the supervisor keeps its descriptors, so that those below are free for the sandboxes' fixed places.
const LOW_FDS: Fd = sandbox::FIRST_VOLUME + VOLUMES_MAX as Fd;

/// A network namespace that sandboxes use one after another: with loopback down nothing of a dead sandbox is left in it.
#[derive(Clone, Copy)]
struct Network {
    fd: Fd,
    leased: bool,
}

#[derive(Clone, Copy)]
struct Sandbox {
    init: i32,
    pidfd: Fd,
    /// The socket to its init, and the other end of it. That stays open here too, so that the kernel never finds a dead
    /// socket on the other side of what we send: then it would drop what init has said last.
    control: [Fd; 2],
    /// Without namespaces, in which the end of init is not that of its programs: it ends them itself.
    restricted: bool,
    /// It was asked to.
    asked_to_end: bool,
    /// Its init works on a request of the host's, which may take long: the next waits, so that the end of a run does not
    /// wait behind it.
    busy: bool,
    /// The next is there.
    waiting: bool,
    /// The host's handle on the sandbox; -1 for a one-shot, whose run has it.
    channel: Fd,
    network: Option<usize>,
    /// The root that it was cloned in, if that is its own until it ends.
    template: Option<usize>,
    /// What of that others have, too.
    shared: Shared,
    /// What serves its root; -1 if nothing does.
    server: Fd,
    /// What has served it before a reset, until init has done without it; else -1.
    old_server: Fd,
    /// Its procfs and its writable file system, if its init has shown them; else -1.
    files: [Fd; 2],
    disk: Text<64>,
    /// The host's directory that holds what is written, if that is on a disk: removed in the end.
    upper: Option<Directory>,
    /// What its init has said and the host has no room for: init is not listened to until the host has read. It waits
    /// for the host then, as we must not.
    parked: Option<Parked>,
}

/// A directory on a disk, whose descriptor has its lock, and what it is called.
#[derive(Clone, Copy)]
struct Directory {
    fd: Fd,
    name: Text<64>,
}

/// A message of an init's, with its descriptor or -1.
#[derive(Clone, Copy)]
struct Parked {
    bytes: [u64; PARKED_MAX / 8],
    len: usize,
    run: usize,
    fd: Fd,
}

impl Sandbox {
    /// Kills its init, and so everything in it. What serves its root first: a process that waits for that could not die.
    /// Without namespaces init is asked at first, and killed if it is not enough.
    fn kill(&mut self) {
        if self.restricted && !self.asked_to_end {
            self.asked_to_end = true;
            return shut_down(self.control[0]);
        }
        self.end_server();
        let _ = pidfd_kill(self.pidfd);
    }

    fn end_server(&self) {
        for server in [self.old_server, self.server] {
            if server >= 0 {
                let _ = pidfd_kill(server);
            }
        }
    }

    fn close_files(&mut self) {
        self.files.iter().for_each(|fd| close(*fd));
        self.files = [-1; 2];
    }

    /// Waits for the end of what serves its root.
    fn reap_server(&mut self) {
        end_process(&mut self.old_server);
        end_process(&mut self.server);
    }
}

/// Whether a process ends in so many nanoseconds, by its pidfd.
fn has_ended(pidfd: Fd, time: u64) -> bool {
    let mut end = [PollFd {
        fd: pidfd,
        events: 1,
        revents: 0,
    }];
    poll(&mut end, time).is_ok_and(|n| n > 0)
}

/// Ends the process behind a pidfd, if there is one, and waits for that.
fn end_process(pidfd: &mut Fd) {
    if *pidfd >= 0 {
        let _ = pidfd_kill(*pidfd);
        let _ = reap(*pidfd);
        close(*pidfd);
        *pidfd = -1;
    }
}

/// What an event is about.
const MAIN: u64 = 0;
const HOST: u64 = 1;
const INIT: u64 = 2;
const CONTROL: u64 = 3;
const SANDBOX: u64 = 4;
const RUN: u64 = 5;
const REMOVER: u64 = 6;
const OVER: u64 = 7;
const SERVANT_OF: u64 = 8;

struct Supervisor {
    /// The limit on descriptors.
    open_files: u64,
    epoll: Fd,
    socket: Fd,
    config: Config,
    bases: Bases,
    templates: Templates,
    /// Without namespaces: our children, among which those are that a dead init has left.
    children: Children,
    /// The network namespace that we are in: an index, or -1 for the host's.
    network: isize,
    networks: [Network; NETWORKS_MAX],
    sandboxes: &'static mut Table<Sandbox, SANDBOXES_MAX>,
    runs: &'static mut Table<Run, SANDBOXES_MAX>,
    /// Pidfds of those who do what the host asks about files of sub-ids, or -1.
    servants: [Fd; SERVANTS_MAX],
    next_name: u64,
    /// Groups whose removal is to be tried again: a process that has left its program's group is in one as long as its
    /// sandbox is there.
    leaving: &'static mut Table<Groups, LEAVING_MAX>,
    /// When that is tried again, where there are many.
    leaving_next: u64,
}

static SANDBOXES: Global<Table<Sandbox, SANDBOXES_MAX>> = Global::new(Table::new());
static LEAVING: Global<Table<Groups, LEAVING_MAX>> = Global::new(Table::new());
static RUNS: Global<Table<Run, SANDBOXES_MAX>> = Global::new(Table::new());
/// The contents of a run's cgroup files on their way to the host; static, as touching fresh stack costs page faults.
static RAW: Global<[u64; 2048]> = Global::new([0; 2048]);
static MESSAGE: Global<[u64; MESSAGE_MAX / 8 + 8]> = Global::new([0; MESSAGE_MAX / 8 + 8]);

pub fn main() -> ! {
    let mut supervisor = Supervisor {
        open_files: u64::MAX,
        epoll: -1,
        socket: -1,
        config: Config::NONE,
        bases: Bases {
            version: CGROUP_NONE,
            dirs: [-1; CGROUPS_MAX],
            by_writing: false,
        },
        templates: Templates::new(),
        children: Children::NONE,
        network: -1,
        networks: [Network {
            fd: -1,
            leased: false,
        }; NETWORKS_MAX],
        sandboxes: SANDBOXES.take(),
        runs: RUNS.take(),
        servants: [-1; SERVANTS_MAX],
        next_name: 1,
        leaving: LEAVING.take(),
        leaving_next: 0,
    };
    let ready = match supervisor.start_up() {
        Ok(()) => Failure {
            kind: READY,
            section: 0,
            index: 0,
            errno: 0,
        },
        Err((section, index, errno)) => Failure {
            kind: FAILED,
            section,
            index,
            errno: errno as u32,
        },
    };
    let said = send(supervisor.socket, bytes_of(&ready), &[], &[], true);
    if ready.kind == FAILED || said.is_err() {
        exit(1); // the host, which waits for that word, sees the end
    }
    supervisor.serve()
}

type Fault = (u32, u32, i32);

fn step(which: u32) -> impl Fn(i32) -> Fault {
    move |errno| (IN_STEP, which, errno)
}

impl Supervisor {
    fn start_up(&mut self) -> core::result::Result<(), Fault> {
        // The socket is our standard input; whatever else the host has let through is closed before anything happens.
        self.socket = 0;
        close_range(1, u32::MAX).map_err(step(STEP_INHERITED))?;
        umask(0);
        let _ = setsid();
        signal_mask(SIG_SETMASK, 1 << (SIGCHLD - 1));
        self.open_files = raise_open_files();
        let null = openat(AT_FDCWD, s!("/dev/null"), O_RDWR, 0).map_err(step(STEP_DEV_NULL))?;
        dup_to(0, LOW_FDS, true).map_err(step(STEP_CONFIG))?;
        self.socket = LOW_FDS;
        for low in (0..LOW_FDS).filter(|fd| *fd != null) {
            dup_to(null, low, true).map_err(step(STEP_DEV_NULL))?;
        }
        let mut fds = [-1; FDS_MAX];
        let buffer = as_bytes(MESSAGE.take());
        let (n, count) = receive(self.socket, buffer, &mut fds, true).map_err(step(STEP_CONFIG))?;
        let config: Config = read_of(&buffer[..n]).ok_or((IN_STEP, STEP_CONFIG, EPROTO))?;
        let hosts = config.host_pidfd as usize;
        if config.kind != CONFIG
            || config.version != VERSION
            || count != hosts + config.cgroup_dirs as usize
        {
            return Err((IN_STEP, STEP_VERSION, EPROTO));
        }
        self.config = config;
        self.bases.version = config.cgroup;
        self.bases.by_writing = config.map == MAP_ROOT;
        self.bases.dirs[..count - hosts].copy_from_slice(&fds[hosts..count]);
        // We stay dumpable: else /proc/PID/uid_map of our children would be root's, and closed to us. Sandboxes cannot
        // see us, being in pid namespaces of their own.
        match config.map {
            MAP_SINGLE => {}
            MAP_NONE => self.children = Children::watch().map_err(step(STEP_DESCENT))?,
            _ => drop(drop_groups().map_err(step(STEP_IDS))?),
        }
        match new_session_keyring() {
            Err(ENOSYS | EPERM) => {} // a kernel, or an outer container, without keyrings
            joined => drop(joined.map_err(step(STEP_SESSION))?),
        }
        self.templates.start().map_err(step(STEP_NAMESPACE_FILES))?;
        self.epoll = epoll_create().map_err(step(STEP_EPOLL))?;
        epoll_add(self.epoll, self.socket, MAIN << 32).map_err(step(STEP_EPOLL))?;
        if hosts > 0 {
            epoll_add(self.epoll, fds[0], HOST << 32).map_err(step(STEP_EPOLL))?;
        }
        Ok(())
    }

    fn serve(&mut self) -> ! {
        let mut events = [Event { events: 0, data: 0 }; 32];
        loop {
            let count = epoll_wait(self.epoll, &mut events, self.time_left()).unwrap_or(0);
            for event in &events[..count] {
                let (what, which) = (event.data >> 32, (event.data & 0xffff_ffff) as usize);
                match what {
                    MAIN => self.hear_host(),
                    HOST => self.end(),
                    INIT => self.init_ended(which),
                    CONTROL => self.hear_init(which),
                    SANDBOX => self.hear_sandbox(which, event.events),
                    REMOVER => self.removed(which as Fd),
                    SERVANT_OF => self.servant_ended(which),
                    OVER => self.hear_over(which as Fd),
                    _ => self.hear_run(which),
                }
            }
            self.check_clocks();
            self.retry_removals();
        }
    }

    /// Nanoseconds until something is due.
    fn time_left(&self) -> u64 {
        let due = self.runs.iter().map(Run::due).min().unwrap_or(u64::MAX);
        let left = if due == u64::MAX {
            u64::MAX
        } else {
            due.saturating_sub(now())
        };
        match self.leaving.high() {
            0 => left,
            1..=LEAVING_FEW => left.min(LEAVING_LOOK),
            _ => left.min(self.leaving_next.saturating_sub(now())),
        }
    }

    fn check_clocks(&mut self) {
        if self.runs.iter().all(|run| run.due() == u64::MAX) {
            return;
        }
        let time = now();
        for which in 0..self.runs.high() {
            let Some(run) = self.runs[which].as_mut() else {
                continue;
            };
            if run.due() > time {
                continue;
            }
            let sandbox = run.sandbox;
            if let Some(sandbox) = self.sandboxes[sandbox].as_ref() {
                run.open_procfs(sandbox.init, &sandbox.disk, sandbox.files);
            }
            let due = match run.is_paused() {
                false => run.check(time),
                true => {
                    let here = self.runs.iter().filter(|run| run.sandbox == sandbox);
                    let alone = here.count() == 1;
                    self.runs[which]
                        .as_mut()
                        .map_or(Due::Nothing, |run| run.check_paused(time, alone))
                }
            };
            match due {
                Due::Nothing => {}
                Due::Kill(reason) => self.kill_run(which, reason),
                Due::Answer(errno) => self.answer(which, errno),
                Due::Stop => self.tell_init(
                    which,
                    &Message {
                        kind: PAUSE,
                        arg: AGAIN,
                    },
                ),
                Due::KillInit => {
                    // An init that waits for the host to read of another run cannot start this one.
                    let waits = |s: &Sandbox| s.parked.is_some();
                    let excused = self.sandboxes[sandbox].as_ref().is_some_and(waits)
                        && self.runs[which].is_some_and(|run| run.reason == REASON_NONE);
                    if excused {
                        continue;
                    }
                    if let Some(sandbox) = self.sandboxes[sandbox].as_mut() {
                        sandbox.kill();
                    }
                }
            }
        }
    }

    // ---- the host

    fn hear_host(&mut self) {
        let mut fds = [-1; FDS_MAX];
        let buffer = as_bytes(MESSAGE.take());
        match receive(self.socket, buffer, &mut fds, false) {
            Err(EAGAIN | ENOMEM) => {}
            Ok((n, count)) if n > 0 && count > 0 => {
                match read_of::<Message>(buffer).map_or(0, |message| message.kind) {
                    REMOVE => self.remove_named(&buffer[size_of::<Message>()..n], fds[0]),
                    SERVANT => self.start_servant(fds[0]),
                    _ => self.start(&mut buffer[..n], &fds[..count]),
                }
            }
            _ => self.end(),
        }
    }

    // ---- clearing away

    fn remove(&mut self, mut groups: Groups) {
        if groups.remove(&self.bases) {
            return;
        }
        if let Some(place) = (0..LEAVING_MAX).find(|at| self.leaving[*at].is_none()) {
            self.leaving[place] = Some(groups);
        }
    }

    fn retry_removals(&mut self) {
        let many = self.leaving.high();
        if many > LEAVING_FEW {
            let time = now();
            if time < self.leaving_next {
                return;
            }
            self.leaving_next = time + LEAVING_LOOK * (many / LEAVING_FEW) as u64;
        }
        for at in 0..self.leaving.high() {
            if let Some(mut groups) = self.leaving[at].take() {
                let gone = groups.remove(&self.bases);
                self.leaving[at] = (!gone).then_some(groups);
            }
        }
        self.leaving.trim();
    }

    /// The host is gone: so is everything else, and its groups are removed.
    fn end(&mut self) -> ! {
        // First those who work for the host alone: whoever clears away what it has left wants to be alone with that.
        self.servants.iter_mut().for_each(end_process);
        for which in 0..self.sandboxes.high() {
            if let Some(sandbox) = self.sandboxes[which].as_mut() {
                sandbox.kill();
            }
        }
        for which in 0..self.sandboxes.high().max(self.runs.high()) {
            if let Some(mut sandbox) = self.sandboxes[which] {
                if sandbox.restricted && !has_ended(sandbox.pidfd, ASKED) {
                    sandbox.kill();
                }
                let _ = reap(sandbox.pidfd);
                if sandbox.restricted {
                    self.end_orphans();
                }
                sandbox.reap_server();
                if let Some(upper) = sandbox.upper {
                    upper.remove();
                }
            }
            if let Some(mut run) = self.runs[which].take() {
                run.groups.close();
                self.remove(run.groups);
            }
        }
        let mut tries = 0;
        while self.leaving.high() > 0 && tries < 200 {
            sleep(5_000_000);
            self.retry_removals();
            tries += 1;
        }
        self.remove_bases();
        // Those that remove what earlier sandboxes have left.
        while let Ok(Some(_)) = wait_any(true) {}
        exit(0)
    }

    /// Without namespaces: ends what an init that was killed has left, each in a session of its own. Inits and what removes
    /// directories are in ours.
    fn end_orphans(&self) {
        let own = getsid(0);
        self.children.end(|pid| getsid(pid) != own, |_| {});
    }

    /// The base directories are the host's, and made for us alone.
    fn remove_bases(&self) {
        let Some((name, _)) = Str::split(&self.config.cgroup_name) else {
            return;
        };
        for dir in self.bases.dirs.iter().filter(|fd| **fd >= 0) {
            if let Ok(parent) = openat(*dir, s!(".."), O_PATH | O_DIRECTORY, 0) {
                let _ = unlinkat(parent, name, AT_REMOVEDIR);
                close(parent);
            }
        }
    }
}
