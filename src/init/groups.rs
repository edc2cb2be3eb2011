//! A run's cgroups: made, filled in, read and removed below the base directories that the host has prepared.

use crate::mem::{Global, bytes_of};
use crate::plan::{Decimal, Plan, pair, text};
use crate::s;
use crate::sample::{keyed, split};
use crate::sandbox::as_bytes;
use crate::sys::*;
use crate::wire::*;

/// A memory.stat, which has grown to 3 KB; static, as touching fresh stack costs page faults.
static STAT: Global<[u64; 1024]> = Global::new([0; 1024]);

/// The host's base directories.
#[derive(Clone, Copy)]
pub struct Bases {
    pub version: u32,
    pub dirs: [Fd; CGROUPS_MAX],
    /// Whether programs must enter by writing, since their user has no right to be cloned into a group.
    pub by_writing: bool,
}

/// The groups of one run.
#[derive(Clone, Copy)]
pub struct Groups {
    name: u64,
    dirs: [Fd; CGROUPS_MAX],
}

impl Groups {
    pub const NONE: Groups = Groups {
        name: 0,
        dirs: [-1; CGROUPS_MAX],
    };

    /// Makes the groups that `plan` asks for and opens what a program enters by.
    pub fn make(
        bases: &Bases,
        name: u64,
        plan: &Plan,
        enter: &mut [Fd; CGROUPS_MAX],
        into: &mut Fd,
    ) -> core::result::Result<Groups, (u32, u32, i32)> {
        let mut groups = Groups {
            name,
            ..Groups::NONE
        };
        for (at, payload) in plan.steps(plan.head.limits) {
            let dir = at.op.a as usize % CGROUPS_MAX;
            let result = match at.op.code {
                L_GROUP => groups.add(bases, dir, at.op.b != 0, payload, enter, into),
                L_WRITE => match groups.write(dir, payload) {
                    Err(_) if at.op.b == 0 => Ok(()),
                    other => other,
                },
                _ => Ok(()),
            };
            if let Err(errno) = result {
                groups.close();
                let _ = groups.remove(bases);
                enter.iter_mut().chain([into]).for_each(|fd| {
                    close(*fd);
                    *fd = -1;
                });
                return Err((IN_LIMITS, at.index, errno));
            }
        }
        Ok(groups)
    }

    fn add(
        &mut self,
        bases: &Bases,
        dir: usize,
        entered: bool,
        payload: &[u8],
        enter: &mut [Fd; CGROUPS_MAX],
        into: &mut Fd,
    ) -> Result<()> {
        let name = Decimal::new(self.name);
        mkdirat(bases.dirs[dir], name.text(), 0o755)?;
        let opened = openat(bases.dirs[dir], name.text(), O_RDONLY | O_DIRECTORY, 0);
        if opened.is_err() {
            // Nothing else says that it was made.
            let _ = unlinkat(bases.dirs[dir], name.text(), AT_REMOVEDIR);
        }
        self.dirs[dir] = opened?;
        if !entered {
            return Ok(());
        }
        if bases.version == CGROUP_V2 && !bases.by_writing {
            *into = openat(bases.dirs[dir], name.text(), O_RDONLY | O_DIRECTORY, 0)?;
        } else {
            enter[dir] = openat(self.dirs[dir], text(payload)?, O_WRONLY, 0)?;
        }
        Ok(())
    }

    fn write(&self, dir: usize, payload: &[u8]) -> Result<()> {
        let (file, value) = pair(payload)?;
        let fd = openat(self.dirs[dir], file, O_WRONLY, 0)?;
        let written = write_all(fd, text(value)?.bytes());
        close(fd);
        written
    }

    /// Has the kernel freeze the group, or thaw it: begun at once, done when [`Groups::frozen`] says so (cgroup v2).
    pub fn freeze(&self, freeze: bool) -> Result<()> {
        let fd = openat(self.dirs[0], s!("cgroup.freeze"), O_WRONLY, 0)?;
        let written = write_all(fd, if freeze { b"1" } else { b"0" });
        close(fd);
        written
    }

    pub fn frozen(&self) -> bool {
        let read = Read {
            dir: 0,
            at_end: false,
            name: s!("cgroup.events"),
        };
        self.number(&read, b"frozen ").is_some_and(|n| n > 0)
    }

    /// Reads the plan's files into `buffer` as [`Exit`] wants them: how many bytes, how many files.
    /// Those that are not for the end only with `all`.
    pub fn read(&self, plan_reads: &Reads, all: bool, buffer: &mut [u8]) -> (usize, u32) {
        let mut at = 0;
        for read in plan_reads.list() {
            if at + 4 > buffer.len() {
                return (at, 0);
            }
            let (head, rest) = buffer[at..].split_at_mut(4);
            let got = match read.at_end || all {
                true => self.read_file(&read, rest),
                false => None,
            };
            head.copy_from_slice(bytes_of(&got.map_or(u32::MAX, |n| n as u32)));
            at += 4 + got.unwrap_or(0);
        }
        (at, u32::from(plan_reads.count))
    }

    fn read_file(&self, read: &Read, buffer: &mut [u8]) -> Option<usize> {
        let fd = openat(self.dirs[usize::from(read.dir)], read.name, O_RDONLY, 0).ok()?;
        let n = read_all(fd, buffer).map(|bytes| bytes.len()).ok();
        close(fd);
        n
    }

    /// The number behind `key` in the file of `read`.
    pub fn number(&self, read: &Read, key: &[u8]) -> Option<u64> {
        let mut buffer = [0; 1024];
        let n = self.read_file(read, &mut buffer)?;
        Some(keyed(&buffer[..n], key))
    }

    /// What the memory is by the file of `read`.
    pub fn split(&self, read: &Read) -> Split {
        let buffer = as_bytes(STAT.take());
        match self.read_file(read, buffer) {
            Some(n) => split(&buffer[..n]),
            None => Split::UNKNOWN,
        }
    }

    /// What they are called in each base directory.
    pub fn name(&self) -> u64 {
        self.name
    }

    pub fn close(&mut self) {
        for fd in &mut self.dirs {
            close(*fd);
        }
    }

    /// Removes the groups; true if none is left.
    pub fn remove(&mut self, bases: &Bases) -> bool {
        let mut gone = true;
        let name = Decimal::new(self.name);
        for (dir, fd) in self.dirs.iter_mut().enumerate().filter(|(_, fd)| **fd >= 0) {
            match unlinkat(bases.dirs[dir], name.text(), AT_REMOVEDIR) {
                Err(EBUSY) => gone = false,
                _ => *fd = -1,
            }
        }
        gone
    }
}

/// A file to read.
#[derive(Clone, Copy)]
pub struct Read<'a> {
    dir: u8,
    at_end: bool,
    name: Str<'a>,
}

/// The files that a plan wants read: for each its directory, whether at the end, its name and NUL.
#[derive(Clone, Copy)]
pub struct Reads {
    bytes: [u8; READS_SIZE],
    len: u16,
    count: u16,
}

const READS_SIZE: usize = 636;

impl Reads {
    pub const NONE: Reads = Reads {
        bytes: [0; READS_SIZE],
        len: 0,
        count: 0,
    };

    pub fn of(plan: &Plan) -> Reads {
        let mut reads = Reads::NONE;
        for (at, payload) in plan
            .steps(plan.head.limits)
            .filter(|(at, _)| at.op.code == L_READ)
        {
            let from = usize::from(reads.len);
            let Ok(name) = text(payload) else {
                continue;
            };
            let end = from + 2 + name.bytes().len() + 1;
            if let Some([dir, at_end, place @ .., _]) = reads.bytes.get_mut(from..end) {
                *dir = (at.op.a as usize % CGROUPS_MAX) as u8;
                *at_end = u8::from(at.op.b != 0);
                place
                    .iter_mut()
                    .zip(name.bytes())
                    .for_each(|(to, from)| *to = *from);
                reads.len = end as u16;
                reads.count += 1;
            }
        }
        reads
    }

    pub fn list(&self) -> impl Iterator<Item = Read<'_>> {
        let mut rest = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let [dir, at_end, names @ ..] = rest else {
                return None;
            };
            let (name, after) = Str::split(names)?;
            rest = after;
            Some(Read {
                dir: *dir,
                at_end: *at_end != 0,
                name,
            })
        })
    }
}
