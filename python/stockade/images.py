"""Images: a store of layers, what goes into it and what comes out.

A store is a directory that any number of processes use at once, with no daemon. What it holds is named by its digest,
checked on the way in; what is written appears whole or not at all, wherever the writer is killed. Nothing that is read
is trusted.

The functions here use the default store: `stockade` in `$XDG_DATA_HOME`, which is `~/.local/share` if unset. `Store`
has the same as methods, of any directory.

An image is meant by a name (`latest` if it has no tag), the end of one ("python:3.12" for
"docker.io/library/python:3.12"), an id, or the beginning of one.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from stockade import _async, _stockade
from stockade._build import BuildOptions, Copy, Files, Made, Run, Step
from stockade._changes import Change
from stockade._default import abuild, abuild_file, build, build_file, diff, export, hold
from stockade._held import Held

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade._options import PullOptions

__all__ = [
    "BuildOptions",
    "Change",
    "Copy",
    "DiskUse",
    "Files",
    "Held",
    "Image",
    "Layer",
    "Removed",
    "Run",
    "Step",
    "Store",
    "Verified",
    "abuild",
    "abuild_file",
    "apull",
    "build",
    "build_file",
    "diff",
    "disk_use",
    "export",
    "hold",
    "import_",
    "inspect",
    "list",
    "load",
    "prune",
    "pull",
    "remove",
    "save",
    "tag",
    "verify",
]


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_Place: TypeAlias = str | os.PathLike[str] | _HasFileno
_Progress: TypeAlias = Callable[[str, int, int | None], object] | None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image.

    Attributes:
        diff_id: the digest of its tar stream.
        digest: the digest of the same, as it came: maybe compressed.
        size: bytes of the tar stream.
        compressed_size: bytes as it came.
        media_type: what the blob is.
        entries: entries of the tar stream.
        path: where it is unpacked.
    """

    diff_id: str
    digest: str
    size: int
    compressed_size: int
    media_type: str
    entries: int
    path: str


@dataclass(frozen=True, slots=True)
class Image:
    """What is known about an image.

    Attributes:
        id: the digest of its configuration.
        digest: the digest of its manifest.
        names: all its names.
        size: bytes of all its layers, as tar streams.
        added: when it was put into the store, in seconds since the epoch.
        config: its configuration, as the OCI image specification has it: `config["config"]["Cmd"]`.
        layers: its layers, the lowest first.
        dropped: how many device nodes ("devices"), set-id bits ("set_id"), file capabilities ("capabilities"), other
            attributes ("xattrs") and owners ("owners") its unpacked form lacks. They are kept for `save`.
        owners: whose its unpacked files are: "sub-ids" or, in root's store, "host ids", which stand for the owners that
            the image has; or "folded: " and why all of them belong to one, who in a sandbox is its user.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    size: int
    added: int
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    dropped: dict[str, int]
    owners: str


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed.

    Attributes:
        names: names that are no more.
        images: ids of images that are no more.
        bytes: bytes on disk that were freed.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the store found.

    Attributes:
        blobs: blobs that were read.
        layers: layers that were compared, file by file, with what their blobs unpack to.
        problems: what is wrong, one sentence each; empty if the store is intact.
    """

    blobs: int
    layers: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What the store takes on disk, in bytes.

    Attributes:
        images: images in it.
        blobs: configurations, manifests and layers as they came.
        layers: unpacked layers.
        temporary: what is not whole yet, of calls under way or of dead processes.
        reclaimable: what removing all images without a name would free.
    """

    images: int
    blobs: int
    layers: int
    temporary: int
    reclaimable: int


def image_from_json(text: str) -> Image:
    """What the native module says about one image."""
    return _image(json.loads(text))


def _image(fields: dict[str, Any]) -> Image:
    layers = tuple(Layer(**layer) for layer in fields.pop("layers"))
    return Image(layers=layers, names=tuple(fields.pop("names")), **fields)


def _removed(text: str) -> Removed:
    fields = json.loads(text)
    return Removed(tuple(fields["names"]), tuple(fields["images"]), fields["bytes"])


class Store(Made):
    """A store of images in the directory `path`, which is made if missing. Any thread may use it.

    Args:
        path: the directory; by default `stockade` in `$XDG_DATA_HOME`, which is `~/.local/share` if unset.

    Raises:
        InvalidArgumentError: if the directory belongs to somebody else.
        UnsupportedError: if a later version wrote it.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._store = _stockade.Store(None if path is None else os.fspath(path))

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._store.path

    def load(
        self,
        source: _Place,
        *,
        platform: str | None = None,
        name: str | None = None,
        progress: _Progress = None,
    ) -> builtins.list[Image]:
        """Read every image of an archive that `docker save` or `podman save` wrote, or of an OCI layout.

        A name that another image has becomes this one's.

        Args:
            source: a tar file (plain, gzip or zstd) or a directory, by its path; or an open file, read from its
                descriptor.
            platform: which image, if there are several: "os/architecture[/variant]" (default: this machine's).
            name: one more name for the image, if there is one only.
            progress: called with what is read ("layer 2/5"), bytes done and bytes in all, or None. What it raises ends
                the call, and nothing is kept.

        Raises:
            ImageError: if it is damaged or hostile.
        """
        return [_image(image) for image in json.loads(self._store.load(source, platform, name, progress))]

    def pull(self, name: str, *, progress: _Progress = None, **options: Unpack[PullOptions]) -> Image:
        """Pull an image from its registry.

        What the store has is not downloaded, and what an interrupted call has left is gone on with, for a week. All is
        compared with the digests that lead to it. Ctrl-C ends the call within a moment.

        Args:
            name: "[registry[:port]/]repository[:tag][@digest]", of docker.io and latest if not said otherwise. The
                store keeps the image by its whole name.
            progress: as in `load`, but some times a second also while nothing comes: called with "download 2/5",
                "layer 2/5" (unpacking), or "registry" before there is a layer to tell of.
            **options: how to pull.

                - platform: which image, if there are several: "os/architecture[/variant]" (default: this machine's).
                - user, password: credentials; they go to the registry, or to the server of tokens that it names. By
                  default those that `podman login` or `docker login` has left in a file: $REGISTRY_AUTH_FILE alone if
                  that is set, else $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and
                  ~/.docker/config.json. Credential helpers are not run.
                - identity_token: OAuth 2's refresh token, in place of both.
                - auth_file: the file with credentials, in place of those; "/dev/null" is one without any.
                - ca_file: certificates (PEM) of authorities to trust beside the system's, or $SSL_CERT_FILE's.
                - tls_verify: whether a registry must prove who it is (default True). If not, it may go without TLS. To
                  this machine (localhost, 127.0.0.0/8) it may anyway.
                - mirrors: "host[:port][/path]" of each mirror, to be asked before the registry.
                - max_concurrent_downloads: layers at the same time (default 3, at most 16).
                - retry: how often a failed request is made again (default 3), anew for each MiB that was gained.
                - timeout: how long to wait for a connection or the next bytes (default 30 s), in seconds or as text.

        Raises:
            RegistryError: if the registry cannot be reached or refuses.
            NotFoundError: if it has no such image.
            ImageError: if what it sends is damaged or hostile.
        """
        return _image(json.loads(_stockade.pull(self._store, name, progress, **options)))

    async def apull(self, name: str, *, progress: _Progress = None, **options: Unpack[PullOptions]) -> Image:
        """`pull` from asyncio and trio, in another thread, which also calls `progress`.

        A cancellation ends the call before it is raised.
        """

        def call(check: Callable[[], None]) -> Image:
            def watch(what: str, done: int, total: int | None) -> None:
                check()
                if progress is not None:
                    progress(what, done, total)

            return self.pull(name, progress=watch, **options)

        return await _async.in_thread(call)

    def import_(
        self,
        source: _Place,
        name: str | None = None,
        *,
        cmd: Iterable[str] = (),
        entrypoint: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        working_dir: str = "",
        user: str = "",
        labels: Mapping[str, str] | None = None,
        progress: _Progress = None,
    ) -> Image:
        """Make an image of one layer of a root file system: a tar file (plain, gzip or zstd) or a directory.

        Args:
            source: the file or directory by its path, or an open tar file.
            name: the image's name.
            cmd: the program if there is no entry point, else its arguments.
            entrypoint: the program and its first arguments.
            env: variables.
            working_dir: the working directory.
            user: user, or "user:group", by name or number.
            labels: labels.
            progress: as in `load`.

        Raises:
            ImageError: if it is damaged or hostile.
        """
        config = {
            "Cmd": [*cmd],
            "Entrypoint": [*entrypoint],
            "Env": [f"{key}={value}" for key, value in (env or {}).items()],
            "WorkingDir": working_dir,
            "User": user,
            "Labels": dict(labels or {}),
        }
        return _image(json.loads(self._store.import_(source, name, json.dumps(config), progress)))

    def save(
        self,
        images: str | Iterable[str],
        target: _Place,
        *,
        format: Literal["docker-archive", "oci-archive", "oci-dir"] = "docker-archive",
        progress: _Progress = None,
    ) -> None:
        """Write images into one archive, for `docker load`, `podman load`, skopeo or umoci.

        What is given by a name has it there, what is given by its id has none.

        Args:
            images: an image, or several.
            target: a path, which appears when the archive is whole; or an open file.
            format: "docker-archive", "oci-archive", or "oci-dir" (a directory that is missing or empty).
            progress: as in `load`.
        """
        references = [images] if isinstance(images, str) else [*images]
        self._store.save(references, target, format, progress)

    def list(self) -> builtins.list[Image]:
        """Every image, those with names first."""
        return [_image(image) for image in json.loads(self._store.list())]

    def inspect(self, image: str) -> Image:
        """What is known about an image.

        Raises:
            NotFoundError: if there is none.
        """
        return _image(json.loads(self._store.inspect(image)))

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name, which another may have had."""
        self._store.tag(image, name)

    def remove(self, image: str) -> Removed:
        """Remove a name; and the image, if that was its last and nobody uses it.

        An id removes all the names of its image.
        """
        return _removed(self._store.remove(image))

    def prune(self, *, all: bool = False) -> Removed:
        """Remove the images without a name and, with `all`, every image; but none that is in use.

        Whatever no image needs goes too.
        """
        return _removed(self._store.prune(all))

    def verify(self) -> Verified:
        """Read all of the store, compare every digest, and every unpacked layer with what it was unpacked from."""
        fields = json.loads(self._store.verify())
        return Verified(fields["blobs"], fields["layers"], tuple(fields["problems"]))

    def disk_use(self) -> DiskUse:
        """What the store takes on disk."""
        return DiskUse(**json.loads(self._store.disk_use()))


def load(
    source: _Place,
    *,
    platform: str | None = None,
    name: str | None = None,
    progress: _Progress = None,
) -> builtins.list[Image]:
    """`Store.load` of the default store."""
    return Store().load(source, platform=platform, name=name, progress=progress)


def pull(name: str, *, progress: _Progress = None, **options: Unpack[PullOptions]) -> Image:
    """`Store.pull` into the default store."""
    return Store().pull(name, progress=progress, **options)


async def apull(name: str, *, progress: _Progress = None, **options: Unpack[PullOptions]) -> Image:
    """`Store.apull` into the default store."""
    return await Store().apull(name, progress=progress, **options)


def import_(
    source: _Place,
    name: str | None = None,
    *,
    cmd: Iterable[str] = (),
    entrypoint: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    working_dir: str = "",
    user: str = "",
    labels: Mapping[str, str] | None = None,
    progress: _Progress = None,
) -> Image:
    """`Store.import_` of the default store."""
    return Store().import_(
        source,
        name,
        cmd=cmd,
        entrypoint=entrypoint,
        env=env,
        working_dir=working_dir,
        user=user,
        labels=labels,
        progress=progress,
    )


def save(
    images: str | Iterable[str],
    target: _Place,
    *,
    format: Literal["docker-archive", "oci-archive", "oci-dir"] = "docker-archive",
    progress: _Progress = None,
) -> None:
    """`Store.save` of the default store."""
    Store().save(images, target, format=format, progress=progress)


def list() -> builtins.list[Image]:  # noqa: A001 - Docker's word for it
    """`Store.list` of the default store."""
    return Store().list()


def inspect(image: str) -> Image:
    """`Store.inspect` of the default store."""
    return Store().inspect(image)


def tag(image: str, name: str) -> None:
    """`Store.tag` of the default store."""
    Store().tag(image, name)


def remove(image: str) -> Removed:
    """`Store.remove` of the default store."""
    return Store().remove(image)


def prune(*, all: bool = False) -> Removed:
    """`Store.prune` of the default store."""
    return Store().prune(all=all)


def verify() -> Verified:
    """`Store.verify` of the default store."""
    return Store().verify()


def disk_use() -> DiskUse:
    """`Store.disk_use` of the default store."""
    return Store().disk_use()
