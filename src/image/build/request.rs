//! A build as one JSON document, for C and Python.

use super::super::step::Step;
use super::super::{ImageInfo, Store};
use super::{Build, BuildWatch};
use crate::error::Error;
use crate::spec::Spec;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What to build: of `file`, the text of a Dockerfile, or of `steps` on the image `from`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BuildRequest {
    from: Option<String>,
    steps: Vec<AnyStep>,
    file: Option<String>,
    /// What errors call the file.
    file_name: Option<String>,
    context: Option<String>,
    args: BTreeMap<String, String>,
    names: Vec<String>,
    no_cache: bool,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyStep {
    Line(String),
    Step(Step),
}

impl BuildRequest {
    pub fn from_json(json: &str) -> Result<BuildRequest, Error> {
        serde_json::from_str(json).map_err(|e| Error::invalid(format!("build: {e}")))
    }

    pub fn build(self, store: &Store, watch: &mut BuildWatch<'_>) -> Result<ImageInfo, Error> {
        let mut build = match (self.from, self.file) {
            (None, Some(text)) if self.steps.is_empty() => {
                let name = self.file_name.as_deref().unwrap_or("file");
                Build::parse(name, &text, self.args)?
            }
            (Some(base), None) => {
                let mut build = match base.as_str() {
                    "scratch" => Build::scratch(),
                    _ => Build::from(base),
                };
                for (name, value) in self.args {
                    build = build.arg(name, value);
                }
                for step in self.steps {
                    build = match step {
                        AnyStep::Line(line) => build.instruction(&line)?,
                        AnyStep::Step(step) => build.step(step),
                    };
                }
                build
            }
            _ => {
                return Err(Error::invalid(
                    "build: either `file` is given, or `from` and `steps`",
                ));
            }
        };
        if let Some(context) = self.context {
            build = build.context(context);
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut watch = |event: &super::BuildEvent<'_>| watch(event);
        let build = build.spec(self.spec).no_cache(self.no_cache);
        build.watch(&mut watch).build(store, &names)
    }
}
