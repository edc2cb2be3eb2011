"""Runs inside the checker's sandbox: the hidden tests, with a stand-in for the candidate.

Standard input brings one line with the tests and a nonce, and then one answer for each call that this program writes
to standard output. An answer is a claim of the candidate's, carried as plain data. The last line says how the tests
ended; "passed" is said with the nonce, which the candidate has never seen, and only when `check` has returned.
"""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any, NoReturn

import plain

RAISABLE = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "BufferError",
        "EOFError",
        "FloatingPointError",
        "ImportError",
        "IndexError",
        "KeyError",
        "LookupError",
        "MemoryError",
        "NameError",
        "NotImplementedError",
        "OSError",
        "OverflowError",
        "RecursionError",
        "RuntimeError",
        "StopIteration",
        "TypeError",
        "UnboundLocalError",
        "UnicodeDecodeError",
        "UnicodeEncodeError",
        "UnicodeError",
        "ValueError",
        "ZeroDivisionError",
    }
)
"""The exceptions that a test may mean to catch. A candidate that raises any other raises `CandidateError` here."""


class CandidateError(Exception):
    """The candidate raised something of its own, or is gone, or answered with what is no answer."""


class Candidate:
    """What the tests call: sends each call out and gives back what the candidate claims."""

    def __init__(self, channel: Any) -> None:
        """`channel` takes calls and gives answers."""
        self._channel = channel

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One call of the candidate."""
        self._channel.send({"call": plain.encode((args, kwargs))})
        answer = self._channel.receive()
        if answer is None:
            raise CandidateError("the candidate is gone")
        if "raised" in answer:
            raise exception(answer["raised"])
        return plain.decode(answer["value"])


def exception(name: Any) -> Exception:
    """An exception of the builtin type `name`, if that is one a test may catch."""
    if name not in RAISABLE:
        return CandidateError(f"the candidate raised {name}")
    if name in ("UnicodeDecodeError", "UnicodeEncodeError"):
        name = "UnicodeError"  # these two can't be made from a message alone
    made: Exception = getattr(builtins, name)("raised by the candidate")
    return made


class Channel:
    """Lines of JSON over the standard streams, which are then closed to the tests: they print to standard error."""

    def __init__(self) -> None:
        """Takes over descriptors 0 and 1."""
        self._input = os.fdopen(os.dup(0), "rb")
        self._output = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def send(self, message: Any) -> None:
        """Writes one line."""
        self._output.write(plain.dumps(message))
        self._output.flush()

    def receive(self) -> Any:
        """Reads one line; None at the end."""
        line = self._input.readline()
        return plain.loads(line) if line else None


def main() -> NoReturn:
    """Runs the tests; exit status 0 if they pass, 1 if not."""
    channel = Channel()
    start = channel.receive()
    nonce = start["nonce"]
    candidate = Candidate(channel)
    # Some tests call helpers that the prompt defines (`poly`, `encode_shift`, `encode_cyclic`), and one calls the
    # candidate by its own name. All text here is the data set's.
    tests: dict[str, Any] = {"__name__": "tests"}
    exec(compile(start["prompt"], "prompt.py", "exec"), tests)
    tests[start["entry_point"]] = candidate
    exec(compile(start["test"], "test.py", "exec"), tests)
    try:
        tests["check"](candidate)
    except BaseException as error:
        channel.send({"failed": f"{type(error).__name__}: {error}"[:200]})
        sys.exit(1)
    channel.send({"passed": nonce})
    sys.exit(0)


if __name__ == "__main__":
    main()
