//! Whether a piece of a pattern can hold a forged address. In: the structure of a regex. Out: yes or no.
//!
//! A pattern is `prefix <ADDR> suffix`. Attacker's text can choose the address only if it can hold, within the text
//! that one side matches, what separates the prefix from the address, followed by an address. So that is what is
//! asked of each side: can it match a text that contains separator and address? The answer errs towards yes.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind};

/// A set of bytes: bit `b % 64` of word `b / 64` for byte b.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes([u64; 4]);

impl Bytes {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    fn meets(&self, other: &Bytes) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|byte| self.has(*byte))
    }
}

/// Longest separator that is looked at; a longer one is cut at its front, which errs towards "yes".
const LONGEST_SEPARATOR: usize = 32;

/// Most bytes of an address before its first full stop or colon: `2001` of `2001:db8::1`.
const LONGEST_GROUP: usize = 4;

/// Most digits of a number in an Erlang tuple.
const LONGEST_NUMBER: usize = 5;

/// What an attacker must place to forge an address: the fixed end of a prefix, then the beginning of an address,
/// which is a group of digits of any length, a full stop or colon, and what can follow that; or, behind a
/// brace, the beginning of an Erlang tuple: `192,0`.
#[derive(Debug)]
pub(crate) struct Forgery(Vec<Vec<Bytes>>);

impl Forgery {
    pub(crate) fn behind(prefix: &Hir) -> Forgery {
        let mut separator = fixed_end(prefix);
        let excess = separator.len().saturating_sub(LONGEST_SEPARATOR);
        separator.drain(..excess);
        let digit = set_of(|byte| byte.is_ascii_hexdigit());
        let point = set_of(|byte| matches!(byte, b'.' | b':'));
        let next = set_of(super::address::is_address_byte);
        let bracket = set_of(|byte| byte == b'[');
        let address = |digits: usize| {
            let group = std::iter::repeat_n(digit, digits);
            group.chain([point, next]).collect::<Vec<Bytes>>()
        };
        let bare = (0..=LONGEST_GROUP).map(address);
        let bracketed = (0..=LONGEST_GROUP).map(|digits| [vec![bracket], address(digits)].concat());
        let may_be_inside = separator.last().is_none_or(|last| last.has(b'['));
        let tags = [may_be_inside.then_some(&b"IPv6:"[..]), Some(b"[IPv6:")].into_iter().flatten();
        let tagged = tags.flat_map(|tag| {
            let tag: Vec<Bytes> = tag.iter().map(|letter| set_of(|byte| byte == *letter)).collect();
            (0..=LONGEST_GROUP).map(move |digits| [tag.clone(), address(digits)].concat())
        });
        let (number, comma) = (set_of(|byte| byte.is_ascii_digit()), set_of(|byte| byte == b','));
        let tuple = |digits: usize| {
            let first = std::iter::repeat_n(number, digits);
            first.chain([comma, number]).collect::<Vec<Bytes>>()
        };
        let longest = if literal_end(prefix).ends_with(b"{") { LONGEST_NUMBER } else { 0 };
        let addresses = bare.chain(bracketed).chain(tagged).chain((1..=longest).map(tuple));
        Forgery(addresses.map(|address| [separator.clone(), address].concat()).collect())
    }

    /// Whether the piece can match a text with the forgery in it.
    pub(crate) fn fits_into(&self, piece: &Hir) -> bool {
        self.0.iter().any(|needle| {
            let mut start = vec![false; needle.len() + 1];
            start[0] = true;
            advance(needle, piece, &start).last() == Some(&true)
        })
    }
}

/// Whether two matches of the piece that begin at the same place always end at the same place: it can hold its own
/// fixed end nowhere but at its end. Errs towards no.
pub(crate) fn ends_at_one_place(piece: &Hir) -> bool {
    let mut end = fixed_end(piece);
    end.push(set_of(|_| true));
    !Forgery(vec![end]).fits_into(piece)
}

/// Most ways in which a piece may begin that are looked at.
const MOST_STARTS: usize = 16;

/// Whether the piece can match a text that holds a byte with which the next piece begins. Errs towards yes.
pub(crate) fn may_hold_start(piece: &Hir, next: &Hir) -> bool {
    let starts = Extractor::new().kind(ExtractKind::Prefix).limit_total(MOST_STARTS).extract(next);
    let Some(starts) = starts.literals() else { return true };
    starts.iter().any(|start| match start.as_bytes().first() {
        Some(first) => Forgery(vec![vec![set_of(|byte| byte == *first)]]).fits_into(piece),
        None => true,
    })
}

/// The bytes that fulfil a condition.
fn set_of(condition: impl Fn(u8) -> bool) -> Bytes {
    let mut set = Bytes::default();
    (0..=u8::MAX).filter(|byte| condition(*byte)).for_each(|byte| set.insert(byte));
    set
}

/// How far the forgery may have got after the piece, from how far it may have got before it.
/// Entry k: its first k bytes may be the last bytes matched; the last entry, once set, stays.
fn advance(needle: &[Bytes], piece: &Hir, before: &[bool]) -> Vec<bool> {
    match piece.kind() {
        HirKind::Empty | HirKind::Look(_) => before.to_vec(),
        HirKind::Literal(literal) => literal
            .0
            .iter()
            .fold(before.to_vec(), |so_far, byte| step(needle, &so_far, &set_of(|other| other == *byte))),
        HirKind::Class(class) => step(needle, before, &class_bytes(class)),
        HirKind::Capture(capture) => advance(needle, &capture.sub, before),
        HirKind::Concat(parts) => parts.iter().fold(before.to_vec(), |so_far, part| advance(needle, part, &so_far)),
        HirKind::Alternation(parts) => {
            let branches = parts.iter().map(|part| advance(needle, part, before));
            branches.reduce(union).unwrap_or_else(|| before.to_vec())
        }
        HirKind::Repetition(repetition) => {
            let once = advance(needle, &repetition.sub, before);
            let mut reached = if repetition.min == 0 { union(before.to_vec(), once) } else { once };
            let rounds = repetition.max.map_or(needle.len() + 1, |max| (max as usize).min(needle.len() + 1));
            for _ in 1..rounds {
                let again = advance(needle, &repetition.sub, &reached);
                reached = union(reached, again);
            }
            reached
        }
    }
}

fn step(needle: &[Bytes], before: &[bool], byte: &Bytes) -> Vec<bool> {
    let mut after = vec![false; before.len()];
    after[0] = true;
    for (progress, wanted) in needle.iter().enumerate() {
        after[progress + 1] = before[progress] && wanted.meets(byte);
    }
    if before.last() == Some(&true) {
        after[needle.len()] = true;
    }
    after
}

fn union(mut into: Vec<bool>, other: Vec<bool>) -> Vec<bool> {
    for (flag, set) in into.iter_mut().zip(other) {
        *flag |= set;
    }
    into
}

fn class_bytes(class: &Class) -> Bytes {
    let mut bytes = Bytes::default();
    let mut mark = |from: u8, to: u8| (from..=to).for_each(|byte| bytes.insert(byte));
    match class {
        Class::Bytes(class) => class.ranges().iter().for_each(|range| mark(range.start(), range.end())),
        Class::Unicode(_) => mark(0, 255),
    }
    bytes
}

/// The bytes that every match of the prefix ends with, as far back as their number is fixed.
fn fixed_end(hir: &Hir) -> Vec<Bytes> {
    let mut end = Vec::new();
    collect_end(hir, &mut end);
    end.reverse();
    end
}

/// Adds the fixed end of `hir`, last byte first; returns whether all of `hir` was fixed, so that one may go on.
fn collect_end(hir: &Hir, end: &mut Vec<Bytes>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            for byte in literal.0.iter().rev() {
                end.push(set_of(|other| other == *byte));
            }
            true
        }
        HirKind::Class(class) => {
            end.push(class_bytes(class));
            true
        }
        HirKind::Capture(capture) => collect_end(&capture.sub, end),
        HirKind::Concat(parts) => parts.iter().rev().all(|part| collect_end(part, end)),
        HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

/// The literal text that every match ends with; empty when there is none.
pub(crate) fn literal_end(hir: &Hir) -> Vec<u8> {
    let single = |bytes: &Bytes| {
        let mut set = bytes.iter();
        set.next().filter(|_| set.next().is_none())
    };
    let mut literal: Vec<u8> = fixed_end(hir).iter().rev().map_while(single).collect();
    literal.reverse();
    literal
}
