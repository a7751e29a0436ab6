//! Lists that are loaded while attacks are banned: a part at a time, so that no ban waits behind a million others.

use std::collections::{HashSet, VecDeque};

use ipnet::IpNet;

use super::task::{Done, key_of};
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
}

impl Bulk {
    pub(super) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    pub(super) fn push(&mut self, changes: Vec<Change>, done: Option<Done>) {
        // New entries come before old ones go, so that no packet passes in between.
        let (set, gone): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| matches!(change, Change::Set(_)));
        let changes = if gone.is_empty() { set } else { set.into_iter().chain(gone).collect() };
        self.loads.push_back(Load { changes: changes.into_iter(), done });
    }

    /// This was changed after all that is still to be done was asked for.
    pub(super) fn overtake(&mut self, change: &Change) {
        if !self.loads.is_empty() {
            self.overtaken.insert(key_of(change));
        }
    }

    /// The next part; and who waits for it, if it is the last of its list.
    pub(super) fn next(&mut self) -> Option<(Vec<Change>, Option<Done>)> {
        let load = self.loads.front_mut()?;
        let overtaken = &self.overtaken;
        let part = load.changes.by_ref().filter(|change| !overtaken.contains(&key_of(change))).take(PART).collect();
        if load.changes.len() > 0 {
            return Some((part, None));
        }
        let done = self.loads.pop_front().and_then(|load| load.done);
        if self.loads.is_empty() {
            self.overtaken = HashSet::new();
        }
        Some((part, done))
    }

    /// Forgets everything, for a list that contains it; who waits.
    pub(super) fn clear(&mut self) -> Vec<Done> {
        self.overtaken = HashSet::new();
        std::mem::take(&mut self.loads).into_iter().filter_map(|load| load.done).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
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
        let (first, nobody) = bulk.next().unwrap();
        assert!(nobody.is_none() && first.contains(&change(1, true)), "what came before the list is older than it");
        bulk.overtake(&change(count - 1, false));
        let (second, waiting) = bulk.next().unwrap();
        assert_eq!(second.len(), PART - 1);
        assert_eq!(second.last(), Some(&change(7, false)), "what goes comes last");
        assert!(!second.contains(&change(count - 1, true)));
        assert!(answer.try_recv().is_err());
        waiting.unwrap().send(Ok(())).unwrap();
        assert!(bulk.is_empty() && bulk.next().is_none());
    }
}
