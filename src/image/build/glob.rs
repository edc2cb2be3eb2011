//! Patterns of paths, as a `.dockerignore` and COPY have them.

use crate::error::Error;

/// Whether the name fits a pattern of `*`, `?`, `[a-z]`, `[^a-z]` and `\` before what is meant as it is.
pub(super) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    all_fit(pattern, name, |pattern| pattern.strip_prefix(b"*"), first)
}

/// What follows in the pattern behind what `byte` fits; `None` if it does not fit.
fn first<'p>(pattern: &'p [u8], byte: &u8) -> Option<&'p [u8]> {
    let (fits, rest) = match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', rest @ ..] => class(rest, *byte)?,
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (literal == byte, rest),
        [] => return None,
    };
    fits.then_some(rest)
}

/// Whether all of `text` fits a pattern in which `any` finds what stands for any number of items, and `one` what stands for
/// one. Where nothing fits, only what was last taken for any number is tried again with one item more, which is enough:
/// so it takes no more steps than the product of both lengths.
fn all_fit<'p, P, T>(
    mut pattern: &'p [P],
    text: &[T],
    any: impl Fn(&'p [P]) -> Option<&'p [P]>,
    one: impl Fn(&'p [P], &T) -> Option<&'p [P]>,
) -> bool {
    let mut at = 0;
    let mut again = None;
    loop {
        if let Some(rest) = any(pattern) {
            pattern = rest;
            again = Some((rest, at));
            continue;
        }
        if at == text.len() && pattern.is_empty() {
            return true;
        }
        if let Some(rest) = text.get(at).and_then(|item| one(pattern, item)) {
            pattern = rest;
            at += 1;
            continue;
        }
        match &mut again {
            Some((rest, from)) if *from < text.len() => {
                *from += 1;
                (pattern, at) = (*rest, *from);
            }
            _ => return false,
        }
    }
}

/// Whether `byte` is in the class whose text behind its bracket `pattern` begins with, and what follows; `None` if it does
/// not end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (not, mut rest) = match pattern {
        [b'^' | b'!', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (mut found, mut first) = (false, true);
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((found != not, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest = after;
            }
            [one, after @ ..] => {
                found |= *one == byte;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

/// Whether it is one pattern and not one name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// What a `.dockerignore` keeps out of a context.
#[derive(Debug, Default)]
pub(in crate::image) struct Ignore {
    /// Whether it is an exception, and the parts of the path.
    patterns: Vec<(bool, Vec<Vec<u8>>)>,
}

impl Ignore {
    pub fn parse(text: &str) -> Result<Ignore, Error> {
        let mut patterns = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (not, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let parts: Vec<Vec<u8>> = line
                .split('/')
                .filter(|part| !part.is_empty() && *part != ".")
                .map(|part| part.as_bytes().to_vec())
                .collect();
            if parts.iter().any(|part| part == b"..") {
                return Err(Error::invalid(format!(
                    ".dockerignore:{}: `{line}` leads out of the context",
                    n + 1
                )));
            }
            if !parts.is_empty() {
                patterns.push((not, parts));
            }
        }
        Ok(Ignore { patterns })
    }

    /// Whether the path, relative to the context, is kept out: the last pattern that it or a directory above it fits
    /// decides.
    pub fn hides(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty())
            .collect();
        let mut hidden = false;
        for (not, pattern) in &self.patterns {
            if hidden == *not && (1..=parts.len()).any(|n| path_fits(pattern, &parts[..n])) {
                hidden = !not;
            }
        }
        hidden
    }

    /// Whether what is below a hidden directory can be shown again.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|(not, _)| *not)
    }
}

/// A path and a pattern in which `**` is any number of directories.
fn path_fits(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    all_fit(
        pattern,
        path,
        |pattern| match pattern {
            [part, rest @ ..] if part == b"**" => Some(rest),
            _ => None,
        },
        |pattern, name| match pattern {
            [part, rest @ ..] if fits(part, name) => Some(rest),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("*.py", "a.py", true),
            ("*.py", "a.pyc", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("a*", "a", true),
            ("*", "", true),
            ("?", "", false),
            ("\\", "\\", true),
            ("", "", true),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    /// Which would take longer than anybody lives, if all ways were tried.
    #[test]
    fn many_stars_take_no_time() {
        let (pattern, name) = ("*a".repeat(60) + "b", "a".repeat(250));
        assert!(!fits(pattern.as_bytes(), name.as_bytes()));
        assert!(fits(pattern.as_bytes(), (name + "b").as_bytes()));
        let ignore = Ignore::parse(&("**/a/".repeat(40) + "b")).unwrap();
        let path = "a/".repeat(200);
        assert!(!ignore.hides(path.as_bytes()));
        assert!(ignore.hides((path + "b").as_bytes()));
    }

    #[test]
    fn a_dockerignore() {
        let ignore =
            Ignore::parse("# no\n*.log\n/build/\n**/cache\nsecret*\n!secret.pub\n\ndocs/**/x\n")
                .unwrap();
        for (path, hidden) in [
            ("a.log", true),
            ("sub/a.log", false),
            ("build", true),
            ("build/deep/file", true),
            ("cache", true),
            ("a/b/cache/x", true),
            ("secret.key", true),
            ("secret.pub", false),
            ("docs/x", true),
            ("docs/a/b/x", true),
            ("docs/y", false),
            ("", false),
        ] {
            assert_eq!(ignore.hides(path.as_bytes()), hidden, "{path}");
        }
        assert!(Ignore::parse("a/../../b").is_err());
    }
}
