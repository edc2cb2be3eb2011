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
    let words: Vec<String> = found
        .iter()
        .map(|(limit, e)| match e {
            None => format!("{limit}: nothing"),
            Some(e) if e.status == EnforcementStatus::Enforced => format!("{limit}: {}", e.by),
            Some(e) => format!("{limit} only approximated: {}", e.by),
        })
        .collect();
    match held {
        true => Check::ok(name, words.join("; ")),
        false => Check::degraded(name, words.join("; ")).fix(delegate(host)),
    }
}

/// How to get a group of one's own.
fn delegate(host: &Host) -> String {
    match host.container {
        Some(Container::Docker) => {
            return "docker run --privileged --cgroupns=private ... (or another way to a writable /sys/fs/cgroup inside)".into();
        }
        Some(Container::Podman) => {
            return "podman run --security-opt unmask=/sys/fs/cgroup ...".into();
        }
        Some(Container::Kubernetes) => {
            return "run the container on a node whose containerd has `cgroup_writable = true`"
                .into();
        }
        None => {}
    }
    if !host.exists("/sys/fs/cgroup/cgroup.controllers") {
        return "boot with `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all` on the kernel's command line, \
                or run as root"
            .into();
    }
    if host.exists("/run/systemd/system") {
        let user = host.user();
        return format!(
            "sudo mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, \
             log in again as {user}, then start the program as `systemd-run --user --scope -p Delegate=yes -- PROGRAM`; \
             for a system service: `Delegate=yes` in its [Service] section"
        );
    }
    format!(
        "sudo sh -c 'mkdir -p /sys/fs/cgroup/stockade/host && \
         echo \"+cpu +memory +pids\" > /sys/fs/cgroup/cgroup.subtree_control && \
         chown -R {} /sys/fs/cgroup/stockade && echo '$$' > /sys/fs/cgroup/stockade/host/cgroup.procs', \
         then give `cgroup_parent` as /sys/fs/cgroup/stockade",
        host.user()
    )
}
