"""What several test modules use."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path


class Sleeper:
    """A program that runs for long and can be told from every other process of the host."""

    def __init__(self) -> None:
        # sleep sums its arguments: the second one makes it unique and short enough to matter to nobody.
        self.mark = f"0.{uuid.uuid4().int % 10**18:018d}"
        self.args = ["sleep", "300", self.mark]
        self.shell = f"sleep 300 {self.mark}"

    def count(self) -> int:
        """How many processes of the host have the mark in their command line."""
        found = 0
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    found += self.mark.encode() in Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
        return found

    def wait_until(self, count: int) -> None:
        """Wait until so many run."""
        wait_until(lambda: self.count() == count, f"{count} sleepers, not {self.count()}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that comes true soon."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)
