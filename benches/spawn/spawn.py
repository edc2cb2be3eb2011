"""The driver in Python: times whole calls of the library beside `subprocess.run` of the same program.

Takes what main.rs takes, and prints what it prints. HOLD_MIB in the environment makes the process hold that much
touched memory first.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import stockade

WARM = 10
SLICE = 0.5
SLICES = 4


def latency(count: int, series: dict[str, Callable[[], None]]) -> None:
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


def rate(callers: int, series: dict[str, Callable[[], None]]) -> None:
    rates = dict.fromkeys(series, 0.0)
    for _ in range(SLICES):
        for name, call in series.items():
            runs = [0] * callers
            start = time.perf_counter()

            def work(index: int) -> None:
                while time.perf_counter() - start < SLICE:
                    call()
                    runs[index] += 1

            threads = [threading.Thread(target=work, args=(index,)) for index in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rates[name] += sum(runs) / (time.perf_counter() - start) / SLICES
    for name, value in rates.items():
        print(name, f"{value:.1f}")


def command(line: str) -> Callable[[], None]:
    args = line.split(" ")

    def call() -> None:
        subprocess.run(args, capture_output=True, check=True)

    return call


def main() -> None:
    mode, number, spec_json, plain, *peer = sys.argv[1:]
    held = bytearray(b"\1") * (int(os.environ.get("HOLD_MIB", "0")) << 20)
    spec = json.loads(spec_json)
    args = spec.pop("args")

    def sandboxed() -> None:
        outcome = stockade.run(args, **spec)
        if outcome.returncode != 0:
            raise SystemExit(f"{outcome.verdict}: {outcome.message}")

    series = {"plain": command(plain), "stockade": sandboxed}
    if peer:
        series["bubblewrap"] = command(peer[0])
    {"latency": latency, "rate": rate}[mode](int(number), series)
    del held


main()
