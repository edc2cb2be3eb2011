#!/bin/sh
# Runs every test as an unprivileged user (see as-test-user.sh), and those of Rust and Python again as root if started
# as root. Called by `make test`, which builds the wheel first.
#
#     scripts/test.sh WHEELS
set -eu
wheels=$1
as_user=scripts/as-test-user.sh
with_fuse=scripts/with-fuse.sh

title() {
    printf '\n==== %s\n' "$*"
}

# The test user runs what root has built, where root has built it.
if ! $as_user test -r "$PWD/Cargo.toml"; then
    copy=$($as_user mktemp -d /var/tmp/stockade-test.XXXXXX)
    title "the test user cannot read $PWD: going on in $copy"
    trap 'rm -rf "$copy"' EXIT
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - | tar --extract -C "$copy"
    chown -R "$(id -u):$(id -g)" "$copy"
    chmod 755 "$copy"
    make -C "$copy" test
    exit
fi

title "Rust: build"
cargo test --locked --features capi --no-run
programs=$(
    cargo test --locked --features capi --no-run --message-format=json 2>/dev/null |
        python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        print(message["executable"])
'
)
title "C: build"
make lib PROFILE=dev
make install PROFILE=dev "DESTDIR=$PWD/build/c"
title "C: how it is protected against its own faults"
built=${CARGO_TARGET_DIR:-target}/debug
scripts/hardening.sh "$built/libstockade.so" "$built/stockade" "$built/stockade-init"
for program in $programs; do
    title "Rust, C: $(basename "$program") as $($as_user id -un)"
    $with_fuse $as_user env "CARGO_MANIFEST_DIR=$PWD" "STOCKADE_C_STAGE=$PWD/build/c" "$program"
done
title "Rust: examples in the documentation"
cargo test --locked --features capi --doc
if [ "$(id -u)" = 0 ]; then
    title "Rust, C: as root"
    cargo test --locked --features capi --tests
fi

# Root's own Python may lie in a home directory of its own, where the test user has no way.
python=$(command -v "${PYTHON:-python3}")
$as_user "$python" -c '' 2>/dev/null || python=/usr/bin/python3
scripts/venv.sh build/venv-test "$python"
build/venv-test/bin/pip install --quiet --group test
build/venv-test/bin/pip install --quiet --force-reinstall --no-deps "$wheels"/*.whl
title "Python: as $($as_user id -un)"
$with_fuse $as_user build/venv-test/bin/python -B -m pytest -p no:cacheprovider
if [ "$(id -u)" = 0 ]; then
    title "Python: as root"
    build/venv-test/bin/python -B -m pytest -p no:cacheprovider
fi
