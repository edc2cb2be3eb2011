"""A sandbox that lives across runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal, overload

from stockade import _async, _stockade
from stockade._build import flushed
from stockade._changes import Change
from stockade._held import Held
from stockade._launch import Launch, launch
from stockade._options import Content, Options, OsBytes, Path
from stockade._stockade import Spec
from stockade.images import image_from_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from stockade._outcome import Outcome
    from stockade._process import Process
    from stockade.images import Image, _Place


class Sandbox:
    r"""A live sandbox, in which programs are run one after another or side by side.

    What programs leave in its writable file system stays until it is closed. It is closed by `close`, at the end of
    its `with` or `async with` block, when this object is deleted, or when the interpreter ends; everything that
    still runs in it is killed.

    >>> import stockade
    >>> with stockade.Sandbox(memory="64m", timeout=10) as box:
    ...     box.run(["sh", "-c", "echo one > file"]).success
    ...     box.run(["cat", "file"], text=True).stdout
    True
    'one\n'

    Args:
        spec: a `Spec`. Default: one with every default.
        **options: as for `run`; those that are given are changed in `spec`. Options of the sandbox itself (`rootfs`,
            `overlay`, `read_only`, `upper_dir`, `volumes`, `tmpfs`, `network`, `user`, `hostname`, `python`, `disk`,
            `inodes`, `cgroup_parent`, `enforce`) hold for its whole life; all others are defaults for `run`, `arun` and
            `popen`.

    Raises:
        Error: as `run` does.
    """

    def __init__(self, spec: Spec | None = None, **options: Unpack[Options]) -> None:
        self._spec = Spec(**options) if spec is None else spec.replace(**options)
        self._native = _stockade.Sandbox(self._spec)

    @property
    def spec(self) -> Spec:
        """The specification it was started with."""
        return self._spec

    @overload
    def run(
        self,
        args: Iterable[OsBytes],
        *,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[bytes]: ...
    @overload
    def run(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = ...,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[str]: ...
    def run(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[Any]:
        """Run a program in this sandbox and wait for its end: as `stockade.run`.

        Raises:
            InvalidArgumentError: also if an option of the sandbox itself differs from what it was started with.
            StateError: the sandbox is closed, or was started by another process.
            Error: and `ProgramError`, as `stockade.run` does.
        """
        return self._launch(args, options, text, encoding, errors).run(check)

    @overload
    async def arun(
        self,
        args: Iterable[OsBytes],
        *,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[bytes]: ...
    @overload
    async def arun(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = ...,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[str]: ...
    async def arun(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        **options: Unpack[Options],
    ) -> Outcome[Any]:
        """Do what `run` does from asyncio or trio: as `stockade.arun`."""
        return await self._launch(args, options, text, encoding, errors).arun(check)

    @overload
    def popen(
        self,
        args: Iterable[OsBytes],
        *,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        bufsize: int = -1,
        **options: Unpack[Options],
    ) -> Process[bytes]: ...
    @overload
    def popen(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = ...,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        **options: Unpack[Options],
    ) -> Process[str]: ...
    def popen(
        self,
        args: Iterable[OsBytes],
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        **options: Unpack[Options],
    ) -> Process[Any]:
        """Start a program in this sandbox: as `stockade.popen`. It is killed when the sandbox is closed."""
        return self._launch(args, options, text, encoding, errors, pipes=True).popen(bufsize)

    def put(self, path: Path, content: Content, mode: int | None = None) -> None:
        """Make a file in the sandbox, with its parents, or replace the one that is there; never through a link.

        Args:
            path: a relative one is below `/work`.
            content: bytes, or str (UTF-8).
            mode: permission bits. Default: 0o644.

        Raises:
            SetupError: with the errno, if it cannot be made there.
        """
        data = content.encode() if isinstance(content, str) else bytes(content)
        self._native.put(os.fspath(path), data, mode)

    def get(self, path: Path) -> bytes:
        """Read a regular file in the sandbox, of at most 64 MiB; never through a link.

        Raises:
            SetupError: with the errno, if it cannot be read.
        """
        return self._native.get(os.fspath(path))

    def put_tree(self, path: Path, host: Path) -> None:
        """Copy the directory `host` of the host into the sandbox as the directory `path`, over what is there.

        Directories, regular files and symbolic links are copied, with their permission bits; anything else is left
        out. Symbolic links in the path `host` itself are followed, those that are found in it never, so it may be one
        that programs can write.
        """
        self._native.put_tree(os.fspath(path), os.fspath(host))

    def get_tree(self, path: Path, host: Path) -> None:
        """Copy the directory `path` of the sandbox to `host` on the host, which must not be there yet.

        Directories, regular files and symbolic links are copied, with their permission bits; holes stay holes, and a
        file with several names has them in the copy, too. Anything else is left out. Links are made as they are and
        can lead anywhere: do not follow them. Programs that run meanwhile can have more copied than there is at any
        one time, without end: pause them, or copy when none runs.
        """
        self._native.get_tree(os.fspath(path), os.fspath(host))

    def reset(self) -> None:
        """Take the sandbox back to its start: what runs in it is killed, what was written is gone.

        Its root, `/work`, `/tmp`, `/dev/shm` and every `tmpfs` are as they were then; volumes are not touched. Takes
        about as long as a start, however much was written.

        Raises:
            StateError: it was started without `overlay`, or is closed.
        """
        self._native.reset()

    def changes(self) -> list[Change]:
        """What differs from the root file system that it was started with, as `docker diff`, sorted by path.

        `/work`, `/tmp`, `/dev/shm`, volumes and every `tmpfs` are no part of that. With overlay="copy" the whole
        root is looked through, and compared with the original.

        Raises:
            StateError: it was started without `overlay`, or is closed.
        """
        return [Change(kind, path) for kind, path in self._native.changes()]

    def upper(self) -> int:
        """Open the upper layer of the root: the descriptor of a directory, which the caller closes.

        In it is what was changed: names that were removed are character devices 0, 0, and a directory that hides what
        is below has the attribute `user.overlay.opaque` (of fuse-overlayfs, `user.fuseoverlayfs.opaque`). Programs
        can have put anything there: follow no links in it.

        Raises:
            StateError: it was started without `overlay`, or is closed.
            UnsupportedError: with overlay="copy".
        """
        return self._native.upper()

    def commit(
        self,
        name: str | None = None,
        *,
        changes: Iterable[str] = (),
        author: str = "",
        message: str = "",
        pause: bool = True,
    ) -> Image:
        """Make an image of the sandbox's own and a layer of what has been changed in it, as `docker commit`.

        It is in the same store. `/work`, `/tmp`, `/dev/shm`, volumes and every `tmpfs` are no part of it. If nothing
        has been changed there is no layer either, only the configuration.

        Args:
            name: its name. Without, `prune` removes it.
            changes: changes of the configuration as instructions of a Dockerfile: `CMD ["python3"]`, `ENV A=b`,
                `ENTRYPOINT`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`.
            author: who made it.
            message: a comment for its history.
            pause: no program of the sandbox runs meanwhile.

        Raises:
            StateError: the sandbox is of no image, or is closed.
            UnsupportedError: with overlay="copy", which keeps no record of changes.
            ImageError: a name in it has no form in a layer.
        """
        options = {"changes": [*changes], "author": author, "message": message, "pause": pause}
        return image_from_json(_stockade.commit(self._native, name, json.dumps(options)))

    async def acommit(
        self,
        name: str | None = None,
        *,
        changes: Iterable[str] = (),
        author: str = "",
        message: str = "",
        pause: bool = True,
    ) -> Image:
        """Do what `commit` does from asyncio or trio, in a thread. Cancelled, it waits for it."""
        return await _async.in_thread(
            lambda _: self.commit(name, changes=changes, author=author, message=message, pause=pause)
        )

    def snapshot(self) -> Held:
        """Make an image without a name of what the sandbox is now, to start others from: `Sandbox(image=snapshot.id)`.

        It stays in the store until it is released and no sandbox of it lives; then `prune` removes it.

        Raises:
            Error: as `commit`.
        """
        return Held(_stockade.snapshot(self._native))

    async def asnapshot(self) -> Held:
        """Do what `snapshot` does from asyncio or trio, in a thread."""
        return await _async.in_thread(lambda _: self.snapshot())

    def export(self, path: Path, target: _Place) -> None:
        """Write `path` and all below it as a tar stream, as `docker cp CONTAINER:PATH -`.

        Entries are named from the last component of `path` on; those of "/" from what is in it. They have the modes,
        times and owners that are seen inside, and no extended attributes. What is mounted below it, such as `/proc`
        and `/work` in "/", is an empty directory. Links are not followed.

        Args:
            path: a relative one is below `/work`.
            target: a path; or an open file, written to by its descriptor.

        Raises:
            SetupError: with the errno, if it cannot be read or written.
        """
        _stockade.export(self._native, os.fspath(path), flushed(target))

    async def aexport(self, path: Path, target: _Place) -> None:
        """Do what `export` does from asyncio or trio, in a thread."""
        await _async.in_thread(lambda _: self.export(path, target))

    def close(self) -> None:
        """End everything in the sandbox and remove it. Later calls raise `StateError`; closing again does nothing."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Some milliseconds at most: everything in it is killed.
        self.close()

    def _launch(
        self,
        args: Iterable[OsBytes],
        options: Options,
        text: bool,
        encoding: str | None,
        errors: str | None,
        pipes: bool = False,
    ) -> Launch:
        return launch(args, options, text, encoding, errors, base=self._spec, sandbox=self._native, pipes=pipes)
