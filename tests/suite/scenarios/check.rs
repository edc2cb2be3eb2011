//! What a scenario expects against what came back.

use serde_json::Value;
use std::time::Duration;

/// What a call came to, in whichever language.
#[derive(Debug)]
pub enum Answer {
    Outcome(Value),
    Error { kind: String, message: String },
}

pub enum Verdict {
    Holds,
    Skipped(String),
    Fails(Vec<String>),
}

/// Holds `answer` against the `expect`, `needs` and `elapsed` of `scenario`.
pub fn check(scenario: &Value, answer: &Answer, elapsed: Duration) -> Verdict {
    let expect = scenario["expect"].as_object().expect("expect");
    let mut wrong = Vec::new();
    match answer {
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
    let most = scenario["elapsed"].as_f64().unwrap_or(f64::INFINITY);
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
            return Some(format!(
                "`{limit}` is only {} here ({})",
                enforcement["status"], enforcement["by"]
            ));
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
        "returncode" | "limit" | "stdout" | "stderr" | "stdout_bytes" | "stdout_truncated" => {
            (outcome[key].clone(), &outcome[key] == wanted)
        }
        _ => {
            let name = key
                .strip_prefix("usage.")
                .unwrap_or_else(|| panic!("unknown expectation `{key}`"));
            let actual = outcome["usage"][name].clone();
            let holds = actual.as_f64().is_some_and(|value| {
                wanted[0].as_f64().is_none_or(|least| value >= least)
                    && wanted[1].as_f64().is_none_or(|most| value <= most)
            });
            (actual, holds)
        }
    };
    (!holds).then(|| format!("{key} is {actual}, not {wanted}"))
}
