"""Runs inside the candidate's sandbox: loads the candidate and answers calls to it.

Standard input brings one line with the candidate's source and then one line per call; standard output takes one line
per answer. The candidate shares this process and may do to it whatever it likes. That is taken for granted: whoever
reads the answers must treat each as a claim and no more. What the candidate prints goes to standard error, so that an
honest one cannot spoil the answers by accident.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import plain

CHANNEL_LOST = 3
"""Exit status when the candidate has closed or broken the channel."""


def private_channel() -> tuple[int, int]:
    """Moves the two pipes away from descriptors 0 and 1: reads find an end of file, prints go to standard error."""
    calls, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return calls, answers


def answer(function: Any, call: Any) -> bytes:
    """Calls the candidate; the line that says what came of it."""
    try:
        args, kwargs = plain.decode(call)
        result = function(*args, **kwargs)
    except BaseException as error:
        return plain.dumps({"raised": type(error).__name__[:100]})
    try:
        return plain.dumps({"value": plain.encode(result)})
    except (plain.NotPlain, RecursionError) as error:
        print(f"the result cannot be sent: {error}", file=sys.stderr)
        return plain.dumps({"raised": "TypeError"})


def main() -> None:
    """Serves until standard input ends."""
    calls, answers = private_channel()
    lines = os.fdopen(calls, "rb")
    start = plain.loads(lines.readline())
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    exec(compile(start["source"], "candidate.py", "exec"), module.__dict__)
    function = module.__dict__[start["entry_point"]]
    for line in lines:
        reply = answer(function, plain.loads(line)["call"])
        while reply:
            reply = reply[os.write(answers, reply) :]
    # Not sys.exit: threads and exit handlers of the candidate's have no say in when this ends.
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except OSError:
        os._exit(CHANNEL_LOST)
