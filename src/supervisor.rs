//! The host's end of its supervisor: started on first use, started again if it dies, and never shared with a child
//! that the host forks.

use crate::cgroup::{Cgroup, Controllers, Kind};
use crate::channel::{Channel, Received, is_gone, pair, send};
use crate::cores;
use crate::error::{Error, ErrorKind};
use crate::ids::{self, Ids};
use crate::launch::{self, sealed_memfd};
use crate::orphan::Orphan;
use crate::overlay::Probes;
use crate::plan::{Plan, bytes_of, read_of};
use crate::remedy;
use crate::rights::Servants;
use crate::spec::{Isolation, Network, Spec};
use crate::wire::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A supervisor and what is known of it.
pub(crate) struct Host {
    socket: OwnedFd,
    child: Orphan,
    pub ids: Ids,
    /// In words, for `enforcement`.
    pub ids_text: String,
    pub keeps_groups: bool,
    pub cgroup: Cgroup,
    pub overlay: Probes,
    /// Whether its sandboxes have the host's network.
    pub host_network: bool,
    lost: AtomicBool,
    /// Whether it was asked to remove what dead processes have left where its programs without namespaces write.
    pub swept: AtomicBool,
    /// Those who do what is asked about files of sub-ids, and have nothing to do now.
    pub servants: Servants,
    /// The process that started it.
    pid: u32,
}

/// What tells supervisors of one process apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    cgroup_parent: Option<String>,
    controllers: Controllers,
    /// A supervisor that has once left the host's network for a leased one may not come back: it holds no privilege
    /// there. Sandboxes on the host's network have a supervisor that never leaves it.
    host_network: bool,
    isolation: Isolation,
    /// It runs no program, and so needs no cgroup: what it is for are files of sub-ids.
    files_only: bool,
}

impl Key {
    pub fn of(spec: &Spec) -> Key {
        Key {
            cgroup_parent: spec.cgroup_parent.clone(),
            controllers: Controllers::of(spec),
            host_network: spec.network == Network::Host,
            isolation: spec.isolation,
            files_only: false,
        }
    }
}

/// All supervisors of this process. A forked child makes a registry of its own.
struct Registry {
    pid: u32,
    /// A list, as they are few; and what a hash map holds to the end is a leak to valgrind.
    hosts: Mutex<Vec<(Key, Arc<Host>)>>,
    cores: cores::Taken,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

fn registry() -> &'static Registry {
    let pid = std::process::id();
    loop {
        let current = REGISTRY.load(Ordering::Acquire);
        // SAFETY: registries are leaked, so a pointer that was ever stored stays valid.
        if let Some(registry) = unsafe { current.as_ref() }
            && registry.pid == pid
        {
            return registry;
        }
        // The parent's registry is left as it is: its lock may have been held by a thread that is not here.
        let new = Box::into_raw(Box::new(Registry {
            pid,
            hosts: Mutex::default(),
            cores: cores::Taken::default(),
        }));
        if REGISTRY
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // SAFETY: nobody has seen `new`.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// The processors that runs of this process have to themselves.
pub(crate) fn cores() -> &'static cores::Taken {
    &registry().cores
}

/// The supervisor for this key.
pub(crate) fn get(key: &Key) -> Result<Arc<Host>, Error> {
    let mut hosts = registry()
        .hosts
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((_, host)) = hosts.iter().find(|(k, host)| k == key && !host.is_lost()) {
        return Ok(host.clone());
    }
    let host = Arc::new(Host::start(key)?);
    hosts.retain(|(k, _)| k != key);
    hosts.push((key.clone(), host.clone()));
    Ok(host)
}

/// A supervisor whose ids are the caller's and a range of sub-ids: one that is there, else one that does nothing else; `None`
/// where sub-ids cannot be used.
///
/// # Errors
/// If what is short just now keeps one from being started.
pub(crate) fn with_sub_ids() -> Result<Option<Arc<Host>>, Error> {
    let ranged = |host: &Arc<Host>| matches!(host.ids, Ids::Range { .. }) && !host.is_lost();
    {
        let hosts = registry().hosts.lock();
        let hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        if let Some((_, host)) = hosts.iter().find(|(_, host)| ranged(host)) {
            return Ok(Some(host.clone()));
        }
    }
    if !matches!(Ids::detect()?, Ids::Range { .. }) {
        return Ok(None);
    }
    let key = Key {
        files_only: true,
        ..Key::of(&Spec::default())
    };
    match get(&key) {
        Ok(host) => Ok(Some(host).filter(ranged)),
        // One that has died as it began is no sign of that there can be none.
        Err(e) if matches!(e.kind(), ErrorKind::Resource | ErrorKind::Supervisor) => Err(e),
        // No user namespace is to be had here.
        Err(_) => Ok(None),
    }
}

/// Forgets a supervisor that has died, unless another thread has already started the next.
fn forget(key: &Key, dead: &Arc<Host>) {
    let mut hosts = registry()
        .hosts
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    hosts.retain(|(k, host)| k != key || !Arc::ptr_eq(host, dead));
}

/// Sends a plan to the supervisor, made by `plan` for the supervisor that is asked; starts a new one if it has died.
pub(crate) fn start(
    key: &Key,
    fds: &[RawFd],
    plan: impl Fn(&Host) -> Result<Plan, Error>,
) -> Result<(Arc<Host>, Plan, Channel), Error> {
    let mut tries = 0;
    loop {
        let host = get(key)?;
        let mut plan = plan(&host)?;
        let (channel, theirs) = Channel::new()?;
        let sent = send_plan(host.socket.as_raw_fd(), START, &plan, &theirs, fds, false);
        match (sent.is_ok(), plan.upper.take()) {
            (true, Some(_)) => {} // its lock is the supervisor's now
            (false, Some(upper)) => upper.discard(),
            _ => {}
        }
        match sent {
            Ok(()) => return Ok((host, plan, channel)),
            Err(e) if tries < 3 && is_gone(&e) => {
                forget(key, &host);
                tries += 1;
            }
            Err(e) => return Err(Error::system("sending to the supervisor", e)),
        }
    }
}

/// Sends a request about files, with the socket for its answer, and perhaps a file.
pub(crate) fn send_ask(
    socket: RawFd,
    ask: &Ask,
    strings: &[&[u8]],
    answer: &OwnedFd,
    with: Option<BorrowedFd>,
) -> io::Result<()> {
    let mut body = Vec::new();
    for string in strings {
        body.extend_from_slice(string);
        body.push(0);
    }
    let mut fds = vec![answer.as_raw_fd()];
    fds.extend(with.map(|fd| fd.as_raw_fd()));
    send(socket, bytes_of(ask), &body, &fds)
}

/// Has it start one who does what is asked about files of sub-ids over the other end of `theirs`.
pub(crate) fn send_servant(host: &Host, theirs: &OwnedFd) -> io::Result<()> {
    let head = Message {
        kind: SERVANT,
        arg: 0,
    };
    let fds = [theirs.as_raw_fd()];
    send(host.socket.as_raw_fd(), bytes_of(&head), &[], &fds)
}

/// Sends a plan without streams to a supervisor that is there.
pub(crate) fn send_start(host: &Host, plan: &Plan, channel: &OwnedFd) -> io::Result<()> {
    send_plan(host.socket.as_raw_fd(), START, plan, channel, &[], false)
}

/// Has it remove a directory, which comes locked and is called `name`.
pub(crate) fn send_removal(host: &Host, name: &str, dir: &OwnedFd) -> io::Result<()> {
    let head = Message {
        kind: REMOVE,
        arg: 0,
    };
    let fds = [dir.as_raw_fd()];
    send(
        host.socket.as_raw_fd(),
        bytes_of(&head),
        name.as_bytes(),
        &fds,
    )
}

/// Sends a request with its plan over `socket`.
pub(crate) fn send_plan(
    socket: RawFd,
    kind: u32,
    plan: &Plan,
    channel: &OwnedFd,
    fds: &[RawFd],
    live: bool,
) -> io::Result<()> {
    let mut head = plan.head;
    head.kind = kind;
    let mut all = vec![channel.as_raw_fd()];
    all.extend_from_slice(fds);
    if kind == START {
        all.extend(plan.upper.iter().map(|upper| upper.fd.as_raw_fd()));
    }
    if plan.needs_memfd(live) {
        let memfd = sealed_memfd(&plan.bytes, false)?;
        head.in_memfd = plan.bytes.len() as u32;
        all.push(memfd.as_raw_fd());
        send(socket, bytes_of(&head), &[], &all)
    } else {
        send(socket, bytes_of(&head), &plan.bytes, &all)
    }
}

impl Host {
    /// A channel has ended without a last word: how the supervisor has, in words behind its name. While it is dying its
    /// own socket may take requests for a little longer, which nobody would answer, so it is asked nothing more.
    ///
    /// `None` if it lives, and only what the channel was for is gone.
    pub fn lost(&self) -> Option<String> {
        // Descriptors are closed a moment before the end can be seen.
        let end = self.child.end(500)?;
        self.lost.store(true, Ordering::Release);
        Some(end)
    }

    /// The same as an error of a sandbox's, whose channel is `sandbox`.
    pub fn sandbox_lost(&self, sandbox: &Channel) -> Error {
        // Then it lives, and need not be waited for.
        let end = match sandbox.says_init_died() {
            true => None,
            false => self.lost(),
        };
        let message = match end {
            Some(end) => format!("the sandbox is gone: its supervisor {end}"),
            None => "the sandbox is gone: its init was killed".into(),
        };
        Error::new(ErrorKind::Supervisor, message)
    }

    /// Whether it was found to have ended.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The next message that one of its children sends, unless either has ended.
    pub fn hear(&self, from: &Channel) -> Option<Received> {
        // A child that another thread forks meanwhile may hold the socket open, so the supervisor's own end counts too.
        let mut ends = [
            PollFd::new(from.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket.as_fd(), PollFlags::empty()),
        ];
        while poll(&mut ends, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        let received = from.receive(false).ok().flatten();
        received.filter(|received| !received.bytes.is_empty())
    }

    /// Nothing more is asked of it.
    pub fn give_up(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        let mut ends = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let _ = poll(&mut ends, PollTimeout::ZERO);
        ends[0]
            .revents()
            .is_some_and(|seen| seen.contains(PollFlags::POLLHUP))
    }

    fn start(key: &Key) -> Result<Host, Error> {
        let ids = match key.isolation {
            Isolation::Namespaces => Ids::detect()?,
            Isolation::Restrict => Ids::Own,
        };
        let start = || Host::start_with(key, ids.clone());
        let unmapped = |e: &Error| matches!(ids, Ids::Range { .. }) && e.step() == ids::MAPPING;
        // A supervisor that was killed meanwhile looks the same to newuidmap as one that may have no sub-ids.
        let started = start().or_else(|e| if unmapped(&e) { start() } else { Err(e) });
        match started {
            // Sub-ids are a convenience: where newuidmap does not work, one id does.
            Err(e) if unmapped(&e) => {
                let note = format!("sub-ids could not be used: {e}");
                Host::start_with(key, Ids::Single { note })
            }
            result => result,
        }
    }

    fn start_with(key: &Key, ids: Ids) -> Result<Host, Error> {
        // A caller's mistake is found before anything is started; systemd is asked for what has been.
        let given = key
            .cgroup_parent
            .as_deref()
            .map(|parent| Cgroup::in_parent(parent, key.controllers))
            .transpose()?;
        let started = pair().and_then(|(ours, theirs)| {
            let child = launch::supervisor(theirs.as_raw_fd(), key.isolation)?;
            Ok((ours, child))
        });
        let (socket, child) = started.inspect_err(|_| remove(&given))?;
        let cgroup = ids
            .write(child.pid)
            .and_then(|()| match &given {
                Some(_) => Ok(None),
                None if key.files_only => Cgroup::unneeded().map(Some),
                None => Cgroup::find(child.pid, key.controllers).map(Some),
            })
            .map_err(|e| {
                let e = died(&child, e);
                child.kill();
                remove(&given);
                e
            })?;
        let cgroup = cgroup.or(given).expect("one of them was made");
        configure(&socket, &ids, &cgroup).map_err(|e| {
            let e = died(&child, e);
            child.kill();
            cgroup.remove();
            e
        })?;
        let keeps_groups = matches!(ids, Ids::Single { .. } | Ids::Own);
        let ids_text = match &ids {
            Ids::Own => "isolation=restrict: the caller's own ids".into(),
            Ids::Single { note } => format!("CLONE_NEWUSER, the caller's id only: {note}"),
            Ids::Range { users, .. } => {
                format!("CLONE_NEWUSER, the caller's id and {} sub-ids", users.count)
            }
            Ids::Root { users, .. } => format!(
                "CLONE_NEWUSER, ids from {} (never the host's 0)",
                users.start
            ),
        };
        Ok(Host {
            socket,
            child,
            ids,
            ids_text,
            keeps_groups,
            cgroup,
            overlay: Probes::default(),
            host_network: key.host_network,
            lost: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            servants: Servants::default(),
            pid: std::process::id(),
        })
    }
}

/// What has failed while a supervisor was started, or that it was its end.
fn died(child: &Orphan, failed: Error) -> Error {
    match child.end(0) {
        Some(end) if failed.step().is_empty() => {
            let errno = failed.errno();
            Error::new(
                failed.kind(),
                format!("the supervisor {end} while it was started: {failed}"),
            )
            .with_errno(errno)
            .with_step("starting the supervisor")
        }
        _ => failed,
    }
}

fn remove(cgroup: &Option<Cgroup>) {
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

/// Tells a new supervisor what it works with, and waits until it is ready.
fn configure(socket: &OwnedFd, ids: &Ids, cgroup: &Cgroup) -> Result<(), Error> {
    let (map, count) = ids.mode();
    let mut config = Config {
        map,
        ids: count,
        cgroup: match cgroup.kind() {
            Kind::None => CGROUP_NONE,
            Kind::V2 => CGROUP_V2,
            Kind::V1 => CGROUP_V1,
        },
        cgroup_dirs: cgroup.dirs().len() as u32,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        ..Config::NONE
    };
    let name = cgroup.name().as_bytes();
    config.cgroup_name[..name.len()].copy_from_slice(name);
    let me = own_pidfd().map_err(|e| Error::system("pidfd_open of this process", e))?;
    config.host_pidfd = u32::from(me.is_some());
    let mut fds: Vec<RawFd> = me.iter().map(|me| me.as_raw_fd()).collect();
    fds.extend(cgroup.dirs().iter().map(|dir| dir.as_raw_fd()));
    match send(socket.as_raw_fd(), bytes_of(&config), &[], &fds) {
        Err(e) if is_gone(&e) => {} // it has failed before, and said at what
        sent => sent.map_err(|e| Error::system("configuring the supervisor", e))?,
    }
    let mut buffer = [0; size_of::<Failure>()];
    let answer = loop {
        match nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            // Of one that has ended with our configuration unread, whose last word comes next.
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => {}
            other => break other,
        }
    };
    let answer = answer.map_err(|e| Error::system("hearing of the supervisor", e))?;
    match read_of::<Failure>(&buffer[..answer]) {
        Some(Failure { kind: READY, .. }) => Ok(()),
        Some(failure) => Err(remedy::explain(&failure, None)),
        None => Err(Error::new(
            ErrorKind::Setup,
            "the supervisor ended while starting; was it killed?",
        )),
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // In a forked child the supervisor is the parent's, and so is the socket that both hold.
        if self.pid != std::process::id() {
            return;
        }
        // Told that we are gone, the supervisor ends; only then are its groups empty.
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        self.child.wait();
        // One that was killed has left them.
        self.cgroup.remove();
    }
}

/// A pidfd of this process, which tells of its end even if a forked child holds the socket open. None where there is no
/// such call, or none is let through: valgrind up to 3.20, qemu, seccomp profiles older than Linux 5.3.
fn own_pidfd() -> io::Result<Option<OwnedFd>> {
    // SAFETY: a plain call; the result is a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) } as RawFd;
    if fd >= 0 {
        // SAFETY: just made, and nobody else's.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    match io::Error::last_os_error() {
        e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(None),
        e => Err(e),
    }
}
