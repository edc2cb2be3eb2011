//! `tests/scenarios.json` through C: `scenario.c`, with the runner that the suite of Rust has.

#[path = "../suite/scenarios/runner.rs"]
mod runner;

use crate::build::{Link, Program};
use runner::{Answer, run_all};
use std::io::Write;
use std::process::{Command, Stdio};
use stockade::ErrorKind::*;

/// Runs one specification.
fn call(program: &Program, spec: &str) -> Answer {
    let mut child = Command::new(&program.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(spec.as_bytes()).expect("write");
    drop(stdin);
    let output = child.wait_with_output().expect("wait");
    let text = String::from_utf8(output.stdout).expect("text");
    match (output.status.code(), text.split_once('\n')) {
        (Some(0), _) => Answer::Outcome(serde_json::from_str(&text).expect("JSON")),
        (Some(1), Some((kind, message))) => Answer::Error {
            kind: kind_name(kind),
            message: message.into(),
        },
        _ => panic!("scenario.c: {}: {text}", output.status),
    }
}

/// What the number of an error's kind is called in the scenarios.
fn kind_name(number: &str) -> String {
    let all = [
        InvalidArgument,
        Unsupported,
        Setup,
        State,
        Supervisor,
        Resource,
        Internal,
        Image,
        NotFound,
        Registry,
    ];
    let found = all
        .iter()
        .find(|kind| (**kind as i32).to_string() == number);
    found.map_or_else(|| format!("kind {number}"), |kind| format!("{kind:?}"))
}

#[test]
fn through_c() {
    let program = Program::new("tests/capi/scenario.c", Link::Shared);
    run_all("C", |spec| call(&program, spec));
}
