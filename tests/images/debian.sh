#!/bin/sh
# Makes a Debian root file system with mmdebstrap, from the package sources that apt has on this machine. As root.
#
#     tests/images/debian.sh FILE.tar [PACKAGE...]
set -eu
file=$1
shift
[ ! -e "$file" ] || exit 0
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | head -n 1)
mkdir -p "$(dirname "$file")"
packages=$(echo "$*" | tr ' ' ,)
mmdebstrap --quiet --variant=minbase ${packages:+"--include=$packages"} "$suite" "$file.part.tar" "$mirror"
mv "$file.part.tar" "$file"
