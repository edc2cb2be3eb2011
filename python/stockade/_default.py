"""What `stockade.images` makes in the default store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from typing_extensions import Unpack

    from stockade._build import BuildOptions, Step
    from stockade._changes import Change
    from stockade._held import Held
    from stockade.images import Image, Store, _Place


def _store() -> Store:
    # Which is made of what is here.
    from stockade.images import Store

    return Store()


def build(base: str, steps: Iterable[Step], name: str | None = None, **options: Unpack[BuildOptions]) -> Image:
    """`Store.build` of the default store."""
    return _store().build(base, steps, name, **options)


def build_file(file: str | os.PathLike[str], name: str | None = None, **options: Unpack[BuildOptions]) -> Image:
    """`Store.build_file` of the default store."""
    return _store().build_file(file, name, **options)


async def abuild(base: str, steps: Iterable[Step], name: str | None = None, **options: Unpack[BuildOptions]) -> Image:
    """`Store.abuild` of the default store."""
    return await _store().abuild(base, steps, name, **options)


async def abuild_file(file: str | os.PathLike[str], name: str | None = None, **options: Unpack[BuildOptions]) -> Image:
    """`Store.abuild_file` of the default store."""
    return await _store().abuild_file(file, name, **options)


def export(image: str, target: _Place, *, progress: Callable[[str, int, int | None], object] | None = None) -> None:
    """`Store.export` of the default store."""
    _store().export(image, target, progress=progress)


def diff(image: str, base: str | None = None) -> list[Change]:
    """`Store.diff` of the default store."""
    return _store().diff(image, base)


def hold(image: str) -> Held:
    """`Store.hold` of the default store."""
    return _store().hold(image)
