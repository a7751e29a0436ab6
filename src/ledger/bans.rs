//! The bans that stand, by prefix and owner, in memory: thirty to forty bytes for each, because what many have in common is
//! kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::causes::{Cause, CauseId, Causes};
use super::{Ban, MANUAL, Scope};
use crate::filters::Evidence;
use crate::netmap::NetMap;
use crate::policy::breaker::{Standing, covered};
use crate::time::{Timestamp, Until};

/// A ban without its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Microseconds since 1970, as the end.
    since: i64,
    end: i64,
    pub(super) cause: CauseId,
    count: u32,
}

/// The end of what does not end.
const FOREVER: i64 = i64::MAX;

impl Row {
    pub(super) fn until(&self) -> Until {
        if self.end == FOREVER { Until::Forever } else { Until::At(Timestamp::from_micros(self.end)) }
    }

    /// It and its cause.
    fn of(ban: Ban) -> (Row, Cause) {
        let end = match ban.until {
            Until::At(end) => end.as_micros(),
            Until::Forever => FOREVER,
        };
        let row = Row { since: ban.since.as_micros(), end, cause: 0, count: ban.count };
        (row, Cause { jail: ban.jail, scope: ban.scope, reason: ban.reason, evidence: ban.evidence })
    }

    fn ban(&self, prefix: IpNet, cause: &Cause) -> Ban {
        Ban {
            prefix,
            jail: Arc::clone(&cause.jail),
            scope: cause.scope.clone(),
            since: Timestamp::from_micros(self.since),
            until: self.until(),
            reason: Arc::clone(&cause.reason),
            count: self.count,
            evidence: cause.evidence,
        }
    }
}

/// Every owner's claim on every prefix. A prefix without an owner is in neither map.
#[derive(Clone, Debug, Default)]
pub(super) struct Bans {
    by_prefix: NetMap<Row>,
    /// The second owner of a prefix and those after it: few prefixes have any.
    others: BTreeMap<IpNet, Vec<Row>>,
    causes: Causes,
    /// How many prefixes there are of each family (IPv6 or not) and length: few lengths are ever in use.
    lengths: BTreeMap<(bool, u8), usize>,
    standing: Standing,
}

impl Bans {
    /// The bans of exactly this prefix, by owner.
    pub(super) fn owners(&self, prefix: &IpNet) -> Vec<Ban> {
        self.by_prefix.get(prefix).map(|row| self.bans_of(*prefix, row).collect()).unwrap_or_default()
    }

    /// Who bans exactly this prefix, why, and until when; in no order. Allocates nothing.
    pub(super) fn claims_of(&self, prefix: IpNet) -> impl Iterator<Item = (&Cause, Until)> {
        let rows = self.by_prefix.get(&prefix).into_iter().chain(self.others_of(&prefix));
        rows.map(|row| (self.causes.get(row.cause), row.until()))
    }

    pub(super) fn is_banned(&self, prefix: &IpNet) -> bool {
        self.by_prefix.contains(prefix)
    }

    /// Takes one owner's ban out.
    pub(super) fn take(&mut self, prefix: &IpNet, jail: &str) -> Option<Ban> {
        let first = self.by_prefix.get_mut(prefix)?;
        let is_theirs = |row: &Row| &*self.causes.get(row.cause).jail == jail;
        let taken =
            if is_theirs(first) { *first } else { *self.others.get(prefix)?.iter().find(|row| is_theirs(row))? };
        if let Some(others) = self.others.get_mut(prefix) {
            match others.iter().position(|row| *row == taken) {
                Some(place) => drop(others.remove(place)),
                None => *first = others.remove(0),
            }
            if others.is_empty() {
                self.others.remove(prefix);
            }
        } else {
            self.by_prefix.remove(prefix);
            self.count_length(prefix, false);
        }
        let ban = taken.ban(*prefix, self.causes.get(taken.cause));
        self.causes.release(taken.cause);
        self.standing.bans -= 1;
        self.standing.forgeable -= usize::from(ban.evidence == Evidence::Forgeable);
        self.standing.addresses = self.standing.addresses.saturating_sub(addresses(prefix, &ban.jail));
        Some(ban)
    }

    /// Puts a ban in whose owner has none on that prefix.
    pub(super) fn put(&mut self, ban: Ban) {
        let prefix = ban.prefix;
        let (mut row, cause) = Row::of(ban);
        row.cause = self.causes.take(cause);
        self.count(&prefix, row.cause);
        if self.by_prefix.contains(&prefix) {
            self.others.entry(prefix).or_default().push(row);
        } else {
            self.by_prefix.insert(prefix, row);
            self.count_length(&prefix, true);
        }
    }

    /// Puts many bans in at once, sorted by prefix; their causes are [taken](Bans::take_cause) already. Only into an empty
    /// collection: it becomes as small as it can be.
    pub(super) fn fill(&mut self, rows: Vec<(IpNet, Row)>) {
        let mut firsts: Vec<(IpNet, Row)> = Vec::with_capacity(rows.len());
        for (prefix, row) in rows {
            self.count(&prefix, row.cause);
            if firsts.last().is_some_and(|(last, _)| *last == prefix) {
                self.others.entry(prefix).or_default().push(row);
            } else {
                self.count_length(&prefix, true);
                firsts.push((prefix, row));
            }
        }
        self.by_prefix = NetMap::of_sorted(firsts);
    }

    pub(super) fn take_cause(&mut self, cause: Cause) -> CauseId {
        self.causes.take(cause)
    }

    pub(super) fn share_cause(&mut self, id: CauseId) {
        self.causes.share(id);
    }

    pub(super) fn release_cause(&mut self, id: CauseId) {
        self.causes.release(id);
    }

    pub(super) fn cause(&self, id: CauseId) -> &Cause {
        self.causes.get(id)
    }

    fn count(&mut self, prefix: &IpNet, cause: CauseId) {
        let Cause { jail, evidence, .. } = self.causes.get(cause);
        self.standing.bans += 1;
        self.standing.forgeable += usize::from(*evidence == Evidence::Forgeable);
        self.standing.addresses = self.standing.addresses.saturating_add(addresses(prefix, jail));
    }

    fn count_length(&mut self, prefix: &IpNet, more: bool) {
        let length = family_and_length(prefix);
        let count = self.lengths.entry(length).or_default();
        if more {
            *count += 1;
        } else if *count > 1 {
            *count -= 1;
        } else {
            self.lengths.remove(&length);
        }
    }

    pub(super) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = Ban> {
        self.by_prefix.covering(prefix).flat_map(|(net, row)| self.bans_of(net, row))
    }

    pub(super) fn within(&self, prefix: IpNet) -> impl Iterator<Item = Ban> {
        self.by_prefix.within(prefix).flat_map(|(net, row)| self.bans_of(net, row))
    }

    /// What is banned of shorter prefixes that contain this one.
    pub(super) fn around(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &Scope, Until)> {
        let (family, length) = family_and_length(&prefix);
        let shorter = self.lengths.range((family, 0)..(family, length)).map(|((_, length), _)| *length);
        let wider = shorter.filter_map(move |length| Some(IpNet::new(prefix.addr(), length).ok()?.trunc()));
        wider.flat_map(|wider| self.claims_of(wider).map(move |(cause, until)| (wider, &cause.scope, until)))
    }

    /// The prefixes within this one, with itself, that somebody bans.
    pub(super) fn prefixes_within(&self, prefix: IpNet) -> impl Iterator<Item = IpNet> {
        self.by_prefix.within(prefix).map(|(prefix, _)| prefix)
    }

    /// All bans by prefix, then owner.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ban> {
        self.by_prefix.iter().flat_map(|(prefix, row)| self.bans_of(prefix, row))
    }

    /// Every claim by prefix: whose, on what, since when and until when. A third of the work of making bans of them.
    pub(super) fn claims(&self) -> impl Iterator<Item = (IpNet, &Cause, Timestamp, Until)> {
        let rows =
            self.by_prefix.iter().flat_map(|(prefix, row)| self.rows_of(&prefix, row).map(move |row| (prefix, row)));
        rows.map(|(prefix, row)| (prefix, self.causes.get(row.cause), Timestamp::from_micros(row.since), row.until()))
    }

    /// The rows from one prefix up to, but not with, another.
    pub(super) fn rows_between(&self, start: IpNet, end: Option<IpNet>) -> impl Iterator<Item = (IpNet, Row)> {
        let prefixes = self.by_prefix.from(start).take_while(move |(prefix, _)| end.is_none_or(|end| *prefix < end));
        prefixes.flat_map(|(prefix, row)| self.rows_of(&prefix, row).map(move |row| (prefix, row)))
    }

    /// Of how many bans each jail is the owner, and which packets they drop.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&Arc<str>, &Scope, usize)> {
        self.causes.iter().map(|(cause, bans)| (&cause.jail, &cause.scope, bans))
    }

    pub(super) fn count_all(&self) -> usize {
        self.standing.bans
    }

    /// How much that is in all; what several owners ban, or what lies within another ban, as often as it is banned.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    fn rows_of(&self, prefix: &IpNet, first: &Row) -> impl Iterator<Item = Row> + use<'_> {
        std::iter::once(*first).chain(self.others_of(prefix).iter().copied())
    }

    /// The rows of a prefix but for the first. Nearly always there is not one of any.
    fn others_of(&self, prefix: &IpNet) -> &[Row] {
        if self.others.is_empty() { &[] } else { self.others.get(prefix).map_or(&[], Vec::as_slice) }
    }

    fn bans_of(&self, prefix: IpNet, first: &Row) -> impl Iterator<Item = Ban> {
        let mut rows = self.rows_of(&prefix, first);
        let ban = move |row: Row| row.ban(prefix, self.causes.get(row.cause));
        let first = rows.next().map(ban);
        let mut others: Vec<Ban> = rows.map(ban).collect();
        if !others.is_empty() {
            others.extend(first.clone());
            others.sort_by(|a, b| a.jail.cmp(&b.jail));
        }
        let alone = first.filter(|_| others.is_empty());
        alone.into_iter().chain(others)
    }
}

/// What logs have banned by this; what people ban is no sign that something is wrong.
fn addresses(prefix: &IpNet, jail: &str) -> u64 {
    if jail == MANUAL { 0 } else { covered(*prefix) }
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
