//! A map in order for very many small entries. They stand in leaves of some hundred, which are nearly full whatever order
//! they come in; a `BTreeMap` has eleven to a node, and half of each empty where they come in order.

use std::cmp::Ordering;
use std::iter::zip;

use ipnet::{Ipv4Net, Ipv6Net};

/// Most entries of a leaf. A new one moves half of the others on.
#[cfg(not(test))]
const MOST: usize = 128;
#[cfg(test)]
const MOST: usize = 8;

/// A leaf grows and shrinks by so many entries.
const STEP: usize = MOST / 8;

/// What entries are found by.
pub(crate) trait Key: Copy + Ord {
    /// As [`Ord::cmp`]. Prefixes are compared for nearly every hit, and as numbers in a tenth of the time.
    fn order(&self, other: &Self) -> Ordering;
}

impl Key for Ipv4Net {
    fn order(&self, other: &Self) -> Ordering {
        let number = |net: &Ipv4Net| u64::from(net.addr().to_bits()) << 8 | u64::from(net.prefix_len());
        number(self).cmp(&number(other))
    }
}

impl Key for Ipv6Net {
    fn order(&self, other: &Self) -> Ordering {
        let numbers = |net: &Ipv6Net| (net.addr().to_bits(), net.prefix_len());
        numbers(self).cmp(&numbers(other))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Leaves<K, V> {
    /// Of each leaf its first key, or one that was its first.
    names: Vec<K>,
    /// In order; none is empty.
    each: Vec<Leaf<K, V>>,
    length: usize,
}

#[derive(Clone, Debug)]
struct Leaf<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for Leaves<K, V> {
    fn default() -> Self {
        Leaves { names: Vec::new(), each: Vec::new(), length: 0 }
    }
}

impl<K: Key, V> Leaves<K, V> {
    /// Of entries in order, each key once: all leaves are full.
    pub(crate) fn of_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut all = Leaves::default();
        let mut entries = entries.into_iter();
        loop {
            let (keys, values): (Vec<K>, Vec<V>) = entries.by_ref().take(MOST).unzip();
            let Some(first) = keys.first().copied() else { return all };
            all.length += keys.len();
            all.names.push(first);
            all.each.push(Leaf { keys, values });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let leaf = &self.each[self.leaf_of(key)?];
        leaf.values.get(leaf.place(key).ok()?)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.leaf_of(key)?;
        let leaf = &mut self.each[at];
        let place = leaf.place(key).ok()?;
        leaf.values.get_mut(place)
    }

    /// The leaf that has this key, if any has; `None` before all of them.
    fn leaf_of(&self, key: &K) -> Option<usize> {
        self.names.partition_point(|name| name.order(key).is_le()).checked_sub(1)
    }

    /// What was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(at) = self.leaf_of(&key) else {
            self.insert_before(0, key, value);
            return None;
        };
        let leaf = &mut self.each[at];
        let place = match leaf.place(&key) {
            Ok(place) => return Some(std::mem::replace(&mut leaf.values[place], value)),
            Err(place) => place,
        };
        if leaf.keys.len() < MOST {
            leaf.insert(place, key, value);
            self.length += 1;
        } else if place == MOST {
            self.insert_before(at + 1, key, value);
        } else {
            let behind = leaf.split();
            self.names.insert(at + 1, behind.keys[0]);
            self.each.insert(at + 1, behind);
            return self.insert(key, value);
        }
        None
    }

    /// Puts an entry before all of a leaf: into it where that has room, else into a new one.
    fn insert_before(&mut self, at: usize, key: K, value: V) {
        if self.each.get(at).is_none_or(|leaf| leaf.keys.len() == MOST) {
            self.names.insert(at, key);
            self.each.insert(at, Leaf { keys: Vec::new(), values: Vec::new() });
        }
        self.names[at] = key;
        self.each[at].insert(0, key, value);
        self.length += 1;
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.leaf_of(key)?;
        let leaf = &mut self.each[at];
        let place = leaf.place(key).ok()?;
        leaf.keys.remove(place);
        let value = leaf.values.remove(place);
        let left = leaf.keys.len();
        if left == 0 {
            self.take_out(at);
        } else if left.is_multiple_of(STEP) {
            self.tidy(at);
        }
        self.length -= 1;
        Some(value)
    }

    /// Gives back the room that a leaf no longer needs, and makes one of it and the next where both have become small.
    fn tidy(&mut self, at: usize) {
        let next = self.each.get(at + 1).map_or(MOST, |next| next.keys.len());
        if self.each[at].keys.len() + next <= MOST / 2 {
            let Leaf { mut keys, mut values } = self.take_out(at + 1);
            self.each[at].keys.append(&mut keys);
            self.each[at].values.append(&mut values);
        }
        self.each[at].shrink();
    }

    fn take_out(&mut self, at: usize) -> Leaf<K, V> {
        self.names.remove(at);
        let leaf = self.each.remove(at);
        if self.each.len() < self.each.capacity() / 4 {
            self.names.shrink_to_fit();
            self.each.shrink_to_fit();
        }
        leaf
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.each.iter().flat_map(|leaf| zip(&leaf.keys, &leaf.values))
    }

    /// The entries from this key on.
    pub(crate) fn from(&self, start: K) -> impl Iterator<Item = (&K, &V)> {
        let at = self.leaf_of(&start).unwrap_or(0);
        let first = self.each.get(at).map(|leaf| {
            let place = leaf.keys.partition_point(|key| key.order(&start).is_lt());
            zip(&leaf.keys[place..], &leaf.values[place..])
        });
        let others = self.each.iter().skip(at + 1).flat_map(|leaf| zip(&leaf.keys, &leaf.values));
        first.into_iter().flatten().chain(others)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let leaves = std::mem::take(self).each;
        let all = leaves.into_iter().flat_map(|leaf| zip(leaf.keys, leaf.values));
        *self = Leaves::of_sorted(all.filter(|(key, value)| keep(key, value)));
    }
}

impl<K: Key, V> Leaf<K, V> {
    /// Where a key is, or would be.
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.keys.binary_search_by(|there| there.order(key))
    }
}

impl<K, V> Leaf<K, V> {
    fn insert(&mut self, place: usize, key: K, value: V) {
        if self.keys.len() == self.keys.capacity() {
            self.keys.reserve_exact(STEP);
            self.values.reserve_exact(STEP);
        }
        self.keys.insert(place, key);
        self.values.insert(place, value);
    }

    /// Takes the later half out.
    fn split(&mut self) -> Leaf<K, V> {
        let half = self.keys.len() / 2;
        let behind = Leaf { keys: self.keys.split_off(half), values: self.values.split_off(half) };
        self.shrink();
        behind
    }

    fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.values.shrink_to_fit();
    }
}

#[cfg(test)]
impl<K: Key, V: PartialEq> PartialEq for Leaves<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Key for u8 {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    }

    impl Key for usize {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u16),
        Remove(u8),
        Change(u8, u16),
        KeepBelow(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<(u8, u16)>().prop_map(|(key, value)| Step::Insert(key, value)),
            6 => any::<u8>().prop_map(Step::Remove),
            1 => any::<(u8, u16)>().prop_map(|(key, value)| Step::Change(key, value)),
            1 => (60_000_u16..).prop_map(Step::KeepBelow),
        ]
    }

    fn ipv4() -> impl Strategy<Value = Ipv4Net> {
        (any::<u32>(), 0_u8..=32).prop_map(|(bits, length)| Ipv4Net::new_assert(bits.into(), length))
    }

    fn ipv6() -> impl Strategy<Value = Ipv6Net> {
        (any::<u128>(), 0_u8..=128).prop_map(|(bits, length)| Ipv6Net::new_assert(bits.into(), length))
    }

    fn has_the_order_of_all<K: Key>(one: K, other: K, longer: K) -> bool {
        one.order(&other) == one.cmp(&other) && one.order(&longer) == one.cmp(&longer) && one.order(&one).is_eq()
    }

    proptest! {
        #[test]
        fn prefixes_are_in_the_order_that_all_others_have_them_in(
            one in ipv4(), other in ipv4(), one6 in ipv6(), other6 in ipv6(),
        ) {
            prop_assert!(has_the_order_of_all(one, other, one.addr().into()));
            prop_assert!(has_the_order_of_all(one6, other6, one6.addr().into()));
        }

        #[test]
        fn it_is_what_a_tree_is(
            first in proptest::collection::btree_map(any::<u8>(), any::<u16>(), 0..100),
            steps in proptest::collection::vec(step(), 0..400),
            start in any::<u8>(),
        ) {
            let (mut leaves, mut tree) = (Leaves::of_sorted(first.clone()), first);
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(leaves.insert(key, value), tree.insert(key, value)),
                    Step::Remove(key) => prop_assert_eq!(leaves.remove(&key), tree.remove(&key)),
                    Step::Change(key, value) => {
                        let both = (leaves.get_mut(&key), tree.get_mut(&key));
                        prop_assert_eq!(both.0.is_some(), both.1.is_some());
                        if let (Some(one), Some(other)) = both {
                            (*one, *other) = (value, value);
                        }
                    }
                    Step::KeepBelow(limit) => {
                        leaves.retain(|_, value| *value < limit);
                        tree.retain(|_, value| *value < limit);
                    }
                }
                prop_assert_eq!(leaves.len(), tree.len());
                prop_assert!(leaves.each.iter().all(|leaf| (1..=MOST).contains(&leaf.keys.len())));
            }
            prop_assert!(leaves.iter().eq(&tree));
            prop_assert!(leaves.from(start).eq(tree.range(start..)));
            prop_assert!((0..=u8::MAX).all(|key| leaves.get(&key) == tree.get(&key)));
        }
    }

    #[test]
    fn leaves_are_nearly_full_in_whatever_order_entries_come() {
        const COUNT: usize = 4096;
        // Rising, falling, and each half of the rest into one gap from both of its ends.
        let orders: [&dyn Fn(usize) -> usize; 4] = [
            &|turn| turn,
            &|turn| COUNT - turn,
            &|turn| if turn % 2 == 0 { turn } else { 2 * COUNT - turn },
            &|turn| turn.wrapping_mul(2_654_435_761) % 1_000_003,
        ];
        for order in orders {
            let mut leaves = Leaves::default();
            for turn in 0..COUNT {
                leaves.insert(order(turn), ());
            }
            assert!(leaves.each.len() * MOST < leaves.len() * 2, "{} leaves", leaves.each.len());
        }
    }
}
