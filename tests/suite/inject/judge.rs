//! Whether what a host says after a failed call is right.

use super::tracer::{Harm, Point, Role};
use super::{Case, Look};
use serde_json::Value;

/// What is said and seen when nothing fails.
pub struct Base {
    outcomes: Value,
    pub look: Look,
}

/// How long a call may take that has failed.
const SOON: u64 = 3_000;

impl Base {
    pub fn new(plain: &Case) -> Base {
        let said = |which: &Option<Value>| match which {
            Some(said) if said["outcomes"].is_array() => said["outcomes"].clone(),
            other => panic!("the scenario fails by itself: {other:#?}"),
        };
        let base = Base {
            outcomes: said(&plain.first),
            look: *plain.looks.last().expect("two looks"),
        };
        let second = said(&plain.second);
        for (now, then) in second
            .as_array()
            .into_iter()
            .flatten()
            .zip(base.outcomes.as_array().into_iter().flatten())
        {
            assert_eq!(difference(now, then), None, "it is not the same each time");
        }
        assert!(plain.left.is_empty(), "{:?}", plain.left);
        base
    }

    /// What may be seen after `harm`.
    pub fn usual(&self, (point, harm): (Point, Harm)) -> Look {
        let mut usual = self.look;
        if point.role == Role::Host && harm == Harm::Errno(libc::EACCES) {
            // What this process may not do itself it has a child of the supervisor's do, which is then kept for the next.
            usual.below += 1;
            usual.host_descriptors += 1;
            usual.descriptors += 1;
        }
        usual
    }

    /// What is wrong with a case.
    pub fn faults(&self, case: &Case, harm: (Point, Harm)) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        if !case.left.is_empty() {
            fault(format!("left at the end: {:?}", case.left));
        }
        let (point, harm) = harm;
        let died = matches!(harm, Harm::Kill | Harm::KillAfter)
            && matches!(point.role, Role::Host | Role::Middleman);
        let killed = matches!(harm, Harm::Kill | Harm::KillAfter);
        if died && case.trace.hit {
            return faults; // of a host that is dead nothing more is to be seen
        }
        let Some(first) = &case.first else {
            fault("the host died or hung".into());
            return faults;
        };
        if first["ms"].as_u64() > Some(SOON) {
            fault(format!("took {} ms: {first}", first["ms"]));
        }
        match first["error"].as_str() {
            Some(text) => {
                // What serves a root has no way to say why it ends before it serves.
                let server = point.role == Role::Server && text.contains("has ended");
                if let Harm::Errno(errno) = harm
                    && first["errno"] != errno
                    && !server
                {
                    fault(format!("another errno: {first}"));
                }
                let says = |word: &&str| text.contains(word);
                if killed && !["was killed", "ended", "died"].iter().any(says) {
                    fault(format!("an unclear error: {first}"));
                }
            }
            None => {
                let all = first["outcomes"].as_array().expect("outcomes");
                let expected = self.outcomes.as_array().expect("outcomes");
                for (outcome, expected) in all.iter().zip(expected) {
                    // Whoever is killed on its way to the program is the program already.
                    if killed && point.role == Role::Program && outcome["verdict"] == "SIGNALED" {
                        continue;
                    }
                    // A file that cannot be looked into may be of any size.
                    let hidden = harm == Harm::Errno(libc::EACCES) && point.role == Role::Init;
                    if hidden && outcome["verdict"] == "DISK_LIMIT" {
                        continue;
                    }
                    difference(outcome, expected).map(&mut fault);
                }
            }
        }
        match &case.second {
            None => fault("the second run killed or hung the host".into()),
            Some(second) if second["outcomes"].is_null() => {
                fault(format!("the next run: {second}"));
            }
            Some(second) if second["outcomes"] != self.outcomes => {
                // A supervisor that was begun without a cgroup goes on without it, and says so.
                let expected = self.outcomes.as_array().into_iter().flatten();
                let all = second["outcomes"].as_array().into_iter().flatten();
                for text in all
                    .zip(expected)
                    .filter_map(|(now, then)| difference(now, then))
                {
                    fault(format!("the next run: {text}"));
                }
            }
            Some(second) if second["ms"].as_u64() > Some(SOON) => {
                fault(format!("the next run took {} ms", second["ms"]));
            }
            Some(_) => {}
        }
        // What was short for a moment says nothing of this host, and the next run has all that it ever has.
        if matches!(harm, Harm::Errno(libc::EMFILE | libc::ENOMEM)) && point.role == Role::Host {
            let second = case.second.as_ref().map(|it| &it["outcomes"]);
            let all = second.and_then(Value::as_array).into_iter().flatten();
            let expected = self.outcomes.as_array().into_iter().flatten();
            for (now, then) in all.zip(expected) {
                for (name, said) in then["enforcement"].as_object().expect("a table") {
                    if now["enforcement"][name] != *said {
                        let now = &now["enforcement"][name];
                        fault(format!("kept by the next run: {name}: {now} for {said}"));
                    }
                }
            }
        }
        let usual = self.usual((point, harm));
        for (look, when) in case.looks.iter().zip(["after it", "after the next"]) {
            // Until the next run it may be in a mount namespace that was not finished, and the directory of a supervisor
            // that was killed is there.
            let last = when == "after the next";
            let also = look.mounts > usual.mounts || look.files > usual.files;
            if look.has_more(&usual) || (last && also) {
                fault(format!("{when}: {look:?} for {usual:?}"));
            }
        }
        faults
    }
}

/// An outcome may say that the sandbox failed; else it is what it would have been, or says what is not enforced.
fn difference(outcome: &Value, expected: &Value) -> Option<String> {
    let message = outcome["message"].as_str().unwrap_or("");
    match outcome["verdict"].as_str() {
        Some("SANDBOX_ERROR" | "EXEC_FAILED") if !message.is_empty() => None,
        Some("OK") => {
            let mut differs = Vec::new();
            for key in ["stdout", "stderr", "message"] {
                let same = match key {
                    "stdout" => report(outcome) == report(expected),
                    _ => outcome[key] == expected[key],
                };
                if !same {
                    differs.push(format!(
                        "{key}: {}",
                        compared(&outcome[key], &expected[key])
                    ));
                }
            }
            for (path, said) in expected["outputs"].as_object().expect("a table") {
                let now = outcome["outputs"][path].as_str().unwrap_or("");
                if now != said && !now.starts_with("error: ") {
                    differs.push(format!("{path}: {now:?}"));
                }
            }
            for (name, said) in expected["enforcement"].as_object().expect("a table") {
                let now = &outcome["enforcement"][name];
                // What enforces it may be another, which is as good.
                if now != said
                    && now.as_str().is_none_or(|now| now.starts_with("Enforced"))
                    && !otherwise(name, said)
                {
                    differs.push(format!("{name}: {now} for {said}"));
                }
            }
            (!differs.is_empty()).then(|| differs.join("; "))
        }
        _ => Some(format!("{outcome}")),
    }
}

/// Whether there is another way to it. Root's programs have ids of their own or none.
fn otherwise(name: &str, said: &Value) -> bool {
    let said = said.as_str().unwrap_or("");
    name == "pids" || (name == "user_namespace" && said.contains("sub-ids"))
}

/// What the program has seen. Where no cgroup holds its processes a resource limit does.
fn report(outcome: &Value) -> Vec<&Value> {
    let lines = outcome["stdout"].as_array().into_iter().flatten();
    let nproc = |line: &&Value| {
        line.as_str()
            .is_some_and(|it| it.starts_with("rlimit.nproc="))
    };
    lines.filter(|line| !nproc(line)).collect()
}

/// Where two values differ, in words.
fn compared(now: &Value, then: &Value) -> String {
    match (now, then) {
        (Value::Array(now), Value::Array(then)) => {
            let lost = then.iter().filter(|line| !now.contains(line));
            let new = now.iter().filter(|line| !then.contains(line));
            let lost: Vec<_> = lost.map(|line| format!("-{line}")).collect();
            let new: Vec<_> = new.map(|line| format!("+{line}")).collect();
            format!("{} {}", lost.join(" "), new.join(" "))
        }
        _ => now.to_string(),
    }
}
