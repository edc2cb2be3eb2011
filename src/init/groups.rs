//! A run's cgroups: made, filled in, read and removed below the base directories that the host has prepared.

use crate::mem::bytes_of;
use crate::plan::{Decimal, Plan, pair, text};
use crate::s;
use crate::sample::keyed;
use crate::sys::*;
use crate::wire::*;

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
        self.dirs[dir] = openat(bases.dirs[dir], name.text(), O_RDONLY | O_DIRECTORY, 0)?;
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

    /// Reads the plan's files into `buffer` as [`Exit`] wants them: how many bytes, how many files.
    pub fn read(&self, plan_reads: &Reads, buffer: &mut [u8]) -> (usize, u32) {
        let mut at = 0;
        for read in plan_reads.list() {
            if at + 4 > buffer.len() {
                return (at, 0);
            }
            let (head, rest) = buffer[at..].split_at_mut(4);
            let got = self.read_file(read, rest);
            head.copy_from_slice(bytes_of(&got.map_or(u32::MAX, |n| n as u32)));
            at += 4 + got.unwrap_or(0);
        }
        (at, plan_reads.count as u32)
    }

    fn read_file(&self, read: &Read, buffer: &mut [u8]) -> Option<usize> {
        let fd = openat(self.dirs[usize::from(read.dir)], read.text(), O_RDONLY, 0).ok()?;
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

/// A file to read at the end.
#[derive(Clone, Copy)]
pub struct Read {
    dir: u8,
    name: [u8; 47],
}

impl Read {
    fn text(&self) -> Str<'_> {
        Str::split(&self.name).map_or(s!(""), |(text, _)| text)
    }
}

/// The files that a plan wants read.
#[derive(Clone, Copy)]
pub struct Reads {
    files: [Read; 16],
    count: usize,
}

impl Reads {
    pub const NONE: Reads = Reads {
        files: [Read {
            dir: 0,
            name: [0; 47],
        }; 16],
        count: 0,
    };

    pub fn of(plan: &Plan) -> Reads {
        let mut reads = Reads::NONE;
        for (at, payload) in plan
            .steps(plan.head.limits)
            .filter(|(at, _)| at.op.code == L_READ)
        {
            if let (Some(read), Ok(name)) = (reads.files.get_mut(reads.count), text(payload)) {
                read.dir = (at.op.a as usize % CGROUPS_MAX) as u8;
                let n = name.bytes().len().min(46);
                read.name[..n].copy_from_slice(&name.bytes()[..n]);
                reads.count += 1;
            }
        }
        reads
    }

    pub fn list(&self) -> &[Read] {
        &self.files[..self.count]
    }
}
