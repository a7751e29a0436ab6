//! Mutexes as they are taken everywhere here.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes it, also where whoever had it has panicked: a thread of the daemon that does ends the process.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
