//! What a program in a sandbox is, sees and may do.

use crate::support::{Host, fields, guest_spec, is_root, run_guest, skip};
use std::collections::BTreeMap;
use stockade::{Outcome, Spec, Verdict};

const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "ipc", "uts", "net", "cgroup"];

/// The test's own namespace, as /proc names it.
pub fn host_namespace(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}"))
        .expect("a namespace")
        .display()
        .to_string()
}

fn lines(outcome: &Outcome) -> Vec<String> {
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
        .stdout
        .to_text()
        .lines()
        .map(str::to_string)
        .collect()
}

/// What the guest says of itself.
pub fn report(spec: Spec) -> BTreeMap<String, String> {
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    fields(&outcome)
}

#[test]
fn namespaces_are_its_own() {
    let inside = report(guest_spec(["report"]));
    for name in NAMESPACES {
        let key = format!("ns.{name}");
        assert!(
            inside[&key].starts_with(&format!("{name}:[")),
            "{key}: {}",
            inside[&key]
        );
        assert_ne!(inside[&key], host_namespace(name), "{name} is the host's");
    }
}

#[test]
fn namespaces_differ_between_sandboxes_that_live_together() {
    let one = guest_spec(["say", "ready", "sleep", "20"])
        .spawn()
        .expect("starts");
    let pid = one.pid().expect("it runs");
    let two = report(guest_spec(["report"]));
    for name in NAMESPACES {
        let Ok(link) = std::fs::read_link(format!("/proc/{pid}/ns/{name}")) else {
            // Only root may look into a process of another user namespace that is not dumpable.
            one.kill().expect("kill");
            skip!("/proc/{pid}/ns cannot be read by a plain user");
        };
        assert_ne!(
            link.display().to_string(),
            two[&format!("ns.{name}")],
            "{name} is shared"
        );
    }
    one.kill().expect("kill");
}

#[test]
fn privileges_are_none() {
    for user in ["1000:1000", "0:0", "4242:4343"] {
        let inside = report(guest_spec(["report"]).user(user));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(inside[set], "0000000000000000", "{set} as {user}");
        }
        assert_eq!(inside["NoNewPrivs"], "1");
        assert_eq!(inside["Seccomp"], "2");
        let (uid, gid) = user.split_once(':').expect("uid:gid");
        assert_eq!(inside["Uid"], [uid; 4].join(" "), "as {user}");
        assert_eq!(inside["Gid"], [gid; 4].join(" "), "as {user}");
        // noroot, no_setuid_fixup, keep_caps off, no_cap_ambient_raise and their locks
        assert_eq!(inside["securebits"], "239", "securebits as {user}");
    }
}

/// Whatever else keeps them from it.
#[test]
fn no_program_gains_privileges_by_executing_another() {
    assert_eq!(report(guest_spec(["report"]))["NoNewPrivs"], "1");
}

#[test]
fn outside_it_is_nobody_of_weight() {
    for user in ["1000", "0:0"] {
        let process = guest_spec(["sleep", "20"])
            .user(user)
            .spawn()
            .expect("starts");
        let pid = process.pid().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let uids = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .expect("Uid");
        assert!(
            uids.split_whitespace().skip(1).all(|uid| uid != "0"),
            "uid {user} inside is root outside: {uids}"
        );
        process.kill().expect("kill");
        assert_eq!(process.wait().expect("wait").verdict, Verdict::Killed);
    }
}

#[test]
fn attempts_at_more_are_refused() {
    let outcome = run_guest(["probe"]);
    let probes = fields(&outcome);
    assert!(probes.len() > 60, "{outcome:?}");
    let allowed: Vec<_> = probes
        .iter()
        .filter(|(_, result)| *result == "OK")
        .collect();
    assert!(allowed.is_empty(), "not refused: {allowed:?}");
    for terminal in ["tiocsti", "tiocsti-high", "tioclinux", "tioclinux-high"] {
        assert_ne!(
            probes[terminal], "ENOTTY",
            "{terminal}: the filter lets it through"
        );
    }
    for quiet in [
        "unshare-user",
        "clone-user",
        "clone3-user",
        "ptrace-pid1",
        "keyctl-session",
        "io-uring",
    ] {
        assert!(
            !probes[quiet].starts_with("signal"),
            "{quiet} kills: {}",
            probes[quiet]
        );
    }
}

#[test]
fn as_uid_0_inside_no_more_is_allowed() {
    let outcome = guest_spec(["probe"])
        .user("0:0")
        .run()
        .expect("the sandbox starts");
    let probes = fields(&outcome);
    // It is uid and gid 0 already.
    let same = ["setuid-0", "setgid-0"];
    let allowed: Vec<_> = probes
        .iter()
        .filter(|(name, result)| *result == "OK" && !same.contains(&name.as_str()))
        .collect();
    assert!(allowed.is_empty(), "not refused: {allowed:?}");
}

#[test]
fn descriptors_and_environment_of_the_host_stay_outside() {
    // A host program that leaks: descriptors without close-on-exec, secrets in its environment and arguments.
    let said = Host::start_with("leaky", "secret-argument", |command| {
        command.env("SECRET", "secret-variable");
    })
    .finish();
    let text = said.join("\n");
    assert!(text.contains("fds: 0=/dev/null 1=pipe 2=pipe\n"), "{text}");
    assert!(text.contains("env:\n"), "{text}");
    assert!(text.contains("done"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn only_its_own_processes_are_visible() {
    let seen = lines(&run_guest(["ps"]));
    assert!(seen.len() <= 2, "{seen:?}");
    assert!(seen.iter().any(|line| line.ends_with("=guest")), "{seen:?}");
}

#[test]
fn the_first_process_tells_nothing() {
    let outcome = run_guest([
        "open",
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/1/auxv",
        "/proc/1/maps",
        "/proc/1/stack",
    ]);
    for (path, result) in fields(&outcome) {
        assert!(
            !result.starts_with("OK") || result == "OK 0",
            "{path}: {result}"
        );
    }
    // Anyone may read a command line: there must be nothing in it.
    let outcome = run_guest(["read", "/proc/1/cmdline"]);
    let text = outcome.stdout.to_text();
    assert!(
        !text.contains('/') && text.trim_matches('\0').len() < 16,
        "{text:?}"
    );
}

#[test]
fn nothing_of_the_host_is_writable() {
    for user in ["1000:1000", "0:0"] {
        let outcome = guest_spec(["walk-writable", "/", "/proc"])
            .user(user)
            .run()
            .expect("the sandbox starts");
        for line in lines(&outcome) {
            let (verb, path) = line.split_once(' ').expect("two words");
            if verb == "checked" {
                assert!(path.parse::<u64>().expect("a number") > 100, "{line}");
                continue;
            }
            let own = ["/work", "/tmp", "/dev/shm"]
                .iter()
                .any(|dir| path == *dir || path.starts_with(&format!("{dir}/")));
            assert!(own, "as {user}: {line}");
        }
    }
}

#[test]
fn the_kernel_files_are_read_only_or_hidden() {
    let outcome = run_guest([
        "open-write",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/bus/pci",
        "/proc/1/oom_score_adj",
        "/proc/1/uid_map",
        "/proc/mtrr",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ]);
    let open: Vec<_> = fields(&outcome)
        .into_iter()
        .filter(|(_, result)| result == "OK")
        .collect();
    assert!(open.is_empty(), "writable: {open:?}");
    let outcome = run_guest([
        "open",
        "/proc/kcore",
        "/proc/keys",
        "/proc/locks",
        "/proc/timer_list",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/kmsg",
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/kernel/security",
    ]);
    let read: Vec<_> = fields(&outcome)
        .into_iter()
        .filter(|(_, result)| result.starts_with("OK") && result != "OK 0")
        .collect();
    assert!(read.is_empty(), "readable: {read:?}");
}

#[test]
fn the_hosts_root_is_not_mounted_beneath() {
    // Which device, and what of it.
    let what = |line: &str| {
        line.split(' ')
            .skip(2)
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let host = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let root = host
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/"));
    let root = what(root.expect("a root"));
    let inside = lines(&run_guest(["read", "/proc/self/mountinfo"]));
    assert!(inside.len() > 5, "{inside:?}");
    assert!(
        !inside.iter().any(|line| what(line) == root),
        "{root}: {inside:?}"
    );
}

#[test]
fn mounts_do_not_tell_how_busy_the_host_is() {
    let inside = lines(&run_guest(["read", "/proc/self/mountinfo"]));
    let told = |line: &&String| line.contains("/fd/");
    assert_eq!(inside.iter().find(told), None, "of {inside:?}");
}

#[test]
fn secrets_of_the_host_are_not_there() {
    let home = std::env::var("HOME").unwrap_or("/root".into());
    let manifest = env!("CARGO_MANIFEST_DIR");
    let paths = [
        "open",
        "/etc/shadow",
        "/etc/passwd-",
        "/etc/sudoers",
        "/etc/ssh",
        "/root",
        "/var/log",
        "/boot",
        "/run",
        "/var/run/docker.sock",
        "/etc/machine-id",
        &home,
        manifest,
        "/sys/class/net",
        "/proc/1/root/etc/hostname",
    ];
    for (path, result) in fields(&run_guest(paths)) {
        assert!(
            !result.starts_with("OK") || result == "OK 0",
            "{path}: {result}"
        );
    }
}

#[test]
fn devices_are_few_and_true() {
    let known = BTreeMap::from([
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
        ("ptmx", "5:2"),
    ]);
    let listed = lines(&run_guest(["ls", "/dev"]));
    for device in ["null", "zero", "random", "urandom"] {
        assert!(
            listed
                .iter()
                .any(|line| line.starts_with(&format!("{device} char"))),
            "no {device}: {listed:?}"
        );
    }
    for line in &listed {
        let words: Vec<_> = line.split(' ').collect();
        match words[1] {
            "char" => assert_eq!(known.get(words[0]), Some(&words[3]), "{line}"),
            "dir" => assert!(["shm", "pts", "mqueue", "fd"].contains(&words[0]), "{line}"),
            "link" => assert!(
                words[4].starts_with("/proc/self/fd") || words[4] == "pts/ptmx",
                "{line}"
            ),
            _ => panic!("/dev/{line}"),
        }
    }
    let outcome = run_guest(["open", "/dev/zero", "/dev/urandom", "/dev/null"]);
    let read = fields(&outcome);
    assert_eq!(
        (
            &*read["/dev/zero"],
            &*read["/dev/urandom"],
            &*read["/dev/null"]
        ),
        ("OK 64", "OK 64", "OK 0")
    );
}

#[test]
fn a_false_device_is_refused() {
    if !is_root() {
        skip!("only root can put one in the place of another");
    }
    let said = Host::start("false-device", "").finish();
    assert!(said[0].contains("binding device `/dev/null`"), "{said:?}");
}

#[test]
fn paths_hold_where_openat2_is_blocked() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let said = Host::start("no-openat2", &errno.to_string()).finish();
        assert_eq!(said, ["files", "a live sandbox", "roots"]);
    }
}

#[test]
fn mounts_are_nosuid_and_nodev_and_sized() {
    let outcome = guest_spec([
        "statfs",
        "/",
        "/usr",
        "/work",
        "/tmp",
        "/dev/shm",
        "/guest",
        "/proc",
        "/proc/sys",
    ])
    .disk(16 << 20)
    .inodes(500)
    .run()
    .expect("the sandbox starts");
    for (path, what) in fields(&outcome) {
        assert!(what.contains("nosuid"), "{path}: {what}");
        let words: Vec<_> = what.split(' ').collect();
        if ["/work", "/tmp", "/dev/shm"].contains(&path.as_str()) {
            assert_eq!((words[0], words[2]), ("16777216", "rw"), "{path}: {what}");
            // The directories that the sandbox itself has there are not the program's.
            let inodes: u64 = words[1].parse().expect("a number");
            assert!((500..=510).contains(&inodes), "{path}: {what}");
            assert!(what.contains("nodev"), "{path}: {what}");
        } else if path != "/proc" {
            assert_eq!(words[2], "ro", "{path}: {what}");
        }
    }
}

#[test]
fn names_are_what_was_asked_for() {
    let inside = report(guest_spec(["report"]));
    assert_eq!(inside["hostname"], "stockade");
    assert_eq!(inside["rlimit.core"], "0", "no core files");
    // Half of the caller's, of whose user it is.
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .expect("getrlimit");
    let most = if is_root() {
        1024
    } else {
        (soft / 2).min(1024)
    };
    assert_eq!(inside["rlimit.nofile"], most.to_string());
    let inside = report(guest_spec(["report"]).hostname("judge-7"));
    assert_eq!(inside["hostname"], "judge-7");
}

#[test]
fn signals_and_mask_are_as_a_program_expects() {
    let inside = report(guest_spec(["report"]));
    assert_eq!(inside["SigBlk"], "0000000000000000", "blocked signals");
    assert_eq!(
        inside["SigIgn"], "0000000000000000",
        "ignored signals (SIGPIPE is, in a Rust host)"
    );
    assert_eq!(inside["Umask"], "0022");
    assert_eq!(inside["sid"], inside["pid"], "a session of its own");
    assert_eq!(inside["nice"], "0");
}

#[test]
fn the_working_directory_is_inside() {
    for bad in ["/no/such/dir", "no/such/dir", "/etc/passwd", "/proc/1/cwd"] {
        let refused = match guest_spec(["cwd"]).cwd(bad).run() {
            Err(_) => true,
            Ok(outcome) => outcome.verdict == Verdict::ExecFailed,
        };
        assert!(refused, "{bad} is taken");
    }
}

#[test]
fn what_is_given_as_input_cannot_be_changed() {
    // Opened again it is a sealed copy.
    let outcome = guest_spec(["reopen"])
        .input(b"given, and longer than what is written")
        .run()
        .expect("runs");
    let tried = fields(&outcome);
    assert_eq!((&*tried["write"], &*tried["truncate"]), ("EPERM", "EPERM"));
    // Of a pipe there is the pipe, with both its ends for the user whose it is.
    let other_end = if is_root() { "EACCES" } else { "OK" };
    assert_eq!(tried["output"], other_end);
    let tried = fields(&run_guest(["reopen"]));
    assert_ne!(tried["truncate"], "OK", "{tried:?}");
}

#[test]
fn programs_of_the_host_run() {
    let outcome = Spec::new([
        "/bin/sh",
        "-c",
        "echo $((6 * 7)); id -u; test -r /etc/passwd || true",
    ])
    .run()
    .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    assert_eq!(outcome.stdout.to_text(), "42\n1000\n");
    if is_root() {
        let outcome = Spec::new([
            "/bin/sh",
            "-c",
            "cat /etc/shadow /root/.profile; echo status $?",
        ])
        .run()
        .expect("the sandbox starts");
        assert!(
            outcome.stdout.to_text().starts_with("status "),
            "{outcome:?}"
        );
    }
}
