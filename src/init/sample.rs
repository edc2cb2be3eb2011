//! What a sandbox uses, where no cgroup counts: looked up in its own procfs, which shows its processes and no others.

use crate::plan::Text;
use crate::s;
use crate::sys::*;

/// One look.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// CPU time of all processes and of those they have reaped, nanoseconds, to 10 ms each.
    pub cpu: u64,
    /// Anonymous and shared memory that is mapped, bytes; a page in several processes counts in each.
    pub memory: u64,
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
        sum.memory += keys.iter().map(|key| keyed(text, key) * 1024).sum::<u64>();
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
    text.split(|b| *b == b'\n')
        .find(|line| line.starts_with(key))
        .map_or(0, |line| number(&line[key.len()..]))
}
