//! Puts a failed step into words: the step, the object, the errno and what to do about it.

use crate::error::{Error, ErrorKind};
use crate::wire::*;

/// The error for a failure; `step` is the plan's, if the failure was in one.
pub(crate) fn explain(failure: &Failure, step: Option<(Op, &[u8])>) -> Error {
    let errno = failure.errno as i32;
    let (name, object) = match step {
        Some((op, payload)) => (op_name(op.code), object(op, payload)),
        None => (step_name(failure.index), String::new()),
    };
    let cause = std::io::Error::from_raw_os_error(errno);
    let cause = match errno {
        0 => String::new(),
        _ => format!(": {}", cause),
    };
    let object = if object.is_empty() {
        object
    } else {
        format!(" {object}")
    };
    let advice = advice(failure, step.map(|(op, _)| op.code), errno)
        .map(str::to_string)
        .or_else(|| app_armor(failure, errno))
        .map_or(String::new(), |text| format!("; {text}"));
    Error::new(kind(failure), format!("{name}{object}{cause}{advice}"))
        .with_errno(errno)
        .with_step(name)
}

/// In words, that the sandbox's init died while a program ran.
pub(crate) fn init_died() -> String {
    let failure = Failure {
        kind: FAILED,
        section: IN_STEP,
        index: STEP_INIT_DIED,
        errno: 0,
    };
    explain(&failure, None).to_string()
}

/// Ubuntu lets anybody make a user namespace and then denies what is done in it, so that any step may fail.
fn app_armor(failure: &Failure, errno: i32) -> Option<String> {
    let denied = matches!(errno, libc::EPERM | libc::EACCES)
        && matches!(failure.section, IN_TEMPLATE | IN_SETUP | IN_STEP);
    denied.then(crate::apparmor::advice).flatten()
}

fn kind(failure: &Failure) -> ErrorKind {
    if failure.section == IN_STEP && failure.index == STEP_SLOTS {
        return ErrorKind::Resource;
    }
    match failure.errno as i32 {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN => ErrorKind::Resource,
        _ => ErrorKind::Setup,
    }
}

fn op_name(code: u16) -> &'static str {
    match code {
        T_DIR | S_DIR | S_MKDIR => "making directory",
        T_LINK => "making symbolic link",
        T_FILE | R_FILE => "writing file",
        T_BIND => "binding",
        T_COPY => "copying",
        T_DEV => "binding device",
        T_PROC | S_PROC => "mounting proc at",
        S_TMPFS => "mounting tmpfs at",
        S_BOX => "making the directory for what is written at",
        S_BIND => "binding",
        S_SOURCE => "opening volume",
        S_VOLUME => "attaching volume at",
        S_LOOPBACK => "bringing up loopback",
        S_HOSTNAME => "setting the host name",
        S_MASK => "masking",
        S_READ_ONLY => "making read-only",
        S_DISK => "opening",
        S_OVERLAY => "making the writable root at",
        S_ROOT => "entering the root",
        S_PROBE => "replacing a directory of the lower layer at",
        S_SERVE => "starting",
        S_COUNT => "opening",
        S_LANDLOCK => "making a Landlock ruleset",
        S_ALLOW => "adding a Landlock rule for",
        L_GROUP => "making a cgroup in base directory",
        L_WRITE => "writing cgroup file",
        R_RLIMIT => "setting resource limit",
        R_CWD => "changing to working directory",
        R_SECCOMP => "installing the seccomp filter",
        R_EXEC => "executing",
        R_NICE => "setting the nice value",
        R_IDLE => "setting the scheduling policy SCHED_IDLE",
        R_AFFINITY => "setting the processors (sched_setaffinity)",
        R_KEYRING => "making a session keyring",
        R_PERSONALITY => "setting the personality (personality(2))",
        _ => "an unknown step",
    }
}

fn object(op: Op, payload: &[u8]) -> String {
    let mut strings = payload
        .split(|b| *b == 0)
        .map(|s| format!("`{}`", String::from_utf8_lossy(s)));
    match op.code {
        T_LINK | T_BIND | T_COPY | T_DEV | S_BIND => {
            let source = strings.next().unwrap_or_default();
            format!("{source} at {}", strings.next().unwrap_or_default())
        }
        L_WRITE => {
            let file = strings.next().unwrap_or_default();
            format!("{file} (value {})", strings.next().unwrap_or_default())
        }
        L_GROUP => format!("number {}", op.a),
        R_RLIMIT => format!("number {} to {}", op.flags, op.a),
        R_SECCOMP | S_LOOPBACK | S_LANDLOCK | R_IDLE | R_AFFINITY | R_KEYRING | R_PERSONALITY => {
            String::new()
        }
        R_NICE => format!("to {}", op.a),
        R_EXEC => program(payload),
        _ => strings.next().unwrap_or_default(),
    }
}

/// `args[0]` of an R_EXEC payload.
fn program(payload: &[u8]) -> String {
    let first = size_of::<ExecHead>();
    let offset = payload
        .get(first..first + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, usize::from_ne_bytes);
    let name = payload
        .get(offset..)
        .and_then(|rest| rest.split(|b| *b == 0).next())
        .unwrap_or_default();
    format!("`{}`", String::from_utf8_lossy(name))
}

fn step_name(step: u32) -> &'static str {
    match step {
        STEP_CONFIG => "reading the supervisor's configuration",
        STEP_VERSION => "checking the helper's version",
        STEP_NAMESPACE_FILES => "opening /proc/self/ns",
        STEP_DEV_NULL => "opening /dev/null",
        STEP_SLOTS => "finding room for one more sandbox",
        STEP_PLAN => "reading the plan",
        STEP_HOST_MOUNTS => "entering the host's mount namespace",
        STEP_UNSHARE_MOUNTS => "making a mount namespace",
        STEP_ROOT_TMPFS => "mounting the root tmpfs",
        STEP_PIVOT => "pivoting into the new root",
        STEP_NETWORK => "making a network namespace",
        STEP_SOCKETS => "making sockets",
        STEP_CLONE => "cloning into new namespaces",
        STEP_ID_MAP => "writing id maps",
        STEP_IDS => "changing user and group ids",
        STEP_CAPABILITIES => "dropping capabilities",
        STEP_SPAWN => "cloning the program's process",
        STEP_CGROUP_ENTER => "entering the run's cgroup",
        STEP_STDIO => "setting up standard streams",
        STEP_CWD_ESCAPE => "checking that the working directory lies inside",
        STEP_INIT_DIED => INIT_DIED,
        STEP_EPOLL => "watching the sandbox",
        STEP_SESSION => "making a session",
        STEP_INHERITED => "closing inherited descriptors",
        STEP_LIVE => "the sandbox's init",
        STEP_PLACES => "placing the sandbox's descriptors",
        STEP_RESET => "clearing the old root away",
        STEP_SERVE => "starting fuse-overlayfs",
        STEP_DESCENT => "watching descendants (PR_SET_CHILD_SUBREAPER, /proc/thread-self/children)",
        STEP_LANDLOCK => "entering the Landlock domain",
        STEP_OOM_SCORE_ADJ => "writing /proc/self/oom_score_adj",
        STEP_IPC => "making an IPC namespace",
        STEP_STOPPED => "starting the program beside others",
        STEP_STUCK => "waiting for the sandbox's init to start the program",
        STEP_UPTIME => "making a time namespace",
        _ => "an unknown step",
    }
}

/// The step of an error that says that.
pub(crate) const INIT_DIED: &str = "the sandbox's init died";
const MOUNTS: [u32; 4] = [
    STEP_HOST_MOUNTS,
    STEP_UNSHARE_MOUNTS,
    STEP_ROOT_TMPFS,
    STEP_PIVOT,
];
const MOUNTS_MAX: &str = "the limit fs.mount-max, on mounts, or user.max_mnt_namespaces, on their namespaces, is reached";

/// What to do about it, where we know.
fn advice(failure: &Failure, code: Option<u16>, errno: i32) -> Option<&'static str> {
    Some(match (code, errno) {
        (Some(T_PROC | S_PROC), libc::EPERM) => {
            "/proc is masked by an outer container: run that one with `--security-opt systempaths=unconfined` (Docker) or \
             `procMount: Unmasked` (Kubernetes)"
        }
        (Some(R_EXEC), libc::ENOENT) => {
            "there is no such program inside the sandbox, or its interpreter or dynamic linker is missing there"
        }
        (Some(R_EXEC), libc::EACCES) => {
            "it is not an executable file, or lies in a directory that its user may not enter"
        }
        (Some(R_EXEC), libc::ENOEXEC) => {
            "it has no format that this kernel executes; a script needs a `#!` line"
        }
        (Some(R_EXEC), libc::E2BIG) => {
            "arguments and environment are longer than the kernel takes (a quarter of the stack limit, 128 KiB each)"
        }
        (Some(R_FILE), libc::ENOSPC) => {
            "the files are larger than the sandbox's `disk` or `inodes` limit"
        }
        (Some(R_FILE), libc::EROFS) => {
            "files can be made only below /work, /tmp, /dev/shm, a tmpfs or a writable volume"
        }
        (Some(R_FILE | R_CWD), libc::ELOOP | libc::ENOTDIR) => {
            "a component is a symbolic link or no directory"
        }
        (Some(R_CWD), libc::ENOENT) => "there is no such directory inside the sandbox",
        (Some(S_VOLUME), libc::ENOENT) => "the mount point is not there and cannot be made",
        (Some(S_VOLUME), libc::ELOOP | libc::ENOTDIR) => "the path leads through a symbolic link",
        (Some(S_OVERLAY), libc::EACCES) => {
            "the caller may not open /dev/fuse (chmod 666 /dev/fuse, or a udev rule)"
        }
        (Some(S_OVERLAY | S_BIND | S_PROBE), libc::ENOTCONN | libc::ECONNABORTED) => {
            "fuse-overlayfs has ended: does it run on this host (`fuse-overlayfs --version`)?"
        }
        (Some(R_EXEC | R_CWD | R_FILE), libc::ENOTCONN | libc::ECONNABORTED) => {
            "fuse-overlayfs, which has served the root, has ended; a live sandbox gets another by `reset`"
        }
        (Some(S_OVERLAY), libc::EINVAL) => {
            "a directory of rootfs has a file system mounted below it, or is on one that overlayfs does not take: \
             overlay=fuse and overlay=copy do"
        }
        (Some(S_OVERLAY), libc::ENODEV) => "this kernel has not that file system",
        (Some(S_OVERLAY), libc::EPERM) => {
            "this kernel lets no user namespace mount it: overlayfs since Linux 5.11, FUSE since 4.18"
        }
        (Some(S_PROBE), libc::EIO | libc::EOPNOTSUPP) => {
            "a tmpfs takes no attributes of users before Linux 6.6, so that no directory can be marked opaque there"
        }
        (Some(S_OVERLAY), libc::ENOSPC) => {
            "the root file system is larger than the sandbox's `disk` or `inodes` limit"
        }
        (Some(T_DEV), libc::ENOENT) => {
            "there is no such device: FUSE needs /dev/fuse (modprobe fuse)"
        }
        (Some(S_SOURCE), libc::EACCES) => "the caller may not open it",
        (Some(L_WRITE | L_GROUP), _) => {
            "the cgroup hierarchy changed since the supervisor started, or the kernel refuses this value"
        }
        (None, libc::EPERM) if failure.index == STEP_CLONE => {
            "nested user namespaces are refused: see `stockade doctor` (user.max_user_namespaces, AppArmor); \
             isolation=restrict runs without any, with less"
        }
        (None, libc::ENOSPC)
            if [STEP_CLONE, STEP_NETWORK, STEP_CGROUP_ENTER].contains(&failure.index) =>
        {
            "a limit in /proc/sys/user/max_*_namespaces is reached"
        }
        // The kernel makes a mount namespace for each tree that is attached nowhere yet.
        (Some(T_BIND | T_COPY | T_DEV | S_SOURCE | S_VOLUME | S_BIND), libc::ENOSPC) => MOUNTS_MAX,
        (None, libc::ENOSPC) if MOUNTS.contains(&failure.index) => MOUNTS_MAX,
        (None, libc::EINVAL) if failure.index == STEP_PIVOT => {
            "the host's root is an initramfs or no mount point, which pivot_root(2) does not take"
        }
        (None, libc::ENFILE) if failure.index == STEP_SLOTS => {
            "1,024 sandboxes at one time are the most for one process"
        }
        (None, libc::EBUSY) if failure.index == STEP_SLOTS => {
            "32 programs at one time are the most for one sandbox"
        }
        (None, libc::EMFILE) if failure.index == STEP_SLOTS => {
            "the limit on open descriptors is reached, about eight for each sandbox: raise the hard one (ulimit -Hn)"
        }
        (None, libc::ENOSPC) if failure.index == STEP_UPTIME => {
            "the limit in /proc/sys/user/max_time_namespaces is reached"
        }
        (None, _) if failure.index == STEP_VERSION => {
            "the helper named by STOCKADE_INIT is another version's"
        }
        (None, _) if failure.index == STEP_STOPPED => {
            "another program of the sandbox keeps stopping it by signals (SIGSTOP); the others go on"
        }
        (None, _) if failure.index == STEP_STUCK => {
            "it took longer than 10 s and the wall-clock limit, so the sandbox was ended; does its root, or a volume, lie on \
             a file system that does not answer?"
        }
        (None, _) if failure.index == STEP_INIT_DIED => {
            "it was killed from outside, or by the kernel for want of memory"
        }
        _ => return None,
    })
}
