//! Profiles of the caller's own: what is refused, and each program against what its document says.

use super::bpf;
use super::custom::Custom;
use super::interpret::run;
use super::syscalls::{Arch, NATIVE};
use serde_json::{Value, json};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

const fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

fn read(document: &Value) -> Result<Custom, String> {
    Custom::read(document, &NATIVE, (6, 1)).map_err(|e| e.to_string())
}

fn nr(arch: &Arch, name: &str) -> u32 {
    arch.calls().find(|call| call.1 == name).expect(name).0
}

/// What becomes of a call by its name.
fn ask(document: &Value, name: &str, args: [u64; 6]) -> u32 {
    let program = bpf::custom_program(&NATIVE, &read(document).unwrap(), false);
    run(&program, NATIVE.audit, nr(&NATIVE, name), args)
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

fn deny(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

#[test]
fn actions_and_defaults() {
    let document = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "comment": "ours",
        "architectures": ["SCMP_ARCH_X86", NATIVE.scmp],
        "syscalls": [
            {"names": ["execve", "exit_group", "read", "not_here_1"], "action": "SCMP_ACT_ALLOW", "args": null},
            {"name": "write", "action": "SCMP_ACT_LOG", "comment": "old form"},
            {"names": ["mount"], "action": "SCMP_ACT_KILL"},
            {"names": ["umount2"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["close"], "action": "SCMP_ACT_TRAP"},
            {"names": ["dup"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["dup3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        ],
    });
    let cases = [
        ("read", ALLOW),
        ("write", libc::SECCOMP_RET_LOG),
        ("mount", KILL),
        ("umount2", KILL),
        ("close", libc::SECCOMP_RET_TRAP),
        ("dup", errno(1)),
        ("dup3", errno(13)),
        ("getpid", errno(38)),
    ];
    for (name, want) in cases {
        assert_eq!(ask(&document, name, [0; 6]), want, "{name}");
    }
    let program = bpf::custom_program(&NATIVE, &read(&document).unwrap(), false);
    assert_eq!(run(&program, 3, 0, [0; 6]), KILL, "another ABI");
    // What nobody has a name for is not there, whatever the default.
    let all = deny(json!([]));
    let program = bpf::custom_program(&NATIVE, &read(&all).unwrap(), false);
    assert_eq!(run(&program, NATIVE.audit, 999, [0; 6]), errno(38));
}

#[test]
fn every_comparison_of_both_halves() {
    let values = [
        0,
        1,
        5,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 5,
        (5 << 32) + 1,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let ops: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, v| a == v),
        ("SCMP_CMP_NE", |a, v| a != v),
        ("SCMP_CMP_LT", |a, v| a < v),
        ("SCMP_CMP_LE", |a, v| a <= v),
        ("SCMP_CMP_GT", |a, v| a > v),
        ("SCMP_CMP_GE", |a, v| a >= v),
    ];
    for (op, holds) in ops {
        for value in values {
            let document = deny(json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": value, "op": op}]}]));
            for arg in values {
                let got = ask(&document, "lseek", [7, arg, 7, 7, 7, 7]);
                let want = if holds(arg, value) { errno(1) } else { ALLOW };
                assert_eq!(got, want, "{arg:#x} {op} {value:#x}");
            }
        }
    }
    for (mask, value) in [
        (0xf0, 0x50),
        (0xff << 32, 5 << 32),
        (u64::MAX, 1 << 40),
        (1, 2),
    ] {
        let document = deny(json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]}]));
        for arg in [
            0,
            0x50,
            0x5f,
            0x60,
            5 << 32,
            (5 << 32) + 9,
            1 << 40,
            (1 << 40) + 1,
            2,
            3,
        ] {
            let want = if arg & mask == value { errno(1) } else { ALLOW };
            assert_eq!(
                ask(&document, "lseek", first(arg)),
                want,
                "{arg:#x} & {mask:#x}"
            );
        }
    }
}

#[test]
fn rules_of_one_call() {
    let document = deny(json!([
        {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2, "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["lseek"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_GE"}]},
        {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["dup"], "action": "SCMP_ACT_KILL"},
        // With the default action it says nothing.
        {"names": ["lseek", "dup"], "action": "SCMP_ACT_ALLOW"},
    ]));
    let lseek = |a, b| ask(&document, "lseek", [a, b, 0, 0, 0, 0]);
    assert_eq!(
        [lseek(1, 1), lseek(1, 2), lseek(9, 1)],
        [errno(2), ALLOW, KILL]
    );
    assert_eq!(
        ask(&document, "dup", first(1)),
        KILL,
        "the one without conditions outranks"
    );
}

#[test]
fn what_a_rule_is_for() {
    let rule = |more: Value| {
        let mut rule = json!({"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let needed = json!({"names": ["execve", "exit_group"], "action": "SCMP_ACT_ALLOW"});
        let document = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [needed, rule]});
        ask(&document, "ptrace", [0; 6]) == ALLOW
    };
    assert!(rule(json!({})));
    assert!(!rule(json!({"includes": {"caps": ["CAP_SYS_PTRACE"]}})));
    assert!(rule(json!({"excludes": {"caps": ["CAP_SYS_PTRACE"]}})));
    assert!(
        rule(json!({"includes": {"minKernel": "4.8"}}))
            && !rule(json!({"includes": {"minKernel": "6.2"}}))
    );
    assert!(!rule(json!({"excludes": {"minKernel": "4.8"}})));
    assert!(
        rule(json!({"includes": {"arches": [NATIVE.go]}}))
            && !rule(json!({"includes": {"arches": ["s390x"]}}))
    );
    assert!(!rule(json!({"excludes": {"arches": [NATIVE.go]}})));
}

#[test]
fn high_halves_that_the_kernel_ignores_hide_nothing() {
    let document = deny(json!([
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"}]},
    ]));
    assert_eq!(ask(&document, "socket", first(40 | 1 << 32)), errno(1));
    assert_eq!(
        ask(&document, "clone", first(0x1000_0011 | 1 << 50)),
        errno(1)
    );
    assert_eq!(ask(&document, "socket", first(1 | 40 << 32)), ALLOW);
}

#[test]
fn limits_are_not_given_away() {
    let all = deny(json!([]));
    assert_eq!(ask(&all, "prlimit64", first(1)), errno(libc::EPERM));
    assert_eq!(
        ask(&all, "ioctl", [0, libc::TIOCSTI, 0, 0, 0, 0]),
        errno(libc::EPERM)
    );
    let huge = [0, 0, 0, libc::MAP_HUGETLB as u64, 0, 0];
    assert_eq!(ask(&all, "mmap", huge), errno(libc::ENOMEM));
    assert_eq!(ask(&all, "mmap", [0; 6]), ALLOW);
    let program = bpf::custom_program(&NATIVE, &read(&all).unwrap(), true);
    assert_eq!(
        run(&program, NATIVE.audit, nr(&NATIVE, "mmap"), huge),
        ALLOW,
        "a limit on them was given"
    );
}

#[test]
fn what_is_refused() {
    let cases = [
        (json!({}), "defaultAction"),
        (json!({"defaultAction": "SCMP_ACT_MAYBE"}), "is no action"),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "has to allow `execve`",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}),
            "architecture",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}),
            "listenerPath",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}),
            "expected a sequence",
        ),
        (
            deny(json!([{"names": ["execve"], "action": "SCMP_ACT_KILL"}])),
            "has to allow `execve`",
        ),
        (
            deny(json!([{"names": ["mount"], "action": "SCMP_ACT_TRACE"}])),
            "nobody to be asked",
        ),
        (
            deny(json!([{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}])),
            "no error number",
        ),
        (
            deny(json!([{"names": ["mownt"], "action": "SCMP_ACT_ERRNO"}])),
            "mownt",
        ),
        (
            deny(
                json!([{"names": ["mount"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]),
            ),
            "0 to 5",
        ),
        (
            deny(
                json!([{"names": ["mount"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_IS"}]}]),
            ),
            "no comparison",
        ),
        (
            deny(
                json!([{"names": ["socket"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1u64 << 32, "op": "SCMP_CMP_EQ"}]}]),
            ),
            "32 bits",
        ),
        (
            deny(
                json!([{"names": ["mount"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "new"}}]),
            ),
            "no version",
        ),
        (
            deny(
                json!([{"names": ["mount"], "action": "SCMP_ACT_KILL"}, {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]),
            ),
            "contradict",
        ),
    ];
    for (document, why) in cases {
        let error = read(&document).expect_err(&document.to_string());
        assert!(
            error.contains("profile: ") && error.contains(why),
            "{document}: {error}"
        );
    }
}
