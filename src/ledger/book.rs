//! The ledger itself: what stands, how that changes, and what is to be written down of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::bans::{Bans, extended};
use super::history::{Ended, History, How, Past};
use super::lists::Lists;
use super::positions::Positions;
use super::records::{Key, Record};
use super::writer::{Group, Writer};
use super::{Ban, Change, Entry, Scope};
use crate::filters::Evidence;
use crate::policy::breaker::Standing;
use crate::policy::grant::Grant;
use crate::policy::prefix::overlap;
use crate::time::{Timestamp, Until};

/// Longest reason of a ban, in bytes; the rest is cut. Values of the store must stay small.
const MAX_REASON: usize = 512;

/// Something that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Ban(IpNet, Arc<str>),
    List(Arc<str>),
    Grant(IpNet),
}

/// Who is banned, why, until when, how often before; and how far the logs were read.
///
/// Every method that changes something queues what is to be written; [`Ledger::commit`] hands it to the writer.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) bans: Bans,
    pub(super) lists: Lists,
    /// Prefixes that a person allowed.
    pub(super) grants: BTreeMap<IpNet, Grant>,
    pub(super) ends: BTreeSet<(Timestamp, Ending)>,
    pub(super) history: History,
    pub(super) positions: Positions,
    pub(super) pending: Group,
    /// Names of the lists that are to be written, or removed if there is none any more.
    pub(super) pending_lists: BTreeSet<Arc<str>>,
    /// `None` in memory: nothing is written.
    pub(super) writer: Option<Writer>,
}

impl Ledger {
    /// For replay and tests: keeps nothing.
    pub(crate) fn in_memory() -> Ledger {
        Ledger::default()
    }

    /// Former bans are forgotten after this long; the longest `forget` of all jails.
    pub(crate) fn forget_after(&mut self, length: Duration) {
        self.history.forget_after = length;
    }

    // --- Bans ---

    /// Bans, or extends the standing ban of the same owner: a ban is never shortened.
    pub(crate) fn ban(&mut self, ban: Ban) -> Vec<Change> {
        let ban = Ban { prefix: ban.prefix.trunc(), reason: shortened(ban.reason), ..ban };
        let prefix = ban.prefix;
        let ((), changes) = self.changing(&prefix, |ledger| {
            let standing = ledger.take(&prefix, &ban.jail);
            let now_standing = match &standing {
                Some(standing) => extended(standing, ban),
                None => ban,
            };
            if standing.as_ref() != Some(&now_standing) {
                ledger.record(&Record::Ban(now_standing.clone()));
            }
            ledger.put(now_standing);
        });
        changes
    }

    /// Ends everything that bans exactly this prefix, lists included. What ended, a list's part as a ban by `list:NAME`.
    pub(crate) fn unban(&mut self, prefix: &IpNet, now: Timestamp) -> (Vec<Ban>, Vec<Change>) {
        let prefix = prefix.trunc();
        self.changing(&prefix, |ledger| {
            let (mut ended, _) = ledger.unban_owners(&prefix, now);
            let (struck, shorter) = ledger.lists.strike(&prefix);
            ended.extend(struck);
            for name in shorter {
                ledger.record_list(name);
            }
            ended
        })
    }

    /// Ends every owner's ban of exactly this prefix; what lists say of it stays.
    pub(crate) fn unban_owners(&mut self, prefix: &IpNet, now: Timestamp) -> (Vec<Ban>, Vec<Change>) {
        let prefix = prefix.trunc();
        let owners: Vec<Arc<str>> = self.bans.owners(&prefix).iter().map(|ban| Arc::clone(&ban.jail)).collect();
        self.changing(&prefix, |ledger| {
            owners.iter().filter_map(|jail| ledger.end(&prefix, jail, now, How::Unbanned)).collect()
        })
    }

    /// Everything that bans this address, lists included, the shortest prefix first.
    pub(crate) fn bans_covering(&self, address: IpAddr) -> Vec<Ban> {
        let address = IpNet::from(address);
        self.bans.covering(address).cloned().chain(self.lists.covering(address)).collect()
    }

    /// Everything that bans this prefix or a part of it, lists included.
    pub(crate) fn bans_within(&self, prefix: IpNet) -> Vec<Ban> {
        self.bans.within(prefix).cloned().chain(self.lists.within(prefix)).collect()
    }

    /// The bans of exactly this prefix, lists not included.
    pub(crate) fn bans_of(&self, prefix: &IpNet) -> &[Ban] {
        self.bans.owners(prefix)
    }

    /// All bans by prefix, then owner; lists not included.
    pub(crate) fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    pub(crate) fn ban_count(&self) -> usize {
        self.bans.count()
    }

    /// How much is banned at the moment; lists not included.
    pub(crate) fn standing(&self) -> Standing {
        self.bans.standing()
    }

    /// Whether something within `neighbourhood`, other than `prefix`, is banned for evidence that cannot be forged.
    pub(crate) fn has_proven_ban_beside(&self, prefix: IpNet, neighbourhood: IpNet) -> bool {
        let beside = |ban: &&Ban| ban.evidence == Evidence::Proven && !overlap(ban.prefix, prefix);
        self.bans.within(neighbourhood).find(beside).is_some()
    }

    // --- What the kernel is to hold ---

    /// One entry per prefix and scope, with the latest end of its owners, as far as it is not over and not folded into a
    /// wider one.
    pub(crate) fn entries(&self, now: Timestamp) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.bans.count() + self.listed_count());
        for prefix in self.bans.prefixes() {
            entries.extend(self.shown(prefix));
        }
        let mut listed: Vec<(IpNet, Until)> = Vec::with_capacity(self.listed_count());
        for list in self.lists.iter() {
            listed.extend(list.prefixes.iter().map(|prefix| (*prefix, list.until)));
        }
        // The latest end of each prefix comes first and stays. Those with a ban were entered above.
        listed.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        listed.dedup_by_key(|(prefix, _)| *prefix);
        listed.retain(|(prefix, _)| self.bans.owners(prefix).is_empty());
        entries.extend(listed.into_iter().map(|(prefix, until)| Entry { prefix, scope: Scope::default(), until }));
        entries.retain(|entry| !entry.until.is_over(now));
        entries
    }

    fn entries_of(&self, prefix: &IpNet) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let owners = self.bans.owners(prefix).iter().map(|ban| (ban.scope.clone(), ban.until));
        let listed = self.lists.end_of(prefix, None).map(|until| (Scope::default(), until));
        for (scope, until) in owners.chain(listed) {
            match entries.iter_mut().find(|entry| entry.scope == scope) {
                Some(entry) => entry.until = entry.until.max(until),
                None => entries.push(Entry { prefix: *prefix, scope, until }),
            }
        }
        entries
    }

    /// Whether a ban of a wider prefix drops all that this entry of a banned prefix does, for at least as long: then the
    /// kernel need not hold it. Lists neither fold nor are folded.
    pub(super) fn is_folded(&self, entry: &Entry) -> bool {
        let includes = |ban: &Ban| (ban.scope.is_all() || ban.scope == entry.scope) && ban.until >= entry.until;
        self.bans.around(entry.prefix).any(includes) && !self.bans.owners(&entry.prefix).is_empty()
    }

    /// What the kernel is to hold of a prefix.
    fn shown(&self, prefix: &IpNet) -> Vec<Entry> {
        let mut entries = self.entries_of(prefix);
        entries.retain(|entry| !self.is_folded(entry));
        entries
    }

    /// The same of the banned prefixes within it and, last, of itself.
    fn shown_within(&self, prefix: &IpNet) -> Vec<Entry> {
        let inner = self.bans.prefixes_within(*prefix).filter(|inner| *inner != prefix);
        inner.chain([prefix]).flat_map(|prefix| self.shown(prefix)).collect()
    }

    /// Changes what stands on one prefix, and says what follows for the kernel: what is folded goes, and what no longer
    /// is comes back. New entries come before old ones go, so that no packet passes in between.
    fn changing<T>(&mut self, prefix: &IpNet, change: impl FnOnce(&mut Ledger) -> T) -> (T, Vec<Change>) {
        let before = self.shown_within(prefix);
        let done = change(self);
        (done, differences(&before, &self.shown_within(prefix)))
    }

    // --- Time ---

    /// Ends what is over. The bans that ended; lists and grants are not among them.
    pub(crate) fn expire(&mut self, now: Timestamp) -> (Vec<Ban>, Vec<Change>) {
        let (mut ended, mut changes) = (Vec::new(), Vec::new());
        while let Some((end, _)) = self.ends.first()
            && *end <= now
            && let Some((end, ending)) = self.ends.pop_first()
        {
            match ending {
                Ending::Ban(prefix, jail) => {
                    let (ban, steps) = self.changing(&prefix, |ledger| ledger.end(&prefix, &jail, end, How::Expired));
                    ended.extend(ban);
                    changes.extend(steps);
                }
                Ending::List(name) => changes.extend(self.remove_list(&name)),
                Ending::Grant(prefix) => drop(self.revoke(&prefix)),
            }
        }
        for prefix in self.history.forget(now) {
            self.delete(&Key::Past(prefix));
        }
        (ended, changes)
    }

    /// When [`Ledger::expire`] has something to do next.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.ends.first().map(|(end, _)| *end)
    }

    // --- History ---

    /// The former bans of exactly this prefix, for escalation.
    pub(crate) fn past(&self, prefix: &IpNet, now: Timestamp) -> Past {
        self.history.past(prefix, now)
    }

    /// Notes a ban that was over before it was found out, from a log that was read late: it counts in the history.
    pub(crate) fn note_over(&mut self, ban: Ban) {
        if let Until::At(end) = ban.until {
            self.note_end(Ended { ban, at: end, how: How::Expired });
        }
    }

    /// Takes over that a prefix was banned so often elsewhere, where that is more than is known; whether it was.
    pub(crate) fn bring_past(&mut self, prefix: IpNet, bans: u32, last_end: Timestamp, now: Timestamp) -> bool {
        let prefix = prefix.trunc();
        let Some(record) = self.history.bring(prefix, bans, last_end, now) else { return false };
        self.record(&record);
        if let Some(forgotten) = self.history.forget_surplus() {
            self.delete(&Key::Past(forgotten));
        }
        true
    }

    /// The bans that ended last, the latest first.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.history.ended()
    }

    // --- Memory only ---

    /// Also used when the ledger is opened.
    pub(super) fn put(&mut self, ban: Ban) {
        if let Until::At(end) = ban.until {
            self.ends.insert((end, Ending::Ban(ban.prefix, Arc::clone(&ban.jail))));
        }
        self.bans.put(ban);
    }

    fn take(&mut self, prefix: &IpNet, jail: &Arc<str>) -> Option<Ban> {
        let ban = self.bans.take(prefix, jail)?;
        if let Until::At(end) = ban.until {
            self.ends.remove(&(end, Ending::Ban(*prefix, Arc::clone(jail))));
        }
        Some(ban)
    }

    /// Ends one owner's ban and writes it into the history.
    fn end(&mut self, prefix: &IpNet, jail: &Arc<str>, at: Timestamp, how: How) -> Option<Ban> {
        let ban = self.take(prefix, jail)?;
        self.delete(&Key::Ban(*prefix, jail));
        self.note_end(Ended { ban: ban.clone(), at, how });
        Some(ban)
    }

    fn note_end(&mut self, ended: Ended) {
        let (records, forgotten) = self.history.note(ended);
        for record in &records {
            self.record(record);
        }
        if let Some(prefix) = forgotten {
            self.delete(&Key::Past(prefix));
        }
    }
}

/// The steps from what the kernel held to what it is to hold.
fn differences(before: &[Entry], after: &[Entry]) -> Vec<Change> {
    let place = |entry: &Entry| (entry.prefix, entry.scope.clone());
    let (old, new): (HashSet<&Entry>, HashSet<_>) = (before.iter().collect(), after.iter().map(place).collect());
    let set = after.iter().filter(|entry| !old.contains(entry)).cloned().map(Change::Set);
    let gone = before.iter().map(place).filter(|place| !new.contains(place));
    set.chain(gone.map(|(prefix, scope)| Change::Clear { prefix, scope })).collect()
}

fn shortened(reason: Arc<str>) -> Arc<str> {
    if reason.len() <= MAX_REASON {
        return reason;
    }
    let end = (0..=MAX_REASON).rev().find(|index| reason.is_char_boundary(*index));
    end.and_then(|end| reason.get(..end)).unwrap_or_default().into()
}
