//! What a request can end as in place of an answer, and whether it is worth another try.

use crate::error::{Error, ErrorKind};
use std::io;
use std::time::Duration;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: Error,
    pub again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would fail again.
    No,
    /// After a while, which the server may have named.
    Later(Option<Duration>),
    /// The host seems not to speak TLS; else as `Later`.
    Plain,
}

/// An error of the kind [`Registry`](ErrorKind::Registry).
pub(super) fn error(step: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Registry, message).with_step(step)
}

impl Failure {
    pub fn new(step: &'static str, message: impl Into<String>, again: Again) -> Failure {
        Failure {
            error: error(step, message),
            again,
        }
    }

    /// What became of the connection to `host`.
    pub fn of(host: &str, patience: Duration, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(error) => Failure::of_io(host, patience, error),
            ureq::Error::Rustls(error) => of_tls(host, &error),
            ureq::Error::Timeout(_) => silent(host, patience),
            ureq::Error::HostNotFound => {
                let why = format!("the host `{host}` is not found");
                Failure::new("connect", why, Again::Later(None))
            }
            ureq::Error::ConnectProxyFailed(why) => {
                let why = format!(
                    "the proxy does not connect to `{host}`: {}",
                    why.escape_debug()
                );
                Failure::new("proxy", why, Again::No)
            }
            ureq::Error::InvalidProxyUrl => {
                Failure::new("proxy", "the environment's proxy is no URL", Again::No)
            }
            ureq::Error::LargeResponseHeader(..) => Failure::new(
                "http",
                format!("the header of `{host}` is too long"),
                Again::No,
            ),
            // What others show may hold a URL, and that a signature.
            ureq::Error::Protocol(error) => {
                let why = format!("`{host}` does not speak HTTP as it should: {error}");
                Failure::new("http", why, Again::Later(None))
            }
            _ => Failure::new("http", format!("the request to `{host}` failed"), Again::No),
        }
    }

    /// What became of reading from `host`.
    pub fn of_io(host: &str, patience: Duration, error: io::Error) -> Failure {
        use io::ErrorKind as Kind;
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return of_tls(host, tls);
        }
        let errno = error.raw_os_error().unwrap_or(0);
        match error.kind() {
            Kind::TimedOut => silent(host, patience),
            // It is our own system that refuses.
            _ if [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].contains(&errno) => {
                Failure {
                    error: Error::system(format_args!("connect to `{host}`"), error),
                    again: Again::No,
                }
            }
            _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => Failure {
                error: *error
                    .into_inner()
                    .expect("looked at")
                    .downcast()
                    .expect("looked at"),
                again: Again::No,
            },
            kind => {
                let why = match kind {
                    // What ureq says of it may be anything.
                    Kind::UnexpectedEof => "it ended the connection".into(),
                    Kind::Other => "its answer breaks off".into(),
                    _ => error.to_string(),
                };
                let plain = [
                    Kind::ConnectionRefused,
                    Kind::ConnectionReset,
                    Kind::UnexpectedEof,
                ];
                let again = match plain.contains(&kind) {
                    true => Again::Plain,
                    false => Again::Later(None),
                };
                let mut failure = Failure::new("connect", format!("`{host}`: {why}"), again);
                failure.error = failure.error.with_errno(errno);
                failure
            }
        }
    }
}

fn silent(host: &str, patience: Duration) -> Failure {
    let why = format!("`{host}` sent nothing for {} s", patience.as_secs_f32());
    Failure::new("timeout", why, Again::Later(None))
}

fn of_tls(host: &str, error: &rustls::Error) -> Failure {
    use rustls::{CertificateError, Error as Tls};
    let (why, again) = match error {
        Tls::InvalidCertificate(why) => {
            let remedy = match why {
                CertificateError::UnknownIssuer => {
                    ": name the file with the authority that signed it (`ca_file`, or SSL_CERT_FILE in the environment)"
                }
                CertificateError::NotValidForNameContext { .. }
                | CertificateError::NotValidForName => {
                    ": it needs the host as a subject alternative name"
                }
                other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                    ": it is that of an authority (CA:TRUE), which a server's must not be"
                }
                _ => "",
            };
            (
                format!("the certificate of `{host}` does not hold: {error}{remedy}"),
                Again::No,
            )
        }
        Tls::InvalidMessage(_) => (format!("`{host}` does not speak TLS"), Again::Plain),
        other => (format!("TLS with `{host}`: {other}"), Again::Later(None)),
    };
    Failure::new("tls", why, again)
}
