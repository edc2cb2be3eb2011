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
