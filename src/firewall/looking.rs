//! When a backend is looked after, by whoever has it: the enforcer, which looks by itself and tells what it finds.

use std::time::{Duration, Instant};

use super::{Backend, FirewallError, Inspection};
use crate::time::Timestamp;

/// Between two looks at what is in the kernel: what others remove is back within two seconds. More often would wake an idle
/// machine more than once a second, with all else that it does; and being told by the kernel would cost everybody who changes
/// rules 20 us per element of a set.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1900);

/// When a backend was looked at, and when it is to be looked at again.
#[derive(Debug)]
pub(crate) struct Looking {
    looked: Instant,
    /// As the backend would have it.
    every: Duration,
}

impl Looking {
    /// After everything was put in order.
    pub(crate) fn after(backend: &dyn Backend) -> Looking {
        Looking { looked: Instant::now(), every: backend.look_every() }
    }

    /// How long there is nothing to do.
    pub(crate) fn rest(&self) -> Duration {
        self.every.saturating_sub(self.looked.elapsed())
    }

    /// What is found, where it is time to look.
    pub(crate) fn look(
        &mut self,
        backend: &mut dyn Backend,
        now: Timestamp,
    ) -> Option<Result<Inspection, FirewallError>> {
        self.rest().is_zero().then(|| self.look_now(backend, now))
    }

    pub(crate) fn look_now(&mut self, backend: &mut dyn Backend, now: Timestamp) -> Result<Inspection, FirewallError> {
        let found = look_over(backend, now);
        self.looked = Instant::now();
        found
    }
}

/// What is found; what the kernel would forget too early is renewed too.
pub(crate) fn look_over(backend: &mut dyn Backend, now: Timestamp) -> Result<Inspection, FirewallError> {
    backend.inspect(now).and_then(|found| backend.rearm(now).map(|()| found))
}
