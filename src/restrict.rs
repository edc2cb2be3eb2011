//! The tier for hosts without user namespaces: no namespace at all, but Landlock, a filter, resource limits and a
//! supervisor that adopts and ends whatever descends from the program. Only for who asks, and what it lacks is said.
//!
//! The program is a process of the host's, with the caller's ids, and sees the host's paths. All that keeps it from the
//! caller's files and processes is Landlock, which lets it read what programs need and its own directory, and the filter,
//! which has to refuse what Landlock has no say about: sockets, changes of modes, owners and times, other processes'
//! priorities and limits, System V IPC.

use crate::error::{Error, ErrorKind};
use crate::landlock;
use crate::mounts;
use crate::outcome::EnforcementStatus::{self, Approximated, Enforced, NotEnforced};
use crate::overlay::{self, Scratch};
use crate::plan::{Steps, WORK};
use crate::spec::{Isolation, Network, Profile, Rootfs, Spec};
use crate::supervisor::Host;
use crate::wire::*;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The ABI that keeps a program from signalling the caller's other processes.
const ABI_MIN: u32 = 6;

/// What programs need of the host to start and to be read: files and directories, in so far as they are there.
const READ: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];
const READ_ETC: [&str; 12] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
];
const READ_WITH_NETWORK: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/gai.conf"];
/// Of procfs nothing that is about a process.
const READ_PROC: [&str; 3] = ["/proc/cpuinfo", "/proc/meminfo", "/proc/filesystems"];
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

pub(crate) fn is_asked(spec: &Spec) -> bool {
    spec.isolation == Isolation::Restrict
}

/// Refuses what needs a namespace, and hosts without what the tier stands on.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    let fields = [
        ("image", spec.image.is_some()),
        ("entrypoint", spec.entrypoint.is_some()),
        ("rootfs", spec.rootfs != Rootfs::Host),
        ("overlay", spec.overlay.is_some()),
        ("read_only", spec.read_only),
        ("tmpfs", !spec.tmpfs.is_empty()),
        ("network=loopback", spec.network == Network::Loopback),
        ("user", spec.user.is_some()),
        ("hostname", spec.hostname.is_some()),
        ("uptime", spec.uptime.is_some()),
        ("hugetlb", !spec.hugetlb.is_empty()),
        (
            "a profile of one's own",
            matches!(spec.profile, Profile::Docker(_)),
        ),
    ];
    if let Some((field, _)) = fields.iter().find(|(_, given)| *given) {
        return Err(unsupported(format!(
            "{field}: with isolation=restrict there are no namespaces that it needs"
        )));
    }
    for volume in &spec.volumes {
        if Path::new(&volume.host) != Path::new(&volume.inside) {
            return Err(unsupported(format!(
                "volumes: `{}` cannot be shown at `{}`: with isolation=restrict the program sees the host's paths; give the \
                 same twice",
                volume.host.escape_default(),
                volume.inside.escape_default()
            )));
        }
    }
    if nix::unistd::geteuid().is_root() {
        return Err(unsupported(
            "isolation=restrict: its programs have the caller's ids, and root's are not to be had; run as another user",
        ));
    }
    match landlock::abi() {
        Ok(ABI_MIN..) => Ok(()),
        Ok(abi) => Err(unsupported(format!(
            "isolation=restrict: Landlock has ABI {abi} here, and before {ABI_MIN} (Linux 6.12) it does not keep a program \
             from signalling this user's other processes"
        ))),
        Err(why) => Err(unsupported(format!(
            "isolation=restrict: it stands on Landlock: {why}"
        ))),
    }
}

/// What an outcome says of each protection.
pub(crate) fn said(spec: &Spec, host: &Host) -> Vec<(&'static str, EnforcementStatus, String)> {
    let mut all = Vec::new();
    let mut put = |name, status, by: &str| all.push((name, status, by.to_string()));
    let counted = "the files in the working directory, counted by init every 20 ms or more (a twentieth of the time at most), \
                   but not those that are removed while they are open";
    put("disk", Approximated, counted);
    put("inodes", Approximated, counted);
    for (name, why) in [
        ("user_namespace", "the program has the caller's ids"),
        (
            "pid_namespace",
            "the program sees the host's process ids; its own are told by descent (PR_SET_CHILD_SUBREAPER), and a program \
             whose init and supervisor are both killed from outside goes on",
        ),
        (
            "mount_namespace",
            "the program sees the host's paths: Landlock says which it may open, but what there is, and what links and \
             directories are called whose paths it knows, it can find out",
        ),
        (
            "ipc_namespace",
            "the filter refuses System V IPC and message queues",
        ),
        ("uts_namespace", "the program sees the host's name"),
        (
            "cgroup_namespace",
            "the program may not read /proc/self/cgroup all the same",
        ),
    ] {
        put(name, NotEnforced, &format!("isolation=restrict: {why}"));
    }
    put(
        "capabilities",
        Enforced,
        "none, in any set but the bounding one",
    );
    put("no_new_privs", Enforced, "PR_SET_NO_NEW_PRIVS");
    put(
        "seccomp",
        Enforced,
        "the profile of isolation=restrict: an allow-list, without sockets to others, changes of modes and owners by path, \
         other processes' priorities and limits",
    );
    match spec.network {
        Network::Host => put(
            "network",
            NotEnforced,
            "network=host: the host's network was asked for",
        ),
        _ => put(
            "network",
            Enforced,
            "the filter, which refuses every socket; Landlock",
        ),
    }
    put(
        "locks",
        NotEnforced,
        "isolation=restrict: the files are the host's, and locks on them are seen by all; watches are refused",
    );
    put(
        "supplementary_groups",
        NotEnforced,
        "without privilege nobody can drop the caller's groups",
    );
    let (status, by) = landlock::said(spec);
    put("landlock", status, &by);
    debug_assert!(host.keeps_groups);
    all
}

/// The error of a live sandbox.
pub(crate) fn not_live() -> Error {
    unsupported("isolation=restrict: a live sandbox needs namespaces; run programs one by one")
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// A new directory for what the program writes, and its working directory. What dead processes have left beside it is
/// removed.
pub(crate) fn directory(spec: &Spec, host: &Host) -> Result<Scratch, Error> {
    let place = match &spec.upper_dir {
        Some(dir) => dir.into(),
        None => std::env::temp_dir(),
    };
    // Through no symbolic link, as the helper walks.
    let real = place
        .canonicalize()
        .map_err(|e| Error::system(format!("upper_dir: `{}` (TMPDIR)", place.display()), e))?;
    let text = real
        .to_str()
        .ok_or_else(|| Error::invalid(format!("upper_dir: `{}` is not UTF-8", real.display())))?;
    if !host.swept.swap(true, Ordering::Relaxed) {
        overlay::sweep(text, host);
    }
    Scratch::new(text, &host.ids)
}

/// The set-up, with `dir` as the one place to write.
pub(crate) fn add(setup: &mut Steps, spec: &Spec, dir: &str) -> Result<(), Error> {
    let (disk, inodes) = mounts::disk_and_inodes(spec)?;
    setup.text(S_COUNT, 0, disk, inodes, &[dir.as_bytes()]);
    let mut rules = landlock::Rules::begin(setup, spec.network)?;
    let network = match spec.network {
        Network::None => &[],
        _ => &READ_WITH_NETWORK[..],
    };
    let read = READ
        .iter()
        .chain(&READ_ETC)
        .chain(&READ_PROC)
        .chain(network);
    for path in read {
        // Behind symbolic links, which lead to where the rule has to be.
        if let Ok(real) = Path::new(path).canonicalize() {
            rules.read(&real.to_string_lossy());
        }
    }
    for path in DEVICES {
        rules.device(path);
    }
    rules.write(dir);
    for volume in &spec.volumes {
        let real = Path::new(&volume.host)
            .canonicalize()
            .map_err(|e| Error::system(format!("volumes: `{}`", volume.host), e).into_invalid())?;
        let real = real.to_string_lossy();
        match volume.writable {
            true => rules.write(&real),
            false => rules.read(&real),
        }
    }
    // Its name is the last of the sources: what is removed in the end.
    setup.text(S_SOURCE, BIND_WRITABLE, 0, 0, &[dir.as_bytes()]);
    Ok(())
}

/// Where on the host a path is that is given as one inside: `/work` is the program's own directory.
pub(crate) fn place(path: String, field: &str, spec: &Spec, dir: &str) -> Result<String, Error> {
    let below = |top: &str| {
        let rest = path.strip_prefix(top)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    if let Some(rest) = below(WORK) {
        return Ok(format!("{dir}{rest}"));
    }
    if spec
        .volumes
        .iter()
        .any(|volume| below(&volume.host).is_some())
    {
        return Ok(path);
    }
    Err(Error::invalid(format!(
        "{field}: `{}`: with isolation=restrict there are only the working directory ({WORK}, or a relative path) and volumes",
        path.escape_default()
    )))
}
