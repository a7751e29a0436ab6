//! What the texts of a group end with. In: the texts, once; then the last bytes of a block. Out: the texts that these may
//! be the end of.

use super::{Way, folded};

/// Most last bytes that are looked up.
const WIDEST: usize = 16;

/// Bits of a hash: several times as many hashes as a group has texts, so that most are of none.
const HASH_BITS: u32 = 11;

/// The last bytes that were seen: the last eight, and the eight before those.
pub(super) struct Tail {
    before: u64,
    last: u64,
}

pub(super) struct Endings {
    /// Which bytes of a tail all texts of the group have.
    mask: Tail,
    /// Where in `texts` those with a hash begin; one more than there are hashes.
    starts: Box<[u32]>,
    /// With how many bytes of each follow.
    texts: Vec<(u32, usize)>,
}

impl Tail {
    #[inline]
    pub(super) fn of(seen: &[u8]) -> Tail {
        if let Some(tail) = seen.last_chunk::<WIDEST>()
            && let [before, last] = tail.as_chunks::<8>().0
        {
            return Tail { before: folded(before), last: folded(last) };
        }
        let (before, last) = seen.split_at(seen.len().saturating_sub(8));
        Tail { before: folded(&before[before.len().saturating_sub(8)..]), last: folded(last) }
    }

    /// Of this tail, so many bytes.
    fn mask(bytes: usize) -> Tail {
        let mask = |bytes: usize| u64::MAX.checked_shl(64 - 8 * u32::try_from(bytes.min(8)).unwrap_or(0)).unwrap_or(0);
        Tail { before: mask(bytes.saturating_sub(8)), last: mask(bytes) }
    }

    /// Of the bytes that count. Each half is multiplied by a number of its own; the upper bits hang on all lower ones.
    #[inline]
    fn hash(&self, mask: &Tail) -> usize {
        let before = (self.before & mask.before).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let last = (self.last & mask.last).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (before.wrapping_add(last) >> (64 - HASH_BITS)) as usize
    }
}

impl Endings {
    pub(super) fn new(ways: &[Way]) -> Endings {
        let width = ways.iter().map(|way| way.seen.len()).min().unwrap_or(0);
        let mask = Tail::mask(width.min(WIDEST));
        let hashed = ways.iter().map(|way| (Tail::of(way.seen).hash(&mask), (way.number, way.behind)));
        let mut hashed: Vec<(usize, (u32, usize))> = hashed.collect();
        hashed.sort_unstable();
        let start = |wanted| hashed.partition_point(|(hash, _)| *hash < wanted);
        let starts = (0..=1 << HASH_BITS).map(|wanted| u32::try_from(start(wanted)).unwrap_or(u32::MAX)).collect();
        Endings { mask, starts, texts: hashed.into_iter().map(|(_, text)| text).collect() }
    }

    /// The texts that may end with this, each with how many bytes of it follow.
    pub(super) fn with(&self, tail: &Tail) -> &[(u32, usize)] {
        let hash = tail.hash(&self.mask);
        &self.texts[self.starts[hash] as usize..self.starts[hash + 1] as usize]
    }
}
