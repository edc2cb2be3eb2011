//! Names of base groups, and clearing away those whose owner is dead.

use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PREFIX: &str = "stockade";

/// A name that says whose it is: process id, its start time, its pid namespace, and a number.
pub(super) fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{pid}-{start}-{}-{number}", pid_namespace())
}

/// Removes base groups in `parent` whose owner, a process of this pid namespace, is gone.
pub(super) fn sweep(parent: &Path) {
    let Ok(dir) = fs::File::open(parent) else {
        return;
    };
    // One sweeper at a time; whoever finds it locked leaves the work to the other.
    let Ok(_lock) = Flock::lock(dir, FlockArg::LockExclusiveNonblock) else {
        return;
    };
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_dead) {
            remove_tree(&entry.path());
        }
    }
}

fn is_dead(name: &str) -> bool {
    let mut fields = name.split('-');
    if fields.next() != Some(PREFIX) || name.split('-').count() != 5 {
        return false;
    }
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (Some(pid), Some(start), Some(namespace)) = (number(), number(), number()) else {
        return false;
    };
    namespace == pid_namespace()
        && u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
}

/// Removes a group and its children; everything in them is dead, but may take a moment to leave.
pub(super) fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    for _ in 0..20 {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(5))
            }
            _ => return,
        }
    }
}

/// Field 22 of /proc/PID/stat.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_of_this_namespace() {
        let own = new_name();
        assert!(!is_dead(&own));
        let (pid, namespace) = (std::process::id(), pid_namespace());
        assert!(is_dead(&format!("stockade-{pid}-1-{namespace}-0")));
        assert!(!is_dead(&format!("stockade-{pid}-1-1-0")));
        for other in [
            "stockade",
            "stockade-x",
            "user.slice",
            "stockade-1-2-3",
            "stockade-a-b-c-d",
        ] {
            assert!(!is_dead(other), "{other}");
        }
    }
}
