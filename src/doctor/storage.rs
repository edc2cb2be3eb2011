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
    let older = match kernel::release(host) {
        Some(found) if found < (5, 11) => {
            Some("the kernel does not allow it in user namespaces before 5.11")
        }
        Some(found) if found < (6, 6) && registered => Some(
            "a tmpfs takes no attributes of users before 6.6, so that no directory is opaque there",
        ),
        _ => None,
    };
    if let Some(why) = older {
        return Check::degraded(name, why)
            .fix("boot a kernel of 6.6 or later, or use overlay=fuse");
    }
    if registered {
        return Check::ok(name, "allowed in user namespaces");
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
        (Ok(_), Some(helper)) => Check::ok(name, helper.display().to_string()),
        (Ok(_), None) => Check::degraded(name, "fuse-overlayfs is not installed")
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
            Check::degraded(name, format!("/dev/fuse: {error}")).fix(fix)
        }
    }
}
