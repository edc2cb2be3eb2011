//! `WWW-Authenticate`: what a registry wants to see.

/// One of the ways that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The challenges in the values of the header that are understood. Schemes and names of parameters are in any case,
/// values are words or quoted strings, and challenges are separated by the same commas as their parameters.
pub(super) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in values {
        let mut rest = value;
        let mut scheme: Option<(String, Vec<(String, String)>)> = None;
        loop {
            rest = rest.trim_start_matches([',', ' ', '\t']);
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                // The end, or nothing that can be read any further.
                break;
            }
            match after.trim_start().strip_prefix('=') {
                Some(after) => {
                    let (text, after) = self::value(after.trim_start());
                    if let Some((_, parameters)) = &mut scheme {
                        parameters.push((word.to_ascii_lowercase(), text));
                    }
                    rest = after;
                }
                None => {
                    found.extend(scheme.take().and_then(challenge));
                    scheme = Some((word.to_ascii_lowercase(), Vec::new()));
                    rest = after;
                }
            }
        }
        found.extend(scheme.and_then(challenge));
    }
    found
}

/// The word or quoted string that `text` begins with, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].into(), &text[end..]);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

fn challenge((scheme, mut parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let mut take = |name: &str| {
        let at = parameters.iter().position(|(own, _)| own == name)?;
        Some(parameters.swap_remove(at).1).filter(|text| !text.is_empty())
    };
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: take("realm")?,
            service: take("service"),
            scope: take("scope"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn as_registries_write_them() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let whole = bearer(
            "https://auth.example/token",
            Some("registry.example"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(parse([text]), std::slice::from_ref(&whole));
        assert_eq!(
            parse([r#"Basic realm="Registry Realm""#]),
            [Challenge::Basic]
        );
        assert_eq!(parse(["BASIC"]), [Challenge::Basic]);
        let both = format!("Negotiate, {text}, basic realm=x");
        assert_eq!(parse([&*both]), [whole.clone(), Challenge::Basic]);
        assert_eq!(parse(["Basic realm=x", text]), [Challenge::Basic, whole]);
        assert_eq!(
            parse([r#"bearer  Realm = "a \"b\" \\c" , scope="""#]),
            [bearer(r#"a "b" \c"#, None, None)]
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_challenge() {
        for text in [
            "",
            ",,,",
            "=",
            "Bearer",
            "Bearer service=x",
            "Digest realm=x",
            "\"",
            "realm=x",
            "Bearer =x",
            "Bearer realm=\"\"",
            "ä ö",
        ] {
            assert_eq!(parse([text]), [], "{text}");
        }
        assert_eq!(parse(["Bearer realm=\"open"]), [bearer("open", None, None)]);
        assert_eq!(
            parse(["Bearer realm=\"open\\"]),
            [bearer("open", None, None)]
        );
    }
}
