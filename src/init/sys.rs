//! System calls by number, and nothing else. All raw: the helper has no libc, so there is no errno variable, no
//! lock and no allocation anywhere; a call returns its result or `Err(errno)`.

use core::arch::asm;

pub type Result<T = usize> = core::result::Result<T, i32>;
pub type Fd = i32;

mod numbers;

/// Makes system call `n`.
///
/// # Safety
/// The arguments must be valid for that call: pointers to live memory of the size the kernel will read or write.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn call(n: usize, a: [usize; 6]) -> Result {
    let r: isize;
    // SAFETY: the syscall instruction clobbers rcx and r11 only; the rest is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => r, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

/// Makes system call `n`.
///
/// # Safety
/// The arguments must be valid for that call: pointers to live memory of the size the kernel will read or write.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn call(n: usize, a: [usize; 6]) -> Result {
    let r: isize;
    // SAFETY: svc clobbers x0 only; the rest is the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a[0] as isize => r, in("x1") a[1], in("x2") a[2],
             in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

#[inline(always)]
fn padded(given: &[usize]) -> [usize; 6] {
    core::array::from_fn(|i| if i < given.len() { given[i] } else { 0 })
}

macro_rules! syscall {
    ($n:expr $(, $a:expr)*) => {{
        let args = padded(&[$($a as usize),*]);
        // SAFETY: every use in this file passes values or pointers that outlive the call, as its wrapper's types say.
        unsafe { call($n, args) }
    }};
}

/// A NUL-terminated string, checked when it was made.
#[derive(Clone, Copy)]
pub struct Str<'a>(&'a [u8]);

impl<'a> Str<'a> {
    /// The first string in `bytes` and what comes behind its NUL.
    pub fn split(bytes: &'a [u8]) -> Option<(Str<'a>, &'a [u8])> {
        let end = bytes.iter().position(|b| *b == 0)?;
        Some((Str(&bytes[..=end]), &bytes[end + 1..]))
    }
    pub const fn literal(bytes: &'static [u8]) -> Str<'static> {
        assert!(!bytes.is_empty() && bytes[bytes.len() - 1] == 0);
        Str(bytes)
    }
    pub fn ptr(self) -> *const u8 {
        self.0.as_ptr()
    }
    /// Without the NUL.
    pub fn bytes(self) -> &'a [u8] {
        &self.0[..self.0.len() - 1]
    }
}

#[macro_export]
macro_rules! s {
    ($text:literal) => {
        $crate::sys::Str::literal(concat!($text, "\0").as_bytes())
    };
}

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const E2BIG: i32 = 7;
pub const EAGAIN: i32 = 11;
pub const ENOMEM: i32 = 12;
pub const EACCES: i32 = 13;
pub const EBUSY: i32 = 16;
pub const EEXIST: i32 = 17;
pub const ENODEV: i32 = 19;
pub const ENOTDIR: i32 = 20;
pub const EBADF: i32 = 9;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENFILE: i32 = 23;
pub const EMFILE: i32 = 24;
pub const ENOSPC: i32 = 28;
pub const ENOSYS: i32 = 38;
pub const ENOTEMPTY: i32 = 39;
pub const ELOOP: i32 = 40;
pub const EPROTO: i32 = 71;
pub const EPIPE: i32 = 32;
pub const EOPNOTSUPP: i32 = 95;
pub const ECONNRESET: i32 = 104;
pub const ENOBUFS: i32 = 105;
pub const ENOTCONN: i32 = 107;
pub const ETIMEDOUT: i32 = 110;
pub const ETOOMANYREFS: i32 = 109;

pub const AT_FDCWD: Fd = -100;
pub const AT_EMPTY_PATH: usize = 0x1000;
pub const AT_RECURSIVE: usize = 0x8000;
pub const AT_REMOVEDIR: usize = 0x200;

pub const O_RDONLY: usize = 0;
pub const O_WRONLY: usize = 1;
pub const O_RDWR: usize = 2;
pub const O_CREAT: usize = 0o100;
pub const O_EXCL: usize = 0o200;
pub const O_NOCTTY: usize = 0o400;
pub const O_NONBLOCK: usize = 0o4000;
pub const O_CLOEXEC: usize = 0o2000000;
pub const O_PATH: usize = 0o10000000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100000;

pub const SIGKILL: i32 = 9;
pub const SIGCONT: i32 = 18;
pub const SIGSTOP: i32 = 19;
pub const SIGCHLD: i32 = 17;

/// What the kernel calls the ABI of this program: `AUDIT_ARCH_...`.
#[cfg(target_arch = "x86_64")]
pub const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub const AUDIT_ARCH: u32 = 0xC000_00B7;

/// The number of [`exit`].
pub const EXIT_GROUP: usize = nr::EXIT_GROUP;

pub fn exit(status: i32) -> ! {
    loop {
        let _ = syscall!(nr::EXIT_GROUP, status);
    }
}

/// Ends this process without a system call, by a signal.
pub fn trap() -> ! {
    loop {
        // SAFETY: an instruction that there is not; the kernel answers with SIGILL or SIGTRAP, for which we have no handler.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("ud2");
            #[cfg(target_arch = "aarch64")]
            asm!("udf #0");
        }
    }
}

mod files;
mod landlock;
mod mounts;
mod processes;
mod sockets;

pub use files::*;
pub use landlock::*;
pub use mounts::*;
use numbers::{nr, nr_new};
pub use processes::*;
pub use sockets::*;
