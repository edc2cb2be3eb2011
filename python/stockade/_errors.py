"""What is raised: `Error` when a program could not be run, `ProgramError` when `check` finds that it failed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stockade._outcome import Outcome


class Error(Exception):
    """Why a program could not be run. One that ran and failed has an `Outcome` instead.

    The text names the step, the object, the errno and what to do about it.

    Attributes:
        kind: which of the subclasses it is, as a word: "invalid_argument", "unsupported", "setup", "state",
            "supervisor", "resource", "internal", "image", "not_found", "registry".
        errno: the errno of the system call that failed, or 0.
        strerror: its text, or None.
        step: the step of the set-up that failed ("mount proc"), or "".
    """

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, errno: int = 0, step: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.step = step

    @property
    def strerror(self) -> str | None:
        """The text of `errno`, or None."""
        return os.strerror(self.errno) if self.errno else None

    def __reduce__(self) -> tuple[type[Error], tuple[str, int, str]]:
        return type(self), (str(self), self.errno, self.step)


class InvalidArgumentError(Error, ValueError):
    """The specification or an argument is wrong. Nothing was started."""

    kind = "invalid_argument"


class UnsupportedError(Error):
    """This host cannot do what was asked: no user namespaces, a limit nothing here can enforce. Nothing was started."""

    kind = "unsupported"


class SetupError(Error):
    """Setting up the sandbox, or reading or writing the image store, failed; `errno` and `step` say where."""

    kind = "setup"


class StateError(Error):
    """The call does not fit the state of the object: closed, finished, made by another process."""

    kind = "state"


class SupervisorError(Error):
    """The supervisor went away while the program ran; nothing of the sandbox is left."""

    kind = "supervisor"


class ResourceError(Error):
    """The system refused a resource: memory, descriptors, processes."""

    kind = "resource"


class InternalError(Error):
    """A bug in stockade; please report it."""

    kind = "internal"


class ImageError(Error):
    """An image, or an archive of images, is damaged, is not what its digest says, or tries what an image must not.

    `step` is the rule that it breaks. Nothing of it was kept.
    """

    kind = "image"


class NotFoundError(Error):
    """The store has no such image; or a registry has none that it shows to who asks."""

    kind = "not_found"


class RegistryError(Error):
    """A registry cannot be reached, refuses, or does not answer as it should.

    `step` says which: "connect", "tls", "timeout", "proxy", "redirect", "auth", "http". What was downloaded is kept for
    the next try.
    """

    kind = "registry"


class ProgramError(subprocess.CalledProcessError):
    """A program ran and its verdict is not OK, and `check` was asked for.

    A `subprocess.CalledProcessError` with one attribute more.

    Attributes:
        returncode: as in the outcome; it can be 0, if a limit was passed and the program then exited.
        cmd: the program and its arguments.
        stdout, output, stderr: what was captured.
        outcome: the whole `Outcome`.
    """

    def __init__(self, outcome: Outcome[Any], cmd: Sequence[str]) -> None:
        super().__init__(outcome.returncode, cmd, outcome.stdout, outcome.stderr)
        self.outcome = outcome

    def __str__(self) -> str:
        outcome = self.outcome
        limit = f" ({outcome.limit})" if outcome.limit else ""
        why = f": {outcome.message}" if outcome.message else ""
        return f"{list(self.cmd)!r}: {outcome.verdict}{limit}, returncode {self.returncode}{why}"

    def __reduce__(self) -> tuple[type[ProgramError], tuple[Outcome[Any], Sequence[str]]]:
        return type(self), (self.outcome, self.cmd)
