//! SHA-256 digests: their text, and streams that compute one on the way.

use super::bad;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};

/// The digest of a blob, `sha256:` and 64 hexadecimal digits: the only algorithm images are made with in practice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// The digest that `text` is.
    pub fn parse(text: &str) -> Result<Digest, Error> {
        let hex = text.strip_prefix(PREFIX).ok_or_else(|| {
            bad(
                "digest",
                format!("`{}`: only sha256 digests are known", text.escape_debug()),
            )
        })?;
        let digits = hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match digits && hex.len() == 64 {
            true => Ok(Digest(text.to_string())),
            false => Err(bad(
                "digest",
                format!("`{}` is no sha256 digest", text.escape_debug()),
            )),
        }
    }

    /// The digest of `data`.
    pub fn of(data: impl AsRef<[u8]>) -> Digest {
        Digest::finished(Sha256::new_with_prefix(data))
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The whole text, with the algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as Docker shows them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    fn finished(hasher: Sha256) -> Digest {
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in hasher.finalize() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits"));
        }
        Digest(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Digest, Error> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

/// The chain id of a stack of layers: what the OCI image specification calls `ChainID`.
pub(super) fn chain(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => diff_id.clone(),
        Some(parent) => Digest::of(format!("{parent} {diff_id}")),
    }
}

/// A reader or writer that hashes and counts what passes.
pub(super) struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Hashing {
            inner,
            hasher: Sha256::new(),
            count: 0,
        }
    }

    /// What was wrapped, the digest of what passed, and how many bytes that was.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest::finished(self.hasher), self.count)
    }

    fn pass(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.count += data.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.pass(&buffer[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(data)?;
        self.pass(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of("").as_str(), empty);
        let (_, digest, count) = {
            let mut reader = Hashing::new(&b"abc"[..]);
            io::copy(&mut reader, &mut io::sink()).unwrap();
            reader.finish()
        };
        assert_eq!(count, 3);
        assert_eq!(
            digest.hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(chain(None, &digest), digest);
        assert_ne!(chain(Some(&digest), &digest), digest);
    }

    #[test]
    fn only_whole_digests() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(Digest::parse(&format!("sha256:{hex}")).is_ok());
        for bad in [
            String::new(),
            hex.into(),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:../../{}", &hex[6..]),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad}");
        }
    }
}
