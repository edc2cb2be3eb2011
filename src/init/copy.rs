//! A root that is a copy: layers, one over the other, on the sandbox's own tmpfs. On descriptors throughout and never
//! through a symbolic link, since whoever made the layers may mean harm.

use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// How deep directories may lie in each other.
const DEPTH_MAX: usize = 200;

/// Copies the directories of `/lower` that `names` has, the highest first and separated by `:`, over each other to `to`.
pub fn layers(names: &[u8], to: Str) -> Result<()> {
    let to = open_dir(AT_FDCWD, to)?;
    let copied = names.rsplit(|b| *b == b':').try_for_each(|name| {
        let path = Text::<64>::new().add(b"/lower/").add(name);
        let from = open_dir(AT_FDCWD, path.text())?;
        let copied = merge(from, to, DEPTH_MAX);
        close(from);
        copied
    });
    close(to);
    copied
}

fn open_dir(dir: Fd, path: Str) -> Result<Fd> {
    openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
}

/// Calls `each` for every name in a directory, but `.` and `..`.
fn for_names(dir: Fd, mut each: impl FnMut(Str) -> Result<()>) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let filled = getdents(dir, &mut buffer)?;
        if filled == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..filled];
        while !rest.is_empty() {
            // Inode and offset, 8 bytes each, the record's length, 2, the type, 1, then the name.
            let length = match rest.get(16..18) {
                Some(length) => u16::from_ne_bytes([length[0], length[1]]) as usize,
                None => return Err(EPROTO),
            };
            let (Some(record), Some(next)) = (rest.get(19..length), rest.get(length..)) else {
                return Err(EPROTO);
            };
            rest = next;
            let (name, _) = Str::split(record).ok_or(EPROTO)?;
            if name.bytes() != b"." && name.bytes() != b".." {
                each(name)?;
            }
        }
    }
}

/// Puts what is in `from` over what is in `to`.
fn merge(from: Fd, to: Fd, depth: usize) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(ELOOP)?;
    for_names(from, |name| {
        let seen = fstatat(from, name)?;
        match seen.mode() & S_IFMT {
            S_IFDIR => directory(from, to, name, &seen, depth),
            S_IFREG => {
                remove(to, name, depth)?;
                file(from, to, name, &seen)
            }
            S_IFLNK => {
                remove(to, name, depth)?;
                let mut room = [0; 4096];
                let length = readlinkat(from, name, &mut room[..4095])?;
                let (target, _) = Str::split(&room[..=length]).ok_or(EPROTO)?;
                symlinkat(target, to, name)?;
                own(to, name, &seen)
            }
            S_IFIFO => {
                remove(to, name, depth)?;
                mkfifoat(to, name, seen.mode() & 0o777)?;
                own(to, name, &seen)
            }
            // There is nothing here any more.
            S_IFCHR if seen.rdev() == 0 => remove(to, name, depth),
            _ => Ok(()), // a device or a socket, which would be of no use
        }
    })
}

fn directory(from: Fd, to: Fd, name: Str, seen: &Stat, depth: usize) -> Result<()> {
    let source = open_dir(from, name)?;
    let made = (|| {
        if is_opaque(source) {
            remove(to, name, depth)?;
        }
        match mkdirat(to, name, 0o700) {
            Ok(_) => {}
            Err(EEXIST) if fstatat(to, name)?.mode() & S_IFMT == S_IFDIR => {}
            Err(EEXIST) => {
                remove(to, name, depth)?;
                mkdirat(to, name, 0o700)?;
            }
            Err(e) => return Err(e),
        }
        let target = open_dir(to, name)?;
        let merged = merge(source, target, depth)
            .and_then(|()| own(target, s!(""), seen))
            .and_then(|()| fchmod(target, seen.mode() & 0o1777));
        set_time(target, seen.modified());
        close(target);
        merged.map(|_| ())
    })();
    close(source);
    made
}

fn file(from: Fd, to: Fd, name: Str, seen: &Stat) -> Result<()> {
    let source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)?;
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let made = openat(to, name, flags, 0o600).and_then(|target| {
        let copied = copy_all(source, target)
            .and_then(|()| own(target, s!(""), seen))
            .and_then(|()| fchmod(target, seen.mode() & 0o777));
        set_time(target, seen.modified());
        close(target);
        copied.map(|_| ())
    });
    close(source);
    made
}

/// Gives it the owner that it should have; one that the sandbox does not know is left away.
fn own(dir: Fd, name: Str, seen: &Stat) -> Result<()> {
    match fchownat(dir, name, seen.user(), seen.group()) {
        Ok(_) | Err(EINVAL) => Ok(()),
        Err(e) => Err(e),
    }
}

fn is_opaque(dir: Fd) -> bool {
    let mut value = [0; 4];
    [s!("user.overlay.opaque"), s!("user.fuseoverlayfs.opaque")]
        .iter()
        .any(|name| fgetxattr(dir, *name, &mut value) == Ok(1) && value[0] == b'y')
}

/// Removes `name` and all that is in it, if it is there.
fn remove(dir: Fd, name: Str, depth: usize) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(ELOOP)?;
    match unlinkat(dir, name, 0) {
        Ok(_) | Err(ENOENT) => return Ok(()),
        Err(EISDIR) => {}
        Err(e) => return Err(e),
    }
    loop {
        let inner = open_dir(dir, name)?;
        let mut some = false;
        let emptied = for_names(inner, |name| {
            some = true;
            remove(inner, name, depth)
        });
        close(inner);
        emptied?;
        if !some {
            return unlinkat(dir, name, AT_REMOVEDIR).map(|_| ());
        }
    }
}
