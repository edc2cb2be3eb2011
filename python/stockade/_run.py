"""One program in a sandbox of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from stockade._launch import launch
from stockade._options import Options, OsBytes
from stockade._stockade import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from stockade._outcome import Outcome
    from stockade._process import Process


@overload
def run(
    args: Spec | Iterable[OsBytes],
    *,
    text: Literal[False] = False,
    encoding: None = None,
    errors: None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[bytes]: ...
@overload
def run(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = ...,
    encoding: str | None = None,
    errors: str | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[str]: ...
def run(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[Any]:
    r"""Run a program in a sandbox of its own and wait until it and all it started have ended.

    >>> import stockade
    >>> stockade.run(["sort", "-n", "numbers"], files={"numbers": b"20\n3\n"}, memory="64m").stdout
    b'3\n20\n'
    >>> stockade.run(["sleep", "60"], timeout="200ms").verdict
    <Verdict.WALL_TIME_LIMIT: 4>

    Args:
        args: the program and its arguments: a sequence of str, bytes and paths; there is no shell. Or a `Spec`, of
            which the options that are given are changed.
        text: whether what the program wrote is decoded, in `stdout`, `stderr` and the content of `outputs`. Line
            ends stay as they are. Default: False, bytes. Giving `encoding` or `errors` says the same as True.
        encoding: how text is encoded; `input`, if it is a str, as well. Default: UTF-8.
        errors: what to do about what cannot be decoded or encoded, a word of `codecs`. Default: "replace" what the
            program wrote, "strict" for `input`.
        check: raise `ProgramError` if the verdict is not OK. Default: False.
        **options: limits, files, input, volumes, network and all else: see `Spec`, which describes each.

    Returns:
        The `Outcome`. A limit that was passed, a program that crashed or could not be found are verdicts, not
        exceptions.

    Raises:
        InvalidArgumentError: an option has a wrong type or value. It is named; nothing was started.
        UnsupportedError: this host cannot do it; `doctor` tells how to mend that. Nothing was started.
        SetupError, ResourceError: the sandbox could not be made. The program did not run.
        SupervisorError: the supervisor was killed meanwhile. Nothing of the sandbox is left.
        ProgramError: `check`, and the verdict is not OK.
        KeyboardInterrupt: and whatever else a signal handler raises; the program has been killed.
    """
    return launch(args, options, text, encoding, errors).run(check)


@overload
async def arun(
    args: Spec | Iterable[OsBytes],
    *,
    text: Literal[False] = False,
    encoding: None = None,
    errors: None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[bytes]: ...
@overload
async def arun(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = ...,
    encoding: str | None = None,
    errors: str | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[str]: ...
async def arun(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    check: bool = False,
    **options: Unpack[Options],
) -> Outcome[Any]:
    """Do what `run` does from asyncio or trio, without a thread.

    If the task is cancelled, the program and everything it started are killed before the cancellation goes on.

    >>> import asyncio, stockade
    >>> asyncio.run(stockade.arun(["true"])).success
    True

    Args:
        args: as for `run`.
        text: as for `run`.
        encoding: as for `run`.
        errors: as for `run`.
        check: as for `run`.
        **options: as for `run`.

    Raises:
        RuntimeError: no event loop of asyncio or trio runs.
        Error: and `ProgramError`, as `run` does.
    """
    return await launch(args, options, text, encoding, errors).arun(check)


@overload
def popen(
    args: Spec | Iterable[OsBytes],
    *,
    text: Literal[False] = False,
    encoding: None = None,
    errors: None = None,
    bufsize: int = -1,
    **options: Unpack[Options],
) -> Process[bytes]: ...
@overload
def popen(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = ...,
    encoding: str | None = None,
    errors: str | None = None,
    bufsize: int = -1,
    **options: Unpack[Options],
) -> Process[str]: ...
def popen(
    args: Spec | Iterable[OsBytes],
    *,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    bufsize: int = -1,
    **options: Unpack[Options],
) -> Process[Any]:
    r"""Start a program in a sandbox of its own.

    Standard output and standard error are captured for the outcome, unless the options say otherwise: captured
    output is taken whenever `Process.poll`, `wait` or `communicate` is called, and a program that writes much waits
    for that. With PIPE the caller reads, and the `output` limit does not count.

    >>> import stockade
    >>> process = stockade.popen(["sleep", "60"])
    >>> process.kill()
    >>> process.wait(), process.outcome.verdict
    (-9, <Verdict.KILLED: 10>)

    Args:
        args: as for `run`.
        text: whether pipes are text streams, and as for `run`. Their line ends are "\n", untranslated.
        encoding: as for `run`.
        errors: as for `run`.
        bufsize: the buffer of the pipes, as for `open`: 0 none, 1 a line (text only), -1 the default size.
        **options: as for `run`.

    Raises:
        Error: as `run` does.
    """
    return launch(args, options, text, encoding, errors, pipes=True).popen(bufsize)
