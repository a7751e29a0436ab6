//! How often each prefix was banned before, and which bans ended last.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Ban;
use super::records::Record;
use crate::filters::Evidence;
use crate::keyed::{Keys, Net};
use crate::time::Timestamp;

/// Most prefixes whose former bans are remembered, about 25 MB; the one that has been quiet the longest goes first.
pub(super) const MAX_REMEMBERED: usize = 250_000;

/// Most ended bans that are kept to be shown.
pub(super) const MAX_ENDED: u32 = 10_000;

/// A prefix that stayed quiet this long starts anew, unless [`History::forget_after`] was set.
const FORGET: Duration = Duration::from_secs(90 * 86_400);

/// The former bans of a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Bans that have ended; those for forgeable evidence do not count.
    pub(crate) bans: u32,
    /// When the last one ended.
    pub(crate) last_end: Option<Timestamp>,
}

/// Why a ban is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Expired,
    Unbanned,
}

/// A ban that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) ban: Ban,
    pub(crate) at: Timestamp,
    pub(crate) how: How,
}

#[derive(Debug)]
pub(super) struct History {
    by_prefix: HashMap<Net, (u32, Timestamp), Keys>,
    /// The same by last end, to forget the oldest.
    by_end: BTreeSet<(Timestamp, IpNet)>,
    /// The latest at the back.
    ended: VecDeque<Ended>,
    /// How many bans have ended since the ledger was made.
    sequence: u64,
    pub(super) forget_after: Duration,
}

impl Default for History {
    fn default() -> History {
        History {
            by_prefix: HashMap::default(),
            by_end: BTreeSet::new(),
            ended: VecDeque::new(),
            sequence: 0,
            forget_after: FORGET,
        }
    }
}

impl History {
    pub(super) fn past(&self, prefix: &IpNet, now: Timestamp) -> Past {
        match self.by_prefix.get(&Net(*prefix)) {
            Some(&(bans, last_end)) if last_end + self.forget_after > now => Past { bans, last_end: Some(last_end) },
            _ => Past::default(),
        }
    }

    /// The bans that ended last, the latest first.
    pub(super) fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().rev()
    }

    /// Notes the end of a ban. Hands back what is to be recorded of it, and whom it made forgotten.
    pub(super) fn note(&mut self, ended: Ended) -> (Vec<Record>, Option<IpNet>) {
        let mut records = Vec::new();
        let mut forgotten = None;
        if ended.ban.evidence == Evidence::Proven {
            let prefix = ended.ban.prefix;
            let past = self.past(&prefix, ended.at);
            let last_end = past.last_end.map_or(ended.at, |last| last.max(ended.at));
            // Its own count knows what quiet took off; of bans that stood together each knows only those before it.
            let (count, together) = (ended.ban.count, past.last_end.is_some_and(|last| last > ended.ban.since));
            let more = together && count <= past.bans;
            let bans = if more { past.bans.saturating_add(u32::from(count == past.bans)) } else { count };
            self.remember(prefix, bans, last_end);
            records.push(Record::Past { prefix, bans, last_end });
            forgotten = self.forget_surplus();
        }
        records.push(Record::Ended { sequence: self.sequence, ended: ended.clone() });
        self.push(self.sequence, ended);
        (records, forgotten)
    }

    /// As if so many bans had been noted, the last of which ended then. `None` when that is nothing new.
    pub(super) fn bring(&mut self, prefix: IpNet, bans: u32, last_end: Timestamp, now: Timestamp) -> Option<Record> {
        let known = self.past(&prefix, now);
        let bans = bans.max(known.bans);
        let last_end = known.last_end.map_or(last_end, |known| known.max(last_end)).min(now);
        let nothing = Past { bans, last_end: Some(last_end) } == known || bans == 0;
        if nothing || last_end + self.forget_after <= now {
            return None;
        }
        self.remember(prefix, bans, last_end);
        Some(Record::Past { prefix, bans, last_end })
    }

    /// Also used when a ledger is opened.
    pub(super) fn remember(&mut self, prefix: IpNet, bans: u32, last_end: Timestamp) {
        if let Some((_, before)) = self.by_prefix.insert(Net(prefix), (bans, last_end)) {
            self.by_end.remove(&(before, prefix));
        }
        self.by_end.insert((last_end, prefix));
    }

    /// Also used when a ledger is opened, in the order of `sequence`.
    pub(super) fn push(&mut self, sequence: u64, ended: Ended) {
        self.sequence = self.sequence.max(sequence.saturating_add(1));
        self.ended.push_back(ended);
        if self.ended.len() > MAX_ENDED as usize {
            self.ended.pop_front();
        }
    }

    /// Forgets prefixes that stayed quiet long enough; they are handed back.
    pub(super) fn forget(&mut self, now: Timestamp) -> Vec<IpNet> {
        let mut forgotten = Vec::new();
        while let Some(&(last_end, prefix)) = self.by_end.first()
            && last_end + self.forget_after <= now
        {
            self.by_end.pop_first();
            self.by_prefix.remove(&Net(prefix));
            forgotten.push(prefix);
        }
        forgotten
    }

    /// Whom there is no room for any more.
    pub(super) fn forget_surplus(&mut self) -> Option<IpNet> {
        if self.by_prefix.len() <= MAX_REMEMBERED {
            return None;
        }
        let (_, prefix) = self.by_end.pop_first()?;
        self.by_prefix.remove(&Net(prefix));
        Some(prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ledger::Scope;
    use crate::time::Until;

    #[test]
    fn both_histories_are_bounded_and_the_oldest_goes_first() {
        let mut history = History::default();
        let prefix_of = |number: u32| IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(number)));
        let ended = |number: u32| {
            let at = Timestamp::from_secs(i64::from(number));
            let ban = Ban {
                prefix: prefix_of(number),
                jail: "sshd".into(),
                scope: Scope::default(),
                since: Timestamp::EPOCH,
                until: Until::At(at),
                reason: "".into(),
                count: 1,
                evidence: Evidence::Proven,
            };
            Ended { ban, at, how: How::Expired }
        };
        let most = u32::try_from(MAX_REMEMBERED).unwrap();
        for number in 0..most {
            assert_eq!(history.note(ended(number)).1, None);
        }
        assert_eq!(history.note(ended(most)).1, Some(prefix_of(0)));
        let now = Timestamp::from_secs(i64::from(most));
        assert_eq!(history.past(&prefix_of(0), now).bans, 0);
        assert_eq!(history.past(&prefix_of(1), now).bans, 1);
        assert_eq!(history.ended().count(), MAX_ENDED as usize);
        assert_eq!(history.ended().next(), Some(&ended(most)));
    }
}
