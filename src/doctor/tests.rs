//! The checks against hosts that are only described: directories with the files a check reads.

use super::host::{Container, Host, Trial};
use super::{Check, CheckStatus, cgroup, examine, ids, namespaces, proc, storage};
use crate::outcome::{Enforcement, EnforcementStatus};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// A described host; its directory goes when it does.
struct Described {
    host: Host,
    _root: TempDir,
}

impl Described {
    fn new(uid: u32) -> Self {
        let root = TempDir::new().unwrap();
        let host = Host {
            root: root.path().into(),
            uid,
            path: vec!["/usr/bin".into()],
            program: "/usr/bin/judge".into(),
            container: None,
        };
        let described = Described { host, _root: root };
        for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"] {
            described.file(&format!("/proc/self/ns/{kind}"), "");
        }
        described.file("/proc/sys/kernel/osrelease", "6.8.0-31-generic\n");
        described.file(
            "/etc/passwd",
            "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n",
        );
        described
    }

    fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.host.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn helper(&self, path: &str, mode: u32) -> &Self {
        self.file(path, "");
        fs::set_permissions(self.host.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }
}

fn works(status: EnforcementStatus, by: &str) -> Trial {
    let enforcement = ["memory", "pids", "cpu_time"].map(|limit| {
        let by = by.to_string();
        (limit.to_string(), Enforcement { status, by })
    });
    Trial::Works {
        enforcement: enforcement.into(),
    }
}

fn refused(step: &str, errno: i32) -> Trial {
    Trial::Fails {
        step: step.into(),
        errno,
        message: format!("{step}: refused"),
    }
}

fn named<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn what_works_was_tried() {
    let host = Described::new(1000);
    let checks = namespaces::checks(&host.host, &works(EnforcementStatus::Enforced, "a test"));
    assert_eq!(checks.len(), 8);
    assert!(
        checks.iter().all(|check| check.status == CheckStatus::Ok),
        "{checks:?}"
    );
    assert_eq!(named(&checks, "pid namespace").detail, "works");
}

#[test]
fn apparmor_of_ubuntu_gets_a_profile() {
    let host = Described::new(1000);
    host.file(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1\n",
    );
    let checks = namespaces::checks(&host.host, &refused("starting the supervisor", libc::EPERM));
    let user = named(&checks, "user namespace");
    assert_eq!(user.status, CheckStatus::Missing);
    assert!(
        user.fix
            .as_ref()
            .unwrap()
            .contains("profile stockade.usr.bin.judge \"/usr/bin/judge\" flags=(unconfined)")
    );
    assert!(user.fix.as_ref().unwrap().contains("apparmor_parser -r"));
}

#[test]
fn a_profile_that_confines_is_named() {
    let host = Described::new(1000);
    host.file("/proc/self/attr/apparmor/current", "session (enforce)\n");
    let checks = namespaces::checks(&host.host, &refused("mounting proc", libc::EACCES));
    let user = named(&checks, "user namespace");
    assert_eq!(user.status, CheckStatus::Missing);
    assert!(user.detail.contains("profile `session`"), "{}", user.detail);
    assert!(user.fix.as_ref().unwrap().contains("apparmor_parser -r"));
}

#[test]
fn sysctls_that_forbid_are_named() {
    let host = Described::new(1000);
    host.file("/proc/sys/user/max_user_namespaces", "0\n")
        .file("/proc/sys/user/max_net_namespaces", "0\n");
    let checks = namespaces::checks(
        &host.host,
        &refused("starting the supervisor", libc::ENOSPC),
    );
    let fix = named(&checks, "user namespace").fix.as_deref().unwrap();
    assert!(
        fix.ends_with("sudo sysctl -w user.max_user_namespaces=65536"),
        "{fix}"
    );
    assert_eq!(
        named(&checks, "network namespace").status,
        CheckStatus::Missing
    );
    assert_eq!(named(&checks, "ipc namespace").status, CheckStatus::Ok);

    let host = Described::new(1000);
    host.file("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
    let checks = namespaces::checks(&host.host, &refused("starting the supervisor", libc::EPERM));
    let fix = named(&checks, "user namespace").fix.as_deref().unwrap();
    assert!(
        fix.contains("kernel.unprivileged_userns_clone = 1"),
        "{fix}"
    );
}

#[test]
fn containers_get_their_own_flags() {
    let mut host = Described::new(0);
    host.host.container = Some(Container::Docker);
    let checks = namespaces::checks(&host.host, &refused("starting the supervisor", libc::EPERM));
    let fix = named(&checks, "user namespace").fix.as_deref().unwrap();
    assert!(fix.contains("--security-opt seccomp=unconfined"), "{fix}");

    let masked = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /proc rw - proc proc rw\n3 2 0:3 / /proc/kcore rw - tmpfs t rw\n";
    host.file("/proc/self/mountinfo", masked);
    let trial = refused("mounting proc at", libc::EPERM);
    let check = proc::check(&host.host, &trial);
    assert_eq!(check.status, CheckStatus::Missing);
    assert!(check.fix.unwrap().contains("systempaths=unconfined"));
    host.host.container = Some(Container::Kubernetes);
    assert!(
        proc::check(&host.host, &trial)
            .fix
            .unwrap()
            .contains("procMount: Unmasked")
    );
    // What was tried counts for more than what was read.
    assert_eq!(
        proc::check(&host.host, &works(EnforcementStatus::Enforced, "a test")).status,
        CheckStatus::Ok
    );
}

#[test]
fn sub_ids_need_a_range_and_helpers() {
    let host = Described::new(1000);
    host.file("/etc/subuid", "bob:100000:65536\n")
        .file("/etc/subgid", "bob:100000:65536\n")
        .file("/etc/os-release", "ID=ubuntu\nID_LIKE=debian\n");
    let check = ids::check(&host.host);
    assert_eq!(check.status, CheckStatus::Degraded);
    assert_eq!(
        check.fix.as_deref(),
        Some(
            "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 alice \
             && sudo apt-get install uidmap"
        )
    );
    host.file("/etc/subuid", "alice:100000:65536\n")
        .file("/etc/subgid", "alice:100000:65536\n")
        .helper("/usr/bin/newuidmap", 0o755)
        .helper("/usr/bin/newgidmap", 0o755);
    let check = ids::check(&host.host);
    assert_eq!(
        check.fix.as_deref(),
        Some("sudo chmod u+s /usr/bin/newuidmap && sudo chmod u+s /usr/bin/newgidmap")
    );
    assert_eq!(ids::check(&Described::new(0).host).status, CheckStatus::Ok);
}

#[test]
fn the_cgroup_rung_is_the_trial_runs() {
    let mut host = Described::new(1000);
    host.file("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
    let by = "cgroup v2 memory.max";
    let check = cgroup::check(&host.host, &works(EnforcementStatus::Enforced, by));
    assert_eq!(check.status, CheckStatus::Ok);
    assert!(
        check
            .detail
            .starts_with("memory: cgroup v2 memory.max; pids: "),
        "{check:?}"
    );

    let sampled = works(
        EnforcementStatus::Approximated,
        "sampled: it is not writable",
    );
    assert_eq!(
        cgroup::check(&host.host, &sampled).detail,
        "memory only approximated: sampled; pids only approximated: sampled; cpu_time only approximated: sampled. \
         No cgroup, since it is not writable"
    );
    let fix = |host: &Host| {
        let check = cgroup::check(host, &sampled);
        assert_eq!(check.status, CheckStatus::Degraded);
        check.fix.unwrap()
    };
    assert!(fix(&host.host).contains("chown -R alice stockade "));
    fs::create_dir_all(host.host.at("/run/systemd/system")).unwrap();
    assert!(fix(&host.host).contains("user@.service.d/delegate.conf"));
    let unmanaged = works(
        EnforcementStatus::Approximated,
        "sampled: systemd: no user manager runs: call `loginctl enable-linger 1000`",
    );
    assert_eq!(
        cgroup::check(&host.host, &unmanaged).fix.unwrap(),
        "sudo loginctl enable-linger alice"
    );
    fs::remove_dir_all(host.host.at("/sys/fs/cgroup")).unwrap();
    assert!(fix(&host.host).contains("chown -R alice $c/stockade "));
    host.host.container = Some(Container::Kubernetes);
    assert!(fix(&host.host).contains("cgroup_writable"));
}

#[test]
fn overlay_needs_its_module() {
    let host = Described::new(1000);
    host.file("/proc/filesystems", "nodev\tproc\n\text4\n");
    assert!(
        storage::overlay(&host.host)
            .fix
            .unwrap()
            .contains("modprobe overlay")
    );
    host.file("/proc/filesystems", "nodev\tproc\nnodev\toverlay\n");
    assert_eq!(storage::overlay(&host.host).status, CheckStatus::Ok);
    host.file("/proc/sys/kernel/osrelease", "5.4.0\n");
    assert!(storage::overlay(&host.host).detail.contains("5.11"));
}

#[test]
fn a_failed_trial_is_never_all_well() {
    let host = Described::new(1000);
    let checks = examine(
        &host.host,
        &refused("pivoting into the new root", libc::EINVAL),
    );
    assert_eq!(checks[0].status, CheckStatus::Missing);
    assert!(
        checks
            .iter()
            .all(|check| check.status == CheckStatus::Ok || !check.detail.is_empty())
    );
    let mut names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), checks.len());
}
