//! Errors and panics as Python exceptions.

use crate::error::{Error, ErrorKind};
use pyo3::prelude::*;
use std::any::Any;
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
        .unwrap_or_else(|payload| Err(panicked(payload.as_ref()).into()))
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".into());
    Error::new(
        ErrorKind::Internal,
        format!("a bug in stockade, please report it: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error_with_its_text() {
        let number = 3;
        for (payload, text) in [
            (catch_unwind(|| panic!("plain")).unwrap_err(), "plain"),
            (
                catch_unwind(|| panic!("with {number}")).unwrap_err(),
                "with 3",
            ),
            (
                catch_unwind(|| std::panic::panic_any(7)).unwrap_err(),
                "unknown panic",
            ),
        ] {
            let error = panicked(payload.as_ref());
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(error.to_string().ends_with(text), "{error}");
        }
    }
}
