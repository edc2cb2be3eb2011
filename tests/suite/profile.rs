//! Profiles of system calls: `strict`, and the caller's own.

use crate::support::{guest_spec, note_skip};
use serde_json::json;
use stockade::{DockerProfile, Network, Outcome, Profile, Sandbox, Spec, Verdict};

/// A Python program with `libc`, and `nr` with numbers of system calls.
fn python(profile: Profile, code: &str) -> Option<Outcome> {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        note_skip("it needs /usr/bin/python3");
        return None;
    }
    let numbers = [
        ("ptrace", libc::SYS_ptrace),
        ("shmget", libc::SYS_shmget),
        ("msgget", libc::SYS_msgget),
        ("keyctl", libc::SYS_keyctl),
        ("setuid", libc::SYS_setuid),
        ("mkdirat", libc::SYS_mkdirat),
        ("getpgid", libc::SYS_getpgid),
        ("io_setup", libc::SYS_io_setup),
        ("seccomp", libc::SYS_seccomp),
    ];
    let numbers: Vec<String> = numbers.map(|(name, nr)| format!("{name}={nr}")).into();
    let head = "import ctypes, errno, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        def call(nr, *args):\n    \
            result = libc.syscall(nr, *(ctypes.c_long(a) for a in args))\n    \
            return 'made' if result >= 0 else errno.errorcode[ctypes.get_errno()]\n";
    let code = format!("{head}class nr: {}\n{code}", numbers.join("; "));
    let mut spec = Spec::new(["/usr/bin/python3", "-I", "-c", &code]);
    spec.profile = profile;
    Some(spec.run().expect("starts"))
}

fn docker(document: serde_json::Value) -> Profile {
    Profile::Docker(DockerProfile::new(document).expect("a profile"))
}

#[test]
fn strict_refuses_what_default_lets_through() {
    let code = "print(call(nr.ptrace, 0, 0, 0, 0), call(nr.shmget, 0, 4096, 0o600), call(nr.msgget, 0, 0o600))\n\
        print(call(nr.io_setup, 1, 0), call(nr.seccomp, 2, 0, 0))\n\
        for family in socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK:\n    \
            try: socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_DGRAM); print('made')\n    \
            except OSError as e: print(errno.errorcode[e.errno])\n\
        socket.socketpair()";
    let Some(strict) = python(Profile::Strict, code) else {
        return;
    };
    let refused = "EPERM EPERM EPERM\nENOSYS ENOSYS\nEAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\n";
    assert_eq!(strict.stdout.to_text(), refused, "{strict:?}");
    let default = python(Profile::Default, code).unwrap();
    let text = default.stdout.to_text();
    assert!(text.contains("made made"), "{default:?}");
    assert!(!text.contains("EAFNOSUPPORT"), "{default:?}");
}

#[test]
fn strict_with_a_network_has_sockets() {
    let code = "import socket; socket.create_server(('127.0.0.1', 0)); print('listens')";
    let mut spec = Spec::new(["/usr/bin/python3", "-I", "-c", code])
        .network(Network::Loopback)
        .profile(Profile::Strict);
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return note_skip("it needs /usr/bin/python3");
    }
    let outcome = spec.run().expect("starts");
    assert_eq!(outcome.stdout.to_text(), "listens\n", "{outcome:?}");
    spec.network = Network::None;
    assert_eq!(spec.run().expect("starts").verdict, Verdict::NonzeroExit);
}

#[test]
fn interpreters_and_compilers_work_under_strict() {
    let script = "import asyncio, json, multiprocessing, os, sqlite3, subprocess, tempfile, threading, time\n\
        def square(n): return n * n\n\
        async def echo():\n    \
            p = await asyncio.create_subprocess_exec('/bin/echo', 'hi', stdout=subprocess.PIPE)\n    \
            return (await p.communicate())[0]\n\
        if __name__ == '__main__':\n    \
            with multiprocessing.Pool(2) as pool: print(sum(pool.map(square, range(10))))\n    \
            print(asyncio.run(echo()))\n    \
            db = sqlite3.connect('x.db'); db.execute('create table t(a)'); db.commit()\n    \
            with tempfile.TemporaryDirectory() as d: os.mkfifo(d + '/fifo'); os.symlink('x', d + '/link')\n    \
            t = threading.Thread(target=time.sleep, args=(0.01,)); t.start(); t.join()\n    \
            print(subprocess.run('ls /usr | sort | head -n 1', shell=True, capture_output=True).stdout)\n    \
            os.nice(1); os.sched_getaffinity(0); os.cpu_count(); os.urandom(8); print(json.dumps({}))\n";
    let c = "#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *x) { return x; }\n\
        int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); puts(\"compiled\"); return 0; }\n";
    let shell = "set -e; mkdir a; cp -a script.py a/b; tar -cf a.tar a; grep -q import a/b; find . -name b | xargs ls -l; \
        sed -i s/json/json/ a/b; sort -u a/b | tail -n 1 >/dev/null; awk 'END { print NR > \"/dev/stderr\" }' a/b; \
        timeout 5 true; mktemp >/dev/null; dd if=/dev/zero of=z bs=1k count=4 status=none; chmod 600 z; echo shell";
    let mut spec = Spec::new(["/bin/sh", "-c", shell]).profile(Profile::Strict);
    spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
    spec = spec.file("script.py", script);
    spec = spec.file("main.c", c);
    let mut run = |command: &str, wants: &str, says: &str| {
        if !std::path::Path::new(wants).exists() {
            return note_skip(&format!("it needs {wants}"));
        }
        spec.args = ["/bin/sh", "-c", command].map(Into::into).into();
        let outcome = spec.run().expect("starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{command}: {outcome:?}");
        assert!(outcome.stdout.to_text().contains(says), "{outcome:?}");
    };
    run(shell, "/bin/sh", "shell");
    run("python3 -I script.py", "/usr/bin/python3", "285");
    run(
        "gcc -O1 -pthread main.c && ./a.out",
        "/usr/bin/gcc",
        "compiled",
    );
    run("perl -e 'print `echo perl`'", "/usr/bin/perl", "perl");
}

#[test]
fn a_profile_in_dockers_format() {
    let profile = docker(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}],
    }));
    let code = "print(call(nr.mkdirat, -100, 0, 0))";
    let Some(outcome) = python(profile, code) else {
        return;
    };
    assert_eq!(outcome.stdout.to_text(), "EDQUOT\n", "{outcome:?}");
}

#[test]
fn what_a_profile_answers_by_killing_is_a_violation() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let profile = docker(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getpgid"], "action": action,
                "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]}],
        }));
        let code = "print(call(nr.getpgid, 0), flush=True); call(nr.getpgid, 7); print('after')";
        let Some(outcome) = python(profile, code) else {
            return;
        };
        assert_eq!(outcome.verdict, Verdict::Violation, "{outcome:?}");
        assert_eq!(outcome.stdout.to_text(), "made\n", "{outcome:?}");
    }
}

#[test]
fn each_program_of_a_live_sandbox_has_its_own() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let kills = docker(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["exit_group"], "action": "SCMP_ACT_KILL",
            "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]}],
    }));
    let run = |code: &str, profile: &Profile| {
        let spec = guest_spec(["exit", code]).profile(profile.clone());
        sandbox.run(&spec).expect("runs").verdict
    };
    assert_eq!(run("3", &kills), Verdict::Violation);
    assert_eq!(run("4", &kills), Verdict::NonzeroExit);
    assert_eq!(run("3", &Profile::Default), Verdict::NonzeroExit);
    assert_eq!(run("3", &Profile::Strict), Verdict::NonzeroExit);
}

#[test]
fn the_same_from_json() {
    let text = r#"{"args": ["x"], "profile": {"defaultAction": "SCMP_ACT_ALLOW"}}"#;
    let spec: Spec = serde_json::from_str(text).expect("a specification");
    let again = serde_json::to_value(&spec).unwrap();
    assert_eq!(again["profile"], json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(serde_json::from_value::<Spec>(again).unwrap(), spec);
    for (profile, why) in [
        (json!("loose"), "`default`, `strict`"),
        (json!(5), "`default`, `strict`"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO"}), "execve"),
    ] {
        let error = serde_json::from_value::<Spec>(json!({"args": ["x"], "profile": profile}));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
