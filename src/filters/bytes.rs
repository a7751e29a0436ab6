//! Sets of bytes. In: a condition, or a class of a regex. Out: whether a byte is in the set, and whether two sets meet;
//! how far a text goes on with such bytes.

use std::borrow::Cow;

use regex_syntax::hir::Class;

/// How many bytes at the beginning of a text fulfil a condition, as far as `most`. Words are short: to look at each byte is
/// done sooner than any cleverer search has begun.
#[inline]
pub(super) fn run_of(text: &[u8], most: usize, condition: impl Fn(u8) -> bool) -> usize {
    let room = text.get(..most).unwrap_or(text);
    room.iter().position(|byte| !condition(*byte)).unwrap_or(room.len())
}

/// Bit `b % 64` of word `b / 64` for byte b.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) const ALL: Bytes = Bytes([u64::MAX; 4]);

    /// The bytes that fulfil a condition.
    pub(super) fn that(condition: impl Fn(u8) -> bool) -> Bytes {
        let mut set = Bytes::default();
        (0..=u8::MAX).filter(|byte| condition(*byte)).for_each(|byte| set.insert(byte));
        set
    }

    pub(super) fn one(byte: u8) -> Bytes {
        let mut set = Bytes::default();
        set.insert(byte);
        set
    }

    /// `None` where a member of the class has several bytes.
    pub(super) fn of(class: &Class) -> Option<Bytes> {
        let class = match class {
            Class::Bytes(class) => Cow::Borrowed(class),
            Class::Unicode(class) => Cow::Owned(class.to_byte_class()?),
        };
        let mut set = Bytes::default();
        class.ranges().iter().for_each(|range| (range.start()..=range.end()).for_each(|byte| set.insert(byte)));
        Some(set)
    }

    #[inline]
    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    pub(super) fn meets(&self, other: &Bytes) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    pub(super) fn with(&self, other: &Bytes) -> Bytes {
        Bytes(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The byte that is all of the set.
    pub(super) fn only(&self) -> Option<u8> {
        let mut bytes = self.iter();
        bytes.next().filter(|_| bytes.next().is_none())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|byte| self.has(*byte))
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
}
