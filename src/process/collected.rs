//! Files of the sandbox that come with the outcome.

use super::State;
use crate::bytes::Bytes;
use crate::outcome::OutputFile;
use crate::wire::Collected;
use std::os::fd::OwnedFd;

impl State {
    pub(super) fn collect(&mut self, collected: &Collected, fd: Option<OwnedFd>) {
        let Some(path) = self.paths.get(collected.index as usize) else {
            return;
        };
        let file = match fd {
            Some(fd) => read_output(fd, self.output_file_size),
            None => {
                let why = match collected.errno as i32 {
                    0 => "this process has no descriptor free (ulimit -n)".to_string(),
                    libc::ENOENT => "there is no such file".to_string(),
                    libc::ELOOP | libc::ENOTDIR => {
                        "a component is a symbolic link or no directory".to_string()
                    }
                    libc::EINVAL => "it is not a regular file".to_string(),
                    errno => std::io::Error::from_raw_os_error(errno).to_string(),
                };
                OutputFile {
                    error: Some(why),
                    ..OutputFile::default()
                }
            }
        };
        self.outputs.insert(path.clone(), file);
    }
}

impl State {
    /// Every path has a result, whatever became of those that could not be asked for.
    pub(super) fn not_collected(&mut self) {
        for path in &self.paths {
            self.outputs
                .entry(path.clone())
                .or_insert_with(|| OutputFile {
                    error: Some(
                        "the program did not start, or its sandbox ended before this was collected"
                            .into(),
                    ),
                    ..OutputFile::default()
                });
        }
    }
}

/// A regular file of the dead sandbox, as init has opened it.
fn read_output(fd: OwnedFd, cap: u64) -> OutputFile {
    use std::io::Read;
    let file = std::fs::File::from(fd);
    let mut content = Vec::new();
    let size = file.metadata().map_or(0, |m| m.len());
    match file.take(cap).read_to_end(&mut content) {
        Ok(_) => OutputFile {
            truncated: size > cap,
            content: Bytes(content),
            size,
            error: None,
        },
        Err(e) => OutputFile {
            error: Some(e.to_string()),
            ..OutputFile::default()
        },
    }
}
