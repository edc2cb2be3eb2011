//! What is said about an entry in front of it.

use super::sparse::{PIECES_MAX, bad_sparse};
use crate::error::Error;
use crate::image::bad;

/// What the PAX records and long names before an entry say about it.
#[derive(Default)]
pub(super) struct Overrides {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
}

#[derive(Default)]
pub(super) struct Sparse {
    pub major: Option<u64>,
    pub size: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    pub map: Vec<u64>,
    pub given: bool,
}

impl Overrides {
    pub fn read(&mut self, mut records: &[u8]) -> Result<(), Error> {
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
