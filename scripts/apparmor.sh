#!/usr/bin/env bash
# Reads the AppArmor profiles that are shipped, as apparmor_parser(8) does before it loads them; loads nothing. Parsers
# before 4.0 know no rule about user namespaces: they read the rest.
#
#     scripts/apparmor.sh
set -euo pipefail
cd "$(dirname "$0")/../contrib/data/share/stockade/apparmor"
parser=${APPARMOR_PARSER:-$(PATH=$PATH:/usr/sbin:/sbin command -v apparmor_parser)}
# shellcheck disable=SC2206 # a command and its arguments
parser=($parser --skip-kernel-load --skip-cache)
version=$("${parser[@]}" --version | sed -n 's/.*version \([0-9]*\).*/\1/p')

reads() { # reads: a profile from standard input
    if [ "$version" -ge 4 ]; then
        cat
    else
        sed -e '/^abi /d' -e '/^ *userns,/d' -e 's/ flags=(unconfined)//'
    fi | "${parser[@]}" --quiet
}
for profile in *; do
    reads <"$profile"
done
# What it is for: what is wrong is seen.
if sed 's/^}/{/' stockade | reads 2>/dev/null; then
    echo "apparmor_parser takes anything" >&2
    exit 1
fi
echo "apparmor_parser $version reads $(echo *)"
