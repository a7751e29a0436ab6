//! Attackers who know every filter: text of theirs, in the place of a word that a program takes from outside, tries to
//! look like a line against a victim. In: the samples of all shipped filters. Out: none of them accuses the victim.
//!
//! Which words are an attacker's is not guessed: those that may be any word without the line ceasing to hit. What
//! stands in their place is made of every other line that the filter knows, cut at every boundary of words.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{Matcher, Memory, Mode, Offender, SAMPLES_READ_AT};
use crate::config::problem::Problems;
use crate::filters::file::{Filter, Filters, Format};
use crate::filters::line::Line;
use crate::filters::{Clock, address, envelope};

/// Whom nobody has seen: it stands in no sample.
const VICTIM: &str = "198.18.7.66";

/// A word that no program writes and no pattern asks for.
const NONSENSE: &[u8] = b"zqxj";

/// Most lines made of one sample in a short run; they are spread evenly over all. `BANWARD_MOST` in the environment
/// asks for more.
const MOST_OF_A_SAMPLE: usize = 30;

/// Bytes that a program never writes inside a word from outside, by filter, and why.
const NEVER: [(&str, &[u8], &str); 9] = [
    ("3proxy", b" ", "its log format replaces blanks in names"),
    ("audit-ssh", b"\" ", "the kernel writes a name with blanks or quotes in hexadecimal"),
    ("checkmk", b"\"", "its details are JSON, in which quotes are escaped"),
    ("fortinet", b"\"", "values stand in quotes and hold none"),
    ("grafana", b" ", "logfmt puts values with blanks in quotes and escapes those in them"),
    ("litespeed", b" ", "a blank ends the URL of a request"),
    ("node-red", b"\"", "its lines are JSON, in which quotes are escaped"),
    ("nginx", b":", "a colon ends the user name of basic authentication"),
    ("nginx-http-auth", b":", "a colon ends the user name of basic authentication"),
];

struct Prober {
    matcher: Matcher,
    filter: Arc<Filter>,
    clock: Clock,
}

impl Prober {
    fn new(filter: &Filter) -> Prober {
        let filter = filter.with_mode(Mode::Aggressive);
        let matcher = Matcher::new(vec![filter.clone()]);
        Prober { matcher, filter, clock: Clock { now: SAMPLES_READ_AT, zone: jiff::tz::TimeZone::UTC } }
    }

    /// Whom the last of these lines accuses, and by which pattern.
    fn accused(&self, lines: &[Vec<u8>]) -> Option<(u16, Offender)> {
        let (mut memory, mut findings) = (Memory::default(), Vec::new());
        for line in lines {
            findings.clear();
            self.matcher.examine(line, &self.clock, &mut memory, &mut findings);
        }
        findings.pop().map(|found| (found.pattern, found.offender))
    }

    /// The last of the lines, if it accuses the victim.
    fn accuses_victim(&self, lines: &[Vec<u8>]) -> Option<String> {
        let (pattern, offender) = self.accused(lines)?;
        let shown = || {
            let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
            let pattern = &self.filter.patterns[usize::from(pattern)].name;
            format!("{} {pattern}: {}", self.filter.name, lines.join("\n    "))
        };
        (offender == Offender::Address(VICTIM.parse().unwrap())).then(shown)
    }

    /// Where the message of a line begins; its header is not the attacker's.
    fn message_at(&self, line: &[u8]) -> Option<usize> {
        let (mut torn, mut scratch) = (envelope::Torn::default(), Vec::new());
        let opened = envelope::open(line, &mut torn, &mut scratch)?;
        let line_of = Line::new(opened, line.len());
        let text = line_of.messages(&self.filter)?.next()?.text;
        let at = (text.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
        (at <= line.len()).then_some(at)
    }

    /// The words of one of the lines that may be any word.
    fn open_words(&self, lines: &[Vec<u8>], which: usize) -> Vec<Range<usize>> {
        let truth = self.accused(lines);
        let start = self.message_at(&lines[which]).unwrap_or(0);
        let is_open = |word: &Range<usize>| {
            let mut changed = lines.to_vec();
            changed[which].splice(word.clone(), NONSENSE.iter().copied());
            self.accused(&changed) == truth
        };
        let theirs = |word: &Range<usize>| is_theirs(&lines[which][word.clone()]);
        words(&lines[which], start).into_iter().filter(theirs).filter(is_open).collect()
    }
}

/// Whether samples call an attacker's text so: names of users, mail addresses, paths, URLs, agents.
fn is_theirs(word: &[u8]) -> bool {
    const NAMES: [&[u8]; 16] = [
        b"a", b"admin", b"alice", b"b", b"bob", b"c", b"eve", b"guest", b"mallory", b"nobody", b"root", b"test",
        b"user1", b"x", b"y", b"z",
    ];
    const STARTS: [&[u8]; 4] = [b"http://", b"https://", b"Mozilla", b"curl"];
    const PLACES: [&[u8]; 5] = [b"/dev/", b"/etc/", b"/srv/", b"/usr/", b"/var/"];
    let begins = |starts: &[&[u8]]| starts.iter().any(|start| word.starts_with(start));
    let path = word.starts_with(b"/") && !begins(&PLACES);
    NAMES.contains(&&*word.to_ascii_lowercase()) || word.contains(&b'@') || path || begins(&STARTS)
}

fn is_edge(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'`()[]<>{}=,;|".contains(&byte)
}

/// The words of a text from `start` on.
fn words(text: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut at = start;
    while at < text.len() {
        let length = text[at..].iter().take_while(|byte| !is_edge(**byte)).count();
        if length > 0 {
            words.push(at..at + length);
        }
        at += length + 1;
    }
    words
}

/// Where an address stands in a text, as it is written there.
fn place_of(text: &[u8], wanted: IpAddr) -> Option<Range<usize>> {
    (0..text.len()).find_map(|at| {
        let inside = at.checked_sub(1).is_some_and(|before| address::is_address_byte(text[before]));
        let (found, end) = address::address_at(text, at).filter(|_| !inside)?;
        (found == wanted).then_some(at..end)
    })
}

/// Pieces of a text around the victim's address, from and to boundaries of words.
fn pieces(message: &[u8], place: Range<usize>) -> Vec<Vec<u8>> {
    let mut forged = message.to_vec();
    forged.splice(place.clone(), VICTIM.bytes());
    let end = place.start + VICTIM.len();
    let edges = |range: Range<usize>, text: &[u8]| -> Vec<usize> {
        let inside =
            range.clone().filter(|at| *at > 0 && is_edge(text[at - 1]) != is_edge(*text.get(*at).unwrap_or(&b' ')));
        let mut all: BTreeSet<usize> = inside.collect();
        all.extend([range.start, range.end]);
        all.into_iter().collect()
    };
    let starts = edges(0..place.start, &forged);
    let ends = edges(end..forged.len(), &forged);
    let mut pieces = Vec::new();
    for start in &starts {
        for end in &ends {
            pieces.push(forged[*start..*end].to_vec());
        }
    }
    pieces
}

fn escaped(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| if b"\"\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] }).collect()
}

/// What an attacker may try with the knowledge of a filter.
fn tricks(prober: &Prober) -> Vec<Vec<u8>> {
    let mut tricks = BTreeSet::new();
    for sample in prober.filter.patterns.iter().flat_map(|pattern| &*pattern.hits) {
        let Offender::Address(address) = sample.offender else { continue };
        for line in sample.lines.iter().map(String::as_bytes) {
            let Some(start) = prober.message_at(line) else { continue };
            for message in BTreeSet::from([&line[start..], line]) {
                let Some(place) = place_of(message, address) else { continue };
                tricks.extend(pieces(message, place));
            }
        }
    }
    tricks.into_iter().collect()
}

/// The ways in which an attacker's text can stand where a word stood.
fn ways(trick: &[u8], word: &[u8]) -> [Vec<u8>; 4] {
    [trick.to_vec(), [word, b" ", trick].concat(), [word, trick].concat(), [trick, b" ", word].concat()]
}

/// The lines of a filter's samples in which an attacker's text accuses the victim; how many were tried.
fn fooled(filter: &Filter, most: usize) -> (Vec<String>, usize) {
    let prober = Prober::new(filter);
    let never = NEVER.iter().find(|(name, ..)| **name == *filter.name).map_or(&b""[..], |(_, bytes, _)| *bytes);
    let tricks = tricks(&prober);
    let (mut fooled, mut tried) = (Vec::new(), 0);
    for sample in filter.patterns.iter().flat_map(|pattern| &*pattern.hits) {
        let lines: Vec<Vec<u8>> = sample.lines.iter().map(|line| line.clone().into_bytes()).collect();
        for which in 0..lines.len() {
            let open = prober.open_words(&lines, which);
            let all = open.len() * tricks.len();
            for number in spread(all, most) {
                let (word, trick) = (&open[number % open.len()], &tricks[number / open.len()]);
                let texts = ways(trick, &lines[which][word.clone()]);
                for text in texts.into_iter().filter(|text| !text.iter().any(|byte| never.contains(byte))) {
                    let mut changed = lines.clone();
                    let text = if filter.format == Format::Json { escaped(&text) } else { text };
                    changed[which].splice(word.clone(), text);
                    tried += 1;
                    fooled.extend(prober.accuses_victim(&changed));
                }
            }
        }
    }
    (fooled, tried)
}

/// At most so many of the numbers below `all`, spread evenly but not in step with anything.
fn spread(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = all.div_ceil(most).max(1);
    (0..all.div_ceil(step)).map(move |turn| (turn * step + turn % step).min(all - 1))
}

#[test]
fn no_text_in_a_line_makes_a_shipped_filter_accuse_somebody_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let filters = Filters::load(&[folder], &Problems::default());
    let most = std::env::var("BANWARD_MOST").map_or(MOST_OF_A_SAMPLE, |most| most.parse().unwrap());
    let mut wrong = Vec::new();
    let mut tried = 0;
    for filter in filters.iter().filter(|filter| filter.format != Format::Kernel) {
        let (fooled, lines) = fooled(filter, most);
        wrong.extend(fooled);
        tried += lines;
    }
    assert!(tried > 10_000, "{tried} lines are too few to show anything");
    assert!(wrong.is_empty(), "{} of {tried} lines accuse {VICTIM}:\n{}", wrong.len(), wrong.join("\n"));
}
