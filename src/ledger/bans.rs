//! The bans that stand, by prefix and owner, in memory.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Ban, nets};
use crate::filters::Evidence;
use crate::policy::breaker::{Standing, covered};

/// Every owner's claim on every prefix. A prefix without an owner is not in the map.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_prefix: BTreeMap<IpNet, Vec<Ban>>,
    /// How many prefixes there are of each family (IPv6 or not) and length: few lengths are ever in use.
    lengths: BTreeMap<(bool, u8), usize>,
    standing: Standing,
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
            let length = family_and_length(prefix);
            match self.lengths.get_mut(&length) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.lengths.remove(&length)),
            }
        }
        self.standing.bans -= 1;
        self.standing.forgeable -= usize::from(ban.evidence == Evidence::Forgeable);
        self.standing.addresses = self.standing.addresses.saturating_sub(covered(ban.prefix));
        Some(ban)
    }

    /// Puts a ban in whose owner has none on that prefix.
    pub(super) fn put(&mut self, ban: Ban) {
        self.standing.bans += 1;
        self.standing.forgeable += usize::from(ban.evidence == Evidence::Forgeable);
        self.standing.addresses = self.standing.addresses.saturating_add(covered(ban.prefix));
        if let Some(owners) = self.by_prefix.get_mut(&ban.prefix) {
            let place = owners.partition_point(|other| other.jail < ban.jail);
            owners.insert(place, ban);
        } else {
            *self.lengths.entry(family_and_length(&ban.prefix)).or_default() += 1;
            // Nearly every prefix has one owner: `vec!` takes the room of one, `push` that of four.
            self.by_prefix.insert(ban.prefix, vec![ban]);
        }
    }

    pub(super) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        nets::covering(&self.by_prefix, prefix).flat_map(|(_, owners)| owners)
    }

    pub(super) fn within(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        nets::within(&self.by_prefix, prefix).flat_map(|(_, owners)| owners)
    }

    /// The bans of shorter prefixes that contain this one.
    pub(super) fn around(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        let (family, length) = family_and_length(&prefix);
        let shorter = self.lengths.range((family, 0)..(family, length)).map(|((_, length), _)| *length);
        let wider = shorter.filter_map(move |length| IpNet::new(prefix.addr(), length).ok());
        wider.flat_map(|wider| self.owners(&wider.trunc()))
    }

    /// The prefixes within this one, with itself, that somebody bans.
    pub(super) fn prefixes_within(&self, prefix: IpNet) -> impl Iterator<Item = &IpNet> {
        nets::within(&self.by_prefix, prefix).map(|(prefix, _)| prefix)
    }

    /// All bans by prefix, then owner.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_prefix.values().flatten()
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.by_prefix.keys()
    }

    pub(super) fn count(&self) -> usize {
        self.standing.bans
    }

    /// How much that is in all; what several owners ban, or what lies within another ban, as often as it is banned.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

fn family_and_length(prefix: &IpNet) -> (bool, u8) {
    (prefix.addr().is_ipv6(), prefix.prefix_len())
}

/// What the owner of a standing ban has after banning the same prefix again: never less.
pub(super) fn extended(standing: &Ban, again: Ban) -> Ban {
    let evidence = standing.evidence.max(again.evidence);
    if again.until <= standing.until && again.scope == standing.scope {
        return Ban { evidence, ..standing.clone() };
    }
    Ban { since: standing.since, until: standing.until.max(again.until), evidence, ..again }
}
