//! Where cgroup hierarchies are mounted and where in them this process is.

use std::fs;
use std::path::PathBuf;

/// What `/proc/self/mountinfo` and `/proc/self/cgroup` say (proc(5), cgroups(7)).
pub(super) struct Host {
    mountinfo: String,
    cgroup: String,
}

impl Host {
    pub fn read() -> Host {
        Host {
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            cgroup: fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        }
    }

    #[cfg(test)]
    pub fn of(mountinfo: &str, cgroup: &str) -> Host {
        Host {
            mountinfo: mountinfo.into(),
            cgroup: cgroup.into(),
        }
    }

    /// The directory of this process's own v2 group.
    pub fn own_v2(&self) -> Option<PathBuf> {
        let path = self
            .cgroup
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?;
        self.directory("cgroup2", None, path)
    }

    /// The directory of this process's own group in the v1 hierarchy of `controller`.
    pub fn own_v1(&self, controller: &str) -> Option<PathBuf> {
        let path = self.cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields
                .next()?
                .split(',')
                .any(|c| c == controller)
                .then(|| fields.next())?
        })?;
        self.directory("cgroup", Some(controller), path)
    }

    /// `path` of a hierarchy as a directory here: below a mount of it that shows it.
    fn directory(&self, kind: &str, controller: Option<&str>, path: &str) -> Option<PathBuf> {
        self.mountinfo.lines().find_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = file_system.split(' ');
            if fields.next()? != kind {
                return None;
            }
            let options = fields.nth(1)?;
            if controller.is_some_and(|wanted| options.split(',').all(|option| option != wanted)) {
                return None;
            }
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
            // A bind mount or a cgroup namespace shows only what is below its root.
            let below = match root.as_str() {
                "/" => path,
                root => path
                    .strip_prefix(root)
                    .filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
            };
            (!below.contains("/..")).then(|| PathBuf::from(point + below.trim_end_matches('/')))
        })
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
36 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 30 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const MEMBERS: &str = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/x.scope\n";

    #[test]
    fn hybrid() {
        let host = Host::of(HYBRID, MEMBERS);
        assert_eq!(
            host.own_v1("memory").unwrap().to_str(),
            Some("/sys/fs/cgroup/memory/a/b")
        );
        assert_eq!(
            host.own_v1("cpuacct").unwrap().to_str(),
            Some("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(host.own_v1("pids"), None);
        assert_eq!(
            host.own_v2().unwrap().to_str(),
            Some("/sys/fs/cgroup/unified/x.scope")
        );
    }

    #[test]
    fn bind_mounted_part() {
        let part = "50 30 0:36 /docker/1 /sys/fs/cg\\040roup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(
            Host::of(part, "0::/docker/1/in\n")
                .own_v2()
                .unwrap()
                .to_str(),
            Some("/sys/fs/cg roup/in")
        );
        assert_eq!(Host::of(part, "0::/docker/12\n").own_v2(), None);
        assert_eq!(Host::of(part, "0::/docker/1/../../x\n").own_v2(), None);
    }
}
