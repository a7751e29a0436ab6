use super::*;

/// Loads `x.toml` with this text; gives the filters and the problems as they are shown.
fn load(text: &str) -> (Filters, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.toml"), text).unwrap();
    let problems = Problems::default();
    let filters = Filters::load(&[dir.path().to_owned()], &problems);
    filters.verify(&problems);
    let folder = format!("{}/", dir.path().display());
    let shown = problems.into_sorted().iter().map(|problem| problem.to_string().replacen(&folder, "", 1)).collect();
    (filters, shown)
}

const SOUND: &str = r#"description = "d"
format = "syslog"
programs = ["d"]
ports = ["22/tcp", "53/udp"]
[[pattern]]
name = "no"
regex = '^no (?<user>.*) from <ADDR>$'
[[pattern.hit]]
line = "Nov 21 01:30:00 h d: no a from 192.0.2.9"
addr = "192.0.2.9"
user = "a"
time = "2026-11-21T01:30:00Z"
[[miss]]
line = "Nov 21 01:30:00 h d: yes a from 192.0.2.9"
"#;

#[test]
fn every_shipped_filter_proves_itself() {
    let problems = Problems::default();
    let filters = Filters::load(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("filters")], &problems);
    filters.verify(&problems);
    let found: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for name in ["sshd", "ping-drop", "syn-flood", "netfilter"] {
        assert!(filters.get(name).is_some(), "{name}");
    }
}

#[test]
fn a_sound_filter_has_no_problems() {
    let (filters, problems) = load(SOUND);
    assert_eq!(problems, [""; 0]);
    let filter = filters.get("x").unwrap();
    assert_eq!((filter.evidence, filter.mode, filter.ports.len()), (Evidence::Proven, Mode::Normal, 2));
    assert!(!filter.needs_prefix());
}

#[test]
fn all_problems_of_a_file_are_shown_at_once_with_their_places() {
    let text = SOUND.replace("ports", "port").replace("^no", "no").replace("\"syslog\"", "\"sislog\"");
    let (_, problems) = load(&text);
    let starts = ["x.toml:2:10: \"sislog\" is not a format", "x.toml:4:1: unknown key 'port'"];
    assert_eq!(problems.len(), 2, "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
    let (_, problems) = load(&SOUND.replace("'^no", "'no").replace("22/tcp", "tcp"));
    assert!(problems[0].starts_with("x.toml:4:10: not a port"), "{problems:#?}");
    assert!(problems[1].starts_with("x.toml:7:9: a pattern must begin with '^'"), "{problems:#?}");
}

#[test]
fn samples_that_do_not_do_what_they_should_are_named() {
    for (from, to, problem) in [
        ("addr = \"192.0.2.9\"", "addr = \"192.0.2.8\"", "x.toml:8:1: this line accuses 192.0.2.9"),
        ("user = \"a\"", "user = \"b\"", "x.toml:8:1: this line names the user \"a\""),
        ("T01:30:00Z", "T01:30:01Z", "x.toml:8:1: this line has the time 2026-11-21T01:30:00Z"),
        ("no a from", "nope from", "x.toml:8:1: this line does not hit"),
        ("yes a from", "no a from", "x.toml:13:1: this line must not hit, but accuses 192.0.2.9"),
        (
            "[[miss]]\nline = \"Nov 21 01:30:00 h d: yes a from 192.0.2.9\"",
            "",
            "x.toml: the filter has no line that must",
        ),
    ] {
        let (_, problems) = load(&SOUND.replace(from, to));
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with(problem), "{}", problems[0]);
    }
}

#[test]
fn a_pattern_without_a_sample_and_a_second_one_of_the_same_name_are_problems() {
    let second = SOUND.replace("[[miss]]", "[[pattern]]\nname = \"no\"\nregex = '^never <ADDR>$'\n[[miss]]");
    let (_, problems) = load(&second);
    assert!(problems.iter().any(|p| p.starts_with("x.toml:13:1: a second pattern is called 'no'")), "{problems:#?}");
    assert!(problems.iter().any(|p| p.starts_with("x.toml:13:1: the pattern 'no' has no sample")), "{problems:#?}");
}

#[test]
fn senders_of_logged_packets_are_never_proven() {
    let kernel = "description = \"d\"\nformat = \"kernel\"\nevidence = \"proven\"\n[[pattern]]\nname = \"p\"\n";
    let (filters, problems) = load(kernel);
    assert!(filters.get("x").is_none());
    assert!(problems[0].starts_with("x.toml:3:12: the senders of logged packets are never proven"), "{problems:#?}");
}

#[test]
fn a_jail_can_name_the_prefix_of_a_filter_that_has_none() {
    let (filters, _) =
        load("description = \"d\"\nformat = \"kernel\"\n[[pattern]]\nname = \"p\"\ndpt = [22, \"80-90\"]\n");
    let filter = filters.get("x").unwrap();
    assert!(filter.needs_prefix());
    let named = filter.with_prefixes(&["SSH: ".to_owned()]);
    assert!(!named.needs_prefix());
    assert_eq!(named.patterns[0].rule.literals(), [b"SSH".to_vec()]);
}

#[test]
fn later_folders_win_by_file_name_and_only_all_missing_is_a_problem() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(first.path().join("x.toml"), SOUND).unwrap();
    std::fs::write(second.path().join("x.toml"), SOUND.replace("\"d\"\nformat", "\"other\"\nformat")).unwrap();
    std::fs::write(second.path().join("notes.txt"), "not a filter").unwrap();
    let problems = Problems::default();
    let dirs = [first.path().to_owned(), second.path().to_owned(), PathBuf::from("/nonexistent/filters")];
    let filters = Filters::load(&dirs, &problems);
    assert_eq!(filters.get("x").unwrap().description, "other");
    assert_eq!(filters.iter().count(), 1);
    assert!(!problems.has_errors());
    Filters::load(&dirs[2..], &problems);
    assert!(problems.has_errors());
}

#[test]
fn every_format_loads_and_matches() {
    let clf = r#"
description = "d"
format = "clf"
[[pattern]]
name = "denied"
regex = '^<ADDR> \S+ (?<user>\S+) \[[^\]]*\] "[^"]*" 401 .*$'
[[pattern.hit]]
line = '192.0.2.9 - bob [21/Nov/2026:01:30:00 +0100] "GET / HTTP/1.1" 401 9 "-" "-"'
addr = "192.0.2.9"
user = "bob"
time = "2026-11-21T00:30:00Z"
[[miss]]
line = '192.0.2.9 - bob [21/Nov/2026:01:30:00 +0100] "GET / HTTP/1.1" 200 401 "-" "-"'
"#;
    let json = r#"
description = "d"
format = "json"
[[pattern]]
name = "denied"
addr = "request.remote_ip"
user = "user"
when = { status = [401, 403], ok = false }
[[pattern.hit]]
line = '{"ts":1795224600.5,"status":403,"ok":false,"user":"bob","request":{"remote_ip":"192.0.2.9"}}'
addr = "192.0.2.9"
user = "bob"
time = "2026-11-21T01:30:00.5Z"
[[pattern]]
name = "text"
field = "msg"
regex = '^denied <ADDR>$'
[[pattern.hit]]
line = '2026-11-21T01:30:00Z {"msg":"denied 2001:db8::1"}'
addr = "2001:db8::1"
time = "2026-11-21T01:30:00Z"
[[miss]]
line = 'x {"ts":1795224600.5,"status":403,"ok":false,"request":{"remote_ip":"192.0.2.9"}}'
[[miss]]
line = '{"ts":1795224600.5,"status":403,"ok":true,"request":{"remote_ip":"192.0.2.9"}}'
"#;
    let plain = r#"
description = "d"
format = "plain"
[[pattern]]
name = "denied"
regex = '^denied <ADDR> at (?<time>.*)$'
[[pattern.hit]]
line = 'denied 192.0.2.9 at 2026-11-21 01:30:00'
addr = "192.0.2.9"
time = "2026-11-21T01:30:00Z"
[[pattern.hit]]
line = '[2026-11-21 01:30:00] denied 192.0.2.9 at noon'
addr = "192.0.2.9"
time = "2026-11-21T01:30:00Z"
[[miss]]
line = 'not denied 192.0.2.9 at noon'
"#;
    for text in [clf, json, plain] {
        let (filters, problems) = load(text);
        assert_eq!(problems, [""; 0]);
        assert!(filters.get("x").is_some());
    }
}

/// A filter whose address may come after the accusation, under a queue id.
const JOINED: &str = r#"description = "d"
format = "syslog"
programs = ["d"]
[[join]]
name = "relay"
regex = '^(?<id>[A-Z0-9]+): from=[^,]*, relay=\S* \[<ADDR>\]$'
seconds = 10
late = true
[[pattern]]
name = "unknown"
join = "relay"
regex = '^(?<id>[A-Z0-9]+): <[^>]*>\.\.\. User unknown$'
[[pattern.hit]]
lines = [
    "Nov 21 01:30:00 h d[1]: AB1: <a@example.org>... User unknown",
    "Nov 21 01:30:01 h d[1]: AB1: from=<b@example.org>, relay=x [192.0.2.9]",
]
addr = "192.0.2.9"
[[miss]]
lines = [
    "Nov 21 01:30:00 h d[1]: AB1: <a@example.org>... User unknown",
    "Nov 21 01:30:01 h d[1]: AB2: from=<b@example.org>, relay=x [192.0.2.9]",
    "Nov 21 01:30:11 h d[1]: AB1: from=<b@example.org>, relay=x [192.0.2.9]",
]
"#;

#[test]
fn an_address_that_comes_later_is_joined_by_its_id() {
    assert_eq!(load(JOINED).1, [""; 0]);
    let (_, problems) = load(&JOINED.replace("late = true\n", ""));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("this line does not hit"), "{problems:#?}");
}

#[test]
fn joins_that_cannot_work_are_named() {
    for (from, to, reason) in [
        ("join = \"relay\"", "join = \"other\"", "there is no such join"),
        ("'^(?<id>[A-Z0-9]+): <", "'^[A-Z0-9]+: <", "do not agree on what joins them"),
        (r"User unknown$'", r"User unknown <ADDR>$'", "a pattern with 'join' has no <ADDR>"),
        (r" \[<ADDR>\]$'", "$'", "the pattern does not say where the offender stands"),
        ("\"syslog\"", "\"json\"", "only filters on text join lines"),
    ] {
        let (_, problems) = load(&JOINED.replacen(from, to, 1));
        assert!(problems.iter().any(|problem| problem.contains(reason)), "{reason}: {problems:#?}");
    }
}

/// [`SOUND`] with a second pattern, which has these lines beside its name.
fn with_pattern(lines: &str) -> Vec<String> {
    let sample = "[[pattern.hit]]\nline = \"Nov 21 01:30:00 h d: in as a from 192.0.2.9\"\naddr = \"192.0.2.9\"\n";
    let pattern = format!("[[pattern]]\nname = \"in\"\n{lines}\n{sample}[[miss]]");
    load(&SOUND.replace("[[miss]]", &pattern)).1
}

#[test]
fn a_line_forgives_only_for_a_user_whom_it_names_for_certain() {
    assert_eq!(with_pattern("regex = '^in as (?<user>[^ ]+) from <ADDR>$'\nforgive = true"), [""; 0]);
    for lines in [
        "regex = '^in as \\S+ from <ADDR>$'\nforgive = true",
        "regex = '^in .*as (?<user>\\S+) from <ADDR>$'\nforgive = true",
    ] {
        let problems = with_pattern(lines);
        assert!(problems[0].contains("does not say for certain who logged in"), "{problems:?}");
    }
    let problems =
        with_pattern("regex = '^in as (?<user>[^ ]+) from <ADDR>$'\nforgive = true\nevidence = \"forgeable\"");
    assert!(problems[0].contains("what may be forged forgives nothing"), "{problems:?}");
}

#[test]
fn what_forgives_has_no_weight_and_a_weight_has_bounds() {
    let regex = "regex = '^in as (?<user>[^ ]+) from <ADDR>$'";
    for (lines, part) in [
        ("forgive = true\nweight = 2", "has no weight"),
        ("forgive = false", "says nothing of it"),
        ("weight = 0", "1 to 100"),
        ("weight = 101", "1 to 100"),
    ] {
        let problems = with_pattern(&format!("{regex}\n{lines}"));
        assert!(problems[0].contains(part), "{lines}: {problems:?}");
    }
    assert_eq!(with_pattern(&format!("{regex}\nweight = 100")), [""; 0]);
}

#[test]
fn a_miss_must_not_forgive_either() {
    let text = SOUND.replace(
        "[[miss]]",
        "[[pattern]]\nname = \"yes\"\nregex = '^yes (?<user>\\S+) from <ADDR>$'\nforgive = true\n[[miss]]",
    );
    let (_, problems) = load(&text);
    assert!(problems.iter().any(|problem| problem.contains("must not match, but forgives 192.0.2.9")), "{problems:?}");
}

#[test]
fn a_filter_has_the_least_evidence_of_its_patterns() {
    let (filters, problems) = load(&SOUND.replace("name = \"no\"", "name = \"no\"\nevidence = \"forgeable\""));
    assert_eq!(problems, [""; 0]);
    assert_eq!(filters.get("x").unwrap().evidence, Evidence::Forgeable);
}
