//! Files with holes: a program may make one of any size that holds nothing, and none of it is written down.

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Most pieces of a file: readers hold the list of them in memory.
const PIECES_MAX: usize = 10_000;

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
pub(crate) struct Data<'a> {
    file: &'a File,
    pieces: std::vec::IntoIter<(u64, u64)>,
    left: u64,
}

impl<'a> Data<'a> {
    pub fn new(file: &'a File, pieces: Vec<(u64, u64)>) -> Self {
        Data {
            file,
            pieces: pieces.into_iter(),
            left: 0,
        }
    }
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.pieces.next() else {
                return Ok(0);
            };
            self.file.seek(SeekFrom::Start(offset))?;
            self.left = length;
        }
        let n = self.file.take(self.left).read(buffer)?;
        self.left -= n as u64;
        // A file that became shorter ends here, and whoever counts sees it.
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tar::{Archive, Entry, Kind};
    use super::super::tar_write::Builder;
    use super::*;
    use std::os::unix::fs::FileExt;

    fn of(file: &File) -> nix::Result<Option<Vec<(u64, u64)>>> {
        let stat = nix::sys::stat::fstat(file)?;
        pieces(file, stat.st_size as u64, stat.st_blocks as u64)
    }

    #[test]
    fn holes_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"far", 1 << 30).unwrap();
        file.write_all_at(b"end", (1 << 40) - 3).unwrap();
        let pieces = of(&file).unwrap().expect("it has holes");
        assert_eq!(pieces.len(), 2, "{pieces:?}");
        let mut entry = Entry::plain(b"a/file", Kind::File, 0o600, 1 << 40);
        entry.pieces = Some(pieces.clone());
        let mut builder = Builder::new(Vec::new());
        builder
            .append(&entry, &mut Data::new(&file, pieces.clone()))
            .unwrap();
        builder.append_bytes("next", b"x").unwrap();
        let tar = builder.finish().unwrap();
        assert!(tar.len() < 1 << 17, "{}", tar.len());
        let mut archive = Archive::new(&tar[..]);
        let again = archive.next().unwrap().unwrap();
        assert_eq!(
            (again.path, again.size, again.pieces),
            (b"a/file".to_vec(), 1 << 40, Some(pieces))
        );
        assert_eq!(archive.next().unwrap().unwrap().path, b"next");
    }

    #[test]
    fn a_file_of_nothing_but_a_hole() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(of(&file).unwrap(), Some(vec![(1 << 30, 0)]));
        file.write_all_at(&vec![1; 1 << 16], 0).unwrap();
        file.set_len(1 << 16).unwrap();
        assert_eq!(of(&file).unwrap(), None);
    }

    #[test]
    fn very_many_holes_become_fewer() {
        let file = tempfile::tempfile().unwrap();
        let page = 4096;
        for i in 0..12_000u64 {
            file.write_all_at(b"x", i * 2 * page).unwrap();
        }
        let found = of(&file).unwrap();
        assert!(found.is_none_or(|found| found.len() <= PIECES_MAX));
    }
}
