//! How much of a disk a sandbox has written, where no file system of its own holds it to a limit: counted file by file.

use crate::files::{Opened, for_names};
use crate::sys::*;
use crate::wire::*;

/// How deep directories may lie in each other; what is deeper could not be counted.
const DEPTH_MAX: usize = 200;
/// So many names are counted in a millisecond or so.
const SOME: u64 = 512;
/// What a directory's owner needs to see what is in it: to read and to search.
const SEEN: u32 = 0o500;
/// The host's file system keeps so much free, or a twentieth of it if that is less.
const RESERVE: u64 = 1 << 30;
/// The directories that the sandbox has in it from the start.
const OWN: u64 = 6;
/// Counting takes no more than a twentieth of the time.
const REST: u64 = 20;
const SOONEST: u64 = 20_000_000;

/// Limits, and what is used.
pub struct Tally {
    dir: Fd,
    bytes_most: u64,
    inodes_most: u64,
    bytes: u64,
    inodes: u64,
    /// 0, or which limit was passed.
    over: u64,
    next: u64,
}

impl Tally {
    pub const NONE: Tally = Tally {
        dir: -1,
        bytes_most: 0,
        inodes_most: 0,
        bytes: 0,
        inodes: 0,
        over: 0,
        next: u64::MAX,
    };

    /// Of the directory `dir`, which is taken.
    pub fn new(dir: Fd, bytes: u64, inodes: u64) -> Tally {
        Tally {
            dir,
            bytes_most: bytes,
            inodes_most: inodes,
            next: 0,
            ..Tally::NONE
        }
    }

    /// How many bytes and inodes may be copied before programs start.
    pub fn room(&self) -> (u64, u64) {
        let limited = self.dir >= 0;
        let of = |most| if limited { most } else { u64::MAX };
        (of(self.bytes_most), of(self.inodes_most))
    }

    pub fn close(&mut self) {
        close(self.dir);
        *self = Tally::NONE;
    }

    /// Nanoseconds until it is time to count again.
    pub fn wait(&self) -> u64 {
        match self.next {
            u64::MAX => u64::MAX,
            next => next.saturating_sub(now()),
        }
    }

    /// The first of the programs is about to start: what earlier ones were ended for is forgotten, if it is no longer so.
    pub fn begin(&mut self) {
        if self.dir >= 0 {
            (self.over, self.next) = (0, 0);
        }
    }

    /// Whether a limit was passed when it was counted last.
    pub fn is_over(&self) -> bool {
        self.over != 0
    }

    /// Counts. Of many files `meanwhile` is called between some.
    pub fn count(&mut self, meanwhile: &mut dyn FnMut()) {
        if self.dir < 0 {
            return;
        }
        let start = now();
        (self.bytes, self.inodes) = (0, 0);
        // Opened anew, so that it is read from its start.
        let counted = Opened::of(self.dir, SEEN).and_then(|top| {
            let counted = self.directory(top.fd, DEPTH_MAX, meanwhile);
            top.close();
            counted
        });
        let (deep, hidden) = (counted == Err(ELOOP), counted == Err(EACCES));
        let end = now();
        self.next = end + (REST * (end - start)).max(SOONEST);
        // What nobody can look into may be of any size.
        let over = if hidden || self.bytes > self.most_bytes() {
            OVER_BYTES
        } else if deep || self.inodes > self.inodes_most.saturating_add(OWN) {
            OVER_INODES
        } else if fstatfs(self.dir).is_ok_and(|disk| is_nearly_full(&disk)) {
            OVER_SPACE
        } else {
            self.over // until it is told of
        };
        self.over = over;
    }

    fn most_bytes(&self) -> u64 {
        self.bytes_most.saturating_add(OWN * 4096)
    }

    /// Adds what is in a directory, until a limit is passed. ELOOP means that it is too deep, EACCES that not all of it can
    /// be seen.
    fn directory(&mut self, dir: Fd, depth: usize, meanwhile: &mut dyn FnMut()) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or(ELOOP)?;
        let listed = for_names(dir, |name| {
            let seen = match fstatat(dir, name) {
                Ok(seen) => seen,
                Err(EACCES | EPERM) => return Err(EACCES), // the right was taken away as we looked
                Err(_) => return Ok(()),                   // what is gone by now needs no room
            };
            self.inodes += 1;
            if self.inodes.is_multiple_of(SOME) {
                meanwhile();
            }
            let directory = seen.mode() & S_IFMT == S_IFDIR;
            // All names of a file are here.
            let names = if directory { 1 } else { seen.links().max(1) };
            self.bytes += seen.allocated() / names;
            if directory {
                match Opened::new(dir, name, SEEN) {
                    Ok(inner) => {
                        let result = self.directory(inner.fd, depth, meanwhile);
                        inner.close();
                        result?;
                    }
                    Err(EACCES | EPERM) => return Err(EACCES),
                    Err(EMFILE) => return Err(ELOOP), // one is open for each level
                    Err(_) => {}
                }
            }
            let over = self.bytes > self.most_bytes() || self.inodes > self.inodes_most + OWN;
            if over { Err(ENOSPC) } else { Ok(()) }
        });
        match listed {
            Err(errno @ (ELOOP | EACCES)) => Err(errno),
            _ => Ok(()),
        }
    }

    /// Says in `exit` what is used.
    pub fn tell(&self, exit: &mut Exit) {
        if self.dir < 0 {
            return;
        }
        let bytes = self.bytes.saturating_sub(OWN * 4096);
        let inodes = self.inodes.saturating_sub(OWN);
        (exit.disk_total, exit.inodes_total) = (self.bytes_most, self.inodes_most);
        exit.disk_free = self.bytes_most.saturating_sub(bytes);
        exit.inodes_free = self.inodes_most.saturating_sub(inodes);
        exit.disk_over = self.over;
    }
}

fn is_nearly_full(disk: &StatFs) -> bool {
    let all = disk.blocks.saturating_mul(disk.block_size);
    disk.blocks_available.saturating_mul(disk.block_size) < RESERVE.min(all / 20)
}
