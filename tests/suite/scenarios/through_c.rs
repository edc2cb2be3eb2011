//! The scenarios' way through the C library: a small program that takes a specification on standard input and writes
//! what came of it, built against the library that `STOCKADE_LIB_DIR` holds.

use super::check::Answer;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program.
pub struct Program {
    _dir: tempfile::TempDir,
    path: PathBuf,
    libraries: PathBuf,
}

/// Builds it, or says why that cannot be done here.
pub fn build() -> Result<Program, String> {
    let libraries = std::env::var_os("STOCKADE_LIB_DIR")
        .map(PathBuf::from)
        .ok_or("STOCKADE_LIB_DIR does not say where the C library is (`make test` sets it)")?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("scenario");
    let status = Command::new(std::env::var_os("CC").unwrap_or("gcc".into()))
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-std=c11", "-I"])
        .arg(project.join("include"))
        .arg(project.join("tests/suite/scenario_c.c"))
        .arg("-o")
        .arg(&path)
        .arg("-L")
        .arg(&libraries)
        .arg("-lstockade")
        .status()
        .expect("a C compiler");
    assert!(status.success(), "scenario_c.c cannot be built");
    Ok(Program {
        _dir: dir,
        path,
        libraries,
    })
}

impl Program {
    /// Runs one specification.
    pub fn call(&self, spec: &str) -> Answer {
        let mut child = Command::new(&self.path)
            .env("LD_LIBRARY_PATH", &self.libraries)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(spec.as_bytes())
            .expect("write");
        let output = child.wait_with_output().expect("wait");
        let text = String::from_utf8(output.stdout).expect("text");
        match (output.status.code(), text.split_once('\n')) {
            (Some(0), _) => Answer::Outcome(
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")),
            ),
            (Some(1), Some((kind, message))) => Answer::Error {
                kind: kind_name(kind),
                message: message.into(),
            },
            _ => panic!("scenario_c: {}: {text}", output.status),
        }
    }
}

/// The status codes of the C API by the names of the Rust one.
fn kind_name(code: &str) -> String {
    use stockade::ErrorKind::*;
    let all = [
        InvalidArgument,
        Unsupported,
        Setup,
        State,
        Supervisor,
        Resource,
        Internal,
    ];
    let found = all.iter().find(|kind| (**kind as i32).to_string() == code);
    found.map_or_else(|| format!("status {code}"), |kind| format!("{kind:?}"))
}
