//! Hostile and odd layers, made byte by byte, and what becomes of them; what a store does with whole images.

mod archives;
mod flatten;
mod hostile;
mod layers;
mod sparse;
mod stores;

use super::limits::Budget;
use super::lower::Lower;
use super::tar::{Archive, BLOCK};
use super::unpack::{Unpacked, unpack};
use super::{LoadLimits, fs};
use crate::error::Error;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A tar stream in which every byte of every header can be said.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A header of which fields can be set before it is sealed.
pub struct Header(pub [u8; BLOCK]);

impl Header {
    pub fn new(name: &str, kind: u8, size: u64) -> Header {
        let mut header = Header([0; BLOCK]);
        header.put(0, &name.as_bytes()[..name.len().min(100)]);
        header.put(100, b"0000755\0");
        header.put(108, b"0000000\0");
        header.put(116, b"0000000\0");
        header.put(124, format!("{size:011o}\0").as_bytes());
        header.put(136, b"00000000144\0");
        header.0[156] = kind;
        header.put(257, b"ustar\x0000");
        header
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Header {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn sealed(&self) -> [u8; BLOCK] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    pub fn raw(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn entry(self, header: &Header, data: &[u8]) -> Tar {
        let padding = data.len().next_multiple_of(BLOCK) - data.len();
        self.raw(&header.sealed()).raw(data).raw(&vec![0; padding])
    }

    pub fn file(self, name: &str, data: &str) -> Tar {
        self.entry(&Header::new(name, b'0', data.len() as u64), data.as_bytes())
    }

    pub fn dir(self, name: &str) -> Tar {
        self.entry(&Header::new(name, b'5', 0), b"")
    }

    pub fn link(self, name: &str, kind: u8, target: &str) -> Tar {
        let mut header = Header::new(name, kind, 0);
        header.put(157, target.as_bytes());
        self.entry(&header, b"")
    }

    pub fn other(self, name: &str, kind: u8) -> Tar {
        self.entry(&Header::new(name, kind, 0), b"")
    }

    /// PAX records for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|n| *n == rest + n.to_string().len()).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(&Header::new("PaxHeaders/x", b'x', data.len() as u64), &data)
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 2 * BLOCK]).0
    }
}

/// A directory with another beside it that nothing may touch.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempdir();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        Place { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new layer, called `name`.
    pub fn layer(&self, name: &str) -> OwnedFd {
        std::fs::create_dir(self.path().join(name)).unwrap();
        self.open(name)
    }

    pub fn open(&self, name: &str) -> OwnedFd {
        fs::open_dir(&self.path().join(name)).unwrap()
    }

    /// Unpacks a stream as the layer `name`, over others (the lowest first), with few means.
    pub fn unpack(&self, name: &str, tar: &[u8], below: &[&str]) -> Result<Unpacked, Error> {
        let limits = LoadLimits::default().size(1 << 30).entries(5000);
        let root = self.layer(name);
        let lower = Lower(below.iter().rev().map(|name| self.open(name)).collect());
        unpack(
            &mut Archive::new(tar),
            &root,
            &lower,
            &mut Budget::new(&limits),
            None,
        )
    }

    /// Whether all outside the layers is as it was.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let outside = self.path().join("outside");
        let names: Vec<_> = std::fs::read_dir(&outside)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        let secret = outside.join("secret");
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
        let meta = std::fs::metadata(secret).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&meta), 1);
    }
}

/// A directory in memory, where that can have user attributes (Linux 6.6): writing to a disk that others use takes long.
fn tempdir() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    let able = |dir: &tempfile::TempDir| {
        fs::open_dir(dir.path()).is_ok_and(|fd| fs::set_xattr(fd, b"user.test", b"y").is_ok())
    };
    memory
        .filter(able)
        .unwrap_or_else(|| tempfile::tempdir().unwrap())
}

impl Drop for Place {
    fn drop(&mut self) {
        // Directories may be closed to their owner.
        let _ = fs::open_dir(self.path()).map(|dir| fs::clear(&dir));
    }
}
