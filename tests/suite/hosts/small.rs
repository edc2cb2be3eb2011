//! Hosts of a few lines.

use super::say;
use crate::support::{guest_spec, run_guest};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;
use stockade::{ErrorKind, Verdict};

/// Leaks a directory, a file and a pipe without close-on-exec, and says what of it is inside.
pub fn leaky() {
    for path in [c"/", c"/etc/hostname", c"/proc/self/environ"] {
        // SAFETY: a path that ends with NUL.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
        assert!(fd >= 0);
        // SAFETY: a descriptor that is open.
        assert!(unsafe { libc::fcntl(fd, libc::F_DUPFD, 200) } >= 0);
    }
    for _ in 0..2 {
        let fds = run_guest(["ls-fds"]).stdout.to_text();
        let kinds: Vec<_> = fds
            .lines()
            .map(|line| line.split(':').next().expect("a word"))
            .collect();
        say(&format!("fds: {}", kinds.join(" ")));
        say(&format!(
            "env: {}",
            run_guest(["env"]).stdout.to_text().trim_end()
        ));
        let outcome = run_guest(["read", "/proc/1/cmdline"]);
        say(&format!(
            "init: {:?} {:?}",
            outcome.stdout.to_text(),
            outcome.stderr.to_text()
        ));
        let outcome = run_guest(["read", "/proc/1/environ"]);
        say(&format!(
            "init: {:?} {:?}",
            outcome.stdout.to_text(),
            outcome.stderr.to_text()
        ));
    }
    say("done");
}

/// Is stopped by the test while its program has a limit of half a second.
pub fn stopped() {
    let process = guest_spec(["sleep", "20"])
        .wall_time(Duration::from_millis(500))
        .spawn()
        .expect("starts");
    say(&process.pid().expect("it runs").to_string());
    say(process.wait().expect("wait").verdict.name());
}

/// Has no descriptor left for one run, and enough for the next.
pub fn few_descriptors() {
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
    let mut taken = Vec::new();
    loop {
        // SAFETY: standard input is open.
        let fd = unsafe { libc::dup(std::io::stdin().as_raw_fd()) };
        if fd < 0 {
            break;
        }
        // SAFETY: `fd` is new and ours.
        taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // None, then one, two, ... free: wherever the set-up runs dry, it says so and nothing hangs.
    for free in 0..6 {
        match guest_spec(["true"]).run() {
            Ok(outcome) => assert_eq!(outcome.verdict, Verdict::Ok, "{free} free: {outcome:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Resource, "{free} free: {error:?}");
                if free == 0 {
                    say("refused");
                }
            }
        }
        taken.pop();
    }
    drop(taken);
    if run_guest(["true"]).verdict == Verdict::Ok {
        say("works");
    }
}

/// Has another device in the place of /dev/null, in a mount namespace of its own.
pub fn false_device() {
    // SAFETY: plain calls with paths that end with NUL; only this thread, and what it starts, is somewhere else then.
    let done = unsafe {
        let none = std::ptr::null();
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                none.cast(),
            ) == 0
            && libc::mount(
                c"/dev/zero".as_ptr(),
                c"/dev/null".as_ptr(),
                none,
                libc::MS_BIND,
                none.cast(),
            ) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
    say(&guest_spec(["true"])
        .run()
        .expect_err("a false device")
        .to_string());
}

/// Is in a container whose filter answers openat2 with that error.
pub fn no_openat2(errno: u32) {
    let op = |code: u32, k, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let ret = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ,
            libc::SYS_openat2 as u32,
            0,
            1,
        ),
        op(ret, libc::SECCOMP_RET_ERRNO | errno, 0, 0),
        op(ret, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a filter that lives through the call, for this thread and what it starts.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    assert!(installed, "{}", std::io::Error::last_os_error());
    crate::files::paths_hold();
    say("files");
    crate::sandbox::later_files_hold();
    say("a live sandbox");
    crate::volumes::roots_hold();
    say("roots");
}
