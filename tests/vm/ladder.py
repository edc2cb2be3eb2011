#!/usr/bin/env python3
"""In a machine, as root: users whom systemd gives a scope, and users whom it gives none and what they are told.

What the command line prints as a remedy is done, word for word, and must help. The output is that of Rust's tests.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import main, says, sh, test

STOCKADE = str(Path(__file__).resolve().parent / "stockade-cli")
CGROUPS = Path("/sys/fs/cgroup")
TESTER, OTHER = 1000, 1001
IN_SCOPE = "cgroup v2 pids.max, in a scope of systemd's"
LIMITS = ["-m", "64m", "--pids", "16", "--cpu-time", "9"]


def session(uid: int = TESTER) -> Path:
    """A group as a login has it: root's, the user may make nothing in it."""
    return CGROUPS / f"user.slice/user-{uid}.slice/session-7.scope"


SERVICE = CGROUPS / "system.slice/plain.service"


def start(command: list[str], place: Path, uid: int, env: dict[str, str]) -> tuple[int, str, str]:
    """Runs a command as this user in this group, made if it is not there: status, output, errors."""
    place.mkdir(parents=True, exist_ok=True)
    enter = ["sh", "-c", f'echo $$ >{place}/cgroup.procs; exec "$@"', "-"]
    user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--init-groups", "--inh-caps=-all", "--"]
    env = {"PATH": "/usr/bin:/bin", **env}
    done = subprocess.run([*enter, *(user if uid else []), *command], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def manager_env(uid: int = TESTER) -> dict[str, str]:
    """What a login puts into the environment."""
    return {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{uid}/bus"}


def enforcement(place: Path, uid: int = TESTER, env: dict[str, str] | None = None, *flags: str) -> dict[str, Any]:
    """What the outcome of a run says of its limits."""
    command = [STOCKADE, "run", "--json", "--quiet", "--enforce", "best-effort", *LIMITS, *flags, "--", "/bin/true"]
    status, out, err = start(command, place, uid, manager_env(uid) if env is None else env)
    assert status == 0, f"{status}: {out}{err}"
    said: dict[str, Any] = json.loads(out)["enforcement"]
    return said


def refusal(place: Path, uid: int, *flags: str) -> str:
    """What a run that is refused says."""
    command = [STOCKADE, "run", *LIMITS, *flags, "--", "/bin/true"]
    status, out, err = start(command, place, uid, {})
    assert status == 125, f"{status}: {out}{err}"
    return err


def doctor(place: Path, uid: int) -> dict[str, str]:
    """The cgroup check."""
    _, out, err = start([STOCKADE, "doctor", "--json"], place, uid, manager_env(uid))
    assert out, err
    check: dict[str, str] = next(check for check in json.loads(out) if check["name"] == "cgroup")
    return check


def in_scope(said: dict[str, Any]) -> None:
    """The kernel holds it, in a scope of systemd's."""
    assert said["pids"] == {"status": "enforced", "by": IN_SCOPE}, said
    assert said["memory"]["by"].startswith("cgroup v2 memory.max"), said
    assert "in a scope of systemd's" in said["cpu_time"]["by"], said


def wait_for_manager(uid: int) -> None:
    """Until the user's manager answers."""
    for _ in range(600):
        if Path(f"/run/user/{uid}/systemd/private").exists() and Path(f"/run/user/{uid}/bus").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"no manager of user {uid} has come up: {sh(f'systemctl status user@{uid} || true')}")


def new_login(uid: int) -> None:
    """What the first login does after the last has ended."""
    sh(f"systemctl stop user-{uid}.slice; systemctl start user@{uid}")
    wait_for_manager(uid)


@contextlib.contextmanager
def moved_away(*paths: str) -> Iterator[None]:
    """Files that are somewhere else meanwhile."""
    for path in paths:
        os.rename(path, path + ".away")
    try:
        yield
    finally:
        for path in paths:
            os.rename(path + ".away", path)


@contextlib.contextmanager
def group(path: str) -> Iterator[Path]:
    """A group of root's; what is below it is removed too."""
    top = CGROUPS / path
    top.mkdir()
    try:
        yield top
    finally:
        for directory in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
            directory.rmdir()


@test
def a_login_session_gets_a_scope() -> None:
    in_scope(enforcement(session()))


@test
def a_session_without_its_environment_gets_a_scope() -> None:
    in_scope(enforcement(session(), TESTER, {}))


@test
def after_su_the_other_ones_environment_does_not_mislead() -> None:
    Path("/run/user/0").mkdir(mode=0o700, exist_ok=True)
    in_scope(enforcement(session(0), TESTER, manager_env(0)))


@test
def a_system_service_of_the_user_gets_a_scope() -> None:
    in_scope(enforcement(SERVICE))


@test
def without_a_message_bus_the_managers_own_socket_does() -> None:
    with moved_away("/run/user/1000/bus"):
        in_scope(enforcement(session()))


@test
def a_manager_that_does_not_answer_is_named() -> None:
    with moved_away("/run/user/1000/bus", "/run/user/1000/systemd/private"):
        by = enforcement(session())["memory"]["by"]
    says(by, "systemd: it does not answer", "`/run/user/1000/bus`", "`/run/user/1000/systemd/private`")


@test
def without_a_manager_the_remedy_is_to_linger() -> None:
    sh(f"useradd -m -u {OTHER} other")
    said = enforcement(SERVICE, OTHER)
    assert said["memory"]["status"] == "approximated", said
    assert f"`/run/user/{OTHER}`, so no user manager runs" in said["memory"]["by"], said
    check = doctor(SERVICE, OTHER)
    assert check["status"] == "degraded", check
    assert f"enable-linger {OTHER}" in check["detail"], check
    assert check["fix"] == "sudo loginctl enable-linger other", check
    says(refusal(SERVICE, OTHER, "--cpus", "1"), ": nothing on this host can enforce it: ", "cgroup_parent")


@test
def a_delegated_group_is_no_use_to_who_stands_in_it() -> None:
    with group("delegated") as top:
        (top / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        inner = top / "inner"
        inner.mkdir()
        for path in (inner, inner / "cgroup.procs", inner / "cgroup.subtree_control"):
            os.chown(path, OTHER, OTHER)
        by = enforcement(inner, OTHER)["memory"]["by"]
        remedy = f"mkdir {inner}/main && echo $$ > {inner}/main/cgroup.procs"
        says(by, "DelegateSubgroup=main", remedy)
        # In the shell before it, as it says.
        run = f"{remedy} && {STOCKADE} run --json -q {' '.join(LIMITS)} -- /bin/true"
        status, out, err = start(["sh", "-c", run], inner, OTHER, {})
        assert status == 0, err
        assert json.loads(out)["enforcement"]["pids"]["by"] == "cgroup v2 pids.max", out


@test
def lingering_helps() -> None:
    sh(doctor(SERVICE, OTHER)["fix"].replace("sudo ", ""))
    wait_for_manager(OTHER)
    in_scope(enforcement(SERVICE, OTHER))
    assert doctor(SERVICE, OTHER)["status"] == "ok"


@test
def controllers_that_are_not_delegated_are_named_and_the_drop_in_helps() -> None:
    # As an administrator may have it: systemd counts nothing by itself, and gives users' managers one controller.
    for path, text in (
        ("system.conf.d/little.conf", "[Manager]\nDefaultMemoryAccounting=no\nDefaultTasksAccounting=no\n"),
        ("system/user@.service.d/50-little.conf", "[Service]\nDelegate=\nDelegate=io\n"),
    ):
        file = Path("/etc/systemd", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    sh("systemctl daemon-reexec")
    new_login(OTHER)
    said = enforcement(SERVICE, OTHER)
    assert said["memory"]["status"] == "approximated", said
    assert "Delegate=cpu cpuset io memory pids" in said["memory"]["by"], said
    check = doctor(SERVICE, OTHER)
    fix, word, _ = check["fix"].partition(", and log in again")
    assert check["status"] == "degraded", check
    assert word, check
    sh(fix.replace("sudo ", ""))
    new_login(OTHER)
    in_scope(enforcement(SERVICE, OTHER))
    cpus = enforcement(SERVICE, OTHER, None, "--cpus", "1")["cpus"]
    assert cpus == {"status": "enforced", "by": "cgroup v2 cpu.max, in a scope of systemd's"}, cpus


@test
def a_threaded_group_is_refused_as_a_parent() -> None:
    with group("tree") as top:
        inner = top / "inner"
        inner.mkdir()
        (inner / "cgroup.type").write_text("threaded")
        for parent, kind in ((inner, "threaded"), (top, "domain threaded")):
            said = refusal(CGROUPS / "system.slice/job.service", 0, "--cgroup-parent", str(parent))
            says(said, f"cgroup.type is `{kind}`", "of type `domain`")


@test
def a_group_with_processes_is_refused_as_a_parent_and_left_alone() -> None:
    with group("busy") as top:
        sleeper = subprocess.Popen(["sleep", "1000"])
        try:
            (top / "cgroup.procs").write_text(str(sleeper.pid))
            said = refusal(CGROUPS / "system.slice/job.service", 0, "--cgroup-parent", str(top))
            assert "it holds processes" in said, said
            assert (top / "cgroup.procs").read_text() == f"{sleeper.pid}\n"
            assert (top / "cgroup.subtree_control").read_text().strip() == ""
            assert not [path for path in top.iterdir() if path.is_dir()]
        finally:
            sleeper.kill()
            sleeper.wait()
            time.sleep(0.1)


@test
def huge_pages_are_held_in_a_group_of_roots() -> None:
    sh(f"echo +hugetlb >{CGROUPS}/cgroup.subtree_control")
    try:
        with group("huge") as top:
            flags = ["--cgroup-parent", str(top), "--hugetlb", "2m:4m", "-v", f"{Path(STOCKADE).parent}/guest:/guest"]
            command = [STOCKADE, "run", "--json", "--quiet", *flags, "--", "/guest/guest", "huge"]
            for size, verdict, signal in (("4m", "OK", None), ("8m", "SIGNALED", 7)):
                _, out, err = start([*command, size], SERVICE, 0, {})
                assert out, err
                said = json.loads(out)
                assert (said["verdict"], said["signal"]) == (verdict, signal), out
                held = {"status": "enforced", "by": "cgroup v2 hugetlb.2MB.max"}
                assert said["enforcement"]["hugetlb"] == held, out
    finally:
        sh(f"echo -hugetlb >{CGROUPS}/cgroup.subtree_control")


if __name__ == "__main__":
    sys.exit(main("ladder"))
