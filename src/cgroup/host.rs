//! Where cgroup hierarchies are mounted and where in them this process is.

use super::refused;
use crate::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What `/proc/self/mountinfo` and `/proc/self/cgroup` say (proc(5), cgroups(7)).
pub(super) struct Host {
    mounts: Vec<Mount>,
    cgroup: String,
}

/// A mount of a cgroup hierarchy, or of a part of one.
struct Mount {
    v2: bool,
    /// What of the hierarchy it shows, as seen from our cgroup namespace: begins with `/..` if that lies outside.
    root: String,
    point: String,
    /// Super block options: the controllers of a v1 hierarchy are among them.
    options: String,
}

impl Host {
    /// # Errors
    /// If they cannot be read. A kernel without cgroups has none of the second.
    pub fn read() -> Result<Host, Error> {
        let text = |path: &str| match fs::read(path) {
            // A mount point can have any bytes, and need not be ours to be listed.
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(Error::system(format!("reading {path}"), e)),
        };
        Ok(Host::of(
            &text("/proc/self/mountinfo")?,
            &text("/proc/self/cgroup")?,
        ))
    }

    /// The directory of process `pid`'s v2 group.
    pub fn v2_of(&self, pid: i32) -> Result<Option<PathBuf>, Error> {
        let cgroup = refused::read(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(path.and_then(|path| self.directory_v2(path)))
    }

    pub fn of(mountinfo: &str, cgroup: &str) -> Host {
        Host {
            mounts: mountinfo.lines().filter_map(Mount::parse).collect(),
            cgroup: cgroup.into(),
        }
    }

    /// The directory of this process's own v2 group.
    pub fn own_v2(&self) -> Option<PathBuf> {
        self.directory_v2(self.path_v2()?)
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
        self.mounts
            .iter()
            .filter(|mount| !mount.v2 && mount.options.split(',').any(|o| o == controller))
            .find_map(|mount| mount.directory(path))
    }

    /// The nearest group that holds both this process's own and the one at `dir`, if it is in sight.
    pub fn common_v2(&self, dir: &Path) -> Option<PathBuf> {
        let dir = dir.to_str()?;
        let theirs = self
            .mounts
            .iter()
            .filter(|mount| mount.v2)
            .find_map(|mount| mount.path(dir))?;
        let mut common = String::new();
        let parts = |path: &str| -> Vec<String> {
            path.split('/')
                .filter(|part| !part.is_empty())
                .map(String::from)
                .collect()
        };
        for (ours, theirs) in parts(self.path_v2()?).iter().zip(&parts(&theirs)) {
            if ours != theirs {
                break;
            }
            common = format!("{common}/{ours}");
        }
        self.directory_v2(&common)
    }

    fn path_v2(&self) -> Option<&str> {
        self.cgroup
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
    }

    fn directory_v2(&self, path: &str) -> Option<PathBuf> {
        self.mounts
            .iter()
            .filter(|mount| mount.v2)
            .find_map(|mount| mount.directory(path))
    }
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = file_system.split(' ');
        let v2 = match fields.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = fields.nth(1)?.into();
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        Some(Mount {
            v2,
            root,
            point,
            options,
        })
    }

    /// The group `path` of the hierarchy as a directory, if this mount shows it.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = below(path, &self.root)?;
        let outside = below.split('/').any(|part| part == "..");
        (!outside).then(|| PathBuf::from(format!("{}{}", self.point, below.trim_end_matches('/'))))
    }

    /// The path in the hierarchy of the directory `dir`, if it is in this mount.
    fn path(&self, dir: &str) -> Option<String> {
        let below = below(dir, &self.point)?;
        let inside = !self.root.starts_with("/..");
        inside.then(|| format!("{}{below}", self.root.trim_end_matches('/')))
    }
}

/// What is left of `path` behind `top`, which holds it: empty, or with a slash in front.
fn below<'p>(path: &'p str, top: &str) -> Option<&'p str> {
    path.strip_prefix(top.trim_end_matches('/'))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Undoes the octal escapes of mountinfo; the backslash last, as it may come before digits.
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
23 1 8:1 / / rw - ext4 /dev/sda1 rw
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
36 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 30 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const MEMBERS: &str = "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x:y\n0::/x.scope\n";

    fn text(path: Option<PathBuf>) -> Option<String> {
        path.map(|path| path.to_str().unwrap().to_string())
    }

    #[test]
    fn hybrid() {
        let host = Host::of(HYBRID, MEMBERS);
        let v1 = |controller| text(host.own_v1(controller));
        assert_eq!(v1("memory").unwrap(), "/sys/fs/cgroup/memory/a/b");
        assert_eq!(v1("cpuacct").unwrap(), "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(v1("pids"), None);
        assert_eq!(
            text(host.own_v2()).unwrap(),
            "/sys/fs/cgroup/unified/x.scope"
        );
    }

    #[test]
    fn bind_mounted_part() {
        let part = "50 30 0:36 /docker/1 /sys/fs/cg\\040roup ro - cgroup2 cgroup2 rw\n";
        let own = |members| text(Host::of(part, members).own_v2());
        assert_eq!(own("0::/docker/1/in\n").unwrap(), "/sys/fs/cg roup/in");
        assert_eq!(own("0::/docker/1\n").unwrap(), "/sys/fs/cg roup");
        assert_eq!(own("0::/docker/12\n"), None);
        assert_eq!(own("0::/docker/1/../../x\n"), None);
    }

    #[test]
    fn cgroup_namespaces() {
        // Entered without mounting anew: the mounts show more than the namespace names.
        let outer = "41 30 0:36 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(Host::of(outer, "0::/\n").own_v2(), None);
        // Mounted anew, and a process that was put in from outside of the namespace.
        let inner = "41 30 0:36 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            text(Host::of(inner, "0::/\n").own_v2()).unwrap(),
            "/sys/fs/cgroup"
        );
        assert_eq!(Host::of(inner, "0::/../sibling\n").own_v2(), None);
    }

    #[test]
    fn the_group_that_holds_both() {
        let mounts = "41 30 0:36 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let host = Host::of(mounts, "0::/user.slice/a.scope/host\n");
        let common = |dir: &str| text(host.common_v2(Path::new(dir)));
        assert_eq!(
            common("/sys/fs/cgroup/user.slice/a.scope").unwrap(),
            "/sys/fs/cgroup/user.slice/a.scope"
        );
        assert_eq!(
            common("/sys/fs/cgroup/user.slice/a.scope-2").unwrap(),
            "/sys/fs/cgroup/user.slice"
        );
        assert_eq!(common("/sys/fs/cgroup/stockade").unwrap(), "/sys/fs/cgroup");
        assert_eq!(common("/sys/fs/cgroups"), None);
    }
}
