//! An archive of images, to be read in any order: a tar file or a directory.

use super::compress::{Compression, Decoder};
use super::lock::Scratch;
use super::tar::{Archive, Kind};
use super::{LoadLimits, bad, from_io, fs};
use crate::error::Error;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Most files in an archive of images.
const FILES_MAX: usize = 100_000;
/// Most links from one name to the next.
const LINKS_MAX: usize = 8;

pub(super) enum Bundle {
    Tar {
        file: File,
        files: HashMap<Vec<u8>, Place>,
    },
    Directory(OwnedFd),
}

/// Where a file of a tar archive is.
pub(super) enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// At another name: Docker writes a layer that two images share once.
    Link(Vec<u8>),
}

/// A file's contents, and how many bytes they are.
pub(super) type Contents = (Box<dyn Read>, u64);

/// A part of a file.
struct Part {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Bundle {
    /// Looks through a tar file. What cannot be read in any order, or is compressed, is copied to `scratch` first.
    pub fn open(file: File, scratch: &Scratch, limits: &LoadLimits) -> Result<Bundle, Error> {
        let fault = |e| from_io("read the archive", e);
        let mut start = [0; 4];
        let seekable =
            (&file).stream_position().is_ok() && file.metadata().map_err(fault)?.is_file();
        let plain = seekable && {
            let n = file.read_at(&mut start, 0).map_err(fault)?;
            Compression::of(&start[..n]) == Compression::Plain
        };
        let file = match plain {
            true => file,
            false => {
                let (mut copy, _) = scratch.file()?;
                if seekable {
                    (&file).seek(SeekFrom::Start(0)).map_err(fault)?;
                }
                let mut decoder = Decoder::new(file, limits).map_err(fault)?;
                io::copy(&mut decoder, &mut copy).map_err(fault)?;
                copy
            }
        };
        (&file).seek(SeekFrom::Start(0)).map_err(fault)?;
        let files = index(&file)?;
        Ok(Bundle::Tar { file, files })
    }

    /// The file called `name` and its size, if there is one.
    pub fn file(&self, name: &str) -> Result<Option<Contents>, Error> {
        match self {
            Bundle::Tar { file, files } => {
                let mut key = clean(name.as_bytes())?;
                for _ in 0..LINKS_MAX {
                    match files.get(&key) {
                        None => return Ok(None),
                        Some(Place::Link(target)) => key = target.clone(),
                        Some(&Place::At { offset, size }) => {
                            let file = file
                                .try_clone()
                                .map_err(|e| Error::system("read the archive", e))?;
                            let part = Part {
                                file,
                                offset,
                                left: size,
                            };
                            return Ok(Some((Box::new(part), size)));
                        }
                    }
                }
                Err(bad(
                    "path",
                    format!("`{}` is a link to a link without end", name.escape_debug()),
                ))
            }
            Bundle::Directory(dir) => {
                let fault = |e| from_io(format_args!("read `{}`", name.escape_debug()), e);
                let parts = fs::components(name.as_bytes(), "the path")?;
                let Some((last, parents)) = parts.split_last() else {
                    return Ok(None);
                };
                let mut here = dir.try_clone().map_err(fault)?;
                for part in parents {
                    here = match fs::walk_dir_at(&here, part) {
                        Ok(next) => next,
                        Err(nix::errno::Errno::ENOENT) => return Ok(None),
                        Err(errno) => return Err(fault(errno.into())),
                    };
                }
                match fs::open_file_at(&here, last) {
                    Ok(file) => {
                        let size = file.metadata().map_err(fault)?.len();
                        Ok(Some((Box::new(file), size)))
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(fault(error)),
                }
            }
        }
    }

    /// The contents of a small file, if there is one.
    pub fn small(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some((reader, size)) = self.file(name)? else {
            return Ok(None);
        };
        if size > most {
            return Err(bad(
                "limit metadata",
                format!("`{}` is larger than {most} bytes", name.escape_debug()),
            ));
        }
        let mut data = Vec::new();
        reader
            .take(size)
            .read_to_end(&mut data)
            .map_err(|e| from_io(format_args!("read `{}`", name.escape_debug()), e))?;
        Ok(Some(data))
    }
}

/// Where every file is.
fn index(file: &File) -> Result<HashMap<Vec<u8>, Place>, Error> {
    let end = file
        .metadata()
        .map_err(|e| from_io("read the archive", e))?
        .len();
    let mut archive = Archive::new(file);
    let mut files = HashMap::new();
    while let Some(entry) = archive.next()? {
        let path = clean(&entry.path)?;
        match entry.kind {
            Kind::File if entry.pieces.is_some() => {
                return Err(bad("format", "an archive of images has a sparse file"));
            }
            Kind::File => {
                let (offset, size) = (archive.position(), archive.stored());
                if offset.checked_add(size).is_none_or(|until| until > end) {
                    return Err(bad("format", "the archive is cut off"));
                }
                files.insert(path, Place::At { offset, size });
            }
            Kind::Symlink => {
                // Relative to where it is; `..` may lead to the root of the archive, not beyond.
                let mut target: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
                target.pop();
                for part in entry.link.split(|&b| b == b'/') {
                    match part {
                        b"" | b"." => {}
                        b".." if target.pop().is_none() => {
                            return Err(bad("path", "a link leaves the archive"));
                        }
                        b".." => {}
                        part => target.push(part),
                    }
                }
                let target = target.join(&b'/');
                files.insert(path, Place::Link(target));
            }
            Kind::Hardlink => {
                files.insert(path, Place::Link(clean(&entry.link)?));
            }
            _ => {}
        }
        if files.len() > FILES_MAX {
            return Err(bad(
                "limit entries",
                format!("an archive of images has more than {FILES_MAX} files"),
            ));
        }
        archive.skip_with(|file, n| {
            let n = i64::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?;
            file.seek(SeekFrom::Current(n)).map(drop)
        })?;
    }
    Ok(files)
}

fn clean(path: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(fs::components(path, "the path")?.join(&b'/'))
}
