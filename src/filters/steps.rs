//! A regex of the plain kind, run step by step: fixed texts, runs of bytes of a set, choices. In: the structure of a
//! regex. Out: whether a text matches from its beginning on, and where the groups stand, as a regex engine has it.
//!
//! It goes back like the engines that can be made to take for ever, so it counts its steps: a text that takes more than
//! [`FUEL`] is left to the real engine, whose time is linear. On log lines hardly any run has two lengths to try.

use std::ops::Range;

use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::bytes::Bytes;

/// Most runs, choices and tries on one text; some of them are calls within calls. Between two of these there are never more
/// steps than nodes.
const FUEL: usize = 1024;

/// A run of so many bytes is one step.
const BYTES_PER_STEP: usize = 16;

/// Most nodes; a choice among more texts is the business of an automaton.
const MOST_NODES: usize = 160;

/// Most bytes of all fixed texts.
const MOST_BYTES: usize = 4096;

/// Most times that a group is written out in place of its repetition.
const MOST_COPIES: u32 = 12;

/// The groups of a pattern that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    User,
    Id,
    Time,
}

impl Group {
    pub(super) const ALL: [Group; 3] = [Group::User, Group::Id, Group::Time];

    pub(super) fn name(self) -> &'static str {
        match self {
            Group::User => "user",
            Group::Id => "id",
            Group::Time => "time",
        }
    }
}

/// Where the groups stand in a text that matched. Small, for it is copied at every turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans([Span; 3]);

/// By places, which no text has more of than a line has bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    /// [`NOWHERE`] for a group that the match did not go through.
    end: u32,
}

const NOWHERE: u32 = u32::MAX;

impl Default for Span {
    fn default() -> Span {
        Span { start: 0, end: NOWHERE }
    }
}

impl Spans {
    pub(super) fn get<'t>(&self, group: Group, text: &'t [u8]) -> Option<&'t [u8]> {
        let Span { start, end } = self.0[group as usize];
        if end == NOWHERE { None } else { text.get(start as usize..end as usize) }
    }

    pub(super) fn set(&mut self, group: Group, start: usize, end: usize) {
        self.open(group, start);
        self.close(group, end);
    }

    fn open(&mut self, group: Group, at: usize) {
        self.0[group as usize].start = place(at);
    }

    fn close(&mut self, group: Group, at: usize) {
        self.0[group as usize].end = place(at);
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NOWHERE)
}

/// The text took too many steps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spent;

#[derive(Debug)]
pub(super) struct Steps {
    nodes: Vec<Node>,
    first: usize,
}

#[derive(Debug)]
struct Node {
    step: Step,
    next: usize,
    /// How many bytes may follow from here on; `None` for any number.
    least: usize,
    most: Option<usize>,
    /// The bytes one of which comes next, unless the text ends.
    firsts: Bytes,
    /// The byte that is all of these.
    first: Option<u8>,
}

#[derive(Debug)]
enum Step {
    Text(Text),
    Run(Run),
    /// One of these nodes, the first that leads on.
    Fork(Box<[Way]>),
    Open(Group),
    Close(Group),
    Start,
    End,
    Done,
}

/// A fixed text.
#[derive(Debug)]
struct Text {
    bytes: Box<[u8]>,
    /// The first eight of them, the first in the lowest place; 0 where it has fewer.
    word: u64,
    /// The bytes of `word` that count.
    mask: u64,
}

/// Bytes of a set.
#[derive(Clone, Copy, Debug)]
struct Run {
    set: Bytes,
    /// Whether these are all bytes.
    any: bool,
    least: usize,
    most: usize,
    greedy: bool,
    /// Whether what comes next never begins with a byte of the set, so that there is one length to try.
    full: bool,
}

/// One way of a fork.
#[derive(Clone, Copy, Debug)]
struct Way {
    node: usize,
    /// The byte that it begins with, unless the text ends; `None` where there are several.
    first: Option<u8>,
}

impl Steps {
    /// `whole`: the match must end where the text does. `None` for what only a regex engine can do.
    pub(super) fn new(hir: &Hir, whole: bool) -> Option<Steps> {
        let mut builder = Builder { nodes: Vec::new(), bytes: 0 };
        let done = builder.push(Step::Done, 0)?;
        let end = if whole { builder.push(Step::End, done)? } else { done };
        let mut first = builder.add(hir, end)?;
        let nodes = builder.finish();
        // There it is, for that is where a text is looked at.
        while let Node { step: Step::Start, next, .. } = nodes[first] {
            first = next;
        }
        Some(Steps { nodes, first })
    }

    /// Where the groups stand, if the text matches from its beginning on.
    pub(super) fn find(&self, text: &[u8]) -> Result<Option<Spans>, Spent> {
        let mut walk = Walk { nodes: &self.nodes, text, spans: Spans::default(), fuel: FUEL };
        Ok(walk.from(self.first, 0)?.then_some(walk.spans))
    }
}

impl Node {
    /// Whether the length of what is left of a text, and its first byte, allow a match from here on.
    fn may_match(&self, rest: &[u8]) -> bool {
        rest.len() >= self.least
            && self.most.is_none_or(|most| rest.len() <= most)
            && rest.first().is_none_or(|byte| self.firsts.has(*byte))
    }
}

/// One text while it is looked at.
struct Walk<'s> {
    nodes: &'s [Node],
    text: &'s [u8],
    spans: Spans,
    fuel: usize,
}

impl Walk<'_> {
    fn burn(&mut self, steps: usize) -> Result<(), Spent> {
        self.fuel = self.fuel.checked_sub(steps).ok_or(Spent)?;
        Ok(())
    }

    /// Whether some way leads from the node on to the end of the steps; the groups are where the first such way has
    /// them. Where none does, they mean nothing.
    fn from(&mut self, mut node: usize, mut at: usize) -> Result<bool, Spent> {
        let nodes = self.nodes;
        loop {
            let Node { step, next, .. } = &nodes[node];
            node = *next;
            match step {
                Step::Text(text) if text.begins(&self.text[at..]) => at += text.bytes.len(),
                Step::Start if at == 0 => {}
                Step::End if at == self.text.len() => {}
                Step::Text(_) | Step::Start | Step::End => return Ok(false),
                Step::Done => return Ok(true),
                Step::Open(group) => self.spans.open(*group, at),
                Step::Close(group) => self.spans.close(*group, at),
                Step::Fork(ways) => {
                    self.burn(1)?;
                    let (mut last, rest) = (None, &self.text[at..]);
                    let begins =
                        |way: &&Way| way.first.is_none_or(|first| rest.first().is_none_or(|byte| *byte == first));
                    for way in ways.iter().filter(begins).filter(|way| nodes[way.node].may_match(rest)) {
                        // Nearly always one way is all there is: it is gone here, without coming back.
                        if let Some(other) = last.replace(way.node)
                            && self.leads_on(other, at)?
                        {
                            return Ok(true);
                        }
                    }
                    let Some(last) = last else { return Ok(false) };
                    node = last;
                }
                Step::Run(run) if run.full => {
                    let length = run.length(&self.text[at..]);
                    if length < run.least {
                        return Ok(false);
                    }
                    self.burn(1 + length / BYTES_PER_STEP)?;
                    at += length;
                }
                Step::Run(run) => {
                    self.burn(1)?;
                    let Some(mut lengths) = self.lengths(run, &nodes[node], at)? else { return Ok(false) };
                    while lengths.len() > 1 {
                        let length = self.length(&lengths, run.greedy, &nodes[node], at)?;
                        let Some(length) = length else { return Ok(false) };
                        if self.leads_on(node, at + length)? {
                            return Ok(true);
                        }
                        lengths = if run.greedy { lengths.start..length } else { length + 1..lengths.end };
                    }
                    if lengths.is_empty() {
                        return Ok(false);
                    }
                    at += lengths.start;
                }
            }
        }
    }

    /// The same for one of several ways: if it leads nowhere, the groups are where they were.
    fn leads_on(&mut self, node: usize, at: usize) -> Result<bool, Spent> {
        self.burn(1)?;
        let before = self.spans;
        let found = self.from(node, at)?;
        if !found {
            self.spans = before;
        }
        Ok(found)
    }

    /// How long the run may be, for all that is known; `next` is what comes behind it.
    fn lengths(&mut self, run: &Run, next: &Node, at: usize) -> Result<Option<Range<usize>>, Spent> {
        let rest = &self.text[at..];
        let Some(room) = rest.len().checked_sub(next.least) else { return Ok(None) };
        let room = room.min(run.most);
        let least = next.most.map_or(0, |most| rest.len().saturating_sub(most)).max(run.least);
        if least > room {
            return Ok(None);
        }
        let most = run.length(&rest[..room]);
        self.burn(if run.any { 0 } else { most / BYTES_PER_STEP })?;
        Ok((least <= most).then_some(least..most + 1))
    }

    /// The first of these lengths to try: where a byte stands behind the run that `next` may begin with.
    fn length(&mut self, lengths: &Range<usize>, greedy: bool, next: &Node, at: usize) -> Result<Option<usize>, Spent> {
        let bytes = &self.text[at + lengths.start..self.text.len().min(at + lengths.end)];
        let at_end = (bytes.len() < lengths.len()).then_some(bytes.len());
        let found = match (next.first, greedy) {
            (_, true) if at_end.is_some() => at_end,
            (Some(first), true) => memchr::memrchr(first, bytes),
            (None, true) => bytes.iter().rposition(|byte| next.firsts.has(*byte)),
            (Some(first), false) => memchr::memchr(first, bytes).or(at_end),
            (None, false) => bytes.iter().position(|byte| next.firsts.has(*byte)).or(at_end),
        };
        let passed = match found {
            Some(found) if greedy => bytes.len() - found,
            Some(found) => found,
            None => bytes.len(),
        };
        self.burn(passed / BYTES_PER_STEP)?;
        Ok(found.map(|found| lengths.start + found))
    }
}

impl Text {
    fn new(bytes: Box<[u8]>) -> Text {
        let byte = |at: usize| bytes.get(at).copied();
        let eight = std::array::from_fn(|at| byte(at).unwrap_or_default());
        let mask = std::array::from_fn(|at| byte(at).map_or(0, |_| u8::MAX));
        Text { word: u64::from_le_bytes(eight), mask: u64::from_le_bytes(mask), bytes }
    }

    /// Whether `rest` begins with it. Most texts are short, or differ soon: that costs no call.
    #[inline]
    fn begins(&self, rest: &[u8]) -> bool {
        match rest.first_chunk() {
            Some(eight) if (u64::from_le_bytes(*eight) ^ self.word) & self.mask != 0 => false,
            Some(_) if self.bytes.len() <= size_of_val(&self.word) => true,
            _ => rest.starts_with(&self.bytes),
        }
    }
}

impl Run {
    fn new(set: Bytes, least: usize, most: usize, greedy: bool) -> Run {
        Run { set, any: set == Bytes::ALL, least, most, greedy, full: false }
    }

    /// How long it is at the beginning of a text.
    fn length(&self, text: &[u8]) -> usize {
        let room = text.get(..self.most).unwrap_or(text);
        if self.any { room.len() } else { room.iter().position(|byte| !self.set.has(*byte)).unwrap_or(room.len()) }
    }
}

/// Steps while they are made, the last ones first.
struct Builder {
    nodes: Vec<Node>,
    bytes: usize,
}

impl Builder {
    /// A step in front of `next`; `None` when there are too many.
    fn push(&mut self, step: Step, next: usize) -> Option<usize> {
        let behind = self.nodes.get(next).map(|node| (node.least, node.most, node.firsts));
        let (least, most, firsts) = behind.unwrap_or((0, None, Bytes::ALL));
        let add = |bytes: usize| most.and_then(|most| most.checked_add(bytes));
        let (least, most, firsts) = match &step {
            Step::Text(Text { bytes, .. }) => {
                self.bytes += bytes.len();
                (least + bytes.len(), add(bytes.len()), bytes.first().map_or(firsts, |first| Bytes::one(*first)))
            }
            Step::Run(run) => {
                let firsts = if run.least > 0 { run.set } else { run.set.with(&firsts) };
                (least.saturating_add(run.least), add(run.most), firsts)
            }
            Step::Fork(ways) => self.of_nodes(&ways.iter().map(|way| way.node).collect::<Vec<_>>())?,
            Step::Open(_) | Step::Close(_) | Step::Start => (least, most, firsts),
            Step::End => (0, Some(0), Bytes::default()),
            Step::Done => (0, None, Bytes::ALL),
        };
        self.nodes.push(Node { step, next, least, most, firsts, first: firsts.only() });
        (self.nodes.len() <= MOST_NODES && self.bytes <= MOST_BYTES).then_some(self.nodes.len() - 1)
    }

    /// What may follow where one of these nodes comes next.
    fn of_nodes(&self, nodes: &[usize]) -> Option<(usize, Option<usize>, Bytes)> {
        let each = nodes.iter().map(|node| {
            let node = &self.nodes[*node];
            (node.least, node.most, node.firsts)
        });
        let most = |one: Option<usize>, other: Option<usize>| Some(one?.max(other?));
        each.reduce(|one, other| (one.0.min(other.0), most(one.1, other.1), one.2.with(&other.2)))
    }

    /// The steps of a piece in front of `next`: the first of them.
    fn add(&mut self, hir: &Hir, next: usize) -> Option<usize> {
        match hir.kind() {
            HirKind::Empty => Some(next),
            HirKind::Literal(literal) => self.push(Step::Text(Text::new(literal.0.clone())), next),
            HirKind::Class(_) => self.push(Step::Run(Run::new(set(hir)?, 1, 1, true)), next),
            HirKind::Look(Look::Start) => self.push(Step::Start, next),
            HirKind::Look(Look::End) => self.push(Step::End, next),
            HirKind::Look(_) => None,
            HirKind::Repetition(repetition) => self.repeat(repetition, next),
            HirKind::Capture(capture) => {
                let group = Group::ALL.into_iter().find(|group| capture.name.as_deref() == Some(group.name()));
                let Some(group) = group else { return self.add(&capture.sub, next) };
                let close = self.push(Step::Close(group), next)?;
                let inside = self.add(&capture.sub, close)?;
                self.push(Step::Open(group), inside)
            }
            HirKind::Concat(parts) => parts.iter().rev().try_fold(next, |next, part| self.add(part, next)),
            HirKind::Alternation(_) => {
                let ways = self.ways(hir, next)?;
                self.push(fork(&ways), next)
            }
        }
    }

    /// The ways through a piece to `next`, in their order.
    fn ways(&mut self, hir: &Hir, next: usize) -> Option<Vec<usize>> {
        match hir.kind() {
            HirKind::Alternation(parts) => parts.iter().map(|part| self.add(part, next)).collect(),
            _ => Some(vec![self.add(hir, next)?]),
        }
    }

    /// The steps, each with what is known of the next ones.
    fn finish(mut self) -> Vec<Node> {
        let begins: Vec<_> = self.nodes.iter().map(|node| (node.firsts, node.first)).collect();
        for node in &mut self.nodes {
            match &mut node.step {
                Step::Run(run) => run.full = !run.set.meets(&begins[node.next].0),
                Step::Fork(ways) => ways.iter_mut().for_each(|way| way.first = begins[way.node].1),
                _ => {}
            }
        }
        self.nodes
    }

    fn repeat(&mut self, repetition: &Repetition, next: usize) -> Option<usize> {
        let Repetition { min, max, greedy, sub } = repetition;
        if let Some(set) = set(sub) {
            let most = max.map_or(usize::MAX, |max| max as usize);
            return self.push(Step::Run(Run::new(set, *min as usize, most, *greedy)), next);
        }
        let optional = |mut inside: Vec<usize>| {
            inside.insert(if *greedy { inside.len() } else { 0 }, next);
            inside
        };
        let mut first = next;
        match max {
            Some(max) if *max <= MOST_COPIES => {
                for _ in *min..*max {
                    let inside = self.ways(sub, first)?;
                    first = self.push(fork(&optional(inside)), next)?;
                }
            }
            // A round that takes no byte would go on for ever.
            None if *min <= MOST_COPIES && sub.properties().minimum_len().is_some_and(|least| least > 0) => {
                first = self.push(fork(&[next]), next)?;
                self.nodes[first].most = None;
                self.nodes[first].firsts = Bytes::ALL;
                self.nodes[first].first = None;
                let (entry, inside) = match run_and_rest(sub).filter(|_| *greedy) {
                    Some((run, rest)) => {
                        let run = self.push(run, first)?;
                        (run, self.ways(&rest, run)?)
                    }
                    None => (first, self.ways(sub, first)?),
                };
                let ways = optional(inside);
                (_, _, self.nodes[first].firsts) = self.of_nodes(&ways)?;
                self.nodes[first].step = fork(&ways);
                first = entry;
            }
            _ => return None,
        }
        (0..*min).try_fold(first, |next, _| self.add(sub, next))
    }
}

/// A choice among nodes, the first that leads on.
fn fork(nodes: &[usize]) -> Step {
    Step::Fork(nodes.iter().map(|node| Way { node: *node, first: None }).collect())
}

/// Of a choice that is made again and again between one byte of a set and something else that begins with no such byte:
/// the bytes of the set as one run, and what is between such runs. So a name of many bytes is one step.
fn run_and_rest(hir: &Hir) -> Option<(Step, Hir)> {
    let HirKind::Alternation(branches) = hir.kind() else { return None };
    let (one, rest) = branches.split_first()?;
    let (set, rest) = (set(one)?, Hir::alternation(rest.to_vec()));
    let begins_otherwise = first_set(&rest).is_some_and(|first| !first.meets(&set));
    let run = Run::new(set, 0, usize::MAX, true);
    (begins_otherwise && rest.properties().explicit_captures_len() == 0).then_some((Step::Run(run), rest))
}

/// The bytes that a piece begins with, where that is plain to see.
fn first_set(hir: &Hir) -> Option<Bytes> {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.first().map(|byte| Bytes::one(*byte)),
        HirKind::Concat(parts) => first_set(parts.first()?),
        HirKind::Alternation(branches) => {
            branches.iter().map(first_set).reduce(|one, other| Some(one?.with(&other?)))?
        }
        _ => set(hir),
    }
}

/// The set of a piece that is one byte.
fn set(hir: &Hir) -> Option<Bytes> {
    match hir.kind() {
        HirKind::Class(class) => Bytes::of(class),
        HirKind::Literal(literal) => match &*literal.0 {
            [byte] => Some(Bytes::one(*byte)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
