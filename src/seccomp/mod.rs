//! The system call filter: an allow-list in the kernel, below everything else that confines a sandbox.
//!
//! `profile` says what is allowed, `syscalls` which number means what, and `bpf` makes a program of the two. That
//! happens once in a host process; the program is then installed as bytes, by something that knows none of this.
//! It stands for a process without capabilities and with `no_new_privs`, for its whole life, and is inherited.
//!
//! Every other ABI of the machine (32-bit, x32) kills the process, as a table of numbers means nothing there.

mod bpf;
mod profile;
mod server;
mod syscalls;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod installed;
#[cfg(test)]
mod tests;

#[cfg(not(all(
    target_os = "linux",
    target_endian = "little",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("Stockade has system call tables for 64-bit Linux on x86-64 and little-endian ARM");

use crate::once::Once;
use libc::sock_filter;

/// The filter of the default profile for the running architecture. Built at the first call; callable from any
/// thread.
pub(crate) fn default_program() -> &'static [sock_filter] {
    static PROGRAM: Once<Vec<sock_filter>> = Once::new();
    PROGRAM.get_or_init(|| bpf::program(&syscalls::NATIVE, &profile::DEFAULT))
}

/// The same for a sandbox that may have huge pages.
pub(crate) fn program_with_huge_pages() -> &'static [sock_filter] {
    static PROGRAM: Once<Vec<sock_filter>> = Once::new();
    PROGRAM.get_or_init(|| bpf::program(&syscalls::NATIVE, &profile::WITH_HUGE_PAGES))
}

/// The filter of what serves a sandbox's root through FUSE.
pub(crate) fn server_program() -> &'static [sock_filter] {
    static PROGRAM: Once<Vec<sock_filter>> = Once::new();
    PROGRAM.get_or_init(|| bpf::program(&syscalls::NATIVE, &server::SERVER))
}

/// A program as it lies in memory: 8 bytes for each instruction, in the byte order of the machine.
pub(crate) fn as_bytes(program: &[sock_filter]) -> &[u8] {
    // SAFETY: sock_filter is 8 bytes of integers without padding, any of which may be read as u8, and the
    // result borrows from `program`.
    unsafe { std::slice::from_raw_parts(program.as_ptr().cast(), size_of_val(program)) }
}

/// The name of system call `nr` on the running architecture, or `None` if it is newer than Stockade.
#[allow(dead_code)] // for reports of what was refused
pub(crate) fn syscall_name(nr: u32) -> Option<&'static str> {
    syscalls::NATIVE.name(nr)
}
