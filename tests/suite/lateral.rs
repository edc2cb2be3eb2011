//! Sandboxes side by side and one after another: nothing of one reaches another.

use crate::support::{fields, guest_spec, run_guest};
use std::os::fd::AsRawFd;
use stockade::{Network, Process, Stdio, Verdict};

/// Starts the guest and waits for its first line, `ready`.
fn start_ready(args: &[&str]) -> Process {
    let process = guest_spec(args)
        .stdout(Stdio::Pipe)
        .spawn()
        .expect("starts");
    wait_ready(&process);
    process
}

pub fn wait_ready(process: &Process) {
    let stdout = process.take_stdout().expect("a pipe");
    let mut line = [0u8; 6];
    let mut got = 0;
    while got < line.len() {
        // SAFETY: the buffer has that much room, and the descriptor is open.
        let n = unsafe {
            libc::read(
                stdout.as_raw_fd(),
                line[got..].as_mut_ptr().cast(),
                line.len() - got,
            )
        };
        assert!(n > 0, "the guest ended before it was ready");
        got += n as usize;
    }
    assert_eq!(&line, b"ready\n");
}

#[test]
fn abstract_sockets_do_not_cross() {
    let listening = start_ready(&["abstract-listen", "guest", "20"]);
    let beside = fields(&run_guest(["abstract-connect", "guest"]));
    assert_eq!(beside["connect"], "ECONNREFUSED");
    listening.kill().expect("kill");
    assert_eq!(listening.wait().expect("wait").verdict, Verdict::Killed);
    // The same network namespace may be used again: of the last run nothing may be left in it.
    for _ in 0..20 {
        let outcome = run_guest(["abstract-listen", "guest", "0"]);
        assert_eq!(
            outcome.verdict,
            Verdict::Ok,
            "the name is taken: {outcome:?}"
        );
    }
    for _ in 0..5 {
        let outcome = guest_spec(["abstract-listen", "guest", "0"])
            .network(Network::Loopback)
            .run()
            .expect("starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    }
}

#[test]
fn shared_memory_and_queues_do_not_cross() {
    let left = fields(&run_guest(["ipc-leave"]));
    assert_eq!(left["devshm"], "OK", "/dev/shm is there to be used");
    for _ in 0..10 {
        for (what, result) in fields(&run_guest(["ipc-find"])) {
            assert_ne!(result, "OK", "{what} is seen by the next sandbox");
        }
    }
}

#[test]
fn files_do_not_cross() {
    for path in ["/work/left", "/tmp/left", "/dev/shm/left"] {
        assert_eq!(run_guest(["write-file", path, "10"]).verdict, Verdict::Ok);
        let seen = fields(&run_guest(["open", path]));
        assert_eq!(seen[path], "ENOENT");
    }
}

#[test]
fn processes_do_not_cross() {
    let sleeping = guest_spec(["sleep", "20"]).spawn().expect("starts");
    let outcome = run_guest(["ps"]);
    assert!(outcome.stdout.to_text().lines().count() <= 2, "{outcome:?}");
    // Killing everything it can see does nothing to the other.
    assert_eq!(run_guest(["kill-all"]).verdict, Verdict::Ok);
    assert!(
        sleeping.poll().expect("poll").is_none(),
        "the other sandbox ended"
    );
    sleeping.kill().expect("kill");
}
