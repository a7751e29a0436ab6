//! Imported lists: many prefixes that were given together, and end together.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Ban, Scope, listfile};
use crate::filters::Evidence;
use crate::netmap;
use crate::time::{Timestamp, Until};

/// Most lists at a time.
pub(super) const MAX_LISTS: usize = 64;

/// Most prefixes of all lists together: 36 MB of memory.
pub(super) const MAX_LISTED: usize = 2_000_000;

/// A named list of prefixes, all banned until the same end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) name: Arc<str>,
    /// Sorted, without duplicates.
    pub(crate) prefixes: Arc<Vec<IpNet>>,
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
}

impl List {
    /// Takes a while for a million prefixes.
    pub(crate) fn new(name: &str, mut prefixes: Vec<IpNet>, since: Timestamp, until: Until) -> List {
        for prefix in &mut prefixes {
            *prefix = prefix.trunc();
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.shrink_to_fit();
        List { name: name.into(), prefixes: Arc::new(prefixes), since, until }
    }

    /// Its entries as bans, in order of their prefixes.
    pub(crate) fn bans(&self) -> impl Iterator<Item = Ban> {
        self.prefixes.iter().map(|prefix| self.as_ban(*prefix))
    }

    fn holds(&self, prefix: &IpNet) -> bool {
        self.prefixes.binary_search(prefix).is_ok()
    }

    /// What the list does to one of its prefixes, as a ban.
    fn as_ban(&self, prefix: IpNet) -> Ban {
        Ban {
            prefix,
            jail: format!("list:{}", self.name).into(),
            scope: Scope::default(),
            since: self.since,
            until: self.until,
            reason: format!("stands in the list {}", self.name).into(),
            count: 1,
            evidence: Evidence::Proven,
        }
    }
}

/// Why a list is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListError {
    BadName,
    TooManyLists,
    TooManyEntries,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListError::BadName => write!(
                f,
                "The name of a list must be 1 to {} printable characters; give it a shorter or simpler one.",
                listfile::MAX_NAME
            ),
            ListError::TooManyLists => {
                write!(
                    f,
                    "There are {MAX_LISTS} lists already, which is the limit; unban one or join some in one file."
                )
            }
            ListError::TooManyEntries => write!(
                f,
                "All lists together would hold more than {MAX_LISTED} prefixes, which is the limit; shorten one."
            ),
        }
    }
}

impl std::error::Error for ListError {}

#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<Arc<str>, List>);

impl Lists {
    pub(super) fn check(&self, list: &List) -> Result<(), ListError> {
        if !listfile::is_good_name(&list.name) {
            return Err(ListError::BadName);
        }
        if self.0.len() >= MAX_LISTS && !self.0.contains_key(&list.name) {
            return Err(ListError::TooManyLists);
        }
        let others: usize = self.0.values().filter(|other| other.name != list.name).map(|l| l.prefixes.len()).sum();
        if others + list.prefixes.len() > MAX_LISTED { Err(ListError::TooManyEntries) } else { Ok(()) }
    }

    pub(super) fn put(&mut self, list: List) -> Option<List> {
        self.0.insert(Arc::clone(&list.name), list)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<List> {
        self.0.remove(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&List> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &List> {
        self.0.values()
    }

    /// The latest end that a list gives to exactly this prefix.
    pub(super) fn end_of(&self, prefix: &IpNet) -> Option<Until> {
        self.0.values().filter(|list| list.holds(prefix)).map(|list| list.until).max()
    }

    /// What the lists do to the prefixes that cover `prefix`.
    pub(super) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = Ban> {
        self.0.values().flat_map(move |list| netmap::covering_in(&list.prefixes, prefix).map(|net| list.as_ban(net)))
    }

    /// What the lists do to the prefixes within `prefix`.
    pub(super) fn within(&self, prefix: IpNet) -> impl Iterator<Item = Ban> {
        self.0.values().flat_map(move |list| netmap::within_in(&list.prefixes, prefix).map(|net| list.as_ban(net)))
    }

    /// Takes one prefix out of every list. What it was there, and the names of the lists that are shorter now.
    pub(super) fn strike(&mut self, prefix: &IpNet) -> (Vec<Ban>, Vec<Arc<str>>) {
        let (mut struck, mut shorter) = (Vec::new(), Vec::new());
        for list in self.0.values_mut() {
            if let Ok(place) = list.prefixes.binary_search(prefix) {
                Arc::make_mut(&mut list.prefixes).remove(place);
                struck.push(list.as_ban(*prefix));
                shorter.push(Arc::clone(&list.name));
            }
        }
        (struck, shorter)
    }
}

/// Every prefix of two sorted lists once, in order, with whether the first and whether the second holds it.
pub(super) fn union<'a>(first: &'a [IpNet], second: &'a [IpNet]) -> impl Iterator<Item = (IpNet, bool, bool)> + 'a {
    let (mut first, mut second) = (first.iter().peekable(), second.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (first.peek(), second.peek()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let from_first = if order.is_le() { first.next() } else { None };
        let from_second = if order.is_ge() { second.next() } else { None };
        Some((*from_first.or(from_second)?, from_first.is_some(), from_second.is_some()))
    })
}
