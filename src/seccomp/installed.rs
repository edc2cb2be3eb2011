//! The default filter at work, in processes of their own: it cannot be taken off again.

use super::{as_bytes, default_program};
use libc::{EAFNOSUPPORT, EBADF, EINVAL, ENOMEM, ENOSYS, EPERM, c_long, sock_filter, sock_fprog};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

/// Puts the calling process under `program`, for good. Makes system calls only.
pub(super) fn install(program: &[sock_filter]) -> io::Result<()> {
    let fprog = sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: prctl() reads no memory here, and seccomp() reads `fprog` and the program it points to, which both
    // live until it returns.
    let result = unsafe {
        match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) {
            0 => libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const fprog,
            ),
            failed => failed.into(),
        }
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Forks, has the child run `body`, and gives the status that wait() has for it.
///
/// As the tests have threads, `body` must not allocate or lock: system calls only.
pub(super) fn in_child(body: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child does nothing but what `body` does, and leaves by _exit().
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        // SAFETY: _exit() has no conditions.
        0 => unsafe { libc::_exit(body().into()) },
        child => {
            let mut status = 0;
            // SAFETY: `status` is there to be written to.
            let waited = unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(waited, child, "waitpid: {}", io::Error::last_os_error());
            status
        }
    }
}

/// A system call without the C library's ideas about it: the result, or the errno negated.
fn call(nr: c_long, args: [u64; 4]) -> i64 {
    // SAFETY: the calls made below either are refused, or fail for their arguments, or touch no memory.
    let result = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3]) };
    if result < 0 {
        -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        result
    }
}

const ANY_FD: u64 = u64::MAX;

/// Calls, and the errno that each must come back with under the filter.
fn refused() -> Vec<(&'static str, c_long, [u64; 4], i32)> {
    let high = 1 << 32;
    let user = libc::CLONE_NEWUSER as u64;
    vec![
        (
            "clone(NEWUSER)",
            libc::SYS_clone,
            [user | 17, 0, 0, 0],
            EPERM,
        ),
        (
            "clone(NEWUSER), bit 32 set",
            libc::SYS_clone,
            [high | user | 17, 0, 0, 0],
            EPERM,
        ),
        // Without the filter: no such size of pages, a descriptor, no such size of memory.
        (
            "mmap(HUGETLB)",
            libc::SYS_mmap,
            [0, 4096, 0, (libc::MAP_HUGETLB | 63 << 26) as u32 as u64],
            ENOMEM,
        ),
        (
            "memfd_create(HUGETLB)",
            libc::SYS_memfd_create,
            [0, libc::MFD_HUGETLB as u64, 0, 0],
            ENOMEM,
        ),
        (
            "shmget(HUGETLB)",
            libc::SYS_shmget,
            [0, 0, libc::SHM_HUGETLB as u64, 0],
            ENOMEM,
        ),
        ("clone3", libc::SYS_clone3, [0, 0, 0, 0], ENOSYS),
        (
            "unshare(NEWUSER)",
            libc::SYS_unshare,
            [user, 0, 0, 0],
            EPERM,
        ),
        ("unshare(nothing)", libc::SYS_unshare, [0; 4], EPERM),
        ("setns", libc::SYS_setns, [ANY_FD, 0, 0, 0], EPERM),
        ("mount", libc::SYS_mount, [0; 4], EPERM),
        ("open_tree", libc::SYS_open_tree, [ANY_FD, 0, 0, 0], EPERM),
        ("fsopen", libc::SYS_fsopen, [0; 4], EPERM),
        ("bpf", libc::SYS_bpf, [u64::MAX, 0, 0, 0], EPERM),
        ("keyctl", libc::SYS_keyctl, [0, -3_i64 as u64, 0, 0], EPERM),
        ("add_key", libc::SYS_add_key, [0; 4], EPERM),
        ("request_key", libc::SYS_request_key, [0; 4], EPERM),
        (
            "io_uring_setup",
            libc::SYS_io_uring_setup,
            [1, 0, 0, 0],
            EPERM,
        ),
        (
            "userfaultfd",
            libc::SYS_userfaultfd,
            [u64::MAX, 0, 0, 0],
            EPERM,
        ),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            [1, 0, 0, 0],
            EPERM,
        ),
        (
            "name_to_handle_at",
            libc::SYS_name_to_handle_at,
            [ANY_FD, 0, 0, 0],
            EPERM,
        ),
        (
            "AF_VSOCK",
            libc::SYS_socket,
            [libc::AF_VSOCK as u64, 1, 0, 0],
            EAFNOSUPPORT,
        ),
        (
            "AF_ALG",
            libc::SYS_socket,
            [libc::AF_ALG as u64, 5, 0, 0],
            EAFNOSUPPORT,
        ),
        (
            "AF_PACKET",
            libc::SYS_socket,
            [libc::AF_PACKET as u64, 3, 0, 0],
            EAFNOSUPPORT,
        ),
        (
            "AF_PACKET, bit 32 set",
            libc::SYS_socket,
            [high | libc::AF_PACKET as u64, 3, 0, 0],
            EAFNOSUPPORT,
        ),
        (
            "socketpair(AF_PACKET)",
            libc::SYS_socketpair,
            [libc::AF_PACKET as u64, 3, 0, 0],
            EAFNOSUPPORT,
        ),
        (
            "TIOCSTI",
            libc::SYS_ioctl,
            [ANY_FD, libc::TIOCSTI, 0, 0],
            EPERM,
        ),
        (
            "TIOCSTI, bit 32 set",
            libc::SYS_ioctl,
            [ANY_FD, high | libc::TIOCSTI, 0, 0],
            EPERM,
        ),
        (
            "TIOCSTI, all high bits set",
            libc::SYS_ioctl,
            [ANY_FD, !0 << 32 | libc::TIOCSTI, 0, 0],
            EPERM,
        ),
        (
            "TIOCLINUX",
            libc::SYS_ioctl,
            [ANY_FD, libc::TIOCLINUX, 0, 0],
            EPERM,
        ),
        (
            "TIOCSETD",
            libc::SYS_ioctl,
            [ANY_FD, libc::TIOCSETD, 0, 0],
            EPERM,
        ),
        (
            "personality(ADDR_NO_RANDOMIZE)",
            libc::SYS_personality,
            [0x0004_0000, 0, 0, 0],
            EPERM,
        ),
        (
            "fcntl(F_SETLEASE)",
            libc::SYS_fcntl,
            [ANY_FD, libc::F_SETLEASE as u64, 0, 0],
            EINVAL,
        ),
        (
            "fcntl(F_NOTIFY)",
            libc::SYS_fcntl,
            [ANY_FD, libc::F_NOTIFY as u64, 0, 0],
            EINVAL,
        ),
        ("file_getattr", 468, [ANY_FD, 0, 0, 0], ENOSYS),
        ("a call of the future", 900, [0; 4], ENOSYS),
    ]
}

#[test]
fn refuses() {
    let calls = refused();
    for (what, nr, args, errno) in &calls {
        let status = in_child(|| {
            if install(default_program(false)).is_err() {
                return 255;
            }
            call(*nr, *args).unsigned_abs() as u8
        });
        assert!(libc::WIFEXITED(status), "{what}: status {status:#x}");
        assert_eq!(libc::WEXITSTATUS(status), *errno, "{what}");
    }
}

#[test]
fn lets_through() {
    let calls: &[(&str, c_long, [u64; 4], i64)] = &[
        (
            "TIOCGWINSZ",
            libc::SYS_ioctl,
            [ANY_FD, libc::TIOCGWINSZ, 0, 0],
            -i64::from(EBADF),
        ),
        (
            "FIONREAD",
            libc::SYS_ioctl,
            [ANY_FD, libc::FIONREAD, 0, 0],
            -i64::from(EBADF),
        ),
        (
            "personality(asked)",
            libc::SYS_personality,
            [0xFFFF_FFFF, 0, 0, 0],
            0,
        ),
        ("mseal(nothing)", libc::SYS_mseal, [0; 4], 0),
        ("capset", libc::SYS_capset, [0; 4], -i64::from(libc::EFAULT)),
        (
            "mq_unlink",
            libc::SYS_mq_unlink,
            [0; 4],
            -i64::from(libc::EFAULT),
        ),
        (
            "semop",
            libc::SYS_semtimedop,
            [ANY_FD, 0, 0, 0],
            -i64::from(libc::EINVAL),
        ),
        (
            "close_range",
            libc::SYS_close_range,
            [!0 >> 32, !0 >> 32, 0, 0],
            0,
        ),
    ];
    for (what, nr, args, want) in calls {
        let before = in_child(|| u8::from(call(*nr, *args) != *want));
        if before != 0 && [libc::SYS_mseal, libc::SYS_close_range].contains(nr) {
            eprintln!("{what}: not on this kernel");
            continue;
        }
        let status = in_child(|| {
            if install(default_program(false)).is_err() {
                return 255;
            }
            u8::from(call(*nr, *args) != *want)
        });
        assert_eq!((before, status), (0, 0), "{what}");
    }
}

/// `refuses` proves something only where these calls come back with something else by themselves. Not all do: it
/// depends on privileges, on the kernel's configuration and on the sandbox that the tests may run in.
#[test]
fn refused_calls_do_something_else_without_the_filter() {
    let differs = |(_, nr, args, errno): &&(_, c_long, [u64; 4], i32)| {
        let status = in_child(|| call(*nr, *args).unsigned_abs() as u8);
        !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != *errno
    };
    let differing = refused().iter().filter(differs).count();
    assert!(differing >= 8, "{differing} of {}", refused().len());
}

/// Status of a child that makes a 32-bit call.
#[cfg(target_arch = "x86_64")]
fn int80(program: Option<&[sock_filter]>) -> i32 {
    in_child(|| {
        if program.is_some_and(|p| install(p).is_err()) {
            return 255;
        }
        let pid: i64;
        // SAFETY: call 20 of the i386 ABI is getpid(), which touches no memory.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => pid) };
        u8::from(pid <= 0)
    })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn kills_other_abis() {
    // A kernel without 32-bit calls makes it a segmentation fault.
    if int80(None) == 0 {
        let status = int80(Some(default_program(false)));
        assert!(libc::WIFSIGNALED(status), "{status:#x}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGSYS);
    } else {
        eprintln!("no 32-bit system calls here");
    }
    let x32 = in_child(|| {
        if install(default_program(false)).is_err() {
            return 255;
        }
        call(0x4000_0000 + libc::SYS_getpid, [0; 4]);
        0
    });
    assert!(libc::WIFSIGNALED(x32), "{x32:#x}");
    assert_eq!(libc::WTERMSIG(x32), libc::SIGSYS);
}

/// Runs under the filter, as a program of its own; see `ordinary_programs_run`.
#[test]
#[ignore = "is for ordinary_programs_run to start"]
fn as_an_ordinary_program() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "no filter is installed");
    let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n * n)).collect();
    let squares: Vec<i32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(squares, [0, 1, 4, 9]);
    let listing = Command::new("sh")
        .args(["-c", "ls / | sort | head -c 100000"])
        .output()
        .unwrap();
    assert!(listing.status.success() && !listing.stdout.is_empty());
    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
    assert_eq!(server.accept().unwrap().1, client.local_addr().unwrap());
    std::os::unix::net::UnixStream::pair().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    std::fs::rename(&file, dir.path().join("other")).unwrap();
    // SAFETY: the name is a C string.
    let memfd = unsafe { libc::memfd_create(c"memory".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(memfd >= 0, "memfd_create: {}", io::Error::last_os_error());
}

#[test]
fn ordinary_programs_run() {
    let program = default_program(false);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--ignored",
        "--exact",
        "seccomp::installed::as_an_ordinary_program",
    ]);
    // SAFETY: `install` makes system calls only.
    unsafe { command.pre_exec(move || install(program)) };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "signal {:?}: {said}",
        output.status.signal()
    );
    assert!(said.contains("1 passed"), "{said}");
}

/// The bytes are what gets installed in a sandbox, by something that may copy them to any place.
#[test]
fn bytes_can_be_installed() {
    let bytes = as_bytes(default_program(false));
    let copy: Vec<sock_filter> = bytes
        .chunks_exact(8)
        .map(|b| sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    assert_eq!(in_child(|| u8::from(install(&copy).is_err())), 0);
}
