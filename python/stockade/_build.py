"""Building images, and what they are made of."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stockade import _async, _stockade
from stockade._changes import Change
from stockade._held import Held
from stockade._options import Content, Options
from stockade._stockade import Spec

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.images import Image, _Place


@dataclass(frozen=True, slots=True)
class Run:
    """A program that is run in a sandbox; what it changes becomes a layer.

    Attributes:
        args: the program and its arguments; or a text, for the image's `/bin/sh -c`.
    """

    args: str | Iterable[str]

    def _json(self) -> Any:
        return {"run": self.args if isinstance(self.args, str) else [*self.args]}


@dataclass(frozen=True, slots=True)
class Copy:
    """Files and directories of the context, which become a layer.

    Attributes:
        sources: paths below the context, one or several; of a directory what is in it. In the last component `*`, `?`
            and `[...]` stand for what is there.
        to: where to: a directory if it ends with "/", is one in the image, or there are several sources.
        chown: to whom they belong: "user[:group]", by name or number. Default: 0:0.
        chmod: the permission bits of all of them. Default: their own.
    """

    sources: str | Iterable[str]
    to: str
    chown: str | None = None
    chmod: int | None = None

    def _json(self) -> Any:
        sources = [self.sources] if isinstance(self.sources, str) else [*self.sources]
        chmod = None if self.chmod is None else f"{self.chmod:o}"
        return {"copy": {"sources": sources, "to": self.to, "chown": self.chown, "chmod": chmod}}


@dataclass(frozen=True, slots=True)
class Files:
    """Files with this content, which become a layer.

    Attributes:
        files: by path, relative to the working directory: bytes or str (UTF-8); or that and permission bits (default
            0o644).
    """

    files: Mapping[str, Content | tuple[Content, int]]

    def _json(self) -> Any:
        return {"files": {path: _file(file) for path, file in self.files.items()}}


Step: TypeAlias = Run | Copy | Files | str
"""A step of a build. A text is a line of a Dockerfile: `ENV A=b`, `WORKDIR /srv`, `CMD ["python3"]`."""


class BuildOptions(Options, total=False):
    """What a build takes beside the options of `Spec`, which are the limits, network and volumes of its programs."""

    context: str | os.PathLike[str]
    """The directory whose files are copied; its `.dockerignore` is honoured."""
    build_args: Mapping[str, str]
    """The values of its ARG."""
    no_cache: bool
    """Do every step anew."""
    progress: Callable[[str, int, int, bool], object]
    """Called with each step: what it is, its number, how many there are, and whether it is known from before. What it
    raises ends the build."""
    on_output: Callable[[bytes], object]
    """Called with what programs write, to standard output and error; with nothing now and then, while they are silent.
    What it raises ends the build."""


class Made:
    """What a store makes, and says about what it has made."""

    __slots__ = ("_store",)
    _store: _stockade.Store

    def build(
        self, base: str, steps: Iterable[Step], name: str | None = None, **options: Unpack[BuildOptions]
    ) -> Image:
        """Build an image of the image `base`, or of nothing ("scratch"), by steps that each change it.

        What a step comes to is kept in the store; it is not done again while the base, the steps before it and what it
        copies are the same. Programs are run without a network, and with 1 GiB and 262,144 files to write, unless
        `options` say otherwise.

        Args:
            base: the image.
            steps: `Run`, `Copy`, `Files`, or lines of a Dockerfile.
            name: the image's name. Without, `prune` removes it.
            **options: `context`, `build_args`, `no_cache`, `progress` and `on_output`; and limits, as of `Spec`.

        Raises:
            ImageError: a program failed (`step` is "run").
            InvalidArgumentError: a step cannot be understood.
            NotFoundError: there is no such base.
        """
        return _build(self._store, {"from": base, "steps": _steps(steps)}, name, options)

    def build_file(
        self, file: str | os.PathLike[str], name: str | None = None, **options: Unpack[BuildOptions]
    ) -> Image:
        """Build an image as a Stockadefile says, which is a Dockerfile with one stage; what else it has is refused.

        Args:
            file: its path. The context is the directory that it is in, unless one is given.
            name: the image's name. Without, `prune` removes it.
            **options: as of `build`.

        Raises:
            Error: as `build`, with the name and line of the file.
        """
        return _build_file(self._store, file, name, options)

    async def abuild(
        self, base: str, steps: Iterable[Step], name: str | None = None, **options: Unpack[BuildOptions]
    ) -> Image:
        """Do what `build` does from asyncio or trio, in a thread, in which `progress` and `on_output` are called.

        Cancelled, it ends soon.
        """
        request = {"from": base, "steps": _steps(steps)}
        return await _in_thread(lambda options: _build(self._store, request, name, options), options)

    async def abuild_file(
        self, file: str | os.PathLike[str], name: str | None = None, **options: Unpack[BuildOptions]
    ) -> Image:
        """Do what `build_file` does from asyncio or trio, as `abuild`."""
        return await _in_thread(lambda options: _build_file(self._store, file, name, options), options)

    def export(
        self, image: str, target: _Place, *, progress: Callable[[str, int, int | None], object] | None = None
    ) -> None:
        """Write the whole root file system of an image as one tar stream, as `docker export`.

        With every owner and device node that came with its layers. `import_` takes it.

        Args:
            image: the image.
            target: a path, or an open file.
            progress: as in `load`.
        """
        _stockade.export_image(self._store, image, flushed(target), progress)

    def diff(self, image: str, base: str | None = None) -> list[Change]:
        """What `image` changes of the image `base`, as `docker diff`, sorted by path.

        Without `base`, what its topmost layer changes of those below.
        """
        return [Change(kind, path) for kind, path in _stockade.diff(self._store, image, base)]

    def hold(self, image: str) -> Held:
        """Keep an image in the store until it is released.

        Raises:
            NotFoundError: if there is none.
        """
        return Held(_stockade.hold(self._store, image))


def flushed(target: _Place) -> _Place:
    """`target`, with nothing in its own buffer: it is written to by its descriptor."""
    flush = getattr(target, "flush", None)
    if flush is not None:
        flush()
    return target


def _steps(steps: Iterable[Step]) -> list[Any]:
    return [step if isinstance(step, str) else step._json() for step in steps]


def _file(file: Content | tuple[Content, int]) -> Any:
    content, mode = file if isinstance(file, tuple) else (file, 0o644)
    data = content.encode() if isinstance(content, str) else bytes(content)
    try:
        text: Any = data.decode()
    except UnicodeDecodeError:
        text = {"base64": base64.b64encode(data).decode()}
    return {"content": text, "mode": mode}


def _build_file(store: _stockade.Store, file: str | os.PathLike[str], name: str | None, options: BuildOptions) -> Image:
    path = Path(file)
    with_context: BuildOptions = {"context": path.parent, **options}
    return _build(store, {"file": path.read_text(), "file_name": path.name}, name, with_context)


def _build(store: _stockade.Store, what: dict[str, Any], name: str | None, options: BuildOptions) -> Image:
    # It needs this module.
    from stockade.images import image_from_json

    limits = options.copy()
    context = limits.pop("context", None)
    progress = limits.pop("progress", None)
    on_output = limits.pop("on_output", None)
    request = {
        **what,
        "context": None if context is None else os.fspath(context),
        "names": [] if name is None else [name],
        "args": dict(limits.pop("build_args", {})),
        "no_cache": limits.pop("no_cache", False),
    }
    spec: Options = limits
    request["spec"] = json.loads(Spec(**spec).to_json())
    return image_from_json(_stockade.build(store, json.dumps(request), progress, on_output))


async def _in_thread(build: Callable[[BuildOptions], Image], options: BuildOptions) -> Image:
    def call(check: Callable[[], None]) -> Image:
        def progress(text: str, number: int, total: int, cached: bool) -> None:
            check()
            if "progress" in options:
                options["progress"](text, number, total, cached)

        def on_output(data: bytes) -> None:
            check()
            if "on_output" in options:
                options["on_output"](data)

        watched = options.copy()
        watched["progress"], watched["on_output"] = progress, on_output
        return build(watched)

    return await _async.in_thread(call)
