//! A list in the place of another one: what that changes, prefix by prefix.

use std::sync::Arc;

use ipnet::IpNet;

use super::book::Ledger;
use super::ends::Ending;
use super::lists::{List, ListError, union};
use super::{Change, Entry, Scope};
use crate::time::{Timestamp, Until};

impl Ledger {
    /// Puts a list in the place of the one of that name.
    pub(crate) fn put_list(
        &mut self,
        name: &str,
        prefixes: Vec<IpNet>,
        since: Timestamp,
        until: Until,
    ) -> Result<Vec<Change>, ListError> {
        let list = List::new(name, prefixes, since, until);
        self.lists.check(&list)?;
        self.record_list(Arc::clone(&list.name));
        Ok(self.exchange_list(name, Some(list)))
    }

    pub(crate) fn remove_list(&mut self, name: &str) -> Vec<Change> {
        if self.lists.get(name).is_some() {
            self.record_list(name.into());
        }
        self.exchange_list(name, None)
    }

    /// All lists by name.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter()
    }

    /// Prefixes of all lists; one that stands in several counts in each.
    pub(crate) fn listed_count(&self) -> usize {
        self.lists.iter().map(|list| list.prefixes.len()).sum()
    }

    fn exchange_list(&mut self, name: &str, new: Option<List>) -> Vec<Change> {
        let old = self.lists.take(name);
        if let Some(Until::At(end)) = old.as_ref().map(|old| old.until) {
            self.ends.remove(end, Ending::List(name.into()));
        }
        let prefixes = |list: &Option<List>| list.as_ref().map(|list| Arc::clone(&list.prefixes)).unwrap_or_default();
        let (before, after) = (prefixes(&old), prefixes(&new));
        let (old_until, new_until) = (old.map(|old| old.until), new.as_ref().map(|new| new.until));
        if let Some(new) = new {
            self.restore_list(new);
        }
        let steps = union(&before, &after).filter_map(|(prefix, was, is)| {
            let rest = self.end_besides(&prefix, name);
            let scope = Scope::default();
            let shown = |until: &Until| !self.is_folded(&Entry { prefix, scope: scope.clone(), until: *until });
            let was = rest.max(old_until.filter(|_| was)).filter(shown);
            let is = rest.max(new_until.filter(|_| is)).filter(shown);
            if was == is { None } else { Some(step(prefix, is)) }
        });
        steps.collect()
    }

    /// The end that everything but one list gives to this prefix with all its ports.
    fn end_besides(&self, prefix: &IpNet, list: &str) -> Option<Until> {
        let bans = self.bans.owners(prefix).into_iter().filter(|ban| ban.scope.is_all()).map(|ban| ban.until).max();
        bans.max(self.lists.end_of(prefix, Some(list)))
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
