//! Started programs and live sandboxes.

use crate::error::Error;
use crate::outcome::Outcome;
use crate::process::{self, Notification};
use crate::python::convert::Field;
use crate::python::error::guard;
use crate::python::options;
use crate::python::outcome;
use crate::python::spec::Spec;
use crate::units;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a wait may go on without a look at Python's pending signals. A signal that comes during the wait
/// interrupts it at once; this is for the one that comes just before, or to another thread.
const SIGNAL_CHECK: Duration = Duration::from_millis(250);

/// A program started in a sandbox: the handle behind `stockade.Process`.
#[pyclass(frozen, module = "stockade._stockade")]
pub struct Process {
    inner: Option<crate::Process>,
}

impl Process {
    fn new(inner: crate::Process) -> Self {
        Process { inner: Some(inner) }
    }

    fn inner(&self) -> &crate::Process {
        self.inner.as_ref().expect("only drop takes it")
    }
}

impl Process {
    /// `None` if none came in that time, or a signal interrupts; `Some(None)` if none will come.
    fn notification_within(
        &self,
        timeout: Duration,
    ) -> Result<Option<Option<Notification>>, Error> {
        let process = self.inner();
        for last in [false, true] {
            if let Some(told) = process.take_notification()? {
                return Ok(Some(Some(told)));
            }
            if process.poll()?.is_some() {
                // The last may have come with the end.
                return Ok(Some(process.take_notification()?));
            }
            if !last {
                process.block_for_notification(Some(timeout));
            }
        }
        Ok(None)
    }
}

fn given<'py, T>(
    name: &str,
    value: &Bound<'py, PyAny>,
    read: impl Fn(Field<'_, 'py>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    let field = Field { name, value };
    (!value.is_none()).then(|| read(field)).transpose()
}

fn fields(py: Python<'_>, told: Notification) -> PyResult<Bound<'_, PyTuple>> {
    match told {
        Notification::CpuTime { threshold, used } => {
            ("cpu_time", threshold.as_secs_f64(), used.as_secs_f64()).into_pyobject(py)
        }
        Notification::Memory { threshold, used } => ("memory", threshold, used).into_pyobject(py),
    }
}

impl Drop for Process {
    /// Ending the program may take a moment, in which other threads of Python go on.
    fn drop(&mut self) {
        drop_detached(self.inner.take());
    }
}

#[pymethods]
impl Process {
    /// The program's process id on the host, while it runs.
    ///
    /// Waits for its start, about a millisecond.
    #[getter]
    fn pid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        guard(|| Ok(py.detach(|| self.inner().pid())))
    }

    /// The writing end of standard input, once, if it is a pipe; the caller closes it.
    fn take_stdin(&self) -> Option<i32> {
        self.inner().take_stdin().map(OwnedFd::into_raw_fd)
    }

    /// The reading end of standard output, likewise.
    fn take_stdout(&self) -> Option<i32> {
        self.inner().take_stdout().map(OwnedFd::into_raw_fd)
    }

    /// The reading end of standard error, likewise.
    fn take_stderr(&self) -> Option<i32> {
        self.inner().take_stderr().map(OwnedFd::into_raw_fd)
    }

    /// The descriptor that is readable whenever `poll` has something to do.
    fn fileno(&self) -> PyResult<i32> {
        guard(|| Ok(self.inner().pollable()?.as_raw_fd()))
    }

    /// Moves captured output along; the outcome's fields if the program has ended. Never blocks.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        guard(|| {
            let outcome = py.detach(|| self.inner().poll())?;
            outcome.map(|o| outcome::to_dict(py, &o)).transpose()
        })
    }

    /// Waits for the end, at most `timeout` seconds; the outcome's fields, or `None` if the program still runs.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        guard(|| {
            // A time too long for a Duration is as good as no end.
            let timeout = timeout.and_then(|t| units::seconds(t.max(0.0)));
            let outcome = wait(py, self.inner(), timeout)?;
            outcome.map(|o| outcome::to_dict(py, &o)).transpose()
        })
    }

    /// Sends a signal to the program.
    fn signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().signal(signal))?))
    }

    /// Asks the program to end.
    fn ask_to_stop(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().ask_to_stop())?))
    }

    /// Ends the program and everything it started.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().kill())?))
    }

    /// What it uses now: the fields of `stockade.Stats`; `None` if it has ended.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        guard(|| {
            let stats = py.detach(|| self.inner().stats())?;
            stats.map(|s| outcome::stats_to_dict(py, &s)).transpose()
        })
    }

    /// Stops the program and everything it started; returns when none of them runs.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().pause())?))
    }

    /// Changes the limits that are named.
    #[pyo3(signature = (**limits))]
    fn update(&self, py: Python<'_>, limits: Option<Bound<'_, PyDict>>) -> PyResult<()> {
        guard(|| {
            let update = options::update(limits)?;
            Ok(py.detach(|| self.inner().update(&update))?)
        })
    }

    /// Sets what is to be told of, `None` for nothing.
    #[pyo3(signature = (threshold))]
    fn notify_cpu_time(&self, py: Python<'_>, threshold: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| {
            let threshold = given("notify_cpu_time", threshold, |f| f.duration())?;
            Ok(py.detach(|| self.inner().notify_cpu_time(threshold))?)
        })
    }

    /// The same of memory.
    #[pyo3(signature = (threshold))]
    fn notify_memory(&self, py: Python<'_>, threshold: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| {
            let threshold = given("notify_memory", threshold, |f| f.size())?;
            Ok(py.detach(|| self.inner().notify_memory(threshold))?)
        })
    }

    /// The next notification, waited for at most `timeout` seconds: the fields of `stockade.Notification`.
    #[pyo3(signature = (timeout=None))]
    fn next_notification<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        guard(|| {
            let timeout = timeout.and_then(|t| units::seconds(t.max(0.0)));
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            loop {
                let slice = deadline.map_or(SIGNAL_CHECK, |deadline| {
                    deadline
                        .saturating_duration_since(Instant::now())
                        .min(SIGNAL_CHECK)
                });
                if let Some(told) = py.detach(|| self.notification_within(slice))? {
                    return told.map(|told| fields(py, told)).transpose();
                }
                py.check_signals()?;
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Ok(None);
                }
            }
        })
    }

    /// The descriptor that is readable whenever there may be one, once a threshold was set.
    fn notification_fileno(&self) -> PyResult<i32> {
        guard(|| Ok(self.inner().notification_fd()?.as_raw_fd()))
    }

    /// Lets a paused program go on.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().resume())?))
    }
}

/// A live sandbox: the handle behind `stockade.Sandbox`.
#[pyclass(frozen, module = "stockade._stockade")]
pub struct Sandbox {
    inner: Option<crate::Sandbox>,
}

impl Sandbox {
    pub fn inner(&self) -> &crate::Sandbox {
        self.inner.as_ref().expect("only drop takes it")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop_detached(self.inner.take());
    }
}

#[pymethods]
impl Sandbox {
    #[new]
    fn new(py: Python<'_>, spec: &Bound<'_, Spec>) -> PyResult<Self> {
        guard(|| {
            let spec = &spec.get().0;
            let inner = py.detach(|| crate::Sandbox::start(spec))?;
            Ok(Sandbox { inner: Some(inner) })
        })
    }

    /// Makes a file in it.
    #[pyo3(signature = (path, content, mode=None))]
    fn put(&self, py: Python<'_>, path: &str, content: &[u8], mode: Option<u32>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().put(path, content, mode))?))
    }

    /// What is in a regular file in it.
    fn get<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyBytes>> {
        guard(|| {
            let content = py.detach(|| self.inner().get(path))?;
            Ok(PyBytes::new(py, &content))
        })
    }

    /// Copies a directory of the host into it.
    fn put_tree(&self, py: Python<'_>, path: &str, host: PathBuf) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().put_tree(path, host))?))
    }

    /// Copies a directory of it to the host.
    fn get_tree(&self, py: Python<'_>, path: &str, host: PathBuf) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().get_tree(path, host))?))
    }

    /// Takes it back to its start.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().reset())?))
    }

    /// What differs from its start: letters and paths.
    fn changes(&self, py: Python<'_>) -> PyResult<Vec<(String, OsString)>> {
        guard(|| {
            let changes = py.detach(|| self.inner().changes())?;
            Ok(changes.into_iter().map(super::commit::fields).collect())
        })
    }

    /// The upper layer of its root, as a descriptor.
    fn upper(&self, py: Python<'_>) -> PyResult<i32> {
        guard(|| Ok(py.detach(|| self.inner().upper())?.into_raw_fd()))
    }

    /// Ends everything in it and removes it. Closing again does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| Ok(py.detach(|| self.inner().close())?))
    }
}

/// Starts the program of `spec` in `sandbox`, or in a sandbox of its own. Its `pid` is known only with `handle`.
#[pyfunction]
#[pyo3(signature = (spec, sandbox=None, *, handle=false))]
pub fn spawn(
    py: Python<'_>,
    spec: &Bound<'_, Spec>,
    sandbox: Option<&Bound<'_, Sandbox>>,
    handle: bool,
) -> PyResult<Process> {
    guard(|| Ok(Process::new(start(py, spec, sandbox, handle)?)))
}

/// Runs the program of `spec` in `sandbox`, or in a sandbox of its own, and waits for its end: the outcome's fields.
///
/// An exception in the meantime, such as `KeyboardInterrupt`, ends the program before it leaves here.
#[pyfunction]
#[pyo3(signature = (spec, sandbox=None))]
pub fn run<'py>(
    py: Python<'py>,
    spec: &Bound<'py, Spec>,
    sandbox: Option<&Bound<'py, Sandbox>>,
) -> PyResult<Bound<'py, PyDict>> {
    guard(|| {
        let process = start(py, spec, sandbox, false)?;
        match wait(py, &process, None) {
            Ok(outcome) => outcome::to_dict(py, &outcome.expect("no timeout was given")),
            Err(exception) => {
                // The exception is what the caller must hear of; the supervisor ends what cannot be waited for.
                py.detach(|| process.kill().and_then(|()| process.wait()))
                    .ok();
                Err(exception)
            }
        }
    })
}

fn start(
    py: Python<'_>,
    spec: &Bound<'_, Spec>,
    sandbox: Option<&Bound<'_, Sandbox>>,
    handle: bool,
) -> Result<crate::Process, Error> {
    let spec = &spec.get().0;
    let sandbox = sandbox.map(|sandbox| sandbox.get().inner());
    py.detach(|| match sandbox {
        Some(sandbox) => sandbox.start_program(spec, handle),
        None => process::start(spec, handle, None),
    })
}

/// Waits as `crate::Process::wait_timeout` does, and runs Python's signal handlers meanwhile.
fn wait(
    py: Python<'_>,
    process: &crate::Process,
    timeout: Option<Duration>,
) -> PyResult<Option<Outcome>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let signals_due = Instant::now() + SIGNAL_CHECK;
        let until = deadline.map_or(signals_due, |deadline| deadline.min(signals_due));
        if let Some(outcome) = py.detach(|| wait_until(process, until))? {
            return Ok(Some(outcome));
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// The outcome, or `None` when `until` has come or a signal interrupts.
fn wait_until(process: &crate::Process, until: Instant) -> Result<Option<Outcome>, Error> {
    loop {
        if let Some(outcome) = process.poll()? {
            return Ok(Some(outcome));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || process.block(Some(left)) {
            return Ok(None);
        }
    }
}

/// Drops without the interpreter's lock, unless the interpreter is gone.
fn drop_detached<T: Send>(value: Option<T>) {
    let mut value = value;
    Python::try_attach(|py| py.detach(|| drop(value.take())));
}
