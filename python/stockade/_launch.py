"""What `run`, `arun` and `popen`, in a sandbox of their own or in a live one, have in common."""

from __future__ import annotations

from subprocess import PIPE
from typing import TYPE_CHECKING, Any, NamedTuple

from stockade import _async, _stockade
from stockade._errors import InvalidArgumentError
from stockade._outcome import Outcome, from_fields
from stockade._process import Process
from stockade._text import Codec, codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stockade._options import OsBytes


class Launch(NamedTuple):
    """A program to start: what, where, and how its output is to be seen."""

    spec: _stockade.Spec
    sandbox: _stockade.Sandbox | None
    codec: Codec | None

    def run(self, check: bool) -> Outcome[Any]:
        """Run it and wait for its end."""
        return self._outcome(_stockade.run(self.spec, self.sandbox), check)

    async def arun(self, check: bool) -> Outcome[Any]:
        """The same for asyncio and trio."""
        return self._outcome(await _async.run(lambda: _stockade.spawn(self.spec, self.sandbox)), check)

    def popen(self, bufsize: int) -> Process[Any]:
        """Start it."""
        # Before it is: a descriptor whose stream cannot be made would stay open.
        if not isinstance(bufsize, int):
            raise TypeError("bufsize must be an integer")
        if bufsize >= 1 << 31:
            raise InvalidArgumentError(f"bufsize: {bufsize} is too large")
        return Process(_stockade.spawn(self.spec, self.sandbox, handle=True), self.spec.args, self.codec, bufsize)

    def _outcome(self, fields: dict[str, Any], check: bool) -> Outcome[Any]:
        outcome = from_fields(fields, self.codec, self.spec.args)
        return outcome.check() if check else outcome


def launch(
    args: _stockade.Spec | Iterable[OsBytes],
    options: Mapping[str, Any],
    text: bool,
    encoding: str | None,
    errors: str | None,
    *,
    base: _stockade.Spec | None = None,
    sandbox: _stockade.Sandbox | None = None,
    pipes: bool = False,
) -> Launch:
    """What the arguments ask for; `base` has the defaults of a live sandbox, `pipes` tells `popen` from the others."""
    chosen = codec(text, encoding, errors)
    changed = dict(options)
    data = changed.get("input")
    if chosen and isinstance(data, str):
        changed["input"] = chosen.encode(data)
    if not pipes:
        if changed.get("stdin") == PIPE:
            raise InvalidArgumentError("stdin: PIPE is for popen; what the program is to read goes into input")
        for name in ("stdout", "stderr"):
            # As with subprocess.run, PIPE means that the output is wanted: it is captured anyway.
            if changed.get(name) == PIPE:
                changed[name] = None
    if isinstance(args, _stockade.Spec):
        if base is not None:
            raise InvalidArgumentError("args: a live sandbox takes the program's arguments, not a Spec")
        spec = args.replace(**changed) if changed else args
    elif base is not None:
        spec = base.replace(args, **changed)
    else:
        spec = _stockade.Spec(args, **changed)
    return Launch(spec, sandbox, chosen)
