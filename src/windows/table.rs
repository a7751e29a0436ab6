//! Where a window keeps what it knows of each source: a bounded table, compact, with room made deterministically.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use ipnet::IpNet;

/// How many neighbours compete for being evicted. Looking at all would make a flood of new sources quadratic.
pub(super) const SAMPLE: usize = 16;

/// A prefix as 17 bytes without padding. IPv4 lies in `::ffff:0:0/96`, where no other key can be: addresses written
/// that way are IPv4 for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    bits: [u8; 16],
    length: u8,
}

impl Key {
    pub(super) fn of(prefix: IpNet) -> Key {
        match prefix.trunc() {
            IpNet::V4(net) => Key { bits: net.network().to_ipv6_mapped().octets(), length: 96 + net.prefix_len() },
            IpNet::V6(net) => Key { bits: net.network().octets(), length: net.prefix_len() },
        }
    }

    fn is_ipv4(&self) -> bool {
        self.length >= 96 && self.bits.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
    }

    fn covers(&self, other: &Key) -> bool {
        let differing = u128::from_be_bytes(self.bits) ^ u128::from_be_bytes(other.bits);
        self.is_ipv4() == other.is_ipv4()
            && self.length <= other.length
            && differing.leading_zeros() >= u32::from(self.length)
    }
}

struct Slot<V> {
    key: Key,
    value: V,
}

/// At most `capacity` sources, each with a value. Slots are dense; the index holds their numbers only, so that a key
/// is stored once. Attackers choose the keys, so the hash is keyed; nothing that can be observed depends on its seed.
pub(super) struct Table<V> {
    slots: Vec<Slot<V>>,
    index: HashTable<u32>,
    hasher: RandomState,
    capacity: usize,
    /// Where the next sample begins.
    hand: usize,
    evicted: u64,
    /// The longest key of each family so far (IPv6, IPv4): no shorter prefix can be found by its hash alone.
    longest: [u8; 2],
}

impl<V> Table<V> {
    /// `capacity` is brought into 1 to `u32::MAX`.
    pub(super) fn new(capacity: usize) -> Table<V> {
        Table {
            slots: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            capacity: capacity.clamp(1, u32::MAX as usize),
            hand: 0,
            evicted: 0,
            longest: [0; 2],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// How many sources had to make room for others.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Number of the slot of this key, until the next removal.
    pub(super) fn find(&self, key: &Key) -> Option<usize> {
        let same = |number: &u32| self.slots[*number as usize].key == *key;
        self.index.find(self.hasher.hash_one(key), same).map(|number| *number as usize)
    }

    pub(super) fn value_mut(&mut self, slot: usize) -> &mut V {
        &mut self.slots[slot].value
    }

    /// The key is new and the table is not full: the caller has looked, and made room.
    pub(super) fn insert(&mut self, key: Key, value: V) -> usize {
        let slot = self.slots.len();
        let number = u32::try_from(slot).expect("the capacity is at most u32::MAX");
        self.slots.push(Slot { key, value });
        let longest = &mut self.longest[usize::from(key.is_ipv4())];
        *longest = key.length.max(*longest);
        let Table { slots, index, hasher, .. } = self;
        index.insert_unique(hasher.hash_one(key), number, |other| hasher.hash_one(slots[*other as usize].key));
        slot
    }

    /// Makes room: removes the least suspicious source of a sample, the first one among equals. `None` when empty.
    pub(super) fn evict<S: Ord>(&mut self, suspicion: impl Fn(&V) -> S) -> Option<V> {
        let count = self.slots.len();
        let sample = (0..SAMPLE.min(count)).map(|step| (self.hand + step) % count);
        let least = sample.min_by_key(|slot| suspicion(&self.slots[*slot].value))?;
        self.hand = (self.hand + SAMPLE) % count;
        self.evicted += 1;
        Some(self.remove(least))
    }

    /// Removes every source that `prefix` covers.
    pub(super) fn remove_covered(&mut self, prefix: IpNet, mut removed: impl FnMut(V)) {
        let prefix = Key::of(prefix);
        if prefix.length >= self.longest[usize::from(prefix.is_ipv4())] {
            if let Some(slot) = self.find(&prefix) {
                removed(self.remove(slot));
            }
            return;
        }
        let mut slot = 0;
        while let Some(Slot { key, .. }) = self.slots.get(slot) {
            if prefix.covers(key) {
                removed(self.remove(slot));
            } else {
                slot += 1;
            }
        }
    }

    /// Shows every value; those for which the answer is false are removed.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        let mut slot = 0;
        while let Some(Slot { value, .. }) = self.slots.get_mut(slot) {
            if keep(value) {
                slot += 1;
            } else {
                self.remove(slot);
            }
        }
    }

    /// The last slot takes the place of the removed one.
    fn remove(&mut self, slot: usize) -> V {
        let last = self.slots.len() - 1;
        let Table { slots, index, hasher, .. } = self;
        let hash_of = |slot: usize| hasher.hash_one(slots[slot].key);
        if let Ok(entry) = index.find_entry(hash_of(slot), |number| *number as usize == slot) {
            let (number, _) = entry.remove();
            if let Some(moved) = index.find_mut(hash_of(last), |number| *number as usize == last) {
                *moved = number;
            }
        }
        slots.swap_remove(slot).value
    }

    /// Bytes in use: the slots, and what the index allocated.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.slots.len() * size_of::<Slot<V>>() + self.index.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Key {
        Key::of(text.parse().unwrap())
    }

    fn numbered(number: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn a_key_covers_what_its_prefix_covers_and_nothing_of_the_other_family() {
        assert!(key("192.0.2.0/24").covers(&key("192.0.2.9/32")));
        assert!(!key("192.0.2.0/24").covers(&key("192.0.3.9/32")));
        assert!(!key("192.0.2.9/32").covers(&key("192.0.2.0/24")));
        assert!(key("0.0.0.0/0").covers(&key("192.0.2.9/32")));
        assert!(key("::/0").covers(&key("2001:db8::/64")));
        assert!(!key("::/0").covers(&key("192.0.2.9/32")));
        assert!(!key("0.0.0.0/0").covers(&key("2001:db8::/64")));
    }

    #[test]
    fn host_bits_do_not_make_another_key() {
        assert_eq!(key("2001:db8::1/64"), key("2001:db8::2/64"));
        assert_ne!(key("192.0.2.0/24"), key("192.0.2.0/25"));
    }

    #[test]
    fn nothing_can_be_evicted_from_an_empty_table() {
        assert_eq!(Table::<u32>::new(4).evict(|value| *value), None);
    }

    proptest! {
        #[test]
        fn the_table_holds_what_a_map_would(steps in prop::collection::vec((0_u32..40, 0_u8..3), 1..300)) {
            let mut table = Table::new(64);
            let mut map = BTreeMap::new();
            for (number, step) in steps {
                let prefix = numbered(number);
                match (step, table.find(&Key::of(prefix))) {
                    (0, _) => table.remove_covered(prefix, |value| assert_eq!(map.remove(&number), Some(value))),
                    (_, None) => { table.insert(Key::of(prefix), number); map.insert(number, number); }
                    (_, Some(slot)) => prop_assert_eq!(*table.value_mut(slot), number),
                }
                prop_assert_eq!(table.len(), map.len());
                prop_assert_eq!(table.find(&Key::of(prefix)).is_some(), map.contains_key(&number));
            }
            let wide = "0.0.0.16/28".parse().unwrap();
            table.remove_covered(wide, |value| assert_eq!(map.remove(&value), Some(value)));
            prop_assert_eq!(table.len(), map.len());
            prop_assert!(map.keys().all(|number| !(16..32).contains(number)));
            table.retain(|value| *value % 2 == 0);
            for number in 0..40 {
                let expected = map.contains_key(&number) && number % 2 == 0;
                prop_assert_eq!(table.find(&Key::of(numbered(number))).is_some(), expected);
            }
        }
    }
}
