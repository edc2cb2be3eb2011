//! The places that may have an image: mirrors first, and then the registry itself.

use super::failure::{Again, Failure};
use super::registry::Source;
use super::retry::Retry;
use super::stop::Stop;
use crate::error::{Error, ErrorKind};
use crate::image::manifest::DOCUMENT_MAX;
use crate::image::{Digest, bad};
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ureq::http::header;

/// Slowest connection that is borne with, in bytes a second over the time that there is patience for.
const SLOWEST: f64 = 1024.0;

/// The places, in the order in which they are asked.
pub(super) struct Sources<'h> {
    pub all: Vec<Source<'h>>,
    pub retries: u32,
}

/// A document and its media type, if the registry told one.
pub(super) struct Document {
    pub json: Vec<u8>,
    pub media_type: String,
}

impl Sources<'_> {
    fn stop(&self) -> &Stop {
        &self.all[0].http.tcp.stop
    }

    /// What `get` gets from the first place that has it. It may say at any time that something was gained, so that
    /// later tries count anew.
    pub fn first<T>(
        &self,
        mut get: impl FnMut(&Source<'_>, &mut Retry) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut failed: Vec<Error> = Vec::new();
        for source in &self.all {
            // The last is the registry, of whom an error is to tell.
            let last = std::ptr::eq(source, &self.all[self.all.len() - 1]);
            if source.dead.load(Ordering::Relaxed) && !last {
                continue;
            }
            let mut retry = Retry::new(self.retries);
            loop {
                match get(source, &mut retry) {
                    Ok(got) => return Ok(got),
                    Err(Failure { error, .. }) if ends(&error) => return Err(error),
                    Err(failure) => {
                        if !retry.wait(self.stop(), failure.again)? {
                            failed.push(failure.error);
                            break;
                        }
                    }
                }
            }
        }
        let last = failed.pop().expect("there is a registry");
        Err(failed
            .iter()
            .rev()
            .fold(last, |last, mirror| last.after(mirror)))
    }

    /// A document: by a tag, or by its digest and, if that is known, its size.
    pub fn document(
        &self,
        what: &str,
        accept: Option<&str>,
        expected: Option<(&Digest, Option<u64>)>,
    ) -> Result<Document, Error> {
        let most = expected.and_then(|(_, size)| size).unwrap_or(DOCUMENT_MAX);
        if most > DOCUMENT_MAX {
            return Err(bad(
                "limit metadata",
                format!("a document of {most} bytes is longer than {DOCUMENT_MAX}"),
            ));
        }
        self.first(|source, _| {
            let no = |error| Failure {
                error,
                again: Again::No,
            };
            let (response, host) = source.get(what, accept, 0)?;
            let text = |name| {
                let value = response.headers().get(name);
                value
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_string()
            };
            let media_type = text(header::CONTENT_TYPE);
            let said = text(header::HeaderName::from_static("docker-content-digest"));
            let patience = source.http.tcp.patience;
            let mut json = Vec::new();
            Steady::new(response.into_body().into_reader(), patience)
                .take(most + 1)
                .read_to_end(&mut json)
                .map_err(|error| Failure::of_io(&host, patience, error))?;
            if json.len() as u64 > most {
                let why = format!("what `{host}` sends is longer than {most} bytes");
                return Err(no(bad("size", why)));
            }
            let is = Digest::of(&json);
            match expected {
                Some((digest, _)) if *digest != is => {
                    let why = format!("what `{host}` sends for `{digest}` has the digest `{is}`");
                    return Err(no(bad("digest", why)));
                }
                Some((digest, Some(size))) if json.len() as u64 != size => {
                    let why = format!("`{digest}` has {} bytes, its size says {size}", json.len());
                    return Err(no(bad("size", why)));
                }
                // By a tag: then the registry's own word is all there is.
                None if said.starts_with("sha256:") && said != is.as_str() => {
                    let why = format!(
                        "what `{host}` sends has the digest `{is}`, not `{}` as it says",
                        said.escape_debug()
                    );
                    return Err(no(bad("digest", why)));
                }
                _ => {}
            }
            let media_type = media_type
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_string();
            Ok(Document { json, media_type })
        })
    }
}

/// Whether nobody else can help: it was called off, or is our own system's trouble.
fn ends(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Registry | ErrorKind::NotFound | ErrorKind::Image
    )
}

/// Gives up on a stream that is never silent for long, and yet next to still.
pub(super) struct Steady<R> {
    inner: R,
    patience: Duration,
    since: Instant,
    got: u64,
}

impl<R> Steady<R> {
    pub fn new(inner: R, patience: Duration) -> Steady<R> {
        Steady {
            inner,
            patience,
            since: Instant::now(),
            got: 0,
        }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.got += n as u64;
        let time = self.since.elapsed();
        if n > 0 && time >= self.patience {
            if (self.got as f64) < SLOWEST * time.as_secs_f64() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            (self.since, self.got) = (Instant::now(), 0);
        }
        Ok(n)
    }
}
