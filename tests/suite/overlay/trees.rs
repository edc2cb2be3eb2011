//! Directories to be root file systems, and what is in them.

use crate::support::{guest_dir, is_root};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Root's sandboxes have the host's ids from here on: what they may change is owned by those.
const ROOTS_IDS: u32 = 2_000_000_000;

/// A directory to be a root file system: the guest, a passwd, and some files. As root it belongs to root inside.
pub struct Tree(pub tempfile::TempDir);

impl Tree {
    pub fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().expect("a directory"));
        for dir in ["bin", "etc", "data", "data/sub", "data/empty"] {
            std::fs::create_dir(tree.at(dir)).expect("mkdir");
        }
        std::fs::copy(guest_dir().join("guest"), tree.at("bin/guest")).expect("copy");
        for (path, content) in [
            ("etc/passwd", "image:x:0:0::/:/bin/guest\n"),
            ("data/file", "lower"),
            ("data/gone", "to be removed"),
            ("data/sub/inner", "inner"),
        ] {
            tree.write(path, content);
        }
        tree
    }

    pub fn empty() -> Tree {
        Tree(tempfile::tempdir().expect("a directory"))
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        std::fs::write(self.at(path), content).expect("write");
    }

    pub fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    /// As it should be when a sandbox sees it.
    pub fn done(self) -> Tree {
        std::fs::set_permissions(self.0.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        if is_root() {
            own(self.0.path());
        }
        self
    }
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(ROOTS_IDS), Some(ROOTS_IDS)).expect("chown");
    if path.symlink_metadata().expect("stat").is_dir() {
        for entry in std::fs::read_dir(path).expect("read_dir") {
            own(&entry.expect("an entry").path());
        }
    }
}

/// Every path in a tree, with what it is and has.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let seen = path.symlink_metadata().expect("stat");
        let mut bytes = Vec::new();
        if seen.is_dir() {
            let entries = std::fs::read_dir(&path).expect("read_dir");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if seen.is_file() {
            bytes = std::fs::read(&path).expect("read");
        }
        all.insert(path, (seen.mode(), seen.mtime(), bytes));
    }
    all
}
