"""Feeding and draining a program's pipes at the same time, so that neither side waits for the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import selectors
import sys
import termios
import time
from functools import partial
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockade._process import Process

_CHUNK = 65536


class Exchange:
    """What is still to be written and what was read; it survives a timeout."""

    # It holds no reference to the process, which holds one to it: a cycle would keep the process running after the
    # caller has let it go.
    def __init__(self, process: Process[Any], data: bytes) -> None:
        self._left = memoryview(data)
        self._received: dict[IO[Any], list[bytes]] = {s: [] for s in (process.stdout, process.stderr) if s}
        if process.stdin and not process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.flush()

    def received(self, stream: IO[Any] | None) -> bytes | None:
        """What came through `stream`; None if it is no pipe."""
        return None if stream is None else b"".join(self._received[stream])

    def run(self, process: Process[Any], deadline: float | None) -> bool:
        """Go on until the program has ended, take what is in its pipes then, and True; False if `deadline` has come."""
        with selectors.PollSelector() as selector:
            # Each comes with what to do when it is ready; that tells whether it is finished.
            if process.stdin and not process.stdin.closed:
                selector.register(process.stdin, selectors.EVENT_WRITE, partial(self._send, process.stdin))
            for stream in self._received:
                if not stream.closed:
                    selector.register(stream, selectors.EVENT_READ, partial(self._take, stream))
            if process.poll() is None:
                selector.register(process, selectors.EVENT_READ, lambda: process.poll() is not None)
            while process.poll() is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                for key, _ in selector.select(left):
                    fd = key.fd
                    if key.data():
                        selector.unregister(fd)
        for stream in self._received:
            if not stream.closed:
                self._take_rest(stream)
        if process.stdin and not process.stdin.closed:
            close(process.stdin)
        return True

    def _send(self, stdin: IO[Any]) -> bool:
        try:
            if self._left:
                # So much can be written to a pipe that is ready without waiting.
                self._left = self._left[os.write(stdin.fileno(), self._left[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            self._left = self._left[:0]
        if self._left:
            return False
        close(stdin)
        return True

    def _take(self, stream: IO[Any]) -> bool:
        data = os.read(stream.fileno(), _CHUNK)
        self._received[stream].append(data)
        if data:
            return False
        stream.close()
        return True

    def _take_rest(self, stream: IO[Any]) -> None:
        # Not until its end: a child that another thread has forked, or a program beside it in a live sandbox that was
        # sent it, may hold the other end open, and write to it.
        waiting = int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        while waiting > 0:
            data = os.read(stream.fileno(), min(waiting, _CHUNK))
            self._received[stream].append(data)
            waiting = waiting - len(data) if data else 0
        stream.close()


def close(stream: IO[Any]) -> None:
    """Close; what can no more be written, because the program has gone, is let go."""
    try:
        stream.close()
    except BrokenPipeError:
        stream.close()
