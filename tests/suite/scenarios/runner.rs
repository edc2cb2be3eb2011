//! Runs `tests/scenarios.json` through one face of the library and holds what comes back against what is expected.
//! The tests of the C library use this file too.

use crate::support::{guest_dir, note_skip, slowness};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The file, with the guest put into every specification.
fn scenarios() -> Vec<Value> {
    // Where the tests run is not always where they were built: in a virtual machine it is not.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let path = format!("{root}/tests/scenarios.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
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
        // What has to come before it takes longer on a slow machine.
        if let Some(seconds) = spec["wall_time"].as_f64() {
            spec["wall_time"] = json!(seconds * f64::from(slowness()));
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
pub fn run_all(face: &str, mut call: impl FnMut(&str) -> Answer) {
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

/// What a call came to, in whichever language.
#[derive(Debug)]
pub enum Answer {
    Outcome(Value),
    Error { kind: String, message: String },
}

enum Verdict {
    Holds,
    Skipped(String),
    Fails(Vec<String>),
}

/// Holds `answer` against the `expect`, `needs` and `elapsed` of `scenario`.
fn check(scenario: &Value, answer: &Answer, elapsed: Duration) -> Verdict {
    let expect = scenario["expect"].as_object().expect("expect");
    let mut wrong = Vec::new();
    let unsupported = |message: &str| message.contains(": nothing on this host can enforce it");
    match answer {
        Answer::Error { message, .. } if unsupported(message) => {
            return Verdict::Skipped(message.clone());
        }
        Answer::Error { kind, message } => match expect.get("error") {
            None => wrong.push(format!("the call failed: {kind}: {message}")),
            Some(wanted) => {
                if wanted != kind.as_str()
                    && !wanted
                        .as_array()
                        .is_some_and(|all| all.contains(&kind.as_str().into()))
                {
                    wrong.push(format!("error is {kind}, not {wanted}"));
                }
                let part = expect
                    .get("error_has")
                    .and_then(Value::as_str)
                    .unwrap_or("");
                if !message.contains(part) {
                    wrong.push(format!("`{message}` does not name `{part}`"));
                }
            }
        },
        Answer::Outcome(outcome) => {
            if let Some(why) = unmet_need(scenario, outcome) {
                return Verdict::Skipped(why);
            }
            for (key, wanted) in expect {
                wrong.extend(compare(key, wanted, outcome));
            }
        }
    }
    let most = scenario["elapsed"].as_f64().unwrap_or(f64::INFINITY) * f64::from(slowness());
    if elapsed.as_secs_f64() > most {
        wrong.push(format!("took {elapsed:?}, more than {most} s"));
    }
    if wrong.is_empty() {
        Verdict::Holds
    } else {
        Verdict::Fails(wrong)
    }
}

fn unmet_need(scenario: &Value, outcome: &Value) -> Option<String> {
    for need in scenario["needs"].as_array().into_iter().flatten() {
        let need = need.as_str().expect("a need is a string");
        let limit = need
            .strip_prefix("enforced:")
            .unwrap_or_else(|| panic!("unknown need `{need}`"));
        let enforcement = &outcome["enforcement"][limit];
        if enforcement["status"] != "enforced" {
            return Some(format!("`{limit}` is only {} here", enforcement["status"]));
        }
    }
    None
}

fn compare(key: &str, wanted: &Value, outcome: &Value) -> Option<String> {
    let text = |name: &str| outcome[name].as_str().unwrap_or("").to_string();
    let (actual, holds) = match key {
        "error" => return Some(format!("the call did not fail, but should with {wanted}")),
        "error_has" => return None,
        "verdict" => {
            let actual = outcome["verdict"].clone();
            let holds =
                wanted == &actual || wanted.as_array().is_some_and(|all| all.contains(&actual));
            (actual, holds)
        }
        "stdout_has" => (
            outcome["stdout"].clone(),
            text("stdout").contains(wanted.as_str().expect("text")),
        ),
        "message_has" => (
            outcome["message"].clone(),
            text("message").contains(wanted.as_str().expect("text")),
        ),
        "outputs" => {
            let files = wanted.as_object().expect("outputs");
            let holds = files
                .iter()
                .all(|(path, content)| &outcome["outputs"][path]["content"] == content);
            (outcome["outputs"].clone(), holds)
        }
        "violation" => {
            let found = &outcome["violation"];
            let named = wanted.as_object().expect("an object");
            let holds = named.iter().all(|(key, value)| &found[key] == value);
            (found.clone(), holds)
        }
        "returncode" | "limit" | "stdout" | "stderr" | "stdout_bytes" | "stdout_truncated" => {
            (outcome[key].clone(), &outcome[key] == wanted)
        }
        _ => {
            let name = key
                .strip_prefix("usage.")
                .unwrap_or_else(|| panic!("unknown expectation `{key}`"));
            let actual = outcome["usage"][name].clone();
            let slack = if name.starts_with("cpu_") || name == "wall_time" {
                f64::from(slowness())
            } else {
                1.0
            };
            let holds = actual.as_f64().is_some_and(|value| {
                wanted[0].as_f64().is_none_or(|least| value >= least)
                    && wanted[1].as_f64().is_none_or(|most| value <= most * slack)
            });
            (actual, holds)
        }
    };
    (!holds).then(|| format!("{key} is {actual}, not {wanted}"))
}
