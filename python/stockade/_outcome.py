"""How a program ended and what it used."""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, AnyStr, Generic, Literal

from stockade import _stockade
from stockade._errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade._text import Codec


class Verdict(enum.Enum):
    """How a program ended. When several hold, the outcome has the first of this order.

    SANDBOX_ERROR, EXEC_FAILED, VIOLATION, MEMORY_LIMIT, TIME_LIMIT, WALL_TIME_LIMIT, IDLENESS_LIMIT, OUTPUT_LIMIT,
    DISK_LIMIT, KILLED, SIGNALED, NONZERO_EXIT, OK. The values are the numbers of the C API and never change.

    >>> str(Verdict.TIME_LIMIT), Verdict.TIME_LIMIT.short
    ('TIME_LIMIT', 'TLE')
    """

    OK = 0
    """Exited with status 0 within every limit."""
    NONZERO_EXIT = 1
    """Exited with another status."""
    SIGNALED = 2
    """Ended by a signal."""
    TIME_LIMIT = 3
    """Used more CPU time than `cpu_time`."""
    WALL_TIME_LIMIT = 4
    """Ran longer than `wall_time`."""
    IDLENESS_LIMIT = 5
    """Used no CPU time for too long."""
    MEMORY_LIMIT = 6
    """Needed more memory than `memory`."""
    OUTPUT_LIMIT = 7
    """Wrote more than `output` to a captured stream."""
    DISK_LIMIT = 8
    """Filled the writable file system (`disk`, `inodes`) or wrote a larger file than `file_size`."""
    VIOLATION = 9
    """Some process of the run made a system call for which the seccomp profile kills."""
    KILLED = 10
    """Ended by the caller."""
    EXEC_FAILED = 11
    """The program could not be executed: not found, not executable, too long arguments."""
    SANDBOX_ERROR = 12
    """The sandbox itself failed; says nothing about the program."""

    @property
    def short(self) -> str:
        """What judges write: OK, RTE, TLE, ILE, MLE, OLE, SE."""
        return _SHORT[self.name]

    def __str__(self) -> str:
        return self.name


_SHORT = {name: short for _, name, short in _stockade.verdicts()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run used. A figure that nothing on this host gives is None, never 0.

    Attributes:
        cpu_time: CPU time of the whole tree, user and system, seconds.
        cpu_user: the user part.
        cpu_system: the system part.
        wall_time: from the program's start to its end, seconds.
        paused_time: for how long of that it was paused, seconds; the `wall_time` limit does not count it.
        memory_peak: the most memory the sandbox held at one time, bytes (cgroup; sampled where there is none).
        memory_anon: the part of the memory that was anonymous (heap, stacks), bytes, when the supervisor saw the most
            in use; None if the run was over before its first look, after 1 ms.
        memory_file: the part that was page cache of files on disks, at the same time.
        memory_shmem: the part that was shared memory and memory file systems (tmpfs, `/work`), at the same time.
        memory_kernel: the part that was the kernel's own for the sandbox, at the same time.
        swap_peak: the most swap in use at one time, bytes.
        max_rss: the largest resident set of one process, bytes.
        oom_killed: whether the kernel's OOM killer ended a process of the sandbox for its memory limit.
        oom_kills: how many processes of the sandbox the kernel's OOM killer ended, for whichever limit or want.
        memory_limit_hits: how often the memory limit was run into, mostly with page cache given back and no harm done.
        pids_peak: the most processes and threads at one time.
        pids_limit_hits: how often a fork or a new thread was refused for the `pids` limit.
        csw_voluntary: voluntary context switches.
        csw_forced: forced context switches.
        throttled_time: how long the CPU controller held the sandbox back, seconds.
        throttled_periods: in how many periods of 100 ms it did.
        cpu_pressure_some: how long some thread of the sandbox was ready to run and had no processor, seconds (PSI).
        cpu_pressure_full: how long that held for all threads that were not idle. Since Linux 5.13.
        memory_pressure_some: how long some thread waited for memory: reclaim, refaults, swapping in.
        memory_pressure_full: how long all did.
        io_pressure_some: how long some thread waited for block devices.
        io_pressure_full: how long all did.
        io_read: bytes read from block devices.
        io_write: bytes written to block devices; without an io controller, bytes that were to be written.
        io_read_ops: operations of reading from block devices.
        io_write_ops: operations of writing to them.
        disk_used: bytes in the writable file system at the end.
        inodes_used: files and directories there.
        sources: where each figure that is known comes from: {"cpu_time": "cgroup v2 cpu.stat"}.
    """

    cpu_time: float
    cpu_user: float
    cpu_system: float
    wall_time: float
    paused_time: float
    memory_peak: int | None
    memory_anon: int | None
    memory_file: int | None
    memory_shmem: int | None
    memory_kernel: int | None
    swap_peak: int | None
    max_rss: int
    oom_killed: bool
    oom_kills: int | None
    memory_limit_hits: int | None
    pids_peak: int | None
    pids_limit_hits: int | None
    csw_voluntary: int
    csw_forced: int
    throttled_time: float | None
    throttled_periods: int | None
    cpu_pressure_some: float | None
    cpu_pressure_full: float | None
    memory_pressure_some: float | None
    memory_pressure_full: float | None
    io_pressure_some: float | None
    io_pressure_full: float | None
    io_read: int | None
    io_write: int | None
    io_read_ops: int | None
    io_write_ops: int | None
    disk_used: int | None
    inodes_used: int | None
    sources: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a program that still runs uses, it and everything it started. What nothing on this host gives is None.

    Attributes:
        paused: whether it is paused.
        wall_time: since the program's start, seconds.
        paused_time: for how long of that it was paused, seconds.
        cpu_time: CPU time until now, user and system, seconds.
        throttled_time: how long the CPU controller has held it back, seconds.
        memory_current: memory in use now, bytes; as `Usage.memory_peak` counts.
        memory_peak: the most until now, bytes.
        pids_current: processes and threads now.
        pids_peak: the most at one time until now.
    """

    paused: bool
    wall_time: float
    paused_time: float
    cpu_time: float
    throttled_time: float | None
    memory_current: int | None
    memory_peak: int | None
    pids_current: int | None
    pids_peak: int | None


@dataclass(frozen=True, slots=True)
class Notification:
    """A running program has used as much as was to be told: see `Process.notifications`.

    Attributes:
        name: of what, "cpu_time" or "memory".
        threshold: what was to be told, seconds or bytes.
        used: what was used when that was seen.
    """

    name: Literal["cpu_time", "memory"]
    threshold: float
    used: float


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What stands behind one limit or protection.

    Attributes:
        status: "enforced": the kernel holds it exactly; "approximated": it is watched and acted upon, but can be
            passed for a short time or in part; "not_enforced": nothing holds it.
        by: by what it is enforced ("cgroup v2 memory.max"), or why not.
    """

    status: Literal["enforced", "approximated", "not_enforced"]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A system call for which the seccomp profile kills: what was called, and by whom. It was not made.

    Attributes:
        syscall: its name ("ptrace"); None if it has none here, as those of 32-bit ABIs and of the future.
        number: its number in that ABI.
        arch: by which ABI of the machine: "x86_64", "x32", "i386", "aarch64" or "arm".
        args: its six arguments, whether it takes so many or not. In JSON "0x...".
        instruction_pointer: where it was made. In JSON "0x...".
        pid: the process, by its number inside the sandbox.
        main: whether that is the program itself, not one that it started.
        command: the name of the thread (`/proc/PID/comm`), which the program can choose; None if it is not known.
    """

    syscall: str | None
    number: int
    arch: str
    args: tuple[int, ...]
    instruction_pointer: int
    pid: int
    main: bool
    command: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile(Generic[AnyStr]):
    """A collected file.

    Attributes:
        content: what is in it; empty if there is an `error`.
        size: its whole size, bytes; more than was collected if it is over the cap.
        truncated: whether the content was cut at the cap.
        error: why it was not collected: missing, not a regular file, a symbolic link on the way. Or None.
    """

    content: AnyStr
    size: int
    truncated: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[AnyStr]):
    """How a program ended: one verdict and every fact beside it. It can be pickled, and written as JSON.

    Attributes:
        verdict: the one primary `Verdict`.
        returncode: as in `subprocess`: the exit status, or the negated signal number. 127 (not found) or 126 (not
            executable) with the verdict EXEC_FAILED.
        exit_code: the exit status, if the program exited, or None.
        signal: the number of the signal that ended the program, or None.
        limit: the name of the limit that decided the verdict ("memory"), or None.
        violation: the system call that the run was ended for, with the verdict VIOLATION, or None. None as well if the
            kernel killed the program itself: see `enforcement["violation"]`.
        stdout: what the program wrote to standard output, if captured: the first `output` bytes.
        stderr: the same for standard error.
        stdout_truncated: whether more than was kept came through standard output.
        stderr_truncated: the same for standard error.
        stdout_bytes: how many bytes came through standard output, kept or not.
        stderr_bytes: the same for standard error.
        outputs: the collected files: every path of the option `outputs`.
        usage: what was used.
        enforcement: per limit and per protection: what enforced it, or why nothing did.
        message: what else there is to say in words, or None: why the program could not be started.
        args: the program and its arguments. Not part of the JSON, and of no account when outcomes are compared.

    >>> import stockade
    >>> outcome = stockade.run(["sh", "-c", "exit 3"])
    >>> outcome.success, outcome.verdict.short, outcome.returncode
    (False, 'RTE', 3)
    >>> outcome == stockade.Outcome.from_json(outcome.to_json())
    True
    """

    verdict: Verdict
    returncode: int
    exit_code: int | None
    signal: int | None
    limit: str | None
    violation: Violation | None
    stdout: AnyStr
    stderr: AnyStr
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_bytes: int
    stderr_bytes: int
    outputs: dict[str, OutputFile[AnyStr]]
    usage: Usage
    enforcement: dict[str, Enforcement] = field(repr=False)
    message: str | None
    args: tuple[str, ...] = field(default=(), compare=False)

    @property
    def success(self) -> bool:
        """Whether the verdict is OK."""
        return self.verdict is Verdict.OK

    def check(self) -> Outcome[AnyStr]:
        """Return this outcome if its verdict is OK; raise `ProgramError` if not."""
        if not self.success:
            raise ProgramError(self, self.args)
        return self

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes, as dicts, lists, str and numbers.

        The verdict is its name; bytes that are not UTF-8 are {"base64": "..."}; every other name and value is as
        in the attributes.
        """
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "args"}
        plain["verdict"] = self.verdict.name
        plain["stdout"] = _plain(self.stdout)
        plain["stderr"] = _plain(self.stderr)
        plain["outputs"] = {
            path: dataclasses.asdict(file) | {"content": _plain(file.content)} for path, file in self.outputs.items()
        }
        if self.violation is not None:
            plain["violation"] = dataclasses.asdict(self.violation) | {
                "args": [hex(arg) for arg in self.violation.args],
                "instruction_pointer": hex(self.violation.instruction_pointer),
            }
        plain["usage"] = dataclasses.asdict(self.usage)
        plain["enforcement"] = {name: dataclasses.asdict(by) for name, by in self.enforcement.items()}
        return plain

    def to_json(self) -> str:
        """This outcome as JSON, as Rust, C and the command line write and read it."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Outcome[bytes]:
        """Read JSON. Raises `InvalidArgumentError` if it is not an outcome.

        What was captured is bytes again, in UTF-8 if it was text.
        """
        return from_fields(_stockade.outcome_from_json(text))


def from_fields(fields: dict[str, Any], codec: Codec | None = None, args: tuple[str, ...] = ()) -> Outcome[Any]:
    """The outcome that the native module describes, decoded by `codec`."""
    decode: Callable[[bytes], Any] = codec.decode if codec else bytes
    fields["verdict"] = Verdict(fields["verdict"])
    fields["usage"] = Usage(**fields["usage"])
    if fields["violation"] is not None:
        fields["violation"] = Violation(**fields["violation"])
    fields["enforcement"] = {name: _enforcement(*by) for name, by in fields["enforcement"].items()}
    fields["stdout"] = decode(fields["stdout"])
    fields["stderr"] = decode(fields["stderr"])
    fields["outputs"] = {
        path: OutputFile(**file | {"content": decode(file["content"])}) for path, file in fields["outputs"].items()
    }
    return Outcome(**fields, args=args)


# The same few in every outcome, and most of what there is to build.
_enforcement = functools.lru_cache(maxsize=256)(Enforcement)


def _plain(data: bytes | str) -> str | dict[str, str]:
    # Text may hold surrogates, if it was decoded with errors="surrogateescape".
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
