//! A specification with what its image says put in, in the way of `docker run`.

use super::{Config, Image, Store};
use crate::bytes::Bytes;
use crate::error::Error;
use crate::ids::Given;
use crate::overlay::Lowers;
use crate::spec::{Overlay, Rootfs, Spec};
use crate::units::parse_signal;
use std::path::{Path, PathBuf};

/// Volumes of an image that are heeded, and the longest path of one.
const VOLUMES_MAX: usize = 32;
const PATH_MAX: usize = 1024;

/// The image that `spec` names, which stays in its store as long as what is returned lives; `None` if it names none.
pub(crate) fn of(spec: &Spec) -> Result<Option<Image>, Error> {
    let Some(name) = &spec.image else {
        for (field, given) in [
            ("store", spec.store.is_some()),
            ("entrypoint", spec.entrypoint.is_some()),
        ] {
            if given {
                return Err(Error::invalid(format!(
                    "{field}: it belongs to an image, which is not given"
                )));
            }
        }
        return Ok(None);
    };
    if spec.rootfs != Rootfs::Host {
        return Err(Error::invalid(
            "image: it is the root file system, so rootfs cannot be given too",
        ));
    }
    let image = Store::open(spec.store.as_deref().map(Path::new))?.resolve(name)?;
    if image.layers.is_empty() {
        return Err(Error::invalid(format!(
            "image: `{name}` has no layers: there is nothing to run"
        )));
    }
    Ok(Some(image))
}

/// `spec` with the root file system of `image`, and its user and environment where `spec` has none: what a sandbox and
/// every program in it have.
pub(crate) fn in_image(spec: &Spec, image: &Image) -> Result<Spec, Error> {
    let directories = Image::directories(&image.layers)?;
    let lowers = Lowers::new(&directories)?;
    let config = &image.config.config;
    let user = match (&spec.user, config.user.as_str()) {
        (Some(user), _) => user,
        (None, "") => "0:0",
        (None, user) => user,
    };
    let user = User::find(user, &lowers)?;
    let mut all = spec.clone();
    all.image = None;
    all.store = None;
    all.entrypoint = None;
    all.overlay = Some(spec.overlay.unwrap_or(Overlay::Auto));
    all.rootfs = Rootfs::Layers(directories);
    all.user = Some(format!("{}:{}", user.id, user.group));
    all.env = environment(config, user.home)
        .chain(std::mem::take(&mut all.env))
        .collect();
    // As in Docker, one that is none counts for nothing.
    all.stop_signal = all
        .stop_signal
        .or_else(|| parse_signal(&config.stop_signal).ok());
    if all.cwd.is_none() && !config.working_dir.is_empty() {
        all.cwd = Some(match config.working_dir.starts_with('/') {
            true => config.working_dir.clone(),
            false => format!("/{}", config.working_dir),
        });
    }
    Ok(all)
}

/// The same for the program of a sandbox of its own: the image's entry point, and its command where `spec` has no
/// arguments. With an entry point of `spec`'s, the image's command means nothing.
pub(crate) fn program(spec: &Spec, image: &Image) -> Result<Spec, Error> {
    let mut all = in_image(spec, image)?;
    all.args = image.arguments(spec);
    if all.args.is_empty() {
        return Err(Error::invalid(
            "args: the image names no program, and none is given",
        ));
    }
    Ok(all)
}

impl Image {
    /// The sub-ids that its files have been given to, if to any.
    pub(crate) fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    /// The directories that its configuration calls volumes, as paths below the root, parents first; those that are no such
    /// paths are left out.
    pub(crate) fn volumes(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for volume in &self.config.config.volumes {
            let parts = volume.split('/').filter(|part| !matches!(*part, "" | "."));
            let parts: Vec<&str> = parts.collect();
            let fits = |part: &&str| *part != ".." && part.len() <= 255 && !part.contains('\0');
            let path = parts.join("/");
            if !parts.is_empty() && parts.iter().all(fits) && path.len() <= PATH_MAX {
                all.push(path);
            }
        }
        all.sort();
        all.dedup();
        all.truncate(VOLUMES_MAX);
        all
    }

    /// Layers as a specification names them.
    pub(super) fn directories(layers: &[PathBuf]) -> Result<Vec<String>, Error> {
        let text = |layer: &PathBuf| {
            let text = layer.to_str().map(String::from);
            text.ok_or_else(|| Error::invalid(format!("store: `{}` is not UTF-8", layer.display())))
        };
        layers.iter().map(text).collect()
    }

    /// The program and arguments that `docker run` would have for `spec`: the image's entry point, and its command where
    /// `spec` has no arguments. With an entry point of `spec`'s, the image's command means nothing.
    pub fn arguments(&self, spec: &Spec) -> Vec<Bytes> {
        let config = &self.config.config;
        let texts = |list: &[String]| list.iter().map(Bytes::from).collect::<Vec<_>>();
        let (entry, command) = match &spec.entrypoint {
            Some(entry) => (entry.clone(), Vec::new()),
            None => (texts(&config.entrypoint), texts(&config.cmd)),
        };
        let given = spec.args.clone();
        let arguments = if given.is_empty() { command } else { given };
        entry.into_iter().chain(arguments).collect()
    }
}

fn environment(config: &Config, home: Option<String>) -> impl Iterator<Item = (Bytes, Bytes)> {
    let home = home.map(|home| ("HOME".to_string(), home));
    let own = config.env.iter().filter_map(|variable| {
        let (name, value) = variable.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_string(), value.to_string()))
    });
    home.into_iter()
        .chain(own)
        .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Who a program is, by the image's own `/etc/passwd` and `/etc/group`.
pub(super) struct User {
    pub id: u32,
    pub group: u32,
    home: Option<String>,
}

/// What is read of such a file: more is not believed to be one.
const FILE_MAX: u64 = 1 << 20;

impl User {
    /// `user[:group]`, each a name or a number; without a group the user's own, or, of a number that has none, the same.
    pub fn find(text: &str, image: &Lowers) -> Result<User, Error> {
        let read = |path: &str| {
            let file = image.read(path, FILE_MAX).map_err(|e| {
                Error::system(format!("user: `{text}`: reading the image's /{path}"), e)
            })?;
            Ok::<_, Error>(String::from_utf8_lossy(&file.unwrap_or_default()).into_owned())
        };
        let unknown = |what: &str, name: &str, path: &str| {
            Error::invalid(format!(
                "user: `{text}`: there is no {what} `{}` in the image's {path}",
                name.escape_default()
            ))
        };
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let passwd = read("etc/passwd")?;
        let number = name.parse::<u32>().ok();
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| {
                let id = fields.get(2).and_then(|id| id.parse::<u32>().ok());
                fields.first() == Some(&name) || (number.is_some() && id == number)
            });
        let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at).copied());
        let id = field(2)
            .and_then(|id| id.parse().ok())
            .or(number)
            .ok_or_else(|| unknown("user", name, "/etc/passwd"))?;
        let own = field(3).and_then(|id| id.parse().ok()).unwrap_or(id);
        let group = match group {
            None => own,
            Some(group) => match group.parse() {
                Ok(id) => id,
                Err(_) => read("etc/group")?
                    .lines()
                    .map(|line| line.split(':').collect::<Vec<_>>())
                    .find(|fields| fields.first() == Some(&group))
                    .and_then(|fields| fields.get(2)?.parse().ok())
                    .ok_or_else(|| unknown("group", group, "/etc/group"))?,
            },
        };
        let home = field(5)
            .filter(|home| home.starts_with('/'))
            .map(String::from);
        Ok(User { id, group, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn image(passwd: &str, group: &str) -> (tempfile::TempDir, Lowers) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), group).unwrap();
        let lowers = Lowers::new(&[dir.path().to_str().unwrap().to_string()]).unwrap();
        (dir, lowers)
    }

    #[test]
    fn users_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:web:/var/www:/bin/sh\n7:x:90:91::/:\n";
        let (_dir, lowers) = image(passwd, "adm:x:4:\n");
        for (text, id, group, home) in [
            ("root", 0, 0, Some("/root")),
            ("0:0", 0, 0, Some("/root")),
            ("web", 33, 34, Some("/var/www")),
            ("33", 33, 34, Some("/var/www")),
            ("web:adm", 33, 4, Some("/var/www")),
            ("web:9", 33, 9, Some("/var/www")),
            ("1234", 1234, 1234, None),
            ("7", 90, 91, Some("/")),
        ] {
            let user = User::find(text, &lowers).unwrap();
            assert_eq!(
                (user.id, user.group, user.home.as_deref()),
                (id, group, home),
                "{text}"
            );
        }
        for text in ["nobody", "web:none", "", "-1"] {
            assert!(User::find(text, &lowers).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (dir, lowers) = image("web:x:33:34::/:\n", "");
        let passwd = dir.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(User::find("web", &lowers).is_err());
        fs::remove_file(&passwd).unwrap();
        symlink("/etc/passwd", &passwd).unwrap();
        assert!(
            User::find("root", &lowers).is_err(),
            "the host's is not the image's"
        );
    }
}
