"""Waiting for a program from asyncio and trio: on its descriptor, without a thread.

Neither library is needed: the one that runs has been imported by somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from stockade._errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stockade import _stockade

_T = TypeVar("_T")


class _Library(Protocol):
    async def wait_readable(self, fd: int, seconds: float | None = None) -> None:
        """Wait until `fd` is readable, at most for `seconds`; can be cancelled."""

    async def finish(self, process: _stockade.Process) -> None:
        """Wait for the end of a killed program, however often this task is cancelled."""


class _Asyncio:
    async def wait_readable(self, fd: int, seconds: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(fd, _set, readable)
        late = None if seconds is None else loop.call_later(seconds, _set, readable)
        try:
            await readable
        finally:
            loop.remove_reader(fd)
            if late:
                late.cancel()

    async def finish(self, process: _stockade.Process) -> None:
        while process.poll() is None:
            # The cancellation that led here is raised again by the caller; another one means the same.
            with contextlib.suppress(asyncio.CancelledError):
                await self.wait_readable(process.fileno())


class _Trio:
    def __init__(self, trio: Any) -> None:
        self.trio = trio

    async def wait_readable(self, fd: int, seconds: float | None = None) -> None:
        with self.trio.move_on_after(math.inf if seconds is None else seconds):
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


async def ended_within(process: _stockade.Process, seconds: float) -> bool:
    """Whether the program ends in that time. A cancellation leaves it running."""
    library = running()
    deadline = time.monotonic() + seconds
    with _own(process.fileno()) as fd:
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await library.wait_readable(fd, left)
    return True


async def next_notification(process: _stockade.Process) -> tuple[Any, Any, Any] | None:
    """The fields of the next notification; None when the program has ended. A cancellation loses none."""
    library = running()
    with _own(process.notification_fileno()) as fd:
        while (fields := process.next_notification(0)) is None and process.poll() is None:
            await library.wait_readable(fd)
    return fields or process.next_notification(0)


@contextlib.contextmanager
def _own(fd: int) -> Iterator[int]:
    """A descriptor of its own, since a loop lets only one task wait for each."""
    own = os.dup(fd)
    try:
        yield own
    finally:
        os.close(own)


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


async def in_thread(call: Callable[[Callable[[], None]], _T]) -> _T:
    """Make a call in a thread. What it is given raises once this task is cancelled, which waits for its end then."""
    library = running()
    if isinstance(library, _Trio):
        trio = library.trio
        return cast("_T", await trio.to_thread.run_sync(call, trio.from_thread.check_cancelled))
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise _CancelledError

    task = asyncio.ensure_future(asyncio.to_thread(call, check))
    try:
        return await asyncio.shield(task)
    except BaseException as error:
        cancelled.set()
        while not (task.done() or isinstance(error, GeneratorExit)):
            # Another cancellation means the same.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if task.done() and not task.cancelled():
            task.exception()
        raise


class _CancelledError(Exception):
    """What ends a call whose task is cancelled."""


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
