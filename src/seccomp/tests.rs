//! The program against the profile, by running it; the profile and the tables against what is known of them.

use super::interpret::run;
use super::profile::{Action, Check, DEFAULT, Profile, Test, Verdict, WITH_HUGE_PAGES};
use super::server::SERVER;
use super::syscalls::{AARCH64, Arch, NATIVE, X86_64};
use super::{as_bytes, bpf, call, default_program};
use libc::{EAFNOSUPPORT, ENOSYS, EPERM, sock_filter};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::{BTreeMap, BTreeSet};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

const fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

fn expected(verdict: Verdict, args: &[u64; 6]) -> u32 {
    match verdict {
        Verdict::Act(Action::Allow) => ALLOW,
        Verdict::Act(Action::Errno(e)) => errno(e),
        Verdict::Act(_) | Verdict::Decide(_) => panic!("no profile of ours has it"),
        Verdict::Ask(check) => {
            let value = args[check.arg as usize] as u32;
            let made = match check.test {
                Test::Lacks(mask) => value & mask == 0,
                Test::Among(values) => values.contains(&value),
                Test::Outside(values) => !values.contains(&value),
            };
            if made { ALLOW } else { errno(check.errno) }
        }
    }
}

/// Argument values around everything a check compares with, with and without high bits.
fn samples(profile: &Profile) -> Vec<[u64; 6]> {
    let mut values = BTreeSet::from([0, 1, 17, 0x11, 0x1200011, 0x7fff_ffff]);
    for check in profile.checks {
        let compared = match &check.test {
            Test::Lacks(mask) => vec![*mask, mask & mask.wrapping_neg(), !mask],
            Test::Among(values) | Test::Outside(values) => values.to_vec(),
        };
        values.extend(
            compared
                .iter()
                .flat_map(|v| [v.wrapping_sub(1), *v, v.wrapping_add(1)]),
        );
    }
    values.extend((0..32).map(|bit| 1 << bit));
    let mut samples = Vec::new();
    for low in values.into_iter().map(u64::from) {
        for value in [low, low | 1 << 32, low | 0xFFFF_FFFF << 32] {
            samples.push([value, !value, 0, 0, 0, 0]);
            samples.push([!value, value, 0, 0, 0, 0]);
        }
    }
    samples
}

/// The program does what the profile says for every number, and kills on other ABIs.
fn check_program(arch: &Arch, profile: &Profile) -> Vec<sock_filter> {
    let program = bpf::program(arch, profile);
    assert!(program.len() <= libc::BPF_MAXINSNS as usize);
    assert_eq!(
        program.last().unwrap().code,
        0x06,
        "the kernel wants a RET at the end"
    );
    let samples = samples(profile);
    let verdict = profile.verdicts();
    for nr in 0..=1024 {
        let name = arch.name(nr);
        let verdict = verdict(name);
        let asked = matches!(verdict, Verdict::Ask(_));
        for args in samples.iter().take(if asked { usize::MAX } else { 1 }) {
            let got = run(&program, arch.audit, nr, *args);
            assert_eq!(got, expected(verdict, args), "{nr} {name:?} {args:x?}");
        }
    }
    for nr in (0..32)
        .flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 57])
        .chain([u32::MAX])
    {
        let got = run(&program, arch.audit, nr, [0; 6]);
        let x32 = arch.x32 && nr & 0x4000_0000 != 0 && nr != u32::MAX;
        let want = if x32 {
            KILL
        } else {
            expected(verdict(arch.name(nr)), &[0; 6])
        };
        assert_eq!(got, want, "{nr:#x}");
    }
    // i386, ARM, both byte orders of neighbours, nothing at all.
    for audit in [
        0x4000_0003,
        0x4000_0028,
        0xC000_003E,
        0xC000_00B7,
        0x8000_00B7,
        0xC000_00F3,
        0,
    ] {
        for nr in (0..600).filter(|_| audit != arch.audit) {
            assert_eq!(run(&program, audit, nr, [0; 6]), KILL, "{audit:#x} {nr}");
        }
    }
    program
}

#[test]
fn does_what_the_profile_says() {
    for arch in [&X86_64, &AARCH64] {
        let strict = [(false, false), (false, true), (true, false)];
        let strict = strict.map(|(network, huge)| super::strict::strict(network, huge));
        for profile in [&DEFAULT, &WITH_HUGE_PAGES, &SERVER]
            .into_iter()
            .chain(&strict)
        {
            let program = check_program(arch, profile);
            assert!(program.len() < 230, "{} instructions", program.len());
        }
    }
}

#[test]
fn jumps_farther_than_an_offset_reaches() {
    // Three verdicts in turn make a run of every number, and a tree of hundreds of nodes.
    for arch in [&X86_64, &AARCH64] {
        let every_third = |rest| {
            let calls = arch.calls().filter(move |(nr, _)| nr % 3 == rest);
            calls.map(|(_, name)| name).collect::<Vec<_>>()
        };
        let profile = Profile {
            also: "",
            allowed: every_third(0).join(" ").leak(),
            checks: DEFAULT.checks,
            absent: every_third(1).leak(),
        };
        let program = check_program(arch, &profile);
        assert!(program.len() > 300, "{} instructions", program.len());
    }
}

#[test]
fn makes_programs_of_degenerate_profiles() {
    static NOTHING: [Check; 1] = [Check {
        calls: &["read"],
        arg: 5,
        test: Test::Outside(&[]),
        errno: EPERM,
    }];
    let profiles = [
        Profile {
            also: "",
            allowed: "",
            checks: &[],
            absent: &[],
        },
        Profile {
            also: "",
            allowed: "",
            checks: &NOTHING,
            absent: &[],
        },
    ];
    for profile in &profiles {
        check_program(&X86_64, profile);
        check_program(&AARCH64, profile);
    }
    let every: Vec<_> = AARCH64.calls().map(|(_, name)| name).collect();
    check_program(
        &AARCH64,
        &Profile {
            also: "",
            allowed: "",
            checks: &[],
            absent: every.leak(),
        },
    );
}

/// A second opinion on what is allowed, from a compiler that shares no code with ours.
#[test]
fn agrees_with_seccompiler() {
    for (arch, target) in [
        (&X86_64, TargetArch::x86_64),
        (&AARCH64, TargetArch::aarch64),
    ] {
        let verdict = DEFAULT.verdicts();
        let rules: BTreeMap<i64, Vec<SeccompRule>> = arch
            .calls()
            .filter_map(|(nr, name)| match verdict(Some(name)) {
                Verdict::Act(Action::Allow) => Some((nr.into(), vec![])),
                Verdict::Ask(check) => Some((nr.into(), seccompiler_rules(check))),
                _ => None,
            })
            .collect();
        let refuse = SeccompAction::Errno(EPERM as u32);
        let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, target).unwrap();
        let theirs: seccompiler::BpfProgram = filter.try_into().unwrap();
        let theirs: Vec<sock_filter> = theirs
            .iter()
            .map(|i| sock_filter {
                code: i.code,
                jt: i.jt,
                jf: i.jf,
                k: i.k,
            })
            .collect();
        let ours = bpf::program(arch, &DEFAULT);
        let samples = samples(&DEFAULT);
        for nr in 0..=1024 {
            let asked = matches!(verdict(arch.name(nr)), Verdict::Ask(_));
            for args in samples.iter().take(if asked { usize::MAX } else { 1 }) {
                let allowed = run(&ours, arch.audit, nr, *args) == ALLOW;
                let by_them = run(&theirs, arch.audit, nr, *args) == ALLOW;
                assert_eq!(allowed, by_them, "{nr} {args:x?}");
            }
        }
    }
}

fn seccompiler_rules(check: &Check) -> Vec<SeccompRule> {
    let condition = |op, value: u32| {
        SeccompCondition::new(check.arg as u8, SeccompCmpArgLen::Dword, op, value.into()).unwrap()
    };
    let rule = |conditions| SeccompRule::new(conditions).unwrap();
    match check.test {
        Test::Lacks(mask) => vec![rule(vec![condition(
            SeccompCmpOp::MaskedEq(mask.into()),
            0,
        )])],
        Test::Among(values) => values
            .iter()
            .map(|v| rule(vec![condition(SeccompCmpOp::Eq, *v)]))
            .collect(),
        Test::Outside(values) => {
            vec![rule(
                values
                    .iter()
                    .map(|v| condition(SeccompCmpOp::Ne, *v))
                    .collect(),
            )]
        }
    }
}

#[test]
fn refuses_what_leads_out_of_a_sandbox() {
    let refused = "\
        unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig \
        fsmount fspick mount_setattr bpf perf_event_open userfaultfd keyctl add_key request_key io_uring_setup \
        io_uring_enter io_uring_register kexec_load kexec_file_load init_module finit_module delete_module \
        process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp quotactl quotactl_fd swapon swapoff \
        reboot settimeofday clock_settime acct name_to_handle_at open_by_handle_at lookup_dcookie syslog \
        sethostname setdomainname vhangup iopl ioperm fanotify_init mbind set_mempolicy move_pages \
        migrate_pages nfsservctl uselib ustat sysfs";
    for arch in [&X86_64, &AARCH64] {
        let program = bpf::program(arch, &DEFAULT);
        let call = |name, args: [u64; 6]| {
            let nr = arch.calls().find(|(_, n)| *n == name)?.0;
            Some(run(&program, arch.audit, nr, args))
        };
        let mut known = 0;
        for answer in refused
            .split_whitespace()
            .filter_map(|name| call(name, [0; 6]))
        {
            assert_eq!(answer, errno(EPERM));
            known += 1;
        }
        assert!(known >= 50, "{known} of them");
        assert_eq!(call("clone3", [0; 6]), Some(errno(ENOSYS)));
        for high in [0, 1 << 32, 1 << 63] {
            let first = |arg: u64| [arg | high, 0, 0, 0, 0, 0];
            let second = |arg: u64| [3, arg | high, 0, 0, 0, 0];
            let pthread_create = 0x003d_0f00;
            for flag in [
                0x0002_0000,
                0x0200_0000,
                0x0400_0000,
                0x0800_0000,
                0x1000_0000,
                0x2000_0000,
                0x4000_0000,
            ] {
                assert_eq!(call("clone", first(flag | 17)), Some(errno(EPERM)));
                assert_eq!(
                    call("clone", first(flag | pthread_create)),
                    Some(errno(EPERM))
                );
            }
            assert_eq!(call("clone", first(pthread_create)), Some(ALLOW));
            assert_eq!(call("clone", first(0x0120_0011)), Some(ALLOW));
            for family in 0..=64 {
                let want = if [1, 2, 10, 16].contains(&family) {
                    ALLOW
                } else {
                    errno(EAFNOSUPPORT)
                };
                assert_eq!(call("socket", first(family)), Some(want), "{family}");
                assert_eq!(call("socketpair", first(family)), Some(want), "{family}");
            }
            for request in [0x5412, 0x541C, 0x5423] {
                assert_eq!(call("ioctl", second(request)), Some(errno(EPERM)));
            }
            for request in [0x5401, 0x5413, 0x540E, 0x5421, 0x8004_5430] {
                assert_eq!(call("ioctl", second(request)), Some(ALLOW));
            }
            assert_eq!(call("personality", first(0x0400_0000)), Some(errno(EPERM)));
            assert_eq!(call("personality", first(0xFFFF_FFFF)), Some(ALLOW));
        }
    }
}

/// What serves a root may do nothing that a sandbox's program may not, and no more than that with files.
#[test]
fn what_serves_a_root_works_on_files_only() {
    let (server, program) = (SERVER.verdicts(), DEFAULT.verdicts());
    let refused = "socket socketpair connect bind sendto recvfrom sendmsg recvmsg kill tkill tgkill ptrace \
        pidfd_open pidfd_send_signal pidfd_getfd process_vm_readv process_vm_writev mount umount2 pivot_root chroot \
        unshare setns fork vfork execveat bpf keyctl io_uring_setup memfd_create shmget msgget semget mq_open \
        open_by_handle_at perf_event_open userfaultfd seccomp capset prctl setsid";
    for name in refused.split_whitespace() {
        assert_eq!(
            server(Some(name)),
            Verdict::Act(Action::Errno(EPERM)),
            "{name}"
        );
    }
    for (_, name) in X86_64.calls() {
        if server(Some(name)) == Verdict::Act(Action::Allow) {
            assert!(
                matches!(
                    program(Some(name)),
                    Verdict::Act(Action::Allow) | Verdict::Ask(_)
                ),
                "{name}"
            );
        }
    }
}

#[test]
fn profile_names_are_calls_and_named_once() {
    let known: BTreeSet<_> = X86_64
        .calls()
        .chain(AARCH64.calls())
        .map(|(_, name)| name)
        .collect();
    let strict = super::strict::strict(false, false);
    for profile in [&DEFAULT, &SERVER, &strict] {
        let mut seen = BTreeSet::new();
        let checked = profile.checks.iter().flat_map(|check| check.calls);
        let allowed = profile.allowed.split_whitespace();
        for name in allowed
            .chain(checked.copied())
            .chain(profile.absent.iter().copied())
        {
            assert!(known.contains(name), "no call is named {name}");
            assert!(seen.insert(name), "{name} is named twice");
        }
    }
    // Strict is a part of the default.
    let default = DEFAULT.verdicts();
    let verdicts = strict.verdicts();
    for (_, name) in X86_64.calls() {
        let denied = |verdict| matches!(verdict, Verdict::Act(action) if !action.permits());
        assert!(
            denied(verdicts(Some(name))) || !denied(default(Some(name))),
            "{name}"
        );
    }
}

#[test]
fn tables_are_in_order_and_without_repetition() {
    for arch in [&X86_64, &AARCH64] {
        let calls: Vec<_> = arch.calls().collect();
        assert!(calls.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(
            calls.iter().map(|c| c.1).collect::<BTreeSet<_>>().len(),
            calls.len()
        );
        for &(nr, name) in &calls {
            assert_eq!(arch.name(nr), Some(name));
        }
        let names = (0..2000).filter_map(|nr| arch.name(nr)).count();
        assert_eq!(names, calls.len());
    }
}

/// Names from all over the table: one name too many or too few would move all that follow it.
#[test]
fn numbers_are_those_of_libc() {
    macro_rules! same {
        ($($sys:ident)*) => {
            $(assert_eq!(NATIVE.name(libc::$sys as u32), Some(&stringify!($sys)[4..]));)*
        };
    }
    same! {
        SYS_read SYS_close SYS_mmap SYS_rt_sigreturn SYS_ioctl SYS_shmget SYS_socket SYS_clone SYS_semget
        SYS_execve SYS_fcntl SYS_ptrace SYS_personality SYS_mount SYS_sethostname SYS_init_module SYS_quotactl
        SYS_gettid SYS_setxattr SYS_futex SYS_io_setup SYS_lookup_dcookie SYS_timer_create SYS_clock_settime
        SYS_mbind SYS_mq_open SYS_kexec_load SYS_keyctl SYS_openat SYS_unshare SYS_splice SYS_move_pages
        SYS_accept4 SYS_perf_event_open SYS_fanotify_init SYS_setns SYS_kcmp SYS_finit_module SYS_bpf
        SYS_userfaultfd SYS_statx SYS_rseq SYS_kexec_file_load SYS_pidfd_send_signal SYS_io_uring_setup
        SYS_open_tree SYS_clone3 SYS_openat2 SYS_pidfd_getfd SYS_process_madvise SYS_mount_setattr
        SYS_landlock_restrict_self SYS_memfd_secret SYS_set_mempolicy_home_node SYS_mseal
    }
    assert_eq!(NATIVE.name(400), None);
    assert_eq!(NATIVE.name(5000), None);
    assert_eq!(NATIVE.name(u32::MAX), None);
}

#[test]
fn a_call_is_named_with_its_abi() {
    let named = |audit, nr| call(audit, nr);
    let x86_64 = X86_64.audit;
    assert_eq!(named(x86_64, 101), ("x86_64".into(), Some("ptrace")));
    assert_eq!(named(x86_64, 0x4000_0027), ("x32".into(), Some("getpid")));
    // Of x32's own, and none at all.
    assert_eq!(named(x86_64, 0x4000_0209), ("x32".into(), None));
    assert_eq!(named(x86_64, u32::MAX), ("x32".into(), None));
    assert_eq!(
        named(AARCH64.audit, 117),
        ("aarch64".into(), Some("ptrace"))
    );
    assert_eq!(named(0x4000_0003, 20), ("i386".into(), None));
    assert_eq!(named(0x4000_0028, 20), ("arm".into(), None));
    assert_eq!(named(0x8000_0016, 20), ("0x80000016".into(), None));
}

#[test]
fn bytes_are_those_of_the_program() {
    let program = default_program(false);
    let bytes = as_bytes(program);
    assert_eq!(bytes.len(), 8 * program.len());
    for (i, chunk) in program.iter().zip(bytes.chunks_exact(8)) {
        let mut want = Vec::from(i.code.to_ne_bytes());
        want.extend([i.jt, i.jf]);
        want.extend(i.k.to_ne_bytes());
        assert_eq!(chunk, want);
    }
    assert!(as_bytes(&[]).is_empty());
}
