//! What a program has left in its root: said, or made an image of.

use super::flags::Run;
use super::{made, note};
use std::io::Write;
use std::path::Path;
use stockade::image::Store;
use stockade::{Change, Error, Outcome, Process, Sandbox, Spec, Verdict};

/// Starts the program; in a sandbox that stays behind, if something is to be done with what it leaves.
pub fn start(run: &Run, spec: &Spec) -> Result<(Option<Sandbox>, Process), Error> {
    if !run.diff && run.commit.is_none() {
        return Ok((None, spec.spawn()?));
    }
    let mut spec = spec.clone();
    if let Some(name) = &spec.image {
        // In a live sandbox programs are run as they are given.
        let store = Store::open(spec.store.as_deref().map(Path::new))?;
        spec.args = store.resolve(name)?.arguments(&spec);
        spec.entrypoint = None;
    }
    let sandbox = Sandbox::start(&spec)?;
    let process = sandbox.spawn(&spec)?;
    Ok((Some(sandbox), process))
}

/// What was found, and made.
#[derive(Default)]
pub struct Left {
    changes: Option<Vec<Change>>,
    image: Option<String>,
}

/// Looks what a program has left, and makes an image of it if it ended well.
pub fn of(run: &Run, sandbox: Option<Sandbox>, outcome: &Outcome) -> Result<Left, Error> {
    let mut left = Left::default();
    let Some(sandbox) = sandbox else {
        return Ok(left);
    };
    if run.diff {
        let changes = sandbox.changes()?;
        if !run.json {
            let _ = std::io::stderr().write_all(made::lines(&changes).as_bytes());
        }
        left.changes = Some(changes);
    }
    if let Some(name) = &run.commit {
        if outcome.verdict == Verdict::Ok || run.commit_always {
            let image = sandbox.commit(&[name], &run.how)?;
            left.image = Some(image.id.to_string());
        } else {
            note(format_args!(
                "`{name}` is not made, since the program failed"
            ));
        }
    }
    sandbox.close()?;
    Ok(left)
}

impl Left {
    /// An outcome in JSON with `changes` and `image` added to it.
    pub fn in_json(self, outcome: String) -> String {
        let mut more = Vec::new();
        if let Some(changes) = self.changes {
            more.push(("changes", serde_json::to_value(changes)));
        }
        if let Some(image) = self.image {
            more.push(("image", serde_json::to_value(image)));
        }
        match serde_json::from_str(&outcome) {
            Ok(serde_json::Value::Object(mut object)) if !more.is_empty() => {
                for (key, value) in more {
                    object.insert(key.into(), value.unwrap_or_default());
                }
                serde_json::Value::Object(object).to_string()
            }
            _ => outcome,
        }
    }
}
