//! What a sandbox uses, where no cgroup counts: looked up in its own procfs, which shows its processes and no others.

use crate::plan::Text;
use crate::s;
use crate::sys::*;
use crate::wire::*;

/// One look.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// CPU time of all processes and of those they have reaped, nanoseconds, to 10 ms each.
    pub cpu: u64,
    /// Anonymous memory, bytes; a page in several processes counts in each.
    pub anon: u64,
    /// Shared memory that is mapped, likewise.
    pub shmem: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// The most of everything that looks have seen.
#[derive(Clone, Copy)]
pub struct Seen {
    pub looks: u64,
    pub cpu: u64,
    pub memory: u64,
    pub pids: u64,
    pub swap: u64,
    /// What the most memory was.
    pub split: Split,
}

impl Seen {
    pub const NOTHING: Seen = Seen {
        looks: 0,
        cpu: 0,
        memory: 0,
        pids: 0,
        swap: UNKNOWN,
        split: Split::UNKNOWN,
    };

    pub fn swap(&mut self, bytes: u64) {
        self.swap = match self.swap {
            UNKNOWN => bytes,
            before => before.max(bytes),
        };
    }

    pub fn tell(&self, exit: &mut Exit) {
        exit.looks = self.looks;
        exit.sampled_cpu = self.cpu;
        exit.sampled_memory = self.memory;
        exit.sampled_pids = self.pids;
        exit.sampled_swap = self.swap;
        exit.split = self.split;
    }
}

/// The procfs of the sandbox whose init is `pid`.
pub fn open_proc(pid: i32) -> Result<Fd> {
    let path = Text::<40>::new()
        .add(b"/proc/")
        .number(pid as u64)
        .add(b"/root/proc");
    openat(AT_FDCWD, path.text(), O_RDONLY | O_DIRECTORY, 0)
}

/// Looks at all processes below `proc`. With `exact`, memory is the proportional share, which is slow.
pub fn sample(proc: Fd, exact: bool) -> Sample {
    let mut sum = Sample::default();
    // A descriptor of its own, so that reading starts at the beginning.
    let Ok(dir) = openat(proc, s!("."), O_RDONLY | O_DIRECTORY, 0) else {
        return sum;
    };
    let mut entries = [0u8; 4096];
    while let Ok(n) = getdents(dir, &mut entries) {
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at + 19 < n {
            let len = usize::from(u16::from_ne_bytes([entries[at + 16], entries[at + 17]]));
            let name = &entries[at + 19..at + len.max(20)];
            if let Some((name, _)) = Str::split(name)
                && name.bytes().first().is_some_and(u8::is_ascii_digit)
            {
                add(&mut sum, proc, name.bytes(), exact);
            }
            at += len.max(20);
        }
    }
    close(dir);
    sum
}

fn add(sum: &mut Sample, proc: Fd, pid: &[u8], exact: bool) {
    let mut buffer = [0u8; 2048];
    let init = pid == b"1";
    if let Some(stat) = read_file(proc, pid, b"/stat", &mut buffer) {
        // Fields are counted from behind the name, which may hold anything, ")" included.
        let after = stat
            .iter()
            .rposition(|b| *b == b')')
            .map_or(stat.len(), |i| i + 1);
        let mut fields = stat[after..].split(|b| *b == b' ').skip(1).skip(11);
        // utime, stime, cutime, cstime; init's own time is not the program's, that of what it has reaped is.
        for i in 0..4 {
            let ticks = fields.next().map_or(0, number);
            if i >= 2 || !init {
                sum.cpu += ticks * 10_000_000;
            }
        }
    }
    if init {
        return;
    }
    let (file, keys): (&[u8], [&[u8]; 2]) = match exact {
        true => (b"/smaps_rollup", [b"Pss_Anon:", b"Pss_Shmem:"]),
        false => (b"/status", [b"RssAnon:", b"RssShmem:"]),
    };
    if let Some(text) = read_file(proc, pid, file, &mut buffer) {
        sum.anon += keyed(text, keys[0]) * 1024;
        sum.shmem += keyed(text, keys[1]) * 1024;
        sum.pids += keyed(text, b"Threads:");
    }
}

fn read_file<'b>(proc: Fd, pid: &[u8], file: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let path = Text::<48>::new().add(pid).add(file);
    let fd = openat(proc, path.text(), O_RDONLY, 0).ok()?;
    let read = read_all(fd, buffer).ok();
    close(fd);
    read
}

/// The first number in `text`.
pub fn number(text: &[u8]) -> u64 {
    text.iter()
        .skip_while(|b| !b.is_ascii_digit())
        .take_while(|b| b.is_ascii_digit())
        .fold(0u64, |n, b| {
            n.saturating_mul(10).saturating_add(u64::from(b - b'0'))
        })
}

/// The number behind `key` at the start of a line, or 0; the first number of the text if `key` is empty.
pub fn keyed(text: &[u8], key: &[u8]) -> u64 {
    if key.is_empty() {
        return number(text);
    }
    find(text, key).unwrap_or(0)
}

/// The number behind `key` at the start of a line.
fn find(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|b| *b == b'\n')
        .find(|line| line.starts_with(key))
        .map(|line| number(&line[key.len()..]))
}

/// What the memory is that a `memory.stat` tells of. In both versions' files shared memory is a part of the cache.
pub fn split(text: &[u8]) -> Split {
    let get = |key: &[u8]| find(text, key).unwrap_or(UNKNOWN);
    let less = |all: u64, part: u64| match all {
        UNKNOWN => UNKNOWN,
        all => all.saturating_sub(if part == UNKNOWN { 0 } else { part }),
    };
    if let Some(anon) = find(text, b"total_rss ") {
        let shmem = get(b"total_shmem ");
        return Split {
            anon,
            file: less(get(b"total_cache "), shmem),
            shmem,
            kernel: UNKNOWN,
        };
    }
    // Before Linux 5.18 there is no sum, and not all of its parts.
    let parts: [&[u8]; 4] = [b"kernel_stack ", b"pagetables ", b"percpu ", b"slab "];
    let kernel = find(text, b"kernel ").or_else(|| {
        parts
            .iter()
            .filter_map(|key| find(text, key))
            .fold(None, |sum, n| Some(n.saturating_add(sum.unwrap_or(0))))
    });
    let shmem = get(b"shmem ");
    Split {
        anon: get(b"anon "),
        file: less(get(b"file "), shmem),
        shmem,
        kernel: kernel.unwrap_or(UNKNOWN),
    }
}
