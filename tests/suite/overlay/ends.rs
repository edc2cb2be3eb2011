//! Nothing is left, whatever ends first: the host, the sandbox, or what serves its root.

use super::*;
use crate::hosts::say;
use crate::support::{Host, descendants, skip, wait_until};
use stockade::Sandbox;

/// Starts, changes and resets sandboxes over the tree `path` until it is killed.
pub fn victim(path: &str) {
    let drivers = std::env::var("STOCKADE_SUITE_DRIVERS").expect("the drivers");
    let root = Rootfs::Directory(path.into());
    for driver in drivers.split(' ').cycle() {
        let json = format!("{{\"overlay\": \"{driver}\"}}");
        let overlay = Spec::from_json(&json)
            .expect("a driver")
            .overlay
            .expect("one");
        let spec = |args: &[&str]| spec(root.clone(), overlay, args);
        let change = ["fs", "put:/data/file:upper", "rm:/data/gone"];
        let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
        sandbox.run(&spec(&change)).expect("runs");
        let _left = sandbox.spawn(&spec(&["sleep", "20"])).expect("spawns");
        sandbox.reset().expect("resets");
        spec(&change).run().expect("runs");
    }
}

#[test]
fn nothing_is_left_when_the_host_is_killed() {
    let tree = Tree::new().done();
    let before = content(tree.0.path());
    let names: Vec<&str> = drivers()
        .iter()
        .map(|overlay| match overlay {
            Overlay::Kernel => "kernel",
            Overlay::Fuse => "fuse",
            _ => "copy",
        })
        .collect();
    let argument = format!("40 overlay-victim {}", tree.path());
    let said = Host::start_with("killer", &argument, |command| {
        command.env("STOCKADE_SUITE_DRIVERS", names.join(" "));
    })
    .finish();
    assert_eq!(said.last().map(String::as_str), Some("clean"), "{said:?}");
    assert_eq!(content(tree.0.path()), before);
}

/// What serves a root is killed: the program is told of it, and the sandbox ends as any other.
#[test]
fn the_end_of_what_serves_a_root_is_no_hang() {
    if !drivers().contains(&Overlay::Fuse) {
        skip!("fuse-overlayfs does not work here");
    }
    let tree = Tree::new().done();
    let said = Host::start("server-killed", &tree.path()).finish();
    assert_eq!(said, ["clean"]);
}

/// What serves a root has no right but over files, a filter, and limits.
fn confined(pid: u32) {
    let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("readable");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or_else(|| panic!("{name}: {status}"))
    };
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2", "1"));
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "000000000000001b", "{set}");
    }
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    assert!(core.is_some_and(|line| line.contains(" 0 ")), "{limits}");
    let space = limits.lines().find(|line| line.starts_with("Max address"));
    let most = (2u64 << 30).to_string();
    assert!(space.is_some_and(|line| line.contains(&most)), "{limits}");
}

/// Kills what serves the root of a sandbox in which programs run.
pub fn server_killed(path: &str) {
    crate::support::adopt_orphans();
    let root = Rootfs::Directory(path.into());
    let spec = |args: &[&str]| spec(root.clone(), Overlay::Fuse, args);
    let sandbox = Sandbox::start(&spec(&["-"])).expect("starts");
    let running = sandbox.spawn(&spec(&["sleep", "20"])).expect("spawns");
    assert!(running.pid().is_some());
    let servers: Vec<u32> = descendants(std::process::id())
        .into_iter()
        .filter(|(_, name)| name == "fuse-overlayfs")
        .map(|(pid, _)| pid)
        .collect();
    assert_eq!(
        servers.len(),
        1,
        "one for each sandbox, and none of the probe"
    );
    confined(servers[0]);
    // SAFETY: a plain call, on a process that is ours.
    assert_eq!(unsafe { libc::kill(servers[0] as i32, libc::SIGKILL) }, 0);
    let outcome = sandbox.run(&spec(&["true"])).expect("an outcome");
    assert_eq!(outcome.verdict, Verdict::ExecFailed, "{outcome:?}");
    let message = outcome.message.as_deref().unwrap_or_default();
    assert!(message.contains("fuse-overlayfs"), "{message}");
    assert!(running.kill().is_ok());
    // A page of its own program that it needs meanwhile is not to be had: SIGBUS.
    let verdict = running.wait().expect("an outcome").verdict;
    assert!(
        [Verdict::Killed, Verdict::Signaled].contains(&verdict),
        "{verdict:?}"
    );
    sandbox.reset().expect("a reset starts another");
    assert_eq!(
        sandbox.run(&spec(&["true"])).expect("runs").verdict,
        Verdict::Ok
    );
    sandbox.close().expect("closes");
    let left = || {
        descendants(std::process::id())
            .into_values()
            .any(|name| name == "fuse-overlayfs")
    };
    assert!(wait_until(Duration::from_secs(5), || !left()), "it is left");
    say("clean");
}
