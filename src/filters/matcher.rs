//! Runs filters over lines. In: blocks of whole lines, single lines, records. Out: hits.
//!
//! One pass over a block finds the texts that the patterns require; only lines with such a text are looked at: their
//! header is read once, and only the patterns that require a text found in them are tried. Built once, immutable; what
//! lines of a log leave behind for later ones is in the [`Memory`] of that log.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::address::Whom;
use super::envelope::{self, Torn};
use super::excerpt::Excerpts;
use super::file::{Filter, Join, Pattern, Rule};
use super::line::{Line, Message};
use super::memory::{Accusation, Memory};
use super::suppressed;
use super::syslog::{self, Beginning};
use super::texts::{Ahead, Texts};
use super::timestamp::{self, Times};
use super::{Clock, Effect, Finding, Hit, KEPT_OF_LINE, Offender, Record, Scanned, Told, User};
use crate::time::Timestamp;

/// All filters of one source.
pub(crate) struct Matcher {
    filters: Vec<Arc<Filter>>,
    /// The texts that patterns require; `None` when none does.
    texts: Option<Texts>,
    /// Which patterns require each text; none require the marks of envelopes and repetitions.
    owners: Vec<Vec<Owner>>,
    /// Patterns that require no text: with any of these, every line is looked at.
    always: Vec<Owner>,
    /// Whether there is any pattern at all.
    any: bool,
}

/// A part of a filter that looks at lines. Ordered as they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// Index of the filter.
    filter: u16,
    part: Part,
}

/// By index within the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Join(u16),
    Pattern(u16),
}

/// Whoever reads the log wants lines which say that others are missing. Greater than the parts of all filters.
const SUPPRESSED: Owner = Owner { filter: u16::MAX, part: Part::Pattern(u16::MAX) };

/// How many texts come before those of the patterns: the marks of envelopes and repetitions.
const MARKS: usize = envelope::MARKS.len() + 1;

/// A block or record while it is searched.
struct Search<'s, F> {
    times: Times<'s>,
    beginning: &'s RefCell<Beginning>,
    memory: &'s mut Memory,
    /// The parts to try on the line at hand.
    wanted: Vec<Owner>,
    /// Called with each finding and the place of its line.
    found: &'s mut F,
}

impl Matcher {
    /// The hits name filters by their index in `filters`.
    pub(crate) fn new(filters: Vec<Arc<Filter>>) -> Matcher {
        let silent = envelope::MARKS.iter().chain([&syslog::REPEATED]).map(|mark| (mark.to_vec(), Vec::new()));
        let telling = suppressed::MARKS.iter().map(|mark| (mark.to_vec(), vec![SUPPRESSED]));
        let (mut texts, mut owners): (Vec<Vec<u8>>, Vec<Vec<Owner>>) = silent.chain(telling).unzip();
        let all: Vec<_> = required(&filters).collect();
        let mut always = Vec::new();
        for (owner, literals) in all.iter().cloned() {
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
        for owners in &mut owners {
            owners.sort_unstable();
            owners.dedup();
        }
        let texts = if all.is_empty() { None } else { Texts::new(&texts) };
        if texts.is_none() {
            always = all.iter().map(|(owner, _)| *owner).collect();
        }
        Matcher { filters, texts, owners, always, any: !all.is_empty() }
    }

    /// Whole lines, as a source read them. Adds their hits in order.
    pub(crate) fn scan(&self, block: &[u8], clock: &Clock, memory: &mut Memory, hits: &mut Vec<Hit>) -> Scanned {
        let (first, mut texts) = (hits.len(), Excerpts::of(block.len()));
        self.search(block, clock, memory, &mut |line, finding| hits.extend(hit(finding, &block[line], &mut texts)));
        texts.share(hits.iter_mut().skip(first).map(|hit| &mut hit.line));
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
            let wanted = std::mem::take(&mut memory.wanted);
            let beginning = RefCell::default();
            let mut search =
                Search { times: Times::new(&clock), beginning: &beginning, memory, wanted, found: &mut () };
            if self.want(&[record.program, opened.text], &mut search.wanted) {
                if search.wanted.last() == Some(&SUPPRESSED) {
                    search.memory.note_suppressed(record.program, opened.text, record.time);
                }
                let mut findings = Vec::new();
                self.try_parts(&Line::of_record(record, opened.text), &mut search, &mut findings);
                let (first, mut texts) = (hits.len(), Excerpts::of(record.message.len()));
                let first_line = record.message.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let at_its_time = |finding| hit(&Finding { time: record.time, ..finding }, first_line, &mut texts);
                hits.extend(findings.into_iter().filter_map(at_its_time));
                texts.share(hits.iter_mut().skip(first).map(|hit| &mut hit.line));
            }
            memory.wanted = search.wanted;
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
        self.search(line, clock, memory, &mut |_, finding| findings.push(finding.clone()));
    }

    /// Calls `found` with each finding and the place of its line in the block.
    pub(crate) fn search(
        &self,
        block: &[u8],
        clock: &Clock,
        memory: &mut Memory,
        found: &mut impl FnMut(Range<usize>, &Finding),
    ) {
        let (mut scratch, mut ahead) = (std::mem::take(&mut memory.scratch), std::mem::take(&mut memory.ahead));
        let wanted = std::mem::take(&mut memory.wanted);
        let beginning = RefCell::default();
        let mut search = Search { times: Times::new(clock), beginning: &beginning, memory, wanted, found };
        let mut at = 0;
        ahead.clear();
        while let Some(line) = self.next_candidate(block, at, &mut ahead) {
            at = line.end + 1;
            self.look(block, line, &ahead, &mut scratch, &mut search);
        }
        let Search { memory, wanted, .. } = search;
        (memory.scratch, memory.ahead, memory.wanted) = (scratch, ahead, wanted);
        // The line behind it, if there is one already, was none that anything is found in.
        memory.last.begin_block(block.len());
    }

    /// The next line that a pattern may match, of those that begin at `at` or behind it.
    fn next_candidate(&self, block: &[u8], at: usize, ahead: &mut Ahead) -> Option<Range<usize>> {
        if at >= block.len() || !self.any {
            return None;
        }
        match &self.texts {
            Some(texts) if self.always.is_empty() => texts.next_line(block, at, ahead),
            _ => Some(at..memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |length| at + length)),
        }
    }

    /// Tries the parts that require a text of this line.
    fn look(
        &self,
        block: &[u8],
        place: Range<usize>,
        ahead: &Ahead,
        scratch: &mut Vec<u8>,
        search: &mut Search<'_, impl FnMut(Range<usize>, &Finding)>,
    ) {
        let line = &block[place.clone()];
        let marked = !self.always.is_empty() || Texts::may_have_first(MARKS, &place, ahead);
        let opened = if marked {
            envelope::open(trim_end(line), &mut search.memory.torn, scratch)
        } else {
            Some(envelope::unmarked(trim_end(line)))
        };
        let Some(opened) = opened else { return };
        if marked
            && search.memory.last.is_before(place.start)
            && let Some((host, repeat)) = syslog::last_repeated(opened.text)
        {
            let time = search.times.or_now(syslog::stamp(opened.text));
            for finding in search.memory.last.again(host, repeat, time) {
                (search.found)(place.clone(), &finding);
            }
            return;
        }
        let known = self.always.is_empty() && !opened.rewritten;
        let wanted = &mut search.wanted;
        let any = match &self.texts {
            Some(texts) if known => self.gather(wanted, |found| texts.of_line(block, place.clone(), ahead, found)),
            _ => self.want(&[opened.text], wanted),
        };
        if !any {
            return;
        }
        if search.wanted.last() == Some(&SUPPRESSED)
            && let Some(header) = syslog::header(opened.text)
        {
            let time = search.times.or_now(header.stamp.or(opened.stamp));
            search.memory.note_suppressed(header.program, header.message, time);
        }
        let line = Line::new(opened, line.len()).behind(search.beginning);
        let mut findings = search.memory.last.take_space();
        self.try_parts(&line, search, &mut findings);
        for finding in &findings {
            (search.found)(place.clone(), finding);
        }
        search.memory.last.keep(place.end + 1, findings, || line.host());
    }

    /// Collects the parts whose texts stand in one of these; whether there are any.
    fn want(&self, line: &[&[u8]], wanted: &mut Vec<Owner>) -> bool {
        self.gather(wanted, |found| {
            for (texts, piece) in self.texts.iter().flat_map(|texts| line.iter().map(move |piece| (texts, piece))) {
                texts.all(piece, &mut *found);
            }
        })
    }

    /// The same, where `texts` tells which texts there are.
    fn gather(&self, wanted: &mut Vec<Owner>, texts: impl FnOnce(&mut dyn FnMut(usize))) -> bool {
        wanted.clear();
        wanted.extend(&self.always);
        let mut lists = usize::from(!wanted.is_empty());
        texts(&mut |text| {
            lists += 1;
            wanted.extend_from_slice(&self.owners[text]);
        });
        // The parts of one text are in order, and each is there once.
        if lists > 1 {
            wanted.sort_unstable();
            wanted.dedup();
        }
        !wanted.is_empty()
    }

    /// Tries the wanted parts on a line; the first pattern of a filter that matches makes its finding.
    fn try_parts<F>(&self, line: &Line<'_>, search: &mut Search<'_, F>, findings: &mut Vec<Finding>) {
        let Search { times, memory, wanted, .. } = search;
        for owners in wanted.chunk_by(|one, other| one.filter == other.filter) {
            let Some(filter) = owners.first().and_then(|owner| self.filters.get(usize::from(owner.filter))) else {
                continue;
            };
            let Some(messages) = line.messages(filter) else { continue };
            findings.extend(owners.iter().find_map(|owner| {
                messages.clone().find_map(|message| filter.attempt(*owner, line, message, times, memory))
            }));
        }
    }
}

impl Filter {
    /// Whether lines of this program are the filter's.
    pub(crate) fn accepts(&self, program: &[u8]) -> bool {
        self.names.is_empty() || self.names.have(program)
    }

    /// What a part of the filter makes of a message.
    fn attempt<'a>(
        &self,
        owner: Owner,
        line: &Line<'a>,
        message: Message<'a>,
        times: &mut Times<'_>,
        memory: &mut Memory,
    ) -> Option<Finding> {
        let joined = |address| Told::of(Offender::Address(address));
        let (pattern, told, repeat) = match owner.part {
            Part::Join(index) => {
                let join = self.joins.get(usize::from(index))?;
                let (address, accusation) = join.name(owner.filter, index, line.cut, message, times, memory)?;
                (accusation.pattern, joined(address), accusation.repeat)
            }
            Part::Pattern(index) => match &self.patterns.get(usize::from(index))?.rule {
                Rule::Joined(rule) => {
                    let join = self.joins.get(usize::from(rule.join))?;
                    let id = rule.id(message.text, message.process)?;
                    let key = memory.key(owner.filter, rule.join, message.host, id);
                    let now = times.or_now(message.stamp);
                    let Some(address) = memory.address(key, now, join.within) else {
                        let accusation = Accusation { pattern: index, repeat: message.repeat };
                        if join.late {
                            memory.accuse(key, accusation, now);
                        }
                        return None;
                    };
                    (index, joined(address), message.repeat)
                }
                rule => (index, rule.told(line, message.text)?, message.repeat),
            },
        };
        let (filter, Pattern { evidence, effect, .. }) = (owner.filter, self.patterns.get(usize::from(pattern))?);
        let Told { offender, user, port, stamp } = told;
        if *effect == Effect::Forgive && !user.as_ref().is_some_and(User::is_whole) {
            return None;
        }
        let (time, evidence, effect) = (times.or_now(stamp.or(message.stamp)), *evidence, *effect);
        Some(Finding { filter, pattern, offender, time, user, port, evidence, effect, repeat })
    }
}

impl Rule {
    /// What a rule that needs no other line makes of a message.
    fn told<'a>(&self, line: &Line<'a>, text: &'a [u8]) -> Option<Told> {
        match self {
            Rule::Text(rule) if line.cut && rule.needs_end() => None,
            Rule::Text(rule) => {
                let found = rule.find(text)?;
                let (user, stamp) = (found.user(), found.stamp());
                Some(Told { user, stamp, ..Told::of(found.offender.into()) })
            }
            Rule::Packet(rule) => {
                let (source, port) = rule.find(text, &line.packet)?;
                Some(Told { port, ..Told::of(Offender::Address(source)) })
            }
            Rule::Json(rule) => rule.find(line.object(text)?.as_ref()),
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
        times: &mut Times<'_>,
        memory: &mut Memory,
    ) -> Option<(std::net::IpAddr, Accusation)> {
        let found = self.rule.find(message.text).filter(|_| !cut || !self.rule.needs_end())?;
        let key = memory.key(filter, index, message.host, found.id(message.process)?);
        let address = match found.offender {
            Whom::Address(address) => Some(address),
            Whom::Name(_) => None,
        };
        let accusation = memory.name(key, address, times.or_now(message.stamp), self.within)?;
        Some((address?, accusation))
    }
}

/// Each part in use with the texts of which it requires one.
fn required(filters: &[Arc<Filter>]) -> impl Iterator<Item = (Owner, Vec<Vec<u8>>)> + '_ {
    (0u16..).zip(filters).flat_map(|(filter, used)| {
        let joins = (0u16..).zip(&used.joins);
        let joins =
            joins.map(move |(index, join)| (Owner { filter, part: Part::Join(index) }, used.texts(join.literals())));
        let patterns = (0u16..).zip(&used.patterns).filter(|(_, pattern)| pattern.mode <= used.mode);
        let literals = |pattern: &Pattern| used.texts(pattern.rule.literals());
        joins.chain(
            patterns.map(move |(index, pattern)| (Owner { filter, part: Part::Pattern(index) }, literals(pattern))),
        )
    })
}

/// Without the newline, and blanks that relays and terminals leave at an end.
pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

/// The beginning of its line is added to `texts`.
fn hit(finding: &Finding, line: &[u8], texts: &mut Excerpts) -> Option<Hit> {
    let Finding { filter, pattern, offender, time, user, port, evidence, effect, repeat } = finding.clone();
    match offender {
        Offender::Address(address) => {
            let line = texts.add(trim_end(line.get(..KEPT_OF_LINE).unwrap_or(line)));
            Some(Hit { address, time, filter, pattern, user, port, evidence, effect, repeat, line })
        }
        Offender::Name(_) => None,
    }
}

#[cfg(test)]
mod tests;
