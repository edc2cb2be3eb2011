//! Patterns of paths, as a `.dockerignore` and COPY have them.

use crate::error::Error;

/// Whether the name fits a pattern of `*`, `?`, `[a-z]`, `[^a-z]` and `\` before what is meant as it is.
pub(super) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
        ([b'?', rest @ ..], [_, after @ ..]) => fits(rest, after),
        ([b'[', rest @ ..], [byte, after @ ..]) => match class(rest, *byte) {
            Some((true, rest)) => fits(rest, after),
            _ => false,
        },
        ([b'\\', literal, rest @ ..], [byte, after @ ..]) => literal == byte && fits(rest, after),
        ([literal, rest @ ..], [byte, after @ ..]) => literal == byte && fits(rest, after),
        _ => false,
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
    match (pattern, path) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == b"**" => {
            (0..=path.len()).any(|n| path_fits(rest, &path[n..]))
        }
        ([part, rest @ ..], [name, after @ ..]) => fits(part, name) && path_fits(rest, after),
        _ => false,
    }
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
            ("", "", true),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
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
