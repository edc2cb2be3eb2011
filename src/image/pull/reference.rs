//! What is to be pulled, in Docker's grammar: `[registry[:port]/]repository[:tag][@digest]`.

use crate::error::Error;
use crate::image::{Digest, name};

/// Docker's own registry, which is meant where none is named.
const DOCKER: &str = "docker.io";
/// Where that answers.
const DOCKER_HOST: &str = "registry-1.docker.io";
/// Where the images of nobody's name are kept there.
const LIBRARY: &str = "library/";

/// The name of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// `host[:port]` as it is written in names.
    pub registry: String,
    /// The path of the repository in it.
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Reference, Error> {
        let refuse = |why: &str| {
            Error::invalid(format!(
                "`{}` is no name of an image in a registry: {why}",
                text.escape_debug()
            ))
        };
        if text.contains("://") {
            return Err(refuse(
                "it has no scheme; give [REGISTRY/]NAME[:TAG][@DIGEST]",
            ));
        }
        let (before, digest) = match text.split_once('@') {
            Some((before, digest)) => (
                before,
                Some(Digest::parse(digest).map_err(Error::into_invalid)?),
            ),
            None => (text, None),
        };
        let (repository, tag) = name::split(before);
        // Without a dot or a port it is no host, but somebody's name at Docker's.
        let (registry, path) = match repository.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DOCKER, repository),
        };
        let registry = match registry {
            "index.docker.io" => DOCKER,
            registry => registry,
        };
        let path = match registry == DOCKER && !path.contains('/') {
            true => format!("{LIBRARY}{path}"),
            false => path.to_string(),
        };
        check_host(registry).map_err(refuse)?;
        // What is allowed in a name is allowed in a URL, and no part of it can be `..`.
        name::parse(&match tag {
            Some(tag) => format!("{registry}/{path}:{tag}"),
            None => format!("{registry}/{path}"),
        })?;
        if path.bytes().any(|b| b.is_ascii_uppercase() || b == b':') {
            return Err(refuse("a repository is of a-z, 0-9, `.`, `_`, `-` and `/`"));
        }
        Ok(Reference {
            registry: registry.into(),
            path,
            tag: match (&digest, tag) {
                // As with `docker pull`: a digest says all.
                (Some(_), _) => None,
                (None, tag) => Some(tag.unwrap_or("latest").into()),
            },
            digest,
        })
    }

    /// What the registry calls it: a tag or a digest.
    pub fn what(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => unreachable!("it has one or the other"),
        }
    }

    /// Its whole name, as the store keeps it.
    pub fn name(&self) -> String {
        let Reference { registry, path, .. } = self;
        match &self.digest {
            Some(digest) => format!("{registry}/{path}@{digest}"),
            None => format!("{registry}/{path}:{}", self.what()),
        }
    }

    /// The same as `docker save` writes it, if that is another.
    pub fn short(&self) -> Option<String> {
        let own = self.name();
        let short = own.strip_prefix(DOCKER)?.strip_prefix('/')?;
        Some(short.strip_prefix(LIBRARY).unwrap_or(short).into())
    }
}

/// The host that answers for `registry`.
pub(super) fn host_of(registry: &str) -> &str {
    match registry {
        DOCKER => DOCKER_HOST,
        other => other,
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Refuses what is no `host[:port]`.
pub(super) fn check_host(text: &str) -> Result<(), &'static str> {
    let (host, port) = text
        .split_once(':')
        .map_or((text, None), |(h, p)| (h, Some(p)));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        return Err("a registry is a host, or host:port");
    }
    match port {
        Some(port) if port.bytes().any(|b| !b.is_ascii_digit()) || port.parse::<u16>().is_err() => {
            Err("the registry's port is no number up to 65535")
        }
        _ => Ok(()),
    }
}

/// Whether `host[:port]` is this machine, by what it is called.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => return v6.starts_with("::1]"),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.to_ascii_lowercase();
    let v4: Option<std::net::Ipv4Addr> = host.parse().ok();
    host == "localhost" || host.ends_with(".localhost") || v4.is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_reads_them() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let by_digest = format!("busybox@sha256:{hex}");
        for (text, registry, path, what) in [
            ("busybox", "docker.io", "library/busybox", "latest"),
            ("busybox:1.36", "docker.io", "library/busybox", "1.36"),
            (
                "docker.io/busybox",
                "docker.io",
                "library/busybox",
                "latest",
            ),
            ("index.docker.io/a/b:c", "docker.io", "a/b", "c"),
            ("me/tool", "docker.io", "me/tool", "latest"),
            ("localhost/x", "localhost", "x", "latest"),
            ("localhost:5000/x:1", "localhost:5000", "x", "1"),
            ("host.example/a/b/c", "host.example", "a/b/c", "latest"),
            (&by_digest, "docker.io", "library/busybox", &by_digest[8..]),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.registry, registry, "{text}");
            assert_eq!((&*reference.path, reference.what()), (path, what), "{text}");
        }
        let both = Reference::parse(&format!("busybox:1.36@sha256:{hex}")).unwrap();
        assert_eq!(
            both.name(),
            format!("docker.io/library/busybox@sha256:{hex}")
        );
        for bad in [
            "",
            "docker://busybox",
            "https://host.example/x",
            "host.example/",
            "host.example/X",
            "host.example:port/x",
            "host.example:70000/x",
            "host.example/a/../b",
            "host.example/a b",
            "host.example/a?b",
            "host.example/a:b:c",
            "me@host.example/x",
            "busybox@sha256:12",
            "busybox@sha512:12",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_in_the_store() {
        let name = |text| {
            let reference = Reference::parse(text).unwrap();
            (reference.name(), reference.short())
        };
        assert_eq!(
            name("busybox"),
            (
                "docker.io/library/busybox:latest".into(),
                Some("busybox:latest".into())
            )
        );
        assert_eq!(
            name("me/x:1"),
            ("docker.io/me/x:1".into(), Some("me/x:1".into()))
        );
        assert_eq!(
            name("localhost:5000/x"),
            ("localhost:5000/x:latest".into(), None)
        );
    }

    #[test]
    fn this_machine() {
        for here in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.8.8.8:1",
            "a.localhost",
            "[::1]:5",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for there in [
            "localhost.example",
            "128.0.0.1",
            "127.0.0.1.example:80",
            "10.0.0.1",
            "[::2]",
        ] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
