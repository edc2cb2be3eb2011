"""Pulling images, from a registry of a few lines."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

import stockade
from stockade import images

SECRET = "s3cret-of-the-tests"


class Registry:
    """A registry on loopback, without TLS. While `stalled` it answers for no layer."""

    def __init__(self, root: Path) -> None:
        self.paths: dict[str, bytes] = {}
        self.stalled = False
        self.asked = threading.Event()
        self.over = threading.Event()
        source = images.Store(root / "source")
        with tarfile.open(root / "rootfs.tar", "w") as tar:
            entry = tarfile.TarInfo("etc/text")
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"hello"))
        self.id = source.import_(root / "rootfs.tar", "one:1").id
        source.save("one:1", root / "layout", format="oci-dir")
        for blob in (root / "layout/blobs/sha256").iterdir():
            self.paths[f"/v2/one/blobs/sha256:{blob.name}"] = blob.read_bytes()
        index = json.loads((root / "layout/index.json").read_text())
        self.digest = index["manifests"][0]["digest"]
        manifest = self.paths[f"/v2/one/blobs/{self.digest}"]
        self.layer = json.loads(manifest)["layers"][0]["digest"]
        self.paths["/v2/one/manifests/1"] = self.paths[f"/v2/one/manifests/{self.digest}"] = manifest
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if registry.stalled and registry.layer in self.path:
                    registry.asked.set()
                    registry.over.wait(60)
                body = registry.paths.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.name = f"127.0.0.1:{self.server.server_port}/one:1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    yield registry
    registry.close()


@pytest.fixture
def store(tmp_path: Path) -> images.Store:
    return images.Store(tmp_path / "store")


def test_pull(registry: Registry, store: images.Store) -> None:
    seen: dict[str, tuple[int, int | None]] = {}
    image = store.pull(
        registry.name,
        progress=lambda what, done, total: seen.update({what: (done, total)}),
        auth_file="/dev/null",
        mirrors=["127.0.0.1:1"],
        retry=1,
        timeout="5s",
        max_concurrent_downloads=2,
        tls_verify=True,
    )
    assert (image.id, image.digest, image.names) == (registry.id, registry.digest, (registry.name,))
    assert (Path(image.layers[0].path) / "etc/text").read_text() == "hello"
    done, total = seen["download 1/1"]
    assert done == total == image.layers[0].compressed_size
    assert "layer 1/1" in seen
    assert store.verify().problems == ()
    by_digest = registry.name.rsplit(":", 1)[0] + "@" + registry.digest
    assert store.pull(by_digest, auth_file="/dev/null").names == (registry.name, by_digest)
    assert store.inspect(by_digest).id == registry.id
    config = registry.paths[f"/v2/one/blobs/{registry.id}"]
    assert hashlib.sha256(config).hexdigest() in image.id


def test_the_default_store(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    image = images.pull(registry.name, auth_file="/dev/null")
    assert images.list() == [image]
    assert asyncio.run(images.apull(registry.name, auth_file="/dev/null")) == image


def test_the_example_of_the_document(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With names of this machine's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/dev/null")
    document = Path(__file__).parents[2] / "docs/images.md"
    examples = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    (example,) = (example for example in examples if "pull(" in example)
    host = registry.name.split("/")[0]
    example = example.replace("debian:12", registry.name).replace("mirror.example", host)
    exec(compile(example, str(document), "exec"), {})
    assert [image.names for image in images.list()] == [(registry.name,)]


def test_errors(registry: Registry, store: images.Store, tmp_path: Path) -> None:
    def fails(kind: type[stockade.Error], name: str = registry.name, **options: Any) -> stockade.Error:
        options.setdefault("auth_file", "/dev/null")
        with pytest.raises(kind) as caught:
            store.pull(name, **options)
        assert SECRET not in str(caught.value)
        return caught.value

    assert fails(stockade.RegistryError, "127.0.0.1:1/one").step == "connect"
    fails(stockade.NotFoundError, registry.name + "0")
    fails(stockade.InvalidArgumentError, "One")
    fails(stockade.InvalidArgumentError, platform="x")
    fails(stockade.InvalidArgumentError, user="me")
    fails(stockade.InvalidArgumentError, user="me:", password=SECRET)
    fails(stockade.InvalidArgumentError, user="me", password=SECRET.encode())
    fails(stockade.InvalidArgumentError, mirrors="localhost")
    fails(stockade.InvalidArgumentError, tls_verify=1)
    fails(stockade.InvalidArgumentError, timeout="soon")
    fails(stockade.InvalidArgumentError, auth_file=tmp_path / "none")
    with pytest.raises(TypeError, match="no_such"):
        store.pull(registry.name, no_such=1)  # type: ignore[call-arg]
    registry.paths[f"/v2/one/blobs/{registry.layer}"] = b"x" * 10240
    assert fails(stockade.ImageError).step in ("digest", "size")
    registry.stalled = True
    began = time.monotonic()
    assert fails(stockade.RegistryError, timeout=0.2, retry=0).step == "timeout"
    assert time.monotonic() - began < 10

    def stop(what: str, done: int, total: int | None) -> None:
        raise LookupError(what)

    with pytest.raises(LookupError):
        store.pull(registry.name, progress=stop, auth_file="/dev/null")
    assert store.list() == []


def test_an_interrupt_ends_it(registry: Registry, store: images.Store) -> None:
    registry.stalled = True

    def interrupt() -> None:
        registry.asked.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.pull(registry.name, auth_file="/dev/null", timeout=60)
    assert time.monotonic() - began < 20
    helper.join()
    registry.stalled = False
    assert store.pull(registry.name, auth_file="/dev/null").id == registry.id


@pytest.mark.anyio
async def test_apull(registry: Registry, store: images.Store) -> None:
    seen = set()
    image = await store.apull(registry.name, progress=lambda what, done, total: seen.add(what), auth_file="/dev/null")
    assert image.id == registry.id
    assert "layer 1/1" in seen
    with pytest.raises(stockade.NotFoundError):
        await store.apull(registry.name + "0", auth_file="/dev/null")

    async def fails() -> None:
        def stop(what: str, done: int, total: int | None) -> None:
            raise LookupError(what)

        store.prune(all=True)
        with pytest.raises(LookupError):
            await store.apull(registry.name, progress=stop, auth_file="/dev/null")

    await fails()


@pytest.mark.anyio
async def test_a_cancellation_ends_it(registry: Registry, store: images.Store) -> None:
    registry.stalled = True
    ticks = 0
    began = time.monotonic()
    with anyio.move_on_after(0.5) as scope:
        async with anyio.create_task_group() as group:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await anyio.sleep(0.05)
                    ticks += 1

            group.start_soon(tick)
            await store.apull(registry.name, auth_file="/dev/null", timeout=60)
    assert scope.cancelled_caught
    assert time.monotonic() - began < 20
    assert ticks > 3, "the loop went on meanwhile"
    assert not [thread for thread in threading.enumerate() if thread.name == "stockade-pull"]
    assert store.list() == []
    # What it held is free again.
    registry.stalled = False
    assert (await store.apull(registry.name, auth_file="/dev/null")).id == registry.id
