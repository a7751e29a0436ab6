//! The bans that stand, by prefix and owner, in memory.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Ban, nets};
use crate::filters::Evidence;

/// Every owner's claim on every prefix. A prefix without an owner is not in the map.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_prefix: BTreeMap<IpNet, Vec<Ban>>,
    count: usize,
    forgeable: usize,
}

impl Bans {
    /// The bans of exactly this prefix.
    pub(super) fn owners(&self, prefix: &IpNet) -> &[Ban] {
        self.by_prefix.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// Takes one owner's ban out.
    pub(super) fn take(&mut self, prefix: &IpNet, jail: &str) -> Option<Ban> {
        let owners = self.by_prefix.get_mut(prefix)?;
        let place = owners.iter().position(|ban| &*ban.jail == jail)?;
        let ban = owners.remove(place);
        if owners.is_empty() {
            self.by_prefix.remove(prefix);
        }
        self.count -= 1;
        self.forgeable -= usize::from(ban.evidence == Evidence::Forgeable);
        Some(ban)
    }

    /// Puts a ban in whose owner has none on that prefix.
    pub(super) fn put(&mut self, ban: Ban) {
        self.count += 1;
        self.forgeable += usize::from(ban.evidence == Evidence::Forgeable);
        match self.by_prefix.get_mut(&ban.prefix) {
            Some(owners) => {
                let place = owners.partition_point(|other| other.jail < ban.jail);
                owners.insert(place, ban);
            }
            // Nearly every prefix has one owner: `vec!` takes the room of one, `push` that of four.
            None => drop(self.by_prefix.insert(ban.prefix, vec![ban])),
        }
    }

    pub(super) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        nets::covering(&self.by_prefix, prefix).flat_map(|(_, owners)| owners)
    }

    pub(super) fn within(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        nets::within(&self.by_prefix, prefix).flat_map(|(_, owners)| owners)
    }

    /// All bans by prefix, then owner.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_prefix.values().flatten()
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.by_prefix.keys()
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn forgeable(&self) -> usize {
        self.forgeable
    }
}

/// What the owner of a standing ban has after banning the same prefix again: never less.
pub(super) fn extended(standing: &Ban, again: Ban) -> Ban {
    let evidence = standing.evidence.max(again.evidence);
    if again.until <= standing.until && again.scope == standing.scope {
        return Ban { evidence, ..standing.clone() };
    }
    Ban { since: standing.since, until: standing.until.max(again.until), evidence, ..again }
}
