//! Hosts that do odd things with their children and streams, and one that looks whether anything was done to it.

use super::say;
use crate::support::{guest_spec, run_guest};
use std::sync::atomic::{AtomicBool, Ordering};
use stockade::{Stdio, Verdict};

/// The kinds of run that must work in every host.
fn some_runs() {
    for _ in 0..5 {
        assert_eq!(run_guest(["exit", "7"]).returncode, 7);
        assert_eq!(run_guest(["signal", "9"]).returncode, -9);
    }
    let outcome = guest_spec(["cat"]).input("through").run().expect("runs");
    assert_eq!(
        (outcome.verdict, &*outcome.stdout, &*outcome.stderr),
        (Verdict::Ok, &b"through"[..], &b""[..])
    );
    let process = guest_spec(["catch-term"])
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    let mut pipe = std::fs::File::from(process.take_stdout().expect("a pipe"));
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut pipe, &mut ready).expect("ready");
    process.signal(libc::SIGTERM).expect("signal");
    assert_eq!(process.wait().expect("wait").returncode, 7);
}

pub fn sigchld_ignored() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    some_runs();
    say("works");
}

/// A thread that waits for every child there is, as some language runtimes and init-like hosts do.
pub fn reaps_all() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let reaper = std::thread::spawn(|| {
        while !DONE.load(Ordering::Relaxed) {
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
            std::thread::yield_now();
        }
    });
    some_runs();
    DONE.store(true, Ordering::Relaxed);
    reaper.join().expect("no panic");
    say("works");
}

/// Standard streams closed before the first use, so that new descriptors get the numbers 0 to 2.
pub fn closed_streams() {
    // SAFETY: descriptors of this process; standard output is put back before anything is said.
    let (kept, errors) = unsafe {
        let kept = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 100);
        let errors = libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 100);
        for fd in 0..3 {
            libc::close(fd);
        }
        (kept, errors)
    };
    let worked = std::panic::catch_unwind(some_runs);
    // SAFETY: as above; whatever has the numbers 1 and 2 now is the library's, which is not used again.
    unsafe {
        libc::dup2(kept, 1);
        libc::dup2(errors, 2);
    }
    say(if worked.is_ok() { "works" } else { "fails" });
    // The library's own descriptors were among 0 to 2: end without touching them.
    std::process::exit(0);
}

/// A signal every millisecond, whose handler makes every system call that waits come back early.
pub fn interrupted() {
    extern "C" fn nothing(_: libc::c_int) {}
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 1000,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the handler does nothing; all-zero is a valid sigaction, without SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()),
            0
        );
        assert_eq!(
            libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &timer, 0),
            0
        );
    }
    some_runs();
    say("works");
    // SAFETY: as above; what follows does not expect to be interrupted.
    unsafe {
        let none: libc::itimerval = std::mem::zeroed();
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &none, 0);
    }
}

/// No working directory, no umask to speak of, few descriptors, no environment.
pub fn odd_surroundings() {
    crate::support::guest_dir();
    let gone = tempfile::tempdir().expect("a directory");
    std::env::set_current_dir(gone.path()).expect("chdir");
    gone.close().expect("rmdir");
    // SAFETY: plain calls that change this process; `few` lives through the call.
    unsafe {
        libc::umask(0o777);
        libc::clearenv();
        let few = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 4096,
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &few), 0);
    }
    some_runs();
    let outcome = guest_spec(["ls", "/work"])
        .file("dir/file", "content")
        .file("file", "")
        .collect("dir/file")
        .run();
    let outcome = outcome.expect("runs");
    assert_eq!(
        outcome.stdout.to_text(),
        "dir dir 755 0:0 \nfile file 644 0:0 \n"
    );
    assert_eq!(&*outcome.outputs["dir/file"].content, b"content");
    say("works");
}

/// All of this process that a library has no business to change.
fn state() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let kept = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "NoNewPrivs",
        "Seccomp",
        "CapEff",
        "TracerPid",
    ];
    let mut text: Vec<String> = status
        .lines()
        .filter(|line| kept.iter().any(|key| line.starts_with(key)))
        .map(str::to_string)
        .collect();
    for link in [
        "cwd",
        "root",
        "ns/user",
        "ns/mnt",
        "ns/net",
        "ns/pid_for_children",
        "ns/cgroup",
    ] {
        text.push(format!(
            "{link} {:?}",
            std::fs::read_link(format!("/proc/self/{link}"))
        ));
    }
    for file in ["cgroup", "limits", "oom_score_adj", "mountinfo", "environ"] {
        text.push(std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
    }
    text.push(format!("{:?}", std::env::vars_os().collect::<Vec<_>>()));
    text.join("\n")
}

pub fn undisturbed() {
    let before = state();
    some_runs();
    let after = state();
    assert_eq!(before, after, "the library changed its host");
    let threads = std::fs::read_dir("/proc/self/task").expect("tasks").count();
    // The test runner's two.
    say(&format!("works, {threads} threads"));
}
