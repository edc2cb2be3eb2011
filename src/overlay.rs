//! The writable root: a layer of the sandbox's own over directories that stay as they are, and the driver that joins
//! them.

use crate::channel::Channel;
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::mounts::{self, Root};
use crate::plan::{Plan, read_of};
use crate::spec::{Overlay, Rootfs, Spec};
use crate::supervisor::{self, Host};
use crate::wire::*;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

mod lowers;
mod scratch;

pub(crate) use lowers::{Lowers, is_nothing, is_opaque, is_whiteout};
pub(crate) use scratch::{Scratch, sweep};

/// What joins the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Directories that an image calls volumes, as paths below the root: there, and written to even where it is read-only.
    pub volumes: Vec<String>,
    /// The directory of the host's that the upper layer is made in, in place of a tmpfs.
    pub upper_dir: Option<String>,
}

/// What a driver has answered when it was tried, with an upper layer in memory or in a directory: once for each supervisor.
#[derive(Default)]
pub(crate) struct Probes(Mutex<Vec<(Tried, Result<(), String>)>>);

type Tried = (Driver, Option<String>);

impl Probes {
    fn get(&self, driver: Driver, upper_dir: Option<&str>) -> Option<Result<(), String>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = known
            .iter()
            .find(|(tried, _)| (tried.0, tried.1.as_deref()) == (driver, upper_dir));
        tried.map(|(_, result)| result.clone())
    }

    /// Whether nothing has been tried with this directory yet.
    fn is_new(&self, dir: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !known
            .iter()
            .any(|(tried, _)| tried.1.as_deref() == Some(dir))
    }

    fn set(&self, driver: Driver, upper_dir: Option<&str>, result: Result<(), String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = (driver, upper_dir.map(String::from));
        known.retain(|(known, _)| *known != tried);
        known.push((tried, result));
    }
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
pub(crate) fn choose(
    spec: &Spec,
    host: &Host,
    image: Option<&Image>,
) -> Result<Option<Chosen>, Error> {
    let Some(directories) = lower_directories(spec)? else {
        return match spec.upper_dir {
            Some(_) => Err(Error::invalid(
                "upper_dir: it is for what is written over a root file system; give `overlay` too",
            )),
            None => Ok(None),
        };
    };
    if let Some(dir) = &spec.upper_dir {
        scratch::check(dir)?;
        if host.overlay.is_new(dir) {
            scratch::sweep(dir, host);
        }
    }
    let lowers = Lowers::new(directories)?;
    let mut volumes = Vec::new();
    for path in image.map(Image::volumes).unwrap_or_default() {
        if mounts::takes_a_volume(spec, &path) && can_be_directory(&lowers, &path)? {
            volumes.push(path);
        }
    }
    Ok(Some(Chosen {
        lowers,
        volumes,
        driver: driver(spec, host)?.0,
        read_only: spec.read_only,
        upper_dir: spec.upper_dir.clone(),
    }))
}

/// Whether nothing that is on the way to `path`, or there, is anything else.
fn can_be_directory(lowers: &Lowers, path: &str) -> Result<bool, Error> {
    for way in Path::new(path).ancestors() {
        if lowers.find(way)?.is_some_and(|seen| !seen.is_dir()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// In words, the driver of the writable root that `spec` asks for, and why it; `None` if it asks for none.
pub(crate) fn by(spec: &Spec, host: &Host) -> Option<String> {
    lower_directories(spec).ok()??;
    driver(spec, host).ok().map(|(_, by)| by)
}

fn driver(spec: &Spec, host: &Host) -> Result<(Driver, String), Error> {
    let dir = spec.upper_dir.as_deref();
    let (driver, why) = match spec.overlay.unwrap_or_default() {
        Overlay::Auto => best(host, dir)?,
        Overlay::Kernel => (Driver::Kernel, given(host, Driver::Kernel, dir)?),
        Overlay::Fuse => (Driver::Fuse, given(host, Driver::Fuse, dir)?),
        Overlay::Copy => (Driver::Copy, "asked for".into()),
    };
    let place = match dir {
        Some(dir) => format!("in `{dir}`"),
        None => "on the sandbox's tmpfs".into(),
    };
    let by = match driver {
        Driver::Kernel => format!("the kernel's overlayfs, userxattr, upper layer {place}"),
        Driver::Fuse => format!("fuse-overlayfs, upper layer {place}"),
        Driver::Copy => format!("a copy {place}"),
    };
    Ok((driver, format!("{by}: {why}")))
}

/// The first driver that works, and why it.
fn best(host: &Host, dir: Option<&str>) -> Result<(Driver, String), Error> {
    let Err(kernel) = probe(host, Driver::Kernel, dir)? else {
        return Ok((Driver::Kernel, "tried, works".into()));
    };
    let Err(fuse) = probe(host, Driver::Fuse, dir)? else {
        let why = format!("tried, works; the kernel's does not: {kernel}");
        return Ok((Driver::Fuse, why));
    };
    let why =
        format!("the kernel's overlayfs does not work: {kernel}; nor does fuse-overlayfs: {fuse}");
    Ok((Driver::Copy, why))
}

/// Why it is a driver that was asked for, if it works.
fn given(host: &Host, driver: Driver, dir: Option<&str>) -> Result<String, Error> {
    let name = match driver {
        Driver::Kernel => "kernel",
        _ => "fuse",
    };
    match probe(host, driver, dir)? {
        Ok(()) => Ok("asked for".into()),
        Err(why) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("overlay={name}: it does not work on this host: {why}"),
        )),
    }
}

/// Whether a driver works, found out by making a root with it in a sandbox and changing that as overlayfs must be able
/// to: on a tmpfs before Linux 6.6 the kernel's cannot, since there a directory cannot be marked opaque.
fn probe(host: &Host, driver: Driver, dir: Option<&str>) -> Result<Result<(), String>, Error> {
    if let Some(result) = host.overlay.get(driver, dir) {
        return Ok(result);
    }
    // What fails once may have failed by chance, and would count as long as the supervisor lives.
    let tries = if driver == Driver::Copy { 0 } else { 2 };
    let mut result = Ok(());
    for _ in 0..tries {
        result = match try_driver(host, driver, dir)? {
            // The supervisor is gone: whoever sends it the real plan will see that, and start another.
            None => return Ok(Ok(())),
            // What was short just now says nothing of the driver.
            Some(Err(e)) if is_passing(&e) => return Err(e),
            Some(result) => result.map_err(|e| e.to_string()),
        };
        if result.is_ok() {
            break;
        }
    }
    host.overlay.set(driver, dir, result.clone());
    Ok(result)
}

fn is_passing(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Resource | ErrorKind::Supervisor)
        || e.errno() == libc::ENOSPC
        || e.step() == crate::remedy::INIT_DIED
}

fn try_driver(
    host: &Host,
    driver: Driver,
    dir: Option<&str>,
) -> Result<Option<Result<(), Error>>, Error> {
    let scratch = dir.map(|dir| Scratch::new(dir, &host.ids)).transpose()?;
    let place = scratch.as_ref().map(|scratch| scratch.path.as_str());
    let root = match Root::probe(driver, place) {
        Ok(root) => root,
        Err(e) => {
            if let Some(scratch) = scratch {
                scratch.discard();
            }
            return Ok(Some(Err(e)));
        }
    };
    let plan = Plan::probe(&root, host.host_network, scratch);
    Ok(ask(host, plan))
}

/// What comes of the plan of a probe; `None` if the supervisor has ended.
fn ask(host: &Host, mut plan: Plan) -> Option<Result<(), Error>> {
    let (channel, theirs) = match Channel::new() {
        Ok(pair) => pair,
        Err(e) => return Some(Err(e)),
    };
    let sent = supervisor::send_start(host, &plan, &theirs);
    if let (Err(_), Some(scratch)) = (&sent, plan.upper.take()) {
        scratch.discard();
    }
    sent.ok()?;
    drop(theirs);
    let received = host.hear(&channel);
    match received.and_then(|received| read_of::<Failure>(&received.bytes)) {
        Some(Failure { kind: READY, .. }) => Some(Ok(())),
        Some(answer) => Some(Err(plan.explain(&answer))),
        None if host.is_gone() => None,
        None => Some(Err(Error::new(
            ErrorKind::Supervisor,
            "the sandbox that was to try it has ended",
        ))),
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
            let result = probe(&host, driver, None).expect("a result");
            assert_eq!(host.overlay.get(driver, None), Some(result), "{driver:?}");
        }
    }
}
