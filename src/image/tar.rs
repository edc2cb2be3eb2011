//! Reading tar streams that nobody vouches for: ustar, GNU and PAX headers, every length checked before it is believed.
//!
//! Of a stream only one header and the metadata that belong to it are held in memory, within fixed bounds.

mod header;
mod pax;
mod sparse;

use super::{bad, from_io};
use crate::error::Error;
use header::{check_sum, field, number, short_path, signed, until_nul};
use pax::Overrides;
use sparse::bad_sparse;
use std::io::{self, Read};

pub(super) const BLOCK: usize = 512;
/// Longest path, and longest target of a link: no call of Linux takes more.
pub(super) const PATH_MAX: usize = 4096;
/// Most bytes of the metadata that precede one entry: PAX records, long names.
const METADATA_MAX: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    /// Which the kernel lets only root make.
    Device,
    Fifo,
}

/// One entry. Its data, if it is a file, comes from [`Archive::data`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Where its data lie, if there are holes between them: offsets and lengths, ascending.
    pub pieces: Option<Vec<(u64, u64)>>,
    /// Of a device whether it is a block device, and its numbers, as far as they are numbers.
    pub device: (bool, u64, u64),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream.
pub(super) struct Archive<R> {
    source: R,
    /// Bytes of the current entry's data that have not been read, and of the padding behind them.
    left: u64,
    padding: u64,
    /// How far `source` has been read.
    position: u64,
    ended: bool,
}

impl<R: Read> Archive<R> {
    pub fn new(source: R) -> Self {
        Archive {
            source,
            left: 0,
            padding: 0,
            position: 0,
            ended: false,
        }
    }

    /// Where the next byte read of the source lies: after [`next`](Self::next), the start of the entry's data.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of data that the current entry has in the stream.
    pub fn stored(&self) -> u64 {
        self.left
    }

    /// The source, read up to the end of the archive.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// Lets a source that can do so skip data itself: `skip` is told how many bytes.
    pub fn skip_with(
        &mut self,
        skip: impl FnOnce(&mut R, u64) -> io::Result<()>,
    ) -> Result<(), Error> {
        let n = self.left + self.padding;
        skip(&mut self.source, n).map_err(|e| from_io("read the archive", e))?;
        self.position += n;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next entry, or none at the end of the archive.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut overrides = Overrides::default();
        let mut budget = METADATA_MAX;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = number(field(&header, 124, 12), "size")?;
            match header[156] {
                b'x' => overrides.read(&self.metadata(size, &mut budget)?)?,
                // Comments, mostly. Nobody who makes layers puts anything that matters here.
                b'g' => drop(self.metadata(size, &mut budget)?),
                b'L' => overrides.path = Some(until_nul(self.metadata(size, &mut budget)?)),
                b'K' => overrides.link = Some(until_nul(self.metadata(size, &mut budget)?)),
                b'V' => self.begin(size)?,
                _ => return self.entry(header, size, overrides).map(Some),
            }
        }
    }

    /// The current entry's data.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.some(&mut buffer[..most])?;
        if n == 0 {
            return Err(truncated());
        }
        self.left -= n as u64;
        Ok(n)
    }

    fn entry(
        &mut self,
        header: [u8; BLOCK],
        size: u64,
        overrides: Overrides,
    ) -> Result<Entry, Error> {
        let kind = header[156];
        let mut path = match overrides.path {
            Some(path) => path,
            None => short_path(&header),
        };
        let stored = overrides.size.unwrap_or(size);
        let link = match overrides.link {
            Some(link) => link,
            None => until_nul(field(&header, 157, 100).to_vec()),
        };
        let mtime = match overrides.mtime {
            Some(mtime) => mtime,
            None => (signed(field(&header, 136, 12), "mtime")?, 0),
        };
        // Blanks, as some old archives have for what they do not say.
        let or_number = |known: Option<u64>, at, name| match known {
            Some(known) => Ok(known),
            None => number(field(&header, at, 8), name),
        };
        let (uid, gid) = (
            or_number(overrides.uid, 108, "uid")?,
            or_number(overrides.gid, 116, "gid")?,
        );
        let mode = number(field(&header, 100, 8), "mode")? as u32 & 0o7777;
        let kind = match kind {
            // Before ustar a directory was a file whose name ends with a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(bad(
                    "format",
                    format!(
                        "entry `{}` is of a type that layers do not have: `{}`",
                        path.escape_ascii(),
                        other.escape_ascii()
                    ),
                ));
            }
        };
        // What is no file has no data behind it, whatever size is given: as Go reads it, with which layers are made.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.begin(stored)?;
        let mut entry = Entry {
            path: Vec::new(),
            link,
            kind,
            mode,
            uid,
            gid,
            mtime,
            size: stored,
            pieces: None,
            device: (
                header[156] == b'4',
                number(field(&header, 329, 8), "device").unwrap_or(0),
                number(field(&header, 337, 8), "device").unwrap_or(0),
            ),
            xattrs: overrides.xattrs,
        };
        if header[156] == b'S' {
            self.old_sparse(&header, &mut entry)?;
        } else if kind == Kind::File && (overrides.sparse.given || overrides.sparse.major.is_some())
        {
            let mut sparse = overrides.sparse;
            path = sparse.name.take().unwrap_or(path);
            if sparse.major == Some(1) {
                sparse.map = self.sparse_map()?;
            }
            let size = sparse
                .size
                .ok_or_else(|| bad_sparse("its size is missing"))?;
            self.set_pieces(&mut entry, size, &sparse.map)?;
        }
        for (name, text) in [("name", &path), ("link", &entry.link)] {
            if text.len() >= PATH_MAX || text.contains(&0) {
                return Err(bad(
                    "path",
                    format!(
                        "the {name} of an entry is too long or has a NUL in it: `{}`",
                        text[..text.len().min(60)].escape_ascii()
                    ),
                ));
            }
        }
        entry.path = path;
        Ok(entry)
    }

    /// The next header, or none at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut zeros = 0;
        loop {
            match (self.block(&mut block)?, zeros) {
                // Some writers leave the end out.
                (false, _) => break,
                (true, _) if block.iter().all(|&b| b == 0) => {
                    zeros += 1;
                    if zeros == 2 {
                        break;
                    }
                }
                (true, 0) => {
                    check_sum(&block)?;
                    return Ok(Some(block));
                }
                // Tools disagree about what follows; a layer must mean one thing.
                (true, _) => return Err(bad("format", "an entry follows a block of zeros")),
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// Takes note of the data that follow.
    fn begin(&mut self, size: u64) -> Result<(), Error> {
        if size > i64::MAX as u64 - BLOCK as u64 {
            return Err(bad(
                "format",
                format!("an entry claims to have {size} bytes"),
            ));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The data of an entry that is about another.
    fn metadata(&mut self, size: u64, budget: &mut u64) -> Result<Vec<u8>, Error> {
        *budget = budget.checked_sub(size).ok_or_else(|| {
            bad(
                "limit metadata",
                format!("an entry has more than {METADATA_MAX} bytes of metadata"),
            )
        })?;
        self.begin(size)?;
        let mut data = vec![0; size as usize];
        self.exactly(&mut data)?;
        self.left = 0;
        Ok(data)
    }

    fn skip(&mut self) -> Result<(), Error> {
        let mut n = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let mut buffer = [0; 16 * BLOCK];
        while n > 0 {
            let most = buffer.len().min(usize::try_from(n).unwrap_or(usize::MAX));
            match self.some(&mut buffer[..most])? {
                0 => return Err(truncated()),
                some => n -= some as u64,
            }
        }
        Ok(())
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < buffer.len() {
            match self.some(&mut buffer[at..])? {
                0 => return Err(truncated()),
                n => at += n,
            }
        }
        Ok(())
    }

    /// A whole block, or false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        match self.some(block)? {
            0 => Ok(false),
            n => self.exactly(&mut block[n..]).map(|()| true),
        }
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.source.read(buffer) {
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io("read the archive", error)),
            }
        }
    }
}

fn truncated() -> Error {
    bad("format", "the archive is cut off")
}
