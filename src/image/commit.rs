//! What a sandbox has changed, as an image.

use serde::{Deserialize, Serialize};

/// How to make an image of a live sandbox: [`Sandbox::commit`](crate::Sandbox::commit), in the words of `docker commit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Commit {
    /// Changes of the configuration, as instructions of a Dockerfile: see
    /// [`Config::change`](super::Config::change).
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// A comment for the image's history.
    pub message: String,
    /// Whether the sandbox's programs stand still meanwhile (default: yes).
    pub pause: bool,
}

impl Default for Commit {
    fn default() -> Self {
        Commit {
            changes: Vec::new(),
            author: String::new(),
            message: String::new(),
            pause: true,
        }
    }
}

impl Commit {
    /// With every default.
    pub fn new() -> Self {
        Commit::default()
    }

    /// Adds one to [`changes`](Self::changes).
    pub fn change(mut self, instruction: impl Into<String>) -> Self {
        self.changes.push(instruction.into());
        self
    }

    /// Sets [`author`](Self::author).
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = author.into();
        self
    }

    /// Sets [`message`](Self::message).
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Sets [`pause`](Self::pause).
    pub fn pause(mut self, pause: bool) -> Self {
        self.pause = pause;
        self
    }
}
