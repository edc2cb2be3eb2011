//! The setters for the sandbox itself.

use super::program::c_array;
use super::{set, stockade_spec, unknown};
use crate::capi::ffi::c_text;
use crate::error::Error;
use crate::spec::{Isolation, Network, Overlay, Rootfs, Tmpfs, Volume};
use std::ffi::{c_char, c_int};
use std::time::Duration;

/// A network of its own with every interface down: even localhost does not answer. The fastest, and the default.
pub const STOCKADE_NETWORK_NONE: c_int = 0;
/// A network of its own with loopback up.
pub const STOCKADE_NETWORK_LOOPBACK: c_int = 1;
/// The host's network. Nothing is isolated there, before Linux 6.12 (Landlock) abstract sockets included.
pub const STOCKADE_NETWORK_HOST: c_int = 2;

/// Namespaces of its own, and everything else below them: the default.
pub const STOCKADE_ISOLATION_NAMESPACES: c_int = 0;
/// For hosts that refuse user namespaces: Landlock, a system call filter and supervision only.
pub const STOCKADE_ISOLATION_RESTRICT: c_int = 1;

/// The first of the other overlay drivers that works on this host.
pub const STOCKADE_OVERLAY_AUTO: c_int = 0;
/// The kernel's overlayfs, in the sandbox's user namespace: Linux 5.11 and later; on a tmpfs in full since 6.6.
pub const STOCKADE_OVERLAY_KERNEL: c_int = 1;
/// The program fuse-overlayfs, which must be installed, with a /dev/fuse that the caller may open.
pub const STOCKADE_OVERLAY_FUSE: c_int = 2;
/// A copy of all that there is, made at every start; it must fit disk and inodes.
pub const STOCKADE_OVERLAY_COPY: c_int = 3;

/// Flag of stockade_spec_add_volume: the program may write there, with the caller's own rights.
pub const STOCKADE_VOLUME_WRITABLE: u64 = 1;

/// Sets the image whose layers are the root file system, always with an overlay: a name, "latest" if it has no tag, or an
/// id. What its configuration says of the program, environment, directory and user holds where the specification says
/// nothing, as with `docker run`; of an image without a user it is 0:0. In a live sandbox programs are run as with
/// `docker exec`, without its entry point and command.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_image(
    spec: Option<&mut stockade_spec>,
    image: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.image = Some(unsafe { c_text(image, "image") }?.into());
        Ok(())
    })
}

/// Sets the program and first arguments in place of the image's entry point, of whose command nothing holds then: an
/// array that ends with NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_entrypoint(
    spec: Option<&mut stockade_spec>,
    entrypoint: *const *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises an array of NUL-terminated strings that ends with NULL.
        s.entrypoint = Some(unsafe { c_array(entrypoint, "entrypoint") }?);
        Ok(())
    })
}

/// Sets the directory of the store that the image is in. Default: as of stockade_store_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_store(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.store = Some(unsafe { c_text(path, "path") }?.into());
        Ok(())
    })
}

/// Sets the root file system: "host", the default, is the host's /usr and what a dynamic linker and interpreters need
/// of /etc; else the absolute path of a directory of the host. Read-only either way, unless an overlay is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_rootfs(
    spec: Option<&mut stockade_spec>,
    rootfs: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.rootfs = Rootfs::from(unsafe { c_text(rootfs, "rootfs") }?.to_string());
        Ok(())
    })
}

/// Puts one more directory on top of the root file system, joined as overlayfs does, whiteouts (character devices 0, 0)
/// and opaque directories (user.overlay.opaque) included; the first takes the place of "host". At most 128 in all. More
/// than one always have an overlay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_rootfs(
    spec: Option<&mut stockade_spec>,
    rootfs: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.rootfs
            .add(unsafe { c_text(rootfs, "rootfs") }?.to_string());
        Ok(())
    })
}

/// Makes the root file system writable for the sandbox, over directories that stay as they are: a STOCKADE_OVERLAY_
/// number. What is written counts against disk and inodes. Default: not, over one directory; STOCKADE_OVERLAY_AUTO over
/// more.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_overlay(
    spec: Option<&mut stockade_spec>,
    overlay: c_int,
) -> c_int {
    set(spec, |s| {
        s.overlay = Some(match overlay {
            STOCKADE_OVERLAY_AUTO => Overlay::Auto,
            STOCKADE_OVERLAY_KERNEL => Overlay::Kernel,
            STOCKADE_OVERLAY_FUSE => Overlay::Fuse,
            STOCKADE_OVERLAY_COPY => Overlay::Copy,
            _ => {
                return Err(unknown(
                    "overlay",
                    overlay,
                    "STOCKADE_OVERLAY_AUTO, _KERNEL, _FUSE, _COPY",
                ));
            }
        });
        Ok(())
    })
}

/// Sets a directory of the host's, on a disk, in which what the sandbox writes is kept in place of memory: an absolute
/// path, writable for the caller. With an overlay only. It is made under a name of its own and removed when the sandbox
/// has ended. disk and inodes are counted every 20 ms or more then, so a program may write more before it is ended,
/// STOCKADE_VERDICT_DISK_LIMIT; see the specification's `upper_dir` in the Rust documentation. Default: memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_upper_dir(
    spec: Option<&mut stockade_spec>,
    upper_dir: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.upper_dir = Some(unsafe { c_text(upper_dir, "upper_dir") }?.to_string());
        Ok(())
    })
}

/// Sets whether a root file system with an overlay is read-only all the same; /work, /tmp and /dev/shm stay writable.
/// Default: 0.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_read_only(
    spec: Option<&mut stockade_spec>,
    read_only: c_int,
) -> c_int {
    set(spec, |s| {
        s.read_only = read_only != 0;
        Ok(())
    })
}

/// Shows a directory or file of the host inside; both paths are absolute. Read-only unless flags has
/// STOCKADE_VOLUME_WRITABLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_volume(
    spec: Option<&mut stockade_spec>,
    host: *const c_char,
    inside: *const c_char,
    flags: u64,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises NUL-terminated strings.
        let (host, inside) = unsafe { (c_text(host, "host")?, c_text(inside, "inside")?) };
        for path in [host, inside] {
            if !path.starts_with('/') {
                return Err(Error::invalid(format!(
                    "volume: `{path}` is not an absolute path"
                )));
            }
        }
        if flags & !STOCKADE_VOLUME_WRITABLE != 0 {
            return Err(Error::invalid(format!(
                "volume `{host}`: unknown flags in {flags:#x}"
            )));
        }
        let writable = flags & STOCKADE_VOLUME_WRITABLE != 0;
        s.volumes.push(Volume {
            host: host.into(),
            inside: inside.into(),
            writable,
        });
        Ok(())
    })
}

/// Adds a writable memory file system at an absolute path inside, beside the built-in /work, /tmp and /dev/shm. Its
/// size in bytes and its number of files and directories: 0 means as the limits disk and inodes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_add_tmpfs(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
    size: u64,
    inodes: u64,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        let path = unsafe { c_text(path, "path") }?;
        if !path.starts_with('/') {
            return Err(Error::invalid(format!(
                "tmpfs: `{path}` is not an absolute path"
            )));
        }
        let some = |value| (value != 0).then_some(value);
        s.tmpfs.push(Tmpfs {
            path: path.into(),
            size: some(size),
            inodes: some(inodes),
        });
        Ok(())
    })
}

/// Sets the network: a STOCKADE_NETWORK_ number. Default: STOCKADE_NETWORK_NONE.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_network(
    spec: Option<&mut stockade_spec>,
    network: c_int,
) -> c_int {
    set(spec, |s| {
        s.network = match network {
            STOCKADE_NETWORK_NONE => Network::None,
            STOCKADE_NETWORK_LOOPBACK => Network::Loopback,
            STOCKADE_NETWORK_HOST => Network::Host,
            _ => {
                return Err(unknown(
                    "network",
                    network,
                    "STOCKADE_NETWORK_NONE, _LOOPBACK, _HOST",
                ));
            }
        };
        Ok(())
    })
}

/// Sets what keeps the program from the host: a STOCKADE_ISOLATION_ number. Default: STOCKADE_ISOLATION_NAMESPACES. With
/// STOCKADE_ISOLATION_RESTRICT the program is a process of the caller's among the others, sees the host's paths and process
/// ids, and works in a new directory of its own, which takes the place of /work, HOME and TMPDIR; fields that need
/// namespaces are refused, and the outcome's enforcement says what is missing. It needs Linux 6.12, and a caller who is not
/// root.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_isolation(
    spec: Option<&mut stockade_spec>,
    isolation: c_int,
) -> c_int {
    set(spec, |s| {
        s.isolation = match isolation {
            STOCKADE_ISOLATION_NAMESPACES => Isolation::Namespaces,
            STOCKADE_ISOLATION_RESTRICT => Isolation::Restrict,
            _ => {
                return Err(unknown(
                    "isolation",
                    isolation,
                    "STOCKADE_ISOLATION_NAMESPACES, _RESTRICT",
                ));
            }
        };
        Ok(())
    })
}

/// Sets the user inside, "uid[:gid]". Default: 1000:1000. Whatever it is, on the host it is the caller's own id, or
/// an unprivileged one if the caller is root. In an image whose files belong to sub-ids only 0 is the caller's own, any
/// other the sub-id that stands for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_user(
    spec: Option<&mut stockade_spec>,
    user: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.user = Some(unsafe { c_text(user, "user") }?.into());
        Ok(())
    })
}

/// Sets what CLOCK_MONOTONIC and CLOCK_BOOTTIME say when the sandbox starts, and so its uptime, in nanoseconds
/// (time_namespaces(7)). The time of day is always the host's. Default: the host's.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_spec_set_uptime(
    spec: Option<&mut stockade_spec>,
    nanoseconds: u64,
) -> c_int {
    set(spec, |s| {
        s.uptime = Some(Duration::from_nanos(nanoseconds));
        Ok(())
    })
}

/// Sets the host name inside. Default: stockade.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_hostname(
    spec: Option<&mut stockade_spec>,
    hostname: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.hostname = Some(unsafe { c_text(hostname, "hostname") }?.into());
        Ok(())
    })
}

/// Sets the seccomp profile, which says what system calls the program may make: "default", "strict" (what interpreters,
/// compilers and the programs that they make need), or the text of a profile in Docker's JSON format. Where one
/// kills for a call, the whole run is ended as soon as any of its processes makes that, with STOCKADE_VERDICT_VIOLATION.
/// Default: "default".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_profile(
    spec: Option<&mut stockade_spec>,
    profile: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.profile = unsafe { c_text(profile, "profile") }?.parse()?;
        Ok(())
    })
}

/// Sets a cgroup v2 directory, writable for the caller, to make the sandboxes' groups in: an absolute path below
/// /sys/fs/cgroup. Default: the caller's own cgroup, where that can be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_spec_set_cgroup_parent(
    spec: Option<&mut stockade_spec>,
    path: *const c_char,
) -> c_int {
    set(spec, |s| {
        // SAFETY: C promises a NUL-terminated string.
        s.cgroup_parent = Some(unsafe { c_text(path, "path") }?.into());
        Ok(())
    })
}
