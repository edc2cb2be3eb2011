//! The supervisor: one per host process. Starts sandboxes, runs their clocks, tells the host, clears away.

use crate::groups::{Bases, Groups, Reads};
use crate::mem::{Global, bytes_of, read_of};
use crate::plan::{Plan, Text, text};
use crate::program::Start;
use crate::run::{Due, Run};
use crate::s;
use crate::sample::open_proc;
use crate::sandbox::{self, Envelope, as_bytes};
use crate::sys::*;
use crate::table::Table;
use crate::template::Templates;
use crate::wire::*;

const SANDBOXES_MAX: usize = 1024;
const NETWORKS_MAX: usize = 256;
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
    control: Fd,
    /// The host's handle on the sandbox; -1 for a one-shot, whose run has it.
    channel: Fd,
    network: Option<usize>,
    disk: Text<64>,
    /// What its init has said and the host has no room for: init is not listened to until the host has read. It waits
    /// for the host then, as we must not.
    parked: Option<Parked>,
}

/// A message of an init's, with its descriptor or -1.
#[derive(Clone, Copy)]
struct Parked {
    bytes: [u64; PARKED_MAX / 8],
    len: usize,
    run: usize,
    fd: Fd,
}

/// What an event is about.
const MAIN: u64 = 0;
const HOST: u64 = 1;
const INIT: u64 = 2;
const CONTROL: u64 = 3;
const SANDBOX: u64 = 4;
const RUN: u64 = 5;

struct Supervisor {
    /// The limit on descriptors.
    open_files: u64,
    epoll: Fd,
    socket: Fd,
    config: Config,
    bases: Bases,
    templates: Templates,
    /// The network namespace that we are in: an index, or -1 for the host's.
    network: isize,
    networks: [Network; NETWORKS_MAX],
    sandboxes: &'static mut Table<Sandbox, SANDBOXES_MAX>,
    runs: &'static mut Table<Run, SANDBOXES_MAX>,
    next_name: u64,
    /// Groups whose removal is to be tried again.
    leaving: [Groups; 64],
    leaving_count: usize,
}

static SANDBOXES: Global<Table<Sandbox, SANDBOXES_MAX>> = Global::new(Table::new());
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
        network: -1,
        networks: [Network {
            fd: -1,
            leased: false,
        }; NETWORKS_MAX],
        sandboxes: SANDBOXES.take(),
        runs: RUNS.take(),
        next_name: 1,
        leaving: [Groups::NONE; 64],
        leaving_count: 0,
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
    let _ = send(supervisor.socket, bytes_of(&ready), &[], &[], true);
    if ready.kind == FAILED {
        exit(1);
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
        if config.map != MAP_SINGLE {
            drop_groups().map_err(step(STEP_IDS))?;
        }
        let _ = new_session_keyring(); // a kernel without keyrings needs none
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
                    SANDBOX => self.hear_sandbox(which),
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
        if self.leaving_count > 0 {
            left.min(5_000_000)
        } else {
            left
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
            match run.check(time) {
                Due::Nothing => {}
                Due::Kill(reason) => self.kill_run(which, reason),
                Due::KillInit => {
                    // An init that waits for the host to read of another run cannot start this one.
                    let waits = |s: &Sandbox| s.parked.is_some();
                    let excused = self.sandboxes[sandbox].as_ref().is_some_and(waits)
                        && self.runs[which].is_some_and(|run| run.reason == REASON_NONE);
                    if let Some(sandbox) = self.sandboxes[sandbox].filter(|_| !excused) {
                        let _ = pidfd_kill(sandbox.pidfd);
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
            Err(EAGAIN) => {}
            Ok((n, count)) if n > 0 && count > 0 => self.start(&mut buffer[..n], &fds[..count]),
            _ => self.end(),
        }
    }

    /// Starts a sandbox. `fds`: the channel, the standard streams that the flags name, the plan's memfd if it has one.
    fn start(&mut self, message: &mut [u8], fds: &[Fd]) {
        let channel = fds[0];
        let made = match Plan::new(message, fds.last().copied()) {
            Ok(mut plan) => {
                let made = self
                    .check_room(fds)
                    .and_then(|()| self.start_sandbox(&mut plan, channel, &fds[1..]));
                plan.free();
                made
            }
            Err(errno) => Err((IN_STEP, STEP_PLAN, errno)),
        };
        fds[1..].iter().for_each(|fd| close(*fd));
        if let Err((section, index, errno)) = made {
            let failure = Failure {
                kind: FAILED,
                section,
                index,
                errno: errno as u32,
            };
            let _ = send(channel, bytes_of(&failure), &[], &[], false);
            close(channel);
        }
    }

    fn start_sandbox(
        &mut self,
        plan: &mut Plan,
        channel: Fd,
        fds: &[Fd],
    ) -> core::result::Result<(), Fault> {
        let flags = plan.head.flags;
        let free =
            (0..SANDBOXES_MAX).find(|i| self.sandboxes[*i].is_none() && self.runs[*i].is_none());
        let slot = free.ok_or((IN_STEP, STEP_SLOTS, ENFILE))?;
        self.templates.enter(plan)?;
        let mut trees = [-1; VOLUMES_MAX];
        let volumes = self.templates.open_volumes(plan, &mut trees)?;
        let result = self.start_init(plan, channel, fds, slot, &trees[..volumes]);
        trees[..volumes].iter().for_each(|fd| close(*fd));
        let (sandbox, run) = result?;
        let data = slot as u64;
        let watched = epoll_add(self.epoll, sandbox.pidfd, INIT << 32 | data)
            .and_then(|_| epoll_add(self.epoll, sandbox.control, CONTROL << 32 | data))
            .and_then(|_| {
                epoll_add(
                    self.epoll,
                    channel,
                    if run.is_some() { RUN } else { SANDBOX } << 32 | data,
                )
            });
        if let Err(errno) = watched {
            let _ = pidfd_kill(sandbox.pidfd);
            let _ = reap(sandbox.pidfd);
            close(sandbox.pidfd);
            close(sandbox.control);
            self.release_network(sandbox.network);
            if let Some(mut run) = run {
                run.groups.close();
                self.remove(run.groups);
            }
            return Err((IN_STEP, STEP_EPOLL, errno));
        }
        debug_assert!(flags & ONE_SHOT != 0 || run.is_none());
        self.sandboxes[slot] = Some(sandbox);
        self.runs[slot] = run;
        Ok(())
    }

    /// New descriptors get the lowest free numbers, so those of the latest message say how many are left.
    fn check_room(&self, latest: &[Fd]) -> core::result::Result<(), Fault> {
        let highest = latest.iter().copied().max().unwrap_or(0);
        if highest as u64 + SPARE_FDS >= self.open_files {
            return Err((IN_STEP, STEP_SLOTS, EMFILE));
        }
        Ok(())
    }

    fn start_init(
        &mut self,
        plan: &mut Plan,
        channel: Fd,
        fds: &[Fd],
        slot: usize,
        trees: &[Fd],
    ) -> core::result::Result<(Sandbox, Option<Run>), Fault> {
        let flags = plan.head.flags;
        let network = self.enter_network(flags).map_err(step(STEP_NETWORK))?;
        let mut start = Start {
            stdio: [-1; 3],
            into_cgroup: -1,
            enter: [-1; CGROUPS_MAX],
        };
        let mut run = None;
        if flags & HAS_RUN != 0 {
            run = Some(self.new_run(plan, slot, channel, &mut start)?);
            streams(flags, fds, &mut start);
        }
        let made = self.clone_init(plan, slot, trees, &start);
        // Streams are closed by the caller; what was opened for entering groups is ours.
        start.stdio = [-1; 3];
        start.close();
        match made {
            Ok((init, pidfd, control)) => {
                if let Some(network) = network {
                    self.networks[network].leased = true;
                }
                let disk = disk_path(plan);
                Ok((
                    Sandbox {
                        init,
                        pidfd,
                        control,
                        channel: if run.is_some() { -1 } else { channel },
                        network,
                        disk,
                        parked: None,
                    },
                    run,
                ))
            }
            Err(fault) => {
                if let Some(mut run) = run {
                    run.groups.close();
                    self.remove(run.groups);
                }
                Err(fault)
            }
        }
    }

    fn new_run(
        &mut self,
        plan: &Plan,
        sandbox: usize,
        channel: Fd,
        start: &mut Start,
    ) -> core::result::Result<Run, Fault> {
        let name = self.next_name;
        self.next_name += 1;
        let groups = Groups::make(
            &self.bases,
            name,
            plan,
            &mut start.enter,
            &mut start.into_cgroup,
        )?;
        Ok(Run::new(
            sandbox,
            channel,
            &plan.head,
            groups,
            Reads::of(plan),
            self.config.cpus,
        ))
    }

    /// Clones init into new namespaces and writes its id maps: its pid, pidfd and our end of its socket.
    fn clone_init(
        &mut self,
        plan: &mut Plan,
        run: usize,
        trees: &[Fd],
        start: &Start,
    ) -> core::result::Result<(i32, Fd, Fd), Fault> {
        let mut namespaces =
            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
        if plan.head.flags & NET_NEW != 0 {
            namespaces |= CLONE_NEWNET;
        }
        let [ours, theirs] = socketpair().map_err(step(STEP_SOCKETS))?;
        let mut pidfd = -1;
        let init = match fork_into(namespaces, &mut pidfd) {
            Ok(0) => become_init(plan, self.config.map, run as u32, theirs, trees, start),
            Ok(pid) => pid as i32,
            Err(errno) => {
                close(ours);
                close(theirs);
                return Err((IN_STEP, STEP_CLONE, errno));
            }
        };
        close(theirs);
        if self.config.map != MAP_SINGLE {
            let go = Message { kind: GO, arg: 0 };
            let mapped = self
                .map_ids(init, &plan.head)
                .and_then(|()| send(ours, bytes_of(&go), &[], &[], false));
            if let Err(errno) = mapped {
                let _ = pidfd_kill(pidfd);
                let _ = reap(pidfd);
                close(pidfd);
                close(ours);
                return Err((IN_STEP, STEP_ID_MAP, errno));
            }
        }
        Ok((init, pidfd, ours))
    }

    fn map_ids(&self, init: i32, head: &Request) -> Result<()> {
        for (file, id) in [(b"/uid_map", head.user), (b"/gid_map", head.group)] {
            let (id, ids) = (u64::from(id), u64::from(self.config.ids));
            let mut map = Text::<160>::new();
            if self.config.map == MAP_ROOT {
                map = map.add(b"0 1 ").number(ids).add(b"\n");
            } else {
                // The program's id is the caller's own, which is our 0; the others keep their order. One line for each
                // extent of our own map, since none may span two.
                if id > 0 {
                    map = map.add(b"0 1 ").number(id.min(ids)).add(b"\n");
                }
                map = map.number(id).add(b" 0 1\n");
                if id < ids {
                    map = map
                        .number(id + 1)
                        .add(b" ")
                        .number(id + 1)
                        .add(b" ")
                        .number(ids - id)
                        .add(b"\n");
                }
            }
            let path = Text::<40>::new()
                .add(b"/proc/")
                .number(init as u64)
                .add(file);
            let fd = openat(AT_FDCWD, path.text(), O_WRONLY, 0)?;
            let written = write_all(fd, map.bytes());
            close(fd);
            written?;
        }
        Ok(())
    }

    /// Goes to the network namespace that a sandbox with these flags is cloned from; gives the one that it leases.
    fn enter_network(&mut self, flags: u32) -> Result<Option<usize>> {
        if flags & NET_HOST != 0 {
            // There is no way back: the host keeps a supervisor for such sandboxes that never leaves.
            return if self.network == -1 {
                Ok(None)
            } else {
                Err(EPROTO)
            };
        }
        if flags & NET_NEW != 0 {
            return Ok(None);
        }
        let free = self.networks.iter().position(|n| n.fd >= 0 && !n.leased);
        if let Some(free) = free {
            if self.network != free as isize {
                setns(self.networks[free].fd, CLONE_NEWNET)?;
                self.network = free as isize;
            }
            return Ok(Some(free));
        }
        unshare(CLONE_NEWNET)?;
        self.network = -2; // one that is not in the table, until it is
        let slot = self.networks.iter().position(|n| n.fd < 0);
        let Some(slot) = slot else { return Ok(None) };
        let fd = openat(AT_FDCWD, s!("/proc/self/ns/net"), O_RDONLY, 0)?;
        self.networks[slot] = Network { fd, leased: false };
        self.network = slot as isize;
        Ok(Some(slot))
    }

    fn release_network(&mut self, network: Option<usize>) {
        if let Some(network) = network {
            self.networks[network].leased = false;
        }
    }

    // ---- sandboxes and runs

    /// On a sandbox's own channel: a program to run, or the end.
    fn hear_sandbox(&mut self, which: usize) {
        let Some(sandbox) = self.sandboxes[which] else {
            return;
        };
        let mut fds = [-1; FDS_MAX];
        let buffer = as_bytes(MESSAGE.take());
        match receive(sandbox.channel, buffer, &mut fds, false) {
            Err(EAGAIN) => {}
            Ok((n, count)) if n > 0 && count > 0 => {
                let result = self.exec(which, &mut buffer[..n], &fds[..count]);
                fds[1..count].iter().for_each(|fd| close(*fd));
                if let Err((section, index, errno)) = result {
                    let failure = Failure {
                        kind: FAILED,
                        section,
                        index,
                        errno: errno as u32,
                    };
                    let _ = send(fds[0], bytes_of(&failure), &[], &[], false);
                    close(fds[0]);
                }
            }
            _ => {
                // The host has closed it: everything in it ends.
                for run in 0..self.runs.high() {
                    if let Some(run) = self.runs[run].as_mut().filter(|run| run.sandbox == which) {
                        run.ending(REASON_CALLER, now());
                    }
                }
                // The channel is closed when init, and so all, is dead: that tells a host that waits for it.
                let _ = pidfd_kill(sandbox.pidfd);
                epoll_remove(self.epoll, sandbox.channel);
            }
        }
    }

    fn exec(
        &mut self,
        which: usize,
        message: &mut [u8],
        fds: &[Fd],
    ) -> core::result::Result<(), Fault> {
        let Some(sandbox) = self.sandboxes[which] else {
            return Err((IN_STEP, STEP_INIT_DIED, EPROTO));
        };
        self.check_room(fds)?;
        let slot =
            (0..SANDBOXES_MAX).find(|i| self.runs[*i].is_none() && self.sandboxes[*i].is_none());
        let slot = slot.ok_or((IN_STEP, STEP_SLOTS, ENFILE))?;
        let mut start = Start {
            stdio: [-1; 3],
            into_cgroup: -1,
            enter: [-1; CGROUPS_MAX],
        };
        let plan = Plan::new(message, fds.last().copied()).map_err(step(STEP_PLAN))?;
        let run = self.new_run(&plan, which, fds[0], &mut start);
        let in_memfd = plan.head.in_memfd != 0;
        plan.free();
        let mut run = run?;
        // Passed on: streams, groups, the plan's memfd.
        let mut pass = [-1; FDS_MAX];
        let streams = fds.len() - 1 - usize::from(in_memfd);
        let mut count = streams.min(3);
        pass[..count].copy_from_slice(&fds[1..1 + count]);
        let mut enter = 0;
        for fd in start.enter.iter().filter(|fd| **fd >= 0) {
            pass[count] = *fd;
            count += 1;
            enter += 1;
        }
        if start.into_cgroup >= 0 {
            pass[count] = start.into_cgroup;
            count += 1;
            enter = u32::MAX;
        }
        if in_memfd {
            pass[count] = fds[fds.len() - 1];
            count += 1;
        }
        let envelope = Envelope {
            run: slot as u32,
            enter,
        };
        // Watched first: once init is told, there is no way back.
        let told = epoll_add(self.epoll, fds[0], RUN << 32 | slot as u64).and_then(|_| {
            let pass = &pass[..count];
            send(sandbox.control, bytes_of(&envelope), message, pass, false)
        });
        start.close();
        if let Err(errno) = told {
            epoll_remove(self.epoll, fds[0]);
            run.groups.close();
            self.remove(run.groups);
            return Err((IN_STEP, STEP_SOCKETS, errno));
        }
        self.runs[slot] = Some(run);
        Ok(())
    }

    /// On a run's channel: kill, a signal, or the host's loss of interest.
    fn hear_run(&mut self, which: usize) {
        let Some(run) = self.runs[which] else { return };
        let mut fds = [-1; FDS_MAX];
        let mut buffer = [0; size_of::<Message>()];
        match receive(run.channel, &mut buffer, &mut fds, false) {
            Err(EAGAIN) => {}
            Ok((n, count)) if n > 0 => {
                fds[..count].iter().for_each(|fd| close(*fd));
                match read_of::<Message>(&buffer[..n]) {
                    _ if run.parked => {} // it has ended
                    Some(Message { kind: KILL, arg }) => self.kill_run(which, arg),
                    Some(message) => self.tell_init(which, &message),
                    None => {}
                }
            }
            _ => {
                epoll_remove(self.epoll, run.channel);
                close(run.channel);
                if let Some(run) = self.runs[which].as_mut() {
                    run.channel = -1;
                }
                if !run.parked {
                    self.kill_run(which, REASON_CALLER);
                }
            }
        }
        if run.parked {
            self.unpark(run.sandbox);
        }
    }

    fn tell_init(&self, which: usize, message: &Message) {
        let Some(run) = self.runs[which] else { return };
        if let Some(sandbox) = self.sandboxes[run.sandbox] {
            let envelope = Envelope {
                run: which as u32,
                enter: 0,
            };
            let _ = send(
                sandbox.control,
                bytes_of(&envelope),
                bytes_of(message),
                &[],
                false,
            );
        }
    }

    fn kill_run(&mut self, which: usize, reason: u32) {
        if let Some(run) = self.runs[which].as_mut() {
            run.ending(reason, now());
            self.tell_init(
                which,
                &Message {
                    kind: KILL,
                    arg: reason,
                },
            );
        }
    }

    /// From an init: pass on what it says, adding what it cannot know.
    fn hear_init(&mut self, which: usize) {
        while let Some(sandbox) = self.sandboxes[which].filter(|s| s.parked.is_none()) {
            let mut fds = [-1; FDS_MAX];
            let mut buffer = [0u64; PARKED_MAX / 8];
            let (n, count) = match receive(sandbox.control, as_bytes(&mut buffer), &mut fds, false)
            {
                Ok((n, count)) if n > size_of::<Envelope>() => (n, count),
                Err(EAGAIN) => return,
                _ => {
                    epoll_remove(self.epoll, sandbox.control);
                    return; // its end is told by its pidfd
                }
            };
            let bytes = as_bytes(&mut buffer);
            let run = read_of::<Envelope>(bytes).map_or(0, |e| e.run as usize % SANDBOXES_MAX);
            if self.pass_on(which, run, &bytes[size_of::<Envelope>()..n], &fds[..count]) {
                fds[..count].iter().for_each(|fd| close(*fd));
            } else {
                let fd = fds[0];
                self.park(
                    which,
                    Parked {
                        bytes: buffer,
                        len: n,
                        run,
                        fd,
                    },
                );
            }
        }
    }

    /// Passes on one message about `run`; false if the host has no room for it now.
    fn pass_on(&mut self, which: usize, run: usize, message: &[u8], fds: &[Fd]) -> bool {
        match read_of::<Message>(message).map(|m| m.kind) {
            Some(READY) => self.tell_owner(which, message),
            Some(FAILED) if self.runs[run].is_none() => self.tell_owner(which, message),
            Some(STARTED) => self.started(run, message, fds),
            Some(EXIT) => return self.exited(run, message),
            Some(FAILED) => return self.finish(run, message, &[]),
            Some(OUTPUT) => return self.collected(run, message, fds),
            _ => {}
        }
        true
    }

    fn tell_owner(&self, which: usize, message: &[u8]) {
        if let Some(sandbox) = self.sandboxes[which] {
            let _ = send(sandbox.channel, message, &[], &[], false);
        }
    }

    fn collected(&mut self, which: usize, message: &[u8], fds: &[Fd]) -> bool {
        let Some(run) = self.runs[which].as_mut() else {
            return true;
        };
        run.collecting(now());
        match send(run.channel, message, &[], fds, false) {
            Err(EAGAIN) => false,
            // More descriptors are on their way than the kernel allows: the host is told of this one, without it.
            Err(ETOOMANYREFS) => {
                let Some(mut collected) = read_of::<Collected>(message) else {
                    return true;
                };
                collected.errno = ETOOMANYREFS as u32;
                collected.has_fd = 0;
                send(run.channel, bytes_of(&collected), &[], &[], false) != Err(EAGAIN)
            }
            _ => true,
        }
    }

    fn park(&mut self, which: usize, parked: Parked) {
        if let (Some(sandbox), Some(run)) = (
            self.sandboxes[which].as_mut(),
            self.runs[parked.run].as_mut(),
        ) {
            sandbox.parked = Some(parked);
            run.parked = true;
            epoll_remove(self.epoll, sandbox.control);
            let data = RUN << 32 | parked.run as u64;
            let _ = epoll_change(self.epoll, run.channel, EPOLLIN | EPOLLOUT, data);
        }
    }

    /// The host may have made room in the channel of a run whose sandbox waits for that, or has closed it.
    fn unpark(&mut self, which: usize) {
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        let Some(mut parked) = sandbox.parked else {
            return;
        };
        let bytes = &as_bytes(&mut parked.bytes)[size_of::<Envelope>()..parked.len];
        let fds = [parked.fd];
        let fds = if parked.fd >= 0 { &fds[..] } else { &[] };
        if !self.pass_on(which, parked.run, bytes, fds) {
            return;
        }
        close(parked.fd);
        if let Some(run) = self.runs[parked.run].as_mut() {
            run.parked = false;
            let data = RUN << 32 | parked.run as u64;
            let _ = epoll_change(self.epoll, run.channel, EPOLLIN, data);
        }
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        sandbox.parked = None;
        if sandbox.pidfd >= 0 {
            let _ = epoll_add(self.epoll, sandbox.control, CONTROL << 32 | which as u64);
        }
        self.hear_init(which);
        self.forget_dead(which);
    }

    fn started(&mut self, which: usize, message: &[u8], fds: &[Fd]) {
        let Some(run) = self.runs[which].as_mut() else {
            return;
        };
        let Some(started) = read_of::<Started>(message) else {
            return;
        };
        if run.needs_samples()
            && let Some(sandbox) = self.sandboxes[run.sandbox]
        {
            run.proc = open_proc(sandbox.init).unwrap_or(-1);
            let path = Text::<120>::new()
                .add(b"/proc/")
                .number(sandbox.init as u64)
                .add(b"/root");
            let path = path.add(sandbox.disk.bytes());
            run.disk = openat(AT_FDCWD, path.text(), O_PATH | O_DIRECTORY, 0).unwrap_or(-1);
        }
        if run.reason == REASON_NONE {
            run.started(started.at);
        }
        if started.has_pidfd != 0 {
            let _ = send(run.channel, message, &[], fds, false);
        }
    }

    /// False if the host has no room for it now.
    fn exited(&mut self, which: usize, message: &[u8]) -> bool {
        let Some(run) = self.runs[which] else {
            return true;
        };
        let Some(mut exit) = read_of::<Exit>(message) else {
            return true;
        };
        exit.reason = run.reason_of_end(exit.ended_at);
        exit.sampled_cpu = run.seen.cpu;
        exit.sampled_memory = run.seen.memory;
        let raw = as_bytes(RAW.take());
        let (len, reads) = run.groups.read(&run.reads, raw);
        exit.reads = reads;
        self.finish(which, bytes_of(&exit), &raw[..len])
    }

    /// Tells the host the last of a run and forgets it; false if the host has no room for it now.
    fn finish(&mut self, which: usize, message: &[u8], body: &[u8]) -> bool {
        let Some(mut run) = self.runs[which] else {
            return true;
        };
        if run.channel >= 0 {
            if send(run.channel, message, body, &[], false) == Err(EAGAIN) {
                return false;
            }
            epoll_remove(self.epoll, run.channel);
        }
        self.runs[which] = None;
        run.close();
        self.remove(run.groups);
        true
    }

    fn init_ended(&mut self, which: usize) {
        self.hear_init(which); // what it said last
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        let _ = reap(sandbox.pidfd);
        epoll_remove(self.epoll, sandbox.pidfd);
        close(sandbox.pidfd);
        if sandbox.channel >= 0 {
            epoll_remove(self.epoll, sandbox.channel);
            close(sandbox.channel);
        }
        let network = sandbox.network.take();
        (sandbox.init, sandbox.pidfd, sandbox.channel) = (0, -1, -1);
        self.release_network(network);
        self.forget_dead(which);
    }

    /// Forgets a sandbox whose init is dead, once all that it has said is passed on.
    fn forget_dead(&mut self, which: usize) {
        let done = |s: &Sandbox| s.pidfd < 0 && s.parked.is_none();
        let Some(sandbox) = self.sandboxes[which].filter(done) else {
            return;
        };
        epoll_remove(self.epoll, sandbox.control);
        for run in 0..self.runs.high() {
            if self.runs[run].is_some_and(|r| r.sandbox == which) {
                // Killed with it; the reason, if any, is the run's own.
                self.lost(which, run);
            }
            if self.sandboxes[which].is_some_and(|s| s.parked.is_some()) {
                return;
            }
        }
        close(sandbox.control);
        self.sandboxes[which] = None;
        self.sandboxes.trim();
        self.runs.trim();
    }

    /// A run whose init has died without a word: all of it is dead, but how the program ended is not known.
    fn lost(&mut self, sandbox: usize, run: usize) {
        let Some(reason) = self.runs[run].map(|run| run.reason) else {
            return;
        };
        let failure = Failure {
            kind: FAILED,
            section: IN_STEP,
            index: STEP_INIT_DIED,
            errno: EPROTO as u32,
        };
        let exit = Exit {
            kind: EXIT,
            status: SIGKILL as u32,
            ended_at: now(),
            ..Exit::default()
        };
        let message = match reason {
            REASON_NONE => bytes_of(&failure),
            _ => bytes_of(&exit),
        };
        if !self.pass_on(sandbox, run, message, &[]) {
            let mut bytes = [0; PARKED_MAX / 8];
            let len = size_of::<Envelope>() + message.len();
            as_bytes(&mut bytes)[size_of::<Envelope>()..len].copy_from_slice(message);
            self.park(
                sandbox,
                Parked {
                    bytes,
                    len,
                    run,
                    fd: -1,
                },
            );
        }
    }

    // ---- clearing away

    fn remove(&mut self, mut groups: Groups) {
        if !groups.remove(&self.bases) && self.leaving_count < self.leaving.len() {
            self.leaving[self.leaving_count] = groups;
            self.leaving_count += 1;
        }
    }

    fn retry_removals(&mut self) {
        let mut kept = 0;
        for i in 0..self.leaving_count {
            let mut groups = self.leaving[i];
            if !groups.remove(&self.bases) {
                self.leaving[kept] = groups;
                kept += 1;
            }
        }
        self.leaving_count = kept;
    }

    /// The host is gone: so is everything else, and its groups are removed.
    fn end(&mut self) -> ! {
        for sandbox in self.sandboxes.iter() {
            let _ = pidfd_kill(sandbox.pidfd);
        }
        for which in 0..self.sandboxes.high().max(self.runs.high()) {
            if let Some(sandbox) = self.sandboxes[which] {
                let _ = reap(sandbox.pidfd);
            }
            if let Some(mut run) = self.runs[which].take() {
                run.groups.close();
                self.remove(run.groups);
            }
        }
        let mut tries = 0;
        while self.leaving_count > 0 && tries < 200 {
            sleep(5_000_000);
            self.retry_removals();
            tries += 1;
        }
        self.remove_bases();
        exit(0)
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

fn streams(flags: u32, fds: &[Fd], start: &mut Start) {
    let mut next = fds.iter();
    for (i, flag) in [HAS_STDIN, HAS_STDOUT, HAS_STDERR].iter().enumerate() {
        if flags & flag != 0 {
            start.stdio[i] = next.next().copied().unwrap_or(-1);
        }
    }
}

fn disk_path(plan: &Plan) -> Text<64> {
    let found = plan
        .steps(plan.head.setup)
        .find(|(at, _)| at.op.code == S_DISK);
    Text::new().add(
        found
            .and_then(|(_, payload)| text(payload).ok())
            .map_or(b"", |path| path.bytes()),
    )
}

/// In the new child: puts its descriptors where init expects them, closes all others, and goes on as init.
fn become_init(plan: &mut Plan, map: u32, run: u32, control: Fd, trees: &[Fd], start: &Start) -> ! {
    let place = |fd: Fd, at: Fd| {
        if fd < 0 {
            return -1;
        }
        match dup_to(fd, at, true) {
            Ok(_) => at,
            Err(_) => exit(1),
        }
    };
    place(control, sandbox::CONTROL);
    let mut placed = Start {
        stdio: [-1; 3],
        into_cgroup: -1,
        enter: [-1; CGROUPS_MAX],
    };
    for (i, fd) in start.stdio.iter().enumerate() {
        placed.stdio[i] = place(*fd, sandbox::FIRST_STDIO + i as Fd);
    }
    placed.into_cgroup = place(start.into_cgroup, sandbox::FIRST_CGROUP);
    for (i, fd) in start.enter.iter().enumerate() {
        placed.enter[i] = place(*fd, sandbox::FIRST_ENTER + i as Fd);
    }
    for (i, fd) in trees.iter().enumerate() {
        place(*fd, sandbox::FIRST_VOLUME + i as Fd);
    }
    if close_range(sandbox::FIRST_VOLUME + trees.len() as Fd, u32::MAX).is_err() {
        exit(1);
    }
    sandbox::main(plan, map, run, placed)
}
