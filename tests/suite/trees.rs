//! Trees that programs have made, on their way out, and directories of the host's that change on their way in.

use crate::support::guest_spec;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// Nor is a directory below which a tree comes out a way to what is beside it.
#[test]
fn a_link_that_comes_meanwhile_is_not_followed_on_the_way_out() {
    const ROUNDS: usize = 60;
    let dir = tempfile::tempdir().expect("a directory");
    let [beside, links] = ["beside", "links"].map(|name| dir.path().join(name));
    for new in [&beside, &links] {
        std::fs::create_dir(new).expect("makes");
    }
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o700)).expect("chmod");
    let sandbox = Sandbox::start(&shell("")).expect("starts");
    let script = "mkdir -p t/d && cd t/d && for i in 1 2 3 4 5 6 7 8; do echo $i >f$i; done; \
        ln f1 h; ln -s f1 l; mkdir e; chmod 755 .";
    assert!(sandbox.run(&shell(script)).expect("runs").success());
    let copy = |round: usize| dir.path().join(format!("copy{round}"));
    for round in 0..ROUNDS {
        std::os::unix::fs::symlink(&beside, links.join(round.to_string())).expect("links");
    }
    let (now, exchanged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As soon as it is there, a link is in its place.
            for round in 0..ROUNDS {
                let (there, link) = (copy(round).join("d"), links.join(round.to_string()));
                while now.load(Ordering::Relaxed) <= round {
                    if is_exchanged(&there, &link) {
                        exchanged.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
        });
        for round in 0..ROUNDS {
            let _ = sandbox.get_tree("/work/t", copy(round)); // an error is right, too
            now.store(round + 1, Ordering::Relaxed);
        }
    });
    assert!(exchanged.into_inner() > 0);
    let names: Vec<_> = std::fs::read_dir(&beside).expect("a directory").collect();
    assert!(names.is_empty(), "{names:?}");
    let mode = std::fs::metadata(&beside).expect("there").mode() & 0o7777;
    assert_eq!(mode, 0o700);
}

/// Puts each in the other's place.
fn exchange(one: &Path, other: &Path) {
    let done = is_exchanged(one, other);
    assert!(done, "{}", std::io::Error::last_os_error());
}

fn is_exchanged(one: &Path, other: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let [one, other] = [one, other]
        .map(|path| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL"));
    let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: two strings with their NULs.
    unsafe { libc::renameat2(at, one.as_ptr(), at, other.as_ptr(), flags) == 0 }
}
