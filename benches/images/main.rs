//! The driver in Rust: what live sandboxes of an image cost. (Starting one is measured by `spawn`.)
//!
//! `images reset COUNT FILES SPEC` prints how long each reset took after `FILES` files were written, in nanoseconds.
//! `images many COUNT SPEC` starts sandboxes with an idle program in each and prints lines `name number`: what they all
//! have taken, in bytes, and how long one start took, in nanoseconds.
//! SPEC is a specification in JSON; its program is the idle one. run.py puts it all together.

use std::collections::HashMap;
use std::time::Instant;
use stockade::{Bytes, Sandbox, Spec, Verdict};

fn reset(count: usize, files: usize, spec: &Spec) {
    let sandbox = Sandbox::start(spec).expect("a sandbox");
    let script =
        format!("mkdir /new; i=0; while [ $i -lt {files} ]; do echo $i >/new/$i; i=$((i+1)); done");
    let mut write = spec.clone();
    write.args = ["/bin/sh", "-c", &script].map(Bytes::from).into();
    for _ in 0..count {
        let outcome = sandbox.run(&write).expect("a run");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        let start = Instant::now();
        sandbox.reset().expect("a reset");
        print!("{} ", start.elapsed().as_nanos());
    }
    println!();
}

/// The parent of every process.
fn parents() -> HashMap<u32, u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// A figure of a file like /proc/meminfo, in bytes.
fn figure(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(number << 10)
}

/// The memory of `root` and all below it, shared pages in parts: of how many processes, and bytes.
fn descendants(root: u32) -> (u64, u64) {
    let parents = parents();
    let (mut number, mut pss) = (0, 0);
    for &pid in parents.keys() {
        let mut above = Some(&pid);
        while let Some(parent) = above.filter(|pid| **pid != root) {
            above = parents.get(parent);
        }
        if above.is_some() {
            let path = format!("/proc/{pid}/smaps_rollup");
            pss += figure(&path, "Pss:").expect("root reads the memory of all");
            number += 1;
        }
    }
    (number, pss)
}

fn many(count: usize, spec: &Spec) {
    // The first starts what they share.
    let first = Sandbox::start(spec).expect("a sandbox");
    let program = first.spawn(spec).expect("a program");
    let pid = program.pid().expect("it is started"); // which it may not be before
    let init = parents()[&pid];
    let supervisor = parents()[&init];
    let of_kernel = || ["Shmem:", "Slab:"].map(|key| figure("/proc/meminfo", key).expect("there"));
    let ((processes, pss), [shmem, slab]) = (descendants(supervisor), of_kernel());
    let start = Instant::now();
    let all: Vec<_> = (0..count)
        .map(|_| {
            let sandbox = Sandbox::start(spec).expect("a sandbox");
            let process = sandbox.spawn(spec).expect("a program");
            process.pid().expect("it is started");
            (process, sandbox)
        })
        .collect();
    let time = start.elapsed();
    let ((more, larger), [more_shmem, more_slab]) = (descendants(supervisor), of_kernel());
    println!("start {}", time.as_nanos() / count as u128);
    println!("processes {}", more - processes);
    println!("pss {}", larger - pss);
    println!("shmem {}", more_shmem.saturating_sub(shmem));
    println!("slab {}", more_slab.saturating_sub(slab));
    drop(all);
    drop((program, first));
}

fn main() {
    // Cargo adds `--bench`, which says nothing here.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().expect("a number");
    let spec = |json: &str| Spec::from_json(json).expect("a specification");
    match words[..] {
        ["reset", count, files, json] => reset(number(count), number(files), &spec(json)),
        ["many", count, json] => many(number(count), &spec(json)),
        _ => eprintln!(
            "usage: images reset COUNT FILES SPEC | images many COUNT SPEC; `make bench-images` runs it all"
        ),
    }
}
