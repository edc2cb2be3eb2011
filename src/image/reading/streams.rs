//! What a layer is read through.

use crate::error::{Error, ErrorKind};
use crate::image::into_io;
use crate::image::read::{Progress, Watch};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// Copies what is read.
pub(super) struct Tee<R> {
    pub from: R,
    pub to: Option<File>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        if let Some(to) = &mut self.to {
            to.write_all(&buffer[..n])?;
        }
        Ok(n)
    }
}

/// Tells how much has been read.
pub(in crate::image) struct Watched<'a, R> {
    pub(super) from: R,
    pub(super) watch: Option<Rc<RefCell<&'a mut Watch<'a>>>>,
    pub(super) progress: Progress,
    pub(super) told: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.progress.done += n as u64;
        if let Some(watch) = &self.watch
            && (n == 0 || self.progress.done - self.told >= 1 << 20)
        {
            self.told = self.progress.done;
            if watch.borrow_mut()(&self.progress).is_break() {
                let error = Error::new(ErrorKind::State, "it was called off");
                return Err(into_io(error));
            }
        }
        Ok(n)
    }
}
