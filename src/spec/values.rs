//! The values that fields of a specification have, and their textual forms.

use crate::bytes::Bytes;
use crate::error::Error;
use crate::units;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// A file to make inside a sandbox. In JSON: its content, or `{"content": ..., "mode": 493}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FileForm", into = "FileForm")]
pub struct File {
    /// What is in it.
    pub content: Bytes,
    /// Permission bits. Default: 0o644.
    pub mode: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FileForm {
    Full(FullFile),
    Content(Bytes),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullFile {
    content: Bytes,
    mode: u32,
}

impl From<FileForm> for File {
    fn from(form: FileForm) -> Self {
        match form {
            FileForm::Content(content) => File {
                content,
                mode: None,
            },
            FileForm::Full(FullFile { content, mode }) => File {
                content,
                mode: Some(mode),
            },
        }
    }
}

impl From<File> for FileForm {
    fn from(file: File) -> Self {
        match file.mode {
            None => FileForm::Content(file.content),
            Some(mode) => FileForm::Full(FullFile {
                content: file.content,
                mode,
            }),
        }
    }
}

/// Where a standard stream of the program leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// A pipe whose other end the [`Process`](crate::Process) hands out.
    Pipe,
    /// Kept, up to the `output` limit, for the [`Outcome`](crate::Outcome). Not for standard input.
    Capture,
    /// Standard error only: the same as standard output.
    Stdout,
    /// A pipe or socket of the caller's. Any other kind of descriptor is refused: the sandboxed program could
    /// open a file or terminal again, for writing, through `/proc/self/fd`.
    #[serde(skip)]
    Fd(RawFd),
}

/// The root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RootfsForm", into = "RootfsForm")]
pub enum Rootfs {
    /// The host's `/usr` and what a dynamic linker and interpreters need of `/etc`, read-only. JSON: `"host"`.
    #[default]
    Host,
    /// A directory of the host, read-only; with an [`overlay`](Spec::overlay), writable for the sandbox and never changed.
    /// JSON: its absolute path.
    Directory(String),
    /// Directories of the host, the lowest first, joined as overlayfs does, whiteouts (character devices 0, 0) and opaque
    /// directories (`user.overlay.opaque`) included: 1 to 128, always with an [`overlay`](Spec::overlay). JSON: an array
    /// of absolute paths.
    Layers(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RootfsForm {
    One(String),
    Layers(Vec<String>),
}

impl From<RootfsForm> for Rootfs {
    fn from(form: RootfsForm) -> Self {
        match form {
            RootfsForm::One(text) => text.into(),
            RootfsForm::Layers(layers) => Rootfs::Layers(layers),
        }
    }
}

impl From<Rootfs> for RootfsForm {
    fn from(rootfs: Rootfs) -> Self {
        match rootfs {
            Rootfs::Host => RootfsForm::One("host".into()),
            Rootfs::Directory(path) => RootfsForm::One(path),
            Rootfs::Layers(layers) => RootfsForm::Layers(layers),
        }
    }
}

impl From<String> for Rootfs {
    fn from(text: String) -> Self {
        if text == "host" {
            Rootfs::Host
        } else {
            Rootfs::Directory(text)
        }
    }
}

impl Rootfs {
    /// With one more directory on top; the first takes the place of the host's.
    pub fn add(&mut self, directory: String) {
        *self = match std::mem::take(self) {
            Rootfs::Host => Rootfs::from(directory),
            Rootfs::Directory(first) => Rootfs::Layers(vec![first, directory]),
            Rootfs::Layers(mut layers) => {
                layers.push(directory);
                Rootfs::Layers(layers)
            }
        };
    }
}

/// What makes a root file system writable for one sandbox, without changing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// The first of the others that works on this host, which is tried once.
    #[default]
    Auto,
    /// The kernel's overlayfs, in the sandbox's user namespace (Linux 5.11 and later; on a tmpfs in full since 6.6).
    Kernel,
    /// The program fuse-overlayfs, which must be installed, with a `/dev/fuse` that the caller may open. One for each
    /// sandbox; it ends with it.
    Fuse,
    /// A copy of all that there is, made at every start. It must fit `disk` and `inodes`. Device nodes and sockets are
    /// left out, holes are filled, and extended attributes are not copied.
    Copy,
}

/// A host directory or file shown inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// The absolute path on the host.
    pub host: String,
    /// The absolute path inside.
    pub inside: String,
    /// Whether the program may write there, with the rights of its id on the host: the caller's own, or, if the caller
    /// is root, or it is not 0 in an image whose files belong to sub-ids, an unprivileged one, to which the directory must then
    /// be open.
    pub writable: bool,
}

/// A memory file system inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tmpfs {
    /// The absolute path inside.
    pub path: String,
    /// Bytes. Default: the `disk` limit.
    pub size: Option<u64>,
    /// Files and directories. Default: the `inodes` limit.
    pub inodes: Option<u64>,
}

/// What network the sandbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network of its own with every interface down: even `localhost` does not answer. The fastest.
    #[default]
    None,
    /// A network of its own with loopback up.
    Loopback,
    /// The host's network. Nothing is isolated there, before Linux 6.12 (Landlock) abstract sockets included.
    Host,
}

/// What keeps a program from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces of its own, and everything else below them. Where the host refuses them nothing is run.
    #[default]
    Namespaces,
    /// For hosts that refuse user namespaces: Landlock, a system call filter and supervision only. The program is a process
    /// of the caller's among the others, sees the host's paths and process ids, and works in a new directory of its own,
    /// which takes the place of `/work`, `HOME` and `TMPDIR`. Fields that need namespaces are refused, and
    /// [`Outcome::enforcement`](crate::Outcome::enforcement) says what is missing. Needs Linux 6.12, and a caller who is
    /// not root.
    Restrict,
}

/// What to do when a captured stream passes the `output` limit. The head is kept and the rest counted either way,
/// and the verdict is `OUTPUT_LIMIT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// End the program at once.
    #[default]
    Kill,
    /// Let it go on, discarding what is over.
    Discard,
}

/// What to do about a requested limit that this host cannot enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// A limit that nothing on this host can enforce at all is an error before start; one that is only
    /// approximated is run and said so in [`Outcome::enforcement`](crate::Outcome::enforcement).
    #[default]
    Strict,
    /// Run without it and say so.
    BestEffort,
}

impl std::str::FromStr for Volume {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::invalid(format!(
                "volume `{text}`: {why}; the form is `host:inside[:ro|rw]`"
            ))
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, inside, writable) = match parts[..] {
            [host, inside] => (host, inside, false),
            [host, inside, "ro"] => (host, inside, false),
            [host, inside, "rw"] => (host, inside, true),
            [_, _, mode] => return Err(bad(&format!("`{mode}` is neither ro nor rw"))),
            _ => return Err(bad("it has not two or three parts")),
        };
        if !host.starts_with('/') || !inside.starts_with('/') {
            return Err(bad("both paths must be absolute"));
        }
        Ok(Volume {
            host: host.into(),
            inside: inside.into(),
            writable,
        })
    }
}

impl TryFrom<String> for Volume {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Volume> for String {
    fn from(volume: Volume) -> String {
        format!(
            "{}:{}:{}",
            volume.host,
            volume.inside,
            if volume.writable { "rw" } else { "ro" }
        )
    }
}

impl std::str::FromStr for Tmpfs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| {
            Error::invalid(format!(
                "tmpfs `{text}`: {why}; the form is `path[:size=64m,nr_inodes=1k]`"
            ))
        };
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') {
            return Err(bad("the path must be absolute".into()));
        }
        let mut tmpfs = Tmpfs {
            path: path.into(),
            size: None,
            inodes: None,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => tmpfs.size = Some(units::parse_size(size)?),
                Some(("nr_inodes", inodes)) => tmpfs.inodes = Some(units::parse_size(inodes)?),
                _ => return Err(bad(format!("unknown option `{option}`"))),
            }
        }
        Ok(tmpfs)
    }
}

impl TryFrom<String> for Tmpfs {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Tmpfs> for String {
    fn from(tmpfs: Tmpfs) -> String {
        let options: Vec<String> = [("size", tmpfs.size), ("nr_inodes", tmpfs.inodes)]
            .iter()
            .filter_map(|(name, value)| value.map(|v| format!("{name}={v}")))
            .collect();
        match options.is_empty() {
            true => tmpfs.path,
            false => format!("{}:{}", tmpfs.path, options.join(",")),
        }
    }
}
