//! What a blocklist file says. A bad line is named by its number and costs nothing else.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

use super::{MARKER, MAX_BYTES};
use crate::config::problem::Severity;
use crate::filters::Evidence;
use crate::ledger::{Direction, Extent, Scope, Target};
use crate::text::meaning_of;
use crate::time::{Timestamp, Until};

/// Longest line that is read, in bytes.
const MAX_LINE: usize = 4096;

/// Most prefixes of one file. Ranges count as the prefixes that they are made of.
const MAX_PREFIXES: usize = 2_000_000;

/// Most problems that are told apart; a file that is no blocklist has one on every line.
const MAX_PROBLEMS: usize = 100;

/// Longest piece of a bad word that is shown, in characters.
const MAX_SHOWN: usize = 50;

/// What stands in a file, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) lines: Vec<Line>,
    /// In the order of lines.
    pub(crate) problems: Vec<LineProblem>,
    /// How many lines were left out, also of those whose problems are not told apart.
    pub(crate) bad_lines: usize,
}

/// A line with at least one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) prefixes: Vec<IpNet>,
    /// What the line above says of it, if Banward wrote it.
    pub(crate) known: Option<Known>,
}

/// What Banward writes above its own entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) jail: Arc<str>,
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
    /// Only written where it is not everything.
    pub(crate) scope: Scope,
    /// Only written where it may be forged.
    pub(crate) evidence: Evidence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineProblem {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) severity: Severity,
    /// A sentence without a full stop; text from the file is escaped in it.
    pub(crate) message: String,
}

/// Reads a whole file: addresses, CIDRs, ranges `a-b`, also several on a line, `#` and `;` comments, CRLF, a BOM. A line with
/// any other word is bad as a whole: addresses in a text, such as a log, ban nobody.
pub(crate) fn parse(text: &[u8]) -> Parsed {
    let mut reader = Reader::default();
    for (index, line) in without_bom(text).split(|byte| *byte == b'\n').enumerate() {
        if reader.full {
            break;
        }
        reader.number = index + 1;
        reader.line(line.strip_suffix(b"\r").unwrap_or(line));
    }
    reader.parsed
}

pub(super) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[derive(Default)]
struct Reader {
    parsed: Parsed,
    number: usize,
    /// From our marker on the line before.
    known: Option<Known>,
    bytes: usize,
    prefixes: usize,
    full: bool,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        let above = self.known.take();
        self.bytes += line.len() + 1;
        if self.bytes > MAX_BYTES + 1 {
            self.full = true;
            return self.error(format!("the file is longer than {} MiB; the rest is not read", MAX_BYTES >> 20));
        }
        if line.first() == Some(&b'#') {
            self.known = read_marker(line);
            return;
        }
        if line.len() > MAX_LINE {
            return self.error(format!("the line is longer than {MAX_LINE} bytes and is not read"));
        }
        let entries = line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default();
        let words = entries.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (mut prefixes, mut warnings) = (Vec::new(), Vec::new());
        for word in words {
            if let Err(why) = take(word, &mut prefixes, &mut warnings) {
                return self.error(why);
            }
        }
        for warning in warnings {
            self.problem(Severity::Warning, warning);
        }
        self.prefixes += prefixes.len();
        if self.prefixes > MAX_PREFIXES {
            self.full = true;
            return self.error(format!("there are more than {MAX_PREFIXES} prefixes; from this line on none is read"));
        }
        if !prefixes.is_empty() {
            self.parsed.lines.push(Line { number: self.number, prefixes, known: above });
        }
    }

    /// This line is left out.
    fn error(&mut self, message: String) {
        self.parsed.bad_lines += 1;
        self.problem(Severity::Error, message);
    }

    fn problem(&mut self, severity: Severity, message: String) {
        let line = self.number;
        match self.parsed.problems.len() {
            count if count < MAX_PROBLEMS => self.parsed.problems.push(LineProblem { line, severity, message }),
            MAX_PROBLEMS => {
                let message = "from this line on there are more problems, which are not told apart".to_owned();
                self.parsed.problems.push(LineProblem { line, severity: Severity::Error, message });
            }
            _ => {}
        }
    }
}

/// Adds what one word stands for, or says what is wrong with it.
fn take(word: &[u8], prefixes: &mut Vec<IpNet>, warnings: &mut Vec<String>) -> Result<(), String> {
    let read = std::str::from_utf8(word).ok().and_then(read_word);
    // Most words are in order, and are not shown.
    let shown = || shown(word);
    match read {
        None => return Err(format!("'{}' is not an address, a CIDR or a range of addresses", shown())),
        Some(Word::Everything) => return Err(format!("'{}' covers every address and is refused", shown())),
        Some(Word::Mixed) => return Err(format!("'{}' begins in one address family and ends in another", shown())),
        Some(Word::Backwards) => return Err(format!("'{}' ends before it begins", shown())),
        Some(Word::Prefix { prefix, host_bits }) => {
            if host_bits {
                warnings.push(format!("'{}' has host bits set; taken as {prefix}", shown()));
            }
            prefixes.push(prefix);
        }
        Some(Word::Range(parts)) => prefixes.extend(parts),
    }
    Ok(())
}

/// What one word says.
enum Word {
    Prefix { prefix: IpNet, host_bits: bool },
    Range(Vec<IpNet>),
    Everything,
    Mixed,
    Backwards,
}

fn read_word(word: &str) -> Option<Word> {
    if let Some((first, last)) = word.split_once('-') {
        return read_range(first.parse().ok()?, last.parse().ok()?);
    }
    let (address, length) = match word.split_once('/') {
        Some((address, length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            (address.parse().ok()?, Some(length.parse().ok()?))
        }
        Some(_) => return None,
        None => (word.parse::<IpAddr>().ok()?, None),
    };
    let written = match length {
        Some(length) => IpNet::new(address, length).ok()?,
        None => IpNet::from(address),
    };
    let prefix = written.trunc();
    if prefix.prefix_len() == 0 {
        return Some(Word::Everything);
    }
    Some(Word::Prefix { prefix: folded(prefix), host_bits: prefix != written })
}

/// A range with both ends in it, as iptables' `iprange` has it.
fn read_range(first: IpAddr, last: IpAddr) -> Option<Word> {
    let (first, last) = (first.to_canonical(), last.to_canonical());
    if first.is_ipv4() != last.is_ipv4() {
        return Some(Word::Mixed);
    }
    if last < first {
        return Some(Word::Backwards);
    }
    let parts: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect(),
        _ => return None,
    };
    let everything = parts.iter().any(|part| part.prefix_len() == 0);
    Some(if everything { Word::Everything } else { Word::Range(parts) })
}

/// `::ffff:a.b.c.d/n` is IPv4: packets never carry it.
fn folded(prefix: IpNet) -> IpNet {
    let IpNet::V6(v6) = prefix else { return prefix };
    let v4 = |address: Ipv6Addr| address.to_ipv4_mapped();
    match (v4(v6.network()), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) if length > 0 => Ipv4Net::new(address, length).map_or(prefix, IpNet::from),
        _ => prefix,
    }
}

/// What our own line above an entry says; `None` for any other comment.
pub(super) fn read_marker(line: &[u8]) -> Option<Known> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(MARKER)?;
    let (mut jail, mut since, mut until) = (None, None, None);
    let (mut extent, mut evidence) = (Extent::default(), Evidence::Proven);
    for field in rest.split(' ') {
        match field.split_once('=')? {
            ("jail", text) => jail = Some(text.into()),
            ("since", text) => since = Some(text.parse().ok()?),
            ("until", text) => until = Some(text.parse().ok()?),
            ("ports", text) => extent.ports = text.split(',').map(|port| port.parse().ok()).collect::<Option<_>>()?,
            ("interface", text) => extent.interface = Some(text.parse().ok()?),
            ("direction", text) => extent.direction = Some(meaning_of(&Direction::WORDS, text)?),
            ("target", text) => extent.target = Some(meaning_of(&Target::WORDS, text)?),
            ("evidence", "forgeable") => evidence = Evidence::Forgeable,
            _ => {}
        }
    }
    Some(Known { jail: jail?, since: since?, until: until?, scope: extent.into(), evidence })
}

/// A word of the file, fit for a terminal.
fn shown(word: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(word);
    let piece: String = text.chars().take(MAX_SHOWN).collect();
    let dots = if piece.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", piece.escape_debug())
}
