//! Patterns on text: `prefix <ADDR> suffix`. In: a regex as a filter file has it. Out: a rule that finds the offender
//! in a message, or the reason why it is refused. No capture engine runs until a match is certain.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use memchr::memmem;
use regex::bytes::Regex;
use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::Offender;
use super::account::{self, User};
use super::address::{Found, Whom, address_before_port, offender_at, tuple_at};
use super::ambiguity::{Forgery, literal_end};
use super::half::Half;
use super::literals;
use super::steps::{Group, Spans};
use super::timestamp::{self, Stamp};

/// What stands for the offender in a pattern.
pub(super) const PLACE: &str = "<ADDR>";

/// Places in one message at which an address is looked for; each costs time in proportion to the message.
const MOST_PLACES: usize = 32;

/// Largest compiled regex of one side of a pattern, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct TextRule {
    /// Matches all of the text before the address.
    prefix: Half,
    /// How long that text may be.
    lengths: RangeInclusive<usize>,
    /// Matches from the end of the address on; `None` when anything may follow.
    suffix: Option<Half>,
    separator: Separator,
    /// What stands between the address and its port, where the pattern demands one.
    port: Option<u8>,
    /// The prefix can swallow a forged address: only the last place can be the true one.
    last: bool,
    settles_user: bool,
    /// Texts one of which every match contains, in some letter case; empty when there are none.
    pub(crate) literals: Vec<Vec<u8>>,
}

/// The text that every prefix ends with; empty when there is none.
#[derive(Debug)]
struct Separator {
    finder: memmem::Finder<'static>,
    /// A byte of it that stands in few other places, and its own.
    mark: u8,
    mark_at: usize,
}

/// A pattern without an address of its own: another line, the join, has it.
#[derive(Debug)]
pub(crate) struct JoinedRule {
    message: Half,
    /// Index of the join within its filter.
    pub(crate) join: u16,
    /// As those of a [`TextRule`].
    pub(crate) literals: Vec<Vec<u8>>,
}

impl JoinedRule {
    pub(crate) fn new(pattern: &str, join: u16) -> Result<JoinedRule, PatternError> {
        if pattern.contains(PLACE) {
            return Err(PatternError::PlaceInJoined);
        }
        let parsed = parse(pattern)?;
        if !begins_with_anchor(&parsed) {
            return Err(PatternError::NotAnchored);
        }
        let message = Half::new(pattern.to_owned(), &parsed, false)?;
        Ok(JoinedRule { message, join, literals: literals::required(&parsed, &Hir::empty()) })
    }

    pub(crate) fn has_id(&self) -> bool {
        self.message.has(Group::Id)
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.message.is_plain()
    }

    /// Whether the message matches, and what it calls its connection: `process`, unless the pattern has a group `id`.
    pub(crate) fn id<'t>(&self, message: &'t [u8], process: &'t [u8]) -> Option<&'t [u8]> {
        let spans = self.message.find(message)?;
        let id = if self.has_id() { spans.get(Group::Id, message)? } else { process };
        (!id.is_empty()).then_some(id)
    }
}

/// Where a rule matched. What it captured is read on demand.
pub(crate) struct Match<'t> {
    pub(crate) offender: Whom<'t>,
    /// Whether its pattern has a group `id`.
    has_id: bool,
    before: (&'t [u8], Spans),
    after: (&'t [u8], Spans),
}

/// Why a pattern is refused.
#[derive(Debug)]
pub(crate) enum PatternError {
    NotAnchored,
    NoPlace,
    ManyPlaces,
    Nested,
    PlaceInJoined,
    Syntax(String),
    Ambiguous(Ambiguity),
}

/// Where attacker's text could stand in for the address.
#[derive(Debug)]
pub(crate) struct Ambiguity {
    /// The piece before `<ADDR>` that can hold a forged address.
    before: String,
    /// The piece behind it that can, too; `None` when the pattern has no end.
    after: Option<String>,
    /// What stands before every address.
    separator: String,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ambiguity { before, after, separator } = self;
        write!(
            f,
            "attacker's text can choose the address: {before} before <ADDR> matches \"{separator}192.0.2.1\" too, "
        )?;
        match after {
            Some(after) => write!(f, "and so does {after} after it"),
            None => f.write_str("and no '$' ends the pattern"),
        }
    }
}

impl Ambiguity {
    fn hint(&self) -> String {
        let Ambiguity { before, after, separator } = self;
        let end = match after {
            Some(after) => format!("write exactly what the program writes after the address in place of {after}"),
            None => {
                "write exactly what the program writes after the address, and '$', as in <ADDR> port \\d+$".to_owned()
            }
        };
        let narrow = match separator.trim() {
            "" => "\\d+ or [a-z]+".to_owned(),
            _ => "\\S+ or [^']*".to_owned(),
        };
        format!("{end}; or let {before} match nothing that holds \"{separator}\" and an address, such as {narrow}")
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::NotAnchored => f.write_str("a pattern must begin with '^'"),
            PatternError::NoPlace => f.write_str("the pattern does not say where the offender stands"),
            PatternError::ManyPlaces => f.write_str("a pattern names its offender once"),
            PatternError::Nested => f.write_str("<ADDR> stands inside a group or an alternation"),
            PatternError::PlaceInJoined => f.write_str("a pattern with 'join' has no <ADDR>: its join has it"),
            PatternError::Syntax(reason) => write!(f, "not a regex: {reason}"),
            PatternError::Ambiguous(ambiguity) => ambiguity.fmt(f),
        }
    }
}

impl PatternError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            PatternError::NotAnchored => "write '^' and the fixed text that the message begins with",
            PatternError::NoPlace => "write <ADDR> where the address stands",
            PatternError::ManyPlaces | PatternError::Nested => {
                "write two patterns, each with one <ADDR> at its top level"
            }
            PatternError::PlaceInJoined => "leave out 'join', or <ADDR>",
            PatternError::Syntax(_) => "the syntax is that of the regex crate, on bytes, without look-around",
            PatternError::Ambiguous(ambiguity) => return Cow::Owned(ambiguity.hint()),
        })
    }
}

impl TextRule {
    pub(crate) fn new(pattern: &str) -> Result<TextRule, PatternError> {
        let (before, after) = pattern.split_once(PLACE).ok_or(PatternError::NoPlace)?;
        if after.contains(PLACE) {
            return Err(PatternError::ManyPlaces);
        }
        let flags = leading_flags(before);
        let port = mark_of_port(after);
        let after_group = after;
        let after = format!("{flags}{after}");
        let prefix = parse(before).map_err(|error| refine(error, pattern))?;
        let suffix = parse(&after).map_err(|error| refine(error, pattern))?;
        if is_alternation(before) || is_alternation(&after) {
            return Err(PatternError::Nested);
        }
        if !begins_with_anchor(&prefix) {
            return Err(PatternError::NotAnchored);
        }
        let forgery = Forgery::behind(&prefix);
        let last = forgery.fits_into(&prefix);
        if last && (!ends_with_anchor(&suffix) || forgery.fits_into(&suffix)) {
            let separator = String::from_utf8_lossy(&literal_end(&prefix)).into_owned();
            let open = !ends_with_anchor(&suffix);
            let after = if open { None } else { Some(culprit(&after, flags, &forgery)) };
            return Err(PatternError::Ambiguous(Ambiguity {
                before: culprit(before, flags, &forgery),
                after,
                separator,
            }));
        }
        let behind = format!("{flags}^(?:{after})");
        let length = prefix.properties().clone();
        Ok(TextRule {
            settles_user: account::settles(before, flags, false) || account::settles(after_group, flags, true),
            prefix: Half::new(format!("{flags}(?:{before})$"), &prefix, true)?,
            lengths: length.minimum_len().unwrap_or(0)..=length.maximum_len().unwrap_or(usize::MAX),
            suffix: match suffix.kind() {
                HirKind::Empty => None,
                _ => Some(Half::new(behind, &suffix, false)?),
            },
            separator: Separator::new(&literal_end(&prefix)),
            port,
            last,
            literals: literals::required(&prefix, &suffix),
        })
    }

    pub(crate) fn has_id(&self) -> bool {
        self.has(Group::Id)
    }

    pub(crate) fn names_user(&self) -> bool {
        self.has(Group::User)
    }

    fn has(&self, group: Group) -> bool {
        self.prefix.has(group) || self.suffix.as_ref().is_some_and(|suffix| suffix.has(group))
    }

    /// Whether both sides of the address are matched by hand.
    pub(crate) fn is_plain(&self) -> bool {
        self.prefix.is_plain() && self.suffix.as_ref().is_none_or(Half::is_plain)
    }

    /// Whether the group `user` is always the whole name that the program wrote, whatever an attacker writes.
    pub(crate) fn settles_user(&self) -> bool {
        self.settles_user
    }

    /// Whether only the end of a message tells a true address from a forged one.
    pub(crate) fn needs_end(&self) -> bool {
        self.last
    }

    /// The offender that the message names. Where a forged address could stand before the true one, the last
    /// admissible place counts, otherwise the first; a host name there is admissible too, so that no text before it
    /// can take its place.
    pub(crate) fn find<'t>(&self, message: &'t [u8]) -> Option<Match<'t>> {
        let width = self.separator.text().len();
        let possible = |place: &usize| self.lengths.contains(place);
        if width == 0 {
            let end = message.len().min(self.lengths.end().saturating_add(1));
            let places = (*self.lengths.start()..end).filter(|place| may_begin(message, *place));
            return if self.last {
                places.rev().take(MOST_PLACES).find_map(|place| self.at(message, place))
            } else {
                places.take(MOST_PLACES).find_map(|place| self.at(message, place))
            };
        }
        if self.last {
            let places = self.separator.backwards(message).map(|place| place + width).filter(possible);
            return places.take(MOST_PLACES).find_map(|place| self.at(message, place));
        }
        let places = self.separator.finder.find_iter(message).map(|place| place + width).filter(possible);
        places.take(MOST_PLACES).find_map(|place| self.at(message, place))
    }

    fn at<'t>(&self, message: &'t [u8], place: usize) -> Option<Match<'t>> {
        let tuple = if self.separator.text().ends_with(b"{") { tuple_at(message, place) } else { None };
        let fits = |found: Found<'t>| {
            let after = message.get(found.end..)?;
            let spans = self.suffix.as_ref().map_or(Some(Spans::default()), |suffix| suffix.find(after))?;
            Some((found.offender, (after, spans)))
        };
        let usual = tuple.or_else(|| offender_at(message, place));
        if usual.is_none() && self.port.is_none() {
            return None;
        }
        // What stands before the address is the first to tell that a line is another program's.
        let before = message.get(..place)?;
        let spans = self.prefix.find(before)?;
        let with_port = || address_before_port(message, place, self.port?).and_then(fits);
        let (offender, after) = usual.and_then(fits).or_else(with_port)?;
        Some(Match { offender, has_id: self.has_id(), before: (before, spans), after })
    }
}

impl Separator {
    fn new(text: &[u8]) -> Separator {
        // Letters that no address has, the commonest in lines first.
        let rarity = |byte: &u8| b"toisnrhlupmgywkvxqjz".iter().position(|letter| letter.eq_ignore_ascii_case(byte));
        let mark_at = (0..text.len()).rev().max_by_key(|at| text.get(*at).and_then(rarity)).unwrap_or(0);
        let mark = text.get(mark_at).copied().unwrap_or_default();
        Separator { finder: memmem::Finder::new(text).into_owned(), mark, mark_at }
    }

    fn text(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Where it stands in a message, the last place first, without places that overlap one before. Addresses stand
    /// near the end: looking for one byte costs less than any cleverer search.
    fn backwards(&self, message: &[u8]) -> impl Iterator<Item = usize> {
        let mut limit = message.len();
        memchr::memrchr_iter(self.mark, message).filter_map(move |at| {
            let start = at.checked_sub(self.mark_at)?;
            let found = start + self.text().len() <= limit && message.get(start..)?.starts_with(self.text());
            if found {
                limit = start;
            }
            found.then_some(start)
        })
    }
}

impl<'t> Match<'t> {
    /// The account that the group `user` holds, as it is kept.
    pub(crate) fn user(&self) -> Option<User> {
        self.group(Group::User).and_then(User::new)
    }

    /// The stamp that the group `time` holds, for logs whose lines do not begin with theirs.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        timestamp::leading(self.group(Group::Time)?).map(|(stamp, _)| stamp)
    }

    /// What the line calls its connection: `process`, unless the pattern has a group `id`.
    pub(crate) fn id(&self, process: &'t [u8]) -> Option<&'t [u8]> {
        let id = if self.has_id { self.group(Group::Id)? } else { process };
        (!id.is_empty()).then_some(id)
    }

    fn group(&self, group: Group) -> Option<&'t [u8]> {
        let in_side = |(text, spans): &(&'t [u8], Spans)| spans.get(group, text);
        in_side(&self.before).or_else(|| in_side(&self.after))
    }
}

/// Whom a pattern would find in a message; `None` when it is refused or finds nobody.
pub(crate) fn would_find(pattern: &str, message: &[u8]) -> Option<Offender> {
    Some(TextRule::new(pattern).ok()?.find(message)?.offender.into())
}

/// Whether the pattern takes the last address that fits, so that all depends on who writes the end of the line.
pub(crate) fn trusts_end(pattern: &str) -> bool {
    TextRule::new(pattern).is_ok_and(|rule| rule.needs_end())
}

/// What must stand between the address and a port, as written.
fn mark_of_port(after: &str) -> Option<u8> {
    let marks = [(r":\d+", b':'), (r"\.\d+", b'.')];
    marks.into_iter().find(|(written, _)| after.starts_with(written)).map(|(_, mark)| mark)
}

/// A regex without `<ADDR>`, as a condition on a field.
pub(crate) fn condition(pattern: &str) -> Result<Regex, PatternError> {
    if !begins_with_anchor(&parse(pattern)?) {
        return Err(PatternError::NotAnchored);
    }
    compile(pattern)
}

/// Whether a word begins here that may be an address or a name.
fn may_begin(message: &[u8], place: usize) -> bool {
    let inside_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_');
    let before = place.checked_sub(1).and_then(|before| message.get(before));
    let first = message.get(place).copied().unwrap_or(b' ');
    (first == b'[' || first == b':' || first.is_ascii_alphanumeric()) && !before.is_some_and(inside_word)
}

/// Flags for the whole pattern, such as `(?i)`, which hold on both sides of the address.
fn leading_flags(pattern: &str) -> &str {
    let Some(rest) = pattern.strip_prefix("(?") else { return "" };
    let flags = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    if flags > 0 && rest[flags..].starts_with(')') { &pattern[..flags + 3] } else { "" }
}

pub(super) fn parse(pattern: &str) -> Result<Hir, PatternError> {
    let mut parser =
        regex_syntax::ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).nest_limit(64).build();
    parser.parse(pattern).map_err(|error| PatternError::Syntax(reason(&error)))
}

fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => error.to_string(),
    }
}

/// A half that is no regex although the whole is one was cut inside a group.
fn refine(error: PatternError, pattern: &str) -> PatternError {
    if parse(&pattern.replace(PLACE, "x")).is_ok() { PatternError::Nested } else { error }
}

pub(super) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let mut builder = regex::bytes::RegexBuilder::new(pattern);
    builder.unicode(false).dot_matches_new_line(true).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT);
    builder.build().map_err(|error| PatternError::Syntax(error.to_string()))
}

/// Whether a half has `|` at its top level, as written; the structure of a regex has forgotten that.
fn is_alternation(half: &str) -> bool {
    matches!(ast::parse::Parser::new().parse(half), Ok(Ast::Alternation(_)))
}

/// The piece of a half that can hold a forged address; the whole half, where only several pieces together can.
fn culprit(half: &str, flags: &str, forgery: &Forgery) -> String {
    let Ok(Ast::Concat(pieces)) = &ast::parse::Parser::new().parse(half) else { return half.to_owned() };
    let texts = pieces.asts.iter().filter_map(|piece| half.get(piece.span().start.offset..piece.span().end.offset));
    let holds = |text: &&str| parse(&format!("{flags}{text}")).is_ok_and(|piece| forgery.fits_into(&piece));
    let mut texts = texts.filter(holds);
    texts.next().unwrap_or(half).to_owned()
}

fn begins_with_anchor(hir: &Hir) -> bool {
    hir.properties().look_set_prefix().contains(Look::Start)
}

pub(super) fn ends_with_anchor(hir: &Hir) -> bool {
    hir.properties().look_set_suffix().contains(Look::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offender(pattern: &str, message: &str) -> Option<String> {
        let rule = TextRule::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        rule.find(message.as_bytes()).map(|found| match found.offender {
            Whom::Address(address) => address.to_string(),
            Whom::Name(name) => name.to_owned(),
        })
    }

    fn refused(pattern: &str) -> PatternError {
        TextRule::new(pattern).expect_err("the pattern must be refused")
    }

    #[test]
    fn catch_alls_on_both_sides_of_the_address_are_refused() {
        for pattern in [
            "^Failed .* from <ADDR>",
            "^Failed .* from <ADDR>.*$",
            "^Failed .{0,100} from <ADDR> port \\d+.*$",
            "^Failed [^']* from <ADDR> port .*$",
            "^Failed (?: ?\\S+)* from <ADDR>(?: \\S+)*$",
            "^Failed \\S*<ADDR>",
        ] {
            assert!(matches!(refused(pattern), PatternError::Ambiguous(_)), "{pattern}");
        }
    }

    #[test]
    fn a_refusal_names_the_piece_the_forgery_and_the_remedy() {
        let said = |pattern: &str| {
            let error = refused(pattern);
            (error.to_string(), error.hint().into_owned())
        };
        let (open, hint) = said("^Failed for (?<user>.*) from <ADDR>");
        assert!(
            open.ends_with("(?<user>.*) before <ADDR> matches \" from 192.0.2.1\" too, and no '$' ends the pattern"),
            "{open}"
        );
        assert!(hint.contains("and '$'") && hint.contains("\\S+"), "{hint}");
        let (both, _) = said("^Failed for .* from <ADDR>: \\d+ [^;]*$");
        assert!(both.ends_with("and so does [^;]* after it"), "{both}");
    }

    #[test]
    fn a_catch_all_on_one_side_is_safe() {
        for pattern in [
            "^Failed .* from <ADDR> port \\d+$",
            "^Failed \\S+ from <ADDR>.*",
            "^user '[^']*' from '<ADDR>'.*$",
            "^<ADDR> .*",
            "^Failed .* from <ADDR> port \\d+ ssh2: (?:RSA|DSA) SHA256:[A-Za-z0-9+/]+$",
        ] {
            assert!(TextRule::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_do_not_say_one_place_plainly_are_refused() {
        assert!(matches!(refused("from <ADDR>$"), PatternError::NotAnchored));
        assert!(matches!(refused("^from \\S+$"), PatternError::NoPlace));
        assert!(matches!(refused("^from <ADDR> to <ADDR>$"), PatternError::ManyPlaces));
        assert!(matches!(refused("^from (?:<ADDR>|x)$"), PatternError::Nested));
        assert!(matches!(refused("^a|^b <ADDR>$"), PatternError::Nested));
        assert!(matches!(refused("^a( <ADDR>$"), PatternError::Syntax(_)));
        assert!(matches!(refused("(?m)^from <ADDR>$"), PatternError::NotAnchored));
    }

    #[test]
    fn text_before_the_address_cannot_choose_it() {
        let pattern = "^Invalid user .* from <ADDR> port \\d+$";
        let forged = "Invalid user a from 192.0.2.1 port 22 from 203.0.113.5 port 40022";
        assert_eq!(offender(pattern, forged).as_deref(), Some("203.0.113.5"));
        let named = "Invalid user a from 192.0.2.1 port 22 from host.example.org port 40022";
        assert_eq!(offender(pattern, named).as_deref(), Some("host.example.org"));
        let unknown = "Invalid user a from 192.0.2.1 port 22 from UNKNOWN port 65535";
        assert_eq!(offender(pattern, unknown), None);
    }

    #[test]
    fn text_after_the_address_cannot_choose_it() {
        let pattern = "^Received disconnect from <ADDR> port \\d+:.*$";
        let forged = "Received disconnect from 203.0.113.5 port 4:11: disconnect from 192.0.2.1 port 22:";
        assert_eq!(offender(pattern, forged).as_deref(), Some("203.0.113.5"));
    }

    #[test]
    fn an_erlang_tuple_is_read_where_the_pattern_has_its_brace() {
        let pattern = r"^peer \{\{<ADDR>\},\d+\} of .*$";
        assert_eq!(offender(pattern, "peer {{192,0,2,9},4711} of {{192,0,2,1},1}").as_deref(), Some("192.0.2.9"));
        assert!(matches!(refused(r"^user [^.:]* at \{<ADDR>\}[^.:]*$"), PatternError::Ambiguous(_)));
    }

    #[test]
    fn control_bytes_inside_a_message_end_nothing() {
        let pattern = "^Invalid user .* from <ADDR> port \\d+$";
        let forged =
            "Invalid user x\u{b}\u{c}\r\0\u{85}\u{2028} from 192.0.2.1 port 22\u{2028} from 203.0.113.5 port 4";
        assert_eq!(offender(pattern, forged).as_deref(), Some("203.0.113.5"));
    }

    #[test]
    fn groups_are_read_on_both_sides_and_bounded() {
        let rule = TextRule::new("^at (?<time>\\S+) by <ADDR> for (?<user>.*)$").unwrap();
        let message = format!("at 1795224600 by 192.0.2.1 for {}", "ü".repeat(90));
        let found = rule.find(message.as_bytes()).unwrap();
        assert_eq!(found.user().unwrap().len(), 64);
        assert!(found.stamp().is_some());
    }

    proptest::proptest! {
        #[test]
        fn a_separator_is_found_backwards_where_the_library_finds_it(text in "[ax:]{1,3}", message in "[ax:]{0,30}") {
            let (separator, message) = (Separator::new(text.as_bytes()), message.as_bytes());
            let expected: Vec<_> = memmem::rfind_iter(message, &text).collect();
            proptest::prop_assert_eq!(separator.backwards(message).collect::<Vec<_>>(), expected);
        }
    }
}
