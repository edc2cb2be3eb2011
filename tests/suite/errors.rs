//! What is refused, in words that help, with nothing started. The table of specifications is `tests/scenarios.json`.

use crate::support::{guest_spec, run_guest};
use std::os::fd::AsRawFd;
use stockade::{ErrorKind, Spec, Stdio, Verdict};

#[test]
fn arguments_too_long_for_the_kernel_fail_at_the_start() {
    let one = "x".repeat(3 << 20);
    let many: Vec<String> = (0..300_000).map(|_| "0123456789".to_string()).collect();
    let mut specs = vec![guest_spec(["args".to_string(), one])];
    specs.push(guest_spec(std::iter::once("args".to_string()).chain(many)));
    for spec in specs {
        match spec.run() {
            Ok(outcome) => {
                assert_eq!(
                    (outcome.verdict, outcome.returncode),
                    (Verdict::ExecFailed, 126),
                    "{:?}",
                    outcome.message
                );
                assert!(outcome.message.expect("why").contains("too long"));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}"),
        }
    }
    // Much, but within the kernel's bounds.
    let outcome = guest_spec(["args".to_string(), "y".repeat(100_000)])
        .run()
        .expect("the sandbox starts");
    assert_eq!(
        (outcome.verdict, outcome.stdout.len()),
        (Verdict::Ok, 100_008)
    );
    let many: Vec<String> = (0..20_000).map(|i| format!("{i:010}")).collect();
    let outcome = guest_spec(std::iter::once("args".to_string()).chain(many))
        .run()
        .expect("the sandbox starts");
    assert_eq!(
        (outcome.verdict, outcome.stdout.len()),
        (Verdict::Ok, 20_000 * 14),
        "{:?}",
        outcome.message
    );
}

#[test]
fn the_callers_files_and_terminals_are_no_streams() {
    let file = tempfile::tempfile().expect("a file");
    let error = guest_spec(["true"])
        .stdout(Stdio::Fd(file.as_raw_fd()))
        .run()
        .expect_err("a file can be opened again");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = guest_spec(["true"])
        .stdin(Stdio::Fd(-1))
        .run()
        .expect_err("no descriptor");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = guest_spec(["true"])
        .stdin(Stdio::Capture)
        .run()
        .expect_err("input is not captured");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = guest_spec(["true"])
        .stdout(Stdio::Stdout)
        .run()
        .expect_err("it is itself");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_pipe_of_the_callers_is_a_stream() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let outcome = guest_spec(["say", "through"])
        .stdout(Stdio::Fd(writer.as_raw_fd()))
        .run()
        .expect("the sandbox starts");
    drop(writer);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).expect("read");
    assert_eq!((outcome.verdict, text.as_str()), (Verdict::Ok, "through\n"));
}

#[test]
fn contradictions_are_refused() {
    let specs = [
        guest_spec(["cat"]).input("x").stdin(Stdio::Pipe),
        guest_spec(["true"]).stack(64 << 20).memory(1 << 20),
        guest_spec(["true"]).hostname("x".repeat(65)),
        guest_spec(["true"]).user("-1"),
        guest_spec(["true"]).user("1:2:3"),
        guest_spec(["true"]).collect("../x"),
        guest_spec(["true"]).pids(u64::MAX),
        guest_spec(["true"]).open_files(u64::MAX),
    ];
    for spec in specs {
        let text = spec.to_json().expect("JSON");
        let error = spec.run().expect_err(&text);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}: {error}");
        assert!(error.to_string().len() > 10, "{error}");
    }
}

#[test]
fn run_does_not_take_pipes() {
    // Nobody could read or write them.
    for spec in [
        guest_spec(["cat"]).stdin(Stdio::Pipe),
        guest_spec(["true"]).stdout(Stdio::Pipe),
    ] {
        assert_eq!(
            spec.run().expect_err("no one has the other end").kind(),
            ErrorKind::InvalidArgument
        );
    }
}

#[test]
fn after_every_refusal_the_next_run_works() {
    assert!(
        Spec::new([""]).run().is_err()
            || Spec::new([""])
                .run()
                .is_ok_and(|o| o.verdict == Verdict::ExecFailed)
    );
    assert!(Spec::new(Vec::<&str>::new()).run().is_err());
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
}

#[test]
fn descriptors_that_run_out_are_an_error_and_no_more() {
    let said = crate::support::Host::start("few-descriptors", "").finish();
    assert_eq!(said, ["refused", "works"]);
}
