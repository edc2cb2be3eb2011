//! Live sandboxes, in which programs run one after another and side by side.

use crate::support::{alive, guest_spec, promise, slowness};
use crate::volumes::{open_dir, volume};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use stockade::{ErrorKind, Sandbox, Spec, Verdict};

#[test]
fn no_program_changes_the_limits_of_others() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    for _ in 0..2 {
        let spec = guest_spec(["probe", "limits-of-others", "limits-of-pid1"]);
        let outcome = sandbox.run(&spec).expect("runs");
        let text = outcome.stdout.to_text();
        let refused = "limits-of-pid1=EPERM\nlimits-of-others=EPERM\n";
        assert_eq!(text, refused, "{outcome:?}");
    }
}

#[test]
fn a_sandbox_keeps_its_files_between_programs() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let write = sandbox
        .run(&guest_spec(["write-file", "/work/kept", "100"]))
        .expect("runs");
    assert_eq!(write.verdict, Verdict::Ok, "{write:?}");
    let read = sandbox
        .run(&guest_spec(["read", "/work/kept"]))
        .expect("runs");
    assert_eq!((read.verdict, read.stdout.len()), (Verdict::Ok, 100));
    // What a program left running is gone before the next one.
    assert_eq!(
        sandbox
            .run(&guest_spec(["daemon", "close", "20"]))
            .expect("runs")
            .verdict,
        Verdict::Ok
    );
    let seen = sandbox
        .run(&guest_spec(["ps"]))
        .expect("runs")
        .stdout
        .to_text();
    assert!(seen.lines().count() <= 2, "{seen}");
    sandbox.close().expect("close");
    sandbox.close().expect("closing again is no error");
    assert_eq!(
        sandbox
            .run(&guest_spec(["true"]))
            .expect_err("closed")
            .kind(),
        ErrorKind::State
    );
}

#[test]
fn programs_in_a_sandbox_have_limits_of_their_own() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    for _ in 0..3 {
        let slow = sandbox
            .run(&guest_spec(["spin", "20"]).cpu_time(Duration::from_millis(100) * slowness()))
            .expect("runs");
        assert_eq!(slow.verdict, Verdict::TimeLimit, "{slow:?}");
        let fast = sandbox
            .run(&guest_spec(["true"]).cpu_time(Duration::from_millis(100) * slowness()))
            .expect("runs");
        assert_eq!(fast.verdict, Verdict::Ok, "{fast:?}");
        assert!(
            fast.usage.cpu_time < Duration::from_millis(50) * slowness(),
            "the bill of the one before: {:?}",
            fast.usage
        );
    }
}

#[test]
fn programs_in_a_sandbox_run_side_by_side() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let long = sandbox.spawn(&guest_spec(["sleep", "20"])).expect("starts");
    assert_eq!(
        sandbox
            .run(&guest_spec(["exit", "3"]))
            .expect("runs")
            .returncode,
        3
    );
    assert!(
        long.poll().expect("poll").is_none(),
        "the end of one ended the other"
    );
    let pid = long.pid().expect("it runs");
    let start = Instant::now();
    sandbox.close().expect("close");
    let outcome = long.wait().expect("wait");
    assert_eq!(outcome.verdict, Verdict::Killed, "{outcome:?}");
    assert!(start.elapsed() < promise() && !alive(pid));
}

#[test]
fn a_sandbox_refuses_a_program_that_asks_for_another() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let others: [Spec; 3] = [
        guest_spec(["true"]).hostname("other"),
        guest_spec(["true"]).user("7:7"),
        guest_spec(["true"]).disk(1 << 20),
    ];
    for spec in others {
        assert_eq!(
            sandbox.run(&spec).expect_err("another sandbox").kind(),
            ErrorKind::InvalidArgument
        );
    }
}

#[test]
fn a_pipe_where_a_file_is_to_be_hangs_nobody() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let start = Instant::now();
    for plant in [["fifo", "/work/x"], ["mkdir", "/work/y"]] {
        let planted = sandbox.run(&guest_spec(plant)).expect("runs");
        assert_eq!(planted.verdict, Verdict::Ok, "{planted:?}");
    }
    for path in ["x", "y"] {
        let next = guest_spec(["read", &format!("/work/{path}")]).file(path, "content");
        // Put in its place, or an error; never into the pipe, and never waiting for a reader.
        if let Ok(outcome) = sandbox.run(&next) {
            assert_eq!(&*outcome.stdout, b"content", "{outcome:?}");
        }
    }
    assert!(start.elapsed() < promise(), "{:?}", start.elapsed());
    let after = sandbox.run(&guest_spec(["true"])).expect("runs");
    assert_eq!(after.verdict, Verdict::Ok);
}

#[test]
fn a_hostile_program_misleads_no_later_file() {
    later_files_hold();
}

pub fn later_files_hold() {
    // In a sandbox that lives on, the first program replaces a directory with a link to where it must not write.
    let dir = open_dir();
    let base = || guest_spec(["true"]).volume(volume(dir.path(), "/data", true));
    let sandbox = Sandbox::start(&base()).expect("starts");
    let mut plant = base();
    plant.args = ["/guest/guest", "link", "/data", "/work/in"]
        .iter()
        .map(Into::into)
        .collect();
    assert_eq!(sandbox.run(&plant).expect("runs").verdict, Verdict::Ok);
    let _ = sandbox.run(&base().file("in/planted", "x"));
    assert!(
        !dir.path().join("planted").exists(),
        "written through the program's link"
    );
    // And again it can be used.
    assert_eq!(sandbox.run(&base()).expect("runs").verdict, Verdict::Ok);
}

#[test]
fn who_uses_it_while_it_is_closed_hears_that() {
    let tree = tempfile::tempdir().expect("a directory");
    for n in 0..50 {
        std::fs::write(tree.path().join(n.to_string()), vec![0; 100_000]).expect("a file");
    }
    let big = vec![1; 50 << 20];
    let closed = |error: stockade::Error| {
        assert_eq!(
            (error.kind(), &*error.to_string()),
            (ErrorKind::State, "the sandbox is closed")
        );
    };
    for round in 0..30 {
        let base = || guest_spec(["true"]).wall_time(promise());
        let sandbox = Sandbox::start(&base()).expect("starts");
        let runs = || loop {
            match sandbox.run(&base()) {
                Ok(outcome) => match outcome.verdict {
                    Verdict::Ok => {}
                    Verdict::Killed => return,
                    _ => panic!("{outcome:?}"),
                },
                Err(error) => return closed(error),
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(runs);
            }
            scope.spawn(|| sandbox.put("big", &big, None).unwrap_or_else(closed));
            scope.spawn(|| sandbox.put_tree("t", tree.path()).unwrap_or_else(closed));
            scope.spawn(|| sandbox.get_tree("/usr/share", tree.path().join("got")));
            std::thread::sleep(Duration::from_millis(3 * round));
            sandbox.close().expect("closes");
        });
        let _ = std::fs::remove_dir_all(tree.path().join("got"));
    }
}

#[test]
fn no_set_id_bit_leaves_with_a_file() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let mut spec = guest_spec(["-"]).collect("dir/tool");
    let script = "mkdir dir && cp /bin/true dir/tool && chmod 6755 dir/tool && ls -l dir";
    spec.args = vec!["/bin/sh".into(), "-c".into(), script.into()];
    let outcome = sandbox.run(&spec).expect("runs");
    let listed = outcome.stdout.to_text();
    assert!(listed.contains("rwsr-sr-x"), "{outcome:?}");
    // Of a collected file there is the content, and of a tree the permission bits.
    assert!(!outcome.outputs["dir/tool"].content.is_empty());
    let copy = tempfile::tempdir().expect("a directory");
    let copy = copy.path().join("copy");
    sandbox.get_tree("dir", &copy).expect("copies");
    let mode = std::fs::metadata(copy.join("tool")).expect("the file");
    assert_eq!(mode.permissions().mode() & 0o7777, 0o755);
}
