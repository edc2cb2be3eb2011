"""A Debian virtual machine in QEMU that runs one command, from images that build-image.sh has made."""

import hashlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("STOCKADE_VM_CACHE") or Path.home() / ".cache/stockade-vm")
SUITE = os.environ.get("VM_SUITE", "bookworm")
ACCEL = os.environ.get("VM_ACCEL", "tcg")
MEMORY_MIB = 2048
BOOT_SECONDS = 300

# How the command stands in the guest's cgroups. Of each, the words before the command.
SHAPES = {
    # A user's program in a scope that systemd has delegated: it is alone in it, and may make groups below.
    "delegated": "{as_user} systemd-run --user --scope --quiet -p Delegate=yes --",
    # A user's service that asks for no delegation: its group is the user's all the same, and so are those above.
    "service": "{as_user} systemd-run --user --wait --pipe --quiet --same-dir -p Delegate=no {keep} --",
    # A system service with a delegated group, which holds the suite; the group above it is root's.
    "unit": "systemd-run --wait --pipe --quiet --same-dir -p User=tester -p Delegate=yes {keep} --",
    # The same, with the suite in a child of the group, as its user has to put it there.
    "subgroup": "systemd-run --wait --pipe --quiet --same-dir -p User=tester -p Delegate=yes {keep} -- {child}",
    # What a login over ssh gives: a scope that belongs to root, in which the user may make nothing.
    "login": "{session} {as_user}",
    "root": "{bfq}",
    # As root, tests/vm/ladder.py: systemd and its users in other states.
    "ladder": "",
    # As root, tests/vm/apparmor.py: what AppArmor forbids, and the profiles that are shipped.
    "apparmor": "",
}
ROOTS = ("root", "ladder", "apparmor")
# A scheduler that minds the weights of block devices, which is on by itself nowhere.
BFQ = "sh -c 'modprobe bfq && echo bfq >/sys/block/vda/queue/scheduler; exec \"$@\"' -"
SWAP_MIB = 64
HUGE_PAGES = 16
AS_USER = "setpriv --reuid 1000 --regid 1000 --init-groups --inh-caps=-all --"
SESSION = (
    "sh -c 'd=/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope;"
    ' mkdir -p $d; echo $$ >$d/cgroup.procs; exec "$@"\' -'
)
CHILD = (
    "sh -c 'd=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/main; mkdir $d; echo $$ >$d/cgroup.procs; exec \"$@\"' -"
)
ENVIRONMENT = {
    "HOME": "/home/tester",
    "USER": "tester",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    "XDG_RUNTIME_DIR": "/run/user/1000",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
}
# Where what is sent lies in the guest.
SENT = "/srv/sent"


class VmError(Exception):
    """The machine failed, not what was run in it."""


class Machine:
    """One QEMU process and its sockets: `qmp` controls it, the others are serial ports of the guest."""

    def __init__(self, kernel: str, drive: str, *more: str) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="stockade-vm-"))
        images = CACHE / f"kernel-{kernel}"
        # QEMU 7.2 emulates cmpxchg16b wrongly, which crashes kernels from 6.12 on: the processor goes without it.
        processor = ["-accel", "kvm", "-cpu", "host"]
        if ACCEL == "tcg":
            processor = ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16"]
        command = ["qemu-system-x86_64", "-S", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-machine", "pc,usb=off,vmport=off", *processor, "-smp", "2", "-m", f"{MEMORY_MIB}M"]
        command += ["-kernel", f"{images}/vmlinuz", "-initrd", f"{images}/initrd"]
        command += ["-append", "console=ttyS0 panic=-1 quiet audit=0", "-serial", f"file:{self.dir}/console"]
        command += ["-drive", f"if=none,id=root,cache=unsafe,{drive}", "-device", "virtio-blk-pci,drive=root"]
        command += ["-drive", f"if=none,id=mod,file={images}/modules.img,format=raw,readonly=on"]
        command += ["-device", "virtio-blk-pci,drive=mod", "-device", "virtio-rng-pci"]
        command += ["-chardev", f"socket,id=qmp,path={self.dir}/qmp,server=on,wait=off"]
        command += ["-mon", "chardev=qmp,mode=control", "-device", "virtio-serial-pci,max_ports=4"]
        for port in ("job", "out", "err"):
            command += ["-chardev", f"socket,id={port},path={self.dir}/{port},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev={port},name={port}"]
        self.qemu = subprocess.Popen([*command, *more], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            self.job, self.out, self.err = (self._connect(port) for port in ("job", "out", "err"))
            self._qmp = self._connect("qmp").makefile("rw")
            self._qmp.readline()
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _connect(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(str(self.dir / name))
                return connection
            except OSError:
                if self.qemu.poll() is not None:
                    raise VmError(f"qemu ended with status {self.qemu.returncode}") from None
                time.sleep(0.02)

    def ask(self, command: str, **arguments: object) -> Any:
        """Gives QEMU a command; its answer."""
        json.dump({"execute": command, "arguments": arguments}, self._qmp)
        self._qmp.flush()
        for line in self._qmp:
            answer = json.loads(line)
            if "error" in answer:
                raise VmError(f"qemu: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise VmError(f"qemu ended during {command}")

    def wait_ready(self) -> None:
        """Waits until the guest has booted and asks for its job."""
        self.job.settimeout(BOOT_SECONDS)
        got = b""
        while b"ready\n" not in got:
            try:
                part = self.job.recv(4096)
            except TimeoutError:
                part = b""
            if not part:
                raise VmError(f"the machine did not come up; its console said:\n{self.console()}")
            got += part

    def console(self) -> str:
        """The last of what the guest's kernel and init said."""
        return (self.dir / "console").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Ends it."""
        self.qemu.kill()
        self.qemu.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


@contextmanager
def _machine(kernel: str, drive: str, *more: str) -> Iterator[Machine]:
    machine = Machine(kernel, drive, *more)
    try:
        yield machine
    finally:
        machine.close()


def _booted(kernel: str) -> Path:
    """The state of a machine that has booted, kept in the cache: going on from there saves 10 to 20 seconds."""
    root = CACHE / f"root-{SUITE}.img"
    vmlinuz = CACHE / f"kernel-{kernel}/vmlinuz"
    for image in (root, vmlinuz):
        if not image.exists():
            raise VmError(f"{image} is missing: build-image.sh makes it")
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout
    parts = [Path(__file__).read_bytes(), version, ACCEL, kernel, root, root.stat().st_mtime, vmlinuz.stat().st_mtime]
    kept = CACHE / f"booted-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    if kept.exists():
        return kept
    new = Path(tempfile.mkdtemp(prefix="new-", dir=CACHE))
    try:
        disk = new / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", root, "-F", "raw", disk], check=True)
        with _machine(kernel, f"file={disk},format=qcow2") as machine:
            machine.ask("cont")
            machine.wait_ready()
            machine.ask("stop")
            machine.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            machine.ask("migrate", uri=f"exec:cat > {shlex.quote(str(new / 'state'))}")
            while (status := machine.ask("query-migrate").get("status")) != "completed":
                if status == "failed":
                    raise VmError("the state of the booted machine could not be kept")
                time.sleep(0.05)
            machine.ask("quit")
            machine.qemu.wait()
        with suppress(OSError):  # another was first
            new.rename(kept)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return kept


def _script(command: Sequence[str], shape: str, env: Mapping[str, str]) -> str:
    """What the guest's agent runs, as root, with the host's serial port as descriptor 3."""
    everything = ENVIRONMENT | {"HOME": "/root", "USER": "root"} if shape in ROOTS else dict(ENVIRONMENT)
    everything |= env
    keep = " ".join(f"--setenv={name}" for name in everything)
    before = SHAPES[shape].format(as_user=AS_USER, session=SESSION, child=CHILD, bfq=BFQ, keep=keep)
    words = f"{before} {shlex.join(command)}"
    if "--wait" in words:
        words = words.replace("$", "$$")  # the manager would expand it, as in an ExecStart=
    clean = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in everything.items())])
    return f"""
# The clock and the random numbers are those of the moment that the machine was kept at.
date -s @{time.time():.3f} >/dev/null
perl -e 'open F, ">", "/dev/urandom"; syswrite F, "{os.urandom(32).hex()}"; ioctl F, 0x5207, 0'
dd if=/dev/zero of=/swap bs=1M count={SWAP_MIB} status=none && chmod 600 /swap && mkswap -q /swap && swapon /swap
echo {HUGE_PAGES} >/proc/sys/vm/nr_hugepages
mkdir -p {SENT} && tar -x -C {SENT} <&3
mkfifo /run/out /run/err
cat /run/out >/run/port-out & a=$!
cat /run/err >/run/port-err & b=$!
cd {SENT}
(
    {clean} {words} 3>&-
    rc=$?
    # If something died, the kernel may know of what.
    [ $rc = 0 ] || {{ echo; dmesg | tail -n 20; }}
    exit $rc
) </dev/null >/run/out 2>/run/err
rc=$?
# What the command has left running would hold its output open.
{{ echo 1 >/sys/fs/cgroup/user.slice/user-1000.slice/cgroup.kill; }} 2>/dev/null ||
    systemctl kill -s KILL user-1000.slice
wait $a $b
echo "exit $rc" >&3
sleep 60
#go
"""


def run(
    command: Sequence[str],
    *,
    kernel: str,
    shape: str,
    files: Mapping[str, Path],
    env: Mapping[str, str],
    timeout: float,
    on_output: Callable[[int, bytes], None],
) -> int:
    """Runs a command in a fresh machine, in the directory of `files` (name there to path here); its exit status.

    What it writes to descriptor 1 and 2 is passed to `on_output` as it comes, with that number.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, path in files.items():
            tar.add(path, name, filter=_anyones)
    kept = _booted(kernel)
    drive = f"file={kept}/disk.qcow2,format=qcow2,snapshot=on"
    with _machine(kernel, drive, "-incoming", f"exec:cat {shlex.quote(str(kept / 'state'))}") as machine:
        while machine.ask("query-status")["status"] == "inmigrate":
            time.sleep(0.02)
        machine.ask("cont")
        for number, stream in ((1, machine.out), (2, machine.err)):
            threading.Thread(target=_pump, args=(stream, number, on_output), daemon=True).start()
        machine.job.settimeout(timeout)
        try:
            machine.job.sendall(_script(command, shape, env).encode() + archive.getvalue())
            for line in machine.job.makefile():
                if line.startswith("exit "):
                    time.sleep(0.1)  # the rest of the output
                    return int(line.split()[1])
        except TimeoutError:
            raise VmError(f"not done after {timeout:.0f} seconds") from None
        raise VmError(f"the machine went down; its console said:\n{machine.console()}")


def _anyones(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owners and modes that a file happens to have here."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _pump(stream: socket.socket, number: int, on_output: Callable[[int, bytes], None]) -> None:
    while data := stream.recv(65536):
        on_output(number, data)
