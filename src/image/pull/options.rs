//! How to pull.

use super::credentials::Credentials;
use crate::image::LoadLimits;
use crate::image::read::Watch;
use std::path::PathBuf;
use std::time::Duration;

/// How to pull an image from a registry.
///
/// ```no_run
/// use stockade::image::{Pull, Store};
///
/// # fn main() -> Result<(), stockade::Error> {
/// let store = Store::open(None)?;
/// let image = store.pull("debian:12", Pull::default().mirror("mirror.example"))?;
/// println!("{} {}", image.digest, image.names.join(" "));
/// # Ok(())
/// # }
/// ```
///
/// Unless they are given, credentials are those of the first file that has some for the registry: `$REGISTRY_AUTH_FILE`
/// alone if that is set, else `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json` and
/// `~/.docker/config.json`. The programs (credential helpers) that these may name are not run. Proxies are those of the
/// environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
#[derive(Default)]
pub struct Pull<'a> {
    pub(crate) settings: Settings,
    pub(super) progress: Option<&'a mut Watch<'a>>,
}

/// All of it that is a plain value.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) platform: Option<String>,
    pub(super) credentials: Option<Credentials>,
    pub(super) auth_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) tls_verify: bool,
    pub(super) mirrors: Vec<String>,
    pub(super) max_concurrent_downloads: usize,
    pub(super) retry: u32,
    pub(super) timeout: Duration,
    pub(super) limits: LoadLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            platform: None,
            credentials: None,
            auth_file: None,
            ca_file: None,
            tls_verify: true,
            mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            retry: 3,
            timeout: Duration::from_secs(30),
            limits: LoadLimits::default(),
        }
    }
}

impl Pull<'_> {
    /// The platform to choose where there are several, as `os/architecture[/variant]` (default: this machine's).
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.settings.platform = Some(platform.into());
        self
    }

    /// A user of the registry and the password, which may be a token that takes its place. They are sent to the
    /// registry, or to the server of tokens that it names, and not to mirrors, nor where a request is redirected to.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.credentials = Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// An identity token (OAuth 2's refresh token) in place of a user and a password.
    pub fn identity_token(mut self, token: impl Into<String>) -> Self {
        self.settings.credentials = Some(Credentials::IdentityToken(token.into()));
        self
    }

    /// The file with credentials, in place of those that are looked for: as `podman login` and `docker login` write it.
    /// It must be there; `/dev/null` is one without any.
    pub fn auth_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.auth_file = Some(path.into());
        self
    }

    /// A file of certificates (PEM) of authorities to trust, beside the system's (or those that `SSL_CERT_FILE` names).
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.ca_file = Some(path.into());
        self
    }

    /// Whether a registry must prove who it is (default: yes). If not, its certificate may be anybody's, and it may go
    /// without TLS, so that whoever is between can read the credentials and send another image. To this machine
    /// (`localhost`, `127.0.0.0/8`) a registry may go without TLS anyway.
    pub fn tls_verify(mut self, verify: bool) -> Self {
        self.settings.tls_verify = verify;
        self
    }

    /// One more mirror of the registry, `host[:port][/path]`, to be asked before it. What is had by its digest is the
    /// same from everywhere; which digest a tag has is the word of the first that knows the tag.
    pub fn mirror(mut self, location: impl Into<String>) -> Self {
        self.settings.mirrors.push(location.into());
        self
    }

    /// Layers that are downloaded at the same time (default 3, at least 1, at most 16).
    pub fn max_concurrent_downloads(mut self, count: usize) -> Self {
        self.settings.max_concurrent_downloads = count.clamp(1, 16);
        self
    }

    /// How often a request that failed is made again (default 3): after a connection was lost or a server was in
    /// trouble or busy, and anew for each MiB that was gained. The waits grow from a quarter of a second; a server may
    /// ask for up to two minutes.
    pub fn retry(mut self, times: u32) -> Self {
        self.settings.retry = times;
        self
    }

    /// How long to wait for a connection, for an answer and for the next bytes of one, before the request counts as
    /// failed (default 30 s, at least 1 ms, at most an hour). Less than 1 KiB a second over that time is a failure too.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.settings.timeout = time.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        self
    }

    /// How much to read.
    pub fn limits(mut self, limits: LoadLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// What is told how far it is, some times a second, by the thread that called: of each layer that is downloaded
    /// (`download 2/5`), and of each that is unpacked then (`layer 2/5`); of `registry` before there is a layer to tell of.
    /// [`ControlFlow::Break`](std::ops::ControlFlow::Break) ends the call within a moment.
    pub fn progress<'b>(self, progress: &'b mut Watch<'b>) -> Pull<'b> {
        Pull {
            settings: self.settings,
            progress: Some(progress),
        }
    }
}

impl From<Settings> for Pull<'_> {
    fn from(settings: Settings) -> Self {
        Pull {
            settings,
            progress: None,
        }
    }
}
