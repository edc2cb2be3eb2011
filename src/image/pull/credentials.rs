//! Credentials: those that the caller gives, or those that `docker login` or `podman login` has left in a file.

use crate::error::Error;
use crate::image::fs::shown;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest file that is read.
const FILE_MAX: u64 = 4 << 20;

/// What a registry knows somebody by. It is never shown, and sent to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token of OAuth 2, which a registry gives in place of a password.
    IdentityToken(String),
    /// A token as the registry itself takes it.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The value of the header `Authorization`, if it is a password.
    pub fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { user, password } => {
                let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {text}"))
            }
            _ => None,
        }
    }
}

/// What the files say about a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub credentials: Option<Credentials>,
    /// The program that has them, if they are not in a file. It is not run.
    pub helper: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// What is found for the repository `path` of `registry`: in `given`, or else in the files that podman and docker use,
/// the first that knows of the registry.
pub(super) fn find(given: Option<&Path>, registry: &str, path: &str) -> Result<Found, Error> {
    let mut helper = None;
    for (file, must) in files(given) {
        let Some(text) = read(&file, must)? else {
            continue;
        };
        let found = look(&text, registry, path)
            .map_err(|why| Error::invalid(format!("the credentials in {}: {why}", shown(&file))))?;
        if found.credentials.is_some() {
            return Ok(found);
        }
        helper = helper.or(found.helper);
    }
    Ok(Found {
        credentials: None,
        helper,
    })
}

/// The files to look in, and whether each must be there.
fn files(given: Option<&Path>) -> Vec<(PathBuf, bool)> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(given) = given {
        return vec![(given.into(), true)];
    }
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![(file, true)];
    }
    let home = variable("HOME");
    let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let podmans = "containers/auth.json";
    let all = [
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join(podmans)),
        variable("XDG_CONFIG_HOME")
            .or_else(|| in_home(".config"))
            .map(|dir| dir.join(podmans)),
        variable("DOCKER_CONFIG")
            .or_else(|| in_home(".docker"))
            .map(|dir| dir.join("config.json")),
    ];
    all.into_iter()
        .flatten()
        .map(|file| (file, false))
        .collect()
}

fn read(file: &Path, must: bool) -> Result<Option<String>, Error> {
    let mut text = String::new();
    // Nobody waits for a FIFO that was not asked for.
    let flags = if must { 0 } else { libc::O_NONBLOCK };
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_NOCTTY)
        .open(file);
    match opened.and_then(|opened| opened.take(FILE_MAX).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(_) if !must => Ok(None),
        Err(e) => Err(
            Error::system(format_args!("read the credentials in {}", shown(file)), e)
                .into_invalid(),
        ),
    }
}

/// What one file says. An error never quotes it.
fn look(text: &str, registry: &str, path: &str) -> Result<Found, String> {
    // `/dev/null` is a file without credentials.
    if text.trim().is_empty() {
        return Ok(Found::default());
    }
    let file: File = serde_json::from_str(text)
        .map_err(|e| format!("not the JSON that it should be (line {})", e.line()))?;
    // Podman's keys may be of a part of the registry: the longest holds.
    let mut keys = vec![format!("{registry}/{path}")];
    while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
        keys.push(shorter.into());
    }
    let entry = keys.iter().find_map(|key| file.auths.get(key)).or_else(|| {
        // Docker's may be URLs of old.
        let docker = ["index.docker.io", "registry-1.docker.io"];
        let same = |key: &str| {
            let bare = key
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            let host = bare.split('/').next().unwrap_or_default();
            let old = key != bare || ["v1", "v1/", "v2", "v2/"].iter().any(|v| bare.ends_with(v));
            (old && host == registry) || (registry == "docker.io" && docker.contains(&host))
        };
        file.auths
            .iter()
            .find(|(key, _)| same(key))
            .map(|(_, entry)| entry)
    });
    let credentials = match entry {
        Some(entry) => entry.clone().credentials()?,
        None => None,
    };
    let helper = file.cred_helpers.get(registry).cloned();
    let store = Some(file.creds_store).filter(|name| !name.is_empty());
    Ok(Found {
        helper: helper.or(store).filter(|_| credentials.is_none()),
        credentials,
    })
}

impl Entry {
    fn credentials(self) -> Result<Option<Credentials>, String> {
        let (mut user, mut password) = (self.username, self.password);
        if !self.auth.is_empty() {
            let damaged = || "an `auth` is not base64 of USER:PASSWORD".to_string();
            let text = BASE64_STANDARD
                .decode(self.auth.trim())
                .map_err(|_| damaged())?;
            let text = String::from_utf8(text).map_err(|_| damaged())?;
            let (own, secret) = text.split_once(':').ok_or_else(damaged)?;
            // Docker pads some with NULs.
            (user, password) = (own.into(), secret.trim_end_matches('\0').into());
        }
        Ok(if !self.identitytoken.is_empty() {
            Some(Credentials::IdentityToken(self.identitytoken))
        } else if !self.registrytoken.is_empty() {
            Some(Credentials::RegistryToken(self.registrytoken))
        } else if !user.is_empty() {
            Some(Credentials::Password { user, password })
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn in_the_files_of_docker_and_podman() {
        // "me:secret", "me:se:cret", "deep:down"
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"},
            "registry.example:5000": {"auth": "bWU6c2U6Y3JldA=="},
            "registry.example:5000/team/tools": {"auth": "ZGVlcDpkb3du"},
            "https://old.example/v1/": {"username": "u", "password": "p"},
            "token.example": {"auth": "bWU6c2VjcmV0", "identitytoken": "it"},
            "empty.example": {}
        }, "credHelpers": {"cloud.example": "cloud"}, "HttpHeaders": {"X": "y"}}"#;
        let found = |registry, path| look(text, registry, path).unwrap();
        assert_eq!(
            found("docker.io", "library/busybox").credentials,
            password("me", "secret")
        );
        assert_eq!(
            found("registry.example:5000", "x").credentials,
            password("me", "se:cret")
        );
        for below in ["team/tools", "team/tools/x"] {
            let deep = found("registry.example:5000", below);
            assert_eq!(deep.credentials, password("deep", "down"), "{below}");
        }
        let beside = found("registry.example:5000", "team/toolsmith");
        assert_eq!(beside.credentials, password("me", "se:cret"));
        assert_eq!(found("old.example", "x").credentials, password("u", "p"));
        let token = Some(Credentials::IdentityToken("it".into()));
        assert_eq!(found("token.example", "x").credentials, token);
        for none in [
            "empty.example",
            "registry.example",
            "example",
            "registry.example:500",
            "me.io",
        ] {
            assert_eq!(found(none, "x"), Found::default(), "{none}");
        }
        assert_eq!(found("cloud.example", "x").helper.as_deref(), Some("cloud"));
        let store = look(r#"{"credsStore": "desktop"}"#, "x.example", "x").unwrap();
        assert_eq!(store.helper.as_deref(), Some("desktop"));
        assert_eq!(look("", "x.example", "x").unwrap(), Found::default());
    }

    #[test]
    fn what_is_wrong_is_never_quoted() {
        for text in [
            r#"{"auths": {"x.example": {"auth": "secret"}}}"#,
            r#"{"auths": {"x.example": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"x.example": {"auth": 5, "password": "secret"}}}"#,
            r#"{"auths": "secret"}"#,
            "secret",
        ] {
            let error = look(text, "x.example", "x").unwrap_err();
            assert!(
                !error.contains("secret") && !error.contains("c2Vj"),
                "{error}"
            );
        }
        let shown = format!("{:?}", password("me", "secret").unwrap());
        assert!(
            !shown.contains("secret") && !shown.contains("me"),
            "{shown}"
        );
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let error = find(Some(Path::new("/nowhere/auth.json")), "x.example", "x").unwrap_err();
        assert!(error.to_string().contains("/nowhere/auth.json"), "{error}");
        let none = find(Some(Path::new("/dev/null")), "x.example", "x").unwrap();
        assert_eq!(none, Found::default());
    }
}
