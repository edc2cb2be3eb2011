//! Whether a sandbox may have a /proc of its own.
//!
//! The kernel lets a user namespace mount proc only if a proc that is already there is fully visible: not one with
//! other mounts over parts of it, which is how container runtimes mask it (`mount_too_revealing` in fs/namespace.c).

use super::Check;
use super::host::{Container, Host, Trial};

/// Directories of proc that the kernel makes as mount points: a mount there hides nothing.
const MOUNT_POINTS: [&str; 3] = ["/sys/fs/binfmt_misc", "/fs/nfsd", "/openprom"];

pub(super) fn check(host: &Host, trial: &Trial) -> Check {
    let name = "proc";
    let masks = masks(&host.read("/proc/self/mountinfo").unwrap_or_default());
    match masks {
        Some(masks) if masks.is_empty() && !trial.failed_at(&["mounting proc"]) => {
            Check::ok(name, "fully visible")
        }
        _ if trial.works() => Check::ok(name, "a new proc can be mounted"),
        Some(masks) if masks.is_empty() => Check::missing(
            name,
            "fully visible here, and yet a new one cannot be mounted",
        )
        .fix("find what refuses it: `sudo dmesg | grep -e apparmor -e avc -e audit` after a run"),
        Some(masks) => Check::missing(
            name,
            format!(
                "masked at {}: the kernel refuses a new proc inside a sandbox",
                masks.join(", ")
            ),
        )
        .fix(unmask(host.container)),
        None => Check::missing(name, "not mounted").fix("mount -t proc proc /proc"),
    }
}

/// What hides parts of proc, from a mountinfo file: nothing if one of several is whole; `None` if none is mounted.
fn masks(mountinfo: &str) -> Option<Vec<String>> {
    struct Mount<'a> {
        id: &'a str,
        parent: &'a str,
        root: &'a str,
        point: &'a str,
        kind: &'a str,
    }
    let mounts: Vec<Mount> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let fields: Vec<&str> = before.split(' ').collect();
            Some(Mount {
                id: fields.first()?,
                parent: fields.get(1)?,
                root: fields.get(3)?,
                point: fields.get(4)?,
                kind: after.split(' ').next()?,
            })
        })
        .collect();
    let mut found: Vec<Vec<String>> = mounts
        .iter()
        .filter(|mount| mount.kind == "proc" && mount.root == "/")
        .map(|proc| {
            mounts
                .iter()
                .filter(|over| over.parent == proc.id)
                .filter(|over| {
                    let inside = over.point.strip_prefix(proc.point).unwrap_or(over.point);
                    !MOUNT_POINTS.contains(&inside)
                })
                .map(|over| over.point.to_string())
                .collect()
        })
        .collect();
    // One that nothing hides is enough; of several that are hidden the last is the one in sight.
    match found.iter().any(Vec::is_empty) {
        true => Some(Vec::new()),
        false => found.pop(),
    }
}

fn unmask(container: Option<Container>) -> &'static str {
    match container {
        Some(Container::Kubernetes) => {
            "in the Pod: `hostUsers: false`, and in the container's `securityContext`: `procMount: Unmasked`"
        }
        Some(Container::Podman) => "podman run --security-opt unmask=ALL ...",
        Some(Container::Docker) => "docker run --security-opt systempaths=unconfined ...",
        None => {
            "start the container around this process with an unmasked /proc \
             (Docker: `--security-opt systempaths=unconfined`; Podman: `--security-opt unmask=ALL`; \
             Kubernetes: `hostUsers: false` and `procMount: Unmasked`)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /proc rw,relatime - proc proc rw
23 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
24 21 0:6 / /sys rw - sysfs sys rw
";

    #[test]
    fn the_kernels_own_mount_points_hide_nothing() {
        assert_eq!(masks(PLAIN), Some(vec![]));
    }

    #[test]
    fn masks_are_named() {
        let masked = format!(
            "{PLAIN}30 22 0:40 / /proc/kcore rw - tmpfs tmpfs rw\n31 22 0:5 /sys /proc/sys ro - proc proc rw\n"
        );
        assert_eq!(
            masks(&masked),
            Some(vec!["/proc/kcore".into(), "/proc/sys".into()])
        );
        // Another proc that nothing hides is enough for the kernel.
        let second = format!("{masked}32 21 0:41 / /mnt/proc rw - proc proc rw\n");
        assert_eq!(masks(&second), Some(vec![]));
    }

    #[test]
    fn no_proc_at_all() {
        assert_eq!(masks("24 21 0:6 / /sys rw - sysfs sys rw\n"), None);
    }
}
