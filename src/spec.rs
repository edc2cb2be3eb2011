//! What to run, in what, and with which limits.

use crate::bytes::Bytes;
use crate::error::Error;
use crate::rates::{DeviceRate, HugePages};
use crate::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

mod profile;
mod values;

pub use profile::{DockerProfile, Profile};
pub use values::{
    Enforce, File, Isolation, Network, Overflow, Overlay, Rootfs, Stdio, Tmpfs, Volume,
};

/// The specification of a sandbox and of the program to run in it: a plain value, `Clone`, and JSON both ways.
///
/// Every field has a default; [`Spec::new`] sets only `args`. The names are the same in Rust, C, Python, the
/// command line and JSON. In JSON a duration is a number of seconds or a string such as `"500ms"`, a size is a
/// number of bytes or a string such as `"256m"`, and an unknown key is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    // ---- the program
    /// The program and its arguments. A name without a slash is looked up, inside the sandbox, in the `PATH` of
    /// `env`, or in `/usr/local/bin:/usr/bin:/bin` if that has none.
    pub args: Vec<Bytes>,
    /// The whole environment of the program. Nothing is inherited from the host. Default: empty.
    pub env: BTreeMap<Bytes, Bytes>,
    /// The working directory, inside the sandbox. Default: `/work`.
    pub cwd: Option<String>,
    /// What the program reads from standard input. Default: nothing (`/dev/null`).
    pub input: Option<Bytes>,
    /// Where standard input comes from. Default: `input` if given, else [`Stdio::Null`].
    pub stdin: Option<Stdio>,
    /// Where standard output goes. Default: [`Stdio::Capture`] for `run`.
    pub stdout: Option<Stdio>,
    /// Where standard error goes. Default: [`Stdio::Capture`] for `run`.
    pub stderr: Option<Stdio>,
    /// Files to make before the program starts: path to content. A relative path is below `/work`; an absolute one
    /// must lie in a writable directory of the sandbox. Parent directories are made.
    pub files: BTreeMap<String, File>,
    /// Paths to collect when the program has ended: regular files only, never through a symbolic link. Relative to
    /// `/work`. Each is in [`Outcome::outputs`](crate::Outcome::outputs).
    pub outputs: Vec<String>,
    /// The most bytes to collect of one output file. Default: 64 MiB.
    #[serde(with = "units::size")]
    pub output_file_size: Option<u64>,

    // ---- the sandbox
    /// The image whose layers are the root file system, in place of `rootfs`, always with an `overlay` (default `auto`): a
    /// name, `latest` if it has no tag, or an id. What its configuration says holds where the specification says
    /// nothing, as with `docker run`: the program (`Entrypoint`, `Cmd`), `env` (to which those of the specification are
    /// added), `cwd` and `user`, which can be names that the image knows; of an image without a user it is `0:0`, and
    /// `HOME` is its home there. In a live sandbox programs are run as with `docker exec`: without entry point and
    /// command.
    pub image: Option<String>,
    /// The program and first arguments in place of the image's `Entrypoint`, of whose `Cmd` nothing holds then.
    pub entrypoint: Option<Vec<Bytes>>,
    /// The directory of the store that the image is in. Default: as [`Store::open`](crate::image::Store::open).
    pub store: Option<String>,
    /// The root file system. Default: [`Rootfs::Host`].
    pub rootfs: Rootfs,
    /// How the root file system is made writable for the sandbox, over `rootfs`, which stays as it is. Default: not at all
    /// over one directory, [`Overlay::Auto`] over a list of them. What is written counts against `disk` and `inodes`.
    pub overlay: Option<Overlay>,
    /// Whether a root file system with an overlay is read-only all the same, as Docker's `--read-only`. `/work`, `/tmp`
    /// and `/dev/shm` are writable. Default: no.
    pub read_only: bool,
    /// A directory of the host's, on a disk, to keep what is written in, in place of memory: an absolute path, writable for
    /// the caller. For a sandbox with an `overlay`; its layer of the root, `/work`, `/tmp` and `/dev/shm` are made in it,
    /// under a name of their own, and removed when the sandbox has ended. What a process that was killed has left is
    /// removed when this user's next one starts a sandbox there. `disk` and `inodes` are counted every 20 ms or more, so
    /// a program may write more before it is ended, `DISK_LIMIT`; no one file is larger than `disk`. Files that are
    /// removed while a program has them open are not counted, but when less than 1 GiB (or a twentieth) of the file
    /// system is left, the program is ended. Default: memory.
    pub upper_dir: Option<String>,
    /// Host directories or files to show inside, in Docker's form `host:inside[:ro|rw]`; default `ro`.
    pub volumes: Vec<Volume>,
    /// More writable memory file systems, in Docker's form `path[:size=64m,nr_inodes=1k]`, beside the built-in
    /// `/work`, `/tmp` and `/dev/shm`.
    pub tmpfs: Vec<Tmpfs>,
    /// The network. Default: [`Network::None`].
    pub network: Network,
    /// What keeps the program from the host. Default: [`Isolation::Namespaces`].
    pub isolation: Isolation,
    /// `uid[:gid]` inside the sandbox. Default: `1000:1000`. Whatever it is, on the host it is the caller's own
    /// id, or an unprivileged one if the caller is root. In an image whose files belong to sub-ids only 0 is the caller's own,
    /// any other the sub-id that stands for it.
    pub user: Option<String>,
    /// The host name inside. Default: `stockade`.
    pub hostname: Option<String>,
    /// Which system calls the program may make (seccomp(2)): `default`, `strict`, or a profile in Docker's JSON format.
    /// Where one kills for a call, the whole run is ended as soon as any of its processes makes that, with the verdict
    /// `VIOLATION`. Default: [`Profile::Default`].
    pub profile: Profile,
    /// Whether what the kernel and interpreters otherwise choose anew for each run is chosen the same: addresses are not
    /// randomised (ADDR_NO_RANDOMIZE, personality(2)), and `PYTHONHASHSEED`, `PERL_HASH_SEED` and `PERL_PERTURB_KEYS` are 0
    /// where `env` does not name them. Random numbers (getrandom(2), AT_RANDOM), the time of day and the order in which
    /// processes run stay as they are. Default: no.
    pub deterministic: bool,
    /// What CLOCK_MONOTONIC and CLOCK_BOOTTIME say when the sandbox starts (time_namespaces(7)), and so its uptime. The time
    /// of day, CLOCK_REALTIME, is always the host's. Default: the host's.
    #[serde(with = "units::duration")]
    pub uptime: Option<Duration>,

    // ---- limits
    /// CPU time of the whole process tree, user and system together.
    #[serde(with = "units::duration")]
    pub cpu_time: Option<Duration>,
    /// Wall-clock time from the program's start (alias in Python and JSON: `timeout`).
    #[serde(with = "units::duration", alias = "timeout")]
    pub wall_time: Option<Duration>,
    /// Memory of the whole sandbox: anonymous, page cache, tmpfs, shared.
    #[serde(with = "units::size")]
    pub memory: Option<u64>,
    /// Bytes that may be swapped out beyond `memory`, which must be given too. Default: 0. (Docker's `--memory-swap` is
    /// the sum of the two.)
    #[serde(with = "units::size")]
    pub swap: Option<u64>,
    /// Processes and threads at one time.
    pub pids: Option<u64>,
    /// How many processors' time the whole sandbox may use, at least 0.01: 1.5 is 150 ms in every 100 ms. It is held back
    /// when it has used that (CPU bandwidth, `cpu.max`).
    pub cpus: Option<f64>,
    /// Its share of the processors while others want them too, relative to theirs, 1 to 10,000 (`cpu.weight`). What has
    /// none has 100.
    pub cpu_weight: Option<u64>,
    /// Run it only when nobody else wants a processor (`cpu.idle`; SCHED_IDLE, sched(7), where no cgroup can). Excludes
    /// `cpu_weight`.
    pub cpu_idle: bool,
    /// The processors that it may use: a list such as `0-2,4` (cpuset(7)), or `exclusive`: as many as `cpus` says,
    /// rounded up (1 without), that no other run of this process which asks for the same has at that time, each of a
    /// core of its own. Where there are not enough it shares them, and its enforcement says so.
    pub cpuset_cpus: Option<String>,
    /// Its nice value (setpriority(2)), 0 to 19: what it yields to the others of its own group and session.
    pub nice: Option<i32>,
    /// How much sooner than others the kernel ends it when the whole host is out of memory (`oom_score_adj`, proc(5)):
    /// this process's own value up to 1000. For the whole sandbox.
    pub oom_score_adj: Option<i32>,
    /// Whether the kernel ends the whole run when its `memory` is used up (`memory.oom.group`), which is the default, or
    /// only the process that it chooses. Then a program that survives and ends well is `OK`.
    pub oom_group: Option<bool>,
    /// Bytes read from a block device in a second, for each device named (`io.max`), in Docker's form
    /// `/dev/sda:10m`.
    pub io_read_bps: Vec<DeviceRate>,
    /// Bytes written, likewise.
    pub io_write_bps: Vec<DeviceRate>,
    /// Operations of reading, likewise.
    pub io_read_iops: Vec<DeviceRate>,
    /// Operations of writing, likewise.
    pub io_write_iops: Vec<DeviceRate>,
    /// Its share of the block devices while others want them too, 1 to 10,000 (`io.weight`). What has none has 100.
    pub io_weight: Option<u64>,
    /// Huge pages, in the form `size:limit`: `2m:64m` (`hugetlb.2MB.max`). `memory` does not count them.
    /// Without it a program gets none (ENOMEM).
    pub hugetlb: Vec<HugePages>,
    /// The signal that [`stop`](crate::Process::stop) sends, 1 to 64 (signal(7)). Default: the image's `StopSignal`, else
    /// SIGTERM.
    pub stop_signal: Option<i32>,
    /// Captured bytes of each of standard output and standard error. Default: 64 MiB.
    #[serde(with = "units::size")]
    pub output: Option<u64>,
    /// The largest file the program may write (`RLIMIT_FSIZE`).
    #[serde(with = "units::size")]
    pub file_size: Option<u64>,
    /// Open descriptors of each process (`RLIMIT_NOFILE`). Default: 1024, or half of this process's own soft limit if that
    /// is less.
    pub open_files: Option<u64>,
    /// Stack of each process's main thread (`RLIMIT_STACK`). Default: 8 MiB.
    #[serde(with = "units::size")]
    pub stack: Option<u64>,
    /// Bytes in the sandbox's writable file system (`/work`, `/tmp` and `/dev/shm` together). Default: 64 MiB.
    #[serde(with = "units::size")]
    pub disk: Option<u64>,
    /// Files and directories in the same. Default: 65,536.
    pub inodes: Option<u64>,

    // ---- how
    /// What to do when the output limit is passed. Default: [`Overflow::Kill`].
    pub output_overflow: Overflow,
    /// What to do about a limit that this host cannot enforce. Default: [`Enforce::Strict`].
    pub enforce: Enforce,
    /// A cgroup v2 directory, writable for the caller, to make the sandboxes' groups in: an absolute path below
    /// `/sys/fs/cgroup`. Default: the caller's own cgroup, where that can be used.
    pub cgroup_parent: Option<String>,
}

impl Spec {
    /// A specification that runs `args` with every default.
    pub fn new<I, T>(args: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: AsRef<[u8]>,
    {
        Spec {
            args: args.into_iter().map(Bytes::from).collect(),
            ..Spec::default()
        }
    }

    /// Reads a specification from JSON. An unknown key, a wrong type or a bad unit is an error that names it.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|e| Error::invalid(format!("specification: {e}")))
    }

    /// This specification as JSON. A [`Stdio::Fd`] cannot be written and is an error.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| Error::invalid(format!("specification: {e}")))
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $ty:ty => |$self:ident, $value:ident| $set:expr;)*) => {
        impl Spec {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $value: $ty) -> Self {
                let $self = &mut self;
                $set;
                self
            })*
        }
    };
}

setters! {
    /// Sets [`cwd`](Spec::cwd).
    cwd: impl Into<String> => |s, v| s.cwd = Some(v.into());
    /// Sets [`input`](Spec::input).
    input: impl AsRef<[u8]> => |s, v| s.input = Some(Bytes::from(v));
    /// Sets [`stdin`](Spec::stdin).
    stdin: Stdio => |s, v| s.stdin = Some(v);
    /// Sets [`stdout`](Spec::stdout).
    stdout: Stdio => |s, v| s.stdout = Some(v);
    /// Sets [`stderr`](Spec::stderr).
    stderr: Stdio => |s, v| s.stderr = Some(v);
    /// Sets [`rootfs`](Spec::rootfs).
    rootfs: Rootfs => |s, v| s.rootfs = v;
    /// Sets [`image`](Spec::image).
    image: impl Into<String> => |s, v| s.image = Some(v.into());
    /// Sets [`entrypoint`](Spec::entrypoint).
    entrypoint: Vec<Bytes> => |s, v| s.entrypoint = Some(v);
    /// Sets [`store`](Spec::store).
    store: impl Into<String> => |s, v| s.store = Some(v.into());
    /// Sets [`overlay`](Spec::overlay).
    overlay: Overlay => |s, v| s.overlay = Some(v);
    /// Sets [`read_only`](Spec::read_only).
    read_only: bool => |s, v| s.read_only = v;
    /// Sets [`upper_dir`](Spec::upper_dir).
    upper_dir: impl Into<String> => |s, v| s.upper_dir = Some(v.into());
    /// Adds one to [`volumes`](Spec::volumes).
    volume: Volume => |s, v| s.volumes.push(v);
    /// Adds one to [`tmpfs`](Spec::tmpfs).
    tmpfs: Tmpfs => |s, v| s.tmpfs.push(v);
    /// Sets [`network`](Spec::network).
    network: Network => |s, v| s.network = v;
    /// Sets [`isolation`](Spec::isolation).
    isolation: Isolation => |s, v| s.isolation = v;
    /// Sets [`user`](Spec::user).
    user: impl Into<String> => |s, v| s.user = Some(v.into());
    /// Sets [`hostname`](Spec::hostname).
    hostname: impl Into<String> => |s, v| s.hostname = Some(v.into());
    /// Sets [`profile`](Spec::profile).
    profile: Profile => |s, v| s.profile = v;
    /// Sets [`deterministic`](Spec::deterministic).
    deterministic: bool => |s, v| s.deterministic = v;
    /// Sets [`uptime`](Spec::uptime).
    uptime: Duration => |s, v| s.uptime = Some(v);
    /// Adds one to [`outputs`](Spec::outputs).
    collect: impl Into<String> => |s, v| s.outputs.push(v.into());
    /// Sets [`cpu_time`](Spec::cpu_time).
    cpu_time: Duration => |s, v| s.cpu_time = Some(v);
    /// Sets [`wall_time`](Spec::wall_time).
    wall_time: Duration => |s, v| s.wall_time = Some(v);
    /// Sets [`memory`](Spec::memory).
    memory: u64 => |s, v| s.memory = Some(v);
    /// Sets [`swap`](Spec::swap).
    swap: u64 => |s, v| s.swap = Some(v);
    /// Sets [`pids`](Spec::pids).
    pids: u64 => |s, v| s.pids = Some(v);
    /// Sets [`cpus`](Spec::cpus).
    cpus: f64 => |s, v| s.cpus = Some(v);
    /// Sets [`cpu_weight`](Spec::cpu_weight).
    cpu_weight: u64 => |s, v| s.cpu_weight = Some(v);
    /// Sets [`cpu_idle`](Spec::cpu_idle).
    cpu_idle: bool => |s, v| s.cpu_idle = v;
    /// Sets [`cpuset_cpus`](Spec::cpuset_cpus).
    cpuset_cpus: impl Into<String> => |s, v| s.cpuset_cpus = Some(v.into());
    /// Sets [`nice`](Spec::nice).
    nice: i32 => |s, v| s.nice = Some(v);
    /// Sets [`oom_score_adj`](Spec::oom_score_adj).
    oom_score_adj: i32 => |s, v| s.oom_score_adj = Some(v);
    /// Sets [`oom_group`](Spec::oom_group).
    oom_group: bool => |s, v| s.oom_group = Some(v);
    /// Adds one to [`io_read_bps`](Spec::io_read_bps).
    io_read_bps: DeviceRate => |s, v| s.io_read_bps.push(v);
    /// Adds one to [`io_write_bps`](Spec::io_write_bps).
    io_write_bps: DeviceRate => |s, v| s.io_write_bps.push(v);
    /// Adds one to [`io_read_iops`](Spec::io_read_iops).
    io_read_iops: DeviceRate => |s, v| s.io_read_iops.push(v);
    /// Adds one to [`io_write_iops`](Spec::io_write_iops).
    io_write_iops: DeviceRate => |s, v| s.io_write_iops.push(v);
    /// Sets [`io_weight`](Spec::io_weight).
    io_weight: u64 => |s, v| s.io_weight = Some(v);
    /// Adds one to [`hugetlb`](Spec::hugetlb).
    hugetlb: HugePages => |s, v| s.hugetlb.push(v);
    /// Sets [`stop_signal`](Spec::stop_signal).
    stop_signal: i32 => |s, v| s.stop_signal = Some(v);
    /// Sets [`output`](Spec::output).
    output: u64 => |s, v| s.output = Some(v);
    /// Sets [`output_overflow`](Spec::output_overflow).
    output_overflow: Overflow => |s, v| s.output_overflow = v;
    /// Sets [`file_size`](Spec::file_size).
    file_size: u64 => |s, v| s.file_size = Some(v);
    /// Sets [`open_files`](Spec::open_files).
    open_files: u64 => |s, v| s.open_files = Some(v);
    /// Sets [`stack`](Spec::stack).
    stack: u64 => |s, v| s.stack = Some(v);
    /// Sets [`disk`](Spec::disk).
    disk: u64 => |s, v| s.disk = Some(v);
    /// Sets [`inodes`](Spec::inodes).
    inodes: u64 => |s, v| s.inodes = Some(v);
    /// Sets [`enforce`](Spec::enforce).
    enforce: Enforce => |s, v| s.enforce = v;
    /// Sets [`cgroup_parent`](Spec::cgroup_parent).
    cgroup_parent: impl Into<String> => |s, v| s.cgroup_parent = Some(v.into());
}

impl Spec {
    /// The limits on what goes to and from block devices, by name.
    pub(crate) fn io_limits(&self) -> [(&'static str, &[DeviceRate]); 4] {
        [
            ("io_read_bps", &self.io_read_bps),
            ("io_write_bps", &self.io_write_bps),
            ("io_read_iops", &self.io_read_iops),
            ("io_write_iops", &self.io_write_iops),
        ]
    }

    /// Adds one variable to [`env`](Spec::env).
    #[must_use]
    pub fn env(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.env.insert(Bytes::from(name), Bytes::from(value));
        self
    }

    /// Adds one to [`files`](Spec::files).
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(
            path.into(),
            File {
                content: Bytes::from(content),
                mode: None,
            },
        );
        self
    }
}
