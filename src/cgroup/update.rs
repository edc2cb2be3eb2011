//! Changing the limits of a live run: what is written into its groups, in which order, and back again.
//!
//! The library writes the files itself, not the supervisor: a memory limit below what is in use has the kernel reclaim
//! and kill before the write returns, and the supervisor waits for nobody.

use super::{Cgroup, Kind, Swap, v1, v2};
use crate::error::Error;
use crate::spec::Spec;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::borrow::Cow;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// cgroup v1 refuses a memory limit while more is in use, after trying to reclaim it: how often that is tried again.
const RECLAIMS: u32 = 5;
const RECLAIM_PAUSE: Duration = Duration::from_millis(10);

/// A control file and its values before and after.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    dir: u8,
    file: Cow<'static, str>,
    from: Option<String>,
    to: String,
    required: bool,
}

/// Why changes were not all made. None of them is in force then.
pub(crate) enum Unchanged {
    /// The run is over and its groups are gone.
    Ended,
    /// The run holds more memory than the new limit allows, and the kernel can take none of it away (cgroup v1).
    MemoryInUse,
    Failed(Error),
}

impl Cgroup {
    /// What leads from the limits of `old` to those of `new`, in an order in which the kernel takes it.
    pub fn changes(&self, old: &Spec, new: &Spec) -> Vec<Change> {
        let (old, new) = (self.layout(old).writes, self.layout(new).writes);
        let mut changes = Vec::new();
        for write in new.iter().filter(|write| !old.contains(write)) {
            let before = old
                .iter()
                .find(|w| (w.dir, &w.file) == (write.dir, &write.file));
            changes.push(Change {
                dir: write.dir,
                file: write.file.clone(),
                from: before.map_or_else(
                    || self.unlimited(write.dir, &write.file),
                    |before| Some(before.value.clone()),
                ),
                to: write.value.clone(),
                required: write.required,
            });
        }
        for write in &old {
            let kept = new
                .iter()
                .any(|w| (w.dir, &w.file) == (write.dir, &write.file));
            if !kept && let Some(to) = self.unlimited(write.dir, &write.file) {
                changes.push(Change {
                    dir: write.dir,
                    file: write.file.clone(),
                    from: Some(write.value.clone()),
                    to,
                    required: write.required,
                });
            }
        }
        changes.sort_by_key(|change| self.place(change));
        changes
    }

    /// When a change is made. In cgroup v1 memory may never be limited to more than memory and swap together. In v2 the
    /// write that may have the kernel kill comes last, when it is said what is to be killed.
    fn place(&self, change: &Change) -> u8 {
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        match (self.kind, self.swap) {
            (Kind::V2, _) if change.file == v2::WORDS.memory => 2,
            (Kind::V1, Some(Swap::Counted(file))) if change.file == file => {
                let from = change.from.as_deref().map_or(u64::MAX, number);
                if number(&change.to) > from { 0 } else { 2 }
            }
            _ => 1,
        }
    }

    /// What `file` says in a group without limits: the base directory is one.
    fn unlimited(&self, dir: u8, file: &str) -> Option<String> {
        let path = self.bases[usize::from(dir)].path.join(file);
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_string())
    }

    /// Makes `changes` in the groups called `name`: all of them, or none.
    pub fn change(&self, name: u64, changes: &[Change]) -> Result<(), Unchanged> {
        for (at, change) in changes.iter().enumerate() {
            let Err(errno) = self.put(name, change, &change.to) else {
                continue;
            };
            if !change.required {
                continue;
            }
            let left = self.unchange(name, &changes[..at]);
            return Err(match errno {
                Errno::ENOENT | Errno::ENODEV => Unchanged::Ended,
                Errno::EBUSY if self.holds_memory(&change.file) => Unchanged::MemoryInUse,
                errno => {
                    let what = format!(
                        "writing `{}` to {} of the program's cgroup ({})",
                        change.to,
                        change.file,
                        match left.is_empty() {
                            true => "nothing is changed".to_string(),
                            false => left.join(", "),
                        }
                    );
                    Unchanged::Failed(Error::system(what, errno))
                }
            });
        }
        Ok(())
    }

    /// Takes back `changes`; what is left of them, in words.
    pub fn unchange(&self, name: u64, changes: &[Change]) -> Vec<String> {
        let mut left = Vec::new();
        // In reverse, as the order of the values matters there too.
        for done in changes.iter().rev() {
            let back = done.from.as_ref().map(|from| self.put(name, done, from));
            if done.required && back != Some(Ok(())) && back != Some(Err(Errno::ENOENT)) {
                left.push(format!("{} is left at {}", done.file, done.to));
            }
        }
        left
    }

    fn holds_memory(&self, file: &str) -> bool {
        let counted = matches!(self.swap, Some(Swap::Counted(counted)) if counted == file);
        self.kind == Kind::V1 && (file == v1::WORDS.memory || counted)
    }

    fn put(&self, name: u64, change: &Change, value: &str) -> Result<(), Errno> {
        let mut tries = RECLAIMS;
        loop {
            match self.put_once(name, change, value) {
                Err(Errno::EBUSY) if tries > 0 && self.holds_memory(&change.file) => {
                    tries -= 1;
                    std::thread::sleep(RECLAIM_PAUSE);
                }
                other => return other,
            }
        }
    }

    fn put_once(&self, name: u64, change: &Change, value: &str) -> Result<(), Errno> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let open = |dir: &OwnedFd, path: &str, how| openat(dir, path, flags | how, Mode::empty());
        let base = &self.dirs[usize::from(change.dir)];
        let name = name.to_string();
        let group = open(base, &name, OFlag::O_DIRECTORY)?;
        let file = match open(&group, &change.file, OFlag::O_WRONLY) {
            Err(Errno::ENOENT) => {
                // If the group is still there, its file is not: this kernel has none.
                open(base, &name, OFlag::O_DIRECTORY)?;
                return Err(Errno::EOPNOTSUPP);
            }
            file => file?,
        };
        // An empty list of processors is a line all the same.
        let text = if value.is_empty() { "\n" } else { value };
        std::fs::File::from(file)
            .write_all(text.as_bytes())
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Base;
    use std::fs;

    /// A base directory with a group called 7, as far as plain files can play one.
    fn cgroup(kind: Kind, swap: Swap, files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("7")).unwrap();
        for (file, value) in files {
            fs::write(dir.path().join(file), value).unwrap();
            fs::write(dir.path().join("7").join(file), value).unwrap();
        }
        let base = Base {
            path: dir.path().into(),
            controllers: vec!["memory", "pids", "cpu"],
        };
        let cgroup = Cgroup {
            kind,
            name: String::new(),
            owner: 0,
            dirs: vec![fs::File::open(dir.path()).unwrap().into()],
            bases: vec![base],
            reads: Vec::new(),
            swap: Some(swap),
            scope: false,
            io_weight: None,
            cpuset: None,
            why_not: None,
        };
        (dir, cgroup)
    }

    const V1: [(&str, &str); 2] = [
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
    ];
    const V2: [(&str, &str); 5] = [
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("memory.oom.group", "0\n"),
        ("pids.max", "max\n"),
        ("cpu.max", "max 100000\n"),
    ];

    fn files(changes: &[Change]) -> Vec<(&str, &str)> {
        changes.iter().map(|c| (&*c.file, c.to.as_str())).collect()
    }

    #[test]
    fn memory_is_never_limited_to_more_than_memory_and_swap_together() {
        let (_dir, cgroup) = cgroup(Kind::V1, Swap::Counted("memory.memsw.limit_in_bytes"), &V1);
        let spec = |memory, swap| Spec::default().memory(memory).swap(swap);
        let none = Spec::default();
        let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        let unlimited = "9223372036854771712";
        for (old, new, wanted) in [
            (spec(8, 0), spec(9, 0), [(both, "9"), (memory, "9")]),
            (spec(9, 0), spec(8, 0), [(memory, "8"), (both, "8")]),
            (spec(8, 8), spec(9, 1), [(memory, "9"), (both, "10")]),
            (none.clone(), spec(8, 0), [(memory, "8"), (both, "8")]),
            (spec(8, 0), none, [(both, unlimited), (memory, unlimited)]),
        ] {
            assert_eq!(files(&cgroup.changes(&old, &new)), wanted);
        }
    }

    #[test]
    fn the_whole_group_is_to_be_killed_before_the_limit_is_lowered() {
        let (_dir, cgroup) = cgroup(Kind::V2, Swap::Limited("memory.swap.max"), &V2);
        let changes = cgroup.changes(&Spec::default(), &Spec::default().memory(8).pids(3));
        let wanted = [
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "3"),
            ("memory.max", "8"),
        ];
        assert_eq!(files(&changes), wanted);
        assert_eq!(cgroup.changes(&Spec::default(), &Spec::default()), []);
        let lifted = cgroup.changes(&Spec::default().cpus(0.5), &Spec::default());
        assert_eq!(files(&lifted), [("cpu.max", "max 100000")]);
    }

    #[test]
    fn all_or_nothing() {
        let (dir, cgroup) = cgroup(Kind::V2, Swap::Limited("memory.swap.max"), &V2);
        let read = |file: &str| fs::read_to_string(dir.path().join("7").join(file)).unwrap();
        let (old, new) = (Spec::default().pids(9), Spec::default().pids(3).memory(8));
        let changes = cgroup.changes(&old, &new);
        fs::remove_file(dir.path().join("7/memory.max")).unwrap();
        let Err(Unchanged::Failed(error)) = cgroup.change(7, &changes) else {
            panic!("it cannot be written");
        };
        assert!(error.to_string().contains("memory.max"), "{error}");
        assert!(error.to_string().contains("nothing is changed"), "{error}");
        assert!(read("pids.max").starts_with('9') && read("memory.swap.max").starts_with("max"));
        assert!(matches!(cgroup.change(8, &changes), Err(Unchanged::Ended)));
    }
}
