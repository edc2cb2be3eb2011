//! In the place of `image` where the library is built without that feature: an image is refused.

use crate::error::{Error, ErrorKind};
use crate::ids::Given;
use crate::spec::Spec;

/// There is none.
pub(crate) enum Image {}

impl Image {
    pub(crate) fn given(&self) -> Option<&Given> {
        match *self {}
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        match *self {}
    }
}

pub(crate) fn of(spec: &Spec) -> Result<Option<Image>, Error> {
    match &spec.image {
        None => Ok(None),
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "image: this library was built without the feature `image`",
        )),
    }
}

pub(crate) fn in_image(_: &Spec, image: &Image) -> Result<Spec, Error> {
    match *image {}
}

pub(crate) fn program(_: &Spec, image: &Image) -> Result<Spec, Error> {
    match *image {}
}
