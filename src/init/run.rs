//! One run of a program, as the supervisor sees it: its clocks and why it was ended.

mod paused;

use crate::groups::{Groups, Read, Reads};
use crate::mem::bytes_of;
use crate::plan::Text;
use crate::s;
use crate::sample::{Sample, Seen, open_proc, reaped, sample};
use crate::sys::*;
use crate::wire::*;
use paused::{FREEZE_LOOK, Stopped};

/// How long init may take to hear that a run is to be ended, before it is killed itself.
const PATIENCE: u64 = 500_000_000;
/// How long all may take once its processes have the signal, or init has begun to hand over what is collected. The kernel
/// takes the memory of a process away while that dies, which is a second for some GiB; that init died would be no help, as
/// its namespace ends with all in it no sooner.
const CLEARING: u64 = 60_000_000_000;
/// How long a start may take, or the wall-clock limit if that is longer: another program of the sandbox could stop this
/// one between its clone and its exec, and with it init, for ever.
const START_PATIENCE: u64 = 10_000_000_000;
/// Between two looks at a clock: at least and at most.
const LOOK_MIN: u64 = 1_000_000;
const LOOK_MAX: u64 = 20_000_000;
/// How often processes are looked at again before it is believed that their CPU time has become less.
const FALLS_DOUBTED: u32 = 3;
const OOM_LOOK_MAX: u64 = 1_000_000_000;
/// A look at what memory is, where no limit hangs on it, comes after so large a part of the run's age.
const LOOK_SHARE: u64 = 50;
/// How fast memory can grow, bytes per nanosecond: decides when to look again.
const MEMORY_PER_NS: u64 = 4;

#[derive(Clone, Copy)]
pub struct Run {
    /// The number of its sandbox.
    pub sandbox: usize,
    /// Where to tell the host; -1 when the host has closed it.
    pub channel: Fd,
    pub groups: Groups,
    pub reads: Reads,
    pub reason: u32,
    clocks: Clocks,
    cpu_read: usize,
    cpu_unit: u64,
    cpu_key: [u8; 16],
    memory_read: usize,
    stat_read: usize,
    kernel_read: usize,
    swap_read: usize,
    swap_with_memory: bool,
    samples: bool,
    /// Its processes are among the host's, whose procfs tells nothing of it.
    restricted: bool,
    started_at: u64,
    /// Wall clock deadline; `u64::MAX` for none.
    deadline: u64,
    /// When to look at CPU time and memory; `u64::MAX` for never.
    next_look: u64,
    /// When init has had time enough to start it, or to clear it away; `u64::MAX` while it runs.
    patience: u64,
    /// The sandbox's procfs and writable file system, for looking where no cgroup counts.
    pub proc: Fd,
    pub disk: Fd,
    pub seen: Seen,
    /// Memory in use at the last look.
    memory: u64,
    /// What the host is to be told of, once; 0 for nothing.
    thresholds: [u64; THRESHOLDS],
    cpus: u64,
    /// CPU time of what its sandbox's init had reaped before, which is other programs'.
    cpu_before: u64,
    /// What the last look at its processes has added up, and what of that had gone with processes that nobody waited for.
    cpu_sum: u64,
    cpu_gone: u64,
    /// Its program has ended, and so have all its processes.
    over: bool,
    /// Since when it is paused; 0 if it is not.
    paused_at: u64,
    /// How long it was before that.
    paused_for: u64,
    /// Whether it holds to that, where signals have stopped it.
    stopped: Stopped,
    /// Where to tell that the pause, or the end of it, that was asked for has come; -1 if none was.
    pub answer: Fd,
    /// Looks left at whether the kernel has done that; 0 where init will tell.
    freeze_looks: u32,
    freeze_look: u64,
    /// It has ended, and its sandbox's init waits for the host to read of that: no clock goes on.
    pub parked: bool,
    /// Init was to start it and did not, and is killed for that.
    pub stuck: bool,
}

/// What a clock says to do.
#[derive(PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// End it for this reason.
    Kill(u32),
    /// Init has not managed: kill init.
    KillInit,
    /// What was asked for is done, or has failed with this errno.
    Answer(i32),
    /// It is paused and went on: stop it again.
    Stop,
}

impl Run {
    pub fn new(
        sandbox: usize,
        channel: Fd,
        head: &Request,
        groups: Groups,
        reads: Reads,
        cpus: u32,
    ) -> Run {
        Run {
            sandbox,
            channel,
            groups,
            reads,
            reason: REASON_NONE,
            clocks: head.clocks,
            cpu_read: head.cpu_read as usize,
            cpu_unit: u64::from(head.cpu_unit),
            cpu_key: head.cpu_key,
            memory_read: head.memory_read as usize,
            stat_read: head.stat_read as usize,
            kernel_read: head.kernel_read as usize,
            swap_read: head.swap_read as usize,
            swap_with_memory: head.swap_with_memory != 0,
            samples: head.flags & SAMPLE != 0,
            restricted: head.flags & RESTRICT != 0,
            started_at: 0,
            deadline: u64::MAX,
            next_look: u64::MAX,
            patience: match head.clocks.wall_time {
                0 => u64::MAX,
                limit => now().saturating_add(limit.max(START_PATIENCE)),
            },
            proc: -1,
            disk: -1,
            seen: Seen::NOTHING,
            memory: 0,
            thresholds: [0; THRESHOLDS],
            cpus: u64::from(cpus.max(1)),
            cpu_before: 0,
            cpu_sum: 0,
            cpu_gone: 0,
            over: false,
            paused_at: 0,
            paused_for: 0,
            stopped: Stopped::NOT,
            answer: -1,
            freeze_looks: 0,
            freeze_look: u64::MAX,
            parked: false,
            stuck: false,
        }
    }

    /// Opens what looks at its processes need, where no cgroup counts: not before the first, which a short run never has.
    /// `shown` are the two, if init has shown them. What cannot be opened now is tried at the next look.
    pub fn open_procfs(&mut self, init: i32, disk: &Text<64>, shown: [Fd; 2]) {
        // By what may be asked for while it runs, not by the limits of now.
        let needed = !self.restricted && (self.samples || self.cpu_read == 0);
        if !needed {
            return;
        }
        let open = |fd: Fd, flags| openat(fd, s!("."), O_DIRECTORY | flags, 0);
        if self.proc < 0 {
            self.proc = match shown[0] {
                0.. => open(shown[0], O_RDONLY),
                _ => open_proc(init),
            }
            .unwrap_or(-1);
        }
        if self.disk >= 0 {
            return;
        }
        if shown != [-1; 2] {
            self.disk = open(shown[1], O_PATH).unwrap_or(-1);
            return;
        }
        if disk.bytes().is_empty() {
            return; // what is on a disk is no memory
        }
        let path = Text::<120>::new()
            .add(b"/proc/")
            .number(init as u64)
            .add(b"/root")
            .add(disk.bytes());
        self.disk = openat(AT_FDCWD, path.text(), O_PATH | O_DIRECTORY, 0).unwrap_or(-1);
    }

    /// Its sandbox has run other programs before, whose CPU time is not its own.
    pub fn not_the_first(&mut self) {
        if self.proc >= 0 {
            self.cpu_before = reaped(self.proc);
        }
    }

    /// The program was executed at `at`: its clocks start.
    pub fn started(&mut self, at: u64) {
        self.patience = u64::MAX;
        if self.clocks.wall_time > 0 {
            self.deadline = at.saturating_add(self.clocks.wall_time);
        }
        self.started_at = at;
        self.plan_look(at);
    }

    /// When something is due next.
    pub fn due(&self) -> u64 {
        if self.parked {
            return u64::MAX;
        }
        let clocks = match self.paused_at {
            0 => self.deadline.min(self.next_look),
            _ => self.stopped.next_look,
        };
        clocks.min(self.patience).min(self.freeze_look)
    }

    pub fn check(&mut self, now: u64) -> Due {
        match self.check_init(now) {
            Due::Nothing if self.reason == REASON_NONE => {}
            due => return due,
        }
        if now >= self.deadline {
            return Due::Kill(REASON_WALL);
        }
        if now >= self.next_look {
            let passed = self.look_at_limits();
            self.notify();
            if let Some(reason) = passed {
                return Due::Kill(reason);
            }
            self.plan_look(now);
        }
        Due::Nothing
    }

    /// Whether init, or the kernel, has done what it was told.
    fn check_init(&mut self, now: u64) -> Due {
        if now >= self.patience {
            self.patience = now + PATIENCE;
            self.stuck |= self.started_at == 0 && self.reason == REASON_NONE;
            return Due::KillInit;
        }
        if now >= self.freeze_look {
            self.freeze_looks -= 1;
            if self.groups.frozen() == (self.paused_at > 0) {
                return Due::Answer(0);
            }
            if self.freeze_looks == 0 {
                return Due::Answer(ETIMEDOUT);
            }
            self.freeze_look = now + FREEZE_LOOK;
        }
        Due::Nothing
    }

    /// Looks, and says which limit is passed, if one is.
    fn look_at_limits(&mut self) -> Option<u32> {
        self.look();
        if self.clocks.cpu_time > 0 && self.seen.cpu >= self.clocks.cpu_time {
            return Some(REASON_CPU);
        }
        if (self.clocks.memory > 0 && self.memory > self.clocks.memory) || self.oom_killed() {
            return Some(REASON_MEMORY);
        }
        None
    }

    /// Other clocks from now on. They look at once, since how much was used since the last look is not known.
    pub fn update(&mut self, clocks: Clocks, now: u64) {
        self.clocks = clocks;
        if self.started_at == 0 || self.over || self.reason != REASON_NONE {
            return;
        }
        self.deadline = match clocks.wall_time {
            0 => u64::MAX,
            limit => self
                .started_at
                .saturating_add(limit)
                .saturating_add(self.paused_for),
        };
        self.next_look = now;
    }

    /// The host is to be told of another threshold than before. Looks at once, since it may be passed already.
    pub fn threshold(&mut self, threshold: &Threshold, now: u64) {
        if let Some(at) = self.thresholds.get_mut(threshold.of as usize) {
            *at = threshold.at;
        }
        if self.started_at > 0 && !self.over && self.reason == REASON_NONE {
            self.next_look = now;
        }
    }

    /// Tells the host of the thresholds that are passed, each once. If it has no room for that now it is told later.
    fn notify(&mut self) {
        let used = [self.seen.cpu, self.memory];
        for (of, (at, used)) in self.thresholds.iter_mut().zip(used).enumerate() {
            if *at == 0 || used < *at {
                continue;
            }
            let message = Threshold {
                kind: NOTIFY,
                of: of as u32,
                at: *at,
                used,
            };
            if send(self.channel, bytes_of(&message), &[], &[], false) != Err(EAGAIN) {
                *at = 0;
            }
        }
    }

    /// When its program was executed; 0 if it was not yet.
    pub fn started_at(&self) -> u64 {
        self.started_at
    }

    /// The run is being ended: no clock but the one for init matters any more.
    pub fn ending(&mut self, reason: u32, now: u64) {
        if self.reason == REASON_NONE {
            self.reason = reason;
        }
        self.deadline = u64::MAX;
        self.next_look = u64::MAX;
        self.patience = now + PATIENCE;
    }

    /// Init has begun to hand over what is collected, so every process is dead: no clock but the one for init matters any
    /// more, and that begins again with each file.
    pub fn collecting(&mut self, now: u64) {
        self.over = true;
        self.deadline = u64::MAX;
        self.next_look = u64::MAX;
        if self.clocks.wall_time > 0 || self.patience != u64::MAX {
            self.patience = now + CLEARING;
        }
    }

    /// Its processes have the signal that ends them.
    pub fn signalled(&mut self, now: u64) {
        if self.reason != REASON_NONE {
            self.patience = now + CLEARING;
        }
    }

    /// Init is setting its sandbox up, and getting on with it.
    pub fn set_up_goes_on(&mut self, now: u64) {
        if self.patience != u64::MAX && self.reason == REASON_NONE {
            self.patience = self.patience.max(now + START_PATIENCE);
        }
    }

    /// Why it was ended, if it ended at `at`. A clock that went on after the program's end, while init collected and
    /// the host read, has not ended it.
    pub fn reason_of_end(&self, at: u64) -> u32 {
        match self.reason {
            REASON_WALL
                if at.saturating_sub(self.paused(at))
                    < self.started_at.saturating_add(self.clocks.wall_time) =>
            {
                REASON_NONE
            }
            reason => reason,
        }
    }

    /// Looks at what it uses: memory and processes now, [`UNKNOWN`] where its processes need not be looked at for that.
    pub fn look(&mut self) -> (u64, u64) {
        self.seen.looks += 1;
        let now = self.look_at_processes();
        if let Some(read) = self.read(self.cpu_read) {
            let len = self
                .cpu_key
                .iter()
                .position(|b| *b == 0)
                .unwrap_or(self.cpu_key.len());
            let units = self.groups.number(&read, &self.cpu_key[..len]).unwrap_or(0);
            self.seen.cpu = self.seen.cpu.max(units * self.cpu_unit);
        }
        self.look_at_memory();
        now
    }

    fn look_at_processes(&mut self) -> (u64, u64) {
        if self.proc < 0 {
            return (UNKNOWN, UNKNOWN);
        }
        let mut sum = sample(self.proc, false);
        self.add_cpu(&mut sum);
        self.seen.pids = self.seen.pids.max(sum.pids);
        let disk = self.disk_used();
        let memory = sum.anon + sum.shmem + disk;
        let [_, threshold] = self.thresholds;
        if (self.clocks.memory > 0 && memory > self.clocks.memory)
            || (threshold > 0 && memory >= threshold)
        {
            // Shared pages were counted more than once: look closely before judging.
            sum = sample(self.proc, true);
        }
        let memory = sum.anon + sum.shmem + disk;
        self.memory = memory;
        if memory > self.seen.memory {
            self.seen.memory = memory;
            self.seen.split.anon = sum.anon;
            self.seen.split.shmem = sum.shmem + disk;
        }
        (memory, sum.pids)
    }

    /// The time of a process goes to whoever waits for it, so their sum never falls; but where SIGCHLD is ignored it goes to
    /// nobody, and the sum falls by it.
    fn add_cpu(&mut self, sum: &mut Sample) {
        // One that ended as we looked, behind our back at its parent, is in the sum when we look again.
        let mut again = FALLS_DOUBTED;
        while sum.cpu < self.cpu_sum && again > 0 {
            again -= 1;
            let second = sample(self.proc, false);
            if second.cpu > sum.cpu {
                *sum = second;
            }
        }
        self.cpu_gone += self.cpu_sum.saturating_sub(sum.cpu);
        self.cpu_sum = sum.cpu;
        let used = (sum.cpu + self.cpu_gone).saturating_sub(self.cpu_before);
        self.seen.cpu = self.seen.cpu.max(used);
    }

    fn look_at_memory(&mut self) {
        let Some(memory) = self.number(self.memory_read) else {
            return;
        };
        self.memory = memory;
        if memory > self.seen.memory {
            let mut split = self
                .read(self.stat_read)
                .map_or(Split::UNKNOWN, |read| self.groups.split(&read));
            if let Some(kernel) = self.number(self.kernel_read) {
                split.kernel = kernel;
            }
            self.seen.memory = memory;
            self.seen.split = split;
        }
        if let Some(swap) = self.number(self.swap_read) {
            let memory = if self.swap_with_memory { memory } else { 0 };
            self.seen.swap(swap.saturating_sub(memory));
        }
    }

    /// Whether the kernel has ended a part of the run for want of memory.
    fn oom_killed(&self) -> bool {
        // With the space: another key of the file begins in the same way.
        self.read(self.clocks.oom_read as usize)
            .and_then(|read| self.groups.number(&read, b"oom_kill "))
            .is_some_and(|n| n > 0)
    }

    /// A file by its number in the plan, which is one more than its place.
    fn read(&self, number: usize) -> Option<Read<'_>> {
        self.reads.list().nth(number.checked_sub(1)?)
    }

    /// The first number of such a file.
    fn number(&self, read: usize) -> Option<u64> {
        self.groups.number(&self.read(read)?, b"")
    }

    fn disk_used(&self) -> u64 {
        let Ok(disk) = fstatfs(self.disk) else {
            return 0;
        };
        (disk.blocks - disk.blocks_free) * disk.block_size
    }

    /// The next look is when a limit could be reached at the earliest, all processors working.
    fn plan_look(&mut self, now: u64) {
        let mut wait = u64::MAX;
        if self.clocks.cpu_time > 0 {
            wait = wait.min(self.clocks.cpu_time.saturating_sub(self.seen.cpu) / self.cpus);
        }
        if self.cpu_gone > 0 && (self.clocks.cpu_time > 0 || self.thresholds[0] > 0) {
            wait = wait.min(LOOK_MAX); // what is used and gone between two looks nobody ever sees
        }
        if self.clocks.memory > 0 {
            let room = self.clocks.memory.saturating_sub(self.memory);
            wait = wait.min((room / MEMORY_PER_NS).min(LOOK_MAX));
        }
        let [cpu, memory] = self.thresholds;
        if cpu > 0 {
            wait = wait.min(cpu.saturating_sub(self.seen.cpu) / self.cpus);
        }
        if memory > 0 {
            let room = memory.saturating_sub(self.memory);
            wait = wait.min((room / MEMORY_PER_NS).min(LOOK_MAX));
        }
        let age = now - self.started_at.min(now);
        if self.memory_read > 0 || self.samples {
            // After 1, 2, 4, 8 and 16 ms, then every 20 ms, then rarer.
            let rare = (age / LOOK_SHARE).min(self.clocks.look_max).max(LOOK_MAX);
            wait = wait.min(age.max(LOOK_MIN).min(rare));
        }
        if self.clocks.oom_read > 0 {
            // No limit is passed by a late look, so these grow rare.
            wait = wait.min((age / 2).clamp(LOOK_MAX, OOM_LOOK_MAX));
        }
        if wait == u64::MAX {
            self.next_look = u64::MAX;
            return;
        }
        self.next_look = now.saturating_add(wait.max(LOOK_MIN));
    }

    pub fn close(&mut self) {
        close(self.channel);
        close(self.answer);
        close(self.proc);
        close(self.disk);
        self.groups.close();
    }
}
