//! Texts that a line must contain to be worth a look. In: the structure of a regex. Out: the few texts one of which is
//! part of every match, chosen so that other lines hardly ever hold one: what a pattern costs is the lines that do.
//!
//! Letter case does not count, here as where the texts are searched for.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::grams;

/// Most texts of one pattern that are searched for.
const MOST_TEXTS: usize = 32;

/// Texts are searched for by this many bytes.
const LONGEST_TEXT: usize = 24;

/// A class of more bytes than this is not spelled out.
const MOST_LETTERS: usize = 4;

/// Texts that score less stand in so many lines that the name of a filter's program is the better thing to look for.
pub(super) const TELLING: u32 = 7;

/// Texts that score more are not found more seldom.
const ENOUGH: u32 = 18;

/// Words, blanks and other bytes of a text add this much to its score.
const WORD: u32 = 3;
const BLANK: u32 = 1;
const BYTE: u32 = 2;

/// Words that stand in lines of every other service.
const COMMON: [&str; 32] = [
    "a",
    "access",
    "address",
    "an",
    "at",
    "auth",
    "authentication",
    "by",
    "client",
    "connect",
    "connection",
    "error",
    "failed",
    "for",
    "from",
    "host",
    "http",
    "in",
    "ip",
    "is",
    "log",
    "login",
    "of",
    "on",
    "password",
    "port",
    "session",
    "ssh",
    "the",
    "to",
    "user",
    "with",
];

/// Texts one of which is part of every match; empty when there are none.
pub(crate) fn required(prefix: &Hir, suffix: &Hir) -> Vec<Vec<u8>> {
    best([prefix, suffix].into_iter().filter_map(|side| of_hir(&folded(side))))
}

/// Of several such lists the one that tells most.
pub(super) fn best(lists: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    // The first of equals: what comes first in a pattern is found first in a line.
    let mut best = (0, Vec::new());
    for list in lists {
        let score = score(&list);
        if score > best.0 {
            best = (score, list);
        }
    }
    best.1
}

/// How seldom a line that is none of the pattern's holds one of the texts: the score of the commonest of them, less
/// what their number costs. Texts too short for the fast search count half. 0 for an empty list.
pub(super) fn score(texts: &[Vec<u8>]) -> u32 {
    let least = texts.iter().map(|text| score_of(text)).min().unwrap_or(0);
    least.min(ENOUGH).saturating_sub(texts.len().checked_ilog2().unwrap_or(0))
}

fn score_of(text: &[u8]) -> u32 {
    let words = text.chunk_by(|one, other| one.is_ascii_alphanumeric() == other.is_ascii_alphanumeric());
    let of_word = |word: &[u8]| {
        let bytes = u32::try_from(word.len()).unwrap_or(u32::MAX).saturating_mul(BYTE);
        if COMMON.iter().any(|common| common.as_bytes().eq_ignore_ascii_case(word)) {
            WORD.min(bytes)
        } else if word.first().is_some_and(u8::is_ascii_alphanumeric) {
            bytes
        } else {
            word.iter().map(|byte| if matches!(byte, b' ' | b':' | b'"' | b'/') { BLANK } else { BYTE }).sum()
        }
    };
    let score: u32 = words.map(of_word).sum();
    if text.len() < grams::SHORTEST { score.div_ceil(2) } else { score }
}

/// The best list for a piece of a regex; `None` when there is none.
fn of_hir(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    flatten(hir, &mut parts);
    let beginnings = (0..parts.len()).filter_map(|from| beginnings(parts.get(from..)?));
    let inner = parts.iter().filter_map(|part| match part.kind() {
        HirKind::Alternation(branches) => {
            let lists = branches.iter().map(of_hir).collect::<Option<Vec<_>>>()?;
            Some(lists.concat()).filter(|list| list.len() <= MOST_TEXTS)
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => of_hir(&repetition.sub),
        _ => None,
    });
    Some(best(beginnings.chain(inner))).filter(|list| !list.is_empty())
}

/// The parts that every match goes through, in order.
fn flatten(hir: &Hir, parts: &mut Vec<Hir>) {
    match hir.kind() {
        HirKind::Capture(capture) => flatten(&capture.sub, parts),
        HirKind::Concat(inner) => inner.iter().for_each(|part| flatten(part, parts)),
        _ => parts.push(hir.clone()),
    }
}

/// What a match of these parts may begin with, where that is a short list.
fn beginnings(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(MOST_TEXTS).limit_class(MOST_LETTERS);
    let mut texts = extractor.extract(&Hir::concat(parts.to_vec()));
    texts.keep_first_bytes(LONGEST_TEXT);
    texts.dedup();
    let texts = texts.literals()?.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    (!texts.is_empty()).then_some(texts)
}

/// The same regex with small letters in place of classes that hold a letter in both cases and nothing else.
fn folded(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Class(class) => either_case(class).map_or_else(|| hir.clone(), |letter| Hir::literal([letter])),
        HirKind::Capture(capture) => folded(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(folded).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(folded).collect()),
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            repetition.sub = Box::new(folded(&repetition.sub));
            Hir::repetition(repetition)
        }
        HirKind::Literal(literal) => Hir::literal(literal.0.to_ascii_lowercase()),
        HirKind::Empty | HirKind::Look(_) => hir.clone(),
    }
}

fn either_case(class: &Class) -> Option<u8> {
    let Class::Bytes(class) = class else { return None };
    let [upper, lower] = class.ranges() else { return None };
    let letter = lower.start();
    let pair = [upper.start(), letter] == [upper.end(), lower.end()] && upper.start().to_ascii_lowercase() == letter;
    (pair && letter.is_ascii_lowercase()).then_some(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: &str, suffix: &str) -> Vec<String> {
        let parse = |text: &str| {
            regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(text).expect("a regex")
        };
        let texts = required(&parse(prefix), &parse(suffix));
        texts.into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
    }

    #[test]
    fn what_tells_most_is_looked_for() {
        for (prefix, suffix, wanted) in [
            ("^Failed (?:a|b) for .* from ", "", &["failed a for ", "failed b for "][..]),
            ("^(?:Invalid|Illegal) user .* from ", "", &["invalid user ", "illegal user "]),
            (
                "^(?:\\w+: )?\\[",
                "\\](?: x)?: (?:possible attack|open proxy): .*$",
                &[": possible attack: ", ": open proxy: "],
            ),
            ("^.* by ", " \"[A-Z]+ /(?:manager|host-manager)/.* HTTP/", &[" /manager/", " /host-manager/"]),
            ("^(?:.* refused|Guest .* unknown) from ", "", &[" refused", " unknown"]),
            ("(?i)^no ", " Denied$", &[" denied"]),
            ("^.* for ", "", &[" for "]),
            ("^\\d+ ", "", &[" "]),
            ("^", "", &[]),
        ] {
            assert_eq!(of(prefix, suffix), wanted, "{prefix} {suffix}");
        }
    }

    #[test]
    fn common_words_tell_little() {
        let score = |text: &str| score(&[text.as_bytes().to_vec()]);
        assert!(score(" from ") < TELLING && score("Failed ") < TELLING && score(": ") < TELLING);
        assert!(score("Failed password for ") >= TELLING && score("PING-DROP") >= TELLING);
        assert_eq!(super::score(&[]), 0);
    }
}
