//! Where in a block one of many texts may stand. In: the texts, once; then blocks. Out: places near which a text may
//! end; never one too few, sometimes one too many. The cost of a byte does not depend on the number of texts.
//!
//! Shift-and over overlapping pieces of four bytes, as in Hyperscan's FDR matcher (Wang et al., NSDI 2019): every second
//! byte, the piece that ends there is hashed, and a table tells for each of eight groups of texts at which places of a
//! text of the group such a piece stands. A text may end where all its last pieces have come in turn. Letter case does
//! not count.

/// Shortest text that can be found: at every second byte there must be one whole piece of it.
pub(crate) const SHORTEST: usize = PIECE + 1;

/// Bytes of a piece.
const PIECE: usize = 4;

/// Groups of texts; one bit each in a byte of the state.
const GROUPS: usize = 8;

/// Most pieces of a text that are looked at; one byte each of the state.
const MOST_PIECES: usize = 8;

/// Bits of a hash: the table, of eight bytes for each hash, stays in the fastest cache.
const HASH_BITS: u32 = 12;

/// Byte j, bit g: the piece may be number j, counted from the first of [`MOST_PIECES`], of a text in group g.
pub(crate) struct Grams {
    table: Box<[u64; 1 << HASH_BITS]>,
    /// The places of the groups whose texts have fewer pieces than the state has bytes: any piece may stand there.
    open: u64,
}

impl Grams {
    /// Each text must have at least [`SHORTEST`] bytes.
    pub(crate) fn new(texts: &[Vec<u8>]) -> Grams {
        let mut sorted: Vec<&Vec<u8>> = texts.iter().collect();
        sorted.sort_by_key(|text| text.len());
        let table = vec![0; 1 << HASH_BITS].into_boxed_slice().try_into().expect("the table is made with its length");
        let mut grams = Grams { table, open: 0 };
        for (group, texts) in split(&sorted).iter().enumerate() {
            grams.add(group, texts);
        }
        grams.table.iter_mut().for_each(|entry| *entry |= grams.open);
        grams
    }

    fn add(&mut self, group: usize, texts: &[&Vec<u8>]) {
        let Some(pieces) = texts.iter().map(|text| pieces(text.len())).min() else { return };
        let bit = 1u64 << group;
        for place in 0..MOST_PIECES - pieces {
            self.open |= bit << (8 * place);
        }
        for text in texts {
            for start in 0..2 {
                let all: Vec<u32> =
                    text.get(start..).unwrap_or_default().windows(PIECE).step_by(2).map(piece).collect();
                let last = all.get(all.len().saturating_sub(pieces)..).unwrap_or_default();
                for (place, piece) in (MOST_PIECES - pieces..).zip(last) {
                    self.table[hash(*piece)] |= bit << (8 * place);
                }
            }
        }
    }

    /// The first place from `from` on at which a text may end: the last byte of its last piece.
    pub(crate) fn find(&self, block: &[u8], from: usize) -> Option<usize> {
        let (words, rest) = block.get(from..)?.as_chunks::<8>();
        let (mut state, mut before) = (self.open, 0);
        for (index, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            // The pieces that end at every second byte of the word; the first begins in the word before.
            let first = self.step(state, low_half(before | word << 16));
            let second = self.step(first, low_half(word));
            let third = self.step(second, low_half(word >> 16));
            state = self.step(third, low_half(word >> 32));
            if is_end(first | second | third | state) {
                let ends = [first, second, third].iter().take_while(|state| !is_end(**state)).count();
                return Some(from + 8 * index + 2 * ends + 1);
            }
            before = word >> 48;
        }
        let start = block.len() - rest.len();
        for (index, pair) in rest.chunks_exact(2).enumerate() {
            before = before | u64::from(pair[0]) << 16 | u64::from(pair[1]) << 24;
            state = self.step(state, low_half(before));
            if is_end(state) {
                return Some(start + 2 * index + 1);
            }
            before >>= 16;
        }
        None
    }

    #[inline]
    fn step(&self, state: u64, piece: u32) -> u64 {
        (state << 8 | 0xff) & self.table[hash(piece)]
    }
}

/// Whether all pieces of a text have come.
#[inline]
fn is_end(state: u64) -> bool {
    state >> (8 * (MOST_PIECES - 1)) != 0
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
#[inline]
fn low_half(word: u64) -> u32 {
    word as u32
}

/// How many pieces a text of this length has at every second byte, wherever that begins.
fn pieces(length: usize) -> usize {
    (length.saturating_sub(SHORTEST) / 2 + 1).min(MOST_PIECES)
}

fn piece(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Without the bit by which small letters differ from capital ones.
#[inline]
fn hash(piece: u32) -> usize {
    ((piece | 0x2020_2020).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// Texts, shortest first, in groups: the shorter they are, the fewer in one, since they are the easier mistaken.
fn split<'t, 'v>(sorted: &'v [&'t Vec<u8>]) -> Vec<&'v [&'t Vec<u8>]> {
    let weight = |text: &&Vec<u8>| 1usize << (MOST_PIECES - pieces(text.len()));
    let total: usize = sorted.iter().map(weight).sum();
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, 0);
    for (index, text) in sorted.iter().enumerate() {
        sum += weight(text);
        if sum * GROUPS >= total * (groups.len() + 1) && groups.len() + 1 < GROUPS {
            groups.push(&sorted[start..=index]);
            start = index + 1;
        }
    }
    groups.push(&sorted[start..]);
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_passed_over(
            texts in prop::collection::vec("[a-zA-Z ]{5,24}", 1..40),
            chosen in any::<prop::sample::Index>(),
            before in "[a-z ]{0,40}",
            from in 0usize..40,
            after in "[a-z ]{0,9}",
        ) {
            let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            let text = chosen.get(&texts).to_ascii_uppercase();
            let block = [before.as_bytes(), &text, after.as_bytes()].concat();
            let from = from.min(before.len());
            let found = Grams::new(&texts).find(&block, from);
            prop_assert!(found.is_some_and(|place| place < before.len() + text.len()), "{found:?}");
        }
    }

    #[test]
    fn other_texts_are_found_seldom() {
        let texts: Vec<Vec<u8>> =
            (0..600).map(|number| format!("{:x}", number * 0x9e37_79b1_u64).into_bytes()).collect();
        let texts: Vec<Vec<u8>> = texts.into_iter().filter(|text| text.len() >= 8).collect();
        let grams = Grams::new(&texts);
        let line = b"Nov 21 01:30:00 web CRON[411]: pam_unix(cron:session): session opened for user root by (uid=0)";
        let found = (0..100).filter(|from| grams.find(line, *from % 16).is_some()).count();
        assert_eq!((texts.len() > 500, found), (true, 0));
    }
}
