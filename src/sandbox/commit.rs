//! A live sandbox's changes as an image.

use super::Sandbox;
use super::still::Still;
use crate::error::{Error, ErrorKind};
use crate::ids::{Extent, Ids};
use crate::image::{Commit, Image, ImageInfo, Note, Store, Upper, layer_from_upper};
use crate::overlay::Driver;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

impl Sandbox {
    /// Makes an image of the sandbox's own and a layer of what has been changed in it, as `docker commit`, in the same
    /// store, called `names`. `/work`, `/tmp`, `/dev/shm`, volumes and every `tmpfs` are no part of it. If nothing has
    /// been changed there is no layer either, only the configuration.
    ///
    /// With [`pause`](Commit::pause) no program of the sandbox runs meanwhile, and none starts; wall time does not go on.
    /// Without, a file that is written just then may be in the image in part.
    ///
    /// Owners: as seen inside; but of an image whose files all belong to the sandbox's user (enforcement `owners`) what it has
    /// stays whose it is there, and what is new belongs to that user.
    ///
    /// # Errors
    /// [`ErrorKind::State`] if the sandbox is of no image, or closed; [`ErrorKind::Unsupported`] with `overlay=copy`, which
    /// keeps no record of changes; [`ErrorKind::Image`] if a name has no form in a layer; and as of a bad change or name.
    /// Nothing is in the store then.
    pub fn commit(&self, names: &[&str], commit: &Commit) -> Result<ImageInfo, Error> {
        Ok(self.committed(names, commit)?.0)
    }

    /// The same as an image without a name, to start others from it by its [`id`](Image::id). It stays in the store as
    /// long as what is returned lives, or a sandbox of it; then [`prune`](Store::prune) removes it.
    ///
    /// # Errors
    /// As [`commit`](Sandbox::commit).
    pub fn snapshot(&self) -> Result<Image, Error> {
        Ok(self.committed(&[], &Commit::new())?.1)
    }

    fn committed(&self, names: &[&str], commit: &Commit) -> Result<(ImageInfo, Image), Error> {
        self.check_open()?;
        let Some((spec, image)) = &self.in_image else {
            return Err(Error::new(
                ErrorKind::State,
                "commit: the sandbox is of no image, so there is nothing to put a layer on; `export` of `/` gives its whole \
                 root, which `import` takes",
            ));
        };
        let store = Store::open(self.spec.store.as_deref().map(Path::new))?;
        let mut ground = store.ground(image)?;
        for change in &commit.changes {
            ground.config.config.change(change)?;
        }
        let mut still = commit.pause.then(|| Still::new(self)).transpose()?;
        let by = spec.args.iter().map(|arg| arg.to_text());
        let by = by.collect::<Vec<_>>().join(" ");
        let note = Note {
            by: if by.is_empty() {
                "stockade commit"
            } else {
                &by
            },
            author: &commit.author,
            comment: &commit.message,
        };
        self.with_layer(&store, image, |layer| match layer {
            None => store.compose(ground, None, Some(note), names),
            Some(layer) => {
                let mut write = |to: &mut dyn Write| {
                    layer_from_upper(layer, to)?;
                    // What comes now is the store's own work.
                    drop(still.take());
                    Ok(())
                };
                store.compose(ground, Some(&mut write), Some(note), names)
            }
        })
    }

    /// Does something with what has been changed, if anything has.
    pub(crate) fn with_layer<T>(
        &self,
        store: &Store,
        image: &Image,
        then: impl FnOnce(Option<&Upper<'_>>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let upper = self.upper()?;
        let fuse = self.overlay()?.driver == Driver::Fuse;
        let layer = Upper::new(upper.as_fd()).fuse(fuse);
        let changed = layer.is_changed()?;
        if let Some((users, groups)) = Ids::of_files()? {
            let owner = |user, group| (inside(user, &users), inside(group, &groups));
            let layer = layer.owner(&owner);
            return then(changed.then_some(&layer));
        }
        if let Some(given) = image.given() {
            let owner = |user, group| given.inside((user, group));
            let layer = layer.owner(&owner);
            return then(changed.then_some(&layer));
        }
        // All belongs to one: what the image has stays whose it is there, and what is new is the user's.
        let owned = store.owned_by(image)?;
        let user = self.host.ids.user_of(self.effective().user.as_deref())?;
        let roots = user == (0, 0) && owned.by_root();
        let by_path = |path: &[u8]| match roots {
            true => user,
            false => owned.of(path).unwrap_or(user),
        };
        let layer = layer.by_path(&by_path);
        then(changed.then_some(&layer))
    }
}

/// The id inside that one of root's sandboxes' has on the host.
fn inside(id: u32, all: &Extent) -> u32 {
    let id = u64::from(id).checked_sub(all.start);
    id.filter(|id| *id < all.count).unwrap_or(0) as u32
}
