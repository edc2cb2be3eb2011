//! What the host library and the helper say to each other: shared, `core` only.
//!
//! Everything is in the machine's own byte order and layout, since both ends are built together; the first message
//! carries [`VERSION`], so that a helper installed by hand (`STOCKADE_INIT`) is refused if it is another version's.
//!
//! The host and the supervisor share one `SOCK_SEQPACKET` socket for [`CONFIG`] and [`START`]. Each sandbox and each
//! program run has a *channel* of its own, a socket that the host makes and passes with the request: answers come
//! over it, and its end-of-file means that the host lost interest, which ends the sandbox or the run.

/// Changes whenever anything in this file does.
pub const VERSION: u32 = 0x5354_002a;

// ---- messages, host to supervisor
/// First message: [`Config`]; descriptors: the host's pidfd if there is one, then the cgroup base directories.
pub const CONFIG: u32 = 1;
/// Start a sandbox: a [`Request`] with a plan; descriptors: channel, then those of the run.
pub const START: u32 = 2;
/// On a sandbox's channel: run a program in it; a [`Request`] with a plan, descriptors as in [`START`].
pub const EXEC: u32 = 3;
/// On a run's channel: end the run; `arg` is the reason. Back from init to the supervisor when its processes have the signal:
/// what then takes time is the kernel's to do.
pub const KILL: u32 = 4;
/// On a run's channel: send signal `arg` to the program.
pub const SIGNAL: u32 = 5;
/// On a run's channel, with a socket over which [`ANSWER`] comes: stop all its processes; let them go on. From the
/// supervisor to init the same, where no cgroup can, and back from init when it is done.
pub const PAUSE: u32 = 6;
pub const RESUME: u32 = 7;
/// On a run's channel, with a socket over which [`Now`] comes: what it uses now.
pub const STATS: u32 = 8;
/// On a run's channel, with a socket over which [`Group`] comes: which its groups are.
pub const GROUP: u32 = 9;
/// On a run's channel, an [`Update`], with a socket over which [`ANSWER`] comes: other clocks in place of those it has.
pub const UPDATE: u32 = 16;
/// On a run's channel, a [`Threshold`]: tell once, by the same from the supervisor to the host, when so much is used.
pub const NOTIFY: u32 = 17;

/// To the supervisor, a [`Message`] with a name behind it: remove the directory of that name, which comes along, with all
/// that is in it. Nobody answers.
pub const REMOVE: u32 = 18;
/// To the supervisor, a [`Message`] with a socket: a child of its own that does, until the socket's end, what is asked over
/// it: [`OPEN_AT`] to [`REMOVE_TREE`], each an [`Ask`], a [`Failure`] in answer. It has the supervisor's rights over the
/// files of sub-ids, which the host itself has not.
pub const SERVANT: u32 = 19;

// ---- messages, supervisor to host
/// Answer to [`CONFIG`]: [`Failure`] with errno 0, or why not.
pub const READY: u32 = 10;
/// The program has been executed; [`Started`], and a pidfd if it was asked for.
pub const STARTED: u32 = 11;
/// Something failed; [`Failure`]. Nothing of the run is left.
pub const FAILED: u32 = 12;
/// A collected file; [`Collected`], and a descriptor if it could be opened.
pub const OUTPUT: u32 = 13;
/// The run is over; [`Exit`], then the raw contents of the cgroup files.
pub const EXIT: u32 = 14;
/// Over the socket that came with a request: it is done, or `arg` is the errno of why not. Its end without one means
/// that the run is over.
pub const ANSWER: u32 = 15;

// ---- messages, host to init, passed on by the supervisor; on a sandbox's channel, with a socket over which ANSWER comes
/// Begin anew: what programs run is killed, and what they have written is gone. A [`Request`] with the sandbox's plan;
/// to init a [`Message`], with the socket to what will serve its root if `arg` is 1.
pub const RESET: u32 = 30;
/// A [`Message`]: the upper layer of the writable root, as a descriptor.
pub const UPPER_LAYER: u32 = 31;

/// The rest are an [`Ask`] with paths inside behind it, each ended by NUL. Parents of what is made are made.
///
/// File `path` anew, mode `arg`, with the content of the regular file that comes along.
pub const PUT_FILE: u32 = 32;
/// Directory `path`, mode `arg`; an existing one is kept.
pub const MAKE_DIR: u32 = 33;
/// Symbolic link: `path`, `target`.
pub const MAKE_LINK: u32 = 34;
/// Regular file `path`, as a descriptor; behind the answer as of [`STAT`].
pub const GET_FILE: u32 = 35;
/// Where the link `path` leads: bytes behind the answer.
pub const READ_LINK: u32 = 36;
/// Directory `path` from `offset` on: entries as getdents64(2) gives them behind the answer; none at its end.
pub const LIST: u32 = 37;
/// What `path` itself is: a `struct statx` behind the answer, statx(2).
pub const STAT: u32 = 38;
/// Of the regular file that comes along, from `offset` on: bytes behind the answer; none at its end. For what serves a root
/// by FUSE and knows no such user as the host's caller.
pub const READ: u32 = 39;

// ---- messages, host to a servant, with a path or name behind them, ended by NUL
/// Open what `path`, below the directory that comes along, is, with the flags `arg`; a descriptor comes back. Links are never
/// followed.
pub const OPEN_AT: u32 = 40;
/// The extended attribute of that name of the file or directory that comes along: bytes behind the answer.
pub const ATTRIBUTE: u32 = 41;
/// Give what is below the directory that comes along to those whom the memfd behind it names, `offset` bytes: for each a
/// user and a group of the supervisor's, 4 bytes each, and a path below, ended by NUL.
pub const GIVE: u32 = 42;
/// Remove what the directory that comes along has by that name, and all that is in it.
pub const REMOVE_TREE: u32 = 43;

/// How many bytes come behind an answer at most.
pub const ANSWER_MAX: usize = 16 * 1024;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ask {
    pub kind: u32,
    pub arg: u32,
    pub offset: u64,
}

// ---- messages, init to supervisor
/// Descriptors: the sandbox's procfs and its writable file system.
pub const FILES: u32 = 21;
/// A call was made that the filter kills for, and the run is being ended.
pub const VIOLATED: u32 = 22;
/// The set-up takes long, as a copied root does, and goes on.
pub const BUSY: u32 = 23;
/// What the host has asked of the sandbox is answered: it may ask for the next.
pub const DONE: u32 = 24;
// [`REMOVE`], as above: the supervisor has what was written before a reset removed.

// ---- messages, supervisor to init
/// Id maps are written; go on.
pub const GO: u32 = 20;

/// The largest message; a plan that does not fit goes in a memfd.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// The most descriptors in one message.
pub const FDS_MAX: usize = 16;
/// The most cgroup base directories.
pub const CGROUPS_MAX: usize = 6;
/// The most host directories in one sandbox.
pub const VOLUMES_MAX: usize = 64;

/// A message without a body of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    pub kind: u32,
    pub arg: u32,
}

/// How ids are mapped.
pub const MAP_SINGLE: u32 = 0;
/// The supervisor has a range of ids, 0 of which is the caller's own; it writes the sandboxes' maps.
pub const MAP_RANGE: u32 = 1;
/// The caller is root: like [`MAP_RANGE`], but 0 is never mapped into a sandbox.
pub const MAP_ROOT: u32 = 2;
/// There are no namespaces: the supervisor, inits and programs are processes of the caller's like any other ([`RESTRICT`]).
pub const MAP_NONE: u32 = 3;

pub const CGROUP_NONE: u32 = 0;
pub const CGROUP_V2: u32 = 1;
pub const CGROUP_V1: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    pub kind: u32,
    pub version: u32,
    pub map: u32,
    pub cgroup: u32,
    /// How many ids above 0 the supervisor has.
    pub ids: u32,
    pub cgroup_dirs: u32,
    /// Processors that may run at once, for the CPU clock.
    pub cpus: u32,
    /// 1 if the host's pidfd comes along; where the kernel, or what plays it, has none, the end of the socket tells alone.
    pub host_pidfd: u32,
    /// Name of the base directories, ended by NUL.
    pub cgroup_name: [u8; 64],
}

impl Config {
    pub const NONE: Config = Config {
        kind: CONFIG,
        version: VERSION,
        map: MAP_SINGLE,
        cgroup: CGROUP_NONE,
        ids: 0,
        cgroup_dirs: 0,
        cpus: 1,
        host_pidfd: 0,
        cgroup_name: [0; 64],
    };
}

/// Head of a plan. Offsets are from the start of the plan, each section a row of [`Op`]s.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    pub kind: u32,
    /// The plan is not in this message but in the last descriptor, a memfd of this many bytes.
    pub in_memfd: u32,
    pub flags: u32,
    pub user: u32,
    pub group: u32,
    pub volumes: u32,
    pub template: Section,
    pub setup: Section,
    pub limits: Section,
    pub run: Section,
    /// Identifies the template section.
    pub template_key: u64,
    pub clocks: Clocks,
    /// What CLOCK_MONOTONIC and CLOCK_BOOTTIME say at the start, nanoseconds, with [`HAS_UPTIME`].
    pub uptime: u64,
    /// How to read the CPU clock: index of a read, plus 1; 0 for none.
    pub cpu_read: u32,
    /// Nanoseconds for one unit of it.
    pub cpu_unit: u32,
    /// Index of a read, plus 1, whose number is the memory in use, of which the most that is seen is reported; 0 where
    /// nothing says.
    pub memory_read: u32,
    /// Likewise of the file that says what the memory is, read whenever more is in use than was seen before.
    pub stat_read: u32,
    /// Likewise of the memory that the kernel holds, where that file does not say.
    pub kernel_read: u32,
    /// Likewise of the swap in use.
    pub swap_read: u32,
    /// 1 if `swap_read` counts memory as well.
    pub swap_with_memory: u32,
    /// For the whole sandbox, with [`HAS_OOM_SCORE_ADJ`].
    pub oom_score_adj: i32,
    /// Key of the CPU clock's number; empty for the first number of the file.
    pub cpu_key: [u8; 16],
}

/// What the supervisor itself holds a run to. Nanoseconds and bytes, 0 for no limit.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Clocks {
    pub wall_time: u64,
    pub cpu_time: u64,
    /// For the supervisor to watch where no cgroup does.
    pub memory: u64,
    /// The most nanoseconds between two looks at the memory in use.
    pub look_max: u64,
    /// Index of a read, plus 1, whose number behind `oom_kill` counts kills for want of memory, after the first of
    /// which the supervisor ends the run; 0 where the kernel does that itself.
    pub oom_read: u64,
}

/// [`UPDATE`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Update {
    pub kind: u32,
    pub pad: u32,
    pub clocks: Clocks,
}

/// What a [`Threshold`] is of: nanoseconds of CPU time until now, bytes of memory now.
pub const OF_CPU_TIME: u32 = 0;
pub const OF_MEMORY: u32 = 1;
pub const THRESHOLDS: usize = 2;

/// [`NOTIFY`]. One of each kind at a time.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Threshold {
    pub kind: u32,
    pub of: u32,
    /// 0 for none any more.
    pub at: u64,
    /// How much was used when that was seen.
    pub used: u64,
}

/// Answer to [`GROUP`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Group {
    pub kind: u32,
    pub arg: u32,
    /// What the directory is called in each base directory.
    pub name: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Section {
    pub offset: u32,
    pub len: u32,
}

// ---- Request::flags
/// A program is to be run: `limits` and `run` are there. Otherwise only a sandbox is started.
pub const HAS_RUN: u32 = 1;
/// The sandbox ends with the run.
pub const ONE_SHOT: u32 = 2;
/// Pass a pidfd of the program with [`STARTED`].
pub const WANT_PIDFD: u32 = 4;
/// A descriptor for standard input, output, error is among the message's, in this order; else `/dev/null`.
pub const HAS_STDIN: u32 = 8;
pub const HAS_STDOUT: u32 = 16;
pub const HAS_STDERR: u32 = 32;
/// Standard error goes where standard output goes.
pub const STDERR_TO_STDOUT: u32 = 64;
/// A network namespace of its own, made new, instead of a leased one.
pub const NET_NEW: u32 = 128;
/// The host's network namespace.
pub const NET_HOST: u32 = 256;
/// Take `oom_score_adj` on at the start.
pub const HAS_OOM_SCORE_ADJ: u32 = 512;
/// A descriptor of the directory for what is written comes behind those of the streams, locked; it is removed in the end.
/// Its tree is the last of the volumes.
pub const HAS_UPPER: u32 = 1024;
/// A time namespace of its own, whose clocks begin with `uptime`.
pub const HAS_UPTIME: u32 = 1 << 17;
/// No namespaces: of the set-up only Landlock and the count of what is written, and processes are told from the host's by
/// descent.
pub const RESTRICT: u32 = 1 << 18;
/// Of the supervisor's ids each is the same inside, whoever the user is; with [`MAP_RANGE`], of which else the caller's own
/// is the user's.
pub const SAME_IDS: u32 = 1 << 19;
/// No cgroup counts: look at the processes.
pub const SAMPLE: u32 = 1 << 16;

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

/// Where a failure happened: a section's op by its number, or a step outside any.
pub const IN_TEMPLATE: u32 = 1;
pub const IN_SETUP: u32 = 2;
pub const IN_LIMITS: u32 = 3;
pub const IN_RUN: u32 = 4;
pub const IN_STEP: u32 = 5;

/// Steps outside any section: `Failure::index` where `section` is [`IN_STEP`].
pub const STEP_CONFIG: u32 = 0;
pub const STEP_VERSION: u32 = 1;
pub const STEP_NAMESPACE_FILES: u32 = 2;
pub const STEP_DEV_NULL: u32 = 3;
pub const STEP_SLOTS: u32 = 4;
pub const STEP_PLAN: u32 = 5;
pub const STEP_HOST_MOUNTS: u32 = 6;
pub const STEP_UNSHARE_MOUNTS: u32 = 7;
pub const STEP_ROOT_TMPFS: u32 = 8;
pub const STEP_PIVOT: u32 = 9;
pub const STEP_NETWORK: u32 = 10;
pub const STEP_SOCKETS: u32 = 11;
pub const STEP_CLONE: u32 = 12;
pub const STEP_ID_MAP: u32 = 13;
pub const STEP_IDS: u32 = 14;
pub const STEP_CAPABILITIES: u32 = 15;
pub const STEP_SPAWN: u32 = 16;
pub const STEP_CGROUP_ENTER: u32 = 17;
pub const STEP_STDIO: u32 = 18;
pub const STEP_CWD_ESCAPE: u32 = 19;
pub const STEP_INIT_DIED: u32 = 20;
pub const STEP_EPOLL: u32 = 21;
pub const STEP_SESSION: u32 = 22;
pub const STEP_INHERITED: u32 = 23;
pub const STEP_SERVE: u32 = 24;
pub const STEP_RESET: u32 = 25;
pub const STEP_LIVE: u32 = 27;
pub const STEP_PLACES: u32 = 32;
pub const STEP_OOM_SCORE_ADJ: u32 = 26;
pub const STEP_LANDLOCK: u32 = 28;
pub const STEP_UPTIME: u32 = 30;
pub const STEP_IPC: u32 = 31;
pub const STEP_DESCENT: u32 = 29;
pub const STEP_STOPPED: u32 = 33;
pub const STEP_STUCK: u32 = 34;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Failure {
    pub kind: u32,
    pub section: u32,
    pub index: u32,
    pub errno: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Started {
    pub kind: u32,
    pub has_pidfd: u32,
    /// CLOCK_MONOTONIC nanoseconds of the exec.
    pub at: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Collected {
    pub kind: u32,
    /// Which of the run's outputs.
    pub index: u32,
    pub errno: u32,
    pub has_fd: u32,
}

// ---- why a run was ended, Exit::reason
pub const REASON_NONE: u32 = 0;
pub const REASON_CALLER: u32 = 1;
pub const REASON_OUTPUT: u32 = 2;
pub const REASON_WALL: u32 = 3;
pub const REASON_CPU: u32 = 4;
pub const REASON_MEMORY: u32 = 5;
pub const REASON_VIOLATION: u32 = 6;

// ---- what was passed, Exit::disk_over
pub const OVER_BYTES: u64 = 1;
pub const OVER_INODES: u64 = 2;
/// The file system itself is nearly full.
pub const OVER_SPACE: u64 = 3;

/// A figure that nothing gives.
pub const UNKNOWN: u64 = u64::MAX;

/// What memory is, bytes of each kind, or [`UNKNOWN`]. No page counts in two.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
    pub kernel: u64,
}

impl Split {
    pub const UNKNOWN: Split = Split {
        anon: UNKNOWN,
        file: UNKNOWN,
        shmem: UNKNOWN,
        kernel: UNKNOWN,
    };
}

impl Default for Split {
    fn default() -> Split {
        Split::UNKNOWN
    }
}

/// How a run ended. `reads` entries of (u32 length or u32::MAX, bytes) follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Exit {
    pub kind: u32,
    /// As waitpid(2) gives it.
    pub status: u32,
    pub reason: u32,
    pub reads: u32,
    pub started_at: u64,
    pub ended_at: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub max_rss: u64,
    pub csw_voluntary: u64,
    pub csw_forced: u64,
    /// Of the writable file system; `disk_total` 0 if it has none.
    pub disk_total: u64,
    pub disk_free: u64,
    pub inodes_total: u64,
    pub inodes_free: u64,
    /// Which limit of it was passed, where init counts: 0 or one of [`OVER_BYTES`] and so on.
    pub disk_over: u64,
    /// Blocks of 512 bytes that the reaped processes had read from block devices and were to have written.
    pub blocks_read: u64,
    pub blocks_written: u64,
    /// Nanoseconds between start and end in which it was paused.
    pub paused: u64,
    /// How often the supervisor has looked; all that follows is unknown if it has not.
    pub looks: u64,
    /// The most that it has seen; 0 where it has not looked at that.
    pub sampled_cpu: u64,
    pub sampled_memory: u64,
    pub sampled_pids: u64,
    /// [`UNKNOWN`] where nothing says.
    pub sampled_swap: u64,
    /// What the most memory was.
    pub split: Split,
    /// The call that the filter kills for.
    pub violation: Violation,
    /// The errno of why only the kernel hears of such calls; 0 if they are heard of.
    pub unheard: u32,
    /// 1 if init has ended before it could tell of this, which all is the supervisor's: what only init knows is 0.
    pub lost: u32,
    pub shared: Shared,
}

/// Of how many binds with [`BIND_OWN`] the files are those that all others have, too.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Shared {
    pub count: u32,
    /// How many there are in all.
    pub of: u32,
    /// Why, of the first of them, and where that is, ended by NUL if it is shorter.
    pub errno: u32,
    pub first: [u8; 28],
}

/// A call that a filter kills for, as `struct seccomp_data` has it, and who made it, by the sandbox's numbers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Violation {
    /// 0 if there was none.
    pub seen: u32,
    pub nr: u32,
    /// `AUDIT_ARCH_...`.
    pub arch: u32,
    /// Whether the process is the program itself.
    pub main: u32,
    pub pid: u32,
    pub tid: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
    /// The thread's name, ended by NUL if it is shorter; empty if it is not known.
    pub command: [u8; 16],
}

/// Answer to [`STATS`]; the raw contents of the cgroup files follow, as with [`EXIT`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Now {
    pub kind: u32,
    /// 1 if it is paused.
    pub paused: u32,
    /// In use now, by a look at its processes; [`UNKNOWN`] where a cgroup counts.
    pub memory: u64,
    pub pids: u64,
    /// As if it ended now.
    pub exit: Exit,
}
