//! Whose the files of an image are, where unpacked all belong to one: what is committed on top keeps their owners.

use super::lower::{Step, look};
use super::state::Layer;
use super::store::Store;
use super::tar::Entry;
use super::unpack::Unpacked;
use super::{Image, fs};
use crate::bytes::Bytes;
use crate::error::Error;
use crate::ids::{Extent, Given, Ids, changed};
use crate::rights;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// Beside an unpacked layer.
pub(super) const FILE: &str = "owners.json";

/// Most bytes of paths that are kept; of an image with more of them nothing is known.
const MOST: usize = 64 << 20;

/// Users and groups.
type ByPath = BTreeMap<Vec<u8>, (u32, u32)>;

/// What a layer says of owners.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Owners {
    /// By path, where it is not 0:0.
    #[serde(with = "pairs")]
    owners: ByPath,
    /// Directories that are only part of a path: layers below say whose they are.
    #[serde(with = "list")]
    implied: BTreeSet<Vec<u8>>,
    #[serde(skip)]
    size: usize,
    /// Those of the directories that are only part of a path, of layers below whose files have been given away.
    #[serde(skip)]
    below: ByPath,
}

impl PartialEq for Owners {
    fn eq(&self, other: &Owners) -> bool {
        (&self.owners, &self.implied) == (&other.owners, &other.implied)
    }
}

impl Owners {
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.implied.is_empty()
    }

    /// Takes note of an entry, `link` of which is the path that a hard link leads to.
    pub fn note(&mut self, path: Vec<u8>, entry: &Entry, link: Option<&[u8]>) {
        let id = |id: u64| u32::try_from(id).unwrap_or(0);
        let owner = match link {
            Some(link) => self.owners.get(link).copied().unwrap_or((0, 0)),
            None => (id(entry.uid), id(entry.gid)),
        };
        if owner == (0, 0) {
            self.owners.remove(&path);
        } else if self.has_room(&path) {
            self.owners.insert(path, owner);
        }
    }

    /// Takes note of a directory that is only part of a path; `below`: whose it is in layers below, if they say so.
    pub fn imply(&mut self, path: &[u8], below: Option<(u32, u32)>) {
        self.owners.remove(path);
        if self.has_room(path) {
            self.implied.insert(path.to_vec());
            self.below.extend(below.map(|below| (path.to_vec(), below)));
        }
    }

    /// What was at `path` is gone, and all that was below it.
    pub fn forget(&mut self, path: &[u8]) {
        self.owners.remove(path);
        self.forget_below(path);
    }

    pub fn forget_below(&mut self, path: &[u8]) {
        let from = [path, b"/"].concat();
        while let Some((known, _)) = self.owners.range(from.clone()..).next()
            && known.starts_with(&from)
        {
            let known = known.clone();
            self.owners.remove(&known);
        }
    }

    /// The list of [`GIVE`](crate::wire::GIVE) that has every file given to the sub-id that stands for its owner, and how many
    /// owners have none: they are 0. `None` if not all owners are known.
    pub fn to_give(&self, given: &Given) -> Option<(Vec<u8>, u64)> {
        if self.size > MOST {
            return None;
        }
        let (mut list, mut beyond) = (Vec::new(), 0);
        for (path, &(user, group)) in self.owners.iter().chain(&self.below) {
            let inside = |id: u32, all: &Extent| if u64::from(id) <= all.count { id } else { 0 };
            let owner = (inside(user, &given.users), inside(group, &given.groups));
            beyond += u64::from(owner != (user, group));
            if owner != (0, 0) {
                push(&mut list, path, owner);
            }
        }
        Some((list, beyond))
    }

    /// The list that gives all of that back.
    pub fn to_take_back(&self) -> Vec<u8> {
        let mut list = Vec::new();
        let all = self.owners.keys().chain(self.below.keys());
        all.for_each(|path| push(&mut list, path, (0, 0)));
        list
    }

    fn has_room(&mut self, path: &[u8]) -> bool {
        self.size += path.len() + 64;
        if self.size > MOST {
            self.owners.clear();
            self.implied.clear();
        }
        self.size <= MOST
    }

    /// What the layer with the directory `holder` says.
    pub fn read(holder: impl AsFd) -> Result<Owners, Error> {
        let mut text = Vec::new();
        match fs::open_file_at(holder, FILE.as_bytes()) {
            Ok(mut file) => file.read_to_end(&mut text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Owners::default()),
            Err(e) => Err(e),
        }
        .map_err(|e| Error::system("read the owners of a layer", e))?;
        serde_json::from_slice(&text).map_err(|e| {
            super::bad(
                "store",
                format!("the owners of a layer in the store are damaged: {e}"),
            )
        })
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers only")
    }
}

fn push(list: &mut Vec<u8>, path: &[u8], (user, group): (u32, u32)) {
    list.extend_from_slice(&user.to_ne_bytes());
    list.extend_from_slice(&group.to_ne_bytes());
    list.extend_from_slice(path);
    list.push(0);
}

/// The sub-ids that the files of a layer over `below` are to be given to: none where there are none, or where the files of
/// layers below have not been given to any.
///
/// # Errors
/// If those below were given to others than this user has now: who made what is above would see them as nobody's.
pub(super) fn for_layer_on(below: &[Layer]) -> Result<Option<Given>, Error> {
    let ids = match below.iter().find_map(|layer| layer.given) {
        None if !below.is_empty() => return Ok(None),
        before => before,
    };
    let now = match Ids::detect()? {
        Ids::Range { .. } => rights::given()?,
        Ids::Single { .. } => None,
        _ => return Ok(None),
    };
    match (ids, now) {
        (Some(ids), Some(now)) if ids.is_in(&now) => Ok(below
            .iter()
            .all(|layer| layer.given == Some(ids))
            .then_some(ids)),
        (Some(ids), _) => Err(changed(&ids)),
        (None, now) => Ok(now),
    }
}

/// Refuses sub-ids that this user does not have now.
pub(super) fn check(given: &Given) -> Result<(), Error> {
    match rights::given()? {
        Some(now) if given.is_in(&now) => Ok(()),
        _ => Err(changed(given)),
    }
}

/// Gives what a layer was unpacked to in `diff` to whom it belongs, if to anybody; whether that was so.
pub(super) fn give(
    diff: &OwnedFd,
    unpacked: &mut Unpacked,
    given: Option<Given>,
) -> Result<Option<Given>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    let Some((list, beyond)) = unpacked.owners.to_give(&given) else {
        return Ok(None);
    };
    if !list.is_empty()
        && let Err(e) = rights::give(diff, &list, &given)
    {
        // A file system that gives files to nobody: then all of it is one owner's, and half of it never.
        if is_refusal(&e) && rights::give(diff, &unpacked.owners.to_take_back(), &given).is_ok() {
            return Ok(None);
        }
        return Err(Error::system(
            "give the files of a layer to their owners",
            e,
        ));
    }
    unpacked.dropped.owners = beyond;
    Ok(Some(given))
}

/// What a file system says that knows no other owners. What is said of a moment is said of nothing else: the layer would
/// stay without them for good.
fn is_refusal(e: &std::io::Error) -> bool {
    use nix::errno::Errno::*;
    let errno = nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0));
    matches!(errno, EPERM | EACCES | EINVAL | EOPNOTSUPP | ENOSYS)
}

/// Whose the files of a stack of layers are.
pub(crate) struct Owned {
    /// The topmost first.
    layers: Vec<(OwnedFd, Owners)>,
}

impl Store {
    /// Whose the files of `image` are.
    pub(crate) fn owned_by(&self, image: &Image) -> Result<Owned, Error> {
        let layers: Vec<Layer> = self.ground(image)?.layers;
        let mut owned = Owned { layers: Vec::new() };
        for layer in layers.iter().rev() {
            let fault = |e| Error::system("open the layers of the image", e);
            let holder =
                fs::open_dir_at(&self.layers, layer.chain_id.hex().as_bytes()).map_err(fault)?;
            let diff = fs::walk_dir_at(&holder, b"diff").map_err(fault)?;
            owned.layers.push((diff, Owners::read(&holder)?));
        }
        Ok(owned)
    }
}

impl Owned {
    /// Whether all are 0:0.
    pub fn by_root(&self) -> bool {
        let mut all = self.layers.iter();
        all.all(|(_, owners)| owners.owners.is_empty())
    }

    /// Whose `path` is, if the layers have it.
    pub fn of(&self, path: &[u8]) -> Option<(u32, u32)> {
        let parts: Vec<&[u8]> = path
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty())
            .collect();
        let mut implied = None;
        for (diff, owners) in &self.layers {
            match look(diff, &parts) {
                Ok(Step::Found(_)) if owners.implied.contains(path) => implied = Some((0, 0)),
                Ok(Step::Found(_)) => {
                    return Some(owners.owners.get(path).copied().unwrap_or((0, 0)));
                }
                Ok(Step::Below) => {}
                Ok(Step::Hidden) | Err(_) => break,
            }
        }
        implied
    }
}

/// Paths need not be UTF-8.
mod pairs {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(map: &ByPath, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            map.iter()
                .map(|(path, (user, group))| (Bytes::from(path), user, group)),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByPath, D::Error> {
        let all = Vec::<(Bytes, u32, u32)>::deserialize(deserializer)?;
        Ok(all
            .into_iter()
            .map(|(path, user, group)| (path.0, (user, group)))
            .collect())
    }
}

mod list {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        all: &BTreeSet<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(Bytes::from))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<Vec<u8>>, D::Error> {
        let all = Vec::<Bytes>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|path| path.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tar::Kind;
    use super::*;

    fn entry(path: &[u8], kind: Kind, uid: u64) -> Entry {
        Entry {
            uid,
            gid: uid,
            ..Entry::plain(path, kind, 0o644, 0)
        }
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let mut owners = Owners::default();
        owners.note(b"a\xff".to_vec(), &entry(b"", Kind::File, 33), None);
        owners.note(
            b"b".to_vec(),
            &entry(b"", Kind::Hardlink, 0),
            Some(b"a\xff"),
        );
        owners.note(b"c".to_vec(), &entry(b"", Kind::File, 5), None);
        // An entry of the same name takes its place.
        owners.note(b"c".to_vec(), &entry(b"", Kind::File, 0), None);
        owners.note(b"d".to_vec(), &entry(b"", Kind::File, u64::MAX), None);
        owners.imply(b"e/f", None);
        let again: Owners = serde_json::from_slice(&owners.to_json()).unwrap();
        assert_eq!(again, owners);
        assert_eq!(
            again.owners.keys().collect::<Vec<_>>(),
            [&b"a\xff"[..], b"b"]
        );
        assert_eq!(again.owners[&b"b"[..]], (33, 33));
    }

    #[test]
    fn too_much_is_nothing() {
        let mut owners = Owners::default();
        for i in 0..20_000u32 {
            let path = [&i.to_be_bytes()[..], &[b'x'; 4000]].concat();
            owners.note(path, &entry(b"", Kind::File, 1), None);
        }
        assert!(owners.is_empty());
    }
}
