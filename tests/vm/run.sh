#!/bin/sh
# Builds the Rust suite and its guest program, makes the machines' images if they are missing, and runs every lane.
# Called by `make test-vm`.
#
#     tests/vm/run.sh "KERNEL..." "SHAPE..." [SUITE_ARGUMENT...]
set -eu
kernels=$1 shapes=$2
shift 2
here=$(dirname "$0")

# shellcheck disable=SC2086 # a list of words
"$here/build-image.sh" $kernels
suite=$(
    cargo test --locked --features capi --test suite --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\/suite-[^"]*\)".*/\1/p'
)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
strip -o "$out/suite" "$suite"
"${CC:-gcc}" -static -O2 -pthread -o "$out/guest" "$here"/../guest/*.c
lanes=
for kernel in $kernels; do
    lanes="$lanes --kernel $kernel"
done
for shape in $shapes; do
    lanes="$lanes --shape $shape"
done
# shellcheck disable=SC2086 # a list of words
"${PYTHON:-python3}" -B "$here/lanes.py" --suite "$out/suite" --guest "$out/guest" $lanes -- "$@"
