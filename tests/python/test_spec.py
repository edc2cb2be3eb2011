"""Spec: conversions, refusals, JSON, pickling."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
import typing
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import stockade
from stockade import Spec


def test_every_option_has_its_attribute_and_default() -> None:
    spec = Spec()
    assert spec.args == ()
    assert spec.env == {}
    assert spec.files == {}
    assert spec.outputs == spec.volumes == spec.tmpfs == spec.hugetlb == ()
    assert spec.io_read_bps == spec.io_write_bps == spec.io_read_iops == spec.io_write_iops == ()
    assert spec.cpu_idle is False
    assert spec.read_only is False
    assert spec.deterministic is False
    assert (spec.rootfs, spec.network, spec.output_overflow, spec.enforce) == ("host", "none", "kill", "strict")
    assert spec.isolation == "namespaces"
    others = "cwd input stdin stdout stderr output_file_size user hostname cpu_time wall_time memory swap pids \
        image entrypoint store overlay upper_dir uptime cpus cpu_weight cpuset_cpus nice oom_score_adj oom_group \
        stop_signal io_weight output file_size open_files stack \
        disk inodes cgroup_parent"
    for name in others.split():
        assert getattr(spec, name) is None, name


def test_options_signature_and_json_name_the_same() -> None:
    options = set(stockade.Options.__annotations__)
    assert set(inspect.signature(Spec).parameters) - {"args"} == options
    assert set(json.loads(Spec().to_json())) - {"args"} == options - {"timeout", "python"}


@pytest.mark.parametrize(
    ("option", "given", "held"),
    [
        ("memory", "256m", 256 << 20),
        ("memory", 5, 5),
        ("disk", "1GiB", 1 << 30),
        ("output", 0, 0),
        ("stack", "8k", 8192),
        ("file_size", 2**64 - 1, 2**64 - 1),
        ("output_file_size", "1b", 1),
        ("cpu_time", "500ms", 0.5),
        ("wall_time", 2, 2.0),
        ("wall_time", 0.25, 0.25),
        ("swap", "1k", 1024),
        ("pids", 32, 32),
        ("cpus", 1.5, 1.5),
        ("cpus", 2, 2.0),
        ("cpu_weight", 50, 50),
        ("cpu_idle", True, True),
        ("cpuset_cpus", "0-2,4", "0-2,4"),
        ("nice", 5, 5),
        ("oom_score_adj", -5, -5),
        ("oom_group", False, False),
        ("stop_signal", 2, 2),
        ("io_read_bps", ["/dev/sda:1m", "8:16:5"], ("/dev/sda:1048576", "8:16:5")),
        ("io_write_bps", ["/dev/sda:1m"], ("/dev/sda:1048576",)),
        ("io_read_iops", ["/dev/sda:100"], ("/dev/sda:100",)),
        ("io_write_iops", iter(["/dev/sda:100"]), ("/dev/sda:100",)),
        ("io_weight", 300, 300),
        ("hugetlb", ["2m:64m"], ("2097152:67108864",)),
        ("open_files", 16, 16),
        ("inodes", 100, 100),
        ("cwd", PurePosixPath("/tmp"), "/tmp"),
        ("env", {"A": "ä", b"B": b"\xff", "P": PurePosixPath("/p")}, {"A": "ä", "B": "\udcff", "P": "/p"}),
        ("input", "ä", "ä".encode()),
        ("input", bytearray(b"\xff"), b"\xff"),
        ("input", memoryview(b"abcd")[::2], b"ac"),
        ("files", {"a": "ä", PurePosixPath("b"): (b"\xff", 0o755)}, {"a": "ä".encode(), "b": (b"\xff", 0o755)}),
        ("outputs", [PurePosixPath("a"), "b"], ("a", "b")),
        ("outputs", (name for name in "ab"), ("a", "b")),
        ("volumes", ["/a:/b", "/c:/d:rw"], ("/a:/b:ro", "/c:/d:rw")),
        ("tmpfs", ["/s:size=1m"], ("/s:size=1048576",)),
        ("network", "loopback", "loopback"),
        ("isolation", "restrict", "restrict"),
        ("user", "1:2", "1:2"),
        ("user", 7, "7"),
        ("hostname", "box", "box"),
        ("profile", "strict", "strict"),
        ("profile", {"defaultAction": "SCMP_ACT_ALLOW"}, {"defaultAction": "SCMP_ACT_ALLOW"}),
        ("profile", '{"defaultAction": "SCMP_ACT_ALLOW"}', {"defaultAction": "SCMP_ACT_ALLOW"}),
        ("rootfs", Path("/srv/root"), "/srv/root"),
        ("rootfs", [Path("/srv/root"), "/srv/more"], ("/srv/root", "/srv/more")),
        ("image", "python:3.12", "python:3.12"),
        ("entrypoint", ["a", b"b"], ("a", "b")),
        ("store", Path("/srv/images"), "/srv/images"),
        ("overlay", "fuse", "fuse"),
        ("read_only", True, True),
        ("deterministic", True, True),
        ("uptime", "1m", 60.0),
        ("upper_dir", Path("/var/tmp"), "/var/tmp"),
        ("output_overflow", "discard", "discard"),
        ("enforce", "best-effort", "best-effort"),
        ("cgroup_parent", "/sys/fs/cgroup/x", "/sys/fs/cgroup/x"),
        ("stdin", stockade.DEVNULL, -3),
        ("stdout", stockade.PIPE, -1),
        ("stderr", stockade.STDOUT, -2),
        ("stdout", "capture", "capture"),
        ("stdout", 7, 7),
    ],
)
def test_values(option: str, given: Any, held: Any) -> None:
    options: Any = {option: given}
    spec = Spec(["x"], **options)
    assert getattr(spec, option) == held
    assert type(getattr(spec, option)) is type(held)
    # What an attribute has can be given again.
    again: Any = {option: held}
    assert Spec(["x"], **again) == spec
    assert f"{option}={held!r}" in repr(spec)


def test_args_are_str_bytes_and_paths() -> None:
    assert Spec(["a", b"\xff", Path("/p"), "ä"]).args == ("a", "\udcff", "/p", "ä")
    assert [os.fsencode(arg) for arg in Spec([b"\xff\xfe"]).args] == [b"\xff\xfe"]


def test_file_objects_are_their_descriptors() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as r, open(writer, "wb") as w:
        assert Spec(stdin=r, stdout=w).stdin == reader
        assert Spec(stdin=r, stdout=w).stdout == writer


def test_timeout_is_wall_time() -> None:
    assert Spec(timeout=3) == Spec(wall_time="3s")
    assert Spec(timeout=3) != Spec(wall_time="4s")


@pytest.mark.parametrize(
    ("option", "given", "why"),
    [
        ("memory", 1.5, "not float"),
        ("memory", "1.5g", "1.5g"),
        ("memory", "lots", "lots"),
        ("memory", "", "256m"),
        ("memory", True, "not bool"),
        ("memory", -1, "out of range"),
        ("memory", 2**64, "out of range"),
        ("memory", b"1m", "not bytes"),
        ("cpu_time", "5", "500ms"),
        ("cpu_time", "5 s", "500ms"),
        ("wall_time", -0.5, "-0.5"),
        ("wall_time", float("nan"), "nan"),
        ("wall_time", float("inf"), "inf"),
        ("wall_time", 10**400, "seconds"),
        ("wall_time", True, "not bool"),
        ("timeout", "x", "500ms"),
        ("pids", "32", "not str"),
        ("pids", 1.0, "not float"),
        ("args", "ls -l", "no shell"),
        ("args", b"ls", "no shell"),
        ("args", 5, "not int"),
        ("args", [1], "not int"),
        ("args", {"ls": 1}, "not dict"),
        ("env", [("A", "1")], "not list"),
        ("env", {"A": 1}, "not int"),
        ("files", ["a"], "not list"),
        ("files", {"a": 1}, "not int"),
        ("files", {"a": ("x",)}, "(content, mode)"),
        ("files", {"a": ("x", "rw")}, "not str"),
        ("files", {"a": ("x", 2**40)}, "out of range"),
        ("files", {b"\xff": "x"}, "UTF-8"),
        ("outputs", "out.txt", "not str"),
        ("volumes", "/a:/b", "not str"),
        ("volumes", ["/a"], "host:inside"),
        ("volumes", ["a:/b"], "absolute"),
        ("volumes", ["/a:/b:rx"], "rx"),
        ("tmpfs", ["s"], "absolute"),
        ("rootfs", ["/a", 5], "not int"),
        ("overlay", "zfs", '"auto", "kernel", "fuse" or "copy"'),
        ("network", "bridge", '"none", "loopback" or "host"'),
        ("network", False, "not bool"),
        ("isolation", "none", '"namespaces" or "restrict"'),
        ("user", 1.0, "not float"),
        ("hostname", 5, "not int"),
        ("profile", 5, "not int"),
        ("profile", "loose", "`default`, `strict`"),
        ("profile", {"defaultAction": "SCMP_ACT_ERRNO"}, "has to allow `execve`"),
        ("input", 5, "not int"),
        ("input", "\ud900", "surrogates"),
        ("stdin", "keyboard", "keyboard"),
        ("stdout", -7, "not a descriptor"),
        ("stdout", 1.0, "not float"),
        ("stdout", 2**40, "not a descriptor"),
        ("output_overflow", "grow", '"kill" or "discard"'),
        ("enforce", "maybe", '"strict" or "best-effort"'),
        ("rootfs", 5, "not int"),
    ],
)
def test_refusals_name_the_option(option: str, given: Any, why: str) -> None:
    options: Any = {option: given}
    with pytest.raises(stockade.InvalidArgumentError) as caught:
        Spec(**options)
    assert str(caught.value).startswith(f"{option}: ")
    assert why in str(caught.value)


def test_unknown_options_are_type_errors() -> None:
    options: Any = {"memroy": 1}
    for call in (Spec, Spec().replace):
        with pytest.raises(TypeError, match="memroy"):
            call(["x"], **options)


def test_wall_time_and_timeout_contradict() -> None:
    with pytest.raises(stockade.InvalidArgumentError, match=r"timeout: .*wall_time"):
        Spec(wall_time=1, timeout=1)


def test_exceptions_of_the_callers_objects_pass() -> None:
    def args() -> typing.Iterator[str]:
        yield "x"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        Spec(args())


def test_replace_changes_a_copy() -> None:
    spec = Spec(["a"], memory=1, env={"A": "1"})
    changed = spec.replace(["b"], memory=None, pids=2)
    assert spec == Spec(["a"], memory=1, env={"A": "1"})
    assert changed == Spec(["b"], pids=2, env={"A": "1"})


def test_attributes_are_copies_and_cannot_be_set() -> None:
    spec = Spec(env={"A": "1"})
    spec.env["B"] = "2"
    assert spec.env == {"A": "1"}
    with pytest.raises(AttributeError):
        spec.memory = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        hash(spec)


def test_json_and_pickle_round_trips() -> None:
    spec = Spec(
        ["cat", b"\xff"],
        env={"A": b"\xfe"},
        input=bytes(range(256)),
        files={"a": b"\xff", "b": ("text", 0o700)},
        memory="1g",
        wall_time="1500ms",
        volumes=["/a:/b:rw"],
        tmpfs=["/t:size=1k,nr_inodes=5"],
        stdin=stockade.DEVNULL,
        stderr=stockade.STDOUT,
        network="host",
        enforce="best-effort",
    )
    assert Spec.from_json(spec.to_json()) == spec
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(spec, protocol)) == spec


def test_json_refusals() -> None:
    for text, why in [
        ("{", "EOF"),
        ('{"memroy": 1}', "memroy"),
        ('{"memory": "x"}', "256m"),
        ('{"memory": 1.5}', "1.5"),
        ('{"args": [1]}', "integer"),
    ]:
        with pytest.raises(stockade.InvalidArgumentError, match=why):
            Spec.from_json(text)
    with pytest.raises(stockade.InvalidArgumentError, match="Fd"):
        Spec(stdout=7).to_json()
    with pytest.raises(stockade.InvalidArgumentError):
        pickle.dumps(Spec(stdout=7))
    with pytest.raises(stockade.InvalidArgumentError, match="key must be a string"):
        Spec(env={b"\xff": "x"}).to_json()


def test_python_becomes_volumes() -> None:
    spec = Spec(python=True, volumes=["/a:/b"])
    assert "/a:/b:ro" in spec.volumes
    held = [volume.split(":")[0] for volume in spec.volumes] + ["/usr"]
    for path in (sys.prefix, sys.base_prefix, os.path.realpath(sys.executable)):
        assert any(os.path.commonpath([path, above]) == above for above in held), path
    assert spec.replace(python=True) == spec
    assert Spec(python=False) == Spec()
    with pytest.raises(stockade.InvalidArgumentError, match=r"python: .*host"):
        Spec(python=True, rootfs="/srv/root")
