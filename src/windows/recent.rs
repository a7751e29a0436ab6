//! A window with the meaning of `iptables -m recent`: `--set`, then `--rcheck` or `--update` with `--seconds` and
//! `--hitcount` (`net/netfilter/xt_recent.c`); or with the same meaning for different users or ports in place of hits.
//!
//! Every hit stamps its source. It is an offence when at least `hitcount` stamps, its own included, are at most
//! `seconds` old (inclusive). Nothing is reset by an offence: the next hit within the window is one again.
//!
//! **Exactly `hitcount` stamps are enough.** Whether `hitcount` stamps are recent depends only on the `hitcount`-th
//! newest of them, so the newest `hitcount` suffice, in whatever order they came and, with `--update`, however often a
//! hit stamps.
//!
//! The kernel's clock never goes back; ours does, when one log is read after another. A hit that is read late takes its
//! place in time, and counts if the stamps, with it, span no more than the window. To judge it by its own age alone would
//! count the stamps after it however far they are away, and could ban for hits that no window holds together.

use std::time::Duration;

use ipnet::IpNet;

use crate::keyed::Keys;
use crate::time::Timestamp;
use crate::windows::key::Key;
use crate::windows::marks::Marks;
use crate::windows::nets::Nets;
use crate::windows::table::Table;
use crate::windows::ticks::Ticks;
use crate::windows::{Check, Tally};

pub(super) struct Recent {
    hitcount: u16,
    counting: Counting,
    ticks: Ticks,
    /// The latest hit of all.
    latest: Timestamp,
    table: Table,
    marks: Marks,
}

/// What adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    Hits(Check),
    /// Different tags.
    Tags,
}

impl Recent {
    /// `hitcount` is brought into 1 to 65,535, as the kernel's is.
    pub(super) fn new(hitcount: u32, seconds: Duration, counting: Counting, capacity: usize) -> Recent {
        let hitcount = u16::try_from(hitcount).unwrap_or(u16::MAX).max(1);
        let marks = Marks::new(hitcount);
        let (ticks, table) = (Ticks::new(seconds), Table::new(capacity, marks.words()));
        Recent { hitcount, counting, ticks, latest: Timestamp::EPOCH, table, marks }
    }

    /// The number of hits that were too many, and the time of the oldest, when this one was. The tag is what tells hits
    /// of one source apart: what was tried.
    pub(super) fn hit(&mut self, key: Key, time: Timestamp, count: u32, tag: u16) -> Option<(u32, Timestamp)> {
        let now = self.now(time)?;
        let slot = self.slot(key, self.ticks.edge(now))?;
        let (words, marks, ticks) = (self.table.words_mut(slot), self.marks, &self.ticks);
        let first = |words: &[u32]| marks.span(words).filter(|span| ticks.holds(*span, now)).map(|(oldest, _)| oldest);
        match self.counting {
            Counting::Tags => marks.add_once(words, now, tag),
            Counting::Hits(check) => {
                // More than `hitcount` equal stamps change nothing.
                for _ in 0..count.min(u32::from(self.hitcount)) {
                    marks.add(words, now, tag);
                    if check == Check::Update && first(words).is_some() {
                        marks.add(words, now, tag);
                    }
                }
            }
        }
        Some((u32::from(self.hitcount), ticks.time(first(words)?)))
    }

    /// What a source did under this tag until then is undone. Most who log in have done nothing, and no tag is asked for.
    pub(super) fn forgive(&mut self, key: &Key, time: Timestamp, tag: impl FnOnce() -> Option<u16>) {
        // Whoever has done nothing must not move the base.
        let Some(tag) = self.table.find(key).and_then(|_| tag()) else { return };
        // Where it lies is asked again: that may change as the base moves.
        let Some((now, slot)) = self.now(time).zip(self.table.find(key)) else { return };
        let kept = |stamp, other| Some(stamp).filter(|stamp| other != tag || *stamp > now);
        if !self.marks.rewrite(self.table.words_mut(slot), kept) {
            self.table.remove(slot);
        }
    }

    pub(super) fn tally(&self, key: &Key, time: Timestamp) -> Option<Tally> {
        let stamps = self.marks.stamps(self.table.words(self.table.find(key)?));
        let (last, now) = (*stamps.iter().max()?, self.ticks.known(time)?);
        let within = || stamps.iter().copied().filter(|stamp| *stamp >= self.ticks.edge(now));
        let hits = u32::try_from(within().count()).unwrap_or(u32::MAX);
        let first = self.ticks.time(within().min().unwrap_or(last));
        Some(Tally { hits, first, last: self.ticks.time(last) })
    }

    pub(super) fn forget(&mut self, prefix: IpNet) {
        self.table.remove_covered(prefix);
    }

    pub(super) fn forget_all(&mut self, prefixes: &Nets) {
        self.table.remove_all_covered(prefixes);
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        if self.latest <= now {
            return;
        }
        self.latest = now;
        let (tick, marks) = (self.ticks.tick(now), self.marks);
        let kept = |stamp, _| Some(stamp).filter(|stamp| Some(*stamp) <= tick);
        self.table.retain(|_, words| marks.rewrite(words, kept));
        if tick.is_none() {
            self.ticks.reset();
        }
    }

    pub(super) fn set_keys(&mut self, keys: Keys) {
        self.table.set_keys(keys);
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The tick of this time, after moving the base when it is out of reach.
    fn now(&mut self, time: Timestamp) -> Option<u32> {
        self.latest = time.max(self.latest);
        self.ticks.tick(time).or_else(|| {
            let (by, marks) = (self.ticks.overrun(time)?, self.marks);
            self.table.retain(|_, words| marks.rewrite(words, |stamp, _| Ticks::shifted(stamp, by)));
            self.ticks.advance(by);
            self.ticks.tick(time)
        })
    }

    /// The slot of this source; `None` when there is no room for it. For a new one the source with the fewest stamps
    /// since `edge` makes room, first among those whose evidence may be forged; of several, the one that has been quiet
    /// for longest. What may be forged never takes the room of what is proven, before that has expired.
    fn slot(&mut self, key: Key, edge: u32) -> Option<usize> {
        if let Some(slot) = self.table.find(&key) {
            return Some(slot);
        }
        let marks = self.marks;
        let rank = |proven: bool, words: &[u32]| {
            let stamps = marks.stamps(words);
            let since = stamps.iter().filter(|stamp| **stamp >= edge).count();
            let firm = proven && since > 0;
            (key.is_proven() || !firm).then(|| (firm, since, stamps.iter().max().copied()))
        };
        let room = !self.table.is_full() || self.table.evict_for(&key, rank);
        room.then(|| self.table.insert(key))
    }
}

#[cfg(test)]
mod tests;
