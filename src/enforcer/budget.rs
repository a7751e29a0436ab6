//! How many entries the brain may have: at a time, and how fast they become more. Wide enough for the longest list that
//! people import; what is beyond is no attack that a log shows but a brain gone wrong.

use std::time::{Duration, Instant};

/// Most entries at a time.
pub(super) const MOST: usize = 16_000_000;
/// Most new ones per minute: one list of the longest kind.
const PER_MINUTE: usize = 4_000_000;
const MINUTE: Duration = Duration::from_secs(60);

pub(super) const OVER: &str = "more entries than its budget has room for; it is tried again";

#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    per_minute: usize,
    /// New entries that may come now; `None` until the first list, which is the whole ledger.
    room: Option<usize>,
    filled: Instant,
    /// Entries that stand, at most.
    standing: usize,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget::of(MOST, PER_MINUTE)
    }

    pub(super) fn of(most: usize, per_minute: usize) -> Budget {
        Budget { most, per_minute, room: None, filled: Instant::now(), standing: 0 }
    }

    /// How many of a list that replaces all entries may stand.
    pub(super) fn list(&mut self, wanted: usize, now: Instant) -> usize {
        let first = self.room.is_none();
        let room = self.refill(now);
        let most = if first { self.most } else { self.most.min(self.standing.saturating_add(room)) };
        let granted = wanted.min(most);
        if !first {
            self.room = Some(room - granted.saturating_sub(self.standing));
        }
        self.standing = granted;
        granted
    }

    /// How many of these entries may be added.
    pub(super) fn changes(&mut self, wanted: usize, now: Instant) -> usize {
        let room = self.refill(now);
        let granted = wanted.min(room).min(self.most - self.standing.min(self.most));
        self.room = Some(room - granted);
        self.standing += granted;
        granted
    }

    /// The kernel holds so many: others have ended by themselves, or were taken out.
    pub(super) fn holds(&mut self, count: usize) {
        self.standing = count;
    }

    fn refill(&mut self, now: Instant) -> usize {
        let room = self.room.unwrap_or(self.per_minute);
        let elapsed = now.saturating_duration_since(self.filled).min(MINUTE);
        self.filled = now;
        let fresh = (self.per_minute as u128 * elapsed.as_millis()).div_ceil(MINUTE.as_millis());
        let room = room.saturating_add(usize::try_from(fresh).unwrap_or(usize::MAX)).min(self.per_minute);
        self.room = Some(room);
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_is_as_long_as_the_ledger_and_later_ones_grow_slowly() {
        let (mut budget, start) = (Budget::of(1000, 60), Instant::now());
        assert_eq!(budget.list(900, start), 900);
        assert_eq!(budget.list(900, start), 900, "the same again is nothing new");
        assert_eq!(budget.list(990, start), 960);
        assert_eq!(budget.list(990, start), 960);
        assert_eq!(budget.list(2000, start + MINUTE), 1000, "and never more than the most");
    }

    #[test]
    fn additions_are_bounded_per_minute_and_come_back_with_time() {
        let (mut budget, start) = (Budget::of(1000, 60), Instant::now());
        assert_eq!(budget.list(0, start), 0);
        assert_eq!(budget.changes(100, start), 60);
        assert_eq!(budget.changes(100, start), 0);
        assert_eq!(budget.changes(100, start + Duration::from_secs(30)), 30);
        budget.holds(0);
        assert_eq!(budget.changes(100, start + 2 * MINUTE), 60, "what is not used is not saved up");
    }
}
