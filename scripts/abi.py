"""What a C program is built against, compared with what the last version had, by libabigail.

    scripts/abi.py check   only additions are allowed since the newest of tests/capi/abi/*.abi
    scripts/abi.py prove   that it tells what breaks programs from what does not
    scripts/abi.py write   a new one, of this version: for a release

It looks at include/stockade.h alone: tests show that it is what the Rust sources give (tests/capi/header.rs) and that
the library exports just that (tests/capi/library.rs). A library of empty functions is built from it, with one function
that takes an enumeration of all numbers, so that these are compared as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "include/stockade.h"
KEPT = ROOT / "tests/capi/abi"


def library(header: str, directory: Path) -> Path:
    """Build a library with every function that `header` declares."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*|^#[^\n]*", "", header, flags=re.S | re.M)
    found = re.findall(r"([a-z][\w \n*]*?\bstockade_\w+\s*\([^;{}]*\));", text)
    functions = [function for function in found if not function.lstrip().startswith("typedef")]
    numbers = re.findall(r"^#define (STOCKADE_\w+) (-?\d+)$", header, flags=re.M)
    version = [name for name, _ in numbers if name.startswith("STOCKADE_VERSION")]
    numbers = [(name, number) for name, number in numbers if name not in version]
    assert len(functions) > 100
    assert len(numbers) > 50
    source = '#include "stockade.h"\n' + "".join(f"{function} {{ __builtin_trap(); }}\n" for function in functions)
    listed = ",\n".join(f"    N_{name} = {number}" for name, number in numbers)
    source += f"enum stockade_numbers {{\n{listed}\n}};\n"
    source += "void stockade_numbers(enum stockade_numbers number) { (void)number; }\n"
    (directory / "stockade.h").write_text(header)
    (directory / "abi.c").write_text(source)
    built = directory / "libstockade.so.0"
    command = ["cc", "-g", "-w", "-shared", "-fPIC", "-o", built, directory / "abi.c", "-Wl,-soname,libstockade.so.0"]
    subprocess.run(command, check=True)
    return built


def dump(header: str) -> str:
    """What libabigail says of the library of `header`."""
    with tempfile.TemporaryDirectory() as directory:
        built = library(header, Path(directory))
        command = ["abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", built]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compare(before: Path, header: str) -> tuple[bool, str]:
    """Whether `header` has all that is in `before`, and what differs."""
    with tempfile.TemporaryDirectory() as directory:
        now = Path(directory) / "now.abi"
        now.write_text(dump(header))
        # abidiff takes one that is gone for harmless.
        lost = numbers_in(before.read_text()) - numbers_in(now.read_text())
        if lost:
            return False, "\n".join(f"{name} was {number}" for name, number in sorted(lost))
        command = ["abidiff", "--no-added-syms", before, now]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode & 3:
            raise SystemExit(done.stderr)
        return done.returncode == 0, done.stdout


def numbers_in(dumped: str) -> set[tuple[str, str]]:
    """The numbers and their names in what `dump` has given."""
    return set(re.findall(r"<enumerator name='N_(\w+)' value='(-?\d+)'", dumped))


def newest() -> Path:
    """What the last version had."""

    def version(path: Path) -> list[int]:
        return [int(number) for number in path.stem.split(".")]

    return max(KEPT.glob("*.abi"), key=version)


def check() -> None:
    """Fail if something has gone or is another."""
    same, said = compare(newest(), HEADER.read_text())
    if not same:
        raise SystemExit(f"{said}\nthis breaks programs built against {newest().stem}: see docs/abi.md")
    print(f"a program built against {newest().stem} runs with this")


def prove() -> None:
    """Show that what breaks programs is seen, and that additions pass."""
    header = HEADER.read_text()
    last = "\n#ifdef __cplusplus\n}"

    def change(old: str, new: str) -> str:
        changed, count = re.subn(old, new, header, count=1)
        assert count == 1, old
        return changed

    cases = {
        "a function is removed": (False, change(r"int stockade_spec_set_pids\([^;]*;", "")),
        "a parameter has another type": (
            False,
            change(r"set_pids\(stockade_spec \*spec, uint64_t", "set_pids(stockade_spec *spec, uint32_t"),
        ),
        "there is one parameter more": (
            False,
            change(r"set_pids\(stockade_spec \*spec,", "set_pids(stockade_spec *spec, int more,"),
        ),
        "a result has another type": (False, change(r"int stockade_process_fd", "int64_t stockade_process_fd")),
        "a number is another": (False, change(r"#define STOCKADE_ERROR_STATE 4", "#define STOCKADE_ERROR_STATE 44")),
        "a number is gone": (False, change(r"#define STOCKADE_ERROR_STATE 4", "")),
        "a function is new": (True, header.replace(last, f"int stockade_new(stockade_spec *spec);\n{last}", 1)),
        "a number is new": (True, header + "#define STOCKADE_ERROR_NEW 99\n"),
    }
    assert last in header
    with tempfile.TemporaryDirectory() as directory:
        before = Path(directory) / "before.abi"
        before.write_text(dump(header))
        for what, (expected, changed) in cases.items():
            same, said = compare(before, changed)
            if same != expected:
                raise SystemExit(f"{what}: {'passes' if same else said}")
            print(f"{what}: {'passes' if same else 'is seen'}")


def write() -> None:
    """Keep what this version has."""
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), flags=re.M)
    assert version
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{version[1]}.abi").write_text(dump(HEADER.read_text()))


if __name__ == "__main__":
    {"check": check, "prove": prove, "write": write}[sys.argv[1]]()
