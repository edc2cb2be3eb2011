//! Landlock: rules, and the domain that they make.

use super::*;

/// A ruleset without rules: what it handles of files and of the network, and its scopes.
pub fn landlock_ruleset(files: u64, network: u64, scopes: u64) -> Result<Fd> {
    // Older kernels take the longer structure if what they do not know of is zero.
    let handled = [files, network, scopes];
    syscall!(
        nr_new::LANDLOCK_CREATE_RULESET,
        handled.as_ptr(),
        size_of_val(&handled),
        0
    )
    .map(|fd| fd as Fd)
}

/// Allows `access` to what `path` is open on, and below it.
pub fn landlock_allow(ruleset: Fd, path: Fd, access: u64) -> Result {
    const LANDLOCK_RULE_PATH_BENEATH: usize = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: Fd,
    }
    let rule = PathBeneath {
        access,
        parent: path,
    };
    syscall!(
        nr_new::LANDLOCK_ADD_RULE,
        ruleset,
        LANDLOCK_RULE_PATH_BENEATH,
        &raw const rule,
        0
    )
}

/// Holds this thread, and what it starts, to the ruleset from now on.
pub fn landlock_restrict(ruleset: Fd, flags: u32) -> Result {
    syscall!(nr_new::LANDLOCK_RESTRICT_SELF, ruleset, flags)
}
