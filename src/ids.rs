//! Which host ids the sandboxes' ids are.

use crate::error::{Error, ErrorKind};
use crate::launch;
use crate::wire::{MAP_NONE, MAP_RANGE, MAP_ROOT, MAP_SINGLE};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// Ids in a sandbox, if there is a range: 0 up to this.
const RANGE: u64 = 65_536;
/// Where root's sandboxes have their host ids: beyond what useradd, systemd and container tools hand out.
const ROOT_START: u64 = 2_000_000_000;
pub(crate) const USER_DEFAULT: u32 = 1000;
/// The step of an error that only sub-ids can have.
pub(crate) const MAPPING: &str = "mapping sub-ids";

/// How ids are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// No user namespace.
    Own,
    /// One id: the caller's own.
    Single { note: String },
    /// The caller's own and a range of sub-ids, of users and groups. With `same` the caller is a sandbox's 0 and the range
    /// what follows, whoever its user is; else the caller is the user.
    Range {
        users: Extent,
        groups: Extent,
        same: bool,
    },
    /// The caller is root: a range that has nothing to do with it.
    Root { users: Extent, groups: Extent },
}

/// Ids `start` and the following.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub start: u64,
    pub count: u64,
}

/// The sub-ids that stand for the ids of an image from 1 on, where its unpacked files have the owners that it gives them; its 0
/// is the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub users: Extent,
    pub groups: Extent,
}

impl Given {
    /// Whether the same ids of images have the same sub-ids among `all`.
    pub fn is_in(&self, all: &Given) -> bool {
        let is_in = |one: Extent, all: Extent| one.start == all.start && one.count <= all.count;
        is_in(self.users, all.users) && is_in(self.groups, all.groups)
    }

    /// What an image calls the host's user and group: one that it has no word for is its 0.
    #[cfg(feature = "image")]
    pub fn inside(&self, (user, group): (u32, u32)) -> (u32, u32) {
        let one = |id: u32, all: &Extent| {
            let at = u64::from(id).checked_sub(all.start);
            at.filter(|at| *at < all.count)
                .map_or(0, |at| at as u32 + 1)
        };
        (one(user, &self.users), one(group, &self.groups))
    }
}

/// Files of an image belong to sub-ids that are not this user's any more.
pub(crate) fn changed(given: &Given) -> Error {
    Error::new(
        ErrorKind::Setup,
        format!(
            "image: its files were given to sub-ids ({given}) that cannot be used now: put them back in /etc/subuid and \
             /etc/subgid, and see that newuidmap works; to use others, remove the image (rmi, prune) while these are there, \
             and load it again"
        ),
    )
    .with_step(MAPPING)
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Given { users, groups } = self;
        write!(
            f,
            "users from {}, groups from {}",
            users.start, groups.start
        )?;
        write!(f, ", {} of each", users.count.min(groups.count))
    }
}

impl Ids {
    /// The same for a sandbox of an image whose files were given to `given`.
    ///
    /// # Errors
    /// If those are not the ids that are mapped: its files would belong to others.
    pub fn of_image(&self, given: Option<&Given>) -> Result<Ids, Error> {
        let Some(given) = given else {
            return Ok(self.clone());
        };
        match self {
            &Ids::Range { users, groups, .. } if given.is_in(&Given { users, groups }) => {
                Ok(Ids::Range {
                    users,
                    groups,
                    same: true,
                })
            }
            _ => Err(changed(given)),
        }
    }

    /// Why files of an image have not been given to sub-ids.
    pub fn why_folded(&self) -> &str {
        match self {
            Ids::Single { note } => note,
            _ => {
                "it was unpacked when sub-ids could not be used, or over layers that were: remove those images (rmi, prune) \
                 and load them again"
            }
        }
    }

    /// Of root, which host ids stand for the ids 0 and up of its sandboxes, of users and groups; `None` where files of one
    /// owner are all that a sandbox can tell apart.
    #[cfg(feature = "image")]
    pub fn of_files() -> Result<Option<(Extent, Extent)>, Error> {
        Ok(match Ids::detect()? {
            Ids::Root { users, groups } => Some((users, groups)),
            _ => None,
        })
    }

    /// What this process can map.
    ///
    /// # Errors
    /// If that cannot be read: root without a map would give its programs the host's 0.
    pub fn detect() -> Result<Ids, Error> {
        if nix::unistd::geteuid().is_root() {
            let found = (unused("/proc/self/uid_map")?, unused("/proc/self/gid_map")?);
            return Ok(match found {
                (Some(users), Some(groups)) => {
                    let count = users.count.min(groups.count);
                    Ids::Root {
                        users: Extent { count, ..users },
                        groups: Extent { count, ..groups },
                    }
                }
                // Root of a user namespace with nothing else in it is an ordinary user outside.
                _ => Ids::Single {
                    note: "root of a user namespace that maps no other id".into(),
                },
            });
        }
        let Some(_) = program("newuidmap").and(program("newgidmap")) else {
            return Ok(Ids::Single {
                note: "newuidmap and newgidmap are not installed (package uidmap)".into(),
            });
        };
        Ok(match (sub_ids("/etc/subuid")?, sub_ids("/etc/subgid")?) {
            (Some(users), Some(groups)) => {
                let count = users.count.min(groups.count).min(RANGE - 1);
                Ids::Range {
                    users: Extent { count, ..users },
                    groups: Extent { count, ..groups },
                    same: false,
                }
            }
            _ => Ids::Single {
                note: "this user has no range in /etc/subuid and /etc/subgid".into(),
            },
        })
    }

    /// The wire's word for it, and how many ids there are above the supervisor's 0.
    pub fn mode(&self) -> (u32, u32) {
        match self {
            Ids::Single { .. } => (MAP_SINGLE, 0),
            Ids::Own => (MAP_NONE, 0),
            Ids::Range { users, .. } => (MAP_RANGE, users.count as u32),
            Ids::Root { users, .. } => (MAP_ROOT, users.count as u32),
        }
    }

    /// Writes the maps of the supervisor with process id `pid`, which waits in its new user namespace.
    pub fn write(&self, pid: i32) -> Result<(), Error> {
        let (user, group) = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let put = |file: &str, text: String| {
            let path = format!("/proc/{pid}/{file}");
            fs::write(&path, text).map_err(|e| {
                let hint = match e.raw_os_error() {
                    Some(libc::EPERM | libc::EACCES) => {
                        "; this kernel or its security module refuses id maps in a new user namespace: on Ubuntu that is AppArmor, \
                         for which Stockade brings a profile (share/stockade/apparmor); isolation=restrict runs without them, \
                         with less"
                    },
                    _ => "",
                };
                Error::system(format!("writing {file} of the supervisor{hint}"), e)
            })
        };
        match self {
            Ids::Own => Ok(()),
            Ids::Single { .. } => {
                put("setgroups", "deny".into())?;
                put("uid_map", format!("0 {user} 1"))?;
                put("gid_map", format!("0 {group} 1"))
            }
            Ids::Root { users, groups } => {
                put(
                    "uid_map",
                    format!("0 {user} 1\n1 {} {}", users.start, users.count),
                )?;
                put(
                    "gid_map",
                    format!("0 {group} 1\n1 {} {}", groups.start, groups.count),
                )
            }
            Ids::Range { users, groups, .. } => {
                for (name, own, range) in [("newuidmap", user, users), ("newgidmap", group, groups)]
                {
                    let path = program(name)
                        .ok_or_else(|| Error::new(ErrorKind::Setup, format!("{name} is gone")))
                        .map_err(|e| e.with_step(MAPPING))?;
                    let args = [
                        pid.to_string(),
                        "0".into(),
                        own.to_string(),
                        "1".into(),
                        "1".into(),
                        range.start.to_string(),
                        range.count.to_string(),
                    ];
                    let status = launch::run_hidden(&path, &args).map_err(|e| match e.kind() {
                        ErrorKind::Resource => e,
                        _ => e.with_step(MAPPING),
                    })?;
                    if status > 128 {
                        let why = format!("{name} was killed by signal {}", status - 128);
                        return Err(Error::new(ErrorKind::Resource, why));
                    }
                    if status != 0 {
                        return Err(Error::new(
                            ErrorKind::Setup,
                            format!(
                                "{name} ended with status {status}: is it set-user-id, and does /etc/sub{}id give this user {} ids from {}?",
                                &name[3..4],
                                range.count,
                                range.start
                            ),
                        )
                        .with_step(MAPPING));
                    }
                }
                Ok(())
            }
        }
    }

    /// The ids that stand for root's inside, on the host.
    pub fn root(&self) -> (u32, u32) {
        match self {
            Ids::Root { users, groups } => (users.start as u32, groups.start as u32),
            _ => (
                nix::unistd::geteuid().as_raw(),
                nix::unistd::getegid().as_raw(),
            ),
        }
    }

    /// What the supervisor calls the host's user and group; `None` if its map has not both.
    pub fn supervisors(&self, host: (u32, u32)) -> Option<(u32, u32)> {
        let own = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let one = |id: u32, own: u32, range: Option<&Extent>| match range {
            _ if id == own => Some(0),
            Some(range) => {
                let at = u64::from(id).checked_sub(range.start)?;
                (at < range.count).then_some(at as u32 + 1)
            }
            None => None,
        };
        let (users, groups) = match self {
            Ids::Single { .. } | Ids::Own => (None, None),
            Ids::Range { users, groups, .. } | Ids::Root { users, groups } => {
                (Some(users), Some(groups))
            }
        };
        Some((one(host.0, own.0, users)?, one(host.1, own.1, groups)?))
    }

    /// Whom a file of the host's user and group belongs to in an image that is made of a tree. What is a plain user's own is
    /// root's there, and what is one of the user's sub-ids is whom it stands for; others, and all of root's, stay who they are.
    #[cfg(feature = "image")]
    pub fn in_tree(&self, host: (u32, u32)) -> (u32, u32) {
        if nix::unistd::geteuid().is_root() {
            return host;
        }
        let own = self.root();
        let user = self.supervisors((host.0, own.1));
        let group = self.supervisors((own.0, host.1));
        (
            user.map_or(host.0, |(user, _)| user),
            group.map_or(host.1, |(_, group)| group),
        )
    }

    /// What a sandbox whose user has the ids `user` inside calls the host's user and group; `None` if it has not both.
    /// As the supervisor writes the maps.
    pub fn inside(&self, host: (u32, u32), user: (u32, u32)) -> Option<(u32, u32)> {
        let ids = self.supervisors(host)?;
        let one = |id: u32, own: u32| match (self, id) {
            (Ids::Root { .. }, id) => id.checked_sub(1),
            (Ids::Range { same: true, .. }, id) => Some(id),
            (_, 0) => Some(own),
            (_, id) if id <= own => Some(id - 1),
            (_, id) => Some(id),
        };
        Some((one(ids.0, user.0)?, one(ids.1, user.1)?))
    }

    /// The ids inside for `user` (`uid[:gid]`).
    pub fn user_of(&self, user: Option<&str>) -> Result<(u32, u32), Error> {
        let Some(text) = user else {
            return Ok((USER_DEFAULT, USER_DEFAULT));
        };
        let bad = || {
            Error::invalid(format!(
                "user: `{}` is not `uid[:gid]` in numbers",
                text.escape_default()
            ))
        };
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        let (user, group): (u32, u32) = (
            user.parse().map_err(|_| bad())?,
            group.parse().map_err(|_| bad())?,
        );
        let highest = match self {
            Ids::Single { .. } | Ids::Own => u32::MAX - 1, // any one id can stand for the caller's
            Ids::Range { users, .. } => users.count as u32,
            Ids::Root { users, .. } => users.count as u32 - 1,
        };
        if user > highest || group > highest {
            return Err(Error::invalid(format!(
                "user: `{text}`: ids go up to {highest} here"
            )));
        }
        Ok((user, group))
    }
}

/// An extent of ids, mapped here, that is neither root's nor in the way of others.
fn unused(map: &str) -> Result<Option<Extent>, Error> {
    let text = fs::read_to_string(map).map_err(|e| Error::system(format!("reading {map}"), e))?;
    Ok(unused_of(&text))
}

fn unused_of(text: &str) -> Option<Extent> {
    let extents = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().ok());
        let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((inside, inside + count))
    });
    let (start, end) = extents.max_by_key(|(_, end)| *end)?;
    if start <= ROOT_START && ROOT_START + RANGE <= end {
        return Some(Extent {
            start: ROOT_START,
            count: RANGE,
        });
    }
    let start = end.saturating_sub(RANGE).max(start).max(1);
    (end > start).then(|| Extent {
        start,
        count: end - start,
    })
}

/// This user's first range in `/etc/subuid` or `/etc/subgid` (subuid(5)).
fn sub_ids(path: &str) -> Result<Option<Extent>, Error> {
    let uid = nix::unistd::getuid();
    let look_up = || match nix::unistd::User::from_uid(uid) {
        Err(e) if crate::error::is_resource(e as i32) => {
            Err(Error::system("looking up this user", e))
        }
        found => Ok(found.ok().flatten().map(|user| user.name)),
    };
    let name = match look_up()? {
        // The C library calls a user unknown, too, whom it could not look up just now.
        None => {
            let known = fs::File::open("/etc/passwd");
            if let Err(e) = known
                && e.raw_os_error().is_some_and(crate::error::is_resource)
            {
                return Err(Error::system("looking up this user", e));
            }
            look_up()?
        }
        name => name,
    };
    let text = match fs::read_to_string(path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EACCES)) => return Ok(None),
        text => text.map_err(|e| Error::system(format!("reading {path}"), e))?,
    };
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        if Some(who) != name.as_deref() && who != uid.to_string() {
            return None;
        }
        let (start, count) = (
            fields.next()?.parse().ok()?,
            fields.next()?.trim().parse().ok()?,
        );
        (count > 0).then_some(Extent { start, count })
    }))
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"]
        .iter()
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|p| p.exists())
}
