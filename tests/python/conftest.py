"""What the tests have in common. They need an installed `stockade` and no privileges."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support import Sleeper

# A shell without job control starts what it puts into the background with Ctrl-C ignored, and Python keeps that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test marked `anyio` runs under both libraries."""
    name: str = request.param
    return name


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """A program of which nothing may be left after the test."""
    sleeper = Sleeper()
    yield sleeper
    assert sleeper.count() == 0
