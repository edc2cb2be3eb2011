//! What comes back: failures and where they happened, and how a run has ended.

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
