//! What stands behind each limit and each protection of a run, said with its outcome.

use crate::error::{Error, ErrorKind};
use crate::ids::Ids;
use crate::image::Image;
use crate::landlock;
use crate::limits::{kernel_at_least, no_time_namespace, own_oom_score_adj};
use crate::outcome::{Enforcement, EnforcementStatus};
use crate::overlay;
use crate::restrict;
use crate::spec::{Enforce, Network, Profile, Rootfs, Spec};
use crate::supervisor::Host;
use crate::wire::Shared;
use EnforcementStatus::{Approximated, Enforced, NotEnforced};
use std::collections::BTreeMap;

/// Refuses a limit that nothing on this host holds, unless the caller is content with that.
pub(crate) fn check(spec: &Spec, host: &Host) -> Result<(), Error> {
    if spec.enforce == Enforce::BestEffort {
        return Ok(());
    }
    if let (Some(_), Some(why)) = (spec.uptime, no_time_namespace()) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "uptime: nothing on this host can enforce it: {why}. Pass enforce=best-effort to run without"
            ),
        ));
    }
    for (name, wanted) in tree_limits(spec) {
        if !wanted {
            continue;
        }
        let Enforcement { status, by } = tree_limit(name, spec, host);
        if status == NotEnforced {
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

/// Everything: the limits that are set, and all protections. `shares`: with whom it shares the processors that it was
/// to have alone.
pub(crate) fn all(
    spec: &Spec,
    host: &Host,
    shares: Option<&str>,
    image: Option<&Image>,
) -> BTreeMap<String, Enforcement> {
    let mut all = changeable(spec, host, shares);
    let mut put = |name: &str, status, by: &str| {
        all.insert(
            name.to_string(),
            Enforcement {
                status,
                by: by.to_string(),
            },
        );
    };
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
    if restrict::is_asked(spec) {
        for (name, status, by) in restrict::said(spec, host) {
            put(name, status, &by);
        }
        return all;
    }
    let overlay = overlay::by(spec, host);
    match (&overlay, &spec.upper_dir) {
        (Some(_), Some(dir)) => {
            let by = format!(
                "the files in `{dir}`, counted by init every 20 ms or more (a twentieth of the time at most), but not those \
                 that are removed while they are open"
            );
            let held = "RLIMIT_FSIZE for each file, and at least 1 GiB or a twentieth of the file system left free";
            put("disk", Approximated, &format!("{by}; {held}"));
            put("inodes", Approximated, &by);
        }
        (overlay, _) => {
            let disk = match overlay {
                None => "size of the tmpfs behind /work, /tmp and /dev/shm",
                Some(_) => {
                    "size of the tmpfs behind /work, /tmp, /dev/shm and what is changed of the root"
                }
            };
            put("disk", Enforced, disk);
            put("inodes", Enforced, "nr_inodes of the same tmpfs");
        }
    }
    if let Some(by) = &overlay {
        put("overlay", Enforced, by);
    }
    if let Some(image) = image {
        let (status, by) = owners(image, &host.ids);
        put("owners", status, &by);
    }
    let profile = match spec.profile {
        Profile::Default => "the default profile: an allow-list",
        Profile::Strict => "the strict profile: an allow-list",
        Profile::Docker(_) => "a profile of the caller's own",
    };
    for (name, by) in [
        ("user_namespace", host.ids_text.as_str()),
        ("pid_namespace", "CLONE_NEWPID"),
        ("ipc_namespace", "CLONE_NEWIPC"),
        ("uts_namespace", "CLONE_NEWUTS"),
        ("cgroup_namespace", "CLONE_NEWCGROUP"),
        ("capabilities", "none, in any set; securebits locked"),
        ("no_new_privs", "PR_SET_NO_NEW_PRIVS"),
        ("seccomp", profile),
        (
            "violation",
            "the filter's listener, by which init hears of every call that the profile kills for, and ends the run",
        ),
    ] {
        put(name, Enforced, by);
    }
    let root = match overlay.is_some() && !spec.read_only {
        true => "CLONE_NEWNS, a root of the sandbox's own",
        false => "CLONE_NEWNS, read-only root",
    };
    put("mount_namespace", Enforced, root);
    let own = match (&overlay, &spec.rootfs) {
        (Some(_), _) => "the writable root, whose files are the sandbox's own; not of",
        (None, Rootfs::Host) => {
            "an overlay of the sandbox's own over /usr and its like; not of the host's directories of /etc,"
        }
        (None, _) => {
            "an overlay of the sandbox's own over each directory of the root file system; not of"
        }
    };
    put("locks", Enforced, &format!("{own} devices and volumes"));
    if spec.deterministic {
        let by = "ADDR_NO_RANDOMIZE (personality(2)), which the program can undo; PYTHONHASHSEED, PERL_HASH_SEED and \
                  PERL_PERTURB_KEYS are 0 where env does not name them";
        put("deterministic", Enforced, by);
    }
    match (spec.uptime, no_time_namespace()) {
        (None, _) => {}
        (Some(_), None) => put(
            "uptime",
            Enforced,
            "a time namespace with offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME",
        ),
        (Some(_), Some(why)) => put("uptime", NotEnforced, why),
    }
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
    let (status, by) = landlock::said(spec);
    put("landlock", status, &by);
    all
}

/// Whose the files of an image are.
fn owners(image: &Image, ids: &Ids) -> (EnforcementStatus, String) {
    match (image.given(), ids) {
        (Some(given), _) => (
            Enforced,
            format!(
                "sub-ids stand for the image's ids ({given}); its root is the caller, to whom files in volumes belong"
            ),
        ),
        (None, Ids::Root { users, .. }) => (
            Enforced,
            format!("host ids from {} stand for the image's", users.start),
        ),
        (None, ids) => {
            let why = ids.why_folded();
            let by = format!("all files of the image belong to the sandbox's user: {why}");
            (NotEnforced, by)
        }
    }
}

/// What holds of calls that the profile kills for where the filter can have no listener.
pub(crate) fn unheard(errno: i32) -> Enforcement {
    let why = match errno {
        libc::EBUSY => {
            "the filters around the host process have one already, and there can be only one".into()
        }
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    };
    Enforcement {
        status: Approximated,
        by: format!(
            "the kernel, which kills the process that makes such a call and no other: the filter has no listener ({why})"
        ),
    }
}

/// What holds of locks where parts of the root are the very files that others have.
pub(crate) fn shared(shared: &Shared) -> Enforcement {
    let name = shared.first.split(|byte| *byte == 0).next();
    let name = String::from_utf8_lossy(name.unwrap_or_default());
    let why = match shared.errno as i32 {
        libc::EPERM => "no user namespace may mount overlayfs here (Linux 5.11)".into(),
        libc::ENODEV => "this kernel has no overlayfs".into(),
        libc::EBUSY => "a file system is mounted below, which an overlay would hide".into(),
        libc::ENOTDIR => "it is a file, and overlays are of directories".into(),
        libc::EINVAL => "overlayfs does not take this file system".into(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    };
    Enforcement {
        status: match shared.count < shared.of {
            true => Approximated,
            false => NotEnforced,
        },
        by: format!(
            "{} of {} directories and files that the root shows of the host's are without an overlay of the sandbox's own, \
             `{name}` among them: {why}",
            shared.count, shared.of
        ),
    }
}

/// The limits that are set, of those that can be changed and of their kind.
pub(crate) fn changeable(
    spec: &Spec,
    host: &Host,
    shares: Option<&str>,
) -> BTreeMap<String, Enforcement> {
    let mut limits = BTreeMap::new();
    for (name, wanted) in tree_limits(spec) {
        if wanted {
            let Enforcement { mut status, mut by } = tree_limit(name, spec, host);
            if let (Some(shares), "cpuset_cpus") = (shares, name) {
                (status, by) = (Approximated, format!("{by}; it {shares}"));
            }
            limits.insert(name.to_string(), Enforcement { status, by });
        }
    }
    if spec.wall_time.is_some() {
        let by = "the supervisor's clock (CLOCK_MONOTONIC)".to_string();
        let status = Enforced;
        limits.insert("wall_time".to_string(), Enforcement { status, by });
    }
    limits
}

/// The limits for which a cgroup is wanted, and those that count a whole tree of processes.
fn tree_limits(spec: &Spec) -> Vec<(&'static str, bool)> {
    let mut limits = vec![
        ("cpu_time", spec.cpu_time.is_some()),
        ("memory", spec.memory.is_some()),
        ("swap", spec.swap.is_some()),
        ("oom_group", spec.oom_group == Some(false)),
        ("pids", spec.pids.is_some()),
        ("cpus", spec.cpus.is_some()),
        ("cpu_weight", spec.cpu_weight.is_some()),
        ("cpu_idle", spec.cpu_idle),
        ("cpuset_cpus", spec.cpuset_cpus.is_some()),
        ("nice", spec.nice.is_some()),
        ("oom_score_adj", spec.oom_score_adj.is_some()),
        ("io_weight", spec.io_weight.is_some()),
        ("hugetlb", !spec.hugetlb.is_empty()),
    ];
    let io = spec.io_limits();
    limits.extend(io.map(|(name, all)| (name, !all.is_empty())));
    limits
}

fn tree_limit(name: &str, spec: &Spec, host: &Host) -> Enforcement {
    if let Some(enforcement) = host.cgroup.enforcement(name, spec) {
        return enforcement;
    }
    let why_not = host
        .cgroup
        .why_not()
        .unwrap_or("no cgroup controller for it can be used");
    let (status, by) = match name {
        // Neither are its processes to be told by a procfs of theirs, nor counted by a user namespace.
        "cpu_time" | "memory" | "pids" if restrict::is_asked(spec) => (
            NotEnforced,
            format!("isolation=restrict has nothing but a cgroup to hold it: {why_not}"),
        ),
        "cpu_time" => (
            Approximated,
            format!("CPU time of the tree's processes, sampled by the supervisor: {why_not}"),
        ),
        "memory" => (
            Approximated,
            format!(
                "resident memory of the tree and its tmpfs, sampled by the supervisor at least every 20 ms: {why_not}"
            ),
        ),
        "pids" if kernel_at_least(5, 14) => (
            Enforced,
            "RLIMIT_NPROC in the sandbox's own user namespace".to_string(),
        ),
        "pids" => (
            NotEnforced,
            format!(
                "{why_not}, and before Linux 5.14 RLIMIT_NPROC counts the user's other processes too"
            ),
        ),
        "cpuset_cpus" => (
            Approximated,
            format!(
                "sched_setaffinity(2) to {}, which the program can undo: {why_not}",
                spec.cpuset_cpus.as_deref().unwrap_or_default()
            ),
        ),
        "cpu_idle" => yields("SCHED_IDLE (sched(7))", host),
        "nice" => yields("setpriority(2)", host),
        "oom_score_adj" => (
            Approximated,
            format!(
                "/proc/PID/oom_score_adj, which the program can lower to {} again",
                own_oom_score_adj()
            ),
        ),
        "oom_group" => (
            NotEnforced,
            format!("the supervisor, which watches memory, ends the whole run: {why_not}"),
        ),
        "io_weight" => (
            NotEnforced,
            format!(
                "nothing minds weights of block devices: neither is iocost on (io.cost.qos, in the root of cgroup v2) nor \
                 BFQ the scheduler of one (/sys/block/*/queue/scheduler), with a group that can be used: {why_not}"
            ),
        ),
        _ => (NotEnforced, why_not.to_string()),
    };
    Enforcement { status, by }
}

/// What lets others go first is held by the kernel, but counts only among the processes that share what the scheduler
/// takes as one: a group with a CPU controller, else a session.
fn yields(by: &str, host: &Host) -> (EnforcementStatus, String) {
    let sessions = match std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled") {
        Ok(text) => text.trim() == "1",
        // A kernel without them; else they may be.
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    if host.cgroup.has("cpu") {
        let among = "among the run's own processes, whose group has a CPU controller";
        return (Approximated, format!("{by}, which counts {among}"));
    }
    match sessions {
        false => (Enforced, by.into()),
        true => (
            Approximated,
            format!(
                "{by}, which counts among the run's own processes only while kernel.sched_autogroup_enabled is 1; \
                 cpu_weight is for others"
            ),
        ),
    }
}
