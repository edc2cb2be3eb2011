//! Building an image.

use super::error::stockade_error;
use super::ffi::{c_string, c_text, give, required};
use super::store::{stockade_store, text};
use crate::image::{BuildEvent, BuildRequest};
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::ptr::{null, null_mut};

/// Told how far a build is: a step that begins, or is known from before (cached), with its number from 1 and how many there
/// are; or, if step is NULL, what the program of a step has written, to standard output and error: length bytes, now and
/// then none. A result other than 0 ends the build with a STOCKADE_ERROR_STATE. Called by the thread that made the call;
/// data is what was passed with it.
pub type stockade_build_watch = Option<
    unsafe extern "C" fn(
        step: *const c_char,
        number: u64,
        total: u64,
        cached: bool,
        output: *const c_void,
        length: usize,
        data: *mut c_void,
    ) -> c_int,
>;

/// Builds an image. request is a JSON object: either "from" (an image, or "scratch") and "steps", or "file", the text of a
/// Dockerfile with one stage, and "file_name", what errors call it. A step is a line of a Dockerfile ("RUN make", "ENV
/// A=b"; also COPY, LABEL, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL, ARG) or an object: {"run": ["make"]},
/// {"copy": {"sources": ["a"], "to": "/srv/", "chown": "web", "chmod": "755"}}, {"files": {"/etc/motd": "hello"}}, {"env":
/// {"A": "b"}} and so on. Further: "context" (the directory that is copied from), "names" (of the image), "args" (values of
/// ARG), "no_cache" (do every step anew), and "spec" (a specification, as of stockade_spec_to_json: the limits, network and
/// volumes of what is run; by default no network, 1 GiB of disk and 262144 files). What a step comes to is kept in the
/// store, and not done again while all that it is made of is the same. watch may be NULL. json receives the image.
/// STOCKADE_ERROR_IMAGE with the step "run" if a program fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stockade_store_build(
    store: Option<&stockade_store>,
    request: *const c_char,
    watch: stockade_build_watch,
    data: *mut c_void,
    json: Option<&mut MaybeUninit<*mut c_char>>,
    error: Option<&mut MaybeUninit<*mut stockade_error>>,
) -> c_int {
    give((json, "json"), null_mut(), error, || {
        let store = required(store, "store")?.inner();
        // SAFETY: the caller's promise.
        let request = unsafe { c_text(request, "request") }?;
        let mut watch = |event: &BuildEvent<'_>| {
            let Some(watch) = watch else {
                return ControlFlow::Continue(());
            };
            let step;
            let (step, number, total, cached, output) = match *event {
                BuildEvent::Step {
                    number,
                    total,
                    text,
                    cached,
                } => {
                    step = c_string(text);
                    (step.as_ptr(), number as u64, total as u64, cached, &[][..])
                }
                BuildEvent::Output(output) => (null(), 0, 0, false, output),
            };
            let (output, length) = (output.as_ptr().cast(), output.len());
            // SAFETY: who made the call has promised that it can be called with this data; the rest lives through it.
            match unsafe { watch(step, number, total, cached, output, length, data) } {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        text(&BuildRequest::from_json(request)?.build(store, &mut watch)?)
    })
}
