//! Where the checks get their facts from.

use super::Check;
use crate::error::Error;
use crate::outcome::{Enforcement, Outcome, Verdict};
use crate::spec::{Enforce, Spec};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The host as the calling process sees it; in tests, a directory that looks like one.
pub(super) struct Host {
    /// Where `/` is.
    pub root: PathBuf,
    /// The effective user id.
    pub uid: u32,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// The running program, for which an AppArmor profile would be.
    pub program: String,
    /// The container runtime around this process, if there is one.
    pub container: Option<Container>,
}

/// A container runtime, for the fix has to be given in its words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Docker,
    Podman,
    Kubernetes,
}

impl Host {
    /// This process's host.
    pub fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let program = std::env::current_exe()
            .map_or_else(|_| "/path/to/PROGRAM".into(), |p| p.display().to_string());
        let container = if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            Some(Container::Kubernetes)
        } else if Path::new("/run/.containerenv").exists() {
            Some(Container::Podman)
        } else if Path::new("/.dockerenv").exists() {
            Some(Container::Docker)
        } else {
            None
        };
        Host {
            root: "/".into(),
            uid: nix::unistd::geteuid().as_raw(),
            // setuid helpers live in sbin on some distributions, which a plain user's PATH lacks.
            path: std::env::split_paths(&path)
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .collect(),
            program,
            container,
        }
    }

    /// The absolute path `path` of this host.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    /// Whether it is there, wherever it may lead.
    pub fn is_link(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// A file as text; `None` if it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read(self.at(path))
            .ok()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file that holds one number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// A program of `PATH`, as a path of this host.
    pub fn program_in_path(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        self.path.iter().map(|dir| dir.join(name)).find(|path| {
            fs::metadata(self.at(path))
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }

    /// The user's name, from `/etc/passwd`; the id as text if it has none.
    pub fn user(&self) -> String {
        let passwd = self.read("/etc/passwd").unwrap_or_default();
        passwd
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                Some((fields.next()?, fields.nth(1)?))
            })
            .find(|(_, uid)| uid.parse() == Ok(self.uid))
            .map_or_else(|| self.uid.to_string(), |(name, _)| name.into())
    }

    /// The command that installs a package: its name on Debian, and on Fedora, Arch, Alpine and SUSE.
    pub fn install(&self, debian: &str, others: &str) -> String {
        let release = self.read("/etc/os-release").unwrap_or_default();
        let ids: Vec<&str> = release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split(' '))
            .collect();
        let is = |id: &str| ids.contains(&id);
        if is("fedora") || is("rhel") || is("centos") {
            format!("sudo dnf install {others}")
        } else if is("arch") {
            format!("sudo pacman -S {others}")
        } else if is("alpine") {
            format!("sudo apk add {others}")
        } else if is("suse") || is("opensuse") {
            format!("sudo zypper install {others}")
        } else {
            format!("sudo apt-get install {debian}")
        }
    }
}

/// The commands that set a sysctl now and at every boot.
pub(super) fn set_sysctl(name: &str, value: &str) -> String {
    format!(
        "echo '{name} = {value}' | sudo tee -a /etc/sysctl.d/60-stockade.conf && sudo sysctl -w {name}={value}"
    )
}

/// How the trial run ended: every check of something the default sandbox uses rests on it.
pub(super) enum Trial {
    /// It ran. Then all of the default isolation works here, for without any part of it nothing is run.
    Works {
        /// What held its limits.
        enforcement: BTreeMap<String, Enforcement>,
    },
    /// It did not.
    Fails {
        /// The step of the set-up that failed, or `""`.
        step: String,
        /// Its `errno`, or 0.
        errno: i32,
        /// The error's own words.
        message: String,
    },
}

impl Trial {
    /// Runs an empty program with every default, and with the limits that hosts differ in.
    pub fn run() -> Self {
        let spec = Spec::new(["/bin/true"])
            .memory(256 << 20)
            .pids(64)
            .cpu_time(Duration::from_secs(5))
            .wall_time(Duration::from_secs(10))
            .enforce(Enforce::BestEffort);
        Self::judge(spec.run())
    }

    fn judge(result: Result<Outcome, Error>) -> Self {
        match result {
            // A host without /bin/true still runs programs: they were looked for in a sandbox that stood.
            Ok(outcome) if matches!(outcome.verdict, Verdict::Ok | Verdict::ExecFailed) => {
                Trial::Works {
                    enforcement: outcome.enforcement,
                }
            }
            Ok(outcome) => Trial::Fails {
                step: String::new(),
                errno: 0,
                message: match outcome.message {
                    Some(message) => format!("/bin/true ended as {}: {message}", outcome.verdict),
                    None => format!("/bin/true ended as {}", outcome.verdict),
                },
            },
            Err(error) => Trial::Fails {
                step: error.step().into(),
                errno: error.errno(),
                message: error.to_string(),
            },
        }
    }

    pub fn works(&self) -> bool {
        matches!(self, Trial::Works { .. })
    }

    /// Whether the step that failed has one of `words` in its name.
    pub fn failed_at(&self, words: &[&str]) -> bool {
        match self {
            Trial::Works { .. } => false,
            Trial::Fails { step, .. } => words.iter().any(|word| step.contains(word)),
        }
    }

    pub fn check(&self) -> Check {
        match self {
            Trial::Works { .. } => Check::ok("trial run", "ran /bin/true with every default"),
            Trial::Fails { message, .. } => Check::missing("trial run", message),
        }
    }
}
