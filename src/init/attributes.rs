//! Mount attributes where mount_setattr(2) is missing (before Linux 5.12): one mount after another, each when it is
//! attached, since mount(2) takes none that is not.

use crate::files;
use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// Adds `attributes` to the mount at `path` and, with `recursive`, to all below, and makes them private. The path is
/// absolute, and /proc must be mounted. A path where nothing is mounted is an error.
pub fn restrict(path: &[u8], attributes: u64, recursive: bool) -> Result<()> {
    let propagation = MS_PRIVATE | if recursive { MS_REC } else { 0 };
    change(path, |_| propagation)?;
    let mut found = false;
    for_mount_points(|mount_point| {
        let below = remainder(mount_point, path);
        if below == Some(0) || (recursive && below.is_some()) {
            add(mount_point, attributes)?;
            found |= below == Some(0);
        }
        Ok(())
    })?;
    if found { Ok(()) } else { Err(ENOENT) }
}

/// Calls `each` for where each mount is.
fn for_mount_points(mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let list = openat(AT_FDCWD, s!("/proc/self/mountinfo"), O_RDONLY, 0)?;
    let result = for_listed(list, &mut each);
    close(list);
    result
}

fn for_listed(list: Fd, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        // Whole lines, as many as there are; a line has at most two paths of 4096 bytes, but then none of ours.
        let n = read(list, &mut buffer[filled..])?;
        filled += n;
        let mut done = 0;
        while let Some(end) = buffer[done..filled].iter().position(|b| *b == b'\n') {
            let mut room = [0; 4096];
            each(mount_point(&buffer[done..done + end], &mut room))?;
            done += end + 1;
        }
        if n == 0 {
            return Ok(());
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if filled == buffer.len() {
            return Err(E2BIG);
        }
    }
}

/// Whether anything is mounted below `path`, which is absolute.
pub fn is_mounted_below(path: &[u8]) -> Result<bool> {
    let mut below = false;
    for_mount_points(|mount_point| {
        below |= remainder(mount_point, path).is_some_and(|rest| rest > 0);
        Ok(())
    })?;
    Ok(below)
}

/// How many components `path` has below `top`; `None` if it is not there. However either is written.
fn remainder(path: &[u8], top: &[u8]) -> Option<usize> {
    let mut left = parts(path);
    for part in parts(top) {
        if left.next() != Some(part) {
            return None;
        }
    }
    Some(left.count())
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// The fifth field of a line of mountinfo, with its octal escapes undone.
fn mount_point<'r>(line: &[u8], room: &'r mut [u8; 4096]) -> &'r [u8] {
    let mut field = line.split(|b| *b == b' ').nth(4).unwrap_or(b"");
    let mut len = 0;
    while let (Some((first, rest)), true) = (field.split_first(), len < room.len()) {
        (room[len], field) = match (*first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), rest)
            }
            _ => (*first, rest),
        };
        len += 1;
    }
    &room[..len]
}

/// Adds attributes to one mount. Those that it has must be named again: some are locked, and the rest should stay.
fn add(mount_point: &[u8], attributes: u64) -> Result<()> {
    // The first four attributes, statfs(2)'s flags and mount(2)'s are the same bits.
    const ALL: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    change(mount_point, |has| {
        MS_REMOUNT | MS_BIND | (has & ALL | attributes) as usize
    })
}

/// Calls mount(2), with the flags that `flags` makes of those that the mount has, on a name that leads through no
/// symbolic link.
fn change(mount_point: &[u8], flags: impl FnOnce(u64) -> usize) -> Result<()> {
    let fd = files::open(mount_point, O_PATH)?;
    let name = Text::<40>::new().add(b"/proc/self/fd/").number(fd as u64);
    let changed =
        fstatfs(fd).and_then(|fs| mount(s!("none"), name.text(), s!(""), flags(fs.flags), s!("")));
    close(fd);
    changed.map(|_| ())
}
