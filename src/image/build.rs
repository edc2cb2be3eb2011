//! Building an image: a base, and steps that each change it, cached by what they are made of.

use super::ImageInfo;
use super::step::{Command, Copy, Step};
use super::store::Store;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::spec::{File, Spec};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

mod building;
pub(super) mod cache;
mod copy;
mod file;
mod glob;
#[cfg(any(feature = "capi", feature = "python"))]
mod request;
mod run;

pub(super) use glob::Ignore;
#[cfg(any(feature = "capi", feature = "python"))]
pub(crate) use request::BuildRequest;

/// How far a build is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum BuildEvent<'a> {
    /// A step begins, or is known.
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// What it is.
        text: &'a str,
        /// Whether what it comes to is known from before.
        cached: bool,
    },
    /// What the program of a step writes, to standard output and error; nothing, now and then, while it is silent.
    Output(&'a [u8]),
}

/// Told how far it is; [`ControlFlow::Break`] ends the build with a [`State`](ErrorKind::State) error.
pub(super) type BuildWatch<'a> = dyn FnMut(&BuildEvent<'_>) -> ControlFlow<()> + 'a;

/// An image to be built.
///
/// ```no_run
/// use stockade::image::{Build, Store};
///
/// # fn main() -> Result<(), stockade::Error> {
/// let store = Store::open(None)?;
/// let image = Build::from("base:1")
///     .context("app")
///     .copy(["main.py"], "/srv/")
///     .run(["python3", "-m", "compileall", "/srv"])
///     .env("MODE", "production")
///     .cmd(["python3", "/srv/main.py"])
///     .build(&store, &["app:1"])?;
/// println!("{}", image.id);
/// # Ok(())
/// # }
/// ```
///
/// Programs run in a sandbox with the limits of [`spec`](Build::spec): by default without a network, and with 1 GiB and
/// 262,144 files to write. What a step comes to is remembered in the store, by a digest of the base, all steps up to it and
/// what it copies; the next build of the same takes it from there. [`Store::prune`] forgets what no image has any more.
#[derive(Default)]
pub struct Build<'a> {
    base: Option<String>,
    items: Vec<Item>,
    context: Option<PathBuf>,
    args: BTreeMap<String, String>,
    /// Arguments that are declared before FROM, with their values.
    early: BTreeMap<String, Option<String>>,
    spec: Spec,
    no_cache: bool,
    watch: Option<&'a mut BuildWatch<'a>>,
}

struct Item {
    /// What to call it in an error: `Stockadefile:3`.
    place: String,
    /// What the image's history says of it.
    text: String,
    what: What,
}

enum What {
    /// A line of a file, in which variables are to be replaced.
    Line(String),
    Step(Step),
}

impl<'a> Build<'a> {
    /// From the image `base`; it must be in the store.
    pub fn from(base: impl Into<String>) -> Self {
        Build {
            base: Some(base.into()),
            ..Build::default()
        }
    }

    /// From nothing: an image without a layer.
    pub fn scratch() -> Self {
        Build::default()
    }

    /// From a Dockerfile: FROM, RUN, COPY, ENV, LABEL, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL and ARG
    /// (with the values of `args`). `name` is what errors call it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] with the line, for whatever else it has.
    pub fn parse(name: &str, text: &str, args: BTreeMap<String, String>) -> Result<Self, Error> {
        let read = file::read(name, text, &args)?;
        Ok(Build {
            base: read.base,
            items: read.items,
            early: read.early,
            args,
            ..Build::default()
        })
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        let json = serde_json::to_string(&step).expect("texts and numbers only");
        self.items.push(Item {
            place: format!("step {}", self.items.len() + 1),
            text: match &step {
                // Contents have no place in a history.
                Step::Files(files) => {
                    let names: Vec<&str> = files.keys().map(String::as_str).collect();
                    format!("FILES {}", names.join(" "))
                }
                _ => json,
            },
            what: What::Step(step),
        });
        self
    }

    /// Adds a line of a Dockerfile.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is no instruction that is known.
    pub fn instruction(mut self, line: &str) -> Result<Self, Error> {
        let place = format!("step {}", self.items.len() + 1);
        Step::parse(line, &|_| Some("x".into()))
            .map_err(|e| Error::invalid(format!("{place}: {e}")))?;
        self.items.push(Item {
            place,
            text: line.trim().into(),
            what: What::Line(line.into()),
        });
        Ok(self)
    }

    /// Adds a program to be run; a text is for the image's shell.
    pub fn run(self, command: impl Into<Command>) -> Self {
        self.step(Step::Run(command.into()))
    }

    /// Adds files and directories of the context to be copied.
    pub fn copy<T: Into<String>>(
        self,
        sources: impl IntoIterator<Item = T>,
        to: impl Into<String>,
    ) -> Self {
        self.step(Step::Copy(Copy {
            sources: sources.into_iter().map(Into::into).collect(),
            to: to.into(),
            ..Copy::default()
        }))
    }

    /// Adds a file with this content.
    pub fn file(self, path: impl Into<String>, content: impl AsRef<[u8]>) -> Self {
        let file = File {
            content: content.into(),
            mode: None,
        };
        self.step(Step::Files(BTreeMap::from([(path.into(), file)])))
    }

    /// Sets a variable.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.step(Step::Env(BTreeMap::from([(name.into(), value.into())])))
    }

    /// Sets the working directory.
    pub fn workdir(self, dir: impl Into<String>) -> Self {
        self.step(Step::Workdir(dir.into()))
    }

    /// Sets the user.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.step(Step::User(user.into()))
    }

    /// Sets the program if there is no entry point, else its arguments.
    pub fn cmd(self, command: impl Into<Command>) -> Self {
        self.step(Step::Cmd(command.into()))
    }

    /// Sets the program and its first arguments.
    pub fn entrypoint(self, command: impl Into<Command>) -> Self {
        self.step(Step::Entrypoint(command.into()))
    }

    /// Sets a label.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.step(Step::Label(BTreeMap::from([(name.into(), value.into())])))
    }

    /// The directory whose files are copied, and nothing outside it. What its `.dockerignore` keeps out is not there.
    pub fn context(mut self, dir: impl Into<PathBuf>) -> Self {
        self.context = Some(dir.into());
        self
    }

    /// The value of an [`Arg`](Step::Arg).
    pub fn arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.insert(name.into(), value.into());
        self
    }

    /// The limits, network and volumes of what is run; the program, image, user, directory and variables are the build's.
    pub fn spec(mut self, spec: Spec) -> Self {
        self.spec = spec;
        self
    }

    /// Does every step anew.
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache = no_cache;
        self
    }

    /// What is told how far it is.
    pub fn watch<'b>(self, watch: &'b mut BuildWatch<'b>) -> Build<'b> {
        Build {
            watch: Some(watch),
            base: self.base,
            items: self.items,
            context: self.context,
            args: self.args,
            early: self.early,
            spec: self.spec,
            no_cache: self.no_cache,
        }
    }

    /// Builds it in `store`, called `names`.
    ///
    /// # Errors
    /// About the step, which the text begins with. [`ErrorKind::Image`] with the step `"run"` if a program fails. What the
    /// steps before it came to stays in the cache.
    pub fn build(self, store: &Store, names: &[&str]) -> Result<ImageInfo, Error> {
        building::build(self, store, names)
    }
}
