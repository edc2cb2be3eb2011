#!/bin/sh
# Runs a command where /dev/fuse is open to everyone, as it is on a desktop: in a mount namespace of its own, with a
# node of ours in its place. Without root, or without /dev/fuse, it runs the command as things are.
#
#     scripts/with-fuse.sh COMMAND [ARGUMENT...]
set -eu

if [ "$(id -u)" != 0 ] || [ ! -c /dev/fuse ]; then
    exec "$@"
fi
exec unshare --mount --propagation private sh -euc '
    mount -t tmpfs -o mode=0755 none /mnt
    mknod -m 666 /mnt/fuse c 10 229
    mount --bind /mnt/fuse /dev/fuse
    umount --lazy /mnt
    exec "$@"' sh "$@"
