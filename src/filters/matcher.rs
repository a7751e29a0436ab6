//! Runs filters over lines. In: blocks of whole lines, single lines, records. Out: hits.
//!
//! One pass over a block finds the texts that the patterns require; only lines with such a text are looked at: their
//! header is read once, and only the patterns that require a text found in them are tried. Built once, immutable; what
//! lines of a log leave behind for later ones is in the [`Memory`] of that log.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::envelope::{self, Torn};
use super::file::{Filter, Join, Rule};
use super::grams::{self, Grams};
use super::line::{Line, Message};
use super::memory::{Accusation, Memory};
use super::syslog;
use super::timestamp::{self, Stamp};
use super::{Clock, Finding, Hit, Offender, Record, Scanned, Told};
use crate::time::Timestamp;

/// All filters of one source.
pub(crate) struct Matcher {
    filters: Vec<Arc<Filter>>,
    /// Finds lines in which a text may stand that patterns require; `None` when every line is looked at.
    finder: Option<Finder>,
    /// Finds those texts in a line. `None` when no pattern requires any.
    texts: Option<AhoCorasick>,
    /// Which patterns require each text; none require the marks of envelopes.
    owners: Vec<Vec<Owner>>,
    /// Patterns that require no text: with any of these, every line is looked at.
    always: Vec<Owner>,
    /// Every pattern in use, for records, which are few.
    all: Vec<Owner>,
}

/// A part of a filter that looks at lines. Ordered as they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    /// Index of the filter.
    filter: u16,
    part: Part,
}

/// By index within the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Join(u16),
    Pattern(u16),
}

/// Finds the next place near which one of many texts may stand.
struct Finder {
    /// Most texts, all at once.
    grams: Grams,
    /// The texts that are too short for that.
    short: Option<AhoCorasick>,
}

/// The next places in a block, as far as they are known.
#[derive(Default)]
struct Places {
    gram: Option<usize>,
    short: Option<usize>,
}

/// A block or record while it is searched.
struct Search<'s, F> {
    clock: &'s Clock,
    memory: &'s mut Memory,
    /// The parts to try on the line at hand.
    wanted: Vec<Owner>,
    /// Called with each finding and the offset of its line.
    found: &'s mut F,
}

impl Matcher {
    /// The hits name filters by their index in `filters`.
    pub(crate) fn new(filters: Vec<Arc<Filter>>) -> Matcher {
        let mut texts: Vec<Vec<u8>> = envelope::MARKS.iter().map(|mark| mark.to_vec()).collect();
        let mut owners: Vec<Vec<Owner>> = vec![Vec::new(); texts.len()];
        let (mut always, mut all) = (Vec::new(), Vec::new());
        for (owner, literals) in required(&filters) {
            all.push(owner);
            if literals.is_empty() {
                always.push(owner);
            }
            for literal in literals {
                let known = texts.iter().position(|text| *text == literal).unwrap_or_else(|| {
                    texts.push(literal);
                    owners.push(Vec::new());
                    owners.len() - 1
                });
                owners[known].push(owner);
            }
        }
        let finder = Finder::new(&texts).filter(|_| always.is_empty());
        let texts = if all.is_empty() { None } else { automaton(&texts) };
        if texts.is_none() {
            always.clone_from(&all);
        }
        Matcher { filters, finder, texts, owners, always, all }
    }

    /// Whole lines, as a source read them. Adds their hits in order.
    pub(crate) fn scan(&self, block: &[u8], clock: &Clock, memory: &mut Memory, hits: &mut Vec<Hit>) -> Scanned {
        self.search(block, clock, memory, &mut |_, finding| hits.extend(hit(finding)));
        let lines = memchr::memchr_iter(b'\n', block).count() + usize::from(block.last().is_some_and(|b| *b != b'\n'));
        let body = block.strip_suffix(b"\n").unwrap_or(block);
        let last = memchr::memrchr(b'\n', body).map_or(body, |newline| &body[newline + 1..]);
        Scanned { lines: lines as u64, latest: self.line_time(last, clock) }
    }

    /// A record whose envelope is open already. Adds at most one hit per filter.
    pub(crate) fn record(&self, record: &Record<'_>, memory: &mut Memory, hits: &mut Vec<Hit>) {
        let mut scratch = std::mem::take(&mut memory.scratch);
        if let Some(opened) = envelope::open(trim_end(record.message), &mut Torn::default(), &mut scratch) {
            let clock = Clock { now: record.time, zone: jiff::tz::TimeZone::UTC };
            let mut found = |_, finding| hits.extend(hit(Finding { time: record.time, ..finding }));
            let mut search = Search { clock: &clock, memory, wanted: self.all.clone(), found: &mut found };
            self.try_parts(&Line::of_record(record, opened.text), 0, &mut search);
        }
        memory.scratch = scratch;
    }

    /// The time of a line by its own stamp.
    #[expect(clippy::unused_self, reason = "a line's layout is the business of the filters that read it")]
    pub(crate) fn line_time(&self, line: &[u8], clock: &Clock) -> Option<Timestamp> {
        let mut scratch = Vec::new();
        let opened = envelope::open(trim_end(line), &mut Torn::default(), &mut scratch)?;
        let own = syslog::stamp(opened.text).or_else(|| timestamp::bracketed_common_log(opened.text));
        own.or(opened.stamp)?.resolve(clock)
    }

    /// One line, with what it accuses shown also where it is only a name.
    pub(crate) fn examine(&self, line: &[u8], clock: &Clock, memory: &mut Memory, findings: &mut Vec<Finding>) {
        self.search(line, clock, memory, &mut |_, finding| findings.push(finding));
    }

    /// Calls `found` with each finding and the offset of its line in the block.
    pub(crate) fn search(
        &self,
        block: &[u8],
        clock: &Clock,
        memory: &mut Memory,
        found: &mut impl FnMut(usize, Finding),
    ) {
        let mut scratch = std::mem::take(&mut memory.scratch);
        let mut search = Search { clock, memory, wanted: Vec::new(), found };
        let (mut at, mut places) = (0, Places::default());
        while let Some((start, end)) = self.next_candidate(block, at, &mut places) {
            self.look(&block[start..end], start, &mut scratch, &mut search);
            at = end + 1;
        }
        search.memory.scratch = scratch;
    }

    /// Where the next line begins and ends that a pattern may match.
    fn next_candidate(&self, block: &[u8], at: usize, places: &mut Places) -> Option<(usize, usize)> {
        if at >= block.len() || self.all.is_empty() {
            return None;
        }
        let place = match &self.finder {
            Some(finder) => finder.next(block, at, places)?,
            None => at,
        };
        let start = memchr::memrchr(b'\n', &block[at..place]).map_or(at, |newline| at + newline + 1);
        let end = memchr::memchr(b'\n', &block[place..]).map_or(block.len(), |length| place + length);
        Some((start, end))
    }

    /// Tries the parts that require a text of this line.
    fn look(
        &self,
        line: &[u8],
        offset: usize,
        scratch: &mut Vec<u8>,
        search: &mut Search<'_, impl FnMut(usize, Finding)>,
    ) {
        let Some(opened) = envelope::open(trim_end(line), &mut search.memory.torn, scratch) else { return };
        search.wanted.clear();
        search.wanted.extend(&self.always);
        if let Some(texts) = &self.texts {
            for text in texts.find_overlapping_iter(opened.text) {
                search.wanted.extend(&self.owners[text.pattern().as_usize()]);
            }
        }
        if search.wanted.is_empty() {
            return;
        }
        search.wanted.sort_unstable();
        search.wanted.dedup();
        self.try_parts(&Line::new(opened, line.len()), offset, search);
    }

    /// Tries the wanted parts on a line; the first pattern of a filter that matches makes its finding.
    fn try_parts(&self, line: &Line<'_>, offset: usize, search: &mut Search<'_, impl FnMut(usize, Finding)>) {
        let wanted = std::mem::take(&mut search.wanted);
        let mut matched = None;
        for owner in &wanted {
            if matched == Some(owner.filter) {
                continue;
            }
            let Some(filter) = self.filters.get(usize::from(owner.filter)) else { continue };
            let try_message = |message| filter.attempt(*owner, line.cut, message, search.clock, search.memory);
            if let Some(finding) = line.messages(filter).find_map(try_message) {
                matched = Some(owner.filter);
                (search.found)(offset, finding);
            }
        }
        search.wanted = wanted;
    }
}

impl Finder {
    /// `None` when it cannot be built.
    fn new(texts: &[Vec<u8>]) -> Option<Finder> {
        let (long, short): (Vec<_>, Vec<_>) = texts.iter().cloned().partition(|text| text.len() >= grams::SHORTEST);
        let short = if short.is_empty() { None } else { Some(automaton(&short)?) };
        Some(Finder { grams: Grams::new(&long), short })
    }

    /// The next place from `at` on.
    fn next(&self, block: &[u8], at: usize, places: &mut Places) -> Option<usize> {
        let ahead = |known: Option<usize>, find: &dyn Fn() -> Option<usize>| match known {
            Some(place) if place >= at => place,
            _ => find().unwrap_or(usize::MAX),
        };
        let gram = ahead(places.gram, &|| self.grams.find(block, at));
        let find_short = || Some(self.short.as_ref()?.find(Input::new(block).range(at..))?.start());
        let short = ahead(places.short, &find_short);
        *places = Places { gram: Some(gram), short: Some(short) };
        Some(gram.min(short)).filter(|place| *place < block.len())
    }
}

impl Filter {
    /// Whether lines of this program are the filter's.
    pub(super) fn accepts(&self, program: &[u8]) -> bool {
        self.programs.is_empty() || self.programs.iter().any(|name| name.as_bytes() == program)
    }

    /// What a part of the filter makes of a message.
    fn attempt(
        &self,
        owner: Owner,
        cut: bool,
        message: Message<'_>,
        clock: &Clock,
        memory: &mut Memory,
    ) -> Option<Finding> {
        let time = |stamp: Option<Stamp>| stamp.and_then(|stamp| stamp.resolve(clock)).unwrap_or(clock.now);
        let finding = |pattern, told: Told, repeat| {
            let (filter, evidence) = (owner.filter, self.evidence);
            let Told { offender, user, stamp } = told;
            Finding { filter, pattern, offender, time: time(stamp.or(message.stamp)), user, evidence, repeat }
        };
        match owner.part {
            Part::Join(index) => {
                let join = self.joins.get(usize::from(index))?;
                let (address, accusation) =
                    join.name(owner.filter, index, cut, message, time(message.stamp), memory)?;
                let told = Told { offender: Offender::Address(address), user: None, stamp: None };
                Some(finding(accusation.pattern, told, accusation.repeat))
            }
            Part::Pattern(index) => match &self.patterns.get(usize::from(index))?.rule {
                Rule::Joined(rule) => {
                    let join = self.joins.get(usize::from(rule.join))?;
                    let id = rule.id(message.text, message.process)?;
                    let key = memory.key(owner.filter, rule.join, message.host, id);
                    let now = time(message.stamp);
                    let Some(address) = memory.address(key, now, join.within) else {
                        let accusation = Accusation { pattern: index, repeat: message.repeat };
                        if join.late {
                            memory.accuse(key, accusation, now);
                        }
                        return None;
                    };
                    let told = Told { offender: Offender::Address(address), user: None, stamp: None };
                    Some(finding(index, told, message.repeat))
                }
                rule => Some(finding(index, rule.told(message.text, cut)?, message.repeat)),
            },
        }
    }
}

impl Rule {
    /// What a rule that needs no other line makes of a message.
    fn told(&self, text: &[u8], cut: bool) -> Option<Told> {
        match self {
            Rule::Text(rule) if cut && rule.needs_end() => None,
            Rule::Text(rule) => {
                let found = rule.find(text)?;
                let (user, stamp) = (found.user(), found.stamp());
                Some(Told { offender: found.offender, user, stamp })
            }
            Rule::Packet(rule) => Some(Told { offender: Offender::Address(rule.find(text)?), user: None, stamp: None }),
            Rule::Json(rule) => rule.find(text),
            Rule::Joined(_) => None,
        }
    }
}

impl Join {
    /// Keeps whom a message names; gives the accusation that waited for it.
    fn name(
        &self,
        filter: u16,
        index: u16,
        cut: bool,
        message: Message<'_>,
        now: Timestamp,
        memory: &mut Memory,
    ) -> Option<(std::net::IpAddr, Accusation)> {
        let found = self.rule.find(message.text).filter(|_| !cut || !self.rule.needs_end())?;
        let key = memory.key(filter, index, message.host, found.id(message.process)?);
        let address = match found.offender {
            Offender::Address(address) => Some(address),
            Offender::Name(_) => None,
        };
        let accusation = memory.name(key, address, now, self.within)?;
        Some((address?, accusation))
    }
}

/// Each part in use with the texts of which it requires one.
fn required(filters: &[Arc<Filter>]) -> impl Iterator<Item = (Owner, Vec<Vec<u8>>)> + '_ {
    (0u16..).zip(filters).flat_map(|(filter, used)| {
        let joins = (0u16..).zip(&used.joins);
        let joins = joins.map(move |(index, join)| (Owner { filter, part: Part::Join(index) }, join.literals()));
        let patterns = (0u16..).zip(&used.patterns).filter(|(_, pattern)| pattern.mode <= used.mode);
        let literals = |pattern: &super::file::Pattern| pattern.rule.literals();
        joins.chain(
            patterns.map(move |(index, pattern)| (Owner { filter, part: Part::Pattern(index) }, literals(pattern))),
        )
    })
}

/// `None` when the texts are too many for one automaton: then every line is looked at.
fn automaton(texts: &[Vec<u8>]) -> Option<AhoCorasick> {
    let mut builder = AhoCorasick::builder();
    builder
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(texts)
        .ok()
}

pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn hit(finding: Finding) -> Option<Hit> {
    let Finding { filter, pattern, offender, time, user, evidence, repeat } = finding;
    match offender {
        Offender::Address(address) => Some(Hit { address, time, filter, pattern, user, evidence, repeat }),
        Offender::Name(_) => None,
    }
}

#[cfg(test)]
mod tests;
