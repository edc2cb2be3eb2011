//! The image store. What it answers goes over as JSON; `python/stockade/images.py` makes dataclasses of it.

use super::convert::Field;
use super::error::guard;
use crate::error::Error;
use crate::image::{self, Format, Import, Load, Progress, Source, Target};
use pyo3::prelude::*;
use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A store of images.
#[pyclass(module = "stockade._stockade", frozen)]
pub struct Store(pub(super) image::Store);

impl Store {
    pub fn inner(&self) -> &image::Store {
        &self.0
    }
}

/// A path, or the descriptor of an open file.
pub enum Place {
    Path(PathBuf),
    Descriptor(OwnedFd),
}

impl Place {
    pub fn extract(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Place> {
        if !value.hasattr("fileno")? {
            let path = Field { name, value }.os_bytes()?;
            return Ok(Place::Path(OsString::from_vec(path).into()));
        }
        let fd: i32 = value.call_method0("fileno")?.extract()?;
        if fd < 0 {
            return Err(Error::invalid(format!("{name}: the file is closed")).into());
        }
        // SAFETY: the file that has just given it is open, and kept by the caller during this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let own = fd.try_clone_to_owned();
        Ok(Place::Descriptor(own.map_err(|e| Error::system(name, e))?))
    }

    fn source(self) -> Source {
        match self {
            Place::Path(path) => Source::Path(path),
            Place::Descriptor(fd) => Source::Stream(Box::new(File::from(fd))),
        }
    }
}

/// Calls `body` without the interpreter's lock, with something to tell how far it is. Ctrl-C, and what the caller's
/// function raises, end it.
pub fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    body: impl Send + FnOnce(&mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<T, Error>,
) -> PyResult<T> {
    let (result, raised) = py.detach(|| {
        let mut raised = None;
        let mut watch = |now: &Progress| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                let Some(progress) = &progress else {
                    return Ok(());
                };
                progress
                    .call1(py, (now.what.as_str(), now.done, now.total))
                    .map(drop)
            });
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        (body(&mut watch), raised)
    });
    match raised {
        Some(error) => Err(error),
        None => Ok(result?),
    }
}

pub fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers only")
}

#[pymethods]
impl Store {
    #[new]
    fn new(py: Python<'_>, path: Option<PathBuf>) -> PyResult<Self> {
        guard(|| Ok(Store(py.detach(|| image::Store::open(path.as_deref()))?)))
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn load(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        platform: Option<String>,
        name: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        guard(|| {
            let source = Place::extract("source", source)?;
            let images = watched(py, progress, |watch| {
                let mut options = Load::default().progress(watch);
                if let Some(platform) = platform {
                    options = options.platform(platform);
                }
                if let Some(name) = name {
                    options = options.name(name);
                }
                self.0.load(source.source(), options)
            })?;
            Ok(json(&images))
        })
    }

    fn import_(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        name: Option<String>,
        config: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        guard(|| {
            let source = Place::extract("source", source)?;
            let config =
                serde_json::from_str(config).map_err(|e| Error::invalid(format!("config: {e}")))?;
            let image = watched(py, progress, |watch| {
                let mut options = Import::default().config(config).progress(watch);
                if let Some(name) = name {
                    options = options.name(name);
                }
                self.0.import(source.source(), options)
            })?;
            Ok(json(&image))
        })
    }

    fn save(
        &self,
        py: Python<'_>,
        references: Vec<String>,
        target: &Bound<'_, PyAny>,
        format: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        guard(|| {
            let target = Place::extract("target", target)?;
            let format = Format::parse(format)?;
            watched(py, progress, |watch| {
                let references: Vec<&str> = references.iter().map(String::as_str).collect();
                match target {
                    Place::Path(path) => {
                        self.0
                            .save(&references, format, Target::Path(path), Some(watch))
                    }
                    Place::Descriptor(fd) => {
                        let mut file = File::from(fd);
                        self.0
                            .save(&references, format, Target::Stream(&mut file), Some(watch))
                    }
                }
            })
        })
    }

    fn list(&self, py: Python<'_>) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.list())?)))
    }

    fn inspect(&self, py: Python<'_>, reference: &str) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.inspect(reference))?)))
    }

    fn tag(&self, py: Python<'_>, reference: &str, name: &str) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.0.tag(reference, name))?))
    }

    fn remove(&self, py: Python<'_>, reference: &str) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.remove(reference))?)))
    }

    fn prune(&self, py: Python<'_>, all: bool) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.prune(all))?)))
    }

    fn verify(&self, py: Python<'_>) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.verify())?)))
    }

    fn disk_use(&self, py: Python<'_>) -> PyResult<String> {
        guard(|| Ok(json(&py.detach(|| self.0.disk_use())?)))
    }
}
