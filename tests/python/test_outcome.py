"""Verdicts and outcomes as values."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest

import stockade
from stockade import _stockade


@pytest.fixture(scope="module")
def outcome() -> stockade.Outcome[bytes]:
    """An outcome in which every kind of value occurs."""
    return stockade.run(
        ["sh", "-c", "printf '\\377\\000'; echo ä >&2; echo out > out; exit 3"],
        outputs=["out", "missing"],
        memory="64m",
    )


def test_verdicts_are_those_of_the_library() -> None:
    assert [(v.value, v.name, v.short) for v in stockade.Verdict] == _stockade.verdicts()
    assert [str(v) for v in stockade.Verdict] == [v.name for v in stockade.Verdict]
    assert stockade.Verdict["TIME_LIMIT"].short == "TLE"
    assert all(stockade.Verdict)
    assert pickle.loads(pickle.dumps(stockade.Verdict.OK)) is stockade.Verdict.OK


def test_facts(outcome: stockade.Outcome[bytes]) -> None:
    assert outcome.verdict is stockade.Verdict.NONZERO_EXIT
    assert not outcome.success
    assert (outcome.returncode, outcome.exit_code, outcome.signal, outcome.limit) == (3, 3, None, None)
    assert (outcome.stdout, outcome.stderr) == (b"\xff\0", "ä\n".encode())
    assert (outcome.stdout_bytes, outcome.stderr_bytes) == (2, 3)
    assert not outcome.stdout_truncated
    assert not outcome.stderr_truncated
    assert outcome.outputs["out"] == stockade.OutputFile(content=b"out\n", size=4, truncated=False, error=None)
    assert outcome.outputs["missing"].content == b""
    assert outcome.outputs["missing"].error
    assert outcome.args[0] == "sh"
    usage = outcome.usage
    assert 0 < usage.cpu_time < 5
    assert usage.cpu_time == pytest.approx(usage.cpu_user + usage.cpu_system, abs=1e-3)
    assert 0 < usage.wall_time < 5
    assert usage.max_rss > 0
    assert not usage.oom_killed
    assert usage.sources
    assert outcome.enforcement["memory"].status in {"enforced", "approximated"}
    assert outcome.enforcement["memory"].by


def test_violation() -> None:
    killing = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
    }
    outcome = stockade.run(["sh", "-c", "mkdir made; echo after"], profile=killing)
    assert outcome.verdict is stockade.Verdict.VIOLATION
    assert outcome.stdout == b""
    found = outcome.violation
    assert isinstance(found, stockade.Violation)
    assert found.syscall in {"mkdir", "mkdirat"}
    assert found.arch in {"x86_64", "aarch64"}
    assert not found.main
    assert found.pid > 1
    assert found.command == "mkdir"
    assert len(found.args) == 6
    assert 0o777 in found.args
    assert found.instruction_pointer > 0
    assert outcome.enforcement["violation"].status == "enforced"
    plain = json.loads(outcome.to_json())
    assert plain == outcome.to_dict()
    assert plain["violation"]["args"] == [hex(arg) for arg in found.args]
    assert stockade.Outcome.from_json(outcome.to_json()) == outcome
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert stockade.run(["true"]).violation is None


def test_json_is_what_the_library_writes(outcome: stockade.Outcome[bytes]) -> None:
    text = outcome.to_json()
    assert stockade.Outcome.from_json(text) == outcome
    assert stockade.Outcome.from_json(text).args == ()
    plain = json.loads(text)
    assert plain == outcome.to_dict()
    assert plain["verdict"] == "NONZERO_EXIT"
    assert plain["stdout"] == {"base64": "/wA="}
    assert plain["stderr"] == "ä\n"
    assert plain["outputs"]["out"]["content"] == "out\n"
    assert plain["enforcement"]["memory"].keys() == {"status", "by"}
    assert "args" not in plain


def test_json_of_text_is_that_of_bytes(outcome: stockade.Outcome[bytes]) -> None:
    changes: Any = {"stdout": "\udcff\0", "stderr": "ä\n", "outputs": {}}
    text = dataclasses.replace(outcome, **changes)
    assert text.to_json() == dataclasses.replace(outcome, outputs={}).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": "FINE"}'])
def test_json_that_is_no_outcome_is_refused(text: str) -> None:
    with pytest.raises(stockade.InvalidArgumentError, match="outcome: "):
        stockade.Outcome.from_json(text)


def test_pickle(outcome: stockade.Outcome[bytes]) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(outcome, protocol))
        assert again == outcome
        assert again.args == outcome.args


def test_frozen(outcome: stockade.Outcome[bytes]) -> None:
    for value, name in [(outcome, "verdict"), (outcome.usage, "cpu_time"), (outcome.outputs["out"], "size")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 0)


def test_check_returns_a_good_outcome() -> None:
    outcome = stockade.run(["true"])
    assert outcome.success
    assert outcome.check() is outcome


def test_doctor() -> None:
    checks = stockade.doctor()
    assert len({check.name for check in checks}) == len(checks) > 5
    for check in checks:
        assert check.status in {"ok", "degraded", "missing"}
        assert check.detail
    assert pickle.loads(pickle.dumps(checks)) == checks
