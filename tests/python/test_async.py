"""arun and await, under asyncio and trio."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import Any

import anyio
import pytest
import trio

import stockade
from stockade import Verdict
from support import Sleeper

pytestmark = pytest.mark.anyio


async def test_arun() -> None:
    outcome = await stockade.arun(["sh", "-c", "cat; exit 3"], input="ä", text=True, memory="64m")
    assert (outcome.verdict, outcome.returncode, outcome.stdout) == (Verdict.NONZERO_EXIT, 3, "ä")
    assert outcome.args[0] == "sh"


async def test_errors_are_those_of_run() -> None:
    with pytest.raises(stockade.ProgramError):
        await stockade.arun(["false"], check=True)
    with pytest.raises(stockade.InvalidArgumentError):
        await stockade.arun([])
    with pytest.raises(stockade.SetupError):
        await stockade.arun(["true"], cwd="/no/such")
    assert (await stockade.arun(["no-such-program"])).verdict is Verdict.EXEC_FAILED


async def test_much_output() -> None:
    data = os.urandom(2_000_000)
    assert (await stockade.arun(["cat"], input=data)).stdout == data


async def test_the_loop_goes_on_meanwhile() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await stockade.arun(["sleep", "0.5"])
        tasks.cancel_scope.cancel()
    assert ticks > 20


async def test_fifty_at_a_time_without_threads() -> None:
    threads = []
    outcomes = []

    async def one(number: int) -> None:
        outcome = await stockade.arun(["sh", "-c", f"sleep 0.3; echo {number}"], text=True)
        threads.append(threading.active_count())
        outcomes.append(int(outcome.stdout))

    before = threading.active_count()
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(one, number)
    assert sorted(outcomes) == list(range(50))
    assert max(threads) == before
    assert time.monotonic() - started < 0.3 * 25


async def test_cancelling_kills(sleeper: Sleeper) -> None:
    with anyio.move_on_after(0.2) as scope:
        await stockade.arun(["sh", "-c", f"trap '' TERM; setsid {sleeper.shell} & {sleeper.shell}"])
    assert scope.cancelled_caught
    assert sleeper.count() == 0


async def test_cancelling_many_leaves_nothing(sleeper: Sleeper) -> None:
    before = os.listdir("/proc/self/fd")
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(stockade.arun, sleeper.args)
        with anyio.fail_after(10):
            while sleeper.count() < 20:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert sleeper.count() == 0
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_a_cancelled_task_starts_nothing_that_stays(sleeper: Sleeper) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stockade.arun(sleeper.args)
    assert scope.cancelled_caught
    assert sleeper.count() == 0


async def test_sandbox() -> None:
    async with stockade.Sandbox(timeout=10) as box:
        await box.arun(["sh", "-c", "echo x > file"], check=True)
        assert (await box.arun(["cat", "file"], text=True)).stdout == "x\n"
    with pytest.raises(stockade.StateError):
        await box.arun(["true"])


async def test_sandbox_survives_a_cancelled_run(sleeper: Sleeper) -> None:
    async with stockade.Sandbox() as box:
        with anyio.move_on_after(0.1):
            await box.arun(sleeper.args)
        assert sleeper.count() == 0
        assert (await box.arun(["true"])).success


async def test_stats_every() -> None:
    process = stockade.popen(["sleep", "0.5"])
    times = [stats.wall_time async for stats in process.stats_every(0.1)]
    assert len(times) >= 2
    assert times == sorted(times)
    assert (await process).verdict is Verdict.OK
    assert [stats async for stats in process.stats_every(0.1)] == []


async def test_notifications() -> None:
    process = stockade.popen(["sh", "-c", "while :; do :; done"], wall_time=60)
    process.notify_cpu_time("100ms")
    told = []

    async def wait() -> None:
        await process

    async with anyio.create_task_group() as group:
        group.start_soon(wait)  # hears everything first
        async for notification in process.notifications():
            told.append(notification)
            if len(told) == 1:
                process.notify_memory(1)
            else:
                process.kill()
    assert [n.name for n in told] == ["cpu_time", "memory"]
    assert told[0].used >= told[0].threshold == 0.1
    assert isinstance(told[1].used, int)
    assert (await process).verdict is Verdict.KILLED


async def test_awaiting_a_process() -> None:
    process = stockade.popen(["sh", "-c", "sleep 0.1; echo x; exit 3"])
    outcome = await process
    assert (outcome.returncode, outcome.stdout) == (3, b"x\n")
    assert process.outcome is outcome
    assert await process is outcome


async def test_two_tasks_await_one_process() -> None:
    process = stockade.popen(["sh", "-c", "sleep 0.2; exit 3"])
    codes = []

    async def one() -> None:
        codes.append((await process).returncode)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
    assert codes == [3, 3, 3]


async def test_cancelling_the_await_leaves_it_running(sleeper: Sleeper) -> None:
    process = stockade.popen(sleeper.args)
    with anyio.move_on_after(0.1) as scope:
        await process
    assert scope.cancelled_caught
    assert sleeper.count() == 1
    process.kill()
    assert (await process).verdict is Verdict.KILLED


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestAsyncio:
    """What only asyncio has."""

    async def test_timeout_kills(self, sleeper: Sleeper) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stockade.arun(sleeper.args), 0.1)
        assert sleeper.count() == 0

    async def test_cancelling_again_and_again(self, sleeper: Sleeper) -> None:
        task = asyncio.create_task(stockade.arun(sleeper.args))
        await asyncio.sleep(0.1)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert sleeper.count() == 0

    async def test_a_coroutine_that_is_thrown_away(self, sleeper: Sleeper) -> None:
        coroutine = stockade.arun(sleeper.args)
        coroutine.send(None)
        sleeper.wait_until(1)
        coroutine.close()
        assert sleeper.count() == 0


def test_without_a_loop_is_refused(anyio_backend: str) -> None:
    coroutine = stockade.arun(["true"])
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        coroutine.send(None)


def test_trio_as_a_guest_of_asyncio(anyio_backend: str) -> None:
    async def guest() -> str:
        return (await stockade.arun(["echo", "trio"], text=True)).stdout

    async def host() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        own = await stockade.arun(["echo", "asyncio"], text=True)
        return own.stdout, (await done).unwrap()

    assert asyncio.run(host()) == ("asyncio\n", "trio\n")


def test_asyncio_does_not_need_trio(anyio_backend: str) -> None:
    import subprocess
    import sys

    code = (
        "import asyncio, stockade, sys; asyncio.run(stockade.arun(['true'], check=True)); print('trio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
