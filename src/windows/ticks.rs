//! Log time, small enough to keep many: times in, 32-bit ticks out.

use std::time::Duration;

use crate::time::Timestamp;

/// Longest window in ticks, a quarter of what a stamp can tell apart.
const MAX_WINDOW: u32 = 1 << 30;

/// Times as 32-bit ticks after a moving base: milliseconds, or seconds for windows beyond 12 days. Ticks are counted
/// from 1970, so that whole seconds lose nothing and the inclusive edge of the window is exact for them.
pub(super) struct Ticks {
    /// Length of a tick in microseconds: [`MILLISECOND`] or [`SECOND`].
    length: i64,
    /// In ticks. The kernel compares with whole jiffies likewise.
    window: u32,
    /// The tick since 1970 that is 0 here; half the range before the first hit, so that other logs may lag behind.
    base: Option<i64>,
}

const MILLISECOND: i64 = 1000;
const SECOND: i64 = 1_000_000;

/// Half of what a tick can reach: 24 days, or 68 years.
const HALF: i64 = 1 << 31;

impl Ticks {
    pub(super) fn new(window: Duration) -> Ticks {
        let in_ticks =
            |length: i64| u32::try_from(window.as_micros() / u128::from(length.unsigned_abs())).unwrap_or(u32::MAX);
        let (milliseconds, seconds) = (in_ticks(MILLISECOND), in_ticks(SECOND));
        if milliseconds <= MAX_WINDOW {
            Ticks { length: MILLISECOND, window: milliseconds, base: None }
        } else {
            Ticks { length: SECOND, window: seconds.min(MAX_WINDOW), base: None }
        }
    }

    /// By how many ticks the base has to advance before this time has a tick; `None` where that is not why it has none.
    pub(super) fn overrun(&self, time: Timestamp) -> Option<u64> {
        let (tick, base) = (self.since_1970(time), self.base?);
        u64::try_from(tick - HALF - base).ok().filter(|by| *by >= HALF.unsigned_abs())
    }

    /// To be called once every tick that is kept has been made smaller by as much.
    pub(super) fn advance(&mut self, by: u64) {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        self.base = self.base.map(|base| base.saturating_add(by));
    }

    /// Forgets everything: the next time begins anew.
    pub(super) fn reset(&mut self) {
        self.base = None;
    }

    /// What a tick is after the base has advanced; `None` when it is out of reach.
    pub(super) fn shifted(tick: u32, by: u64) -> Option<u32> {
        u64::from(tick).checked_sub(by).and_then(|tick| u32::try_from(tick).ok()).filter(|tick| *tick > 0)
    }

    /// Whether a hit at `now` is one of those from `oldest` to `newest`, and the window holds them all.
    pub(super) fn holds(&self, (oldest, newest): (u32, u32), now: u32) -> bool {
        oldest <= now && oldest >= self.edge(newest)
    }

    /// Never 0. `None` for a time so long before the first hit that it cannot be told: such a hit does not count.
    pub(super) fn tick(&mut self, time: Timestamp) -> Option<u32> {
        let tick = self.since_1970(time);
        let base = *self.base.get_or_insert(tick - HALF);
        u32::try_from(tick - base).ok().filter(|tick| *tick > 0)
    }

    /// The processor divides by numbers that the compiler knows ten times faster.
    fn since_1970(&self, time: Timestamp) -> i64 {
        if self.length == MILLISECOND { time.as_micros() / MILLISECOND } else { time.as_micros() / SECOND }
    }

    /// The tick of a time without having it set the base.
    pub(super) fn known(&self, time: Timestamp) -> Option<u32> {
        u32::try_from(self.since_1970(time) - self.base?).ok()
    }

    /// The oldest tick that is still within the window.
    pub(super) fn edge(&self, now: u32) -> u32 {
        now.saturating_sub(self.window)
    }

    pub(super) fn time(&self, tick: u32) -> Timestamp {
        let ticks = self.base.unwrap_or_default() + i64::from(tick);
        Timestamp::from_micros(ticks.saturating_mul(self.length))
    }
}
