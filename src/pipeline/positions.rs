//! How far each log of a source was read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sources::Position;

/// The positions of all logs of one source.
#[derive(Debug, Default)]
pub(crate) struct Positions(BTreeMap<Arc<str>, Trail>);

#[derive(Debug)]
struct Trail {
    position: Position,
    /// Whether it moved since it was last taken.
    moved: bool,
}

impl Positions {
    pub(crate) fn new(positions: &HashMap<Arc<str>, Position>) -> Positions {
        let trail = |position: &Position| Trail { position: position.clone(), moved: false };
        Positions(positions.iter().map(|(log, position)| (log.clone(), trail(position))).collect())
    }

    /// Everything of this log up to `position` has had its consequences.
    pub(crate) fn advance(&mut self, log: &Arc<str>, position: Position) {
        self.0.insert(log.clone(), Trail { position, moved: true });
    }

    /// The logs that moved since this was last asked.
    pub(crate) fn take_moved(&mut self) -> Vec<(Arc<str>, Position)> {
        let moved = self.0.iter_mut().filter(|(_, trail)| trail.moved);
        let taken = moved.map(|(log, trail)| {
            trail.moved = false;
            (log.clone(), trail.position.clone())
        });
        taken.collect()
    }

    pub(crate) fn current(&self) -> HashMap<Arc<str>, Position> {
        self.0.iter().map(|(log, trail)| (log.clone(), trail.position.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_did_not_move_is_not_written_again() {
        let mut positions = Positions::default();
        positions.advance(&"kmsg".into(), Position::Kmsg { boot: "b".to_owned(), sequence: 1 });
        assert_eq!(positions.take_moved().len(), 1);
        assert!(positions.take_moved().is_empty());
    }
}
