//! What a line is like that no pattern matches, for people who write filters. In: a line. Out: how it is built, and
//! whether it sounds like a failure. A guess: it suggests, and nobody is ever banned by it.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::envelope::{self, Torn};
use super::file::Format;
use super::{syslog, timestamp};

/// A line, taken apart by its look alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout<'a> {
    pub(crate) format: Format,
    /// Empty where no header names one.
    pub(crate) program: &'a [u8],
    /// What stands before the message; with it, the whole line out of its envelope.
    pub(crate) header: &'a [u8],
    pub(crate) message: &'a [u8],
}

/// What a line sounds like. Ordered: the first is of most interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tone {
    Failure,
    Unclear,
    Success,
}

/// Words of lines about refused attempts. Where one stands, words of success mean little: "unsuccessful".
const FAILURE: [&str; 33] = [
    "fail",
    "invalid",
    "illegal",
    "denied",
    "deny",
    "refuse",
    "reject",
    "wrong",
    "bad ",
    "incorrect",
    "unauthori",
    "forbidden",
    "not allowed",
    "not permitted",
    "unknown user",
    "mismatch",
    "abort",
    "attack",
    "violation",
    "no such",
    "unsuccessful",
    "error",
    "could not",
    "cannot",
    "unable",
    "too many",
    "not found",
    "not exist",
    "blocked",
    "not match",
    "\" 401 ",
    "\" 403 ",
    "brute",
];

const SUCCESS: [&str; 9] = [
    "accept",
    "success",
    "succeed",
    "logged in",
    "session opened",
    "granted",
    "established",
    "authenticated",
    "connected to",
];

/// `None` never happens: the words are few. Then every tone is unclear.
static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::LeftmostLongest).ascii_case_insensitive(true);
    builder.build(FAILURE.iter().chain(&SUCCESS)).ok()
});

/// What a message sounds like.
pub(crate) fn tone(message: &[u8]) -> Tone {
    let Some(words) = &*WORDS else { return Tone::Unclear };
    let mut tone = Tone::Unclear;
    for found in words.find_iter(message) {
        if found.pattern().as_usize() < FAILURE.len() {
            return Tone::Failure;
        }
        tone = Tone::Success;
    }
    tone
}

/// The line as its program wrote it, out of what containers and terminals put around it; `None` for the rest of a line
/// that such an envelope has torn.
pub(crate) fn opened<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let opened = envelope::open(super::matcher::trim_end(line), &mut Torn::default(), scratch)?;
    (!opened.torn).then_some(opened.text)
}

/// How a line out of its envelope is built.
pub(crate) fn layout(text: &[u8]) -> Layout<'_> {
    if let Some(header) = syslog::header(text)
        && header.stamp.is_some()
        && !(header.host.is_empty() && header.process.is_empty())
        // `[error] 8#8: …` of nginx is no host with a program.
        && header.program.iter().any(u8::is_ascii_alphabetic)
        && !header.host.starts_with(b"[")
    {
        let format = if header.program == b"kernel" { Format::Kernel } else { Format::Syslog };
        let length = timestamp::leading(header.message).map_or(0, |(_, length)| length);
        let message = syslog::skip_blanks(header.message.get(length..).unwrap_or_default());
        return behind(text, message, format, header.program);
    }
    if text.starts_with(b"{") {
        return behind(text, text, Format::Json, b"");
    }
    if timestamp::bracketed_common_log(text).is_some() {
        return behind(text, text, Format::Clf, b"");
    }
    let length = timestamp::leading(text).map_or(0, |(_, length)| length);
    let message = syslog::skip_blanks(text.get(length..).unwrap_or_default());
    let format = if message.starts_with(b"{") { Format::Json } else { Format::Plain };
    behind(text, message, format, b"")
}

/// The layout with what stands before the message. A header that says "message repeated" says it no more.
fn behind<'a>(text: &'a [u8], message: &'a [u8], format: Format, program: &'a [u8]) -> Layout<'a> {
    let at = memchr::memmem::rfind(text, message).unwrap_or(0);
    let header = text.get(..at).unwrap_or_default();
    let repeated = memchr::memmem::rfind(header, b"message repeated ").and_then(|start| header.get(..start));
    Layout { format, program, header: repeated.unwrap_or(header), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> (Format, String, String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Layout { format, program, header, message } = layout(line.as_bytes());
        (format, text(program), text(header), text(message))
    }

    #[test]
    fn a_line_is_taken_apart_by_its_look() {
        for (line, format, program, message) in [
            ("Nov 21 01:30:00 web d[7]: no x", Format::Syslog, "d", "no x"),
            ("Nov 21 01:30:00 web d[7]: 2026-11-21 01:30:00 no x", Format::Syslog, "d", "no x"),
            ("2026-11-21 01:30:00 ERROR: no x", Format::Plain, "", "ERROR: no x"),
            ("{\"a\":1}", Format::Json, "", "{\"a\":1}"),
            ("2026/11/21 01:30:00 [info] 8#8: no x", Format::Plain, "", "[info] 8#8: no x"),
            ("no x", Format::Plain, "", "no x"),
        ] {
            let (found, by, header, text) = parts(line);
            assert_eq!((found, by.as_str(), text.as_str()), (format, program, message), "{line}");
            assert_eq!(format!("{header}{text}"), line);
        }
        let web = "192.0.2.9 - - [21/Nov/2026:01:30:00 +0100] \"GET / HTTP/1.1\" 401 1";
        assert_eq!(parts(web), (Format::Clf, String::new(), String::new(), web.to_owned()));
    }

    #[test]
    fn a_repeated_message_is_shown_as_one() {
        let (_, _, header, message) = parts("Nov 21 01:30:00 web d[7]: message repeated 3 times: [ no x]");
        assert_eq!((header.as_str(), message.as_str()), ("Nov 21 01:30:00 web d[7]: ", "no x"));
    }

    #[test]
    fn words_of_failure_outweigh_those_of_success() {
        assert_eq!(tone(b"Login UNSUCCESSFUL for bob"), Tone::Failure);
        assert_eq!(tone(b"session opened, then denied"), Tone::Failure);
        assert_eq!(tone(b"Accepted publickey for bob"), Tone::Success);
        assert_eq!(tone(b"Connection closed"), Tone::Unclear);
    }
}
