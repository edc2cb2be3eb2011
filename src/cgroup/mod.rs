//! Temporary: no cgroups.
use crate::{Enforcement, Error, Spec, Usage};
use std::os::fd::OwnedFd;
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)]
pub(crate) enum Kind {
    None,
    V2,
    V1,
}
pub(crate) struct Cgroup;
pub(crate) struct Write {
    pub dir: u8,
    pub file: &'static str,
    pub value: String,
    pub required: bool,
}
pub(crate) struct Read {
    pub dir: u8,
    pub file: &'static str,
}
pub(crate) struct CpuClock {
    pub read: u8,
    pub key: &'static str,
    pub unit_ns: u32,
}
#[derive(Default)]
pub(crate) struct Layout {
    pub writes: Vec<Write>,
    pub enter: Vec<u8>,
    pub enter_file: &'static str,
    pub reads: Vec<Read>,
    pub cpu: Option<CpuClock>,
}
impl Cgroup {
    pub fn prepare(_: Option<&str>) -> Result<Cgroup, Error> {
        Ok(Cgroup)
    }
    pub fn dirs(&self) -> &[OwnedFd] {
        &[]
    }
    pub fn kind(&self) -> Kind {
        Kind::None
    }
    pub fn layout(&self, _: &Spec) -> Layout {
        Layout::default()
    }
    pub fn enforcement(&self, _: &str) -> Option<Enforcement> {
        None
    }
    pub fn fill_usage(&self, _: &[Option<&[u8]>], _: &mut Usage) {}
    pub fn why_not(&self) -> Option<&str> {
        None
    }
    pub fn name(&self) -> &str {
        ""
    }
    pub fn remove(&self) {}
}
