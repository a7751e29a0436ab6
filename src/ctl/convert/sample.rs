//! Lines that a pattern matches, made from the pattern: a filter that was converted must prove itself like any other.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest line that is made, in bytes.
const LONGEST: usize = 600;

/// A text that the pattern matches, with this address; another one for each seed. `None` where none was found. It is
/// a guess as far as word boundaries go: whoever asks tries it.
pub(super) fn line(pattern: &str, address: &str, seed: u64) -> Option<String> {
    let (before, after) = pattern.split_once("<ADDR>")?;
    let flags = if pattern.starts_with("(?") && !pattern.starts_with("(?:") {
        before.split_once(')').map_or("", |(flags, _)| flags)
    } else {
        ""
    };
    let flags = if flags.contains([':', '<']) || flags.is_empty() { String::new() } else { format!("{flags})") };
    let mut maker = Maker { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), seed, text: Vec::new() };
    maker.add(&parse(before)?);
    maker.text.extend(address.bytes());
    maker.add(&parse(&format!("{flags}{after}"))?);
    let text = String::from_utf8(maker.text).ok()?;
    (text.len() <= LONGEST && !text.contains(char::is_control)).then_some(text)
}

fn parse(half: &str) -> Option<Hir> {
    let mut builder = regex_syntax::ParserBuilder::new();
    builder.unicode(false).utf8(false).dot_matches_new_line(true).nest_limit(64).build().parse(half).ok()
}

struct Maker {
    state: u64,
    seed: u64,
    text: Vec<u8>,
}

impl Maker {
    /// A number below `bound`, the same for the same seed.
    fn choose(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap_or(0) % bound.max(1)
    }

    fn add(&mut self, piece: &Hir) {
        if self.text.len() > LONGEST {
            return;
        }
        match piece.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.text.extend(&*literal.0),
            HirKind::Class(class) => self.add_one_of(class),
            HirKind::Capture(capture) => self.add(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.add(part)),
            HirKind::Alternation(parts) => {
                let chosen = if self.seed == 0 { 0 } else { self.choose(parts.len()) };
                if let Some(part) = parts.get(chosen) {
                    self.add(part);
                }
            }
            HirKind::Repetition(repetition) => {
                let most = repetition.max.unwrap_or(u32::MAX).min(repetition.min.saturating_add(4));
                let spare = usize::try_from(most - repetition.min).unwrap_or(0) + 1;
                let more = if self.seed == 0 { spare - 1 } else { self.choose(spare) };
                for _ in 0..usize::try_from(repetition.min).unwrap_or(0) + more {
                    self.add(&repetition.sub);
                }
            }
        }
    }

    /// A letter if the class has one, else a digit, a blank, a sign.
    fn add_one_of(&mut self, class: &Class) {
        let has = |byte: u8| match class {
            Class::Bytes(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte)),
            Class::Unicode(class) => {
                class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
            }
        };
        let of = |kind: fn(&u8) -> bool| -> Vec<u8> { (b' '..=b'~').filter(kind).filter(|byte| has(*byte)).collect() };
        let kinds = [
            of(u8::is_ascii_lowercase),
            of(u8::is_ascii_uppercase),
            of(u8::is_ascii_digit),
            of(|byte| *byte == b' '),
            of(u8::is_ascii_punctuation),
        ];
        if let Some(bytes) = kinds.iter().find(|bytes| !bytes.is_empty()) {
            let chosen = self.choose(bytes.len());
            self.text.extend(bytes.get(chosen));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_from_a_pattern_matches_it() {
        for pattern in [
            r"^login failed for '(?<user>[^']*)' from <ADDR>(?: port \d+)?$",
            r"(?i)^DENIED .* (?:by|at) <ADDR>: \S+ [A-F]{3}$",
            r"^<ADDR> - \S+ \[[^\]]*\] .GET /[a-z]+ 40[13]",
        ] {
            let whole = regex::bytes::Regex::new(&pattern.replace("<ADDR>", r"192\.0\.2\.9")).unwrap();
            for seed in 0..20 {
                let line = line(pattern, "192.0.2.9", seed).unwrap();
                assert!(whole.is_match(line.as_bytes()), "{pattern}: {line}");
            }
        }
    }
}
