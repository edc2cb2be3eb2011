//! Namespaces: whether the kernel has them, whether this user may make them.

use super::Check;
use super::host::{Container, Host, Trial, set_sysctl};

struct Kind {
    /// In the check's name.
    name: &'static str,
    /// Below `/proc/self/ns`.
    file: &'static str,
    /// In `user.max_*_namespaces`.
    sysctl: &'static str,
    /// What builds it into the kernel.
    config: &'static str,
}

/// All that a sandbox is made of; the user namespace has a check of its own.
const KINDS: [Kind; 6] = [
    Kind {
        name: "pid",
        file: "pid",
        sysctl: "pid",
        config: "CONFIG_PID_NS",
    },
    Kind {
        name: "mount",
        file: "mnt",
        sysctl: "mnt",
        config: "CONFIG_NAMESPACES",
    },
    Kind {
        name: "network",
        file: "net",
        sysctl: "net",
        config: "CONFIG_NET_NS",
    },
    Kind {
        name: "ipc",
        file: "ipc",
        sysctl: "ipc",
        config: "CONFIG_IPC_NS",
    },
    Kind {
        name: "uts",
        file: "uts",
        sysctl: "uts",
        config: "CONFIG_UTS_NS",
    },
    Kind {
        name: "cgroup",
        file: "cgroup",
        sysctl: "cgroup",
        config: "CONFIG_CGROUPS",
    },
];

const USER: Kind = Kind {
    name: "user",
    file: "user",
    sysctl: "user",
    config: "CONFIG_USER_NS",
};
const TIME: Kind = Kind {
    name: "time",
    file: "time",
    sysctl: "time",
    config: "CONFIG_TIME_NS",
};

pub(super) fn checks(host: &Host, trial: &Trial) -> Vec<Check> {
    let user = user(host, trial);
    let mut checks = vec![user];
    checks.extend(KINDS.iter().map(|kind| one(host, trial, kind)));
    // No sandbox has a time namespace yet, so the trial run says nothing about it, and its lack costs nothing.
    checks.push(match lack(host, &TIME) {
        None => Check::ok("time namespace", "allowed: `uptime` makes one"),
        Some(mut check) => {
            check.status = super::CheckStatus::Degraded;
            check
        }
    });
    checks
}

/// What forbids a namespace, by the files that say so.
fn lack(host: &Host, kind: &Kind) -> Option<Check> {
    let name = format!("{} namespace", kind.name);
    // Where that leads has no path, which AppArmor may deny to look at.
    if !host.is_link(format!("/proc/self/ns/{}", kind.file)) {
        let check = Check::missing(&name, "the kernel has none");
        return Some(check.fix(format!("boot a kernel built with {}=y", kind.config)));
    }
    let sysctl = format!("max_{}_namespaces", kind.sysctl);
    if host.number(format!("/proc/sys/user/{sysctl}")) == Some(0) {
        let check = Check::missing(&name, format!("forbidden by user.{sysctl} = 0"));
        return Some(check.fix(set_sysctl(&format!("user.{sysctl}"), "65536")));
    }
    None
}

fn one(host: &Host, trial: &Trial, kind: &Kind) -> Check {
    if let Some(check) = lack(host, kind) {
        return check;
    }
    let name = format!("{} namespace", kind.name);
    match trial {
        Trial::Works { .. } => Check::ok(&name, "works"),
        Trial::Fails { message, .. } if trial.failed_at(&[&name]) => Check::missing(&name, message),
        Trial::Fails { .. } => Check::ok(&name, "allowed (not tried: see the trial run)"),
    }
}

fn user(host: &Host, trial: &Trial) -> Check {
    let name = "user namespace";
    if trial.works() {
        return Check::ok(name, "works");
    }
    if let Some(check) = lack(host, &USER) {
        return check;
    }
    let unprivileged = host.uid != 0;
    if unprivileged && host.number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Check::missing(name, "forbidden by kernel.unprivileged_userns_clone = 0")
            .fix(set_sysctl("kernel.unprivileged_userns_clone", "1"));
    }
    let Trial::Fails { errno, .. } = trial else {
        return Check::ok(name, "works");
    };
    let denied = matches!(*errno, libc::EPERM | libc::EACCES);
    // Ubuntu lets anybody make the namespace and then denies whatever is done in it, so that any step may fail.
    let restricted =
        host.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    if denied && unprivileged && restricted {
        return Check::missing(
            name,
            "AppArmor gives it no rights (kernel.apparmor_restrict_unprivileged_userns = 1)",
        )
        .fix(apparmor_profile(&host.program));
    }
    let label = host
        .read("/proc/self/attr/apparmor/current")
        .unwrap_or_default();
    if denied
        && host.container.is_none()
        && let Some(profile) = crate::apparmor::confining(&label)
    {
        return Check::missing(
            name,
            format!("AppArmor's profile `{profile}` confines this program"),
        )
        .fix(apparmor_profile(&host.program));
    }
    if !denied || !trial.failed_at(&["starting the supervisor", "cloning into new namespaces"]) {
        return Check::ok(name, "allowed (not tried: see the trial run)");
    }
    match host.container {
        Some(container) => Check::missing(name, "refused by the container around this process")
            .fix(allow_in_container(container)),
        None => Check::missing(
            name,
            "refused, by a security module or by a seccomp filter around this process",
        )
        .fix(
            "find what refuses it: `sudo dmesg | grep -e apparmor -e avc -e audit` after a run; \
             a container around this process has to allow clone(2) with CLONE_NEWUSER",
        ),
    }
}

/// The text of a profile that lets one program make user namespaces, and how to load it.
fn apparmor_profile(program: &str) -> String {
    let (name, profile) = crate::apparmor::profile_for(program);
    format!(
        "sudo tee /etc/apparmor.d/{name} >/dev/null <<'END' && \
         sudo apparmor_parser -r /etc/apparmor.d/{name}\n{profile}\nEND"
    )
}

fn allow_in_container(container: Container) -> &'static str {
    match container {
        Container::Docker => {
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             --security-opt systempaths=unconfined ..."
        }
        Container::Podman => {
            "podman run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             --security-opt unmask=ALL ..."
        }
        Container::Kubernetes => {
            "in the Pod: `hostUsers: false`, and in the container's `securityContext`: `procMount: Unmasked`, \
             `seccompProfile: {type: Unconfined}`, `appArmorProfile: {type: Unconfined}`"
        }
    }
}
