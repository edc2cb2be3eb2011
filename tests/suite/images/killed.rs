//! `kill -9` at any moment.

use super::{Place, command, two_layers};
use crate::support::skip;
use std::process::Stdio;
use std::time::{Duration, Instant};
use stockade::image::{Format, Store, Target};

/// A hundred times a process that adds to the store or removes from it is killed. Afterwards the store opens, everything
/// that it lists is whole, and nothing is left of the dead.
#[test]
fn a_killed_process_breaks_nothing() {
    if command().is_none() {
        skip!("the program `stockade` is not here");
    }
    let place = Place::in_memory();
    let archive = place.at("two.tar");
    let source = place.store("source");
    two_layers(&source, &place, 300);
    source
        .save(
            &["two:1", "one:1"],
            Format::OciArchive,
            Target::Path(archive.clone()),
            None,
        )
        .unwrap();
    drop(source);
    // Of files of several owners, and directories that only theirs may enter.
    let owned = super::owners::archive(&place);

    let path = place.at("store");
    let start = |args: &[&str]| {
        let mut command = command().unwrap();
        command
            .args(args)
            .arg("--store")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let load = ["load", "-i", archive.to_str().unwrap()];
    let import = ["import", owned.to_str().unwrap(), "three:1"];
    let begun = Instant::now();
    assert!(start(&load).wait().unwrap().success());
    let whole = begun.elapsed();
    let (mut killed, mut state) = (0, 0x2545_f491_4f6c_dd1d_u64);
    for round in 0..100 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let commands: [&[&str]; 3] = [&load, &["prune", "--all"], &["rmi", "two:1"]];
        // What adds and what removes in alternation, so that each finds something to do.
        let args = match round % 4 {
            1 => commands[0],
            3 => &import,
            _ => commands[1 + round / 2 % 2],
        };
        let mut child = start(args);
        // Removing is quicker than loading.
        let adds = matches!(args[0], "load" | "import");
        let most = if adds { whole } else { whole / 8 };
        std::thread::sleep(Duration::from_nanos(state % most.as_nanos() as u64));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());

        let store = Store::open(Some(&path)).unwrap();
        assert_eq!(
            store.disk_use().unwrap().temporary,
            0,
            "round {round}: nothing is left of the dead"
        );
        for image in store.list().unwrap() {
            let held = store.resolve(image.id.as_str()).unwrap();
            assert!(
                held.layers.iter().all(|layer| layer.is_dir()),
                "round {round}: {held:?}"
            );
        }
        if round % 5 == 4 {
            let found = store.verify().unwrap();
            assert_eq!(found.problems, [""; 0], "round {round}");
        }
        if store.resolve("two:1").is_err() && round % 4 == 3 {
            assert!(
                start(&load).wait().unwrap().success(),
                "round {round}: it can be loaded again"
            );
        }
    }
    assert!(
        killed > 15,
        "only {killed} of 100 were killed while they worked"
    );
    let store = Store::open(Some(&path)).unwrap();
    store.prune(true).unwrap();
    let used = store.disk_use().unwrap();
    assert_eq!(
        (used.images, used.blobs, used.layers),
        (0, 0, 0),
        "nothing is lost for good"
    );
}
