//! What installing a filter costs. Not a test: it prints, and is to be run on a quiet machine with
//! `cargo test --release --lib seccomp::cost -- --ignored --nocapture`.

use super::installed::{in_child, install};
use super::profile::{Action, DEFAULT, Verdict};
use super::{bpf, syscalls};
use libc::sock_filter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const ROUNDS: usize = 500;

/// The straightforward filter: compares with one allowed number after the other.
fn list() -> Vec<sock_filter> {
    let op = |code: u32, k, jt, jf| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    let verdict = DEFAULT.verdicts();
    for (nr, name) in syscalls::NATIVE.calls() {
        if verdict(Some(name)) == Verdict::Act(Action::Allow) {
            program.push(op(libc::BPF_JMP | libc::BPF_JEQ, nr, 0, 1));
            program.push(op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0));
        }
    }
    program.push(op(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | 1, 0, 0));
    program
}

/// Memory that a forked child shares with this process.
fn shared_word() -> &'static AtomicU64 {
    let (read_write, shared) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping overlaps nothing, is zeroed, aligned, and never unmapped.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, read_write, shared, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        &*page.cast()
    }
}

/// Nanoseconds one installation takes in a new process, shortest first.
fn installations(program: &[sock_filter], word: &AtomicU64) -> Vec<u64> {
    let mut times: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let status = in_child(|| {
                let start = Instant::now();
                let failed = install(program).is_err();
                word.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                failed.into()
            });
            assert_eq!(status, 0);
            word.load(Ordering::Relaxed)
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
#[ignore = "prints how long installing takes"]
fn of_installing() {
    let start = Instant::now();
    let tree = bpf::program(&syscalls::NATIVE, &DEFAULT);
    println!("building the default program: {:?}", start.elapsed());
    let word = shared_word();
    let list = list();
    for (what, program) in [
        ("allow all", &list[2..3]),
        ("default", &tree),
        ("list", &list),
        ("default", &tree),
    ] {
        let times = installations(program, word);
        let at = |percent: usize| times[ROUNDS * percent / 100] as f64 / 1000.0;
        println!(
            "{what:10} {:4} instructions: p10 {:.1} median {:.1} p90 {:.1} us",
            program.len(),
            at(10),
            at(50),
            at(90)
        );
    }
}
