//! `stockade.Spec`: the specification as a Python value.

use crate::bytes::Bytes;
use crate::python::convert::stdio_to_py;
use crate::python::error::guard;
use crate::spec;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What to run, in what, and with which limits: a plain value.
///
/// Every option of `stockade.run`, `arun`, `popen` and `Sandbox` is a field of it. A size is an int of bytes or a
/// str such as "256m" (units b, k, m, g, t, all binary); a time is a number of seconds or a str such as "500ms"
/// (units ns, us, ms, s, m, h); None means the default. The attributes have the values in one form: str, bytes,
/// int, float, tuple, dict. Two specifications are equal if they ask for the same; one can be pickled, and written
/// as JSON and read again, unless a standard stream is a descriptor or a variable's name is not UTF-8.
///
/// The program:
///     args: the program and its arguments, each str, bytes or a path. There is no shell. A name without a slash
///         is looked up, inside, in the PATH of env, or in /usr/local/bin:/usr/bin:/bin if that has none.
///     env: the whole environment, nothing is inherited. Default: empty.
///     cwd: the working directory, inside. Default: /work.
///     input: what the program reads from standard input, bytes or str (UTF-8). Default: nothing.
///     stdin, stdout, stderr: PIPE (popen only), DEVNULL, STDOUT (stderr only), "capture" (stdout, stderr), or a
///         pipe or socket as a descriptor or an object with fileno(), open until the program has started.
///         Default: stdin input or DEVNULL, the others "capture".
///     files: files to make before the program starts, path to content (bytes or str) or (content, mode). A
///         relative path is below /work. Mode: 0o644 by default.
///     outputs: paths to collect when the program has ended, regular files only, relative to /work.
///     output_file_size: the most bytes to collect of one of them. Default: 64 MiB.
///
/// The sandbox:
///     image: an image of the store as root, always with an overlay: a name, "latest" if it has no tag, or an id. What it
///         says of the program, env, cwd and user holds where the options say nothing, as with `docker run`; user can
///         be a name that it knows. In a live sandbox programs are run as with `docker exec`, without its entry point.
///     entrypoint: the program and first arguments in place of the image's, of whose command nothing holds then.
///     store: the directory of the store that it is in. Default: as for stockade.images.Store.
///     rootfs: "host" (default; the host's /usr and what interpreters need, read-only), a directory's path, or those of
///         several, the lowest first, joined as overlayfs does.
///     overlay: makes that writable for the sandbox, over directories that stay as they are: "kernel" (overlayfs),
///         "fuse" (the program fuse-overlayfs), "copy", or "auto", the first of them that works on this host.
///         Default: not, over one directory; "auto" over several.
///     read_only: a root with an overlay is read-only all the same. Default: False.
///     upper_dir: a directory of the host's, on a disk, to keep what is written in, in place of memory; for a sandbox with an
///         overlay. It is removed when the sandbox has ended. disk and inodes are counted every 20 ms or more then, so a
///         program may write more before it is ended (DISK_LIMIT), but no file larger than disk. Default: memory.
///     volumes: host directories or files to show inside, "host:inside[:ro|rw]". Default: none; ro.
///     tmpfs: more memory file systems, "path[:size=64m,nr_inodes=1k]", beside /work, /tmp and /dev/shm.
///     network: "none" (default; not even localhost answers), "loopback" or "host".
///     isolation: "namespaces" (default), or "restrict" for hosts that refuse user namespaces: Landlock, a system call
///         filter and supervision only. The program sees the host's paths and works in a new directory of its own, which
///         takes the place of /work; what is missing is in the outcome's enforcement.
///     user: "uid[:gid]" inside, or an int. Default: "1000:1000".
///     hostname: Default: "stockade".
///     profile: which system calls the program may make (seccomp): "default" (what Docker allows a container without
///         capabilities, and a little less), "strict" (what interpreters, compilers and what they make need), or a profile
///         in Docker's JSON format, as a dict or its text. Where one kills for a call, the whole run is ended as soon as
///         any of its processes makes that, with the verdict VIOLATION.
///     deterministic: True has addresses not randomised, and PYTHONHASHSEED, PERL_HASH_SEED and PERL_PERTURB_KEYS 0 where
///         env does not name them. Random numbers and the time of day stay as they are. Default: False.
///     uptime: what CLOCK_MONOTONIC and CLOCK_BOOTTIME say when the sandbox starts, seconds; the time of day is always the
///         host's. Default: the host's.
///     python: True shows the calling Python's own directories inside, read-only at the same paths, so that
///         [sys.executable, ...] runs. They become volumes. Default: False.
///
/// The limits:
///     cpu_time: CPU time of the whole process tree. Default: none.
///     wall_time, or its alias timeout: time from the program's start. Default: none.
///     memory: bytes of the whole sandbox: anonymous, page cache, tmpfs, shared. Default: none.
///     swap: bytes that may be swapped out beyond memory, which must be given too. Default: 0.
///     pids: processes and threads at one time. Default: none.
///     cpus: how many processors' time the whole sandbox may use, at least 0.01. Default: none.
///     cpu_weight: its share of the processors while others want them too, 1 to 10,000. What has none has 100.
///     cpu_idle: run only when nobody else wants a processor. Excludes cpu_weight. Default: False.
///     cpuset_cpus: the processors that it may use, a list such as "0-2,4", or "exclusive": as many as cpus says,
///         rounded up (1 without), that no other run of this process which asks for the same has at that time. Where
///         there are not enough it shares them, and Outcome.enforcement says so. Default: all.
///     nice: its nice value, 0 to 19. Default: the caller's.
///     oom_score_adj: how much sooner than others the kernel ends the sandbox when the whole host is out of memory, the
///         caller's own value up to 1000. Default: the caller's.
///     oom_group: whether the kernel ends the whole run when its memory is used up, or only the process that it
///         chooses: then a program that survives and ends well is OK. Default: True.
///     stop_signal: the signal that Process.stop sends, such as signal.SIGINT. Default: the image's StopSignal, else
///         SIGTERM.
///     io_read_bps, io_write_bps: bytes from and to a block device in a second, ["/dev/sda:10m"]. Default: no limit.
///     io_read_iops, io_write_iops: operations, likewise.
///     io_weight: its share of the block devices while others want them too, 1 to 10,000. What has none has 100.
///     hugetlb: huge pages of one size each, ["2m:64m"]; memory does not count them. Default: no limit.
///     output: captured bytes of each of standard output and standard error. Default: 64 MiB.
///     file_size: the largest file the program may write. Default: none.
///     open_files: open descriptors of each process. Default: 1024, or half of this process's own soft limit if that is less.
///     stack: stack of each process's main thread. Default: 8 MiB.
///     disk: bytes in /work, /tmp and /dev/shm together. Default: 64 MiB.
///     inodes: files and directories there. Default: 65,536.
///
/// How:
///     output_overflow: "kill" (default) or "discard" what is over the output limit. The verdict is OUTPUT_LIMIT
///         either way.
///     enforce: "strict" (default): a limit that nothing on this host can enforce is an UnsupportedError;
///         "best-effort": run without it and say so in Outcome.enforcement.
///     cgroup_parent: a writable cgroup v2 directory to make the sandboxes' groups in. Default: the caller's own,
///         where that can be used.
///
/// Raises InvalidArgumentError, which names the option, for a wrong type or value, and TypeError for an unknown
/// option.
///
/// >>> spec = Spec(["cat"], memory="64m", wall_time="500ms")
/// >>> spec.memory, spec.wall_time
/// (67108864, 0.5)
/// >>> spec.replace(memory=None)
/// Spec(('cat',), wall_time=0.5)
#[pyclass(frozen, eq, module = "stockade")]
#[derive(Clone, PartialEq)]
pub struct Spec(pub(super) spec::Spec);

/// The attributes besides `args`, in the order of the documentation.
const FIELDS: [&str; 53] = [
    "env",
    "cwd",
    "input",
    "stdin",
    "stdout",
    "stderr",
    "files",
    "outputs",
    "output_file_size",
    "image",
    "entrypoint",
    "store",
    "rootfs",
    "overlay",
    "read_only",
    "upper_dir",
    "volumes",
    "tmpfs",
    "network",
    "isolation",
    "user",
    "hostname",
    "profile",
    "deterministic",
    "uptime",
    "cpu_time",
    "wall_time",
    "memory",
    "swap",
    "pids",
    "cpus",
    "cpu_weight",
    "cpu_idle",
    "cpuset_cpus",
    "nice",
    "oom_score_adj",
    "oom_group",
    "stop_signal",
    "io_read_bps",
    "io_write_bps",
    "io_read_iops",
    "io_write_iops",
    "io_weight",
    "hugetlb",
    "output",
    "file_size",
    "open_files",
    "stack",
    "disk",
    "inodes",
    "output_overflow",
    "enforce",
    "cgroup_parent",
];

#[pymethods]
impl Spec {
    #[new]
    #[pyo3(
        signature = (args=None, **options),
        text_signature = "(args=(), *, env=None, cwd=None, input=None, stdin=None, stdout=None, stderr=None, \
            files=None, outputs=None, output_file_size=None, image=None, entrypoint=None, store=None, rootfs=None, overlay=None, read_only=None, upper_dir=None, volumes=None, tmpfs=None, network=None, isolation=None, \
            user=None, hostname=None, profile=None, deterministic=None, uptime=None, python=False, cpu_time=None, wall_time=None, timeout=None, memory=None, \
            swap=None, pids=None, cpus=None, cpu_weight=None, cpu_idle=None, cpuset_cpus=None, nice=None, oom_score_adj=None, \
            oom_group=None, stop_signal=None, io_read_bps=None, io_write_bps=None, io_read_iops=None, io_write_iops=None, io_weight=None, \
            hugetlb=None, output=None, file_size=None, open_files=None, stack=None, disk=None, inodes=None, \
            output_overflow=None, enforce=None, cgroup_parent=None)"
    )]
    fn new(args: Option<Bound<'_, PyAny>>, options: Option<Bound<'_, PyDict>>) -> PyResult<Self> {
        guard(|| Spec(spec::Spec::default()).with(args, options))
    }

    /// A copy with other values for the options named. None means the default.
    #[pyo3(signature = (args=None, **options), text_signature = "($self, args=None, **options)")]
    fn replace(
        &self,
        args: Option<Bound<'_, PyAny>>,
        options: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        guard(|| self.clone().with(args, options))
    }

    /// This specification as JSON, as Rust, C and the command line read it.
    ///
    /// Raises InvalidArgumentError if a standard stream is a descriptor.
    fn to_json(&self) -> PyResult<String> {
        guard(|| Ok(self.0.to_json()?))
    }

    /// Reads JSON. Raises InvalidArgumentError for an unknown key, a wrong type or a bad unit.
    #[classmethod]
    fn from_json(_class: &Bound<'_, PyType>, text: &str) -> PyResult<Self> {
        guard(|| Ok(Spec(spec::Spec::from_json(text)?)))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        Ok((
            slf.get_type().getattr("from_json")?,
            (slf.get().to_json()?,),
        ))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let default = Bound::new(slf.py(), Spec(spec::Spec::default()))?;
        let mut parts = vec![slf.getattr("args")?.repr()?.to_string()];
        for name in FIELDS {
            let value = slf.getattr(name)?;
            if !value.eq(default.getattr(name)?)? {
                parts.push(format!("{name}={}", value.repr()?));
            }
        }
        Ok(format!("Spec({})", parts.join(", ")))
    }

    #[getter]
    fn args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.args.iter().map(os_str))
    }
    #[getter]
    fn env(&self) -> BTreeMap<&OsStr, &OsStr> {
        self.0
            .env
            .iter()
            .map(|(name, value)| (os_str(name), os_str(value)))
            .collect()
    }
    #[getter]
    fn cwd(&self) -> Option<&str> {
        self.0.cwd.as_deref()
    }
    #[getter]
    fn input<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.input.as_ref().map(|input| PyBytes::new(py, input))
    }
    #[getter]
    fn stdin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.stdin.map(|stdio| stdio_to_py(py, stdio)).transpose()
    }
    #[getter]
    fn stdout<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .stdout
            .map(|stdio| stdio_to_py(py, stdio))
            .transpose()
    }
    #[getter]
    fn stderr<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .stderr
            .map(|stdio| stdio_to_py(py, stdio))
            .transpose()
    }
    #[getter]
    fn files<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let files = PyDict::new(py);
        for (path, file) in &self.0.files {
            let content = PyBytes::new(py, &file.content);
            match file.mode {
                None => files.set_item(path, content)?,
                Some(mode) => files.set_item(path, (content, mode))?,
            }
        }
        Ok(files)
    }
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.outputs)
    }
    #[getter]
    fn output_file_size(&self) -> Option<u64> {
        self.0.output_file_size
    }
    #[getter]
    fn image(&self) -> Option<&str> {
        self.0.image.as_deref()
    }
    #[getter]
    fn entrypoint<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let entry = self.0.entrypoint.as_ref();
        entry
            .map(|entry| PyTuple::new(py, entry.iter().map(os_str)))
            .transpose()
    }
    #[getter]
    fn store(&self) -> Option<&str> {
        self.0.store.as_deref()
    }
    #[getter]
    fn rootfs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match &self.0.rootfs {
            spec::Rootfs::Host => "host".into_pyobject(py)?.into_any(),
            spec::Rootfs::Directory(path) => path.into_pyobject(py)?.into_any(),
            spec::Rootfs::Layers(layers) => PyTuple::new(py, layers)?.into_any(),
        })
    }
    #[getter]
    fn overlay(&self) -> Option<&'static str> {
        self.0.overlay.map(|overlay| match overlay {
            spec::Overlay::Auto => "auto",
            spec::Overlay::Kernel => "kernel",
            spec::Overlay::Fuse => "fuse",
            spec::Overlay::Copy => "copy",
        })
    }
    #[getter]
    fn read_only(&self) -> bool {
        self.0.read_only
    }
    #[getter]
    fn upper_dir(&self) -> Option<&str> {
        self.0.upper_dir.as_deref()
    }
    #[getter]
    fn volumes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.volumes)
    }
    #[getter]
    fn tmpfs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.tmpfs)
    }
    #[getter]
    fn network(&self) -> &'static str {
        match self.0.network {
            spec::Network::None => "none",
            spec::Network::Loopback => "loopback",
            spec::Network::Host => "host",
        }
    }
    #[getter]
    fn isolation(&self) -> &'static str {
        match self.0.isolation {
            spec::Isolation::Namespaces => "namespaces",
            spec::Isolation::Restrict => "restrict",
        }
    }
    #[getter]
    fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }
    #[getter]
    fn hostname(&self) -> Option<&str> {
        self.0.hostname.as_deref()
    }
    #[getter]
    fn profile<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = serde_json::Value::from(self.0.profile.clone()).to_string();
        py.import("json")?.call_method1("loads", (value,))
    }
    #[getter]
    fn cpu_time(&self) -> Option<f64> {
        self.0.cpu_time.map(|t| t.as_secs_f64())
    }
    #[getter]
    fn deterministic(&self) -> bool {
        self.0.deterministic
    }
    #[getter]
    fn uptime(&self) -> Option<f64> {
        self.0.uptime.map(|t| t.as_secs_f64())
    }
    #[getter]
    fn wall_time(&self) -> Option<f64> {
        self.0.wall_time.map(|t| t.as_secs_f64())
    }
    #[getter]
    fn memory(&self) -> Option<u64> {
        self.0.memory
    }
    #[getter]
    fn swap(&self) -> Option<u64> {
        self.0.swap
    }
    #[getter]
    fn pids(&self) -> Option<u64> {
        self.0.pids
    }
    #[getter]
    fn cpus(&self) -> Option<f64> {
        self.0.cpus
    }
    #[getter]
    fn cpu_weight(&self) -> Option<u64> {
        self.0.cpu_weight
    }
    #[getter]
    fn cpu_idle(&self) -> bool {
        self.0.cpu_idle
    }
    #[getter]
    fn cpuset_cpus(&self) -> Option<&str> {
        self.0.cpuset_cpus.as_deref()
    }
    #[getter]
    fn nice(&self) -> Option<i32> {
        self.0.nice
    }
    #[getter]
    fn oom_score_adj(&self) -> Option<i32> {
        self.0.oom_score_adj
    }
    #[getter]
    fn stop_signal(&self) -> Option<i32> {
        self.0.stop_signal
    }
    #[getter]
    fn oom_group(&self) -> Option<bool> {
        self.0.oom_group
    }
    #[getter]
    fn io_read_bps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.io_read_bps)
    }
    #[getter]
    fn io_write_bps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.io_write_bps)
    }
    #[getter]
    fn io_read_iops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.io_read_iops)
    }
    #[getter]
    fn io_write_iops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.io_write_iops)
    }
    #[getter]
    fn io_weight(&self) -> Option<u64> {
        self.0.io_weight
    }
    #[getter]
    fn hugetlb<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.0.hugetlb)
    }
    #[getter]
    fn output(&self) -> Option<u64> {
        self.0.output
    }
    #[getter]
    fn file_size(&self) -> Option<u64> {
        self.0.file_size
    }
    #[getter]
    fn open_files(&self) -> Option<u64> {
        self.0.open_files
    }
    #[getter]
    fn stack(&self) -> Option<u64> {
        self.0.stack
    }
    #[getter]
    fn disk(&self) -> Option<u64> {
        self.0.disk
    }
    #[getter]
    fn inodes(&self) -> Option<u64> {
        self.0.inodes
    }
    #[getter]
    fn output_overflow(&self) -> &'static str {
        match self.0.output_overflow {
            spec::Overflow::Kill => "kill",
            spec::Overflow::Discard => "discard",
        }
    }
    #[getter]
    fn enforce(&self) -> &'static str {
        match self.0.enforce {
            spec::Enforce::Strict => "strict",
            spec::Enforce::BestEffort => "best-effort",
        }
    }
    #[getter]
    fn cgroup_parent(&self) -> Option<&str> {
        self.0.cgroup_parent.as_deref()
    }
}

/// Values in their textual form.
fn texts<'py, T: Clone + Into<String>>(
    py: Python<'py>,
    values: &[T],
) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, values.iter().map(|value| value.clone().into()))
}

fn os_str(bytes: &Bytes) -> &OsStr {
    OsStr::from_bytes(bytes)
}
