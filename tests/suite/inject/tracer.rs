//! Makes one system call of a host program, its supervisor or a sandbox's init fail, or kills who makes it: by ptrace(2),
//! so that what is tried is what is shipped.
//!
//! The host says by a call that means nothing to the kernel when the part begins that is tried, and when it ends.

use super::calls::name;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

/// `prctl(MARK, n)`: 1 begins, 2 ends the host's part, 3 ends it all.
pub const MARK: i32 = 0x5354_4f43;

/// When nobody has made a call for so long, all wait.
const QUIET: Duration = Duration::from_millis(200);

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Host,
    /// Clones the supervisor for the host and ends.
    Middleman,
    Supervisor,
    Init,
    /// fuse-overlayfs, or what removes directories, until it executes something.
    Server,
    /// The program until it is executed.
    Program,
}

/// One call: the `nth` with this number that a role makes, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub role: Role,
    pub call: i64,
    pub nth: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}#{}", self.role, name(self.call), self.nth)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Errno(i32),
    /// SIGKILL instead of the call.
    Kill,
    /// SIGKILL after the call.
    KillAfter,
}

/// What was seen of one run.
pub struct Trace {
    /// Every call of the part that is tried, with its second argument, which tells requests of one call apart.
    pub calls: Vec<(Point, u64)>,
    pub hit: bool,
}

struct Tracee {
    role: Role,
    /// The namespaces of its last clone.
    flags: u64,
    /// What the call that it is in is to give.
    result: Option<i64>,
    doomed: bool,
    /// Its last call is a sendmsg(2), and whether that is over.
    sends: bool,
    sent: bool,
}

struct Tracer {
    tracees: HashMap<i32, Tracee>,
    /// Those that stopped before their parent was heard to have made them.
    early: BTreeSet<i32>,
    /// 0 before, 1 in, 2 after the host's part, 3 at the end.
    mark: u64,
    counts: BTreeMap<(Role, i64), u32>,
    harm: Option<(Point, Harm)>,
    trace: Trace,
    leaving: bool,
    /// Whether what fails does so only when it has been sent something, and whoever has sent that goes on only when it has
    /// done all that it can then.
    late: bool,
    /// The two, once they wait for each other; and whether the first goes on.
    held: Option<i32>,
    sender: Option<i32>,
    alone: bool,
}

fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> i64 {
    // SAFETY: the requests below write only into what `data` points to, which lives through the call.
    unsafe { libc::ptrace(request, pid, address, data) }
}

/// Lets go of the host's thread `tid`, which waits for us, by `go`, and follows it until its part is over.
///
/// `supervisors` it has already.
pub fn follow(
    tid: i32,
    supervisors: &[u32],
    harm: Option<(Point, Harm)>,
    late: bool,
    go: impl FnOnce(),
) -> Trace {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC;
    let seize = |tid| {
        let seized = ptrace(libc::PTRACE_SEIZE, tid, 0, options as usize);
        let error = std::io::Error::last_os_error();
        if seized != 0 && error.raw_os_error() == Some(libc::EPERM) {
            // By Yama (kernel.yama.ptrace_scope) or an outer container. The host, which waits for us, ends with this.
            crate::hosts::say("lacks ptrace(2), which is refused here");
            std::process::exit(0);
        }
        assert_eq!(seized, 0, "PTRACE_SEIZE: {error}");
        assert_eq!(ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0), 0);
    };
    let mut tracer = Tracer {
        tracees: HashMap::new(),
        early: BTreeSet::new(),
        mark: 0,
        counts: BTreeMap::new(),
        harm,
        trace: Trace {
            calls: Vec::new(),
            hit: false,
        },
        leaving: false,
        late,
        held: None,
        sender: None,
        alone: false,
    };
    for pid in supervisors {
        seize(*pid as i32);
        tracer.add(*pid as i32, Role::Supervisor);
    }
    seize(tid);
    tracer.add(tid, Role::Host);
    go();
    let mut quiet = Instant::now();
    while !tracer.tracees.is_empty() {
        let mut status = 0;
        let waits = tracer.held.or(tracer.sender).is_some();
        let flags = libc::__WALL | if waits { libc::WNOHANG } else { 0 };
        // SAFETY: `status` lives through the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, flags) };
        if pid == 0 {
            if quiet.elapsed() > QUIET {
                tracer.end_late();
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        quiet = Instant::now();
        if pid < 0 {
            assert_eq!(
                std::io::Error::last_os_error().raw_os_error(),
                Some(libc::EINTR)
            );
            continue;
        }
        if libc::WIFSTOPPED(status) {
            tracer.stopped(pid, status);
        } else {
            tracer.tracees.remove(&pid);
            tracer.early.remove(&pid);
        }
    }
    tracer.trace
}

impl Tracer {
    fn add(&mut self, pid: i32, role: Role) {
        let tracee = Tracee {
            role,
            flags: 0,
            result: None,
            doomed: false,
            sends: false,
            sent: false,
        };
        self.tracees.insert(pid, tracee);
    }

    fn stopped(&mut self, pid: i32, status: i32) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if !self.tracees.contains_key(&pid) {
            self.early.insert(pid); // its parent's event comes
            return;
        }
        let mut deliver = 0;
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.has_made(pid);
            }
            libc::PTRACE_EVENT_EXEC => {
                if matches!(self.tracees[&pid].role, Role::Program | Role::Server) {
                    return self.let_go(pid);
                }
            }
            libc::PTRACE_EVENT_STOP => {}
            _ if signal == libc::SIGTRAP | 0x80 => self.in_call(pid),
            _ => deliver = signal,
        }
        if self.late && self.waits(pid, signal, event) {
            if let (Some(held), Some(_), false) = (self.held, self.sender, self.alone) {
                self.alone = true;
                ptrace(libc::PTRACE_SYSCALL, held, 0, 0);
            }
            return;
        }
        if self.leaving {
            return self.let_go(pid);
        }
        ptrace(libc::PTRACE_SYSCALL, pid, 0, deliver as usize);
    }

    /// Whether it is one of the two that wait for each other: the one that fails, and who stops behind a sendmsg(2) when there
    /// is an init.
    fn waits(&mut self, pid: i32, signal: i32, event: i32) -> bool {
        if self.held == Some(pid) {
            return !self.alone;
        }
        let tracee = &self.tracees[&pid];
        let behind = event == 0 && signal == libc::SIGTRAP | 0x80 && tracee.sent;
        let init = self.tracees.values().any(|other| other.role == Role::Init);
        if self.sender.is_none() && behind && init && tracee.role == Role::Supervisor {
            self.sender = Some(pid);
        }
        self.sender == Some(pid)
    }

    /// Lets them both go on.
    fn end_late(&mut self) {
        self.late = false;
        if let Some(held) = self.held.take().filter(|_| !self.alone) {
            ptrace(libc::PTRACE_SYSCALL, held, 0, 0);
        }
        if let Some(sender) = self.sender.take() {
            match self.leaving {
                true => self.let_go(sender),
                false => drop(ptrace(libc::PTRACE_SYSCALL, sender, 0, 0)),
            }
        }
    }

    /// What is done with is left alone.
    fn let_go(&mut self, pid: i32) {
        if self.tracees.get(&pid).is_some_and(|it| it.result.is_some()) {
            ptrace(libc::PTRACE_SYSCALL, pid, 0, 0); // its call is to be given a result yet
            return;
        }
        // One that was killed meanwhile is ours until we have heard of its end: its parent waits for that.
        if ptrace(libc::PTRACE_DETACH, pid, 0, 0) == 0 {
            self.tracees.remove(&pid);
        }
    }

    /// A tracee has made another.
    fn has_made(&mut self, pid: i32) {
        let mut child = 0u64;
        ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut child as usize);
        let child = child as i32;
        let Tracee { role, flags, .. } = self.tracees[&pid];
        let has = |flag: i32| flags & flag as u64 != 0;
        let mut ours = true;
        let role = match role {
            Role::Host if has(libc::CLONE_THREAD) => Role::Host,
            Role::Host => Role::Middleman,
            Role::Middleman => {
                ours = has(libc::CLONE_NEWUSER); // else newuidmap, which under ptrace would have no privileges
                Role::Supervisor
            }
            Role::Supervisor if has(libc::CLONE_NEWPID) => Role::Init,
            Role::Supervisor => Role::Server,
            Role::Init => Role::Program,
            other => other,
        };
        self.add(child, role);
        if self.early.remove(&child) {
            if ours && !self.leaving {
                ptrace(libc::PTRACE_SYSCALL, child, 0, 0);
            } else {
                self.let_go(child);
            }
        } else if !ours {
            let mut status = 0;
            // SAFETY: `status` lives through the call.
            unsafe { libc::waitpid(child, &mut status, libc::__WALL) };
            self.let_go(child);
        }
    }

    fn in_call(&mut self, pid: i32) {
        // SAFETY: all-zero is valid for it.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        if ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            pid,
            size,
            &raw mut info as usize,
        ) <= 0
        {
            return;
        }
        match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                // SAFETY: the kernel has said which of the union it is.
                let entry = unsafe { info.u.entry };
                self.entered(pid, entry.nr as i64, &entry.args);
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => self.left(pid),
            _ => {}
        }
    }

    fn entered(&mut self, pid: i32, call: i64, args: &[u64; 6]) {
        let role = self.tracees[&pid].role;
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            (tracee.sends, tracee.sent) = (call == libc::SYS_sendmsg, false);
        }
        if role == Role::Host && call == libc::SYS_prctl && args[0] == MARK as u64 {
            self.mark = args[1];
            if self.mark == 3 {
                self.leave();
            }
            return;
        }
        let flags = match call {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork | libc::SYS_vfork => Some(0),
            libc::SYS_clone => Some(args[0]),
            libc::SYS_clone3 => {
                Some(ptrace(libc::PTRACE_PEEKDATA, pid, args[0] as usize, 0) as u64)
            }
            _ => None,
        };
        if let (Some(flags), Some(tracee)) = (flags, self.tracees.get_mut(&pid)) {
            tracee.flags = flags;
        }
        if matches!((self.mark, role), (0 | 3, _) | (2, Role::Host)) {
            return;
        }
        let nth = self.counts.entry((role, call)).or_default();
        *nth += 1;
        let point = Point {
            role,
            call,
            nth: *nth,
        };
        self.trace.calls.push((point, args[1]));
        let Some((_, harm)) = self.harm.filter(|(at, _)| *at == point) else {
            return;
        };
        self.trace.hit = true;
        match harm {
            Harm::Kill => self.kill(pid),
            Harm::Errno(errno) => {
                set_register(pid, NUMBER, u64::MAX);
                self.give(pid, Some(-i64::from(errno)));
                self.held = self.late.then_some(pid);
            }
            Harm::KillAfter => {
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.doomed = true;
                }
            }
        }
    }

    fn left(&mut self, pid: i32) {
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            tracee.sent = tracee.sends;
        }
        let tracee = &self.tracees[&pid];
        if tracee.doomed {
            self.kill(pid);
        }
        if let Some(result) = self.tracees[&pid].result {
            set_register(pid, RESULT, result as u64);
            self.give(pid, None);
            self.leave();
        }
    }

    fn give(&mut self, pid: i32, result: Option<i64>) {
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            tracee.result = result;
        }
    }

    fn kill(&mut self, pid: i32) {
        // SAFETY: a signal to a process that we trace.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        self.leave();
    }

    /// Leaves all alone, each as soon as it stops.
    fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        for pid in self.tracees.keys() {
            ptrace(libc::PTRACE_INTERRUPT, *pid, 0, 0);
        }
    }
}

#[cfg(target_arch = "x86_64")]
const NUMBER: usize = std::mem::offset_of!(libc::user_regs_struct, orig_rax);
#[cfg(target_arch = "x86_64")]
const RESULT: usize = std::mem::offset_of!(libc::user_regs_struct, rax);

fn set_register(pid: i32, at: usize, value: u64) {
    ptrace(libc::PTRACE_POKEUSER, pid, at, value as usize);
}
