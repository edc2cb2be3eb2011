"""Plain data on the wire: Python's builtin values as one line of JSON, with their types kept.

This module runs in three places: in the candidate's sandbox, in the checker's, and in the host between them. The host
and the checker trust nothing that comes from a candidate, so decoding builds values of exactly the builtin types and
of no others: no class of the candidate's, and with it no ``__eq__`` of the candidate's, can cross.

None, booleans, integers, finite floats, strings and lists are what they are in JSON. Everything else is an object with
one key, the name of its type: ``{"tuple": [1, 2]}``, ``{"dict": [["a", 1]]}``, ``{"float": "nan"}``.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_LINE = 1 << 20
"""The longest line either side may send, in bytes, its newline included."""

MAX_DEPTH = 64
"""How deep containers may nest."""

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MISSING = object()


class NotPlain(ValueError):
    """A value that cannot be sent, or a line that is not what this module writes."""


def _encode(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlain(f"nested deeper than {MAX_DEPTH}")
    # A subclass travels as its base: a Counter is a dict, an IntEnum is an int.
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else {"float": repr(number)}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [_encode(value.real, depth + 1), _encode(value.imag, depth + 1)]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytearray" if isinstance(value, bytearray) else "bytes": value.hex()}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, list):
        return [_encode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_encode(k, depth + 1), _encode(v, depth + 1)] for k, v in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [_encode(item, depth + 1) for item in value]}
    raise NotPlain(f"a value of type {type(value).__name__} is not plain data")


def _decode(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlain(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [_decode(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value  # json.loads makes no other types than None, bool, int, float and str
    if len(value) != 1:
        raise NotPlain("an object with other than one key")
    [(kind, body)] = value.items()
    if kind == "float":
        number = _NON_FINITE.get(body, _MISSING) if isinstance(body, str) else _MISSING
        if number is _MISSING:
            raise NotPlain("a float object that is neither nan nor inf nor -inf")
        return number
    if kind in ("bytes", "bytearray"):
        if not isinstance(body, str):
            raise NotPlain(f"{kind} that are not a string of hex digits")
        return (bytes if kind == "bytes" else bytearray).fromhex(body)
    if not isinstance(body, list):
        raise NotPlain(f"a {kind} that is not an array")
    items = [_decode(item, depth + 1) for item in body]
    if kind == "tuple":
        return tuple(items)
    if kind == "set":
        return set(items)
    if kind == "frozenset":
        return frozenset(items)
    if kind == "dict":
        if not all(type(item) is list and len(item) == 2 for item in items):
            raise NotPlain("a dict that is not an array of pairs")
        return dict(items)
    if kind == "range":
        if len(items) != 3 or not all(type(item) is int for item in items):
            raise NotPlain("a range that is not three integers")
        return range(*items)
    if kind == "complex":
        if len(items) != 2 or not all(type(item) is float for item in items):
            raise NotPlain("a complex that is not two floats")
        return complex(*items)
    raise NotPlain("an object of unknown type")


def _no_constant(name: str) -> Any:
    raise NotPlain(f"{name} is not JSON")


def loads(line: bytes) -> Any:
    """The JSON value in `line`. Raises `NotPlain` for everything else, however hostile."""
    try:
        return json.loads(line.decode("ascii"), parse_constant=_no_constant)
    except NotPlain:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise NotPlain(f"not a line of JSON: {type(error).__name__}") from None


def dumps(message: Any) -> bytes:
    """`message`, made of JSON types, as one line. Raises `NotPlain` if that is longer than `MAX_LINE`."""
    try:
        line = json.dumps(message, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    except ValueError as error:  # an integer of more digits than int() will read back
        raise NotPlain(str(error)) from None
    if len(line) > MAX_LINE:
        raise NotPlain(f"a message of {len(line)} bytes; at most {MAX_LINE} are allowed")
    return line


def encode(value: Any) -> Any:
    """`value` as JSON types. Raises `NotPlain` for what is not plain data."""
    return _encode(value, 0)


def decode(value: Any) -> Any:
    """The value that `encode` wrote. Raises `NotPlain` for what it never writes."""
    try:
        return _decode(value, 0)
    except NotPlain:
        raise
    except (TypeError, ValueError) as error:  # unhashable members, a zero step, odd hex digits
        raise NotPlain(str(error)) from None
