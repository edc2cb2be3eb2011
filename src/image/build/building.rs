//! The steps of a build, one after another.

use super::super::append::{Ground, Note};
use super::super::config::rfc3339;
use super::super::lock::now;
use super::super::state::State;
use super::super::step::{Command, Step, below, variable};
use super::super::store::Store;
use super::super::{Digest, Image, ImageInfo, fs, layer_from_upper};
use super::copy::{Copying, is_directory, resolve, write_directory, write_files};
use super::{Build, BuildEvent, BuildWatch, Ignore, Item, What, cache, run};
use crate::error::{Error, ErrorKind};
use crate::overlay::Lowers;
use crate::spec::Spec;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Does all of it.
pub(super) fn build(build: Build<'_>, store: &Store, names: &[&str]) -> Result<ImageInfo, Error> {
    let base = build
        .base
        .as_ref()
        .map(|base| store.resolve(base))
        .transpose()?;
    let (ground, key) = match &base {
        None => (Ground::scratch(), Digest::of("scratch")),
        Some(base) => (store.ground(base)?, base.id.clone()),
    };
    let triggers = ground.config.config.other.get("OnBuild");
    if triggers.is_some_and(|triggers| triggers.as_array().is_some_and(|all| !all.is_empty())) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the base has instructions for builds from it (ONBUILD), which are not known",
        ));
    }
    let total = build.items.len();
    if let Some(unknown) = build.args.keys().find(|name| !declares(&build, name)) {
        return Err(Error::invalid(format!(
            "build argument `{unknown}`: no ARG has that name"
        )));
    }
    let mut building = Building {
        store,
        pending: base.is_none(),
        image: base,
        own: false,
        ground,
        key,
        context: Context::open(build.context)?,
        args: build.args,
        early: build.early,
        set: BTreeMap::new(),
        spec: build.spec,
        cache: !build.no_cache,
        watch: Watching(build.watch),
    };
    for (n, item) in build.items.iter().enumerate() {
        let done = building.step(item, n + 1, total);
        done.map_err(|e| e.about(format_args!("{}: {}", item.place, brief(&item.text))))?;
    }
    building.finish(names)
}

/// Whether there is an ARG of that name.
fn declares(build: &Build<'_>, name: &str) -> bool {
    let arg = |item: &Item| {
        let step = match &item.what {
            What::Step(step) => step.clone(),
            What::Line(line) => Step::parse(line, &|_| Some("x".into())).ok()?,
        };
        match step {
            Step::Arg(arg) => Some(arg),
            _ => None,
        }
    };
    let mut args = build.items.iter().filter_map(arg);
    build.early.contains_key(name) || args.any(|arg| arg.split('=').next() == Some(name))
}

fn brief(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

pub(super) fn called_off() -> Error {
    Error::new(ErrorKind::State, "it was called off")
}

pub(super) struct Watching<'a>(Option<&'a mut BuildWatch<'a>>);

impl Watching<'_> {
    fn tell(&mut self, event: &BuildEvent<'_>) -> ControlFlow<()> {
        match &mut self.0 {
            Some(watch) => watch(event),
            None => ControlFlow::Continue(()),
        }
    }

    pub fn output(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.tell(&BuildEvent::Output(bytes))
    }
}

/// Where files are copied from.
struct Context {
    dir: Option<OwnedFd>,
    ignore: Ignore,
}

impl Context {
    fn open(path: Option<PathBuf>) -> Result<Context, Error> {
        let Some(path) = path else {
            return Ok(Context {
                dir: None,
                ignore: Ignore::default(),
            });
        };
        let fault = |e| Error::system(format_args!("open the context {}", fs::shown(&path)), e);
        let path = std::fs::canonicalize(&path).map_err(fault)?;
        let dir = fs::open_dir(&path).map_err(fault)?;
        let ignore = match read_small(&dir, b".dockerignore") {
            Ok(text) => Ignore::parse(&text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ignore::default(),
            Err(e) => return Err(Error::system("read `.dockerignore` of the context", e)),
        };
        Ok(Context {
            dir: Some(dir),
            ignore,
        })
    }

    fn dir(&self) -> Result<&OwnedFd, Error> {
        self.dir
            .as_ref()
            .ok_or_else(|| Error::invalid("COPY: no context is given"))
    }
}

/// A text of the context's: a regular file, never through a link, since a context can be somebody else's.
fn read_small(dir: &OwnedFd, name: &[u8]) -> io::Result<String> {
    const MOST: u64 = 1 << 20;
    let mut text = String::new();
    let file = fs::open_file_at(dir, name)?;
    match file.take(MOST + 1).read_to_string(&mut text)? as u64 > MOST {
        true => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        false => Ok(text),
    }
}

struct Building<'s, 'a> {
    store: &'s Store,
    /// The image that `ground` was last, and whether it was made here, only as a step on the way. One that was there before
    /// is somebody's, who may know it by its id.
    image: Option<Image>,
    own: bool,
    /// Whether `ground` has changed since.
    pending: bool,
    ground: Ground,
    key: Digest,
    context: Context,
    args: BTreeMap<String, String>,
    /// The arguments that were declared before FROM; those that have been since and have a value.
    early: BTreeMap<String, Option<String>>,
    set: BTreeMap<String, String>,
    spec: Spec,
    cache: bool,
    watch: Watching<'a>,
}

impl Building<'_, '_> {
    fn step(&mut self, item: &Item, number: usize, total: usize) -> Result<(), Error> {
        let step = match &item.what {
            What::Step(step) => step.clone(),
            What::Line(line) => {
                let env = &self.ground.config.config.env;
                let value =
                    |name: &str| variable(env, name).or_else(|| self.set.get(name).cloned());
                Step::parse(line, &value)?
            }
        };
        let tell = |watch: &mut Watching<'_>, cached| {
            let text = &item.text;
            let event = BuildEvent::Step {
                number,
                total,
                text,
                cached,
            };
            match watch.tell(&event) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(called_off()),
            }
        };
        if let Step::Arg(arg) = &step {
            tell(&mut self.watch, true)?;
            self.declare(arg);
            self.pending = true;
            return self.note(&item.text);
        }
        self.pending = true;
        let settings_only = step.apply(&mut self.ground.config.config)?;
        let dir = below("/", &self.ground.config.config.working_dir);
        let view = self.store.view(&self.ground.layers)?;
        let mut copying = None;
        let mut place = Vec::new();
        self.key = match &step {
            Step::Run(_) => cache::key(&self.key, &(&step, &self.set)),
            Step::Copy(copy) => {
                let paths = self.store.layer_paths(&self.ground.layers);
                let lowers = Lowers::new(&Image::directories(&paths)?)?;
                let found = Copying::find(copy, self.context.dir()?, &dir, &view, &lowers)?;
                let digest = found.digest(&self.context.ignore)?;
                copying = Some((found, digest.clone()));
                cache::key(&self.key, &(&step, digest))
            }
            _ => cache::key(&self.key, &step),
        };
        if let Step::Workdir(_) = &step {
            place = resolve(&view, &dir)?;
        }
        if settings_only || matches!(step, Step::Workdir(_)) && is_directory(&view, &place)? {
            tell(&mut self.watch, true)?;
            return self.note(&item.text);
        }
        if self.cache
            && let Some((outcome, layer)) = cache::find(self.store, &self.key)?
        {
            tell(&mut self.watch, true)?;
            let diff_id = layer.as_ref().map(|layer| layer.diff_id.clone());
            let note = Note {
                by: &item.text,
                ..Note::default()
            };
            self.ground.config.push(diff_id, &outcome.created, &note);
            self.ground.layers.extend(layer);
            return Ok(());
        }
        tell(&mut self.watch, false)?;
        match &step {
            Step::Run(command) => self.run(command, &dir, &item.text),
            Step::Copy(_) => {
                let (copying, digest) = copying.expect("it was found");
                self.layer(&item.text, &mut |this, to| {
                    copying.write(&this.context.ignore, true, to)?;
                    match copying.digest(&this.context.ignore)? == digest {
                        true => Ok(()),
                        false => Err(Error::new(
                            ErrorKind::State,
                            "the context changed while it was read",
                        )),
                    }
                })
            }
            Step::Files(files) => {
                self.layer(&item.text, &mut |_, to| write_files(files, &dir, &view, to))
            }
            _ => self.layer(&item.text, &mut |_, to| write_directory(&place, to)),
        }
    }

    fn declare(&mut self, arg: &str) {
        let (name, default) = match arg.split_once('=') {
            Some((name, default)) => (name, Some(default.to_string())),
            None => (arg, None),
        };
        let early = || self.early.get(name).cloned().flatten();
        if let Some(value) = self.args.get(name).cloned().or(default).or_else(early) {
            self.set.insert(name.into(), value);
        }
    }

    /// A line of history for a step that made no layer. Its time is that of the last: so the same build is the same image.
    fn note(&mut self, text: &str) -> Result<(), Error> {
        let created = self.ground.config.created.clone();
        let created = created.unwrap_or_else(|| rfc3339(0));
        let note = Note {
            by: text,
            ..Note::default()
        };
        self.ground.config.push(None, &created, &note);
        Ok(())
    }

    /// Adds a layer that `write` writes.
    fn layer(
        &mut self,
        text: &str,
        write: &mut dyn FnMut(&Self, &mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let note = Note {
            by: text,
            ..Note::default()
        };
        let mut write = |to: &mut dyn Write| write(self, to);
        let before = self.there()?;
        let made = self
            .store
            .compose(self.ground.clone(), Some(&mut write), Some(note), &[])?;
        self.made(made.1, &before)
    }

    /// Runs a program and adds what it changed.
    fn run(&mut self, command: &Command, dir: &str, text: &str) -> Result<(), Error> {
        if self.ground.layers.is_empty() {
            return Err(Error::invalid(
                "the image has no layers yet: there is nothing to run",
            ));
        }
        let id = self.materialized()?.id.clone();
        let mut spec = Spec {
            args: command.args().iter().map(Into::into).collect(),
            entrypoint: None,
            image: Some(id.to_string()),
            store: self.store.path().to_str().map(String::from),
            user: None,
            cwd: Some(dir.into()),
            env: BTreeMap::new(),
            ..self.spec.clone()
        };
        let known = |name: &String| variable(&self.ground.config.config.env, name).is_some();
        for (name, value) in self.set.iter().filter(|(name, _)| !known(name)) {
            spec.env.insert(name.into(), value.into());
        }
        spec.disk = spec.disk.or(Some(1 << 30));
        spec.inodes = spec.inodes.or(Some(1 << 18));
        let sandbox = run::run(&spec, &mut self.watch)?;
        let note = Note {
            by: text,
            ..Note::default()
        };
        let ground = self.ground.clone();
        let image = self.image.as_ref().expect("it has just been run");
        let before = self.there()?;
        let made = sandbox.with_layer(self.store, image, |layer| match layer {
            Some(layer) => {
                let mut write = |to: &mut dyn Write| layer_from_upper(layer, to).map(drop);
                self.store
                    .compose(ground, Some(&mut write), Some(note), &[])
            }
            None => self.store.compose(ground, None, Some(note), &[]),
        })?;
        sandbox.close()?;
        drop(sandbox);
        self.made(made.1, &before)
    }

    /// An image as far as it is built, for a sandbox.
    fn materialized(&mut self) -> Result<&Image, Error> {
        if self.pending {
            let before = self.there()?;
            let made = self.store.compose(self.ground.clone(), None, None, &[])?;
            self.replace(made.1, &before);
        }
        Ok(self.image.as_ref().expect("just made, if there was none"))
    }

    /// The image, with its names.
    fn finish(&mut self, names: &[&str]) -> Result<ImageInfo, Error> {
        let id = self.materialized()?.id.to_string();
        for name in names {
            self.store.tag(&id, name)?;
        }
        self.store.inspect(&id)
    }

    /// Goes on from an image that a step has made, and remembers what that came to.
    fn made(&mut self, image: Image, before: &BTreeSet<Digest>) -> Result<(), Error> {
        let below = self.ground.layers.len();
        self.ground = self.store.ground(&image)?;
        let layer = self.ground.layers.get(below);
        let outcome = cache::Outcome {
            chain_id: layer.map(|layer| layer.chain_id.clone()),
            created: self
                .ground
                .config
                .created
                .clone()
                .unwrap_or_else(|| rfc3339(now().0)),
        };
        self.replace(image, before);
        cache::remember(self.store, &self.key, &outcome)
    }

    /// The images that the store has.
    fn there(&self) -> Result<BTreeSet<Digest>, Error> {
        Ok(State::read(&self.store.root)?.images.into_keys().collect())
    }

    /// Holds `image` in place of the one before, which was only a step on the way if it was made here. `before` it was
    /// made, these were there.
    fn replace(&mut self, image: Image, before: &BTreeSet<Digest>) {
        let same = self.image.as_ref().is_some_and(|old| old.id == image.id);
        let own = match same {
            true => self.own,
            false => !before.contains(&image.id),
        };
        let old = self.image.replace(image);
        if let Some(old) = old.filter(|_| self.own && !same) {
            let id = old.id.clone();
            drop(old);
            // What stays of it is pruned some day.
            let _ = self.store.forget(&id);
        }
        self.own = own;
        self.pending = false;
    }
}
