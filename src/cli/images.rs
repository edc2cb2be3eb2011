//! The commands about images, in Docker's words.

use super::{fail, help, made, note, say};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stockade::image::{Config, Format, ImageInfo, Import, Load, Progress, Source, Store, Target};

/// What the flags of these commands say.
#[derive(Default)]
pub struct Flags {
    pub store: Option<PathBuf>,
    input: Option<PathBuf>,
    pub output: Option<PathBuf>,
    format: Format,
    platform: Option<String>,
    tag: Option<String>,
    all: bool,
    pub json: bool,
    pub quiet: bool,
    pub changes: Vec<String>,
    pub rest: Vec<String>,
}

type Command = fn(&Flags) -> Result<(), String>;

/// The command `name`, if it is one of these.
pub fn main(name: &str, args: Vec<OsString>) -> Option<ExitCode> {
    let (command, flags): (Command, &[&str]) = match name {
        "images" => (images, &["--json", "-q", "--quiet"]),
        "load" => (
            load,
            &["-i", "--input", "--platform", "--tag", "-q", "--quiet"],
        ),
        "import" => (import, &["-c", "--change", "-q", "--quiet"]),
        "export" => (made::export, &["-o", "--output", "-q", "--quiet"]),
        "diff" => (made::diff, &["--json"]),
        "commit" => (made::commit, &["-c", "--change"]),
        "save" => (save, &["-o", "--output", "--format", "-q", "--quiet"]),
        "rmi" | "rm" => (rmi, &[]),
        "tag" => (tag, &[]),
        "inspect" => (inspect, &[]),
        "prune" => (prune, &["-a", "--all", "-f", "--force"]),
        "verify" => (verify, &["--json"]),
        "df" => (df, &["--json"]),
        _ => return None,
    };
    let done = match parse(args, flags) {
        Ok(Some(flags)) => command(&flags),
        Ok(None) => return Some(help::of(name)),
        Err(why) => Err(format!("{why}; see `stockade help {name}`")),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(format_args!("{name}: {why}")),
    })
}

/// Reads the arguments; none is `--help`.
fn parse(args: Vec<OsString>, allowed: &[&str]) -> Result<Option<Flags>, String> {
    let mut flags = Flags::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let name = match arg {
            Value(text) => {
                let text = text.into_string();
                flags
                    .rest
                    .push(text.map_err(|text| format!("`{}` is not UTF-8", text.display()))?);
                continue;
            }
            Long("help") => return Ok(None),
            Short(short) => format!("-{short}"),
            Long(long) => format!("--{long}"),
        };
        if name != "--store" && !allowed.contains(&name.as_str()) {
            return Err(format!("unknown flag `{name}`"));
        }
        let mut value = || parser.value().map_err(|e| e.to_string());
        match name.as_str() {
            "--store" => flags.store = Some(value()?.into()),
            "-i" | "--input" => flags.input = Some(value()?.into()),
            "-o" | "--output" => flags.output = Some(value()?.into()),
            "-c" | "--change" => flags.changes.push(text(value()?)?),
            "--platform" => flags.platform = Some(text(value()?)?),
            "--tag" => flags.tag = Some(text(value()?)?),
            "--format" => {
                flags.format = Format::parse(&text(value()?)?).map_err(|e| e.to_string())?
            }
            "-a" | "--all" => flags.all = true,
            "--json" => flags.json = true,
            "-q" | "--quiet" => flags.quiet = true,
            // It asks nothing.
            "-f" | "--force" => {}
            _ => unreachable!("only what is allowed comes here"),
        }
    }
    Ok(Some(flags))
}

pub fn text(value: OsString) -> Result<String, String> {
    value
        .into_string()
        .map_err(|value| format!("`{}` is not UTF-8", value.display()))
}

impl Flags {
    pub fn open(&self) -> Result<Store, String> {
        Store::open(self.store.as_deref()).map_err(|e| e.to_string())
    }

    fn none(&self) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some(extra) => Err(format!("unexpected argument `{extra}`")),
        }
    }

    fn some(&self, what: &str) -> Result<&[String], String> {
        match self.rest.as_slice() {
            [] => Err(format!("no {what} given")),
            rest => Ok(rest),
        }
    }
}

pub fn print(text: impl std::fmt::Display) -> Result<(), String> {
    match say(text) == ExitCode::SUCCESS {
        true => Ok(()),
        false => Err("the output could not be written".into()),
    }
}

pub fn print_json(value: &impl serde::Serialize) -> Result<(), String> {
    print(serde_json::to_string_pretty(value).map_err(|e| e.to_string())? + "\n")
}

fn images(flags: &Flags) -> Result<(), String> {
    flags.none()?;
    let list = flags.open()?.list().map_err(|e| e.to_string())?;
    if flags.json {
        return print_json(&list);
    }
    if flags.quiet {
        return print(
            list.iter()
                .fold(String::new(), |text, image| text + image.id.short() + "\n"),
        );
    }
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "ADDED", "SIZE"].map(String::from)];
    for image in &list {
        let names: Vec<&str> = match image.names.is_empty() {
            true => vec!["<none>:<none>"],
            false => image.names.iter().map(String::as_str).collect(),
        };
        for name in names {
            let (repository, tag) = match name.split_once('@') {
                Some((repository, _)) => (repository, "<none>"),
                None => name.rsplit_once(':').unwrap_or((name, "")),
            };
            let age = std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |now| now.as_secs().saturating_sub(image.added));
            rows.push([
                repository.into(),
                tag.into(),
                image.id.short().into(),
                ago(age),
                size(image.size),
            ]);
        }
    }
    let widths: Vec<usize> = (0..5)
        .map(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
    print(text)
}

fn load(flags: &Flags) -> Result<(), String> {
    flags.none()?;
    let source = match &flags.input {
        Some(path) if path.as_os_str() != "-" => Source::Path(path.clone()),
        _ if std::io::stdin().is_terminal() => {
            return Err("give an archive with -i, or on standard input".into());
        }
        _ => Source::Stream(Box::new(std::io::stdin())),
    };
    let mut bar = Bar::new(flags.quiet);
    let mut watch = |progress: &Progress| bar.show(progress);
    let mut options = Load::default().progress(&mut watch);
    if let Some(platform) = &flags.platform {
        options = options.platform(platform);
    }
    if let Some(tag) = &flags.tag {
        options = options.name(tag);
    }
    let loaded = flags.open()?.load(source, options);
    bar.clear();
    let mut text = String::new();
    for image in loaded.map_err(|e| e.to_string())? {
        for name in &image.names {
            let _ = writeln!(text, "Loaded image: {name}");
        }
        if image.names.is_empty() {
            let _ = writeln!(text, "Loaded image ID: {}", image.id);
        }
        say_dropped(flags.quiet, &image);
    }
    print(text)
}

fn import(flags: &Flags) -> Result<(), String> {
    let (source, name) = match flags.rest.as_slice() {
        [source] => (source, None),
        [source, name] => (source, Some(name)),
        _ => return Err("give a tar file, a directory or -, and maybe a name".into()),
    };
    let source = match source.as_str() {
        "-" => Source::Stream(Box::new(std::io::stdin())),
        path => Source::Path(path.into()),
    };
    let mut bar = Bar::new(flags.quiet);
    let mut watch = |progress: &Progress| bar.show(progress);
    let mut options = Import::default().progress(&mut watch);
    if let Some(name) = name {
        options = options.name(name);
    }
    let mut config = Config::default();
    for change in &flags.changes {
        config.change(change).map_err(|e| e.to_string())?;
    }
    options = options.config(config);
    let imported = flags.open()?.import(source, options);
    bar.clear();
    let image = imported.map_err(|e| e.to_string())?;
    say_dropped(flags.quiet, &image);
    print(format_args!("{}\n", image.id))
}

/// Says what the unpacked form lacks, if anything that can be missed.
pub(super) fn say_dropped(quiet: bool, image: &ImageInfo) {
    let dropped = &image.dropped;
    let mut parts = Vec::new();
    for (count, what) in [
        (dropped.devices, "device nodes"),
        (dropped.set_id, "set-id bits"),
        (dropped.capabilities, "file capabilities"),
        (dropped.xattrs, "extended attributes"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if dropped.owners > 0 {
        let count = dropped.owners;
        parts.push(match image.owners.strip_prefix("folded: ") {
            None => format!("{count} owners that no id here stands for"),
            Some(why) => format!("{count} owners (all files belong to one: {why})"),
        });
    }
    if !quiet && !parts.is_empty() {
        note(format_args!(
            "{}: not unpacked, but kept for `save`: {}",
            image.names.first().map_or(image.id.short(), String::as_str),
            parts.join(", ")
        ));
    }
}

fn save(flags: &Flags) -> Result<(), String> {
    let references: Vec<&str> = flags.some("image")?.iter().map(String::as_str).collect();
    let mut stdout = std::io::stdout();
    let target = match &flags.output {
        Some(path) if path.as_os_str() != "-" => Target::Path(path.clone()),
        _ if stdout.is_terminal() => {
            return Err("give a file with -o, or redirect standard output".into());
        }
        _ => Target::Stream(&mut stdout),
    };
    let mut bar = Bar::new(flags.quiet);
    let mut watch = |progress: &Progress| bar.show(progress);
    let saved = flags
        .open()?
        .save(&references, flags.format, target, Some(&mut watch));
    bar.clear();
    saved.map_err(|e| e.to_string())
}

fn rmi(flags: &Flags) -> Result<(), String> {
    let store = flags.open()?;
    for reference in flags.some("image")? {
        let removed = store.remove(reference).map_err(|e| e.to_string())?;
        let mut text = String::new();
        for name in &removed.names {
            let _ = writeln!(text, "Untagged: {name}");
        }
        for id in &removed.images {
            let _ = writeln!(text, "Deleted: {id}");
        }
        print(text)?;
    }
    Ok(())
}

fn tag(flags: &Flags) -> Result<(), String> {
    match flags.rest.as_slice() {
        [image, name] => flags.open()?.tag(image, name).map_err(|e| e.to_string()),
        _ => Err("give an image and its new name".into()),
    }
}

fn inspect(flags: &Flags) -> Result<(), String> {
    let store = flags.open()?;
    let all = flags
        .some("image")?
        .iter()
        .map(|reference| store.inspect(reference));
    print_json(
        &all.collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_string())?,
    )
}

fn prune(flags: &Flags) -> Result<(), String> {
    flags.none()?;
    let removed = flags.open()?.prune(flags.all).map_err(|e| e.to_string())?;
    let mut text = String::new();
    for name in &removed.names {
        let _ = writeln!(text, "Untagged: {name}");
    }
    for id in &removed.images {
        let _ = writeln!(text, "Deleted: {id}");
    }
    let _ = writeln!(text, "Total reclaimed space: {}", size(removed.bytes));
    print(text)
}

fn verify(flags: &Flags) -> Result<(), String> {
    flags.none()?;
    let found = flags.open()?.verify().map_err(|e| e.to_string())?;
    if flags.json {
        print_json(&found)?;
    } else {
        let mut text = found
            .problems
            .iter()
            .fold(String::new(), |text, problem| text + problem + "\n");
        let _ = writeln!(
            text,
            "{} blobs and {} layers checked",
            found.blobs, found.layers
        );
        print(text)?;
    }
    match found.problems.len() {
        0 => Ok(()),
        n => Err(format!(
            "{n} problems; remove the images concerned and load them again"
        )),
    }
}

fn df(flags: &Flags) -> Result<(), String> {
    flags.none()?;
    let used = flags.open()?.disk_use().map_err(|e| e.to_string())?;
    if flags.json {
        return print_json(&used);
    }
    print(format_args!(
        "images       {}\nas they came {}\nunpacked     {}\ntemporary    {}\nreclaimable  {}\n",
        used.images,
        size(used.blobs),
        size(used.layers),
        size(used.temporary),
        size(used.reclaimable)
    ))
}

/// A size for people.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match bytes {
        0..1000 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// How long ago, for people.
fn ago(seconds: u64) -> String {
    let (n, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
}

/// One line on the terminal that says how far it is.
pub(super) struct Bar {
    on: bool,
    last: Option<Instant>,
}

impl Bar {
    pub fn new(quiet: bool) -> Self {
        let on = !quiet && std::io::stderr().is_terminal();
        Bar { on, last: None }
    }

    pub fn show(&mut self, progress: &Progress) -> ControlFlow<()> {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if self.on && due {
            self.last = Some(Instant::now());
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K{}",
                line(&progress.what, progress.done, progress.total)
            );
        }
        ControlFlow::Continue(())
    }

    pub fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: Option<u64>) -> String {
    const WIDTH: u64 = 30;
    match total {
        None if done == 0 => what.into(),
        None | Some(0) => format!("{what}  {}", size(done)),
        Some(total) => {
            let full =
                (u128::from(WIDTH) * u128::from(done.min(total)) / u128::from(total)) as usize;
            let bar = "=".repeat(full) + &" ".repeat(WIDTH as usize - full);
            format!("{what}  [{bar}]  {} of {}", size(done), size(total))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(1000 << 20), "1.0 GiB");
        assert_eq!(ago(61), "1 minute ago");
        assert_eq!(ago(200_000), "2 days ago");
    }

    #[test]
    fn a_bar_never_overflows() {
        assert!(line("layer 1/2", 5, Some(4)).contains(&"=".repeat(30)));
        assert_eq!(line("layer 1/2", 5, Some(0)), "layer 1/2  5 B");
        assert_eq!(line("registry", 0, None), "registry");
        assert!(line("archive", u64::MAX, Some(u64::MAX)).contains(&"=".repeat(30)));
    }
}
