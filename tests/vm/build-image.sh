#!/bin/bash
# Makes what machine.py boots: a Debian root file system (systemd, D-Bus, a user `tester` that lingers), and for each
# kernel named the kernel, its modules and a tiny initramfs. What is there already is left as it is, but for a root
# file system of another version of these scripts.
#
#     tests/vm/build-image.sh KERNEL...
#
# A KERNEL is the Debian suite that the newest linux-image-cloud-amd64 is taken from: bullseye, bookworm-backports, ...
# Needs root on Debian, and its own package sources; what is missing of QEMU and mmdebstrap it installs.
#
#     STOCKADE_VM_CACHE  where images are kept  (~/.cache/stockade-vm)
#     VM_SUITE           the guest's user space (bookworm)
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
cache=${STOCKADE_VM_CACHE:-$HOME/.cache/stockade-vm}
suite=${VM_SUITE:-bookworm}

packages=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,udev,kmod,uidmap,fuse-overlayfs,iproute2,procps,python3,strace

# What a machine that is thrown away after one command need not start.
unwanted="systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket
    systemd-udevd-kernel.socket systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
    systemd-update-utmp.service systemd-journal-flush.service systemd-sysusers.service
    systemd-random-seed.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service
    kmod-static-nodes.service sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
    dev-hugepages.mount systemd-modules-load.service systemd-remount-fs.service systemd-repart.service
    systemd-firstboot.service systemd-machine-id-commit.service systemd-initctl.socket
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-pcrphase.service
    systemd-pcrphase-sysinit.service cryptsetup.target integritysetup.target veritysetup.target
    systemd-tmpfiles-clean.timer systemd-pstore.service systemd-journald-audit.socket modprobe@.service"

install_missing() {
    local all=() missing= command package
    while read -r command package; do
        command -v "$command" >/dev/null || missing=1
        all+=("$package")
    done <<'END'
qemu-system-x86_64 qemu-system-x86
qemu-img qemu-utils
mmdebstrap mmdebstrap
depmod kmod
mke2fs e2fsprogs
busybox busybox-static
xz xz-utils
END
    [ -n "$missing" ] || return 0
    install_newest "${all[@]}" ||
        DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${all[@]}" </dev/null
}

# QEMU from this release's backports if it has any: what QEMU 7.2 emulates wrongly crashes new kernels, and where a part of
# QEMU is installed from there the release's own others are no match for it. All in one call, for the same reason.
install_newest() {
    local dir=$cache/apt release options package packages=()
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$dir/lists/partial"
    printf "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) %s main\n" \
        "$release" "$release-updates" "$release-backports" >"$dir/sources.list"
    options=(-o "Dir::State::lists=$dir/lists" -o Dir::Etc::SourceParts=/nonexistent
        -o "Dir::Etc::SourceList=$dir/sources.list" -o APT::Sandbox::User=root)
    for package; do
        case $package in qemu-*) package=$package/$release-backports ;; esac
        packages+=("$package")
    done
    apt-get "${options[@]}" -q update &&
        DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" \
            install -yq --no-install-recommends "${packages[@]}" </dev/null
}

# The Debian mirror that apt uses on this machine.
mirror() {
    # shellcheck disable=SC2016 # apt's own variable
    apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | sed -n 1p
}

ext4() { # ext4 SIZE DIRECTORY IMAGE
    truncate -s "$1" "$3"
    mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$2" "$3"
}

# What the root file system depends on, in one line.
made_of() {
    cat "$here"/{build-image.sh,job.sh,job.service} | sha256sum
}

is_current() {
    [ -e "$cache/root-$suite.img" ] && [ "$(made_of)" = "$(cat "$cache/root-$suite.img.made-of" 2>/dev/null)" ]
}

build_root() {
    local image=$cache/root-$suite.img root=$tmp/root unit
    ! is_current || return 0
    echo "making $image" >&2
    mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$root" "$(mirror)"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
    chroot "$root" useradd -m -u 1000 -s /bin/bash tester
    mkdir -p "$root/var/lib/systemd/linger"
    touch "$root/var/lib/systemd/linger/tester"
    for unit in $unwanted; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    echo vm >"$root/etc/hostname"
    echo '127.0.0.1 localhost vm' >"$root/etc/hosts"
    echo 5f0b1c0ade0000000000000000000001 >"$root/etc/machine-id"
    install -m 755 "$here/job.sh" "$root/usr/local/bin/job"
    install -m 644 "$here/job.service" "$root/etc/systemd/system/job.service"
    printf '[Unit]\nRequires=basic.target job.service\nAfter=basic.target\nAllowIsolate=yes\n' \
        >"$root/etc/systemd/system/job.target"
    ln -sf job.target "$root/etc/systemd/system/default.target"
    add_apparmor "$root"
    # Each kernel brings its modules on a disk of their own.
    rm -rf "$root/usr/lib/modules"
    mkdir "$root/kernel-modules"
    ln -s /kernel-modules "$root/usr/lib/modules"
    ext4 4G "$root" "$image.new"
    rm -rf --one-file-system "$root"
    rm -f "$image.made-of"
    mv "$image.new" "$image"
    made_of >"$image.made-of"
}

# An apt of its own in the directory $1, for the Debian suite $2: leaves its options in `options`.
apt_of() {
    local dir=$1 suite=$2
    rm -rf "$dir"
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,packages,files}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$dir/sources.list"
    options=(-qq -o "Dir::State=$dir/state" -o "Dir::Cache=$dir/cache" -o Dir::Etc::SourceParts=/nonexistent
        -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
}

# What the packages downloaded in the directory $1 hold, into its `files`.
unpack_all() {
    local package
    for package in "$1"/packages/*.deb; do
        dpkg-deb -x "$package" "$1/files"
    done
}

# AppArmor's parser, of the first Debian that knows rules about user namespaces, and the C library that it needs, beside
# the guest's own. Nothing loads a profile by itself.
add_apparmor() {
    local root=$1 dir=$tmp/apparmor options program files
    apt_of "$dir" trixie
    (cd "$dir/packages" && apt-get "${options[@]}" download apparmor libapparmor1 libc6 libstdc++6 libgcc-s1)
    unpack_all "$dir"
    files=$dir/files
    mkdir -p "$root/opt/apparmor"
    cp "$files"/usr/{sbin/apparmor_parser,bin/aa-exec} "$root/opt/apparmor/"
    cp -a "$files"/usr/lib/x86_64-linux-gnu/{ld-linux-x86-64.so.2,libc.so.6,libm.so.6,libstdc++.so.6*,libgcc_s.so.1,libapparmor.so.1*} \
        "$root/opt/apparmor/"
    mkdir -p "$root/etc/apparmor.d" "$root/usr/share"
    cp -a "$files"/usr/share/apparmor-features "$root/usr/share/"
    cp -a "$files"/etc/apparmor "$root/etc/"
    cp -a "$files"/etc/apparmor.d/{abi,tunables} "$root/etc/apparmor.d/"
    for program in apparmor_parser aa-exec; do
        printf '#!/bin/sh\nexec /opt/apparmor/ld-linux-x86-64.so.2 --library-path /opt/apparmor /opt/apparmor/%s "$@"\n' \
            "$program" >"$root/usr/local/bin/$program"
        chmod 755 "$root/usr/local/bin/$program"
    done
}

# A kernel's packages, unpacked into $tmp/kernel/files.
fetch_kernel() {
    local kernel=$1 dir=$tmp/kernel name release parts options
    apt_of "$dir" "$kernel"
    # linux-image-cloud-amd64 depends on the newest kernel; those of late come split into several packages. What apt says
    # is read to its end, or it would die of SIGPIPE, and this script with it.
    name=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ && !name {name = $2} END {print name}')
    release=${name#linux-image-}
    parts=$(apt-cache "${options[@]}" depends "$name" |
        awk -v r="$release" '$2 ~ "^linux-(base|binary|modules)-" && index($2, r) {print $2}')
    # shellcheck disable=SC2086 # a list of words
    (cd "$dir/packages" && apt-get "${options[@]}" download "$name" $parts)
    unpack_all "$dir"
    [ -d "$dir/files/lib/modules" ] || { mkdir -p "$dir/files/lib" && mv "$dir/files/usr/lib/modules" "$dir/files/lib/"; }
}

build_kernel() {
    local kernel=$1 out=$cache/kernel-$1 files=$tmp/kernel/files initrd=$tmp/kernel/initrd release module image
    [ ! -e "$out/vmlinuz" ] || return 0
    echo "making $out" >&2
    fetch_kernel "$kernel"
    mkdir -p "$out" "$initrd"/{bin,mod,new,dev,proc,sys}
    release=$(ls "$files/lib/modules")
    find "$files/lib/modules" -name '*.ko.xz' -exec xz -d {} +
    # Drivers for hardware that is not there would only need room.
    (cd "$files/lib/modules/$release" && rm -rf build source kernel/sound kernel/arch/x86/kvm \
        kernel/drivers/{gpu,scsi,ata,infiniband,nvme,md,hid,usb,mmc,hv,xen,platform,input,nvdimm,target,vfio,video} \
        kernel/drivers/net/{ethernet,wireless} kernel/fs/{xfs,btrfs,nfs,nfsd,smb,cifs,ceph,ocfs2,f2fs,jfs,ntfs3,bcachefs})
    depmod -b "$files" "$release"
    ext4 256M "$files/lib/modules" "$out/modules.img"
    # The initramfs has the modules that find the two disks.
    for module in virtio_pci virtio_blk virtio_console virtio_rng ext4; do
        modprobe -d "$files" -S "$release" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r module; do
        cp "$module" "$initrd/mod/"
        echo "/mod/${module##*/}"
    done >"$initrd/mod/order"
    cp "$(command -v busybox)" "$initrd/bin/busybox"
    for module in sh mount insmod switch_root poweroff; do
        ln -s busybox "$initrd/bin/$module"
    done
    install -m 755 "$here/initrd.sh" "$initrd/init"
    (cd "$initrd" && find . | busybox cpio -o -H newc 2>/dev/null) >"$out/initrd"
    echo "$release" >"$out/release"
    image=$files/boot/vmlinuz-$release
    [ -e "$image" ] || image=$files/lib/modules/$release/vmlinuz
    cp "$image" "$out/vmlinuz"
}

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
missing=
is_current || missing=" root-$suite.img"
for image in "${@/#/kernel-}"; do
    [ -e "$cache/$image" ] || missing="$missing $image"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "making the images$missing needs root" >&2; exit 1; }
apt-get update -q
install_missing
mkdir -p "$cache"
tmp=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf --one-file-system "$tmp"' EXIT
build_root
for kernel; do
    build_kernel "$kernel"
done
