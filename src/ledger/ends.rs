//! What ends next. Only the soonest ends are kept in order: of a million bans nearly all end later than anybody asks for,
//! and an order of them all would weigh as much as they do.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use crate::time::Timestamp;

/// Most ends that are kept in order. When all of them have passed, the ledger is looked through for the next.
#[cfg(not(test))]
const MOST: usize = 8192;
#[cfg(test)]
const MOST: usize = 4;

/// Something that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Ban(IpNet, Arc<str>),
    List(Arc<str>),
    Grant(IpNet),
}

#[derive(Debug, Default)]
pub(super) struct Ends {
    soonest: BTreeSet<(Timestamp, Ending)>,
    /// What ends before this is among the soonest; what ends then or later may be. `None` when all are.
    horizon: Option<Timestamp>,
}

impl Ends {
    pub(super) fn insert(&mut self, end: Timestamp, ending: Ending) {
        if !self.is_soon(end) {
            return;
        }
        self.soonest.insert((end, ending));
        if self.soonest.len() > MOST
            && let Some((last, _)) = self.soonest.pop_last()
        {
            self.horizon = Some(last);
        }
    }

    /// Whether an end then would be kept: else there is no need to say what ends.
    pub(super) fn is_soon(&self, end: Timestamp) -> bool {
        self.horizon.is_none_or(|horizon| end < horizon)
    }

    pub(super) fn remove(&mut self, end: Timestamp, ending: Ending) {
        self.soonest.remove(&(end, ending));
    }

    /// The next end. `Err` when the ledger must be looked through to know more than that nothing ends before.
    pub(super) fn next(&self) -> Option<Result<Timestamp, Timestamp>> {
        let soonest = self.soonest.first().map(|(end, _)| Ok(*end));
        soonest.or(self.horizon.map(Err))
    }

    /// Takes out what ends first, if it has by now.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, Ending)> {
        self.soonest.first().filter(|(end, _)| *end <= now)?;
        self.soonest.pop_first()
    }

    /// Nothing is known any more: all that ends is to be inserted again.
    pub(super) fn clear(&mut self) {
        *self = Ends::default();
    }
}
