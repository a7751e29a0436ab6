//! What a window's table finds a slot by.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::filters::Evidence;

/// A prefix and the class of the evidence against it, in five words. What may be forged is counted apart from what is
/// proven, so that it neither adds to it nor takes its room. IPv4 lies in `::ffff:0:0/96`, where no other key can be:
/// addresses written that way are IPv4 for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    bits: u128,
    length: u8,
    proven: bool,
}

const IPV4: u128 = 0xffff << 32;

/// An address as a number; IPv4 in `::ffff:0:0/96`.
pub(super) fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => IPV4 | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// In two words, for this is done for every hit.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.bits);
        state.write_u32(self.last_word());
    }
}

impl Key {
    /// Words of a key, the last of which uses its lower half only.
    pub(super) const WORDS: usize = 5;

    pub(super) fn of(prefix: IpNet, evidence: Evidence) -> Key {
        let length = if prefix.addr().is_ipv4() { 96 + prefix.prefix_len() } else { prefix.prefix_len() };
        let bits = bits_of(prefix.addr()) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Key { bits, length, proven: evidence == Evidence::Proven }
    }

    /// A key that is no prefix, but a hash by which nothing else can be meant.
    pub(super) fn of_hash(hash: u128) -> Key {
        Key { bits: hash, length: 0, proven: true }
    }

    /// The prefix; a hash is none.
    #[expect(clippy::cast_possible_truncation, reason = "an address of IPv4 is the lower 32 bits")]
    pub(super) fn prefix(&self) -> IpNet {
        if self.is_ipv4() {
            IpNet::new_assert(IpAddr::from((self.bits as u32).to_be_bytes()), self.length - 96)
        } else {
            IpNet::new_assert(Ipv6Addr::from_bits(self.bits).into(), self.length)
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    pub(super) fn length(&self) -> u8 {
        self.length
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.length >= 96 && self.bits >> 32 == IPV4 >> 32
    }

    /// Whether the other prefix lies within this one, whatever the evidence.
    pub(super) fn covers(&self, other: &Key) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && self.length <= other.length
            && (self.bits ^ other.bits).leading_zeros() >= u32::from(self.length)
    }

    /// By the last word alone.
    pub(super) fn is_proven_in(last: u32) -> bool {
        last & 1 << 8 != 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the bits are cut into words")]
    pub(super) fn to_words(self) -> [u32; Key::WORDS] {
        let bits = self.bits;
        [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32, self.last_word()]
    }

    fn last_word(&self) -> u32 {
        u32::from(self.length) | u32::from(self.proven) << 8
    }

    /// The upper half of the last word is not looked at.
    pub(super) fn from_words(words: [u32; Key::WORDS]) -> Key {
        let high = u64::from(words[0]) << 32 | u64::from(words[1]);
        let low = u64::from(words[2]) << 32 | u64::from(words[3]);
        let [length, ..] = words[4].to_le_bytes();
        Key { bits: u128::from(high) << 64 | u128::from(low), length, proven: Key::is_proven_in(words[4]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of(text.parse().unwrap(), Evidence::Proven)
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
    fn host_bits_do_not_make_another_key_and_the_evidence_does() {
        assert_eq!(key("2001:db8::1/64"), key("2001:db8::2/64"));
        assert_ne!(key("192.0.2.0/24"), key("192.0.2.0/25"));
        assert_ne!(key("192.0.2.0/24"), Key::of("192.0.2.0/24".parse().unwrap(), Evidence::Forgeable));
    }

    #[test]
    fn words_hold_the_whole_key() {
        for key in [key("192.0.2.9/32"), key("2001:db8::9/128"), key("::/0"), Key::of_hash(u128::MAX)] {
            let mut words = key.to_words();
            words[4] |= 0xabcd_0000;
            assert_eq!(Key::from_words(words), key);
        }
        for prefix in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64", "::/0"] {
            assert_eq!(key(prefix).prefix().to_string(), prefix);
        }
    }
}
