//! The program that serves a sandbox's root through FUSE. It is the supervisor's child and in its pid namespace, so that
//! the sandbox's programs neither see nor reach it; it lives in the sandbox's user and mount namespace, and so can
//! reach nothing but the layers. What it reads a hostile program has written, so it has a filter and limits of its own,
//! and of init's rights only those over files. The supervisor ends it with the sandbox.

use crate::mem::{bytes_of, read_of};
use crate::plan::{Plan, Step, Text};
use crate::program::exec_tables;
use crate::s;
use crate::sys::*;
use crate::wire::*;

/// Where init has its end of the socket to it.
pub const SERVER: Fd = 14;
/// Where it has its own, and then the device.
const DEVICE: Fd = 3;

/// The step of `plan` that names the program, and so asks for one.
fn step_of(plan: &Plan) -> Option<Step> {
    plan.steps(plan.head.setup)
        .map(|(at, _)| at)
        .find(|at| at.op.code == S_SERVE)
}

pub fn is_wanted(plan: &Plan) -> bool {
    step_of(plan).is_some()
}

/// Clones it, if `plan` asks for one: its pidfd, and init's end of the socket; else -1 and -1.
pub fn start(plan: &mut Plan) -> Result<(Fd, Fd)> {
    let Some(step) = step_of(plan) else {
        return Ok((-1, -1));
    };
    let [ours, theirs] = socketpair()?;
    let mut pidfd = -1;
    match fork_into(0, &mut pidfd) {
        Ok(0) => {
            let errno = serve(ours, plan, &step);
            exit(errno & 0x7f)
        }
        Ok(_) => {
            close(ours);
            Ok((pidfd, theirs))
        }
        Err(errno) => {
            close(ours);
            close(theirs);
            Err(errno)
        }
    }
}

/// Waits for what init has mounted, goes to where that is, and executes the program. Comes back with an errno.
fn serve(socket: Fd, plan: &mut Plan, step: &Step) -> i32 {
    let confined = prepare(socket, (plan.head.user, plan.head.group)).and_then(|()| confine(plan));
    match confined {
        Ok(()) => exec_tables(plan.payload(step), |_, _| true),
        Err(errno) => errno,
    }
}

/// Takes on the limits of the plan, and last its filter.
fn confine(plan: &Plan) -> Result<()> {
    for (at, payload) in plan.steps(plan.head.setup) {
        match at.op.code {
            S_SERVE_LIMIT => match set_rlimit(u32::from(at.op.flags), at.op.a, at.op.a) {
                // More than is left to us, which then is the limit.
                Ok(_) | Err(EPERM) => {}
                Err(errno) => return Err(errno),
            },
            S_SERVE_FILTER => drop(seccomp(payload)?),
            _ => {}
        }
    }
    Ok(())
}

fn prepare(socket: Fd, (user, group): (u32, u32)) -> Result<()> {
    const SOCKET: Fd = DEVICE + 1;
    dup_to(socket, DEVICE, true)?;
    dup_to(DEVICE, SOCKET, true)?;
    for stream in 0..DEVICE {
        dup_to(SOCKET + 1, stream, false)?; // the supervisor has /dev/null there
    }
    close_range(SOCKET + 1, u32::MAX)?;
    let mut fds = [-1; FDS_MAX];
    let mut message = [0; size_of::<Message>()];
    let (_, count) = receive(SOCKET, &mut message, &mut fds, true)?;
    if count != 2 {
        return Err(EPROTO); // init is dead
    }
    // Still with the supervisor's user, since the host's root may open what the sandbox's may not.
    let mounted = setns(fds[0], CLONE_NEWUSER)
        .and_then(|_| setns(fds[1], CLONE_NEWNS))
        .and_then(|_| openat(AT_FDCWD, s!("/fuse"), O_RDWR, 0))
        .and_then(|device| {
            dup_to(device, DEVICE, false)?;
            close(device);
            mount_device(user, group)
        });
    let answer = Message {
        kind: ANSWER,
        arg: mounted.err().unwrap_or(0) as u32,
    };
    send(SOCKET, bytes_of(&answer), &[], &[], true)?;
    mounted?;
    close_range(SOCKET, u32::MAX)?;
    // It acts for the sandbox's programs, whose rights the kernel has checked before it asks.
    const PR_SET_SECUREBITS: usize = 28;
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    const SECBITS: usize = 0b1111; // NOROOT, NO_SETUID_FIXUP, both for good
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
    const KEPT: [usize; 4] = [0, 1, 3, 4];
    prctl(PR_SET_SECUREBITS, SECBITS, 0)?;
    set_ids(user, group)?;
    keep_capabilities(KEPT.iter().fold(0, |set, n| set | 1 << n))?;
    for capability in KEPT {
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)?;
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    setsid()?;
    signal_mask(SIG_SETMASK, 0);
    Ok(())
}

fn mount_device(user: u32, group: u32) -> Result<()> {
    let options = Text::<120>::new()
        .add(b"fd=")
        .number(DEVICE as u64)
        .add(b",rootmode=40000,allow_other,default_permissions,user_id=")
        .number(u64::from(user))
        .add(b",group_id=")
        .number(u64::from(group));
    let (source, kind) = (s!("fuse-overlayfs"), s!("fuse"));
    let flags = MS_NOSUID | MS_NODEV;
    mount(source, s!("/root"), kind, flags, options.text()).map(|_| ())
}

/// By init, to the other end of `server`: has the root mounted, and served from then on.
pub fn begin(server: Fd) -> Result<()> {
    let users = openat(AT_FDCWD, s!("/proc/self/ns/user"), O_RDONLY, 0)?;
    let mounts = openat(AT_FDCWD, s!("/proc/self/ns/mnt"), O_RDONLY, 0)?;
    let go = Message { kind: GO, arg: 0 };
    let told = send(server, bytes_of(&go), &[], &[users, mounts], true);
    close(users);
    close(mounts);
    let mut answer = [0; size_of::<Message>()];
    let heard = told.and_then(|()| receive(server, &mut answer, &mut [-1; FDS_MAX], true));
    let (length, _) = heard.map_err(|_| ENOTCONN)?; // it has ended
    match read_of::<Message>(&answer[..length]) {
        Some(Message { arg: 0, .. }) => Ok(()),
        Some(Message { arg, .. }) => Err(arg as i32),
        None => Err(ENOTCONN),
    }
}
