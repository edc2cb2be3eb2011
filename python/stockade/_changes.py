"""What has become of paths."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """One path that differs from what a sandbox was started with, or from another image."""

    kind: str
    """"A": it was not there; "C": it, or something below it, may differ; "D": it is no longer there."""
    path: str
    """The absolute path inside."""
