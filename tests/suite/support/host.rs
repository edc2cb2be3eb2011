//! Looks at the host: processes, descriptors, mounts, cgroups; and host programs that a test can kill.

use super::guest::{GUEST_VARIABLE, guest_dir};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The variable that makes the test binary play a host program; see `hosts`.
pub const ROLE_VARIABLE: &str = "STOCKADE_SUITE_ROLE";

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: it cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Calls `done` until it holds, for at most `limit`; whether it held.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every process: pid to parent and command name. Zombies count.
fn processes() -> BTreeMap<u32, (u32, String)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name is in brackets and may itself hold brackets and spaces.
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
            continue;
        };
        let parent = stat[close + 1..]
            .split_whitespace()
            .nth(1)
            .and_then(|p| p.parse::<u32>().ok());
        all.insert(
            pid,
            (parent.unwrap_or(0), stat[open + 1..close].to_string()),
        );
    }
    all
}

/// The processes below this one, at any depth: pid to command name.
pub fn descendants(root: u32) -> BTreeMap<u32, String> {
    let all = processes();
    let mut found = BTreeMap::new();
    let mut look = vec![root];
    while let Some(parent) = look.pop() {
        for (pid, (of, name)) in &all {
            if *of == parent && found.insert(*pid, name.clone()).is_none() {
                look.push(*pid);
            }
        }
    }
    found
}

/// Makes what is orphaned below this process its children. A supervisor is nobody's child: only so can it be counted.
pub fn adopt_orphans() {
    // SAFETY: sets a flag of this process.
    let flag = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(flag, 0);
}

/// Reaps the adopted children that have ended.
pub fn bury_orphans() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    processes()
        .into_iter()
        .filter(|(_, (of, _))| *of == parent)
        .map(|(pid, _)| pid)
        .collect()
}

/// Whether there is such a process.
pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// How many descriptors a process has open.
pub fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|entries| entries.count())
        .unwrap_or(0)
}

/// How many mounts a process sees.
pub fn mount_count(pid: u32) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))
        .map(|text| text.lines().count())
        .unwrap_or(0)
}

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// The cgroups that the library made for the host process `pid`: the directories whose name says so.
pub fn cgroups_of(pid: u32) -> BTreeSet<String> {
    let owner = owner(pid);
    let mut all = cgroups();
    all.retain(|path| path.contains(&owner));
    all
}

/// The same, with the groups of its runs.
pub fn all_cgroups_of(owner: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for base in cgroups().into_iter().filter(|path| path.contains(owner)) {
        let below = std::fs::read_dir(&base).into_iter().flatten().flatten();
        let runs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        all.extend(runs.map(|entry| entry.path().display().to_string()));
        all.insert(base);
    }
    all
}

/// What is in the names of the cgroups of a host process: with its start, as long as it is there. Groups of another that
/// had its number before stay until whoever uses the same controllers clears them away.
pub fn owner(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    match after.split(' ').nth(19) {
        Some(start) => format!("/stockade-{pid}-{start}-"),
        None => format!("/stockade-{pid}-"),
    }
}

/// All cgroups of this host that the library made.
fn cgroups() -> BTreeSet<String> {
    fn walk(dir: &Path, depth: u32, found: &mut BTreeSet<String>) {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains("stockade") {
                found.insert(entry.path().display().to_string());
            }
            if depth < 8 {
                walk(&entry.path(), depth + 1, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), 0, &mut found);
    found
}

/// A host program: this test binary in another role, in a process of its own.
pub struct Host {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Host {
    /// Starts the role, with an argument for it.
    pub fn start(role: &str, argument: &str) -> Host {
        Self::start_with(role, argument, |_| {})
    }

    /// The same, with changes to the command.
    pub fn start_with(role: &str, argument: &str, change: impl FnOnce(&mut Command)) -> Host {
        let mut command = Command::new(Self::program());
        change(Self::play(&mut command, role, argument));
        Self::run(command)
    }

    /// The same, started by the command line `through`, which executes it.
    pub fn start_through(through: &[&str], role: &str, argument: &str) -> Host {
        let mut command = Command::new(through[0]);
        command.args(&through[1..]).arg(Self::program());
        Self::play(&mut command, role, argument);
        Self::run(command)
    }

    fn program() -> std::path::PathBuf {
        std::env::current_exe().expect("the path of the test binary")
    }

    fn play<'a>(command: &'a mut Command, role: &str, argument: &str) -> &'a mut Command {
        command
            .args(["--exact", "hosts::role", "--nocapture", "--test-threads=1"])
            .env(ROLE_VARIABLE, format!("{role} {argument}"))
            .env(GUEST_VARIABLE, guest_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
    }

    fn run(mut command: Command) -> Host {
        let mut child = command.spawn().expect("the host program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Host { child, lines }
    }

    /// The next thing it says (lines that begin with `@ `); `None` at its end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        while self
            .lines
            .read_line(&mut line)
            .expect("text from the host program")
            > 0
        {
            // The test runner puts the name of the test, without an end of line, in front of the first.
            if let Some((_, said)) = line.split_once("@ ") {
                return Some(said.trim_end().to_string());
            }
            line.clear();
        }
        None
    }

    /// Waits for its end; everything it said. Fails if it failed.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let said = std::iter::from_fn(|| self.line()).collect();
        let status = self.child.wait().expect("wait");
        assert!(
            status.success(),
            "the host program failed: {status}; it said {said:?}"
        );
        said
    }
}
