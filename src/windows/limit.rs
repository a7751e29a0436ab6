//! A window with the meaning of `iptables -m limit`, per source: a bucket that starts full with `burst` tokens and gains
//! one per interval (`net/netfilter/xt_limit.c`). A hit takes a token; the hit that finds none is the offence.

use std::time::Duration;

use ipnet::IpNet;

use crate::keyed::Keys;
use crate::time::Timestamp;
use crate::windows::Tally;
use crate::windows::bucket::{Bucket, Level};
use crate::windows::key::Key;
use crate::windows::nets::Nets;
use crate::windows::table::Table;

pub(super) struct Limit {
    bucket: Bucket,
    burst: u32,
    /// The latest hit of all.
    latest: Timestamp,
    table: Table,
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
        let (bucket, table) = (Bucket::new(interval, burst), Table::new(capacity, Credit::WORDS));
        Limit { bucket, burst: burst.max(1), latest: Timestamp::EPOCH, table }
    }

    /// The number of hits that were too many, and when the bucket was last full, when this hit was too much.
    ///
    /// A hit may be read late, when another log was ahead. Its time lies before the bucket was last full: then the
    /// token it took was given back since, and it changes nothing. Else it takes a token from what there is at the
    /// latest time known. So going back in time neither fills a bucket nor finds it emptier than it was.
    pub(super) fn hit(&mut self, key: Key, time: Timestamp, count: u32) -> Option<(u32, Timestamp)> {
        self.latest = time.max(self.latest);
        let slot = self.slot(key, time)?;
        let mut credit = Credit::read(self.table.words(slot));
        if time < credit.full {
            return None;
        }
        let now = time.max(credit.last);
        credit.last = now;
        if credit.level.is_full(now) {
            credit.full = now;
        }
        // No bucket holds more than `burst` tokens, and the first hit that finds none decides.
        let wanted = count.min(self.burst.saturating_add(1));
        let over = (0..wanted).any(|_| !self.bucket.take(&mut credit.level, now));
        credit.write(self.table.words_mut(slot));
        let hits = self.bucket.taken_since(credit.level, credit.full).saturating_add(1);
        over.then_some((hits, credit.full))
    }

    pub(super) fn tally(&self, key: &Key, time: Timestamp) -> Option<Tally> {
        let credit = Credit::read(self.table.words(self.table.find(key)?));
        let now = time.max(credit.last);
        let spent = if credit.level.is_full(now) { 0 } else { self.bucket.taken_since(credit.level, now) };
        Some(Tally { hits: spent, first: credit.full, last: credit.last })
    }

    pub(super) fn forget(&mut self, prefix: IpNet) {
        self.table.remove_covered(prefix);
    }

    pub(super) fn forget_all(&mut self, prefixes: &Nets) {
        self.table.remove_all_covered(prefixes);
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        if self.latest > now {
            self.latest = now;
            self.table.retain(|_, words| Credit::read(words).last <= now);
        }
    }

    pub(super) fn set_keys(&mut self, keys: Keys) {
        self.table.set_keys(keys);
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The slot of this source; `None` when there is no room for it. For a new one the source with the fullest bucket
    /// makes room, first among those whose evidence may be forged; of several, the one that has been quiet for longest.
    /// What may be forged never takes the room of what is proven, before its bucket is full: that is as good as none.
    fn slot(&mut self, key: Key, time: Timestamp) -> Option<usize> {
        if let Some(slot) = self.table.find(&key) {
            return Some(slot);
        }
        let rank = |proven: bool, words: &[u32]| {
            let credit = Credit::read(words);
            let until_full = credit.level.until_full(time);
            let firm = proven && until_full > 0;
            (key.is_proven() || !firm).then_some((firm, until_full, credit.last))
        };
        if self.table.is_full() && !self.table.evict_for(&key, rank) {
            return None;
        }
        let slot = self.table.insert(key);
        Credit { level: Level::default(), full: time, last: time }.write(self.table.words_mut(slot));
        Some(slot)
    }
}

impl Credit {
    const WORDS: usize = 6;

    fn read(words: &[u32]) -> Credit {
        let long = |at: usize| u64::from(words[at]) << 32 | u64::from(words[at + 1]);
        let time = |at| Timestamp::from_micros(long(at).cast_signed());
        Credit { level: Level::of(long(0)), full: time(2), last: time(4) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "each is cut into two words")]
    fn write(self, words: &mut [u32]) {
        let longs = [self.level.get(), self.full.as_micros().cast_unsigned(), self.last.as_micros().cast_unsigned()];
        for (pair, long) in words.chunks_exact_mut(2).zip(longs) {
            pair.copy_from_slice(&[(long >> 32) as u32, long as u32]);
        }
    }
}

#[cfg(test)]
mod tests;
