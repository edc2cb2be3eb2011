//! The store of images from outside: killed at any moment, and beside the tools of others.

mod killed;
mod owners;
pub mod tools;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use stockade::image::{Import, Source, Store};

/// The command line, if it is here: a machine that was only given the test program has none.
pub fn command() -> Option<Command> {
    let path = Path::new(env!("CARGO_BIN_EXE_stockade"));
    path.exists().then(|| Command::new(path))
}

/// A directory that is removed in the end, with what nobody may enter.
pub struct Place(tempfile::TempDir);

impl Drop for Place {
    fn drop(&mut self) {
        // Layers have files of sub-ids, which a store can remove and we can not.
        let entries = std::fs::read_dir(self.0.path()).into_iter().flatten();
        for entry in entries.flatten() {
            if entry.path().join("state.json").exists() {
                let _ = Store::open(Some(&entry.path())).map(|store| store.prune(true));
            }
        }
    }
}

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// In memory, where that can have user attributes (Linux 6.6): writing to a disk that others use takes long.
    pub fn in_memory() -> Place {
        let able = |dir: &tempfile::TempDir| {
            let path = std::ffi::CString::new(dir.path().as_os_str().as_encoded_bytes()).unwrap();
            // SAFETY: both texts end with NUL, and the value is one byte long.
            let set = unsafe {
                libc::setxattr(
                    path.as_ptr(),
                    c"user.test".as_ptr(),
                    c"y".as_ptr().cast(),
                    1,
                    0,
                )
            };
            set == 0
        };
        match tempfile::tempdir_in("/dev/shm").ok().filter(able) {
            Some(dir) => Place(dir),
            None => Place::new(),
        }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn store(&self, name: &str) -> Store {
        Store::open(Some(&self.at(name))).unwrap()
    }
}

/// A root file system with what is odd but allowed.
fn rootfs(at: &Path, files: usize) {
    for dir in ["bin", "etc", "tmp", "usr/share/doc", "var/cache/old"] {
        std::fs::create_dir_all(at.join(dir)).unwrap();
    }
    let mode = |name: &str, mode| {
        std::fs::set_permissions(
            at.join(name),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .unwrap();
    };
    mode("tmp", 0o1777);
    std::fs::write(at.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    std::fs::write(at.join("etc/shadow"), "secret").unwrap();
    mode("etc/shadow", 0o640);
    std::fs::copy("/bin/sh", at.join("bin/sh")).unwrap();
    std::fs::hard_link(at.join("bin/sh"), at.join("bin/dash")).unwrap();
    std::os::unix::fs::symlink("../bin/sh", at.join("usr/sh")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", at.join("usr/dangling")).unwrap();
    std::fs::write(
        at.join("usr/share")
            .join("ä b\\c'\"\n".to_string() + &"x".repeat(200)),
        "odd",
    )
    .unwrap();
    let deep = at.join("usr/share").join("deep/".repeat(40));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), "far down").unwrap();
    for i in 0..files {
        let text = format!("{i}\n").repeat(i * 17 % 400);
        std::fs::write(at.join(format!("usr/share/doc/{i}")), text).unwrap();
    }
    std::fs::write(at.join("var/cache/old/x"), "x").unwrap();
}

/// An image of two layers, of which the second changes and removes, called `two:1`.
pub fn two_layers(store: &Store, place: &Place, files: usize) {
    rootfs(&place.at("rootfs"), files);
    let source = Source::Path(place.at("rootfs"));
    store
        .import(source, Import::default().name("one:1"))
        .unwrap();
    let base = store.resolve("one:1").unwrap();
    // By GNU's tar: what other tools write is the better test.
    let layer = place.at("layer");
    std::fs::create_dir_all(layer.join("etc")).unwrap();
    std::fs::create_dir_all(layer.join("var/cache/old")).unwrap();
    std::fs::create_dir_all(layer.join("opt/new")).unwrap();
    std::fs::write(layer.join("etc/.wh.shadow"), "").unwrap();
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:changed:/:/bin/sh\n").unwrap();
    std::fs::write(layer.join("var/cache/old/.wh..wh..opq"), "").unwrap();
    std::fs::write(layer.join("opt/new/file"), "new").unwrap();
    std::fs::write(layer.join(".wh.usr"), "").unwrap();
    let tar = Command::new("tar")
        .arg("-cC")
        .arg(&layer)
        .args(["--owner=0", "--group=0", "."])
        .output()
        .unwrap();
    assert!(tar.status.success());
    let write = |to: &mut dyn Write| {
        to.write_all(&tar.stdout).expect("the store takes it");
        Ok(())
    };
    let change = |config: &mut stockade::image::ImageConfig| {
        config.config.cmd = vec!["/bin/sh".into()];
        config.config.env = vec!["A=b".into()];
    };
    store
        .append(Some(&base), write, change, &["two:1"], "test")
        .unwrap();
}

/// A file as it can be compared: everything but who owns it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Seen {
    pub kind: &'static str,
    pub mode: u32,
    pub mtime: i64,
    pub content: Vec<u8>,
}

pub type Tree = BTreeMap<PathBuf, Seen>;

/// What is below `dir`, by its path.
pub fn tree(dir: &Path) -> Tree {
    fn walk(dir: &Path, below: &Path, tree: &mut Tree) {
        for entry in std::fs::read_dir(dir.join(below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let meta = dir.join(&path).symlink_metadata().unwrap();
            let kind = meta.file_type();
            let (kind, content) = if kind.is_dir() {
                walk(dir, &path, tree);
                ("directory", Vec::new())
            } else if kind.is_symlink() {
                let target = std::fs::read_link(dir.join(&path)).unwrap();
                ("link", target.into_os_string().into_encoded_bytes())
            } else if kind.is_char_device() && meta.rdev() == 0 {
                ("whiteout", Vec::new())
            } else if kind.is_fifo() {
                ("fifo", Vec::new())
            } else {
                ("file", std::fs::read(dir.join(&path)).unwrap_or_default())
            };
            let link = kind == "link";
            let seen = Seen {
                kind,
                // Neither set-id bits nor what Linux does not keep for links.
                mode: if link { 0 } else { meta.mode() & 0o1777 },
                mtime: meta.mtime(),
                content,
            };
            tree.insert(path, seen);
        }
    }
    let mut all = Tree::new();
    walk(dir, Path::new(""), &mut all);
    all
}

/// What layers show once they are mounted over one another, the lowest first.
pub fn merged(layers: &[PathBuf]) -> Tree {
    let mut all = Tree::new();
    for layer in layers {
        for (path, seen) in tree(layer) {
            let replaced = all
                .get(&path)
                .is_some_and(|below| below.kind == "directory" && seen.kind != "directory");
            if replaced || is_opaque(&layer.join(&path)) {
                all.retain(|below, _| !below.starts_with(&path));
            }
            match seen.kind {
                "whiteout" => drop(all.remove(&path)),
                _ => drop(all.insert(path, seen)),
            }
        }
    }
    all
}

fn is_opaque(path: &Path) -> bool {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let mut value = [0u8; 2];
    // SAFETY: both texts end with NUL, and the buffer is as long as is said.
    let n = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"user.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    n == 1 && value[0] == b'y'
}
