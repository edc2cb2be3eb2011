"""An interpreter that ends while something of it goes on, and one that is not the only one of its process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import stockade
from support import Sleeper

PACKAGE = str(Path(stockade.__file__).parent.parent)

# What is alive at the end: `args` runs for long.
STATES = {
    "a sandbox": "box = stockade.Sandbox()",
    "a sandbox with a program": "box = stockade.Sandbox(); process = box.popen(args)",
    "a program": "process = stockade.popen(args)",
    "a program with pipes": "process = stockade.popen(args, stdin=stockade.PIPE, stdout=stockade.PIPE)",
    "a paused program": "process = stockade.popen(args); process.pause()",
    "a program that has ended unread": "process = stockade.popen(['true']); time.sleep(0.2)",
    "statistics": "process = stockade.popen(args); stats = process.stats_every(0.01); next(stats)",
    "a cycle": "process = stockade.popen(args); holder = [process]; holder.append(holder); del process",
    "a thread in run": "threading.Thread(target=stockade.run, args=(args,), daemon=True).start(); time.sleep(0.3)",
    "a thread in wait": "process = stockade.popen(args)\n"
    "threading.Thread(target=process.wait, daemon=True).start(); time.sleep(0.2)",
    "a coroutine that was begun": "loop = asyncio.new_event_loop(); task = loop.create_task(stockade.arun(args))\n"
    "loop.run_until_complete(asyncio.sleep(0.2))",
    "a coroutine that was not": "coroutine = stockade.arun(args)",
    "a generator at its await": "coroutine = stockade.arun(args)\nasync def main():\n"
    "    waiting = asyncio.ensure_future(coroutine)\n    await asyncio.sleep(0.2)\nasyncio.run(main())",
}
ENDS = {
    "at its end": ("", 0),
    "by sys.exit": ("sys.exit(3)", 3),
    "by an exception": ("raise SystemError('meant')", 1),
    "at once": ("os._exit(4)", 4),
    "by SIGKILL": ("os.kill(os.getpid(), 9)", -9),
}
MEANT = ("SystemError: meant", "never awaited", "was destroyed but it is pending", "CancelledError")


# Every state with the two that differ most; with the others a few.
FEW = ("a sandbox with a program", "a thread in run", "a coroutine that was begun")
CASES = [(state, end) for end in ENDS for state in STATES if end in ("at its end", "by SIGKILL") or state in FEW]


@pytest.mark.parametrize(("state", "end"), CASES)
def test_an_exit(state: str, end: str, sleeper: Sleeper) -> None:
    last, status = ENDS[end]
    code = f"""
import asyncio, os, sys, threading, time
sys.path.append({PACKAGE!r})
import stockade
args = {sleeper.args!r}
{STATES[state]}
print("there", flush=True)
{last}
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "there\n", done.stderr
    assert done.returncode == status, done.stderr
    assert time.monotonic() - started < 10
    assert "Fatal Python error" not in done.stderr
    assert "panicked" not in done.stderr
    if done.stderr and end in ("at its end", "by sys.exit"):
        assert any(meant in done.stderr for meant in MEANT), done.stderr
    sleeper.wait_until(0)


SUBINTERPRETER = """
import sys
sys.path.append({package!r})
if {first}:
    import stockade
for name in ("_interpreters", "_xxsubinterpreters"):
    try:
        interpreters = __import__(name)
        break
    except ImportError:
        pass
else:
    sys.exit("none")
code = '''
import sys
sys.path.append({package!r})
try:
    import stockade
    print("imported", flush=True)
except ImportError as error:
    print(error, flush=True)
'''
for _ in range(2):
    other = interpreters.create()
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    failed = run(other, code)
    sys.stdout.flush()
import stockade
print(stockade.run(["true"]).verdict.name)
"""


@pytest.mark.parametrize("first", [True, False])
def test_a_subinterpreter_is_refused(first: bool) -> None:
    code = SUBINTERPRETER.format(package=PACKAGE, first=first)
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if done.stderr.strip() == "none":
        pytest.skip("this interpreter has no module for subinterpreters")
    lines = done.stdout.splitlines()
    assert lines[-1] == "OK", done.stdout + done.stderr
    assert len(lines) == 3
    for line in lines[:-1]:
        assert "subinterpreters" in line, done.stdout + done.stderr
