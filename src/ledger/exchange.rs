//! A list in the place of another one: what that changes, prefix by prefix.

use std::sync::Arc;

use ipnet::IpNet;

use super::book::Ledger;
use super::ends::Ending;
use super::lists::{List, ListError, union};
use super::{Change, Entry, Scope};
use crate::time::{Timestamp, Until};

/// A list that is to take the place of the one of its name. To find out what that touches takes a while for a million
/// prefixes, and so is done beside the ledger.
#[derive(Debug)]
pub(crate) struct Exchange {
    name: Arc<str>,
    old: Option<List>,
    new: Option<List>,
    /// What is banned from now on or has another end, then what is no longer in it, so that no packet passes in between;
    /// prefixes of one kind come together, because a backend keeps them in one set.
    touched: Vec<IpNet>,
}

impl Exchange {
    fn new(name: Arc<str>, old: Option<List>, new: Option<List>, all: bool) -> Exchange {
        let prefixes = |list: &Option<List>| list.as_ref().map(|list| Arc::clone(&list.prefixes)).unwrap_or_default();
        let end = |list: &Option<List>| list.as_ref().map(|list| list.until);
        let stays = end(&old) == end(&new) && !all;
        let (before, after) = (prefixes(&old), prefixes(&new));
        let steps = union(&before, &after).filter(|(_, was, is)| !(stays && *was && *is));
        let mut steps: Vec<(bool, IpNet)> = steps.map(|(prefix, _, is)| (!is, prefix)).collect();
        steps.sort_by_key(|(gone, prefix)| (*gone, prefix.addr().is_ipv6(), prefix.prefix_len()));
        let touched = steps.into_iter().map(|(_, prefix)| prefix).collect();
        Exchange { name, old, new, touched }
    }

    /// In the place of `old`, the list of that name now. `all`: with what stays as it is, as it may not be in force.
    pub(crate) fn of(new: List, old: Option<List>, all: bool) -> Exchange {
        Exchange::new(Arc::clone(&new.name), old, Some(new), all)
    }
}

impl Ledger {
    /// Puts a list in the place of the one of that name.
    pub(crate) fn put_list(
        &mut self,
        name: &str,
        prefixes: Vec<IpNet>,
        since: Timestamp,
        until: Until,
    ) -> Result<Vec<Change>, ListError> {
        self.exchange_whole(Exchange::of(List::new(name, prefixes, since, until), self.list(name).cloned(), false))
    }

    pub(crate) fn remove_list(&mut self, name: &str) -> Vec<Change> {
        let Some(old) = self.list(name).cloned() else { return Vec::new() };
        // Nothing is too much of what goes.
        self.exchange_whole(Exchange::new(Arc::clone(&old.name), Some(old), None, false)).unwrap_or_default()
    }

    /// With what it changes.
    fn exchange_whole(&mut self, exchange: Exchange) -> Result<Vec<Change>, ListError> {
        let before: Vec<Option<Until>> = exchange.touched.iter().map(|prefix| self.end_of(prefix)).collect();
        let touched = self.exchange(exchange)?;
        let steps = touched.into_iter().zip(before).filter_map(|(prefix, was)| {
            let is = self.end_of(&prefix);
            (was != is).then(|| step(prefix, is))
        });
        Ok(steps.collect())
    }

    /// Whether the list that this was made to replace is still the one that stands.
    pub(crate) fn fits(&self, exchange: &Exchange) -> bool {
        match (&exchange.old, self.list(&exchange.name)) {
            (Some(old), Some(now)) => Arc::ptr_eq(&old.prefixes, &now.prefixes) && old.until == now.until,
            (None, None) => true,
            _ => false,
        }
    }

    /// Exchanges a list at once, whatever its size. The prefixes whose [steps](Ledger::steps) are to follow, in this order;
    /// the exchange must [fit](Ledger::fits).
    pub(crate) fn exchange(&mut self, exchange: Exchange) -> Result<Vec<IpNet>, ListError> {
        let Exchange { name, old, new, touched } = exchange;
        if let Some(new) = &new {
            self.lists.check(new)?;
        }
        if let Some(Until::At(end)) = old.map(|old| old.until) {
            self.ends.remove(end, Ending::List(Arc::clone(&name)));
        }
        match new {
            Some(new) => self.restore_list(new),
            None => drop(self.lists.take(&name)),
        }
        self.record_list(name);
        Ok(touched)
    }

    /// What the kernel is to hold of each of these prefixes with all its ports, as things stand now: whatever changed since
    /// the exchange is in it. What it holds already is not left out.
    pub(crate) fn steps(&self, prefixes: &[IpNet]) -> Vec<Change> {
        prefixes.iter().map(|prefix| step(*prefix, self.end_of(prefix))).collect()
    }

    fn end_of(&self, prefix: &IpNet) -> Option<Until> {
        let listed = self.lists.end_of(prefix);
        if !self.bans.is_banned(prefix) {
            return listed;
        }
        let bans = self.bans.owners(prefix).into_iter().filter(|ban| ban.scope.is_all()).map(|ban| ban.until).max();
        let shown = |until: &Until| !self.is_folded(&Entry { prefix: *prefix, scope: Scope::default(), until: *until });
        bans.max(listed).filter(shown)
    }

    pub(crate) fn list(&self, name: &str) -> Option<&List> {
        self.lists.get(name)
    }

    /// All lists by name.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter()
    }

    /// Prefixes of all lists; one that stands in several counts in each.
    pub(crate) fn listed_count(&self) -> usize {
        self.lists.iter().map(|list| list.prefixes.len()).sum()
    }

    /// Memory only: also for opening.
    pub(super) fn restore_list(&mut self, list: List) {
        if let Until::At(end) = list.until {
            self.ends.insert(end, Ending::List(Arc::clone(&list.name)));
        }
        self.lists.put(list);
    }
}

/// The step to this end of a prefix with all its ports.
fn step(prefix: IpNet, until: Option<Until>) -> Change {
    let scope = Scope::default();
    match until {
        Some(until) => Change::Set(Entry { prefix, scope, until }),
        None => Change::Clear { prefix, scope },
    }
}
