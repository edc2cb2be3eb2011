#!/bin/sh
# Installs the Debian packages that are missing. Where none is, it changes nothing and needs no privilege.
#
#     scripts/packages.sh build|lint|test|fuzz|images|abi
set -eu

missing=
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null || missing="$missing $2"
}
need_venv() { # need_venv PYTHON
    "$1" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
}

need cc gcc
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
need_venv "${PYTHON:-python3}"
[ "$1" = build ] || need g++ g++
if [ "$1" = lint ]; then
    [ -x /usr/sbin/apparmor_parser ] || need apparmor_parser apparmor
fi
if [ "$1" = test ]; then
    need valgrind valgrind
    need newuidmap uidmap
    need pkg-config pkg-config
    need fuse-overlayfs fuse-overlayfs
    need setpriv util-linux
    need skopeo skopeo
    need docker-registry docker-registry
    need openssl openssl
    need umoci umoci
    # Only root can mount what it makes.
    [ "$(id -u)" != 0 ] || need mkfs.btrfs btrfs-progs
    need readelf binutils
    # Root's own Python may be out of the test user's reach; the system's never is.
    [ "$(id -u)" != 0 ] || need_venv /usr/bin/python3
fi
[ "$1" != abi ] || need abidiff abigail-tools
if [ "$1" = images ]; then
    need busybox busybox-static
    for tool in docker-registry fuse-overlayfs mmdebstrap podman skopeo umoci; do
        need "$tool" "$tool"
    done
    # What podman wants with it.
    need crun crun
    need newuidmap uidmap
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "missing, and there is no apt-get to install it:$missing" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    echo "sudo is needed to install:$missing" >&2
    sudo=sudo
fi
$sudo apt-get update -q
# shellcheck disable=SC2086 # a list of words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $missing </dev/null

# The tests start a registry of their own: the package's is not to be there for them.
case $missing in
*docker-registry*) if command -v systemctl >/dev/null; then $sudo systemctl disable --now docker-registry || true; fi ;;
esac
