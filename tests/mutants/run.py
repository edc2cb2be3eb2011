"""Takes each protection away and shows that its test turns red.

A file `NAME.toml` beside this one names a protection, a change of the sources that removes it, and the test that then
has to fail. Where other layers stop the same, it names changes that take these away first (`besides`): then the test
has to pass still. `make mutants [M="NAME..."]` tries them on a copy of the tree, whose build is kept: first that the
test passes as things are (a skipped one would prove nothing), then that it fails. A change of the helper alone
(`src/init`) is built as a file, which the library that is not changed takes in the place of its own (`STOCKADE_INIT`).
What was red is on record, and `--resume` does not try it again until something has changed. `--check` builds nothing:
every text to be replaced is there once, every test is there, every row of the table has a mutant, and the table in
docs/security.md is theirs; `--table` writes that table.
"""

import argparse
import ctypes
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tomllib

TOP = Path(__file__).resolve().parent.parent.parent
HERE = TOP / "tests" / "mutants"
DOCUMENT = TOP / "docs" / "security.md"
BEGIN, END = "<!-- mutants: made by tests/mutants/run.py --table -->", "<!-- end of mutants -->"
PATIENCE = 300  # seconds; a test that hangs has failed
# Passes whatever protection is gone, as long as programs run at all: where it fails, too, a red test says nothing.
CONTROL = "isolation::programs_of_the_host_run"

# What must hold, most important first.
THREATS = [
    "Host files by path, descriptor or working directory",
    "Set-up and collection inside hostile trees",
    "A true verdict",
    "Nothing survives and nothing hangs",
    "Bounds on what is used",
    "No host processes, IPC, sockets or network",
    "No privilege",
    "The launcher's own integrity",
    "Terminal",
    "Devices, kernel files, cgroups",
    "Other sandboxes, other runs",
    "Image layers",
    "Left-behinds",
    "Malformed configuration, images and ids",
    "Misuse of the C interface",
]


class MutantError(Exception):
    """A mutant that says something wrong."""


@dataclass(frozen=True)
class Change:
    """A text in a file, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A protection, how to remove it, and the test that needs it."""

    name: str
    threat: int
    protection: str
    changes: tuple[Change, ...]
    # Other layers that stop the same. They are taken away before, and the test still has to pass.
    besides: tuple[Change, ...]
    target: str
    test: str
    user: str

    @property
    def of_helper(self) -> bool:
        """Whether only the helper is another. What the library shares with it is built with both."""
        return all(change.file.startswith("src/init/") for change in self.besides + self.changes)

    @property
    def shown(self) -> str:
        """The test as the mutant's file names it."""
        return self.test if self.target == "suite" else f"{self.target}:{self.test}"


def text_of(table: dict[str, object], key: str) -> str:
    """A string that has to be there."""
    value = table.pop(key, None)
    if not isinstance(value, str) or not value:
        raise MutantError(f"`{key}` is missing, or no text")
    return value


def change_of(table: dict[str, object]) -> Change:
    """One change; `new` may be empty."""
    new = table.pop("new", None)
    if not isinstance(new, str):
        raise MutantError("`new` is missing, or no text")
    return Change(text_of(table, "file"), text_of(table, "old"), new)


def changes_of(table: dict[str, object], key: str) -> tuple[Change, ...]:
    """A list of changes, if there is one."""
    more = table.pop(key, [])
    if not isinstance(more, list) or not all(isinstance(one, dict) for one in more):
        raise MutantError(f"`{key}` is no list of changes")
    changes = tuple(change_of(one) for one in more)
    if rest := [word for one in more for word in one]:
        raise MutantError(f"`{rest[0]}` means nothing in `{key}`")
    return changes


def read(path: Path) -> Mutant:
    """The mutant of a file."""
    try:
        table: dict[str, object] = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise MutantError(str(error)) from error
    threat = table.pop("threat", None)
    if not isinstance(threat, int) or not 1 <= threat <= len(THREATS):
        raise MutantError(f"`threat` is no row from 1 to {len(THREATS)}")
    # One protection may be in several places; of other layers each is a protection of its own.
    changes = (change_of(table), *changes_of(table, "also"))
    besides = changes_of(table, "besides")
    test = text_of(table, "test")
    target = "suite"
    if named := re.match(r"(\w+):(?!:)", test):
        target, test = named[1], test[named.end() :]
    mutant = Mutant(
        path.stem, threat, text_of(table, "protection"), changes, besides, target, test, text_of(table, "as")
    )
    if mutant.user not in ("user", "root"):
        raise MutantError("`as` is neither user nor root")
    if rest := list(table):
        raise MutantError(f"`{rest[0]}` means nothing")
    return mutant


# ---- checks that build nothing


def test_file(target: str, test: str) -> Path:
    """The file that a test's modules lead to; with modules inside a file, the file."""
    *modules, _ = test.split("::")
    base = TOP / "src" if target == "lib" else TOP / "tests" / target
    for depth in range(len(modules), -1, -1):
        if depth == 0:
            roots = [base / "lib.rs", base / "main.rs", base.with_suffix(".rs")]
        else:
            place = base.joinpath(*modules[:depth])
            roots = [place.with_suffix(".rs"), place / "mod.rs"]
        for root in roots:
            if root.is_file():
                return root
    raise MutantError(f"no file has the module of `{test}`")


def check_one(mutant: Mutant) -> None:
    """Raises if the mutant does not fit the tree."""
    for change in mutant.changes + mutant.besides:
        path = TOP / change.file
        if not change.file.startswith("src/") or not path.is_file():
            raise MutantError(f"`{change.file}` is no file below src")
        found = path.read_text().count(change.old)
        if found != 1:
            raise MutantError(f"`old` occurs {found} times in {change.file}")
        if change.old == change.new:
            raise MutantError("`new` is `old`")
    file = test_file(mutant.target, mutant.test)
    name = mutant.test.rpartition("::")[2]
    text = file.read_text()
    written = re.search(rf"#\[test\][^{{}}]*\bfn {re.escape(name)}\(\)", text)
    # Of a macro that makes tests of its rows.
    made = re.search(r"#\[test\]\s*fn \$", text) and re.search(rf"^ +{re.escape(name)} {{$", text, re.MULTILINE)
    if not written and not made:
        raise MutantError(f"{file.relative_to(TOP)} has no test `{name}`")


def table(mutants: list[Mutant]) -> str:
    """The table of the document."""
    lines = ["| | what must hold | protection | test | mutant |", "|---|---|---|---|---|"]
    for row, threat in enumerate(THREATS, start=1):
        first = True
        for mutant in sorted((m for m in mutants if m.threat == row), key=lambda m: m.name):
            number, title = (str(row), threat) if first else ("", "")
            protection = mutant.protection.replace("|", r"\|")
            lines.append(f"| {number} | {title} | {protection} | `{mutant.shown}` | `{mutant.name}` |")
            first = False
    return "\n".join(lines)


def split_document() -> tuple[str, str, str]:
    """What is before the table, the table, and what is behind it."""
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise MutantError(f"{DOCUMENT.relative_to(TOP)} has no `{BEGIN}` and `{END}`")
    return before, inside.strip("\n"), after


def check(mutants: list[Mutant]) -> int:
    """Says everything that is wrong."""
    wrong = 0
    for mutant in mutants:
        try:
            check_one(mutant)
        except MutantError as fault:
            wrong += 1
            print(f"{mutant.name}: {fault}")
    for row, threat in enumerate(THREATS, start=1):
        if not any(mutant.threat == row for mutant in mutants):
            wrong += 1
            print(f"row {row} ({threat}) has no mutant")
    if split_document()[1] != table(mutants):
        wrong += 1
        print(f"{DOCUMENT.relative_to(TOP)}: the table of mutants is not that of the files: run.py --table writes it")
    print(f"{len(mutants)} mutants of {len({m.threat for m in mutants})} rows, {wrong} faults")
    return 1 if wrong else 0


# ---- the copy


class Copy:
    """A copy of the tree with a build of its own, both kept for the next time."""

    def __init__(self) -> None:
        """Finds a place that the test user can read, too."""
        place = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")).absolute() / "mutants"
        readable = subprocess.run(["scripts/as-test-user.sh", "test", "-r", TOP / "Cargo.toml"], cwd=TOP, check=False)
        if readable.returncode != 0:
            place = Path("/var/tmp") / f"stockade-mutants-{os.getuid()}"
        self.tree = place / "tree"
        self.target = place / "target"
        self.place = place
        self.tree.mkdir(parents=True, exist_ok=True)
        self.mutated: dict[str, str] = {}
        self.digest = hashlib.sha256()

    def refresh(self) -> None:
        """Brings it up to date, and touches only what differs, so that no more than that is built anew."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=TOP,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        names = {name for name in os.fsdecode(listed).split("\0") if name and (TOP / name).is_file()}
        for old in [path for path in self.tree.rglob("*") if path.is_file()]:
            if str(old.relative_to(self.tree)) not in names:
                old.unlink()
        for name in sorted(names):
            self.take(name)
            if not name.startswith(("tests/mutants/", "docs/")) and not name.endswith(".md"):
                self.digest.update(name.encode() + b"\0" + (self.tree / name).read_bytes() + b"\0")

    def take(self, name: str) -> None:
        """Makes one file what it is in the tree, but for a form of the library that no test here needs."""
        source, copy = TOP / name, self.tree / name
        content = source.read_bytes()
        if name == "Cargo.toml":
            content = content.replace(b'crate-type = ["lib", "cdylib"]', b'crate-type = ["lib"]')
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
        if copy.stat().st_mode & 0o777 != mode:
            copy.chmod(mode)

    def apply(self, changes: tuple[Change, ...]) -> None:
        """Removes a protection, after putting the last one back."""
        for name, text in self.mutated.items():
            (self.tree / name).write_text(text)
        self.mutated = {}
        for change in changes:
            path = self.tree / change.file
            text = path.read_text()
            self.mutated.setdefault(change.file, text)
            if text.count(change.old) != 1:
                raise MutantError(f"`old` occurs {text.count(change.old)} times in {change.file}")
            path.write_text(text.replace(change.old, change.new))

    def build(self, target: str) -> Path:
        """The test program of a target."""
        wanted = ["--lib"] if target == "lib" else ["--test", target]
        command = ["cargo", "test", "--locked", "--features", "capi", "--no-run", *wanted]
        # Without debugging information it is linked in half the time.
        lean = {"CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_PROFILE_TEST_DEBUG": "0", "CARGO_TARGET_DIR": str(self.target)}
        environment = {**os.environ, **lean, "RUSTFLAGS": os.environ.get("RUSTFLAGS", "") + " -Awarnings"}
        done = subprocess.run(command, cwd=self.tree, env=environment, check=False, stderr=subprocess.PIPE, text=True)
        found = re.findall(r"Executable .*\((.*)\)", done.stderr)
        if done.returncode != 0 or len(found) != 1:
            raise MutantError("it cannot be built:\n" + done.stderr[-3000:])
        return self.tree / str(found[0])

    def keep(self, target: str) -> Path:
        """The test program of a target as it is, which the next build leaves alone."""
        kept = self.place / f"standing-{target}"
        shutil.copy(self.build(target), kept)
        return kept

    def build_guest(self) -> None:
        """The program that runs in the suite's sandboxes, else built by each test."""
        (self.place / "guest").mkdir(exist_ok=True)
        sources = map(str, sorted((self.tree / "tests" / "guest").glob("*.c")))
        program = str(self.place / "guest" / "guest")
        subprocess.run(["gcc", "-static", "-O2", "-pthread", "-o", program, *sources], check=True)

    def helper(self) -> Path:
        """The helper alone, by what builds it for the library."""
        scripts = self.target.glob("debug/build/stockade-*/build-script-build")
        script = max(scripts, key=lambda path: path.stat().st_mtime)
        out = self.place / "helper"
        out.mkdir(exist_ok=True)
        about = subprocess.run(["rustc", "-vV"], cwd=self.tree, check=True, stdout=subprocess.PIPE, text=True).stdout
        names = {"OUT_DIR": str(out), "TARGET": re.findall("host: (.*)", about)[0], "RUSTC": "rustc"}
        environment = {**os.environ, **names, "CARGO_MANIFEST_DIR": str(self.tree)}
        done = subprocess.run([script], cwd=self.tree, env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise MutantError("it cannot be built:\n" + done.stderr[-3000:])
        return out / "stockade-init"

    def run(self, program: Path, test: str, user: str, helper: Path | None = None) -> tuple[str, str]:
        """`passed`, `failed`, `skipped` or `none`, and what it printed."""
        command = [str(program), "--exact", test, "--test-threads=1"]
        variables = [f"CARGO_MANIFEST_DIR={self.tree}", f"STOCKADE_SUITE_GUEST={self.place / 'guest'}"]
        variables += [f"STOCKADE_INIT={helper}"] if helper else []
        command = ["env", *variables, *command]
        if user == "user":
            command = ["scripts/as-test-user.sh", *command]
        if os.getuid() == 0:
            command = ["scripts/with-fuse.sh", *command]
        child = subprocess.Popen(
            command,
            cwd=self.tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            end_orphans()
            child.communicate()
            return "failed", f"it did not end within {PATIENCE} s"
        finally:
            end_orphans()
        if "skipped: " in said:
            return "skipped", said
        if "running 1 test" not in said:
            return "none", said
        return ("passed" if child.returncode == 0 else "failed"), said


def adopt_orphans() -> None:
    """Makes what a test leaves running ours: without its protection there may be something."""
    subreaper = 36
    ctypes.CDLL(None).prctl(subreaper, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kills what was left to us, and reaps it."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        except (OSError, IndexError):
            pass  # it has ended


# ---- trying them


def why_red(said: str) -> str:
    """The line that tells most."""
    lines = said.splitlines()
    for at, line in enumerate(lines):
        if "panicked at" in line:
            return " ".join(lines[at + 1 : at + 2]).strip()[:100] or line
    return lines[-1][:100] if lines else ""


class Record:
    """What was red, of which tree and which mutant."""

    def __init__(self, copy: Copy) -> None:
        """Reads what is there."""
        self.path = copy.place / "record.json"
        self.tree = copy.digest.hexdigest()
        self.red: dict[str, str] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def key(self, mutant: Mutant) -> str:
        """What has to be the same."""
        return self.tree + hashlib.sha256((HERE / f"{mutant.name}.toml").read_bytes()).hexdigest()

    def has(self, mutant: Mutant) -> bool:
        """Whether it was red, and nothing has changed since."""
        return self.red.get(mutant.name) == self.key(mutant)

    def note(self, mutant: Mutant, key: str, word: str) -> None:
        """Keeps a result at once: the run may be ended."""
        self.red.pop(mutant.name, None)
        if word == "red":
            self.red[mutant.name] = key
        self.path.write_text(json.dumps(self.red))


def try_one(copy: Copy, standing: dict[str, Path], mutant: Mutant) -> tuple[str, str]:
    """A word, and what there is to be said about it."""

    def built(changes: tuple[Change, ...]) -> tuple[Path, Path | None]:
        copy.apply(changes)
        if mutant.of_helper:
            return standing[mutant.target], copy.helper()
        return copy.build(mutant.target), None

    if mutant.besides:
        program, helper = built(mutant.besides)
        result, said = copy.run(program, mutant.test, mutant.user, helper)
        if result != "passed":
            raise MutantError(f"without the other layers its test is {result}: {why_red(said)}")
    program, helper = built(mutant.besides + mutant.changes)
    result, said = copy.run(program, mutant.test, mutant.user, helper)
    if result == "passed":
        return "GREEN", "the test passes without the protection"
    if result != "failed":
        raise MutantError(f"the test was not run: {result}")
    if mutant.target == "suite" and copy.run(program, CONTROL, mutant.user, helper)[0] != "passed":
        raise MutantError(f"no program runs any more: {why_red(said)}")
    return "red", why_red(said)


def try_all(mutants: list[Mutant], resume: bool) -> int:
    """Tries them, one after the other: those of the helper first, whose builds are short."""
    copy = Copy()
    copy.refresh()
    adopt_orphans()
    record = Record(copy)
    keys = {mutant.name: record.key(mutant) for mutant in mutants}
    left_out = [mutant for mutant in mutants if mutant.user == "root" and os.getuid() != 0]
    known = [mutant for mutant in mutants if resume and record.has(mutant)]
    mutants = [mutant for mutant in mutants if mutant not in left_out + known]
    standing = {target: copy.keep(target) for target in sorted({mutant.target for mutant in mutants})}
    copy.build_guest()
    passes: dict[tuple[str, str, str], str] = {}
    results: dict[str, list[str]] = {"red": [mutant.name for mutant in known], "GREEN": [], "ERROR": []}
    for mutant in sorted(mutants, key=lambda mutant: not mutant.of_helper):
        begun = time.monotonic()
        key = (mutant.target, mutant.test, mutant.user)
        if key not in passes:
            result, said = copy.run(standing[mutant.target], mutant.test, mutant.user)
            passes[key] = result
            if result != "passed":
                print(f"as it is, {mutant.shown} as {mutant.user}: {result}\n{said[-2000:]}", flush=True)
        try:
            if passes[key] != "passed":
                raise MutantError("its test does not pass with the protection")
            word, why = try_one(copy, standing, mutant)
        except MutantError as fault:
            word, why = "ERROR", str(fault)
        results[word].append(mutant.name)
        record.note(mutant, keys[mutant.name], word)
        took = time.monotonic() - begun
        print(f"{word:5} {mutant.name} ({mutant.shown} as {mutant.user}, {took:.0f} s): {why}", flush=True)
    copy.apply(())
    results["not run: root is needed"] = [mutant.name for mutant in left_out]
    for word, names in results.items():
        print(f"{len(names)} {word}{': ' if names else ''}{' '.join(sorted(names))}")
    if known:
        print(f"of the red ones {len(known)} from the record")
    return 1 if results["GREEN"] or results["ERROR"] else 0


def main() -> int:
    """Reads them all, and does what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="build nothing: do they fit the tree and the document?")
    parser.add_argument("--table", action="store_true", help="write the table in docs/security.md")
    parser.add_argument("--resume", action="store_true", help="leave out what was red, of the same tree")
    parser.add_argument("names", nargs="*", help="which to try; all without one")
    options = parser.parse_args()
    mutants: list[Mutant] = []
    faults = 0
    for path in sorted(HERE.glob("*.toml")):
        try:
            mutants.append(read(path))
        except MutantError as fault:
            faults += 1
            print(f"{path.name}: {fault}")
    if faults:
        return 1
    try:
        if options.table:
            before, _, after = split_document()
            DOCUMENT.write_text(f"{before}{BEGIN}\n{table(mutants)}\n{END}{after}")
            return 0
        if options.check:
            return check(mutants)
    except MutantError as fault:
        print(fault)
        return 1
    unknown = set(options.names) - {mutant.name for mutant in mutants}
    if unknown:
        parser.error(f"no such mutant: {shlex.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not options.names or mutant.name in options.names]
    try:
        return try_all(chosen, options.resume)
    except MutantError as fault:
        print(fault)
        return 1


if __name__ == "__main__":
    sys.exit(main())
