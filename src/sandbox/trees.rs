//! Whole trees into a live sandbox and out of it. Both sides can be a program's: inside everything is looked up by init,
//! and directories of the host's, which may lie in a volume that another sandbox writes, are walked on descriptors.

use super::Sandbox;
use super::files::{Content, DEPTH_MAX, Entries, deeper, joined, stat_of};
use crate::error::Error;
use crate::plan::inside;
use crate::rights;
use crate::sparse;
use crate::wire::{GET_FILE, LIST, MAKE_DIR, MAKE_LINK, READ_LINK, STAT};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{linkat, symlinkat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Kinds of directory entries, as getdents64(2) has them.
const DT_DIR: u8 = 4;
const DT_REG: u8 = 8;
const DT_LNK: u8 = 10;

/// Longest file whose holes are copied where the file system does not say where they are.
const UNTOLD_MAX: u64 = 1 << 30;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

impl Sandbox {
    /// Copies a directory of the host into the sandbox as the directory `path`, over what is there: directories, regular
    /// files and symbolic links, with their permission bits. Anything else is left out. Symbolic links in `from` itself are
    /// followed, those that are found in it never, so it may be one that programs can write.
    ///
    /// # Errors
    /// As [`put`](Sandbox::put), and if the host's directory cannot be read or changes meanwhile. What was copied until then
    /// stays.
    pub fn put_tree(&self, path: &str, from: impl AsRef<Path>) -> Result<(), Error> {
        let path = inside(path, "put_tree")?;
        let from = from.as_ref();
        let dir = openat(AT_FDCWD, from, DIRECTORY, Mode::empty()).map_err(|e| {
            Error::system(format!("reading `{}`", from.display()), io::Error::from(e))
        })?;
        self.put_directory(path.as_bytes(), dir, from, DEPTH_MAX)
    }

    /// Copies a directory of the sandbox to `to` on the host, which must not be there yet: directories, regular files and
    /// symbolic links, with their permission bits, as files of the caller's; holes stay holes, and a file with several
    /// names has them in the copy, too. Anything else is left out. Links are made as they are and can lead anywhere: do
    /// not follow them. Programs that run meanwhile can have more copied than there is at any one time, without end:
    /// [`pause`](crate::Process::pause) them, or copy when none runs.
    ///
    /// # Errors
    /// As [`get`](Sandbox::get), and if something cannot be made on the host, or directories are more than 200 deep. What
    /// was copied until then stays.
    pub fn get_tree(&self, path: &str, to: impl AsRef<Path>) -> Result<(), Error> {
        let path = inside(path, "get_tree")?.into_bytes();
        let to = to.as_ref();
        let stat = stat_of(&self.about(STAT, 0, 0, &[&path], None)?)?;
        let top = made(to).map_err(|e| making(to, e))?;
        let mut way = WayOut {
            sandbox: self,
            top: &top,
            to,
            seen: HashMap::new(),
        };
        way.directory(&path, &stat, &top, Path::new(""), DEPTH_MAX)
    }

    fn put_directory(
        &self,
        path: &[u8],
        dir: OwnedFd,
        from: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let failed = |e: nix::Error| {
            Error::system(format!("reading `{}`", from.display()), io::Error::from(e))
        };
        let depth = deeper(depth, path)?;
        let mode = fstat(&dir).map_err(failed)?.st_mode;
        self.about(MAKE_DIR, mode & 0o777, 0, &[path], None)?;
        let unread = |e| Error::system(format!("reading `{}`", from.display()), e);
        for name in rights::names(&dir).map_err(unread)? {
            let inner = joined(path, name.as_bytes());
            let outer = from.join(&name);
            let failed = |e: nix::Error| {
                Error::system(format!("reading `{}`", outer.display()), io::Error::from(e))
            };
            match kind(
                &fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?,
            ) {
                libc::S_IFDIR => {
                    let dir = open_at(&dir, &name, DIRECTORY).map_err(failed)?;
                    self.put_directory(&inner, dir, &outer, depth)?;
                }
                libc::S_IFLNK => {
                    let target = readlinkat(&dir, name.as_os_str()).map_err(failed)?;
                    let strings = [&inner, target.as_bytes()];
                    self.about(MAKE_LINK, 0, 0, &strings, None)?;
                }
                libc::S_IFREG => {
                    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                    let file = open_at(&dir, &name, flags | OFlag::O_CLOEXEC).map_err(failed)?;
                    let stat = fstat(&file).map_err(failed)?;
                    if kind(&stat) == libc::S_IFREG {
                        self.put_file(&inner, file.as_fd(), stat.st_mode & 0o777)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens `name` itself: one that has become a link meanwhile is an error.
fn open_at(dir: impl AsFd, name: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(dir, name, flags | OFlag::O_NOFOLLOW, Mode::empty())
}

fn kind(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

fn making(path: &Path, e: impl Into<io::Error>) -> Error {
    Error::system(format!("making `{}`", path.display()), e.into())
}

/// Makes the directory `to`, and opens it.
fn made(to: &Path) -> nix::Result<OwnedFd> {
    let name = to.file_name().ok_or(nix::Error::EEXIST)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = openat(
        AT_FDCWD,
        parent.unwrap_or(Path::new(".")),
        flags,
        Mode::empty(),
    )?;
    made_at(&parent, name)
}

fn made_at(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    mkdirat(dir, name, Mode::S_IRWXU)?;
    open_at(dir, name, DIRECTORY)
}

/// A tree on its way out. Nothing of the copy is looked up by its path, which may have become a link meanwhile.
struct WayOut<'a> {
    sandbox: &'a Sandbox,
    top: &'a OwnedFd,
    /// What the copy is called, in messages.
    to: &'a Path,
    /// Where in the copy the first name of what has several is, by device and number.
    seen: HashMap<(u32, u32, u64), PathBuf>,
}

impl WayOut<'_> {
    /// Fills `dir`, which is at `below` in the copy, with what is in the directory `path`.
    fn directory(
        &mut self,
        path: &[u8],
        stat: &libc::statx,
        dir: &OwnedFd,
        below: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let depth = deeper(depth, path)?;
        for (name, kind) in self.entries(path)? {
            let inner = joined(path, &name);
            let name = OsStr::from_bytes(&name);
            let at = below.join(name);
            let failed = |e| making(&self.to.join(&at), e);
            match kind {
                DT_DIR => {
                    deeper(depth, &inner)?;
                    let stat = stat_of(&self.sandbox.about(STAT, 0, 0, &[&inner], None)?)?;
                    let new = made_at(dir, name).map_err(failed)?;
                    self.directory(&inner, &stat, &new, &at, depth)?;
                }
                DT_LNK => {
                    let target = self.sandbox.about(READ_LINK, 0, 0, &[&inner], None)?.body;
                    symlinkat(OsStr::from_bytes(&target), dir, name).map_err(failed)?;
                }
                DT_REG => self.file(&inner, dir, name, at)?,
                _ => {}
            }
        }
        // Only now, as it may take away our own right to make anything in it.
        let mode = Mode::from_bits_truncate(u32::from(stat.stx_mode) & 0o777);
        fchmod(dir, mode).map_err(|e| making(&self.to.join(below), e))
    }

    /// All at once, so that what programs make meanwhile does not keep us.
    fn entries(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, u8)>, Error> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let entries = self.sandbox.about(LIST, 0, offset, &[path], None)?.body;
            if entries.is_empty() {
                return Ok(all);
            }
            for (name, kind, next) in Entries(&entries) {
                offset = next;
                if name != b"." && name != b".." && !name.contains(&b'/') {
                    all.push((name.to_vec(), kind));
                }
            }
        }
    }

    fn file(&mut self, path: &[u8], dir: &OwnedFd, name: &OsStr, at: PathBuf) -> Result<(), Error> {
        let answer = self.sandbox.about(GET_FILE, 0, 0, &[path], None)?;
        let stat = stat_of(&answer)?;
        let failed = |e: io::Error| making(&self.to.join(&at), e);
        let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        if let Some(first) = self.seen.get(&key).filter(|_| stat.stx_nlink > 1) {
            return self
                .link(first, dir, name)
                .map_err(|e| failed(io::Error::from(e)));
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(u32::from(stat.stx_mode) & 0o777);
        let new = openat(dir, name, flags | OFlag::O_NOFOLLOW, mode).map_err(io::Error::from);
        let from = Content::new(self.sandbox, answer.file()?);
        new.and_then(|new| copy(from, &stat, &File::from(new)))
            .map_err(failed)?;
        if stat.stx_nlink > 1 {
            self.seen.insert(key, at);
        }
        Ok(())
    }

    /// Gives what is at `first` in the copy another name.
    fn link(&self, first: &Path, dir: &OwnedFd, name: &OsStr) -> nix::Result<()> {
        let own = first.file_name().ok_or(nix::Error::EINVAL)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut parent = open_at(self.top, OsStr::new("."), flags)?;
        for part in first.parent().into_iter().flatten() {
            parent = open_at(&parent, part, flags)?;
        }
        linkat(&parent, own, dir, name, AtFlags::empty())
    }
}

/// Copies what the file had when it was opened, and no more, however it grows; a hole stays one.
fn copy(mut from: Content, stat: &libc::statx, mut to: &File) -> io::Result<()> {
    let (size, held) = (stat.stx_size, stat.stx_blocks.saturating_mul(512));
    match sparse::pieces(from.file(), size, stat.stx_blocks).unwrap_or(None) {
        Some(pieces) => {
            for (offset, length) in pieces {
                io::Seek::seek(&mut from, io::SeekFrom::Start(offset))?;
                io::Seek::seek(&mut to, io::SeekFrom::Start(offset))?;
                io::copy(&mut (&mut from).take(length), &mut to)?;
            }
            to.set_len(size)
        }
        None if held < size && size > UNTOLD_MAX => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        None => io::copy(&mut from.take(size), &mut to).and_then(|_| to.flush()),
    }
}
