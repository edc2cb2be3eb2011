//! A live sandbox as an image, and images that are used; paths and images as tar streams.

use super::convert::Field;
use super::error::guard;
use super::images::{Place, Store, json, watched};
use super::process::Sandbox;
use crate::changes::Change;
use crate::error::Error;
use crate::image::{self, BuildEvent, BuildRequest};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, PoisonError};

/// An image that is being used.
#[pyclass(module = "stockade._stockade", frozen)]
pub struct Held {
    id: String,
    image: Mutex<Option<image::Image>>,
}

impl Held {
    fn of(image: image::Image) -> Held {
        Held {
            id: image.id.to_string(),
            image: Mutex::new(Some(image)),
        }
    }
}

#[pymethods]
impl Held {
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// Uses it no longer.
    fn release(&self) {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        *image = None;
    }
}

/// Makes an image of what has been changed in a sandbox; `options` and the answer are JSON.
#[pyfunction]
pub fn commit(
    py: Python<'_>,
    sandbox: &Bound<'_, Sandbox>,
    name: Option<&str>,
    options: &str,
) -> PyResult<String> {
    guard(|| {
        let commit =
            serde_json::from_str(options).map_err(|e| Error::invalid(format!("commit: {e}")))?;
        let sandbox = sandbox.get().inner();
        let names: Vec<&str> = name.into_iter().collect();
        Ok(json(&py.detach(|| sandbox.commit(&names, &commit))?))
    })
}

/// The same without a name.
#[pyfunction]
pub fn snapshot(py: Python<'_>, sandbox: &Bound<'_, Sandbox>) -> PyResult<Held> {
    guard(|| {
        let sandbox = sandbox.get().inner();
        Ok(Held::of(py.detach(|| sandbox.snapshot())?))
    })
}

/// Keeps an image in the store.
#[pyfunction]
pub fn hold(py: Python<'_>, store: &Bound<'_, Store>, reference: &str) -> PyResult<Held> {
    guard(|| {
        let store = store.get().inner();
        Ok(Held::of(py.detach(|| store.resolve(reference))?))
    })
}

/// Writes a path of a sandbox as a tar stream.
#[pyfunction]
pub fn export(
    py: Python<'_>,
    sandbox: &Bound<'_, Sandbox>,
    path: &Bound<'_, PyAny>,
    target: &Bound<'_, PyAny>,
) -> PyResult<()> {
    guard(|| {
        let name = "path";
        let path = Field { name, value: path }.os_bytes()?;
        let path = String::from_utf8(path).map_err(|_| Error::invalid("path: it is not UTF-8"))?;
        let target = Place::extract("target", target)?;
        let sandbox = sandbox.get().inner();
        Ok(py.detach(|| sandbox.export(&path, &mut created(target)?).map(drop))?)
    })
}

/// Writes the root file system of an image as a tar stream.
#[pyfunction]
pub fn export_image(
    py: Python<'_>,
    store: &Bound<'_, Store>,
    reference: &str,
    target: &Bound<'_, PyAny>,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    guard(|| {
        let target = Place::extract("target", target)?;
        let store = store.get().inner();
        watched(py, progress, |watch| {
            // Before the file is emptied that may be there.
            let _held = store.resolve(reference)?;
            store.export(reference, &mut created(target)?, Some(watch))
        })
    })
}

/// What one image changes of another: letters and paths.
#[pyfunction]
pub fn diff(
    py: Python<'_>,
    store: &Bound<'_, Store>,
    reference: &str,
    base: Option<&str>,
) -> PyResult<Vec<(String, OsString)>> {
    guard(|| {
        let store = store.get().inner();
        let changes = py.detach(|| store.diff(reference, base))?;
        Ok(changes.into_iter().map(fields).collect())
    })
}

/// Builds an image; `request` and the answer are JSON. `step` is told (text, number, total, cached), `output` bytes.
#[pyfunction]
pub fn build(
    py: Python<'_>,
    store: &Bound<'_, Store>,
    request: &str,
    step: Option<Py<PyAny>>,
    output: Option<Py<PyAny>>,
) -> PyResult<String> {
    guard(|| {
        let request = BuildRequest::from_json(request)?;
        let store = store.get().inner();
        let (result, raised) = py.detach(|| {
            let mut raised = None;
            let mut watch = |event: &BuildEvent<'_>| {
                let told = Python::attach(|py| {
                    py.check_signals()?;
                    match (*event, &step, &output) {
                        (
                            BuildEvent::Step {
                                text,
                                number,
                                total,
                                cached,
                            },
                            Some(step),
                            _,
                        ) => step.call1(py, (text, number, total, cached)).map(drop),
                        (BuildEvent::Output(bytes), _, Some(output)) => {
                            output.call1(py, (PyBytes::new(py, bytes),)).map(drop)
                        }
                        _ => Ok(()),
                    }
                });
                match told {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        raised = Some(error);
                        ControlFlow::Break(())
                    }
                }
            };
            let built = request.build(store, &mut watch);
            (built, raised)
        });
        match raised {
            Some(error) => Err(error),
            None => Ok(json(&result?)),
        }
    })
}

/// The letter and the path of a change.
pub fn fields(change: Change) -> (String, OsString) {
    let path = OsString::from_vec(change.path.0);
    (change.kind.letter().to_string(), path)
}

fn created(target: Place) -> Result<File, Error> {
    match target {
        Place::Descriptor(fd) => Ok(File::from(fd)),
        Place::Path(path) => File::create(&path)
            .map_err(|e| Error::system(format_args!("create `{}`", path.display()), e)),
    }
}
