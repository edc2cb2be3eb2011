//! The steps of a writable root: a tmpfs of the sandbox's own holds the upper layer, and the driver joins it with the
//! lower ones.
//!
//! The highest lower layer is a small one of our own, made with the template: it has the mount points and the files of
//! `/etc` that must be the sandbox's. Whatever an image has in their places, a symbolic link at `/proc` or a FIFO at
//! `/etc/hosts`, is hidden by it, so that nothing is ever looked up in a hostile tree; and what the sandbox needs is no
//! change of the program's. Once all is mounted init makes the joined tree its root: what it was made of is then out of
//! reach for programs.

use super::*;
use crate::ids::Ids;
use crate::overlay::{Chosen, Driver, fuse_program};
use crate::plan::exec_tables;
use crate::seccomp;
use std::os::unix::fs::MetadataExt;

/// Our own layer, below [`LOWERS`].
pub(crate) const TOP: &str = "lower/top";
/// Where the joined tree is made, before it becomes the root.
const JOINED: &str = "/root";
/// Directories of the tmpfs besides `/work`, `/tmp` and `/dev/shm`: upper, and one for the driver.
const OWN_INODES: u64 = 8;
/// What the driver that is a program needs of the host, beside [`host_entries`].
const FUSE_DEVICE: (&str, u32, u32) = ("/dev/fuse", 10, 229);

/// Limits of that program: no core file of an image's, and as many descriptors and as much memory as an honest sandbox can
/// make it need.
const SERVER_LIMITS: [(libc::__rlimit_resource_t, u64); 4] = [
    (libc::RLIMIT_CORE, 0),
    (libc::RLIMIT_MEMLOCK, 0),
    (libc::RLIMIT_NOFILE, 64 << 10),
    (libc::RLIMIT_AS, 2 << 30),
];

/// Who owns what in a tree.
pub(super) struct Owners<'a> {
    pub ids: &'a Ids,
    pub user: (u32, u32),
}

impl Root {
    /// The steps for `chosen`.
    pub(super) fn overlay(
        &mut self,
        spec: &Spec,
        chosen: &Chosen,
        owners: &Owners,
        on_disk: bool,
    ) -> Result<(), Error> {
        self.overlay_ground(chosen.driver)?;
        if on_disk {
            self.directory(&ON_DISK[1..], 0o755, 0);
        }
        let lowers = chosen.lowers.directories();
        for (i, dir) in lowers.iter().enumerate() {
            let bad = |e| Error::system(format!("rootfs: `{}`", dir.display()), e).into_invalid();
            let seen = dir.metadata().map_err(bad)?;
            let path = format!("lower/{i}");
            let source = dir.to_str().ok_or_else(|| {
                Error::invalid(format!("rootfs: `{}` is not UTF-8", dir.display()))
            })?;
            let payload = [source.as_bytes(), path.as_bytes()];
            self.template
                .text(T_BIND, 0, seen.ino(), seen.dev(), &payload);
        }
        self.own_layer(spec, chosen, owners)?;
        self.overlay_setup(spec, chosen, owners, on_disk)
    }

    /// A root of one small layer, to see whether a driver works.
    pub fn probe(driver: Driver, on_disk: Option<&str>) -> Result<Root, Error> {
        let mut root = Root {
            template: Steps::default(),
            setup: Steps::default(),
        };
        root.overlay_ground(driver)?;
        root.directory("lower/top/probe", 0o777, 0);
        if let Some(path) = on_disk {
            root.directory(&ON_DISK[1..], 0o755, 0);
            let payload = [path.as_bytes()];
            root.setup.text(S_SOURCE, BIND_WRITABLE, 0, 0, &payload);
        }
        root.upper(1 << 20, 64, None, on_disk.map(|_| 0));
        root.join(driver, 0)?;
        root.setup
            .text(S_PROBE, 0, 0, 0, &[format!("{JOINED}/probe").as_bytes()]);
        Ok(root)
    }

    /// What every template for a writable root has.
    fn overlay_ground(&mut self, driver: Driver) -> Result<(), Error> {
        for path in ["dev", "dev/shm", "lower", TOP, "box", "root"] {
            self.directory(path, 0o755, 0);
        }
        self.proc_and_devices();
        if driver == Driver::Fuse {
            for entry in host_entries()? {
                entry.add(&mut self.template, 0);
            }
            self.directory("etc", 0o755, 0);
            let cache = [b"/etc/ld.so.cache" as &[u8], b"etc/ld.so.cache"];
            self.template.text(T_COPY, 0, 0o644, 0, &cache);
            let (device, major, minor) = FUSE_DEVICE;
            let payload = [device.as_bytes(), b"fuse"];
            let rdev = libc::makedev(major, minor);
            self.template.text(T_DEV, 0, rdev, 0, &payload);
            let program = fuse_program()?;
            let payload = [
                program.as_os_str().as_encoded_bytes(),
                b"fuse-overlayfs" as &[u8],
            ];
            self.template.text(T_BIND, 0, 0, 0, &payload);
        }
        Ok(())
    }

    /// The layer of our own: mount points, and files of `/etc`.
    fn own_layer(&mut self, spec: &Spec, chosen: &Chosen, owners: &Owners) -> Result<(), Error> {
        let mut made = BTreeSet::new();
        for path in ["dev", "proc", "sys", "tmp", "work", "etc"] {
            self.own_directory(path, chosen, owners, &mut made)?;
        }
        let mut files = vec![
            ("etc/hosts".to_string(), hosts(spec)),
            (
                "etc/hostname".to_string(),
                format!("{}\n", spec.hostname.as_deref().unwrap_or("stockade")),
            ),
        ];
        for (path, content) in own_etc(spec) {
            // An image's own users are the truth, if it has any.
            let own = chosen
                .lowers
                .find(&path)?
                .is_some_and(|seen| seen.is_file());
            if path != "etc/hosts" && !own {
                files.push((path, content));
            }
        }
        for (path, content) in files {
            let payload = [
                TOP.as_bytes(),
                b"/",
                path.as_bytes(),
                b"\0",
                content.as_bytes(),
            ];
            self.template.add(T_FILE, 0, 0o644, 0, &payload);
            made.insert(path);
        }
        if spec.network == Network::Host {
            let to = format!("{TOP}/etc/resolv.conf");
            let payload = [b"/etc/resolv.conf" as &[u8], to.as_bytes()];
            self.template.text(T_COPY, 0, 0o644, 0, &payload);
            made.insert("etc/resolv.conf".into());
        }
        for path in &chosen.volumes {
            // Where nothing is bound and there is one already, it may well be the image's alone.
            if chosen.read_only || chosen.lowers.find(path)?.is_none() {
                let parts: Vec<&str> = path.split('/').collect();
                for end in 1..=parts.len() {
                    self.own_directory(&parts[..end].join("/"), chosen, owners, &mut made)?;
                }
            }
        }
        let volumes = spec.volumes.iter().map(|v| (&v.inside, Some(&v.host)));
        for (path, source) in volumes.chain(spec.tmpfs.iter().map(|t| (&t.path, None))) {
            let path = inside(path, "volumes")?;
            let directory = source.map_or(Ok(true), |host| is_directory(host))?;
            if writable(spec, &path) {
                continue;
            }
            let parts: Vec<&str> = path
                .split('/')
                .filter(|part| !part.is_empty() && *part != ".")
                .collect();
            for end in 1..parts.len() {
                self.own_directory(&parts[..end].join("/"), chosen, owners, &mut made)?;
            }
            let relative = parts.join("/");
            if relative.is_empty() {
                return Err(Error::invalid(
                    "volumes: `/` is the root itself; use rootfs for that",
                ));
            }
            if directory {
                self.own_directory(&relative, chosen, owners, &mut made)?;
            } else if made.insert(relative.clone()) {
                let path = placed(&relative);
                self.template
                    .add(T_FILE, 0, 0o644, 0, &[path.as_bytes(), b"\0"]);
            }
        }
        Ok(())
    }

    /// A directory of our own layer, with the mode and owner of the one that it is joined with.
    fn own_directory(
        &mut self,
        path: &str,
        chosen: &Chosen,
        owners: &Owners,
        made: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        if !made.insert(path.to_string()) {
            return Ok(());
        }
        let like = chosen.lowers.find(path)?.filter(|seen| seen.is_dir());
        let (mode, ids) = match like {
            Some(like) => (like.mode() & 0o1777, (like.uid(), like.gid())),
            None => (0o755, owners.ids.root()),
        };
        let owner = owners
            .ids
            .supervisors(ids)
            .map_or(0, |(user, group)| owner(user, group));
        self.directory(&placed(path), mode, owner);
        Ok(())
    }

    fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        let payload = [path.as_bytes()];
        self.template
            .text(T_DIR, 0, u64::from(mode), owner, &payload);
    }

    fn overlay_setup(
        &mut self,
        spec: &Spec,
        chosen: &Chosen,
        owners: &Owners,
        on_disk: bool,
    ) -> Result<(), Error> {
        let (disk, inodes) = disk_and_inodes(spec)?;
        let like = chosen.lowers.find("")?;
        let mode = like.as_ref().map_or(0o755, |seen| seen.mode() & 0o1777);
        let ids = like.map(|seen| (seen.uid(), seen.gid()));
        let ids = ids.and_then(|ids| owners.ids.inside(ids, owners.user));
        self.upper(
            disk,
            inodes,
            Some((mode, ids.map_or(0, |(user, group)| owner(user, group)))),
            on_disk.then_some(spec.volumes.len() as u16),
        );
        self.join(chosen.driver, chosen.lowers.directories().len())?;
        let s = &mut self.setup;
        for (source, target, flags) in [
            ("/dev", "/dev", 1),
            ("/box/work", WORK, 0),
            ("/box/shm", "/dev/shm", 0),
            ("/box/tmp", "/tmp", 0),
        ] {
            let target = format!("{JOINED}{target}");
            s.text(S_BIND, flags, 0, 0, &[source.as_bytes(), target.as_bytes()]);
        }
        if chosen.read_only {
            // Mounts of their own stay writable when the root becomes read-only.
            for path in &chosen.volumes {
                let at = format!("{JOINED}/{path}");
                s.text(S_BIND, 0, 0, 0, &[at.as_bytes(), at.as_bytes()]);
            }
        }
        let read_only = u16::from(chosen.read_only);
        s.text(S_ROOT, read_only, 0, 0, &[JOINED.as_bytes()]);
        Ok(())
    }

    /// The tmpfs with everything that is writable, or the volume that is in its place.
    fn upper(&mut self, disk: u64, inodes: u64, top: Option<(u32, u64)>, volume: Option<u16>) {
        let (mode, owner) = top.unwrap_or((0o755, 0));
        let s = &mut self.setup;
        let with_own = inodes.saturating_add(OWN_INODES);
        match volume {
            Some(volume) => s.text(S_BOX, volume, disk, inodes, &[b"/box"]),
            None => s.text(S_TMPFS, 0, disk, with_own, &[b"/box"]),
        }
        for (path, mode, owner) in [
            (UPPER, mode, owner),
            ("/box/driver", 0o700, 0),
            ("/box/work", 0o755, 0),
            ("/box/shm", 0o1777, 0),
            ("/box/tmp", 0o1777, 0),
        ] {
            s.text(S_MKDIR, 0, u64::from(mode), owner, &[path.as_bytes()]);
        }
    }

    /// The joined tree of our own layer and `lowers` more.
    fn join(&mut self, driver: Driver, lowers: usize) -> Result<(), Error> {
        let names = std::iter::once("top".to_string()).chain((0..lowers).map(|i| i.to_string()));
        let options = match driver {
            // Named from LOWERS, since all options together have a page.
            Driver::Kernel => {
                let lowers: Vec<String> = names.collect();
                format!(
                    "userxattr,lowerdir={},upperdir={UPPER},workdir=/box/driver",
                    lowers.join(":")
                )
            }
            Driver::Fuse => {
                let lowers: Vec<String> = names.map(|name| format!("{LOWERS}/{name}")).collect();
                // Without its cache of writes a program is told at once that the disk is full. With `fast_ino` it does not
                // open each entry of a directory that it reads to ask whence it was once copied up: it has done that
                // itself, and remembers.
                let options = format!(
                    "writeback=0,fast_ino=1,lowerdir={},upperdir={UPPER},workdir=/box/driver",
                    lowers.join(":")
                );
                let args: Vec<&[u8]> = vec![
                    b"fuse-overlayfs",
                    b"-f",
                    b"-o",
                    options.as_bytes(),
                    b"/dev/fd/3",
                ];
                let tables = exec_tables([args, vec![], vec![b"/fuse-overlayfs"]])?;
                self.setup.add(S_SERVE, 0, 0, 0, &[&tables]);
                for (resource, most) in SERVER_LIMITS {
                    self.setup.add(S_SERVE_LIMIT, resource as u16, most, 0, &[]);
                }
                let filter = seccomp::as_bytes(seccomp::server_program());
                self.setup.add(S_SERVE_FILTER, 0, 0, 0, &[filter]);
                String::new()
            }
            Driver::Copy => {
                let lowers: Vec<String> = names.collect();
                lowers.join(":")
            }
        };
        let payload = [JOINED.as_bytes(), options.as_bytes()];
        self.setup.text(S_OVERLAY, driver.number(), 0, 0, &payload);
        Ok(())
    }
}

/// Where the template has a path of the sandbox's: `/dev` is bound from it as it is.
fn placed(path: &str) -> String {
    match path.starts_with("dev/") {
        true => path.to_string(),
        false => format!("{TOP}/{path}"),
    }
}
