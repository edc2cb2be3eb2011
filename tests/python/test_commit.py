"""Images of sandboxes, and images that are built, from Python."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import stockade
from stockade import images


@pytest.fixture
def store(tmp_path: Path) -> images.Store:
    """A store with an image of which the program itself is a volume."""
    with tarfile.open(tmp_path / "rootfs.tar", "w") as tar:
        for name in ("bin", "lib", "lib64"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
        for name in ("usr", "srv"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    store = images.Store(tmp_path / "store")
    store.import_(tmp_path / "rootfs.tar", "base", cmd=["/bin/cat", "/srv/a"])
    return store


def options(store: images.Store, image: str = "base") -> stockade.Options:
    return stockade.Options(image=image, store=store.path, volumes=["/usr:/usr:ro"], timeout=30)


@pytest.fixture
def box(store: images.Store) -> Iterator[stockade.Sandbox]:
    with stockade.Sandbox(**options(store)) as box:
        box.run(["/bin/sh", "-c", "echo one > /srv/a; mkdir out; echo file > out/file"], check=True)
        try:
            box.changes()
        except stockade.UnsupportedError as error:
            pytest.skip(str(error))
        yield box


def test_commit(store: images.Store, box: stockade.Sandbox) -> None:
    image = box.commit("new:1", changes=["ENV A=b"], author="me", message="why")
    assert image.names == ("new:1",)
    assert image.config["author"] == "me"
    assert image.config["config"]["Env"] == ["A=b"]
    assert image.config["history"][1]["comment"] == "why"
    assert stockade.run([], **options(store, "new:1")).stdout == b"one\n"
    assert store.diff("new:1") == [("C", "/srv"), ("A", "/srv/a")]
    assert store.diff("base", "new:1") == [images.Change("C", "/srv"), images.Change("D", "/srv/a")]
    assert box.commit("new:2", pause=False).layers == image.layers
    with pytest.raises(stockade.InvalidArgumentError, match="RUN x"):
        box.commit(changes=["RUN x"])
    with stockade.Sandbox() as bare, pytest.raises(stockade.StateError, match="of no image"):
        bare.commit("x")


def test_snapshot(store: images.Store, box: stockade.Sandbox) -> None:
    with box.snapshot() as snapshot:
        box.run(["/bin/sh", "-c", "echo two > /srv/a"], check=True)
        assert snapshot.id in repr(snapshot)
        assert store.prune().images == ()
        assert stockade.run([], **options(store, snapshot.id)).stdout == b"one\n"
    assert store.prune().images == (snapshot.id,)
    held = store.hold("base")
    assert store.remove("base").images == ()
    held.release()
    held.release()


def test_export(store: images.Store, box: stockade.Sandbox, tmp_path: Path) -> None:
    box.export("out", tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["out", "out/file"]
    with (tmp_path / "file.tar").open("wb") as file:
        file.write(b"")
        box.export(Path("/srv/a"), file)
    with tarfile.open(tmp_path / "file.tar") as tar:
        member = tar.extractfile("a")
        assert member is not None
        assert member.read() == b"one\n"
    with pytest.raises(stockade.SetupError, match="none"):
        box.export("none", tmp_path / "x")
    box.commit("new")
    store.export("new", tmp_path / "root.tar")
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert "srv/a" in tar.getnames()
    with pytest.raises(io.UnsupportedOperation, match="fileno"):
        store.export("new", io.BytesIO())


def test_from_event_loops(store: images.Store, box: stockade.Sandbox, tmp_path: Path) -> None:
    async def use() -> None:
        assert (await box.acommit("a:1")).names == ("a:1",)
        with await box.asnapshot() as snapshot:
            assert store.inspect(snapshot.id).names in {("a:1",), ()}
        await box.aexport("out", tmp_path / "a.tar")
        assert tarfile.is_tarfile(tmp_path / "a.tar")
        assert (await store.abuild("base", ["ENV A=b"], "a:2")).names == ("a:2",)

    asyncio.run(use())
    trio.run(use)


STEPS: list[images.Step] = [
    "ENV A=hey",
    images.Files({"/srv/text": "text", "/srv/bytes": (b"\xff", 0o600)}),
    images.Copy("*.py", "/srv/", chmod=0o640),
    images.Run("echo $A > /srv/a; echo said"),
    images.Run(["/bin/sh", "-c", "test -f /srv/one.py"]),
    'CMD ["/bin/cat", "/srv/a"]',
]


def test_build(store: images.Store, box: stockade.Sandbox, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "one.py").write_text("1")
    seen: list[tuple[str, int, int, bool]] = []
    said = bytearray()
    image = store.build(
        "base",
        STEPS,
        "built:1",
        context=context,
        progress=lambda *step: seen.append(step),
        on_output=said.extend,
        volumes=["/usr:/usr:ro"],
        timeout=30,
    )
    assert [(number, total, cached) for _, number, total, cached in seen] == [
        (1, 6, True),
        (2, 6, False),
        (3, 6, False),
        (4, 6, False),
        (5, 6, False),
        (6, 6, True),
    ]
    assert bytes(said) == b"said\n"
    assert stockade.run([], **options(store, "built:1")).stdout == b"hey\n"
    seen.clear()
    again = store.build("base", STEPS, "built:2", context=context, progress=lambda *step: seen.append(step))
    assert again.id == image.id
    assert all(cached for *_, cached in seen)
    again = store.build("base", STEPS, context=context, no_cache=True, volumes=["/usr:/usr:ro"])
    assert len(again.layers) == 4

    file = context / "Stockadefile"
    file.write_text('FROM base\nARG TEXT\nRUN echo $TEXT > /srv/a\nCOPY one.py /srv/\nCMD ["/bin/cat", "/srv/a"]\n')
    built = store.build_file(file, "file:1", build_args={"TEXT": "given"}, volumes=["/usr:/usr:ro"])
    assert built.names == ("file:1",)
    assert stockade.run([], **options(store, "file:1")).stdout == b"given\n"


def test_builds_that_fail(store: images.Store, box: stockade.Sandbox, tmp_path: Path) -> None:
    with pytest.raises(stockade.ImageError, match=r"step 1: .*status 3; it said: why") as caught:
        store.build("base", [images.Run("echo why; exit 3")], volumes=["/usr:/usr"])
    assert caught.value.step == "run"
    with pytest.raises(stockade.InvalidArgumentError, match="step 2: `ADD`"):
        store.build("base", ["ENV A=b", "ADD x /"])
    with pytest.raises(stockade.NotFoundError):
        store.build("none", [])
    (tmp_path / "File").write_text("FROM base\nHEALTHCHECK NONE\n")
    with pytest.raises(stockade.InvalidArgumentError, match="File:2: "):
        store.build_file(tmp_path / "File")

    def stop(data: bytes) -> None:
        raise LookupError(data)

    with pytest.raises(LookupError):
        store.build("base", [images.Run("echo x; sleep 60")], on_output=stop, volumes=["/usr:/usr"])

    async def cancelled() -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        build = store.abuild(
            "base",
            [images.Run("sleep 60")],
            progress=lambda *_: loop.call_soon_threadsafe(started.set),
            volumes=["/usr:/usr"],
        )
        task = asyncio.create_task(build)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # The thread ends soon, else this would wait for it.
    asyncio.run(asyncio.wait_for(cancelled(), 30))


DOCUMENT = Path(__file__).parents[2] / "docs/images.md"
# The one that pulls is run by test_pull.py, which has a registry.
EXAMPLES = [
    example
    for example in re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    if "pull(" not in example
]


def test_the_examples_of_the_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both of them, with an image that has a shell of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with tarfile.open(tmp_path / "rootfs.tar", "w", dereference=True) as tar:
        for program in ("/bin/sh", "/bin/cat"):
            libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
            for path in [program, *re.findall(r"/\S+", libraries)]:
                tar.add(path, path)
        entry = tarfile.TarInfo("srv")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    images.import_(tmp_path / "rootfs.tar", "base:1")
    with stockade.Sandbox(image="base:1") as box:
        try:
            box.changes()
        except stockade.UnsupportedError as error:
            pytest.skip(str(error))
    assert len(EXAMPLES) == 2
    for example in EXAMPLES:
        exec(compile(example, str(DOCUMENT), "exec"), {})
    assert stockade.run(["/bin/cat", "/srv/state"], image="new:1").stdout == b"state\n"
    assert stockade.run([], image="app:1").stdout == b"you\n"
    with tarfile.open(tmp_path / "srv.tar") as tar:
        assert tar.getnames() == ["srv", "srv/state"]


def test_the_default_store(store: images.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (store.path).rename(tmp_path / "stockade")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    built = images.build("base", ["ENV A=b"], "a")
    assert images.diff("a", "base") == []
    images.export("a", tmp_path / "a.tar")
    assert tarfile.is_tarfile(tmp_path / "a.tar")
    with images.hold("a") as held:
        assert held.id == built.id
    (tmp_path / "File").write_text("FROM base\nENV A=b\n")
    assert images.build_file(tmp_path / "File", "b").config["config"]["Env"] == ["A=b"]
    assert (
        asyncio.run(images.abuild_file(tmp_path / "File", "b")).names
        == asyncio.run(images.abuild("base", ["ENV A=b"], "b")).names
    )
