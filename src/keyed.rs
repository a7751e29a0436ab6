//! Hashes that nobody outside can foresee. Attackers choose most of what is hashed here, addresses and names, and must
//! not be able to choose many with one hash.
//!
//! Each word goes in by a multiplication with a secret number, of which both halves are kept: a few cycles, where the
//! standard library's `SipHash` takes some fifty. Without the secrets no two inputs can be named that collide; and what
//! could give the secrets away, a hash itself or the time of one look-up, is never shown to anybody.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use ipnet::IpNet;

/// The secrets of a family of hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    start: u64,
    each: u64,
    end: u64,
}

impl Keys {
    /// Keys that follow from a number: who knows it knows them all.
    pub(crate) fn of(seed: u64) -> Keys {
        let [start, each, end] = [1, 2, 3].map(|number| spread(seed.wrapping_add(GOLDEN.wrapping_mul(number))));
        Keys { start, each, end }
    }

    /// Keys that the kernel's source of chance stands behind.
    pub(crate) fn by_chance() -> Keys {
        Keys::of(chance())
    }
}

/// By chance.
impl Default for Keys {
    fn default() -> Keys {
        Keys::by_chance()
    }
}

/// A number that nobody can foretell.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one(())
}

impl BuildHasher for Keys {
    type Hasher = Mixer;

    #[inline]
    fn build_hasher(&self) -> Mixer {
        Mixer { state: self.start, keys: *self }
    }
}

/// A prefix as what a hash is made of: one or two words, where its own way makes seven of it. Some are taken for every hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net(pub(crate) IpNet);

impl Hash for Net {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            IpNet::V4(net) => state.write_u64(u64::from(net.addr().to_bits()) << 8 | u64::from(net.prefix_len())),
            IpNet::V6(net) => {
                state.write_u128(net.addr().to_bits());
                state.write_u8(net.prefix_len());
            }
        }
    }
}

/// A hash in the making.
pub(crate) struct Mixer {
    state: u64,
    keys: Keys,
}

impl Hasher for Mixer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            // With the length, so that zeros at the end are told from none.
            word[7] = u8::try_from(rest.len()).unwrap_or_default();
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = folded(self.state ^ number, self.keys.each);
    }

    #[inline]
    fn write_u128(&mut self, number: u128) {
        let [low, high] = halves(number);
        self.state = folded(self.state ^ low, self.keys.each ^ high);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        folded(self.state ^ self.keys.end, self.keys.start)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The last step of `SplitMix64`: each bit of the number touches every bit of the result. Odd, so that it loses nothing as a
/// factor.
fn spread(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (number ^ number >> 31) | 1
}

#[inline]
fn folded(one: u64, other: u64) -> u64 {
    let [low, high] = halves(u128::from(one) * u128::from(other));
    low ^ high
}

#[expect(clippy::cast_possible_truncation, reason = "the number is cut into halves")]
fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 64 Ki numbers the fullest of 4 Ki homes gets, which lie in the order of the hashes: 16 on average.
    fn fullest(number: impl Fn(u64) -> u128) -> usize {
        let keys = Keys::by_chance();
        let mut homes = vec![0; 4096];
        for at in 0..65_536 {
            homes[usize::try_from(keys.hash_one(number(at)) >> 52).unwrap()] += 1;
        }
        homes.into_iter().max().unwrap()
    }

    #[test]
    fn what_attackers_choose_spreads_as_if_by_chance() {
        // By chance the fullest of 4 Ki has 48 once in 10 million times.
        assert!(fullest(u128::from) < 48, "one address after the other");
        assert!(fullest(|at| u128::from(at) << 16) < 48, "one network of 16 bits after the other");
        assert!(fullest(|at| u128::from(at) << 64) < 48, "IPv6 networks");
        assert!(fullest(|at| u128::from(at) << 64 | u128::from(at)) < 48, "both halves alike");
        assert!(fullest(|at| u128::from(at) << 112) < 48, "the highest bits");
        assert!(fullest(|at| u128::from(at.reverse_bits()) << 64) < 48, "the highest bits of the upper half");
    }

    #[test]
    fn texts_differ_by_each_byte_and_by_their_length() {
        let keys = Keys::by_chance();
        let texts = ["", "a", "a\0", "\0a", "administrator", "administratos", "bdministrator", "administrator\0"];
        let mut hashes = texts.map(|text| keys.hash_one(text)).to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn keys_of_one_number_are_the_same_and_those_by_chance_are_not() {
        let hash = |keys: Keys| keys.hash_one("root");
        assert_eq!(hash(Keys::of(7)), hash(Keys::of(7)));
        assert_ne!(hash(Keys::of(7)), hash(Keys::of(8)));
        assert_ne!(hash(Keys::by_chance()), hash(Keys::by_chance()));
    }
}
