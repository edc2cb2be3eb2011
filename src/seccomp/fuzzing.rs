//! What must hold of every filter that a profile of the caller's becomes.

use super::interpret::run;
use super::syscalls::{NATIVE, X32_BIT};
use libc::{ENOSYS, sock_filter};

/// Whether the kernel would take the program: it ends, wherever it goes, and jumps nowhere outside.
fn is_sound(program: &[sock_filter]) -> bool {
    let inside = |at: usize, offset: u32| at + 1 + (offset as usize) < program.len();
    let instruction = |(at, one): (usize, &sock_filter)| match one.code {
        0x06 => true,
        0x05 => inside(at, one.k),
        0x20 => one.k % 4 == 0 && one.k < 64 && inside(at, 0),
        0x54 => inside(at, 0),
        0x15 | 0x25 | 0x35 | 0x45 => inside(at, u32::from(one.jt)) && inside(at, u32::from(one.jf)),
        _ => false,
    };
    (1..=libc::BPF_MAXINSNS as usize).contains(&program.len())
        && program.iter().enumerate().all(instruction)
}

/// Holds a filter against what is the same with every profile.
pub(crate) fn check(program: &[sock_filter]) {
    assert!(is_sound(program));
    let kills = libc::SECCOMP_RET_KILL_PROCESS;
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
    let call = |name: &str, args| {
        let (nr, _) = NATIVE.calls().find(|(_, one)| *one == name)?;
        Some(run(program, NATIVE.audit, nr, args))
    };
    for nr in [0, 20, 1000, u32::MAX] {
        assert_eq!(run(program, 0x4000_0003, nr, [0; 6]), kills);
    }
    if NATIVE.x32 {
        assert_eq!(run(program, NATIVE.audit, X32_BIT | 39, [0; 6]), kills);
    }
    assert_eq!(run(program, NATIVE.audit, 900, [0; 6]), errno(ENOSYS));
    // Whatever else is said of it, it is not made.
    for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD] {
        for high in [0, 1 << 32, u64::MAX << 32] {
            let result = call("ioctl", [0, high | request, 0, 0, 0, 0]);
            assert!(result.is_some_and(|r| !permits(r)), "{result:?}");
        }
    }
    let limits_of_init = call("prlimit64", [1, 0, 0, 0, 0, 0]);
    assert!(limits_of_init.is_some_and(|r| !permits(r)));
    for name in ["execve", "exit_group"] {
        assert!(call(name, [u64::MAX; 6]).is_some());
    }
    for (nr, _) in NATIVE.calls() {
        for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
            let action = run(program, NATIVE.audit, nr, args) & libc::SECCOMP_RET_ACTION_FULL;
            let known = [
                libc::SECCOMP_RET_ALLOW,
                libc::SECCOMP_RET_LOG,
                libc::SECCOMP_RET_ERRNO,
                libc::SECCOMP_RET_TRAP,
                kills,
            ];
            assert!(known.contains(&action), "{action:#x}");
        }
    }
}

fn permits(result: u32) -> bool {
    [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG].contains(&result)
}
