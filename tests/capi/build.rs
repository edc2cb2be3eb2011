//! Building: the libraries by the Makefile, as users do, and C programs by the C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The package.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The C compiler with warnings as errors.
pub fn cc(compiler: &str) -> Command {
    let mut command = Command::new(compiler);
    command.args([
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-Wmissing-declarations",
        "-g",
    ]);
    command
}

/// Runs a command that must succeed; its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// `make` in the package, for a quick build in a target directory of its own: whoever runs this may hold the other.
pub fn make(arguments: &[&str]) {
    let mut command = Command::new("make");
    command.args(["--no-print-directory", "-C", ROOT, "PROFILE=dev"]);
    // What an outer `make` passes on must not reach this one.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command.env("CARGO_TARGET_DIR", scratch().join("target"));
    succeed(command.args(arguments));
}

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("capi")
}

/// A directory below which the libraries are installed, with the prefix `/usr/local`: the one that `STOCKADE_C_STAGE`
/// names, for who may not write here or has no cargo; else made here, once.
pub fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| match std::env::var_os("STOCKADE_C_STAGE") {
        Some(stage) => stage.into(),
        None => {
            let stage = scratch().join("stage");
            make(&["lib"]);
            make(&["install", &format!("DESTDIR={}", stage.display())]);
            stage
        }
    })
}

/// Where the installed libraries are.
pub fn libraries() -> PathBuf {
    stage().join("usr/local/lib")
}

/// What the installed pkg-config file says, below the stage.
pub fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", libraries().join("pkgconfig"));
    command.env("PKG_CONFIG_SYSROOT_DIR", stage());
    let words = succeed(command.args(arguments).arg("stockade"));
    words.split_whitespace().map(str::to_string).collect()
}

/// How a program is linked.
#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    Shared,
    Static,
}

/// A C program, compiled against the installed library with what pkg-config says and nothing else.
pub struct Program {
    pub path: PathBuf,
    _directory: TempDir,
}

impl Program {
    pub fn new(source: &str, link: Link) -> Program {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("program");
        let mut command = cc("gcc");
        command.args(["-std=c99", "-D_GNU_SOURCE", "-pthread", "-o"]);
        command.arg(&path).arg(Path::new(ROOT).join(source));
        command.arg(format!("-I{ROOT}/tests/capi")); // for sources that are made
        command.args(pkg_config(&["--cflags"]));
        match link {
            Link::Shared => {
                command.args(pkg_config(&["--libs"]));
                command.arg(format!("-Wl,-rpath,{}", libraries().display()));
            }
            Link::Static => {
                let words = pkg_config(&["--libs", "--static"]);
                command.args(words.iter().map(|word| match word.as_str() {
                    "-lstockade" => "-l:libstockade.a",
                    other => other,
                }));
            }
        }
        succeed(&mut command);
        Program {
            path,
            _directory: directory,
        }
    }
}
