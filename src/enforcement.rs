//! What stands behind each limit and each protection of a run, said with its outcome.

use crate::error::{Error, ErrorKind};
use crate::limits::kernel_at_least;
use crate::outcome::{Enforcement, EnforcementStatus};
use crate::overlay;
use crate::spec::{Enforce, Network, Spec};
use crate::supervisor::Host;
use EnforcementStatus::{Approximated, Enforced, NotEnforced};
use std::collections::BTreeMap;

/// Refuses a limit that nothing on this host holds, unless the caller is content with that.
pub(crate) fn check(spec: &Spec, host: &Host) -> Result<(), Error> {
    if spec.enforce == Enforce::BestEffort {
        return Ok(());
    }
    for (name, wanted) in tree_limits(spec) {
        let Enforcement { status, by } = tree_limit(name, host);
        if wanted && status == NotEnforced {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{name}: nothing on this host can enforce it: {by}. Give a delegated cgroup (cgroup_parent), or \
                     pass enforce=best-effort to run without"
                ),
            ));
        }
    }
    Ok(())
}

/// Everything: the limits that are set, and all protections.
pub(crate) fn all(spec: &Spec, host: &Host) -> BTreeMap<String, Enforcement> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, status, by: &str| {
        all.insert(
            name.to_string(),
            Enforcement {
                status,
                by: by.to_string(),
            },
        );
    };
    for (name, wanted) in tree_limits(spec) {
        if wanted {
            let Enforcement { status, by } = tree_limit(name, host);
            put(name, status, &by);
        }
    }
    if spec.wall_time.is_some() {
        put(
            "wall_time",
            Enforced,
            "the supervisor's clock (CLOCK_MONOTONIC)",
        );
    }
    put(
        "output",
        Enforced,
        "the host library, which reads the streams",
    );
    put("open_files", Enforced, "RLIMIT_NOFILE");
    put("stack", Enforced, "RLIMIT_STACK");
    if spec.file_size.is_some() {
        put("file_size", Enforced, "RLIMIT_FSIZE");
    }
    let overlay = overlay::by(spec, host);
    let disk = match overlay {
        None => "size of the tmpfs behind /work, /tmp and /dev/shm",
        Some(_) => "size of the tmpfs behind /work, /tmp, /dev/shm and what is changed of the root",
    };
    put("disk", Enforced, disk);
    put("inodes", Enforced, "nr_inodes of the same tmpfs");
    if let Some(by) = &overlay {
        put("overlay", Enforced, by);
    }
    for (name, by) in [
        ("user_namespace", host.ids_text.as_str()),
        ("pid_namespace", "CLONE_NEWPID"),
        ("ipc_namespace", "CLONE_NEWIPC"),
        ("uts_namespace", "CLONE_NEWUTS"),
        ("cgroup_namespace", "CLONE_NEWCGROUP"),
        ("capabilities", "none, in any set; securebits locked"),
        ("no_new_privs", "PR_SET_NO_NEW_PRIVS"),
        ("seccomp", "the default profile: an allow-list"),
    ] {
        put(name, Enforced, by);
    }
    let root = match overlay.is_some() && !spec.read_only {
        true => "CLONE_NEWNS, a root of the sandbox's own",
        false => "CLONE_NEWNS, read-only root",
    };
    put("mount_namespace", Enforced, root);
    match spec.network {
        Network::None => put(
            "network",
            Enforced,
            "a network namespace with loopback down",
        ),
        Network::Loopback => put(
            "network",
            Enforced,
            "a network namespace of its own, loopback up",
        ),
        Network::Host => put(
            "network",
            NotEnforced,
            "network=host: the host's network was asked for",
        ),
    }
    match host.keeps_groups {
        false => put("supplementary_groups", Enforced, "dropped"),
        true => put(
            "supplementary_groups",
            NotEnforced,
            "one id only is mapped, so the kernel lets nobody drop the caller's groups",
        ),
    }
    put("landlock", NotEnforced, "not used by this version");
    all
}

/// The limits that count a whole tree of processes, for which a cgroup is wanted.
fn tree_limits(spec: &Spec) -> [(&'static str, bool); 6] {
    [
        ("cpu_time", spec.cpu_time.is_some()),
        ("memory", spec.memory.is_some()),
        ("swap", spec.swap.is_some()),
        ("pids", spec.pids.is_some()),
        ("cpus", spec.cpus.is_some()),
        ("cpu_weight", spec.cpu_weight.is_some()),
    ]
}

fn tree_limit(name: &str, host: &Host) -> Enforcement {
    if let Some(enforcement) = host.cgroup.enforcement(name) {
        return enforcement;
    }
    let why_not = host
        .cgroup
        .why_not()
        .unwrap_or("no cgroup controller for it can be used");
    let (status, by) = match name {
        "cpu_time" => (
            Approximated,
            format!(
                "CPU time of the tree's processes, sampled by the supervisor, and RLIMIT_CPU: {why_not}"
            ),
        ),
        "memory" => (
            Approximated,
            format!(
                "resident memory of the tree and its tmpfs, sampled by the supervisor: {why_not}"
            ),
        ),
        "swap" | "cpus" | "cpu_weight" => (NotEnforced, why_not.to_string()),
        _ if kernel_at_least(5, 14) => (
            Enforced,
            "RLIMIT_NPROC in the sandbox's own user namespace".to_string(),
        ),
        _ => (
            NotEnforced,
            format!(
                "{why_not}, and before Linux 5.14 RLIMIT_NPROC counts the user's other processes too"
            ),
        ),
    };
    Enforcement { status, by }
}
