//! Names of base groups, and clearing away those whose owner is dead.

use super::refused;
use crate::error::Error;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PREFIX: &str = "stockade";

/// A name that says whose it is: process id, its start time, its pid namespace, and a number.
///
/// # Errors
/// If descriptors or memory are short just now: under a name that does not say it, it would never be cleared away.
pub(super) fn new_name() -> Result<String, Error> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let stat = refused::unless_short(fs::read(stat_of(pid)), "reading /proc/self/stat")?;
    let start = stat.ok().and_then(|stat| start_in(&stat)).unwrap_or(0);
    let namespace = refused::look(Path::new(NAMESPACE))?.map_or(0, |seen| seen.ino());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{PREFIX}-{pid}-{start}-{namespace}-{number}"))
}

/// Base groups of this process whose supervisor is gone, in which something was still dying. Only tried for, as a child that
/// another thread forks has it as it was, perhaps locked.
static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes a base group of this process's, whose supervisor is gone: now, or before the next one begins. What dies in it may
/// take its time, such as a program with much memory.
pub(super) fn remove(base: &Path) {
    remove_tree(base);
    if base.exists()
        && let Ok(mut left) = LEFT.try_lock()
    {
        left.push(base.into());
    }
}

/// Removes base groups in `parent` whose owner, a process of this pid namespace, is gone; and what this one has left.
pub(super) fn sweep(parent: &Path) {
    if let Ok(mut left) = LEFT.try_lock() {
        left.retain(|base| {
            remove_in(base, 1);
            base.exists()
        });
    }
    let Ok(dir) = fs::File::open(parent) else {
        return;
    };
    // One sweeper at a time; whoever finds it locked leaves the work to the other.
    // SAFETY: a plain call on an open descriptor, whose end unlocks it.
    if unsafe { libc::flock(dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_dead) {
            remove_tree(&entry.path());
        }
    }
}

/// Whether `name` is that of a base group whose owner is gone; in any doubt, it is not.
fn is_dead(name: &str) -> bool {
    let fields: Vec<&str> = name.split('-').collect();
    let [PREFIX, ref numbers @ ..] = fields[..] else {
        return false;
    };
    let numbers: Option<Vec<u64>> = numbers.iter().map(|n| n.parse().ok()).collect();
    let Some([pid, start, namespace, _]) = numbers.as_deref() else {
        return false;
    };
    let Ok(pid) = i32::try_from(*pid) else {
        return false;
    };
    // Process ids mean something only in the namespace that they are of.
    if pid < 1 || *namespace == 0 || *namespace != pid_namespace() {
        return false;
    }
    // A procfs mounted with hidepid hides living processes, so the word of kill(2) comes first.
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        Err(nix::errno::Errno::ESRCH) => true,
        _ => *start != 0 && start_time(pid as u32).is_some_and(|now| now != *start),
    }
}

/// Removes a group and its children; everything in them is dead, but may take a moment to leave.
pub(super) fn remove_tree(path: &Path) {
    remove_in(path, 20);
}

/// The same in so many tries.
fn remove_in(path: &Path, tries: u32) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_in(&entry.path(), tries);
        }
    }
    for left in (0..tries).rev() {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && left > 0 => {
                std::thread::sleep(Duration::from_millis(5))
            }
            _ => return,
        }
    }
}

/// Field 22 of /proc/PID/stat.
fn start_time(pid: u32) -> Option<u64> {
    start_in(&fs::read(stat_of(pid)).ok()?)
}

fn start_in(stat: &[u8]) -> Option<u64> {
    // The second field is the process's name in parentheses, and may hold anything.
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let rest = std::str::from_utf8(stat.get(after..)?).ok()?;
    rest.split(' ').nth(19)?.parse().ok()
}

fn stat_of(pid: u32) -> PathBuf {
    format!("/proc/{pid}/stat").into()
}

/// The inode of this process's pid namespace; 0 if /proc is another namespace's, whose ids are not ours.
fn pid_namespace() -> u64 {
    let shown = fs::read_link("/proc/self").ok();
    let ours = std::process::id().to_string();
    if shown.as_deref() != Some(Path::new(&ours)) {
        return 0;
    }
    fs::metadata(NAMESPACE).map_or(0, |m| m.ino())
}

const NAMESPACE: &str = "/proc/self/ns/pid";

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};

    #[test]
    fn only_the_dead_of_this_namespace() {
        let own = new_name().unwrap();
        assert!(!is_dead(&own), "{own}");
        let (pid, namespace) = (std::process::id(), pid_namespace());
        assert!(is_dead(&format!("stockade-{pid}-1-{namespace}-0")));
        // No process can have this id: pid_max is at most 2^22.
        assert!(is_dead(&format!("stockade-5000000-1-{namespace}-0")));
        assert!(!is_dead(&format!("stockade-{pid}-1-1-0")));
        assert!(!is_dead(&format!("stockade-{pid}-0-{namespace}-0")));
        for other in [
            "stockade",
            "stockade-x",
            "user.slice",
            "stockade-1-2-3",
            "stockade-a-b-c-d",
            &format!("stockade-5000000-1-{namespace}-0-0"),
            &format!("x-5000000-1-{namespace}-0"),
            "stockade-5000000-1-0-0",
        ] {
            assert!(!is_dead(other), "{other}");
        }
    }

    #[test]
    fn names_differ_and_fit_the_message() {
        let (one, other) = (new_name().unwrap(), new_name().unwrap());
        assert_ne!(one, other);
        let longest = format!("stockade-4194304-{}-{}-{}", u64::MAX, u32::MAX, u32::MAX);
        assert!(longest.len() < crate::wire::Config::NONE.cgroup_name.len());
        assert!(one.len() <= longest.len());
    }

    #[test]
    fn sweeping_leaves_what_is_not_dead() {
        let parent = tempfile::tempdir().unwrap();
        let namespace = pid_namespace();
        let dead = parent
            .path()
            .join(format!("stockade-5000000-1-{namespace}-3"));
        let alive = parent.path().join(new_name().unwrap());
        let other = parent.path().join("other");
        for dir in [&dead, &alive, &other] {
            fs::create_dir_all(dir.join("7")).unwrap();
        }
        let lock = Flock::lock(
            fs::File::open(parent.path()).unwrap(),
            FlockArg::LockExclusive,
        );
        sweep(parent.path());
        assert!(dead.exists(), "swept in spite of another sweeper's lock");
        drop(lock);
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(alive.join("7").exists() && other.join("7").exists());
    }
}
