//! Ctrl-C and its kin: the first ends the run, the second ends us.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Catches what a user or a service manager ends a program with, for as long as this process lives.
pub struct Signals {
    wake: OwnedFd,
    // Held so that the handler's descriptor stays open.
    _waker: OwnedFd,
}

impl Signals {
    /// Installs the handlers. A signal that the caller ignores (as `nohup` does) stays ignored.
    pub fn catch() -> io::Result<Self> {
        let (wake, waker) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)?;
        WAKE.store(waker.as_raw_fd(), Ordering::Relaxed);
        // Without SA_RESTART a write that blocks is interrupted.
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::empty(),
            SigSet::empty(),
        );
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            // SAFETY: the handler only stores to atomics, writes to a pipe and may call _exit.
            let before = unsafe { sigaction(signal, &action) }?;
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: this puts back what was there.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        Ok(Signals {
            wake,
            _waker: waker,
        })
    }

    /// The first signal that came, if one has.
    pub fn received(&self) -> Option<i32> {
        match RECEIVED.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }
}

impl AsFd for Signals {
    /// Readable from the first signal on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    if RECEIVED
        .compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        // Asked twice: go at once. The supervisor sees it and ends everything.
        // SAFETY: _exit may be called from a handler.
        unsafe { libc::_exit(128 + signal) };
    }
    // SAFETY: both calls may be made from a handler; errno is put back for the code that was interrupted.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(WAKE.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1);
        *errno = before;
    }
}
