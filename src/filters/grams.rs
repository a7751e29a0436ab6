//! Where in a block one of many texts stands. In: the texts, once; then blocks. Out: which texts, and where they end.
//! The cost of a byte does not depend on the number of texts. Letter case does not count, nor does that bit of other bytes:
//! what is found may be `{` for `[`, and whoever asks looks at the line anyway.
//!
//! Shift-and over pieces of four bytes, as in Hyperscan's FDR matcher (Wang et al., NSDI 2019): at every fourth byte, or
//! every second where some text is short, the piece that ends there is hashed, and a table tells for each of eight groups
//! of texts at which places of a text of the group such a piece stands. Where all the last pieces of a text have come in
//! turn, it may end. Pieces of several texts may have made up one that is none, and log lines have many words in common:
//! so the last bytes are looked up as a whole, up to sixteen of them, before anything is compared with the block.

mod endings; // what texts end with

use endings::{Endings, Tail};

/// Shortest text that can be found.
pub(crate) const SHORTEST: usize = Stride::Two.shortest();

/// Bytes of a piece.
const PIECE: usize = 4;

/// Groups of texts; one bit each in a byte of the state.
const GROUPS: usize = 8;

/// Most pieces of a text that are looked at; one byte each of the state.
const MOST_PIECES: usize = 8;

/// Bits of a hash: the table, of eight bytes for each hash, stays in the fastest cache.
const HASH_BITS: u32 = 12;

/// From one place that is looked at to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stride {
    Two = 2,
    Four = 4,
}

impl Stride {
    /// However a text of this length lies, one whole piece of it ends at a place that is looked at.
    const fn shortest(self) -> usize {
        PIECE + self as usize - 1
    }

    /// The longest that finds all these texts, and does not stop at every word for those of which it sees one piece only.
    fn of(texts: &[Vec<u8>]) -> Stride {
        let long = texts.iter().all(|text| text.len() >= Stride::Four.shortest());
        let ways = || texts.iter().flat_map(|text| Way::all(0, text, Stride::Four));
        let clear = || ways().filter(|way| way.pieces() == 1).count() <= MOST_SHORT_WAYS;
        if long && clear() { Stride::Four } else { Stride::Two }
    }
}

/// With so many ways of one piece, one place in 64 looks like the end of a text: once in two or three lines.
const MOST_SHORT_WAYS: usize = (1 << HASH_BITS) / 64;

pub(crate) struct Grams {
    stride: Stride,
    /// Byte j, bit g is 0: the piece may be number j, counted from the first of [`MOST_PIECES`], of a text in group g.
    table: Box<[u64; 1 << HASH_BITS]>,
    /// 0 at the places of the groups whose texts have fewer pieces than the state has bytes: any piece may stand there.
    start: u64,
    texts: Vec<Box<[u8]>>,
    /// Of each group.
    endings: Box<[Endings; GROUPS]>,
}

/// One of the ways in which a text may lie in a block of which only some places are looked at: as many as the stride.
struct Way<'t> {
    /// Index of the text.
    number: u32,
    /// The text up to the last place that is looked at.
    seen: &'t [u8],
    /// Bytes of it behind these.
    behind: usize,
    stride: Stride,
}

/// How far a search has come.
struct Cursor {
    /// Words of eight bytes behind it.
    word: usize,
    state: u64,
    /// The last two bytes, where every second one is looked at.
    before: u64,
}

impl Grams {
    /// Each text must have at least [`SHORTEST`] bytes.
    pub(crate) fn new(texts: &[Vec<u8>]) -> Grams {
        let stride = Stride::of(texts);
        let mut sorted: Vec<Way> = (0..).zip(texts).flat_map(|(number, text)| Way::all(number, text, stride)).collect();
        sorted.sort_by_key(|way| way.seen.len());
        let groups = split(&sorted);
        let none = vec![u64::MAX; 1 << HASH_BITS].into_boxed_slice();
        let table = none.try_into().expect("the table is made with its length");
        let owned = texts.iter().map(|text| text.as_slice().into()).collect();
        let mut grams =
            Grams { stride, table, start: u64::MAX, texts: owned, endings: Box::new(groups.map(Endings::new)) };
        for (group, ways) in groups.iter().enumerate() {
            grams.add(group, ways);
        }
        grams.table.iter_mut().for_each(|entry| *entry &= grams.start);
        grams
    }

    fn add(&mut self, group: usize, ways: &[Way]) {
        let Some(pieces) = ways.iter().map(Way::pieces).min() else { return };
        let bit = 1u64 << group;
        for place in 0..MOST_PIECES - pieces {
            self.start &= !(bit << (8 * place));
        }
        for way in ways {
            let last = way.seen.windows(PIECE).rev().step_by(way.stride as usize);
            for (place, bytes) in (MOST_PIECES - pieces..MOST_PIECES).rev().zip(last) {
                self.table[hash(piece(bytes))] &= !(bit << (8 * place));
            }
        }
    }

    /// Calls `found` with each text from `from` on and the index of its last byte, by these. It answers up to where
    /// further texts are wanted; it may be told of some that end a little behind that.
    #[inline]
    pub(crate) fn visit(&self, block: &[u8], from: usize, mut found: impl FnMut(u32, usize) -> usize) {
        let Some(searched) = block.get(from..) else { return };
        let (mut words, rest) = searched.as_chunks::<8>();
        let start = searched.len() - rest.len();
        let mut at = Cursor { word: 0, state: self.start, before: 0 };
        let next_end = match self.stride {
            Stride::Two => Grams::next_end_by_two,
            Stride::Four => Grams::next_end_by_four,
        };
        while let Some(states) = next_end(self, words, &mut at) {
            for (end, state) in (1..).step_by(2).zip(states).filter(|(_, state)| is_end(*state)) {
                if let Some(until) = self.confirm(searched, 8 * (at.word - 1) + end, state, from, &mut found) {
                    words = &words[..words.len().min(until.saturating_sub(from).div_ceil(8))];
                }
            }
        }
        if 8 * words.len() < start {
            return;
        }
        let Cursor { mut state, before, .. } = at;
        let last = rest.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) << 16 | before | FOLD;
        for end in (0..rest.len()).skip(self.stride as usize - 1).step_by(self.stride as usize) {
            state = step(&self.table, state, last >> (8 * (end - 1)));
            if is_end(state) {
                self.confirm(searched, start + end, state, from, &mut found);
            }
        }
    }

    /// Moves behind the next word in which a text may end: the states after each pair of its bytes. A function of its
    /// own, so that all it needs stays in registers.
    #[inline(never)]
    fn next_end_by_two(&self, words: &[[u8; 8]], at: &mut Cursor) -> Option<[u64; 4]> {
        let (table, mut state, mut before) = (&*self.table, at.state, at.before);
        for (index, word) in (at.word..).zip(words.get(at.word..).unwrap_or_default()) {
            let word = u64::from_le_bytes(*word) | FOLD;
            // The pieces that end at every second byte of the word; the first begins in the word before.
            let first = step(table, state, before | word << 16);
            let second = step(table, first, word);
            let third = step(table, second, word >> 16);
            state = step(table, third, word >> 32);
            before = word >> 48;
            if is_end(first & second & third & state) {
                *at = Cursor { word: index + 1, state, before };
                return Some([first, second, third, state]);
            }
        }
        *at = Cursor { word: words.len(), state, before };
        None
    }

    /// The same, where only every second pair is looked at.
    #[inline(never)]
    fn next_end_by_four(&self, words: &[[u8; 8]], at: &mut Cursor) -> Option<[u64; 4]> {
        let (table, mut state) = (&*self.table, at.state);
        for (index, word) in (at.word..).zip(words.get(at.word..).unwrap_or_default()) {
            let word = u64::from_le_bytes(*word) | FOLD;
            let first = step(table, state, word);
            state = step(table, first, word >> 32);
            if is_end(first & state) {
                *at = Cursor { word: index + 1, state, before: 0 };
                return Some([NO_END, first, NO_END, state]);
            }
        }
        *at = Cursor { word: words.len(), state, before: 0 };
        None
    }

    /// Reports the texts that end at `place`, after which the state is this one, or a few bytes behind it; what was answered
    /// last.
    fn confirm(
        &self,
        searched: &[u8],
        place: usize,
        state: u64,
        from: usize,
        found: &mut impl FnMut(u32, usize) -> usize,
    ) -> Option<usize> {
        let (tail, mut until) = (Tail::of(&searched[..=place]), None);
        for group in groups(state) {
            for (number, behind) in self.endings[group].with(&tail) {
                let (text, last) = (&*self.texts[*number as usize], place + behind);
                let there = (last + 1).checked_sub(text.len()).and_then(|start| searched.get(start..=last));
                if there.is_some_and(|there| are_alike(there, text)) {
                    until = Some(found(*number, from + last));
                }
            }
        }
        until
    }
}

impl<'t> Way<'t> {
    /// The ways of a text.
    fn all(number: u32, text: &'t [u8], stride: Stride) -> impl Iterator<Item = Way<'t>> {
        (0..stride as usize).map(move |behind| Way { number, seen: &text[..text.len() - behind], behind, stride })
    }

    /// How many whole pieces are seen, as far as they count.
    fn pieces(&self) -> usize {
        ((self.seen.len() - PIECE) / self.stride as usize + 1).min(MOST_PIECES)
    }
}

#[inline]
fn step(table: &[u64; 1 << HASH_BITS], state: u64, piece: u64) -> u64 {
    state << 8 | table[hash(piece)]
}

/// A state in which no text ends.
const NO_END: u64 = u64::MAX;

/// Whether all pieces of a text have come.
#[inline]
fn is_end(state: u64) -> bool {
    state >> (8 * (MOST_PIECES - 1)) != 0xff
}

/// The groups of which a text may end.
#[inline]
fn groups(state: u64) -> impl Iterator<Item = usize> {
    let mut left = !state >> (8 * (MOST_PIECES - 1));
    std::iter::from_fn(move || {
        let next = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (next < GROUPS).then_some(next)
    })
}

/// The bit by which small letters differ from capital ones, in every byte.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// At most eight bytes, the last in the highest place, all letters small (and some other bytes alike).
#[inline]
fn folded(bytes: &[u8]) -> u64 {
    if let Ok(all) = bytes.try_into() {
        return u64::from_le_bytes(all) | FOLD;
    }
    bytes.iter().fold(0, |sum, byte| sum >> 8 | u64::from(*byte) << 56) | FOLD
}

/// Whether two texts of one length are the same, all letters small (and some other bytes alike).
#[inline]
fn are_alike(one: &[u8], other: &[u8]) -> bool {
    let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    ones.iter().zip(others).all(|(one, other)| folded(one) == folded(other)) && folded(one_rest) == folded(other_rest)
}

/// The four bytes of a piece, the same way, in the low half.
fn piece(bytes: &[u8]) -> u64 {
    folded(bytes) >> 32
}

/// Of the low half of `piece`, whose letters are small; the upper half does not count. One whole multiplication: halves
/// tempt compilers to do four of them at once with instructions that the oldest processors have, at twice the cost.
#[inline]
fn hash(piece: u64) -> usize {
    (piece.wrapping_mul(0x9e37_79b1 << 32) >> (64 - HASH_BITS)) as usize
}

/// The ways, shortest first, in groups: each with about as many pieces. The fewer those are the easier a text is mistaken,
/// and longer ones beside it would gain nothing from being long. Most texts are long: they fill three groups.
fn split<'v, 't>(sorted: &'v [Way<'t>]) -> [&'v [Way<'t>]; GROUPS] {
    let behind = |most: usize| sorted.partition_point(|way| way.pieces() <= most);
    let (long, third) = (behind(5), (sorted.len() - behind(5)) / 3);
    let ends = [behind(1), behind(2), behind(3), behind(4), long, long + third, sorted.len() - third, sorted.len()];
    let mut start = 0;
    ends.map(|end| &sorted[std::mem::replace(&mut start, end)..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn found(grams: &Grams, block: &[u8], from: usize) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        grams.visit(block, from, |text, last| {
            found.push((text, last));
            block.len()
        });
        found.sort_unstable();
        found
    }

    fn texts(pattern: &'static str) -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set(pattern, 1..30)
    }

    proptest! {
        #[test]
        fn every_text_is_found_wherever_it_stands_and_nothing_else(
            texts in prop_oneof![texts("[a-c ]{5,7}|[a-z ]{5,30}"), texts("[a-c ]{7,9}|[a-z ]{9,30}")],
            pieces in prop::collection::vec((any::<prop::sample::Index>(), "[a-cA-C ]{0,9}"), 0..6),
            from in 0usize..40,
        ) {
            let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            let pieces = pieces.iter().map(|(text, between)| [&text.get(&texts).to_ascii_uppercase(), between.as_bytes()].concat());
            let block = pieces.collect::<Vec<_>>().concat();
            let mut expected = Vec::new();
            for (number, text) in (0u32..).zip(&texts) {
                let places = block.windows(text.len()).enumerate().skip(from);
                let places = places.filter(|(_, there)| there.eq_ignore_ascii_case(text));
                expected.extend(places.map(|(start, _)| (number, start + text.len() - 1)));
            }
            prop_assert_eq!(found(&Grams::new(&texts), &block, from), expected);
        }
    }

    #[test]
    fn other_texts_are_looked_at_seldom() {
        let texts: Vec<Vec<u8>> =
            (0..600).map(|number| format!("{:x}", number * 0x9e37_79b1_u64).into_bytes()).collect();
        let texts: Vec<Vec<u8>> = texts.into_iter().filter(|text| text.len() >= 8).collect();
        // Whatever may be the end of a text is reported as one, as long as nothing is compared.
        let grams = Grams { texts: vec![Box::default(); texts.len()], ..Grams::new(&texts) };
        let line = b"Nov 21 01:30:00 web CRON[411]: pam_unix(cron:session): session opened for user root by (uid=0)";
        let found = (0..100).filter(|from| !found(&grams, line, *from % 16).is_empty()).count();
        assert_eq!((texts.len() > 500, found), (true, 0));
    }

    #[test]
    fn what_several_texts_make_up_together_is_none_of_them() {
        let texts = [b"milk gave salt away".to_vec(), b"fish gave corn away".to_vec()];
        let grams = Grams { texts: vec![Box::default(); texts.len()], ..Grams::new(&texts) };
        let line = b"the milk gave corn away, the fish gave salt away, the fish gave corn away";
        assert_eq!(found(&grams, line, 0), [(1, line.len() - 1)]);
    }
}
