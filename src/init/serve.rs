//! The program that serves a sandbox's root through FUSE. It is the supervisor's child and in its pid namespace, so that
//! the sandbox's programs neither see nor reach it; it lives in the sandbox's user and mount namespace, and so can
//! reach nothing but the layers. The supervisor ends it with the sandbox.

use crate::mem::bytes_of;
use crate::plan::{Plan, Text};
use crate::program::exec_tables;
use crate::s;
use crate::sys::*;
use crate::wire::*;

/// Where init has its end of the socket to it.
pub const SERVER: Fd = 14;
/// Where it has its own, and then the device.
const DEVICE: Fd = 3;

/// The step of `plan` that names the program, and so asks for one.
fn step_of(plan: &Plan) -> Option<crate::plan::Step> {
    plan.steps(plan.head.setup)
        .map(|(at, _)| at)
        .find(|at| at.op.code == S_SERVE)
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
            let (user, group) = (plan.head.user, plan.head.group);
            let errno = serve(ours, (user, group), plan.payload(&step));
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
fn serve(socket: Fd, ids: (u32, u32), tables: &mut [u8]) -> i32 {
    let result = prepare(socket, ids);
    match result {
        Ok(()) => exec_tables(tables),
        Err(errno) => errno,
    }
}

fn prepare(socket: Fd, (user, group): (u32, u32)) -> Result<()> {
    dup_to(socket, DEVICE, true)?;
    close_range(DEVICE + 1, u32::MAX)?;
    let mut fds = [-1; FDS_MAX];
    let mut message = [0; size_of::<Message>()];
    let (_, count) = receive(DEVICE, &mut message, &mut fds, true)?;
    if count != 3 {
        return Err(EPROTO); // init is dead
    }
    let [device, users, mounts] = [fds[0], fds[1], fds[2]];
    setns(users, CLONE_NEWUSER)?;
    setns(mounts, CLONE_NEWNS)?;
    dup_to(device, DEVICE, false)?;
    close_range(DEVICE + 1, u32::MAX)?;
    // It acts for the sandbox's programs, with what init could do in its namespace but mount, trace and the like; the
    // kernel has checked their rights before it asks.
    const PR_SET_SECUREBITS: usize = 28;
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    const SECBIT_NO_SETUID_FIXUP: usize = 4;
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD.
    const KEPT: [usize; 6] = [0, 1, 2, 3, 4, 27];
    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0)?;
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

/// By init, before it takes its ids, since the host's root may open what those may not: the device, if `plan` wants it.
pub fn open_device(plan: &Plan) -> Result<Fd> {
    match step_of(plan) {
        Some(_) => openat(AT_FDCWD, s!("/fuse"), O_RDWR, 0),
        None => Err(ENODEV),
    }
}

/// By init: mounts what will be served at `target`, and has it served. Takes the device: only the program must hold it,
/// so that its end is the end of waiting for it.
pub fn mount_served(device: Fd, target: Str, (user, group): (u32, u32)) -> Result<()> {
    let options = Text::<120>::new()
        .add(b"fd=")
        .number(device as u64)
        .add(b",rootmode=40000,allow_other,default_permissions,user_id=")
        .number(u64::from(user))
        .add(b",group_id=")
        .number(u64::from(group));
    let flags = MS_NOSUID | MS_NODEV;
    let source = s!("fuse-overlayfs");
    let told = mount(source, target, s!("fuse"), flags, options.text()).and_then(|_| tell(device));
    close(device);
    close(SERVER);
    told
}

/// Tells the program's process what to serve, and where.
fn tell(device: Fd) -> Result<()> {
    let users = openat(AT_FDCWD, s!("/proc/self/ns/user"), O_RDONLY, 0)?;
    let mounts = openat(AT_FDCWD, s!("/proc/self/ns/mnt"), O_RDONLY, 0)?;
    let go = Message { kind: GO, arg: 0 };
    let fds = [device, users, mounts];
    let told = send(SERVER, bytes_of(&go), &[], &fds, true);
    close(users);
    close(mounts);
    told.map_err(|_| ENOTCONN) // it has ended
}
