//! Files for a layer: of the context, or given.

use super::super::fs::{self, components};
use super::super::layer::{Picked, Picking, layer_from_picked};
use super::super::lower::Lower;
use super::super::run::User;
use super::super::step::{Copy, below};
use super::super::tar::{Entry, Kind};
use super::super::tar_write::Builder;
use super::super::{Digest, from_io};
use super::glob::{Ignore, fits, is_pattern};
use crate::error::Error;
use crate::overlay::Lowers;
use crate::spec::File;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// What a sandbox has of its own, which no program would see of an image.
const OWN: [&[u8]; 5] = [b"work", b"tmp", b"proc", b"sys", b"dev"];

/// What there is to copy, and how.
pub(super) struct Copying {
    picked: Vec<Picked>,
    owner: (u32, u32),
    mode: Option<u32>,
}

impl Copying {
    /// Finds what `copy` means, in a view of the image so far.
    pub fn find(
        copy: &Copy,
        context: &OwnedFd,
        dir: &str,
        view: &Lower,
        lowers: &Lowers,
    ) -> Result<Copying, Error> {
        let owner = match &copy.chown {
            None => (0, 0),
            Some(user) => {
                let user = User::find(user, lowers)?;
                (user.id, user.group)
            }
        };
        let mode = copy.chmod.as_ref().map(|text| {
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777);
            mode.ok_or_else(|| {
                Error::invalid(format!("COPY: --chmod=`{text}` is no mode in octal digits"))
            })
        });
        let mut copying = Copying {
            picked: Vec::new(),
            owner,
            mode: mode.transpose()?,
        };
        let place = resolve(view, &below(dir, &copy.to))?;
        let to = place.join(&b'/');
        let there = is_directory(view, &place)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.extend(expanded(context, source)?);
        }
        let ends = copy.to.ends_with('/')
            || matches!(copy.to.as_str(), "." | "..")
            || copy.to.ends_with("/.");
        let into = there || ends || sources.len() > 1;
        for parts in sources {
            copying.pick(context, &parts, &to, into)?;
        }
        Ok(copying)
    }

    fn pick(
        &mut self,
        context: &OwnedFd,
        parts: &[Vec<u8>],
        to: &[u8],
        into: bool,
    ) -> Result<(), Error> {
        let source = parts.join(&b'/');
        let fault = |e: Errno| Error::system(format_args!("COPY: `{}`", source.escape_ascii()), e);
        let clone = context.try_clone().map_err(|e| Error::system("COPY", e))?;
        let Some((name, parents)) = parts.split_last() else {
            self.picked.push(Picked {
                dir: clone,
                name: None,
                source,
                to: to.to_vec(),
            });
            return Ok(());
        };
        let mut dir = clone;
        for part in parents {
            dir = fs::open_dir_at(&dir, part).map_err(fault)?;
        }
        let stat = fs::stat_at(&dir, name).map_err(fault)?;
        let picked = match fs::is_dir(&stat) {
            true => Picked {
                dir: fs::open_dir_at(&dir, name).map_err(fault)?,
                name: None,
                source,
                to: to.to_vec(),
            },
            false => {
                let slash: &[u8] = if to.is_empty() { b"" } else { b"/" };
                let to = if into {
                    [to, slash, name].concat()
                } else {
                    to.to_vec()
                };
                if to.is_empty() {
                    return Err(Error::invalid("COPY: a file cannot take the place of `/`"));
                }
                Picked {
                    dir,
                    name: Some(name.clone()),
                    source,
                    to,
                }
            }
        };
        self.picked.push(picked);
        Ok(())
    }

    /// What its content amounts to: everything but times.
    pub fn digest(&self, ignore: &Ignore) -> Result<Digest, Error> {
        let mut hashing = super::super::digest::Hashing::new(io::sink());
        self.write(ignore, false, &mut hashing)?;
        Ok(hashing.finish().1)
    }

    /// Writes it as a layer.
    pub fn write(&self, ignore: &Ignore, times: bool, to: &mut dyn Write) -> Result<(), Error> {
        let how = Picking {
            owner: self.owner,
            mode: self.mode,
            ignore,
            times,
        };
        layer_from_picked(&self.picked, &how, to).map(drop)
    }
}

/// Writes given files as a layer.
pub(super) fn write_files(
    files: &BTreeMap<String, File>,
    dir: &str,
    view: &Lower,
    to: &mut dyn Write,
) -> Result<(), Error> {
    let mut builder = Builder::new(to);
    for (path, file) in files {
        let place = resolve(view, &below(dir, path))?;
        if place.is_empty() || path.ends_with('/') {
            return Err(Error::invalid(format!(
                "files: `{}` is no name of a file",
                path.escape_debug()
            )));
        }
        let mode = file.mode.unwrap_or(0o644) & 0o7777;
        let entry = Entry::plain(
            &place.join(&b'/'),
            Kind::File,
            mode,
            file.content.len() as u64,
        );
        builder
            .append(&entry, &mut &file.content[..])
            .map_err(|e| from_io("write the layer", e))?;
    }
    builder
        .finish()
        .map(drop)
        .map_err(|e| from_io("write the layer", e))
}

/// Writes the directory `place` as a layer.
pub(super) fn write_directory(place: &[Vec<u8>], to: &mut dyn Write) -> Result<(), Error> {
    let mut builder = Builder::new(to);
    let path = [&place.join(&b'/')[..], b"/"].concat();
    let done = builder.append(
        &Entry::plain(&path, Kind::Directory, 0o755, 0),
        &mut io::empty(),
    );
    done.and_then(|()| builder.finish())
        .map(drop)
        .map_err(|e| from_io("write the layer", e))
}

/// Where a path of the image leads, links followed as a program in it would, though none of it need be there.
pub(super) fn resolve(view: &Lower, path: &str) -> Result<Vec<Vec<u8>>, Error> {
    let fault = |e: io::Error| {
        Error::system(
            format_args!("look for `{}` in the image", path.escape_debug()),
            e,
        )
    };
    let mut left: Vec<Vec<u8>> = path
        .split('/')
        .rev()
        .map(|part| part.as_bytes().to_vec())
        .collect();
    let mut place: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                place.pop();
                continue;
            }
            _ => place.push(part),
        }
        let parts: Vec<&[u8]> = place.iter().map(Vec::as_slice).collect();
        let Some(found) = view.find(&parts).map_err(fault)? else {
            continue;
        };
        if fs::type_of(&found.stat) == libc::S_IFLNK {
            links += 1;
            if links > 40 {
                return Err(fault(Errno::ELOOP.into()));
            }
            let target = readlinkat(&found.fd, "").map_err(|e| fault(e.into()))?;
            let target = target.as_bytes();
            place.pop();
            if target.starts_with(b"/") {
                place.clear();
            }
            left.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
        }
    }
    if place
        .first()
        .is_some_and(|first| OWN.contains(&first.as_slice()))
    {
        return Err(Error::invalid(format!(
            "`{}`: what an image has there no program sees, since a sandbox has its own `/work`, `/tmp`, `/dev`, `/proc` \
             and `/sys`",
            path.escape_debug()
        )));
    }
    Ok(place)
}

/// Whether the image has a directory there.
pub(super) fn is_directory(view: &Lower, place: &[Vec<u8>]) -> Result<bool, Error> {
    let parts: Vec<&[u8]> = place.iter().map(Vec::as_slice).collect();
    let found = view
        .find(&parts)
        .map_err(|e| Error::system("look into the image", e))?;
    Ok(place.is_empty() || found.is_some_and(|found| fs::is_dir(&found.stat)))
}

/// The paths that a source means, by what is there if its last component is a pattern.
fn expanded(context: &OwnedFd, source: &str) -> Result<Vec<Vec<Vec<u8>>>, Error> {
    let parts = components(source.as_bytes(), "COPY: the source").map_err(Error::into_invalid)?;
    let owned: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
    let Some((last, parents)) = owned.split_last().filter(|_| is_pattern(source)) else {
        return Ok(vec![owned]);
    };
    if parents
        .iter()
        .any(|part| is_pattern(&String::from_utf8_lossy(part)))
    {
        return Err(Error::invalid(format!(
            "COPY: `{source}`: only the last component of a source may be a pattern"
        )));
    }
    let fault = |e: Errno| Error::system(format_args!("COPY: `{source}`"), e);
    let mut dir = context.try_clone().map_err(|e| Error::system("COPY", e))?;
    for part in parents {
        dir = fs::open_dir_at(&dir, part).map_err(fault)?;
    }
    let names = fs::names(&dir).map_err(fault)?;
    let all: Vec<_> = names
        .iter()
        .filter(|name| fits(last, name.to_bytes()))
        .map(|name| [parents, &[name.to_bytes().to_vec()]].concat())
        .collect();
    match all.is_empty() {
        true => Err(fault(Errno::ENOENT)),
        false => Ok(all),
    }
}
