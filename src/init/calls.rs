//! The calls for which a program's filter kills, as its init hears of them: by the filter's listener (seccomp(2),
//! `SECCOMP_RET_USER_NOTIF`), which is made in the descriptors that the child shares with init until its exec, and so is
//! init's without any way for the program to have it.

use crate::sys::*;
use crate::wire::Violation;

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 6;
const KILL_PROCESS: u32 = 0x8000_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;

/// Installs the filter. The process that makes a call that it kills for is held, and init told, by the descriptor that
/// this gives, or -1 if the filter kills for none. Where that cannot be, the kernel kills that process as the filter
/// says; then the errno of why not is in `unheard`.
pub fn install(filter: &mut [u8], unheard: &mut i32) -> Result<Fd> {
    if replace(filter, KILL_PROCESS, USER_NOTIF) == 0 {
        return seccomp(filter).map(|_| -1);
    }
    match seccomp_listening(filter) {
        Err(errno) => {
            *unheard = errno;
            replace(filter, USER_NOTIF, KILL_PROCESS);
            seccomp(filter).map(|_| -1)
        }
        listener => listener,
    }
}

/// An instruction, `struct sock_filter`.
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

fn instruction(bytes: &[u8]) -> Instruction {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    Instruction {
        code: u16::from_ne_bytes([at(0), at(1)]),
        yes: at(2),
        no: at(3),
        k: u32::from_ne_bytes([at(4), at(5), at(6), at(7)]),
    }
}

/// Has the filter return `new` where it returned `old`, and says in how many places.
fn replace(filter: &mut [u8], old: u32, new: u32) -> usize {
    let mut places = 0;
    for bytes in filter.chunks_exact_mut(8) {
        let Instruction { code, k, .. } = instruction(bytes);
        if code == RETURN && k == old {
            bytes[4..].copy_from_slice(&new.to_ne_bytes());
            places += 1;
        }
    }
    places
}

/// The call of our own that the filter would hold us for, if it would. Init waits for our exec, and would wait for ever.
pub fn own(filter: &[u8], nr: usize, args: [usize; 6]) -> Option<Violation> {
    let args = args.map(|arg| arg as u64);
    let call = Violation {
        seen: 1,
        nr: nr as u32,
        arch: AUDIT_ARCH,
        main: 1,
        args,
        ..Violation::default()
    };
    (run(filter, &call) == USER_NOTIF).then_some(call)
}

/// What the filter returns for a call, as the kernel runs it. Where it does what no filter of ours does, it kills.
fn run(filter: &[u8], call: &Violation) -> u32 {
    // Of `struct seccomp_data`; where the call is made no profile can ask.
    let load = |offset: u32| match offset {
        0 => call.nr,
        4 => call.arch,
        8 | 12 => 0,
        _ => {
            let arg = call.args.get((offset as usize - 16) / 8);
            (arg.copied().unwrap_or(0) >> (offset % 8 * 8)) as u32
        }
    };
    let (mut word, mut at) = (0u32, 0);
    while let Some(bytes) = filter.get(at * 8..at * 8 + 8) {
        let Instruction { code, yes, no, k } = instruction(bytes);
        at += 1;
        let taken = match code {
            0x20 => {
                word = load(k);
                continue;
            }
            0x54 => {
                word &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            RETURN => return k,
            0x15 => word == k,
            0x25 => word > k,
            0x35 => word >= k,
            0x45 => word & k != 0,
            _ => return USER_NOTIF,
        };
        at += usize::from(if taken { yes } else { no });
    }
    USER_NOTIF
}
