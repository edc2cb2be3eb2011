//! `kill -9` while an image is pulled.

use super::debian::{Registry, lacking};
use super::*;
use crate::images::command;
use crate::support::skip;
use std::process::Stdio;
use std::time::Instant;
use stockade::image::{Format, Target};

/// Forty times a process that pulls from a real registry is killed. Afterwards the store opens and is whole, with the
/// image or without; what was downloaded by then is not lost; and in the end the image is there.
#[test]
fn a_killed_pull_breaks_nothing() {
    if let Some(why) = lacking() {
        skip!("{why}");
    }
    if command().is_none() {
        skip!("the program `stockade` is not here");
    }
    let place = Place::in_memory();
    let registry = Registry::start(&place, false);
    random_image(&place, 6, 4 << 20);
    let layout = place.at("layout");
    let target = Target::Path(layout.clone());
    place
        .store("source")
        .save(&["random:5"], Format::OciDirectory, target, None)
        .unwrap();
    registry.push(&format!("{}:5", layout.display()), "six:1", &[]);
    let name = format!("{}/six:1", registry.address);
    let path = place.at("store");
    let start = || {
        let mut command = command().unwrap();
        command
            .args(["pull", "--authfile", "/dev/null", "--ca-file"])
            .arg(&registry.ca);
        command.arg("--store").arg(&path).arg(&name);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let begun = Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = begun.elapsed();
    let (mut killed, mut kept, mut state) = (0, 0, 0x2545_f491_4f6c_dd1d_u64);
    for round in 0..400 {
        // How many die at work depends on what else this machine does.
        if round >= 40 && round % 4 == 0 && killed > 10 && kept > 5 {
            break;
        }
        // From nothing, or from what the last one has left.
        if round % 4 == 0 {
            Store::open(Some(&path)).unwrap().prune(true).unwrap();
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut child = start();
        std::thread::sleep(Duration::from_nanos(state % whole.as_nanos() as u64));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());

        let store = Store::open(Some(&path)).unwrap();
        let found = store.verify().unwrap();
        assert_eq!(found.problems, [""; 0], "round {round}");
        let downloads = partial(&store);
        kept += u32::from(!downloads.is_empty());
        // What it has whole nobody goes on downloading, if it was killed as late as that.
        let stored = |(name, _): &(String, u64)| path.join("blobs/sha256").join(name).exists();
        assert!(!downloads.iter().any(stored), "round {round}");
        let left = std::fs::read_dir(path.join("tmp")).unwrap().count();
        assert_eq!(
            left, 0,
            "round {round}: nothing but partial layers is left of the dead"
        );
        if round % 4 == 3 {
            assert!(
                start().wait().unwrap().success(),
                "round {round}: it can be pulled again"
            );
            assert_whole(&store, 1);
            assert_eq!(partial(&store), [], "round {round}");
        }
    }
    assert!(killed > 10, "only {killed} were killed while they worked");
    assert!(kept > 5, "only {kept} left something to go on with");
    let store = Store::open(Some(&path)).unwrap();
    store.prune(true).unwrap();
    let used = store.disk_use().unwrap();
    assert_eq!(
        (used.images, used.blobs, used.layers, used.temporary),
        (0, 0, 0, 0),
        "nothing is lost for good"
    );
}
