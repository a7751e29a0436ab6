//! The header of a syslog line. In: a line. Out: its stamp, program and message. A program's name stands where the
//! syslog daemon wrote it; what looks like a header inside a message never is one.

use std::ops::Range;

use super::bytes::run_of;
use super::netfilter::strip_uptime;
use super::timestamp::{self, Stamp};

/// A syslog line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) stamp: Option<Stamp>,
    /// Empty where the line names none.
    pub(crate) host: &'a [u8],
    /// Without its process id.
    pub(crate) program: &'a [u8],
    /// The process id; empty where the line names none.
    pub(crate) process: &'a [u8],
    pub(crate) message: &'a [u8],
    /// N for `message repeated N times: [ … ]`, which stands for N lines with the message in the brackets.
    pub(crate) repeat: u32,
}

/// `program[process]:` and what follows it.
#[derive(Clone, Copy)]
struct Tagged<'a> {
    program: &'a [u8],
    process: &'a [u8],
    message: &'a [u8],
}

/// Longer ones are none.
const LONGEST_WORD: usize = 256;
const LONGEST_PROGRAM: usize = 128;
const LONGEST_PROCESS: usize = 64;

/// No repetition counts for more, whatever a line claims.
const MOST_REPEATS: u32 = 1000;

/// Reads `<PRI>`, RFC 3164 with or without a host (or with the same host twice), rsyslog's RFC 3339 stamps, RFC 5424.
pub(crate) fn header(line: &[u8]) -> Option<Header<'_>> {
    let after_priority = strip_priority(line);
    if let Some(rest) = after_priority.filter(|rest| rest.starts_with(b"1 ")) {
        return rfc5424(rest.get(2..)?);
    }
    let text = after_priority.unwrap_or(line);
    let (stamp, rest) = match timestamp::leading(text) {
        Some((stamp, length)) => (Some(stamp), text.get(length..)?),
        None => (None, strip_uptime(text)),
    };
    let rest = strip_severity(skip_blanks(rest));
    let (host, tagged) = tagged(rest).map(|tagged| (&b""[..], tagged)).or_else(|| after_host(rest))?;
    Some(Header::of(stamp, host, tagged))
}

impl<'a> Header<'a> {
    fn of(stamp: Option<Stamp>, host: &'a [u8], tagged: Tagged<'a>) -> Header<'a> {
        let Tagged { program, process, message } = without_second_header(host, tagged);
        let (message, repeat) = repeated(strip_message_id(message));
        Header { stamp, host, program, process, message, repeat }
    }
}

/// How the last plain header began: stamp, host, program and the byte behind it. Those of one second mostly begin alike,
/// and what these bytes mean does not depend on what follows.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    text: Vec<u8>,
    stamp: Option<Stamp>,
    host: Range<usize>,
    program: Range<usize>,
}

impl Beginning {
    /// As [`header`].
    pub(crate) fn header<'a>(&mut self, line: &'a [u8]) -> Option<Header<'a>> {
        self.again(line).or_else(|| {
            let header = header(line)?;
            self.keep(line, &header);
            Some(header)
        })
    }

    fn again<'a>(&self, line: &'a [u8]) -> Option<Header<'a>> {
        if self.stamp.is_none() || !line.starts_with(&self.text) {
            return None;
        }
        let tagged = after_program(line.get(self.program.clone())?, line.get(self.program.end..)?)?;
        Some(Header::of(self.stamp, line.get(self.host.clone())?, tagged))
    }

    /// Keeps the beginning of a line with a stamp, a host and right behind it the program.
    fn keep(&mut self, line: &[u8], header: &Header<'_>) {
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().checked_sub(line.as_ptr().addr())?;
            Some(start..start + part.len())
        };
        let Some((host, program)) = place(header.host).zip(place(header.program)) else { return };
        let between = line.get(host.end..program.start).filter(|between| between.trim_ascii().is_empty());
        let ends = matches!(line.get(program.end), Some(b':' | b'['));
        if header.stamp.is_some() && !host.is_empty() && between.is_some() && ends {
            self.text.clear();
            self.text.extend_from_slice(&line[..=program.end]);
            (self.stamp, self.host, self.program) = (header.stamp, host, program);
        }
    }
}

/// The stamp alone, of any line that begins with one, behind a priority or not.
pub(crate) fn stamp(line: &[u8]) -> Option<Stamp> {
    let text = without_priority(line);
    timestamp::leading(text.strip_prefix(b"1 ").unwrap_or(text)).map(|(stamp, _)| stamp)
}

/// The text behind `<38>`, which relays put before a line.
pub(crate) fn without_priority(line: &[u8]) -> &[u8] {
    strip_priority(line).unwrap_or(line)
}

fn strip_priority(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"<")?;
    let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..)?.strip_prefix(b">")?;
    (digits > 0).then_some(rest)
}

/// `[ID 800047 auth.info] `, as Solaris writes before a message.
fn strip_message_id(message: &[u8]) -> &[u8] {
    let after = |text: &[u8]| -> Option<usize> {
        let inside = text.strip_prefix(b"[ID ")?;
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b' ');
        let length = inside.iter().take(40).take_while(is_part).count();
        inside.get(length..)?.starts_with(b"] ").then_some(length + 6)
    };
    after(message).and_then(|length| message.get(length..)).unwrap_or(message)
}

/// `<mail.notice> `, as BSD's syslogd writes with `-vv`.
fn strip_severity(text: &[u8]) -> &[u8] {
    let after = |text: &'_ [u8]| -> Option<usize> {
        let inside = text.strip_prefix(b"<")?;
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'.';
        let length = inside.iter().take(24).take_while(is_part).count();
        (inside.get(length..)?.starts_with(b"> ") && length > 0).then_some(length + 3)
    };
    after(text).and_then(|length| text.get(length..)).unwrap_or(text)
}

/// Whether a word is a facility and severity: `authpriv.info` (`BusyBox`), `auth|security:info` (AIX).
fn is_severity(word: &[u8]) -> bool {
    const LEVELS: [&[u8]; 10] =
        [b"emerg", b"alert", b"crit", b"err", b"error", b"warn", b"warning", b"notice", b"info", b"debug"];
    let mark = memchr::memrchr2(b'.', b':', word);
    let level = mark.and_then(|mark| word.get(mark + 1..));
    level.is_some_and(|level| LEVELS.contains(&level))
}

/// `host program[pid]: message`; some relays write the host twice, some daemons a facility behind it.
fn after_host(text: &[u8]) -> Option<(&[u8], Tagged<'_>)> {
    let (host, rest) = word(text)?;
    let rest = skip_blanks(rest);
    let tagged = tagged(rest).or_else(|| {
        let (again, rest) = word(rest)?;
        if again == host || is_severity(again) { tagged(skip_blanks(rest)) } else { None }
    });
    Some((host, tagged?))
}

/// The message of a program that writes host and tag itself, behind those of the syslog daemon.
fn without_second_header<'a>(host: &[u8], tagged: Tagged<'a>) -> Tagged<'a> {
    let inner = tagged.message.strip_prefix(host).filter(|rest| !host.is_empty() && rest.starts_with(b" "));
    let inner = inner.and_then(|_| after_host(tagged.message)).map(|(_, inner)| inner);
    match inner.filter(|inner| inner.program == tagged.program) {
        Some(inner) => Tagged { message: inner.message, ..tagged },
        None => tagged,
    }
}

/// `program[pid]: message`, `program: message` or `program[4711] message`, at the very start.
fn tagged(text: &[u8]) -> Option<Tagged<'_>> {
    let length = run_of(text, LONGEST_PROGRAM, |byte| !matches!(byte, b' ' | b':' | b'['));
    let (program, rest) = text.split_at_checked(length)?;
    after_program(program, rest)
}

/// The same, where it is known which program it is and what follows its name.
fn after_program<'a>(program: &'a [u8], mut rest: &'a [u8]) -> Option<Tagged<'a>> {
    let mut process: &[u8] = b"";
    if let Some(inside) = rest.strip_prefix(b"[") {
        let close = run_of(inside, LONGEST_PROCESS, |byte| !matches!(byte, b']' | b' '));
        process = inside.get(..close)?;
        rest = inside.get(close..)?.strip_prefix(b"]")?;
    }
    let numbered = || !process.is_empty() && process.iter().all(u8::is_ascii_digit);
    let level_or_number = || after_level(rest).or_else(|| numbered().then_some(rest));
    let message = rest.strip_prefix(b":").or_else(level_or_number)?;
    let separated = matches!(message.first(), None | Some(b' '));
    let message = skip_blanks(message);
    (!program.is_empty() && separated).then_some(Tagged { program, process, message })
}

/// What follows ` <Notice>:`, as macOS writes behind a program.
fn after_level(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_prefix(b" <")?;
    let length = inside.iter().take(16).take_while(|byte| byte.is_ascii_alphabetic()).count();
    inside.get(length..)?.strip_prefix(b">:")
}

/// RFC 5424 behind its version: stamp, host, program, process id, message id, structured data, message.
fn rfc5424(text: &[u8]) -> Option<Header<'_>> {
    let (written, rest) = word(text)?;
    let stamp = timestamp::leading(written).map(|(stamp, _)| stamp);
    let (host, rest) = word(rest.get(1..)?)?;
    let (program, rest) = word(rest.get(1..)?)?;
    let (process, rest) = word(rest.get(1..)?)?;
    let (_message_id, rest) = word(rest.get(1..)?)?;
    let message = skip_blanks(structured_data(rest.get(1..)?)?);
    let (message, repeat) = repeated(message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message));
    Some(Header { stamp, host, program, process, message, repeat })
}

/// What follows `-` or `[id key="value"]…`, in whose values `"`, `]` and `\` are escaped.
fn structured_data(text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(b"-") {
        return Some(rest);
    }
    let (mut quoted, mut escaped, mut open) = (false, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' if !quoted && !open => open = true,
            b']' if !quoted && open => open = false,
            _ if !open => return text.get(index..).filter(|_| index > 0),
            _ => {}
        }
    }
    (!open && !text.is_empty()).then_some(b"".as_slice())
}

/// The text up to the first blank, and the rest from that blank on.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = run_of(text, LONGEST_WORD, |byte| byte != b' ');
    if length == 0 || length == text.len().min(LONGEST_WORD) { None } else { text.split_at_checked(length) }
}

/// What a line contains that says how often the one before it came again.
pub(crate) const REPEATED: &[u8] = b"last message repeated ";

/// How often `last message repeated N times` says that the line before it came again, and the host that says so.
/// Syslog daemons write it without a program or as themselves; text of a program has the program's name before it.
pub(crate) fn last_repeated(line: &[u8]) -> Option<(&[u8], u32)> {
    let line = line.strip_suffix(b" ---").unwrap_or(line);
    let start = line.strip_suffix(b" times").or_else(|| line.strip_suffix(b" time"))?;
    let at = memchr::memmem::find(start, REPEATED)?;
    let count: u32 = std::str::from_utf8(start.get(at + REPEATED.len()..)?).ok()?.parse().ok()?;
    let text = without_priority(line);
    let length = timestamp::leading(text)?.1;
    let before = start.get(line.len() - text.len() + length..at)?;
    let before = strip_severity(skip_blanks(before)).trim_ascii_end();
    let before = before.strip_suffix(b" ---").unwrap_or(before);
    let (host, program) = word(before).unwrap_or((before, b""));
    let program = program.trim_ascii();
    let written_by_syslogd = program.is_empty() || program.starts_with(b"syslogd") && !program.contains(&b' ');
    (written_by_syslogd && !host.is_empty()).then_some((host, count.clamp(1, MOST_REPEATS)))
}

pub(crate) fn skip_blanks(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn repeated(message: &[u8]) -> (&[u8], u32) {
    inner_message(message).unwrap_or((message, 1))
}

fn inner_message(message: &[u8]) -> Option<(&[u8], u32)> {
    let rest = message.strip_prefix(b"message repeated ")?;
    let digits = rest.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    let count: u32 = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let inner = rest.get(digits..)?.strip_prefix(b" times: [")?.strip_suffix(b"]")?;
    Some((inner.strip_prefix(b" ").unwrap_or(inner), count.clamp(1, MOST_REPEATS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> Option<(String, String, u32)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        header(line.as_bytes()).map(|found| (text(found.program), text(found.message), found.repeat))
    }

    #[test]
    fn every_form_of_the_header_gives_program_and_message() {
        for line in [
            "Nov 21 01:30:00 web sshd[411]: hello: x",
            "Nov 21 01:30:00 web sshd: hello: x",
            "Nov 21 01:30:00 sshd[411]: hello: x",
            "<38>Nov 21 01:30:00 web sshd[411]: hello: x",
            "Nov 21 01:30:00 web web sshd[411]: hello: x",
            "2026-11-21T01:30:00.123456+01:00 web sshd[411]: hello: x",
            "<38>1 2026-11-21T01:30:00Z web sshd 411 - - hello: x",
            "<38>1 2026-11-21T01:30:00Z web sshd 411 - [a k=\"v\"][b k=\"[x\\\"]\"] hello: x",
            "1795221000 web sshd[411]: hello: x",
            "Nov 21 01:30:00 <auth.info> web sshd[411]: hello: x",
            "Nov 21 01:30:00 web sshd[411] hello: x",
            "Nov 21 01:30:00 web sshd[411]: web sshd: hello: x",
            "web sshd[411]: hello: x",
            "sshd[411]: hello: x",
            "[12345.678901] web sshd[411]: hello: x",
            "Nov 21 01:30:00 web sshd[411]:  hello: x",
            "Nov 21 01:30:00 web sshd[411]: [ID 800047 auth.info] hello: x",
            "Nov 21 01:30:00 web auth|security:info sshd[411]: hello: x",
            "Nov 21 01:30:00 web authpriv.info sshd[411]: hello: x",
            "Sat Nov 21 01:30:00 2026 authpriv.info sshd[411]: hello: x",
            "Nov 21 01:30:00 web sshd[411] <Error>: hello: x",
        ] {
            assert_eq!(parts(line), Some(("sshd".to_owned(), "hello: x".to_owned(), 1)), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_header_is_the_same_behind_others(lines in proptest::collection::vec(
            "(?:<38>)?(?:1 )?(?:Nov 21 01:30:00|2026-11-21T01:30:00Z)?(?: 2026)? ?(?:web |a:b )?(?:web |<x> | )?\
             (?:sshd|CRON|2026)(?:\\[[0-9 ]{0,2}\\]?)?[: ]?[ <a>:\\[-]{0,9}",
            1..9,
        )) {
            let mut beginning = Beginning::default();
            for line in &lines {
                proptest::prop_assert_eq!(beginning.header(line.as_bytes()), header(line.as_bytes()), "{:?}", lines);
            }
        }
    }

    #[test]
    fn a_header_inside_a_message_is_part_of_the_message() {
        let found = parts("Nov 21 01:30:00 web CRON[9]: (bob) CMD (echo sshd[1]: hello)").unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str()), ("CRON", "(bob) CMD (echo sshd[1]: hello)"));
        assert_eq!(parts("Nov 21 01:30:00 web some words sshd[1]: hello"), None);
        assert_eq!(parts("192.0.2.1 - - [21/Nov/2026:01:30:00 +0100] \"GET / HTTP/1.1\" 200 1"), None);
    }

    #[test]
    fn a_syslog_daemon_says_how_often_the_last_message_came_again() {
        for line in [
            "Nov 21 01:30:00 web last message repeated 3 times",
            "Nov 21 01:30:00 web syslogd: last message repeated 3 times",
            "Nov 21 01:30:00 web --- last message repeated 3 times ---",
            "<38>Nov 21 01:30:00 web last message repeated 3 times",
            "Nov 21 01:30:00 <auth.info> web last message repeated 3 times",
        ] {
            assert_eq!(last_repeated(line.as_bytes()), Some((&b"web"[..], 3)), "{line}");
        }
        for line in [
            "Nov 21 01:30:00 web bob: last message repeated 3 times",
            "Nov 21 01:30:00 web bob[1]: x last message repeated 3 times",
            "Nov 21 01:30:00 web syslogd: x: last message repeated 3 times",
            "last message repeated 3 times",
            "Nov 21 01:30:00 last message repeated 3 times",
            "Nov 21 01:30:00 web last message repeated x times",
        ] {
            assert_eq!(last_repeated(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_repeated_message_counts_as_often_as_it_says() {
        let line = "Nov 21 01:30:00 web sshd[411]: message repeated 3 times: [ hello: x]";
        assert_eq!(parts(line), Some(("sshd".to_owned(), "hello: x".to_owned(), 3)));
        let absurd = "Nov 21 01:30:00 web sshd[411]: message repeated 999999999 times: [ x]";
        assert_eq!(parts(absurd).unwrap().2, MOST_REPEATS);
    }
}
