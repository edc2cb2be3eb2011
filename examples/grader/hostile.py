"""What makes a function of `attacks` or `forgeries` a hostile solution, and what it must come to."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import stockade
from stockade import Verdict

from .grade import SOLUTION_LIMITS, Grade
from .problems import Problem

LOOT = "LOOT!"
"""What an attack reports when it has got at something, and what the host's bait contains."""

MAX_PIDS = 16

HOSTILE_LIMITS: stockade.Options = SOLUTION_LIMITS | {"cpu_time": 1, "wall_time": 40, "pids": MAX_PIDS}
"""As for solutions, with less CPU time, since many attacks use it up, and time enough to do so on a busy machine."""

WAITING_LIMITS: stockade.Options = HOSTILE_LIMITS | {"wall_time": 2}
"""For those that only wait."""

When = Literal["call", "load", "right"]


@dataclass(frozen=True)
class Attack:
    """A hostile solution and the end it must come to. None may pass."""

    function: Callable[..., Any]
    verdict: Verdict
    """How the candidate's sandbox must end."""
    reason: str
    """How the grade's reason must start."""
    unless_enforced: Verdict | None = None
    """How it may end instead where the memory limit is only approximated."""
    when: When = "call"
    """Whether the function is the solution ("call"), runs once before a solution that returns None ("load"), or runs
    once beside the right solution ("right")."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.function.__name__.replace("_", " ")

    @property
    def limits(self) -> stockade.Options:
        """What it may use."""
        return WAITING_LIMITS if self.verdict is Verdict.WALL_TIME_LIMIT else HOSTILE_LIMITS

    def source(self, problem: Problem) -> str:
        """The attack as a solution of `problem`."""
        attack, entry = self.function.__name__, problem.entry_point
        body = standalone(self.function)
        if self.when == "call":
            return f"{body}\n{entry} = {attack}\n"
        if self.when == "load":
            return f"{body}\n{attack}()\n\ndef {entry}(*args):\n    return None\n"
        return f"{problem.solution}\n{body}\n{attack}()\n"

    def fault(self, grade: Grade) -> str | None:
        """What is wrong with how it ended, if anything."""
        if grade.passed:
            return "PASSED"
        if LOOT.encode() in grade.transcript:
            return "got at what it must not"
        allowed = {self.verdict}
        if self.unless_enforced and grade.candidate.enforcement["memory"].status != "enforced":
            allowed.add(self.unless_enforced)
        if grade.candidate.verdict not in allowed:
            usage = grade.candidate.usage
            used = f"after {usage.cpu_time:.2f} s of CPU time, {usage.wall_time:.2f} s"
            return f"{grade.candidate.verdict.name} instead of {self.verdict.name}, {used}"
        if not grade.reason.startswith(self.reason):
            return f"`{grade.reason}` instead of `{self.reason}`"
        peak = grade.candidate.usage.pids_peak
        if peak is not None and peak > MAX_PIDS:
            return f"{peak} processes at one time"
        return None


ATTACKS: list[Attack] = []
"""Every attack, once `attacks` and `forgeries` are imported."""


def attack(
    verdict: Verdict, reason: str, *, when: When = "call", unless_enforced: Verdict | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes the function an attack that must end as said."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        ATTACKS.append(Attack(function, verdict, reason, unless_enforced, when))
        return function

    return register


def standalone(function: Callable[..., Any]) -> str:
    """The function's own source, with the imports and the helpers of its module that it names."""
    tree = ast.parse(inspect.getsource(function))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list.clear()
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    parts = [ast.unparse(tree)]
    module = vars(sys.modules[function.__module__])
    for name in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {function.__name__}):
        value = module.get(name)
        if inspect.ismodule(value):
            parts.insert(0, f"import {name}")
        elif inspect.isfunction(value):
            parts.insert(0, standalone(value))
        elif isinstance(value, str):
            parts.insert(0, f"{name} = {value!r}")
    return "\n".join(parts) + "\n"
