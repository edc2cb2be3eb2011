r"""Stockade: rootless Linux sandboxes in which to run untrusted programs, with limits that hold and a true verdict.

>>> import stockade
>>> outcome = stockade.run(["echo", "hello"], text=True, memory="64m", cpu_time=1, wall_time=5)
>>> outcome.verdict
<Verdict.OK: 0>
>>> outcome.stdout
'hello\n'

`run` runs one program in a sandbox of its own, `arun` does so from asyncio and trio, `popen` gives its pipes,
`Sandbox` lives across runs, and `images` keeps root file systems. Every call takes the options that `Spec` describes.
What the program may do to itself is told by the `Outcome`; what keeps it from being run is an `Error`. `doctor` says
what this host can enforce.

Everything here may be used from any thread. The interpreter's lock is released in every call that can wait. After
a fork, the child starts sandboxes of its own; those of its parent stay the parent's.
"""

from subprocess import DEVNULL, PIPE, STDOUT, TimeoutExpired

from stockade import images
from stockade._changes import Change
from stockade._doctor import Check, doctor
from stockade._errors import (
    Error,
    ImageError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ProgramError,
    RegistryError,
    ResourceError,
    SetupError,
    StateError,
    SupervisorError,
    UnsupportedError,
)
from stockade._options import Limits, Options
from stockade._outcome import Enforcement, Notification, Outcome, OutputFile, Stats, Usage, Verdict, Violation
from stockade._process import Process
from stockade._run import arun, popen, run
from stockade._sandbox import Sandbox
from stockade._stockade import Spec, __version__

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Change",
    "Check",
    "Enforcement",
    "Error",
    "ImageError",
    "InternalError",
    "InvalidArgumentError",
    "Limits",
    "NotFoundError",
    "Notification",
    "Options",
    "Outcome",
    "OutputFile",
    "Process",
    "ProgramError",
    "RegistryError",
    "ResourceError",
    "Sandbox",
    "SetupError",
    "Spec",
    "StateError",
    "Stats",
    "SupervisorError",
    "TimeoutExpired",
    "UnsupportedError",
    "Usage",
    "Verdict",
    "Violation",
    "__version__",
    "arun",
    "doctor",
    "images",
    "popen",
    "run",
]
