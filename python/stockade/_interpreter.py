"""What the option `python` shows inside: the directories that the calling interpreter needs."""

from __future__ import annotations

import os
import sys

# Of the host's root file system, what every sandbox has.
_PRESENT = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def directories() -> list[str]:
    """The interpreter's own directories outside /usr, which is there already; none lies inside another.

    Each is named as it is written in `sys` and, if symbolic links lead there, also as it really is: a virtual
    environment's `bin/python` may point through either.
    """
    named = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    for executable in {sys.executable, getattr(sys, "_base_executable", "")}:
        named += _on_the_way(executable)
    found = {os.path.abspath(path) for path in named if path}
    found |= {os.path.realpath(path) for path in found}
    chosen: list[str] = []
    for path in sorted(found - {"/"}):
        if os.path.exists(path) and not any(_is_below(path, above) for above in (*_PRESENT, *chosen)):
            chosen.append(path)
    return chosen


def _on_the_way(executable: str) -> list[str]:
    """Every symbolic link on the way from `executable` to the real one, and the directory of that."""
    links = []
    while executable and os.path.islink(executable):
        links.append(executable)
        executable = os.path.join(os.path.dirname(executable), os.readlink(executable))
    return [*links, os.path.dirname(executable)]


def _is_below(path: str, above: str) -> bool:
    return os.path.commonpath([path, above]) == above
