//! Files of the host's that are shown as a sandbox's own. Locks and watches are about inodes, whatever a mount allows, so
//! a read-only overlay over each directory gives its files other ones. It has no upper layer and nothing is copied; what
//! programs map is the host's page cache still.

use super::{Binds, Fault, Template, step};
use crate::attributes::is_mounted_below;
use crate::plan::{Plan, Step, Text, pair, text};
use crate::s;
use crate::sys::*;
use crate::wire::*;

/// An empty directory of each root that has such binds, which its sandboxes mount over: overlayfs wants two layers.
const EMPTY: &[u8] = b"/dev/shm";

/// Another, where one is mounted before it is moved.
const ASIDE: Str = s!("/tmp");

/// Mounts them, in a new root, in which we are. Where the kernel refuses, the bind stays as it is, which is told.
pub fn own_files(
    plan: &Plan,
    map: u32,
    template: &mut Template,
) -> core::result::Result<(), Fault> {
    if binds(plan).next().is_none() {
        return Ok(());
    }
    template.own = true;
    let before = as_program(plan, map).map_err(step(STEP_IDS))?;
    let made = make(plan, template);
    if as_before(&before).is_err() {
        exit(1); // half a supervisor is none
    }
    made
}

/// Overlayfs looks into what it shows with the rights of who has mounted it. Those are to be no more than programs have,
/// who may read what they are not to, otherwise, where the host has changed a mode since.
fn as_program(plan: &Plan, map: u32) -> Result<Capabilities> {
    const CAP_SYS_ADMIN: u32 = 21;
    let before = capabilities()?;
    let mut fewer = before;
    (fewer[0], fewer[3]) = (before[0] & 1 << CAP_SYS_ADMIN, 0);
    let taken = match map {
        MAP_ROOT => set_fs_ids(plan.head.user + 1, plan.head.group + 1),
        _ => Ok(()), // the program's are ours
    };
    if let Err(errno) = taken.and_then(|()| set_capabilities(&fewer).map(|_| ())) {
        if as_before(&before).is_err() {
            exit(1);
        }
        return Err(errno);
    }
    Ok(before)
}

fn as_before(before: &Capabilities) -> Result<()> {
    const PR_SET_DUMPABLE: usize = 4;
    set_capabilities(before)?;
    set_fs_ids(0, 0)?;
    // Other ids have made us what the files in /proc of our children must not be: root's.
    prctl(PR_SET_DUMPABLE, 1, 0).map(|_| ())
}

fn make(plan: &Plan, template: &mut Template) -> core::result::Result<(), Fault> {
    for (number, at, path) in binds(plan) {
        let fault = |errno| (IN_TEMPLATE, at.index, errno);
        let path = path.map_err(fault)?;
        // What fails for a moment says nothing of the kernel.
        let made = match aside(path.text()) {
            Err(errno) if is_refusal(errno) => aside(path.text()),
            made => made,
        };
        match made {
            Ok(()) => {
                put(path.text()).map_err(fault)?;
                template.overlaid[number / 64] |= 1 << (number % 64);
            }
            Err(errno) if is_refusal(errno) => note(&mut template.shared, path.bytes(), errno),
            Err(errno) => return Err(fault(errno)),
        }
        template.shared.of += 1;
    }
    Ok(())
}

/// Has the overlays forget what they have looked up: the host may have changed it since.
pub fn refresh(plan: &Plan, overlaid: &Binds) -> Result<()> {
    if *overlaid == Binds::default() {
        return Ok(());
    }
    for (number, _, path) in binds(plan) {
        if overlaid[number / 64] >> (number % 64) & 1 != 0 {
            let fd = openat(AT_FDCWD, path?.text(), O_PATH, 0)?;
            // Nothing is changed, but the kernel drops what it has cached of the file system.
            let done = fstatfs(fd).and_then(|fs| {
                let flags = MS_REMOUNT | (fs.flags as usize & KEPT_FLAGS);
                mount(s!("none"), name(fd).text(), s!(""), flags, s!(""))
            });
            close(fd);
            done?;
        }
    }
    Ok(())
}

const KEPT_FLAGS: usize = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

/// The binds that are to be the sandbox's own: the number of each, and where it is.
fn binds<'a>(plan: &'a Plan) -> impl Iterator<Item = (usize, Step, Result<Text<4096>>)> + 'a {
    let own = |at: &Step| at.op.code == T_BIND && at.op.flags & BIND_OWN != 0;
    plan.steps(plan.head.template)
        .filter(move |(at, _)| own(at))
        .enumerate()
        .map(|(number, (at, payload))| {
            let path = pair(payload).and_then(|(_, path)| text(path));
            (
                number,
                at,
                path.map(|path| Text::new().add(b"/").add(path.bytes())),
            )
        })
}

/// Mounts the overlay of a bind aside.
fn aside(path: Str) -> Result<()> {
    let fd = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?;
    let made = overlay(fd, path);
    close(fd);
    made
}

fn overlay(fd: Fd, path: Str) -> Result<()> {
    if is_mounted_below(path.bytes())? {
        return Err(EBUSY); // which would be hidden
    }
    let kept = fstatfs(fd)?.flags as usize & MS_NOEXEC;
    // Whatever its own name is, these need no escapes. Programs can read it in their mountinfo, where the number of a
    // descriptor would tell of other sandboxes; one that may not go there finds nothing below it anyway.
    let lower = match fchdir(fd) {
        Ok(_) => Text::new().add(b"."),
        Err(EACCES) => name(fd),
        Err(errno) => return Err(errno),
    };
    let options = Text::<120>::new().add(b"userxattr,xino=off,lowerdir=");
    let options = options.add(lower.bytes()).add(b":").add(EMPTY);
    let flags = MS_RDONLY | MS_NOSUID | MS_NODEV | kept;
    let kind = s!("overlay");
    let mounted = mount(kind, ASIDE, kind, flags, options.text());
    if chdir(s!("/")).is_err() {
        exit(1); // whatever is named from where we are would be another thing
    }
    mounted.map(|_| ())
}

/// Puts what is mounted aside in the place of the bind, which it does without: each sandbox copies all mounts. There is no way
/// back, so that a root whose bind is gone with nothing in its place must not be one.
fn put(path: Str) -> Result<()> {
    umount(path, MNT_DETACH)?;
    mount(ASIDE, path, s!(""), MS_MOVE, s!("")).map(|_| ())
}

fn name(fd: Fd) -> Text<40> {
    Text::new().add(b"/proc/self/fd/").number(fd as u64)
}

/// What a kernel says that makes no such overlay: before Linux 5.11, without the module, over a file or a file system
/// that is no lower layer, or over one that is an overlay of overlays.
fn is_refusal(errno: i32) -> bool {
    matches!(
        errno,
        EPERM | EACCES | EINVAL | ENODEV | ENOTDIR | EBUSY | ELOOP | EOPNOTSUPP
    )
}

fn note(shared: &mut Shared, path: &[u8], errno: i32) {
    if shared.count == 0 {
        shared.errno = errno as u32;
        let len = path.len().min(shared.first.len());
        shared.first[..len].copy_from_slice(&path[..len]);
    }
    shared.count += 1;
}
