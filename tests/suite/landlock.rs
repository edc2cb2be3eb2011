//! Landlock below the mounts: what it refuses, and what it leaves as it is. What a mount that was left writable would be
//! without it is shown in `src/landlock/tests.rs`, since no specification asks for that.

use crate::overlay;
use crate::support::{fields, guest_spec, skip};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use stockade::{EnforcementStatus, Network, Outcome, Sandbox, Spec, Stdio, Tmpfs, Verdict};

/// The kernel's ABI; 0 if it has none that is used.
pub fn abi() -> u32 {
    // SAFETY: with this flag the kernel takes no attribute and makes nothing.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1,
        )
    };
    match u32::try_from(abi) {
        Ok(abi) if abi >= 2 => abi,
        _ => 0,
    }
}

fn run(spec: Spec) -> Outcome {
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
}

#[test]
fn the_outcome_says_what_landlock_holds() {
    for network in [Network::None, Network::Loopback] {
        let outcome = run(guest_spec(["true"]).network(network));
        let said = &outcome.enforcement["landlock"];
        let by = &said.by;
        if abi() == 0 {
            assert_eq!(said.status, EnforcementStatus::NotEnforced);
            assert!(!by.is_empty());
            continue;
        }
        assert_eq!(said.status, EnforcementStatus::Enforced);
        let (has, lacks) = by.split_once("; not in this kernel: ").unwrap_or((by, ""));
        assert!(has.starts_with(&format!("ABI {}: files", abi())), "{by}");
        for (part, since) in [
            ("truncation", 3),
            ("device ioctl", 5),
            ("abstract sockets", 6),
            ("signals", 6),
        ] {
            let there = if abi() >= since { has } else { lacks };
            assert!(there.contains(part), "{part}: {by}");
        }
        let tcp = has.contains("TCP,") || has.ends_with("TCP");
        assert_eq!(tcp, abi() >= 4 && network == Network::None, "{by}");
    }
}

/// All that programs do with files, in each place where they may.
#[test]
fn files_are_as_ever_below_what_is_writable() {
    let shared = crate::volumes::open_dir();
    let spec = guest_spec(["as-ever", "/work", "/tmp", "/dev/shm", "/small", "/volume"])
        .volume(crate::volumes::volume(shared.path(), "/volume", true))
        .tmpfs(Tmpfs {
            path: "/small".into(),
            size: None,
            inodes: None,
        });
    works(&run(spec));
}

#[test]
fn files_are_as_ever_in_a_writable_root() {
    overlay::with_each_driver(["as-ever", "/", "/work", "/tmp", "/dev/shm"], works);
}

fn works(outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let said = outcome.stdout.to_text();
    assert!(said.lines().count() > 30, "{said}");
    // A pipe that root has made may be opened anew by root alone, whoever has it open.
    let roots = ["reopen-stdout=EACCES", "reopen-stdin=EACCES"];
    for line in said.lines() {
        let fine = line.ends_with("=OK") || (crate::support::is_root() && roots.contains(&line));
        assert!(fine, "{line}: {said}");
    }
}

#[test]
fn a_program_cannot_signal_what_is_outside() {
    // Init would take no harm, and is not reached all the same.
    let seen = fields(&run(guest_spec(["signal-to", "1"])));
    let expected = if abi() >= 6 { "EPERM" } else { "OK" };
    assert_eq!(seen["kill"], expected);
}

#[test]
fn without_a_network_no_port_is_bound() {
    for (kind, since) in [("tcp", 4), ("udp", 10)] {
        let bind = |network| fields(&run(guest_spec(["bind", kind]).network(network)));
        let expected = if abi() >= since { "EACCES" } else { "OK" };
        assert_eq!(bind(Network::None)["bind"], expected, "{kind}");
        assert_eq!(bind(Network::Loopback)["bind"], "OK", "{kind}");
        assert_eq!(bind(Network::Host)["bind"], "OK", "{kind}");
    }
}

/// In the host's network namespace are the abstract sockets of its desktop and its buses.
#[test]
fn abstract_sockets_of_the_host_are_not_reached() {
    let name = format!("stockade-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("a socket");
    let spec = guest_spec(["abstract-connect", &name]).network(Network::Host);
    let expected = if abi() >= 6 { "EPERM" } else { "OK" };
    assert_eq!(fields(&run(spec))["connect"], expected);
}

#[test]
fn programs_of_one_sandbox_reach_each_other() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    reach_each_other(&sandbox, &|args| guest_spec(args));
}

#[test]
fn after_a_reset_programs_reach_each_other_and_nothing_else() {
    overlay::live_in_each_driver(|sandbox, guest| {
        let first = sandbox.run(&guest(&["true"])).expect("runs");
        assert_eq!(first.verdict, Verdict::Ok, "{first:?}");
        sandbox.reset().expect("reset");
        reach_each_other(sandbox, guest);
        works(&sandbox.run(&guest(&["as-ever", "/"])).expect("runs"));
    });
}

fn reach_each_other(sandbox: &Sandbox, guest: &dyn Fn(&[&str]) -> Spec) {
    let listens = guest(&["abstract-listen", "guest", "20"]).stdout(Stdio::Pipe);
    let listening = sandbox.spawn(&listens).expect("starts");
    crate::lateral::wait_ready(&listening);
    let run = |args: &[&str]| {
        let outcome = sandbox.run(&guest(args)).expect("runs");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        outcome
    };
    let connected = fields(&run(&["abstract-connect", "guest"]));
    assert_eq!(connected["connect"], "OK");
    let seen = run(&["ps"]).stdout.to_text();
    let pids: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_suffix("=guest"))
        .collect();
    let [first, _] = pids[..] else {
        panic!("they do not see each other: {seen}");
    };
    let traced = fields(&run(&["trace", first]));
    assert_eq!((&*traced["environ"], &*traced["trace"]), ("OK", "OK"));
    let outside = if abi() >= 6 { "EPERM" } else { "OK" };
    for (whom, number, expected) in [("1", "0", outside), (first, "0", "OK"), (first, "9", "OK")] {
        let sent = fields(&run(&["signal-to", whom, number]));
        assert_eq!(sent["kill"], expected, "signal {number} to {whom}");
    }
    let outcome = listening.wait().expect("wait");
    assert_eq!(outcome.signal, Some(9), "{outcome:?}");
}

/// With Linux 7.1 a socket in a directory is one more way out that must have been granted.
#[test]
fn sockets_in_volumes_are_granted_with_them() {
    let shared = crate::volumes::open_dir();
    let path = shared.path().join("socket");
    let _listener = UnixListener::bind(&path).expect("a socket");
    let spec = guest_spec(["connect-to", "/volume/socket"]);
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, everyone).expect("chmod");
    for writable in [false, true] {
        let volume = crate::volumes::volume(shared.path(), "/volume", writable);
        let seen = fields(&run(spec.clone().volume(volume)));
        assert_eq!(seen["connect"], "OK");
    }
    if abi() < 9 {
        skip!("before Linux 7.1 Landlock has no say about sockets in directories");
    }
}
