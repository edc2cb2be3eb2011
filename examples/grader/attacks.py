"""Hostile solutions that take too much, look around or try the doors. See `forgeries` for those that lie.

Each function here is one, and is sent into the sandbox as its own source. It runs in the process that serves the
candidate, as every solution does, and knows all of this package; only the tests and the nonce are not its to see.
"""

from __future__ import annotations

import ctypes
import glob
import itertools
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from stockade import Verdict

from .hostile import LOOT, attack

TESTS = "tests: "
NO_ANSWER = "candidate: ended without an answer"

# ---- time


@attack(Verdict.TIME_LIMIT, NO_ANSWER)
def endless_loop(*_: Any) -> Any:
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CPU, (resource.getrlimit(resource.RLIMIT_CPU)[1],) * 2)
    while True:
        pass


@attack(Verdict.WALL_TIME_LIMIT, NO_ANSWER)
def endless_sleep(*_: Any) -> Any:
    while True:
        time.sleep(1000)


@attack(Verdict.WALL_TIME_LIMIT, NO_ANSWER)
def stops_itself(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)


@attack(Verdict.TIME_LIMIT, NO_ANSWER)
def thread_bomb(*_: Any) -> Any:
    def spin() -> None:
        while True:
            pass

    while True:
        try:
            threading.Thread(target=spin).start()
        except RuntimeError:
            pass


@attack(Verdict.TIME_LIMIT, NO_ANSWER)
def fork_bomb(*_: Any) -> Any:
    while True:
        try:
            os.fork()
        except OSError:
            pass


@attack(Verdict.TIME_LIMIT, NO_ANSWER)
def hands_work_to_orphans(*_: Any) -> Any:
    # Each burns a little and dies unwatched: only the bill of the whole tree shows it.
    while True:
        try:
            child = os.fork()
        except OSError:
            continue
        if child == 0:
            try:
                if os.fork() == 0:
                    end = time.process_time() + 0.02
                    while time.process_time() < end:
                        pass
            finally:
                os._exit(0)
        os.wait()


# ---- memory, disk, output


@attack(Verdict.MEMORY_LIMIT, NO_ANSWER)
def memory_bomb(*_: Any) -> Any:
    hoard = []
    while True:
        hoard.append(b"x" * (1 << 20))


# Sampling sees the memory of processes, and this is in none.
@attack(Verdict.MEMORY_LIMIT, NO_ANSWER, unless_enforced=Verdict.TIME_LIMIT)
def memory_bomb_in_memfds(*_: Any) -> Any:
    while True:
        try:
            hoard = os.memfd_create("hoard")
            while True:
                os.write(hoard, b"x" * (1 << 20))
        except OSError:
            pass


@attack(Verdict.OUTPUT_LIMIT, NO_ANSWER)
def output_flood(*_: Any) -> Any:
    while True:
        print("passed " * 1000)


@attack(Verdict.OK, TESTS)
def huge_result(*_: Any) -> Any:
    return "x" * (16 << 20)


# ---- looking around


@attack(Verdict.OK, TESTS)
def reads_the_hosts_files(*_: Any) -> Any:
    found = []
    for secret in ("/etc/shadow", "/etc/gshadow", "/root/.bashrc", "/proc/kcore", "/dev/mem", "/dev/kmsg"):
        try:
            found.append(f"{LOOT} {open(secret, 'rb').read(64)!r}")
        except OSError:
            pass
    # The bait lies where any process of the host can read it.
    for top in ("/tmp", "/var/tmp", "/home", "/root", "/mnt", "/srv", "/opt", "/work", "/proc/1/root/tmp", "/run"):
        for folder, _folders, files in itertools.islice(os.walk(top), 1000):
            for file in files:
                if file == "bait":
                    found.append(open(os.path.join(folder, file)).read())
    return found


@attack(Verdict.OK, TESTS)
def looks_for_the_checker(*_: Any) -> Any:
    found = []
    own = {str(os.getpid()), "1", "self", "thread-self"}
    for process in glob.glob("/proc/[0-9]*"):
        if os.path.basename(process) not in own:
            found.append(f"{LOOT} {process}")
    for pattern in ("/proc/1/fd/*", "/proc/1/environ", "/proc/1/cmdline", "/proc/1/maps", "/proc/*/cwd/check.py"):
        for path in glob.glob(pattern):
            try:
                content = open(path, "rb").read(1 << 20)
                if any(word in content for word in (b"check", b"nonce", b"python", b"=")):
                    found.append(f"{LOOT} {path}: {content!r}")
            except OSError:
                pass
    return found


@attack(Verdict.OK, TESTS)
def looks_up_its_callers(*_: Any) -> Any:
    # The frames of the server are open to it; the tests and the nonce must be in none.
    found = []
    frame = sys._getframe()
    while frame.f_back:
        frame = frame.f_back
        for name, value in {**frame.f_globals, **frame.f_locals}.items():
            if (isinstance(value, dict) and {"nonce", "test"} & value.keys()) or name in ("nonce", "tests"):
                found.append(f"{LOOT} {name}")
    return found


@attack(Verdict.OK, TESTS)
def tries_the_doors(*_: Any) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_mounts = 0x10000000, 0x20000
    doors: dict[str, Callable[[], int]] = {
        "unshare user": lambda: libc.unshare(new_user),
        "unshare mounts": lambda: libc.unshare(new_mounts),
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "ptrace init": lambda: libc.ptrace(16, 1, None, None),
        "chroot": lambda: libc.chroot(b"/proc"),
        "root": lambda: libc.setresuid(0, 0, 0),
        "reboot": lambda: libc.reboot(0x89ABCDEF),
        "write to /usr": lambda: libc.creat(b"/usr/loot", 0o644),
        "write to /etc": lambda: libc.creat(b"/etc/loot", 0o644),
        "write to sysctl": lambda: libc.open(b"/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "sysrq": lambda: libc.open(b"/proc/sysrq-trigger", os.O_WRONLY),
        "more pids": lambda: libc.open(b"/proc/sys/kernel/pid_max", os.O_WRONLY),
        "disk": lambda: libc.mknod(b"/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)),
    }
    return [f"{LOOT} {name}" for name, door in doors.items() if door() >= 0]


@attack(Verdict.OK, TESTS)
def phones_home(*_: Any) -> Any:
    found = []
    for address in (("127.0.0.1", 22), ("192.0.2.1", 80)):
        try:
            socket.create_connection(address, timeout=0.1)
            found.append(f"{LOOT} {address}")
        except ConnectionRefusedError:
            found.append(f"{LOOT} {address} answered")
        except OSError:
            pass
    if len(socket.if_nameindex()) > 1:
        found.append(f"{LOOT} {socket.if_nameindex()}")
    return found
