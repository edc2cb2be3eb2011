# ruff: noqa: T201
"""Measure the whole call for a program that does nothing and print one table with the targets beside it.

Every series of a row is measured in turns with the others in the same process, so ratios hold on a machine whose
speed changes from minute to minute; milliseconds do not travel. `make bench` builds what this needs.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# What docs/architecture.md sets as the goal: a ratio to the plain call of the row at most, runs per second at least.
TARGETS = {
    ("C", "dynamic"): 2.0,
    ("Rust", "dynamic"): 2.0,
    ("C", "static"): 3.5,
    ("Rust", "static"): 3.5,
    ("Python", "dynamic"): 2.5,
    ("Python 2 GiB", "dynamic"): 2.5,
}
TARGET_RATE = 1500.0  # 8 callers, 2 processors
TARGET_TAIL = 3.0  # p99 to median
TARGET_PEER = 1 / 3  # of bubblewrap's median

LIMITS: dict[str, object] = {"memory": "64m", "pids": 16, "cpu_time": 5, "wall_time": 20}


def bubblewrap(payload: str, volume: str | None) -> str | None:
    """The command line that comes nearest: the same namespaces and mounts, without filter and limits."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    line = f"{program} --unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL --ro-bind /usr /usr"
    for directory in ("bin", "lib", "lib64", "sbin"):
        if Path("/", directory).is_symlink():
            line += f" --symlink usr/{directory} /{directory}"
        elif Path("/", directory).exists():
            line += f" --ro-bind /{directory} /{directory}"
    line += " --proc /proc --dev /dev --tmpfs /tmp --tmpfs /work --chdir /work"
    if volume is not None:
        host, inside, _ = volume.split(":")
        line += f" --ro-bind {host} {inside}"
    return f"{line} -- {payload}"


def build(library: Path, directory: Path) -> tuple[Path, Path]:
    """The driver in C, linked with the static library, and the static payload."""
    directory.mkdir(parents=True, exist_ok=True)
    driver, payload = directory / "spawn", directory / "true"
    compile_c = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-pthread"]
    include = HERE.parent.parent / "include"
    subprocess.run(
        [*compile_c, f"-I{include}", "-o", driver, HERE / "spawn.c", library, "-lm", "-ldl", "-lgcc_s"], check=True
    )
    subprocess.run([*compile_c, "-static", "-o", payload, HERE / "true.c"], check=True)
    return driver.resolve(), payload.resolve()


class Bench:
    """All rows of the tables, and which targets they miss."""

    def __init__(self, drivers: dict[str, list[str]], count: int, static: Path) -> None:
        self.drivers = drivers
        self.count = count
        volume = f"{static.parent}:/bench:ro"
        self.payloads: dict[str, tuple[str, str, str | None]] = {
            "dynamic": ("/bin/true", "/bin/true", None),
            "static": (str(static), f"/bench/{static.name}", volume),
        }
        self.missed: list[str] = []

    def held_by(self) -> dict[str, str]:
        """What holds the limits here, without which no figure means anything."""
        command = [*self.drivers["Python"], "held", "0", json.dumps({"args": ["/bin/true"], **LIMITS}), ""]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        held: dict[str, str] = json.loads(out)
        return held

    def driver(self, caller: str, mode: str, number: int, payload: str) -> dict[str, list[float]]:
        """The figures of each series of one driver."""
        outside, inside, volume = self.payloads[payload]
        spec: dict[str, object] = {"args": [inside], **LIMITS}
        if volume is not None:
            spec["volumes"] = [volume]
        command = [*self.drivers[caller.split()[0]], mode, str(number), json.dumps(spec), outside]
        peer = bubblewrap(inside, volume)
        if peer is not None:
            command.append(peer)
        env = {**os.environ, "HOLD_MIB": "2048" if caller.endswith("2 GiB") else "0"}
        out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        return {name: [float(x) for x in rest] for name, *rest in map(str.split, out.splitlines())}

    def judge(self, what: str, found: float, target: float | None, at_most: bool = True) -> str:
        """A figure for the table with the target beside it."""
        if target is None:
            return f"{found:.2f}" if found < 100 else f"{found:.0f}"
        met = found <= target if at_most else found >= target
        if not met:
            self.missed.append(what)
        figure = f"{found:.2f}" if found < 100 else f"{found:.0f}"
        sign = "<=" if at_most else ">="
        limit = f"{target:.2f}" if target < 100 else f"{target:.0f}"
        return f"{figure} ({sign} {limit}{'' if met else ' MISSED'})"

    def latency(self, caller: str, payload: str) -> list[str]:
        """A row: how long one whole call takes."""
        times = self.driver(caller, "latency", self.count, payload)
        p50 = {name: statistics.median(values) / 1e3 for name, values in times.items()}
        p99 = {name: statistics.quantiles(values, n=100)[98] / 1e3 for name, values in times.items()}
        name = f"{caller}, {payload}"
        row = [caller, payload, f"{p50['plain']:.0f} / {p99['plain']:.0f}"]
        row.append(f"{p50['stockade']:.0f} / {p99['stockade']:.0f}")
        row.append(self.judge(f"{name}: ratio", p50["stockade"] / p50["plain"], TARGETS.get((caller, payload))))
        row.append(self.judge(f"{name}: p99", p99["stockade"] / p50["stockade"], TARGET_TAIL))
        if "bubblewrap" not in p50:
            return [*row, "-", "-"]
        row.append(f"{p50['bubblewrap']:.0f} / {p99['bubblewrap']:.0f}")
        return [*row, self.judge(f"{name}: to bubblewrap", p50["stockade"] / p50["bubblewrap"], TARGET_PEER)]

    def rate(self, caller: str, callers: int) -> list[str]:
        """A row: how many calls there are in a second."""
        rates = {name: values[0] for name, values in self.driver(caller, "rate", callers, "dynamic").items()}
        target = TARGET_RATE if callers == 8 and caller != "Python" else None
        row = [caller, str(callers), f"{rates['plain']:.0f}"]
        row.append(self.judge(f"{caller}, {callers} callers: rate", rates["stockade"], target, at_most=False))
        row.append(f"{rates['stockade'] / rates['plain']:.2f}")
        return [*row, f"{rates['bubblewrap']:.0f}" if "bubblewrap" in rates else "-"]


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


def main() -> int:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True, type=Path, help="libstockade.a")
    parser.add_argument("--count", type=int, default=500, help="calls per series (default 500)")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    driver, payload = build(options.library, HERE.parent.parent / "build" / "bench")
    drivers = {
        "C": [str(driver)],
        "Rust": ["cargo", "bench", "--quiet", "--locked", "--bench", "spawn", "--"],
        "Python": [sys.executable, str(HERE / "spawn.py")],
    }
    bench = Bench(drivers, options.count, payload)
    user = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, {user}")
    print("limits:", ", ".join(f"{name} {value}" for name, value in LIMITS.items()))
    for name, by in bench.held_by().items():
        print(f"  {name}: {by.split(': ')[0]}")
    print(f"load at the start {os.getloadavg()[0]:.2f}; plain is posix_spawn and wait, in Python subprocess.run\n")
    callers = ["C", "Rust", "Python", "Python 2 GiB"]
    latencies = [bench.latency(caller, payload) for caller in callers for payload in ("dynamic", "static")]
    head = ["caller", "payload", "plain p50 / p99 us", "stockade p50 / p99 us", "to plain", "p99 to p50"]
    table([*head, "bubblewrap p50 / p99 us", "to bubblewrap"], latencies)
    rates = [bench.rate(caller, number) for caller in ("C", "Rust", "Python") for number in (1, 2, 8)]
    table(["caller", "callers", "plain runs/s", "stockade runs/s", "to plain", "bubblewrap runs/s"], rates)
    for what in bench.missed:
        print(f"target missed: {what}")
    return 1 if bench.missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
