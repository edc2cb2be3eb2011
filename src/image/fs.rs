//! Files by descriptor: one name at a time, never through a symbolic link. What lies in an unpacked layer is as hostile
//! as the layer was.

use super::bad;
use crate::error::Error;
use crate::rights;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Deepest directory: each level of a walk holds a descriptor.
pub(super) const DEPTH_MAX: usize = 256;

/// `name` as the kernel wants it. Names with NUL have been refused before.
pub(super) fn c_name(name: &[u8]) -> nix::Result<CString> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// Opens a directory by a path that the caller vouches for.
pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens `name` of `dir`, which may belong to one of the caller's sub-ids.
fn open_at(dir: impl AsFd, name: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    match openat(&dir, &*c_name(name)?, flags, Mode::empty()) {
        Err(Errno::EACCES) => rights::open(dir, name, flags.bits()),
        opened => opened,
    }
}

/// Opens the directory `name` of `dir` for reading; a link is ELOOP or ENOTDIR.
pub(super) fn open_dir_at(dir: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    open_at(dir, name, DIRECTORY)
}

/// Opens the directory `name` of `dir` only to walk on: it need not be readable.
pub(super) fn walk_dir_at(dir: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open_at(dir, name, flags)
}

/// Opens the regular file `name` of `dir`, waiting for nobody.
pub(super) fn open_file_at(dir: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(open_at(dir, name, flags)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{}` is no regular file", name.escape_ascii()),
        )),
    }
}

/// Makes the file `name` of `dir`, which must not be there.
pub(super) fn create_file_at(dir: impl AsFd, name: &[u8]) -> nix::Result<File> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, &*c_name(name)?, flags, Mode::from_bits_truncate(0o600)).map(File::from)
}

/// Makes the directory `name` of `dir`, mode 0700 whatever the umask, and opens it.
pub(super) fn make_dir_at(dir: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    mkdirat(&dir, &*c_name(name)?, Mode::S_IRWXU)?;
    match open_dir_at(&dir, name) {
        Err(Errno::EACCES) => {
            set_mode_at(&dir, name, 0o700)?;
            open_dir_at(&dir, name)
        }
        opened => opened,
    }
}

pub(super) fn stat_at(dir: impl AsFd, name: &[u8]) -> nix::Result<FileStat> {
    match fstatat(&dir, &*c_name(name)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::EACCES) => fstat(hold_at(dir, name)?),
        stat => stat,
    }
}

/// Where the symbolic link `name` of `dir` leads.
pub(super) fn read_link_at(dir: impl AsFd, name: &[u8]) -> nix::Result<OsString> {
    match readlinkat(&dir, &*c_name(name)?) {
        Err(Errno::EACCES) => readlinkat(hold_at(dir, name)?, c""),
        led => led,
    }
}

/// The type bits of a mode.
pub(super) fn type_of(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

pub(super) fn is_dir(stat: &FileStat) -> bool {
    type_of(stat) == libc::S_IFDIR
}

/// Whether it is an overlay's whiteout: a character device with number 0.
pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    type_of(stat) == libc::S_IFCHR && stat.st_rdev == 0
}

pub(super) fn set_mode(fd: impl AsFd, mode: u32) -> nix::Result<()> {
    fchmod(fd, Mode::from_bits_truncate(mode))
}

/// Holds `name` itself, whatever it is, without opening it.
pub(super) fn hold_at(dir: impl AsFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open_at(dir, name, flags)
}

/// Sets the mode of what is held, which must not be a symbolic link.
pub(super) fn set_mode_of(held: &OwnedFd, mode: u32) -> nix::Result<()> {
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(AT_FDCWD, &*through_proc(held.as_fd()), mode, follow)
}

/// Sets the mode of what is not a symbolic link.
pub(super) fn set_mode_at(dir: impl AsFd, name: &[u8], mode: u32) -> nix::Result<()> {
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    fchmodat(dir, &*c_name(name)?, Mode::from_bits_truncate(mode), follow)
}

/// Gives `name` itself, link or not, to others.
pub(super) fn set_owner_at(
    dir: impl AsFd,
    name: &[u8],
    (user, group): (u32, u32),
) -> nix::Result<()> {
    let ids = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    fchownat(
        dir,
        &*c_name(name)?,
        ids.0,
        ids.1,
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
}

pub(super) fn set_owner(fd: impl AsFd, (user, group): (u32, u32)) -> nix::Result<()> {
    fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
}

fn times((seconds, nanos): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, i64::from(nanos))
}

/// Sets both times of `name` itself, link or not.
pub(super) fn set_time_at(dir: impl AsFd, name: &[u8], mtime: (i64, u32)) -> nix::Result<()> {
    let (time, flags) = (times(mtime), UtimensatFlags::NoFollowSymlink);
    utimensat(dir, &*c_name(name)?, &time, &time, flags)
}

pub(super) fn set_time(fd: impl AsFd, mtime: (i64, u32)) -> nix::Result<()> {
    let time = times(mtime);
    nix::sys::stat::futimens(fd, &time, &time)
}

/// The names in the directory that `fd` is open on for reading, sorted.
pub(super) fn names(fd: impl AsFd) -> nix::Result<Vec<CString>> {
    let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let mut names = Vec::new();
    // Not by fdopendir(3), through which nix loses the descriptor where that fails. It is opened anew, for a position of
    // its own.
    let path = through_proc(fd.as_fd());
    match std::fs::read_dir(OsStr::from_bytes(path.as_bytes())) {
        Err(e) if rights::denied(&e) => {
            let own = open_at(fd, b".", DIRECTORY)?;
            for name in rights::listed(own).map_err(errno)? {
                names.push(c_name(name.as_bytes())?);
            }
        }
        entries => {
            for entry in entries.map_err(errno)? {
                let name = entry.map_err(errno)?.file_name();
                names.push(c_name(name.as_bytes())?);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The components of a path in an image: `/` in front and `.` mean nothing, `..` is refused.
pub(super) fn components<'a>(path: &'a [u8], what: &str) -> Result<Vec<&'a [u8]>, Error> {
    let refuse = |why: &str| {
        Err(bad(
            "path",
            format!("{what} `{}` {why}", path.escape_ascii()),
        ))
    };
    let mut parts = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return refuse("leaves its directory with `..`"),
            _ if part.len() > 255 => return refuse("has a name of more than 255 bytes"),
            _ => parts.push(part),
        }
    }
    match parts.len() > DEPTH_MAX {
        true => refuse("has too many directories in it"),
        false => Ok(parts),
    }
}

/// Removes `name` of `dir` and all that is below it, however it is protected.
pub(super) fn remove_tree(dir: impl AsFd, name: &[u8]) -> nix::Result<()> {
    match remove_own(&dir, name) {
        // Not the caller's to remove; of sub-ids of the caller's, it may be.
        Err(Errno::EACCES | Errno::EPERM) => rights::remove(dir, name),
        removed => removed,
    }
}

fn remove_own(dir: impl AsFd, name: &[u8]) -> nix::Result<()> {
    let c = c_name(name)?;
    let unlinked = unlinkat(&dir, &*c, UnlinkatFlags::NoRemoveDir);
    match unlinked {
        // EPERM is what POSIX, and some file systems, say of a directory.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        done => return done,
    }
    let open = || openat(&dir, &*c, DIRECTORY, Mode::empty());
    let opened = match open() {
        Err(Errno::EACCES) => {
            set_mode_at(&dir, name, 0o700)?;
            open()?
        }
        // It is none, but somebody else's in a directory with the sticky bit.
        Err(Errno::ENOTDIR | Errno::ELOOP) => return unlinked,
        opened => opened?,
    };
    clear(&opened)?;
    unlinkat(&dir, &*c, UnlinkatFlags::RemoveDir)
}

/// Removes everything in `dir`.
pub(super) fn clear(dir: &OwnedFd) -> nix::Result<()> {
    let mut changed = false;
    for name in names(dir)? {
        match remove_own(dir, name.to_bytes()) {
            Err(Errno::EACCES) if !changed => {
                set_mode(dir, 0o700)?;
                changed = true;
                remove_own(dir, name.to_bytes())?;
            }
            Err(Errno::ENOENT) => {}
            done => done?,
        }
    }
    Ok(())
}

/// A path for calls that want one: through `/proc`, so that it is the open file and nothing else.
fn through_proc(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("no NUL")
}

/// Sets an extended attribute of an open file or directory.
pub(super) fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> nix::Result<()> {
    let name = c_name(name)?;
    // SAFETY: the name ends with NUL and the value has the length given; both live through the call.
    let status = unsafe {
        libc::fsetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(status).map(drop)
}

/// An extended attribute, or none if there is no such.
pub(super) fn xattr(fd: impl AsFd, name: &CStr) -> nix::Result<Option<Vec<u8>>> {
    // Descriptors to walk on have no attributes of their own, so the path through /proc is asked.
    let path = through_proc(fd.as_fd());
    let mut value = vec![0; 256];
    loop {
        // SAFETY: both texts end with NUL; the buffer is as long as is said.
        let n = unsafe {
            libc::getxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        match Errno::result(n) {
            Ok(n) => {
                value.truncate(n as usize);
                return Ok(Some(value));
            }
            Err(Errno::ERANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(None),
            Err(Errno::EACCES) => return rights::attribute(fd, name),
            Err(errno) => return Err(errno),
        }
    }
}

/// The extended attributes of an open file or directory, with their values, sorted.
pub(super) fn xattrs(fd: impl AsFd) -> nix::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = through_proc(fd.as_fd());
    let mut list = vec![0u8; 1 << 16];
    // SAFETY: the path ends with NUL; the buffer is as long as is said.
    let n = unsafe { libc::listxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    let n = match Errno::result(n) {
        Ok(n) => n as usize,
        Err(Errno::EOPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    for name in list[..n].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if let Some(value) = xattr(&fd, &c_name(name)?)? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}

/// The attributes that mark a directory whose lower layers are hidden: for overlayfs mounted with `userxattr`, which
/// newer versions of fuse-overlayfs read too, and for its older ones.
pub(super) const OPAQUE: [&CStr; 2] = [c"user.overlay.opaque", c"user.fuseoverlayfs.opaque"];

/// Whether `fd` is a directory that hides what is below it.
pub(super) fn is_opaque(fd: impl AsFd) -> nix::Result<bool> {
    for name in OPAQUE {
        if xattr(&fd, name)?.is_some_and(|value| value == b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes an open directory hide what is below it.
pub(super) fn set_opaque(fd: impl AsFd) -> nix::Result<()> {
    OPAQUE
        .iter()
        .try_for_each(|name| set_xattr(&fd, name.to_bytes(), b"y"))
}

/// Whether `name` is one by which an overlay, or a tool around it, would be told something.
pub(super) fn is_overlay_xattr(name: &[u8]) -> bool {
    [
        &b"user.overlay."[..],
        b"user.fuseoverlayfs.",
        b"user.containers.",
        b"trusted.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// What `path` is called in messages.
pub(super) fn shown(path: &Path) -> String {
    format!("`{}`", path.as_os_str().as_bytes().escape_ascii())
}
