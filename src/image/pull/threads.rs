//! The threads of a pull. They end before it does, and take none of the host's signals.

use super::blob::{Fetcher, Wanted};
use super::stop::{Stop, called_off};
use crate::error::Error;
use crate::image::{Digest, Progress};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::Duration;

/// How often the caller is told how far it is, and may call it off.
const TELL: Duration = Duration::from_millis(100);

/// The layers that are being downloaded, for those who watch.
pub(super) type Board = Mutex<Vec<Arc<Wanted>>>;

/// Starts a thread with every signal blocked: they are for the host's own.
fn spawn<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> io::Result<ScopedJoinHandle<'s, T>> {
    let own = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = Builder::new()
        .name("stockade-pull".into())
        .spawn_scoped(scope, work);
    own.thread_set_mask()?;
    started
}

/// Does the work in another thread, while this one tells how far it is.
pub(super) fn watched<T: Send>(
    stop: &Stop,
    board: &Board,
    tell: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    scope(|scope| {
        let (done, result) = channel();
        let thread = spawn(scope, move || done.send(work()))
            .map_err(|e| Error::system("start a thread", e))?;
        let mut told = BTreeMap::new();
        let mut show = || {
            let calls_off = show(board, &mut told, tell).is_break();
            if calls_off {
                stop.set();
            }
            calls_off
        };
        let result = loop {
            match result.recv_timeout(TELL) {
                Ok(result) => break result,
                // Once called off, nobody is asked again.
                Err(RecvTimeoutError::Timeout) if stop.is_set() => {}
                Err(RecvTimeoutError::Timeout) => {
                    show();
                }
                Err(RecvTimeoutError::Disconnected) => break Err(called_off()),
            }
        };
        // The end of the scope waits for the work only, and not for the thread.
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
        match result.is_ok() && show() {
            true => Err(called_off()),
            false => result,
        }
    })
}

/// Tells of each layer that is further than it was. If none is, it tells again of one, or that there is none yet: it can
/// be called off at any time.
fn show(
    board: &Board,
    told: &mut BTreeMap<Digest, u64>,
    tell: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let wanted = board.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let of = |layer: &Wanted, done| Progress {
        what: layer.what.clone(),
        done,
        total: Some(layer.size),
    };
    let mut any = false;
    for layer in &wanted {
        let done = layer.done.load(Ordering::Relaxed);
        if told.insert(layer.digest.clone(), done) != Some(done) {
            any = true;
            tell(&of(layer, done))?;
        }
    }
    let unfinished = |layer: &&Arc<Wanted>| told[&layer.digest] < layer.size;
    let again = wanted.iter().find(unfinished).or(wanted.last());
    match again {
        _ if any => ControlFlow::Continue(()),
        Some(layer) => tell(&of(layer, told[&layer.digest])),
        None => tell(&Progress {
            what: "registry".into(),
            done: 0,
            total: None,
        }),
    }
}

/// Downloads layers, `most` at a time. Gives the names that they have in the fetcher's scratch directory.
pub(super) fn fetch_all(
    fetcher: &Fetcher<'_, '_>,
    wanted: &[Arc<Wanted>],
    most: usize,
) -> Result<BTreeMap<Digest, String>, Error> {
    let next = AtomicUsize::new(0);
    let got = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    let work = || {
        while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            match fetcher.fetch(layer) {
                Ok(name) => {
                    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
                    got.insert(layer.digest.clone(), name);
                }
                Err(error) => {
                    // The first is the reason, and the others end because of it.
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                    fetcher.stop.set();
                    return;
                }
            }
        }
    };
    scope(|scope| {
        // If one cannot be started, fewer do it too.
        let others = (1..most.min(wanted.len())).map_while(|_| spawn(scope, work).ok());
        let others: Vec<_> = others.collect();
        work();
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(got.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}
