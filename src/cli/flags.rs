//! The flags of `stockade run`: Docker's names, and the library's own for every field of a [`Spec`].

use super::pull::Policy;
use lexopt::prelude::*;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use stockade::image::Commit;
use stockade::{
    Bytes, Enforce, File, Isolation, Network, Overflow, Overlay, Profile, Rootfs, Spec,
    parse_duration, parse_signal, parse_size,
};

/// What `stockade run` was asked to do.
#[derive(Debug, Default)]
pub struct Run {
    /// What to run, and how.
    pub spec: Spec,
    /// Whether our standard input is the program's.
    pub interactive: bool,
    /// Whether to print the outcome as JSON in place of the program's output.
    pub json: bool,
    /// Whether to say only what failed.
    pub quiet: bool,
    /// How long a program that was asked to stop may go on.
    pub stop_timeout: Duration,
    /// Whether a root file system was given by a flag.
    rootfs: bool,
    /// When the image is pulled first.
    pub pull: Policy,
    /// Where to write collected files: the path inside, the file on the host.
    pub collect: Vec<(String, PathBuf)>,
    /// Whether to say what differs in the root in the end.
    pub diff: bool,
    /// The name of an image to make of that, and how.
    pub commit: Option<String>,
    pub how: Commit,
    /// Whether also if the program fails.
    pub commit_always: bool,
}

/// What the arguments of `stockade run` amount to.
#[derive(Debug)]
pub enum Parsed {
    /// A program to run.
    Run(Box<Run>),
    /// `--help`.
    Help,
}

/// Reads the arguments after `run`. The error is a sentence for the user.
pub fn parse(args: Vec<OsString>) -> Result<Parsed, String> {
    let mut run = Run::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Value(program) => {
                let rest = parser.raw_args().map_err(|e| e.to_string())?;
                run.spec.args = std::iter::once(program)
                    .chain(rest)
                    .map(|arg| Bytes::from(arg.as_bytes()))
                    .collect();
            }
            Long("help") => return Ok(Parsed::Help),
            Short(short) => {
                let name = format!("-{short}");
                one(&mut run, &name, &mut parser).map_err(|why| format!("{name}: {why}"))?;
            }
            Long(long) => {
                let name = format!("--{long}");
                one(&mut run, &name, &mut parser).map_err(|why| format!("{name}: {why}"))?;
            }
        }
    }
    if run.spec.args.is_empty() && run.spec.image.is_none() {
        return Err("no program given: `stockade run [FLAGS] [--] PROGRAM [ARGUMENTS]`".into());
    }
    let how = run.commit_always || run.how != Commit::new();
    if run.commit.is_none() && how {
        return Err(
            "--change, --author, --message and --commit-always go with --commit NAME".into(),
        );
    }
    if run.commit.is_some() && run.spec.image.is_none() {
        return Err("--commit makes an image of another: give --image".into());
    }
    if !run.json && run.spec.outputs.len() > run.collect.len() {
        return Err("files to collect need --json or, for each, --collect PATH=HOSTFILE".into());
    }
    if run.interactive && run.spec.input.is_some() {
        return Err("--interactive and an `input` in the specification exclude each other".into());
    }
    Ok(Parsed::Run(Box::new(run)))
}

/// One flag other than `--help`.
pub fn one(run: &mut Run, name: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
    let spec = &mut run.spec;
    match name {
        "-i" | "--interactive" => run.interactive = true,
        "--json" => run.json = true,
        "-q" | "--quiet" => run.quiet = true,
        // What these ask for always holds.
        "--rm" | "--init" => {}
        "-t" | "--tty" => return Err("a sandbox has no terminal".into()),
        "-d" | "--detach" => return Err("nothing outlives the call".into()),
        "--spec" if *spec == Spec::default() => *spec = read_spec(&raw(parser)?)?,
        "--spec" => return Err("must come before the flags that change what it says".into()),

        "-e" | "--env" => {
            let value = raw(parser)?;
            set_env(spec, value.as_bytes())?;
        }
        "--env-file" => {
            let path = raw(parser)?;
            let text = read(&path)?;
            for line in text.split(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                if !line.is_empty() && line[0] != b'#' {
                    set_env(spec, line)?;
                }
            }
        }
        "-w" | "--workdir" | "--cwd" => spec.cwd = Some(text(parser)?),
        "--file" => {
            let (inside, host) = pair(&text(parser)?)?;
            let content = read(OsStr::new(&host))?;
            let mode = std::fs::metadata(&host).map_or(0o644, |m| m.permissions().mode() & 0o777);
            let file = File {
                content: Bytes(content),
                mode: Some(mode),
            };
            spec.files.insert(inside, file);
        }
        "--collect" => {
            let value = text(parser)?;
            match value.split_once('=') {
                Some((inside, host)) => {
                    run.collect.push((inside.into(), host.into()));
                    spec.outputs.push(inside.into());
                }
                None => spec.outputs.push(value),
            }
        }
        "--output-file-size" => spec.output_file_size = Some(size(parser)?),

        "--rootfs" => {
            // The first takes the place of what was there, the others go on top.
            if !std::mem::replace(&mut run.rootfs, true) {
                spec.rootfs = Rootfs::Host;
            }
            spec.rootfs.add(text(parser)?);
        }
        "--image" => spec.image = Some(text(parser)?),
        "--pull" => run.pull = word(parser, Policy::WORDS)?,
        "--entrypoint" => spec.entrypoint = Some(vec![Bytes::from(raw(parser)?.as_bytes())]),
        "--store" => spec.store = Some(text(parser)?),
        "--diff" => run.diff = true,
        "--commit" => run.commit = Some(text(parser)?),
        "--commit-always" => run.commit_always = true,
        "--change" => run.how.changes.push(text(parser)?),
        "--author" => run.how.author = text(parser)?,
        "--message" => run.how.message = text(parser)?,
        "--overlay" => spec.overlay = Some(word(parser, OVERLAYS)?),
        "--read-only" => spec.read_only = true,
        "--upper-dir" => spec.upper_dir = Some(text(parser)?),
        "-v" | "--volume" => spec.volumes.push(parsed(parser)?),
        "--tmpfs" => spec.tmpfs.push(parsed(parser)?),
        "--network" | "--net" => spec.network = word(parser, NETWORKS)?,
        "--isolation" => spec.isolation = word(parser, ISOLATIONS)?,
        "-u" | "--user" => spec.user = Some(text(parser)?),
        "--profile" => spec.profile = profile(&text(parser)?)?,
        "--security-opt" => {
            if let Some(profile) = security_option(&text(parser)?)? {
                spec.profile = profile;
            }
        }
        "-h" | "--hostname" => spec.hostname = Some(text(parser)?),
        "--deterministic" => spec.deterministic = true,
        "--uptime" => spec.uptime = Some(duration(parser)?),

        "--cpu-time" => spec.cpu_time = Some(duration(parser)?),
        "--wall-time" | "--timeout" => spec.wall_time = Some(duration(parser)?),
        "-m" | "--memory" => spec.memory = Some(size(parser)?),
        "--pids" | "--pids-limit" => spec.pids = Some(number(&text(parser)?)?),
        "--swap" => spec.swap = Some(size(parser)?),
        "--cpus" => spec.cpus = Some(fraction(&text(parser)?)?),
        "--cpu-weight" => spec.cpu_weight = Some(number(&text(parser)?)?),
        "--cpu-idle" => spec.cpu_idle = true,
        "--cpuset-cpus" => spec.cpuset_cpus = Some(text(parser)?),
        "--nice" => spec.nice = Some(number(&text(parser)?)?),
        "--oom-score-adj" => spec.oom_score_adj = Some(number(&text(parser)?)?),
        "--stop-signal" => spec.stop_signal = Some(parse_signal(&text(parser)?).map_err(plain)?),
        "--stop-timeout" => run.stop_timeout = duration(parser)?,
        "--oom-group" => spec.oom_group = Some(word(parser, BOOLEANS)?),
        "--io-read-bps" | "--device-read-bps" => spec.io_read_bps.push(parsed(parser)?),
        "--io-write-bps" | "--device-write-bps" => spec.io_write_bps.push(parsed(parser)?),
        "--io-read-iops" | "--device-read-iops" => spec.io_read_iops.push(parsed(parser)?),
        "--io-write-iops" | "--device-write-iops" => spec.io_write_iops.push(parsed(parser)?),
        "--io-weight" => spec.io_weight = Some(number(&text(parser)?)?),
        "--hugetlb" => spec.hugetlb.push(parsed(parser)?),
        "--output" => spec.output = Some(size(parser)?),
        "--output-overflow" => spec.output_overflow = word(parser, OVERFLOWS)?,
        "--file-size" => spec.file_size = Some(size(parser)?),
        "--open-files" => spec.open_files = Some(number(&text(parser)?)?),
        "--stack" => spec.stack = Some(size(parser)?),
        "--ulimit" => ulimit(spec, &text(parser)?)?,
        "--disk" => spec.disk = Some(size(parser)?),
        "--storage-opt" => match pair(&text(parser)?)? {
            (key, value) if key == "size" => spec.disk = Some(parse_size(&value).map_err(plain)?),
            (key, _) => return Err(format!("unknown option `{key}`; there is only `size`")),
        },
        "--inodes" => spec.inodes = Some(number(&text(parser)?)?),

        "--enforce" => spec.enforce = word(parser, ENFORCES)?,
        "--cgroup-parent" => spec.cgroup_parent = Some(text(parser)?),
        _ => return Err("unknown flag; see `stockade help run`".into()),
    }
    Ok(())
}

const NETWORKS: &[(&str, Network)] = &[
    ("none", Network::None),
    ("loopback", Network::Loopback),
    ("host", Network::Host),
];
const ISOLATIONS: &[(&str, Isolation)] = &[
    ("namespaces", Isolation::Namespaces),
    ("restrict", Isolation::Restrict),
];
const OVERLAYS: &[(&str, Overlay)] = &[
    ("auto", Overlay::Auto),
    ("kernel", Overlay::Kernel),
    ("fuse", Overlay::Fuse),
    ("copy", Overlay::Copy),
];
const OVERFLOWS: &[(&str, Overflow)] = &[("kill", Overflow::Kill), ("discard", Overflow::Discard)];
const BOOLEANS: &[(&str, bool)] = &[("true", true), ("false", false)];
const ENFORCES: &[(&str, Enforce)] = &[
    ("strict", Enforce::Strict),
    ("best-effort", Enforce::BestEffort),
];

fn read_spec(path: &OsStr) -> Result<Spec, String> {
    let json = if path == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(|e| format!("standard input: {e}"))
    } else {
        String::from_utf8(read(path)?).map_err(|_| format!("`{}` is not UTF-8", path.display()))
    }?;
    Spec::from_json(&json).map_err(plain)
}

/// `NAME=VALUE`, or `NAME` for the value it has here. Like Docker, a name that is not set here is left out.
fn set_env(spec: &mut Spec, variable: &[u8]) -> Result<(), String> {
    let equals = variable.iter().position(|byte| *byte == b'=');
    let (name, value) = match equals {
        Some(0) => return Err(format!("`{}` has no name", variable.escape_ascii())),
        Some(at) => (&variable[..at], variable[at + 1..].to_vec()),
        None => match std::env::var_os(OsStr::from_bytes(variable)) {
            Some(value) => (variable, value.as_bytes().to_vec()),
            None => return Ok(()),
        },
    };
    spec.env.insert(Bytes::from(name), Bytes(value));
    Ok(())
}

/// `NAME=LIMIT` or `NAME=SOFT:HARD` with both the same.
fn ulimit(spec: &mut Spec, value: &str) -> Result<(), String> {
    let (name, limit) = pair(value)?;
    let limit = match limit.split_once(':') {
        Some((soft, hard)) if soft == hard => soft,
        Some(_) => {
            return Err(format!(
                "`{value}`: the soft and the hard limit must be the same"
            ));
        }
        None => &limit,
    };
    match name.as_str() {
        "nofile" => spec.open_files = Some(number(limit)?),
        "fsize" => spec.file_size = Some(parse_size(limit).map_err(plain)?),
        "stack" => spec.stack = Some(parse_size(limit).map_err(plain)?),
        "cpu" => return Err("use --cpu-time, which counts the whole tree of processes".into()),
        "nproc" => {
            return Err("use --pids-limit, which counts the sandbox and not the user".into());
        }
        "as" | "data" | "rss" => return Err("use --memory, which counts the whole sandbox".into()),
        _ => {
            return Err(format!(
                "unknown limit `{name}`; there are nofile, fsize and stack"
            ));
        }
    }
    Ok(())
}

fn raw(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    parser.value().map_err(|_| "a value is missing".into())
}

/// A profile's name, or the file that it is in.
fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "default" | "strict" => text.parse().map_err(plain),
        file => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
            text.parse().map_err(|e| format!("{file}: {}", plain(e)))
        }
    }
}

/// Docker's flag, as far as there is something to be chosen.
fn security_option(text: &str) -> Result<Option<Profile>, String> {
    match text.split_once(['=', ':']) {
        Some(("seccomp", "unconfined")) => {
            Err("no sandbox is without a profile; one can allow what is missing".into())
        }
        Some(("seccomp", "builtin")) => Ok(Some(Profile::Default)),
        Some(("seccomp", file)) => profile(file).map(Some),
        // As every sandbox has it.
        Some(("no-new-privileges", "true")) => Ok(None),
        _ if text == "no-new-privileges" => Ok(None),
        _ => Err(format!(
            "`{text}`: there is only `seccomp=` a profile's name or file"
        )),
    }
}

fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    raw(parser)?
        .into_string()
        .map_err(|value| format!("`{}` is not UTF-8", value.display()))
}

fn parsed<T: std::str::FromStr<Err = stockade::Error>>(
    parser: &mut lexopt::Parser,
) -> Result<T, String> {
    text(parser)?.parse().map_err(plain)
}

fn size(parser: &mut lexopt::Parser) -> Result<u64, String> {
    parse_size(&text(parser)?).map_err(plain)
}

/// A duration with a unit, or a plain number of seconds as `timeout` and JSON have it.
fn duration(parser: &mut lexopt::Parser) -> Result<Duration, String> {
    let text = text(parser)?;
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return parse_duration(&format!("{text}s")).map_err(plain);
    }
    parse_duration(&text).map_err(plain)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

fn fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number"))
}

fn word<T: Copy>(parser: &mut lexopt::Parser, words: &[(&str, T)]) -> Result<T, String> {
    let text = text(parser)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("`{text}` is none of {}", known.join(", "))
        })
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(left, right)| (left.into(), right.into()))
        .ok_or_else(|| format!("`{text}` has no `=`"))
}

fn read(path: &OsStr) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("`{}`: {e}", path.display()))
}

fn plain(error: stockade::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Run, String> {
        match parse(args.iter().map(OsString::from).collect())? {
            Parsed::Run(run) => Ok(*run),
            Parsed::Help => Err("help".into()),
        }
    }

    #[test]
    fn dockers_words_and_our_own_mean_the_same() {
        let docker = [
            "-m",
            "256m",
            "--pids-limit=32",
            "-w",
            "/tmp",
            "--ulimit",
            "nofile=64:64",
            "--ulimit",
            "fsize=1m",
            "--storage-opt",
            "size=8m",
            "--network=loopback",
            "--rm",
            "--timeout",
            "2",
            "--",
            "prog",
            "-m",
        ];
        let own = [
            "--memory",
            "256m",
            "--pids",
            "32",
            "--cwd=/tmp",
            "--open-files",
            "64",
            "--file-size",
            "1m",
            "--disk",
            "8m",
            "--net",
            "loopback",
            "--wall-time",
            "2000ms",
            "prog",
            "-m",
        ];
        let docker = run(&docker).unwrap().spec;
        assert_eq!(docker, run(&own).unwrap().spec);
        let expected = Spec::new(["prog", "-m"])
            .memory(256 << 20)
            .pids(32)
            .cwd("/tmp")
            .open_files(64)
            .file_size(1 << 20)
            .disk(8 << 20)
            .network(Network::Loopback)
            .wall_time(Duration::from_secs(2));
        assert_eq!(docker, expected);
    }

    #[test]
    fn the_environment_is_only_what_is_named() {
        let spec = run(&["-eA=1=2", "-e", "STOCKADE_TEST_UNSET", "p"])
            .unwrap()
            .spec;
        assert_eq!(spec, Spec::new(["p"]).env("A", "1=2"));
        assert!(run(&["-e", "=x", "p"]).unwrap_err().starts_with("-e: "));
    }

    #[test]
    fn mistakes_are_named() {
        for (args, why) in [
            (&["--memroy", "1m", "p"][..], "--memroy: unknown flag"),
            (&["-m", "1x", "p"], "-m: `1x`"),
            (&["-m"], "-m: a value is missing"),
            (
                &["--isolation", "none", "p"],
                "--isolation: `none` is none of namespaces, restrict",
            ),
            (
                &["--network", "bridge", "p"],
                "--network: `bridge` is none of none, loopback, host",
            ),
            (&["--ulimit", "nproc=3", "p"], "--ulimit: use --pids-limit"),
            (
                &["--ulimit", "nofile=3:4", "p"],
                "--ulimit: `nofile=3:4`: the soft and the hard",
            ),
            (&["-t", "p"], "-t: a sandbox has no terminal"),
            (&["-v", "a:b", "p"], "-v: volume `a:b`"),
            (&["-m", "1m"], "no program given"),
            (&["--collect", "x", "p"], "files to collect need --json"),
            (&["--json=x", "p"], "unexpected argument"),
            (&["--commit", "x:1", "p"], "give --image"),
            (
                &["--image", "x", "--change", "CMD x", "p"],
                "go with --commit",
            ),
            (
                &["-m", "1m", "--spec", "x", "p"],
                "--spec: must come before",
            ),
        ] {
            let said = run(args).unwrap_err();
            assert!(said.contains(why), "{args:?}: {said}");
        }
    }

    #[test]
    fn a_specification_comes_first_and_flags_change_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"args": ["a"], "memory": "1m", "pids": 3}"#).unwrap();
        let path = file.path().to_str().unwrap();
        let spec = run(&["--spec", path, "-m", "2m"]).unwrap().spec;
        assert_eq!(spec, Spec::new(["a"]).memory(2 << 20).pids(3));
        let spec = run(&["--spec", path, "b", "c"]).unwrap().spec;
        assert_eq!(spec, Spec::new(["b", "c"]).memory(1 << 20).pids(3));
        std::fs::write(file.path(), r#"{"memroy": 1}"#).unwrap();
        assert!(run(&["--spec", path, "b"]).unwrap_err().contains("memroy"));
    }
}
