//! The stamps of all sources of a `recent` window: per source a ring of the newest `hitcount` ones, in order of time.
//!
//! A source that was seen once costs no ring; rings grow in steps, and a step's blocks lie in one allocation.

/// The handle of one source's stamps. Only the [`Stamps`] it came from can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring {
    /// The stamp itself while it is the only one, else the number of a block on the shelf for `count` stamps.
    at: u32,
    count: u16,
    /// Where in its block the oldest stamp stands. Moves only once the ring has its full length.
    head: u16,
}

/// Blocks of one width, given out by number.
struct Shelf {
    width: usize,
    words: Vec<u32>,
    free: Vec<u32>,
}

impl Shelf {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let block = self.words.len() / self.width;
            self.words.resize(self.words.len() + self.width, 0);
            u32::try_from(block).expect("there are at most as many blocks as slots, which are numbered by u32")
        })
    }

    fn block(&self, block: u32) -> &[u32] {
        let start = block as usize * self.width;
        &self.words[start..start + self.width]
    }

    fn block_mut(&mut self, block: u32) -> &mut [u32] {
        let start = block as usize * self.width;
        &mut self.words[start..start + self.width]
    }
}

pub(super) struct Stamps {
    /// Length of a full ring, 1 to 65,535.
    hitcount: u16,
    /// Widths 4, 16, 64, … below `hitcount`, then `hitcount`.
    shelves: Vec<Shelf>,
}

impl Stamps {
    pub(super) fn new(hitcount: u16) -> Stamps {
        let full = usize::from(hitcount);
        let steps = std::iter::successors(Some(4), |width| Some(width * 4)).take_while(|width| *width < full);
        let widths = steps.chain((full > 1).then_some(full));
        let shelves = widths.map(|width| Shelf { width, words: Vec::new(), free: Vec::new() }).collect();
        Stamps { hitcount, shelves }
    }

    /// Adds a stamp, in its place by time. A full ring loses its oldest one, which may be this one.
    pub(super) fn push(&mut self, ring: &mut Ring, stamp: u32) {
        if ring.count < self.hitcount {
            self.grow(ring);
        } else if stamp <= self.get(*ring, 0) {
            return;
        } else {
            ring.head = (ring.head + 1) % ring.count;
        }
        let mut place = ring.count - 1;
        while place > 0 && self.get(*ring, place - 1) > stamp {
            let newer = self.get(*ring, place - 1);
            self.set(ring, place, newer);
            place -= 1;
        }
        self.set(ring, place, stamp);
    }

    /// When the ring is full: its oldest and its newest stamp.
    pub(super) fn span(&self, ring: Ring) -> Option<(u32, u32)> {
        (ring.count == self.hitcount).then(|| (self.get(ring, 0), self.get(ring, ring.count - 1)))
    }

    /// How many stamps are not older than `edge`, `hitcount` at most.
    pub(super) fn count_since(&self, ring: Ring, edge: u32) -> u16 {
        let (mut old, mut recent) = (0, ring.count);
        while old < recent {
            let middle = old.midpoint(recent);
            if self.get(ring, middle) < edge { old = middle + 1 } else { recent = middle }
        }
        ring.count - old
    }

    pub(super) fn newest(&self, ring: Ring) -> Option<u32> {
        (ring.count > 0).then(|| self.get(ring, ring.count - 1))
    }

    /// Replaces each stamp by what `change` makes of it; `None` drops it. False when none is left.
    pub(super) fn rewrite(&mut self, ring: &mut Ring, change: impl Fn(u32) -> Option<u32>) -> bool {
        let kept: Vec<u32> = (0..ring.count).filter_map(|place| change(self.get(*ring, place))).collect();
        self.clear(ring);
        for stamp in &kept {
            self.push(ring, *stamp);
        }
        !kept.is_empty()
    }

    /// Empties the ring; its block is for others.
    pub(super) fn clear(&mut self, ring: &mut Ring) {
        if let Some(step) = self.step(ring.count) {
            self.shelves[step].free.push(ring.at);
        }
        *ring = Ring::default();
    }

    /// Which shelf holds rings of this length. A single stamp needs none.
    fn step(&self, count: u16) -> Option<usize> {
        (count > 1).then(|| self.shelves.partition_point(|wide| wide.width < usize::from(count)))
    }

    /// Room for one more stamp, at the end. The ring is not full yet, so its head is 0.
    fn grow(&mut self, ring: &mut Ring) {
        let (old, new) = (self.step(ring.count), self.step(ring.count + 1));
        if let Some(new) = new
            && Some(new) != old
        {
            let block = self.shelves[new].take();
            match old {
                None => self.shelves[new].block_mut(block)[0] = ring.at,
                Some(old) => {
                    let (smaller, larger) = self.shelves.split_at_mut(new);
                    let from = smaller[old].block(ring.at);
                    larger[0].block_mut(block)[..from.len()].copy_from_slice(from);
                    smaller[old].free.push(ring.at);
                }
            }
            ring.at = block;
        }
        ring.count += 1;
    }

    /// The stamp at this place, counted from the oldest. `place` is below `ring.count`.
    fn get(&self, ring: Ring, place: u16) -> u32 {
        match self.step(ring.count) {
            Some(step) => self.shelves[step].block(ring.at)[ring.place(place)],
            None => ring.at,
        }
    }

    fn set(&mut self, ring: &mut Ring, place: u16, stamp: u32) {
        match self.step(ring.count) {
            Some(step) => self.shelves[step].block_mut(ring.at)[ring.place(place)] = stamp,
            None => ring.at = stamp,
        }
    }

    /// Bytes in use by blocks, given out or free.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.shelves.iter().map(|one| 4 * (one.words.len() + one.free.len())).sum()
    }
}

impl Ring {
    fn place(self, place: u16) -> usize {
        (usize::from(self.head) + usize::from(place)) % usize::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ring_holds_the_newest_stamps_in_order(
            hitcount in 1_u16..70,
            stamps in prop::collection::vec((0_usize..3, 0_u32..50), 1..300),
        ) {
            let mut store = Stamps::new(hitcount);
            let mut rings = [Ring::default(); 3];
            let mut models: [Vec<u32>; 3] = Default::default();
            for (source, stamp) in stamps {
                store.push(&mut rings[source], stamp);
                let model = &mut models[source];
                model.push(stamp);
                model.sort_unstable();
                let surplus = model.len().saturating_sub(usize::from(hitcount));
                model.drain(..surplus);
                for (ring, model) in rings.iter().zip(&models) {
                    let held: Vec<u32> = (0..ring.count).map(|place| store.get(*ring, place)).collect();
                    prop_assert_eq!(&held, model);
                    let since = model.iter().filter(|held| **held >= stamp).count();
                    prop_assert_eq!(usize::from(store.count_since(*ring, stamp)), since);
                    let full = model.len() == usize::from(hitcount);
                    prop_assert_eq!(store.span(*ring), full.then(|| (model[0], model[model.len() - 1])));
                    prop_assert_eq!(store.newest(*ring), model.last().copied());
                }
            }
            for (ring, model) in rings.iter_mut().zip(&models) {
                let expected: Vec<u32> = model.iter().filter_map(|stamp| stamp.checked_sub(20)).collect();
                prop_assert_eq!(store.rewrite(ring, |stamp| stamp.checked_sub(20)), !expected.is_empty());
                let held: Vec<u32> = (0..ring.count).map(|place| store.get(*ring, place)).collect();
                prop_assert_eq!(held, expected);
            }
        }
    }

    #[test]
    fn blocks_that_were_given_back_are_used_again() {
        let mut store = Stamps::new(11);
        for source in 0..1000_u32 {
            let mut ring = Ring::default();
            (0..20).for_each(|step| store.push(&mut ring, source + step));
            store.clear(&mut ring);
        }
        assert!(store.memory() <= 4 * (4 + 11 + 2), "{}", store.memory());
    }
}
