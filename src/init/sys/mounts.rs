//! Mounts.

use super::*;

pub const OPEN_TREE_CLONE: usize = 1;
pub const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
pub const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
pub const MOUNT_ATTR_RDONLY: u64 = 1;
pub const MOUNT_ATTR_NOSUID: u64 = 2;
pub const MOUNT_ATTR_NODEV: u64 = 4;
pub const MOUNT_ATTR_NOEXEC: u64 = 8;
pub const MS_RDONLY: usize = 1;
pub const MS_NOSUID: usize = 2;
pub const MS_NODEV: usize = 4;
pub const MS_NOEXEC: usize = 8;
pub const MS_REMOUNT: usize = 32;
pub const MS_BIND: usize = 4096;
pub const MS_MOVE: usize = 8192;
pub const MS_REC: usize = 16384;
pub const MS_PRIVATE: usize = 1 << 18;
pub const MNT_DETACH: usize = 2;

pub fn mount(source: Str, target: Str, kind: Str, flags: usize, data: Str) -> Result {
    syscall!(
        nr::MOUNT,
        source.ptr(),
        target.ptr(),
        kind.ptr(),
        flags,
        data.ptr()
    )
}

pub fn umount(target: Str, flags: usize) -> Result {
    syscall!(nr::UMOUNT2, target.ptr(), flags)
}

pub fn pivot_root(new: Str, old: Str) -> Result {
    syscall!(nr::PIVOT_ROOT, new.ptr(), old.ptr())
}

/// A detached copy of what is mounted at `path`.
pub fn open_tree_clone(dir: Fd, path: Str, recursive: bool) -> Result<Fd> {
    open_tree_at(dir, path, if recursive { AT_RECURSIVE } else { 0 })
}

/// The same with flags.
pub fn open_tree_at(dir: Fd, path: Str, flags: usize) -> Result<Fd> {
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | flags;
    syscall!(nr_new::OPEN_TREE, dir, path.ptr(), flags).map(|fd| fd as Fd)
}

/// Attaches the tree `fd` at `path`, through symbolic links in none of its components if `dir` is an `O_PATH` of it.
pub fn move_mount(fd: Fd, dir: Fd, path: Str) -> Result {
    syscall!(
        nr_new::MOVE_MOUNT,
        fd,
        s!("").ptr(),
        dir,
        path.ptr(),
        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    )
}

/// Begins a new file system of this kind.
pub fn fs_open(kind: Str) -> Result<Fd> {
    const FSOPEN_CLOEXEC: usize = 1;
    syscall!(nr_new::FSOPEN, kind.ptr(), FSOPEN_CLOEXEC).map(|fd| fd as Fd)
}

/// Makes it with these options; gives a detached mount, nosuid and nodev.
pub fn fs_create(context: Fd, options: &[(Str, Str)]) -> Result<Fd> {
    const FSCONFIG_SET_STRING: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    for (key, value) in options {
        syscall!(
            nr_new::FSCONFIG,
            context,
            FSCONFIG_SET_STRING,
            key.ptr(),
            value.ptr(),
            0
        )?;
    }
    syscall!(nr_new::FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
    syscall!(
        nr_new::FSMOUNT,
        context,
        1,
        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    )
    .map(|fd| fd as Fd)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes on the tree `fd` and, with `recursive`, all mounts below; makes them private.
pub fn mount_setattr(fd: Fd, set: u64, recursive: bool) -> Result {
    let attr = MountAttr {
        set,
        clear: 0,
        propagation: MS_PRIVATE as u64,
        userns_fd: 0,
    };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    syscall!(
        nr_new::MOUNT_SETATTR,
        fd,
        s!("").ptr(),
        flags,
        &raw const attr,
        size_of::<MountAttr>()
    )
}
