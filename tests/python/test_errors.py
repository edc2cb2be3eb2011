"""The exceptions themselves."""

from __future__ import annotations

import errno
import pickle
import subprocess

import pytest

import stockade

KINDS = {
    stockade.InvalidArgumentError: "invalid_argument",
    stockade.UnsupportedError: "unsupported",
    stockade.SetupError: "setup",
    stockade.StateError: "state",
    stockade.SupervisorError: "supervisor",
    stockade.ResourceError: "resource",
    stockade.InternalError: "internal",
    stockade.ImageError: "image",
    stockade.NotFoundError: "not_found",
    stockade.RegistryError: "registry",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_what_and_where(kind: type[stockade.Error]) -> None:
    error = kind("cannot mount proc: Operation not permitted", errno.EPERM, "mount proc")
    for e in (error, pickle.loads(pickle.dumps(error))):
        assert type(e) is kind
        assert isinstance(e, stockade.Error)
        assert str(e) == "cannot mount proc: Operation not permitted"
        assert (e.kind, e.errno, e.strerror, e.step) == (KINDS[kind], 1, "Operation not permitted", "mount proc")


def test_an_error_without_errno() -> None:
    error = stockade.StateError("closed")
    assert (error.errno, error.strerror, error.step) == (0, None, "")


def test_every_kind_is_public() -> None:
    assert set(stockade.Error.__subclasses__()) == set(KINDS)


def test_an_invalid_argument_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="memory"):
        stockade.Spec(memory="x")


def test_program_error_is_a_called_process_error() -> None:
    assert issubclass(stockade.ProgramError, subprocess.CalledProcessError)
    assert not issubclass(stockade.ProgramError, stockade.Error)
    outcome = stockade.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    with pytest.raises(stockade.ProgramError) as caught:
        outcome.check()
    for e in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (e.returncode, e.stdout, e.output, e.stderr) == (3, b"out\n", b"out\n", b"err\n")
        assert e.cmd == ("sh", "-c", "echo out; echo err >&2; exit 3")
        assert e.outcome == outcome
        assert "NONZERO_EXIT" in str(e)
        assert "returncode 3" in str(e)


def test_program_error_names_the_limit() -> None:
    with pytest.raises(stockade.ProgramError, match=r"WALL_TIME_LIMIT \(wall_time\)"):
        stockade.run(["sleep", "10"], timeout="50ms", check=True)
