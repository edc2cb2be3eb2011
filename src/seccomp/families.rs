//! Whole families of calls that no profile of ours lets through, each member by itself, in the filters as they are built.

use super::interpret::run;
use super::syscalls::{NATIVE, X32_BIT};
use super::{default_program, strict_program};
use libc::{EAFNOSUPPORT, ENOSYS, EPERM, sock_filter};

/// Every filter of ours, with what it is called.
fn ours() -> Vec<(String, &'static [sock_filter])> {
    let mut all = Vec::new();
    for huge in [false, true] {
        all.push((format!("default {huge}"), default_program(huge)));
        for network in [false, true] {
            let name = format!("strict {network} {huge}");
            all.push((name, strict_program(network, huge)));
        }
    }
    all
}

fn number(name: &str) -> u32 {
    let found = NATIVE.calls().find(|(_, call)| *call == name);
    found.unwrap_or_else(|| panic!("no call `{name}`")).0
}

/// Whether the call comes back with one of these errnos, in every filter, whatever is in the rest of its arguments.
fn refused(name: &str, args: [u64; 6], errnos: &[i32]) {
    for (profile, program) in ours() {
        let result = run(program, NATIVE.audit, number(name), args);
        let errno = (result & libc::SECCOMP_RET_DATA) as i32;
        let action = result & libc::SECCOMP_RET_ACTION_FULL;
        assert!(
            action == libc::SECCOMP_RET_ERRNO && errnos.contains(&errno),
            "{name}{args:x?} of {profile}: {result:#x}"
        );
    }
}

/// What an argument of 32 bits can be as one of 64.
fn widened(value: u32) -> [u64; 3] {
    [0, 1 << 32, u64::MAX << 32].map(|high| high | u64::from(value))
}

#[test]
fn no_call_of_these_families_is_made() {
    const FAMILIES: [(&str, &[&str]); 8] = [
        (
            "io_uring",
            &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        ),
        ("keyrings", &["add_key", "request_key", "keyctl"]),
        ("faults in user space", &["userfaultfd"]),
        ("programs in the kernel", &["bpf"]),
        ("counters", &["perf_event_open"]),
        (
            "mounts",
            &[
                "mount",
                "umount2",
                "pivot_root",
                "chroot",
                "open_tree",
                "open_tree_attr",
                "move_mount",
                "fsopen",
                "fsconfig",
                "fsmount",
                "fspick",
                "mount_setattr",
            ],
        ),
        ("namespaces", &["unshare", "setns"]),
        (
            "the machine",
            &[
                "init_module",
                "finit_module",
                "delete_module",
                "kexec_load",
                "kexec_file_load",
                "reboot",
                "swapon",
                "swapoff",
                "acct",
                "quotactl",
                "syslog",
                "settimeofday",
                "clock_settime",
                "sethostname",
                "process_vm_readv",
                "process_vm_writev",
                "name_to_handle_at",
                "open_by_handle_at",
                "kcmp",
                "pidfd_getfd",
                "fanotify_init",
            ],
        ),
    ];
    for (_, calls) in FAMILIES {
        for call in calls {
            for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
                refused(call, args, &[EPERM, ENOSYS]);
            }
        }
    }
    if cfg!(target_arch = "x86_64") {
        for call in ["iopl", "ioperm"] {
            refused(call, [3, 0, 0, 0, 0, 0], &[EPERM]);
        }
    }
}

#[test]
fn no_flag_of_clone_makes_a_namespace() {
    const SIGNAL: u32 = libc::SIGCHLD as u32;
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ] {
        for also in [0, libc::CLONE_VM | libc::CLONE_VFORK, libc::CLONE_NEWUSER] {
            for flags in widened(flag as u32 | also as u32 | SIGNAL) {
                refused("clone", [flags, 0, 0, 0, 0, 0], &[EPERM]);
            }
        }
    }
    // Its flags are out of sight.
    refused("clone3", [u64::MAX; 6], &[ENOSYS]);
    for (profile, program) in ours() {
        let fork = run(
            program,
            NATIVE.audit,
            number("clone"),
            [u64::from(SIGNAL); 6],
        );
        assert_eq!(fork, libc::SECCOMP_RET_ALLOW, "{profile}");
    }
}

#[test]
fn no_other_family_has_sockets() {
    const KNOWN: [i32; 4] = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    for family in (0..=64)
        .chain([i32::MAX, -1])
        .filter(|f| !KNOWN.contains(f))
    {
        for wide in widened(family as u32) {
            for call in ["socket", "socketpair"] {
                for kind in [1, 2, 3, 5] {
                    refused(call, [wide, kind, 0, 0, 0, 0], &[EAFNOSUPPORT]);
                }
            }
        }
    }
}

#[test]
fn no_request_types_into_a_terminal() {
    for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD] {
        for wide in widened(request as u32) {
            for fd in [0, 2, u64::MAX] {
                let args = [fd, wide, u64::MAX, 0, 0, 0];
                refused("ioctl", args, &[EPERM, libc::ENOTTY]);
            }
        }
    }
}

#[test]
fn limits_are_the_callers_own() {
    for pid in (1..100).chain([u32::MAX]) {
        for wide in widened(pid) {
            refused("prlimit64", [wide, 7, 0, 0, 0, 0], &[EPERM]);
        }
    }
    for (profile, program) in ours() {
        let own = run(program, NATIVE.audit, number("prlimit64"), [0; 6]);
        assert_eq!(own, libc::SECCOMP_RET_ALLOW, "{profile}");
    }
}

#[test]
fn no_number_of_another_abi_is_looked_at() {
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    for (profile, program) in ours() {
        for audit in [I386, ARM, 0, !NATIVE.audit, NATIVE.audit & 0x3fff_ffff] {
            for nr in (0..1000).chain([u32::MAX, X32_BIT]) {
                let result = run(program, audit, nr, [0; 6]);
                assert_eq!(result, libc::SECCOMP_RET_KILL_PROCESS, "{nr} of {profile}");
            }
        }
        for nr in (0..1000).filter(|_| NATIVE.x32) {
            let result = run(program, NATIVE.audit, X32_BIT | nr, [0; 6]);
            assert_eq!(result, libc::SECCOMP_RET_KILL_PROCESS, "{nr} of {profile}");
        }
    }
}
