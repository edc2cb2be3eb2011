"""Real images, made, unpacked and taken back by the tools of others: the same tree everywhere, and programs that run.

For a Debian, a busybox laid out like Alpine, and a Debian with Python and a C compiler: podman imports the root file
system, umoci puts a layer of changes over it, skopeo writes the archive. Stockade loads it, runs programs in it, and
saves it; what its layers show, mounted by the kernel, is compared file by file with the unpacking of umoci and podman,
of the archive as it came and as it was saved. It is pulled from Debian's registry, into which skopeo has put it, and
what a program has changed is committed, saved, put into the registry and pulled again. The same image from a plain
user's store, whose files belong to sub-ids, and what a program in it sees of owners. As root, since all of them mount;
`make test-images` runs it.
"""

import argparse
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry import registry

TOP = Path(__file__).resolve().parent.parent.parent
ROOTS_IDS = 2_000_000_000  # where root's sandboxes have their ids on the host

AS_USER = [TOP / "scripts/with-fuse.sh", TOP / "scripts/as-test-user.sh"]

Tree = dict[str, tuple[object, ...]]
Owner = tuple[int, int]

HELLO = 'int printf(const char *, ...);\nint main(void) { return printf("compiled\\n") != 9; }\n'

# What to put in beside the smallest Debian, and programs with what they have to print.
IMAGES: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "busybox": (
        [],
        [
            ("busybox | head -n 1 | cut -d' ' -f1", "BusyBox"),
            ("id -u; pwd; echo $A", "0\n/srv\nb"),
            ("ls /opt/new; cat /etc/changed; ls -d /opt/old 2>/dev/null; echo .", "file\nlink\nchanged\n."),
        ],
    ),
    "debian": (
        [],
        [
            ("dpkg-query -W -f '${Status}\\n' base-files", "install ok installed"),
            ("dpkg --verify libc6 dash | grep -v /usr/share/doc; echo whole", "whole"),
            ("id -un; perl -e 'print 6*7, qq(\\n)'", "root\n42"),
        ],
    ),
    "compilers": (
        ["python3-minimal", "tcc", "libc6-dev"],
        [
            ("python3 -c 'import sys; print(sys.version_info[0])'", "3"),
            (f"cd /tmp && printf %s '{HELLO}' > a.c && tcc -o a a.c && ./a", "compiled"),
        ],
    ),
}


def run(*command: str | Path, **environment: str) -> str:
    """The output of a command that has to succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{words}: exit status {done.returncode}")
    return done.stdout


def look(top: Path, inside: Callable[[int, int], Owner] = lambda user, group: (user, group)) -> Tree:
    """Everything below a directory, by its path. `inside` says whom the image calls a user and group of the host's."""
    tree: Tree = {}
    names: dict[int, str] = {}
    for parent, directories, files in os.walk(top):
        for name in sorted([*directories, *files]):
            path = Path(parent, name)
            info = path.lstat()
            if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
                continue
            what: object = None
            if stat.S_ISREG(info.st_mode):
                what = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                what = path.readlink()
            relative = str(path.relative_to(top))
            first = names.setdefault(info.st_ino, relative) if stat.S_ISREG(info.st_mode) else relative
            notes = (
                () if path.is_symlink() else tuple(sorted(n for n in os.listxattr(path) if n.startswith("user.note")))
            )
            mode = info.st_mode & (stat.S_IFMT(0o170000) | 0o1777)
            owner = inside(info.st_uid, info.st_gid)
            tree[relative] = (oct(mode), owner, int(info.st_mtime), what, first, notes)
    return tree


def compare(what: str, ours: Tree, theirs: Tree) -> None:
    """Fail with the first differences, if there are any."""
    different = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    for path in different[:20]:
        print(f"  {path}\n    {ours.get(path)}\n    {theirs.get(path)}")
    if different:
        sys.exit(f"{what}: {len(different)} of {len(ours)} files are different")
    print(f"  {what}: {len(ours)} files, all the same")


def busybox(path: Path) -> None:
    """A root file system like Alpine's."""
    root = path.with_suffix("")
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "sbin", "usr/bin", "etc", "tmp", "root", "var/empty", "lib/apk"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for applet in run(root / "bin/busybox", "--list-full").split():
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "tmp").chmod(0o1777)
    run("tar", "-C", root, "--owner=0", "--group=0", "-cf", path, ".")


def change(root: Path) -> None:
    """What the second layer does: files new, changed, removed; a directory replaced; links and a FIFO."""
    (root / "opt/new").mkdir(parents=True)
    (root / "opt/new/file").write_text("new")
    os.link(root / "opt/new/file", root / "opt/new/link")
    os.setxattr(root / "opt/new/file", "user.note", b"kept")
    (root / "etc/changed").write_text("changed\n")
    (root / "etc/group").unlink()
    (root / "var/pipe").parent.mkdir(exist_ok=True)
    os.mkfifo(root / "var/pipe", 0o640)
    os.chown(root / "var/pipe", 33, 44)
    (root / "srv").mkdir(exist_ok=True)
    (root / "sparse").touch()
    os.truncate(root / "sparse", 3 << 20)
    for name in ("usr/share/doc", "lib/apk"):
        if (root / name).is_dir() and not (root / name).is_symlink():
            shutil.rmtree(root / name)
            (root / name).mkdir()
            (root / name / "instead").write_text("of all that was here")


class Tools:
    """The tools of others, with storage of their own."""

    def __init__(self, work: Path) -> None:
        self.work = work
        # podman takes no long path for it.
        self.short = Path(tempfile.mkdtemp(prefix="sb."))
        self.podman = ["podman", "--storage-driver", "overlay", "--root", str(work / "podman")]
        self.podman += ["--runroot", str(self.short)]

    def image(self, name: str, rootfs: Path) -> Path:
        """An archive of an image of two layers."""
        base = self.work / "base.tar"
        run(*self.podman, "import", "--quiet", rootfs, f"{name}:base")
        run(*self.podman, "save", "--quiet", "--format", "oci-archive", "-o", base, f"{name}:base")
        layout = self.work / "layout"
        self.skopeo(f"oci-archive:{base}", f"oci:{layout}:new")
        bundle = self.work / "bundle"
        run("umoci", "--log=error", "unpack", "--image", f"{layout}:new", bundle)
        change(bundle / "rootfs")
        run("umoci", "--log=error", "repack", "--image", f"{layout}:new", bundle)
        config = [
            "--config.env",
            "A=b",
            "--config.workingdir",
            "/srv",
            "--config.user",
            "root",
            "--config.cmd",
            "/bin/sh",
        ]
        run("umoci", "--log=error", "config", "--image", f"{layout}:new", *config)
        archive = self.work / "image.tar"
        self.skopeo(f"oci:{layout}:new", f"oci-archive:{archive}:localhost/{name}:1")
        for done in (base, bundle, layout):
            shutil.rmtree(done) if done.is_dir() else done.unlink()
        return archive

    def skopeo(self, source: str, target: str, *more: str) -> None:
        """Copies an image."""
        run("skopeo", "--insecure-policy", "copy", "--quiet", *more, source, target, TMPDIR=str(self.work))

    def umoci_tree(self, archive: str) -> Tree:
        """What umoci unpacks an archive to."""
        layout, bundle = self.work / "umoci", self.work / "umoci-bundle"
        self.skopeo(archive, f"oci:{layout}:x")
        run("umoci", "--log=error", "unpack", "--image", f"{layout}:x", bundle)
        tree = look(bundle / "rootfs")
        shutil.rmtree(layout)
        shutil.rmtree(bundle)
        return tree

    def podman_tree(self, archive: Path, name: str, like: Tree) -> Tree:
        """What podman shows of an archive, with the times of directories from `like`."""
        run(*self.podman, "load", "--quiet", "-i", archive)
        run(*self.podman, "image", "mount", f"localhost/{name}:1")
        mounted = json.loads(run(*self.podman, "image", "mount", "--format", "json"))
        tree = look(Path(mounted[0]["mountpoint"]))
        for path, seen in tree.items():
            # To a directory that a layer only goes through podman gives the time of the unpacking.
            if path in like and str(seen[0]).startswith("0o4") and seen[2] != like[path][2]:
                tree[path] = (*seen[:2], like[path][2], *seen[3:])
        run(*self.podman, "image", "unmount", "--all")
        run(*self.podman, "rmi", "--all", "--force")
        return tree

    def close(self) -> None:
        """Removes the storage."""
        run(*self.podman, "system", "reset", "--force")
        shutil.rmtree(self.short, ignore_errors=True)


class Ours:
    """A store."""

    def __init__(self, program: Path, store: Path) -> None:
        self.program = program
        self.store = store

    def run(self, command: str, *words: str | Path) -> str:
        """The output of a command of ours."""
        return run(self.program, command, "--store", self.store, *words)

    def inside(self, _image: str) -> Callable[[int, int], Owner]:
        """Whom an image calls a user and group of the host's."""
        return lambda user, group: (user - ROOTS_IDS, group - ROOTS_IDS)

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The layers of an image, mounted over one another by the kernel."""
        layers = [layer["path"] for layer in json.loads(self.run("inspect", image))[0]["layers"]]
        with tempfile.TemporaryDirectory() as at:
            lower = ":".join(reversed(layers))  # the highest first
            run("mount", "-t", "overlay", "-o", f"ro,userxattr,lowerdir={lower}", "overlay", at)
            try:
                yield Path(at)
            finally:
                run("umount", at)

    def tree(self, image: str) -> Tree:
        """What the layers of an image show."""
        with self.mounted(image) as at:
            return look(at, self.inside(image))


class Theirs(Ours):
    """A store of a plain user's."""

    def run(self, command: str, *words: str | Path) -> str:
        """The output of a command of ours, called by that user."""
        return run(*AS_USER, self.program, command, "--store", self.store, *words)

    def inside(self, image: str) -> Callable[[int, int], Owner]:
        """That user is root in the image, and each sub-id is what the store says."""
        info = json.loads(self.run("inspect", image))[0]
        if info["owners"] != "sub-ids":
            sys.exit(f"the test user has no sub-ids: {info['owners']}")
        note = Path(info["layers"][0]["path"]).parent / "layer.json"
        given = json.loads(note.read_text())["given"]
        own = self.store.stat()

        def one(host: int, owner: int, first: int) -> int:
            return 0 if host == owner else host - first + 1

        return lambda user, group: (
            one(user, own.st_uid, given["users"]["start"]),
            one(group, own.st_gid, given["groups"]["start"]),
        )


def a_shell(image: str, driver: str) -> list[str]:
    """How a script is run in an image over this driver."""
    limits = ["--disk", "1g", "--wall-time", "100"]
    return ["--image", image, "--overlay", driver, *limits, "--", "/bin/sh", "-c"]


def check_plain(name: str, archive: Path, ours: Ours, umoci: Tree) -> None:
    """A plain user's store of the image: its files, and what a program sees of their owners."""
    image = f"localhost/{name}:1"
    place = Path(tempfile.mkdtemp(prefix="sb.", dir="/var/tmp"))
    try:
        shutil.copy(archive, place / "image.tar")
        shutil.copy(ours.program, place / "stockade")
        user = run(*AS_USER, "id", "-u").strip()
        os.chown(place, int(user), int(run(*AS_USER, "id", "-g").strip()))
        theirs = Theirs(place / "stockade", place / "store")
        theirs.run("load", "-q", "-i", place / "image.tar")
        compare("of a plain user, to umoci", theirs.tree(image), umoci)
        for driver in ("kernel", "fuse", "copy"):
            script = "for f in /bin/* /etc/* /var/* /var/*/* /opt/new; do stat -c '%u %g %n' $f 2>/dev/null; done; true"
            if name == "busybox":
                script = script.replace("stat", "busybox stat")
            seen = theirs.run("run", *a_shell(image, driver), script).splitlines()
            for line in seen:
                owner, path = line.split()[:2], line.split(maxsplit=2)[2].lstrip("/")
                wanted = umoci.get(path)
                # Our own are `hosts` and `hostname`, and what the template has of the image's directories.
                if wanted and path not in ("etc/hosts", "etc/hostname") and tuple(map(int, owner)) != wanted[1]:
                    sys.exit(f"{name}, {driver}: {path} belongs to {owner} inside, not to {wanted[1]}")
            if len(seen) < 20:
                sys.exit(f"{name}, {driver}: a program sees only {seen}")
            print(f"  {driver}, of a plain user: {len(seen)} files have their owners inside")
        theirs.run("verify")
        theirs.run("rmi", image)
        if any((place / "store/layers").iterdir()) or any((place / "store/tmp").iterdir()):
            sys.exit(f"{name}: something is left of the layers of sub-ids")
    finally:
        shutil.rmtree(place)


ZSTD = ["--format", "oci", "--dest-compress-format", "zstd"]

# What a program changes in any of the images, with its own tools: as `change` does it, and modes and times.
CHANGES = """
set -e
mkdir -p /opt/more/deep && echo more > /opt/more/deep/file && ln /opt/more/deep/file /opt/more/link
ln -s deep/file /opt/more/soft && mkfifo /opt/more/pipe && chmod 640 /opt/more/deep/file
rm -r /opt/new && mkdir /opt/new && echo instead > /opt/new/other && rm /var/pipe && mv /etc/changed /etc/moved
cp -p /bin/sh /opt/more/shell && chmod 1777 /opt/more && touch -d @1000000000 /opt/more/link
"""
# And so what the tree has more of, less of, and other than before.
CHANGED = {
    "opt/more": True,
    "opt/more/deep/file": True,
    "opt/more/pipe": True,
    "opt/more/shell": True,
    "opt/more/soft": True,
    "opt/new/other": True,
    "etc/moved": True,
    "opt/new/file": False,
    "opt/new/link": False,
    "var/pipe": False,
    "etc/changed": False,
}


def pulled(archive: str, name: str, wanted: Tree, ours: Ours, tools: Tools) -> None:
    """From a registry that another tool has filled, as OCI has it and as Docker: the same tree."""
    with registry(tools.work) as address:
        for tag, more in (("oci", ["--format", "oci"]), ("docker", ["--format", "v2s2"]), ("zstd", ZSTD)):
            image = f"{address}/real/{name}:{tag}"
            tools.skopeo(archive, f"docker://{image}", "--dest-tls-verify=false", *more)
            again = Ours(ours.program, tools.work / "pulled")
            again.run("pull", "-q", "--authfile", "/dev/null", image)
            again.run("verify")
            compare(f"pulled ({tag})", again.tree(image), wanted)
            shutil.rmtree(again.store)
    shutil.rmtree(tools.work / "registry")


def committed(name: str, driver: str, before: Tree, ours: Ours, tools: Tools) -> None:
    """What a program has changed, as a layer of a new image, out and in again by every path."""
    image, new = f"localhost/{name}:1", f"localhost/{name}:changed"
    flags = ["--overlay", driver, "--disk", "1g", "--wall-time", "100"]
    ours.run("run", "--image", image, *flags, "--commit", new, "--", "/bin/sh", "-c", CHANGES)
    after = ours.tree(new)
    for path, there in CHANGED.items():
        if (path in after, path in before) != (there, not there):
            sys.exit(f"{name}, {driver}: after the commit {path} is {after.get(path)}, before {before.get(path)}")
    if (shell := after["opt/more/shell"])[:2] != ("0o100755", (0, 0)) or shell[3] != sha256_of_shell(before):
        sys.exit(f"{name}, {driver}: the copy of /bin/sh is {shell}")
    same = {path: seen for path, seen in before.items() if after.get(path) == seen}
    if len(before) - len(same) > 20:
        sys.exit(f"{name}, {driver}: {len(before) - len(same)} files are different after the commit")
    compare(f"{driver}: unchanged by the commit", ours.tree(image), before)
    saved = tools.work / "committed.tar"
    ours.run("save", "--format", "oci-archive", "-o", saved, new)
    compare(f"{driver}: committed and saved, to umoci", after, tools.umoci_tree(f"oci-archive:{saved}"))
    if driver == "kernel":
        pulled(f"oci-archive:{saved}", name, after, ours, tools)
    saved.unlink()
    ours.run("rmi", new)


def sha256_of_shell(tree: Tree) -> object:
    """Of what /bin/sh is in the end."""
    path = "bin/sh" if "bin/sh" in tree else "usr/bin/sh"
    target = tree[path][3]
    if isinstance(target, Path):
        path = str(target.relative_to("/")) if target.is_absolute() else f"{path.rsplit('/', 1)[0]}/{target}"
    return tree[path][3]


def check(name: str, rootfs: Path, ours: Ours, tools: Tools) -> None:
    """All of it with one image."""
    print(f"{name}:")
    image = f"localhost/{name}:1"
    archive = tools.image(name, rootfs)
    umoci = tools.umoci_tree(f"oci-archive:{archive}")
    ours.run("load", "-q", "-i", archive)
    before = ours.tree(image)
    compare("unpacked, to umoci", before, umoci)
    compare("unpacked, to podman", before, tools.podman_tree(archive, name, umoci))
    check_plain(name, archive, ours, umoci)
    for driver in ("kernel", "fuse", "copy"):
        for script, wanted in IMAGES[name][1]:
            found = ours.run("run", *a_shell(image, driver), script).strip()
            if found != wanted:
                sys.exit(f"{name}, {driver}: {script!r} says {found!r}, not {wanted!r}")
        # Everything that a program can do to the root leaves the image as it was.
        ours.run(
            "run", *a_shell(image, driver), "rm -rf /etc /opt /var; mkdir /etc; echo x > /etc/passwd; chmod 0 /bin/sh"
        )
        print(f"  {driver}: {len(IMAGES[name][1])} programs run, and one that destroys")
        if driver != "copy":  # which has no layer of its own
            committed(name, driver, before, ours, tools)
    pulled(f"oci-archive:{archive}", name, before, ours, tools)
    compare("after the runs, to before", ours.tree(image), before)
    for form in ("docker-archive", "oci-archive"):
        saved = tools.work / f"{form}.tar"
        ours.run("save", "--format", form, "-o", saved, image)
        compare(f"saved as {form}, to umoci", before, tools.umoci_tree(f"{form}:{saved}"))
        compare(f"saved as {form}, to podman", before, tools.podman_tree(saved, name, umoci))
        again = Ours(ours.program, tools.work / "again")
        again.run("load", "-q", "-i", saved)
        compare(f"saved as {form} and loaded", again.tree(image), before)
        shutil.rmtree(again.store)
        saved.unlink()
    ours.run("verify")
    ours.run("rmi", image)
    left = json.loads(ours.run("df", "--json"))
    if left["images"] or left["layers"] or left["blobs"]:
        sys.exit(f"{name}: something is left after its removal: {left}")


def main() -> None:
    """Make the images, and check each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stockade", required=True, type=Path, help="the command line")
    parser.add_argument("images", nargs="*", default=list(IMAGES), help=f"of {', '.join(IMAGES)} (default: all)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: podman, umoci and the kernel mount, and give files to others")
    kept = TOP / "build" / "images"
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.images:
        rootfs = kept / f"{name}.tar"
        if name == "busybox":
            busybox(rootfs)
        else:
            run(TOP / "tests" / "images" / "debian.sh", rootfs, *IMAGES[name][0])
        with tempfile.TemporaryDirectory(dir=kept) as work:
            tools = Tools(Path(work))
            try:
                check(name, rootfs, Ours(options.stockade.resolve(), Path(work, "store")), tools)
            finally:
                tools.close()


if __name__ == "__main__":
    main()
