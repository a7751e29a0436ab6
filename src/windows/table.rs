//! Where a window keeps what it knows of each source: a bounded table by open addressing, all slots of one size and in
//! one piece of memory, so that a hit costs one look into it and no allocation.
//!
//! The keys lie in the order of their hashes, each as near behind its home slot as those before it leave room ("Robin
//! Hood"): a search ends at the first slot whose key is nearer to its home than the wanted one would be, so that seven
//! of eight slots may be in use. Attackers choose the keys, so the hash is keyed: nobody can choose many for one home.

use std::hash::BuildHasher;

use ipnet::IpNet;

use super::key::Key;
use super::nets::Nets;
use crate::filters::Evidence;
use crate::keyed::Keys;

/// How many neighbours compete for being evicted. Looking at all would make a flood of new sources quadratic.
pub(super) const SAMPLE: usize = 16;

/// Most memory of one table. Where slots are large, fewer sources are followed instead.
const MAX_BYTES: usize = 256 << 20;

/// A table of so many words is near at all times: half of what a processor's second cache holds.
const NEAR: usize = 128 << 10;

/// A new table has at least as many slots, if its capacity allows.
const FIRST_SLOTS: usize = 64;

/// At most `capacity` keys, each with the same number of words.
pub(super) struct Table {
    /// Per slot: the key, in the upper half of whose last word stands the way from home, from 1 on, or 0 in a free
    /// slot; then the words of the window.
    memory: Vec<u32>,
    width: usize,
    /// How many slots there are: `most_slots`, halved as often as `halvings` says.
    slots: usize,
    most_slots: usize,
    halvings: u32,
    capacity: usize,
    len: usize,
    keys: Keys,
    evicted: u64,
    /// The longest key of each family so far (IPv6, IPv4): no shorter prefix can be found by its hash alone.
    longest: [u8; 2],
}

impl Table {
    /// A table for that many keys with that many words each. It grows from small; its memory stays within
    /// [`MAX_BYTES`], except for a moment while it grows, when it is half more.
    pub(super) fn new(capacity: usize, words: usize) -> Table {
        let width = Key::WORDS + words;
        let capacity = capacity.min(MAX_BYTES / (4 * width) * 7 / 8).max(1);
        let most_slots = capacity * 8 / 7 + 1;
        let halvings = (most_slots / FIRST_SLOTS).checked_ilog2().unwrap_or(0);
        Table {
            memory: Vec::new(),
            width,
            slots: 0,
            most_slots,
            halvings,
            capacity,
            len: 0,
            keys: Keys::by_chance(),
            evicted: 0,
            longest: [0; 2],
        }
    }

    /// Has an empty table go by other keys.
    pub(super) fn set_keys(&mut self, keys: Keys) {
        debug_assert_eq!(self.len, 0);
        self.keys = keys;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Sources that had to make room for others, or found none.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The slot of this key, until the next insertion or removal.
    pub(super) fn find(&self, key: &Key) -> Option<usize> {
        let words = key.to_words();
        let (mut slot, mut way) = (self.home(key)?, 1);
        loop {
            let [a, b, c, d, last] = *self.memory[slot * self.width..].first_chunk::<{ Key::WORDS }>()?;
            match last >> 16 {
                there if there < way => return None,
                there if there == way && [a, b, c, d, last & 0xffff] == words => return Some(slot),
                _ => (slot, way) = (self.next(slot), way + 1),
            }
        }
    }

    /// The memory in which the source lies, if it does: the slot where it belongs and the two behind it. Empty where
    /// all memory is near anyway.
    pub(super) fn around(&self, source: IpNet, evidence: Evidence) -> &[u32] {
        if self.memory.len() <= NEAR {
            return &[];
        }
        let home = self.home(&Key::of(source, evidence)).unwrap_or_default() * self.width;
        self.memory.get(home..home + 3 * self.width).unwrap_or_default()
    }

    /// What the window keeps in this slot.
    pub(super) fn words(&self, slot: usize) -> &[u32] {
        &self.memory[slot * self.width + Key::WORDS..(slot + 1) * self.width]
    }

    pub(super) fn words_mut(&mut self, slot: usize) -> &mut [u32] {
        &mut self.memory[slot * self.width + Key::WORDS..(slot + 1) * self.width]
    }

    /// A slot for the key, its words all 0. The key is new and the table is not full: the caller has looked, and made
    /// room.
    pub(super) fn insert(&mut self, key: Key) -> usize {
        if (self.len + 1) * 8 > self.slots * 7 && self.slots < self.most_slots {
            self.grow();
        }
        let longest = &mut self.longest[usize::from(key.is_ipv4())];
        *longest = key.length().max(*longest);
        let slot = self.place(&key);
        self.words_mut(slot).fill(0);
        slot
    }

    /// Makes room for a key: removes the source of the lowest rank among the neighbours of its home, so that one piece
    /// of memory is all that is touched. Ranks are given by whether a source is proven, and by its words. None that has
    /// no rank goes; whether one went.
    pub(super) fn evict_for<R: Ord>(&mut self, key: &Key, rank: impl Fn(bool, &[u32]) -> Option<R>) -> bool {
        let Some(mut slot) = self.home(key) else { return false };
        let (mut seen, mut least): (usize, Option<(R, usize)>) = (0, None);
        for _ in 0..self.slots {
            if seen == SAMPLE {
                break;
            }
            if self.way(slot) > 0 {
                seen += 1;
                let proven = Key::is_proven_in(self.memory[slot * self.width + Key::WORDS - 1]);
                if let Some(rank) = rank(proven, self.words(slot))
                    && least.as_ref().is_none_or(|(least, _)| rank < *least)
                {
                    least = Some((rank, slot));
                }
            }
            slot = self.next(slot);
        }
        self.evicted += 1;
        least.map(|(_, slot)| self.remove(slot)).is_some()
    }

    /// Removes every source that `prefix` covers.
    pub(super) fn remove_covered(&mut self, prefix: IpNet) {
        if !self.remove_exact(prefix) {
            let wide = Key::of(prefix, Evidence::Proven);
            self.retain(|key, _| !wide.covers(key));
        }
    }

    /// The same of many prefixes.
    pub(super) fn remove_all_covered(&mut self, prefixes: &Nets) {
        let wide: Nets = prefixes.iter().filter(|prefix| !self.remove_exact(*prefix)).collect();
        if wide.iter().next().is_some() {
            self.retain(|key, _| !wide.cover(key.prefix()));
        }
    }

    /// Removes exactly this source; `false` where there may be sources within it.
    fn remove_exact(&mut self, prefix: IpNet) -> bool {
        let keys = [Evidence::Proven, Evidence::Forgeable].map(|evidence| Key::of(prefix, evidence));
        if keys[0].length() < self.longest[usize::from(keys[0].is_ipv4())] {
            return false;
        }
        for key in keys {
            if let Some(slot) = self.find(&key) {
                self.remove(slot);
            }
        }
        true
    }

    /// Shows every source once; those for which the answer is false are removed.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key, &mut [u32]) -> bool) {
        // What a removal moves comes from behind, as far as the next free slot: from there on, all is seen once.
        let Some(free) = (0..self.slots).find(|slot| self.way(*slot) == 0) else { return };
        let mut slot = self.next(free);
        while slot != free {
            if self.way(slot) > 0 {
                let key = self.key(slot);
                if !keep(&key, self.words_mut(slot)) {
                    self.remove(slot);
                    continue;
                }
            }
            slot = self.next(slot);
        }
    }

    /// Frees a slot: the keys behind it that are not at home move one slot nearer.
    pub(super) fn remove(&mut self, slot: usize) {
        let mut last = slot;
        while self.way(self.next(last)) > 1 {
            last = self.next(last);
        }
        self.close(slot, last);
        self.set_way(last, 0);
        self.len -= 1;
    }

    /// The slot where the key belongs; the keys from there to the next free slot move one slot on.
    fn place(&mut self, key: &Key) -> usize {
        let (mut slot, mut way) = (self.home(key).expect("there are slots: they were made before"), 1);
        while self.way(slot) >= way {
            (slot, way) = (self.next(slot), way + 1);
        }
        let mut free = slot;
        while self.way(free) > 0 {
            free = self.next(free);
        }
        self.open(slot, free);
        let start = slot * self.width;
        self.memory[start..start + Key::WORDS].copy_from_slice(&key.to_words());
        self.set_way(slot, way);
        self.len += 1;
        slot
    }

    fn grow(&mut self) {
        self.halvings -= u32::from(self.slots > 0);
        let slots = self.most_slots.div_ceil(1 << self.halvings);
        let old = std::mem::replace(&mut self.memory, vec![0; slots * self.width]);
        (self.slots, self.len) = (slots, 0);
        // Those at the beginning that came from around the end are the last in the order of homes.
        let mut each = old.chunks_exact(self.width).enumerate();
        let around = each.position(|(slot, source)| way_in(source) as usize <= slot + 1).unwrap_or(0);
        let (around, others) = old.split_at(around * self.width);
        let sources = others.chunks_exact(self.width).chain(around.chunks_exact(self.width));
        self.fill(sources.filter(|source| way_in(source) > 0));
    }

    /// Puts these slots of another table into this one, which is empty. They lie in the order of their homes there, and so
    /// nearly in that of their homes here: most have their place right behind the one before, and it need not be looked for.
    fn fill<'s>(&mut self, sources: impl Iterator<Item = &'s [u32]>) {
        let (mut next, mut before) = (0, 0);
        for source in sources {
            let key = key_of(source);
            let home = self.home(&key).expect("there are slots");
            let slot = home.max(next);
            if home >= before && slot < self.slots {
                self.memory[slot * self.width..(slot + 1) * self.width].copy_from_slice(source);
                self.set_way(slot, u32::try_from(slot - home + 1).unwrap_or(u32::MAX));
                self.len += 1;
                (next, before) = (slot + 1, home);
                continue;
            }
            let slot = self.place(&key);
            self.words_mut(slot).copy_from_slice(&source[Key::WORDS..]);
            while next < self.slots && self.way(next) > 0 {
                next += 1;
            }
        }
    }

    /// Where the key lies if nothing else lies there; `None` before the first insertion. Keeps the order of hashes, so
    /// that growing does too.
    fn home(&self, key: &Key) -> Option<usize> {
        let hash = u128::from(self.keys.hash_one(key));
        let home = (hash * self.slots as u128) >> 64;
        usize::try_from(home).ok().filter(|home| *home < self.slots)
    }

    fn next(&self, slot: usize) -> usize {
        if slot + 1 == self.slots { 0 } else { slot + 1 }
    }

    fn key(&self, slot: usize) -> Key {
        key_of(&self.memory[slot * self.width..])
    }

    /// Distance from home, counted from 1; 0 for a free slot.
    fn way(&self, slot: usize) -> u32 {
        self.memory[slot * self.width + Key::WORDS - 1] >> 16
    }

    /// With seven of eight slots in use no way of a keyed hash comes near 65,535.
    fn set_way(&mut self, slot: usize, way: u32) {
        let word = &mut self.memory[slot * self.width + Key::WORDS - 1];
        *word = *word & 0xffff | way << 16;
    }

    /// Moves what lies from `first` on, up to the free slot `free`, one slot on.
    fn open(&mut self, first: usize, free: usize) {
        if free < first {
            self.open(0, free);
            self.shift(self.slots - 1, 1, 0, 1);
            return self.open(first, self.slots - 1);
        }
        self.shift(first, free - first, first + 1, 1);
    }

    /// Moves what lies behind `gap`, up to and with `last`, one slot back.
    fn close(&mut self, gap: usize, last: usize) {
        if last < gap {
            self.close(gap, self.slots - 1);
            self.shift(0, 1, self.slots - 1, -1);
            return self.close(0, last);
        }
        self.shift(gap + 1, last - gap, gap, -1);
    }

    /// Moves `count` slots to another place, where the way from home is so much longer.
    fn shift(&mut self, from: usize, count: usize, to: usize, longer: i32) {
        self.memory.copy_within(from * self.width..(from + count) * self.width, to * self.width);
        for slot in to..to + count {
            self.set_way(slot, self.way(slot).saturating_add_signed(longer));
        }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        4 * self.memory.capacity()
    }
}

/// Distance from home of what lies in this slot, counted from 1; 0 where nothing does.
fn way_in(slot: &[u32]) -> u32 {
    slot[Key::WORDS - 1] >> 16
}

fn key_of(slot: &[u32]) -> Key {
    Key::from_words([slot[0], slot[1], slot[2], slot[3], slot[4]])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn numbered(number: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(number.to_be_bytes()))
    }

    fn key(number: u32) -> Key {
        Key::of(numbered(number), if number.is_multiple_of(2) { Evidence::Proven } else { Evidence::Forgeable })
    }

    #[test]
    fn nothing_can_be_found_in_or_evicted_from_an_empty_table() {
        let mut table = Table::new(4, 1);
        assert!(!table.evict_for(&key(1), |_, words| Some(words[0])));
        assert_eq!(table.find(&key(1)), None);
        table.remove_covered("0.0.0.0/0".parse().unwrap());
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_table_of_large_slots_has_fewer_of_them() {
        let table = Table::new(10_000_000, 1_000_000);
        assert_eq!(table.capacity, MAX_BYTES / (4 * 1_000_005) * 7 / 8);
    }

    #[test]
    fn a_full_table_has_all_its_keys_at_seven_eighths() {
        for capacity in [1, 2, 7, 100, 50_000] {
            let mut table = Table::new(usize::try_from(capacity).unwrap(), 1);
            for number in 0..capacity {
                assert!(!table.is_full());
                let slot = table.insert(key(number));
                table.words_mut(slot)[0] = number;
            }
            assert!(table.is_full());
            for number in 0..capacity {
                assert_eq!(table.words(table.find(&key(number)).unwrap()), [number]);
            }
            let slots = usize::try_from(capacity).unwrap() * 8 / 7 + 1;
            assert_eq!(table.bytes(), 4 * slots * (Key::WORDS + 1));
        }
    }

    proptest! {
        #[test]
        fn the_table_holds_what_a_map_would(
            capacity in 1_usize..200,
            steps in prop::collection::vec((0_u32..300, 0_u8..3), 1..600),
        ) {
            let mut table = Table::new(capacity, 2);
            let mut map = BTreeMap::new();
            for (number, step) in steps {
                match (step, table.find(&key(number))) {
                    (0, _) => { table.remove_covered(numbered(number)); map.remove(&number); }
                    (_, None) if table.is_full() => prop_assert_eq!(map.len(), capacity),
                    (_, None) => {
                        let slot = table.insert(key(number));
                        prop_assert_eq!(table.words(slot), [0, 0]);
                        table.words_mut(slot).copy_from_slice(&[number, number + 1]);
                        map.insert(number, number);
                    }
                    (_, Some(slot)) => prop_assert_eq!(table.words(slot), [number, number + 1]),
                }
                prop_assert_eq!(table.len(), map.len());
                prop_assert_eq!(table.find(&key(number)).is_some(), map.contains_key(&number));
            }
            table.remove_covered("0.0.0.16/28".parse().unwrap());
            map.retain(|number, _| !(16..32).contains(number));
            let mut seen = Vec::new();
            table.retain(|_, words| { seen.push(words[0]); words[0] % 3 == 0 });
            seen.sort_unstable();
            prop_assert_eq!(&seen, &map.keys().copied().collect::<Vec<_>>(), "each is seen once");
            map.retain(|number, _| number % 3 == 0);
            for number in 0..300 {
                let held = table.find(&key(number)).map(|slot| table.words(slot)[0]);
                prop_assert_eq!(held, map.get(&number).copied());
            }
        }
    }
}
