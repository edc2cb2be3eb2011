//! Python values as fields of a specification. Every refusal names the parameter.

use crate::bytes::Bytes;
use crate::error::Error;
use crate::spec::{File, Stdio};
use crate::units;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyMapping, PyMemoryView, PyString, PyTuple,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// `subprocess.PIPE`, `STDOUT` and `DEVNULL`.
const PIPE: i32 = -1;
const STDOUT: i32 = -2;
const DEVNULL: i32 = -3;

/// A value that was passed for a parameter, and the parameter's name.
#[derive(Clone, Copy)]
pub struct Field<'a, 'py> {
    pub name: &'a str,
    pub value: &'a Bound<'py, PyAny>,
}

impl<'a, 'py> Field<'a, 'py> {
    /// An `InvalidArgumentError`: "{name}: {why}".
    pub fn refuse(self, why: impl std::fmt::Display) -> PyErr {
        Error::invalid(format!("{}: {why}", self.name)).into()
    }

    fn not(self, wanted: &str) -> PyErr {
        let kind = self.value.get_type();
        let kind = kind
            .name()
            .map_or_else(|_| "?".into(), |name| name.to_string());
        self.refuse(format!("{wanted} is needed, not {kind}"))
    }

    fn of(self, value: &'a Bound<'py, PyAny>) -> Self {
        Field {
            name: self.name,
            value,
        }
    }

    /// Python takes `True` for 1; here it is a mistake.
    fn is_number(self) -> bool {
        self.value.is_instance_of::<PyInt>() && !self.value.is_instance_of::<PyBool>()
    }

    /// `str`, `bytes` or a path object, as the file system encoding has it.
    pub fn os_bytes(self) -> PyResult<Vec<u8>> {
        if let Ok(bytes) = self.value.cast::<PyBytes>() {
            return Ok(bytes.as_bytes().to_vec());
        }
        let text = if self.value.is_instance_of::<PyString>() {
            self.value.clone()
        } else {
            let path = self
                .value
                .call_method0(pyo3::intern!(self.value.py(), "__fspath__"));
            let path = path.map_err(|_| self.not("str, bytes or a path"))?;
            if let Ok(bytes) = path.cast::<PyBytes>() {
                return Ok(bytes.as_bytes().to_vec());
            }
            path
        };
        let text: OsString = text.extract().map_err(|e: PyErr| self.refuse(e))?;
        Ok(text.into_vec())
    }

    /// The same, where only text can be used.
    pub fn text(self) -> PyResult<String> {
        String::from_utf8(self.os_bytes()?)
            .map_err(|_| self.refuse("a name that is not UTF-8 cannot be used"))
    }

    /// `bytes` and the like; `str` as UTF-8.
    pub fn content(self) -> PyResult<Bytes> {
        let value = self.value;
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Bytes::from(bytes.as_bytes()));
        }
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Bytes::from(text.to_str().map_err(|e| self.refuse(e))?));
        }
        if let Ok(bytes) = value.cast::<PyByteArray>() {
            return Ok(Bytes(bytes.to_vec()));
        }
        if value.is_instance_of::<PyMemoryView>() {
            let bytes = value.call_method0("tobytes")?;
            return Ok(Bytes::from(bytes.cast::<PyBytes>()?.as_bytes()));
        }
        Err(self.not("bytes or str"))
    }

    /// The elements of a sequence, each by `each`. One string is not a sequence of strings.
    pub fn sequence<T>(
        self,
        example: &str,
        each: impl Fn(Field<'_, 'py>) -> PyResult<T>,
    ) -> PyResult<Vec<T>> {
        let value = self.value;
        let wanted = format!("a sequence such as {example}");
        let is_text = value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>();
        if is_text || value.cast::<PyMapping>().is_ok() {
            return Err(self.not(&wanted));
        }
        let elements = value.try_iter().map_err(|_| self.not(&wanted))?;
        elements.map(|element| each(self.of(&element?))).collect()
    }

    /// The pairs of a mapping.
    pub fn mapping<K: Ord, V>(
        self,
        key: impl Fn(Field<'_, 'py>) -> PyResult<K>,
        value: impl Fn(Field<'_, 'py>) -> PyResult<V>,
    ) -> PyResult<BTreeMap<K, V>> {
        let mapping = self
            .value
            .cast::<PyMapping>()
            .map_err(|_| self.not("a mapping"))?;
        let mut pairs = BTreeMap::new();
        for pair in mapping.items()?.iter() {
            let (name, content): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair.extract()?;
            pairs.insert(key(self.of(&name))?, value(self.of(&content))?);
        }
        Ok(pairs)
    }

    /// A file to make: its content, or a tuple of content and mode.
    pub fn file(self) -> PyResult<File> {
        let Ok(pair) = self.value.cast::<PyTuple>() else {
            return Ok(File {
                content: self.content()?,
                mode: None,
            });
        };
        if pair.len() != 2 {
            return Err(self.refuse("a tuple is (content, mode)"));
        }
        let (content, mode) = (pair.get_item(0)?, pair.get_item(1)?);
        let mode = self.of(&mode).count()?;
        let mode = u32::try_from(mode)
            .map_err(|_| self.refuse(format!("the mode {mode:#o} is out of range")))?;
        Ok(File {
            content: self.of(&content).content()?,
            mode: Some(mode),
        })
    }

    /// A whole number, not negative.
    pub fn count(self) -> PyResult<u64> {
        if !self.is_number() {
            return Err(self.not("an int"));
        }
        let out_of_range =
            |_| self.refuse(format!("{} is out of range: 0 to 2**64 - 1", self.value));
        self.value.extract().map_err(out_of_range)
    }

    /// A whole number.
    pub fn integer(self) -> PyResult<i32> {
        if !self.is_number() {
            return Err(self.not("an int"));
        }
        let out_of_range = |_| self.refuse(format!("{} is out of range", self.value));
        self.value.extract().map_err(out_of_range)
    }

    /// True or False, and nothing that only counts as such.
    pub fn boolean(self) -> PyResult<bool> {
        let value = self.value.cast::<PyBool>();
        Ok(value.map_err(|_| self.not("True or False"))?.is_true())
    }

    /// A number of bytes, or text such as "256m".
    pub fn size(self) -> PyResult<u64> {
        if let Ok(text) = self.value.cast::<PyString>() {
            return units::parse_size(&text.to_cow()?).map_err(|e| self.refuse(e));
        }
        match self.is_number() {
            true => self.count(),
            false => Err(self.not("an int (bytes) or a str such as \"256m\"")),
        }
    }

    /// A number of seconds, or text such as "500ms".
    pub fn duration(self) -> PyResult<Duration> {
        if let Ok(text) = self.value.cast::<PyString>() {
            return units::parse_duration(&text.to_cow()?).map_err(|e| self.refuse(e));
        }
        if !self.is_number() && !self.value.is_instance_of::<PyFloat>() {
            return Err(self.not("a number of seconds or a str such as \"500ms\""));
        }
        let value: f64 = self.value.extract().unwrap_or(f64::INFINITY);
        units::seconds(value)
            .ok_or_else(|| self.refuse(format!("{} is not a number of seconds", self.value)))
    }

    /// A number, whole or not.
    pub fn number(self) -> PyResult<f64> {
        if !self.is_number() && !self.value.is_instance_of::<PyFloat>() {
            return Err(self.not("a number"));
        }
        self.value
            .extract()
            .map_err(|_| self.refuse(format!("{} is out of range", self.value)))
    }

    /// One of the words that JSON has for `T`.
    pub fn word<T: DeserializeOwned>(self, words: &str) -> PyResult<T> {
        let text = self
            .value
            .cast::<PyString>()
            .map_err(|_| self.not(words))?
            .to_cow()?;
        serde_json::from_value(text.as_ref().into())
            .map_err(|_| self.refuse(format!("`{text}` is not {words}")))
    }

    /// Something that `T` reads from text, such as a volume.
    pub fn parse<T: std::str::FromStr<Err = Error>>(self) -> PyResult<T> {
        let text = self
            .value
            .cast::<PyString>()
            .map_err(|_| self.not("a str"))?
            .to_cow()?;
        text.parse().map_err(|e| self.refuse(e))
    }

    /// `PIPE`, `DEVNULL`, `STDOUT`, a descriptor, an object that has one, or "capture".
    pub fn stdio(self) -> PyResult<Stdio> {
        let value = self.value;
        if value.is_instance_of::<PyString>() {
            return self.word("\"capture\", PIPE, DEVNULL, STDOUT, a descriptor or a file object");
        }
        let number = match self.is_number() {
            true => value.clone(),
            false => value
                .call_method0(pyo3::intern!(value.py(), "fileno"))
                .map_err(|_| self.not("PIPE, DEVNULL, STDOUT, a descriptor or a file object"))?,
        };
        match number.extract::<i32>() {
            Ok(PIPE) => Ok(Stdio::Pipe),
            Ok(STDOUT) => Ok(Stdio::Stdout),
            Ok(DEVNULL) => Ok(Stdio::Null),
            Ok(fd) if fd >= 0 => Ok(Stdio::Fd(fd)),
            _ => Err(self.refuse(format!("{number} is not a descriptor"))),
        }
    }
}

/// What [`Field::stdio`] takes for this: a number, or "capture".
pub fn stdio_to_py<'py>(py: Python<'py>, stdio: Stdio) -> PyResult<Bound<'py, PyAny>> {
    let number = match stdio {
        Stdio::Capture => return Ok(PyString::intern(py, "capture").into_any()),
        Stdio::Pipe => PIPE,
        Stdio::Stdout => STDOUT,
        Stdio::Null => DEVNULL,
        Stdio::Fd(fd) => fd,
    };
    Ok(number.into_pyobject(py)?.into_any())
}
