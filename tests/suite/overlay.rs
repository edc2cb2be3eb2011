//! Writable roots: a layer of the sandbox's own over directories that stay as they are. Every test runs with each
//! driver that this host has.

use std::time::Duration;
use stockade::{ErrorKind, Outcome, Overlay, Rootfs, Spec, Verdict};

mod ends;
mod hostile;
mod limits;
mod live;
mod root;
mod trees;

pub use ends::{server_killed, victim};
use trees::{Tree, content};

fn spec<T: AsRef<[u8]>>(root: Rootfs, overlay: Overlay, args: impl IntoIterator<Item = T>) -> Spec {
    let mut all = vec![b"/bin/guest".to_vec()];
    all.extend(args.into_iter().map(|arg| arg.as_ref().to_vec()));
    Spec::new(all)
        .rootfs(root)
        .overlay(overlay)
        .user("0")
        .wall_time(Duration::from_secs(30))
}

fn over<T: AsRef<[u8]>>(tree: &Tree, overlay: Overlay, args: impl IntoIterator<Item = T>) -> Spec {
    spec(Rootfs::Directory(tree.path()), overlay, args)
}

/// The drivers that work here; why another does not is noted.
fn drivers() -> Vec<Overlay> {
    let tree = Tree::new().done();
    let mut found = Vec::new();
    for overlay in [Overlay::Kernel, Overlay::Fuse, Overlay::Copy] {
        match over(&tree, overlay, ["true"]).run() {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Ok, "{overlay:?}: {outcome:?}");
                found.push(overlay);
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                crate::support::note_skip(&e.to_string());
            }
            Err(e) => panic!("{overlay:?}: {e}"),
        }
    }
    found
}

fn run(spec: &Spec) -> Outcome {
    let outcome = spec
        .run()
        .unwrap_or_else(|e| panic!("{:?}: {e}", spec.overlay));
    assert_eq!(
        outcome.verdict,
        Verdict::Ok,
        "{:?}: {outcome:?}",
        spec.overlay
    );
    outcome
}
