use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::config::problem::Severity;
use crate::filters::Evidence;
use crate::ledger::{Ban, Scope};
use crate::ledger::{Ledger, Snapshot};
use crate::time::{Timestamp, Until};

const SAMPLE: &str = "# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z
192.0.2.9
# Ip address block  file
202.54.20.22
202.54.20.1/24
#65.66.36.87
";

/// All prefixes of a file, sorted, each once.
fn nets_of(text: &[u8]) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = parse(text).lines.into_iter().flat_map(|line| line.prefixes).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

fn ban(prefix: &str) -> Ban {
    Ban {
        prefix: prefix.parse().unwrap(),
        jail: "sshd".into(),
        scope: Scope::default(),
        since: Timestamp::from_secs(1_795_224_600),
        until: Until::At(Timestamp::from_secs(1_795_225_200)),
        reason: "".into(),
        count: 1,
        evidence: Evidence::Proven,
    }
}

fn prefixes(text: &str) -> Vec<String> {
    let lines = parse(text.as_bytes()).lines;
    lines.iter().flat_map(|line| line.prefixes.iter().map(ToString::to_string)).collect()
}

/// What is wrong with this text, each as `line: message`.
fn problems(text: &[u8]) -> Vec<String> {
    parse(text).problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
}

/// The file as it is after it was written anew.
fn rewrite(old: &[u8], bans: impl IntoIterator<Item = Ban>) -> Vec<u8> {
    let mut new = Vec::new();
    super::rewrite(&mut &*old, bans, &mut new).unwrap();
    new
}

/// What the ledger hands to the thread that writes.
fn snapshot(ban: Ban) -> Snapshot {
    let mut ledger = Ledger::in_memory();
    ledger.ban(ban);
    ledger.snapshot()
}

#[test]
fn the_sample_of_the_how_to_is_read_with_what_we_know() {
    let parsed = parse(SAMPLE.as_bytes());
    let known = Known {
        jail: "sshd".into(),
        since: Timestamp::from_secs(1_795_224_600),
        until: Until::At(Timestamp::from_secs(1_795_225_200)),
        scope: Scope::default(),
        evidence: Evidence::Proven,
    };
    let line = |number, prefix: &str, known| Line { number, prefixes: vec![prefix.parse().unwrap()], known };
    let lines =
        [line(2, "192.0.2.9/32", Some(known)), line(4, "202.54.20.22/32", None), line(5, "202.54.20.0/24", None)];
    assert_eq!(parsed.lines, lines);
    assert_eq!(problems(SAMPLE.as_bytes()), ["5: '202.54.20.1/24' has host bits set; taken as 202.54.20.0/24"]);
    assert_eq!(parsed.problems[0].severity, Severity::Warning);
}

#[test]
fn what_may_be_forged_is_marked_and_read_back_as_such() {
    let forged = Ban { evidence: Evidence::Forgeable, ..ban("192.0.2.9/32") };
    let text = rewrite(b"", [forged, ban("192.0.2.10/32")]);
    let known: Vec<Evidence> = parse(&text).lines.iter().map(|line| line.known.as_ref().unwrap().evidence).collect();
    assert_eq!(known, [Evidence::Forgeable, Evidence::Proven]);
    assert_eq!(String::from_utf8(text).unwrap().matches("evidence=forgeable").count(), 1);
}

#[test]
fn every_form_of_an_entry_is_read() {
    let text = "\u{feff}192.0.2.1 # why\r\n\r\n192.0.2.2;why\n  192.0.2.3\t192.0.2.4  \n198.51.100.0-198.51.100.2\n\
                2001:db8::/32\n2001:DB8:0::1\n::ffff:192.0.2.5\n::ffff:192.0.2.0/120\n; all\n192.0.2.6";
    let expected = [
        "192.0.2.1/32",
        "192.0.2.2/32",
        "192.0.2.3/32",
        "192.0.2.4/32",
        "198.51.100.0/31",
        "198.51.100.2/32",
        "2001:db8::/32",
        "2001:db8::1/128",
        "192.0.2.5/32",
        "192.0.2.0/24",
        "192.0.2.6/32",
    ];
    assert_eq!(prefixes(text), expected);
    assert_eq!(problems(text.as_bytes()), [""; 0]);
}

#[test]
fn a_bad_line_is_named_and_costs_nothing_else() {
    let text = "192.0.2.1\n192.0.2.256\n192.0.2.1/33 192.0.2.2\n\u{1b}[31mx\n192.0.2.9-192.0.2.1\n1.2.3.4-::1\n192.0.2.3\n\
                1.2.3.4/+8\n1.2.3\n01.2.3.4\n";
    assert_eq!(prefixes(text), ["192.0.2.1/32", "192.0.2.3/32"]);
    assert_eq!(parse(text.as_bytes()).bad_lines, 8);
    let what = |line: usize, word: &str| format!("{line}: '{word}' is not an address, a CIDR or a range of addresses");
    let expected = [
        what(2, "192.0.2.256"),
        what(3, "192.0.2.1/33"),
        what(4, "\\u{1b}[31mx"),
        "5: '192.0.2.9-192.0.2.1' ends before it begins".to_owned(),
        "6: '1.2.3.4-::1' begins in one address family and ends in another".to_owned(),
        what(8, "1.2.3.4/+8"),
        what(9, "1.2.3"),
        what(10, "01.2.3.4"),
    ];
    assert_eq!(problems(text.as_bytes()), expected);
}

#[test]
fn addresses_in_a_text_ban_nobody() {
    let log = "Nov 21 01:30:00 web sshd[4]: Accepted password for root from 198.51.100.7 port 4711 ssh2\n\
               203.0.113.7 - - [20/Nov/2026:01:30:01 +0000] \"GET / HTTP/1.1\" 200 5\n\
               192.0.2.0\t192.0.2.255\t24\n192.0.2.1 - 192.0.2.9\n";
    assert_eq!(prefixes(log), [""; 0]);
    let parsed = parse(log.as_bytes());
    assert_eq!((parsed.problems.len(), parsed.bad_lines), (4, 4));
    assert_eq!(parse("x y z\n".repeat(5000).as_bytes()).bad_lines, 5000);
}

#[test]
fn what_covers_every_address_is_refused_by_line() {
    let text =
        "0.0.0.0/0\n::/0\n1.2.3.4/0\n0.0.0.0-255.255.255.255\n::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n192.0.2.1";
    assert_eq!(prefixes(text), ["192.0.2.1/32"]);
    assert_eq!(problems(text.as_bytes()).len(), 5);
    assert!(problems(text.as_bytes()).iter().all(|problem| problem.ends_with("covers every address and is refused")));
}

#[test]
fn a_file_that_is_no_blocklist_is_read_within_bounds() {
    assert_eq!(problems(&[b'x'; 5000]), ["1: the line is longer than 4096 bytes and is not read"]);
    assert_eq!(problems(&b"\xff\xfe\n".repeat(5000)).len(), 101);
    assert_eq!(
        problems(&b"x x\n".repeat(2000))[100],
        "101: from this line on there are more problems, which are not told apart"
    );
    let long_word = problems(&[b'x'; 4000]);
    assert!(long_word[0].len() < 200, "{long_word:?}");
}

#[test]
fn reading_twice_is_reading_once() {
    let twice = format!("{SAMPLE}{SAMPLE}");
    assert_eq!(nets_of(twice.as_bytes()), nets_of(SAMPLE.as_bytes()));
}

#[test]
fn users_lines_survive_a_rewrite_in_their_order() {
    let new = rewrite(SAMPLE.as_bytes(), [ban("203.0.113.7/32"), ban("2001:db8::/64")]);
    let expected = "# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z
203.0.113.7
# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z
2001:db8::/64
# Ip address block  file
202.54.20.22
202.54.20.1/24
#65.66.36.87
";
    assert_eq!(String::from_utf8(new).unwrap(), expected);
}

#[test]
fn a_rewrite_that_changes_nothing_is_the_same_to_the_byte() {
    assert_eq!(rewrite(SAMPLE.as_bytes(), [ban("192.0.2.9/32")]), SAMPLE.as_bytes());
    let odd = "\u{feff}# mine\r\n\r\n 192.0.2.1 ; x\r\nno end";
    assert_eq!(rewrite(odd.as_bytes(), []), odd.as_bytes());
    let with_ours = rewrite(odd.as_bytes(), [ban("192.0.2.9/32")]);
    assert_eq!(rewrite(&with_ours, [ban("192.0.2.9/32")]), with_ours);
    assert_eq!(rewrite(&with_ours, []), [odd.as_bytes(), b"\n"].concat());
    assert_eq!(
        rewrite("\u{feff}".as_bytes(), [ban("192.0.2.9/32")]).strip_prefix("\u{feff}".as_bytes()).unwrap()[0],
        b'#'
    );
}

#[test]
fn an_entry_that_somebody_changed_is_theirs() {
    let changed = "# banward: jail=sshd since=2026-11-21T01:30:00Z until=2026-11-21T01:40:00Z\n192.0.2.9 # keep\n";
    assert_eq!(rewrite(changed.as_bytes(), []), b"192.0.2.9 # keep\n");
    let comment = "# banward: my own note\n192.0.2.9\n";
    assert_eq!(rewrite(comment.as_bytes(), []), comment.as_bytes());
}

#[test]
fn a_jail_of_any_name_stays_within_its_line() {
    let evil = Ban { jail: "a b\n0.0.0.0/0\u{1b}=".into(), ..ban("192.0.2.9/32") };
    let text = String::from_utf8(rewrite(b"", [evil])).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert_eq!(&*parse(text.as_bytes()).lines[0].known.clone().unwrap().jail, "a_b_0.0.0.0/0__");
}

#[test]
fn of_several_owners_the_one_that_ends_last_is_written() {
    let forever = Ban { jail: "manual".into(), until: Until::Forever, ..ban("192.0.2.9/32") };
    let narrow = Ban { scope: Scope::of_ports(vec!["443/tcp".parse().unwrap()]), ..ban("192.0.2.10/32") };
    let text = String::from_utf8(rewrite(b"", [ban("192.0.2.9/32"), forever, narrow.clone()])).unwrap();
    assert!(text.starts_with("# banward: jail=manual since=2026-11-21T01:30:00Z until=forever\n192.0.2.9\n# banward"));
    assert!(text.ends_with(" ports=443/tcp\n192.0.2.10\n"), "{text}");
    assert_eq!(parse(text.as_bytes()).lines[1].known.clone().unwrap().scope, narrow.scope);
}

#[test]
fn who_is_only_limited_is_not_written_and_the_rest_with_its_scope() {
    let scope = |json: &str| -> Scope { serde_json::from_str(json).unwrap() };
    let limit = scope(r#"{"limit":{"packets":5,"per":"second","burst":5}}"#);
    let limited = Ban { scope: limit, ..ban("192.0.2.9/32") };
    let bound = scope(r#"{"interface":"eth+","direction":"in","target":"PROHIBIT"}"#);
    let bound = Ban { scope: bound, ..ban("192.0.2.10/32") };
    let text = String::from_utf8(rewrite(b"", [limited.clone(), bound.clone()])).unwrap();
    assert!(text.ends_with(" interface=eth+ direction=in target=PROHIBIT\n192.0.2.10\n"), "{text}");
    assert_eq!(prefixes(&text), ["192.0.2.10/32"]);
    assert_eq!(parse(text.as_bytes()).lines[0].known.clone().unwrap().scope, bound.scope);
    assert_eq!(rewrite(text.as_bytes(), [limited]), b"", "and who was written goes");
}

#[test]
fn the_shell_loop_of_the_how_to_gets_exactly_the_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ip.blocked");
    fs::write(&file, rewrite(SAMPLE.as_bytes(), [ban("203.0.113.7/32"), ban("2001:db8::/64")])).unwrap();
    let script = r#"BADIPS=$(grep -Ev "^#" "$1"); for ip in $BADIPS; do echo "$ip"; done"#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(&file).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(words, "203.0.113.7\n2001:db8::/64\n202.54.20.22\n202.54.20.1/24\n");
}

/// Waits for what another thread is about to do.
fn await_that(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it did not come about");
        std::thread::yield_now();
    }
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content.contains(text))
}

#[test]
fn the_writer_writes_the_first_change_at_once_and_the_last_one_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip.blocked");
    fs::write(&path, "# mine\n").unwrap();
    let blocklist = Blocklist::spawn(&path).unwrap();
    blocklist.show(snapshot(ban("192.0.2.1/32")), true);
    await_that(|| holds(&path, "192.0.2.1\n"));
    for number in 2..100 {
        blocklist.show(snapshot(ban(&format!("192.0.2.{number}/32"))), true);
    }
    drop(blocklist);
    assert!(holds(&path, "192.0.2.99\n") && holds(&path, "# mine\n") && !holds(&path, "192.0.2.1\n"));
}

#[test]
fn a_file_that_cannot_be_written_is_named_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/ip.blocked");
    let blocklist = Blocklist::spawn(&path).unwrap();
    blocklist.show(snapshot(ban("192.0.2.1/32")), true);
    await_that(|| blocklist.trouble().is_some());
    let trouble = blocklist.trouble().unwrap();
    assert!(trouble.contains("missing/ip.blocked") && trouble.contains("blocklist.write"), "{trouble}");
    fs::create_dir(folder.path().join("missing")).unwrap();
    await_that(|| blocklist.trouble().is_none());
    assert!(holds(&path, "192.0.2.1\n"));
}

#[test]
fn a_file_that_did_not_change_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip.blocked");
    fs::write(&path, SAMPLE).unwrap();
    let mut watch = Watch::new(&path);
    assert!(watch.changed().is_some());
    watch.take();
    let blocklist = Blocklist::spawn(&path).unwrap();
    blocklist.show(snapshot(ban("192.0.2.9/32")), true);
    drop(blocklist);
    assert_eq!(watch.changed(), None);
}

#[test]
fn a_watched_file_that_is_replaced_or_appears_or_vanishes_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip.blocked");
    let mut watch = Watch::new(&path);
    let mut has_changed = || {
        let changed = watch.changed().is_some();
        assert_eq!(watch.changed().is_some(), changed, "until it is taken");
        watch.take();
        assert_eq!(watch.changed(), None);
        changed
    };
    assert!(has_changed(), "it may have gone while nobody looked");
    assert!(!has_changed());
    fs::write(&path, "one").unwrap();
    assert!(has_changed());
    fs::write(folder.path().join("new"), "two").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(has_changed());
    fs::remove_file(&path).unwrap();
    assert!(has_changed());
}

#[test]
fn a_file_is_as_old_as_its_last_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ip.blocked");
    fs::write(&path, "one").unwrap();
    let mut watch = Watch::new(&path);
    let still = watch.changed().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(watch.changed().unwrap() >= still + Duration::from_millis(20));
    let late = Watch::new(&path).changed().unwrap();
    assert!(late >= Duration::from_millis(10), "also for who has never looked: {late:?}");
    fs::write(&path, "another").unwrap();
    assert!(watch.changed().unwrap() < late);
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 1_u8..=32).prop_map(|(bits, length)| IpNet::new(Ipv4Addr::from(bits).into(), length));
    // Not the mapped IPv4 addresses, which are read as IPv4.
    let v6 = (any::<u128>(), 1_u8..=128)
        .prop_map(|(bits, length)| IpNet::new(Ipv6Addr::from(bits | 1 << 127).into(), length));
    prop_oneof![v4, v6].prop_map(|prefix| prefix.unwrap().trunc())
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        nets in proptest::collection::btree_set(any_prefix(), 0..20),
        users in proptest::collection::vec("[ -~]{0,30}", 0..10),
    ) {
        let bans: Vec<Ban> = nets.iter().map(|net| ban(&net.to_string())).collect();
        let old = users.join("\n");
        let new = rewrite(old.as_bytes(), bans.clone());
        let ours: Vec<IpNet> = parse(&new).lines.into_iter().filter(|line| line.known.is_some())
            .flat_map(|line| line.prefixes).collect();
        prop_assert_eq!(ours, nets.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(&rewrite(&new, bans), &new);
        let without = rewrite(&new, []);
        prop_assert_eq!(without.strip_suffix(b"\n").unwrap_or(&without), old.strip_suffix('\n').unwrap_or(&old).as_bytes());
    }

    #[test]
    fn a_range_is_covered_exactly(first in any::<u32>(), length in 0_u32..100_000, small in any::<bool>()) {
        let last = if small { first.saturating_add(length % 64) } else { first.saturating_add(length) };
        let text = format!("{}-{}", Ipv4Addr::from(first), Ipv4Addr::from(last));
        let mut next = u64::from(first);
        for prefix in nets_of(text.as_bytes()) {
            let IpNet::V4(prefix) = prefix else { panic!("{prefix}") };
            prop_assert_eq!(u64::from(u32::from(prefix.network())), next, "no gap and no overlap");
            next = u64::from(u32::from(prefix.broadcast())) + 1;
        }
        prop_assert_eq!(next, u64::from(last) + 1);
    }

    #[test]
    fn a_range_of_ipv6_is_covered_exactly(first in any::<u128>(), bits in 0_u32..128, odd in any::<u128>()) {
        // Not the mapped IPv4 addresses, and not everything.
        let first = first | 1 << 127;
        let last = first.saturating_add(odd >> bits);
        let text = format!("{}-{}", Ipv6Addr::from(first), Ipv6Addr::from(last));
        let mut next = Some(first);
        for prefix in nets_of(text.as_bytes()) {
            let IpNet::V6(prefix) = prefix else { panic!("{prefix}") };
            prop_assert_eq!(Some(u128::from(prefix.network())), next, "no gap and no overlap");
            next = u128::from(prefix.broadcast()).checked_add(1);
        }
        prop_assert_eq!(next, last.checked_add(1));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let parsed = parse(&text);
        prop_assert!(parsed.lines.iter().all(|line| line.prefixes.iter().all(|net| net.prefix_len() > 0)));
        prop_assert_eq!(rewrite(&text, []).len() <= text.len(), true);
    }

    #[test]
    fn an_address_alone_is_a_whole_prefix(bits in any::<u32>()) {
        let address = IpAddr::from(Ipv4Addr::from(bits));
        prop_assert_eq!(nets_of(address.to_string().as_bytes()), [IpNet::from(address)]);
    }
}
