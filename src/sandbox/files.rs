//! Files into a live sandbox and out of it. Every path inside is looked up by the sandbox's init, on
//! descriptors and never through a symbolic link, since programs can have put anything there.

use super::Sandbox;
use super::live::Answer;
use crate::error::{Error, ErrorKind};
use crate::launch::sealed_memfd;
use crate::limits::OUTPUT_FILE_DEFAULT;
use crate::plan::{inside, read_of};
use crate::supervisor;
use crate::wire::*;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};

/// How deep directories may lie in each other.
pub(super) const DEPTH_MAX: usize = 200;
impl Sandbox {
    /// Makes a file in the sandbox, with its parents, or replaces the one that is there. The path is as of
    /// [`files`](crate::Spec::files): relative ones are below `/work`. `mode`: permission bits; default 0o644.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a bad path; [`ErrorKind::Setup`] with the errno if it cannot be made: a component
    /// is a symbolic link, the place is read-only, or `disk` or `inodes` is used up. [`ErrorKind::State`] after
    /// [`close`](Sandbox::close).
    pub fn put(
        &self,
        path: &str,
        content: impl AsRef<[u8]>,
        mode: Option<u32>,
    ) -> Result<(), Error> {
        let memfd = sealed_memfd(content.as_ref(), false)
            .map_err(|e| Error::system(format!("putting `{path}`"), e))?;
        let path = inside(path, "put")?;
        self.put_file(path.as_bytes(), memfd.as_fd(), mode.unwrap_or(0o644))
    }

    /// The content of a regular file in the sandbox, at most 64 MiB.
    ///
    /// # Errors
    /// As [`put`](Sandbox::put); also if it is larger, or no regular file.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, Error> {
        let inner = inside(path, "get")?;
        let file = Content::new(self, self.get_file(inner.as_bytes())?);
        let failed = |e| Error::system(format!("getting `{path}`"), e);
        let mut content = Vec::new();
        let most = OUTPUT_FILE_DEFAULT + 1;
        file.take(most).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 == most {
            return Err(failed(io::Error::from_raw_os_error(libc::EFBIG)));
        }
        Ok(content)
    }

    pub(super) fn put_file(
        &self,
        path: &[u8],
        content: BorrowedFd,
        mode: u32,
    ) -> Result<(), Error> {
        if mode > 0o777 {
            return Err(Error::invalid(format!(
                "put: mode {mode:o} has more than permission bits"
            )));
        }
        self.about(PUT_FILE, mode, 0, &[path], Some(content))
            .map(drop)
    }

    fn get_file(&self, path: &[u8]) -> Result<File, Error> {
        self.about(GET_FILE, 0, 0, &[path], None)?.file()
    }

    /// Asks init for something about a path.
    pub(super) fn about(
        &self,
        kind: u32,
        arg: u32,
        offset: u64,
        strings: &[&[u8]],
        with: Option<BorrowedFd>,
    ) -> Result<Answer, Error> {
        self.check_open()?;
        let ask = Ask { kind, arg, offset };
        let answer = self
            .ask(|theirs| supervisor::send_ask(self.channel.fd(), &ask, strings, theirs, with))?;
        match answer.failure.errno {
            0 => Ok(answer),
            errno => {
                let what = match kind {
                    PUT_FILE | MAKE_LINK => "putting",
                    MAKE_DIR => "making directory",
                    LIST => "reading directory",
                    STAT => "looking at",
                    _ => "getting",
                };
                let path = String::from_utf8_lossy(strings[0]).into_owned();
                let cause = io::Error::from_raw_os_error(errno as i32);
                Err(Error::system(
                    format!("{what} `{path}` in the sandbox"),
                    cause,
                ))
            }
        }
    }
}

impl Answer {
    /// The file that came with it.
    pub fn file(self) -> Result<File, Error> {
        let fd = self.fd.ok_or_else(|| {
            Error::new(
                ErrorKind::Resource,
                "no descriptor came; the limit on open descriptors may be reached",
            )
        })?;
        Ok(File::from(fd))
    }
}

/// What an answer says of a file.
pub(super) fn stat_of(answer: &Answer) -> Result<libc::statx, Error> {
    read_of(&answer.body).ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            "the sandbox's init answered with something else",
        )
    })
}

/// What is in a regular file of the sandbox. Where FUSE serves its root, and we are somebody whom it has no number for, init
/// reads for us.
pub(super) struct Content<'a> {
    sandbox: &'a Sandbox,
    file: File,
    /// How far init has read.
    offset: Option<u64>,
}

impl<'a> Content<'a> {
    /// Of a file that is read from its start.
    pub fn new(sandbox: &'a Sandbox, file: File) -> Self {
        Content {
            sandbox,
            file,
            offset: None,
        }
    }
}

impl Content<'_> {
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Seek for Content<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match (&mut self.offset, to) {
            (Some(offset), SeekFrom::Start(start)) => {
                *offset = start;
                Ok(start)
            }
            (Some(_), _) => Err(io::ErrorKind::Unsupported.into()),
            (None, to) => self.file.seek(to),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset.is_none() {
            match self.file.read(buffer) {
                // The one up to Linux 6.18, the other in 7.3 at least; what cannot be read at all init cannot read either.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EOVERFLOW | libc::EIO)) => {}
                read => return read,
            }
        }
        let offset = match self.offset {
            Some(offset) => offset,
            None => self.file.stream_position()?,
        };
        let given = Some(self.file.as_fd());
        let answer = self.sandbox.about(READ, 0, offset, &[b""], given);
        let body = answer.map_err(|e| match e.errno() {
            0 => io::Error::other(e),
            errno => io::Error::from_raw_os_error(errno),
        })?;
        let n = body.body.len().min(buffer.len());
        buffer[..n].copy_from_slice(&body.body[..n]);
        self.offset = Some(offset + n as u64);
        Ok(n)
    }
}

pub(super) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

pub(super) fn deeper(depth: usize, path: &[u8]) -> Result<usize, Error> {
    depth.checked_sub(1).ok_or_else(|| {
        Error::system(
            format!(
                "`{}`: directories are copied {DEPTH_MAX} deep",
                String::from_utf8_lossy(path)
            ),
            io::Error::from_raw_os_error(libc::ENAMETOOLONG),
        )
    })
}

/// Entries of a directory as getdents64(2) gives them: the name, what it is, and where the next one is.
pub(super) struct Entries<'a>(pub &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], u8, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let next = u64::from_ne_bytes(self.0.get(8..16)?.try_into().ok()?);
        let length = u16::from_ne_bytes(self.0.get(16..18)?.try_into().ok()?) as usize;
        let kind = *self.0.get(18)?;
        let name = self.0.get(19..length)?.split(|b| *b == 0).next()?;
        self.0 = &self.0[length..];
        Some((name, kind, next))
    }
}
