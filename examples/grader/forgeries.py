"""Hostile solutions that end, answer or forge in a way that ought to look like success. See also `attacks`."""

from __future__ import annotations

import builtins
import ctypes
import fcntl
import json
import os
import signal
import stat
import sys
import time
from typing import Any

from stockade import Verdict

from .hostile import attack

TESTS = "tests: "
NO_ANSWER = "candidate: ended without an answer"
BAD_ANSWER = "candidate: sent no answer"
TOO_LONG = "candidate: wrote too long a line"
BROKE_OFF = "candidate: broke off"
OUT_OF_TURN = "candidate: spoke out of turn"

# ---- helpers that attacks may name


def channel() -> int:
    """The descriptor on which the server writes its answers."""
    for fd in range(3, 64):
        try:
            writes = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            if writes and stat.S_ISFIFO(os.fstat(fd).st_mode):
                return fd
        except OSError:
            pass
    raise LookupError("no channel")


def say(line: bytes) -> None:
    """Writes one line where the server writes its answers."""
    os.write(channel(), line + b"\n")


# ---- ending


@attack(Verdict.OK, NO_ANSWER)
def exits_with_success(*_: Any) -> Any:
    os._exit(0)


@attack(Verdict.OK, NO_ANSWER, when="load")
def exits_with_success_when_loaded() -> Any:
    os._exit(0)


@attack(Verdict.OK, TESTS)
def raises_system_exit(*_: Any) -> Any:
    sys.exit(0)


@attack(Verdict.SIGNALED, NO_ANSWER)
def crashes(*_: Any) -> Any:
    ctypes.string_at(0)


@attack(Verdict.NONZERO_EXIT, TESTS, when="load")
def breaks_its_exit() -> Any:
    leave = os._exit
    os._exit = lambda status: leave(7)


@attack(Verdict.OK, TESTS)
def kills_all_it_can(*_: Any) -> Any:
    for pid in (-1, 1, os.getppid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


@attack(Verdict.OK, NO_ANSWER)
def leaves_a_daemon(*_: Any) -> Any:
    # It holds every pipe, ignores every signal, and is in nobody's session.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    signal.signal(number, signal.SIG_IGN)
            time.sleep(1000)
        os._exit(0)
    os.wait()
    os._exit(0)


# ---- forging


@attack(Verdict.WALL_TIME_LIMIT, BROKE_OFF)
def answers_a_byte_at_a_time(*_: Any) -> Any:
    while True:
        os.write(channel(), b" ")
        time.sleep(0.01)


@attack(Verdict.KILLED, TOO_LONG)
def floods_the_channel(*_: Any) -> Any:
    while True:
        os.write(channel(), b"x" * 65536)


@attack(Verdict.OK, TESTS)
def prints_passed(*_: Any) -> Any:
    print("passed")
    print(json.dumps({"passed": True}), flush=True)
    os.write(1, b'{"passed": ""}\n')
    return "passed"


@attack(Verdict.KILLED, BAD_ANSWER)
def says_passed_on_the_channel(*_: Any) -> Any:
    say(b'{"passed": ""}')


@attack(Verdict.KILLED, OUT_OF_TURN)
def answers_twice(*_: Any) -> Any:
    os.write(channel(), b'{"value":null}\n{"value":null}\n')
    while True:
        time.sleep(1000)


@attack(Verdict.KILLED, OUT_OF_TURN, when="right")
def has_the_last_word() -> Any:
    def last_word(status: int) -> Any:
        say(b'{"passed": ""}')
        while True:
            time.sleep(1000)

    os._exit = last_word


@attack(Verdict.WALL_TIME_LIMIT, "candidate: WALL_TIME_LIMIT", when="right")
def never_hangs_up() -> Any:
    os._exit = lambda status: time.sleep(1000)  # type: ignore[assignment,return-value]


@attack(Verdict.NONZERO_EXIT, NO_ANSWER)
def closes_its_pipes(*_: Any) -> Any:
    os.closerange(0, 64)


@attack(Verdict.OK, TESTS, when="load")
def patches_builtins() -> Any:
    class Always:
        def __eq__(self, other: object) -> bool:
            return True

    vars(builtins).update(AssertionError=Always, abs=lambda *_: 0, sum=lambda *_: 0, all=lambda *_: True, print=Always)
    vars(sys.modules["plain"]).update(encode=lambda value: "patched")
    vars(sys.modules["__main__"]).update(check=lambda candidate: None)
    sys.settrace(lambda *_: None)


@attack(Verdict.OK, TESTS)
def returns_what_equals_everything(*_: Any) -> Any:
    class Everything(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __sub__(self, other: Any) -> Any:
            return self

        def __abs__(self) -> Any:
            return self

        __lt__ = __gt__ = __le__ = __ge__ = __eq__
        __hash__ = int.__hash__

    return Everything(-987654321)


@attack(Verdict.OK, TESTS)
def returns_an_object_of_its_own(*_: Any) -> Any:
    class Everything:
        def __eq__(self, other: object) -> bool:
            return True

    return Everything()


@attack(Verdict.OK, TESTS)
def returns_not_a_number(*_: Any) -> Any:
    return float("nan")


@attack(Verdict.KILLED, BAD_ANSWER)
def answers_deeply_nested(*_: Any) -> Any:
    say(b'{"value":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@attack(Verdict.KILLED, BAD_ANSWER)
def answers_an_endless_integer(*_: Any) -> Any:
    say(b'{"value":' + b"9" * 1_000_000 + b"}")


@attack(Verdict.KILLED, BAD_ANSWER)
def answers_not_text(*_: Any) -> Any:
    say(bytes(range(128, 256)))


@attack(Verdict.OK, "checker: TIME_LIMIT")
def answers_with_colliding_hashes(*_: Any) -> Any:
    # Quadratic work for whoever makes a set of them: the checker, which has limits too.
    say(json.dumps({"value": {"set": [i * sys.hash_info.modulus for i in range(1, 40_000)]}}).encode())
    os._exit(0)


@attack(Verdict.OK, TESTS)
def answers_with_a_type_of_its_own(*_: Any) -> Any:
    class Passed(Exception):
        pass

    raise Passed("passed")
