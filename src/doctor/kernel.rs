//! The kernel itself: its version, and the mechanisms that need no namespace.

use super::Check;
use super::host::{Host, Trial, set_sysctl};
use crate::landlock;

/// The oldest kernel that the tests are run on. `close_range` is the youngest system call (5.9) that nothing stands in
/// for.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn version(host: &Host) -> Check {
    let name = "kernel";
    let text = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let text = text.trim();
    match release(host) {
        None => Check::missing(name, "unknown: /proc/sys/kernel/osrelease cannot be read")
            .fix("mount -t proc proc /proc"),
        Some(found) if found < OLDEST => Check::missing(name, text).fix(format!(
            "boot a kernel of {}.{} or later",
            OLDEST.0, OLDEST.1
        )),
        Some(_) => Check::ok(name, text),
    }
}

/// Major and minor number of the running kernel.
pub(super) fn release(host: &Host) -> Option<(u32, u32)> {
    let text = host.read("/proc/sys/kernel/osrelease")?;
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Asks for a filter without giving one: the kernel answers EFAULT if it knows filters, and changes nothing.
pub(super) fn seccomp() -> Check {
    let name = "seccomp";
    // SAFETY: a null program is refused before anything is installed.
    let errno = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            std::ptr::null::<libc::sock_fprog>(),
        );
        *libc::__errno_location()
    };
    match errno {
        libc::EFAULT => Check::ok(name, "filters work"),
        errno => Check::missing(
            name,
            format!("no filters: {}", std::io::Error::from_raw_os_error(errno)),
        )
        .fix("boot a kernel built with CONFIG_SECCOMP_FILTER=y"),
    }
}

/// The helper starts from a sealed memfd, which an administrator can forbid.
pub(super) fn memfd(host: &Host, trial: &Trial) -> Check {
    let name = "executable memfd";
    let sysctl = "/proc/sys/vm/memfd_noexec";
    match host.number(sysctl) {
        Some(2) => {
            let detail = "forbidden by vm.memfd_noexec = 2";
            match trial.works() {
                true => Check::degraded(name, format!("{detail}; the helper starts from a file")),
                false => Check::missing(name, detail),
            }
            .fix(set_sysctl("vm.memfd_noexec", "1"))
        }
        _ => Check::ok(name, "allowed"),
    }
}

/// A second layer below the mounts; what the kernel lacks of it is named.
pub(super) fn landlock() -> Check {
    let name = "Landlock";
    let newer = "boot a kernel of 6.12 or later";
    match (landlock::abi(), landlock::version()) {
        (Ok(abi), _) => {
            let (has, lacks) = landlock::covers(abi);
            let mut detail = format!("ABI {abi}: {}", has.join(", "));
            if !lacks.is_empty() {
                detail = format!("{detail}; not in this kernel: {}", lacks.join(", "));
            }
            match abi {
                landlock::ABI_WHOLE.. => Check::ok(name, detail),
                _ => Check::degraded(name, detail).fix(newer),
            }
        }
        (Err(why), Ok(_)) => Check::degraded(name, why).fix(newer),
        (Err(why), Err(errno)) => Check::degraded(name, why).fix(match errno {
            libc::EOPNOTSUPP => {
                "add `landlock` to the `lsm=` list of the kernel's command line, in front, and boot again"
            }
            libc::ENOSYS => "boot a kernel of 6.12 or later, built with CONFIG_SECURITY_LANDLOCK=y",
            _ => "let the filter around this process allow landlock_create_ruleset(2) and its kin",
        }),
    }
}
