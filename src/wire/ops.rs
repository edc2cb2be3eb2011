//! The steps of a plan: what makes a root, sets a sandbox up, limits a program and starts it.

/// One step of a plan; `len` bytes of payload follow, padded to 8.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Op {
    pub code: u16,
    pub flags: u16,
    pub len: u32,
    pub a: u64,
    pub b: u64,
}

// ---- template: done by the supervisor in a mount namespace that sandboxes then copy
/// Directory `path`, mode `a`; owned by `b`, an [`owner`] among the supervisor's ids, or 0 for its own.
pub const T_DIR: u16 = 1;
/// Symbolic link: `target`, `path`.
pub const T_LINK: u16 = 2;
/// File `path`, then its content; mode `a`.
pub const T_FILE: u16 = 3;
/// Bind `source` at `path`, with `flags` [`BIND_WRITABLE`] and so on. `a` and `b` tell one source from another that has
/// come to its place.
pub const T_BIND: u16 = 4;
/// Bind the device node `source`, which must be a character device with number `a`, at `path`.
pub const T_DEV: u16 = 5;
/// A procfs of the supervisor's own pid namespace at `path`.
pub const T_PROC: u16 = 6;

/// Copy of the file `source` at `path`; passed over if there is no such file.
pub const T_COPY: u16 = 7;

pub const BIND_WRITABLE: u16 = 1;
/// A source that does not exist is passed over.
pub const BIND_OPTIONAL: u16 = 2;
pub const BIND_NOEXEC: u16 = 4;
/// A source that is a symbolic link is refused.
pub const BIND_NO_LINK: u16 = 8;
/// Shown through an overlay, so that its files are other inodes than the host's, if the kernel makes one ([`Shared`]). One
/// sandbox at a time has a root with such binds.
pub const BIND_OWN: u16 = 16;

// ---- setup: done by a sandbox's init
/// procfs at `path`.
pub const S_PROC: u16 = 20;
/// tmpfs at `path`: `a` bytes, `b` inodes.
pub const S_TMPFS: u16 = 21;
/// Directory `path` with mode `a`, and its parents; an existing one is kept.
pub const S_DIR: u16 = 22;
/// Directory `path` with mode `a` in a file system that was just made; owned by `b`, an [`owner`], or 0 for init's.
pub const S_MKDIR: u16 = 31;
/// Bind `source` at `path`, both inside; with `flags` 1 and what is mounted below.
pub const S_BIND: u16 = 23;
/// Attach the next volume at `path`; flags as for [`T_BIND`].
pub const S_VOLUME: u16 = 24;
/// Bring the loopback interface up.
pub const S_LOOPBACK: u16 = 25;
/// Set the host name.
pub const S_HOSTNAME: u16 = 26;
/// Cover `path` with `/dev/null`; passed over where it is not there.
pub const S_MASK: u16 = 27;
/// Make `path` read-only by a bind over itself.
pub const S_READ_ONLY: u16 = 28;
/// The writable file system whose use is reported: `path`; with `flags` 1 it is on the host's disk, where init counts.
pub const S_DISK: u16 = 29;
/// A directory of the host's at `path`, in place of a tmpfs: a new one in the volume number `flags`, which is attached at
/// [`ON_DISK`]; `a` bytes, `b` inodes, which init counts.
pub const S_BOX: u16 = 38;

/// Mount a writable root at `path`, by the driver `flags`; options follow. Lower layers are the directories of
/// [`LOWERS`], the upper one is [`UPPER`].
pub const S_OVERLAY: u16 = 32;
/// Make `path` the root from here on; with `flags` 1 read-only.
pub const S_ROOT: u16 = 33;
/// Try what an overlay at `path` must be able to: replace a directory of its lower layer, `probe`, by an empty one.
pub const S_PROBE: u16 = 34;
/// The program that serves a root of driver [`OVERLAY_FUSE`]: payload as of [`R_EXEC`]. Started by the supervisor.
pub const S_SERVE: u16 = 35;

/// Its filter: payload as of [`R_SECCOMP`].
pub const S_SERVE_FILTER: u16 = 36;
/// A resource limit of its: number `flags`, `a` at most.
pub const S_SERVE_LIMIT: u16 = 37;

/// Begin a Landlock ruleset, in which programs are run: what it handles of files is `a`, of the network the low half of
/// `b`, scopes the high one; `flags` are those of landlock_restrict_self(2).
pub const S_LANDLOCK: u16 = 50;
/// Let it allow what is below `path`: `a` if that is a directory, else `b`; with `flags` 1 it is one of the sandbox's own,
/// in which no program was yet.
pub const S_ALLOW: u16 = 51;

/// Count what is in directory `path`, a host's: `a` bytes, `b` inodes.
pub const S_COUNT: u16 = 52;

/// Drivers of [`S_OVERLAY`].
pub const OVERLAY_KERNEL: u16 = 1;
pub const OVERLAY_FUSE: u16 = 2;
pub const OVERLAY_COPY: u16 = 3;

/// The most lower directories: Docker's limit is 127 layers.
pub const LOWERS_MAX: u64 = 128;

/// Where a sandbox with a writable root has things before [`S_ROOT`]: out of its programs' reach.
pub const LOWERS: &str = "/lower";
/// The host's directory for what is written, if that is on a disk.
pub const ON_DISK: &str = "/disk";
/// The upper layer's directory.
pub const UPPER: &str = "/box/upper";

/// An owner in one number, for ids below 2^31.
pub const fn owner(user: u32, group: u32) -> u64 {
    1 << 63 | (user as u64) << 31 | group as u64
}

/// The ids in such a number; `None` for 0.
pub const fn owner_ids(owner: u64) -> Option<(u32, u32)> {
    match owner {
        0 => None,
        n => Some(((n >> 31) as u32, n as u32 & 0x7fff_ffff)),
    }
}

// ---- volumes: opened by the supervisor in the host's mount namespace (section `setup`, code S_SOURCE, in order)
/// Source of the next volume: `path`; flags as for [`T_BIND`].
pub const S_SOURCE: u16 = 30;

// ---- limits: done by the supervisor
/// Make a group for the run in base directory `a` and have the program enter it if `b`. `path`: the file to enter by.
pub const L_GROUP: u16 = 40;
/// Write `value` to `file` of the group in base directory `a`; `b`: failing is an error. Payload: file, value.
pub const L_WRITE: u16 = 41;
/// Read `file` of the group in base directory `a`: at the end if `b`, else only while the program runs.
pub const L_READ: u16 = 42;

// ---- run: done by init, and by the program's process before exec
/// File `path`, then its content; mode `a`; parents are made.
pub const R_FILE: u16 = 60;
/// Resource limit number `flags`: soft `a`, hard `b`.
pub const R_RLIMIT: u16 = 61;
/// Working directory.
pub const R_CWD: u16 = 62;
/// seccomp filter: payload is an array of `struct sock_filter`.
pub const R_SECCOMP: u16 = 63;
/// Program: payload is an [`ExecHead`], then tables of offsets from the payload's start, then strings.
pub const R_EXEC: u16 = 64;
/// Collect `path` at the end.
pub const R_OUTPUT: u16 = 65;
/// Nice value `a`.
pub const R_NICE: u16 = 66;
/// SCHED_IDLE.
pub const R_IDLE: u16 = 67;
/// Processors that it may use: payload is a mask for sched_setaffinity(2).
pub const R_AFFINITY: u16 = 68;
/// Personality `a`, personality(2).
pub const R_PERSONALITY: u16 = 72;
/// A session keyring of its own.
pub const R_KEYRING: u16 = 73;

/// Counts of the three tables of offsets (u64 each, ended by 0): arguments, environment, paths to try in order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExecHead {
    pub args: u32,
    pub env: u32,
    pub paths: u32,
    pub pad: u32,
}
