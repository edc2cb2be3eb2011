//! A Stockadefile: a Dockerfile with one stage, of which what is not known is refused.

use super::super::step::Step;
use super::super::words::{Variables, split, whole};
use super::{Item, What};
use crate::error::Error;
use std::collections::BTreeMap;

/// What a file says.
pub(super) struct Read {
    /// `None` for `scratch`.
    pub base: Option<String>,
    pub items: Vec<Item>,
    /// The arguments that are declared before FROM, with their values.
    pub early: BTreeMap<String, Option<String>>,
}

/// Reads the file called `name`, with these build arguments.
pub(super) fn read(name: &str, text: &str, args: &BTreeMap<String, String>) -> Result<Read, Error> {
    let mut base = None;
    let mut items = Vec::new();
    let mut early: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (number, line) in lines(name, text)? {
        let place = format!("{name}:{number}");
        let about = |e: Error| Error::invalid(format!("{place}: {e}"));
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        if base.is_none() && word.eq_ignore_ascii_case("FROM") {
            let value = |name: &str| early.get(name).cloned().flatten();
            base = Some(from(rest, &value).map_err(about)?);
            continue;
        }
        // Whether it can be understood is said before anything is run.
        let known = |_: &str| Some("x".to_string());
        let step = Step::parse(&line, &known).map_err(about)?;
        if base.is_some() {
            items.push(Item {
                place,
                text: line.clone(),
                what: What::Line(line),
            });
            continue;
        }
        match step {
            Step::Arg(_) => {
                let text =
                    whole(rest, &|name| early.get(name).cloned().flatten()).map_err(about)?;
                let (key, default) = match text.split_once('=') {
                    Some((key, value)) => (key.to_string(), Some(value.to_string())),
                    None => (text, None),
                };
                let value = args.get(&key).cloned().or(default);
                early.insert(key, value);
            }
            _ => return Err(about(Error::invalid("the first instruction is FROM IMAGE"))),
        }
    }
    let Some(base) = base else {
        return Err(Error::invalid(format!("{name}: it has no FROM IMAGE")));
    };
    Ok(Read {
        base: (base != "scratch").then_some(base),
        items,
        early,
    })
}

fn from(rest: &str, variables: &Variables<'_>) -> Result<String, Error> {
    let words = split(rest, variables)?;
    match words.as_slice() {
        [image] if !image.starts_with("--") && !image.is_empty() => Ok(image.clone()),
        [image, word, _] if word.eq_ignore_ascii_case("as") && !image.starts_with("--") => {
            Ok(image.clone())
        }
        _ => Err(Error::invalid("it is FROM IMAGE [AS NAME]")),
    }
}

/// The lines of a file that say something, with the numbers at which they begin; those that a `\` continues in one.
fn lines(name: &str, text: &str) -> Result<Vec<(usize, String)>, Error> {
    let mut all = Vec::new();
    let mut current: Option<(usize, String)> = None;
    for (n, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            let directive = comment.trim().to_ascii_lowercase().replace(' ', "");
            if directive.starts_with("escape=") && directive != "escape=\\" {
                return Err(Error::invalid(format!(
                    "{name}:{}: lines are continued by `\\` only",
                    n + 1
                )));
            }
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let (part, goes_on) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line.trim_end(), false),
        };
        match &mut current {
            Some((_, whole)) => whole.push_str(part),
            None => current = Some((n + 1, part.trim_start().to_string())),
        }
        if !goes_on {
            all.extend(current.take());
        }
    }
    all.extend(current);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        read("F", text, &BTreeMap::new())
            .map(drop)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_file_is_read() {
        let args = BTreeMap::from([("TAG".to_string(), "2".to_string())]);
        let text = "# syntax=docker/dockerfile:1\nARG TAG=1\nFROM base:$TAG AS x\n\nRUN a && \\\n  # why\n\n  b\nENV A=1 \\\n B=2\n";
        let read = read("F", text, &args).unwrap();
        assert_eq!(read.base.as_deref(), Some("base:2"));
        assert_eq!(read.early["TAG"].as_deref(), Some("2"));
        let items: Vec<_> = read
            .items
            .iter()
            .map(|item| (item.place.as_str(), item.text.as_str()))
            .collect();
        assert_eq!(items, [("F:5", "RUN a &&   b"), ("F:9", "ENV A=1  B=2")]);
        assert_eq!(super::read("F", "FROM scratch", &args).unwrap().base, None);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (text, why) in [
            ("", "F: it has no FROM"),
            ("RUN x\n", "F:1: the first instruction is FROM"),
            ("FROM a\n\nADD x y\n", "F:3: `ADD`: no such instruction"),
            ("FROM a\nFROM b\n", "F:2: FROM comes once"),
            ("FROM --platform=x a", "F:1: it is FROM IMAGE"),
            ("FROM a\nCOPY --from=b x y", "F:2: COPY: `--from=b`"),
            ("FROM a\nRUN --mount=type=cache x", "F:2: RUN: flags"),
            ("FROM a\nRUN <<EOF\nx\nEOF\n", "F:2: RUN: flags"),
            ("FROM a\nHEALTHCHECK NONE", "F:2: `HEALTHCHECK`"),
            ("# escape=`\nFROM a", "F:1: lines are continued"),
            ("FROM a\nENV A=\"x", "F:2: ENV: a `\"` is not closed"),
        ] {
            let said = said(text);
            assert!(said.starts_with(why), "{text}: {said}");
        }
    }
}
