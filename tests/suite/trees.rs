//! Trees that programs have made, on their way out, and directories of the host's that change on their way in.

use crate::support::guest_spec;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use stockade::{Sandbox, Spec, Verdict};

fn shell(script: &str) -> Spec {
    let mut spec = guest_spec(["-"]);
    spec.args = vec!["/bin/sh".into(), "-c".into(), script.into()];
    spec
}

/// What would fill the host's disk does not: holes, and one file by many names.
#[test]
fn what_comes_out_is_no_larger_than_what_there_is() {
    let sandbox = Sandbox::start(&shell("")).expect("starts");
    let script = "mkdir -p d/closed && cd d && truncate -s 4T sparse && printf x >>sparse && \
        head -c 100000 /dev/zero >data && for i in 1 2 3 4 5; do ln data link$i; done && \
        echo in >closed/file && chmod 511 closed";
    let outcome = sandbox.run(&shell(script)).expect("runs");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let out = tempfile::tempdir().expect("a directory");
    let copy = out.path().join("copy");
    sandbox.get_tree("d", &copy).expect("copies");
    let seen = |name: &str| std::fs::symlink_metadata(copy.join(name)).expect("it is there");
    assert_eq!(seen("sparse").len(), (4 << 40) + 1);
    assert!(seen("sparse").blocks() < 100, "{:?}", seen("sparse"));
    let (data, link) = (seen("data"), seen("link5"));
    assert_eq!(
        (data.ino(), data.nlink(), data.len()),
        (link.ino(), 6, 100_000)
    );
    assert_eq!(seen("closed").permissions().mode() & 0o7777, 0o511);
    assert_eq!(
        std::fs::read(copy.join("closed/file")).expect("there"),
        b"in\n"
    );
}

/// A directory that another sandbox may write as a volume is no way to what that sandbox cannot read.
#[test]
fn a_link_that_comes_meanwhile_is_not_followed_on_the_way_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    std::fs::create_dir(&secret).expect("makes");
    std::fs::write(secret.join("file"), "secret").expect("writes");
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("d")).expect("makes");
    std::fs::write(from.join("d/file"), "own").expect("writes");
    std::fs::write(from.join("f"), "own").expect("writes");
    let made = std::process::Command::new("mkfifo")
        .arg(from.join("pipe"))
        .status();
    assert!(made.expect("mkfifo").success());
    let sandbox = Sandbox::start(&shell("")).expect("starts");
    let links = dir.path().join("links");
    std::fs::create_dir(&links).expect("makes");
    std::os::unix::fs::symlink(secret.join("file"), links.join("f")).expect("links");
    std::os::unix::fs::symlink(&secret, links.join("d")).expect("links");
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            // In turns what it is, and a link to what is no business of a sandbox's; an even number of times.
            while !stop.load(Ordering::Relaxed) {
                for name in ["f", "f", "d", "d"] {
                    exchange(&from.join(name), &links.join(name));
                }
            }
        });
        let round = |_| {
            let _ = sandbox.put_tree("/work/in", &from); // an error is right, too
            let files = ["/work/in/f", "/work/in/d/file"];
            let mut read = files.iter().filter_map(|file| sandbox.get(file).ok());
            read.find(|content| content != b"own")
        };
        let seen = (0..300).find_map(round);
        stop.store(true, Ordering::Relaxed);
        seen
    });
    assert_eq!(seen, None);
    sandbox.put_tree("/work/quiet", &from).expect("copies");
    assert_eq!(sandbox.get("/work/quiet/d/file").expect("there"), b"own");
    assert!(sandbox.get("/work/quiet/pipe").is_err(), "left out");
}

/// Puts each in the other's place.
fn exchange(one: &Path, other: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let [one, other] = [one, other]
        .map(|path| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL"));
    let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: two strings with their NULs.
    let done = unsafe { libc::renameat2(at, one.as_ptr(), at, other.as_ptr(), flags) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
