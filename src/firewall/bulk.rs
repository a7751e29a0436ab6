//! Lists that are loaded while attacks are banned: a part at a time, so that no ban waits behind a million others.

use std::collections::{HashSet, VecDeque};

use ipnet::IpNet;

use super::task::{Done, key_of, prefix_of};
use super::undone::Undone;
use crate::ledger::{Change, Scope};

/// More changes at once are a list, and done in parts of so many: about a millisecond of the kernel's time.
pub(super) const PART: usize = 800;

/// What is still to be done, in its order.
#[derive(Default)]
pub(super) struct Bulk {
    loads: VecDeque<Load>,
    /// Changed meanwhile: what a list says of them is old.
    overtaken: HashSet<(IpNet, Scope)>,
}

struct Load {
    changes: std::vec::IntoIter<Change>,
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
        self.loads.push_back(Load { changes: changes.into_iter(), done, undone: Undone::default() });
    }

    /// This was changed after all that is still to be done was asked for.
    pub(super) fn overtake(&mut self, change: &Change) {
        if !self.loads.is_empty() {
            self.overtaken.insert(key_of(change));
        }
    }

    /// The next part. What became of it is to be [noted](Bulk::note).
    pub(super) fn next(&mut self) -> Option<Vec<Change>> {
        let load = self.loads.front_mut()?;
        let overtaken = &self.overtaken;
        Some(load.changes.by_ref().filter(|change| !overtaken.contains(&key_of(change))).take(PART).collect())
    }

    /// What of the last part was not done. After the last part of a list: who waits for it, and what was not done of all.
    pub(super) fn note(&mut self, undone: Undone) -> Option<(Option<Done>, Undone)> {
        let load = self.loads.front_mut()?;
        load.undone.add(undone);
        if load.changes.len() > 0 {
            return None;
        }
        let load = self.loads.pop_front()?;
        if self.loads.is_empty() {
            self.overtaken = HashSet::new();
        }
        Some((load.done, load.undone))
    }

    /// Forgets everything, for a list that contains it; who waits.
    pub(super) fn clear(&mut self) -> Vec<Done> {
        self.overtaken = HashSet::new();
        std::mem::take(&mut self.loads).into_iter().filter_map(|load| load.done).collect()
    }
}

/// What decides which set of a backend it concerns: a part of one kind is one transaction.
fn kind_of(change: &Change) -> (bool, u8) {
    let prefix = prefix_of(change);
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
        assert!(bulk.note(Undone { refused: refused(2, "one"), full: Some("no room".to_owned()) }).is_none());
        bulk.overtake(&change(count - 1, false));
        let second = bulk.next().unwrap();
        assert_eq!(second.len(), PART - 1);
        assert_eq!(second.last(), Some(&change(7, false)), "what goes comes last");
        assert!(!second.contains(&change(count - 1, true)));
        assert!(answer.try_recv().is_err());
        let (waiting, undone) = bulk.note(Undone { refused: refused(1, "two"), full: None }).unwrap();
        waiting.unwrap().send(undone.answer()).unwrap();
        let said = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(said, "the enforcer refuses this: one (and 2 more); no room", "of all parts");
        assert!(bulk.is_empty() && bulk.next().is_none());
    }
}
