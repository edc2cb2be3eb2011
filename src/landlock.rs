//! Landlock: a second layer below the mounts. What it lets a program do is what the mounts let it do, said a second time
//! to another part of the kernel, so that one mistake is not enough.

use crate::error::{Error, ErrorKind};
use crate::once::Once;
use crate::outcome::EnforcementStatus::{self, Enforced, NotEnforced};
use crate::overlay::Chosen;
use crate::plan::{Steps, WORK, inside};
use crate::spec::{Network, Spec};
use crate::wire::*;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
/// What the first ABI has: everything up to making symbolic links.
const FIRST: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const RESOLVE_UNIX: u64 = 1 << 16;
/// Rights that a rule about something other than a directory may have.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX;

const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 1 << 1;
const BIND_UDP: u64 = 1 << 2;
const CONNECT_SEND_UDP: u64 = 1 << 3;

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// What a program tries is not written to the host's audit log, neither of its own nor of domains that it makes.
const LOG_SAME_EXEC_OFF: u16 = 1;
const LOG_SUBDOMAINS_OFF: u16 = 1 << 2;

/// The first ABI lets nobody rename or link from one directory to another, which programs do all the time.
const ABI_MIN: u32 = 2;
/// What is missing before matters: sockets and signals.
pub(crate) const ABI_WHOLE: u32 = 6;

const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// All that can be done below a directory that is mounted writable. No device nodes: those that there are lie in `/dev`.
const WRITE: u64 = (FIRST | REFER | TRUNCATE) & !(MAKE_CHAR | MAKE_BLOCK);

/// A part of Landlock: since which ABI, and since which Linux.
struct Part {
    name: &'static str,
    abi: u32,
    linux: &'static str,
}

const fn part(name: &'static str, abi: u32, linux: &'static str) -> Part {
    Part { name, abi, linux }
}

const FILES: &str = "files";
const PARTS: [Part; 8] = [
    part(FILES, ABI_MIN, "5.19"),
    part("truncation", 3, "6.2"),
    part("TCP", 4, "6.7"),
    part("device ioctl", 5, "6.10"),
    part("abstract sockets", 6, "6.12"),
    part("signals", 6, "6.12"),
    part("sockets of other programs in directories", 9, "7.1"),
    part("UDP", 10, "7.2"),
];
const OF_THE_NETWORK: [&str; 2] = ["TCP", "UDP"];

/// The kernel's ABI, if it is one that can be used; else why not. Asked once.
pub(crate) fn abi() -> Result<u32, &'static str> {
    static ABI: Once<Result<u32, String>> = Once::new();
    // What fails once may have failed by chance, and would leave all programs without it.
    let again = |errno| match errno {
        libc::ENOSYS | libc::EOPNOTSUPP => Err(errno),
        _ => version(),
    };
    let known = ABI.get_or_init(|| judge(version().or_else(again)));
    known.as_ref().map(|abi| *abi).map_err(String::as_str)
}

fn judge(version: Result<u32, i32>) -> Result<u32, String> {
    match version {
        Ok(abi) if abi >= ABI_MIN => Ok(abi),
        Ok(abi) => Err(format!(
            "ABI {abi} would refuse every rename between directories; Linux 5.19 has one that does not"
        )),
        Err(libc::EOPNOTSUPP) => {
            Err("it is built into this kernel, and was not switched on at boot (lsm=)".into())
        }
        Err(libc::ENOSYS) => {
            Err("this kernel has none (Linux 5.13, CONFIG_SECURITY_LANDLOCK)".into())
        }
        Err(errno) => Err(format!(
            "{}, by a filter around this process",
            std::io::Error::from_raw_os_error(errno)
        )),
    }
}

/// The kernel's ABI, or its errno.
pub(crate) fn version() -> Result<u32, i32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel takes no attribute and returns a number, not a descriptor.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    match u32::try_from(abi) {
        Ok(abi) => Ok(abi),
        Err(_) => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

/// What this ABI covers, and what a later one would cover as well.
pub(crate) fn covers(abi: u32) -> (Vec<&'static str>, Vec<String>) {
    let (has, lacks): (Vec<&Part>, Vec<&Part>) = PARTS.iter().partition(|part| part.abi <= abi);
    let lacks = lacks
        .iter()
        .map(|part| format!("{} (Linux {})", part.name, part.linux));
    (has.iter().map(|part| part.name).collect(), lacks.collect())
}

fn handled_files(abi: u32) -> u64 {
    let since = |first, rights| if abi >= first { rights } else { 0 };
    FIRST | REFER | since(3, TRUNCATE) | since(5, IOCTL_DEV) | since(9, RESOLVE_UNIX)
}

/// By port alone nothing can be let through that stays inside, so that only who has no network is held.
fn handled_network(abi: u32, network: Network) -> u64 {
    if network != Network::None {
        return 0;
    }
    let since = |first, rights| if abi >= first { rights } else { 0 };
    since(4, BIND_TCP | CONNECT_TCP) | since(10, BIND_UDP | CONNECT_SEND_UDP)
}

fn scopes(abi: u32) -> u64 {
    match abi {
        0..6 => 0,
        _ => SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
    }
}

/// The steps, behind those that mount: rights follow from what is mounted, and how.
pub(crate) fn add(setup: &mut Steps, spec: &Spec, chosen: Option<&Chosen>) -> Result<(), Error> {
    let Ok(abi) = abi() else {
        return Ok(());
    };
    begin(setup, abi, spec.network);
    let files = handled_files(abi);
    let mut add = |flags, path: &str, rights: u64| {
        let (rights, of_files) = (rights & files, rights & files & OF_FILES);
        setup.text(S_ALLOW, flags, rights, of_files, &[path.as_bytes()]);
    };
    let mut own = |path: &str, rights| add(1, path, rights);
    let all_writable = chosen.is_some_and(|chosen| !chosen.read_only);
    own("/", if all_writable { WRITE } else { READ });
    own("/dev", WRITE_FILE | TRUNCATE | IOCTL_DEV);
    if !all_writable {
        // Of their own: names of threads, out-of-memory scores.
        own("/proc", WRITE_FILE | TRUNCATE);
        for path in [WORK, "/tmp", "/dev/shm"] {
            own(path, WRITE);
        }
        for path in chosen.map_or(&[][..], |chosen| &chosen.volumes) {
            add(0, &format!("/{path}"), WRITE);
        }
        for tmpfs in &spec.tmpfs {
            add(0, &inside(&tmpfs.path, "tmpfs")?, WRITE);
        }
    }
    for volume in &spec.volumes {
        // Who listens on a socket there is outside: granted is what is granted.
        let rights = if volume.writable { WRITE } else { READ };
        add(
            0,
            &inside(&volume.inside, "volumes")?,
            rights | RESOLVE_UNIX,
        );
    }
    Ok(())
}

/// Rules for programs that see the host's paths.
pub(crate) struct Rules<'a> {
    setup: &'a mut Steps,
    files: u64,
}

impl<'a> Rules<'a> {
    pub fn begin(setup: &'a mut Steps, network: Network) -> Result<Rules<'a>, Error> {
        let abi =
            abi().map_err(|why| Error::new(ErrorKind::Unsupported, format!("Landlock: {why}")))?;
        begin(setup, abi, network);
        let files = handled_files(abi);
        Ok(Rules { setup, files })
    }

    fn add(&mut self, path: &str, rights: u64) {
        let (rights, of_files) = (rights & self.files, rights & self.files & OF_FILES);
        self.setup
            .text(S_ALLOW, 0, rights, of_files, &[path.as_bytes()]);
    }

    pub fn read(&mut self, path: &str) {
        self.add(path, READ);
    }

    pub fn write(&mut self, path: &str) {
        self.add(path, WRITE);
    }

    pub fn device(&mut self, path: &str) {
        self.add(path, READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV);
    }
}

fn begin(setup: &mut Steps, abi: u32, network: Network) {
    let flags = if abi >= 7 {
        LOG_SAME_EXEC_OFF | LOG_SUBDOMAINS_OFF
    } else {
        0
    };
    let others = handled_network(abi, network) | scopes(abi) << 32;
    setup.add(S_LANDLOCK, flags, handled_files(abi), others, &[]);
}

/// What is said of it with an outcome.
pub(crate) fn said(spec: &Spec) -> (EnforcementStatus, String) {
    let abi = match abi() {
        Ok(abi) => abi,
        Err(why) => return (NotEnforced, why.to_string()),
    };
    let (mut has, lacks) = covers(abi);
    if spec.network != Network::None {
        has.retain(|part| !OF_THE_NETWORK.contains(part));
    }
    let mut by = format!("ABI {abi}: {}", has.join(", "));
    if !lacks.is_empty() {
        by = format!("{by}; not in this kernel: {}", lacks.join(", "));
    }
    if spec.network != Network::None {
        by += "; TCP and UDP are for network=none only";
    }
    (Enforced, by)
}

#[cfg(test)]
mod tests;
