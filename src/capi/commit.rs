//! A live sandbox as an image, and `stockade_image`; paths and images as tar streams.

use super::changes::stockade_changes;
use super::error::stockade_error;
use super::ffi::{c_string, c_text, call, free, give, read, required};
use super::quiet::Quiet;
use super::sandbox::stockade_sandbox;
use super::store::{optional, stockade_progress, stockade_store, text, watch};
use crate::error::Error;
use crate::image::{Commit, Image};
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::{null, null_mut};

/// An image that is being used: as long as this lives, and the process, nothing of it is removed from its store.
pub struct stockade_image {
    id: CString,
    _image: Image,
}

impl stockade_image {
    fn raw(image: Image) -> *mut stockade_image {
        Box::into_raw(Box::new(stockade_image {
            id: c_string(image.id.as_str()),
            _image: image,
        }))
    }
}

/// Makes an image of the sandbox's own and a layer of what has been changed in it, as docker commit, in the same store.
/// /work, /tmp, /dev/shm, volumes and every tmpfs are no part of it. name may be NULL. options is a JSON object or NULL:
/// "changes" (instructions of a Dockerfile, ["CMD [\"/bin/sh\"]", "ENV A=b"]), "author", "message" (texts), and "pause"
/// (default true: no program of the sandbox runs meanwhile). json receives the image, as from stockade_store_inspect.
/// STOCKADE_ERROR_STATE if the sandbox is of no image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_commit(
    sandbox: Option<&stockade_sandbox>,
    name: *const c_char,
    options: *const c_char,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let sandbox = required(sandbox, "sandbox")?.inner();
        // SAFETY: the caller's promise for both.
        let (name, options) = unsafe { (optional(name, "name")?, optional(options, "options")?) };
        let commit: Commit = match options {
            None => Commit::new(),
            Some(options) => serde_json::from_str(options)
                .map_err(|e| Error::invalid(format!("argument `options`: {e}")))?,
        };
        let names: Vec<&str> = name.into_iter().collect();
        text(&sandbox.commit(&names, &commit)?)
    })
}

/// The same as an image without a name, from which other sandboxes can be started by its id. It stays in the store until
/// it is freed with stockade_image_free and no sandbox of it is left; then stockade_store_prune removes it.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_sandbox_snapshot(
    sandbox: Option<&stockade_sandbox>,
    image: Option<&mut MaybeUninit<*mut stockade_image>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((image, "image"), null_mut(), error, || {
        let image = required(sandbox, "sandbox")?.inner().snapshot()?;
        Ok(stockade_image::raw(image))
    })
}

/// Keeps the image called reference in the store until it is freed with stockade_image_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_resolve(
    store: Option<&stockade_store>,
    reference: *const c_char,
    image: Option<&mut MaybeUninit<*mut stockade_image>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((image, "image"), null_mut(), error, || {
        // SAFETY: the caller's promise.
        let reference = unsafe { c_text(reference, "reference") }?;
        let image = required(store, "store")?.inner().resolve(reference)?;
        Ok(stockade_image::raw(image))
    })
}

/// The id of the image, as stockade_spec_set_image takes it. Owned by the image.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_image_id(image: Option<&stockade_image>) -> *const c_char {
    read(image, null(), |image| image.id.as_ptr())
}

/// Frees the image, which stays in the store if it has a name or is used elsewhere.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_image_free(image: Option<Box<stockade_image>>) {
    free(image);
}

/// Writes path in the sandbox and all below it to fd as a tar stream, as docker cp CONTAINER:PATH -: named from its last
/// component on, of "/" from what is in it; with the modes, times and owners that are seen inside, without extended
/// attributes. What is mounted below it, such as /proc and /work in "/", is an empty directory. fd stays open; of a
/// pipe that nobody reads it is an error, and no SIGPIPE. Relative paths are below /work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_sandbox_export(
    sandbox: Option<&stockade_sandbox>,
    path: *const c_char,
    fd: c_int,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let sandbox = required(sandbox, "sandbox")?.inner();
        // SAFETY: the caller's promise for both.
        let (path, mut file) = unsafe { (c_text(path, "path")?, own_file(fd)?) };
        let _quiet = quiet()?;
        sandbox.export(path, &mut file).map(drop)
    })
}

/// Writes the whole root file system of an image to fd as one tar stream, as docker export, with every owner and device
/// node that came with its layers. fd stays open. progress may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_export(
    store: Option<&stockade_store>,
    image: *const c_char,
    fd: c_int,
    progress: stockade_progress,
    data: *mut c_void,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    call(error, || {
        let store = required(store, "store")?.inner();
        // SAFETY: the caller's promise for both.
        let (image, mut file) = unsafe { (c_text(image, "image")?, own_file(fd)?) };
        let _quiet = quiet()?;
        store.export(image, &mut file, Some(&mut watch(progress, data)))
    })
}

/// What image changes of the image base, as docker diff, sorted by path; if base is NULL, what its topmost layer changes
/// of those below. Free it with stockade_changes_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_diff(
    store: Option<&stockade_store>,
    image: *const c_char,
    base: *const c_char,
    changes: Option<&mut MaybeUninit<*mut stockade_changes>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((changes, "changes"), null_mut(), error, || {
        let store = required(store, "store")?.inner();
        // SAFETY: the caller's promise for both.
        let (image, base) = unsafe { (c_text(image, "image")?, optional(base, "base")?) };
        Ok(stockade_changes::raw(store.diff(image, base)?))
    })
}

fn quiet() -> Result<Quiet, Error> {
    Quiet::new().map_err(|e| Error::system("blocking SIGPIPE", e))
}

/// A file of our own for the caller's descriptor.
///
/// # Safety
/// Nobody closes `fd` meanwhile.
unsafe fn own_file(fd: c_int) -> Result<File, Error> {
    if fd < 0 {
        return Err(Error::invalid(format!("argument `fd` is {fd}")));
    }
    // SAFETY: no number below 0; the rest is the caller's promise.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let own = fd.try_clone_to_owned();
    Ok(own.map_err(|e| Error::system("argument `fd`", e))?.into())
}
