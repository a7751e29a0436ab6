//! What containers and terminals put around a line: Docker's `json-file` objects, the prefixes of Kubernetes and of
//! `docker compose`, colours. In: a line of a log. Out: the line as its program wrote it. Nothing is copied unless
//! something inside the line has to go.

use super::bytes::run_of;
use super::syslog::skip_blanks;
use super::timestamp::{self, Stamp};

/// A line as its program wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) text: &'a [u8],
    /// The same with what may be the name of a container before it.
    pub(crate) whole: &'a [u8],
    /// When the container's engine read it.
    pub(crate) stamp: Option<Stamp>,
    /// The end is missing: the next record has it.
    pub(crate) torn: bool,
    /// The text is not a piece of the line.
    pub(crate) rewritten: bool,
}

/// Texts one of which every line contains that must be opened to be understood.
pub(crate) const MARKS: [&[u8]; 6] = [DOCKER, b" stdout F ", b" stdout P ", b" stderr F ", b" stderr P ", COLOUR];

const DOCKER: &[u8] = b"{\"log\":\"";
const TIME: &[u8] = b"\"time\":\"";
const COLOUR: &[u8] = b"\x1b[";

/// Longest colour code that is taken out, behind its `ESC [`.
const LONGEST_COLOUR: usize = 16;

/// Longest name of a container before `|`.
const LONGEST_NAME: usize = 64;

/// Which of the two streams of a container are in the middle of a line. Engines tear long lines into records, and what
/// begins in the middle of a line may begin with anything that an attacker likes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Torn([bool; 2]);

impl Torn {
    pub(super) fn is_torn(self) -> bool {
        self.0.contains(&true)
    }
}

/// One record of a container's engine.
struct Piece<'a> {
    /// 0: standard output, 1: standard error.
    stream: usize,
    ends: bool,
    stamp: Option<Stamp>,
    /// `None`: it is in the scratch space.
    text: Option<&'a [u8]>,
}

/// Opens a line without its newline; `None` for the rest of a line whose beginning was another record. `scratch` is
/// overwritten.
pub(crate) fn open<'a>(line: &'a [u8], torn: &mut Torn, scratch: &'a mut Vec<u8>) -> Option<Opened<'a>> {
    scratch.clear();
    let piece = docker(line, scratch).or_else(|| kubernetes(line));
    let (mut text, mut stamp, mut ends) = (Some(line), None, true);
    if let Some(piece) = piece {
        let inside = std::mem::replace(torn.0.get_mut(piece.stream)?, !piece.ends);
        if inside {
            return None;
        }
        (text, stamp, ends) = (piece.text, piece.stamp, piece.ends);
    }
    if memchr::memchr(COLOUR[0], text.unwrap_or(scratch)).is_some() {
        if let Some(text) = text.take() {
            scratch.extend_from_slice(text);
        }
        strip_colours(scratch);
    }
    let rewritten = text.is_none();
    Some(Opened { stamp, torn: !ends, rewritten, ..unmarked(text.unwrap_or(scratch)) })
}

/// Opens a line that has none of the [`MARKS`].
pub(crate) fn unmarked(line: &[u8]) -> Opened<'_> {
    let text = after_container_name(line).unwrap_or(line);
    Opened { text, whole: line, stamp: None, torn: false, rewritten: false }
}

/// `{"log":"…\n","stream":"stdout","time":"…"}`, whose inner line goes to `inner`.
fn docker<'a>(line: &[u8], inner: &mut Vec<u8>) -> Option<Piece<'a>> {
    let escaped = line.strip_prefix(DOCKER)?;
    let rest = unescape(escaped, inner)?.strip_prefix(b",\"stream\":\"std")?;
    let stream = usize::from(rest.starts_with(b"err\""));
    let ends = inner.ends_with(b"\n");
    inner.truncate(super::matcher::trim_end(inner).len());
    let stamp = memchr::memmem::rfind(rest, TIME).and_then(|at| timestamp::leading(rest.get(at + TIME.len()..)?));
    Some(Piece { stream, ends, stamp: stamp.map(|found| found.0), text: None })
}

/// The contents of a JSON string, whose closing quote ends it; what follows that quote.
fn unescape<'a>(mut text: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let stop = memchr::memchr2(b'"', b'\\', text)?;
        into.extend_from_slice(text.get(..stop)?);
        let (rest, escape) = (text.get(stop + 1..)?, text.get(stop + 1));
        if text.get(stop) == Some(&b'"') {
            return Some(rest);
        }
        let byte = match *escape? {
            b'u' => {
                text = unicode(rest.get(1..)?, into)?;
                continue;
            }
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            other => other,
        };
        into.push(byte);
        text = rest.get(1..)?;
    }
}

/// Four hexadecimal digits, or eight with `\u` between them.
fn unicode<'a>(text: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let unit = |text: &[u8]| u16::from_str_radix(std::str::from_utf8(text.get(..4)?).ok()?, 16).ok();
    let first = unit(text)?;
    let second = text.get(4..)?.strip_prefix(b"\\u").and_then(unit);
    let pair = char::decode_utf16([first].into_iter().chain(second)).next()?;
    let letter = pair.unwrap_or(char::REPLACEMENT_CHARACTER);
    into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    text.get(if letter.len_utf16() == 2 { 10 } else { 4 }..)
}

/// `2026-11-21T01:30:00.123456789Z stdout F …`, as Kubernetes' engines write; `P` is a piece of a longer line.
fn kubernetes(line: &[u8]) -> Option<Piece<'_>> {
    let has_time = line.first().is_some_and(u8::is_ascii_digit) && line.get(10) == Some(&b'T');
    let (stamp, length) = if has_time { timestamp::leading(line)? } else { return None };
    let rest = line.get(length..)?.strip_prefix(b" std")?;
    let stream = usize::from(rest.starts_with(b"err"));
    let rest = rest.strip_prefix(b"out ").or_else(|| rest.strip_prefix(b"err "))?;
    let ends = rest.starts_with(b"F ");
    let text = rest.strip_prefix(b"F ").or_else(|| rest.strip_prefix(b"P "))?;
    Some(Piece { stream, ends, stamp: Some(stamp), text: Some(text) })
}

/// Takes out `ESC [ numbers m` and `ESC [ K`. Nothing else: a program's own text must not vanish behind the beginning
/// of a code that an attacker wrote.
fn strip_colours(text: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let code = text.get(from..).map_or(0, colour_length);
        if code == 0 {
            text.copy_within(from..=from, to);
            (from, to) = (from + 1, to + 1);
        }
        from += code;
    }
    text.truncate(to);
}

/// The length of the code at the start of the text; 0 when there is none.
fn colour_length(text: &[u8]) -> usize {
    let Some(code) = text.strip_prefix(COLOUR) else { return 0 };
    let numbers = code.iter().take(LONGEST_COLOUR).take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    if matches!(code.get(numbers), Some(b'm' | b'K')) { COLOUR.len() + numbers + 1 } else { 0 }
}

/// The text behind `name-1  | ` of `docker compose`, and behind `01:30:00 1|name  | ` of `pm2`. A name of which
/// nothing tells that it is one has two blanks behind it, as compose pads names.
fn after_container_name(text: &[u8]) -> Option<&[u8]> {
    let first = text.first().filter(|byte| byte.is_ascii_alphanumeric())?;
    let process = if first.is_ascii_digit() { Some(after_process_number(text)?) } else { None };
    let named = process.unwrap_or(text);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let length = run_of(named, LONGEST_NAME, is_name);
    let rest = named.get(length..)?;
    let padding = run_of(rest, LONGEST_NAME, |byte| byte == b' ');
    let rest = rest.get(padding..)?.strip_prefix(b"|")?;
    let numbered = length.checked_sub(1).and_then(|last| named.get(last)).is_some_and(u8::is_ascii_digit);
    let telling = process.is_some() || numbered || padding > 1;
    (length > 0 && padding > 0 && telling).then_some(())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b" ") }
}

/// The text behind `1|`, perhaps with a time of day before it.
fn after_process_number(text: &[u8]) -> Option<&[u8]> {
    let is_time = |time: &[u8]| time.iter().all(|byte| byte.is_ascii_digit() || *byte == b':');
    let text = match text.get(..8) {
        Some(time) if time.contains(&b':') && is_time(time) => skip_blanks(text.get(8..)?),
        _ => text,
    };
    let digits = text.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    text.get(digits..).filter(|_| digits > 0)?.strip_prefix(b"|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(line: &[u8]) -> Option<(String, bool, bool)> {
        let (mut torn, mut scratch) = (Torn::default(), Vec::new());
        open(line, &mut torn, &mut scratch)
            .map(|found| (String::from_utf8_lossy(found.text).into_owned(), found.stamp.is_some(), found.torn))
    }

    #[test]
    fn what_is_put_around_a_line_is_taken_off() {
        let docker =
            br#"{"log":"a \"b\" \\ \u003c\ud83d\ude00\t\u00e9\r\n","stream":"stderr","time":"2026-11-21T01:30:00.1Z"}"#;
        assert_eq!(opened(docker), Some(("a \"b\" \\ <\u{1f600}\t\u{e9}".to_owned(), true, false)));
        for (line, text, stamped) in [
            (&b"2026-11-21T01:30:00.123456789Z stdout F hello x"[..], "hello x", true),
            (b"web-1  | hello x", "hello x", false),
            (b"\x1b[36mproxy  |\x1b[0m hello \x1b[1;31mx\x1b[0m", "hello x", false),
            (b"01:30:00 1|app  | hello x", "hello x", false),
            (b"hello x", "hello x", false),
        ] {
            assert_eq!(opened(line), Some((text.to_owned(), stamped, false)), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_envelope_stays() {
        for line in [
            "hello | x",
            "2026-11-21 01:30:00.1|Warn|Auth|x",
            "2026-11-21T01:30:00Z | 401 | x",
            "{\"log\":\"access\",\"addr\":\"192.0.2.1\"}",
            "{\"log\":\"access",
            "a\u{1b}[ from 192.0.2.1",
            "a\u{1b}[31 from 192.0.2.1",
            "",
        ] {
            assert_eq!(opened(line.as_bytes()), Some((line.to_owned(), false, false)), "{line}");
        }
    }

    #[test]
    fn the_rest_of_a_torn_line_is_nobodys_line() {
        let (mut torn, mut scratch) = (Torn::default(), Vec::new());
        let mut texts = Vec::new();
        for line in [
            &br#"{"log":"begins","stream":"stdout","time":"x"}"#[..],
            br#"{"log":"other\n","stream":"stderr","time":"x"}"#,
            br#"{"log":"middle","stream":"stdout","time":"x"}"#,
            br#"{"log":"ends\n","stream":"stdout","time":"x"}"#,
            br#"{"log":"next\n","stream":"stdout","time":"x"}"#,
        ] {
            let found = open(line, &mut torn, &mut scratch);
            texts.push(found.map(|found| (String::from_utf8_lossy(found.text).into_owned(), found.torn)));
        }
        let line = |text: &str, torn| Some((text.to_owned(), torn));
        assert_eq!(texts, [line("begins", true), line("other", false), None, None, line("next", false)]);
    }
}
