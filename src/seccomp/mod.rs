//! The system call filter: an allow-list in the kernel, below everything else that confines a sandbox.
//!
//! `profile` says what is allowed, `syscalls` which number means what, and `bpf` makes a program of the two. That
//! happens once in a host process; the program is then installed as bytes, by something that knows none of this.
//! It stands for a process without capabilities and with `no_new_privs`, for its whole life, and is inherited.
//!
//! Every other ABI of the machine (32-bit, x32) kills the process, as a table of numbers means nothing there.

mod bpf;
mod custom;
#[cfg(fuzzing)]
mod fuzzing;
#[cfg(any(test, fuzzing))]
mod interpret;
mod profile;
mod restrict;
mod server;
mod strict;
mod syscalls;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod custom_tests;
#[cfg(test)]
mod families;
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

#[cfg(fuzzing)]
pub(crate) use fuzzing::check;

use crate::error::Error;
use crate::once::Once;
use libc::sock_filter;

/// The filter of the default profile for the running architecture. Built at the first call; callable from any
/// thread.
pub(crate) fn default_program(huge_pages: bool) -> &'static [sock_filter] {
    static PROGRAMS: [Once<Vec<sock_filter>>; 2] = [const { Once::new() }; 2];
    let profile = match huge_pages {
        false => &profile::DEFAULT,
        true => &profile::WITH_HUGE_PAGES,
    };
    PROGRAMS[usize::from(huge_pages)].get_or_init(|| bpf::program(&syscalls::NATIVE, profile))
}

/// That of the profile `strict`, for a sandbox with a network or without.
pub(crate) fn strict_program(network: bool, huge_pages: bool) -> &'static [sock_filter] {
    static PROGRAMS: [Once<Vec<sock_filter>>; 4] = [const { Once::new() }; 4];
    let which = usize::from(network) * 2 + usize::from(huge_pages);
    let profile = || strict::strict(network, huge_pages);
    PROGRAMS[which].get_or_init(|| bpf::program(&syscalls::NATIVE, &profile()))
}

/// That of programs without namespaces.
pub(crate) fn restrict_program(network: bool) -> &'static [sock_filter] {
    static PROGRAMS: [Once<Vec<sock_filter>>; 2] = [const { Once::new() }; 2];
    let profile = || restrict::restrict(network);
    PROGRAMS[usize::from(network)].get_or_init(|| bpf::program(&syscalls::NATIVE, &profile()))
}

/// The filters of a profile of the caller's own: without huge pages, and with.
#[derive(Debug)]
pub(crate) struct Own([Vec<sock_filter>; 2]);

impl Own {
    /// Reads Docker's format, for this machine.
    pub fn read(document: &serde_json::Value) -> Result<Own, Error> {
        let profile = custom::Custom::read(document, &syscalls::NATIVE, release())?;
        let own = [false, true].map(|huge| bpf::custom_program(&syscalls::NATIVE, &profile, huge));
        let length = own.iter().map(Vec::len).max().unwrap_or(0);
        if length > libc::BPF_MAXINSNS as usize {
            return Err(Error::invalid(format!(
                "profile: it makes a filter of {length} instructions; the kernel takes {}",
                libc::BPF_MAXINSNS
            )));
        }
        Ok(Own(own))
    }

    pub fn program(&self, huge_pages: bool) -> &[sock_filter] {
        &self.0[usize::from(huge_pages)]
    }

    /// Whether a call is answered by SIGSYS.
    pub fn traps(&self) -> bool {
        let returns = |one: &sock_filter| one.code == (libc::BPF_RET | libc::BPF_K) as u16;
        let mut all = self.0.iter().flatten();
        all.any(|one| {
            returns(one) && one.k & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRAP
        })
    }
}

/// The first two numbers of the kernel's version.
fn release() -> (u32, u32) {
    let name = nix::sys::utsname::uname().ok();
    let text = name.as_ref().and_then(|name| name.release().to_str());
    let mut numbers = text
        .unwrap_or("")
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
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

/// What the ABI with that `AUDIT_ARCH_*` value is called, and the name there of call `nr`, if both are known.
pub(crate) fn call(audit: u32, nr: u32) -> (String, Option<&'static str>) {
    syscalls::call(audit, nr)
}
