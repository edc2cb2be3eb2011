//! Removing what a program has left on a disk. It may be of any depth, so directories that lie deep are moved up instead of
//! being gone into: two descriptors are enough, and no path is longer than a name. It may be of any mode, so who removes
//! gives himself all rights first: without namespaces he has no others than the program had.

use crate::files::{Opened, for_names};
use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// Removes the directory `dir` is, which its parent knows as `name`, and everything in it.
pub fn tree(dir: Fd, name: Str) -> Result<()> {
    close(open_dir(dir, s!("."))?);
    empty(dir)?;
    let parent = openat(dir, s!(".."), O_PATH | O_DIRECTORY, 0)?;
    let removed = unlinkat(parent, name, AT_REMOVEDIR);
    close(parent);
    gone(removed.map(|_| ()))
}

/// What is not there has been removed.
fn gone(result: Result<()>) -> Result<()> {
    match result {
        Err(ENOENT) => Ok(()),
        result => result,
    }
}

/// Opens a directory, with all rights.
fn open_dir(dir: Fd, name: Str) -> Result<Fd> {
    const ALL: u32 = 0o700;
    let opened = match name.bytes() {
        b"." => Opened::of(dir, ALL),
        _ => Opened::new(dir, name, ALL),
    };
    opened.map(|opened| opened.fd)
}

/// Removes everything in `top`. What cannot be does not keep the rest from being removed.
fn empty(top: Fd) -> Result<()> {
    let mut moved = 0;
    let mut again_most = 1000;
    loop {
        let (mut some, mut fault) = (false, None);
        let mut left = 0u64;
        let dir = open_dir(top, s!("."))?;
        let listed = for_names(dir, |name| {
            some = true;
            if let Err(errno) = entry(top, name, &mut moved) {
                fault = Some(errno);
                left += 1;
            }
            Ok(())
        });
        close(dir);
        gone(listed)?;
        match fault {
            None if !some => return Ok(()),
            // Another removes the same: what lay in it before a reset.
            Some(ENOTEMPTY) if again_most > 0 => {
                again_most -= 1;
                sleep(1_000_000);
            }
            // Moved up by this pass, they are the next one's.
            Some(errno) if left > 0 && !again(top, left)? => return Err(errno),
            _ => {}
        }
    }
}

/// Whether `top` has more than so many names.
fn again(top: Fd, left: u64) -> Result<bool> {
    let dir = open_dir(top, s!("."))?;
    let mut names = 0;
    let listed = for_names(dir, |_| {
        names += 1;
        Ok(())
    });
    close(dir);
    gone(listed).map(|()| names > left)
}

/// Removes one entry; directories in it that are not empty go to `top`.
fn entry(top: Fd, name: Str, moved: &mut u64) -> Result<()> {
    if one(top, name)? {
        return Ok(());
    }
    let inner = match open_dir(top, name) {
        Err(ENOENT) => return Ok(()),
        inner => inner?,
    };
    let emptied = for_names(inner, |child| match one(inner, child) {
        Ok(true) => Ok(()),
        Ok(false) => move_up(inner, child, top, moved),
        Err(errno) => Err(errno),
    });
    close(inner);
    gone(emptied)?;
    one(top, name)?.then_some(()).ok_or(ENOTEMPTY)
}

/// Removes a file or an empty directory; false if it is one that is not empty.
fn one(dir: Fd, name: Str) -> Result<bool> {
    match unlinkat(dir, name, 0) {
        Ok(_) | Err(ENOENT) => return Ok(true),
        Err(EISDIR) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(dir, name, AT_REMOVEDIR) {
        Ok(_) | Err(ENOENT) => Ok(true),
        Err(ENOTEMPTY | EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn move_up(dir: Fd, name: Str, top: Fd, moved: &mut u64) -> Result<()> {
    let mut opened = false;
    loop {
        *moved += 1;
        let new = Text::<32>::new().add(b"moved-").number(*moved);
        match renameat(dir, name, top, new.text()) {
            Ok(_) | Err(ENOENT) => return Ok(()),
            Err(EEXIST | ENOTEMPTY | ENOTDIR) => {} // the program has one of that name
            // Without a right to write in it, it stays where it is.
            Err(EACCES) if !opened => {
                opened = true;
                close(open_dir(dir, name)?);
            }
            Err(errno) => return Err(errno),
        }
    }
}
