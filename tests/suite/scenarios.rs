//! `tests/scenarios.json` through Rust. The suites of the C library and of Python run the same file.

mod runner;

use runner::{Answer, run_all};
use stockade::Spec;

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
