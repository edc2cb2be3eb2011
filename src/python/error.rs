//! Errors and panics as Python exceptions.

use crate::error::{Error, ErrorKind};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl From<Error> for PyErr {
    /// The exception of the error's kind. The classes live in Python, in `stockade._errors`.
    fn from(error: Error) -> PyErr {
        let class = match error.kind() {
            ErrorKind::InvalidArgument => "InvalidArgumentError",
            ErrorKind::Unsupported => "UnsupportedError",
            ErrorKind::Setup => "SetupError",
            ErrorKind::State => "StateError",
            ErrorKind::Supervisor => "SupervisorError",
            ErrorKind::Resource => "ResourceError",
            ErrorKind::Internal => "InternalError",
            ErrorKind::Image => "ImageError",
            ErrorKind::NotFound => "NotFoundError",
            ErrorKind::Registry => "RegistryError",
        };
        Python::attach(|py| {
            py.import("stockade._errors")
                .and_then(|module| module.getattr(class))
                .and_then(|class| class.call1((error.to_string(), error.errno(), error.step())))
                .map_or_else(|failed| failed, PyErr::from_value)
        })
    }
}

/// Runs `body`; a panic in it becomes an `InternalError` that carries the panic's text.
///
/// pyo3 would raise a `PanicException`, which is no `Exception` and passes every `except Exception`.
pub fn guard<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // What a panic may leave half done is behind the core's own locks and descriptors, which survive it.
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|payload| Err(Error::from_panic(payload.as_ref()).into()))
}
