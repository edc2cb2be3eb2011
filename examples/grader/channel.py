"""One sandboxed program that talks in lines, seen from asyncio."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import stockade

from . import plain

HERE = Path(__file__).parent
SCRIPTS = {path.name: path.read_bytes() for path in (HERE / "plain.py", HERE / "serve.py", HERE / "check.py")}


class Misbehaved(Exception):
    """The program wrote what the protocol does not allow: too long a line, or something when it was not asked."""


async def _ready(fd: int, *, write: bool = False) -> None:
    """Waits until `fd` can be read (or written) or is at its end."""
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    event = asyncio.Event()
    add(fd, event.set)
    try:
        await event.wait()
    finally:
        remove(fd)


class Peer:
    """A script of this package in a sandbox of its own, and the two pipes to it.

    No call here waits for longer than the sandbox lives, which its `wall_time` bounds: the pipes end when the last of
    its processes is gone.
    """

    def __init__(self, script: str, limits: stockade.Options) -> None:
        """Starts `script` under `limits`."""
        options = limits | {
            "python": True,
            "files": {name: SCRIPTS[name] for name in (script, "plain.py")},
            "stdin": stockade.PIPE,
            "stdout": stockade.PIPE,
        }
        self._process = stockade.popen([sys.executable, "-E", "-s", "-S", "-B", script], bufsize=0, **options)
        assert self._process.stdin is not None  # both were asked for
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._received = bytearray()
        self.transcript = bytearray()
        """Everything the program has sent, for whoever looks for leaks."""
        # From the start, and beside the talk: waiting is also what moves captured output along.
        self._outcome = asyncio.ensure_future(self._wait())

    async def _wait(self) -> stockade.Outcome[bytes]:
        return await self._process

    async def send(self, line: bytes) -> None:
        """Writes all of `line`, or as much as the program lives to read."""
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._stdin.fileno(), left) :]
            except BlockingIOError:
                await _ready(self._stdin.fileno(), write=True)
            except BrokenPipeError:
                return

    def _read(self) -> bool | None:
        """Reads what is there: whether there was something; None at the end."""
        try:
            data = os.read(self._stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        self._received += data
        self.transcript += data
        return True if data else None

    async def receive(self) -> bytes | None:
        """The next line; None if the program closed its end first. Raises `Misbehaved` if it is too long or broken."""
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > plain.MAX_LINE:
                raise Misbehaved("wrote too long a line")
            if (read := self._read()) is None:
                if self._received:
                    raise Misbehaved("broke off in the middle of a line")
                return None
            if not read:
                await _ready(self._stdout.fileno())
        if end >= plain.MAX_LINE:
            raise Misbehaved("wrote too long a line")
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line

    def expect_silence(self) -> None:
        """Raises `Misbehaved` if the program has written something that nobody asked for."""
        if self._received or self._read():
            raise Misbehaved("spoke out of turn")

    async def hang_up(self) -> None:
        """Closes the program's standard input and waits until it closes its output, without another word."""
        self._stdin.close()
        while (read := self._read()) is not None:
            if read or self._received:
                raise Misbehaved("spoke out of turn")
            await _ready(self._stdout.fileno())
        if self._received:
            raise Misbehaved("spoke out of turn")

    def kill(self) -> None:
        """Ends the program and everything it started."""
        self._process.kill()

    async def outcome(self) -> stockade.Outcome[bytes]:
        """Waits for the end of the program, and lets go of the pipes."""
        self._stdin.close()
        try:
            return await self._outcome
        finally:
            self._stdout.close()
