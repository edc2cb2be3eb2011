//! What writable layers over an image can be made of.

use super::Check;
use super::host::{Container, Host};
use super::kernel;

pub(super) fn overlay(host: &Host) -> Check {
    let name = "overlayfs";
    let registered = host.read("/proc/filesystems").is_some_and(|list| {
        list.lines()
            .any(|line| line.trim() == "nodev\toverlay" || line.trim() == "overlay")
    });
    if let Some(found) = kernel::release(host)
        && found < (5, 11)
    {
        return Check::degraded(
            name,
            "the kernel does not allow it in user namespaces before 5.11",
        )
        .fix("boot a kernel of 5.11 or later");
    }
    if registered {
        return Check::ok(
            name,
            "allowed in user namespaces (no root file system uses it yet)",
        );
    }
    Check::degraded(name, "the kernel has not loaded the module `overlay`")
        .fix("echo overlay | sudo tee /etc/modules-load.d/overlay.conf && sudo modprobe overlay")
}

pub(super) fn fuse(host: &Host) -> Check {
    let name = "fuse";
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(host.at("/dev/fuse"));
    let helper = host.program_in_path("fuse-overlayfs");
    match (device, helper) {
        (Ok(_), Some(helper)) => Check::ok(name, format!("{} (not used yet)", helper.display())),
        (Ok(_), None) => Check::degraded(name, "fuse-overlayfs is not installed (not used yet)")
            .fix(host.install("fuse-overlayfs", "fuse-overlayfs")),
        (Err(error), _) => {
            let fix = match host.container {
                Some(Container::Docker) => "docker run --device /dev/fuse ...".into(),
                Some(Container::Podman) => "podman run --device /dev/fuse ...".into(),
                Some(Container::Kubernetes) => {
                    "give the container the device /dev/fuse with a device plug-in".into()
                }
                None if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    "sudo chmod 0666 /dev/fuse".into()
                }
                None => format!(
                    "sudo modprobe fuse && {}",
                    host.install("fuse-overlayfs", "fuse-overlayfs")
                ),
            };
            Check::degraded(name, format!("/dev/fuse: {error} (not used yet)")).fix(fix)
        }
    }
}
