//! One layer, from a registry into the store's directory of partial blobs, and from there, whole and checked, to where
//! it is unpacked.

use super::failure::{Again, Failure};
use super::registry::Source;
use super::retry::Retry;
use super::sources::{Sources, Steady};
use super::stop::Stop;
use crate::error::Error;
use crate::image::digest::Hashing;
use crate::image::lock::Scratch;
use crate::image::partial::{Partial, Partials};
use crate::image::{Digest, Store, bad, from_io};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::linkat;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::http::header;

/// How often to look whether another process is done with the same layer.
const LOOK: Duration = Duration::from_millis(100);
/// So many bytes gained make up for a failure.
const GAIN: u64 = 1 << 20;

/// A layer that is wanted.
pub(super) struct Wanted {
    pub digest: Digest,
    pub size: u64,
    /// What it is called: `download 2/5`.
    pub what: String,
    /// Bytes that are here.
    pub done: AtomicU64,
}

/// Where layers come from and go to.
pub(super) struct Fetcher<'f, 'h> {
    pub store: &'f Store,
    pub partials: &'f Partials,
    /// Where they are linked to when they are whole: nobody removes them there.
    pub scratch: &'f Scratch,
    pub sources: &'f Sources<'h>,
    pub stop: &'f Stop,
}

impl Fetcher<'_, '_> {
    /// Gets a layer. Gives the name that it has in `scratch`.
    pub fn fetch(&self, wanted: &Wanted) -> Result<String, Error> {
        let fault = |e: Errno| Error::system("keep a layer in the store", e);
        let name = wanted.digest.hex();
        loop {
            // For another image, or by another process just now.
            if let Some(own) = self.link(&self.store.blobs, name).map_err(fault)? {
                wanted.done.store(wanted.size, Ordering::Relaxed);
                return Ok(own);
            }
            let Some(mut partial) = self.partials.take(name, wanted.size).map_err(fault)? else {
                self.stop.sleep(LOOK)?;
                continue;
            };
            if partial.length == wanted.size && wanted.size > 0 {
                // What an earlier call has left, to which nobody may write.
                if self.check(&mut partial.file, wanted)? != wanted.digest {
                    self.partials.forget(name).map_err(fault)?;
                    continue;
                }
            } else {
                self.download(&mut partial, wanted)?;
            }
            wanted.done.store(wanted.size, Ordering::Relaxed);
            let linked = self.link(self.partials.dir(), name).map_err(fault)?;
            return linked.ok_or_else(|| fault(Errno::ENOENT));
        }
    }

    fn link(&self, from: &OwnedFd, name: &str) -> nix::Result<Option<String>> {
        let own = self.scratch.fresh();
        match linkat(from, name, self.scratch.dir(), &*own, AtFlags::empty()) {
            Ok(()) => Ok(Some(own)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Fills `partial` up to the wanted size, from wherever that can be had, and compares the digest.
    fn download(&self, partial: &mut Partial, wanted: &Wanted) -> Result<(), Error> {
        let file = &mut partial.file;
        let mut at = partial.length;
        let mut gained = at;
        // What an earlier call left may be anything: it gets a second chance from the beginning.
        let mut inherited = at > 0;
        let mut from: Option<*const ()> = None;
        self.sources.first(|source, retry| {
            // So does what another place has begun.
            let here = std::ptr::from_ref(source).cast();
            inherited |= at > 0 && from.is_some_and(|other| other != here);
            from = Some(here);
            loop {
                wanted.done.store(at, Ordering::Relaxed);
                while at < wanted.size {
                    let result = self.part(source, file, wanted, &mut at);
                    if at >= gained + GAIN {
                        gained = at;
                        retry.gained();
                    }
                    match result {
                        // A server that ends its answers early, as if that was all.
                        Ok(()) if at < wanted.size => self.short(source, wanted, retry, at)?,
                        Ok(()) => {}
                        Err(failure) => return Err(failure),
                    }
                }
                let is = self.check(file, wanted).map_err(own)?;
                if is == wanted.digest {
                    return Ok(());
                }
                // Nothing of it can be trusted.
                self.anew(file, &mut at)?;
                gained = 0;
                if !std::mem::take(&mut inherited) {
                    let why = format!(
                        "the blob `{}` from `{}` has the digest `{is}`",
                        wanted.digest, source.name
                    );
                    return Err(own(bad("digest", why)));
                }
            }
        })
    }

    /// An answer that ended before the layer did.
    fn short(
        &self,
        source: &Source<'_>,
        wanted: &Wanted,
        retry: &mut Retry,
        at: u64,
    ) -> Result<(), Failure> {
        let again = Again::Later(None);
        match retry.wait(self.stop, again).map_err(own)? {
            true => Ok(()),
            false => {
                let why = format!(
                    "the blob `{}` from `{}` ends after {at} of {} bytes",
                    wanted.digest, source.name, wanted.size
                );
                Err(own(bad("size", why)))
            }
        }
    }

    /// Writes what one answer has, from the byte `at` on, which is kept up to date.
    fn part(
        &self,
        source: &Source<'_>,
        file: &mut File,
        wanted: &Wanted,
        at: &mut u64,
    ) -> Result<(), Failure> {
        let what = format!("blobs/{}", wanted.digest);
        let (response, host) = source.get(&what, None, *at)?;
        match response.status().as_u16() {
            // The whole: the server has no notion of parts.
            200 if *at > 0 => self.anew(file, at)?,
            200 => {}
            206 => {
                let range = response.headers().get(header::CONTENT_RANGE);
                let start = range.and_then(|text| start_of(text.to_str().ok()?));
                if start != Some(*at) {
                    self.anew(file, at)?;
                    let why =
                        format!("`{host}` sends another part than the one that it was asked for");
                    return Err(Failure::new("http", why, Again::Later(None)));
                }
            }
            _ => {
                self.anew(file, at)?;
                let why = format!("`{host}` has no such part of `{}`", wanted.digest);
                return Err(Failure::new("http", why, Again::Later(None)));
            }
        }
        let fault = |e| own(from_io("write a layer to the store", e));
        let start = *at;
        file.seek(SeekFrom::Start(*at)).map_err(fault)?;
        let patience = source.http.tcp.patience;
        let mut body = Steady::new(response.into_body().into_reader(), patience);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = body
                .read(&mut buffer)
                .map_err(|e| Failure::of_io(&host, patience, e))?;
            if n == 0 {
                break;
            }
            if *at + n as u64 > wanted.size {
                let size = wanted.size;
                self.anew(file, at)?;
                let why = format!(
                    "what `{host}` sends for `{}` is longer than the {size} bytes that it should have",
                    wanted.digest
                );
                return Err(own(bad("size", why)));
            }
            file.write_all(&buffer[..n]).map_err(fault)?;
            *at += n as u64;
            wanted.done.store(*at, Ordering::Relaxed);
        }
        match *at == start {
            true => Err(Failure::new(
                "connect",
                format!("`{host}` sends nothing"),
                Again::Later(None),
            )),
            false => Ok(()),
        }
    }

    fn anew(&self, file: &mut File, at: &mut u64) -> Result<(), Failure> {
        *at = 0;
        file.set_len(0)
            .map_err(|e| own(from_io("write a layer to the store", e)))
    }

    /// The digest of all of it.
    fn check(&self, file: &mut File, wanted: &Wanted) -> Result<Digest, Error> {
        let fault = |e: io::Error| from_io(format_args!("read the layer `{}`", wanted.digest), e);
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        let mut hashing = Hashing::new(&*file);
        let mut buffer = vec![0; 64 << 10];
        while hashing.read(&mut buffer).map_err(fault)? > 0 {
            self.stop.check().map_err(fault)?;
        }
        Ok(hashing.finish().1)
    }
}

/// An error that no further try mends.
fn own(error: Error) -> Failure {
    Failure {
        error,
        again: Again::No,
    }
}

/// The first byte that `Content-Range: bytes 5-9/10` names.
fn start_of(range: &str) -> Option<u64> {
    let (start, _) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

/// Wanted layers may be refused before any of them is asked for.
pub(super) fn check_sizes<'w>(
    sizes: impl Iterator<Item = &'w u64>,
    most: u64,
) -> Result<(), Error> {
    let mut sum = 0u64;
    for size in sizes {
        sum = sum.saturating_add(*size);
    }
    match sum > most {
        true => Err(bad(
            "limit size",
            format!("its layers have {sum} bytes, more than {most}"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(start_of("bytes 5-9/10"), Some(5));
        assert_eq!(start_of("bytes 0-9/*"), Some(0));
        for bad in ["", "bytes */10", "5-9/10", "bytes -5", "bytes x-9/10"] {
            assert_eq!(start_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_summed_without_overflow() {
        assert!(check_sizes([1, 2].iter(), 3).is_ok());
        assert!(check_sizes([u64::MAX, u64::MAX].iter(), u64::MAX - 1).is_err());
    }
}
