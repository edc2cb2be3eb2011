"""python=True: the calling interpreter runs inside, wherever it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import stockade
from stockade import _interpreter


def test_this_interpreter_runs_inside() -> None:
    code = "import sys, json, ssl, stockade; print(sys.prefix, sys.base_prefix, sys.executable, stockade.__version__)"
    volumes = [f"{path}:{path}" for path in package_directories()]
    outcome = stockade.run([sys.executable, "-c", code], python=True, volumes=volumes, text=True, check=True)
    assert outcome.stdout.split() == [sys.prefix, sys.base_prefix, sys.executable, stockade.__version__]


def package_directories() -> list[str]:
    """Where the package is, if it is not among the interpreter's own (an editable installation)."""
    own = str(Path(stockade.__file__).parent.parent)
    return [] if any(own.startswith(path) for path in ("/usr/", *_interpreter.directories())) else [own]


def test_nothing_inside_can_be_written() -> None:
    code = f"open({os.path.join(sys.prefix, 'new')!r}, 'w')"
    outcome = stockade.run([sys.executable, "-c", code], python=True, text=True)
    assert outcome.returncode == 1
    assert "Read-only file system" in outcome.stderr or "Permission denied" in outcome.stderr


def test_without_it_the_interpreter_is_not_there() -> None:
    if sys.base_prefix.startswith("/usr"):
        pytest.skip("this interpreter is in /usr, which every sandbox shows")
    assert stockade.run([sys.executable, "-c", ""]).verdict is stockade.Verdict.EXEC_FAILED


def test_sandbox_shows_it_to_all_its_runs() -> None:
    with stockade.Sandbox(python=True) as box:
        for number in range(2):
            assert box.run([sys.executable, "-c", f"print({number})"], text=True).stdout == f"{number}\n"
            assert box.run([sys.executable, "-c", "pass"], python=True).success


@pytest.mark.parametrize("through", ["venv", "link to the venv", "link to the executable"])
def test_a_venv_of_this_interpreter(tmp_path: Path, through: str) -> None:
    reachable(tmp_path)
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "installed.py").touch()
    executable = place / "bin" / "python"
    code = "import sys, installed; print(sys.prefix)"
    if through == "link to the venv":
        (tmp_path / "link").symlink_to(place)
        executable = tmp_path / "link" / "bin" / "python"
    elif through == "link to the executable":
        (tmp_path / "python").symlink_to(executable)
        executable = tmp_path / "python"
        # Called so, it does not know that it belongs to a venv.
        code = "import sys; print(sys.prefix)"
    # stockade itself is not installed in the venv.
    host = f"""
import os, sys
sys.path.append({str(Path(stockade.__file__).parent.parent)!r})
import stockade
outcome = stockade.run([sys.executable, "-c", {code!r}], python=True, text=True)
print(sys.prefix, outcome.stdout, outcome.stderr or outcome.message or "")
"""
    done = subprocess.run([executable, "-c", host], capture_output=True, text=True, check=True)
    outside, *inside = done.stdout.split()
    assert inside == [outside]


def reachable(path: Path) -> None:
    """Let others look into the test's directory: inside, the program may be another user."""
    path.chmod(0o755)
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)


def test_paths_are_not_named_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = tmp_path / "base"
    for name in ("bin", "lib", "envs/one/bin"):
        (base / name).mkdir(parents=True)
    (base / "bin" / "python3.12").touch()
    (base / "bin" / "python").symlink_to("python3.12")
    (tmp_path / "alias").symlink_to("base")
    real = tmp_path.resolve()
    for name, value in {
        "prefix": base / "envs" / "one",
        "exec_prefix": base / "envs" / "one",
        "base_prefix": tmp_path / "alias",
        "base_exec_prefix": base,
        "executable": tmp_path / "alias" / "bin" / "python",
        "_base_executable": base / "bin" / "python",
    }.items():
        monkeypatch.setattr(sys, name, str(value))
    assert _interpreter.directories() == [str(real / "alias"), str(real / "base")]


def test_the_systems_interpreter_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, "/usr")
    for executable in ("/usr/bin/python3", "/bin/python3", ""):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(sys, "_base_executable", executable)
        assert _interpreter.directories() == []
