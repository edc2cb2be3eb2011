//! Pulling images. `python/stockade/images.py` makes dataclasses of what comes back.

use super::convert::Field;
use super::error::guard;
use super::images::{Store, json, watched};
use crate::error::Error;
use crate::image::Pull;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Pulls an image into the store. What `options` may have is in `python/stockade/images.py`.
#[pyfunction]
#[pyo3(signature = (store, name, progress, **options))]
pub fn pull(
    py: Python<'_>,
    store: &Store,
    name: String,
    progress: Option<Py<PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<String> {
    guard(|| {
        let settings = read(options)?.settings;
        let image = watched(py, progress, |watch| {
            store.0.pull(&name, Pull::from(settings).progress(watch))
        })?;
        Ok(json(&image))
    })
}

fn read(options: Option<&Bound<'_, PyDict>>) -> PyResult<Pull<'static>> {
    let mut pull = Pull::default();
    let (mut user, mut password) = (None, None);
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        let field = Field {
            name: &name,
            value: &value,
        };
        if value.is_none() {
            continue;
        }
        let path = || field.os_bytes().map(OsString::from_vec);
        pull = match name.as_str() {
            "platform" => pull.platform(text(field)?),
            "user" => {
                user = Some(text(field)?);
                pull
            }
            "password" => {
                password = Some(text(field)?);
                pull
            }
            "identity_token" => pull.identity_token(text(field)?),
            "auth_file" => pull.auth_file(path()?),
            "ca_file" => pull.ca_file(path()?),
            "tls_verify" => pull.tls_verify(field.boolean()?),
            "mirrors" => {
                let all = field.sequence(r#"["mirror.example"]"#, text)?;
                all.into_iter().fold(pull, Pull::mirror)
            }
            "max_concurrent_downloads" => {
                let count = usize::try_from(field.count()?);
                pull.max_concurrent_downloads(count.unwrap_or(usize::MAX))
            }
            "retry" => pull.retry(u32::try_from(field.count()?).unwrap_or(u32::MAX)),
            "timeout" => pull.timeout(field.duration()?),
            _ => {
                let why = format!("pull() has no parameter `{name}`");
                return Err(PyTypeError::new_err(why));
            }
        };
    }
    match (user, password) {
        (Some(user), Some(password)) => Ok(pull.credentials(user, password)),
        (None, None) => Ok(pull),
        _ => Err(Error::invalid("user and password belong together").into()),
    }
}

/// What is text, and neither bytes nor a path.
fn text(field: Field<'_, '_>) -> PyResult<String> {
    match field.value.cast::<PyString>() {
        Ok(text) => text.extract().map_err(|e: PyErr| field.refuse(e)),
        Err(_) => Err(field.refuse("a str is needed")),
    }
}
