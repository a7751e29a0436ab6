//! Notices that the wall clock was set, and moves the ends of bans with it: a ban lasts as long as it was given for,
//! whatever the clock says meanwhile.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::guard::Guard;
use crate::pipeline::event::{Event, Kind};
use crate::time::{Timestamp, format_duration};

/// A smaller step, in microseconds, is none: clocks are slewed, and two of them are never read at the same moment.
const LEAST: u64 = 5_000_000;

/// How far the wall clock is ahead of the time since boot, which nobody sets and which goes on while the machine sleeps.
#[derive(Debug)]
pub(super) struct Clock(i64);

impl Clock {
    pub(super) fn new() -> Clock {
        // It is there since Linux 2.6.39.
        let since_boot = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        Clock(Timestamp::now().as_micros() - i64::try_from(since_boot.as_micros()).unwrap_or(i64::MAX))
    }

    /// By how many microseconds the clock was set since the last look.
    fn step(&mut self) -> Option<i64> {
        let Clock(before) = std::mem::replace(self, Clock::new());
        let step = self.0 - before;
        (step.unsigned_abs() >= LEAST).then_some(step)
    }
}

impl Guard {
    /// To be called before anything is done with the time.
    pub(super) fn notice_clock(&mut self) {
        let Some(step) = self.clock.step() else { return };
        self.move_ends(step, "the clock was set");
        let now = Timestamp::now();
        self.pipeline.rewind(now);
        self.firewall.sync(self.pipeline.ledger.entries(now));
        self.due.blocklist = Some(Instant::now());
        self.store(None);
        self.renew_allowlist();
    }

    /// A clock that is behind what the ledger knows is wrong, and will be set.
    pub(super) fn mistrust_clock(&mut self, now: Timestamp) {
        let Some(latest) = self.pipeline.ledger.latest() else { return };
        let step = now.as_micros() - latest.as_micros();
        if step < 0 && step.unsigned_abs() >= LEAST {
            self.move_ends(step, "the clock is behind the latest ban and so is wrong");
        }
    }

    fn move_ends(&mut self, step: i64, why: &str) {
        self.pipeline.ledger.move_ends(step);
        let length = format_duration(Duration::from_micros(step.unsigned_abs()));
        let way = if step < 0 { "back" } else { "forward" };
        let text =
            format!("{why}: ends of bans are moved {way} by {length}, so that each lasts as long as it was given for");
        self.chronicle.tell(Event::new(Timestamp::now(), Kind::Trouble, text));
    }
}
