"""Every async function is cancelled at each of its awaits, once and again: nothing is left, the next call works."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import tarfile
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

import stockade
from stockade import images
from support import Sleeper

Make = Callable[[], Coroutine[Any, Any, None]]


@types.coroutine
def _stepped(inner: Coroutine[Any, Any, None], at_await: Callable[[], None]) -> Generator[Any, Any, None]:
    """`inner`, with a call each time that it waits for something."""
    try:
        waits_for = inner.send(None)
        while True:
            at_await()
            try:
                value = yield waits_for
            except BaseException as error:  # a cancellation is one
                waits_for = inner.throw(error)
            else:
                waits_for = inner.send(value)
    except StopIteration:
        pass


def cancelled_at(make: Make, number: int, again: bool) -> bool:
    """Whether it has waited that often; it was cancelled then, and with `again` each time after that."""
    waited = 0

    async def main() -> None:
        task: asyncio.Task[None]

        def at_await() -> None:
            nonlocal waited
            waited += 1
            if waited == number or (again and number < waited < number + 20):
                asyncio.get_running_loop().call_soon(task.cancel)

        async def stepped() -> None:
            await _stepped(make(), at_await)

        task = asyncio.create_task(stepped())
        done, _ = await asyncio.wait([task], timeout=20)
        assert done, f"cancelled at await {number}, it goes on"
        if not task.cancelled():
            error = task.exception()
            assert error is None, repr(error)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left

    asyncio.run(main())
    return waited >= number


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def at_every_await(make: Make, sleeper: Sleeper | None = None) -> None:
    asyncio.run(make())
    asyncio.run(make())
    before = descriptors()
    for again in (False, True):
        number = 1
        while cancelled_at(make, number, again):
            assert sleeper is None or sleeper.count() == 0, f"cancelled at await {number}: it runs on"
            number += 1
            assert number < 200
        assert number > 1 or again
    asyncio.run(make())
    assert descriptors() <= before


def command(sleeper: Sleeper, seconds: float = 0.02) -> list[str]:
    return ["sh", "-c", f"echo x; sleep {seconds}", sleeper.mark]


def test_arun(sleeper: Sleeper) -> None:
    async def make() -> None:
        assert (await stockade.arun(command(sleeper), input=b"y")).success

    at_every_await(make, sleeper)


def test_arun_in_a_sandbox(sleeper: Sleeper) -> None:
    async def make() -> None:
        async with stockade.Sandbox() as box:
            assert (await box.arun(command(sleeper))).success
            assert (await box.arun(command(sleeper))).success

    at_every_await(make, sleeper)


def test_awaiting_a_process(sleeper: Sleeper) -> None:
    async def make() -> None:
        with stockade.popen(command(sleeper)) as process:
            assert (await process).success

    at_every_await(make, sleeper)


def test_stopping_a_process(sleeper: Sleeper) -> None:
    async def make() -> None:
        script = "trap 'sleep 0.1; exit 7' TERM; echo x; while :; do sleep 0.02; done"
        with stockade.popen(["sh", "-c", script, sleeper.mark], stdout=stockade.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            assert await process.astop(10) == 7

    at_every_await(make, sleeper)


def test_statistics(sleeper: Sleeper) -> None:
    async def make() -> None:
        with stockade.popen(command(sleeper, 0.2)) as process:
            async for _ in process.stats_every(0.05):
                pass

    at_every_await(make, sleeper)


def test_notifications(sleeper: Sleeper) -> None:
    async def make() -> None:
        with stockade.popen(command(sleeper, 0.2)) as process:
            process.notify_cpu_time("1ms")
            async for _ in process.notifications():
                pass

    at_every_await(make, sleeper)


@pytest.fixture
def store(tmp_path: Path) -> images.Store:
    with tarfile.open(tmp_path / "rootfs.tar", "w") as tar:
        for name in ("bin", "lib", "lib64"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
        for name in ("usr", "srv"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    store = images.Store(tmp_path / "store")
    store.import_(tmp_path / "rootfs.tar", "base")
    return store


def test_images_of_a_sandbox(store: images.Store, tmp_path: Path) -> None:
    try:
        box = stockade.Sandbox(image="base", store=store.path, volumes=["/usr:/usr:ro"], timeout=30)
    except stockade.UnsupportedError as error:
        pytest.skip(str(error))

    async def snapshot() -> None:
        (await box.asnapshot()).release()

    async def commit() -> None:
        await box.acommit("made:1")

    async def export() -> None:
        await box.aexport("/srv", tmp_path / "out.tar")

    with box:
        box.run(["/bin/sh", "-c", "echo one > /srv/a"], check=True)
        for make in (snapshot, commit, export):
            at_every_await(make)
    assert store.verify().problems == ()


def test_a_build(store: images.Store) -> None:
    async def make() -> None:
        await store.abuild("base", ["ENV A=b"], "built:1")

    at_every_await(make)


def test_none_is_forgotten() -> None:
    """Every async function of the package is one of those above, or made of one."""
    tried = {"arun", "astop", "__anext__", "__aenter__", "__aexit__", "acommit", "asnapshot", "aexport", "abuild"}
    like = {"abuild_file": "abuild", "apull": "tests/python/test_pull.py"}
    found = set()
    for module in (stockade, images):
        for holder in [module, *(it for it in vars(module).values() if inspect.isclass(it))]:
            if getattr(holder, "__module__", "stockade").startswith("stockade") or holder is module:
                found |= {name for name, it in vars(holder).items() if inspect.iscoroutinefunction(it)}
    assert found <= tried | set(like), found
    assert "arun" in found
