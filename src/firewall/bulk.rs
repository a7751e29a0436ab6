//! Lists that are loaded while attacks are banned: a part at a time, so that no ban waits behind a million others.

use std::collections::{HashMap, VecDeque};

use ipnet::IpNet;

use super::task::{Done, key_of};
use super::undone::Undone;
use crate::ledger::{Change, Scope};

/// More changes at once are a list, and done in parts of so many: half a millisecond of ipset's time.
pub(super) const PART: usize = 512;

/// What is still to be done, in its order.
#[derive(Default)]
pub(super) struct Bulk {
    loads: VecDeque<Load>,
    /// How many there were so far.
    pushed: u64,
    /// Changed since so many were there: what those say of them is old.
    overtaken: HashMap<(IpNet, Scope), u64>,
}

struct Load {
    number: u64,
    changes: std::vec::IntoIter<Change>,
    /// Parts that are on their way.
    ahead: usize,
    done: Option<Done>,
    /// Of all parts so far.
    undone: Undone,
}

impl Bulk {
    pub(super) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    pub(super) fn push(&mut self, changes: Vec<Change>, done: Option<Done>) {
        // New entries come before old ones go, so that no packet passes in between. Those of one kind come together.
        let mut changes = changes;
        changes.sort_by_cached_key(|change| (matches!(change, Change::Clear { .. }), kind_of(change)));
        self.pushed += 1;
        let (number, changes) = (self.pushed, changes.into_iter());
        self.loads.push_back(Load { number, changes, ahead: 0, done, undone: Undone::default() });
    }

    /// This was changed after all that is still to be done was asked for.
    pub(super) fn overtake(&mut self, change: &Change) {
        if !self.loads.is_empty() {
            self.overtaken.insert(key_of(change), self.pushed);
        }
    }

    /// The next part: what is set, or what goes. What became of it is to be [noted](Bulk::note), in the order of parts.
    pub(super) fn next(&mut self) -> Option<Vec<Change>> {
        let load = self.loads.iter_mut().find(|load| load.changes.len() > 0)?;
        load.ahead += 1;
        let part = load.changes.as_slice().get(..PART).unwrap_or(load.changes.as_slice());
        let sets = part.partition_point(|change| matches!(change, Change::Set(_)));
        let length = if sets > 0 { sets } else { part.len() };
        let (number, overtaken) = (load.number, &self.overtaken);
        let is_old = |change: &Change| overtaken.get(&key_of(change)).is_some_and(|last| number <= *last);
        Some(load.changes.by_ref().take(length).filter(|change| overtaken.is_empty() || !is_old(change)).collect())
    }

    /// What of the first part on its way was not done. After the last part of a list: who waits for it, and what was not
    /// done of all.
    pub(super) fn note(&mut self, undone: Undone) -> Option<(Option<Done>, Undone)> {
        let load = self.loads.front_mut()?;
        load.undone.add(undone);
        load.ahead -= 1;
        if load.ahead > 0 || load.changes.len() > 0 {
            return None;
        }
        let load = self.loads.pop_front()?;
        if self.loads.is_empty() {
            self.overtaken = HashMap::new();
        }
        Some((load.done, load.undone))
    }

    /// Forgets everything, for a list that contains it; who waits.
    pub(super) fn clear(&mut self) -> Vec<Done> {
        self.overtaken = HashMap::new();
        std::mem::take(&mut self.loads).into_iter().filter_map(|load| load.done).collect()
    }
}

/// What decides which set of a backend it concerns: a part of one kind is one transaction.
fn kind_of(change: &Change) -> (bool, u8) {
    let prefix = change.prefix();
    (prefix.addr().is_ipv6(), prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::firewall::Refused;
    use crate::ledger::Entry;
    use crate::time::Until;

    fn change(number: u32, sets: bool) -> Change {
        let (prefix, scope) = (IpNet::from(IpAddr::from(Ipv4Addr::from(number))), Scope::default());
        if sets { Change::Set(Entry { prefix, scope, until: Until::Forever }) } else { Change::Clear { prefix, scope } }
    }

    #[test]
    fn what_changed_meanwhile_is_not_undone_and_the_end_is_told_once() {
        let mut bulk = Bulk::default();
        bulk.overtake(&change(1, false));
        let (done, mut answer) = tokio::sync::oneshot::channel();
        let count = u32::try_from(PART).unwrap() * 2;
        bulk.push((0..count).map(|number| change(number, number != 7)).collect(), Some(done));
        let first = bulk.next().unwrap();
        assert!(first.contains(&change(1, true)), "what came before the list is older than it");
        let refused = |count, first: &str| Some(Refused { count, first: first.to_owned() });
        bulk.overtake(&change(count - 1, false));
        let second = bulk.next().unwrap();
        assert_eq!(second.len(), PART - 2, "it is no longer than what is set");
        assert!(!second.contains(&change(count - 1, true)));
        assert_eq!(bulk.next().unwrap(), [change(7, false)], "what goes comes last");
        assert!(bulk.next().is_none());
        assert!(bulk.note(Undone { refused: refused(2, "one"), full: Some("no room".to_owned()) }).is_none());
        assert!(bulk.note(Undone::default()).is_none());
        assert!(answer.try_recv().is_err());
        let (waiting, undone) = bulk.note(Undone { refused: refused(1, "two"), full: None }).unwrap();
        waiting.unwrap().send(undone.answer()).unwrap();
        let said = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(said, "the enforcer refuses this: one (and 2 more); no room", "of all parts");
        assert!(bulk.is_empty() && bulk.next().is_none());
    }

    #[test]
    fn what_changed_before_a_list_is_older_than_it_though_another_was_still_to_be_done() {
        let mut bulk = Bulk::default();
        bulk.push(vec![change(1, true), change(2, true)], None);
        bulk.overtake(&change(2, true));
        bulk.push(vec![change(2, false)], None);
        assert_eq!(bulk.next().unwrap(), [change(1, true)]);
        bulk.note(Undone::default());
        assert_eq!(bulk.next().unwrap(), [change(2, false)]);
    }
}
