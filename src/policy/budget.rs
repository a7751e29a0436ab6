//! What forgeable evidence may do in all: whoever spoofs addresses can make it point at anybody, so its bans are few.

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;
use crate::windows::bucket::{Bucket, Level};

/// The two limits, and how far the first is used up.
#[derive(Debug)]
pub(crate) struct Budget {
    /// New bans a minute on average, as many at once.
    per_minute: u32,
    /// Bans that stand at the same time.
    at_a_time: usize,
    /// No ban from forgeable evidence is longer.
    pub(super) longest: Duration,
    bucket: Bucket,
    level: Level,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    PerMinute(u32),
    AtATime(usize),
}

impl Budget {
    pub(crate) fn new(per_minute: u32, at_a_time: usize, longest: Duration) -> Budget {
        let interval = Duration::from_secs(60) / per_minute.max(1);
        let bucket = Bucket::new(interval, per_minute);
        Budget { per_minute, at_a_time, longest, bucket, level: Level::default() }
    }

    /// Another one in the same state, to ask what would be.
    pub(crate) fn copy(&self) -> Budget {
        Budget { level: self.level, ..Budget::new(self.per_minute, self.at_a_time, self.longest) }
    }

    /// New limits after a reload. What was used up stays used up.
    pub(crate) fn change(&mut self, per_minute: u32, at_a_time: usize, longest: Duration) {
        *self = Budget { level: self.level, ..Budget::new(per_minute, at_a_time, longest) };
    }

    /// Takes one ban from the budget, while so many stand. Nothing is taken when it is refused.
    pub(super) fn take(&mut self, standing: usize, now: Timestamp) -> Result<(), Exceeded> {
        if standing >= self.at_a_time {
            Err(Exceeded::AtATime(self.at_a_time))
        } else if self.per_minute > 0 && self.bucket.take(&mut self.level, now) {
            Ok(())
        } else {
            Err(Exceeded::PerMinute(self.per_minute))
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::PerMinute(bans) => write!(f, "forgeable evidence makes {bans} bans a minute at most"),
            Exceeded::AtATime(bans) => write!(f, "forgeable evidence has {bans} bans at a time at most"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(86_400);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_795_224_600 + seconds)
    }

    #[test]
    fn as_many_bans_as_a_minute_has_at_once_and_then_one_by_one() {
        let mut budget = Budget::new(30, 1000, LONG);
        assert_eq!((0..100).filter(|_| budget.take(0, at(0)).is_ok()).count(), 30);
        assert_eq!(budget.take(0, at(1)), Err(Exceeded::PerMinute(30)));
        assert_eq!(budget.take(0, at(2)), Ok(()));
        assert_eq!((0..100).filter(|_| budget.take(0, at(62)).is_ok()).count(), 30);
    }

    #[test]
    fn too_many_standing_bans_cost_nothing_of_the_minute() {
        let mut budget = Budget::new(1, 10, LONG);
        assert_eq!(budget.take(10, at(0)), Err(Exceeded::AtATime(10)));
        assert_eq!(budget.take(9, at(0)), Ok(()));
        assert_eq!(budget.take(9, at(0)), Err(Exceeded::PerMinute(1)));
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        assert_eq!(Budget::new(0, 10, LONG).take(0, at(0)), Err(Exceeded::PerMinute(0)));
        assert_eq!(Budget::new(10, 0, LONG).take(0, at(0)), Err(Exceeded::AtATime(0)));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_bans_for_longer_than_a_minute() {
        let mut budget = Budget::new(60, 10, LONG);
        assert_eq!(budget.take(0, at(0)), Ok(()));
        assert_eq!(budget.take(0, at(-7200)), Err(Exceeded::PerMinute(60)));
        assert_eq!(budget.take(0, at(-7199)), Ok(()));
    }

    #[test]
    fn a_reload_does_not_refill_the_budget() {
        let mut budget = Budget::new(1, 10, LONG);
        assert_eq!(budget.take(0, at(0)), Ok(()));
        budget.change(1, 20, LONG);
        assert_eq!(budget.take(15, at(1)), Err(Exceeded::PerMinute(1)));
    }
}
