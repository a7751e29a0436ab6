use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::file::{Filters, Mode};
use super::super::grams;
use super::*;
use crate::config::problem::Problems;
use crate::filters::{Evidence, literals};
use crate::time::Timestamp;

fn filters(names: &[&str], mode: Mode) -> Vec<Arc<Filter>> {
    let problems = Problems::default();
    let all = Filters::load(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("filters")], &problems);
    names.iter().map(|name| all.get(name).unwrap().with_mode(mode)).collect()
}

fn clock() -> Clock {
    Clock { now: "2026-11-21T12:00:00Z".parse().unwrap(), zone: jiff::tz::TimeZone::UTC }
}

fn scan(matcher: &Matcher, block: &[u8]) -> (Vec<Hit>, Scanned) {
    let mut hits = Vec::new();
    let scanned = matcher.scan(block, &clock(), &mut Memory::default(), &mut hits);
    (hits, scanned)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_block_gives_its_hits_in_order_with_lines_and_latest_time() {
    let matcher = Matcher::new(filters(&["ping-drop", "sshd"], Mode::Normal));
    let block = b"Nov 21 01:30:00 h sshd[1]: Failed password for root from 192.0.2.1 port 1 ssh2\n\
        Nov 21 01:30:01 h cron[1]: nothing\n\
        Nov 21 01:30:02 h kernel: [1.2] PING-DROP:IN=eth0 OUT= SRC=192.0.2.2 PROTO=ICMP TYPE=8 CODE=0\r\n\
        Nov 21 01:30:03 h sshd[1]: message repeated 2 times: [ Invalid user a from 192.0.2.3 port 1]\n\
        Nov 21 01:30:04 h cron[1]: nothing";
    let (hits, scanned) = scan(&matcher, block);
    let told: Vec<_> = hits.iter().map(|hit| (hit.address, hit.filter, hit.repeat, hit.evidence)).collect();
    let expected = [
        (address("192.0.2.1"), 1, 1, Evidence::Proven),
        (address("192.0.2.2"), 0, 1, Evidence::Forgeable),
        (address("192.0.2.3"), 1, 2, Evidence::Proven),
    ];
    assert_eq!(told, expected);
    assert_eq!(hits[2].time.to_string(), "2026-11-21T01:30:03Z");
    assert_eq!(scanned.lines, 5);
    assert_eq!(scanned.latest.unwrap().to_string(), "2026-11-21T01:30:04Z");
}

#[test]
fn a_log_that_says_that_lines_are_missing_is_believed_only_where_the_limiter_says_it() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let block = b"Nov 21 01:30:00 h systemd-journald[99]: Suppressed 12 messages from ssh.service\n\
        Nov 21 01:30:01 h kernel: [12.345678] net_ratelimit: 30 callbacks suppressed\n\
        Nov 21 01:30:02 h sshd[1]: Invalid user x: 99 callbacks suppressed from 192.0.2.1 port 1\n\
        Nov 21 01:30:03 h sshd[1]: Suppressed 99 messages from ssh.service\n\
        Nov 21 01:30:04 h rsyslogd: imjournal: begin to drop messages due to rate-limiting\n";
    let (mut memory, mut hits) = (Memory::default(), Vec::new());
    matcher.scan(block, &clock(), &mut memory, &mut hits);
    let suppressed = memory.take_suppressed().unwrap();
    assert_eq!((suppressed.lines, suppressed.by), (42, crate::filters::Limiter::Rsyslog));
    assert_eq!(suppressed.time.to_string(), "2026-11-21T01:30:04Z");
    assert_eq!(memory.take_suppressed(), None);
    let message = b"Suppressed 7 messages from ssh.service";
    let record = Record { time: Timestamp::EPOCH, program: b"systemd-journald", process: b"", message };
    matcher.record(&record, &mut memory, &mut hits);
    assert_eq!(memory.take_suppressed().map(|suppressed| suppressed.lines), Some(7));
}

#[test]
fn a_hit_keeps_the_beginning_of_its_line() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let line = "Nov 21 01:30:00 h sshd[1]: Failed password for root from 192.0.2.1 port 1 ssh2";
    let long = format!("Nov 21 01:30:00 h sshd[1]: Invalid user {} from 192.0.2.2 port 1", "x".repeat(400));
    let (hits, _) = scan(&matcher, format!("{line}\r\n{long}\n").as_bytes());
    assert_eq!(&*hits[0].line, line.as_bytes());
    assert_eq!((hits.len(), &*hits[1].line), (2, &long.as_bytes()[..KEPT_OF_LINE]));
}

#[test]
fn patterns_beyond_the_mode_are_not_used() {
    let line = b"Nov 21 01:30:00 h sshd[1]: Connection closed by 192.0.2.1 port 1 [preauth]\n";
    assert_eq!(scan(&Matcher::new(filters(&["sshd"], Mode::Normal)), line).0.len(), 0);
    assert_eq!(scan(&Matcher::new(filters(&["sshd"], Mode::Aggressive)), line).0.len(), 1);
}

#[test]
fn names_are_shown_and_never_hits() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let line = b"Nov 21 01:30:00 h sshd[1]: Invalid user a from host.example.org port 1";
    let mut findings = Vec::new();
    matcher.examine(line, &clock(), &mut Memory::default(), &mut findings);
    assert_eq!(findings[0].offender, Offender::Name("host.example.org".to_owned()));
    assert!(scan(&matcher, line).0.is_empty());
}

#[test]
fn a_record_is_matched_by_its_program() {
    let matcher = Matcher::new(filters(&["sshd", "syn-flood"], Mode::Normal));
    let hits_of = |program: &str, message: &str| {
        let time = Timestamp::from_secs(7);
        let mut hits = Vec::new();
        let (program, message) = (program.as_bytes(), message.as_bytes());
        matcher.record(&Record { time, program, process: b"1", message }, &mut Memory::default(), &mut hits);
        hits
    };
    let failed = "Failed password for root from 192.0.2.1 port 1 ssh2";
    assert_eq!(hits_of("sshd-session", failed)[0].time, Timestamp::from_secs(7));
    assert!(hits_of("bob", failed).is_empty());
    let syn = "syn_flood IN=eth0 OUT= SRC=192.0.2.1 DST=198.51.100.1 PROTO=TCP SPT=1 DPT=2 RES=0x00 SYN URGP=0";
    assert_eq!(hits_of("kernel", syn)[0].filter, 1);
    assert!(hits_of("bob", syn).is_empty());
}

#[test]
fn a_line_without_a_stamp_counts_now() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let (hits, scanned) = scan(&matcher, b"sshd[1]: Invalid user a from 192.0.2.1 port 1\n");
    assert_eq!((hits[0].time, scanned.latest), (clock().now, None));
}

#[test]
fn the_line_before_counts_as_often_as_the_syslog_daemon_says() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let hit = "Nov 21 01:30:00 web sshd[1]: Invalid user a from 192.0.2.1 port 1\n";
    let again = "Nov 21 01:30:09 web last message repeated 3 times\n";
    let counted = |blocks: &[&[&str]]| -> Vec<u32> {
        let (mut memory, mut hits) = (Memory::default(), Vec::new());
        for block in blocks {
            matcher.scan(block.concat().as_bytes(), &clock(), &mut memory, &mut hits);
        }
        hits.into_iter().map(|hit| hit.repeat).collect()
    };
    let other = "Nov 21 01:30:00 web cron[1]: nothing\n";
    let another = "Nov 21 01:30:09 db last message repeated 3 times\n";
    assert_eq!(counted(&[&[hit, again, again]]), [1, 3]);
    assert_eq!(counted(&[&[other, hit], &[again, other]]), [1, 3]);
    assert_eq!(counted(&[&[hit, other, again]]), [1]);
    assert_eq!(counted(&[&[hit, other], &[again]]), [1]);
    assert_eq!(counted(&[&[hit], &[other, again]]), [1]);
    assert_eq!(counted(&[&[hit, another], &[another, again]]), [1]);
    let (mut memory, mut hits) = (Memory::default(), Vec::new());
    matcher.scan([hit, again].concat().as_bytes(), &clock(), &mut memory, &mut hits);
    assert_eq!(hits[1].time.to_string(), "2026-11-21T01:30:09Z");
}

#[test]
fn nothing_in_gives_nothing_out() {
    let matcher = Matcher::new(Vec::new());
    assert_eq!(scan(&matcher, b""), (Vec::new(), Scanned::default()));
    assert_eq!(scan(&matcher, b"\n\n").1.lines, 2);
    assert_eq!(matcher.line_time(b"", &clock()), None);
}

#[test]
fn a_line_without_an_address_accuses_the_one_that_its_connection_was_announced_with() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Aggressive));
    let announced = |pid: u32, host: &str, address: &str| {
        format!("Nov 21 01:30:00 {host} sshd[{pid}]: Connection from {address} port 1 on 198.51.100.1 port 22\n")
    };
    let closed = |pid: u32, host: &str| {
        format!(
            "Nov 21 01:30:01 {host} sshd[{pid}]: error: kex_exchange_identification: read: Connection reset by peer\n"
        )
    };
    let mut memory = Memory::default();
    let mut accused = |line: String| {
        let mut hits = Vec::new();
        matcher.scan(line.as_bytes(), &clock(), &mut memory, &mut hits);
        hits.into_iter().map(|hit| hit.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(accused(announced(7, "h", "192.0.2.1") + &announced(8, "h", "192.0.2.2")), [""; 0]);
    assert_eq!(accused(closed(7, "h")), ["192.0.2.1"]);
    assert_eq!(accused(closed(7, "other") + &closed(9, "h")), [""; 0]);
    assert_eq!(accused(announced(7, "h", "192.0.2.3") + &closed(7, "h") + &closed(8, "h")), ["192.0.2.3", "192.0.2.2"]);
}

#[test]
fn records_are_joined_by_their_process_id() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Aggressive));
    let mut memory = Memory::default();
    let mut accused = |process: &str, message: &str| {
        let (time, process, message) = (clock().now, process.as_bytes(), message.as_bytes());
        let mut hits = Vec::new();
        matcher.record(&Record { time, program: b"sshd", process, message }, &mut memory, &mut hits);
        hits.len()
    };
    let closed = "error: kex_exchange_identification: Connection closed by remote host";
    assert_eq!(accused("7", "Connection from 192.0.2.1 port 1 on 198.51.100.1 port 22"), 0);
    assert_eq!(accused("8", closed), 0);
    assert_eq!(accused("", closed), 0);
    assert_eq!(accused("7", closed), 1);
}

#[test]
fn a_line_is_found_in_whatever_was_put_around_it() {
    let matcher = Matcher::new(filters(&["sshd"], Mode::Normal));
    let message = "sshd[1]: Invalid user a from 192.0.2.1 port 1";
    for line in [
        format!("{{\"log\":\"{message}\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-21T01:30:00.1Z\"}}"),
        format!("2026-11-21T01:30:00.1Z stderr F {message}"),
        format!("ssh-1  | {message}"),
        "\u{1b}[36mssh  |\u{1b}[0m sshd[1]: Inva\u{1b}[1mlid user\u{1b}[m a from 192.0.2.1 port 1".to_owned(),
        format!("Nov 21 01:30:00 <auth.info> web {message}"),
        "Nov 21 01:30:00 web sshd[1] 2026-11-21 01:30:00,1 Invalid user a from 192.0.2.1 port 1".to_owned(),
    ] {
        let (hits, _) = scan(&matcher, line.as_bytes());
        assert_eq!(hits.len(), 1, "{line}");
        assert_eq!(matcher.line_time(line.as_bytes(), &clock()).is_some(), !line.contains("  |"), "{line}");
    }
    let torn = format!("{{\"log\":\"{message}\",\"stream\":\"stderr\",\"time\":\"2026-11-21T01:30:00Z\"}}");
    assert_eq!(scan(&matcher, torn.as_bytes()).0.len(), 0);
}

/// Pieces of which lines are made: true ones, attackers', and rubbish.
const PIECES: [&str; 33] = [
    "Nov 21 01:30:00 h sshd[1]: ",
    "2026-11-21T01:30:00.123456+01:00 h kernel: [  1.5] ",
    "<38>1 2026-11-21T01:30:00Z h sshd 1 - [a b=\"]\"] ",
    "Failed password for ",
    "invalid user ",
    "Invalid user ",
    " from ",
    "192.0.2.1",
    "2001:db8::1",
    "host.example.org",
    " port 22 ssh2",
    " port 22",
    "PING-DROP:IN=eth0 OUT= SRC=",
    " PROTO=ICMP TYPE=8",
    "syn_flood IN=eth0 OUT= SRC=",
    " PROTO=TCP SPT=1 DPT=2 SYN ",
    "message repeated 3 times: [ ",
    "]",
    "\r",
    "\0\u{b}\u{2028}",
    "Connection closed by authenticating user ",
    " [preauth]",
    "[",
    "{\"a\":",
    "{\"log\":\"",
    "\\n\",\"stream\":\"stdout\"}",
    "\",\"stream\":\"stdout\"}",
    "2026-11-21T01:30:00Z stdout P ",
    "2026-11-21T01:30:00Z stdout F ",
    "\x1b[1m",
    "web-1  | ",
    "Connection from 192.0.2.7 port 1 on 192.0.2.8 port 22",
    "error: kex_exchange_identification: Connection closed by remote host",
];

/// The same filters, once as they are, once without the search for texts that the patterns require.
static BOTH: LazyLock<(Matcher, Matcher)> = LazyLock::new(|| {
    let names = ["sshd", "ping-drop", "syn-flood", "netfilter", "portsentry"];
    let build = || Matcher::new(filters(&names, Mode::Aggressive));
    let plodding = build();
    let all = required(&plodding.filters).map(|(owner, _)| owner).collect();
    (build(), Matcher { texts: None, always: all, ..plodding })
});

fn log() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        4 => Just(b"\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_block_gives_what_its_lines_give_one_by_one(block in log()) {
        let (matcher, plodding) = &*BOTH;
        let (hits, scanned) = scan(matcher, &block);
        let (mut one_by_one, mut texts) = (Vec::new(), Excerpts::of(block.len()));
        let (mut lines, mut memory) = (0, Memory::default());
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            let mut findings = Vec::new();
            plodding.examine(line, &clock(), &mut memory, &mut findings);
            one_by_one.extend(findings.into_iter().filter_map(|finding| hit(&finding, line, &mut texts)));
            lines += 1;
        }
        texts.share(one_by_one.iter_mut().map(|hit| &mut hit.line));
        prop_assert_eq!(hits, one_by_one);
        prop_assert_eq!(scanned.lines, lines);
    }

    #[test]
    fn random_bytes_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), digits in "[0-9a-f:.%\\[\\]TZ+ /-]{0,40}") {
        let matcher = &BOTH.0;
        for text in [&bytes[..], digits.as_bytes()] {
            scan(matcher, text);
            matcher.line_time(text, &clock());
            let record = Record { time: clock().now, program: b"kernel", process: b"", message: text };
            matcher.record(&record, &mut Memory::default(), &mut Vec::new());
            for start in 0..=text.len() {
                let end = super::super::address::offender_at(text, start).map_or(start, |found| found.end);
                prop_assert!(start <= end && end <= text.len());
            }
            if let Some((stamp, length)) = timestamp::leading(text) {
                prop_assert!(length <= text.len());
                prop_assert!(stamp.resolve(&clock()).is_none_or(|time| time <= clock().now));
            }
        }
    }
}

#[test]
fn every_shipped_pattern_requires_texts_that_are_found_fast_and_seldom() {
    let problems = Problems::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let filters: Vec<_> = Filters::load(&[folder], &problems).iter().cloned().collect();
    for (owner, texts) in required(&filters) {
        let name = &filters[usize::from(owner.filter)].name;
        let short = texts.iter().any(|text| text.len() < grams::SHORTEST);
        assert!(!short && literals::score(&texts) >= 5, "{name}, {:?}: {texts:?}", owner.part);
    }
}
