//! `stockade_pull`: how to pull an image, and the pulling.

use super::error::stockade_error;
use super::ffi::{c_text, free, give, required, stop_panics};
use super::store::{path_of, stockade_progress, stockade_store, text, watch};
use crate::error::{Error, ErrorKind};
use crate::image::Pull;
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::time::Duration;

/// How to pull images from registries. A plain value: it may be used any number of times, by many threads at once, but
/// not be changed meanwhile. The return value of its setters need not be looked at: with one that failed nothing is
/// pulled, and stockade_store_pull fails with the error of the first such setter.
#[derive(Default)]
pub struct stockade_pull {
    pull: Pull<'static>,
    refused: Option<(ErrorKind, String)>,
}

/// The entry of every setter.
fn set(
    pull: Option<&mut stockade_pull>,
    change: impl FnOnce(Pull<'static>) -> Result<Pull<'static>, Error>,
) -> c_int {
    let Some(handle) = pull else {
        return ErrorKind::InvalidArgument as c_int;
    };
    let old = std::mem::take(&mut handle.pull);
    match stop_panics(|| change(old)) {
        Ok(new) => {
            handle.pull = new;
            0
        }
        Err(e) => {
            handle
                .refused
                .get_or_insert_with(|| (e.kind(), e.to_string()));
            e.kind() as c_int
        }
    }
}

/// Every default. Free it with stockade_pull_free.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_new() -> *mut stockade_pull {
    Box::into_raw(Box::default())
}

/// Frees it.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_free(pull: Option<Box<stockade_pull>>) {
    free(pull);
}

/// The platform to choose where there are several: "os/architecture[/variant]" (default: this machine's).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_set_platform(
    pull: Option<&mut stockade_pull>,
    platform: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise.
        Ok(pull.platform(unsafe { c_text(platform, "platform") }?))
    })
}

/// A user of the registry and the password, which may be a token that takes its place. They are sent to the registry,
/// or to the server of tokens that it names, and not to mirrors, nor where a request is redirected to. Without them,
/// those hold that `podman login` or `docker login` has left in a file: $REGISTRY_AUTH_FILE alone if that is set, else
/// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and ~/.docker/config.json. Credential helpers
/// are not run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_set_credentials(
    pull: Option<&mut stockade_pull>,
    user: *const c_char,
    password: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise for both.
        let (user, password) = unsafe { (c_text(user, "user")?, c_text(password, "password")?) };
        Ok(pull.credentials(user, password))
    })
}

/// An identity token (OAuth 2's refresh token) in place of a user and a password.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_set_identity_token(
    pull: Option<&mut stockade_pull>,
    token: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise.
        Ok(pull.identity_token(unsafe { c_text(token, "token") }?))
    })
}

/// The file with credentials, in place of those that are looked for. It must be there; /dev/null is one without any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_set_auth_file(
    pull: Option<&mut stockade_pull>,
    path: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise.
        Ok(pull.auth_file(unsafe { path_of(path, "path") }?))
    })
}

/// A file of certificates (PEM) of authorities to trust, beside the system's (or those that SSL_CERT_FILE names).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_set_ca_file(
    pull: Option<&mut stockade_pull>,
    path: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise.
        Ok(pull.ca_file(unsafe { path_of(path, "path") }?))
    })
}

/// Whether a registry must prove who it is (default: true). If not, its certificate may be anybody's, and it may go
/// without TLS. To this machine (localhost, 127.0.0.0/8) it may go without TLS anyway.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_set_tls_verify(
    pull: Option<&mut stockade_pull>,
    verify: bool,
) -> c_int {
    set(pull, |pull| Ok(pull.tls_verify(verify)))
}

/// One more mirror of the registry, "host[:port][/path]", to be asked before it. What is had by its digest is the same
/// from everywhere; which digest a tag has is the word of the first that knows the tag.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_pull_add_mirror(
    pull: Option<&mut stockade_pull>,
    location: *const c_char,
) -> c_int {
    set(pull, |pull| {
        // SAFETY: the caller's promise.
        Ok(pull.mirror(unsafe { c_text(location, "location") }?))
    })
}

/// Layers that are downloaded at the same time (default 3, at least 1, at most 16).
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_set_max_concurrent_downloads(
    pull: Option<&mut stockade_pull>,
    count: u64,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    set(pull, |pull| Ok(pull.max_concurrent_downloads(count)))
}

/// How often a request that failed is made again (default 3): after a connection was lost or a server was in trouble or
/// busy, and anew for each MiB that was gained.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_set_retry(pull: Option<&mut stockade_pull>, times: u64) -> c_int {
    let times = u32::try_from(times).unwrap_or(u32::MAX);
    set(pull, |pull| Ok(pull.retry(times)))
}

/// How long to wait for a connection, for an answer and for the next bytes of one, before the request counts as failed:
/// nanoseconds (default 30 s, at least 1 ms, at most an hour). Less than 1 KiB a second over that time is a failure
/// too.
#[unsafe(no_mangle)]
pub extern "C" fn stockade_pull_set_timeout(
    pull: Option<&mut stockade_pull>,
    nanoseconds: u64,
) -> c_int {
    set(pull, |pull| {
        Ok(pull.timeout(Duration::from_nanos(nanoseconds)))
    })
}

/// Pulls an image from its registry. name is "[registry[:port]/]repository[:tag][@digest]", of docker.io and latest if
/// not said otherwise; the store keeps the image by its whole name. pull may be NULL for every default; progress may be
/// NULL. json receives the image. What the store has is not downloaded, and what an interrupted call has left is gone
/// on with. The call starts threads of its own, with all signals blocked, which end before it does. progress is called
/// by the thread that made the call, some times a second also while nothing comes.
///
/// STOCKADE_ERROR_REGISTRY if the registry cannot be reached or refuses, STOCKADE_ERROR_NOT_FOUND if it has no such
/// image, STOCKADE_ERROR_IMAGE if what it sends is damaged or hostile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_pull(
    store: Option<&stockade_store>,
    name: *const c_char,
    pull: Option<&stockade_pull>,
    progress: stockade_progress,
    data: *mut c_void,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let store = required(store, "store")?;
        // SAFETY: the caller's promise.
        let name = unsafe { c_text(name, "name") }?;
        if let Some((kind, message)) = pull.and_then(|pull| pull.refused.as_ref()) {
            return Err(Error::new(*kind, message.clone()));
        }
        let options = pull.map_or_else(Pull::default, |pull| pull.pull.settings.clone().into());
        let mut watch = watch(progress, data);
        text(&store.0.pull(name, options.progress(&mut watch))?)
    })
}
