//! What holds memory, pids and CPU time: the rung of the cgroup ladder that the trial run stood on.

use super::Check;
use super::host::{Container, Host, Trial};
use crate::outcome::EnforcementStatus;

/// The limits that a cgroup holds best.
const LIMITS: [&str; 3] = ["memory", "pids", "cpu_time"];

pub(super) fn check(host: &Host, trial: &Trial) -> Check {
    let name = "cgroup";
    let Trial::Works { enforcement } = trial else {
        return Check::degraded(name, "not tried: see the trial run")
            .fix("mend the trial run first");
    };
    let found = LIMITS.map(|limit| (limit, enforcement.get(limit)));
    let held = found
        .iter()
        .all(|(_, e)| e.is_some_and(|e| e.status == EnforcementStatus::Enforced));
    let mut why = None;
    let words: Vec<String> = found
        .iter()
        .map(|(limit, e)| match e {
            None => format!("{limit}: nothing"),
            Some(e) if e.status == EnforcementStatus::Enforced => format!("{limit}: {}", e.by),
            Some(e) => {
                // Said once, though it is the reason for each.
                let (by, reason) = e.by.split_once(": ").unwrap_or((&e.by, ""));
                why = Some(reason).filter(|reason| !reason.is_empty()).or(why);
                format!("{limit} only approximated: {by}")
            }
        })
        .collect();
    let reason = why.unwrap_or_default();
    let why = why.map_or_else(String::new, |why| format!(". No cgroup, since {why}"));
    let detail = words.join("; ") + &why;
    match held {
        true => Check::ok(name, detail),
        false => Check::degraded(name, detail).fix(delegate(host, reason)),
    }
}

/// How to get a group of one's own.
fn delegate(host: &Host, reason: &str) -> String {
    let user = host.user();
    match host.container {
        Some(Container::Podman) => {
            return "podman run --security-opt unmask=/sys/fs/cgroup ...".into();
        }
        Some(Container::Kubernetes) => {
            return "run the container on a node whose containerd has `cgroup_writable = true`"
                .into();
        }
        Some(Container::Docker) if host.uid != 0 => {
            return format!(
                "as root in the container, if /sys/fs/cgroup is writable there: {}",
                hand_over(host, &user)
            );
        }
        Some(Container::Docker) => {
            return "docker run --cgroupns=private --privileged ... (or another way to a writable /sys/fs/cgroup)".into();
        }
        None => {}
    }
    if host.exists("/sys/fs/cgroup/cgroup.controllers") && host.exists("/run/systemd/system") {
        if reason.contains("enable-linger") {
            return format!("sudo loginctl enable-linger {user}");
        }
        return format!(
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, and log in \
             again as {user}"
        );
    }
    format!(
        "in the shell that starts the program: {}",
        hand_over(host, &user)
    )
}

/// Gives the user a group and puts the shell in it.
fn hand_over(host: &Host, user: &str) -> String {
    if host.exists("/sys/fs/cgroup/cgroup.controllers") {
        // The shell goes into a child, for a group that holds processes can have no controllers for its children.
        return format!(
            "sudo sh -c 'cd /sys/fs/cgroup && echo \"+memory +pids\" > cgroup.subtree_control && \
             mkdir -p stockade/shell && chown -R {user} stockade && echo '$$' > stockade/shell/cgroup.procs'"
        );
    }
    format!(
        "sudo sh -c 'cd /sys/fs/cgroup && for c in memory pids cpuacct; do mkdir -p $c/stockade && \
         chown -R {user} $c/stockade && echo '$$' > $c/stockade/cgroup.procs; done'"
    )
}
