//! How far patterns come on a line, for people who write filters. In: a filter and a line. Out: for each pattern, how
//! much of it fits and where the line goes another way. No line of a log passes here in the daemon.

use regex::bytes::Regex;
use regex_syntax::ast::{Ast, parse::Parser};

use super::envelope::{self, Torn};
use super::file::{Filter, Pattern, Rule};
use super::line::{Line, Message};
use super::pattern::{PLACE, compile};
use super::syslog;

/// What an address or a host name looks like, nearly; for an explanation that is near enough.
const ADDRESS: &str = r"(?:\[?[0-9A-Fa-f:.]*[:.][0-9A-Fa-f:.]+(?:%\w+)?\]?|\d+(?:,\d+)+|[0-9A-Za-z][\w.-]*)";

/// What the patterns of a filter make of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The line is none of the filter's: this program wrote it, or no header names one.
    Foreign { program: Option<String> },
    /// One for each pattern, in order.
    Tried(Vec<Reach>),
}

/// How far one pattern came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// How many bytes of the pattern, as it is written, fit the beginning of the message.
    pub(crate) fits: usize,
    /// How many bytes at the beginning of the message they fit, and the next piece of the pattern in part. What fits
    /// everything counts for nothing.
    pub(crate) known: usize,
    /// Bytes of the whole pattern; 0 where it is no text.
    pub(crate) of: usize,
    /// What comes in the message where the pattern does not fit any more. Attacker's text.
    pub(crate) rest: String,
    /// A whole sentence, where the pattern is no text or fits and yet makes no hit.
    pub(crate) reason: Option<&'static str>,
}

impl Reach {
    /// To compare patterns by: what of the message is known to them, then the part of the pattern that fits, in
    /// thousandths.
    pub(crate) fn nearness(&self) -> (usize, usize) {
        (self.known, self.fits * 1000 / self.of.max(1))
    }

    fn of_fields(reason: &'static str) -> Reach {
        Reach { fits: 0, known: 0, of: 0, rest: String::new(), reason: Some(reason) }
    }
}

impl Filter {
    /// How far each pattern comes on a line.
    pub(crate) fn progress(&self, line: &[u8]) -> Progress {
        let mut scratch = Vec::new();
        let Some(opened) = envelope::open(super::matcher::trim_end(line), &mut Torn::default(), &mut scratch) else {
            return Progress::Foreign { program: None };
        };
        let text = opened.text;
        let line = Line::new(opened, line.len());
        let messages: Vec<Message<'_>> = line.messages(self).into_iter().flatten().collect();
        if messages.is_empty() {
            let program = syslog::header(text).map(|header| String::from_utf8_lossy(header.program).into_owned());
            return Progress::Foreign { program };
        }
        let reach =
            |pattern: &Pattern| messages.iter().map(|message| reach(pattern, message.text)).max_by_key(Reach::nearness);
        Progress::Tried(self.patterns.iter().filter_map(reach).collect())
    }
}

fn reach(pattern: &Pattern, message: &[u8]) -> Reach {
    match &pattern.rule {
        Rule::Text(_) => text_reach(pattern, message, "It fits, but no address stands at its <ADDR>."),
        Rule::Joined(_) => text_reach(pattern, message, "It fits, but no line before has named the address."),
        Rule::Packet(rule) if rule.prefixes.iter().any(|prefix| memchr::memmem::find(message, prefix).is_some()) => {
            Reach::of_fields("The LOG prefix is there; another field of the packet does not fit.")
        }
        Rule::Packet(_) => Reach::of_fields("The LOG prefix is not there."),
        Rule::Json(rule) => Reach::of_fields(rule.objection(message)),
    }
}

fn text_reach(pattern: &Pattern, message: &[u8], whole: &'static str) -> Reach {
    let written = pattern.regex.as_deref().unwrap_or_default();
    let cuts = cuts(written);
    // What fits up to a place also fits up to all places before it.
    let fitting = cuts.partition_point(|cut| match_of(written, *cut, message).is_some());
    let fits = fitting.checked_sub(1).and_then(|last| cuts.get(last)).copied().unwrap_or(0);
    let end = match_of(written, fits, message).unwrap_or(0);
    let rest = message.get(end..).unwrap_or_default();
    let next = cuts.get(fitting).and_then(|next| written.get(fits..*next)).unwrap_or_default();
    let certain = cuts.iter().take(fitting).rfind(|cut| !is_catch_all(written.get(..**cut).unwrap_or_default()));
    let known = match certain {
        Some(cut) if *cut == fits => end + Parser::new().parse(next).map_or(0, |piece| begins(&piece, rest).0),
        Some(cut) => match_of(written, *cut, message).unwrap_or(0),
        None => 0,
    };
    let rest = String::from_utf8_lossy(rest).into_owned();
    Reach { fits, known, of: written.len(), rest, reason: (fits == written.len()).then_some(whole) }
}

/// Whether this beginning of a pattern ends in what fits everything.
fn is_catch_all(beginning: &str) -> bool {
    let piece = beginning.trim_end_matches(')');
    piece.ends_with(".*") || piece.ends_with(".+")
}

/// How many bytes at the beginning of a text the plain text of a piece fits, and whether it does so to its end.
fn begins(piece: &Ast, text: &[u8]) -> (usize, bool) {
    match piece {
        Ast::Literal(literal) => {
            let fits = text.starts_with(literal.c.encode_utf8(&mut [0; 4]).as_bytes());
            (if fits { literal.c.len_utf8() } else { 0 }, fits)
        }
        Ast::Group(group) => begins(&group.ast, text),
        Ast::Alternation(either) => either.asts.iter().map(|piece| begins(piece, text)).max().unwrap_or_default(),
        Ast::Concat(pieces) => {
            let mut length = 0;
            for piece in &pieces.asts {
                let (more, whole) = begins(piece, text.get(length..).unwrap_or_default());
                length += more;
                if !whole {
                    return (length, false);
                }
            }
            (length, true)
        }
        _ => (0, false),
    }
}

/// Where a match of the first `length` bytes of a pattern ends.
fn match_of(written: &str, length: usize, message: &[u8]) -> Option<usize> {
    let beginning: Regex = compile(&written.get(..length)?.replace(PLACE, ADDRESS)).ok()?;
    beginning.find(message).map(|found| found.end())
}

/// The places at which a pattern may be cut in two, ascending, its end included.
fn cuts(written: &str) -> Vec<usize> {
    let Some((before, after)) = written.split_once(PLACE) else { return ends(written, 0) };
    let behind = before.len() + PLACE.len();
    let mut cuts = ends(before, 0);
    cuts.push(behind);
    cuts.extend(ends(after, behind));
    cuts
}

/// Where the pieces of one half end.
fn ends(half: &str, offset: usize) -> Vec<usize> {
    match &Parser::new().parse(half) {
        Ok(Ast::Concat(pieces)) => pieces.asts.iter().map(|piece| offset + piece.span().end.offset).collect(),
        _ if half.is_empty() => Vec::new(),
        _ => vec![offset + half.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problems;

    fn progress(pattern: &str, line: &str) -> Progress {
        let head = "description = 'd'\nformat = 'syslog'\nprograms = ['d']\n[[pattern]]\nname = 'p'\n";
        let text = format!("{head}regex = '{pattern}'\n");
        Filter::parse("d", text, &Problems::default()).unwrap().progress(line.as_bytes())
    }

    #[test]
    fn a_pattern_comes_as_far_as_its_pieces_fit() {
        for (message, fits, rest) in [
            ("no bob from 192.0.2.9 port x", "^no (?<user>\\S+) from <ADDR> port ", "x"),
            ("no bob from 2001:db8::9 port 4 x", "^no (?<user>\\S+) from <ADDR> port \\d+", " x"),
            ("no bob by 192.0.2.9", "^no (?<user>\\S+) ", "by 192.0.2.9"),
            ("yes", "^", "yes"),
        ] {
            let pattern = "^no (?<user>\\S+) from <ADDR> port \\d+$";
            let Progress::Tried(reaches) = progress(pattern, &format!("Nov 20 01:30:00 web d[7]: {message}")) else {
                panic!("{message} is a line of d");
            };
            let reach = &reaches[0];
            assert_eq!((&pattern[..reach.fits], reach.rest.as_str()), (fits, rest), "{message}");
        }
    }

    #[test]
    fn the_nearest_pattern_knows_most_of_the_message() {
        let nearness = |pattern: &str| match progress(pattern, "Nov 20 01:30:00 web d[7]: Failed passwrd for bob") {
            Progress::Tried(reaches) => reaches[0].nearness(),
            Progress::Foreign { program } => panic!("{program:?}"),
        };
        let ordered = [
            "^Failed (?:none|password) for (?<user>.*) from <ADDR> port \\d+ ssh2$",
            "^Failed publickey for <ADDR>$",
            "^Failed [0-9]+ for a long time from <ADDR>$",
            "^(?:Fail|error: )?closed by <ADDR>$",
            "^(?:error: )?closed by <ADDR>$",
            "^.*(?:closed) by <ADDR>$",
        ];
        let known = ordered.map(|pattern| nearness(pattern).0);
        assert_eq!(known, [12, 8, 7, 4, 0, 0]);
        assert!(nearness("^Failed [0-9] <ADDR>$") > nearness(ordered[2]), "a larger part of it fits");
    }

    #[test]
    fn a_line_of_another_program_is_foreign() {
        let foreign = Progress::Foreign { program: Some("e".to_owned()) };
        assert_eq!(progress("^no <ADDR>$", "Nov 20 01:30:00 web e[7]: no 192.0.2.9"), foreign);
        assert_eq!(progress("^no <ADDR>$", "no 192.0.2.9"), Progress::Foreign { program: None });
    }
}
