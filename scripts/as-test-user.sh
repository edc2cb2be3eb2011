#!/bin/sh
# Runs a command as an unprivileged user. Root becomes `stockade-test`, who is made if missing and has the plainest of
# environments; anyone else stays who they are.
#
#     scripts/as-test-user.sh COMMAND [ARGUMENT...]
set -eu

[ "$(id -u)" = 0 ] || exec "$@"

user=stockade-test
if ! id "$user" >/dev/null 2>&1; then
    useradd --create-home --shell /bin/sh "$user"
    echo "made the user $user" >&2
fi
home=$(getent passwd "$user" | cut -d: -f6)
exec setpriv --reuid "$user" --regid "$user" --clear-groups \
    env -i "HOME=$home" "USER=$user" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 "$@" </dev/null
