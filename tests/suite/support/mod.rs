//! What the tests share: the guest program, a specification that runs it, looks at the host, and skips.

mod disk;
mod guest;
mod host;
mod skips;

pub use disk::{ON_DISK_SIZE, OnDisk, free_huge_pages};
pub use guest::{fields, guest_dir, guest_spec, run_guest, run_succeeds, start_clock};
pub use host::{
    Host, ROLE_VARIABLE, adopt_orphans, alive, all_cgroups_of, bury_orphans, cgroups_of, children,
    descendants, is_root, mount_count, open_descriptors, owner, resident, wait_until,
};
pub use skips::{note_skip, say_aloud};

use std::time::Duration;
use stockade::{EnforcementStatus, ErrorKind, Outcome};

/// Ends the test with the reason why it cannot be run on this host.
macro_rules! skip {
    ($($why:tt)*) => {{
        crate::support::note_skip(&format!($($why)*));
        return;
    }};
}
pub(crate) use skip;

/// Why this host cannot limit pids, if it cannot.
pub fn no_pids_limit() -> Option<String> {
    match guest_spec(["true"]).pids(8).run() {
        Err(error) if error.kind() == ErrorKind::Unsupported => Some(error.to_string()),
        _ => None,
    }
}

/// How many times as slow as usual this machine is, such as an emulated one: bounds on time grow with it.
pub fn slowness() -> u32 {
    std::env::var("STOCKADE_SUITE_SLOWNESS").map_or(1, |n| n.parse().expect("a number"))
}

/// How far a machine that does other things beside the tests may be late. A promise of "limit + 1 s" is held
/// against this.
pub fn promise() -> Duration {
    Duration::from_secs(1) * slowness()
}

/// Whether the outcome says that this limit holds exactly.
pub fn enforced(outcome: &Outcome, limit: &str) -> bool {
    status(outcome, limit) == EnforcementStatus::Enforced
}

/// What the outcome says of a limit or a protection; fails if it says nothing.
pub fn status(outcome: &Outcome, name: &str) -> EnforcementStatus {
    match outcome.enforcement.get(name) {
        Some(enforcement) => enforcement.status,
        None => panic!(
            "enforcement says nothing of `{name}`: {:?}",
            outcome.enforcement
        ),
    }
}
