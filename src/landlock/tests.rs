//! What would be without it: sandboxes whose mounts have a mistake, with Landlock and without.

use super::*;
use crate::channel::Channel;
use crate::plan::{Plan, bytes_of, read_of};
use crate::spec::Volume;
use crate::supervisor::{self, Key};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;

/// A directory whose content anybody may change, and a file in it that anybody may read.
fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    };
    let file = dir.path().join("there");
    std::fs::write(&file, "as it was\n").expect("write");
    mode(&file, 0o666);
    mode(dir.path(), 0o777);
    dir
}

/// Runs `script` in a plan whose steps `change` has changed: its exit status.
fn run(spec: &Spec, stdin: Option<RawFd>, change: impl Fn(&mut Op)) -> u32 {
    let fds: Vec<RawFd> = stdin.into_iter().collect();
    let (_host, plan, channel) = supervisor::start(&Key::of(spec), &fds, |host| {
        let mut plan = Plan::sandbox(spec, &host.ids, &host.cgroup, None, Some(false))?;
        plan.head.flags |= if fds.is_empty() { 0 } else { HAS_STDIN };
        let section = plan.head.setup;
        let mut at = section.offset as usize;
        while at < (section.offset + section.len) as usize {
            let mut op: Op = read_of(&plan.bytes[at..]).expect("a step");
            change(&mut op);
            plan.bytes[at..at + size_of::<Op>()].copy_from_slice(bytes_of(&op));
            at += size_of::<Op>() + (op.len as usize).next_multiple_of(8);
        }
        Ok(plan)
    })
    .expect("starts");
    end(&plan, &channel)
}

fn end(plan: &Plan, channel: &Channel) -> u32 {
    loop {
        let received = channel.receive(true).expect("a message").expect("no end");
        match read_of::<Message>(&received.bytes).map(|message| message.kind) {
            Some(EXIT) => {
                let exit: Exit = read_of(&received.bytes).expect("an exit");
                return exit.status >> 8;
            }
            Some(FAILED) => {
                let failure: Failure = read_of(&received.bytes).expect("a failure");
                panic!("{}", plan.explain(&failure));
            }
            _ => {}
        }
    }
}

fn without_landlock(op: &mut Op) {
    if matches!(op.code, S_LANDLOCK | S_ALLOW) {
        op.code = S_SERVE_LIMIT; // nothing, where nothing serves
    }
}

fn left_writable(op: &mut Op) {
    if matches!(op.code, S_SOURCE | S_VOLUME) {
        op.flags |= BIND_WRITABLE;
    }
}

/// A volume that is read-only, but for the mistake.
fn changes(script: &str) -> (bool, bool) {
    let changed = |change: &dyn Fn(&mut Op)| {
        let dir = open_directory();
        let spec = Spec::new(["/bin/sh", "-c", script]).volume(Volume {
            host: dir.path().display().to_string(),
            inside: "/data".into(),
            writable: false,
        });
        let before = look(dir.path());
        run(&spec, None, change);
        look(dir.path()) != before
    };
    let with = changed(&left_writable);
    let without = changed(&|op| {
        left_writable(op);
        without_landlock(op);
    });
    (with, without)
}

fn look(dir: &std::path::Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let content = match path.is_file() {
                true => std::fs::read_to_string(&path).unwrap_or_default(),
                false => String::new(), // of a FIFO nobody may wait for any
            };
            (path.display().to_string(), content)
        })
        .map(|(path, content)| {
            (
                path.rsplit('/').next().unwrap_or_default().to_string(),
                content,
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_mount_left_writable_is_not_written() {
    if abi().is_err() {
        return;
    }
    for script in [
        "echo x > /data/new",
        "echo x >> /data/there",
        "rm /data/there",
        "mkdir /data/dir",
        "ln -s there /data/link",
        "mkfifo /data/fifo",
        "mv /data/there /data/moved",
        "ln /data/there /data/linked",
        "truncate -s 0 /data/there",
    ] {
        let (with, without) = changes(script);
        assert!(
            without,
            "{script}: the mistake changes nothing, so this test shows nothing"
        );
        assert!(!with, "{script}");
    }
}

#[test]
fn a_directory_that_has_leaked_in_is_not_read() {
    if abi().is_err() {
        return;
    }
    let dir = open_directory();
    let opened = std::fs::File::open(dir.path()).expect("open");
    for script in [
        "cat /proc/self/fd/0/there",
        "ls /proc/self/fd/0/",
        "echo x >> /proc/self/fd/0/there",
    ] {
        let spec = Spec::new(["/bin/sh", "-c", script]);
        let stdin = Some(opened.as_raw_fd());
        assert_eq!(
            run(&spec, stdin, without_landlock),
            0,
            "{script}: it does not leak"
        );
        assert_ne!(run(&spec, stdin, |_| {}), 0, "{script}");
    }
}

#[test]
fn what_a_kernel_says_is_judged() {
    assert_eq!(judge(Ok(7)), Ok(7));
    assert!(judge(Ok(1)).is_err_and(|why| why.contains("rename")));
    assert!(judge(Err(libc::EOPNOTSUPP)).is_err_and(|why| why.contains("lsm=")));
    assert!(judge(Err(libc::ENOSYS)).is_err_and(|why| why.contains("5.13")));
    assert!(judge(Err(libc::EPERM)).is_err_and(|why| why.contains("filter")));
}

#[test]
fn rights_grow_with_the_abi() {
    assert_eq!(handled_files(2), (1 << 14) - 1);
    assert_eq!(handled_files(3), (1 << 15) - 1);
    assert_eq!(handled_files(5), (1 << 16) - 1);
    assert_eq!(handled_files(20), (1 << 17) - 1);
    for (abi, none) in [(3, 0), (4, 3), (9, 3), (10, 15), (20, 15)] {
        assert_eq!(handled_network(abi, Network::None), none);
        assert_eq!(handled_network(abi, Network::Loopback), 0);
        assert_eq!(handled_network(abi, Network::Host), 0);
    }
    assert_eq!((scopes(5), scopes(6)), (0, 3));
    let (has, lacks) = covers(6);
    assert!(has.contains(&"signals") && lacks.len() == 2, "{lacks:?}");
}
