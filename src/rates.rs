//! Limits that are of one kind of device or page each: how they are written.

use crate::error::Error;
use crate::units;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A limit on what goes to or from one block device in a second, in Docker's form `device:rate`: `/dev/sda:10m`,
/// `8:0:500`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceRate {
    /// The path of a block device, or its number as `major:minor`. A partition stands for the disk that it is a part
    /// of, since the kernel limits whole disks.
    pub device: String,
    /// Bytes, or operations, in a second: at least 1.
    pub rate: u64,
}

/// A limit on the huge pages of one size, in the form `size:limit`: `2m:64m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HugePages {
    /// Bytes of one page: a size that this kernel has, in /sys/kernel/mm/hugepages.
    pub size: u64,
    /// Bytes in all.
    pub limit: u64,
}

impl HugePages {
    /// What the kernel's files call the size: `2MB`.
    pub(crate) fn name(self) -> String {
        match self.size {
            n if n >= 1 << 30 => format!("{}GB", n >> 30),
            n if n >= 1 << 20 => format!("{}MB", n >> 20),
            n => format!("{}KB", n >> 10),
        }
    }
}

/// The two parts of `text` around its last colon, the second as a number.
fn split(text: &str, form: &str) -> Result<(String, u64), Error> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("`{text}`: {why}; the form is `{form}`"))
    };
    let (first, number) = text
        .rsplit_once(':')
        .filter(|(first, _)| !first.is_empty())
        .ok_or_else(|| bad(&"it has no two parts"))?;
    let number = units::parse_size(number).map_err(|e| bad(&e))?;
    Ok((first.to_string(), number))
}

impl FromStr for DeviceRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (device, rate) = split(text, "device:rate")?;
        Ok(DeviceRate { device, rate })
    }
}

impl FromStr for HugePages {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (size, limit) = split(text, "size:limit")?;
        let size = units::parse_size(&size)
            .map_err(|e| Error::invalid(format!("`{text}`: {e}; the form is `size:limit`")))?;
        Ok(HugePages { size, limit })
    }
}

impl From<DeviceRate> for String {
    fn from(rate: DeviceRate) -> String {
        format!("{}:{}", rate.device, rate.rate)
    }
}

impl From<HugePages> for String {
    fn from(pages: HugePages) -> String {
        format!("{}:{}", pages.size, pages.limit)
    }
}

macro_rules! from_text {
    ($($kind:ty),*) => {
        $(impl TryFrom<String> for $kind {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        })*
    };
}
from_text!(DeviceRate, HugePages);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let rate = |device: &str, rate| DeviceRate {
            device: device.into(),
            rate,
        };
        assert_eq!(
            "/dev/sda:1m".parse::<DeviceRate>().unwrap(),
            rate("/dev/sda", 1 << 20)
        );
        assert_eq!("8:0:500".parse::<DeviceRate>().unwrap(), rate("8:0", 500));
        assert_eq!(String::from(rate("8:0", 500)), "8:0:500");
        let huge: HugePages = "2m:64m".parse().unwrap();
        assert_eq!(
            (huge.size, huge.limit, &*huge.name()),
            (2 << 20, 64 << 20, "2MB")
        );
        assert_eq!(String::from(huge).parse::<HugePages>().unwrap(), huge);
        for bad in ["", "1m", ":1m", "/dev/sda:", "/dev/sda:fast"] {
            let why = bad.parse::<DeviceRate>().unwrap_err().to_string();
            assert!(why.contains("device:rate"), "{why}");
            assert!(bad.parse::<HugePages>().is_err(), "{bad}");
        }
    }
}
