//! Files of sub-ids, for the host: what it has unpacked into its store and given to those who are its programs' users it
//! may neither read nor remove itself. A child of the supervisor's, which has every right over them and over nothing else,
//! does so: on descriptors that the host opened, and on names below those, one at a time and never through a link.

use crate::files::{open_below, open_dir};
use crate::mem::{bytes_of, read_of};
use crate::plan::{Text, text};
use crate::remove;
use crate::s;
use crate::sys::*;
use crate::wire::*;

/// Where it has its socket.
pub const SOCKET: Fd = 3;

/// What the host may open files for: to look at and to read.
const FLAGS: usize = O_RDONLY | O_PATH | O_DIRECTORY | O_NONBLOCK;

/// Does what is asked, one after another, until nobody can ask any more.
pub fn serve() -> ! {
    let mut buffer = [0; size_of::<Ask>() + 8192];
    let mut body = [0; ANSWER_MAX];
    loop {
        let mut fds = [-1; FDS_MAX];
        let Ok((n @ 1.., count)) = receive(SOCKET, &mut buffer, &mut fds, true) else {
            exit(0)
        };
        let (mut opened, mut length) = (-1, 0);
        let errno = match answer(&buffer[..n], &fds[..count], &mut body) {
            Ok(Done::Opened(fd)) => {
                opened = fd;
                0
            }
            Ok(Done::Read(n)) => {
                length = n;
                0
            }
            Ok(Done::All) => 0,
            Err(errno) => errno,
        };
        let head = Failure {
            kind: ANSWER,
            section: 0,
            index: 0,
            errno: errno as u32,
        };
        let pass = [opened];
        let pass = if opened < 0 { &pass[..0] } else { &pass[..] };
        let said = send(SOCKET, bytes_of(&head), &body[..length], pass, true);
        close(opened);
        fds[..count].iter().for_each(|fd| close(*fd));
        if said.is_err() {
            exit(0)
        }
    }
}

enum Done {
    All,
    Opened(Fd),
    Read(usize),
}

fn answer(bytes: &[u8], fds: &[Fd], body: &mut [u8]) -> Result<Done> {
    let ask: Ask = read_of(bytes).ok_or(EPROTO)?;
    let path = text(bytes.get(size_of::<Ask>()..).ok_or(EPROTO)?)?;
    let at = *fds.first().ok_or(EPROTO)?;
    match ask.kind {
        OPEN_AT => {
            let flags = ask.arg as usize;
            if flags & !FLAGS != 0 {
                return Err(EINVAL);
            }
            open_below(at, s!("."), path.bytes(), flags).map(Done::Opened)
        }
        ATTRIBUTE => attribute(at, path, body).map(Done::Read),
        GIVE => {
            let list = *fds.get(1).ok_or(EPROTO)?;
            if ask.offset > 0 {
                // Sealed against shrinking.
                let memory = map_private(list, ask.offset as usize)?;
                let given = give(at, memory);
                unmap(memory);
                given?;
            }
            Ok(Done::All)
        }
        REMOVE_TREE => remove_tree(at, path).map(|()| Done::All),
        _ => Err(EPROTO),
    }
}

fn attribute(fd: Fd, name: Str, body: &mut [u8]) -> Result {
    match fgetxattr(fd, name, body) {
        // Open only to walk on.
        Err(EBADF) => {
            let dir = open_dir(fd, s!("."))?;
            let got = fgetxattr(dir, name, body);
            close(dir);
            got
        }
        got => got,
    }
}

/// Gives all that `list` names. The set-id bits that this would clear no unpacked file has.
fn give(top: Fd, mut list: &[u8]) -> Result<()> {
    let mut parent: (&[u8], Fd) = (b"", -1);
    let mut done = Ok(());
    while !list.is_empty() && done.is_ok() {
        done = give_one(top, &mut list, &mut parent);
    }
    close(parent.1);
    done
}

/// The first of them; `parent` is the directory that the last one was in.
fn give_one<'a>(top: Fd, list: &mut &'a [u8], parent: &mut (&'a [u8], Fd)) -> Result<()> {
    let number = |from: usize| -> Result<u32> {
        let bytes = list.get(from..from + 4).ok_or(EPROTO)?;
        bytes.try_into().map(u32::from_ne_bytes).map_err(|_| EPROTO)
    };
    let (user, group) = (number(0)?, number(4)?);
    let (path, rest) = Str::split(&list[8..]).ok_or(EPROTO)?;
    *list = rest;
    let path: &'a [u8] = path.bytes();
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    if name == b".." || name == b"." || name.len() > 255 {
        return Err(EINVAL);
    }
    if dir != parent.0 || parent.1 < 0 {
        close(parent.1);
        parent.1 = -1;
        parent.1 = open_below(top, s!("."), dir, O_PATH | O_DIRECTORY)?;
        parent.0 = dir;
    }
    let name = Text::<256>::new().add(name);
    fchownat(parent.1, name.text(), user, group).map(|_| ())
}

/// Removes a file, or a directory with all that is in it.
fn remove_tree(dir: Fd, name: Str) -> Result<()> {
    if name.bytes().contains(&b'/') || matches!(name.bytes(), b"" | b"." | b"..") {
        return Err(EINVAL);
    }
    match unlinkat(dir, name, 0) {
        Ok(_) | Err(ENOENT) => return Ok(()),
        Err(EISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let tree = match open_dir(dir, name) {
        Err(ENOENT) => return Ok(()), // another was faster
        tree => tree?,
    };
    let removed = remove::tree(tree, name);
    close(tree);
    removed
}
