#!/usr/bin/env python3
"""Makes the table in docs/cgroups.md from what the tests said of each limit.

tests/vm/truth.py collect DIRECTORY NAME < OUTPUT   keeps the lines of a run outside of the machines as NAME
tests/vm/truth.py write DIRECTORY                   writes the table between its markers
"""

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/cgroups.md"
BEGIN, END = "<!-- truth: begin -->\n", "<!-- truth: end -->\n"
# In the order of the table. What the first word of a file's name says, in words.
HOSTS = {
    "delegated": "a scope of one's own, delegated",
    "service": "a service of the user's systemd",
    "unit": "a system service with `User=`, `Delegate=yes`",
    "subgroup": "the same service in a child of its group (`DelegateSubgroup=`)",
    "login": "a login session, ssh",
    "root": "root, in a system service",
    "v1root": "root, cgroup v1 without systemd",
    "v1user": "a user, cgroup v1 without systemd",
}
Cells = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Host:
    """What one run said: the kernel's release, and for each limit what holds it."""

    place: str
    kernel: str
    said: Cells


def read(file: Path) -> Host:
    """The lines of a run."""
    kernel, said = "", []
    for line in file.read_text().splitlines():
        matched = re.fullmatch(r"truth: (\w+): (?:Linux (\d+\.\d+).*|(\w+): (.*))", line)
        if not matched:
            raise SystemExit(f"{file}: no line of a test: {line}")
        limit, release, status, by = matched.groups()
        if release:
            kernel = release
        else:
            said.append((limit, cell(status, by)))
    return Host(file.name.split("-")[0], kernel, tuple(sorted(said)))


def cell(status: str, by: str) -> str:
    """What holds a limit, without the reason why it is not another."""
    by = re.split(r": |, (?:which|sampled) ", by)[0].removesuffix(", in a scope of systemd's")
    by = re.sub(r"cgroup v[12] (\w+\.[\w.]+)", r"`\1`", by)
    by = re.sub(r"^cgroup v[12] | to [\d,-]+$", "", by)
    return {"enforced": by, "approximated": f"≈ {by}"}.get(status, "refused")


def rung(file: Path) -> str:
    """The rung of the ladder, from the same lines."""
    text = "\n".join(line for line in file.read_text().splitlines() if ": enforced: " in line or "max, without" in line)
    if "in a scope of systemd's" in text:
        return "2"
    return "1" if "cgroup v2" in text else "3" if "cgroup v1" in text else "4"


def version(release: str) -> list[int]:
    """For the order of age."""
    return [int(part) for part in release.split(".")]


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(directory: Path) -> None:
    """Puts the tables into the document."""
    files = sorted(directory.iterdir())
    if not files:
        raise SystemExit(f"{directory}: nothing has been kept there")
    hosts = [(read(file), rung(file)) for file in files]
    limits = sorted({limit for host, _ in hosts for limit, _ in host.said})
    values = {limit: {dict(host.said).get(limit, "") for host, _ in hosts} for limit in limits}
    differing = [limit for limit in limits if len(values[limit]) > 1]
    # Kernels on which a place is the same share a row.
    kernels: dict[tuple[str, str, Cells], list[str]] = defaultdict(list)
    for host, step in hosts:
        kernels[host.place, step, host.said].append(host.kernel)
    # And so do places that are the same on these kernels.
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (place, step, said), releases in kernels.items():
        by_age = ", ".join(sorted(releases, key=version))
        cells = (by_age, step, *(dict(said).get(limit, "") for limit in differing))
        places[cells].append(place)
    order = list(HOSTS)
    rows = []
    for cells, those in places.items():
        those.sort(key=order.index)
        rows.append((order.index(those[0]), version(cells[0].split(", ")[0]), those, cells))
    rows.sort()
    head = ["the caller is in", "Linux", "rung", *(f"`{limit}`" for limit in differing)]
    text = table(head, [["; ".join(HOSTS[place] for place in those), *cells] for _, _, those, cells in rows])
    text += "\nThe same on all of them:\n\n"
    same = [[f"`{limit}`", values[limit].pop()] for limit in limits if limit not in differing]
    text += table(["limit", "held by"], same)
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{DOCUMENT}: the markers are missing")
    DOCUMENT.write_text(before + BEGIN + text + END + after)


def main() -> None:
    match sys.argv[1:]:
        case ["collect", directory, name]:
            lines = [line for line in sys.stdin.read().splitlines() if line.startswith("truth: ")]
            Path(directory).mkdir(parents=True, exist_ok=True)
            (Path(directory) / name).write_text("\n".join(lines) + "\n")
        case ["write", directory]:
            write(Path(directory))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
