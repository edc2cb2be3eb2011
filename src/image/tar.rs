//! Reading tar streams that nobody vouches for: ustar, GNU and PAX headers, every length checked before it is believed.
//!
//! Of a stream only one header and the metadata that belong to it are held in memory, within fixed bounds.

use super::{bad, from_io};
use crate::error::Error;
use std::io::{self, Read};

pub(super) const BLOCK: usize = 512;
/// Longest path, and longest target of a link: no call of Linux takes more.
pub(super) const PATH_MAX: usize = 4096;
/// Most bytes of the metadata that precede one entry: PAX records, long names.
const METADATA_MAX: u64 = 1 << 20;
/// Most pieces of one sparse file.
const PIECES_MAX: usize = 1 << 16;

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

/// What the PAX records and long names before an entry say about it.
#[derive(Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

#[derive(Default)]
struct Sparse {
    major: Option<u64>,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
    given: bool,
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

    /// GNU's form before PAX: four pieces in the header, 21 in each block that follows it.
    fn old_sparse(&mut self, header: &[u8; BLOCK], entry: &mut Entry) -> Result<(), Error> {
        let mut map = Vec::new();
        let mut add = |block: &[u8], at: usize, count: usize| -> Result<bool, Error> {
            for i in 0..count {
                let piece = field(block, at + 24 * i, 24);
                if piece[0] == 0 {
                    break;
                }
                map.push(number(&piece[..12], "sparse offset")?);
                map.push(number(&piece[12..], "sparse length")?);
            }
            if map.len() > 2 * PIECES_MAX {
                return Err(bad_sparse("it has too many pieces"));
            }
            Ok(block[at + 24 * count] != 0)
        };
        let mut more = add(header, 386, 4)?;
        let size = number(field(header, 483, 12), "sparse size")?;
        while more {
            let mut block = [0; BLOCK];
            self.exactly(&mut block)?;
            more = add(&block, 0, 21)?;
        }
        self.set_pieces(entry, size, &map)
    }

    /// PAX's form 1.0: the map is text in front of the data.
    fn sparse_map(&mut self) -> Result<Vec<u64>, Error> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut next = |archive: &mut Self| -> Result<u64, Error> {
            let mut value: u64 = 0;
            for digits in 0.. {
                if at == BLOCK {
                    if archive.left < BLOCK as u64 {
                        return Err(bad_sparse("its map is cut off"));
                    }
                    archive.exactly(&mut block)?;
                    archive.left -= BLOCK as u64;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' if digits > 0 => break,
                    digit @ b'0'..=b'9' => {
                        value = value
                            .checked_mul(10)
                            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
                            .ok_or_else(|| bad_sparse("a number in its map is too large"))?;
                    }
                    _ => return Err(bad_sparse("its map is not numbers")),
                }
            }
            Ok(value)
        };
        let count = next(self)?;
        if count > PIECES_MAX as u64 {
            return Err(bad_sparse("it has too many pieces"));
        }
        (0..2 * count).map(|_| next(self)).collect()
    }

    fn set_pieces(&mut self, entry: &mut Entry, size: u64, map: &[u64]) -> Result<(), Error> {
        let (pairs, rest) = map.as_chunks::<2>();
        let mut end: u64 = 0;
        let mut stored: u64 = 0;
        for &[offset, length] in pairs {
            let until = offset.checked_add(length).filter(|&e| e <= size);
            match until {
                Some(until) if offset >= end => end = until,
                _ => return Err(bad_sparse("its pieces overlap or pass its end")),
            }
            stored += length;
        }
        if !rest.is_empty() || stored != self.left {
            return Err(bad_sparse("its pieces are not what its data are"));
        }
        entry.size = size;
        entry.pieces = Some(
            pairs
                .iter()
                .map(|&[offset, length]| (offset, length))
                .collect(),
        );
        Ok(())
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

impl Overrides {
    fn read(&mut self, mut records: &[u8]) -> Result<(), Error> {
        while !records.is_empty() {
            let (key, value, rest) = record(records)?;
            records = rest;
            // An empty value takes back what was said.
            let text = (!value.is_empty()).then(|| value.to_vec());
            let decimal = || match value {
                b"" => Ok(None),
                _ => whole(value).map(Some),
            };
            match key {
                b"path" => self.path = text,
                b"linkpath" => self.link = text,
                b"size" => self.size = decimal()?,
                b"uid" => self.uid = decimal()?,
                b"gid" => self.gid = decimal()?,
                b"mtime" => self.mtime = text.map(|text| time(&text)).transpose()?,
                b"GNU.sparse.major" => self.sparse.major = decimal()?,
                b"GNU.sparse.minor" | b"GNU.sparse.numblocks" => {}
                b"GNU.sparse.name" => self.sparse.name = text,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = decimal()?,
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    self.sparse.given = true;
                    self.sparse.map.push(whole(value)?);
                }
                b"GNU.sparse.map" => {
                    self.sparse.given = true;
                    let numbers = value.split(|&b| b == b',').map(whole);
                    self.sparse.map = numbers.collect::<Result<_, _>>()?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.retain(|(known, _)| known != name);
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        if self.sparse.map.len() > 2 * PIECES_MAX {
            return Err(bad_sparse("it has too many pieces"));
        }
        Ok(())
    }
}

/// A key, a value, and what follows them.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// One PAX record, "LENGTH KEY=VALUE\n", and what follows it.
fn record(records: &[u8]) -> Result<Record<'_>, Error> {
    let parse = || {
        let space = records.iter().take(20).position(|&b| b == b' ')?;
        let length = usize::try_from(whole(&records[..space]).ok()?).ok()?;
        if length > records.len() || length < space + 2 {
            return None;
        }
        let body = records[space + 1..length].strip_suffix(b"\n")?;
        let equals = body.iter().position(|&b| b == b'=')?;
        Some((&body[..equals], &body[equals + 1..], &records[length..]))
    };
    parse().ok_or_else(|| bad("format", "a PAX record is damaged"))
}

/// An unsigned decimal number.
fn whole(text: &[u8]) -> Result<u64, Error> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad("format", format!("`{}` is no number", text.escape_ascii())))
}

/// Decimal seconds with a fraction, maybe negative.
fn time(text: &[u8]) -> Result<(i64, u32), Error> {
    let parse = || {
        let text = std::str::from_utf8(text).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
        match (whole.starts_with('-'), nanos) {
            (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
            _ => Some((seconds, nanos)),
        }
    };
    parse().ok_or_else(|| bad("format", format!("`{}` is no time", text.escape_ascii())))
}

fn field(block: &[u8], at: usize, length: usize) -> &[u8] {
    &block[at..at + length]
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|&b| b == 0) {
        text.truncate(end);
    }
    text
}

fn short_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(field(header, 0, 100).to_vec());
    // Only POSIX's own format has a prefix there; GNU's has times.
    let prefix = match &header[257..265] == b"ustar\x0000" {
        true => until_nul(field(header, 345, 155).to_vec()),
        false => Vec::new(),
    };
    match prefix.is_empty() {
        true => name,
        false => [&prefix[..], b"/", &name].concat(),
    }
}

/// A number of a header: octal digits, or GNU's base 256 if the first bit is set.
fn signed(text: &[u8], name: &str) -> Result<i64, Error> {
    let wrong = || {
        bad(
            "format",
            format!("a header has no valid {name}: `{}`", text.escape_ascii()),
        )
    };
    if text[0] & 0x80 != 0 {
        let negative = text[0] & 0x40 != 0;
        let mut value: i128 = i128::from(text[0] & 0x3f) - if negative { 0x40 } else { 0 };
        for &byte in &text[1..] {
            value = value
                .checked_mul(256)
                .and_then(|v| v.checked_add(i128::from(byte)))
                .ok_or_else(wrong)?;
        }
        return i64::try_from(value).map_err(|_| wrong());
    }
    let digits = text.trim_ascii_start();
    let end = digits
        .iter()
        .position(|&b| b == 0 || b == b' ')
        .unwrap_or(digits.len());
    if digits[end..].iter().any(|&b| b != 0 && b != b' ') {
        return Err(wrong());
    }
    let mut value: i64 = 0;
    for &digit in &digits[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(wrong());
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(wrong)?;
    }
    Ok(value)
}

fn number(text: &[u8], name: &str) -> Result<u64, Error> {
    u64::try_from(signed(text, name)?)
        .map_err(|_| bad("format", format!("a header has a negative {name}")))
}

fn check_sum(header: &[u8; BLOCK]) -> Result<(), Error> {
    let no_archive = "it is no tar archive, or a header is damaged (wrong checksum)";
    let said = signed(field(header, 148, 8), "checksum").map_err(|_| bad("format", no_archive))?;
    let bytes = || {
        header.iter().enumerate().map(|(i, &b)| match i {
            148..156 => b' ',
            _ => b,
        })
    };
    let sum: i64 = bytes().map(i64::from).sum();
    // Some old writers summed signed characters.
    let old: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    match said == sum || said == old {
        true => Ok(()),
        false => Err(bad("format", no_archive)),
    }
}

fn truncated() -> Error {
    bad("format", "the archive is cut off")
}

fn bad_sparse(why: &str) -> Error {
    bad("format", format!("a sparse file is damaged: {why}"))
}
