//! What a sandbox's file system is made of.

use crate::error::Error;
use crate::ids::Ids;
use crate::landlock;
use crate::once::Once;
use crate::overlay::{Chosen, is_nothing};
use crate::plan::{Steps, WORK, inside};
use crate::spec::{Network, Rootfs, Spec};
use crate::wire::*;
use std::collections::BTreeSet;
use std::path::Path;

mod overlay;

pub(crate) use overlay::TOP;

/// Bytes in the writable file system unless `disk` says otherwise.
pub(crate) const DISK_DEFAULT: u64 = 64 << 20;
/// Files and directories there unless `inodes` says otherwise.
pub(crate) const INODES_DEFAULT: u64 = 65_536;

/// Directories of the host's `/etc` that interpreters need; nothing there is secret or names the user.
const ETC: [&str; 3] = ["/etc/alternatives", "/etc/pki", "/etc/ssl"];
/// Files of it, copied: fewer mounts for each sandbox to copy, and no inode shared with the host to lock.
const ETC_COPIED: [&str; 7] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/timezone",
];
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Files of /proc that show or change the host; covered, nearly all as Docker does.
const MASKED: [&str; 5] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/locks", // open file description locks have no process, and so are shown of everybody
];
/// Likewise, made read-only.
const READ_ONLY: [&str; 2] = ["/proc/sys", "/proc/sysrq-trigger"];
/// Directories that are the sandbox's own, whatever the root file system has there.
const OWN: [&str; 6] = ["dev", "proc", "sys", "tmp", "work", "run"];

/// The steps that make a root: the part that is made once and copied, and the part for each sandbox.
pub(crate) struct Root {
    pub template: Steps,
    pub setup: Steps,
}

impl Root {
    /// For a sandbox whose user has these ids inside, with the writable root that was chosen for it.
    pub fn new(
        spec: &Spec,
        ids: &Ids,
        user: (u32, u32),
        chosen: Option<&Chosen>,
        on_disk: Option<&str>,
    ) -> Result<Root, Error> {
        let mut root = Root {
            template: Steps::default(),
            setup: Steps::default(),
        };
        match chosen {
            Some(chosen) => root.overlay(
                spec,
                chosen,
                &overlay::Owners { ids, user },
                on_disk.is_some(),
            )?,
            None => root.template(spec)?,
        }
        root.setup(spec, chosen.is_some(), on_disk)?;
        landlock::add(&mut root.setup, spec, chosen)?;
        Ok(root)
    }

    /// procfs of the supervisor, without which the kernel lets nobody mount another, and the devices.
    fn proc_and_devices(&mut self) {
        let t = &mut self.template;
        t.text(T_PROC, 0, 0, 0, &[b"proc"]);
        for (name, major, minor) in DEVICES {
            let rdev = libc::makedev(major, minor);
            let payload = [format!("/dev/{name}"), format!("dev/{name}")];
            t.text(T_DEV, 0, rdev, 0, &payload.each_ref().map(|s| s.as_bytes()));
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            let path = format!("dev/{name}");
            t.text(T_LINK, 0, 0, 0, &[target.as_bytes(), path.as_bytes()]);
        }
    }

    fn template(&mut self, spec: &Spec) -> Result<(), Error> {
        let mut made = BTreeSet::new();
        let directory = |t: &mut Steps, made: &mut BTreeSet<String>, path: &str| {
            if made.insert(path.to_string()) {
                t.text(T_DIR, 0, 0o755, 0, &[path.as_bytes()]);
            }
        };
        for path in ["dev", "dev/shm", "tmp", "work", "run", "sys"] {
            directory(&mut self.template, &mut made, path);
        }
        self.proc_and_devices();
        made.insert("proc".into());
        let t = &mut self.template;
        let bound = match &spec.rootfs {
            Rootfs::Host => host_entries()?,
            Rootfs::Directory(_) | Rootfs::Layers(_) => &[],
        };
        match &spec.rootfs {
            Rootfs::Host => {
                for entry in bound {
                    entry.add(t, BIND_OWN);
                    made.insert(entry.name.clone());
                }
                directory(t, &mut made, "etc");
                for path in ETC {
                    t.text(
                        T_BIND,
                        BIND_OPTIONAL | BIND_NOEXEC,
                        0,
                        0,
                        &[path.as_bytes(), &path.as_bytes()[1..]],
                    );
                    made.insert(path[1..].into());
                }
                let resolver = (spec.network == Network::Host).then_some("/etc/resolv.conf");
                for path in ETC_COPIED.into_iter().chain(resolver) {
                    t.text(
                        T_COPY,
                        0,
                        0o644,
                        0,
                        &[path.as_bytes(), &path.as_bytes()[1..]],
                    );
                    made.insert(path[1..].into());
                }
                for (path, content) in own_etc(spec) {
                    t.add(
                        T_FILE,
                        0,
                        0o644,
                        0,
                        &[path.as_bytes(), b"\0", content.as_bytes()],
                    );
                    made.insert(path);
                }
            }
            Rootfs::Layers(_) => {} // always a writable root
            Rootfs::Directory(dir) => {
                for entry in directory_entries(dir)? {
                    entry.add(t, BIND_OWN);
                    made.insert(entry.name.clone());
                }
            }
        }
        // Mount points of volumes and tmpfs, where they are not in something that the sandbox mounts itself.
        let points = spec
            .volumes
            .iter()
            .map(|v| &v.inside)
            .zip(spec.volumes.iter().map(|v| Some(&v.host)));
        for (path, source) in points.chain(spec.tmpfs.iter().map(|t| (&t.path, None))) {
            let path = inside(path, "volumes")?;
            if writable(spec, &path) {
                continue;
            }
            let relative = path.trim_matches('/');
            let mut at = 0;
            let parents: Vec<&str> = relative
                .match_indices('/')
                .map(|(end, _)| {
                    at = end;
                    &relative[..at]
                })
                .collect();
            // Below a directory of the root file system nothing can be made: the mount point must be there.
            if let Some(base) = parents
                .iter()
                .find(|p| made.contains(**p) && !is_own_directory(spec, bound, p))
            {
                let there = match &spec.rootfs {
                    Rootfs::Host => Path::new("/").join(relative),
                    Rootfs::Directory(dir) => Path::new(dir).join(relative),
                    Rootfs::Layers(_) => continue,
                };
                match there.symlink_metadata() {
                    Ok(_) => continue,
                    Err(e) if is_nothing(&e) => {
                        return Err(Error::invalid(format!(
                            "volumes: `{path}` cannot be made below the read-only `/{base}`; use a place that exists there, or another"
                        )));
                    }
                    Err(e) => {
                        let what = format!("volumes: looking for `{}`", there.display());
                        return Err(Error::system(what, e));
                    }
                }
            }
            for parent in parents {
                directory(t, &mut made, parent);
            }
            if made.contains(relative) {
                continue;
            }
            match source {
                Some(host) if !is_directory(host)? => {
                    t.add(T_FILE, 0, 0o644, 0, &[relative.as_bytes(), b"\0"]);
                    made.insert(relative.into());
                }
                _ => directory(t, &mut made, relative),
            }
        }
        Ok(())
    }

    fn setup(&mut self, spec: &Spec, overlay: bool, on_disk: Option<&str>) -> Result<(), Error> {
        let s = &mut self.setup;
        s.text(S_PROC, 0, 0, 0, &[b"/proc"]);
        for &(step, path) in guarded() {
            s.text(step, 0, 0, 0, &[path.as_bytes()]);
        }
        // One file system for all that is writable, so that `disk` and `inodes` are totals.
        let (disk, inodes) = disk_and_inodes(spec)?;
        if !overlay {
            // Its own four directories and a page for each are not counted against the program.
            s.text(S_TMPFS, 0, disk, inodes.saturating_add(4), &[b"/tmp"]);
            for (path, mode) in [
                ("/tmp/work", 0o755),
                ("/tmp/shm", 0o1777),
                ("/tmp/tmp", 0o1777),
            ] {
                s.text(S_MKDIR, 0, mode, 0, &[path.as_bytes()]);
            }
            s.text(S_BIND, 0, 0, 0, &[b"/tmp/work", WORK.as_bytes()]);
            s.text(S_BIND, 0, 0, 0, &[b"/tmp/shm", b"/dev/shm"]);
            s.text(S_BIND, 0, 0, 0, &[b"/tmp/tmp", b"/tmp"]);
        }
        let counted = u16::from(on_disk.is_some());
        s.text(S_DISK, counted, 0, 0, &[WORK.as_bytes()]);
        for tmpfs in &spec.tmpfs {
            let path = inside(&tmpfs.path, "tmpfs")?;
            if writable(spec, &path) {
                s.text(S_DIR, 0, 0o755, 0, &[path.as_bytes()]);
            }
            let (size, inodes) = (tmpfs.size.unwrap_or(disk), tmpfs.inodes.unwrap_or(inodes));
            s.text(S_TMPFS, 0, size.max(1), inodes.max(1), &[path.as_bytes()]);
        }
        let most = VOLUMES_MAX - usize::from(on_disk.is_some());
        if spec.volumes.len() > most {
            return Err(Error::invalid(format!(
                "volumes: {} are more than {most}",
                spec.volumes.len()
            )));
        }
        for volume in &spec.volumes {
            let host = check_source(&volume.host)?;
            let path = inside(&volume.inside, "volumes")?;
            let flags = if volume.writable { BIND_WRITABLE } else { 0 };
            s.text(S_SOURCE, flags, 0, 0, &[host.as_bytes()]);
            if writable(spec, &path) {
                s.text(
                    S_DIR,
                    if is_directory(host)? { 0 } else { 1 },
                    0o755,
                    0,
                    &[path.as_bytes()],
                );
            }
            s.text(S_VOLUME, flags, 0, 0, &[path.as_bytes()]);
        }
        if let Some(path) = on_disk {
            s.text(S_SOURCE, BIND_WRITABLE, 0, 0, &[path.as_bytes()]);
        }
        if spec.network == Network::Loopback {
            s.add(S_LOOPBACK, 0, 0, 0, &[]);
        }
        let hostname = spec.hostname.as_deref().unwrap_or("stockade");
        // It is written to /etc/hosts as well, where a space or a line end would mean something.
        let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if hostname.is_empty() || hostname.len() > 64 || !hostname.chars().all(good) {
            return Err(Error::invalid(format!(
                "hostname: `{}`: it has 1 to 64 letters, digits, dots, hyphens and underscores",
                hostname.escape_default()
            )));
        }
        s.text(S_HOSTNAME, 0, 0, 0, &[hostname.as_bytes()]);
        Ok(())
    }
}

/// The limits on the writable file system.
pub(crate) fn disk_and_inodes(spec: &Spec) -> Result<(u64, u64), Error> {
    let disk = spec.disk.unwrap_or(DISK_DEFAULT);
    let inodes = spec.inodes.unwrap_or(INODES_DEFAULT);
    for (name, value) in [("disk", disk), ("inodes", inodes)] {
        if value == 0 || value > i64::MAX as u64 {
            return Err(Error::invalid(format!(
                "{name}: {value} is out of range; it is at least 1"
            )));
        }
    }
    Ok((disk, inodes))
}

/// Those of [`MASKED`] and [`READ_ONLY`] that this kernel has, with their steps. Looked up once.
fn guarded() -> &'static [(u16, &'static str)] {
    static THERE: Once<Vec<(u16, &str)>> = Once::new();
    THERE.get_or_init(|| {
        let masked = MASKED.into_iter().map(|path| (S_MASK, path));
        let read_only = READ_ONLY.into_iter().map(|path| (S_READ_ONLY, path));
        masked
            .chain(read_only)
            // Not to know is no reason to leave one open.
            .filter(|(_, path)| Path::new(path).try_exists().unwrap_or(true))
            .collect()
    })
}

/// Whether `path` lies in what the sandbox mounts writable itself, where mount points are made on the spot.
fn writable(spec: &Spec, path: &str) -> bool {
    let below = |dir: &str| {
        path.strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    [WORK, "/tmp", "/dev/shm"].iter().any(|dir| below(dir))
        || spec.tmpfs.iter().any(|t| below(&t.path))
}

/// Whether an image can have a volume at `path`, which is relative: not where the sandbox has something of its own.
pub(crate) fn takes_a_volume(spec: &Spec, path: &str) -> bool {
    let top = path.split('/').next().unwrap_or_default();
    !OWN.contains(&top) && !writable(spec, &format!("/{path}"))
}

/// Whether `path` (relative) is a directory of the small tmpfs that the root is, where anything can be made.
/// `bound` of the host's root is in it.
fn is_own_directory(spec: &Spec, bound: &[Entry], path: &str) -> bool {
    match spec.rootfs {
        Rootfs::Host => OWN.contains(&path) || path == "etc" || !is_bound(bound, path),
        Rootfs::Directory(_) | Rootfs::Layers(_) => OWN.contains(&path),
    }
}

fn is_bound(entries: &[Entry], path: &str) -> bool {
    let first = path.split('/').next().unwrap_or(path);
    entries.iter().any(|e| e.name == first) || ETC.iter().any(|e| &e[1..] == path)
}

/// Not to know is an error, and the caller's mistake where the path is.
fn is_directory(host: &str) -> Result<bool, Error> {
    let seen = std::fs::metadata(host).map_err(|e| {
        let e = Error::system(format!("volumes: `{host}`"), e);
        match e.errno() {
            libc::ENOENT | libc::EACCES | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => {
                e.into_invalid()
            }
            _ => e,
        }
    })?;
    Ok(seen.is_dir())
}

fn check_source(host: &str) -> Result<&str, Error> {
    if host.contains('\0') || !host.starts_with('/') {
        return Err(Error::invalid(format!(
            "volumes: `{}`: the host path must be absolute",
            host.escape_default()
        )));
    }
    is_directory(host).map(|_| host)
}

/// A top-level entry of a root file system.
struct Entry {
    name: String,
    source: String,
    link: Option<Vec<u8>>,
}

impl Entry {
    fn add(&self, t: &mut Steps, flags: u16) {
        match &self.link {
            Some(target) => t.text(T_LINK, 0, 0, 0, &[target, self.name.as_bytes()]),
            // Whoever may write there could have put a link in its place since.
            None => t.text(
                T_BIND,
                BIND_NO_LINK | flags,
                0,
                0,
                &[self.source.as_bytes(), self.name.as_bytes()],
            ),
        }
    }

    /// `None` if there is no such thing, or it is neither directory nor file nor link. Not to know is an error: a root
    /// without it would be another than was asked for.
    fn of(dir: &str, name: &str) -> Result<Option<Entry>, Error> {
        use std::os::unix::ffi::OsStringExt;
        let source = format!("{}/{name}", dir.trim_end_matches('/'));
        let failed = |e| Error::system(format!("rootfs: looking at `{source}`"), e);
        let kind = match std::fs::symlink_metadata(&source) {
            Ok(seen) => seen.file_type(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let link = match kind.is_symlink() {
            true => Some(std::fs::read_link(&source).map_err(failed)?),
            false if kind.is_dir() || kind.is_file() => None,
            false => return Ok(None),
        };
        Ok(Some(Entry {
            name: name.into(),
            source,
            link: link.map(|link| link.into_os_string().into_vec()),
        }))
    }
}

/// `/usr` and the directories or links beside it that programs and their linker are in. Looked up once.
fn host_entries() -> Result<&'static [Entry], Error> {
    static ENTRIES: Once<Vec<Entry>> = Once::new();
    let names = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
    let look = || {
        let entries = names.iter().map(|name| Entry::of("/", name));
        entries.filter_map(Result::transpose).collect()
    };
    ENTRIES.get_or_try_init(look).map(Vec::as_slice)
}

/// Everything in a root file system's top directory but what the sandbox has of its own.
fn directory_entries(dir: &str) -> Result<Vec<Entry>, Error> {
    let bad = |e| Error::system(format!("rootfs: `{dir}`"), e).into_invalid();
    if !dir.starts_with('/') || dir.contains('\0') {
        return Err(Error::invalid(format!(
            "rootfs: `{}`: it is `host` or an absolute path",
            dir.escape_default()
        )));
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(bad)? {
        let name = entry.map_err(bad)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if !OWN.contains(&name) {
            entries.extend(Entry::of(dir, name)?);
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Files of `/etc` that must not be the host's.
fn own_etc(spec: &Spec) -> Vec<(String, String)> {
    let (user, group) = spec
        .user
        .as_deref()
        .and_then(|u| u.split_once(':').or(Some((u, u))))
        .unwrap_or(("1000", "1000"));
    let mut passwd =
        String::from("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
    let mut groups = String::from("root:x:0:\nnogroup:x:65534:\n");
    if user != "0" && user != "65534" {
        passwd += &format!("user:x:{user}:{group}:user:{WORK}:/bin/sh\n");
    }
    if group != "0" && group != "65534" {
        groups += &format!("user:x:{group}:\n");
    }
    vec![
        ("etc/passwd".into(), passwd),
        ("etc/group".into(), groups),
        ("etc/hosts".into(), hosts(spec)),
        (
            "etc/nsswitch.conf".into(),
            "passwd: files\ngroup: files\nhosts: files dns\n".into(),
        ),
    ]
}

fn hosts(spec: &Spec) -> String {
    let hostname = spec.hostname.as_deref().unwrap_or("stockade");
    format!("127.0.0.1 localhost {hostname}\n::1 localhost\n")
}
