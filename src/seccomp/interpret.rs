//! A filter as the kernel runs it, for tests and fuzzing.

use libc::sock_filter;

/// Runs a program as the kernel would, with the kernel's idea of what a filter may contain.
pub(super) fn run(program: &[sock_filter], audit: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::from(nr.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend(0x7fff_1234_5678_u64.to_le_bytes());
    data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
    let mut word = 0;
    let mut pc = 0;
    loop {
        let at = &program[pc];
        pc += 1;
        let branch = |taken| usize::from(if taken { at.jt } else { at.jf });
        match at.code {
            0x20 => {
                let offset = at.k as usize;
                assert_eq!(offset % 4, 0, "unaligned load");
                word = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x05 => pc += at.k as usize,
            0x15 => pc += branch(word == at.k),
            0x25 => pc += branch(word > at.k),
            0x35 => pc += branch(word >= at.k),
            0x45 => pc += branch(word & at.k != 0),
            0x54 => word &= at.k,
            0x06 => return at.k,
            code => panic!("instruction {code:#x} at {}", pc - 1),
        }
    }
}
