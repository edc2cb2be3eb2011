//! Paths inside a sandbox, where hostile programs may have been: walked one component at a time, never through a
//! symbolic link.

use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// Opens `path` component by component with `flags`; `..` is refused.
pub fn open(path: &[u8], flags: usize) -> Result<Fd> {
    open_below(AT_FDCWD, s!("/"), path, flags)
}

/// The same with the directory `top` in `dir` as the root.
pub fn open_below(dir: Fd, top: Str, path: &[u8], flags: usize) -> Result<Fd> {
    let top = openat(dir, top, O_PATH | O_DIRECTORY, 0)?;
    let (dir, name) = parent_below(top, path, false)?;
    let result = match name {
        None => openat(dir, s!("."), flags | O_NOFOLLOW, 0),
        Some(name) => openat(dir, name.text(), flags | O_NOFOLLOW, 0),
    };
    close(dir);
    result
}

/// Makes directory `path` and its parents.
pub fn make_dirs(path: &[u8], mode: u32) -> Result<()> {
    let (dir, name) = parent(path, true)?;
    let result = match name {
        None => Ok(0),
        Some(name) => mkdirat(dir, name.text(), mode),
    };
    close(dir);
    match result {
        Ok(_) | Err(EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes file `path` anew, with its parents; what was there is replaced, never written through. Of what is long
/// `meanwhile` is called between two parts.
pub fn make_file(
    path: &[u8],
    mode: u32,
    content: &[u8],
    meanwhile: &mut dyn FnMut(),
) -> Result<()> {
    let (dir, name) = parent(path, true)?;
    let result = match name {
        None => Err(EINVAL),
        Some(name) => create_with(dir, name.text(), mode, |fd| {
            content.chunks(SLICE).try_for_each(|part| {
                write_all(fd, part)?;
                meanwhile();
                Ok(())
            })
        }),
    };
    close(dir);
    result
}

/// The same with the content of a regular file.
pub fn copy_file(path: &[u8], mode: u32, content: Fd, meanwhile: &mut dyn FnMut()) -> Result<()> {
    if fstat(content)?.mode() & S_IFMT != S_IFREG {
        return Err(EINVAL); // it could keep us waiting
    }
    let (dir, name) = parent(path, true)?;
    let result = match name {
        None => Err(EINVAL),
        Some(name) => create_with(dir, name.text(), mode, |fd| {
            copy_all(content, fd, meanwhile)
        }),
    };
    close(dir);
    result
}

/// Makes the symbolic link `path` anew, with its parents.
pub fn make_link(path: &[u8], target: Str) -> Result<()> {
    let (dir, name) = parent(path, true)?;
    let result = match name {
        None => Err(EINVAL),
        Some(name) => match symlinkat(target, dir, name.text()) {
            Err(EEXIST) => {
                unlinkat(dir, name.text(), 0).and_then(|_| symlinkat(target, dir, name.text()))
            }
            result => result,
        },
    };
    close(dir);
    result.map(|_| ())
}

fn create_with(dir: Fd, name: Str, mode: u32, write: impl FnOnce(Fd) -> Result<()>) -> Result<()> {
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let fd = match openat(dir, name, flags, 0o600) {
        Err(EEXIST) => {
            unlinkat(dir, name, 0)?;
            openat(dir, name, flags, 0o600)?
        }
        other => other?,
    };
    let done = write(fd).and_then(|()| fchmod(fd, mode));
    close(fd);
    done.map(|_| ())
}

type Name = Text<256>;

/// The directory that `path` lies in, made if `make`, and the last component (`None` for the root itself).
fn parent(path: &[u8], make: bool) -> Result<(Fd, Option<Name>)> {
    let top = openat(AT_FDCWD, s!("/"), O_PATH | O_DIRECTORY, 0)?;
    parent_below(top, path, make)
}

/// The same from `dir`, which is closed.
fn parent_below(mut dir: Fd, path: &[u8], make: bool) -> Result<(Fd, Option<Name>)> {
    let mut parts = path
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .peekable();
    while let Some(part) = parts.next() {
        if part == b".." || part.len() > 255 {
            close(dir);
            return Err(EINVAL);
        }
        let name = Name::new().add(part);
        if parts.peek().is_none() {
            return Ok((dir, Some(name)));
        }
        let flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
        let mut next = openat(dir, name.text(), flags, 0);
        if next == Err(ENOENT) && make {
            next = match mkdirat(dir, name.text(), 0o755) {
                Ok(_) | Err(EEXIST) => openat(dir, name.text(), flags, 0),
                Err(e) => Err(e),
            };
        }
        close(dir);
        dir = next?;
    }
    Ok((dir, None))
}

pub fn open_dir(dir: Fd, path: Str) -> Result<Fd> {
    openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
}

/// A directory that is walked whatever its mode: whoever made it may have taken all rights away, his own and so ours.
pub struct Opened {
    /// For reading.
    pub fd: Fd,
    /// Its mode before, if it had to be changed, and the mode that it has now.
    changed: Option<(u32, u32)>,
}

impl Opened {
    /// Opens directory `name` in `dir`, and sees to it that it has the `rights` (as of a mode) for its owner.
    pub fn new(dir: Fd, name: Str, rights: u32) -> Result<Opened> {
        let path = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?;
        let opened = Opened::of(path, rights);
        close(path);
        opened
    }

    /// The same of the directory that `path` is open on.
    pub fn of(path: Fd, rights: u32) -> Result<Opened> {
        let may = |fd: Fd| match rights & 0o200 {
            // To search needs a right of its own; to write only a try would tell.
            0 => openat(fd, s!("."), O_PATH, 0).map(close),
            _ => Err(EACCES),
        };
        let mode = fstat(path)?.mode() & 0o7777;
        let open = || openat(path, s!("."), O_RDONLY | O_DIRECTORY, 0);
        if mode & rights == rights {
            return open().map(|fd| Opened { fd, changed: None });
        }
        // As one that may walk everything, where there are namespaces, we change nothing.
        if let (Ok(fd), Ok(())) = (open(), may(path)) {
            return Ok(Opened { fd, changed: None });
        }
        let new = mode | rights;
        let changed = change_mode(path, new).map(|()| (mode, new)).ok();
        open().map(|fd| Opened { fd, changed })
    }

    /// Closes it, and gives it back the mode that it had, unless it has got another meanwhile.
    pub fn close(self) {
        if let Some((before, now)) = self.changed
            && fstat(self.fd).is_ok_and(|stat| stat.mode() & 0o7777 == now)
        {
            let _ = fchmod(self.fd, before);
        }
        close(self.fd);
    }
}

/// Changes the mode of what `fd`, opened for its path, is.
fn change_mode(fd: Fd, mode: u32) -> Result<()> {
    let changed = fchmod_path(fd, mode).or_else(|_| {
        let path = Text::<32>::new().add(b"/proc/self/fd/").number(fd as u64);
        fchmodat(AT_FDCWD, path.text(), mode)
    });
    changed.map(|_| ())
}

/// Calls `each` for every name in a directory, but `.` and `..`.
pub fn for_names(dir: Fd, mut each: impl FnMut(Str) -> Result<()>) -> Result<()> {
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
