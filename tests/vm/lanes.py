#!/usr/bin/env python3
"""Runs the Rust tests in virtual machines: one lane for each kernel and each place in the guest's cgroups.

tests/vm/lanes.py --programs DIRECTORY [--truth DIRECTORY] [--kernel K]... [--shape S[:TESTS]]... [-- TEST_ARGUMENT...]
tests/vm/lanes.py --kernel K --shape S --run -- COMMAND [ARGUMENT...]

Every lane is run, whatever fails; the table at the end counts and names what was skipped and what failed.
"""

import argparse
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import SENT, SHAPES, VmError, run

HERE = Path(__file__).resolve().parent
# Emulation makes system calls 3 times as slow, and the start of a program 65 times: counts go down, bounds on time up.
SLOW = {
    "STOCKADE_SUITE_RUNS": "100",
    "STOCKADE_SUITE_KILLS": "15",
    "STOCKADE_SUITE_SLOWNESS": "8",
    "STOCKADE_SUITE_OWN_CLOCK": "1",
}
LANE_SECONDS = 1200
# The suite, and the unit tests.
PROGRAMS = ("suite", "stockade")
# Shapes with tests of their own, which run the command line: the script, and what it needs beside that.
SCRIPTS = {"ladder": ("ladder.py", ("guest",)), "apparmor": ("apparmor.py", ("apparmor", "python"))}


@dataclass
class Lane:
    """One run of the tests, of those whose names hold `only`, and what came of it."""

    kernel: str
    shape: str
    only: str = ""
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    truth: list[str] = field(default_factory=list)
    seconds: float = 0
    error: str = ""

    def read(self, text: str) -> None:
        """Takes the names out of what the tests said."""
        for name, word in re.findall(r"^test (\S+) \.\.\. .*?(ok|FAILED)$", text, re.MULTILINE):
            (self.passed if word == "ok" else self.failed).add(name)
        for name, why in re.findall(r"skipped: (\S+): (.*)", text):
            scenario = re.match(r"(scenario `.*?`): (.*)", why)
            what, why = scenario.groups() if scenario else (name, why)
            self.skipped[what] = why
        self.passed -= self.skipped.keys()
        self.truth = re.findall(r"^truth: .*", text, re.MULTILINE)
        if text.count("\ntest result: ") != len(self.programs):
            self.error = self.error or "a test program did not come to its end"

    @property
    def name(self) -> str:
        """As in SHAPE[:TESTS]."""
        return f"{self.shape}:{self.only}" if self.only else self.shape

    @property
    def arguments(self) -> list[str]:
        """The test program's, for the words of `only`: tests to run, and behind a minus sign those to leave out."""
        words = self.only.split(",") if self.only else []
        return [part for word in words for part in (["--skip", word[1:]] if word.startswith("-") else [word])]

    @property
    def programs(self) -> tuple[str, ...]:
        """What is run."""
        return (SCRIPTS[self.shape][0],) if self.shape in SCRIPTS else PROGRAMS

    @property
    def good(self) -> bool:
        return not self.failed and not self.error


def show(_: int, data: bytes) -> None:
    """Passes on what a machine says."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def run_lane(lane: Lane, options: argparse.Namespace) -> None:
    """Runs the tests in one lane, passing on what they say."""
    said = {1: b"", 2: b""}

    def listen(stream: int, data: bytes) -> None:
        said[stream] += data
        show(stream, data)

    if lane.shape in SCRIPTS:
        script, more = SCRIPTS[lane.shape]
        files = {name: HERE / name for name in (script, "checks.py")}
        files |= {name: options.programs / name for name in ("stockade-cli", *more)}
    else:
        files = {name: options.programs / name for name in (*PROGRAMS, "guest")}
        files["tests/scenarios.json"] = HERE.parent / "scenarios.json"
    env = {"CARGO_MANIFEST_DIR": SENT, "STOCKADE_SUITE_GUEST": f"{SENT}/guest", **SLOW}
    start = time.monotonic()
    try:
        place = {"kernel": lane.kernel, "shape": lane.shape}
        script = f'status=0; for p in {" ".join(lane.programs)}; do ./$p "$@" || status=1; done; exit $status'
        command = ["sh", "-c", script, "-", *lane.arguments, *options.command]
        run(command, **place, files=files, env=env, timeout=LANE_SECONDS, on_output=listen)
    except VmError as error:
        lane.error = str(error)
    lane.seconds = time.monotonic() - start
    lane.read(b"\n".join(said.values()).decode(errors="replace"))


def keep_truth(directory: Path, lane: Lane) -> None:
    """Keeps what the tests said of each limit, for truth.py."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{lane.shape}-{lane.kernel}").write_text("\n".join(lane.truth) + "\n")


def report(lanes: list[Lane]) -> None:
    """The table, and the names behind its numbers."""
    print(f"\n{'kernel':20} {'shape':12} {'passed':>6} {'skipped':>7} {'failed':>6} {'seconds':>7}")
    for lane in lanes:
        numbers = f"{len(lane.passed):6} {len(lane.skipped):7} {len(lane.failed):6} {lane.seconds:7.0f}"
        print(f"{lane.kernel:20} {lane.name:12} {numbers}  {lane.error.splitlines()[0] if lane.error else ''}")
    for lane in lanes:
        for what, why in sorted(lane.skipped.items()):
            print(f"skipped: {lane.kernel} {lane.name}: {what}: {why}")
    for lane in lanes:
        for what in sorted(lane.failed):
            print(f"FAILED: {lane.kernel} {lane.name}: {what}")
        if lane.error:
            print(f"FAILED: {lane.kernel} {lane.name}: {lane.error.splitlines()[0]}")
    # The last line counts what the lanes ran, a lane that did not come to its end as one failure.
    passed, skipped = sum(len(lane.passed) for lane in lanes), sum(len(lane.skipped) for lane in lanes)
    failed = sum(len(lane.failed) + bool(lane.error) for lane in lanes)
    print(f"\nIn all {len(lanes)} lanes:\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", required=True, help="Debian suite that the kernel is from")
    parser.add_argument("--shape", action="append", required=True, help="SHAPE[:TESTS], of " + ", ".join(SHAPES))
    parser.add_argument("--programs", type=Path, help="directory of what run.sh has built")
    parser.add_argument("--truth", type=Path, help="directory to keep what was said of each limit in, for truth.py")
    parser.add_argument("--run", action="store_true", help="run this command instead of the tests")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no machine is left running
    lanes = [Lane(kernel, *shape.split(":", 1)) for kernel in options.kernel for shape in options.shape]
    for lane in lanes:
        if lane.shape not in SHAPES:
            parser.error(f"no shape `{lane.shape}`; there are {', '.join(SHAPES)}")
    if options.run:
        kernel, shape = lanes[0].kernel, lanes[0].shape
        seconds = LANE_SECONDS
        return run(options.command, kernel=kernel, shape=shape, files={}, env={}, timeout=seconds, on_output=show)
    for lane in lanes:
        print(f"\n==== {lane.kernel}, {lane.name}", flush=True)
        run_lane(lane, options)
        if options.truth and lane.truth:
            keep_truth(options.truth, lane)
    report(lanes)
    return 0 if all(lane.good for lane in lanes) else 1


if __name__ == "__main__":
    sys.exit(main())
