"""An image that stays while it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stockade import _stockade


class Held:
    """An image that is being used: nothing of it is removed from its store before `release`.

    That comes at the end of its `with` block, when this object is deleted, or with the process at the latest. An image
    without a name goes then with the next `prune`, unless a sandbox of it lives.
    """

    __slots__ = ("_native",)

    def __init__(self, native: _stockade.Held) -> None:
        self._native = native

    def __repr__(self) -> str:
        return f"<Held {self.id}>"

    @property
    def id(self) -> str:
        """Its id, which the option `image` takes."""
        return self._native.id

    def release(self) -> None:
        """Use it no longer. Again does nothing."""
        self._native.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
