//! `tests/scenarios.json`, through Rust and, where it has been built, through C. Python's own suite runs it too.

mod check;
mod through_c;

use crate::support::{guest_dir, note_skip};
use check::{Answer, Verdict, check};
use serde_json::{Value, json};
use std::time::Instant;
use stockade::Spec;

/// The file, with the guest put into every specification.
fn scenarios() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut list = std::mem::take(
        file["scenarios"]
            .as_array_mut()
            .expect("a list of scenarios"),
    );
    for scenario in &mut list {
        let spec = &mut scenario["spec"];
        for arg in spec["args"].as_array_mut().expect("args") {
            if arg == "{guest}" {
                *arg = json!("/guest/guest");
            }
        }
        if spec["volumes"].is_null() {
            spec["volumes"] = json!([]);
        }
        let volume = json!(format!("{}:/guest:ro", guest_dir().display()));
        spec["volumes"]
            .as_array_mut()
            .expect("volumes")
            .push(volume);
    }
    list
}

/// Runs every scenario with `call` and fails with the list of those that did not come out as they should.
fn run_all(face: &str, mut call: impl FnMut(&str) -> Answer) {
    let mut failures = Vec::new();
    let list = scenarios();
    for scenario in &list {
        let name = scenario["name"].as_str().expect("a name");
        let start = Instant::now();
        let answer = call(&scenario["spec"].to_string());
        match check(scenario, &answer, start.elapsed()) {
            Verdict::Holds => {}
            Verdict::Skipped(why) => note_skip(&format!("scenario `{name}`: {why}")),
            Verdict::Fails(why) => {
                failures.push(format!("`{name}`: {}\n    {answer:?}", why.join("; ")))
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} scenarios failed through {face}:\n{}",
        failures.len(),
        list.len(),
        failures.join("\n")
    );
}

#[test]
fn through_rust() {
    run_all("Rust", |spec| {
        match Spec::from_json(spec).and_then(|spec| spec.run()) {
            Ok(outcome) => Answer::Outcome(serde_json::from_str(&outcome.to_json()).expect("JSON")),
            Err(error) => Answer::Error {
                kind: format!("{:?}", error.kind()),
                message: error.to_string(),
            },
        }
    });
}

#[test]
fn through_c() {
    let program = match through_c::build() {
        Ok(program) => program,
        Err(why) => {
            note_skip(&why);
            return;
        }
    };
    run_all("C", |spec| program.call(spec));
}
