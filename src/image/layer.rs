//! From a directory to a layer: what an overlay's upper directory changed, or a whole root file system.

use super::build::Ignore;
use super::fs;
use super::tar::{Entry, Kind};
use super::tar_write::Builder;
use super::{Dropped, bad, from_io};
use crate::error::Error;
use crate::ids::Ids;
use crate::sparse;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The upper directory of an overlay, and how to read it. What programs change meanwhile is in the layer or not; if a file
/// becomes shorter while it is read, there is none.
pub struct Upper<'a> {
    dir: BorrowedFd<'a>,
    fuse: bool,
    owner: &'a dyn Fn(u32, u32) -> (u32, u32),
    by_path: Option<&'a ByPath<'a>>,
}

/// Whose a path of the image is.
type ByPath<'a> = dyn Fn(&[u8]) -> (u32, u32) + 'a;

impl<'a> Upper<'a> {
    /// The upper directory, open for reading, of a kernel overlay mounted with `userxattr`. All in it will belong to
    /// user 0 and group 0 of the image.
    pub fn new(dir: BorrowedFd<'a>) -> Self {
        Upper {
            dir,
            fuse: false,
            owner: &|_, _| (0, 0),
            by_path: None,
        }
    }

    /// It is fuse-overlayfs's: files called `.wh.NAME` are whiteouts too. (In a kernel overlay they are refused, as they
    /// are a program's own and no layer can hold them.)
    pub fn fuse(mut self, fuse: bool) -> Self {
        self.fuse = fuse;
        self
    }

    /// Whose a path is, whoever it belongs to in the directory.
    pub(crate) fn by_path(mut self, owner: &'a ByPath<'a>) -> Self {
        self.by_path = Some(owner);
        self
    }

    /// Whether there is anything in it.
    pub(crate) fn is_changed(&self) -> Result<bool, Error> {
        let names = fs::names(self.dir).map_err(|e| cannot(b"/", e))?;
        Ok(!names.is_empty())
    }

    /// Which user and group of the image a user and group of the directory are.
    pub fn owner(mut self, owner: &'a dyn Fn(u32, u32) -> (u32, u32)) -> Self {
        self.owner = owner;
        self
    }
}

/// Writes what an upper directory changed as a layer: a tar stream with `.wh.` entries, the same bytes for the same
/// directory. Times are whole seconds, as Docker writes them. What a layer cannot hold is left out and counted: sockets
/// as devices, extended attributes other than `user.`.
///
/// # Errors
/// [`Image`](crate::ErrorKind::Image) if a name or an overlay attribute in it has no form in a layer.
pub fn layer_from_upper(upper: &Upper<'_>, to: &mut dyn Write) -> Result<Dropped, Error> {
    let style = match upper.fuse {
        true => Style::Fuse,
        false => Style::Kernel,
    };
    write(upper.dir, style, upper.owner, upper.by_path, to)
}

/// Writes a whole directory as a layer, with its owners; of a plain user's, as [`Ids::in_tree`] has them.
pub(super) fn layer_from_tree(dir: BorrowedFd<'_>, to: &mut dyn Write) -> Result<Dropped, Error> {
    let ids = Ids::detect()?;
    let owner = |user, group| ids.in_tree((user, group));
    write(dir, Style::Tree, &owner, None, to)
}

/// Something to copy into a layer: `name` in `dir`, or what is in `dir` itself if there is no name, as the path `to`.
pub(super) struct Picked {
    pub dir: OwnedFd,
    pub name: Option<Vec<u8>>,
    /// Its path in what `hides` is asked about.
    pub source: Vec<u8>,
    pub to: Vec<u8>,
}

/// How to copy it.
pub(super) struct Picking<'a> {
    pub owner: (u32, u32),
    /// The permission bits of all of it.
    pub mode: Option<u32>,
    pub ignore: &'a Ignore,
    /// Whether times are written, without which it is the same for the same content.
    pub times: bool,
}

/// Writes files and directories as a layer.
pub(super) fn layer_from_picked(
    all: &[Picked],
    how: &Picking<'_>,
    to: &mut dyn Write,
) -> Result<Dropped, Error> {
    let owner = |_, _| how.owner;
    let mut writer = Writer {
        builder: Builder::new(to),
        style: Style::Tree,
        owner: &owner,
        seen: HashMap::new(),
        dropped: Dropped::default(),
        by_path: None,
        picking: Some(how),
        prefix: (0, Vec::new()),
    };
    for picked in all {
        let mut path = picked.to.clone();
        writer.prefix = (path.len(), picked.source.clone());
        match &picked.name {
            Some(name) => writer.one(&picked.dir, name, &mut path, 0, 0)?,
            None => {
                if !path.is_empty() {
                    path.push(b'/');
                    let stat = fstat(&picked.dir).map_err(|e| cannot(&path, e))?;
                    let entry = writer.entry(&path, Kind::Directory, &stat, 0);
                    writer.append(&entry, &mut io::empty())?;
                }
                writer.directory(&picked.dir, &mut path, 0)?;
            }
        }
    }
    let Writer {
        builder, dropped, ..
    } = writer;
    builder
        .finish()
        .map_err(|e| from_io("write the layer", e))?;
    Ok(dropped)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Kernel,
    Fuse,
    Tree,
}

fn write(
    dir: BorrowedFd<'_>,
    style: Style,
    owner: &dyn Fn(u32, u32) -> (u32, u32),
    by_path: Option<&ByPath<'_>>,
    to: &mut dyn Write,
) -> Result<Dropped, Error> {
    let mut writer = Writer {
        builder: Builder::new(to),
        style,
        owner,
        seen: HashMap::new(),
        dropped: Dropped::default(),
        by_path,
        picking: None,
        prefix: (0, Vec::new()),
    };
    let root = dir
        .try_clone_to_owned()
        .map_err(|e| Error::system("read the directory", e))?;
    if style == Style::Tree {
        let stat = fstat(&root).map_err(|e| Error::system("read the directory", e))?;
        let entry = writer.entry(b"./", Kind::Directory, &stat, 0);
        writer.append(&entry, &mut io::empty())?;
    }
    writer.directory(&root, &mut Vec::new(), 0)?;
    let Writer {
        builder, dropped, ..
    } = writer;
    builder
        .finish()
        .map_err(|e| from_io("write the layer", e))?;
    Ok(dropped)
}

struct Writer<'a> {
    builder: Builder<&'a mut dyn Write>,
    style: Style,
    owner: &'a dyn Fn(u32, u32) -> (u32, u32),
    /// Files with several names: where each was first.
    seen: HashMap<(u64, u64), Vec<u8>>,
    dropped: Dropped,
    by_path: Option<&'a ByPath<'a>>,
    picking: Option<&'a Picking<'a>>,
    /// How much of a path is replaced by what, to know it by its source.
    prefix: (usize, Vec<u8>),
}

impl Writer<'_> {
    /// All in `dir`, whose path with a slash at its end is `path`.
    fn directory(&mut self, dir: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        if depth > fs::DEPTH_MAX {
            return Err(bad(
                "path",
                format!("`{}` is too deep", path.escape_ascii()),
            ));
        }
        let names = fs::names(dir).map_err(|e| cannot(path, e))?;
        for name in &names {
            let length = path.len();
            path.extend_from_slice(name.to_bytes());
            self.one(dir, name.to_bytes(), path, length, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn one(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
        parent: usize,
        depth: usize,
    ) -> Result<(), Error> {
        let stat = match fs::stat_at(dir, name) {
            // A program that goes on meanwhile has removed it.
            Err(Errno::ENOENT) => return Ok(()),
            stat => stat.map_err(|e| cannot(path, e))?,
        };
        if self.hides(path) {
            let below = self.picking.is_some_and(|how| how.ignore.has_exceptions());
            if !below || !fs::is_dir(&stat) {
                return Ok(());
            }
            let fd = fs::open_dir_at(dir, name).map_err(|e| cannot(path, e))?;
            path.push(b'/');
            return self.directory(&fd, path, depth + 1);
        }
        if fs::is_whiteout(&stat) && self.style != Style::Tree {
            return self.marker(&[&path[..parent], b".wh.", name].concat());
        }
        if name.starts_with(b".wh.") {
            return match self.style {
                Style::Fuse => self.marker(path),
                _ => Err(bad(
                    "whiteout",
                    format!(
                        "`{}` cannot be in a layer: there, a name that begins with `.wh.` removes something",
                        path.escape_ascii()
                    ),
                )),
            };
        }
        match fs::type_of(&stat) {
            libc::S_IFDIR => self.subdirectory(dir, name, path, depth),
            libc::S_IFREG => self.file(dir, name, path),
            libc::S_IFLNK => {
                let target = fs::read_link_at(dir, name).map_err(|e| cannot(path, e))?;
                let mut entry = self.entry(path, Kind::Symlink, &stat, 0);
                entry.mode = 0o777;
                entry.link = target.as_bytes().to_vec();
                self.once(entry, &stat, &mut io::empty())
            }
            libc::S_IFIFO => {
                let entry = self.entry(path, Kind::Fifo, &stat, 0);
                self.once(entry, &stat, &mut io::empty())
            }
            _ => {
                self.dropped.devices += 1;
                Ok(())
            }
        }
    }

    /// Whether what has this path in the layer is kept out of it.
    fn hides(&self, path: &[u8]) -> bool {
        let (length, source) = &self.prefix;
        self.picking
            .is_some_and(|how| how.ignore.hides(&[source, &path[*length..]].concat()))
    }

    fn subdirectory(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        let (fd, stat, _mode) = opened(dir, name, 0o500, |dir, name| fs::open_dir_at(dir, name))
            .map_err(|e| cannot(path, e))?;
        path.push(b'/');
        let mut entry = self.entry(path, Kind::Directory, &stat, 0);
        self.xattrs(&fd, &mut entry)?;
        self.append(&entry, &mut io::empty())?;
        if self.style != Style::Tree && fs::is_opaque(&fd).map_err(|e| cannot(path, e))? {
            let marked = path.len();
            path.extend_from_slice(b".wh..wh..opq");
            // fuse-overlayfs leaves such a file there itself.
            if fs::stat_at(&fd, b".wh..wh..opq") == Err(Errno::ENOENT) {
                self.marker(path)?;
            }
            path.truncate(marked);
        }
        self.directory(&fd, path, depth + 1)
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let (mut file, stat, _mode) = opened(dir, name, 0o400, |dir, name| {
            fs::open_file_at(dir, name)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EINVAL)))
        })
        .map_err(|e| cannot(path, e))?;
        let mut entry = self.entry(path, Kind::File, &stat, stat.st_size as u64);
        self.xattrs(&file, &mut entry)?;
        entry.pieces = sparse::pieces(&file, entry.size, stat.st_blocks as u64)
            .map_err(|e| cannot(path, e))?;
        match entry.pieces.clone() {
            None => self.once(entry, &stat, &mut file),
            Some(pieces) => self.once(entry, &stat, &mut sparse::Data::new(&file, pieces)),
        }
    }

    /// Adds what may have several names: from the second on as a hard link.
    fn once(
        &mut self,
        mut entry: Entry,
        stat: &FileStat,
        data: &mut dyn io::Read,
    ) -> Result<(), Error> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.seen.get(&key) {
                entry.link = first.clone();
                entry.kind = Kind::Hardlink;
                entry.pieces = None;
                entry.xattrs.clear();
            } else {
                self.seen.insert(key, entry.path.clone());
            }
        }
        self.append(&entry, data)
    }

    /// An empty file that says something about the layers below.
    fn marker(&mut self, path: &[u8]) -> Result<(), Error> {
        self.append(&Entry::plain(path, Kind::File, 0o600, 0), &mut io::empty())
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), Error> {
        self.builder.append(entry, data).map_err(|e| {
            from_io(
                format_args!("write the layer: `{}`", entry.path.escape_ascii()),
                e,
            )
        })
    }

    fn entry(&self, path: &[u8], kind: Kind, stat: &FileStat, size: u64) -> Entry {
        let (uid, gid) = match self.by_path {
            Some(by_path) => by_path(path.strip_suffix(b"/").unwrap_or(path)),
            None => (self.owner)(stat.st_uid, stat.st_gid),
        };
        let mode = self.picking.and_then(|how| how.mode);
        let times = self.picking.is_none_or(|how| how.times);
        Entry {
            uid: u64::from(uid),
            gid: u64::from(gid),
            mtime: (if times { stat.st_mtime } else { 0 }, 0),
            ..Entry::plain(path, kind, mode.unwrap_or(stat.st_mode & 0o7777), size)
        }
    }

    fn xattrs(&mut self, fd: impl AsFd, entry: &mut Entry) -> Result<(), Error> {
        for (name, value) in fs::xattrs(fd).map_err(|e| cannot(&entry.path, e))? {
            let known = self.style == Style::Tree && name == b"security.capability";
            if name.ends_with(b".overlay.redirect") || name.ends_with(b".overlay.metacopy") {
                return Err(bad(
                    "overlay",
                    format!(
                        "`{}` has the attribute `{}`: the overlay must be mounted with redirect_dir=off,metacopy=off",
                        entry.path.escape_ascii(),
                        name.escape_ascii()
                    ),
                ));
            }
            if fs::is_overlay_xattr(&name) {
                // Between the overlay and itself.
            } else if known || name.starts_with(b"user.") {
                entry.xattrs.push((name, value));
            } else {
                self.dropped.xattrs += 1;
            }
        }
        Ok(())
    }
}

/// Opens `name` and looks at it; if its own mode is in the way, with that changed as long as the last of what is returned
/// lives. What is changed is what has been looked at, whatever a program puts in its place meanwhile.
fn opened<T: AsFd>(
    dir: &OwnedFd,
    name: &[u8],
    needed: u32,
    open: impl Fn(&OwnedFd, &[u8]) -> nix::Result<T>,
) -> nix::Result<(T, FileStat, Option<Mode>)> {
    let (fd, mode) = match open(dir, name) {
        Err(Errno::EACCES) => {
            let held = fs::hold_at(dir, name)?;
            let stat = fstat(&held)?;
            if !matches!(fs::type_of(&stat), libc::S_IFDIR | libc::S_IFREG) {
                return Err(Errno::EACCES);
            }
            let own = stat.st_mode & 0o7777;
            fs::set_mode_of(&held, own | needed)?;
            let mode = Mode { held, own };
            (open(dir, name)?, Some(mode))
        }
        opened => (opened?, None),
    };
    let mut stat = fstat(&fd)?;
    if let Some(mode) = &mode {
        stat.st_mode = (stat.st_mode & libc::S_IFMT) | mode.own;
    }
    Ok((fd, stat, mode))
}

/// A mode that is set again in the end.
struct Mode {
    held: OwnedFd,
    own: u32,
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = fs::set_mode_of(&self.held, self.own);
    }
}

fn cannot(path: &[u8], errno: Errno) -> Error {
    Error::system(format_args!("read `{}`", path.escape_ascii()), errno)
}

/// An open file of the caller's, by `write`, from its start.
pub(super) fn into_file(
    file: File,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<File, Error> {
    let mut buffered = io::BufWriter::with_capacity(1 << 17, file);
    write(&mut buffered)?;
    buffered
        .into_inner()
        .map_err(|e| from_io("write the layer", e.into_error()))
}
