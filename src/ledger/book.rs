//! The ledger itself: what stands, how that changes, and what is to be written down of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::bans::{Bans, extended};
use super::ends::{Ending, Ends};
use super::history::{Ended, History, How, Past};
use super::lists::Lists;
use super::pages::Pages;
use super::positions::Positions;
use super::records::Key;
use super::writer::{Group, Writer};
use super::{Ban, Change, Entry, MANUAL, Scope, Stage};
use crate::filters::Evidence;
use crate::policy::breaker::Standing;
use crate::policy::grant::Grant;
use crate::policy::prefix::overlap;
use crate::time::{Timestamp, Until};

/// Longest reason of a ban, in bytes; the rest is cut. Values of the store must stay small.
const MAX_REASON: usize = 512;

/// How many bans a jail has at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BanCount {
    pub(crate) all: u64,
    /// Those of them that only limit.
    pub(crate) limited: u64,
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
    pub(super) ends: Ends,
    pub(super) history: History,
    pub(super) positions: Positions,
    pub(super) pages: Pages,
    pub(super) pending: Group,
    /// Names of the lists that are to be written, or removed if there is none any more.
    pub(super) pending_lists: BTreeSet<Arc<str>>,
    /// `None` in memory: nothing is written.
    pub(super) writer: Option<Writer>,
}

/// All bans as they were at a moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot(Bans);

impl Snapshot {
    /// By prefix, then owner.
    pub(crate) fn bans(&self) -> impl Iterator<Item = Ban> {
        self.0.iter()
    }
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
                ledger.record_ban(&prefix);
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
        self.bans.covering(address).chain(self.lists.covering(address)).collect()
    }

    /// Everything that bans this prefix or a part of it, lists included.
    pub(crate) fn bans_within(&self, prefix: IpNet) -> Vec<Ban> {
        self.bans.within(prefix).chain(self.lists.within(prefix)).collect()
    }

    /// Which packets of exactly this prefix one owner bans, and until when.
    pub(crate) fn claim(&self, prefix: &IpNet, jail: &Arc<str>) -> Option<(&Scope, Until)> {
        let theirs = self.bans.claims_of(*prefix).find(|(cause, _)| cause.jail == *jail);
        theirs.map(|(cause, until)| (&cause.scope, until))
    }

    /// The bans of exactly this prefix by owner, lists not included.
    pub(crate) fn bans_of(&self, prefix: &IpNet) -> Vec<Ban> {
        self.bans.owners(prefix)
    }

    /// All bans by prefix, then owner; lists not included.
    pub(crate) fn bans(&self) -> impl Iterator<Item = Ban> {
        self.bans.iter()
    }

    /// What logs have proven to offend, since when, of the bans that stand.
    pub(crate) fn offenders(&self) -> impl Iterator<Item = (Timestamp, IpNet)> {
        let claims = self.bans.claims();
        let proven = claims.filter(|(_, cause, ..)| cause.evidence == Evidence::Proven && *cause.jail != *MANUAL);
        proven.map(|(prefix, _, since, _)| (since, prefix))
    }

    /// All bans as they are now, for another thread: thirty to forty bytes for each.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.bans.clone())
    }

    pub(crate) fn ban_count(&self) -> usize {
        self.bans.count_all()
    }

    /// Of how many bans each jail is the owner. Takes time in proportion to the different reasons, not to the bans.
    pub(crate) fn ban_counts(&self) -> HashMap<&str, BanCount> {
        let mut counts: HashMap<&str, BanCount> = HashMap::new();
        for (jail, scope, bans) in self.bans.kinds() {
            let count = counts.entry(jail).or_default();
            count.all += bans as u64;
            if scope.stage() == Stage::Limit {
                count.limited += bans as u64;
            }
        }
        counts
    }

    /// The scopes that bans have, in the same time.
    pub(crate) fn scopes(&self) -> BTreeSet<Scope> {
        self.bans.kinds().map(|(_, scope, _)| scope.clone()).collect()
    }

    /// How much is banned at the moment; lists not included.
    pub(crate) fn standing(&self) -> Standing {
        self.bans.standing()
    }

    /// Whether something within `neighbourhood`, other than `prefix`, is banned for evidence that cannot be forged.
    pub(crate) fn has_proven_ban_beside(&self, prefix: IpNet, neighbourhood: IpNet) -> bool {
        let beside = |ban: &Ban| ban.evidence == Evidence::Proven && !overlap(ban.prefix, prefix);
        self.bans.within(neighbourhood).find(beside).is_some()
    }

    // --- What the kernel is to hold ---

    /// One entry per prefix and scope, with the latest end of its owners, as far as it is not over and not folded into a
    /// wider one.
    pub(crate) fn entries(&self, now: Timestamp) -> Vec<Entry> {
        let mut entries = self.entries_of_bans();
        let mut listed: Vec<(IpNet, Until)> = Vec::with_capacity(self.listed_count());
        for list in self.lists.iter() {
            listed.extend(list.prefixes.iter().map(|prefix| (*prefix, list.until)));
        }
        // The latest end of each prefix comes first and stays. Those with a ban were entered above.
        listed.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        listed.dedup_by_key(|(prefix, _)| *prefix);
        listed.retain(|(prefix, _)| !self.bans.is_banned(prefix));
        entries.reserve_exact(listed.len());
        entries.extend(listed.into_iter().map(|(prefix, until)| Entry { prefix, scope: Scope::default(), until }));
        entries.retain(|entry| !entry.until.is_over(now));
        entries
    }

    /// What is [shown](Ledger::shown) of all banned prefixes, in one go: as they are in order, those around a prefix stand
    /// before it, and are the ends of a chain.
    fn entries_of_bans(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.bans.count_all() + self.listed_count());
        let mut around: Vec<(IpNet, &Scope, Until)> = Vec::new();
        let mut claims = self.bans.claims().peekable();
        let mut own: Vec<(&Scope, Until)> = Vec::new();
        while let Some((prefix, cause, _, until)) = claims.next() {
            own.clear();
            own.push((&cause.scope, until));
            while let Some((_, cause, _, until)) = claims.next_if(|(next, ..)| *next == prefix) {
                own.push((&cause.scope, until));
            }
            while around.last().is_some_and(|(net, _, _)| !net.contains(&prefix)) {
                around.pop();
            }
            for entry in self.united(prefix, own.iter().copied()) {
                let folds =
                    |(_, scope, until): &(IpNet, &Scope, Until)| scope.covers(&entry.scope) && *until >= entry.until;
                if !around.iter().any(folds) {
                    entries.push(entry);
                }
            }
            around.extend(own.iter().map(|(scope, until)| (prefix, *scope, *until)));
        }
        entries
    }

    /// One entry per scope of those who ban a prefix and of the lists that it is in, with the latest end.
    fn united<'s>(&self, prefix: IpNet, owners: impl Iterator<Item = (&'s Scope, Until)>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut unite = |scope: &Scope, until: Until| match entries.iter_mut().find(|entry| entry.scope == *scope) {
            Some(entry) => entry.until = until.max(entry.until),
            None => entries.push(Entry { prefix, scope: scope.clone(), until }),
        };
        owners.for_each(|(scope, until)| unite(scope, until));
        if let Some(until) = self.lists.end_of(&prefix) {
            unite(&Scope::default(), until);
        }
        entries
    }

    /// Whether a ban of a wider prefix drops all that this entry of a banned prefix does, for at least as long: then the
    /// kernel need not hold it. Lists neither fold nor are folded.
    pub(super) fn is_folded(&self, entry: &Entry) -> bool {
        let includes = |(_, scope, until): (IpNet, &Scope, Until)| scope.covers(&entry.scope) && until >= entry.until;
        self.bans.around(entry.prefix).any(includes) && self.bans.is_banned(&entry.prefix)
    }

    /// What the kernel is to hold of a prefix.
    fn shown(&self, prefix: &IpNet) -> Vec<Entry> {
        let owners = self.bans.claims_of(*prefix).map(|(cause, until)| (&cause.scope, until));
        let mut entries = self.united(*prefix, owners);
        entries.retain(|entry| !self.is_folded(entry));
        entries
    }

    /// What the kernel is to hold of a prefix and of the wider ones that are banned around it.
    pub(crate) fn wanted_around(&self, prefix: &IpNet) -> Vec<Entry> {
        let prefix = prefix.trunc();
        let mut prefixes: Vec<IpNet> = self.bans.around(prefix).map(|(wider, ..)| wider).chain([prefix]).collect();
        prefixes.dedup();
        prefixes.iter().flat_map(|prefix| self.shown(prefix)).collect()
    }

    /// The same of the banned prefixes within it and, last, of itself.
    fn shown_within(&self, prefix: &IpNet) -> Vec<Entry> {
        let inner = self.bans.prefixes_within(*prefix).filter(|inner| inner != prefix);
        let mut shown: Vec<Entry> = inner.flat_map(|inner| self.shown(&inner)).collect();
        shown.append(&mut self.shown(prefix));
        shown
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
        while let Some((end, ending)) = self.next_ending(now) {
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
        self.ends.next().map(|end| end.unwrap_or_else(|horizon| horizon))
    }

    /// Takes the next that has ended by now.
    fn next_ending(&mut self, now: Timestamp) -> Option<(Timestamp, Ending)> {
        if let Some(Err(horizon)) = self.ends.next()
            && horizon <= now
        {
            self.find_ends();
        }
        self.ends.pop(now)
    }

    /// Looks through everything for what ends soonest.
    pub(super) fn find_ends(&mut self) {
        let Ledger { ends, bans, lists, grants, .. } = self;
        ends.clear();
        for (prefix, cause, _, until) in bans.claims() {
            if let Until::At(end) = until
                && ends.is_soon(end)
            {
                ends.insert(end, Ending::Ban(prefix, Arc::clone(&cause.jail)));
            }
        }
        for list in lists.iter() {
            if let Until::At(end) = list.until {
                ends.insert(end, Ending::List(Arc::clone(&list.name)));
            }
        }
        for (prefix, grant) in grants {
            if let Until::At(end) = grant.until {
                ends.insert(end, Ending::Grant(*prefix));
            }
        }
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
            self.ends.insert(end, Ending::Ban(ban.prefix, Arc::clone(&ban.jail)));
        }
        self.bans.put(ban);
    }

    pub(super) fn take(&mut self, prefix: &IpNet, jail: &Arc<str>) -> Option<Ban> {
        let ban = self.bans.take(prefix, jail)?;
        if let Until::At(end) = ban.until {
            self.ends.remove(end, Ending::Ban(*prefix, Arc::clone(jail)));
        }
        Some(ban)
    }

    /// Ends one owner's ban and writes it into the history.
    fn end(&mut self, prefix: &IpNet, jail: &Arc<str>, at: Timestamp, how: How) -> Option<Ban> {
        let ban = self.take(prefix, jail)?;
        self.record_ban(prefix);
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
    if let ([], [only]) = (before, after) {
        return vec![Change::Set(only.clone())];
    }
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
