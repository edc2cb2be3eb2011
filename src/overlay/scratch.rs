//! Directories of the host's for what sandboxes write, one for each, on a disk.
//!
//! Who uses one holds its lock: this process until the supervisor has it, and then the supervisor, which removes it when
//! the sandbox has ended. One that nobody has locked belonged to a process that is dead.

use crate::error::{Error, ErrorKind};
use crate::ids::Ids;
use crate::supervisor::{self, Host};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What their names begin with.
const PREFIX: &str = "stockade-upper-";

/// One of them, locked.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub path: String,
    pub fd: OwnedFd,
}

impl Scratch {
    /// A new one in `dir`, for the sandboxes of `ids`.
    pub fn new(dir: &str, ids: &Ids) -> Result<Scratch, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let failed = |what: &str, e| Error::system(format!("upper_dir: {what} in `{dir}`"), e);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = format!("{dir}/{PREFIX}{}-{number}", std::process::id());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Another pid namespace's, or a dead one's.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed("making a directory", e)),
            }
            // Whoever sweeps may have taken it for a dead one's, before it is locked.
            let Some(fd) = lock(Path::new(&path)).map_err(|e| failed("locking a directory", e))?
            else {
                continue;
            };
            if matches!(ids, Ids::Root { .. }) {
                let (user, group) = ids.root();
                std::os::unix::fs::fchown(&fd, Some(user), Some(group))
                    .map_err(|e| failed("giving a directory to the sandbox", e))?;
            }
            return Ok(Scratch {
                path,
                fd: fd.into(),
            });
        }
    }

    /// It is not used after all: nothing is in it yet.
    pub fn discard(self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// The directory `path`, locked; `None` if another has it, or it is no longer there.
fn lock(path: &Path) -> std::io::Result<Option<File>> {
    let mut open = OpenOptions::new();
    let open = open
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    let opened = open.open(path).or_else(|e| match e.kind() {
        // A program without namespaces can have taken all rights away.
        std::io::ErrorKind::PermissionDenied => grant(path).and_then(|()| open.open(path)),
        _ => Err(e),
    });
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // SAFETY: a plain call on a descriptor that is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let e = std::io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::EWOULDBLOCK) => Ok(None),
            _ => Err(e),
        };
    }
    let same = |now: std::fs::Metadata| {
        let ours = file.metadata();
        ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
    };
    Ok(path.symlink_metadata().is_ok_and(same).then_some(file))
}

/// Gives the owner all rights to the directory `path`, and to nothing that a link in its place leads to.
fn grant(path: &Path) -> std::io::Result<()> {
    let mut open = OpenOptions::new();
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let held = open.read(true).custom_flags(flags).open(path)?;
    let held = format!("/proc/self/fd/{}", held.as_raw_fd());
    std::fs::set_permissions(held, PermissionsExt::from_mode(0o700))
}

/// Has the supervisor remove what dead processes of this user have left in `dir`.
pub(crate) fn sweep(dir: &str, host: &Host) {
    let own = nix::unistd::geteuid().as_raw();
    let owners = [own, host.ids.root().0];
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let path = entry.path();
        let ours = |seen: std::fs::Metadata| seen.is_dir() && owners.contains(&seen.uid());
        if !path.symlink_metadata().is_ok_and(ours) {
            continue;
        }
        if let Ok(Some(dead)) = lock(&path) {
            let _ = supervisor::send_removal(host, name, &dead.into());
        }
    }
}

/// Refuses what is no directory on a disk to write to.
pub(crate) fn check(dir: &str) -> Result<(), Error> {
    let bad = |why: &str| Error::invalid(format!("upper_dir: `{}`: {why}", dir.escape_default()));
    if !dir.starts_with('/') || dir.contains('\0') {
        return Err(bad("it is an absolute path"));
    }
    let failed = |e| Error::system(format!("upper_dir: `{dir}`"), e).into_invalid();
    if !std::fs::metadata(dir).map_err(failed)?.is_dir() {
        return Err(failed(std::io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    let disk = nix::sys::statvfs::statvfs(dir).map_err(|e| failed(e.into()))?;
    let (unit, all) = (disk.fragment_size(), disk.blocks());
    let reserve = RESERVE.min(all.saturating_mul(unit) / 20);
    if disk.blocks_available().saturating_mul(unit) < reserve {
        return Err(Error::new(
            ErrorKind::Resource,
            format!("upper_dir: less than {reserve} bytes are free on the file system of `{dir}`"),
        ));
    }
    Ok(())
}

/// As the helper has it: so much of a file system is left free, or a twentieth of it if that is less.
const RESERVE: u64 = 1 << 30;
