//! The guest program: built once, shown inside every sandbox as `/guest/guest`.

use super::skips;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use stockade::{Outcome, Spec, Volume};

/// Set for processes that a test starts, so that they need not build the guest again.
pub const GUEST_VARIABLE: &str = "STOCKADE_SUITE_GUEST";

/// The directory that holds the guest.
pub fn guest_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os(GUEST_VARIABLE) {
        Some(dir) => PathBuf::from(dir),
        None => build(),
    })
}

fn build() -> PathBuf {
    let dir = tempfile::Builder::new()
        .prefix("stockade-suite-")
        .tempdir()
        .expect("a temporary directory")
        .keep();
    // The caller of the library may be root, who is somebody else inside: everyone may enter.
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("chmod");
    skips::remove_at_exit(dir.clone());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&sources)
        .unwrap_or_else(|e| panic!("{}: {e}", sources.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    files.sort();
    let status = Command::new(std::env::var_os("CC").unwrap_or("gcc".into()))
        .args([
            "-static", "-O2", "-pthread", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .arg(dir.join("guest"))
        .args(files)
        .status()
        .expect("a C compiler: the tests need gcc and the static libc");
    assert!(status.success(), "the guest cannot be built");
    dir
}

/// Now, with the guest built: that must not count as a sandbox's time.
pub fn start_clock() -> Instant {
    guest_dir();
    Instant::now()
}

/// A specification that runs the guest with these arguments. No test waits longer than 30 seconds.
pub fn guest_spec<T: AsRef<[u8]>>(args: impl IntoIterator<Item = T>) -> Spec {
    let mut all = vec![b"/guest/guest".to_vec()];
    all.extend(args.into_iter().map(|arg| arg.as_ref().to_vec()));
    let host = guest_dir()
        .to_str()
        .expect("the temporary directory is UTF-8")
        .to_string();
    Spec::new(all)
        .volume(Volume {
            host,
            inside: "/guest".into(),
            writable: false,
        })
        .wall_time(Duration::from_secs(30))
}

/// Runs the guest with every default; the error, if any, is the test's failure.
pub fn run_guest<T: AsRef<[u8]>>(args: impl IntoIterator<Item = T>) -> Outcome {
    guest_spec(args).run().expect("the sandbox starts")
}

/// Runs the guest, which has nothing to do: all that can fail is ours.
pub fn run_succeeds() {
    let outcome = run_guest(["true"]);
    assert!(outcome.success(), "{outcome:?}");
}

/// The guest's lines of `key=value`.
pub fn fields(outcome: &Outcome) -> BTreeMap<String, String> {
    outcome
        .stdout
        .to_text()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}
