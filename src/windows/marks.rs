//! What a `recent` window keeps of one source, in the words of its slot: when it was hit, and by what.
//!
//! There is room for `most` marks. Each has a stamp, in a word of its own; the tags follow, two to a word, and then the
//! number of marks. They lie in no order: a window of few hits is read as fast as it is found.

use std::ops::Range;

/// How the marks lie in a slot. Every method takes the words of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// 1 to 65,535.
    most: usize,
}

impl Marks {
    pub(super) fn new(most: u16) -> Marks {
        Marks { most: usize::from(most) }
    }

    /// How many words it takes.
    pub(super) fn words(self) -> usize {
        self.most + (self.most + 1).div_ceil(2)
    }

    /// Adds a mark. Where there is no room the oldest one goes, which may be this one.
    pub(super) fn add(self, words: &mut [u32], stamp: u32, tag: u16) {
        let count = self.count(words);
        if count < self.most {
            self.set(words, count, stamp, tag);
            self.set_count(words, count + 1);
        } else if let Some(oldest) = (0..count).min_by_key(|at| words[*at])
            && words[oldest] < stamp
        {
            self.set(words, oldest, stamp, tag);
        }
    }

    /// Adds a mark in place of the one with the same tag, so that only the newest of each tag is kept.
    pub(super) fn add_once(self, words: &mut [u32], stamp: u32, tag: u16) {
        match self.each(words).find(|at| self.tag(words, *at) == tag) {
            Some(at) => words[at] = words[at].max(stamp),
            None => self.add(words, stamp, tag),
        }
    }

    /// When there is no more room: the oldest and the newest stamp.
    pub(super) fn span(self, words: &[u32]) -> Option<(u32, u32)> {
        let stamps = self.stamps(words);
        if stamps.len() < self.most {
            return None;
        }
        Some((*stamps.iter().min()?, *stamps.iter().max()?))
    }

    pub(super) fn stamps(self, words: &[u32]) -> &[u32] {
        &words[..self.count(words)]
    }

    /// Replaces each stamp by what `change` makes of it and its tag; `None` drops it. False when none is left.
    pub(super) fn rewrite(self, words: &mut [u32], change: impl Fn(u32, u16) -> Option<u32>) -> bool {
        let mut kept = 0;
        for at in self.each(words) {
            let tag = self.tag(words, at);
            if let Some(stamp) = change(words[at], tag) {
                self.set(words, kept, stamp, tag);
                kept += 1;
            }
        }
        self.set_count(words, kept);
        kept > 0
    }

    fn each(self, words: &[u32]) -> Range<usize> {
        0..self.count(words)
    }

    fn count(self, words: &[u32]) -> usize {
        usize::from(self.half(words, self.most))
    }

    fn set_count(self, words: &mut [u32], count: usize) {
        self.set_half(words, self.most, u16::try_from(count).unwrap_or(u16::MAX));
    }

    fn tag(self, words: &[u32], at: usize) -> u16 {
        self.half(words, at)
    }

    fn set(self, words: &mut [u32], at: usize, stamp: u32, tag: u16) {
        words[at] = stamp;
        self.set_half(words, at, tag);
    }

    /// A half of the words behind the stamps, by its number.
    fn half(self, words: &[u32], number: usize) -> u16 {
        let [a, b, c, d] = words[self.most + number / 2].to_le_bytes();
        u16::from_le_bytes(if number.is_multiple_of(2) { [a, b] } else { [c, d] })
    }

    fn set_half(self, words: &mut [u32], number: usize, half: u16) {
        let word = &mut words[self.most + number / 2];
        *word = if number.is_multiple_of(2) {
            *word & 0xffff_0000 | u32::from(half)
        } else {
            *word & 0xffff | u32::from(half) << 16
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The marks, in order of time.
    fn held(marks: Marks, words: &[u32]) -> Vec<(u32, u16)> {
        let mut held: Vec<_> = marks.each(words).map(|at| (words[at], marks.tag(words, at))).collect();
        held.sort_unstable();
        held
    }

    proptest! {
        #[test]
        fn the_newest_marks_are_kept_with_their_tags(
            most in 1_u16..20,
            added in prop::collection::vec((0_u32..50, 0_u16..4), 1..100),
        ) {
            let marks = Marks::new(most);
            let mut words = vec![0; marks.words()];
            let mut model: Vec<(u32, u16)> = Vec::new();
            for (number, (stamp, tag)) in (0..).zip(added) {
                // No two stamps are equal, so that it is clear which one goes.
                let stamp = stamp * 1000 + number;
                marks.add(&mut words, stamp, tag);
                model.push((stamp, tag));
                model.sort_unstable();
                let surplus = model.len().saturating_sub(usize::from(most));
                model.drain(..surplus);
                prop_assert_eq!(&held(marks, &words), &model);
                let full = model.len() == usize::from(most);
                prop_assert_eq!(marks.span(&words), full.then(|| (model[0].0, model[model.len() - 1].0)));
            }
            let expected: Vec<_> = model.iter().copied().filter(|(_, tag)| *tag != 1).collect();
            prop_assert_eq!(marks.rewrite(&mut words, |stamp, tag| (tag != 1).then_some(stamp)), !expected.is_empty());
            prop_assert_eq!(held(marks, &words), expected);
        }

        #[test]
        fn of_each_tag_the_newest_mark_is_kept_once(
            most in 1_u16..8,
            added in prop::collection::vec((0_u32..50, 0_u16..12), 1..100),
        ) {
            let marks = Marks::new(most);
            let mut words = vec![0; marks.words()];
            for (number, (stamp, tag)) in (0..).zip(added) {
                marks.add_once(&mut words, stamp * 1000 + number, tag);
                let mut tags: Vec<u16> = held(marks, &words).into_iter().map(|(_, tag)| tag).collect();
                tags.sort_unstable();
                let count = tags.len();
                tags.dedup();
                prop_assert_eq!(tags.len(), count);
                prop_assert!(count <= usize::from(most));
            }
        }
    }
}
