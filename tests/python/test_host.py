"""The host program: its threads, its forks, its signals, its end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from typing import Any

import pytest

import stockade
from stockade import Outcome, Spec, Verdict
from support import Sleeper


def double(number: int) -> Outcome[str]:
    """What the workers of pools do."""
    return stockade.run(["expr", str(number), "*", "2"], text=True)


def run_spec(spec: Spec) -> Outcome[bytes]:
    """A specification goes to a worker, an outcome comes back."""
    return stockade.run(spec)


def script(code: str, *args: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(double, range(64)))
    assert [int(outcome.stdout) for outcome in outcomes] == [2 * n for n in range(64)]


def test_threads_in_one_sandbox() -> None:
    with stockade.Sandbox() as box, concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: box.run(["echo", str(n)], text=True), range(32)))
    assert [int(outcome.stdout) for outcome in outcomes] == list(range(32))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str) -> None:
    assert stockade.run(["true"]).success
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert [int(outcome.stdout) for outcome in pool.map(double, range(12))] == [2 * n for n in range(12)]
        specs = [Spec(["printf", f"\\{number:o}"]) for number in range(128, 140)]
        assert [outcome.stdout for outcome in pool.map(run_spec, specs)] == [bytes([n]) for n in range(128, 140)]
    assert stockade.run(["true"]).success


def test_a_forked_child_leaves_its_parents_sandboxes_alone(sleeper: Sleeper) -> None:
    box = stockade.Sandbox()
    process = box.popen(sleeper.args)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (process.poll, process.kill, process.wait, box.close, lambda: box.run(["true"])):
                with pytest.raises(stockade.StateError):
                    call()
            del process, box
            assert stockade.run(["true"]).success
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert process.poll() is None
    assert sleeper.count() == 1
    box.close()
    assert process.wait(5) == -signal.SIGKILL


def test_children_of_the_host_stay_its_own() -> None:
    child = os.fork()
    if child == 0:
        os._exit(7)
    for _ in range(3):
        stockade.run(["true"])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_runs_send_the_host_no_sigchld() -> None:
    code = """
        import signal, stockade
        assert stockade.run(["true"]).success
        signal.signal(signal.SIGCHLD, lambda *_: print("SIGCHLD"))
        for _ in range(3):
            assert stockade.run(["true"]).success
    """
    assert script(code).stdout == ""


def test_a_host_that_ignores_sigchld() -> None:
    code = """
        import signal, stockade
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print(stockade.run(["sh", "-c", "exit 3"]).returncode)
    """
    assert script(code).stdout == "3\n"


def test_a_host_without_standard_streams() -> None:
    code = """
        import os, stockade, sys
        for fd in (0, 1, 2):
            os.close(fd)
        outcome = stockade.run(["sh", "-c", "cat; echo out; echo err >&2"], input="in ")
        os._exit(0 if (outcome.stdout, outcome.stderr) == (b"in out\\n", b"err\\n") else 1)
    """
    assert script(code).returncode == 0


def interrupt_soon(sleeper: Sleeper) -> threading.Thread:
    """As if Ctrl-C were pressed when the program runs."""

    def interrupt() -> None:
        sleeper.wait_until(1)
        time.sleep(0.5)  # until the main thread waits, too
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_ctrl_c_ends_a_run(sleeper: Sleeper) -> None:
    thread = interrupt_soon(sleeper)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stockade.run(sleeper.args)
    assert sleeper.count() == 0
    assert time.monotonic() - started < 5
    thread.join()
    assert stockade.run(["true"]).success


def test_ctrl_c_ends_a_wait_but_not_the_program(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    thread = interrupt_soon(sleeper)
    with pytest.raises(KeyboardInterrupt):
        process.wait()
    thread.join()
    assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_ctrl_c_reaches_a_run_in_a_sandbox(sleeper: Sleeper) -> None:
    with stockade.Sandbox() as box:
        thread = interrupt_soon(sleeper)
        with pytest.raises(KeyboardInterrupt):
            box.run(sleeper.args)
        assert sleeper.count() == 0
        thread.join()
        assert box.run(["true"]).success


def test_signal_handlers_run_meanwhile() -> None:
    seen: list[float] = []

    def note(*_: Any) -> None:
        seen.append(time.monotonic())

    before = signal.signal(signal.SIGALRM, note)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        outcome = stockade.run(["sleep", "0.6"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert outcome.verdict is Verdict.OK
    assert len(seen) >= 6


@pytest.mark.parametrize(
    "code",
    [
        "box = stockade.Sandbox(); process = box.popen(args)",
        "process = stockade.popen(args, stdin=stockade.PIPE, stdout=stockade.PIPE)",
        "process = stockade.popen(args); process.self = process",
        "threading.Thread(target=stockade.run, args=(args,), daemon=True).start(); time.sleep(0.3)",
        "asyncio.run(leave())",
    ],
)
def test_the_interpreter_ends_with_live_sandboxes(sleeper: Sleeper, code: str) -> None:
    whole = f"""
import asyncio, stockade, sys, threading, time
args = {sleeper.args!r}
async def leave():
    task = asyncio.ensure_future(stockade.arun(args))
    await asyncio.sleep(0.3)
{code}
"""
    started = time.monotonic()
    done = script(whole)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 10
    sleeper.wait_until(0)


WAYS = {
    "run": "stockade.run(args)",
    "sandbox": "with stockade.Sandbox() as box: box.run(args)",
    "process": "with stockade.popen(args, stdin=stockade.PIPE) as process: process.communicate(b'x')",
    "asyncio": "asyncio.run(stockade.arun(args))",
    "trio": "trio.run(stockade.arun, args)",
}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_host_leaves_nothing(sleeper: Sleeper, way: str, kill: signal.Signals) -> None:
    code = f"import asyncio, stockade, trio; args = {sleeper.args!r}\n{WAYS[way]}"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as host:
        try:
            sleeper.wait_until(1)
        finally:
            host.send_signal(kill)
        assert host.wait(10) == -kill
    sleeper.wait_until(0)


def test_forks_while_threads_run_programs() -> None:
    code = """
        import os, signal, stockade, threading, warnings
        warnings.simplefilter("ignore")
        stop = threading.Event()
        def work():
            while not stop.is_set():
                assert stockade.run(["true"]).success
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        children = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(0 if stockade.run(["sh", "-c", "exit 5"]).returncode == 5 else 1)
            children.append(child)
        print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
        stop.set()
        for thread in threads:
            thread.join()
    """
    done = script(code, timeout=60)
    assert (done.stdout, done.stderr) == (f"{[0] * 10}\n", "")


def test_subinterpreters_are_refused_clearly() -> None:
    code = """
        import stockade
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        inside = "try: import stockade\\nexcept ImportError as e: print(e, flush=True)"
        interpreters.run_string(interpreters.create(), inside)
        assert stockade.run(["true"]).success
    """
    done = script(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "subinterpreters" in done.stdout


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter is not free-threaded")
def test_a_free_threaded_interpreter_takes_its_lock_back() -> None:
    code = """
        import sys
        assert not sys._is_gil_enabled()
        import stockade
        assert sys._is_gil_enabled()
        assert stockade.run(["true"]).success
    """
    done = script(code)
    assert done.returncode == 0, done.stderr
    assert "stockade._stockade" in done.stderr
    assert "RuntimeWarning" in done.stderr


def test_a_host_that_computes_meanwhile() -> None:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with contextlib.closing(stockade.Sandbox()) as box:
            for _ in range(5):
                assert box.run(["true"]).success
    finally:
        stop.set()
        for thread in threads:
            thread.join()
