# ruff: noqa: T201
"""The driver in Python: time whole calls of the library beside `subprocess.run` of the same program.

Takes what main.rs takes, and prints what it prints; with `held` for the mode it prints what holds the limits. HOLD_MIB
in the environment makes the process hold that much touched memory first.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import stockade

WARM = 10
SLICE = 0.5
SLICES = 4


def latency(count: int, series: dict[str, Callable[[], object]]) -> None:
    """Print how long each call took, in nanoseconds."""
    times: dict[str, list[int]] = {name: [] for name in series}
    for turn in range(WARM + count):
        for name, call in series.items():
            start = time.perf_counter_ns()
            call()
            spent = time.perf_counter_ns() - start
            if turn >= WARM:
                times[name].append(spent)
    for name, spent_of in times.items():
        print(name, *spent_of)


def calls_until(call: Callable[[], object], end: float) -> int:
    """How often it could be called."""
    runs = 0
    while time.perf_counter() < end:
        call()
        runs += 1
    return runs


def rate(callers: int, series: dict[str, Callable[[], object]]) -> None:
    """Print how many calls there are in a second."""
    rates = dict.fromkeys(series, 0.0)
    for _ in range(SLICES):
        for name, call in series.items():
            start = time.perf_counter()
            with ThreadPoolExecutor(callers) as pool:
                runs = sum(pool.map(calls_until, [call] * callers, [start + SLICE] * callers))
            rates[name] += runs / (time.perf_counter() - start) / SLICES
    for name, value in rates.items():
        print(name, f"{value:.1f}")


def command(line: str) -> Callable[[], object]:
    """A call of `subprocess.run`."""
    args = line.split(" ")

    def call() -> None:
        subprocess.run(args, capture_output=True, check=True)

    return call


def main() -> None:
    """Measure what the arguments say."""
    mode, number, spec_json, plain, *peer = sys.argv[1:]
    held = bytearray(b"\1") * (int(os.environ.get("HOLD_MIB", "0")) << 20)
    spec = json.loads(spec_json)
    args = spec.pop("args")

    def sandboxed() -> stockade.Outcome[bytes]:
        return stockade.run(args, check=True, **spec)

    if mode == "held":
        enforcement = sandboxed().enforcement
        print(json.dumps({name: enforcement[name].by for name in ("memory", "pids", "cpu_time", "wall_time")}))
        return
    series: dict[str, Callable[[], object]] = {"plain": command(plain), "stockade": sandboxed}
    if peer:
        series["bubblewrap"] = command(peer[0])
    {"latency": latency, "rate": rate}[mode](int(number), series)
    del held


main()
