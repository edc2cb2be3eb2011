//! Sub-ids: the range of host ids that belongs to a user, and the helpers that map it.

use super::Check;
use super::host::Host;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A range smaller than this does not hold the ids of an ordinary system (65534 is nobody).
const ENOUGH: u64 = 65536;

pub(super) fn check(host: &Host) -> Check {
    let name = "sub-ids";
    if host.uid == 0 {
        return Check::ok(name, "not needed: root writes the maps itself");
    }
    let user = host.user();
    let mut lacks = Vec::new();
    let mut fixes = Vec::new();
    let tables = ["/etc/subuid", "/etc/subgid"].map(|file| host.read(file).unwrap_or_default());
    for (table, file) in tables.iter().zip(["/etc/subuid", "/etc/subgid"]) {
        let owned = owned(table, &user, host.uid);
        if owned < ENOUGH {
            lacks.push(format!("{owned} ids for `{user}` in {file}"));
        }
    }
    if !lacks.is_empty() {
        let first = tables
            .iter()
            .map(|table| first_free(table))
            .max()
            .unwrap_or(100_000);
        let last = first + ENOUGH - 1;
        fixes.push(format!(
            "sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}"
        ));
    }
    for helper in ["newuidmap", "newgidmap"] {
        match host.program_in_path(helper) {
            None => {
                lacks.push(format!("{helper} is not installed"));
                fixes.push(host.install("uidmap", "shadow-utils"));
            }
            Some(path) if !privileged(&host.at(&path)) => {
                lacks.push(format!(
                    "{} has neither the setuid bit nor file capabilities",
                    path.display()
                ));
                fixes.push(format!("sudo chmod u+s {}", path.display()));
            }
            Some(_) => {}
        }
    }
    fixes.dedup();
    if lacks.is_empty() {
        return Check::ok(name, format!("{} ids", owned(&tables[0], &user, host.uid)));
    }
    Check::degraded(
        name,
        format!(
            "{}; a sandbox has one user id, and keeps the caller's supplementary groups",
            lacks.join("; ")
        ),
    )
    .fix(fixes.join(" && "))
}

/// The lines `name-or-id:first:count` of a sub-id table.
fn entries(table: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    table.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((
            fields.next()?,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        ))
    })
}

/// How many ids a user owns.
fn owned(table: &str, user: &str, uid: u32) -> u64 {
    let uid = uid.to_string();
    entries(table)
        .filter(|(owner, _, _)| *owner == user || *owner == uid)
        .map(|(_, _, count)| count)
        .sum()
}

/// The first id after every range that is given away.
fn first_free(table: &str) -> u64 {
    entries(table)
        .map(|(_, first, count)| first + count)
        .fold(100_000, u64::max)
}

/// Whether a program runs with more rights than its caller: set-user-id root, or file capabilities.
fn privileged(path: &Path) -> bool {
    let setuid = std::fs::metadata(path)
        .is_ok_and(|m| m.uid() == 0 && m.permissions().mode() & libc::S_ISUID != 0);
    setuid || has_capabilities(path.to_path_buf())
}

fn has_capabilities(path: PathBuf) -> bool {
    use std::os::unix::ffi::OsStringExt;
    let Ok(path) = std::ffi::CString::new(path.into_os_string().into_vec()) else {
        return false;
    };
    // SAFETY: both names are NUL-terminated; with a size of 0 nothing is written.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "alice:100000:65536\n# comment\n1001:165536:1000\n1001:200000:500\n";

    #[test]
    fn ranges_belong_to_names_and_ids() {
        assert_eq!(owned(TABLE, "alice", 1000), 65536);
        assert_eq!(owned(TABLE, "bob", 1001), 1500);
        assert_eq!(owned(TABLE, "carol", 1002), 0);
    }

    #[test]
    fn the_free_range_lies_behind_all_others() {
        assert_eq!(first_free(TABLE), 200_500);
        assert_eq!(first_free(""), 100_000);
    }
}
