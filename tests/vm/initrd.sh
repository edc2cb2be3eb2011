#!/bin/sh
# The guest's first program: finds its disks and goes on with systemd.
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do
    insmod "$module"
done </mod/order
mount -t ext4 -o rw,noatime /dev/vda /new || poweroff -f
mount -t ext4 -o ro /dev/vdb /new/kernel-modules || poweroff -f
for dir in dev proc sys; do
    mount --move /$dir /new/$dir
done
exec switch_root /new /sbin/init
