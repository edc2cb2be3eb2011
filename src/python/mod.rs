//! The Python module `stockade._stockade`: the same nouns, thin. What Python programs import is `python/stockade`,
//! which adds what only Python has: text, file objects, `await`, dataclasses.

mod commit;
mod convert;
mod error;
mod images;
mod options;
mod outcome;
mod process;
mod pull;
mod spec;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

// `gil_used`: no free-threaded interpreter has run the tests yet, so one takes its lock back when it loads this, and warns.
#[pymodule(gil_used = true)]
mod _stockade {
    use super::*;

    #[pymodule_export]
    use super::commit::{Held, build, commit, diff, export, export_image, hold, snapshot};
    #[pymodule_export]
    use super::images::Store;
    #[pymodule_export]
    use super::process::{Process, Sandbox, run, spawn};
    #[pymodule_export]
    use super::pull::pull;
    #[pymodule_export]
    use super::spec::Spec;

    #[allow(non_upper_case_globals, reason = "the name that Python has for it")]
    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Refuses every interpreter of the process but the main one: the classes would be shared between them.
    #[pymodule_init]
    fn init(_py: Python<'_>) -> PyResult<()> {
        // SAFETY: this thread is attached to an interpreter, of which both only read.
        let own = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
        match own {
            0 => Ok(()),
            _ => Err(PyImportError::new_err(
                "stockade cannot be used in subinterpreters: import it in the main interpreter of a process",
            )),
        }
    }

    /// What every check of `stockade.doctor` found: tuples of name, status, detail and fix.
    #[pyfunction]
    fn doctor(py: Python<'_>) -> PyResult<Vec<outcome::CheckTuple>> {
        error::guard(|| {
            let checks = py.detach(crate::doctor);
            Ok(checks.into_iter().map(outcome::check).collect())
        })
    }

    /// The fields of the outcome that `text`, as the Rust library writes JSON, describes.
    #[pyfunction]
    fn outcome_from_json<'py>(
        py: Python<'py>,
        text: &str,
    ) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
        error::guard(|| outcome::from_json(py, text))
    }

    /// Every verdict as a tuple of number, name and short name.
    #[pyfunction]
    fn verdicts() -> Vec<(i32, &'static str, &'static str)> {
        crate::Verdict::ALL
            .iter()
            .map(|v| (*v as i32, v.name(), v.short()))
            .collect()
    }
}
