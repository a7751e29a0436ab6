//! The token bucket of `limit` windows and of budgets: governor's GCRA, with the caller's time as its clock and the
//! caller's word of memory as its state.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::time::Timestamp;

/// Longest time to fill a bucket, in nanoseconds (73 years), and the last moment, with which no sum overflows.
const LONGEST_FILL: u64 = 1 << 61;
const LAST_NANO: u64 = 1 << 63;

/// The rule of any number of buckets: one token per interval, `burst` tokens at most.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds per token, and to fill an empty bucket.
    interval: u64,
    fill: u64,
    limiter: RateLimiter<NotKeyed, Word, Word, NoOpMiddleware<Nanos>>,
    state: Word,
    clock: Word,
}

/// All that one bucket has to remember: the moment when it will be full again. A new one is full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    full_at: u64,
}

/// What governor reads and writes in place of a clock and a store of its own: set before, and read after, each question.
#[derive(Clone, Debug, Default)]
struct Word(Arc<AtomicU64>);

impl Clock for Word {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Relaxed))
    }
}

impl StateStore for Word {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(Nanos::new(self.0.load(Relaxed))))?;
        self.0.store(next.as_u64(), Relaxed);
        Ok(outcome)
    }
}

impl Bucket {
    /// `burst` is at least 1; the interval at least a nanosecond, and so short that 73 years fill the bucket.
    pub(crate) fn new(interval: Duration, burst: u32) -> Bucket {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let longest = LONGEST_FILL / u64::from(burst.get());
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).clamp(1, longest);
        let quota = Quota::with_period(Duration::from_nanos(interval)).expect("the interval is not zero");
        let (state, clock) = (Word::default(), Word::default());
        let limiter = RateLimiter::new(quota.allow_burst(burst), state.clone(), clock.clone());
        Bucket { interval, fill: interval * u64::from(burst.get()), limiter, state, clock }
    }

    /// Takes a token, if there is one. Nothing is emptier than empty: a clock that was set back costs one filling at most.
    pub(crate) fn take(&self, level: &mut Level, now: Timestamp) -> bool {
        self.clock.0.store(nanos(now), Relaxed);
        self.state.0.store(level.full_at.min(nanos(now) + self.fill), Relaxed);
        let taken = self.limiter.check().is_ok();
        level.full_at = self.state.0.load(Relaxed);
        taken
    }

    /// How many tokens were taken from a bucket that was full at `since` and has not been full again.
    pub(crate) fn taken_since(&self, level: Level, since: Timestamp) -> u32 {
        u32::try_from(level.until_full(since) / self.interval).unwrap_or(u32::MAX)
    }
}

impl Level {
    /// As [`Level::get`] gave it.
    pub(crate) fn of(full_at: u64) -> Level {
        Level { full_at }
    }

    pub(crate) fn get(self) -> u64 {
        self.full_at
    }

    pub(crate) fn is_full(self, now: Timestamp) -> bool {
        self.until_full(now) == 0
    }

    /// Nanoseconds until the bucket is full again: the more, the emptier it is.
    pub(crate) fn until_full(self, now: Timestamp) -> u64 {
        self.full_at.saturating_sub(nanos(now))
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(0).saturating_mul(1000).min(LAST_NANO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let bucket = Bucket::new(Duration::MAX, u32::MAX);
        let mut level = Level::default();
        let last = Timestamp::from_micros(i64::MAX);
        for _ in 0..100 {
            assert!(bucket.take(&mut level, last));
        }
        assert_eq!(level.until_full(last), 100 * bucket.interval);
    }

    #[test]
    fn a_clock_that_was_set_back_by_hours_costs_one_filling_at_most() {
        let bucket = Bucket::new(Duration::from_secs(1), 3);
        let mut level = Level::default();
        assert!(bucket.take(&mut level, Timestamp::from_secs(100_000)));
        assert!(!bucket.take(&mut level, Timestamp::from_secs(50_000)));
        assert!(bucket.take(&mut level, Timestamp::from_secs(50_001)));
        assert!(!bucket.take(&mut level, Timestamp::from_secs(50_001)));
    }

    #[test]
    fn a_bucket_of_nothing_still_has_one_token() {
        let bucket = Bucket::new(Duration::from_secs(1), 0);
        let mut level = Level::default();
        assert!(bucket.take(&mut level, Timestamp::from_secs(9)));
        assert!(!bucket.take(&mut level, Timestamp::from_secs(9)));
        assert!(bucket.take(&mut level, Timestamp::from_secs(10)));
    }
}
