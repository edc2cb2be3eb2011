//! A live sandbox, in which programs are run one after another or side by side.

use crate::cgroup::Controllers;
use crate::channel::Channel;
use crate::enforcement;
use crate::error::{Error, ErrorKind};
use crate::image::{self, Image};
use crate::outcome::Outcome;
use crate::overlay;
use crate::plan::{Plan, read_of};
use crate::process::{self, Live, Process};
use crate::restrict;
use crate::spec::Spec;
use crate::supervisor::{self, Host, Key};
use crate::wire::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(feature = "image")]
mod commit;
#[cfg(feature = "image")]
mod export;
mod files;
mod live;
#[cfg(feature = "image")]
mod still;
mod trees;

/// A live sandbox. What programs leave in its writable file system stays until it is closed; what they leave running is
/// killed with them, or, if it has left its program's process group while other programs run, when the last of those ends.
///
/// All methods may be called from any thread, at the same time. Dropping it closes it. After a fork of the host the
/// child's calls fail with [`ErrorKind::State`].
pub struct Sandbox {
    channel: Channel,
    host: Arc<Host>,
    spec: Spec,
    /// The same with what its image says, and the image.
    in_image: Option<(Spec, Image)>,
    plan: Plan,
    /// When its root was made, nanoseconds since the epoch.
    made: AtomicU64,
    closed: Arc<AtomicBool>,
    #[cfg(feature = "image")]
    programs: still::Programs,
}

impl Sandbox {
    /// Starts a sandbox for `spec`; `args` and the other fields of the program are not used and may be empty.
    ///
    /// # Errors
    /// As [`Spec::run`].
    pub fn start(spec: &Spec) -> Result<Self, Error> {
        if restrict::is_asked(spec) {
            return Err(restrict::not_live());
        }
        let given = spec;
        let in_image = image::of(spec)?
            .map(|image| Ok::<_, Error>((image::in_image(spec, &image)?, image)))
            .transpose()?;
        let spec = in_image.as_ref().map_or(spec, |(spec, _)| spec);
        let (host, plan, channel) = supervisor::start(&Key::of(spec), &[], |host| {
            enforcement::check(spec, host)?;
            let overlay = overlay::choose(spec, host, in_image.as_ref().map(|(_, image)| image))?;
            let ids = host
                .ids
                .of_image(in_image.as_ref().and_then(|(_, image)| image.given()))?;
            Plan::sandbox(spec, &ids, &host.cgroup, overlay.as_ref(), None)
        })?;
        let answer = host
            .hear(&channel)
            .map(|received| received.bytes)
            .unwrap_or_default();
        match read_of::<Failure>(&answer) {
            Some(Failure { kind: READY, .. }) => Ok(Sandbox {
                channel,
                host,
                spec: given.clone(),
                in_image,
                plan,
                made: AtomicU64::new(live::now()),
                closed: Arc::default(),
                #[cfg(feature = "image")]
                programs: Default::default(),
            }),
            Some(failure) => Err(plan.explain(&failure)),
            None => {
                let end = host.lost();
                let end = end.map_or("has closed the sandbox's channel".into(), |end| {
                    format!("{end} while the sandbox was started")
                });
                Err(Error::new(
                    ErrorKind::Supervisor,
                    format!("the supervisor {end}"),
                ))
            }
        }
    }

    /// What it was started with, its image looked up.
    fn effective(&self) -> &Spec {
        self.in_image.as_ref().map_or(&self.spec, |(spec, _)| spec)
    }

    /// The specification it was started with.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Runs a program in it and waits for its end.
    ///
    /// The sandbox's own fields (`image`, `store`, `rootfs`, `overlay`, `read_only`, `upper_dir`, `volumes`, `tmpfs`,
    /// `network`, `user`, `hostname`, `uptime`, `disk`, `inodes`, `cgroup_parent`, `enforce`) must equal those of
    /// [`spec`](Sandbox::spec). Limits are those of `spec` given here and count for this run; memory and processes of overlapping runs are counted for each alone.
    ///
    /// # Errors
    /// As [`Spec::run`]; [`ErrorKind::State`] after [`close`](Sandbox::close).
    pub fn run(&self, spec: &Spec) -> Result<Outcome, Error> {
        process::check_ends(spec)?;
        self.start_program(spec, false)?.wait()
    }

    /// Starts a program in it.
    ///
    /// # Errors
    /// As [`run`](Sandbox::run).
    pub fn spawn(&self, spec: &Spec) -> Result<Process, Error> {
        self.start_program(spec, true)
    }

    /// Starts a program; with `handle` its process id can be asked for.
    pub(crate) fn start_program(&self, spec: &Spec, handle: bool) -> Result<Process, Error> {
        self.check_open()?;
        self.check_fixed(spec)?;
        let in_image = self
            .in_image
            .as_ref()
            .map(|(_, image)| image::in_image(spec, image))
            .transpose()?;
        let start = || {
            let live = Live {
                channel: &self.channel,
                host: &self.host,
                image: self.in_image.as_ref().map(|(_, image)| image),
                closed: &self.closed,
            };
            process::start(in_image.as_ref().unwrap_or(spec), handle, Some(live))
        };
        #[cfg(feature = "image")]
        return self
            .programs
            .start(|| start().map(|process| (process.channel(), process)));
        #[cfg(not(feature = "image"))]
        start()
    }

    fn check_open(&self) -> Result<(), Error> {
        self.channel.check_owner()?;
        match self.closed.load(Ordering::Acquire) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    fn check_fixed(&self, spec: &Spec) -> Result<(), Error> {
        let own = &self.spec;
        let same = [
            ("rootfs", own.rootfs == spec.rootfs),
            ("image", own.image == spec.image),
            ("store", own.store == spec.store),
            ("overlay", own.overlay == spec.overlay),
            ("read_only", own.read_only == spec.read_only),
            ("upper_dir", own.upper_dir == spec.upper_dir),
            ("volumes", own.volumes == spec.volumes),
            ("tmpfs", own.tmpfs == spec.tmpfs),
            ("network", own.network == spec.network),
            ("user", own.user == spec.user),
            ("hostname", own.hostname == spec.hostname),
            ("uptime", own.uptime == spec.uptime),
            ("disk", own.disk == spec.disk),
            ("inodes", own.inodes == spec.inodes),
            ("cgroup_parent", own.cgroup_parent == spec.cgroup_parent),
            ("enforce", own.enforce == spec.enforce),
        ];
        if let Some(controller) = Controllers::of(spec).beyond(Controllers::of(own)) {
            return Err(Error::invalid(format!(
                "a limit needs the {controller} controller, which the groups of this sandbox do not have: give a limit of \
                 that kind when the sandbox is started too (cpus, cpu_weight, cpu_idle; cpuset_cpus; io_...; hugetlb)"
            )));
        }
        match same.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(format!(
                "{name}: it is fixed when the sandbox starts and cannot differ for a program in it"
            ))),
        }
    }

    /// Ends everything in it and removes it. Closing again does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::State`] if it was made by another process.
    pub fn close(&self) -> Result<(), Error> {
        self.channel.check_owner()?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.channel.tell(KILL, REASON_CALLER)?;
        // Seen before requests of other threads that wait for each other.
        self.channel.say_no_more();
        // The supervisor says so, and closes its end, when the sandbox's init, and so everything in it, is dead and reaped.
        // That end alone may never be seen: a child that another thread has forked meanwhile may hold a copy of it.
        while let Some(received) = self.host.hear(&self.channel) {
            let said = read_of::<Failure>(&received.bytes);
            if said.is_some_and(|said| said.kind == FAILED && said.index == STEP_INIT_DIED) {
                break;
            }
        }
        Ok(())
    }
}

/// What every call says, also one that was under way when another thread closed the sandbox.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::State, "the sandbox is closed")
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.channel.is_ours() {
            let _ = self.close();
        }
    }
}
