//! Whether a piece of a pattern can hold a forged address. In: the structure of a regex. Out: yes or no.
//!
//! A pattern is `prefix <ADDR> suffix`. Attacker's text can choose the address only if it can hold, within the text
//! that one side matches, what separates the prefix from the address, followed by an address. So that is what is
//! asked of each side: can it match a text that contains separator and address? The answer errs towards yes.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::bytes::Bytes;

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
pub(crate) struct Forgery(Vec<Needle>);

/// A text of which each byte is one of a set, to be found inside what a piece of a regex may match.
#[derive(Debug)]
struct Needle {
    /// Bit k of entry b: byte b may be number k of the text.
    places: Box<[u64; 256]>,
    /// The bit behind its last byte.
    end: u64,
}

impl Forgery {
    pub(crate) fn behind(prefix: &Hir) -> Forgery {
        let mut separator = fixed_end(prefix);
        let excess = separator.len().saturating_sub(LONGEST_SEPARATOR);
        separator.drain(..excess);
        let digit = Bytes::that(|byte| byte.is_ascii_hexdigit());
        let point = Bytes::that(|byte| matches!(byte, b'.' | b':'));
        let next = Bytes::that(super::address::is_address_byte);
        let bracket = Bytes::that(|byte| byte == b'[');
        let address = |digits: usize| {
            let group = std::iter::repeat_n(digit, digits);
            group.chain([point, next]).collect::<Vec<Bytes>>()
        };
        let bare = (0..=LONGEST_GROUP).map(address);
        let bracketed = (0..=LONGEST_GROUP).map(|digits| [vec![bracket], address(digits)].concat());
        let may_be_inside = separator.last().is_none_or(|last| last.has(b'['));
        let tags = [may_be_inside.then_some(&b"IPv6:"[..]), Some(b"[IPv6:")].into_iter().flatten();
        let tagged = tags.flat_map(|tag| {
            let tag: Vec<Bytes> = tag.iter().map(|letter| Bytes::one(*letter)).collect();
            (0..=LONGEST_GROUP).map(move |digits| [tag.clone(), address(digits)].concat())
        });
        let (number, comma) = (Bytes::that(|byte| byte.is_ascii_digit()), Bytes::that(|byte| byte == b','));
        let tuple = |digits: usize| {
            let first = std::iter::repeat_n(number, digits);
            first.chain([comma, number]).collect::<Vec<Bytes>>()
        };
        let longest = if literal_end(prefix).ends_with(b"{") { LONGEST_NUMBER } else { 0 };
        let addresses = bare.chain(bracketed).chain(tagged).chain((1..=longest).map(tuple));
        Forgery(addresses.map(|address| Needle::new(&[&separator[..], &address].concat())).collect())
    }

    /// Whether the piece can match a text with the forgery in it.
    pub(crate) fn fits_into(&self, piece: &Hir) -> bool {
        self.0.iter().any(|needle| needle.advance(piece, 1) & needle.end != 0)
    }
}

/// Whether two matches of the piece that begin at the same place always end at the same place: it can hold its own
/// fixed end nowhere but at its end. Errs towards no.
pub(crate) fn ends_at_one_place(piece: &Hir) -> bool {
    let mut end = fixed_end(piece);
    end.push(Bytes::ALL);
    !Forgery(vec![Needle::new(&end)]).fits_into(piece)
}

/// Most ways in which a piece may begin that are looked at.
const MOST_STARTS: usize = 16;

/// Whether the piece can match a text that holds a byte with which the next piece begins. Errs towards yes.
pub(crate) fn may_hold_start(piece: &Hir, next: &Hir) -> bool {
    let starts = Extractor::new().kind(ExtractKind::Prefix).limit_total(MOST_STARTS).extract(next);
    let Some(starts) = starts.literals() else { return true };
    starts.iter().any(|start| match start.as_bytes().first() {
        Some(first) => Forgery(vec![Needle::new(&[Bytes::one(*first)])]).fits_into(piece),
        None => true,
    })
}

impl Needle {
    /// Longest text: one bit of a word for each byte, and one for the end. A longer one is cut at its front.
    const LONGEST: usize = 63;

    fn new(text: &[Bytes]) -> Needle {
        let text = text.get(text.len().saturating_sub(Needle::LONGEST)..).unwrap_or_default();
        let mut places = Box::new([0; 256]);
        for (place, set) in text.iter().enumerate() {
            set.iter().for_each(|byte| places[usize::from(byte)] |= 1 << place);
        }
        Needle { places, end: 1 << text.len() }
    }

    /// How far the text may have got after the piece, from how far it may have got before it. Bit k: its first k bytes
    /// may be the last bytes matched; the bit of its end, once set, stays.
    fn advance(&self, piece: &Hir, before: u64) -> u64 {
        match piece.kind() {
            HirKind::Empty | HirKind::Look(_) => before,
            HirKind::Literal(literal) => {
                literal.0.iter().fold(before, |so_far, byte| self.step(so_far, self.places[usize::from(*byte)]))
            }
            HirKind::Class(class) => self.step(before, self.of_class(class)),
            HirKind::Capture(capture) => self.advance(&capture.sub, before),
            HirKind::Concat(parts) => parts.iter().fold(before, |so_far, part| self.advance(part, so_far)),
            HirKind::Alternation(parts) => parts.iter().fold(0, |all, part| all | self.advance(part, before)),
            HirKind::Repetition(repetition) => {
                let once = |so_far| match repetition.sub.kind() {
                    // The set of a class is known once for all rounds.
                    HirKind::Class(class) => {
                        let places = self.of_class(class);
                        settled(so_far, repetition.max, |so_far| self.step(so_far, places))
                    }
                    _ => settled(so_far, repetition.max, |so_far| self.advance(&repetition.sub, so_far)),
                };
                once(before) | if repetition.min == 0 { before } else { 0 }
            }
        }
    }

    fn step(&self, before: u64, places: u64) -> u64 {
        (before & places) << 1 | before & self.end | 1
    }

    fn of_class(&self, class: &Class) -> u64 {
        bytes_of(class).iter().fold(0, |all, byte| all | self.places[usize::from(byte)])
    }
}

/// Any byte, where the class has characters of several.
fn bytes_of(class: &Class) -> Bytes {
    Bytes::of(class).unwrap_or(Bytes::ALL)
}

/// All that one round or more lead to, at most so many.
fn settled(before: u64, most: Option<u32>, round: impl Fn(u64) -> u64) -> u64 {
    let mut all = round(before);
    for _ in 1..most.unwrap_or(u32::MAX) {
        let more = all | round(all);
        if more == all {
            break;
        }
        all = more;
    }
    all
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
                end.push(Bytes::one(*byte));
            }
            true
        }
        HirKind::Class(class) => {
            end.push(bytes_of(class));
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
