//! Files with holes: a program may make one of any size that holds nothing, and none of it is written down.

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
#[cfg(feature = "image")]
use std::io::{self, Read, Seek, SeekFrom};

/// Most pieces of a file: readers hold the list of them in memory.
pub(crate) const PIECES_MAX: usize = 10_000;

/// Where the data of an open file of that size and so many blocks of 512 bytes lie, offsets and lengths, if there are holes between them. Small holes of a file that
/// has very many are data.
pub(crate) fn pieces(file: &File, size: u64, blocks: u64) -> nix::Result<Option<Vec<(u64, u64)>>> {
    if blocks.saturating_mul(512) >= size {
        return Ok(None);
    }
    let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
    let mut smallest = 1;
    loop {
        match scan(file, size, smallest)? {
            Some(pieces) if pieces == [(0, size as u64)] => return Ok(None),
            Some(mut pieces) => {
                // A hole at the end is told by a piece of nothing: GNU's tar takes the file's size from it.
                let end = pieces.last().map_or(0, |(offset, length)| offset + length);
                if end < size as u64 {
                    pieces.push((size as u64, 0));
                }
                return Ok(Some(pieces));
            }
            None => smallest = (smallest * 4).max(16 << 10),
        }
    }
}

/// The pieces between holes of at least that size; `None` if they are too many.
fn scan(file: &File, size: i64, smallest: i64) -> nix::Result<Option<Vec<(u64, u64)>>> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match lseek(file, at, Whence::SeekData) {
            Ok(start) => start.min(size),
            Err(Errno::ENXIO) => size,
            // The file system tells nothing.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => at,
            Err(errno) => return Err(errno),
        };
        let end = match start < size {
            true => lseek(file, start, Whence::SeekHole)
                .unwrap_or(size)
                .min(size),
            false => size,
        };
        if end > start {
            match pieces.last_mut() {
                Some((from, length)) if start - ((*from + *length) as i64) < smallest => {
                    *length = end as u64 - *from;
                }
                _ => pieces.push((start as u64, (end - start) as u64)),
            }
        }
        if pieces.len() > PIECES_MAX {
            return Ok(None);
        }
        at = end.max(at + 1);
    }
    lseek(file, 0, Whence::SeekSet)?;
    Ok(Some(pieces))
}

/// The data of the pieces, one behind the other.
#[cfg(feature = "image")]
pub(crate) struct Data<R> {
    file: R,
    pieces: std::vec::IntoIter<(u64, u64)>,
    left: u64,
}

#[cfg(feature = "image")]
impl<R: Read + Seek> Data<R> {
    pub fn new(file: R, pieces: Vec<(u64, u64)>) -> Self {
        Data {
            file,
            pieces: pieces.into_iter(),
            left: 0,
        }
    }
}

#[cfg(feature = "image")]
impl<R: Read + Seek> Read for Data<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.pieces.next() else {
                return Ok(0);
            };
            self.file.seek(SeekFrom::Start(offset))?;
            self.left = length;
        }
        let n = (&mut self.file).take(self.left).read(buffer)?;
        self.left -= n as u64;
        // A file that became shorter ends here, and whoever counts sees it.
        Ok(n)
    }
}
