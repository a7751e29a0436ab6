//! Which of many texts stand in a line. In: the texts, once; then blocks and lines. Out: the next line of a block with
//! any of them, and all that stand in it.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::grams::{self, Grams};

/// Texts by their numbers, in the order in which they were given.
pub(super) struct Texts {
    /// Most texts, all at once.
    long: Grams,
    numbers: Vec<u32>,
    /// The texts that are too short for that.
    short: Option<Short>,
}

struct Short {
    automaton: AhoCorasick,
    numbers: Vec<u32>,
}

/// What is known of a block from the line at hand on.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The first line with a long text; behind the block when there is none.
    long: Option<Range<usize>>,
    /// Which long texts stand in it.
    texts: Vec<u32>,
    /// Where the first short text begins.
    short: Option<usize>,
}

impl Ahead {
    /// Another block begins.
    pub(super) fn clear(&mut self) {
        (self.long, self.short) = (None, None);
    }
}

impl Texts {
    /// `None` when the short ones are too many for one automaton.
    pub(super) fn new(texts: &[Vec<u8>]) -> Option<Texts> {
        let numbered = (0u32..).zip(texts.iter().cloned());
        let (long, short): (Vec<_>, Vec<_>) = numbered.partition(|(_, text)| text.len() >= grams::SHORTEST);
        let (numbers, long): (Vec<_>, Vec<_>) = long.into_iter().unzip();
        let short = if short.is_empty() { None } else { Some(Short::new(short)?) };
        Some(Texts { long: Grams::new(&long), numbers, short })
    }

    /// The first line from `at` on, where a line begins, that has any of the texts.
    pub(super) fn next_line(&self, block: &[u8], at: usize, ahead: &mut Ahead) -> Option<Range<usize>> {
        if ahead.long.as_ref().is_none_or(|line| line.start < at) {
            ahead.long = Some(self.next_long(block, at, &mut ahead.texts));
        }
        if ahead.short.is_none_or(|place| place < at) {
            let short = self.short.as_ref().and_then(|short| short.automaton.find(Input::new(block).range(at..)));
            ahead.short = Some(short.map_or(block.len(), |found| found.start()));
        }
        let (long, short) = (ahead.long.clone()?, ahead.short?);
        let line = if short < long.start { line_around(block, at, short) } else { long };
        (line.start < block.len()).then_some(line)
    }

    /// The first line from `at` on with any text, and which stand in it.
    fn next_long(&self, block: &[u8], at: usize, texts: &mut Vec<u32>) -> Range<usize> {
        let mut line = block.len()..block.len();
        texts.clear();
        self.long.visit(block, at, |text, last| {
            if texts.is_empty() {
                line = line_around(block, at, last);
            }
            if last < line.end {
                texts.push(self.numbers[text as usize]);
            }
            line.end
        });
        line
    }

    /// Calls `found` with the number of each text in the line that was the last one found.
    pub(super) fn of_line(&self, block: &[u8], line: Range<usize>, ahead: &Ahead, mut found: impl FnMut(usize)) {
        if ahead.long.as_ref() == Some(&line) {
            ahead.texts.iter().for_each(|text| found(*text as usize));
        }
        if ahead.short.is_some_and(|place| line.contains(&place)) {
            self.short_in(&block[line], found);
        }
    }

    /// Whether the line that was the last one found may have one of the texts with the first numbers, up to `end`.
    pub(super) fn may_have_first(end: usize, line: &Range<usize>, ahead: &Ahead) -> bool {
        let is_first = |text: &u32| (*text as usize) < end;
        let long = ahead.long.as_ref() == Some(line) && ahead.texts.iter().any(is_first);
        long || ahead.short.is_some_and(|place| line.contains(&place))
    }

    /// Calls `found` with the number of each text in any other line.
    pub(super) fn all(&self, line: &[u8], mut found: impl FnMut(usize)) {
        self.long.visit(line, 0, |text, _| {
            found(self.numbers[text as usize] as usize);
            line.len()
        });
        // Whether there is any is known much sooner than which.
        if self.short.as_ref().is_some_and(|short| short.automaton.is_match(line)) {
            self.short_in(line, found);
        }
    }

    fn short_in(&self, line: &[u8], mut found: impl FnMut(usize)) {
        for (short, text) in self
            .short
            .iter()
            .flat_map(|short| short.automaton.find_overlapping_iter(line).map(move |text| (short, text)))
        {
            found(short.numbers[text.pattern().as_usize()] as usize);
        }
    }
}

/// The line that goes through a place at or behind `at`, where a line begins.
fn line_around(block: &[u8], at: usize, place: usize) -> Range<usize> {
    let start = memchr::memrchr(b'\n', &block[at..place]).map_or(at, |newline| at + newline + 1);
    start..memchr::memchr(b'\n', &block[place..]).map_or(block.len(), |length| place + length)
}

impl Short {
    fn new(texts: Vec<(u32, Vec<u8>)>) -> Option<Short> {
        let (numbers, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::DFA)).ascii_case_insensitive(true);
        Some(Short { automaton: builder.build(texts).ok()?, numbers })
    }
}
