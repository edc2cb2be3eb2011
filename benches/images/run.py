# ruff: noqa: T201
"""Measure images beside the tools of others and print tables of ratios.

The image is a Debian of mmdebstrap's, or what is given by --rootfs. Figures of one row are measured in turns, so ratios
hold on a machine whose speed changes from minute to minute; times do not travel. Who is not root cannot see the memory
of all processes and gets no such table. `make bench-images` builds what this needs.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
CARGO = ["cargo", "bench", "--quiet", "--locked", "--bench"]
DRIVERS = ("kernel", "fuse", "copy")
LIMITS: dict[str, object] = {"memory": "256m", "pids": 16, "wall_time": 100}
IDLE = ["/bin/sleep", "1000"]


def run(*command: str | Path, stderr: int | None = None) -> str:
    """The output of a command that has to succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{words} failed")
    return done.stdout


def debian(path: Path) -> Path:
    """A root file system of Debian's smallest set of packages, as a tar file."""
    run(TOP / "tests" / "images" / "debian.sh", path)
    return path


def used(path: Path) -> int:
    """What a directory takes on disk, in bytes."""
    return int(run("du", "-s", "--block-size=1", path).split()[0])


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


class Bench:
    """A store with the image, and what is measured with it."""

    def __init__(self, work: Path, rootfs: Path, stockade: Path) -> None:
        self.work = work
        self.stockade = stockade
        self.store = work / "store"
        self.short = Path(tempfile.mkdtemp(prefix="sb."))
        run(stockade, "import", "--store", self.store, rootfs, "bench:1")
        plain = work / "plain.tar"
        run(stockade, "save", "--store", self.store, "--format", "oci-archive", "-o", plain, "bench:1")
        # As registries have it: compressed.
        self.archive = work / "bench.tar"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
        self.layout = work / "layout"
        run(*copy, "--dest-compress", f"oci-archive:{plain}", f"oci:{self.layout}:bench")
        run(*copy, f"oci:{self.layout}:bench", f"oci-archive:{self.archive}:bench:1")
        plain.unlink()
        self.drivers = [driver for driver in DRIVERS if self.works(driver)]

    def spec(self, driver: str, args: list[str]) -> str:
        """A specification of a program in the image."""
        spec = {"args": args, "image": "bench:1", "store": str(self.store), "overlay": driver, "disk": "2g", **LIMITS}
        return json.dumps(spec)

    def works(self, driver: str) -> bool:
        """Whether this host has the driver."""
        command = [str(self.stockade), "run", "--store", str(self.store), "--image", "bench:1", "--overlay", driver]
        tried = subprocess.run(
            [*command, "--disk", "2g", "--", "/bin/true"], stderr=subprocess.PIPE, text=True, check=False
        )
        if tried.returncode != 0:
            print(f"{driver}: not here: {tried.stderr.strip()}")
        return tried.returncode == 0

    def start(self, count: int) -> None:
        """How long it takes to run /bin/true in a sandbox of its own."""
        rows = []
        host = json.dumps({"args": ["/bin/true"], **LIMITS})
        for driver in self.drivers:
            number = str(count if driver != "copy" else max(count // 20, 5))
            peer = f"{driver}={self.spec(driver, ['/bin/true'])}"
            out = run(*CARGO, "spawn", "--", "latency", number, host, "/bin/true", peer)
            times = {name: [float(x) / 1e3 for x in rest] for name, *rest in map(str.split, out.splitlines())}
            p50 = {name: statistics.median(values) for name, values in times.items()}
            rows.append(
                [
                    driver,
                    f"{p50['plain']:.0f}",
                    f"{p50['stockade']:.0f}",
                    f"{p50[driver]:.0f}",
                    f"{p50[driver] / p50['stockade']:.2f}",
                ]
            )
        table(["start", "plain p50 us", "from the host p50 us", "from the image p50 us", "image to host"], rows)

    def reset(self, count: int) -> None:
        """How long it takes to begin anew."""
        rows = []
        for driver in self.drivers:
            number = count if driver != "copy" else 5
            spec = self.spec(driver, IDLE)
            p25 = []
            for files in (1, 1000):
                out = run(*CARGO, "images", "--", "reset", str(number), str(files), spec)
                # Of a machine that does something else, too, the quickest quarter says most.
                p25.append(statistics.quantiles((float(x) / 1e3 for x in out.split()), n=4)[0])
            rows.append([driver, f"{p25[0]:.0f}", f"{p25[1]:.0f}", f"{p25[1] / p25[0]:.2f}"])
        table(["reset", "1 file p25 us", "1000 files p25 us", "1000 to 1"], rows)

    def many(self, count: int) -> None:
        """What many sandboxes take."""
        rows = []
        for driver in self.drivers:
            number = count if driver != "copy" else 5
            before = used(self.store)
            out = run(*CARGO, "images", "--", "many", str(number), self.spec(driver, IDLE))
            found = {name: int(value) for name, value in map(str.split, out.splitlines())}
            row = [driver, str(number), str(found["processes"]), f"{found['start'] / 1e3:.0f}"]
            row += [f"{found[name] / number / 1024:.0f}" for name in ("pss", "shmem", "slab")]
            rows.append([*row, f"{(used(self.store) - before) / number / 1024:.0f}"])
        head = ["sandboxes", "number", "processes", "start us", "PSS KiB each", "tmpfs KiB each", "slab KiB each"]
        table([*head, "store KiB each"], rows)

    def imports(self, rounds: int) -> None:
        """How long it takes to get the image from a compressed archive or layout."""
        root = os.geteuid() == 0
        tools: dict[str, Callable[[Path], list[str]]] = {
            "stockade load": lambda to: [str(self.stockade), "load", "--store", str(to), "-i", str(self.archive)],
            "umoci unpack": lambda to: [
                *("umoci", "unpack", "--image", f"{self.layout}:bench"),
                *([] if root else ["--rootless"]),
                str(to),
            ],
            "podman load": lambda to: [
                *("podman", "--storage-driver", "overlay" if root else "vfs", "--root", str(to / "root")),
                # Which has a limit on the length of this one.
                *("--runroot", str(self.short / to.parent.name), "load", "--quiet", "-i", str(self.archive)),
            ],
        }
        tools = {name: command for name, command in tools.items() if shutil.which(command(Path("/x"))[0])}
        times: dict[str, list[float]] = {name: [] for name in tools}
        for _ in range(rounds):
            for name, command in tools.items():
                to = Path(tempfile.mkdtemp(dir=self.work))
                target = to / "to"
                os.sync()
                start = time.perf_counter()
                run(*command(target), stderr=subprocess.DEVNULL)
                times[name].append(time.perf_counter() - start)
                run("chmod", "-R", "u+rwx", to)
                shutil.rmtree(to)
        shutil.rmtree(self.short)
        ours = statistics.median(times["stockade load"])
        rows = []
        for name, values in times.items():
            p50 = statistics.median(values)
            rows.append([name, f"{p50:.2f}", f"{ours / p50:.2f}"])
        table(["import", "p50 s", "stockade to it"], rows)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stockade", required=True, type=Path, help="the command line")
    parser.add_argument("--rootfs", type=Path, help="a tar file or directory (default: Debian by mmdebstrap)")
    parser.add_argument("--count", type=int, default=200, help="calls per series (default 200)")
    options = parser.parse_args()
    rootfs = options.rootfs or debian(TOP / "build" / "bench" / "debian.tar")
    user = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, {user}")
    with tempfile.TemporaryDirectory(dir=TOP / "build", prefix="bench-images.") as work:
        bench = Bench(Path(work), rootfs, options.stockade.resolve())
        archive, files = bench.archive.stat().st_size, used(bench.store)
        sizes = f"{archive / 2**20:.0f} MiB compressed; as a plain layer and unpacked {files / 2**20:.0f} MiB on disk"
        print(f"image: {sizes}")
        print(f"load at the start {os.getloadavg()[0]:.2f}; limits {LIMITS}\n")
        bench.start(options.count)
        bench.reset(options.count // 4)
        if os.geteuid() == 0:
            bench.many(100)
        bench.imports(5)


if __name__ == "__main__":
    main()
