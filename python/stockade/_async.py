"""Waiting for a program from asyncio and trio: on its descriptor, without a thread.

Neither library is needed: the one that runs has been imported by somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from stockade._errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from stockade import _stockade


class _Library(Protocol):
    async def wait_readable(self, fd: int) -> None:
        """Wait until `fd` is readable; can be cancelled."""

    async def finish(self, process: _stockade.Process) -> None:
        """Wait for the end of a killed program, however often this task is cancelled."""


class _Asyncio:
    async def wait_readable(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(fd, _set, readable)
        try:
            await readable
        finally:
            loop.remove_reader(fd)

    async def finish(self, process: _stockade.Process) -> None:
        while process.poll() is None:
            # The cancellation that led here is raised again by the caller; another one means the same.
            with contextlib.suppress(asyncio.CancelledError):
                await self.wait_readable(process.fileno())


class _Trio:
    def __init__(self, trio: Any) -> None:
        self.trio = trio

    async def wait_readable(self, fd: int) -> None:
        await self.trio.lowlevel.wait_readable(fd)

    async def finish(self, process: _stockade.Process) -> None:
        with self.trio.CancelScope(shield=True):
            while process.poll() is None:
                await self.wait_readable(process.fileno())


def running() -> _Library:
    """The library that runs this task. `RuntimeError` if none does."""
    # Trio first: as a guest of asyncio it runs its tasks inside the other's loop.
    trio = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            trio.lowlevel.current_task()
            return _Trio(trio)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("no asyncio or trio event loop runs this task") from None
    return _Asyncio()


async def wait(process: _stockade.Process) -> dict[str, Any]:
    """The outcome's fields, when the program has ended. A cancellation leaves the program running."""
    library = running()
    fd = -1
    try:
        while (fields := process.poll()) is None:
            # A descriptor of its own, since a loop lets only one task wait for each.
            fd = os.dup(process.fileno()) if fd < 0 else fd
            await library.wait_readable(fd)
    finally:
        if fd >= 0:
            os.close(fd)
    return fields


async def run(spawn: Callable[[], _stockade.Process]) -> dict[str, Any]:
    """Start a program and wait for its end. A cancellation ends the program and everything it started first."""
    library = running()
    process = spawn()
    try:
        while (fields := process.poll()) is None:
            await library.wait_readable(process.fileno())
    except GeneratorExit:
        # The coroutine is thrown away, it can wait no more.
        with contextlib.suppress(Error):
            process.kill()
            process.wait()
        raise
    except BaseException:
        with contextlib.suppress(Error):
            process.kill()
            await library.finish(process)
        raise
    return fields


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
