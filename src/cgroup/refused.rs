//! Why something cannot be had, told from what was only short when it was tried.

use crate::error::{Error, is_resource};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a rung, or a controller, is refused for.
#[derive(Debug)]
pub(super) enum Refused {
    /// The host has it not, for this reason, and is not asked again.
    Why(String),
    /// Descriptors or memory were short, which says nothing of the host: whoever goes on without it does so for the
    /// whole life of a supervisor.
    Short(Error),
}

impl Refused {
    /// What has failed with `error`: "{what}: {error}".
    pub fn by(what: impl fmt::Display, error: io::Error) -> Refused {
        match error.raw_os_error().is_some_and(is_resource) {
            true => Refused::Short(Error::system(what, error)),
            false => Refused::Why(format!("{what}: {error}")),
        }
    }

    /// The same of a new group. cgroup v2 says EAGAIN where there may be no more of them, or none so deep
    /// (`cgroup.max.descendants`, `cgroup.max.depth`), which does not pass.
    pub fn making(what: impl fmt::Display, error: io::Error) -> Refused {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Refused::Why(format!("{what}: {error}")),
            _ => Refused::by(what, error),
        }
    }

    /// The same reason in other words.
    pub fn map(self, words: impl FnOnce(String) -> String) -> Refused {
        match self {
            Refused::Why(why) => Refused::Why(words(why)),
            short => short,
        }
    }
}

impl From<String> for Refused {
    fn from(why: String) -> Refused {
        Refused::Why(why)
    }
}

impl From<&str> for Refused {
    fn from(why: &str) -> Refused {
        Refused::Why(why.into())
    }
}

impl From<Error> for Refused {
    /// Only of what says that something was short.
    fn from(error: Error) -> Refused {
        Refused::Short(error)
    }
}

/// Leaves a result as it is, unless something was short.
pub(super) fn unless_short<T>(
    result: io::Result<T>,
    what: impl fmt::Display,
) -> Result<io::Result<T>, Error> {
    match result {
        Err(e) if e.raw_os_error().is_some_and(is_resource) => Err(Error::system(what, e)),
        other => Ok(other),
    }
}

/// What is at `path`, if anything is in sight.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    Ok(unless_short(fs::metadata(path), path.display())?.ok())
}

pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    Ok(look(path)?.is_some())
}

/// What a file says; nothing where it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let read = fs::read_to_string(path);
    Ok(unless_short(read, format_args!("reading {}", path.display()))?.unwrap_or_default())
}

/// Whether the supervisor may write `path`. It has the caller's ids, but none of the capabilities that root may have.
pub(super) fn may_write(path: &Path) -> Result<bool, Error> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    Ok(look(path)?.is_some_and(|file| {
        let bits = if file.uid() == user.as_raw() {
            0o200
        } else if file.gid() == group.as_raw() {
            0o020
        } else {
            0o002
        };
        file.mode() & bits != 0
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_no_reason() {
        let of = |errno| Refused::by("it", io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN] {
            let refused = of(errno).map(|_| panic!("it is no reason"));
            let Refused::Short(error) = refused else {
                panic!("{errno}: {refused:?}");
            };
            assert_eq!(error.kind(), crate::ErrorKind::Resource);
            assert_eq!(error.errno(), errno);
        }
        for errno in [libc::EBUSY, libc::EACCES, libc::EINTR, libc::ENOSPC] {
            assert!(matches!(of(errno), Refused::Why(_)), "{errno}");
        }
    }

    #[test]
    fn a_group_that_may_have_no_more_below_it_stays_so() {
        let of = |errno| Refused::making("it", io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EAGAIN), Refused::Why(_)));
        assert!(matches!(of(libc::ENOMEM), Refused::Short(_)));
    }
}
