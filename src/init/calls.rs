//! The calls for which a program's filter kills, as its init hears of them: by the filter's listener (seccomp(2),
//! `SECCOMP_RET_USER_NOTIF`), which is made in the descriptors that the child shares with init until its exec, and so is
//! init's without any way for the program to have it.

use crate::sys::*;
use core::sync::atomic::{AtomicI32, Ordering};

/// `BPF_RET | BPF_K`.
const RETURN: [u8; 2] = [6, 0];
const KILL_PROCESS: [u8; 4] = 0x8000_0000_u32.to_ne_bytes();
const USER_NOTIF: [u8; 4] = 0x7fc0_0000_u32.to_ne_bytes();

/// The listener of one program, between the child that makes it and init.
pub struct Calls {
    listener: AtomicI32,
    unheard: AtomicI32,
}

impl Calls {
    pub const fn new() -> Self {
        Calls {
            listener: AtomicI32::new(-1),
            unheard: AtomicI32::new(0),
        }
    }

    /// Installs the filter. The process that makes a call that it kills for is held, and init told. Where that cannot be,
    /// the kernel kills that process as the filter says.
    pub fn install(&self, filter: &mut [u8]) -> Result<()> {
        if replace(filter, KILL_PROCESS, USER_NOTIF) == 0 {
            return seccomp(filter).map(drop);
        }
        match seccomp_listening(filter) {
            Ok(listener) => {
                self.listener.store(listener, Ordering::Release);
                Ok(())
            }
            Err(errno) => {
                self.unheard.store(errno, Ordering::Release);
                replace(filter, USER_NOTIF, KILL_PROCESS);
                seccomp(filter).map(drop)
            }
        }
    }

    /// -1 until there is one.
    pub fn listener(&self) -> Fd {
        self.listener.load(Ordering::Acquire)
    }

    /// Why there is none, if that is not for want of calls to be heard of.
    pub fn unheard(&self) -> i32 {
        self.unheard.load(Ordering::Acquire)
    }
}

/// Has the filter return `new` where it returned `old`, and says in how many places.
fn replace(filter: &mut [u8], old: [u8; 4], new: [u8; 4]) -> usize {
    let mut places = 0;
    for instruction in filter.chunks_exact_mut(8) {
        if instruction[..2] == RETURN && instruction[4..] == old {
            instruction[4..].copy_from_slice(&new);
            places += 1;
        }
    }
    places
}
