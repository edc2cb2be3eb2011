"""What this host can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stockade import _stockade


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` looked at.

    Attributes:
        name: what was looked at: "user namespace".
        status: "ok": it works; "degraded": it does not, and stockade works with less; "missing": it does not, and
            stockade cannot run programs without it.
        detail: what was found, in words: "works", "ABI 7", "EPERM: ...".
        fix: the exact command or text that mends it, or None.
    """

    name: str
    status: Literal["ok", "degraded", "missing"]
    detail: str
    fix: str | None


def doctor() -> list[Check]:
    """Look at what this host can do and how to mend what it lacks. Changes nothing; takes some milliseconds.

    >>> all(check.fix for check in doctor() if check.status == "missing")
    True
    """
    return [Check(*check) for check in _stockade.doctor()]
