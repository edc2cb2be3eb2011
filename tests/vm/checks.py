"""What the lanes have in common that are no Rust tests: their output is that of Rust's."""

import subprocess
import sys
import traceback
from collections.abc import Callable

TESTS: list[Callable[[], None]] = []


class Skip(Exception):  # noqa: N818 (it is none)
    """The machine has not what a test needs."""


def test(function: Callable[[], None]) -> Callable[[], None]:
    """Marks a test; they run in this order."""
    TESTS.append(function)
    return function


def sh(command: str) -> str:
    """A shell command as root, which must succeed."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def says(text: str, *words: str) -> None:
    """All of these are in it."""
    for word in words:
        assert word in text, text


def main(module: str) -> int:
    """Runs them."""
    failed = []
    print(f"\nrunning {len(TESTS)} tests")
    for one in TESTS:
        name = f"{module}::{one.__name__}"
        word = "ok"
        try:
            one()
        except Skip as why:
            print(f"skipped: {name}: {why}")
        except Exception:
            failed.append(name)
            word = "FAILED"
            traceback.print_exc(file=sys.stdout)
        print(f"test {name} ... {word}", flush=True)
    result = "FAILED" if failed else "ok"
    print(f"\ntest result: {result}. {len(TESTS) - len(failed)} passed; {len(failed)} failed; 0 ignored", flush=True)
    return 1 if failed else 0
