//! A window with the meaning of `iptables -m recent`: `--set`, then `--rcheck` or `--update` with `--seconds` and
//! `--hitcount` (`net/netfilter/xt_recent.c`).
//!
//! Every hit stamps its source. It is an offence when at least `hitcount` stamps, its own included, are at most
//! `seconds` old (inclusive). Nothing is reset by an offence: the next hit within the window is one again.
//!
//! **A ring of exactly `hitcount` stamps is enough.** Whether `hitcount` stamps are recent depends only on the
//! `hitcount`-th newest of them, so the newest `hitcount` suffice, in whatever order they came and, with `--update`,
//! however often a hit stamps.
//!
//! The kernel's clock never goes back; ours does, when one log is read after another. A hit that is read late takes its
//! place in time, and counts if the ring, with it, spans no more than the window. To judge it by its own age alone would
//! count the stamps after it however far they are away, and could ban for hits that no window holds together.

use std::time::Duration;

use ipnet::IpNet;

use crate::time::Timestamp;
use crate::windows::stamps::{Ring, Stamps};
use crate::windows::table::{Key, Table};
use crate::windows::{Check, Offence};

/// Stamps of all full rings of one window: 128 MiB, and at worst one and a third times as much again in blocks that
/// rings have outgrown. A window with a large `hitcount` follows fewer sources instead; those with many stamps are the
/// last to go.
const MAX_STAMPS: usize = 32 << 20;

/// Longest window in ticks, a quarter of what a stamp can tell apart.
const MAX_WINDOW: u32 = 1 << 30;

pub(super) struct Recent {
    hitcount: u16,
    check: Check,
    ticks: Ticks,
    /// The latest hit of all.
    latest: Timestamp,
    table: Table<Ring>,
    stamps: Stamps,
}

impl Recent {
    /// `hitcount` is brought into 1 to 65,535, as the kernel's is.
    pub(super) fn new(hitcount: u32, seconds: Duration, check: Check, capacity: usize) -> Recent {
        let hitcount = u16::try_from(hitcount).unwrap_or(u16::MAX).max(1);
        let capacity = capacity.min(MAX_STAMPS / usize::from(hitcount));
        let (ticks, table, stamps) = (Ticks::new(seconds), Table::new(capacity), Stamps::new(hitcount));
        Recent { hitcount, check, ticks, latest: Timestamp::EPOCH, table, stamps }
    }

    pub(super) fn hit(&mut self, source: IpNet, time: Timestamp, repeat: u32) -> Option<Offence> {
        let now = self.now(time)?;
        self.latest = time.max(self.latest);
        let slot = self.slot(Key::of(source), self.ticks.edge(now));
        let (ring, stamps, ticks) = (self.table.value_mut(slot), &mut self.stamps, &self.ticks);
        let mut first = None;
        // More than `hitcount` equal stamps change nothing.
        for _ in 0..repeat.clamp(1, u32::from(self.hitcount)) {
            stamps.push(ring, now);
            let within = |&(oldest, newest): &(u32, u32)| oldest <= now && oldest >= ticks.edge(newest);
            first = stamps.span(*ring).filter(within).map(|(oldest, _)| oldest);
            if first.is_some() && self.check == Check::Update {
                stamps.push(ring, now);
            }
        }
        Some(Offence { hits: u32::from(self.hitcount), first: ticks.time(first?) })
    }

    pub(super) fn forget(&mut self, prefix: IpNet) {
        let stamps = &mut self.stamps;
        self.table.remove_covered(prefix, |mut ring| stamps.clear(&mut ring));
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        if self.latest <= now {
            return;
        }
        self.latest = now;
        let (tick, stamps) = (self.ticks.tick(now), &mut self.stamps);
        self.table.retain(|ring| stamps.rewrite(ring, |stamp| Some(stamp).filter(|stamp| Some(*stamp) <= tick)));
        if tick.is_none() {
            self.ticks.base = None;
        }
    }

    pub(super) fn tracked(&self) -> usize {
        self.table.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    /// The tick of this time, after moving the base when it is out of reach.
    fn now(&mut self, time: Timestamp) -> Option<u32> {
        let by = self.ticks.overrun(time);
        if by > 0 {
            let stamps = &mut self.stamps;
            let shift = |stamp| u64::from(stamp).checked_sub(by).and_then(|stamp| u32::try_from(stamp).ok());
            self.table.retain(|ring| stamps.rewrite(ring, shift));
            self.ticks.advance(by);
        }
        self.ticks.tick(time)
    }

    /// The slot of this source. For a new one the source with the fewest stamps since `edge` makes room; of several,
    /// the one that has been quiet for longest. One with no stamp since then has expired, and so goes first.
    fn slot(&mut self, key: Key, edge: u32) -> usize {
        if let Some(slot) = self.table.find(&key) {
            return slot;
        }
        if self.table.is_full() {
            let stamps = &self.stamps;
            let evicted = self.table.evict(|ring| (stamps.count_since(*ring, edge), stamps.newest(*ring)));
            if let Some(mut ring) = evicted {
                self.stamps.clear(&mut ring);
            }
        }
        self.table.insert(key, Ring::default())
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + self.stamps.memory()
    }
}

/// Times as 32-bit ticks after a moving base: milliseconds, or seconds for windows beyond 12 days. Ticks are counted
/// from 1970, so that whole seconds lose nothing and the inclusive edge of the window is exact for them.
struct Ticks {
    /// Length of a tick in microseconds.
    length: i64,
    /// In ticks. The kernel compares with whole jiffies likewise.
    window: u32,
    /// The tick since 1970 that is 0 here; half the range before the first hit, so that other logs may lag behind.
    base: Option<i64>,
}

/// Half of what a tick can reach: 24 days, or 68 years.
const HALF: i64 = 1 << 31;

impl Ticks {
    fn new(window: Duration) -> Ticks {
        let in_ticks = |length: u32| u32::try_from(window.as_micros() / u128::from(length)).unwrap_or(u32::MAX);
        let (milliseconds, seconds) = (in_ticks(1000), in_ticks(1_000_000));
        if milliseconds <= MAX_WINDOW {
            Ticks { length: 1000, window: milliseconds, base: None }
        } else {
            Ticks { length: 1_000_000, window: seconds.min(MAX_WINDOW), base: None }
        }
    }

    /// By how many ticks the base has to advance before this time has a tick.
    fn overrun(&self, time: Timestamp) -> u64 {
        let tick = time.as_micros() / self.length;
        match self.base {
            Some(base) if tick >= base + 2 * HALF => u64::try_from(tick - HALF - base).unwrap_or(0),
            _ => 0,
        }
    }

    fn advance(&mut self, by: u64) {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        self.base = self.base.map(|base| base.saturating_add(by));
    }

    /// `None` for a time so long before the first hit that it cannot be told: such a hit does not count.
    fn tick(&mut self, time: Timestamp) -> Option<u32> {
        let tick = time.as_micros() / self.length;
        let base = *self.base.get_or_insert(tick - HALF);
        u32::try_from(tick - base).ok()
    }

    /// The oldest tick that is still within the window.
    fn edge(&self, now: u32) -> u32 {
        now.saturating_sub(self.window)
    }

    fn time(&self, tick: u32) -> Timestamp {
        let ticks = self.base.unwrap_or_default() + i64::from(tick);
        Timestamp::from_micros(ticks.saturating_mul(self.length))
    }
}

#[cfg(test)]
mod tests;
