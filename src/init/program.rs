//! Starting a program: from the clone to its exec.

use crate::calls;
use crate::domain::Rules;
use crate::mem::read_of;
use crate::plan::{Plan, text};
use crate::s;
use crate::sys::*;
use crate::wire::*;
use core::sync::atomic::{AtomicI32, Ordering};

/// What a program is started with, beside its plan.
#[derive(Clone, Copy)]
pub struct Start {
    /// Standard input, output, error; -1 for `/dev/null`.
    pub stdio: [Fd; 3],
    /// v2: the group to be born in; else -1.
    pub into_cgroup: Fd,
    /// Files of groups to enter by writing "0".
    pub enter: [Fd; CGROUPS_MAX],
    /// How many others of its user RLIMIT_NPROC counts, beside init: what serves the root, what starts programs.
    pub others: u64,
    /// The Landlock domain to enter.
    pub rules: Rules,
}

impl Start {
    pub const NONE: Start = Start {
        stdio: [-1; 3],
        into_cgroup: -1,
        enter: [-1; CGROUPS_MAX],
        others: 0,
        rules: Rules::NONE,
    };

    pub fn close(&mut self) {
        for fd in self
            .stdio
            .iter_mut()
            .chain(self.enter.iter_mut())
            .chain([&mut self.into_cgroup])
        {
            close(*fd);
            *fd = -1;
        }
    }
}

/// The process that is being started, as soon as there is one: of who looks on while another thread starts it.
static STARTING: AtomicI32 = AtomicI32::new(0);

/// The process that is being started, while one is.
pub fn starting() -> Option<i32> {
    Some(STARTING.load(Ordering::Acquire)).filter(|pid| *pid > 0)
}

/// What the child works on; it shares our memory until its exec.
struct Child<'a, 'p> {
    plan: &'a mut Plan<'p>,
    start: &'a Start,
    fault: Option<Failure>,
    /// Where the filter lies in the plan, once it is installed.
    filter: Option<(usize, usize)>,
    listener: Fd,
    unheard: i32,
    violation: Violation,
}

/// A started program.
pub struct Spawned {
    pub pid: i32,
    /// If the plan wants one, else -1.
    pub pidfd: Fd,
    /// What tells of calls that its filter kills for, else -1.
    pub listener: Fd,
    /// Why there is none.
    pub unheard: i32,
    /// Its exec itself was such a call.
    pub violation: Violation,
}

/// Starts the program of `plan`.
pub fn spawn(
    plan: &mut Plan,
    start: &Start,
    stack: &mut [u8],
) -> core::result::Result<Spawned, Failure> {
    let wanted = plan.head.flags & WANT_PIDFD != 0;
    let mut child = Child {
        plan,
        start,
        fault: None,
        filter: None,
        listener: -1,
        unheard: 0,
        violation: Violation::default(),
    };
    let mut pidfd: Fd = -1;
    STARTING.store(0, Ordering::Release);
    let mut args = CloneArgs {
        // Its descriptors are ours until its exec, so that the listener is; from then on it has a copy without it.
        flags: CLONE_FILES
            | CLONE_PARENT_SETTID
            | if wanted { CLONE_PIDFD } else { 0 }
            | if start.into_cgroup >= 0 {
                CLONE_INTO_CGROUP
            } else {
                0
            },
        pidfd: &raw mut pidfd as u64,
        parent_tid: STARTING.as_ptr() as u64,
        exit_signal: SIGCHLD as u64,
        cgroup: start.into_cgroup.max(0) as u64,
        ..CloneArgs::default()
    };
    let made = Streams::place(child.plan, start).and_then(|mut streams| {
        let made = vfork_into(&mut args, stack, run_child, &raw mut child as usize);
        let listener = streams.keep(child.listener);
        made.map(|pid| (pid as i32, listener))
            .map_err(|errno| (IN_STEP, STEP_SPAWN, errno))
    });
    let failed = match (made, child.fault) {
        (Ok((pid, listener)), None) => {
            return Ok(Spawned {
                pid,
                pidfd,
                listener,
                unheard: child.unheard,
                violation: Violation {
                    pid: pid as u32,
                    tid: pid as u32,
                    ..child.violation
                },
            });
        }
        (Ok((_, listener)), Some(fault)) => {
            close(listener);
            fault
        }
        (Err((section, index, errno)), _) => Failure {
            kind: FAILED,
            section,
            index,
            errno: errno as u32,
        },
    };
    close(pidfd);
    Err(failed)
}

extern "C" fn run_child(child: usize) -> ! {
    // SAFETY: `spawn` passes a live Child and does nothing until we have ended or executed.
    let child = unsafe { &mut *(child as *mut Child) };
    let (section, index, errno) = prepare_and_exec(child);
    if child.violation.seen == 0 {
        child.fault = Some(Failure {
            kind: FAILED,
            section,
            index,
            errno: errno as u32,
        });
    }
    const STATUS: usize = 127;
    let filter = child.filter.filter(|_| child.listener >= 0);
    if let Some((at, len)) = filter
        && calls::own(
            &child.plan.bytes[at..at + len],
            EXIT_GROUP,
            [STATUS, 0, 0, 0, 0, 0],
        )
        .is_some()
    {
        trap();
    }
    exit(STATUS as i32)
}

fn prepare_and_exec(child: &mut Child) -> (u32, u32, i32) {
    match prepare(child) {
        Err(fault) => fault,
        Ok(filter) => {
            // The lowest number, and so the listener's: the limit on descriptors holds already.
            close(Streams::NONE);
            if let Some((index, at, len)) = filter {
                match calls::install(&mut child.plan.bytes[at..at + len], &mut child.unheard) {
                    Ok(listener) => child.listener = listener,
                    Err(errno) => return (IN_RUN, index, errno),
                }
                child.filter = Some((at, len));
            }
            exec(child)
        }
    }
}

/// The program's streams in the place of ours, which are `/dev/null` at all other times.
struct Streams {
    null: Fd,
    /// A number for the listener, so that it can be kept in any case.
    kept: Fd,
}

impl Streams {
    /// The first that is not the program's, and is `/dev/null` too.
    const NONE: Fd = 3;

    fn place(plan: &Plan, start: &Start) -> core::result::Result<Streams, Fault> {
        let step = |errno: i32| (IN_STEP, STEP_STDIO, errno);
        let mut streams = Streams {
            null: dup_from(0, Streams::NONE + 1).map_err(step)?,
            kept: -1,
        };
        streams.kept = dup_from(0, Streams::NONE + 1).map_err(step)?;
        for (to, fd) in start.stdio.iter().enumerate() {
            if *fd >= 0 {
                dup_to(*fd, to as Fd, false).map_err(step)?;
            } else if to == 2 && plan.head.flags & STDERR_TO_STDOUT != 0 {
                dup_to(1, 2, false).map_err(step)?;
            } else {
                let null = openat(AT_FDCWD, s!("/dev/null"), O_RDWR, 0).map_err(step)?;
                dup_to(null, to as Fd, false).map_err(step)?;
                close(null);
            }
        }
        // Each has that from the start; this is for one that should be forgotten. Since Linux 5.11.
        let _ = close_range_at_exec(Streams::NONE, u32::MAX);
        Ok(streams)
    }

    /// The listener, if there is one, out of the way of what comes back to its place.
    fn keep(&mut self, listener: Fd) -> Fd {
        if listener < 0 || dup_to(listener, self.kept, true).is_err() {
            return -1;
        }
        close(listener);
        core::mem::replace(&mut self.kept, -1)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for to in 0..=Streams::NONE {
            let _ = dup_to(self.null, to, true);
        }
        close(self.null);
        close(self.kept);
    }
}

type Fault = (u32, u32, i32);

/// Everything up to the filter; gives where the filter lies in the plan.
fn prepare(child: &mut Child) -> core::result::Result<Option<(u32, usize, usize)>, Fault> {
    let step = |which: u32| move |errno: i32| (IN_STEP, which, errno);
    setsid().map_err(step(STEP_SESSION))?;
    for fd in child.start.enter.iter().filter(|fd| **fd >= 0) {
        write_all(*fd, b"0").map_err(step(STEP_CGROUP_ENTER))?;
    }
    if child.plan.head.flags & RESTRICT == 0 {
        // Only now, so that the namespace's root is the group that the program is in.
        unshare(CLONE_NEWCGROUP).map_err(step(STEP_CGROUP_ENTER))?;
    } else {
        end_with_parent().map_err(step(STEP_DESCENT))?;
    }
    let entered = child.start.rules.enter();
    entered.map_err(step(STEP_LANDLOCK))?;
    let mut filter = None;
    for (at, payload) in child.plan.steps(child.plan.head.run) {
        let fault = |errno| (IN_RUN, at.index, errno);
        match at.op.code {
            R_RLIMIT => {
                const RLIMIT_NPROC: u16 = 6;
                let more = match at.op.flags {
                    RLIMIT_NPROC => child.start.others,
                    _ => 0,
                };
                let (soft, hard) = (at.op.a.saturating_add(more), at.op.b.saturating_add(more));
                set_rlimit(u32::from(at.op.flags), soft, hard).map_err(fault)?;
            }
            R_NICE => drop(set_nice(at.op.a as i32).map_err(fault)?),
            R_IDLE => drop(set_idle().map_err(fault)?),
            R_AFFINITY => drop(set_affinity(payload).map_err(fault)?),
            R_KEYRING => match new_session_keyring() {
                // Of a kernel, or a container around us, that has none.
                Ok(_) | Err(ENOSYS | EPERM) => {}
                Err(errno) => return Err(fault(errno)),
            },
            R_PERSONALITY => drop(personality(at.op.a).map_err(fault)?),
            R_CWD => {
                text(payload).and_then(chdir).map_err(fault)?;
                // The kernel gives a path that begins with "(unreachable)" for a directory outside our root.
                let mut path = [0; 4096];
                getcwd(&mut path).map_err(step(STEP_CWD_ESCAPE))?;
                if path[0] != b'/' {
                    return Err((IN_STEP, STEP_CWD_ESCAPE, EACCES));
                }
            }
            R_SECCOMP => filter = Some((at.index, at.at, at.len)),
            _ => {}
        }
    }
    umask(0o022);
    signal_mask(SIG_SETMASK, 0);
    drop_capabilities().map_err(step(STEP_CAPABILITIES))?;
    Ok(filter)
}

/// Tries the plan's paths in order; comes back only if none could be executed.
fn exec(child: &mut Child) -> Fault {
    let Some((step, _)) = child
        .plan
        .steps(child.plan.head.run)
        .find(|(at, _)| at.op.code == R_EXEC)
    else {
        return (IN_STEP, STEP_PLAN, EPROTO);
    };
    let (before, payload) = child.plan.bytes.split_at_mut(step.at);
    let filter = match child.filter {
        // What killed already, when nobody hears of it, needs no care.
        Some((at, len)) if child.listener >= 0 => before.get(at..at + len).unwrap_or(&[]),
        _ => &[],
    };
    let violation = &mut child.violation;
    let errno = exec_tables(&mut payload[..step.len], |nr, args| {
        match calls::own(filter, nr, args) {
            Some(call) if !filter.is_empty() => {
                *violation = call;
                false
            }
            _ => true,
        }
    });
    (IN_RUN, step.index, errno)
}

/// Executes the first of the paths of an [`ExecHead`] and its tables that can be; comes back with why not. `may` is asked
/// for each system call.
pub fn exec_tables(payload: &mut [u8], mut may: impl FnMut(usize, [usize; 6]) -> bool) -> i32 {
    let Some(head) = read_of::<ExecHead>(payload) else {
        return EPROTO;
    };
    // Offsets become addresses, in place; the zero that ends each table stays.
    let base = payload.as_ptr() as usize;
    let first = size_of::<ExecHead>();
    let entries = head.args as usize + head.env as usize + head.paths as usize + 3;
    let Some(table) = payload.get_mut(first..first + entries * 8) else {
        return EPROTO;
    };
    for entry in table.chunks_exact_mut(8) {
        let mut offset = [0; 8];
        offset.copy_from_slice(entry);
        let offset = usize::from_ne_bytes(offset);
        if offset != 0 {
            entry.copy_from_slice(&(base + offset).to_ne_bytes());
        }
    }
    let args = table.as_ptr().cast::<usize>();
    // SAFETY: the lengths were checked just above; each table ends with a zero that the host has put there.
    let (env, paths) = unsafe {
        (
            args.add(head.args as usize + 1),
            args.add(head.args as usize + head.env as usize + 2),
        )
    };
    let mut errno = ENOENT;
    for i in 0..head.paths as usize {
        // SAFETY: `i` is inside the table.
        let path = unsafe { *paths.add(i) };
        if !may(EXECVE, [path, args as usize, env as usize, 0, 0, 0]) {
            return EPERM;
        }
        // SAFETY: the table's entries now are addresses of NUL-terminated strings in the payload.
        let failed = unsafe { execve(path as *const u8, args, env) };
        // As a shell does: go on while there is nothing, remember that something was not executable.
        match failed {
            ENOENT | ENOTDIR => {}
            EACCES => errno = EACCES,
            other => {
                errno = other;
                break;
            }
        }
    }
    errno
}
