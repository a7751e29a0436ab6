//! A window with the meaning of `iptables -m limit`, per source: a bucket that starts full with `burst` tokens and gains
//! one per interval (`net/netfilter/xt_limit.c`). A hit takes a token; the hit that finds none is the offence.

use std::time::Duration;

use ipnet::IpNet;

use crate::time::Timestamp;
use crate::windows::Offence;
use crate::windows::bucket::{Bucket, Level};
use crate::windows::table::{Key, Table};

pub(super) struct Limit {
    bucket: Bucket,
    burst: u32,
    /// The latest hit of all.
    latest: Timestamp,
    table: Table<Credit>,
}

/// What is known of one source.
#[derive(Clone, Copy, Debug)]
struct Credit {
    level: Level,
    /// When the bucket was last known to be full.
    full: Timestamp,
    /// The latest hit.
    last: Timestamp,
}

impl Limit {
    pub(super) fn new(interval: Duration, burst: u32, capacity: usize) -> Limit {
        let (bucket, table) = (Bucket::new(interval, burst), Table::new(capacity));
        Limit { bucket, burst: burst.max(1), latest: Timestamp::EPOCH, table }
    }

    /// A hit may be read late, when another log was ahead. Its time lies before the bucket was last full: then the
    /// token it took was given back since, and it changes nothing. Else it takes a token from what there is at the
    /// latest time known. So going back in time neither fills a bucket nor finds it emptier than it was.
    pub(super) fn hit(&mut self, source: IpNet, time: Timestamp, repeat: u32) -> Option<Offence> {
        self.latest = time.max(self.latest);
        let slot = self.slot(Key::of(source), time);
        let credit = self.table.value_mut(slot);
        if time < credit.full {
            return None;
        }
        let now = time.max(credit.last);
        credit.last = now;
        if credit.level.is_full(now) {
            credit.full = now;
        }
        // No bucket holds more than `burst` tokens, and the first hit that finds none decides.
        let wanted = repeat.clamp(1, self.burst.saturating_add(1));
        let over = (0..wanted).any(|_| !self.bucket.take(&mut credit.level, now));
        let hits = self.bucket.taken_since(credit.level, credit.full).saturating_add(1);
        over.then_some(Offence { hits, first: credit.full })
    }

    pub(super) fn forget(&mut self, prefix: IpNet) {
        self.table.remove_covered(prefix, drop);
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        if self.latest > now {
            self.latest = now;
            self.table.retain(|credit| credit.last <= now);
        }
    }

    pub(super) fn tracked(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    /// The slot of this source. For a new one the source with the fullest bucket makes room: a full one is as good as
    /// none. Of several, the one that has been quiet for longest.
    fn slot(&mut self, key: Key, time: Timestamp) -> usize {
        if let Some(slot) = self.table.find(&key) {
            return slot;
        }
        if self.table.is_full() {
            self.table.evict(|credit| (credit.level.until_full(time), credit.last));
        }
        self.table.insert(key, Credit { level: Level::default(), full: time, last: time })
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory()
    }
}

#[cfg(test)]
mod tests;
