"""popen and Process: the names and the behaviour of subprocess."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stockade
from stockade import DEVNULL, PIPE, STDOUT, TimeoutExpired, Verdict
from support import Sleeper, wait_until


def test_constants_are_those_of_subprocess() -> None:
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert TimeoutExpired is subprocess.TimeoutExpired


def test_wait_and_poll() -> None:
    process = stockade.popen(["sh", "-c", "echo out; exit 3"])
    assert process.stdin is process.stdout is process.stderr is None
    assert process.wait() == process.wait(0) == process.poll() == process.returncode == 3
    assert process.outcome is not None
    assert process.outcome.stdout == b"out\n"
    assert process.args == ("sh", "-c", "echo out; exit 3")
    assert "NONZERO_EXIT" in repr(process)


def test_pid_is_that_of_the_host(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    sleeper.wait_until(1)
    assert process.pid is not None
    assert sleeper.mark.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert "running" in repr(process)
    assert process.returncode is None
    assert process.outcome is None
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_poll_moves_captured_output() -> None:
    process = stockade.popen(["head", "-c", "1000000", "/dev/zero"])
    wait_until(lambda: process.poll() is not None, "end")
    assert process.outcome is not None
    assert process.outcome.stdout == bytes(1_000_000)


def test_wait_times_out_and_the_program_goes_on(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    for timeout in (0, -1, 0.05):
        started = time.monotonic()
        with pytest.raises(TimeoutExpired) as caught:
            process.wait(timeout)
        assert caught.value.timeout == timeout
        assert timeout <= time.monotonic() - started < 2
    assert process.poll() is None
    process.kill()
    process.wait(1e300)


def test_pipes_are_files() -> None:
    process = stockade.popen(["cat"], stdin=PIPE, stdout=PIPE)
    assert isinstance(process.stdin, io.BufferedWriter)
    assert isinstance(process.stdout, io.BufferedReader)
    for data in (b"one\n", b"\xff\0\n"):
        process.stdin.write(data)
        process.stdin.flush()
        assert process.stdout.readline() == data
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait() == 0
    assert process.outcome is not None
    assert process.outcome.stdout == b""
    process.stdout.close()


def test_pipes_without_a_buffer() -> None:
    with stockade.popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as process:
        assert isinstance(process.stdin, io.FileIO)
        assert isinstance(process.stdout, io.FileIO)
        process.stdin.write(b"x")
        assert process.stdout.read(10) == b"x"


def test_text_pipes() -> None:
    with stockade.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        assert isinstance(process.stdin, io.TextIOWrapper)
        assert isinstance(process.stdout, io.TextIOWrapper)
        process.stdin.write("ä\r\n")
        assert process.stdout.readline() == "ä\r\n"
        process.stdin.buffer.write(b"\xff\n")
        process.stdin.flush()
        assert process.stdout.readline() == "\ufffd\n"
    assert process.returncode == 0


def test_standard_error_with_standard_output() -> None:
    process = stockade.popen(["sh", "-c", "echo out; echo err >&2"], stdout=PIPE, stderr=STDOUT)
    assert process.communicate() == (b"out\nerr\n", b"")
    assert process.stderr is None


def test_communicate_moves_much_both_ways() -> None:
    data = os.urandom(3_000_000)
    process = stockade.popen(["sh", "-c", "mkfifo f; cat f >&2 & tee f; wait"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.communicate(data) == (data, data)
    assert process.returncode == 0
    assert process.stdin is not None
    assert process.stdin.closed


@pytest.mark.parametrize("stdout", [PIPE, "capture"])
@pytest.mark.parametrize("stderr", [PIPE, "capture"])
def test_communicate_gives_what_was_captured_too(stdout: Any, stderr: Any) -> None:
    script = "cat; echo err >&2"
    process = stockade.popen(["sh", "-c", script], stdin=PIPE, stdout=stdout, stderr=stderr, text=True)
    assert process.communicate("in") == ("in", "err\n")


def test_communicate_with_a_program_that_does_not_read() -> None:
    process = stockade.popen(["sh", "-c", "exec <&-; sleep 0.1; echo x"], stdin=PIPE, stdout=PIPE)
    assert process.communicate(bytes(1_000_000)) == (b"x\n", b"")


def test_communicate_survives_a_timeout() -> None:
    process = stockade.popen(["sh", "-c", "echo a; sleep 0.4; cat"], stdin=PIPE, stdout=PIPE)
    data = b"x" * 500_000
    with pytest.raises(TimeoutExpired):
        process.communicate(data, timeout=0.1)
    with pytest.raises(stockade.StateError, match="first call"):
        process.communicate(b"more")
    assert process.communicate() == (b"a\n" + data, b"")
    assert process.communicate() == (b"a\n" + data, b"")


def test_communicate_needs_a_pipe_for_input() -> None:
    process = stockade.popen(["true"])
    with pytest.raises(stockade.StateError, match="PIPE"):
        process.communicate(b"x")
    assert process.communicate() == (b"", b"")


def test_communicate_does_not_wait_for_who_holds_the_pipe(sleeper: Sleeper) -> None:
    process = stockade.popen(["sh", "-c", f"setsid {sleeper.shell} & echo x"], stdout=PIPE)
    assert process.communicate(timeout=5) == (b"x\n", b"")
    assert sleeper.count() == 0


def test_communicate_does_not_wait_for_who_else_holds_the_pipe() -> None:
    # As a child does that another thread has forked, or a program beside it in a live sandbox that was sent it.
    process = stockade.popen(["sh", "-c", "sleep 0.1; echo x"], stdout=PIPE)
    assert process.stdout is not None
    with open(f"/proc/self/fd/{process.stdout.fileno()}", "wb"):
        assert process.communicate(timeout=5) == (b"x\n", b"")
        assert process.stdout.closed


@pytest.mark.parametrize("bufsize", ["x", 1.5, 1 << 70])
def test_a_buffer_that_cannot_be_made_leaves_no_descriptor_open(bufsize: Any) -> None:
    stockade.run(["true"])
    before = os.listdir("/proc/self/fd")
    with pytest.raises((TypeError, stockade.InvalidArgumentError), match="bufsize"):
        stockade.popen(["sleep", "60"], stdin=PIPE, stdout=PIPE, bufsize=bufsize)
    assert os.listdir("/proc/self/fd") == before


def test_signals() -> None:
    script = "trap 'echo usr1; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    process = stockade.popen(["sh", "-c", script], stdout=PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=5) == (b"usr1\n", b"")
    assert process.returncode == 7
    process.send_signal(signal.SIGUSR1)
    process.terminate()
    process.kill()
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.NONZERO_EXIT


def test_terminate_and_kill(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    process.terminate()
    assert process.wait(5) == -signal.SIGTERM
    process = stockade.popen(["sh", "-c", f"trap '' TERM; echo ready; {sleeper.shell}"], stdout=PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    process.kill()
    assert process.communicate(timeout=5) == (b"", b"")
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.KILLED


def test_stop() -> None:
    for trap, timeout, verdict in (("exit 7", 20.0, Verdict.NONZERO_EXIT), ("", 0.1, Verdict.KILLED)):
        script = f"trap '{trap}' INT; echo ready; while :; do sleep 0.02; done"
        with stockade.popen(["sh", "-c", script], stdout=PIPE, stop_signal=signal.SIGINT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert process.stop(timeout) == (7 if trap else -signal.SIGKILL)
            assert process.stop() == process.returncode
        assert process.outcome is not None
        assert process.outcome.verdict is verdict


async def _astop(trap: str, timeout: float) -> int:
    script = f"trap '{trap}' TERM; echo ready; while :; do sleep 0.02; done"
    with stockade.popen(["sh", "-c", script], stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return await process.astop(timeout)


def test_astop() -> None:
    assert asyncio.run(_astop("exit 7", 20)) == 7
    assert asyncio.run(_astop("", 0.1)) == -signal.SIGKILL


def test_pause_and_resume() -> None:
    script = "while :; do echo tick; sleep 0.01; done"
    with stockade.popen(["sh", "-c", script], stdout=PIPE, wall_time=60) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"tick\n"
        process.pause()
        os.set_blocking(process.stdout.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while os.read(process.stdout.fileno(), 4096):
                pass
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(process.stdout.fileno(), 4096)
        assert process.poll() is None
        os.set_blocking(process.stdout.fileno(), True)
        process.resume()
        assert os.read(process.stdout.fileno(), 5) == b"tick\n"
        process.kill()
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.KILLED
    assert process.outcome.usage.paused_time >= 0.2
    process.pause()
    process.resume()


def test_stats() -> None:
    script = """if True:
        import time
        kept = bytearray(32 << 20)
        while time.process_time() < 0.5:
            pass
        print(flush=True)
        time.sleep(60)
    """
    with stockade.popen(["/usr/bin/python3", "-c", script], stdout=PIPE, pids=8) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        for n, stats in enumerate(process.stats_every(0.05)):
            assert not stats.paused
            assert 0.4 <= stats.cpu_time <= stats.wall_time + 0.1
            assert stats.throttled_time is None or stats.throttled_time >= 0
            assert stats.memory_current is None or stats.memory_current >= 32 << 20
            assert stats.memory_peak is None or stats.memory_peak >= 32 << 20
            assert stats.pids_current is None or stats.pids_current == 1
            if n == 2:
                process.kill()
        assert n >= 2
        assert process.stats() is None


def test_notifications() -> None:
    with stockade.popen(["sh", "-c", "while :; do :; done"], wall_time=60) as process:
        for wrong in (0, -1, True, "much"):
            with pytest.raises(stockade.InvalidArgumentError, match="notify_memory"):
                process.notify_memory(wrong)
        assert process.next_notification(0) is None
        process.notify_cpu_time(0.1)
        notification = process.next_notification()
        assert notification is not None
        assert notification.name == "cpu_time"
        assert notification.used >= notification.threshold == 0.1
        assert process.next_notification(0.1) is None
        process.notify_memory("1k")
        for n, notification in enumerate(process.notifications()):
            assert notification.threshold == 1024
            process.notify_memory(1024 if n == 0 else None)
            if n == 1:
                process.update(cpu_time="1ms")
        assert n == 1
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.TIME_LIMIT
    assert process.next_notification() is None


def test_update() -> None:
    with stockade.popen(["sh", "-c", "sleep 0.5; echo done"], wall_time=0.4, memory="64m") as process:
        process.update(timeout=None, memory="128m")
        with pytest.raises(stockade.InvalidArgumentError, match="memory: 1 is out of range"):
            process.update(memory=1, wall_time=0.001)
        with pytest.raises(stockade.InvalidArgumentError, match="disk: it cannot be changed"):
            process.update(disk="1m")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no option `speed`"):
            process.update(speed=1)  # type: ignore[call-arg]
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.OK
    assert "wall_time" not in process.outcome.enforcement
    assert "memory" in process.outcome.enforcement
    process.update(memory=1)
    with stockade.popen(["sleep", "60"]) as process:
        process.update(wall_time="100ms")
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.WALL_TIME_LIMIT


def test_a_signal_that_is_none_is_refused(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    for number in (0, 65, -1):
        with pytest.raises(stockade.InvalidArgumentError, match="signal"):
            process.send_signal(number)
    process.kill()
    process.wait()


def test_fileno_is_readable_at_the_end() -> None:
    process = stockade.popen(["sh", "-c", "read line; echo got $line"], stdin=PIPE)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert process.poll() is None
    assert poll.poll(0) == []
    assert process.stdin is not None
    process.stdin.write(b"x\n")
    process.stdin.close()
    while process.poll() is None:
        assert poll.poll(5000)
    assert process.outcome is not None
    assert process.outcome.stdout == b"got x\n"
    assert poll.poll(5000)


def test_context_manager_waits() -> None:
    with stockade.popen(["sh", "-c", "cat; exit 4"], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"never flushed by hand")
    assert process.returncode == 4
    assert process.stdin.closed
    assert process.stdout is not None
    assert process.stdout.closed


def test_context_manager_kills_on_an_exception(sleeper: Sleeper) -> None:
    with pytest.raises(LookupError), stockade.popen(sleeper.args) as process:
        raise LookupError
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.KILLED


def test_closing_a_pipe_that_nobody_reads_is_quiet() -> None:
    with stockade.popen(["true"], stdin=PIPE) as process:
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"x")
    assert process.returncode == 0


def test_deleting_a_process_kills_it(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    sleeper.wait_until(1)
    del process
    sleeper.wait_until(0)


def test_a_program_that_cannot_be_executed() -> None:
    process = stockade.popen(["no-such-program"])
    assert process.pid is None
    assert process.wait() == 127
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.EXEC_FAILED


def test_what_cannot_be_set_up_is_raised_at_once() -> None:
    with pytest.raises(stockade.SetupError, match="/no/such"):
        stockade.popen(["true"], cwd="/no/such")
    with pytest.raises(stockade.InvalidArgumentError):
        stockade.popen([])


def test_limits_and_text() -> None:
    process = stockade.popen(["sh", "-c", "printf 'ä'; sleep 10"], timeout="200ms", text=True)
    process.wait(5)
    assert process.outcome is not None
    assert process.outcome.verdict is Verdict.WALL_TIME_LIMIT
    assert process.outcome.stdout == "ä"


def test_many_threads_wait_for_one_process() -> None:
    process = stockade.popen(["sh", "-c", "sleep 0.2; exit 5"])
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [5] * 8


def test_side_by_side_in_a_sandbox() -> None:
    with stockade.Sandbox() as box:
        assert box.run(["mkfifo", "fifo"]).success
        with (
            box.popen(["cat", "fifo"], stdout=PIPE) as reader,
            box.popen(["sh", "-c", "cat > fifo"], stdin=PIPE) as writer,
        ):
            assert writer.stdin is not None
            assert reader.stdout is not None
            writer.stdin.write(b"through\n")
            writer.stdin.close()
            assert reader.stdout.read() == b"through\n"
        assert reader.returncode == writer.returncode == 0


def test_descriptors_are_not_lost() -> None:
    def cycle() -> None:
        with stockade.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            process.communicate(b"x")
        stockade.run(["true"])
        with pytest.raises(stockade.SetupError):
            stockade.popen(["true"], cwd="/no/such", stdin=PIPE)

    cycle()
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process have no descriptor more than it has."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0] + 20, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fillers:
            os.close(fd)


def test_exhausted_descriptors_are_a_resource_error(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    with no_descriptor_left():
        for call in (lambda: stockade.run(["true"]), lambda: stockade.popen(["true"]), process.fileno):
            with pytest.raises(stockade.ResourceError) as caught:
                call()
            assert caught.value.errno == errno.EMFILE
    assert stockade.run(["true"]).success
    assert process.fileno() >= 0
    process.kill()
    assert process.wait() == -signal.SIGKILL
