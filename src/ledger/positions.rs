//! How far each log of each source was read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::sources::Position;
use crate::time::Timestamp;

/// Most logs whose positions are kept; the one not seen for the longest time goes first.
const MAX_POSITIONS: usize = 10_000;

/// A log not seen for this long, counted back from when any log was seen last, is forgotten: a machine that was
/// switched off for a month forgets nothing.
const FORGET: Duration = Duration::from_secs(30 * 86_400);

/// A position that did not move is written again after this long, to say that its log was seen.
const SEEN_AGAIN: Duration = Duration::from_secs(86_400);

/// A source's stable name, and one of its logs.
pub(super) type LogName = (Arc<str>, Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    position: Position,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Positions(BTreeMap<LogName, Seen>);

/// What is to be recorded of a position that was set.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) set: Option<LogName>,
    pub(super) forgotten: Option<LogName>,
}

impl Positions {
    pub(super) fn set(&mut self, source: &str, log: &str, position: &Position, now: Timestamp) -> Moved {
        let name: LogName = (source.into(), log.into());
        if let Some(seen) = self.0.get_mut(&name) {
            if seen.position == *position && now.since(seen.at) < SEEN_AGAIN {
                return Moved::default();
            }
            *seen = Seen { position: position.clone(), at: now };
            return Moved { set: Some(name), forgotten: None };
        }
        let forgotten = if self.0.len() >= MAX_POSITIONS { self.longest_unseen() } else { None };
        if let Some(name) = &forgotten {
            self.0.remove(name);
        }
        self.load(name.clone(), position.clone(), now);
        Moved { set: Some(name), forgotten }
    }

    pub(super) fn load(&mut self, name: LogName, position: Position, seen: Timestamp) {
        self.0.insert(name, Seen { position, at: seen });
    }

    /// Forgets the logs that were not seen for long; they are handed back.
    pub(super) fn forget(&mut self) -> Vec<LogName> {
        let Some(latest) = self.0.values().map(|seen| seen.at).max() else { return Vec::new() };
        let old = |seen: &Seen| latest.since(seen.at) > FORGET;
        let names: Vec<LogName> = self.0.iter().filter(|(_, seen)| old(seen)).map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.0.remove(name);
        }
        names
    }

    pub(super) fn of(&self, source: &str) -> HashMap<Arc<str>, Position> {
        let of_source = self.0.iter().filter(|((name, _), _)| &**name == source);
        of_source.map(|((_, log), seen)| (Arc::clone(log), seen.position.clone())).collect()
    }

    fn longest_unseen(&self) -> Option<LogName> {
        self.0.iter().min_by_key(|(_, seen)| seen.at).map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Position;

    fn at(sequence: u64) -> Position {
        Position::Kmsg { boot: "b".to_owned(), sequence }
    }

    const DAY: i64 = 86_400;

    #[test]
    fn a_log_not_seen_for_thirty_days_is_forgotten_while_another_is_seen() {
        let mut positions = Positions::default();
        positions.set("files", "old", &at(1), Timestamp::from_secs(0));
        positions.set("files", "new", &at(2), Timestamp::from_secs(29 * DAY));
        assert!(positions.forget().is_empty());
        positions.set("files", "new", &at(3), Timestamp::from_secs(31 * DAY));
        assert_eq!(positions.forget(), [("files".into(), "old".into())]);
        assert_eq!(positions.of("files"), HashMap::from([("new".into(), at(3))]));
    }

    #[test]
    fn a_position_that_did_not_move_is_recorded_once_a_day() {
        let mut positions = Positions::default();
        assert!(positions.set("kernel", "kmsg", &at(1), Timestamp::from_secs(0)).set.is_some());
        assert!(positions.set("kernel", "kmsg", &at(1), Timestamp::from_secs(DAY - 1)).set.is_none());
        assert!(positions.set("kernel", "kmsg", &at(1), Timestamp::from_secs(DAY)).set.is_some());
    }

    #[test]
    fn the_number_of_positions_is_bounded() {
        let mut positions = Positions::default();
        for number in 0..MAX_POSITIONS {
            let now = Timestamp::from_secs(i64::try_from(number).unwrap());
            positions.set("files", &number.to_string(), &at(1), now);
        }
        let moved = positions.set("files", "one more", &at(1), Timestamp::from_secs(i64::from(u16::MAX)));
        assert_eq!(moved.forgotten, Some(("files".into(), "0".into())));
        assert_eq!(positions.of("files").len(), MAX_POSITIONS);
    }
}
