//! Starting a program: from its specification to the request that the supervisor gets.

use super::*;
use crate::cores;
use crate::enforcement;
use crate::overlay;
use crate::restrict;
use crate::supervisor::Key;

impl Spec {
    /// Runs the program in a sandbox of its own and waits for its end.
    ///
    /// # Errors
    /// Only if the program could not be started for a reason other than its own; see [`ErrorKind`]. A program that is
    /// not there or fails is an [`Outcome`].
    pub fn run(&self) -> Result<Outcome, Error> {
        check_ends(self)?;
        start(self, false, None)?.wait()
    }

    /// Starts the program in a sandbox of its own.
    ///
    /// # Errors
    /// As [`run`](Spec::run); what goes wrong after the request was sent is told by [`Process::wait`].
    pub fn spawn(&self) -> Result<Process, Error> {
        start(self, true, None)
    }
}

/// Refuses, for a run that is waited for, a pipe whose other end nobody would have.
pub(crate) fn check_ends(spec: &Spec) -> Result<(), Error> {
    for (name, stream) in [
        ("stdin", spec.stdin),
        ("stdout", spec.stdout),
        ("stderr", spec.stderr),
    ] {
        if stream == Some(Stdio::Pipe) {
            return Err(Error::invalid(format!(
                "{name}: a pipe is for `spawn`, which hands out its other end; `run` captures"
            )));
        }
    }
    Ok(())
}

/// The live sandbox to run in, its channel.
pub(crate) struct Live<'a> {
    pub channel: &'a Channel,
    pub host: &'a Arc<Host>,
    pub image: Option<&'a image::Image>,
    /// Whether the caller has closed it.
    pub closed: &'a Arc<AtomicBool>,
}

/// Starts a program, in a new sandbox or a live one. With `handle` its process id can be asked for and its limits changed.
pub(crate) fn start(spec: &Spec, handle: bool, live: Option<Live>) -> Result<Process, Error> {
    let restricted = restrict::is_asked(spec);
    if restricted {
        restrict::check(spec)?;
    }
    // In a live sandbox it is the sandbox's, which holds it.
    let (image, lives_in) = match &live {
        None => (image::of(spec)?, None),
        Some(live) => (None, live.image),
    };
    let sandbox_closed = live.as_ref().map(|live| live.closed.clone());
    let in_image = image.as_ref().map(|image| image::program(spec, image));
    let in_image = in_image.transpose()?;
    let spec = in_image.as_ref().unwrap_or(spec);
    let lease = lease(spec)?;
    let leased = lease.as_ref().map(|lease| Spec {
        cpuset_cpus: Some(lease.list()),
        ..spec.clone()
    });
    let spec = leased.as_ref().unwrap_or(spec);
    let (streams, pipes, theirs) = Streams::open(spec)?;
    let fds: Vec<_> = theirs.iter().flatten().map(|fd| fd.as_raw_fd()).collect();
    let mut flags = if handle { WANT_PIDFD } else { 0 };
    for (end, flag) in theirs.iter().zip([HAS_STDIN, HAS_STDOUT, HAS_STDERR]) {
        if end.is_some() {
            flags |= flag;
        }
    }
    let (host, plan, channel) = match live {
        None => supervisor::start(&Key::of(spec), &fds, |host| {
            limits::check(spec)?;
            enforcement::check(spec, host)?;
            let mut plan = match restricted {
                true => Plan::restricted(spec, host, handle)?,
                false => {
                    let overlay = overlay::choose(spec, host, image.as_ref())?;
                    let overlay = overlay.as_ref();
                    let ids = host
                        .ids
                        .of_image(image.as_ref().and_then(|image| image.given()))?;
                    Plan::sandbox(spec, &ids, &host.cgroup, overlay, Some(handle))?
                }
            };
            plan.head.flags |= flags;
            Ok(plan)
        })?,
        Some(live) => {
            live.channel.check_owner()?;
            if restricted {
                return Err(restrict::not_live());
            }
            limits::check(spec)?;
            enforcement::check(spec, live.host)?;
            let mut plan = Plan::program(spec, &live.host.cgroup, handle)?;
            plan.head.flags |= flags;
            let (channel, theirs) = Channel::new()?;
            supervisor::send_plan(live.channel.fd(), EXEC, &plan, &theirs, &fds, true).map_err(
                |e| {
                    if !crate::channel::is_gone(&e) {
                        Error::system("sending to the sandbox", e)
                    } else if live.closed.load(Ordering::Acquire) {
                        crate::sandbox::closed()
                    } else {
                        live.host.sandbox_lost(live.channel)
                    }
                },
            )?;
            (live.host.clone(), plan, channel)
        }
    };
    drop(theirs);
    let shares = lease.as_ref().and_then(Lease::shares);
    let enforcement = enforcement::all(spec, &host, shares, image.as_ref().or(lives_in));
    let state = State {
        plan,
        judged: Judged::new(spec),
        streams,
        overflow: spec.output_overflow,
        paths: spec.outputs.clone(),
        output_file_size: spec.output_file_size.unwrap_or(limits::OUTPUT_FILE_DEFAULT),
        enforcement,
        outputs: BTreeMap::new(),
        pid: None,
        pidfd: None,
        started: false,
        told_overflow: false,
        pipes,
        ended: None,
        notifications: VecDeque::new(),
        lease,
        image,
    };
    Ok(Process {
        channel: Arc::new(channel),
        state: Mutex::new(state),
        epoll: OnceLock::new(),
        host,
        limits: Mutex::new(changeable(spec)),
        waiting: OnceLock::new(),
        sandbox_closed,
        stop_signal: spec.stop_signal.unwrap_or(libc::SIGTERM),
    })
}

/// Processors of its own for a program that asks for them.
fn lease(spec: &Spec) -> Result<Option<Lease>, Error> {
    if spec.cpuset_cpus.as_deref() != Some(cores::EXCLUSIVE) {
        return Ok(None);
    }
    let count = spec.cpus.unwrap_or(1.0).ceil();
    let count = count.clamp(1.0, f64::from(cores::CPUS_MAX)) as usize;
    Lease::take(count, supervisor::cores()).map(Some)
}
