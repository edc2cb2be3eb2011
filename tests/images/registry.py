"""Debian's `docker-registry` on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UP_SECONDS = 60


def _free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def registry(work: Path) -> Iterator[str]:
    """Runs one that keeps what it has in `work`: its address. It is gone afterwards, with what it had."""
    port = _free_port()
    config = work / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {work}/registry}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}"}}\n'
    )
    log = work / "registry.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        ) as server,
    ):
        try:
            end = time.monotonic() + UP_SECONDS
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > end:
                    sys.exit(f"docker-registry does not run: {log.read_text()}")
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()
