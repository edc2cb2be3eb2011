//! `stockade build`.

use super::flags::{self, Run};
use super::images::text;
use super::{fail, help, say};
use lexopt::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stockade::image::{Build, BuildEvent, Store};

/// The flags of `run` that say how the programs of a build are run.
const LIMITS: &[&str] = &[
    "--cpu-time",
    "--wall-time",
    "--timeout",
    "-m",
    "--memory",
    "--swap",
    "--pids",
    "--pids-limit",
    "--cpus",
    "--cpu-weight",
    "--cpu-idle",
    "--cpuset-cpus",
    "--nice",
    "--output",
    "--file-size",
    "--open-files",
    "--stack",
    "--ulimit",
    "--disk",
    "--storage-opt",
    "--inodes",
    "--network",
    "--net",
    "--overlay",
    "-v",
    "--volume",
    "--tmpfs",
    "-h",
    "--hostname",
    "--enforce",
    "--cgroup-parent",
];

#[derive(Default)]
struct Flags {
    tags: Vec<String>,
    file: Option<PathBuf>,
    args: BTreeMap<String, String>,
    no_cache: bool,
    quiet: bool,
    store: Option<PathBuf>,
    run: Run,
    context: Option<PathBuf>,
}

/// The whole command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let built = match parse(args) {
        Ok(None) => return help::of("build"),
        Ok(Some(flags)) => build(flags),
        Err(why) => Err(format!("{why}; see `stockade help build`")),
    };
    match built {
        Ok(id) => say(id + "\n"),
        Err(why) => fail(format_args!("build: {why}")),
    }
}

/// Reads the arguments; none is `--help`.
fn parse(args: Vec<OsString>) -> Result<Option<Flags>, String> {
    let mut flags = Flags::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let name = match arg {
            Value(dir) if flags.context.is_none() => {
                flags.context = Some(dir.into());
                continue;
            }
            Value(extra) => return Err(format!("unexpected argument `{}`", extra.display())),
            Long("help") => return Ok(None),
            Short(short) => format!("-{short}"),
            Long(long) => format!("--{long}"),
        };
        let mut value = || {
            parser
                .value()
                .map_err(|_| format!("{name}: a value is missing"))
        };
        match name.as_str() {
            "-t" | "--tag" => flags.tags.push(text(value()?)?),
            "-f" | "--file" => flags.file = Some(value()?.into()),
            "--store" => flags.store = Some(value()?.into()),
            "--no-cache" => flags.no_cache = true,
            "-q" | "--quiet" => flags.quiet = true,
            "--build-arg" => {
                let pair = text(value()?)?;
                let (key, value) = match pair.split_once('=') {
                    Some((key, value)) => (key.to_string(), Some(value.to_string())),
                    None => (pair.clone(), std::env::var(&pair).ok()),
                };
                // As with Docker, one that is not set here is left out.
                flags.args.extend(value.map(|value| (key, value)));
            }
            name if LIMITS.contains(&name) => {
                let one = flags::one(&mut flags.run, name, &mut parser);
                one.map_err(|why| format!("{name}: {why}"))?;
            }
            _ => return Err(format!("unknown flag `{name}`")),
        }
    }
    Ok(Some(flags))
}

fn build(flags: Flags) -> Result<String, String> {
    let context = flags.context.unwrap_or_else(|| ".".into());
    let (name, file) = read(flags.file.as_deref(), &context)?;
    let build = Build::parse(&name, &file, flags.args).map_err(|e| e.to_string())?;
    let mut watch = |event: &BuildEvent<'_>| {
        let mut stderr = std::io::stderr().lock();
        // Nobody reading it is no reason to stop.
        let _ = match event {
            _ if flags.quiet => Ok(()),
            BuildEvent::Step {
                number,
                total,
                text,
                cached,
            } => {
                let cached = if *cached { " (cached)" } else { "" };
                writeln!(stderr, "[{number}/{total}] {text}{cached}")
            }
            BuildEvent::Output(bytes) => stderr.write_all(bytes),
            _ => Ok(()),
        };
        ControlFlow::Continue(())
    };
    let store = Store::open(flags.store.as_deref()).map_err(|e| e.to_string())?;
    let names: Vec<&str> = flags.tags.iter().map(String::as_str).collect();
    let build = build.context(context).spec(flags.run.spec);
    let build = build.no_cache(flags.no_cache).watch(&mut watch);
    let image = build.build(&store, &names).map_err(|e| e.to_string())?;
    Ok(image.id.to_string())
}

/// The file that says what to build, and what to call it.
fn read(file: Option<&Path>, context: &Path) -> Result<(String, String), String> {
    let named = |path: &Path| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map(|text| (named(path), text))
            .map_err(|e| format!("`{}`: {e}", path.display()))
    };
    match file {
        Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())
            .map(|text| ("-".into(), text))
            .map_err(|e| format!("standard input: {e}")),
        Some(path) => read(path),
        None => {
            let found = ["Stockadefile", "Dockerfile"].map(|name| context.join(name));
            match found.iter().find(|path| path.exists()) {
                Some(path) => read(path),
                None => Err(format!(
                    "there is no `{}`; -f names another",
                    found[0].display()
                )),
            }
        }
    }
}
