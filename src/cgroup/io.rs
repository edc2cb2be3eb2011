//! Block devices: their numbers, and whether anything here minds weights.

use super::layout::Setting;
use super::refused::{exists, read, unless_short};
use super::{Kind, v2};
use crate::error::Error;
use crate::spec::Spec;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What sets a group's share of the block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IoWeight {
    pub file: &'static str,
    /// Of the BFQ scheduler, whose weights end at 1000.
    bfq: bool,
}

impl IoWeight {
    /// A weight is between 1 and 10,000, 100 by default; BFQ's are spread over its own range likewise.
    pub fn setting(self, weight: u64) -> Setting {
        let weight = match weight {
            101.. if self.bfq => 100 + (weight - 100) * (1000 - 100) / (10_000 - 100),
            _ => weight,
        };
        (self.file.into(), weight.to_string())
    }

    /// What minds weights in the groups of `base`: the kernel's iocost where it was switched on for a device
    /// (`io.cost.qos`), or the BFQ scheduler where a device has it. A file alone says nothing.
    pub fn probe(kind: Kind, base: &Path) -> Result<Option<IoWeight>, Error> {
        let has = |file: &str| exists(&base.join(file));
        let (cost, bfq) = match kind {
            Kind::None => return Ok(None),
            Kind::V2 => ("io.weight", "io.bfq.weight"),
            Kind::V1 => ("", "blkio.bfq.weight"),
        };
        if kind == Kind::V2 && has(cost)? && costs(base)? {
            let (file, bfq) = (cost, false);
            return Ok(Some(IoWeight { file, bfq }));
        }
        let found = has(bfq)? && any_device_has_bfq()?;
        Ok(found.then_some(IoWeight {
            file: bfq,
            bfq: true,
        }))
    }
}

/// For each disk that `spec` limits, `major:minor`, its rates in the order of [`Spec::io_limits`].
pub(super) fn rates(spec: &Spec) -> BTreeMap<String, [Option<u64>; 4]> {
    let mut all = BTreeMap::<String, [Option<u64>; 4]>::new();
    for (at, (_, limits)) in spec.io_limits().into_iter().enumerate() {
        for limit in limits {
            if let Ok(disk) = device(&limit.device) {
                let rate = &mut all.entry(disk).or_default()[at];
                *rate = Some(rate.map_or(limit.rate, |other| other.min(limit.rate)));
            }
        }
    }
    all
}

/// Whether iocost is on for any device: the root of the hierarchy says.
fn costs(base: &Path) -> Result<bool, Error> {
    for dir in base.ancestors() {
        if exists(&dir.join("cgroup.procs"))? && v2::is_root(dir)? {
            let text = read(&dir.join("io.cost.qos"))?;
            return Ok(text.split_whitespace().any(|word| word == "enable=1"));
        }
    }
    Ok(false)
}

fn any_device_has_bfq() -> Result<bool, Error> {
    let devices = unless_short(fs::read_dir("/sys/block"), "reading /sys/block")?;
    for device in devices.into_iter().flatten().flatten() {
        if read(&device.path().join("queue/scheduler"))?.contains("[bfq]") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `major:minor` of the disk that `name` is or is a part of: the path of a device, or its number. The kernel limits
/// whole disks only.
pub(crate) fn device(name: &str) -> Result<String, String> {
    let number = if name.starts_with('/') {
        let file = fs::metadata(name).map_err(|e| e.to_string())?;
        if !file.file_type().is_block_device() {
            return Err(
                "it is no block device (`df` and `lsblk` tell which one a directory is on)".into(),
            );
        }
        let device = file.rdev();
        format!("{}:{}", libc::major(device), libc::minor(device))
    } else {
        let number = |n: &str| n.parse::<u32>().is_ok();
        if !name
            .split_once(':')
            .is_some_and(|(a, b)| number(a) && number(b))
        {
            return Err("it is neither a path nor `major:minor`".into());
        }
        name.to_string()
    };
    let entry = Path::new("/sys/dev/block").join(&number);
    if !entry.exists() {
        return Err("there is no such block device (/sys/dev/block)".into());
    }
    if !entry.join("partition").exists() {
        return Ok(number);
    }
    let disk = entry.canonicalize().ok();
    let disk = disk.and_then(|entry| fs::read_to_string(entry.parent()?.join("dev")).ok());
    disk.map(|number| number.trim().to_string())
        .ok_or_else(|| "the disk that it is a part of is not in sight (/sys)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_bfq_end_at_1000() {
        let set = |bfq, weight| IoWeight { file: "f", bfq }.setting(weight).1;
        for (weight, bfq) in [(1, "1"), (100, "100"), (10_000, "1000")] {
            assert_eq!(set(true, weight), bfq);
            assert_eq!(set(false, weight), weight.to_string());
        }
    }

    #[test]
    fn devices_that_are_none() {
        for (name, why) in [
            ("/dev/null", "no block device"),
            ("/no/such", "No such file"),
            ("sda", "neither a path"),
            ("8:x", "neither a path"),
            ("4095:1048575", "no such block device"),
        ] {
            let said = device(name).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
    }

    #[test]
    fn a_partition_is_its_disk() {
        let entries = fs::read_dir("/sys/dev/block")
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            let number = entry.file_name().into_string().unwrap();
            let disk = device(&number).unwrap();
            let part = entry.path().join("partition").exists();
            assert_eq!(disk != number, part, "{number}: {disk}");
            assert!(
                !Path::new("/sys/dev/block")
                    .join(&disk)
                    .join("partition")
                    .exists()
            );
        }
    }
}
