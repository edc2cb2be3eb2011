//! What the host library and the helper say to each other: shared, `core` only.
//!
//! Everything is in the machine's own byte order and layout, since both ends are built together; the first message
//! carries [`VERSION`], so that a helper installed by hand (`STOCKADE_INIT`) is refused if it is another version's.
//!
//! The host and the supervisor share one `SOCK_SEQPACKET` socket for [`CONFIG`] and [`START`]. Each sandbox and each
//! program run has a *channel* of its own, a socket that the host makes and passes with the request: answers come
//! over it, and its end-of-file means that the host lost interest, which ends the sandbox or the run.

#[path = "wire/answers.rs"]
mod answers;
#[path = "wire/ops.rs"]
mod ops;

pub use answers::*;
pub use ops::*;

/// Changes whenever anything in this file or those does.
pub const VERSION: u32 = 0x5354_002b;

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
/// supervisor to init the same, where no cgroup can, and back from init when it is done; with `arg` [`AGAIN`] what is
/// paused has gone on, and nobody waits.
pub const PAUSE: u32 = 6;
pub const AGAIN: u32 = 1;
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
/// Over the socket that came with a request: it is done, or `arg` is the errno of why not, or [`RUN_OVER`]. Its end without
/// one means that, too; but that end is not seen as long as a child that the host has forked meanwhile has a copy of ours.
pub const ANSWER: u32 = 15;
/// ESRCH.
pub const RUN_OVER: u32 = 3;

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
