//! Writable roots: a layer of the sandbox's own over directories that stay as they are. Every test runs with each
//! driver that this host has.

use crate::support::is_root;
use std::sync::OnceLock;
use std::time::Duration;
use stockade::{ErrorKind, Outcome, Overlay, Rootfs, Spec, Verdict};

mod ends;
mod hostile;
mod limits;
mod live;
mod on_disk;
mod root;
mod trees;

pub use ends::{server_killed, victim};
pub use on_disk::{reflink, victim as disk_victim};
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

/// The drivers that work here, and what is said of the others.
fn tried() -> &'static [(Overlay, Result<(), String>)] {
    static TRIED: OnceLock<Vec<(Overlay, Result<(), String>)>> = OnceLock::new();
    TRIED.get_or_init(|| {
        let tree = Tree::new().done();
        let works = |overlay| match over(&tree, overlay, ["true"]).run() {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Ok, "{overlay:?}: {outcome:?}");
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => Err(e.to_string()),
            Err(e) => panic!("{overlay:?}: {e}"),
        };
        [Overlay::Kernel, Overlay::Fuse, Overlay::Copy]
            .map(|overlay| (overlay, works(overlay)))
            .into()
    })
}

/// The drivers that work here.
pub fn drivers() -> Vec<Overlay> {
    let works = tried().iter().filter(|(_, works)| works.is_ok());
    works.map(|(overlay, _)| *overlay).collect()
}

/// Runs the guest in a root of each driver that works here.
pub fn with_each_driver<T: AsRef<[u8]> + Copy>(args: impl AsRef<[T]>, check: impl Fn(&Outcome)) {
    for overlay in drivers() {
        let tree = Tree::new().done();
        let spec = over(&tree, overlay, args.as_ref());
        check(&spec.run().expect("the sandbox starts"));
    }
}

/// A live sandbox with a root of each driver that works here, and how to have the guest run in it.
pub fn live_in_each_driver(check: impl Fn(&stockade::Sandbox, &dyn Fn(&[&str]) -> Spec)) {
    for overlay in drivers() {
        let tree = Tree::new().done();
        let guest = |args: &[&str]| over(&tree, overlay, args);
        let sandbox = stockade::Sandbox::start(&guest(&["-"])).expect("starts");
        check(&sandbox, &guest);
    }
}

/// What the other tests are not run with is named here, once.
#[test]
fn every_driver_works_here() {
    for (overlay, works) in tried() {
        let Err(why) = works else { continue };
        let open = |path| {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
        };
        // Root's supervisor acts with an id of its own, which a device of root's is not open to.
        let has_fuse = !is_root()
            && open("/dev/fuse").is_ok()
            && std::path::Path::new("/usr/bin/fuse-overlayfs").exists();
        assert!(
            *overlay == Overlay::Kernel || (*overlay == Overlay::Fuse && !has_fuse),
            "{why}"
        );
        crate::support::note_skip(why);
    }
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
