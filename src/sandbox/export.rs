//! A path of a live sandbox as a tar stream. All of it is looked up by the sandbox's init, as for `get`.

use super::Sandbox;
use super::files::{Content, DEPTH_MAX, Entries, deeper, joined, stat_of};
use crate::error::Error;
use crate::image::{Builder, Dropped, Entry, Kind, from_io};
use crate::plan::inside;
use crate::sparse;
use crate::wire::{GET_FILE, LIST, READ_LINK, STAT};
use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};

/// The bit of `stx_attributes` that says that something is mounted there (Linux 5.8).
const MOUNT_ROOT: u64 = libc::STATX_ATTR_MOUNT_ROOT as u64;

impl Sandbox {
    /// Writes `path` and all below it to `to` as a tar stream, as `docker cp CONTAINER:PATH -`: named from its last
    /// component on, of `/` from what is in it. With the modes, times (whole seconds) and owners that are seen inside,
    /// hard links, and holes as such; without extended attributes. What is mounted below it, such as `/proc`, `/work` and
    /// volumes in `/`, is an empty directory or file; give its own path for what is in it.
    ///
    /// Links are never followed and nothing is opened but regular files and directories. Read while programs run, it is
    /// what was there at one moment or another. What no tar stream holds, such as sockets, is left out and counted.
    ///
    /// # Errors
    /// As [`get`](Sandbox::get); if `to` fails, or a file becomes shorter while it is read: then the stream is cut off.
    pub fn export(&self, path: &str, to: &mut dyn Write) -> Result<Dropped, Error> {
        self.check_open()?;
        let inner = inside(path, "export")?.into_bytes();
        let mut parts = inner
            .split(|b| *b == b'/')
            .filter(|part| !matches!(*part, b"" | b"."));
        let name = parts.next_back().unwrap_or(b".").to_vec();
        let mut export = Export {
            sandbox: self,
            builder: Builder::new(BufWriter::with_capacity(1 << 17, to)),
            seen: HashMap::new(),
            dropped: Dropped::default(),
        };
        export.path(&inner, name, None, DEPTH_MAX)?;
        let Export {
            builder, dropped, ..
        } = export;
        builder
            .finish()
            .map_err(|e| from_io("write the tar stream", e))?;
        Ok(dropped)
    }
}

struct Export<'a, 'w> {
    sandbox: &'a Sandbox,
    builder: Builder<BufWriter<&'w mut dyn Write>>,
    /// Files with several names: where each was first.
    seen: HashMap<(u32, u32, u64), Vec<u8>>,
    dropped: Dropped,
}

impl Export<'_, '_> {
    /// `path` inside, as `name` in the stream; `below` is the device of the directory that it is in, none for the start.
    fn path(
        &mut self,
        path: &[u8],
        mut name: Vec<u8>,
        below: Option<(u32, u32)>,
        depth: usize,
    ) -> Result<(), Error> {
        let stat = match self.sandbox.about(STAT, 0, 0, &[path], None) {
            // It was listed, and is gone.
            Err(e) if below.is_some() && e.errno() == libc::ENOENT => return Ok(()),
            stat => stat_of(&stat?)?,
        };
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        let directory = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        let other = directory && below.is_some_and(|below| below != device);
        let mounted = below.is_some() && (other || stat.stx_attributes & MOUNT_ROOT != 0);
        match u32::from(stat.stx_mode) & libc::S_IFMT {
            libc::S_IFDIR => {
                let depth = deeper(depth, path)?;
                name.push(b'/');
                self.append(
                    &entry(name.clone(), Kind::Directory, &stat),
                    &mut io::empty(),
                )?;
                if name == b"./" {
                    name.clear();
                }
                match mounted {
                    true => Ok(()),
                    false => self.directory(path, &name, device, depth),
                }
            }
            libc::S_IFREG if mounted => self.append(
                &Entry {
                    size: 0,
                    ..entry(name, Kind::File, &stat)
                },
                &mut io::empty(),
            ),
            libc::S_IFREG => self.file(path, name),
            libc::S_IFLNK => {
                let mut link = entry(name, Kind::Symlink, &stat);
                link.link = self.sandbox.about(READ_LINK, 0, 0, &[path], None)?.body;
                self.once(link, &stat, &mut io::empty())
            }
            libc::S_IFIFO => self.once(entry(name, Kind::Fifo, &stat), &stat, &mut io::empty()),
            _ => {
                self.dropped.devices += 1;
                Ok(())
            }
        }
    }

    fn directory(
        &mut self,
        path: &[u8],
        name: &[u8],
        device: (u32, u32),
        depth: usize,
    ) -> Result<(), Error> {
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let entries = self.sandbox.about(LIST, 0, offset, &[path], None)?.body;
            if entries.is_empty() {
                break;
            }
            for (name, _, next) in Entries(&entries) {
                offset = next;
                if name != b"." && name != b".." && !name.contains(&b'/') {
                    names.push(name.to_vec());
                }
            }
        }
        names.sort();
        for inner in names {
            let name = [name, &inner].concat();
            self.path(&joined(path, &inner), name, Some(device), depth)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], name: Vec<u8>) -> Result<(), Error> {
        let answer = self.sandbox.about(GET_FILE, 0, 0, &[path], None)?;
        let stat = stat_of(&answer)?;
        let mut content = Content::new(self.sandbox, answer.file()?);
        let mut entry = entry(name, Kind::File, &stat);
        // A file system that tells no holes has none.
        entry.pieces =
            sparse::pieces(content.file(), stat.stx_size, stat.stx_blocks).unwrap_or(None);
        match entry.pieces.clone() {
            None => self.once(entry, &stat, &mut content),
            Some(pieces) => self.once(entry, &stat, &mut sparse::Data::new(content, pieces)),
        }
    }

    /// Adds what may have several names: from the second on as a hard link.
    fn once(
        &mut self,
        mut entry: Entry,
        stat: &libc::statx,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        if stat.stx_nlink > 1 {
            let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            if let Some(first) = self.seen.get(&key) {
                entry.link = first.clone();
                entry.kind = Kind::Hardlink;
                entry.pieces = None;
            } else {
                self.seen.insert(key, entry.path.clone());
            }
        }
        self.append(&entry, data)
    }

    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        let what = format_args!("export `{}`", entry.path.escape_ascii());
        self.builder
            .append(entry, data)
            .map_err(|e| from_io(what, e))
    }
}

fn entry(path: Vec<u8>, kind: Kind, stat: &libc::statx) -> Entry {
    let mode = u32::from(stat.stx_mode) & 0o7777;
    Entry {
        uid: u64::from(stat.stx_uid),
        gid: u64::from(stat.stx_gid),
        mtime: (stat.stx_mtime.tv_sec, 0),
        ..Entry::plain(&path, kind, mode, stat.stx_size)
    }
}
