//! Sparse files, in the forms that GNU tar has had for them.

use super::header::{field, number};
use super::{Archive, BLOCK, Entry};
use crate::error::Error;
use crate::image::bad;
use std::io::Read;

/// Most pieces of one sparse file.
pub(super) const PIECES_MAX: usize = 1 << 16;

impl<R: Read> Archive<R> {
    /// GNU's form before PAX: four pieces in the header, 21 in each block that follows it.
    pub(super) fn old_sparse(
        &mut self,
        header: &[u8; BLOCK],
        entry: &mut Entry,
    ) -> Result<(), Error> {
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
    pub(super) fn sparse_map(&mut self) -> Result<Vec<u64>, Error> {
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

    pub(super) fn set_pieces(
        &mut self,
        entry: &mut Entry,
        size: u64,
        map: &[u64],
    ) -> Result<(), Error> {
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
}

pub(super) fn bad_sparse(why: &str) -> Error {
    bad("format", format!("a sparse file is damaged: {why}"))
}
