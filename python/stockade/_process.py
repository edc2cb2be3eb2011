"""A program started in a sandbox."""

from __future__ import annotations

import contextlib
import io
import signal
import time
from subprocess import TimeoutExpired
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic

from stockade import _async
from stockade._communicate import Exchange, close
from stockade._errors import StateError
from stockade._outcome import Notification, Outcome, Stats, from_fields

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from stockade import _stockade
    from stockade._options import Limits, Seconds, Size
    from stockade._text import Codec


class Process(Generic[AnyStr]):
    """A program started in a sandbox by `popen`, with the names of `subprocess.Popen`.

    It ends with this object: when that is deleted, or the interpreter ends, the program and everything it started
    are killed. As a context manager it closes the pipes and waits for the program, or kills it first if the block
    is left by an exception.

    Attributes:
        args: the program and its arguments.
        stdin, stdout, stderr: the caller's ends of the streams that are PIPE, as file objects; None for others.

    >>> import stockade
    >>> with stockade.popen(["tr", "a-z", "A-Z"], stdin=stockade.PIPE, stdout=stockade.PIPE, text=True) as process:
    ...     process.communicate("hello")[0]
    'HELLO'
    >>> process.outcome.verdict
    <Verdict.OK: 0>
    """

    args: tuple[str, ...]
    stdin: IO[AnyStr] | None
    stdout: IO[AnyStr] | None
    stderr: IO[AnyStr] | None

    def __init__(self, native: _stockade.Process, args: tuple[str, ...], codec: Codec | None, bufsize: int) -> None:
        self._native = native
        self._codec = codec
        self._outcome: Outcome[AnyStr] | None = None
        self._exchange: Exchange | None = None
        self._pid = native.pid
        self.args = args
        if self._pid is None:
            # Over already, or never started: then the error is raised here.
            self.poll()
        self.stdin = _open(native.take_stdin(), "wb", codec, bufsize)
        self.stdout = _open(native.take_stdout(), "rb", codec, bufsize)
        self.stderr = _open(native.take_stderr(), "rb", codec, bufsize)

    @property
    def pid(self) -> int | None:
        """The program's process id on the host, or None if it ended before that was known."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The outcome's `returncode`, or None as long as no call has seen the program's end."""
        return None if self._outcome is None else self._outcome.returncode

    @property
    def outcome(self) -> Outcome[AnyStr] | None:
        """The outcome, or None as long as no call has seen the program's end."""
        return self._outcome

    def poll(self) -> int | None:
        """Return the `returncode` if the program and all it started have ended, else None. Never blocks."""
        if self._outcome is None:
            self._ended(self._native.poll())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the program and all it started have ended; return the `returncode`.

        Captured output is taken meanwhile. A program that fills a pipe waits for the caller to read it: use
        `communicate` then.

        Args:
            timeout: seconds to wait at most. Default: no end.

        Raises:
            TimeoutExpired: the program still runs. It goes on running.
        """
        if self._outcome is None:
            self._ended(self._native.wait(timeout))
        if self._outcome is None:
            assert timeout is not None
            raise TimeoutExpired(self.args, timeout)
        return self._outcome.returncode

    def communicate(self, input: AnyStr | None = None, timeout: float | None = None) -> tuple[AnyStr, AnyStr]:
        """Write `input` to the program and close its standard input, take all its output, wait for its end.

        What comes through a PIPE is not counted for the `output` limit and is kept in memory, all of it.

        Args:
            input: what to write to standard input, which must be PIPE. Default: nothing.
            timeout: seconds to wait at most. Default: no end.

        Returns:
            Standard output and standard error: what came through the pipe, or what was captured.

        Raises:
            TimeoutExpired: the program still runs. It goes on running; nothing is lost if this is called again,
                then without input.
        """
        if self._exchange is None:
            if input is not None and self.stdin is None:
                raise StateError("there is no standard input to write to: it must be PIPE")
            data: Any = self._codec.encode(input) if self._codec and isinstance(input, str) else input
            self._exchange = Exchange(self, data or b"")
        elif input:
            raise StateError("the input was given in the first call already")
        if not self._exchange.run(self, None if timeout is None else time.monotonic() + timeout):
            assert timeout is not None
            raise TimeoutExpired(self.args, timeout)
        assert self._outcome is not None
        stdout = self._decode(self._exchange.received(self.stdout))
        stderr = self._decode(self._exchange.received(self.stderr))
        return (
            self._outcome.stdout if stdout is None else stdout,
            self._outcome.stderr if stderr is None else stderr,
        )

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program, not to what it started. Does nothing if it has ended."""
        if self.poll() is None:
            self._native.signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM to the program. Does nothing if it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the program and everything it started; the verdict is KILLED. Does nothing if it has ended."""
        if self.poll() is None:
            self._native.kill()

    def stop(self, timeout: float = 10) -> int:
        """Ask the program to end, and end it and everything it started if it still runs then, as `docker stop` does.

        The signal is the `stop_signal` of its specification. The outcome is by how it ended: KILLED only if it had to
        be killed. A paused program goes on. Does nothing if it has ended.

        Args:
            timeout: seconds that it has.

        Returns:
            The `returncode`.

        >>> import stockade
        >>> script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
        >>> with stockade.popen(["sh", "-c", script], stdout=stockade.PIPE) as process:
        ...     line = process.stdout.readline()
        ...     process.stop()
        7
        """
        if self.poll() is None:
            self._native.ask_to_stop()
            with contextlib.suppress(TimeoutExpired):
                return self.wait(timeout)
            self.kill()
        return self.wait()

    async def astop(self, timeout: float = 10) -> int:
        """`stop` for asyncio and trio. A cancellation leaves the program running, asked to end."""
        if self.poll() is None:
            self._native.ask_to_stop()
            if not await _async.ended_within(self._native, timeout):
                self.kill()
        return (await self).returncode

    def stats(self) -> Stats | None:
        """What the program and everything it started use now; None if it has ended: `outcome` says what it used.

        Takes about 50 microseconds with cgroups. Without, the processes are looked at, which takes longer the more
        there are, and CPU time is counted in ticks of 10 ms.
        """
        fields = None if self.poll() is not None else self._native.stats()
        return None if fields is None else Stats(**fields)

    def stats_every(self, interval: float) -> StatsEvery:
        """`stats` now and then after every `interval` seconds, until it has ended: for `for` and `async for`."""
        return StatsEvery(self, interval)

    def notify_cpu_time(self, threshold: Seconds | None) -> None:
        """Have a `Notification` come once when the program and everything it started have used so much CPU time.

        It comes as soon as that is seen, which is looked for when it could be at the earliest; at once if so much is
        used already. A threshold that is set takes the place of the one before, None of any. Does nothing if the
        program has ended.

        Args:
            threshold: seconds, or a str such as "500ms"; more than 0.
        """
        self._native.notify_cpu_time(threshold)

    def notify_memory(self, threshold: Size | None) -> None:
        """The same when so much memory is in use, as `memory` counts it.

        That is looked at every 20 ms at least, so use that is shorter may pass unseen.

        Args:
            threshold: bytes, or a str such as "64m"; more than 0.
        """
        self._native.notify_memory(threshold)

    def next_notification(self, timeout: float | None = None) -> Notification | None:
        """Wait for the next notification, in the order in which they came. None is lost if it is taken late.

        Args:
            timeout: seconds to wait at most. Default: no end.

        Returns:
            None if none came in that time, or the program has ended and all are taken.
        """
        fields = self._native.next_notification(timeout)
        return None if fields is None else Notification(*fields)

    def notifications(self) -> Notifications:
        """Every notification when it comes, until the program has ended: for `for` and `async for`.

        A soft limit: a program that passes it is given ten seconds more.

        >>> import stockade
        >>> process = stockade.popen(["sh", "-c", "while :; do :; done"], cpu_time=60)
        >>> process.notify_cpu_time(0.1)
        >>> for notification in process.notifications():
        ...     process.update(cpu_time=notification.threshold * 2)
        >>> process.outcome.verdict.name
        'TIME_LIMIT'
        """
        return Notifications(self)

    def pause(self) -> None:
        """Stop the program and everything it started, until `resume`; return when none of them runs any more.

        Meanwhile `wall_time` does not go on, and they can be killed. With cgroup v2 the kernel freezes them
        (cgroup.freeze), which they cannot notice; elsewhere they are stopped by SIGSTOP, in a live sandbox in which
        other programs run only the program's process group. One that has a timer send it SIGCONT goes on; it is stopped
        again, and that time counts for its limits as ever. Does nothing if it has ended or is paused.

        Raises:
            Error: a process could not be frozen within two seconds, since it waits in the kernel.
        """
        if self.poll() is None:
            self._native.pause()

    def resume(self) -> None:
        """Let a paused program go on. Does nothing if it has ended or is not paused."""
        if self.poll() is None:
            self._native.resume()

    def update(self, **limits: Unpack[Limits]) -> None:
        """Change limits of the running program, up or down. Does nothing if it has ended.

        A limit that is not named stays as it is; one that is replaces that of the specification, with the same
        meaning and range, and None takes it away, as if it had never been given. The outcome's verdict and
        enforcement go by the limits at the end.

        A limit below what is used already has its effect at once: `cpu_time` and `wall_time`, which count from the
        start as ever, end the program; `memory` has the kernel take back what it can, and ends the program if that
        is not enough; `output` ends it unless what is over is discarded; of `pids` no more can be added. The clocks of
        a paused program go on with `resume`.

        Args:
            **limits: cpu_time, wall_time (or timeout), memory, swap, pids, cpus, cpu_weight,
                cpuset_cpus (a list), io_weight, output.

        Raises:
            InvalidArgumentError: a value is out of range, or the option can only be given at the start.
            UnsupportedError: nothing on this host holds the limit, unless enforce is "best-effort". So it is with
                `cpus` and `cpu_weight` if the program was started without either, with `cpuset_cpus` and `io_weight`
                likewise, and with `pids` where no cgroup holds it.

        After an error nothing is changed.

        >>> import stockade
        >>> with stockade.popen(["sleep", "0.1"], memory="64m", wall_time=5) as process:
        ...     process.update(memory="128m", wall_time=None)
        >>> process.outcome.verdict
        <Verdict.OK: 0>
        """
        if self.poll() is None:
            self._native.update(**limits)

    def fileno(self) -> int:
        """The descriptor that is readable whenever `poll` has something to do, for event loops."""
        return self._native.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        try:
            for stream in (self.stdout, self.stderr, self.stdin):
                if stream:
                    close(stream)
        finally:
            self.wait()

    def __await__(self) -> Generator[Any, None, Outcome[AnyStr]]:
        """Wait for the end from asyncio or trio; the result is the outcome. A cancellation leaves it running."""
        if self._outcome is None:
            self._ended((yield from _async.wait(self._native).__await__()))
        assert self._outcome is not None
        return self._outcome

    def __repr__(self) -> str:
        state = "running" if self._outcome is None else str(self._outcome.verdict)
        return f"<Process {list(self.args)!r}: {state}>"

    def _ended(self, fields: dict[str, Any] | None) -> None:
        if fields is not None and self._outcome is None:
            self._outcome = from_fields(fields, self._codec, self.args)

    def _decode(self, data: bytes | None) -> Any:
        return data if data is None or self._codec is None else self._codec.decode(data)


class StatsEvery:
    """What `Process.stats_every` gives."""

    def __init__(self, process: Process[Any], interval: float) -> None:
        self._process = process
        self._interval = interval
        self._first = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Stats:
        if not self._first:
            with contextlib.suppress(TimeoutExpired):
                self._process.wait(self._interval)
        return self._next(StopIteration)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stats:
        if not self._first:
            await _async.ended_within(self._process._native, self._interval)
        return self._next(StopAsyncIteration)

    def _next(self, end: type[Exception]) -> Stats:
        self._first = False
        stats = self._process.stats()
        if stats is None:
            raise end
        return stats


class Notifications:
    """What `Process.notifications` gives."""

    def __init__(self, process: Process[Any]) -> None:
        self._process = process

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Notification:
        notification = self._process.next_notification()
        if notification is None:
            self._process.poll()
            raise StopIteration
        return notification

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        fields = await _async.next_notification(self._process._native)
        if fields is None:
            self._process.poll()
            raise StopAsyncIteration
        return Notification(*fields)


def _open(fd: int | None, mode: str, codec: Codec | None, bufsize: int) -> Any:
    if fd is None:
        return None
    if codec is None:
        return open(fd, mode, bufsize)
    # A text stream needs a buffered one; a line is passed on at once if lines or no buffer were asked for.
    raw: Any = open(fd, mode, bufsize if bufsize > 1 else -1)  # noqa: SIM115
    errors = codec.input_errors if mode == "wb" else codec.output_errors
    return io.TextIOWrapper(
        raw, codec.encoding, errors, newline="\n", line_buffering=bufsize == 1, write_through=bufsize == 0
    )
