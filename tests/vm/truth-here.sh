#!/bin/sh
# Keeps what the tests say of each limit on this machine, as root and as a plain user, if it has cgroup v1 and no systemd:
# a kind of host that the virtual machines are not.
#
#     tests/vm/truth-here.sh DIRECTORY
set -eu
if [ ! -d /sys/fs/cgroup/memory ] || [ -d /run/systemd/system ] || [ "$(id -u)" != 0 ]; then
    echo "cgroup v1 is left out: that needs root on a host that has it, and no systemd" >&2
    exit 0
fi
here=$(dirname "$0")
suite=$(cargo test --locked --features capi --test suite --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/deps\/suite-[^"]*\)".*/\1/p')
"$suite" truth 2>&1 | tee /dev/stderr | "${PYTHON:-python3}" -B "$here/truth.py" collect "$1" v1root-here
scripts/as-test-user.sh env "CARGO_MANIFEST_DIR=$PWD" "$suite" truth 2>&1 | tee /dev/stderr |
    "${PYTHON:-python3}" -B "$here/truth.py" collect "$1" v1user-here
