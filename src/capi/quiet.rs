//! Writing to a descriptor of the caller's without a SIGPIPE for its process.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

/// As long as it lives this thread gets no SIGPIPE: a write to a pipe that nobody reads is only EPIPE.
pub(super) struct Quiet {
    before: SigSet,
    pending: bool,
}

impl Quiet {
    pub fn new() -> nix::Result<Quiet> {
        let pending = is_pending();
        let mut before = SigSet::empty();
        let pipe = SigSet::from(Signal::SIGPIPE);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&pipe), Some(&mut before))?;
        Ok(Quiet { before, pending })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // One that was there before is not ours; ours went to this thread alone.
        if !self.pending && is_pending() {
            let pipe = SigSet::from(Signal::SIGPIPE);
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: a set and a time that live through the call; nothing is to be written.
            unsafe { libc::sigtimedwait(pipe.as_ref(), std::ptr::null_mut(), &now) };
        }
        let _ = self.before.thread_set_mask();
    }
}

fn is_pending() -> bool {
    let mut set = SigSet::empty();
    // SAFETY: a set of signals, which is written.
    let done = unsafe { libc::sigpending((&raw mut set).cast()) };
    done == 0 && set.contains(Signal::SIGPIPE)
}
