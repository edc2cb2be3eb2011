//! Rung 2: a scope of systemd's, with the supervisor in it and the groups of its runs (systemd's CGROUP_DELEGATION,
//! org.freedesktop.systemd1(5)).
//!
//! The manager of a plain user, or the system's for root, is asked for a transient scope with `Delegate=yes` that holds
//! the supervisor; the host process stays where it is. When the supervisor has ended, systemd removes the scope with
//! all that is left in it.

mod bus;

use super::host::Host;
use super::refused::{Refused, look};
use super::{Controllers, Prepared, v2};
use crate::error::{Error, is_resource};
use bus::{Body, Bus, Call};
use nix::sys::socket::UnixAddr;
use nix::unistd::geteuid;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The group in the scope that the supervisor is moved to: one that holds processes can have no controllers for its
/// children.
const OWN_GROUP: &str = "supervisor";

const DROP_IN: &str = "an administrator gives them to users' managers by a file \
                       /etc/systemd/system/user@.service.d/delegate.conf with the lines `[Service]` and `Delegate=cpu \
                       cpuset io memory pids`, `systemctl daemon-reload` and a new login";

/// It is none of the controllers that systemd knows: `Delegate=` in systemd.resource-control(5).
const NO_HUGETLB: &str = "systemd delegates this one to nobody; root can make a group that has it below /sys/fs/cgroup, \
                          to be given as `cgroup_parent`";

/// Whether the children of `group` are made by systemd alone: it may undo at any time what others change in a group
/// that it has not delegated, and it never delegates slices or the root.
pub(super) fn manages(group: &Path) -> Result<bool, Error> {
    let slice = group.extension().is_some_and(|kind| kind == "slice");
    Ok(booted()? && (slice || v2::is_root(group)?))
}

/// sd_booted(3)
fn booted() -> Result<bool, Error> {
    let found = look(Path::new("/run/systemd/system"))?;
    Ok(found.is_some_and(|found| found.is_dir()))
}

/// Asks for a scope that holds the supervisor, process `pid`, and prepares a base in it.
pub(super) fn prepare(
    host: &Host,
    name: &str,
    pid: i32,
    more: Controllers,
) -> Result<Prepared, Refused> {
    if !booted()? {
        return Err("it does not run this host".into());
    }
    let has_controllers = match host.own_v2() {
        Some(own) => has_controllers(&own)?,
        None => false,
    };
    if !has_controllers {
        return Err("it has no controllers in cgroup v2 here".into());
    }
    let unit = format!("{name}.scope");
    start_scope(&unit, pid)?;
    let scope = host
        .v2_of(pid)?
        .filter(|dir| dir.ends_with(&unit))
        .ok_or_else(|| format!("it made `{unit}`, whose group is not in sight"))?;
    let own = scope.join(OWN_GROUP);
    let prepared = fs::create_dir(&own)
        .and_then(|()| fs::write(own.join("cgroup.procs"), pid.to_string()))
        .map_err(|e| Refused::by("moving the supervisor to a child of it", e))
        .and_then(|()| v2::prepare_in(&scope, name, more));
    let mut prepared =
        prepared.map_err(|no| no.map(|why| format!("`{}`: {why}; {DROP_IN}", scope.display())))?;
    for lack in &mut prepared.lacks {
        let remedy = match lack.split_whitespace().next() {
            Some("hugetlb") => NO_HUGETLB,
            _ => DROP_IN,
        };
        *lack = format!("{lack}; {remedy}");
    }
    Ok(prepared)
}

/// Whether any group above `group`, or itself, has a controller that is wanted.
fn has_controllers(group: &Path) -> Result<bool, Error> {
    for group in group.ancestors() {
        if v2::offers_any(group)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has systemd make `unit` with `pid` in it, and waits until that is done.
fn start_scope(unit: &str, pid: i32) -> Result<(), Refused> {
    let mut bus = connect()?;
    let refused = |e: io::Error| Refused::by("it makes no scope", e);
    bus.call(&manager("Subscribe", "", Body::default()))
        .map_err(refused)?;
    let reply = bus
        .call(&manager(
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            scope(unit, pid),
        ))
        .map_err(refused)?;
    let job = reply.strings().next().unwrap_or_default();
    loop {
        let signal = bus.signal().map_err(refused)?;
        let told: Vec<&str> = signal.strings().collect();
        if signal.name == "JobRemoved"
            && let [removed, _, result] = told[..]
            && removed == job
        {
            return match result {
                "done" => Ok(()),
                other => {
                    let why = format!("its job of starting `{unit}` ended as `{other}`");
                    Err(Refused::Why(why))
                }
            };
        }
    }
}

fn manager<'a>(member: &'a str, signature: &'a str, body: Body) -> Call<'a> {
    Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
        signature,
        body,
    }
}

/// The parameters of StartTransientUnit: name, mode, properties, and no further units.
fn scope(unit: &str, pid: i32) -> Body {
    let mut body = Body::default();
    body.string(unit).string("fail");
    body.array(|all| {
        let description = format!("Stockade sandboxes of process {}", std::process::id());
        all.structure()
            .string("Description")
            .signature("s")
            .string(&description);
        // An array of one number of 4 bytes.
        all.structure()
            .string("PIDs")
            .signature("au")
            .number(4)
            .number(pid as u32);
        all.structure().string("Delegate").signature("b").number(1);
        // One that has failed is forgotten too.
        all.structure()
            .string("CollectMode")
            .signature("s")
            .string("inactive-or-failed");
        // systemd's own default would be a limit that nobody asked for.
        all.structure()
            .string("TasksMax")
            .signature("t")
            .long(u64::MAX);
    });
    body.array(|_| {});
    body
}

/// Connects to the manager: over the message bus, or to its own socket where no bus runs.
fn connect() -> Result<Bus, Refused> {
    let (bus, own) = if geteuid().is_root() {
        let run = Path::new("/run");
        (
            run.join("dbus/system_bus_socket"),
            run.join("systemd/private"),
        )
    } else {
        let run = runtime_dir()?;
        (run.join("bus"), run.join("systemd/private"))
    };
    match connect_bus(&bus) {
        Ok(bus) => Ok(bus),
        Err(e) if e.raw_os_error().is_some_and(is_resource) => {
            Err(Refused::by("connecting to systemd", e))
        }
        Err(by_bus) => connect_to(&own).map_err(|e| {
            let (bus, own) = (bus.display(), own.display());
            Refused::by(format!("it does not answer: `{bus}`: {by_bus}; `{own}`"), e)
        }),
    }
}

/// The directory of a user's sockets: `XDG_RUNTIME_DIR` if that is this user's (after `su` it is another's).
fn runtime_dir() -> Result<PathBuf, Refused> {
    let uid = geteuid();
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    for dir in named.into_iter().chain([usual.clone()]) {
        if look(&dir)?.is_some_and(|found| found.uid() == uid.as_raw()) {
            return Ok(dir);
        }
    }
    Err(Refused::Why(format!(
        "there is no `{}`, so no user manager runs: log in, or have an administrator call `loginctl enable-linger \
         {uid}`",
        usual.display()
    )))
}

/// Over a bus one says hello before anything else, and asks for the signals one wants.
fn connect_bus(path: &Path) -> io::Result<Bus> {
    let mut bus = connect_to(path)?;
    let mut call = |member, signature, body| {
        bus.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature,
            body,
        })
    };
    call("Hello", "", Body::default())?;
    let mut wanted = Body::default();
    wanted.string(
        "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
         member='JobRemoved'",
    );
    call("AddMatch", "s", wanted)?;
    Ok(bus)
}

fn connect_to(path: &Path) -> io::Result<Bus> {
    Bus::connect(&UnixAddr::new(path)?)
}
