"""The types of the options that `Spec` describes, for type checkers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar


class HasFileno(Protocol):
    """An object with a descriptor, such as a socket or an open pipe."""

    def fileno(self) -> int:
        """The descriptor."""


Key = TypeVar("Key", covariant=True)
Value = TypeVar("Value", covariant=True)


class Pairs(Protocol[Key, Value]):
    """A mapping, of which only the pairs count: unlike `Mapping`, any kind of key goes for a wider one."""

    def items(self) -> AbstractSet[tuple[Key, Value]]:
        """The pairs."""


OsBytes: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Path: TypeAlias = str | os.PathLike[str]
Content: TypeAlias = bytes | bytearray | memoryview | str
Stdio: TypeAlias = int | HasFileno | Literal["capture"]
Size: TypeAlias = int | str
Seconds: TypeAlias = float | str


class Limits(TypedDict, total=False):
    """The keyword arguments of `Process.update`: the limits that can be changed while a program runs."""

    cpu_time: Seconds | None
    wall_time: Seconds | None
    timeout: Seconds | None
    memory: Size | None
    swap: Size | None
    pids: int | None
    cpus: float | None
    cpu_weight: int | None
    cpuset_cpus: str | None
    io_weight: int | None
    output: Size | None


class Options(Limits, total=False):
    """The keyword arguments of `Spec`, and with them of `run`, `arun`, `popen` and `Sandbox`. `Spec` describes them."""

    env: Pairs[OsBytes, OsBytes] | None
    cwd: Path | None
    input: Content | None
    stdin: Stdio | None
    stdout: Stdio | None
    stderr: Stdio | None
    files: Pairs[Path, Content | tuple[Content, int]] | None
    outputs: Iterable[Path] | None
    output_file_size: Size | None
    image: str | None
    entrypoint: Iterable[OsBytes] | None
    store: Path | None
    rootfs: Path | Sequence[Path] | None
    overlay: Literal["auto", "kernel", "fuse", "copy"] | None
    read_only: bool | None
    upper_dir: Path | None
    volumes: Iterable[str] | None
    tmpfs: Iterable[str] | None
    network: Literal["none", "loopback", "host"] | None
    isolation: Literal["namespaces", "restrict"] | None
    user: str | int | None
    hostname: str | None
    profile: str | Mapping[str, Any] | None
    deterministic: bool | None
    uptime: Seconds | None
    python: bool
    cpu_idle: bool | None
    nice: int | None
    oom_score_adj: int | None
    oom_group: bool | None
    stop_signal: int | None
    io_read_bps: Iterable[str] | None
    io_write_bps: Iterable[str] | None
    io_read_iops: Iterable[str] | None
    io_write_iops: Iterable[str] | None
    hugetlb: Iterable[str] | None
    file_size: Size | None
    open_files: int | None
    stack: Size | None
    disk: Size | None
    inodes: int | None
    output_overflow: Literal["kill", "discard"] | None
    enforce: Literal["strict", "best-effort"] | None
    cgroup_parent: Path | None


class PullOptions(TypedDict, total=False):
    """The keyword arguments of `stockade.images.pull`, which describes them."""

    platform: str | None
    user: str | None
    password: str | None
    identity_token: str | None
    auth_file: Path | None
    ca_file: Path | None
    tls_verify: bool
    mirrors: Iterable[str] | None
    max_concurrent_downloads: int | None
    retry: int | None
    timeout: Seconds | None
