"""The store of images, from Python."""

from __future__ import annotations

import io
import tarfile
import threading
from pathlib import Path

import pytest

import stockade
from stockade import images


def archive(path: Path, text: str) -> Path:
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("etc/text")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def store(tmp_path: Path) -> images.Store:
    return images.Store(tmp_path / "store")


def test_in_and_out(store: images.Store, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    image = store.import_(
        archive(tmp_path / "rootfs.tar", "hello"),
        "some/name:1",
        cmd=["/bin/sh", "-c", "x"],
        env={"A": "b"},
        labels={"l": "1"},
        progress=lambda *now: seen.append(now),
    )
    assert image.names == ("some/name:1",)
    assert image.config["config"] == {"Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=b"], "Labels": {"l": "1"}}
    assert (Path(image.layers[0].path) / "etc/text").read_text() == "hello"
    assert seen[-1][0] == "root file system"
    assert store.list() == [image] == [store.inspect("name:1")]

    store.tag(image.id, "other")
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        target = tmp_path / form
        store.save(["some/name:1", "other"], target, format=form)
        again = images.Store(tmp_path / f"store-{form}")
        loaded = again.load(target)
        assert {found.id for found in loaded} == {image.id}
        assert again.inspect("other").names == ("other:latest", "some/name:1")
        assert again.verify().problems == ()

    assert store.remove("other").images == ()
    assert store.remove("name:1").images == (image.id,)
    assert store.disk_use() == images.DiskUse(0, 0, 0, 0, 0)


def test_open_files(store: images.Store, tmp_path: Path) -> None:
    with archive(tmp_path / "rootfs.tar", "hello").open("rb") as file:
        store.import_(file, "a")
    with (tmp_path / "saved").open("wb") as file:
        store.save("a", file)
    store.remove("a")
    with (tmp_path / "saved").open("rb") as file:
        assert store.load(file)[0].names == ("a:latest",)
    with pytest.raises(stockade.InvalidArgumentError, match="source"):
        store.load(7)  # type: ignore[arg-type]


def test_errors(store: images.Store, tmp_path: Path) -> None:
    with pytest.raises(stockade.NotFoundError, match="nothing"):
        store.inspect("nothing")
    with pytest.raises(stockade.SetupError, match="no-such-file"):
        store.load(tmp_path / "no-such-file")
    with pytest.raises(stockade.ImageError) as caught:
        store.load(archive(tmp_path / "rootfs.tar", "no archive of images"))
    assert caught.value.step == "format"
    with pytest.raises(stockade.InvalidArgumentError, match="format"):
        store.save("a", tmp_path / "x", format="zip")  # type: ignore[arg-type]

    def stop(what: str, done: int, total: int | None) -> None:
        raise LookupError(what)

    with pytest.raises(LookupError, match="root file system"):
        store.import_(tmp_path / "rootfs.tar", progress=stop)
    assert store.list() == []


def test_the_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    image = images.import_(archive(tmp_path / "rootfs.tar", "hello"), "a")
    assert images.Store().path == tmp_path / "stockade"
    assert images.list() == [image]
    images.tag("a", "b")
    images.save("b", tmp_path / "saved")
    assert images.remove("a").names == ("a:latest",)
    assert images.prune(all=True).images == (image.id,)
    assert images.load(tmp_path / "saved")[0] == images.inspect("b")
    assert images.verify().layers == 1
    assert images.disk_use().images == 1


def test_many_threads(store: images.Store, tmp_path: Path) -> None:
    paths = [archive(tmp_path / f"{i}.tar", str(i % 2)) for i in range(4)]
    threads = [threading.Thread(target=store.import_, args=(path, f"a:{path.stem}")) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name for image in store.list() for name in image.names} == {"a:0", "a:1", "a:2", "a:3"}
    assert store.verify().problems == ()


def test_programs_run_in_an_image(store: images.Store, tmp_path: Path) -> None:
    rootfs = archive(tmp_path / "rootfs.tar", "hello ")
    with tarfile.open(rootfs, "a") as tar:
        # Of the program itself there is only a link in the image: what it leads to is a volume.
        for name in ("bin", "lib", "lib64"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
    store.import_(rootfs, "box", cmd=["/bin/sh", "-c", "cat /etc/text; echo $A"], env={"A": "b"})
    options = stockade.Options(image="box", store=store.path, volumes=["/usr:/usr:ro"])
    run = stockade.run([], **options)
    assert (run.stdout, run.verdict) == (b"hello b\n", stockade.Verdict.OK)
    other = stockade.Spec([], **options).replace(env={"A": "c"})
    assert stockade.run(other).stdout == b"hello c\n"
    other = other.replace(["d"], entrypoint=["/bin/echo"])
    assert stockade.run(other).stdout == b"d\n"
    with stockade.Sandbox(**options) as box:
        box.run(["/bin/sh", "-c", "echo new > /etc/new"], check=True)
        assert [(str(change.path), change.kind) for change in box.changes()] == [("/etc", "C"), ("/etc/new", "A")]
        # In use, it loses its name and no more.
        assert store.remove("box").images == ()
        box.run(["/bin/cat", "/etc/text"], check=True)
    with pytest.raises(stockade.NotFoundError):
        stockade.run([], **options)
