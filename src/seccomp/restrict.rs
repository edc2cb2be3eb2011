//! The filter of programs without namespaces: the profile `strict`, less what would reach the caller's other processes and
//! files, which Landlock has no say about, and which are the program's own by all that the kernel else asks.
//!
//! No socket can be made, but for pairs that are connected to each other: a UNIX socket would lead to the caller's session
//! bus, desktop and agents. With the host's network there are those of the Internet. Modes, owners, times and attributes
//! are changed of no file by its path, and of none at all by calls that take both. Limits and processors are the
//! caller's own alone, priorities nobody's, since 0 can mean all of a user's processes, and inotify, which would watch any directory, is not there.

use super::profile::{Check, Profile, Test};
use super::strict::strict;
use libc::{EAFNOSUPPORT, EPERM};

/// Of `strict`, which changes files by their paths, or other processes.
const REFUSED: &[&str] = &[
    "chmod",
    "chown",
    "fchmodat",
    "fchmodat2",
    "fchownat",
    "fremovexattr",
    "fsetxattr",
    "futimesat",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "ioctl",
    "lchown",
    "lremovexattr",
    "lsetxattr",
    "prlimit64",
    "removexattr",
    "sched_setaffinity",
    "setpriority",
    "setxattr",
    "socket",
    "socketpair",
    "utime",
    "utimensat",
    "utimes",
];

/// No family at all.
const NO_SOCKET: Check = Check {
    calls: &["socket"],
    arg: 0,
    test: Test::Among(&[]),
    errno: EAFNOSUPPORT,
};

const INTERNET: Check = Check {
    test: Test::Among(&[
        libc::AF_INET as u32,
        libc::AF_INET6 as u32,
        libc::AF_NETLINK as u32,
    ]),
    ..NO_SOCKET
};

const OWN: &[Check] = &[
    // Of a connected pair: one of datagrams could be connected to somebody else.
    Check {
        calls: &["socketpair"],
        arg: 1,
        test: Test::Among(&[
            libc::SOCK_STREAM as u32,
            (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u32,
            (libc::SOCK_STREAM | libc::SOCK_NONBLOCK) as u32,
            (libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32,
        ]),
        errno: EAFNOSUPPORT,
    },
    // Its own, by 0: by number they are anybody's of the same user.
    Check {
        calls: &["prlimit64", "sched_setaffinity"],
        arg: 0,
        test: Test::Among(&[0]),
        errno: EPERM,
    },
];

/// For a program without a network, or with the host's.
pub(super) fn restrict(network: bool) -> Profile {
    let strict = strict(network, false);
    let allowed: Vec<&str> = strict
        .allowed
        .split_ascii_whitespace()
        .filter(|call| !REFUSED.contains(call))
        .collect();
    let socket = if network { INTERNET } else { NO_SOCKET };
    let mut checks = vec![socket];
    checks.extend(OWN);
    let kept = |check: &&Check| {
        !check
            .calls
            .iter()
            .any(|call| ["socket", "prlimit64"].contains(call))
    };
    checks.extend(strict.checks.iter().filter(kept));
    Profile {
        allowed: String::leak(allowed.join(" ")),
        checks: Vec::leak(checks),
        ..strict
    }
}
