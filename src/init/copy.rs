//! A root that is a copy: layers, one over the other, on the sandbox's own tmpfs. On descriptors throughout and never
//! through a symbolic link, since whoever made the layers may mean harm.

use crate::files::{for_names, open_dir};
use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// How deep directories may lie in each other.
const DEPTH_MAX: usize = 200;

/// What may still be copied, where no file system holds it to that; and who is told that it goes on.
pub struct Room<'a> {
    pub bytes: u64,
    pub inodes: u64,
    pub meanwhile: &'a mut dyn FnMut(),
}

impl Room<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        (self.meanwhile)();
        self.bytes = self.bytes.checked_sub(bytes).ok_or(ENOSPC)?;
        self.inodes = self.inodes.checked_sub(1).ok_or(ENOSPC)?;
        Ok(())
    }
}

/// Copies the directories of `/lower` that `names` has, the highest first and separated by `:`, over each other to `to`.
pub fn layers(names: &[u8], to: Str, room: &mut Room) -> Result<()> {
    let to = open_dir(AT_FDCWD, to)?;
    let copied = names.rsplit(|b| *b == b':').try_for_each(|name| {
        let path = Text::<64>::new().add(b"/lower/").add(name);
        let from = open_dir(AT_FDCWD, path.text())?;
        let copied = merge(from, to, DEPTH_MAX, room);
        close(from);
        copied
    });
    close(to);
    copied
}

/// Puts what is in `from` over what is in `to`.
fn merge(from: Fd, to: Fd, depth: usize, room: &mut Room) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(ELOOP)?;
    for_names(from, |name| {
        let seen = fstatat(from, name)?;
        match seen.mode() & S_IFMT {
            S_IFDIR => directory(from, to, name, &seen, depth, room),
            S_IFREG => {
                remove(to, name, depth)?;
                room.take(seen.size())?;
                file(from, to, name, &seen, room)
            }
            S_IFLNK => {
                remove(to, name, depth)?;
                room.take(0)?;
                let mut buffer = [0; 4096];
                let length = readlinkat(from, name, &mut buffer[..4095])?;
                let (target, _) = Str::split(&buffer[..=length]).ok_or(EPROTO)?;
                symlinkat(target, to, name)?;
                own(to, name, &seen)
            }
            S_IFIFO => {
                remove(to, name, depth)?;
                room.take(0)?;
                mkfifoat(to, name, seen.mode() & 0o777)?;
                own(to, name, &seen)
            }
            // There is nothing here any more.
            S_IFCHR if seen.rdev() == 0 => remove(to, name, depth),
            _ => Ok(()), // a device or a socket, which would be of no use
        }
    })
}

fn directory(
    from: Fd,
    to: Fd,
    name: Str,
    seen: &Stat,
    depth: usize,
    room: &mut Room,
) -> Result<()> {
    room.take(0)?;
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
        let merged = merge(source, target, depth, room)
            .and_then(|()| own(target, s!(""), seen))
            .and_then(|()| fchmod(target, seen.mode() & 0o1777));
        set_time(target, seen.modified());
        close(target);
        merged.map(|_| ())
    })();
    close(source);
    made
}

fn file(from: Fd, to: Fd, name: Str, seen: &Stat, room: &mut Room) -> Result<()> {
    let source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)?;
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let made = openat(to, name, flags, 0o600).and_then(|target| {
        // Where the file system can have two files share their blocks, they do.
        let copied = share(source, target)
            .map(|_| ())
            .or_else(|_| copy_all(source, target, &mut *room.meanwhile))
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
