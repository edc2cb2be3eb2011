"""Text instead of bytes."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from stockade._errors import InvalidArgumentError


class Codec(NamedTuple):
    """How text is encoded."""

    encoding: str
    errors: str | None

    def decode(self, data: bytes) -> str:
        """What the program wrote, as text; line ends stay as they are."""
        return data.decode(self.encoding, self.output_errors)

    def encode(self, text: str) -> bytes:
        """What the program reads."""
        return text.encode(self.encoding, self.input_errors)

    @property
    def input_errors(self) -> str:
        """What to do about a character that the encoding does not have."""
        return self.errors or "strict"

    @property
    def output_errors(self) -> str:
        """What to do about bytes that the encoding does not have.

        By default they are replaced: a program that is not trusted must not make the caller's call fail by what it
        writes, and output that is cut at its limit may end within a character.
        """
        return self.errors or "replace"


def codec(text: bool, encoding: str | None, errors: str | None) -> Codec | None:
    """The codec that `text`, `encoding` and `errors` ask for, or None if bytes are wanted."""
    if not text and encoding is None and errors is None:
        return None
    try:
        codecs.lookup(encoding or "utf-8")
        codecs.lookup_error(errors or "strict")
    except LookupError as e:
        raise InvalidArgumentError(str(e)) from None
    return Codec(encoding or "utf-8", errors)
