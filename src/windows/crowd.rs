//! A window that sees one account attacked from many sources, each of which does little: the offence is the hit by
//! which one user was tried from `hitcount` sources within `seconds` (inclusive). All of them have taken part.
//!
//! A source from which that user has logged in is left out, before and after. A user who mistypes on the way home must
//! not be taken for the last of a crowd.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::keyed::Keys;
use crate::time::Timestamp;
use crate::windows::key::{Key, bits_of};
use crate::windows::nets::Nets;
use crate::windows::table::Table;
use crate::windows::ticks::Ticks;

pub(super) struct Crowd {
    hitcount: u16,
    ticks: Ticks,
    /// The latest hit of all.
    latest: Timestamp,
    /// By user: its members, the newest `hitcount` sources. A source that logged in is none.
    tried: Table,
    /// By user and source: the second since 1970 of the latest log-in.
    logged_in: Table,
    keys: [Keys; 2],
}

/// A source that tried a user, in words: four of the address, then the tick of its latest hit, or 0 for nobody.
const MEMBER: usize = 5;

impl Crowd {
    /// Follows `capacity` users, and log-ins, at most.
    pub(super) fn new(hitcount: u32, seconds: Duration, capacity: usize) -> Crowd {
        let hitcount = u16::try_from(hitcount).unwrap_or(u16::MAX).max(1);
        Crowd {
            hitcount,
            ticks: Ticks::new(seconds),
            latest: Timestamp::EPOCH,
            tried: Table::new(capacity, usize::from(hitcount) * MEMBER),
            logged_in: Table::new(capacity, 1),
            keys: [Keys::by_chance(), Keys::by_chance()],
        }
    }

    /// Has it go by other keys as long as it is empty.
    pub(super) fn set_keys(&mut self, seed: u64) {
        self.keys = [1, 2].map(|more| Keys::of(seed.wrapping_add(more)));
        for table in [&mut self.tried, &mut self.logged_in] {
            table.set_keys(Keys::of(seed));
        }
    }

    /// A source (an address within the prefix that is counted) has tried a user. When it is one too many: how many they
    /// are, since when, and the others.
    pub(super) fn hit(
        &mut self,
        user: &str,
        counted: IpNet,
        address: IpAddr,
        time: Timestamp,
    ) -> Option<(u32, Timestamp, Vec<IpAddr>)> {
        if self.logged_in.find(&self.key((user, counted))).is_some() {
            return None;
        }
        let now = self.now(time)?;
        self.latest = time.max(self.latest);
        let slot = self.slot(self.key(user), self.ticks.edge(now));
        let members = self.tried.words_mut(slot).as_chunks_mut().0;
        let own = members.iter().position(|member| is_of(member, counted));
        match own {
            Some(own) => members[own][4] = members[own][4].max(now),
            // An empty place is the oldest.
            None => match members.iter_mut().min_by_key(|member| member[4]) {
                Some(oldest) if oldest[4] < now => *oldest = member(address, now),
                _ => return None,
            },
        }
        let stamps = members.iter().map(|member| member[4]);
        let span = (stamps.clone().min()?, stamps.max()?);
        if span.0 == 0 || !self.ticks.holds(span, now) {
            return None;
        }
        let others = members.iter().filter(|member| !is_of(member, counted)).map(address_of).collect();
        Some((u32::from(self.hitcount), self.ticks.time(span.0), others))
    }

    /// The user has logged in from this source.
    pub(super) fn forgive(&mut self, user: &str, counted: IpNet, time: Timestamp) {
        if let Some(slot) = self.tried.find(&self.key(user)) {
            let members = self.tried.words_mut(slot).as_chunks_mut().0;
            if let Some(own) = members.iter_mut().find(|member| is_of(member, counted)) {
                own.fill(0);
            }
        }
        let key = self.key((user, counted));
        let second = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let slot = self.logged_in.find(&key).unwrap_or_else(|| {
            if self.logged_in.is_full() {
                self.logged_in.evict_for(&key, |_, words| Some(words[0]));
            }
            self.logged_in.insert(key)
        });
        let latest = &mut self.logged_in.words_mut(slot)[0];
        *latest = second.max(*latest);
    }

    pub(super) fn forget(&mut self, prefix: IpNet) {
        self.rewrite(|member| if is_of(member, prefix) { None } else { Some(member[4]) });
    }

    pub(super) fn forget_all(&mut self, prefixes: &Nets) {
        self.rewrite(|member| Some(member[4]).filter(|_| !prefixes.cover(address_of(member).into())));
    }

    pub(super) fn rewind(&mut self, now: Timestamp) {
        if self.latest <= now {
            return;
        }
        self.latest = now;
        let tick = self.ticks.tick(now);
        self.rewrite(|member| Some(member[4]).filter(|stamp| Some(*stamp) <= tick));
        if tick.is_none() {
            self.ticks.reset();
        }
    }

    pub(super) fn table(&self) -> &Table {
        &self.tried
    }

    /// The tick of this time, after moving the base when it is out of reach.
    fn now(&mut self, time: Timestamp) -> Option<u32> {
        self.ticks.tick(time).or_else(|| {
            let by = self.ticks.overrun(time)?;
            self.rewrite(|member| Ticks::shifted(member[4], by));
            self.ticks.advance(by);
            self.ticks.tick(time)
        })
    }

    /// Replaces the stamp of every member; `None` removes the member, and a user whom nobody tried is forgotten.
    fn rewrite(&mut self, stamp: impl Fn(&[u32; MEMBER]) -> Option<u32>) {
        self.tried.retain(|_, words| {
            let mut some = false;
            for member in words.as_chunks_mut().0.iter_mut().filter(|member| member[4] > 0) {
                member[4] = stamp(member).unwrap_or(0);
                some |= member[4] > 0;
            }
            some
        });
    }

    /// The slot of this user. For a new one the user who was tried from the fewest sources since `edge` makes room; of
    /// several, the one who has been left alone for longest.
    fn slot(&mut self, key: Key, edge: u32) -> usize {
        if let Some(slot) = self.tried.find(&key) {
            return slot;
        }
        if self.tried.is_full() {
            self.tried.evict_for(&key, |_, words| {
                let stamps = words.iter().skip(4).step_by(MEMBER);
                Some((stamps.clone().filter(|stamp| **stamp >= edge).count(), stamps.max().copied()))
            });
        }
        self.tried.insert(key)
    }

    /// A hash of 128 bits, keyed by chance: no two names that anybody could find have the same.
    fn key(&self, of: impl std::hash::Hash) -> Key {
        let [high, low] = [0, 1].map(|half: usize| u128::from(self.keys[half].hash_one(&of)));
        Key::of_hash(high << 64 | low)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the bits are cut into words")]
fn member(address: IpAddr, tick: u32) -> [u32; MEMBER] {
    let bits = bits_of(address);
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32, tick]
}

fn address_of(member: &[u32; MEMBER]) -> IpAddr {
    let [a, b, c, d, _] = member.map(u128::from);
    Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d).to_canonical()
}

/// Whether there is a member, and it lies within the prefix.
fn is_of(member: &[u32; MEMBER], prefix: IpNet) -> bool {
    member[4] > 0 && prefix.contains(&address_of(member))
}

#[cfg(test)]
mod tests;
