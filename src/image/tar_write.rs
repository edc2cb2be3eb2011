//! Writing tar streams, the same bytes for the same files: ustar headers, PAX records before them where those are too
//! narrow.

use super::tar::{BLOCK, Entry, Kind};
use std::io::{self, Read, Write};

/// A tar stream that is being written.
pub(crate) struct Builder<W> {
    to: W,
}

impl<W: Write> Builder<W> {
    pub fn new(to: W) -> Self {
        Builder { to }
    }

    /// Adds an entry; `data` gives the `entry.size` bytes of a file, or those of its pieces.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let mut records = Vec::new();
        let pieces = entry.pieces.as_ref().filter(|_| entry.kind == Kind::File);
        let map = pieces.map_or_else(Vec::new, |pieces| sparse_map(pieces));
        let (path, size) = match pieces {
            None => {
                let file = entry.kind == Kind::File;
                let size = if file { entry.size } else { 0 };
                (self.long(&mut records, "path", &entry.path, 100), size)
            }
            Some(pieces) => {
                let real = entry.size.to_string();
                record(&mut records, b"GNU.sparse.major", b"1");
                record(&mut records, b"GNU.sparse.minor", b"0");
                record(&mut records, b"GNU.sparse.name", &entry.path);
                record(&mut records, b"GNU.sparse.realsize", real.as_bytes());
                let data: u64 = pieces.iter().map(|(_, length)| length).sum();
                (&b"GNUSparseFile.0/0"[..], map.len() as u64 + data)
            }
        };
        let link = self.long(&mut records, "linkpath", &entry.link, 100);
        let (seconds, nanos) = entry.mtime;
        if nanos != 0 || !(0..1 << 33).contains(&seconds) {
            record(&mut records, b"mtime", decimal_time(entry.mtime).as_bytes());
        }
        for (name, value, bits) in [
            ("size", size, 33),
            ("uid", entry.uid, 21),
            ("gid", entry.gid, 21),
        ] {
            if value >> bits != 0 {
                record(&mut records, name.as_bytes(), value.to_string().as_bytes());
            }
        }
        let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
        xattrs.sort();
        for (name, value) in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if !records.is_empty() {
            let head = Head {
                path: b"PaxHeaders/0",
                link: b"",
                kind: b'x',
                mode: 0o644,
                size: records.len() as u64,
                ..Head::default()
            };
            self.to.write_all(&head.block())?;
            self.to.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let head = Head {
            path,
            link,
            kind: match entry.kind {
                Kind::File => b'0',
                Kind::Hardlink => b'1',
                Kind::Symlink => b'2',
                Kind::Device if entry.device.0 => b'4',
                Kind::Device => b'3',
                Kind::Directory => b'5',
                Kind::Fifo => b'6',
            },
            mode: u64::from(entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            mtime: seconds.clamp(0, (1 << 33) - 1) as u64,
            size,
            device: match entry.kind {
                Kind::Device => Some((entry.device.1, entry.device.2)),
                _ => None,
            },
        };
        self.to.write_all(&head.block())?;
        self.to.write_all(&map)?;
        let wanted = size - map.len() as u64;
        let copied = io::copy(&mut data.take(wanted), &mut self.to)?;
        if copied != wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "`{}` became shorter while it was read",
                    entry.path.escape_ascii()
                ),
            ));
        }
        self.pad(size)
    }

    /// Adds a file of these bytes.
    pub fn append_bytes(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.append_stream(path, data.len() as u64, &mut &data[..])
    }

    /// Adds a file of `size` bytes that `data` gives.
    pub fn append_stream(&mut self, path: &str, size: u64, data: &mut dyn Read) -> io::Result<()> {
        self.append(
            &Entry::plain(path.as_bytes(), Kind::File, 0o644, size),
            data,
        )
    }

    /// Adds a directory.
    pub fn append_dir(&mut self, path: &str) -> io::Result<()> {
        let entry = Entry::plain(path.as_bytes(), Kind::Directory, 0o755, 0);
        self.append(&entry, &mut io::empty())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// What the header has room for; the whole goes into the records.
    fn long<'a>(&self, records: &mut Vec<u8>, key: &str, text: &'a [u8], room: usize) -> &'a [u8] {
        if text.len() <= room && text.is_ascii() {
            return text;
        }
        record(records, key.as_bytes(), text);
        &text[..text.len().min(room)]
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.to.write_all(&[0; BLOCK][..padding as usize])
    }
}

impl Entry {
    /// An entry of the superuser's, of no time.
    pub fn plain(path: &[u8], kind: Kind, mode: u32, size: u64) -> Entry {
        Entry {
            path: path.to_vec(),
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size,
            pieces: None,
            device: (false, 0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// Where the data of a sparse file lie, as GNU's form 1.0 has it before them: numbers, each on a line, in whole blocks.
fn sparse_map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        map += &format!("{offset}\n{length}\n");
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// "LENGTH KEY=VALUE\n", where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn decimal_time((seconds, nanos): (i64, u32)) -> String {
    match (seconds, nanos) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanos:09}"),
        // -1.25 is 2 seconds before the epoch and 750 ms on.
        (..=-1, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
    }
}

/// The fields of a ustar header.
#[derive(Default)]
struct Head<'a> {
    path: &'a [u8],
    link: &'a [u8],
    kind: u8,
    mode: u64,
    uid: u64,
    gid: u64,
    mtime: u64,
    size: u64,
    device: Option<(u64, u64)>,
}

impl Head<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..self.path.len()].copy_from_slice(self.path);
        block[157..157 + self.link.len()].copy_from_slice(self.link);
        block[156] = self.kind;
        let numbers = [
            (100, 7, self.mode),
            (108, 7, self.uid),
            (116, 7, self.gid),
            (124, 11, self.size),
            (136, 11, self.mtime),
        ];
        let device = self
            .device
            .map(|(major, minor)| [(329, 7, major), (337, 7, minor)]);
        for (at, digits, value) in numbers.into_iter().chain(device.into_iter().flatten()) {
            // What does not fit is in the records, which count.
            let most = (1 << (3 * digits)) - 1;
            let text = format!("{:0digits$o}", value.min(most));
            block[at..at + digits].copy_from_slice(text.as_bytes());
        }
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block[154] = 0;
        block
    }
}
