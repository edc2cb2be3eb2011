"""stockade.run and Sandbox.run."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import stockade
from stockade import Verdict
from support import Sleeper


def test_output_and_exit_status() -> None:
    outcome = stockade.run(["sh", "-c", "cat; echo err >&2"], input=b"\0\xff" * 100_000)
    assert outcome.verdict is Verdict.OK
    assert outcome.stdout == b"\0\xff" * 100_000
    assert outcome.stderr == b"err\n"


def test_environment_is_only_what_is_given() -> None:
    assert stockade.run(["/usr/bin/env"]).stdout == b""
    assert stockade.run(["/usr/bin/env"], env={b"A": "ä", "B": b"\xff"}).stdout == "A=ä\n".encode() + b"B=\xff\n"


def test_arguments_are_bytes() -> None:
    assert stockade.run(["printf", "%s", b"\xff\xfe ", Path("/p")]).stdout == b"\xff\xfe /p"


def test_text() -> None:
    script = "printf 'ä\\r\\n'; printf 'ö' >&2; printf 'ü' > out; cat"
    outcome = stockade.run(["sh", "-c", script], text=True, input="ß", outputs=["out"])
    assert (outcome.stdout, outcome.stderr, outcome.outputs["out"].content) == ("ä\r\nß", "ö", "ü")
    assert stockade.Outcome.from_json(outcome.to_json()).stdout == "ä\r\nß".encode()


def test_text_replaces_what_it_cannot_decode() -> None:
    args = ["printf", "a\\377"]
    assert stockade.run(args, text=True).stdout == "a\ufffd"
    assert stockade.run(args, errors="surrogateescape").stdout == "a\udcff"
    assert stockade.run(args, encoding="latin-1").stdout == "aÿ"
    assert stockade.run(["cat"], encoding="latin-1", input="ÿ").stdout == "ÿ"
    with pytest.raises(UnicodeDecodeError):
        stockade.run(args, errors="strict")
    with pytest.raises(UnicodeEncodeError):
        stockade.run(["cat"], encoding="latin-1", input="€")


@pytest.mark.parametrize("codec", [{"encoding": "klingon"}, {"text": True, "errors": "klingon"}])
def test_unknown_codecs_are_refused(codec: Any) -> None:
    with pytest.raises(stockade.InvalidArgumentError, match="klingon"):
        stockade.run(["true"], **codec)


def test_streams() -> None:
    outcome = stockade.run(["sh", "-c", "echo out; echo err >&2"], stderr=stockade.STDOUT)
    assert (outcome.stdout, outcome.stderr) == (b"out\nerr\n", b"")
    outcome = stockade.run(["sh", "-c", "echo out; echo err >&2"], stdout=stockade.DEVNULL, stderr=stockade.PIPE)
    assert (outcome.stdout, outcome.stderr) == (b"", b"err\n")
    with pytest.raises(stockade.InvalidArgumentError, match="popen"):
        stockade.run(["cat"], stdin=stockade.PIPE)


def test_the_callers_pipes_and_sockets() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert stockade.run(["sh", "-c", "read line; echo got $line"], stdin=theirs, stdout=theirs, timeout=5)
        ours.sendall(b"x\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"x\n")
        assert stockade.run(["sh", "-c", "read line; echo got $line"], stdin=theirs, stdout=theirs, timeout=5).success
        assert ours.recv(100) == b"got x\n"


def test_a_file_as_a_stream_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file, pytest.raises(stockade.InvalidArgumentError, match="stdout"):
        stockade.run(["echo", "x"], stdout=file)


def test_files_and_outputs() -> None:
    outcome = stockade.run(
        ["sh", "-c", "./tool.sh > out; cat sub/data >> out; ln -s out link; mkfifo fifo; stat -c %a tool.sh sub/data"],
        files={"tool.sh": ("#!/bin/sh\necho tool\n", 0o755), Path("sub/data"): b"\0\xff"},
        outputs=["out", "link", "fifo", "none"],
        output_file_size=6,
    )
    assert outcome.stdout == b"755\n644\n"
    assert outcome.outputs["out"] == stockade.OutputFile(content=b"tool\n\0", size=7, truncated=True, error=None)
    for path in ("link", "fifo", "none"):
        assert outcome.outputs[path].error, path
        assert outcome.outputs[path].content == b""


def test_volumes(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    (tmp_path / "data").write_text("data")
    volume = f"{tmp_path}:/data"
    assert stockade.run(["cat", "/data/data"], volumes=[volume]).stdout == b"data"
    assert not stockade.run(["touch", "/data/new"], volumes=[volume]).success
    assert stockade.run(["sh", "-c", "echo new > /data/new"], volumes=[f"{volume}:rw"]).success
    assert (tmp_path / "new").read_text() == "new\n"


def test_sandbox_options() -> None:
    script = "hostname; id -u; id -g; pwd"
    outcome = stockade.run(["sh", "-c", script], hostname="box", user="7:8", cwd="/tmp", text=True)
    assert outcome.stdout.split() == ["box", "7", "8", "/tmp"]


@pytest.mark.parametrize(
    ("script", "options", "verdict"),
    [
        ("exit 1", {}, Verdict.NONZERO_EXIT),
        ("kill -SEGV $$", {}, Verdict.SIGNALED),
        ("while :; do :; done", {"cpu_time": "100ms"}, Verdict.TIME_LIMIT),
        ("sleep 10", {"wall_time": 0.1}, Verdict.WALL_TIME_LIMIT),
        ("sleep 10", {"timeout": 0.1}, Verdict.WALL_TIME_LIMIT),
        ("cat /dev/zero", {"output": "1k"}, Verdict.OUTPUT_LIMIT),
        ("head -c 10000 /dev/zero", {"output": "1k", "output_overflow": "discard"}, Verdict.OUTPUT_LIMIT),
        ("tail /dev/zero", {"memory": "32m", "cpu_time": 10}, Verdict.MEMORY_LIMIT),
    ],
)
def test_verdicts(script: str, options: Any, verdict: Verdict) -> None:
    outcome = stockade.run(["sh", "-c", script], **options)
    assert outcome.verdict is verdict
    if "output" in options:
        assert outcome.stdout == bytes(1024)
        assert outcome.stdout_truncated
        assert outcome.limit == "output"
        assert outcome.stdout_bytes > 1024


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_executed(program: str, code: int) -> None:
    outcome = stockade.run([program])
    assert (outcome.verdict, outcome.returncode) == (Verdict.EXEC_FAILED, code)
    assert outcome.message
    with pytest.raises(stockade.ProgramError, match=program):
        stockade.run([program], check=True)


@pytest.mark.parametrize(
    "options",
    [{"args": []}, {"args": ["a\0b"]}, {"env": {"A": "\0"}}, {"env": {"A=B": ""}}, {"input": "x", "stdin": -3}],
)
def test_contradictions_are_refused(options: Any) -> None:
    with pytest.raises(stockade.InvalidArgumentError):
        stockade.run(**{"args": ["true"], **options})


def test_a_failed_setup_says_where() -> None:
    with pytest.raises(stockade.SetupError, match="/no/such/directory") as caught:
        stockade.run(["true"], cwd="/no/such/directory")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.strerror == "No such file or directory"
    assert caught.value.step


def test_a_spec_can_be_run() -> None:
    spec = stockade.Spec(["echo", "x"], timeout=5)
    assert stockade.run(spec).stdout == b"x\n"
    assert stockade.run(spec, stdout=stockade.DEVNULL).stdout == b""


def test_nothing_outlives_the_run(sleeper: Sleeper) -> None:
    started = time.monotonic()
    outcome = stockade.run(["sh", "-c", f"setsid {sleeper.shell} & {sleeper.shell} & echo x"])
    assert outcome.stdout == b"x\n"
    assert time.monotonic() - started < 5
    assert sleeper.count() == 0


def test_the_lock_is_released_while_a_program_runs() -> None:
    turns = 0
    thread = threading.Thread(target=lambda: stockade.run(["sleep", "0.5"]))
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0.005)
    thread.join()
    assert turns > 10


def test_sandbox_keeps_its_files() -> None:
    with stockade.Sandbox(env={"A": "1"}, timeout=10) as box:
        assert box.run(["sh", "-c", "echo $A > file"], check=True)
        assert box.run(["cat", "file"], text=True).stdout == "1\n"
        assert box.run(["sh", "-c", "echo $A"], env={"A": "2"}).stdout == b"2\n"
        assert box.run(["sleep", "10"], timeout="50ms").verdict is Verdict.WALL_TIME_LIMIT
        assert box.run(["cat", "file"], input="x").stdout == b"1\n"
        assert box.spec == stockade.Spec(env={"A": "1"}, timeout=10)
    with stockade.Sandbox() as other:
        assert not other.run(["cat", "file"]).success


def test_sandbox_from_a_spec() -> None:
    spec = stockade.Spec(hostname="box")
    with stockade.Sandbox(spec) as box, stockade.Sandbox(spec, hostname="other") as other:
        assert box.run(["hostname"]).stdout == b"box\n"
        assert other.run(["hostname"]).stdout == b"other\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    # pytest keeps its directories to the caller, who as root is somebody else inside.
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        assert directory.name.startswith(("test_", "pytest-")), directory
        directory.chmod(0o755)
    for name in ("bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    (tmp_path / "given").write_text("given")
    return tmp_path


def test_a_root_that_can_be_written_to(root: Path) -> None:
    options = stockade.Spec(rootfs=root, overlay="auto", volumes=["/usr:/usr"], timeout=10)
    with stockade.Sandbox(options) as box:
        assert box.changes() == []
        assert box.run(["sh", "-c", "rm -f /given; echo new > /new"]).success
        assert stockade.Change("A", "/new") in box.changes()
        upper = box.upper()
        try:
            assert "new" in os.listdir(upper)
        finally:
            os.close(upper)
        assert box.run(["true"]).enforcement["overlay"].status == "enforced"
        box.put("/made/by/us", "text", 0o600)
        assert box.get("/made/by/us") == b"text"
        box.get_tree("/made", root / "copy")
        box.put_tree("again", root / "copy")
        assert box.run(["cat", "again/by/us"], text=True).stdout == "text"
        with pytest.raises(stockade.SetupError, match="/missing") as missing:
            box.get("/missing")
        assert missing.value.errno == errno.ENOENT
        box.reset()
        assert box.changes() == []
        assert box.run(["cat", "/given"], text=True).stdout == "given"
        assert not box.run(["cat", "/new"]).success
    assert (root / "given").read_text() == "given"
    assert not (root / "new").exists()
    with pytest.raises(stockade.StateError, match="closed"):
        box.reset()


def test_a_sandbox_without_an_overlay_has_no_changes() -> None:
    with stockade.Sandbox() as box:
        with pytest.raises(stockade.StateError, match="overlay"):
            box.changes()
        with pytest.raises(stockade.StateError, match="overlay"):
            box.reset()


def test_a_root_can_be_read_only_all_the_same(root: Path) -> None:
    outcome = stockade.run(
        ["sh", "-c", "echo x > /new"], rootfs=[root], overlay="auto", read_only=True, volumes=["/usr:/usr"], text=True
    )
    assert not outcome.success
    assert "Read-only" in outcome.stderr


def test_what_is_written_can_be_kept_on_a_disk(root: Path) -> None:
    kept = root / "kept"
    kept.mkdir()
    options = stockade.Spec(rootfs=root, overlay="auto", volumes=["/usr:/usr"], upper_dir=kept, disk="8m", timeout=30)
    with stockade.Sandbox(options) as box:
        outcome = box.run(["sh", "-c", "echo written > /given; head -c 1000000 /dev/zero > /tmp/more"])
        assert outcome.success, outcome
        assert outcome.usage.disk_used is not None
        assert outcome.usage.disk_used > 900_000
        assert outcome.enforcement["disk"].status == "approximated"
        assert str(kept) in outcome.enforcement["overlay"].by
        too_much = box.run(["sh", "-c", "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > /tmp/$i; done"])
        assert (too_much.verdict, too_much.limit) == (Verdict.DISK_LIMIT, "disk")
    deadline = time.monotonic() + 10
    while [*kept.iterdir()]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (root / "given").read_text() == "given"


def test_sandbox_options_hold_for_its_life() -> None:
    with stockade.Sandbox(hostname="box") as box:
        with pytest.raises(stockade.InvalidArgumentError, match="hostname"):
            box.run(["true"], hostname="other")
        with pytest.raises(stockade.InvalidArgumentError, match="Spec"):
            box.run(stockade.Spec(["true"]))  # type: ignore[call-overload]


def test_closing_a_sandbox_ends_what_runs_in_it(sleeper: Sleeper) -> None:
    box = stockade.Sandbox()
    process = box.popen(sleeper.args)
    sleeper.wait_until(1)
    box.close()
    assert sleeper.count() == 0
    assert process.wait(timeout=5) == -9
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.KILLED
    box.close()
    with pytest.raises(stockade.StateError):
        box.run(["true"])


def test_deleting_a_sandbox_closes_it(sleeper: Sleeper) -> None:
    box = stockade.Sandbox()
    process = box.popen(sleeper.args)
    sleeper.wait_until(1)
    del box, process
    sleeper.wait_until(0)
