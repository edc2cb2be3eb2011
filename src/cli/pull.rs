//! `stockade pull`, and `stockade run --pull`.

use super::images::{Bar, say_dropped};
use super::{fail, help, say};
use lexopt::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stockade::image::{ImageInfo, Progress, Pull, Store};
use stockade::{ErrorKind, Spec};

/// Longest password that is read.
const PASSWORD_MAX: u64 = 64 << 10;

/// What the flags say.
#[derive(Default)]
struct Flags {
    store: Option<PathBuf>,
    quiet: bool,
    name: Option<String>,
    user: Option<String>,
    password: Option<String>,
    options: Pull<'static>,
}

/// When `stockade run` pulls the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    Always,
    Missing,
    #[default]
    Never,
}

impl Policy {
    /// The words that say so.
    pub const WORDS: &[(&str, Policy)] = &[
        ("always", Policy::Always),
        ("missing", Policy::Missing),
        ("never", Policy::Never),
    ];
}

/// The whole command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let done = match parse(args) {
        Ok(Some(flags)) => pull(flags),
        Ok(None) => return help::of("pull"),
        Err(why) => Err(format!("{why}; see `stockade help pull`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(format_args!("pull: {why}")),
    }
}

/// Pulls the image of `spec`, if the policy wants it.
pub fn before_run(policy: Policy, spec: &Spec, quiet: bool) -> Result<(), String> {
    let Some(image) = spec.image.as_deref().filter(|_| policy != Policy::Never) else {
        return Ok(());
    };
    let store = Store::open(spec.store.as_ref().map(Path::new)).map_err(|e| e.to_string())?;
    if policy == Policy::Missing {
        match store.inspect(image) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.to_string()),
            Ok(_) => return Ok(()),
        }
    }
    with_bar(&store, image, Pull::default(), quiet).map(drop)
}

/// Reads the arguments; none is `--help`.
fn parse(args: Vec<OsString>) -> Result<Option<Flags>, String> {
    let mut flags = Flags::default();
    let mut options = Pull::default();
    let mut stdin = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        let name = match arg {
            Value(text) if flags.name.is_none() => {
                flags.name = Some(utf8(text)?);
                continue;
            }
            Value(extra) => return Err(format!("unexpected argument `{}`", extra.display())),
            Long("help") => return Ok(None),
            Long("tls-verify") => {
                // As podman has it: without a value it is true.
                options = match parser.optional_value().map(utf8).transpose()?.as_deref() {
                    None | Some("true") => options.tls_verify(true),
                    Some("false") => options.tls_verify(false),
                    Some(other) => {
                        return Err(format!("--tls-verify: `{other}` is not true or false"));
                    }
                };
                continue;
            }
            Short(short) => format!("-{short}"),
            Long(long) => format!("--{long}"),
        };
        let mut value = || parser.value().map_err(|e| e.to_string());
        match name.as_str() {
            "--store" => flags.store = Some(value()?.into()),
            "-q" | "--quiet" => flags.quiet = true,
            "--platform" => options = options.platform(utf8(value()?)?),
            "-u" | "--username" => flags.user = Some(utf8(value()?)?),
            "--password-stdin" => stdin = true,
            "--authfile" => options = options.auth_file(value()?),
            "--ca-file" => options = options.ca_file(value()?),
            "--mirror" => options = options.mirror(utf8(value()?)?),
            "--retry" => options = options.retry(number(&name, &utf8(value()?)?)?),
            "--max-concurrent-downloads" => {
                let count: u32 = number(&name, &utf8(value()?)?)?;
                options = options.max_concurrent_downloads(count as usize);
            }
            "--timeout" => {
                let text = utf8(value()?)?;
                let time = stockade::parse_duration(&text);
                options = options.timeout(time.map_err(|e| format!("{name}: {e}"))?);
            }
            _ => return Err(format!("unknown flag `{name}`")),
        }
    }
    if flags.name.is_none() {
        return Err("no image given".into());
    }
    if flags.user.is_some() != stdin {
        return Err("--username and --password-stdin belong together".into());
    }
    if stdin {
        flags.password = Some(password()?);
    }
    flags.options = options;
    Ok(Some(flags))
}

fn utf8(value: OsString) -> Result<String, String> {
    value
        .into_string()
        .map_err(|value| format!("`{}` is not UTF-8", value.display()))
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("{name}: `{text}` is no number"))
}

/// The password on standard input, but for the line's end.
fn password() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(PASSWORD_MAX)
        .read_to_string(&mut text);
    read.map_err(|e| format!("--password-stdin: {e}"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    match text.is_empty() {
        true => Err("--password-stdin: standard input is empty".into()),
        false => Ok(text.into()),
    }
}

fn pull(flags: Flags) -> Result<(), String> {
    let store = Store::open(flags.store.as_deref()).map_err(|e| e.to_string())?;
    let mut options = flags.options;
    if let (Some(user), Some(password)) = (flags.user, flags.password) {
        options = options.credentials(user, password);
    }
    let name = flags.name.unwrap_or_default();
    let image = with_bar(&store, &name, options, flags.quiet)?;
    say_dropped(flags.quiet, &image);
    let text = match flags.quiet {
        true => format!("{}\n", image.id),
        false => format!("Digest: {}\n{}\n", image.digest, image.id),
    };
    match say(text) == ExitCode::SUCCESS {
        true => Ok(()),
        false => Err("the output could not be written".into()),
    }
}

fn with_bar(
    store: &Store,
    name: &str,
    options: Pull<'_>,
    quiet: bool,
) -> Result<ImageInfo, String> {
    let mut bar = Bar::new(quiet);
    let mut sum = Sum::default();
    let mut watch = |progress: &Progress| bar.show(&sum.with(progress));
    let pulled = store.pull(name, options.progress(&mut watch));
    bar.clear();
    pulled.map_err(|e| e.to_string())
}

/// Several downloads as one.
#[derive(Default)]
struct Sum {
    downloads: BTreeMap<String, (u64, u64)>,
}

impl Sum {
    fn with(&mut self, progress: &Progress) -> Progress {
        let mut all = progress.clone();
        let Some(total) = progress
            .total
            .filter(|_| progress.what.starts_with("download "))
        else {
            return all;
        };
        self.downloads
            .insert(progress.what.clone(), (progress.done, total));
        all.done = self.downloads.values().map(|(done, _)| done).sum();
        all.total = Some(self.downloads.values().map(|(_, total)| total).sum());
        let count = self.downloads.len();
        all.what = format!(
            "download of {count} layer{}",
            if count == 1 { "" } else { "s" }
        );
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_belong_together() {
        let parse = |args: &[&str]| parse(args.iter().map(OsString::from).collect());
        for (args, why) in [
            (&[][..], "no image"),
            (&["a", "b"], "unexpected"),
            (&["a", "--username", "me"], "belong together"),
            (&["a", "--tls-verify=maybe"], "not true or false"),
            (&["a", "--retry", "often"], "no number"),
            (&["a", "--timeout", "long"], "--timeout"),
            (&["a", "--password", "x"], "unknown flag"),
        ] {
            let error = parse(args).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
        assert!(parse(&["--help"]).unwrap().is_none());
        let flags = parse(&["-q", "--tls-verify", "a"]).unwrap().unwrap();
        assert!(flags.quiet && flags.name.as_deref() == Some("a"));
    }
}
