//! A sandbox's processes where there is no pid namespace: whatever descends from its init, which adopts all orphans among
//! them, so that none gets away by a double fork or a session of its own.

use crate::s;
use crate::sys::*;

/// Our children, as the kernel lists them.
#[derive(Clone, Copy)]
pub struct Children(Fd);

/// How many are reaped before the rest is killed again.
const REAPED_AT_ONCE: usize = 256;
/// Between two looks.
const PAUSE: u64 = 200_000;

impl Children {
    pub const NONE: Children = Children(-1);

    /// Adopts orphans from now on. Of this thread: it must be the one that starts programs.
    pub fn watch() -> Result<Children> {
        adopt_orphans()?;
        openat(AT_FDCWD, s!("/proc/thread-self/children"), O_RDONLY, 0).map(Children)
    }

    pub fn are_watched(&self) -> bool {
        self.0 >= 0
    }

    /// Sends `signal` to each child for which `to` holds; how many there were. Those of a child become ours with its end.
    pub fn signal(&self, signal: i32, to: impl Fn(i32) -> bool) -> usize {
        let mut count = 0;
        let mut pid = 0;
        let mut buffer = [0; 2048];
        if seek(self.0, 0).is_err() {
            return 0;
        }
        while let Ok(n @ 1..) = read(self.0, &mut buffer) {
            for byte in &buffer[..n] {
                if byte.is_ascii_digit() {
                    pid = pid * 10 + i32::from(byte - b'0');
                } else if pid > 0 {
                    if to(pid) {
                        let _ = kill(pid, signal);
                        count += 1;
                    }
                    pid = 0;
                }
            }
        }
        count
    }

    /// Kills and reaps every descendant for which `to` holds, and tells `each` of the children that have ended.
    ///
    /// That is called with `None` between two rounds. A process may fork while we read, but only so often as it runs; whatever is there the next time is killed then.
    pub fn end(&self, to: impl Fn(i32) -> bool, mut each: impl FnMut(Option<(i32, u32)>)) {
        loop {
            let left = self.signal(SIGKILL, &to);
            let mut any = false;
            // Those that end as fast as they are reaped leave others that are to be killed.
            for _ in 0..REAPED_AT_ONCE {
                let Ok(Some((pid, status))) = wait_any(false) else {
                    break;
                };
                any = true;
                each(Some((pid, status)));
            }
            each(None);
            if left == 0 && !any {
                return;
            }
            if !any {
                sleep(PAUSE);
            }
        }
    }
}
