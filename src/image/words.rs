//! The words of an instruction, as a Dockerfile has them: quotes, backslashes, `$NAME` and `${NAME:-other}`.

use crate::error::Error;
use std::iter::Peekable;
use std::str::Chars;

/// What a variable is, if it is set.
pub(super) type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The words of `text`, split at white space outside quotes.
pub(super) fn split(text: &str, variables: &Variables<'_>) -> Result<Vec<String>, Error> {
    let mut lexer = Lexer::new(text, variables);
    let mut words = Vec::new();
    while let Some(word) = lexer.word(true)? {
        words.push(word);
    }
    Ok(words)
}

/// `text` as one word, white space included.
pub(super) fn whole(text: &str, variables: &Variables<'_>) -> Result<String, Error> {
    Ok(Lexer::new(text, variables).word(false)?.unwrap_or_default())
}

struct Lexer<'a> {
    left: Peekable<Chars<'a>>,
    variables: &'a Variables<'a>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, variables: &'a Variables<'a>) -> Self {
        Lexer {
            left: text.trim().chars().peekable(),
            variables,
        }
    }

    fn word(&mut self, split: bool) -> Result<Option<String>, Error> {
        while self.left.next_if(|c| split && c.is_whitespace()).is_some() {}
        if self.left.peek().is_none() {
            return Ok(None);
        }
        let mut word = String::new();
        while let Some(c) = self.left.next() {
            match c {
                c if split && c.is_whitespace() => break,
                '\'' => loop {
                    match self.left.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(Error::invalid("a `'` is not closed")),
                    }
                },
                '"' => loop {
                    match self.left.next() {
                        Some('"') => break,
                        Some('$') => word.push_str(&self.variable()?),
                        Some('\\') => match self.left.next() {
                            Some(c @ ('"' | '$' | '\\')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(Error::invalid("a `\"` is not closed")),
                        },
                        Some(c) => word.push(c),
                        None => return Err(Error::invalid("a `\"` is not closed")),
                    }
                },
                '$' => word.push_str(&self.variable()?),
                '\\' => word.push(self.left.next().unwrap_or('\\')),
                c => word.push(c),
            }
        }
        Ok(Some(word))
    }

    /// What stands for the variable behind a `$`.
    fn variable(&mut self) -> Result<String, Error> {
        if self.left.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".into(),
                false => (self.variables)(&name).unwrap_or_default(),
            });
        }
        let name = self.name();
        let value = (self.variables)(&name);
        let set = value.as_ref().is_some_and(|value| !value.is_empty());
        let mut modifier = String::new();
        let mut depth = 1;
        for c in self.left.by_ref() {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 {
                break;
            }
            modifier.push(c);
        }
        if depth > 0 || name.is_empty() {
            return Err(Error::invalid(format!(
                "`${{{name}{modifier}`: it is not `${{NAME}}`"
            )));
        }
        let other = |text: &str| whole(text, self.variables);
        match modifier.split_at_checked(2) {
            _ if modifier.is_empty() => Ok(value.unwrap_or_default()),
            Some((":-", _)) if set => Ok(value.unwrap_or_default()),
            Some((":-", text)) => other(text),
            Some((":+", text)) if set => other(text),
            Some((":+", _)) => Ok(String::new()),
            _ => Err(Error::invalid(format!(
                "`${{{name}{modifier}}}`: of modifiers only `:-` and `:+` are known"
            ))),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.left.next_if(|&c| {
            c == '_' || c.is_ascii_alphabetic() || !name.is_empty() && c.is_ascii_digit()
        }) {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "A" => Some("one two".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn words() {
        for (text, words) in [
            ("", &[][..]),
            ("  a\tb  ", &["a", "b"]),
            (r#"A="x y" B='$A "' C=x\ y"#, &["A=x y", "B=$A \"", "C=x y"]),
            // What a variable holds is not split again.
            ("$A/b ${A}c", &["one two/b", "one twoc"]),
            (r#""$A" '$A' \$A "\$A""#, &["one two", "$A", "$A", "$A"]),
            (
                "x${NO:-${A}}y x${EMPTY:-d} x${A:-d}",
                &["xone twoy", "xd", "xone two"],
            ),
            ("x${A:+y} x${NO:+y} x${NO}", &["xy", "x", "x"]),
            (r"$ $1 a\", &["$", "$1", "a\\"]),
            (r#""a\n" """#, &["a\\n", ""]),
        ] {
            assert_eq!(split(text, &value).unwrap(), words, "{text}");
        }
        assert_eq!(whole(" a  $A ", &value).unwrap(), "a  one two");
    }

    #[test]
    fn what_is_no_word() {
        for text in ["'a", "\"a", "\"a\\", "${A", "${}", "${A:?x}", "${A#x}"] {
            assert!(split(text, &value).is_err(), "{text}");
        }
    }
}
