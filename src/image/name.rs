//! Names of images: `repository:tag`.

use super::Digest;
use crate::error::Error;

/// The name that `text` is, with the tag that is meant if it has none.
pub(super) fn parse(text: &str) -> Result<String, Error> {
    let refuse = |why: &str| {
        Err(Error::invalid(format!(
            "`{}` is no name of an image: {why}",
            text.escape_debug()
        )))
    };
    let (repository, tag) = split(text);
    let tag = tag.unwrap_or("latest");
    if repository.is_empty() || repository.len() > 255 {
        return refuse("a repository has 1 to 255 characters");
    }
    // The first part may be a host and its port.
    for (i, part) in repository.split('/').enumerate() {
        let word = |part: &str| {
            let edges = [part.bytes().next(), part.bytes().last()];
            edges
                .iter()
                .all(|edge| edge.is_some_and(|b| b.is_ascii_alphanumeric()))
        };
        let allowed = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || b"._-".contains(&b)
                || i == 0 && (b == b':' || b.is_ascii_uppercase()) && repository.contains('/')
        };
        if !word(part) || !part.bytes().all(allowed) {
            return refuse("a repository is of a-z, 0-9, `.`, `_`, `-` and `/`");
        }
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match tag.as_bytes() {
        [b'.' | b'-', ..] | [] => return refuse("a tag begins with a letter, a digit or `_`"),
        tag if tag.len() > 128 || !tag.iter().all(|&b| allowed(b)) => {
            return refuse("a tag is of up to 128 letters, digits, `.`, `_` and `-`");
        }
        _ => {}
    }
    if repository.len() == 64
        && tag == "latest"
        && repository.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return refuse("it looks like an image's id");
    }
    // Else an archive could name its image with the id of another.
    if repository == "sha256" {
        return refuse("it looks like a digest");
    }
    Ok(format!("{repository}:{tag}"))
}

/// The name that `text` is where one is looked up: also `repository@digest`, by which an image can be pulled, and which
/// no image can be given.
pub(super) fn parse_known(text: &str) -> Result<String, Error> {
    let Some((before, digest)) = text.split_once('@') else {
        return parse(text);
    };
    let digest = Digest::parse(digest).map_err(Error::into_invalid)?;
    // As with docker, a tag beside a digest says nothing.
    parse(before)?;
    Ok(format!("{}@{digest}", split(before).0))
}

/// The repository, and the tag if there is one. A colon before a slash is a port's.
pub(super) fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// The start of an id that `text` is, as hexadecimal digits.
pub(super) fn id_prefix(text: &str) -> Option<&str> {
    if let Ok(digest) = Digest::parse(text) {
        return Some(&text[text.len() - digest.hex().len()..]);
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = hex
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (digits && (4..=64).contains(&hex.len())).then_some(hex)
}

/// Whether `short` is `long` without its first parts: `busybox:latest` for `localhost/busybox:latest`.
pub(super) fn is_end_of(short: &str, long: &str) -> bool {
    long.strip_suffix(short)
        .is_some_and(|before| before.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, name) in [
            ("busybox", "busybox:latest"),
            ("a/b-c/d_e.f:1.2-rc", "a/b-c/d_e.f:1.2-rc"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("Host.example:5000/x:y", "Host.example:5000/x:y"),
        ] {
            assert_eq!(parse(text).unwrap(), name);
        }
        let id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "A",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/../b",
            "a b",
            "a:b c",
            "a:-x",
            "a\n",
            "ä",
            id,
            "a:b:c",
            "sha256:e3b0c442",
            "sha256",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("sha256:{id}")).is_err());
        assert!(parse(&"a".repeat(256)).is_err());
        assert!(parse(&format!("a:{}", "b".repeat(129))).is_err());
    }

    #[test]
    fn by_digest() {
        let digest = Digest::of("");
        let name = format!("host.example:5000/x@{digest}");
        assert_eq!(parse_known(&name).unwrap(), name);
        let tagged = format!("host.example:5000/x:1@{digest}");
        assert_eq!(parse_known(&tagged).unwrap(), name);
        assert!(parse(&name).is_err());
        assert!(parse_known("x@sha256:12").is_err());
        assert!(parse_known(&format!("@{digest}")).is_err());
        assert!(is_end_of(
            &parse_known(&format!("x@{digest}")).unwrap(),
            &name
        ));
    }

    #[test]
    fn ends_and_ids() {
        assert!(is_end_of("busybox:latest", "localhost/busybox:latest"));
        assert!(!is_end_of("box:latest", "localhost/busybox:latest"));
        assert!(!is_end_of("busybox:latest", "busybox:latest"));
        assert_eq!(id_prefix("abcd12"), Some("abcd12"));
        assert_eq!(id_prefix("sha256:abcd12"), Some("abcd12"));
        assert_eq!(id_prefix("busybox"), None);
        assert_eq!(id_prefix("abc"), None);
    }
}
