//! Values made once in a process, without a lock.

use std::convert::Infallible;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value for a `static`, made at its first use.
///
/// A child that is forked while another thread makes the value of a `OnceLock` waits for it forever, as that thread is
/// not in the child. Here two threads may both make the value; the first one stored is kept.
pub(crate) struct Once<T>(AtomicPtr<T>);

impl<T: Send + Sync + 'static> Once<T> {
    pub const fn new() -> Self {
        Once(AtomicPtr::new(ptr::null_mut()))
    }

    pub fn get_or_init(&'static self, make: impl FnOnce() -> T) -> &'static T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The same of what can fail, which then is tried again the next time.
    pub fn get_or_try_init<E>(
        &'static self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'static T, E> {
        let stored = self.0.load(Ordering::Acquire);
        // SAFETY: a pointer that was ever stored is a leaked box, and is never changed or freed.
        if let Some(value) = unsafe { stored.as_ref() } {
            return Ok(value);
        }
        let new = Box::into_raw(Box::new(make()?));
        Ok(
            match self
                .0
                .compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: leaked by the store.
                Ok(_) => unsafe { &*new },
                Err(stored) => {
                    // SAFETY: nobody has seen `new`.
                    drop(unsafe { Box::from_raw(new) });
                    // SAFETY: as above, of the pointer that was stored first.
                    unsafe { &*stored }
                }
            },
        )
    }
}
