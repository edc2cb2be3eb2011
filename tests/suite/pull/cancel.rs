//! Calling off, and what is left of a call.

use super::server::{Cut, Server};
use super::*;
use crate::support::{open_descriptors, slowness};
use std::ops::ControlFlow;
use std::time::Instant;

/// Threads of pulls in this process.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "stockade-pull").count()
}

#[test]
fn a_call_is_called_off_at_any_point() {
    let place = Place::in_memory();
    let repository = random_image(&place, 4, 200_000);
    // Where it stands still when it is called off: the manifest, and the layers.
    for part in ["/manifests/", "/blobs/"] {
        let server = Server::start(repository.clone(), move |server, seen| {
            seen.path
                .contains(part)
                .then(|| server.honest(seen).cut(100, Cut::Stall))
        });
        let store = place.store(&format!("store{}", part.len()));
        let (began, mut calls) = (Instant::now(), 0);
        let mut watch = |_: &stockade::image::Progress| {
            calls += 1;
            match began.elapsed() > Duration::from_millis(500) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let result = pull(
            &store,
            &server.image(),
            options()
                .timeout(Duration::from_secs(60))
                .progress(&mut watch),
        );
        assert_fails(result, ErrorKind::State, "");
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(5) * slowness(),
            "{part}: {took:?}"
        );
        assert!(calls > 2, "it was asked while nothing came");
        assert_whole(&store, 0);
    }
    // While it is unpacked.
    let server = Server::start(repository, |_, _| None);
    let store = place.store("store");
    let mut watch = |now: &stockade::image::Progress| match now.what.starts_with("layer 3") {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    assert_fails(
        pull(&store, &server.image(), options().progress(&mut watch)),
        ErrorKind::State,
        "",
    );
    assert_whole(&store, 0);
    let before = server.layers_asked().len();
    pull(&store, &server.image(), options()).unwrap();
    assert_eq!(
        server.layers_asked().len(),
        before,
        "what had come by then is not downloaded again"
    );
    assert_whole(&store, 1);
}

/// In a process of its own, which has no other tests' threads and descriptors.
#[test]
fn nothing_is_left_of_a_call() {
    const ROLE: &str = "STOCKADE_SUITE_PULL_ALONE";
    if std::env::var_os(ROLE).is_none() {
        let own = std::env::current_exe().unwrap();
        let run = std::process::Command::new(own)
            .args([
                "--exact",
                "pull::cancel::nothing_is_left_of_a_call",
                "--test-threads=1",
            ])
            .env(ROLE, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout).into_owned()
            + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let place = Place::in_memory();
    let repository = random_image(&place, 4, 200_000);
    let server = Server::start(repository.clone(), |_, _| None);
    let broken = Server::start(repository, |server, seen| {
        seen.blob()
            .map(|_| server.honest(seen).cut(100, Cut::Close))
    });
    let store = place.store("store");
    let mut before = None;
    for _ in 0..5 {
        pull(&store, &server.image(), options()).unwrap();
        store.prune(true).unwrap();
        assert!(pull(&store, &broken.image(), options().retry(0)).is_err());
        // A thread that has been waited for may still be on its way out of the kernel.
        let until = Instant::now() + Duration::from_secs(2) * slowness();
        while threads() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(threads(), 0);
        // The servers' ends of the connections close a little later.
        std::thread::sleep(Duration::from_millis(100));
        let now = open_descriptors(std::process::id());
        assert_eq!(*before.get_or_insert(now), now, "descriptors");
        // SAFETY: both are valid places for a set of signals.
        let masked = unsafe {
            let mut set = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
            (1..32)
                .filter(|signal| libc::sigismember(&set, *signal) == 1)
                .count()
        };
        assert_eq!(masked, 0, "the caller's signals are as they were");
    }
}
