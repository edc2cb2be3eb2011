//! What is said past the capture, counting what this host made us skip, and cleaning up at the end of the test program.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, Once};

static SKIPS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static REMOVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Says, past the test runner's capture, that the current test is skipped and why.
pub fn note_skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}", thread.name().unwrap_or("?"));
    say_aloud(&line);
    SKIPS.lock().unwrap().push(line);
    at_exit();
}

/// Says a line past the test runner's capture.
pub fn say_aloud(line: &str) {
    // In one piece: other threads write as well.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Removes the directory when the test program ends.
pub fn remove_at_exit(dir: PathBuf) {
    REMOVE.lock().unwrap().push(dir);
    at_exit();
}

fn at_exit() {
    static ONCE: Once = Once::new();
    extern "C" fn finish() {
        for dir in REMOVE.lock().map(|dirs| dirs.clone()).unwrap_or_default() {
            let _ = std::fs::remove_dir_all(dir);
        }
        let skips = SKIPS.lock().map(|skips| skips.len()).unwrap_or(0);
        if skips > 0 {
            let _ = writeln!(
                std::io::stderr(),
                "suite: {skips} skipped on this host, each with its reason above"
            );
        }
    }
    ONCE.call_once(|| {
        // SAFETY: `finish` is a plain function that stays loaded as long as the program runs.
        unsafe { libc::atexit(finish) };
    });
}
