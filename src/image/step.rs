//! The steps that make an image from another, in the words of a Dockerfile, and what they change of its configuration.

use super::config::Config;
use super::words::{Variables, split, whole};
use crate::error::Error;
use crate::spec::File;
use crate::units::parse_signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One step of a [`Build`](super::Build). In JSON an object with one key, its name in small letters: `{"run": ["make"]}`,
/// `{"env": {"A": "b"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Runs a program in a sandbox; what it changes becomes a layer.
    Run(Command),
    /// Copies files and directories of the context: they become a layer.
    Copy(Copy),
    /// Makes files of what is given: path to content. A relative path is below the working directory.
    Files(BTreeMap<String, File>),
    /// Sets variables.
    Env(BTreeMap<String, String>),
    /// Sets labels.
    Label(BTreeMap<String, String>),
    /// Sets the working directory, which is made where it is missing; a relative one is below that before.
    Workdir(String),
    /// Sets the user, or `user:group`, by name or number.
    User(String),
    /// Sets the program if there is no entry point, else its arguments.
    Cmd(Command),
    /// Sets the program and its first arguments. An inherited [`Cmd`](Step::Cmd) means nothing any more.
    Entrypoint(Command),
    /// Adds ports, `80` or `53/udp`.
    Expose(Vec<String>),
    /// Adds directories whose contents are not part of the image once it runs.
    Volume(Vec<String>),
    /// Sets the signal that asks it to end: `SIGTERM`, `15`.
    Stopsignal(String),
    /// A variable of the build, with its value if it is given none: `NAME[=VALUE]`.
    Arg(String),
}

/// A program and its arguments; or a text, for `/bin/sh -c` of the image. In JSON an array, or a string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(untagged)]
pub enum Command {
    /// For the image's shell.
    Shell(String),
    /// As it is.
    Exec(Vec<String>),
}

impl Command {
    /// What is executed.
    pub fn args(&self) -> Vec<String> {
        match self {
            Command::Shell(text) => vec!["/bin/sh".into(), "-c".into(), text.clone()],
            Command::Exec(args) => args.clone(),
        }
    }
}

impl From<&str> for Command {
    fn from(text: &str) -> Self {
        Command::Shell(text.into())
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Command {
    fn from(args: [T; N]) -> Self {
        Command::Exec(args.map(Into::into).into())
    }
}

impl From<Vec<String>> for Command {
    fn from(args: Vec<String>) -> Self {
        Command::Exec(args)
    }
}

/// What [`Step::Copy`] copies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// Files and directories below the context; of a directory what is in it. In the last component `*`, `?` and `[...]`
    /// stand for what is there.
    pub sources: Vec<String>,
    /// Where to: a directory if it ends with `/`, is one in the image, or there are several sources. Relative to the
    /// working directory.
    pub to: String,
    /// To whom they belong: `user[:group]`, by name or number. Default: 0:0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chown: Option<String>,
    /// The permission bits of all of them, in octal digits. Default: their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chmod: Option<String>,
}

impl Step {
    /// The step that a line of a Dockerfile is, continued lines joined.
    pub(super) fn parse(line: &str, variables: &Variables<'_>) -> Result<Step, Error> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, rest) = (word.to_ascii_uppercase(), rest.trim());
        let known = match name.as_str() {
            "RUN" | "CMD" | "ENTRYPOINT" | "COPY" | "ENV" | "LABEL" | "WORKDIR" | "USER"
            | "EXPOSE" | "VOLUME" | "STOPSIGNAL" | "ARG" => true,
            "FROM" => {
                return Err(Error::invalid(
                    "FROM comes once, at the start: one stage is all there is",
                ));
            }
            _ => false,
        };
        if !known {
            return Err(Error::invalid(format!(
                "`{}`: no such instruction; there are FROM, RUN, COPY, ENV, LABEL, WORKDIR, USER, CMD, ENTRYPOINT, \
                 EXPOSE, VOLUME, STOPSIGNAL and ARG",
                word.escape_debug()
            )));
        }
        if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT") {
            return Err(Error::invalid(format!("{name}: it says nothing")));
        }
        let about = |error: Error| Error::invalid(format!("{name}: {error}"));
        let one = || whole(rest, variables).map_err(about);
        let all = || match json_array(rest) {
            Some(words) => words.iter().map(|word| whole(word, variables)).collect(),
            None => split(rest, variables),
        };
        Ok(match name.as_str() {
            "RUN" | "CMD" | "ENTRYPOINT" => {
                if name == "RUN" && (rest.starts_with("--") || rest.contains("<<")) {
                    return Err(Error::invalid(
                        "RUN: flags (`--mount`) and here-documents (`<<`) are not known; a `<<` of the shell's own \
                         can be written in the form RUN [\"/bin/sh\", \"-c\", \"...\"]",
                    ));
                }
                let command = match json_array(rest) {
                    Some(args) => Command::Exec(args),
                    None if rest.is_empty() => Command::Exec(Vec::new()),
                    None => Command::Shell(rest.into()),
                };
                match name.as_str() {
                    "RUN" => Step::Run(command),
                    "CMD" => Step::Cmd(command),
                    _ => Step::Entrypoint(command),
                }
            }
            "COPY" => Step::Copy(copy(rest, variables).map_err(about)?),
            "ENV" => Step::Env(pairs(rest, variables).map_err(about)?),
            "LABEL" => Step::Label(pairs(rest, variables).map_err(about)?),
            "WORKDIR" => Step::Workdir(one()?),
            "USER" => Step::User(one()?),
            "EXPOSE" => Step::Expose(all().map_err(about)?),
            "VOLUME" => Step::Volume(all().map_err(about)?),
            "STOPSIGNAL" => Step::Stopsignal(one()?),
            _ => Step::Arg(one()?),
        })
    }

    /// What it changes of a configuration; whether that is all it does.
    pub(super) fn apply(&self, config: &mut Config) -> Result<bool, Error> {
        match self {
            Step::Run(_) | Step::Copy(_) | Step::Files(_) => return Ok(false),
            Step::Arg(_) => {}
            Step::Env(variables) => {
                for (name, value) in variables {
                    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                        return Err(Error::invalid(format!(
                            "ENV: `{}` is no name",
                            name.escape_debug()
                        )));
                    }
                    let start = format!("{name}=");
                    let text = format!("{start}{value}");
                    match config.env.iter_mut().find(|old| old.starts_with(&start)) {
                        Some(old) => *old = text,
                        None => config.env.push(text),
                    }
                }
            }
            Step::Label(labels) => config.labels.extend(labels.clone()),
            Step::Workdir(dir) => {
                config.working_dir = below(&config.working_dir, dir);
                return Ok(false);
            }
            Step::User(user) => config.user = user.clone(),
            Step::Cmd(command) => config.cmd = command.args(),
            Step::Entrypoint(command) => {
                config.entrypoint = command.args();
                config.cmd.clear();
            }
            Step::Expose(ports) => {
                for port in ports {
                    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                    let whole = number
                        .split('-')
                        .all(|n| n.parse::<u16>().is_ok_and(|n| n > 0));
                    if !whole || !matches!(protocol, "tcp" | "udp" | "sctp") {
                        return Err(Error::invalid(format!(
                            "EXPOSE: `{}` is no port: such as 80, 53/udp or 7000-7009",
                            port.escape_debug()
                        )));
                    }
                    add(&mut config.exposed_ports, format!("{number}/{protocol}"));
                }
            }
            Step::Volume(directories) => {
                for dir in directories {
                    add(&mut config.volumes, dir.clone());
                }
            }
            Step::Stopsignal(signal) => {
                if parse_signal(signal).is_err() {
                    return Err(Error::invalid(format!(
                        "STOPSIGNAL: `{}` is no signal",
                        signal.escape_debug()
                    )));
                }
                config.stop_signal = signal.clone();
            }
        }
        Ok(true)
    }
}

impl Config {
    /// Changes it as an instruction of a Dockerfile does, which is what `docker commit --change` takes: `CMD`,
    /// `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for another instruction, or a bad one.
    pub fn change(&mut self, instruction: &str) -> Result<(), Error> {
        let about = |error: Error| {
            Error::invalid(format!("change: `{}`: {error}", instruction.escape_debug()))
        };
        let env = self.env.clone();
        let step = Step::parse(instruction, &|name| variable(&env, name)).map_err(about)?;
        if matches!(step, Step::Run(_) | Step::Copy(_) | Step::Arg(_)) {
            return Err(about(Error::invalid("it is for a build")));
        }
        step.apply(self).map(drop).map_err(about)
    }
}

/// What a variable is in a list of `NAME=VALUE`.
pub(super) fn variable(env: &[String], name: &str) -> Option<String> {
    let values = env.iter().filter_map(|text| text.split_once('='));
    values
        .rev()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.into())
}

/// A path of the image: `path`, below `dir` if it is relative. `/` if there is nothing.
pub(super) fn below(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let dir = if path.starts_with('/') { "" } else { dir };
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn add(list: &mut Vec<String>, new: String) {
    if !list.contains(&new) {
        list.push(new);
        list.sort();
    }
}

fn json_array(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

/// `NAME=VALUE ...`, or the old form `NAME VALUE`.
fn pairs(text: &str, variables: &Variables<'_>) -> Result<BTreeMap<String, String>, Error> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(BTreeMap::from([(name.into(), whole(value, variables)?)])),
            None => Err(Error::invalid(format!(
                "`{first}` has no value: NAME=VALUE"
            ))),
        };
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(Error::invalid(format!(
            "`{}` is not NAME=VALUE",
            word.escape_debug()
        ))),
    };
    split(text, variables)?.into_iter().map(pair).collect()
}

fn copy(text: &str, variables: &Variables<'_>) -> Result<Copy, Error> {
    let mut copy = Copy::default();
    let mut rest = text;
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let value = |value: &str| whole(value, variables).map(Some);
        match flag.split_once('=') {
            Some(("--chown", user)) => copy.chown = value(user)?,
            Some(("--chmod", mode)) => copy.chmod = value(mode)?,
            _ => {
                return Err(Error::invalid(format!(
                    "`{}`: of flags only --chown and --chmod are known",
                    flag.escape_debug()
                )));
            }
        }
        rest = after.trim_start();
    }
    let mut words = match json_array(rest) {
        Some(words) => words
            .iter()
            .map(|word| whole(word, variables))
            .collect::<Result<_, _>>()?,
        None => split(rest, variables)?,
    };
    copy.to = words.pop().unwrap_or_default();
    copy.sources = words;
    match copy.sources.is_empty() {
        true => Err(Error::invalid(
            "it takes sources and a place: COPY SOURCE... PLACE",
        )),
        false => Ok(copy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(config: &mut Config, instructions: &[&str]) {
        for instruction in instructions {
            config.change(instruction).unwrap();
        }
    }

    #[test]
    fn a_configuration_changes_as_with_docker() {
        let mut config = Config::default();
        changed(
            &mut config,
            &[
                "ENV A=1 B=\"two words\"",
                "env A=2",
                "ENV PATH /opt:$A",
                "LABEL a=b 'c d'=e",
                "WORKDIR /srv",
                "WORKDIR app",
                "USER web:adm",
                "EXPOSE 80 53/udp 80/tcp",
                "VOLUME [\"/data\"]",
                "VOLUME /x /data",
                "STOPSIGNAL SIGINT",
                "CMD [\"a\", \"$A\"]",
            ],
        );
        assert_eq!(config.env, ["A=2", "B=two words", "PATH=/opt:2"]);
        assert_eq!(config.labels.get("c d").unwrap(), "e");
        assert_eq!(config.working_dir, "/srv/app");
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes, ["/data", "/x"]);
        assert_eq!(
            (config.user.as_str(), config.stop_signal.as_str()),
            ("web:adm", "SIGINT")
        );
        assert_eq!(config.cmd, ["a", "$A"]);
        changed(&mut config, &["ENTRYPOINT exec me"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "exec me"]);
        assert_eq!(config.cmd, [""; 0], "it belonged to another program");
        changed(&mut config, &["ENTRYPOINT []", "CMD [ not json"]);
        assert_eq!(config.entrypoint, [""; 0]);
        assert_eq!(config.cmd, ["/bin/sh", "-c", "[ not json"]);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let mut config = Config::default();
        for text in [
            "",
            "RUN x",
            "COPY a b",
            "ARG x",
            "FROM x",
            "HEALTHCHECK NONE",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV A=1 B",
            "EXPOSE x",
            "EXPOSE 0",
            "EXPOSE 80/x",
            "STOPSIGNAL SIGNO",
            "STOPSIGNAL 65",
            "LABEL \"a",
            "CMD2 x",
        ] {
            let error = config.change(text).unwrap_err();
            assert!(error.to_string().starts_with("change: `"), "{error}");
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn paths() {
        for (dir, path, all) in [
            ("", "", "/"),
            ("/a", "b/../c/./d//", "/a/c/d"),
            ("/a", "/b", "/b"),
            ("a", "../../..", "/"),
        ] {
            assert_eq!(below(dir, path), all);
        }
    }
}
