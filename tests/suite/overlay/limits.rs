//! Limits hold over a writable root as anywhere.

use super::*;
use crate::support::{enforced, fields};
use stockade::Enforce;

#[test]
fn the_disk_and_inode_limits_hold_for_the_root() {
    let tree = Tree::new().done();
    let used: u64 = content(tree.0.path())
        .values()
        .map(|(.., bytes)| bytes.len().next_multiple_of(4096) as u64)
        .sum();
    for overlay in drivers() {
        // A copy is the program's own use.
        let own = if overlay == Overlay::Copy { used } else { 0 };
        let outcome = over(&tree, overlay, ["write-file", "/data/big", "8m"])
            .disk(own + (2 << 20))
            .run()
            .expect("starts");
        let written: u64 = fields(&outcome)["written"].parse().expect("a number");
        assert_eq!(
            fields(&outcome)["error"],
            "ENOSPC",
            "{overlay:?}: {outcome:?}"
        );
        assert!(
            (1 << 20..=2 << 20).contains(&written),
            "{overlay:?}: {written}"
        );
        assert_eq!(
            outcome.verdict,
            Verdict::DiskLimit,
            "{overlay:?}: {outcome:?}"
        );
        let outcome = over(&tree, overlay, ["many-files", "/data/empty", "1000"])
            .inodes(100)
            .run()
            .expect("starts");
        let made: u64 = fields(&outcome)["made"].parse().expect("a number");
        assert!(made < 100, "{overlay:?}: {outcome:?}");
    }
}

#[test]
fn the_memory_and_time_limits_hold_over_a_root() {
    let tree = Tree::new().done();
    for overlay in drivers() {
        let spec = over(&tree, overlay, ["alloc", "256m", "hold"]);
        let outcome = spec.memory(32 << 20).run().expect("starts");
        assert_eq!(
            outcome.verdict,
            Verdict::MemoryLimit,
            "{overlay:?}: {outcome:?}"
        );
        let spec = over(&tree, overlay, ["pids", "20"]).enforce(Enforce::BestEffort);
        let outcome = spec.pids(8).run().expect("starts");
        if enforced(&outcome, "pids") {
            assert_eq!(fields(&outcome)["started"], "7", "{overlay:?}: {outcome:?}");
        }
        let spec = over(&tree, overlay, ["spin", "20"]).cpu_time(Duration::from_millis(200));
        let outcome = spec.run().expect("starts");
        assert_eq!(
            outcome.verdict,
            Verdict::TimeLimit,
            "{overlay:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_copy_that_does_not_fit_is_an_error_that_says_so() {
    let tree = Tree::new().done();
    let spec = || over(&tree, Overlay::Copy, ["true"]);
    // In memory, where the file system says so, and on a disk, where that is counted.
    for spec in [
        spec().disk(64 << 10),
        spec().disk(64 << 10).upper_dir("/var/tmp"),
        spec().inodes(3).upper_dir("/var/tmp"),
    ] {
        let error = spec.run().expect_err("too small");
        assert!(
            error.to_string().contains("`disk` or `inodes` limit"),
            "{error}"
        );
    }
}
