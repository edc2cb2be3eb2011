"""Grading one solution: two sandboxes, and the host in between."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass

import stockade

from . import plain
from .channel import Misbehaved, Peer
from .problems import Problem

SOLUTION_LIMITS: stockade.Options = {
    "cpu_time": 2,
    "wall_time": 20,
    "memory": "256m",
    "pids": 16,
    "output": "256k",
    "file_size": "16m",
    "disk": "16m",
    "inodes": 256,
    "open_files": 64,
}
"""What a solution may use."""

CHECKER_WALL_TIME = 60
"""How long the checker may take: longer than any candidate, or the checker's end would hide the candidate's."""

CHECKER_SILENT = "checker: ended without a word"


@dataclass(frozen=True)
class Grade:
    """What came of one solution."""

    passed: bool
    """Whether the tests passed, within the limits and the protocol. Says the checker, never the candidate."""
    reason: str
    """Why not, in a few words."""
    candidate: stockade.Outcome[bytes]
    checker: stockade.Outcome[bytes]
    transcript: bytes
    """Everything that came out of the candidate's sandbox."""
    seconds: float
    """From the start of the first sandbox to the end of the second."""


def claim(line: bytes) -> bytes:
    """`line`, from the candidate, as a message that the checker can take. Raises `Misbehaved` if it is none."""
    try:
        message = plain.loads(line)
        if isinstance(message, dict) and len(message) == 1:
            if isinstance(message.get("raised"), str):
                return plain.dumps(message)
            if "value" in message:
                # Not decoded here: building a set or dict from hostile keys can take hours. The checker decodes it,
                # under its own limits.
                return plain.dumps(message)
    except (plain.NotPlain, RecursionError) as error:
        raise Misbehaved(f"sent no answer: {error}") from None
    raise Misbehaved("sent no answer")


async def relay(candidate: Peer, checker: Peer, nonce: str) -> tuple[bool, str]:
    """Carries calls one way and claims the other until one side ends: whether the tests passed, and why not."""
    while (line := await checker.receive()) is not None:
        message = plain.loads(line)
        if "call" in message:
            candidate.expect_silence()
            await candidate.send(line)
            answer = await candidate.receive()
            if answer is None:
                return False, "candidate: ended without an answer"
            await checker.send(claim(answer))
        elif "passed" in message:
            return hmac.compare_digest(message["passed"], nonce), "checker: wrong nonce"
        else:
            return False, f"tests: {message['failed']}"
    return False, CHECKER_SILENT


async def grade(problem: Problem, source: str, limits: stockade.Options = SOLUTION_LIMITS) -> Grade:
    """Runs `problem`'s tests against `source`, which may be hostile."""
    started = time.monotonic()
    nonce = secrets.token_hex(16)
    candidate = Peer("serve.py", limits)
    try:
        checker = Peer("check.py", limits | {"wall_time": CHECKER_WALL_TIME})
    except BaseException:
        candidate.kill()
        raise
    try:
        await candidate.send(plain.dumps({"source": source, "entry_point": problem.entry_point}))
        tests = {"prompt": problem.prompt, "test": problem.test, "entry_point": problem.entry_point}
        await checker.send(plain.dumps({"nonce": nonce, **tests}))
        try:
            passed, reason = await relay(candidate, checker, nonce)
            await candidate.hang_up()
        except Misbehaved as error:
            passed, reason = False, f"candidate: {error}"
            candidate.kill()
        ended, checked = await asyncio.gather(candidate.outcome(), checker.outcome())
    except BaseException:
        candidate.kill()
        checker.kill()
        raise
    silent = reason == CHECKER_SILENT
    if (passed or silent) and checked.verdict is not stockade.Verdict.OK:
        passed, reason = False, f"checker: {checked.verdict.name}"
    if passed and ended.verdict is not stockade.Verdict.OK:
        passed, reason = False, f"candidate: {ended.verdict.name}"
    transcript = bytes(candidate.transcript) + ended.stderr
    return Grade(passed, "" if passed else reason, ended, checked, transcript, time.monotonic() - started)
