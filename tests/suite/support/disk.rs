//! A place on a disk, and huge pages: where this host has them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use stockade::{DeviceRate, Volume};

/// A directory on a disk, with a file of 4 MiB that everyone may write: as root, the program inside is somebody else.
pub struct OnDisk {
    dir: tempfile::TempDir,
    /// `major:minor`.
    device: String,
}

pub const ON_DISK_SIZE: usize = 4 << 20;

impl OnDisk {
    /// None if /var/tmp is on no block device.
    pub fn find() -> Option<OnDisk> {
        let dir = tempfile::tempdir_in("/var/tmp").ok()?;
        let device = std::fs::metadata(dir.path()).ok()?.dev();
        let device = format!("{}:{}", libc::major(device), libc::minor(device));
        if !Path::new("/sys/dev/block").join(&device).exists() {
            return None;
        }
        let file = dir.path().join("file");
        std::fs::write(&file, vec![1; ON_DISK_SIZE]).ok()?;
        std::fs::File::open(&file).ok()?.sync_all().ok()?;
        for (path, mode) in [(dir.path(), 0o777), (&file, 0o666)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).ok()?;
        }
        Some(OnDisk { dir, device })
    }

    /// Shows it as /disk, with the file /disk/file.
    pub fn volume(&self) -> Volume {
        Volume {
            host: self.dir.path().display().to_string(),
            inside: "/disk".into(),
            writable: true,
        }
    }

    /// So much in a second.
    pub fn rate(&self, rate: u64) -> DeviceRate {
        DeviceRate {
            device: self.device.clone(),
            rate,
        }
    }
}

/// How many huge pages of the default size are to be had: the suite fills no pool.
pub fn free_huge_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = text
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    free.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}
