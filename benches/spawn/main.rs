//! The driver in Rust: times whole calls of the library beside plain `posix_spawn` of the same program.
//!
//! `spawn latency COUNT SPEC PLAIN [PEER...]` prints a line `name ns ns ...` per series, measured in turns.
//! `spawn rate CALLERS SPEC PLAIN [PEER...]` prints a line `name runs-per-second` per series.
//! SPEC is a specification in JSON; PLAIN and PEER are command lines split at spaces, or PEER is a name for another
//! specification and that: `NAME={...}`. run.py puts it all together.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stockade::{Spec, Verdict};

/// How long a slice of a rate is measured, and how many slices there are of each series, in turns.
const SLICE: Duration = Duration::from_millis(500);
const SLICES: u32 = 4;

/// What is measured: one whole call, from nothing to a verdict.
enum Series {
    Stockade(Box<Spec>),
    Plain(Vec<CString>),
}

impl Series {
    fn call(&self) {
        match self {
            Series::Stockade(spec) => {
                let outcome = spec.run().expect("a run");
                assert_eq!(outcome.verdict, Verdict::Ok, "{:?}", outcome.message);
            }
            Series::Plain(args) => spawn_and_wait(args),
        }
    }
}

fn spawn_and_wait(args: &[CString]) {
    let mut argv: Vec<*mut libc::c_char> = args.iter().map(|a| a.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let envp = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: all strings are NUL-terminated and both vectors end in a null pointer.
    let error = unsafe {
        libc::posix_spawn(
            &mut pid,
            argv[0],
            std::ptr::null(),
            std::ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    assert_eq!(error, 0, "posix_spawn");
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "waitpid");
}

fn command(line: &str) -> Series {
    let args = line
        .split(' ')
        .map(|arg| CString::new(arg).expect("no NUL"));
    Series::Plain(args.collect())
}

fn latency(count: usize, series: &[(&str, Series)]) {
    const WARM: usize = 20;
    let mut times = vec![Vec::with_capacity(count); series.len()];
    for turn in 0..WARM + count {
        for ((_, series), times) in series.iter().zip(&mut times) {
            let start = Instant::now();
            series.call();
            let time = start.elapsed();
            if turn >= WARM {
                times.push(time.as_nanos());
            }
        }
    }
    for ((name, _), times) in series.iter().zip(times) {
        let times: Vec<String> = times.iter().map(u128::to_string).collect();
        println!("{name} {}", times.join(" "));
    }
}

fn rate(callers: usize, series: &[(&str, Series)]) {
    let mut rates = vec![0.0; series.len()];
    for _ in 0..SLICES {
        for ((_, series), rate) in series.iter().zip(&mut rates) {
            let runs = AtomicU64::new(0);
            let start = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        while start.elapsed() < SLICE {
                            series.call();
                            runs.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            *rate += runs.into_inner() as f64 / start.elapsed().as_secs_f64() / f64::from(SLICES);
        }
    }
    for ((name, _), rate) in series.iter().zip(rates) {
        println!("{name} {rate:.1}");
    }
}

fn main() {
    // Cargo adds `--bench`, which says nothing here.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let [
        mode @ ("latency" | "rate"),
        number,
        spec,
        plain,
        ref peer @ ..,
    ] = words[..]
    else {
        eprintln!(
            "usage: spawn latency|rate NUMBER SPEC PLAIN [PEER...]; `make bench` runs it all"
        );
        return;
    };
    let number = number.parse().expect("a number");
    let spec = Spec::from_json(spec).expect("a specification");
    let mut series = vec![
        ("plain", command(plain)),
        ("stockade", Series::Stockade(Box::new(spec))),
    ];
    series.extend(peer.iter().map(|line| match line.split_once('=') {
        Some((name, json)) if json.starts_with('{') => {
            let spec = Spec::from_json(json).expect("a specification");
            (name, Series::Stockade(Box::new(spec)))
        }
        _ => ("bubblewrap", command(line)),
    }));
    match mode {
        "latency" => latency(number, &series),
        _ => rate(number, &series),
    }
}
