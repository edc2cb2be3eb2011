//! Whether what is in the store is what it was when it came.

use super::compress::Decoder;
use super::digest::{Hashing, chain};
use super::limits::Budget;
use super::lock::{Hold, Lock, Scratch};
use super::lower::Lower;
use super::owners::{self, Owners};
use super::state::{Layer, State};
use super::store::{Store, needed};
use super::tar::Archive;
use super::unpack::unpack;
use super::{Digest, LoadLimits, from_io, fs};
use crate::error::{Error, is_resource};
use crate::ids::changed;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// What a check of the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: u64,
    /// Layers that were compared, file by file, with what their blobs unpack to.
    pub layers: u64,
    /// What is wrong, one sentence each; nothing if the store is intact.
    pub problems: Vec<String>,
}

/// Whether an error is no damage, but says that something is short just now.
fn is_passing(errno: i32) -> bool {
    is_resource(errno) || matches!(errno, libc::ENOSPC | libc::EDQUOT)
}

/// Most differences of one layer that are told.
const TOLD: usize = 10;

impl Store {
    /// Reads every blob and compares its digest, and unpacks every layer anew and compares it with the one that is
    /// there: contents, modes, times, links, attributes. Nothing is changed. Images cannot be removed meanwhile.
    ///
    /// A damaged image is mended by removing and loading it again.
    pub fn verify(&self) -> Result<Verified, Error> {
        let _lock = Lock::of(&self.root, "lock", Hold::Shared)?;
        let state = State::read(&self.root)?;
        let mut found = Verified::default();
        self.verify_blobs(&state, &mut found)?;
        let mut done = BTreeSet::new();
        for (id, record) in &state.images {
            let mut below: Option<&Layer> = None;
            for (i, layer) in record.layers.iter().enumerate() {
                if chain(below.map(|below| &below.chain_id), &layer.diff_id) != layer.chain_id {
                    found
                        .problems
                        .push(format!("image `{id}`: its layers do not belong together"));
                }
                if done.insert(&layer.chain_id) {
                    found.layers += 1;
                    let problems = self.verify_layer(layer, &record.layers[..i])?;
                    let about = |problem| format!("layer `{}`: {problem}", layer.chain_id);
                    found.problems.extend(problems.into_iter().map(about));
                }
                below = Some(layer);
            }
        }
        for (name, id) in &state.names {
            if !state.images.contains_key(id) {
                found.problems.push(format!(
                    "the name `{name}` is of an image that is not there"
                ));
            }
        }
        Ok(found)
    }

    fn verify_blobs(&self, state: &State, found: &mut Verified) -> Result<(), Error> {
        let (mut missing, _) = needed(state, |_| true);
        for name in fs::names(&self.blobs).map_err(|e| Error::system("read the store", e))? {
            let name = name.to_string_lossy().into_owned();
            missing.remove(&name);
            let Ok(said) = Digest::parse(&format!("sha256:{name}")) else {
                found.problems.push(format!(
                    "`{}` among the blobs is no digest",
                    name.escape_debug()
                ));
                continue;
            };
            let read = fs::open_file_at(&self.blobs, name.as_bytes()).and_then(|file| {
                let mut reader = Hashing::new(file);
                io::copy(&mut reader, &mut io::sink())?;
                Ok(reader.finish().1)
            });
            found.blobs += 1;
            match read {
                Ok(is) if is == said => {}
                Ok(is) => found
                    .problems
                    .push(format!("blob `{said}`: its digest is `{is}`")),
                Err(error) if error.raw_os_error().is_some_and(is_passing) => {
                    return Err(from_io(format_args!("read the blob `{said}`"), error));
                }
                Err(error) => found.problems.push(format!("blob `{said}`: {error}")),
            }
        }
        let lost = missing
            .into_iter()
            .map(|name| format!("blob `sha256:{name}`: it is missing"));
        found.problems.extend(lost);
        Ok(())
    }

    /// What is wrong with an unpacked layer.
    fn verify_layer(&self, layer: &Layer, below: &[Layer]) -> Result<Vec<String>, Error> {
        let open = |layer: &Layer| {
            let holder = fs::open_dir_at(&self.layers, layer.chain_id.hex().as_bytes())?;
            fs::open_dir_at(holder, b"diff")
        };
        let fault = |errno: Errno| Error::system("open an unpacked layer", errno);
        let there = match open(layer) {
            Ok(there) => there,
            Err(errno) if is_passing(errno as i32) => return Err(fault(errno)),
            Err(errno) => return Ok(vec![format!("its directory: {errno}")]),
        };
        let lower: nix::Result<Vec<OwnedFd>> = below.iter().rev().map(open).collect();
        let lower = match lower {
            Ok(lower) => lower,
            Err(errno) if is_passing(errno as i32) => return Err(fault(errno)),
            Err(_) => return Ok(vec!["a layer below it is missing".into()]),
        };
        if let Some(given) = &layer.given
            && let Err(error) = owners::check(given)
        {
            return Ok(vec![error.to_string()]);
        }
        let scratch = Scratch::new(&self.tmp)?;
        let anew = fs::make_dir_at(scratch.dir(), b"diff")
            .map_err(|e| Error::system("make a directory in the store", e))?;
        let unpacked = fs::open_file_at(&self.blobs, layer.blob.hex().as_bytes())
            .map_err(|e| from_io("open the blob", e))
            .and_then(|blob| {
                // It was within limits when it came.
                let limits = LoadLimits::default()
                    .size(u64::MAX)
                    .entries(u64::MAX)
                    .ratio(u64::MAX);
                let decoder =
                    Decoder::new(blob, &limits).map_err(|e| from_io("read the blob", e))?;
                let mut archive = Archive::new(decoder);
                unpack(
                    &mut archive,
                    &anew,
                    &Lower(lower),
                    &mut Budget::new(&limits),
                    layer.given.filter(|_| !below.is_empty()),
                )
            });
        let unpacked = unpacked.and_then(|mut unpacked| {
            let given = owners::give(&anew, &mut unpacked, layer.given)?;
            if given != layer.given {
                return Err(changed(&layer.given.expect("else both are none")));
            }
            Ok(unpacked)
        });
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) if is_passing(error.errno()) => return Err(error),
            Err(error) => return Ok(vec![error.to_string()]),
        };
        let mut differences = Vec::new();
        let owners = fs::walk_dir_at(&self.layers, layer.chain_id.hex().as_bytes())
            .map_err(|errno| Error::system("compare a layer", errno))
            .and_then(Owners::read);
        match owners {
            Ok(owners) if owners == unpacked.owners => {}
            Err(error) if is_passing(error.errno()) => return Err(error),
            _ => differences.push("what is known of its owners is damaged".into()),
        }
        compare(&anew, &there, &mut Vec::new(), &mut differences)
            .map_err(|errno| Error::system("compare a layer", errno))?;
        Ok(differences)
    }
}

/// What is different in `is` from what is in `should`, which is called `path`.
pub(super) fn compare(
    should: &OwnedFd,
    is: &OwnedFd,
    path: &mut Vec<u8>,
    differences: &mut Vec<String>,
) -> nix::Result<()> {
    let (names, others) = (fs::names(should)?, fs::names(is)?);
    for name in others.iter().filter(|name| !names.contains(name)) {
        tell(
            differences,
            &[&path[..], name.to_bytes()].concat(),
            "should not be there",
        );
    }
    if attributes(&fstat(should)?, &fstat(is)?) || fs::xattrs(should)? != fs::xattrs(is)? {
        tell(
            differences,
            path,
            "has another mode, owner, time or attribute",
        );
    }
    for name in &names {
        let name = name.to_bytes();
        let length = path.len();
        path.extend_from_slice(name);
        let (a, b) = (fs::stat_at(should, name)?, fs::stat_at(is, name));
        match b {
            Err(_) => tell(differences, path, "is missing"),
            Ok(b) if fs::type_of(&a) != fs::type_of(&b) => {
                tell(differences, path, "is of another type")
            }
            Ok(_) if fs::is_dir(&a) => {
                path.push(b'/');
                match (fs::open_dir_at(should, name), fs::open_dir_at(is, name)) {
                    (Ok(a), Ok(b)) => {
                        compare(&a, &b, path, differences)?;
                        path.truncate(length);
                        continue;
                    }
                    // Closed to its owner: nobody can have changed it without opening it.
                    (Err(Errno::EACCES), _) => {}
                    (Err(errno), _) | (_, Err(errno)) if is_passing(errno as i32) => {
                        return Err(errno);
                    }
                    _ => tell(differences, path, "cannot be opened"),
                }
            }
            Ok(b) if attributes(&a, &b) => {
                tell(differences, path, "has another mode, owner, time or size")
            }
            Ok(_) => match fs::type_of(&a) {
                libc::S_IFLNK if fs::read_link_at(should, name)? != fs::read_link_at(is, name)? => {
                    tell(differences, path, "leads elsewhere");
                }
                libc::S_IFREG => match (fs::open_file_at(should, name), fs::open_file_at(is, name))
                {
                    (Ok(a), Ok(b)) => {
                        if !same(&a, &b).unwrap_or(false) {
                            tell(differences, path, "has another content");
                        } else if fs::xattrs(&a)? != fs::xattrs(&b)? {
                            tell(differences, path, "has other attributes");
                        }
                    }
                    (Err(error), _) if error.raw_os_error() == Some(libc::EACCES) => {}
                    (Err(error), _) | (_, Err(error))
                        if error.raw_os_error().is_some_and(is_passing) =>
                    {
                        return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
                    }
                    _ => tell(differences, path, "cannot be opened"),
                },
                _ => {}
            },
        }
        path.truncate(length);
    }
    Ok(())
}

fn tell(differences: &mut Vec<String>, path: &[u8], what: &str) {
    if differences.len() < TOLD {
        differences.push(format!("`/{}` {what}", path.escape_ascii()));
    }
}

/// Whether what is not content differs.
fn attributes(a: &FileStat, b: &FileStat) -> bool {
    let size = |stat: &FileStat| if fs::is_dir(stat) { 0 } else { stat.st_size };
    let all = |stat: &FileStat| {
        (
            stat.st_mode,
            (stat.st_uid, stat.st_gid),
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_rdev,
            size(stat),
        )
    };
    all(a) != all(b)
}

fn same(a: &File, b: &File) -> io::Result<bool> {
    let (mut a, mut b) = (io::BufReader::new(a), io::BufReader::new(b));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        b.read_exact(&mut right[..n])?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}
