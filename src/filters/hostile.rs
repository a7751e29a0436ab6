//! Laws of what reads lines and filter files, for fuzzers (see `hostile.rs`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;

use super::file::{Filter, Filters, Format, Mode};
use super::netfilter::{PacketCell, PacketRule};
use super::{Clock, Finding, Matcher, Memory, Offender, address, syslog, timestamp};
use crate::config::problem::Problems;
use crate::time::Timestamp;

/// Longest text of an address; what is longer is none.
const LONGEST_ADDRESS: usize = 51;

fn clock() -> Clock {
    Clock { now: Timestamp::from_secs(1_798_761_600), zone: jiff::tz::TimeZone::UTC }
}

/// All shipped filters with all their patterns, in one matcher.
fn shipped(wanted: impl Fn(&Filter) -> bool) -> Matcher {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let filters = Filters::load(&[folder], &Problems::default());
    Matcher::new(
        filters.iter().filter(|filter| wanted(filter)).map(|filter| filter.with_mode(Mode::Aggressive)).collect(),
    )
}

/// A line, or several, through all filters.
pub(crate) fn line(data: &[u8]) {
    static MATCHER: OnceLock<Matcher> = OnceLock::new();
    accuse_only_whom_they_name(MATCHER.get_or_init(|| shipped(|_| true)), data);
}

/// The same through those on JSON: few lines come so far with all of them.
pub(crate) fn json(data: &[u8]) {
    static MATCHER: OnceLock<Matcher> = OnceLock::new();
    let matcher = MATCHER.get_or_init(|| shipped(|filter| filter.format == Format::Json));
    accuse_only_whom_they_name(matcher, data);
}

fn findings(matcher: &Matcher, data: &[u8]) -> Vec<Finding> {
    let (mut memory, mut findings) = (Memory::default(), Vec::new());
    matcher.examine(data, &clock(), &mut memory, &mut findings);
    findings
}

/// The same as [`findings`], in the smallest blocks that there are.
fn line_by_line(matcher: &Matcher, data: &[u8]) -> Vec<Finding> {
    let (mut memory, mut findings) = (Memory::default(), Vec::new());
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        matcher.examine(line, &clock(), &mut memory, &mut findings);
    }
    findings
}

/// Who is accused stands in the data, no time is later than now, the result is always the same, and lines that are cut
/// accuse nobody whom the whole lines do not name.
fn accuse_only_whom_they_name(matcher: &Matcher, data: &[u8]) {
    let found = findings(matcher, data);
    for finding in &found {
        assert!(finding.time <= clock().now, "a finding from the future");
        assert!(finding.user.as_ref().is_none_or(|user| user.len() <= 64), "a user name without bound");
        assert_named(data, finding);
    }
    assert_eq!(found, findings(matcher, data), "the same lines accuse others the second time");
    assert_eq!(found, line_by_line(matcher, data), "lines by themselves accuse others than a block of them");
    if found.is_empty() {
        return;
    }
    for cut in [data.len() / 2, data.len() * 3 / 4, data.len().saturating_sub(1)] {
        let rest = data[..cut].iter().rposition(|byte| !address::is_address_byte(*byte)).map_or(0, |end| end + 1);
        for finding in findings(matcher, &data[..rest]) {
            assert_named(data, &finding);
        }
    }
}

fn assert_named(data: &[u8], finding: &Finding) {
    if let Offender::Address(address) = finding.offender
        && !is_written_otherwise(data)
    {
        assert!(names(data, address), "{address} stands nowhere in the data");
    }
}

/// With escapes, colours between bytes, or an address as a tuple of numbers.
fn is_written_otherwise(data: &[u8]) -> bool {
    memchr::memchr2(b'\\', b'\x1b', data).is_some()
        || data.windows(2).any(|pair| pair[0] == b'{' && pair[1].is_ascii_digit())
}

/// Whether some piece of the text is this address for the standard library, which knows nothing of ours.
fn names(text: &[u8], wanted: IpAddr) -> bool {
    let parsed = |piece: &str| piece.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == wanted);
    let is = |piece: &[u8]| {
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        parsed(piece) || (piece.contains('.') && piece.contains('0') && parsed(&without_zeros(piece)))
    };
    let runs = text.split(|byte| !address::is_address_byte(*byte)).filter(|run| run.len() > 1);
    let mut pieces = runs.flat_map(|run| {
        (0..run.len()).flat_map(move |start| {
            (start + 2..=run.len().min(start + LONGEST_ADDRESS)).map(move |end| &run[start..end])
        })
    });
    pieces.any(is)
}

/// Without the zeros before numbers of IPv4, which our filters take and the standard library does not.
fn without_zeros(piece: &str) -> String {
    let plain = |number: &'_ str| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    piece.split('.').map(plain).collect::<Vec<String>>().join(".")
}

/// Every part of a header is a part of the line.
pub(crate) fn header(data: &[u8]) {
    let Some(header) = syslog::header(data) else { return };
    for part in [header.host, header.program, header.process, header.message] {
        let start = (part.as_ptr() as usize).checked_sub(data.as_ptr() as usize);
        assert!(part.is_empty() || start.is_some_and(|start| start + part.len() <= data.len()), "not of this line");
    }
    assert!((1..=1000).contains(&header.repeat), "repeated {} times", header.repeat);
    assert!(!header.program.contains(&b' '), "a program with a blank in its name");
    if let Some(stamp) = header.stamp {
        assert!(stamp.resolve(&clock()).is_none_or(|time| time <= clock().now), "a time in the future");
    }
}

/// A stamp ends within the text, is the same without what follows it, and never lies in the future.
pub(crate) fn stamp(data: &[u8]) {
    let _bracketed = timestamp::bracketed_common_log(data);
    let Some((stamp, length)) = timestamp::leading(data) else { return };
    let alone = data.get(..length).expect("a stamp ends within its text");
    assert_eq!(timestamp::leading(alone), Some((stamp, length)), "it depends on what follows");
    for now in [0, 951_782_400, 1_798_761_600, i64::MAX] {
        let clock = Clock { now: Timestamp::from_secs(now), ..clock() };
        assert!(stamp.resolve(&clock).is_none_or(|time| time <= clock.now), "a time in the future");
    }
}

/// The sender of a logged packet is the value of its only `SRC=`.
pub(crate) fn netfilter(data: &[u8]) {
    let message = syslog::header(data).map_or(data, |header| header.message);
    let Some((source, _)) = PacketRule::default().find(message, &PacketCell::default()) else { return };
    assert!(names(message, source), "{source} stands nowhere in the line");
    assert!(message.windows(4).any(|piece| piece == b"SRC="), "a packet without a sender");
}

/// A filter file is taken or refused with an error; one that is taken examines lines.
pub(crate) fn filter_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let problems = Problems::default();
    match Filter::parse("x", text.to_owned(), &problems) {
        Some(filter) if !problems.has_errors() => {
            let matcher = Matcher::new(vec![filter.with_mode(Mode::Aggressive)]);
            text.lines().take(50).for_each(|line| accuse_only_whom_they_name(&matcher, line.as_bytes()));
        }
        Some(_) => {}
        None => assert!(problems.has_errors(), "refused without a word"),
    }
    for problem in problems.into_sorted() {
        let shown = problem.to_string();
        assert!(shown.starts_with("x.toml:"), "{shown:?} does not say where");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?} is not fit for a terminal");
    }
}
