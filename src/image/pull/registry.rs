//! A registry, or a mirror of one, as the distribution specification has it.

use super::credentials::Found;
use super::failure::{Again, Failure};
use super::http::{Http, Request, Response};
use super::reference::is_loopback;
use super::retry::after;
use super::sources::Steady;
use super::{challenge, token};
use crate::error::{Error, ErrorKind};
use serde::Deserialize;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::{Uri, header};

/// Longest body of an error that is looked at.
const ERROR_MAX: u64 = 64 << 10;
/// The codes of errors that the specification has. No other is shown: a hostile server could send anything.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TAG_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
];

/// A repository at one place.
pub(super) struct Source<'h> {
    pub http: &'h Http,
    /// `host[:port]` as it is called.
    pub name: String,
    /// `host[:port]` that answers.
    pub authority: String,
    /// The repository's path there.
    pub path: String,
    pub found: Found,
    /// The header `Authorization` that was last good.
    pub authorization: Mutex<Option<String>>,
    /// Whether it does not speak TLS, and need not.
    pub plain: AtomicBool,
    /// Whether it ever answered.
    pub answered: AtomicBool,
    /// Whether it is not to be asked again.
    pub dead: AtomicBool,
}

impl Source<'_> {
    /// Asks for `what` of the repository (`manifests/TAG`, `blobs/DIGEST`), from the byte `from` on. The answer has the
    /// status 200, 206 or 416.
    pub fn get(
        &self,
        what: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<(Response, String), Failure> {
        // One for a token that has become old, and one for what it is replaced by.
        let mut tries = 2;
        loop {
            let held = self.authorization();
            let request = Request {
                accept,
                from,
                authorization: held.as_deref(),
                form: None,
            };
            let answer = match self.http.send(&self.uri(what)?, request) {
                Ok(answer) => answer,
                Err(failure) => match self.without_tls(&failure) {
                    true => continue,
                    false => return Err(self.lost(failure)),
                },
            };
            self.answered.store(true, Ordering::Relaxed);
            let status = answer.response.status().as_u16();
            match status {
                200 | 206 | 416 => return Ok((answer.response, answer.host)),
                401 if answer.direct && tries > 0 => {
                    tries -= 1;
                    if !self.authorize(&answer.response, held)? {
                        return Err(self.wants_credentials());
                    }
                }
                401 if answer.direct => return Err(self.wants_credentials()),
                _ => return Err(self.refused(answer.response, &answer.host)),
            }
        }
    }

    fn uri(&self, what: &str) -> Result<Uri, Failure> {
        let scheme = match self.plain.load(Ordering::Relaxed) {
            true => "http",
            false => "https",
        };
        let text = format!("{scheme}://{}/v2/{}/{what}", self.authority, self.path);
        text.parse().map_err(|_| Failure {
            error: Error::invalid(format!("`{}` is no host", self.name)),
            again: Again::No,
        })
    }

    /// Whether to go on without TLS: allowed to this machine, or where nobody wants to know who answers.
    fn without_tls(&self, failure: &Failure) -> bool {
        let allowed = is_loopback(&self.authority) || !self.http.tls_verify;
        failure.again == Again::Plain
            && allowed
            && !self.answered.load(Ordering::Relaxed)
            && !self.plain.swap(true, Ordering::Relaxed)
    }

    /// What never answered is not asked again: it is more likely to be misspelt than to be back in a second.
    fn lost(&self, mut failure: Failure) -> Failure {
        if !self.answered.load(Ordering::Relaxed) {
            failure.again = Again::No;
            self.dead.store(true, Ordering::Relaxed);
        }
        failure
    }

    fn authorization(&self) -> Option<String> {
        self.authorization
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    /// Gets what the registry wants to see, unless somebody else has since `held` was sent. False if there is nothing.
    fn authorize(&self, response: &Response, held: Option<String>) -> Result<bool, Failure> {
        let mut current = self.authorization.lock().unwrap_or_else(|e| e.into_inner());
        if *current != held {
            return Ok(true);
        }
        let values = response.headers().get_all(header::WWW_AUTHENTICATE);
        let values = values.iter().filter_map(|value| value.to_str().ok());
        let challenges = challenge::parse(values);
        let scope = format!("repository:{}:pull", self.path);
        let credentials = self.found.credentials.as_ref();
        let new = token::answer(self.http, &self.authority, &challenges, &scope, credentials)?;
        let is_new = new.is_some() && new != held;
        *current = new;
        Ok(is_new)
    }

    fn wants_credentials(&self) -> Failure {
        let host = &self.name;
        let why = match (&self.found.credentials, &self.found.helper) {
            (Some(_), _) => {
                format!("`{host}` refuses the credentials that were given or found for it")
            }
            (None, Some(helper)) => format!(
                "`{host}` wants credentials: they are kept by the helper `{}`, which is not run; give a user and a password",
                helper.escape_debug()
            ),
            (None, None) => format!(
                "`{host}` wants credentials for `{}`, or has no such image: give a user and a password, or log in with \
                 `podman login` or `docker login`",
                self.path
            ),
        };
        Failure::new("auth", why, Again::No)
    }

    /// An answer that is none.
    fn refused(&self, response: Response, host: &str) -> Failure {
        let status = response.status().as_u16();
        let asked = response.headers().get(header::RETRY_AFTER);
        let asked = asked.and_then(|text| after(text.to_str().ok()?));
        let code = code(response, self.http.tcp.patience)
            .map(|code| format!(" ({code})"))
            .unwrap_or_default();
        let again = match status {
            408 | 429 | 500..=599 => Again::Later(asked),
            _ => Again::No,
        };
        let path = &self.path;
        let failure =
            |step, why: String| Failure::new(step, format!("`{host}` {why}{code}"), again);
        match (status, asked) {
            (404, _) => Failure {
                error: Error::new(
                    ErrorKind::NotFound,
                    format!("`{host}` has no such image or blob of `{path}`{code}"),
                ),
                again,
            },
            (401 | 403, _) => failure("auth", format!("does not allow `{path}` to be pulled")),
            (429, Some(asked)) => failure(
                "http",
                format!("asks to be left alone for {} s", asked.as_secs()),
            ),
            (429, None) => failure("http", "asks to be left alone".into()),
            _ => failure("http", format!("answers {status}")),
        }
    }
}

/// The code of the error that the body tells.
fn code(response: Response, patience: Duration) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
    }
    let mut json = Vec::new();
    let body = Steady::new(response.into_body().into_reader(), patience);
    body.take(ERROR_MAX).read_to_end(&mut json).ok()?;
    let said: Errors = serde_json::from_slice(&json).ok()?;
    let said = &said.errors.first()?.code;
    CODES.into_iter().find(|code| code == said)
}
