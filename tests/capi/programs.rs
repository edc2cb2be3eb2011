//! C programs, compiled as users compile theirs and run, under valgrind too.

use crate::build::{Link, Program, ROOT, libraries, stage, succeed};
use std::path::Path;
use std::process::Command;

fn run(name: &str, link: Link) -> String {
    let program = Program::new(&format!("tests/capi/{name}.c"), link);
    succeed(timeout().arg(&program.path))
}

/// A wait that does not end is a failure too.
fn timeout() -> Command {
    let mut command = Command::new("timeout");
    command.arg("300");
    command
}

/// Every error and every leak is a failure. The helper is the installed one: valgrind cannot execute a memfd.
fn valgrind(name: &str) {
    valgrind_of(&Program::new(&format!("tests/capi/{name}.c"), Link::Shared));
}

pub fn valgrind_of(program: &Program) {
    succeed(
        timeout()
            .arg("valgrind")
            .args([
                "--quiet",
                "--leak-check=full",
                "--error-exitcode=99",
                "--num-callers=50",
            ])
            .args([
                "--errors-for-leak-kinds=definite,indirect,possible",
                "--show-leak-kinds=definite,indirect,possible",
            ])
            .arg(format!("--suppressions={ROOT}/tests/capi/valgrind.supp"))
            .arg(&program.path)
            .env(
                "STOCKADE_INIT",
                stage().join("usr/local/libexec/stockade-init"),
            ),
    );
}

macro_rules! programs {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn runs() {
                run(stringify!($name), Link::Shared);
            }

            #[test]
            fn runs_under_valgrind() {
                valgrind(stringify!($name));
            }
        }
    )*};
}

programs! { run spec process sandbox store commit pull errors threads first_use forks closed_fds reaper }

/// 120 orders, of which valgrind would take minutes: AddressSanitizer looks at these (`make asan`).
#[test]
fn handles_are_freed_in_every_order() {
    run("orders", Link::Shared);
}

#[test]
fn runs_when_linked_statically() {
    run("run", Link::Static);
}

#[test]
fn survives_being_unloaded() {
    let program = Program::new("tests/capi/plugin.c", Link::Shared);
    succeed(
        timeout()
            .arg(&program.path)
            .arg(libraries().join("libstockade.so.0")),
    );
}

/// The specification that `spec.c` writes has a setter for every field: none has its default.
#[test]
fn every_field_has_a_setter() {
    let json = run("spec", Link::Shared);
    let object = |json: &str| match serde_json::from_str(json).unwrap() {
        serde_json::Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    };
    let (set, default) = (
        object(&json),
        object(&stockade::Spec::default().to_json().unwrap()),
    );
    assert_eq!(set.len(), default.len());
    for (name, value) in default {
        assert_ne!(set[&name], value, "{name}");
    }
}

#[test]
fn examples_run() {
    let mut names: Vec<String> = std::fs::read_dir(Path::new(ROOT).join("examples/c"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        ("judge.c", "TLE"),
        ("run.c", "hello from a sandbox"),
        ("sandbox.c", "2 files"),
        ("spawn.c", "3 lines"),
    ];
    assert_eq!(names, expected.map(|(name, _)| name));
    for (name, says) in expected {
        let program = Program::new(&format!("examples/c/{name}"), Link::Shared);
        let output = succeed(timeout().arg(&program.path));
        assert!(output.contains(says), "{name}: {output}");
    }
}

#[test]
fn the_readmes_example_runs() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, example) = readme.split_once("```c\n").expect("an example in C");
    let (example, _) = example.split_once("```").expect("its end");
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("readme.c");
    std::fs::write(&source, example).unwrap();
    let program = Program::new(source.to_str().unwrap(), Link::Shared);
    let output = succeed(&mut Command::new(&program.path));
    assert_eq!(output, "OUTPUT_LIMIT\n");
}
