"""What the demo shows: a progress bar while it runs, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TextIO

from .grade import Grade


class Progress:
    """A bar on a terminal; elsewhere a line for every tenth."""

    WIDTH = 40

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        """Starts at 0 of `total`."""
        self._total, self._done, self._faults = total, 0, 0
        self._stream, self._live = stream, stream.isatty()
        self._started = time.monotonic()
        self._show()

    def step(self, fault: bool) -> None:
        """One more is done."""
        self._done += 1
        self._faults += fault
        if self._live or self._done * 10 // self._total != (self._done - 1) * 10 // self._total:
            self._show()

    def _show(self) -> None:
        filled = self.WIDTH * self._done // self._total
        bar = "#" * filled + "." * (self.WIDTH - filled)
        seconds = time.monotonic() - self._started
        text = f"[{bar}] {self._done}/{self._total} graded, {self._faults} not as expected, {seconds:.0f} s"
        end = "\n" if not self._live or self._done == self._total else ""
        print(f"\r{text}" if self._live else text, end=end, file=self._stream, flush=True)


@dataclass
class Row:
    """One category of the table."""

    category: str
    runs: int = 0
    passed: int = 0
    right: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, grade: Grade, fault: str | None) -> None:
        """Counts one grade."""
        self.runs += 1
        self.passed += grade.passed
        self.right += fault is None
        self.verdicts[grade.candidate.verdict.name] += 1
        self.seconds.append(grade.seconds)

    def line(self, width: int) -> str:
        """The row as text."""
        verdicts = ", ".join(f"{name} {count}" for name, count in self.verdicts.most_common())
        times = f"{percentile(self.seconds, 50) * 1e3:8.0f} {percentile(self.seconds, 99) * 1e3:8.0f}"
        return f"{self.category:<{width}} {self.runs:>6} {self.right:>6} {self.passed:>6} {times}  {verdicts}"


def percentile(values: list[float], percent: int) -> float:
    """The smallest of `values` that at least `percent` percent of them do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def table(rows: list[Row]) -> str:
    """All categories and their sum."""
    total = Row("all")
    for row in rows:
        total.runs += row.runs
        total.passed += row.passed
        total.right += row.right
        total.verdicts += row.verdicts
        total.seconds += row.seconds
    width = max(len(row.category) for row in rows)
    head = f"{'category':<{width}} {'graded':>6} {'right':>6} {'passed':>6} {'p50 ms':>8} {'p99 ms':>8}  "
    lines = [row.line(width) for row in rows]
    rule = "-" * max(map(len, [head, *lines]))
    return "\n".join([head + "verdicts of the candidate's sandbox", rule, *lines, rule, total.line(width)])
