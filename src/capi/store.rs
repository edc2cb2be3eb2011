//! `stockade_store`.

use super::error::stockade_error;
use super::ffi::{c_bytes, c_string, c_text, call, free, give, owned_text, required};
use crate::error::Error;
use crate::image::{Format, Import, Load, Progress, Source, Store, Target};
use std::ffi::{OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// A store of images. Any thread, and any process that opens the same directory, may use it at the same time.
///
/// An image is meant by a name (latest if it has no tag), the end of one, an id, or the beginning of one. What is told
/// about images is JSON: "id", "digest" (of the manifest), "names", "size", "added", "config" (as the OCI image
/// specification has it), "layers" (each with its "diff_id", "digest", "size", "compressed_size", "media_type",
/// "entries" and "path"), "dropped" and "owners". Free such a text with stockade_string_free.
pub struct stockade_store(pub(super) Store);

impl stockade_store {
    pub(super) fn inner(&self) -> &Store {
        &self.0
    }
}

/// Told how far a call is: what is read or written, bytes of it that are done, and bytes in all, or 0 if that is not
/// known. A result other than 0 ends the call with a STOCKADE_ERROR_STATE, and nothing of it is kept. Called by the
/// thread that made the call; data is what was passed with it.
pub type stockade_progress = Option<
    unsafe extern "C" fn(what: *const c_char, done: u64, total: u64, data: *mut c_void) -> c_int,
>;

/// Opens the store in the directory path, which is made if missing; NULL is `stockade` in $XDG_DATA_HOME, which is
/// ~/.local/share if unset. Free it with stockade_store_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_open(
    path: *const c_char,
    store: Option<&mut MaybeUninit<*mut stockade_store>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((store, "store"), null_mut(), error, || {
        let path = match path.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { path_of(path, "path") }?),
        };
        let store = Store::open(path.as_deref())?;
        Ok(Box::into_raw(Box::new(stockade_store(store))))
    })
}

/// Frees a store; the directory stays.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_store_free(store: Option<Box<stockade_store>>) {
    free(store);
}

/// Reads every image of an archive that `docker save` or `podman save` wrote, or of an OCI layout: a tar file (plain,
/// gzip or zstd) or a directory. platform is "os/architecture[/variant]", or NULL for this machine's; name is one more
/// name for the image if there is one only, or NULL; progress may be NULL. json receives an array of the images.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_load(
    store: Option<&stockade_store>,
    path: *const c_char,
    platform: *const c_char,
    name: *const c_char,
    progress: stockade_progress,
    data: *mut c_void,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let store = required(store, "store")?;
        let mut watch = watch(progress, data);
        let mut options = Load::default().progress(&mut watch);
        // SAFETY: the caller's promise for all three.
        let (path, platform, name) = unsafe {
            (
                path_of(path, "path")?,
                optional(platform, "platform")?,
                optional(name, "name")?,
            )
        };
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        if let Some(name) = name {
            options = options.name(name);
        }
        text(&store.0.load(Source::Path(path), options)?)
    })
}

/// Makes an image of one layer of a root file system: a tar file (plain, gzip or zstd) or a directory. name may be
/// NULL; config is the "config" of an OCI image as JSON ({"Cmd": ["/bin/sh"]}), or NULL; progress may be NULL. json
/// receives the image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_import(
    store: Option<&stockade_store>,
    path: *const c_char,
    name: *const c_char,
    config: *const c_char,
    progress: stockade_progress,
    data: *mut c_void,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let store = required(store, "store")?;
        let mut watch = watch(progress, data);
        let mut options = Import::default().progress(&mut watch);
        // SAFETY: the caller's promise for all three.
        let (path, name, config) = unsafe {
            (
                path_of(path, "path")?,
                optional(name, "name")?,
                optional(config, "config")?,
            )
        };
        if let Some(name) = name {
            options = options.name(name);
        }
        if let Some(config) = config {
            let config = serde_json::from_str(config);
            options = options
                .config(config.map_err(|e| Error::invalid(format!("argument `config`: {e}")))?);
        }
        text(&store.0.import(Source::Path(path), options)?)
    })
}

/// Writes an image into an archive for docker, podman, skopeo or umoci. format is "docker-archive", "oci-archive" or
/// "oci-dir"; path is a file, which appears when it is whole, or for "oci-dir" a directory that is missing or empty. An
/// image that is given by its id has no name there. progress may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_save(
    store: Option<&stockade_store>,
    image: *const c_char,
    format: *const c_char,
    path: *const c_char,
    progress: stockade_progress,
    data: *mut c_void,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let store = required(store, "store")?;
        // SAFETY: the caller's promise for all three.
        let (image, format, path) = unsafe {
            (
                c_text(image, "image")?,
                c_text(format, "format")?,
                path_of(path, "path")?,
            )
        };
        let mut watch = watch(progress, data);
        let format = Format::parse(format)?;
        let target = Target::Path(path);
        store.0.save(&[image], format, target, Some(&mut watch))
    })
}

/// Every image as a JSON array, those with names first.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_store_list(
    store: Option<&stockade_store>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        text(&required(store, "store")?.0.list()?)
    })
}

/// What is known about an image, as JSON. STOCKADE_ERROR_NOT_FOUND if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_inspect(
    store: Option<&stockade_store>,
    image: *const c_char,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        // SAFETY: the caller's promise.
        let image = unsafe { c_text(image, "image") }?;
        text(&required(store, "store")?.0.inspect(image)?)
    })
}

/// Gives an image one more name, which another may have had.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_tag(
    store: Option<&stockade_store>,
    image: *const c_char,
    name: *const c_char,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        // SAFETY: the caller's promise for both.
        let (image, name) = unsafe { (c_text(image, "image")?, c_text(name, "name")?) };
        required(store, "store")?.0.tag(image, name)
    })
}

/// Removes a name; and the image, if that was its last and nobody uses it. An id removes all the names of its image.
/// json receives {"names", "images", "bytes"}: what was removed, and how many bytes on disk that freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_remove(
    store: Option<&stockade_store>,
    image: *const c_char,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        // SAFETY: the caller's promise.
        let image = unsafe { c_text(image, "image") }?;
        text(&required(store, "store")?.0.remove(image)?)
    })
}

/// Removes the images without a name and, with all, every image; but none in use. Whatever no image needs goes too.
/// json receives the same as from stockade_store_remove.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_store_prune(
    store: Option<&stockade_store>,
    all: bool,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        text(&required(store, "store")?.0.prune(all)?)
    })
}

/// Reads all of the store, compares every digest, and every unpacked layer with what it was unpacked from. json
/// receives {"blobs", "layers", "problems"}: how many were read, and what is wrong, one sentence each.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_store_verify(
    store: Option<&stockade_store>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        text(&required(store, "store")?.0.verify()?)
    })
}

/// What the store takes on disk, in bytes. json receives {"images" (how many), "blobs", "layers", "temporary",
/// "reclaimable"}.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_store_disk_use(
    store: Option<&stockade_store>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        text(&required(store, "store")?.0.disk_use()?)
    })
}

pub(super) fn text(value: &impl serde::Serialize) -> Result<*mut c_char, Error> {
    let json = serde_json::to_string(value).expect("texts and numbers only");
    Ok(owned_text(&json))
}

/// # Safety
/// As for [`c_bytes`].
pub(super) unsafe fn path_of(path: *const c_char, name: &str) -> Result<PathBuf, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { c_bytes(path, name) }?;
    Ok(Path::new(OsStr::from_bytes(bytes)).to_owned())
}

/// # Safety
/// As for [`c_text`], but for NULL.
pub(super) unsafe fn optional<'a>(
    text: *const c_char,
    name: &str,
) -> Result<Option<&'a str>, Error> {
    match text.is_null() {
        true => Ok(None),
        // SAFETY: the caller's promise.
        false => unsafe { c_text(text, name) }.map(Some),
    }
}

pub(super) fn watch(
    progress: stockade_progress,
    data: *mut c_void,
) -> impl FnMut(&Progress) -> ControlFlow<()> {
    move |now: &Progress| {
        let Some(progress) = progress else {
            return ControlFlow::Continue(());
        };
        let what = c_string(&now.what);
        // SAFETY: who made the call has promised that it can be called with this data; the text lives through it.
        match unsafe { progress(what.as_ptr(), now.done, now.total.unwrap_or(0), data) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
