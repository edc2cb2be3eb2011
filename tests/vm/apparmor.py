#!/usr/bin/env python3
"""In a machine, as root: the AppArmor profiles that are shipped, loaded by the lines that they and `doctor` print.

Debian's kernels have not Ubuntu's switch, kernel.apparmor_restrict_unprivileged_userns. What it does to a program
without a profile is done by profiles of sessions here, which hand a program to the profile that is for its path, as an
unconfined session would, and else keep it:

    no-userns         no user namespace can be made, as on Ubuntu where its profile `unprivileged_userns` is not loaded
    no-capabilities   it can be made, and gives no rights, as with that profile

The output is that of Rust's tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from checks import Skip, main, says, sh, test

HERE = Path(__file__).resolve().parent
SHIPPED = HERE / "apparmor"
COMMAND = Path("/usr/local/bin/stockade")
ELSEWHERE = Path("/opt/elsewhere/stockade")
PYTHON = os.path.realpath("/usr/bin/python3")
VENV = Path("/opt/venv")
COPIED = Path("/opt/venv-of-its-own")
PYTHON_PROFILE = f"stockade{PYTHON.replace('/', '.')}"
POLICY = Path("/etc/apparmor.d")
FEATURES = Path("/sys/kernel/security/apparmor/features")

# All that there are rules for, but for user namespaces and capabilities. Who maps sub-ids has rights of its own.
RULES = """
  file,
  network,
  unix,
  signal,
  ptrace,
  mount,
  umount,
  pivot_root,
  dbus,
  mqueue,
  io_uring,
  /usr/bin/newuidmap Ux,
  /usr/bin/newgidmap Ux,
"""
SESSIONS = {"no-userns": "capability", "no-capabilities": "userns"}
# What may have a profile of its own. Everything else that is executed stays in the session, the helper too, which no
# rule about paths fits.
PROGRAMS = (COMMAND, ELSEWHERE, PYTHON, f"{COPIED}/bin/python3")


def load(name: str, text: str) -> None:
    """Puts a profile where they are kept, and into the kernel."""
    (POLICY / name).write_text(f"abi <abi/4.0>,\ninclude <tunables/global>\n{text}")
    sh(f"apparmor_parser -r {POLICY / name}")


def unload(name: str) -> None:
    """Takes it out again."""
    sh(f"apparmor_parser -R {POLICY / name}")
    (POLICY / name).unlink()


def in_session(session: str | None, *command: str | Path, **env: str) -> tuple[int, str, str]:
    """Runs a command as `tester`: status, output, errors. It is executed by a shell in the session."""
    words = ["setpriv", "--reuid", "1000", "--regid", "1000", "--init-groups", "--inh-caps=-all", "--"]
    if session:
        words += ["aa-exec", "-p", session, "--"]
    words += ["sh", "-c", '"$@"; exit $?', "-", *map(str, command)]
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/tester", "XDG_RUNTIME_DIR": "/run/user/1000", **env}
    done = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def succeeds(session: str | None, *command: str | Path, **env: str) -> str:
    """The output of a command that must succeed."""
    status, out, err = in_session(session, *command, **env)
    assert status == 0, f"{session}: {command}: {status}: {out}{err}"
    return out


def fails(session: str, *command: str | Path, **env: str) -> str:
    """The errors of a command that must fail before anything is run."""
    status, out, err = in_session(session, *command, **env)
    assert status == 125, f"{session}: {command}: {status}: {out}{err}"
    return err


def sessions() -> list[str]:
    """Those that this kernel can hold."""
    mediated = "userns" in str([path.read_text() for path in FEATURES.glob("namespaces/*")])
    return [session for session in SESSIONS if mediated or session != "no-userns"]


def printed(profile: str) -> str:
    """The command that a profile says loads it."""
    lines = [line[6:] for line in (SHIPPED / profile).read_text().splitlines() if line.startswith("#     ")]
    assert lines, profile
    return "\n".join(lines)


def as_printed(command: str) -> None:
    """Does what is printed, in the directory of the profiles; root needs no sudo for it."""
    sh(f'cd {SHIPPED}; sudo() {{ "$@"; }}; {command}')


def doctor(session: str | None, *command: str | Path, **env: str) -> dict[str, str]:
    """What it says of user namespaces."""
    _, out, err = in_session(session, *(command or (COMMAND, "doctor", "--json")), **env)
    assert out, err
    check: dict[str, str] = next(check for check in json.loads(out) if check["name"] == "user namespace")
    return check


def is_named(session: str, error: str) -> None:
    """An error says which profile confines the program, what would let it, and what works without."""
    says(error, f"AppArmor's profile `{session}` confines this program", "share/stockade/apparmor", "`stockade doctor`")
    says(error, "isolation=restrict")


def can_restrict() -> bool:
    """Whether the kernel has what isolation=restrict needs: it comes with 6.12."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return (int(major), int(minor)) >= (6, 12)


# What a program inside finds of its own confinement.
INSIDE = """
grep -E '^(NoNewPrivs|Seccomp|Cap(Inh|Prm|Eff|Bnd|Amb)|Uid|NSpid):' /proc/self/status
unshare -U true 2>&1 && echo namespace
cat /etc/shadow /sys/kernel/security/apparmor/profiles 2>&1
echo changeprofile unconfined >/proc/self/attr/current
ls /proc
mount -t tmpfs x /tmp
""".strip()


def inside(session: str | None, *flags: str) -> tuple[str, dict[str, Any]]:
    """What a program in a sandbox finds, and what the outcome says of its protections."""
    words: list[str | Path] = [COMMAND, "run", "--json", *flags, "--", "/bin/sh", "-c", f"exec 2>&1; {INSIDE}; true"]
    said = json.loads(succeeds(session, *words))
    assert said["verdict"] == "OK", said
    # What is counted differs from run to run.
    numbers = re.sub(r"\b[1-9]\d+\b", "N", str(said["stdout"]))
    return numbers, {name: value["status"] for name, value in said["enforcement"].items()}


def python(session: str | None, program: str, *, interpreter: str = PYTHON) -> tuple[int, str, str]:
    """A program that embeds the module."""
    return in_session(session, interpreter, "-c", program, PYTHONPATH=str(HERE / "python"))


RUN = "import stockade; print(stockade.run(['echo', 'ran']).stdout.decode(), end='')"
RESTRICTED = RUN.replace("['echo', 'ran']", "['/bin/echo', 'ran'], isolation='restrict'")
DOCTOR = "import dataclasses, json, stockade; print(json.dumps([dataclasses.asdict(c) for c in stockade.doctor()]))"


@test
def the_kernel_has_apparmor() -> None:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    assert enabled.exists()
    assert enabled.read_text().strip() == "Y"
    assert "confine" not in succeeds(None, COMMAND, "run", "--", "echo", "ran")
    own = "".join(f"  {program} pix,\n" for program in PROGRAMS)
    for name, more in SESSIONS.items():
        load(name, f"profile {name} flags=(attach_disconnected) {{{RULES}{own}  {more},\n}}\n")


@test
def without_a_profile_the_error_names_one_and_what_works_without() -> None:
    for session in sessions():
        is_named(session, fails(session, COMMAND, "run", "--", "true"))
        check = doctor(session)
        assert check["status"] == "missing", check
        says(check["detail"], f"profile `{session}`")
    if "no-userns" not in sessions():
        raise Skip("this kernel's AppArmor has no say about user namespaces, only about what is done in them")


@test
def restrict_works_without_a_profile() -> None:
    if not can_restrict():
        raise Skip("isolation=restrict needs Linux 6.12")
    for session in SESSIONS:
        out = succeeds(session, COMMAND, "run", "--isolation", "restrict", "--", "/bin/sh", "-c", "echo ran")
        assert out == "ran\n", out


@test
def the_shipped_profile_is_loaded_as_it_says_and_gives_the_whole_sandbox() -> None:
    before = inside(None)
    says(before[0], "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Seccomp:\t2")
    assert "namespace" not in before[0].split("\n"), before
    as_printed(printed("stockade"))
    try:
        for session in sessions():
            assert inside(session) == before, session
            assert doctor(session)["status"] == "ok"
            # What it starts in no sandbox gets nothing by it, nor does any other program.
            status, _, err = in_session(session, "unshare", "-Ur", "true")
            assert status != 0, err
        assert inside(None) == before
    finally:
        unload("stockade")
    is_named("no-capabilities", fails("no-capabilities", COMMAND, "run", "--", "true"))


@test
def a_command_at_another_path_is_helped_by_what_doctor_prints() -> None:
    ELSEWHERE.parent.mkdir(exist_ok=True)
    shutil.copy(COMMAND, ELSEWHERE)
    as_printed(printed("stockade"))
    try:
        is_named("no-capabilities", fails("no-capabilities", ELSEWHERE, "run", "--", "true"))
    finally:
        unload("stockade")
    check = doctor("no-capabilities", ELSEWHERE, "doctor", "--json")
    as_printed(check["fix"])
    try:
        assert succeeds("no-capabilities", ELSEWHERE, "run", "--", "echo", "ran") == "ran\n"
        is_named("no-capabilities", fails("no-capabilities", COMMAND, "run", "--", "true"))
    finally:
        unload("stockade.opt.elsewhere.stockade")


@test
def a_python_program_is_told_and_helped_likewise() -> None:
    for session in sessions():
        status, out, err = python(session, RUN)
        assert status == 1, out
        is_named(session, err)
    if can_restrict():
        status, out, err = python("no-capabilities", RESTRICTED)
        assert (status, out) == (0, "ran\n"), err
    sh(f"python3 -m venv --without-pip {VENV}; python3 -m venv --without-pip --copies {COPIED}")
    as_printed(printed("stockade-program"))
    try:
        for session in sessions():
            for interpreter in (PYTHON, "/usr/bin/python3", f"{VENV}/bin/python"):
                status, out, err = python(session, RUN, interpreter=interpreter)
                assert (status, out) == (0, "ran\n"), f"{session}: {interpreter}: {err}"
        # The right is that of a path: another copy of the interpreter has it not, and gets its own beside it.
        own = f"{COPIED}/bin/python3"
        status, _, err = python("no-capabilities", RUN, interpreter=own)
        assert status == 1, err
        is_named("no-capabilities", err)
        check = doctor("no-capabilities", own, "-c", DOCTOR, PYTHONPATH=str(HERE / "python"))
        as_printed(check["fix"])
        for interpreter in (own, PYTHON):
            status, out, err = python("no-capabilities", RUN, interpreter=interpreter)
            assert (status, out) == (0, "ran\n"), err
    finally:
        unload(PYTHON_PROFILE)
    status, _, err = python("no-capabilities", RUN)
    assert status == 1, err


if __name__ == "__main__":
    sh(f"install -m 755 {HERE}/stockade-cli {COMMAND}")
    sys.exit(main("apparmor"))
