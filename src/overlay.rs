//! The writable root: a layer of the sandbox's own over directories that stay as they are, and the driver that joins
//! them.

use crate::error::{Error, ErrorKind};
use crate::mounts::Root;
use crate::plan::{Plan, read_of};
use crate::spec::{Overlay, Rootfs, Spec};
use crate::supervisor::{self, Channel, Host};
use crate::wire::*;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod lowers;

pub(crate) use lowers::{Lowers, is_opaque, is_whiteout};

/// What joins the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Kernel,
    Fuse,
    Copy,
}

impl Driver {
    /// The wire's number.
    pub fn number(self) -> u16 {
        match self {
            Driver::Kernel => OVERLAY_KERNEL,
            Driver::Fuse => OVERLAY_FUSE,
            Driver::Copy => OVERLAY_COPY,
        }
    }
}

/// The writable root of one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub driver: Driver,
    pub lowers: Lowers,
    pub read_only: bool,
}

/// What a driver has answered when it was tried, once for each supervisor.
#[derive(Default)]
pub(crate) struct Probes {
    kernel: OnceLock<Result<(), String>>,
    fuse: OnceLock<Result<(), String>>,
}

/// The directories below a writable root, the lowest first; `None` if the specification asks for none.
fn lower_directories(spec: &Spec) -> Result<Option<&[String]>, Error> {
    match &spec.rootfs {
        Rootfs::Layers(layers) if layers.is_empty() => {
            Err(Error::invalid("rootfs: a list of no directories"))
        }
        Rootfs::Layers(layers) if layers.len() > LOWERS_MAX as usize => {
            Err(Error::invalid(format!(
                "rootfs: {} directories are more than {LOWERS_MAX}",
                layers.len()
            )))
        }
        Rootfs::Layers(layers) => Ok(Some(layers)),
        Rootfs::Directory(dir) if spec.overlay.is_some() => Ok(Some(std::slice::from_ref(dir))),
        Rootfs::Host if spec.overlay.is_some() => Err(Error::invalid(
            "overlay: the host's own root is shown read-only; give rootfs a directory to have a writable root over it",
        )),
        _ => Ok(None),
    }
}

/// The writable root that `spec` asks for, if it does, with a driver that works on this host.
pub(crate) fn choose(spec: &Spec, host: &Host) -> Result<Option<Chosen>, Error> {
    let Some(directories) = lower_directories(spec)? else {
        return Ok(None);
    };
    Ok(Some(Chosen {
        lowers: Lowers::new(directories)?,
        driver: driver(spec, host)?.0,
        read_only: spec.read_only,
    }))
}

/// In words, the driver of the writable root that `spec` asks for, and why it; `None` if it asks for none.
pub(crate) fn by(spec: &Spec, host: &Host) -> Option<String> {
    lower_directories(spec).ok()??;
    driver(spec, host).ok().map(|(_, by)| by)
}

fn driver(spec: &Spec, host: &Host) -> Result<(Driver, String), Error> {
    match spec.overlay.unwrap_or_default() {
        Overlay::Auto => best(host),
        Overlay::Kernel => Ok((Driver::Kernel, given(host, Driver::Kernel)?)),
        Overlay::Fuse => Ok((Driver::Fuse, given(host, Driver::Fuse)?)),
        Overlay::Copy => Ok((Driver::Copy, format!("{COPY}: asked for"))),
    }
}

const KERNEL: &str = "the kernel's overlayfs, userxattr, upper layer on the sandbox's tmpfs";
const FUSE: &str = "fuse-overlayfs, upper layer on the sandbox's tmpfs";
const COPY: &str = "a copy on the sandbox's tmpfs";

/// The first driver that works.
fn best(host: &Host) -> Result<(Driver, String), Error> {
    let Err(kernel) = probe(host, Driver::Kernel)? else {
        return Ok((Driver::Kernel, format!("{KERNEL}: tried, works")));
    };
    let Err(fuse) = probe(host, Driver::Fuse)? else {
        return Ok((
            Driver::Fuse,
            format!("{FUSE}: tried, works; the kernel's does not: {kernel}"),
        ));
    };
    Ok((
        Driver::Copy,
        format!(
            "{COPY}: the kernel's overlayfs does not work: {kernel}; nor does fuse-overlayfs: {fuse}"
        ),
    ))
}

/// In words, a driver that was asked for, if it works.
fn given(host: &Host, driver: Driver) -> Result<String, Error> {
    let (name, text) = match driver {
        Driver::Kernel => ("kernel", KERNEL),
        _ => ("fuse", FUSE),
    };
    match probe(host, driver)? {
        Ok(()) => Ok(format!("{text}: asked for")),
        Err(why) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("overlay={name}: it does not work on this host: {why}"),
        )),
    }
}

/// Whether a driver works, found out by making a root with it in a sandbox and changing that as overlayfs must be able
/// to: on a tmpfs before Linux 6.6 the kernel's cannot, since there a directory cannot be marked opaque.
fn probe(host: &Host, driver: Driver) -> Result<Result<(), String>, Error> {
    let known = match driver {
        Driver::Kernel => &host.overlay.kernel,
        Driver::Fuse => &host.overlay.fuse,
        Driver::Copy => return Ok(Ok(())),
    };
    if let Some(result) = known.get() {
        return Ok(result.clone());
    }
    let result = match try_driver(host, driver) {
        // The supervisor is gone: whoever sends it the real plan will see that, and start another.
        None => return Ok(Ok(())),
        Some(result) => result,
    };
    let _ = known.set(result.clone());
    Ok(result)
}

fn try_driver(host: &Host, driver: Driver) -> Option<Result<(), String>> {
    let root = match Root::probe(driver) {
        Ok(root) => root,
        Err(e) => return Some(Err(e.to_string())),
    };
    let plan = Plan::probe(&root, host.host_network);
    let (channel, theirs) = match Channel::new() {
        Ok(pair) => pair,
        Err(e) => return Some(Err(e.to_string())),
    };
    supervisor::send_start(host, &plan, &theirs).ok()?;
    drop(theirs);
    let received = channel.receive(true).ok()??;
    match read_of::<Failure>(&received.bytes) {
        Some(Failure { kind: READY, .. }) => Some(Ok(())),
        Some(answer) => Some(Err(plan.explain(&answer).to_string())),
        None if host.is_gone() => None,
        None => Some(Err("the sandbox that was to try it has ended".into())),
    }
}

/// Where fuse-overlayfs is.
pub(crate) fn fuse_program() -> Result<PathBuf, Error> {
    ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join("fuse-overlayfs"))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "fuse-overlayfs is not installed (package fuse-overlayfs)",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a driver answers is known from then on, and is not asked again.
    #[test]
    fn a_driver_is_tried_once() {
        let spec = Spec::new(["true"]);
        let host = supervisor::get(&supervisor::Key::of(&spec)).expect("a supervisor");
        for driver in [Driver::Kernel, Driver::Fuse] {
            let result = probe(&host, driver).expect("a result");
            let known = match driver {
                Driver::Kernel => host.overlay.kernel.get(),
                _ => host.overlay.fuse.get(),
            };
            assert_eq!(known, Some(&result), "{driver:?}");
        }
    }
}
