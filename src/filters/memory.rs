//! What the earlier lines of a log leave behind for its later ones. In: addresses and accusations, each under the key
//! of its connection, session or queue entry. Out: the address for an accusation. Bounded in number and in log time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use super::envelope::Torn;
use crate::time::Timestamp;

/// Most keys that are remembered of one log; the oldest makes room.
const MOST_KEYS: usize = 4096;

/// The memory of one log. It belongs to the thread that reads the log; filters are shared, memories never are.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) torn: Torn,
    /// Space for lines that must be rewritten to be read.
    pub(super) scratch: Vec<u8>,
    said: HashMap<Key, (Timestamp, Said)>,
    /// The keys of `said` in the order in which they came.
    order: VecDeque<Key>,
    /// Keyed by chance, so that nobody can choose two texts with the same key.
    keys: RandomState,
}

/// Which lines belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

/// What was said under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Address(IpAddr),
    /// The line that should name the address has none.
    Nobody,
    Accusation(Accusation),
}

/// A line that accuses whoever the key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accusation {
    pub(super) pattern: u16,
    pub(super) repeat: u32,
}

impl Memory {
    /// The key of a text (`id`) by which lines of a host belong together for one join of one filter.
    pub(super) fn key(&self, filter: u16, join: u16, host: &[u8], id: &[u8]) -> Key {
        Key(self.keys.hash_one((filter, join, host, id)))
    }

    /// Keeps the address of a key; gives the accusation that waits for it.
    pub(super) fn name(
        &mut self,
        key: Key,
        address: Option<IpAddr>,
        now: Timestamp,
        within: Duration,
    ) -> Option<Accusation> {
        let before = self.keep(key, now, address.map_or(Said::Nobody, Said::Address));
        match before {
            Some((time, Said::Accusation(accusation))) if is_near(time, now, within) => Some(accusation),
            _ => None,
        }
    }

    /// The address of a key.
    pub(super) fn address(&self, key: Key, now: Timestamp, within: Duration) -> Option<IpAddr> {
        match self.said.get(&key)? {
            (time, Said::Address(address)) if is_near(*time, now, within) => Some(*address),
            _ => None,
        }
    }

    /// Keeps an accusation until the address of its key is named.
    pub(super) fn accuse(&mut self, key: Key, accusation: Accusation, now: Timestamp) {
        self.keep(key, now, Said::Accusation(accusation));
    }

    fn keep(&mut self, key: Key, now: Timestamp, said: Said) -> Option<(Timestamp, Said)> {
        let before = self.said.insert(key, (now, said));
        if before.is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.said.remove(&oldest);
        }
        before
    }
}

fn is_near(time: Timestamp, now: Timestamp, within: Duration) -> bool {
    u128::from(time.as_micros().abs_diff(now.as_micros())) <= within.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn an_address_is_known_under_its_key_for_its_time() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"host", b"411");
        memory.name(key, ADDRESS, at(0), MINUTE);
        assert_eq!(memory.address(key, at(60), MINUTE), ADDRESS);
        assert_eq!(memory.address(key, at(61), MINUTE), None);
        for other in
            [memory.key(1, 0, b"host", b"411"), memory.key(0, 0, b"h", b"411"), memory.key(0, 0, b"host", b"4")]
        {
            assert_eq!(memory.address(other, at(0), MINUTE), None);
        }
    }

    #[test]
    fn a_key_that_is_used_again_forgets_whose_it_was() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"", b"411");
        memory.name(key, ADDRESS, at(0), MINUTE);
        memory.name(key, None, at(1), MINUTE);
        assert_eq!(memory.address(key, at(1), MINUTE), None);
    }

    #[test]
    fn an_accusation_waits_for_its_address_once() {
        let mut memory = Memory::default();
        let key = memory.key(0, 0, b"", b"q");
        let accusation = Accusation { pattern: 3, repeat: 1 };
        memory.accuse(key, accusation.clone(), at(0));
        assert_eq!(memory.name(key, ADDRESS, at(5), MINUTE), Some(accusation.clone()));
        assert_eq!(memory.name(key, ADDRESS, at(5), MINUTE), None);
        memory.accuse(key, accusation, at(10));
        assert_eq!(memory.name(key, ADDRESS, at(90), MINUTE), None);
    }

    #[test]
    fn the_oldest_key_makes_room() {
        let mut memory = Memory::default();
        let key = |memory: &Memory, number: usize| memory.key(0, 0, b"", &number.to_le_bytes());
        for number in 0..=MOST_KEYS {
            let key = key(&memory, number);
            memory.name(key, ADDRESS, at(0), MINUTE);
        }
        assert_eq!(memory.address(key(&memory, 0), at(0), MINUTE), None);
        assert_eq!(memory.address(key(&memory, 1), at(0), MINUTE), ADDRESS);
        assert_eq!((memory.said.len(), memory.order.len()), (MOST_KEYS, MOST_KEYS));
    }
}
