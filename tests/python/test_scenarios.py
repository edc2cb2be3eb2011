"""`tests/scenarios.json` through Python. The suites of Rust and C run the same file; what it holds is said there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import stockade

TESTS = Path(__file__).parent.parent
SCENARIOS: list[dict[str, Any]] = json.loads((TESTS / "scenarios.json").read_text())["scenarios"]


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the guest, built once. Everyone may enter: as root, the sandbox is somebody else."""
    path = tmp_path_factory.mktemp("guest")
    for parent in [path, path.parent, path.parent.parent]:
        if parent.owner() == path.owner():
            parent.chmod(0o755)
    sources = sorted((TESTS / "guest").glob("*.c"))
    flags = ["-static", "-O2", "-pthread", "-o", str(path / "guest")]
    subprocess.run([os.environ.get("CC", "gcc"), *flags, *map(str, sources)], check=True)
    return path


def spec_of(scenario: dict[str, Any], guest: Path) -> str:
    """The specification as JSON, with the guest in it."""
    spec = dict(scenario["spec"])
    spec["args"] = ["/guest/guest" if arg == "{guest}" else arg for arg in spec["args"]]
    spec["volumes"] = [*spec.get("volumes", []), f"{guest}:/guest:ro"]
    return json.dumps(spec)


def holds(key: str, wanted: Any, outcome: dict[str, Any]) -> bool:
    """Whether one expectation is met."""
    if key == "verdict":
        return outcome["verdict"] in (wanted if isinstance(wanted, list) else [wanted])
    if key in ("stdout_has", "message_has"):
        return wanted in (outcome[key.removesuffix("_has")] or "")
    if key == "violation":
        return all(outcome["violation"][name] == value for name, value in wanted.items())
    if key == "outputs":
        return all(outcome["outputs"][path]["content"] == content for path, content in wanted.items())
    if key.startswith("usage."):
        value = outcome["usage"][key.removeprefix("usage.")]
        least, most = wanted
        return value is not None and (least is None or value >= least) and (most is None or value <= most)
    assert key in ("returncode", "limit", "stdout", "stderr", "stdout_bytes", "stdout_truncated"), key
    return bool(outcome[key] == wanted)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
def test_scenario(scenario: dict[str, Any], guest: Path) -> None:
    expect: dict[str, Any] = scenario["expect"]
    start = time.monotonic()
    if "error" in expect:
        with pytest.raises(stockade.Error) as raised:
            stockade.run(stockade.Spec.from_json(spec_of(scenario, guest)))
        kinds = expect["error"]
        kind = "".join(word.capitalize() for word in raised.value.kind.split("_"))
        assert kind in (kinds if isinstance(kinds, list) else [kinds])
        assert expect.get("error_has", "") in str(raised.value)
        return
    outcome = stockade.run(stockade.Spec.from_json(spec_of(scenario, guest))).to_dict()
    for need in scenario.get("needs", []):
        held = outcome["enforcement"][need.removeprefix("enforced:")]
        if held["status"] != "enforced":
            pytest.skip(f"{need}: {held['status']}: {held['by']}")
    wrong = {key: wanted for key, wanted in expect.items() if not holds(key, wanted, outcome)}
    assert not wrong, outcome
    assert time.monotonic() - start <= scenario.get("elapsed", float("inf"))
