//! `banctl why` and `banctl list --counters`.

use serde_json::{Value, json};

use super::{Daemon, at, ban, done, lines, run};

fn account() -> Value {
    let mut standing = ban("192.0.2.9/32", "sshd", &Value::Null);
    standing.as_object_mut().unwrap().remove("reply");
    json!({
        "reply": "why", "prefix": "192.0.2.9/32", "bans": [standing], "allowed": null,
        "decisions": [
            {"time": "2026-11-21T01:29:00Z", "jail": "sshd", "hits": 5, "unit": "hit", "first": "2026-11-21T01:28:00Z", "banned": false,
             "until": null, "count": null, "reason": "forgeable evidence makes 30 bans a minute at most", "times": 1200,
             "last": "2026-11-21T01:29:30Z"},
            {"time": "2026-11-21T01:30:00Z", "jail": "sshd", "hits": 5, "unit": "hit", "first": "2026-11-21T01:29:18Z", "banned": true,
             "until": null, "count": 2, "reason": null, "times": 1, "last": "2026-11-21T01:30:00Z"}],
        "lines": [{"time": "2026-11-21T01:30:00Z", "jail": "sshd", "line": "Failed password for \u{1b}[2Jroot"}],
        "history": [], "kernel": [
            {"prefix": "192.0.2.9/32", "backend": "iptables", "set": "BANWARD-4-all", "ports": [],
             "seconds_left": 605, "packets": 1234, "bytes": 74_040}],
        "gaps": [{"log": "/dev/kmsg", "lost": 3, "suppressed":
                  {"lines": 12, "by": "kernel", "time": "2026-11-21T01:30:00Z"}}],
        "jails": [
            {"jail": "sshd", "prefix": "192.0.2.9/32", "window": "5 hits within 10m", "concerned": true,
             "would_ban": false, "length": null, "count": null, "reason": "it is banned for ever"},
            {"jail": "web", "prefix": "192.0.2.9/32", "window": "3 hits within 1m", "concerned": false,
             "would_ban": true, "length": "10m", "count": 1, "reason": null}],
    })
}

#[test]
fn an_account_goes_from_the_verdict_to_how_it_came_about() {
    let (run, requests) = Daemon::answering([format!("{}\n", account())]).run(&["why", "192.0.2.9"]);
    let expected = "\
192.0.2.9 is banned.

bans
 - 192.0.2.9 by sshd since 2026-11-21T01:30:00Z for ever: 5 hits within 600 s; ban 2 of it

in the kernel
 - 192.0.2.9 in the set BANWARD-4-all of iptables, 10m5s left: dropped 1,234 packets, 74,040 bytes

decisions
 - 2026-11-21T01:29:00Z sshd: 5 hits in 1m; ignored, for forgeable evidence makes 30 bans a minute at most (1,200 times, \
last at 2026-11-21T01:29:30Z)
 - 2026-11-21T01:30:00Z sshd: 5 hits in 42s; banned for ever, ban 2 of it

lines
 - 2026-11-21T01:30:00Z sshd: Failed password for \\u{1b}[2Jroot

the next offence
 - sshd (5 hits within 10m): would not ban 192.0.2.9, for it is banned for ever

lines that nobody read
 - /dev/kmsg: 3 lines lost before they could be read; its counts are too low
 - /dev/kmsg: 12 lines left out by the kernel, last at 2026-11-21T01:30:00Z; its counts are too low
";
    assert_eq!((run.stdout.as_str(), run.stderr.as_str(), run.code), (expected, "", Some(0)));
    assert_eq!(requests, [json!({"version": 1, "do": "why", "prefix": "192.0.2.9/32"})]);
}

#[test]
fn an_account_in_json_is_one_object_with_everything() {
    let mut sent = account();
    let (run, _) = Daemon::answering([format!("{sent}\n")]).run(&["why", "192.0.2.9", "--json"]);
    sent.as_object_mut().unwrap().remove("reply");
    assert_eq!(run.json(), [sent]);
}

#[test]
fn a_ban_that_is_not_in_the_kernel_and_lines_that_are_gone_are_said() {
    let mut sent = account();
    sent["lines"] = json!([]);
    sent["kernel"] = json!([]);
    let (shown, _) = Daemon::answering([format!("{sent}\n")]).run(&["why", "192.0.2.9"]);
    assert!(
        shown.stdout.contains("in the kernel\n - nothing: its packets pass; see 'banctl status'\n"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("\nlines\n - not kept: "), "{}", shown.stdout);
    assert_eq!(run(&["why", "192.0.2.9", "--socket", "/nowhere/socket"]).code, Some(69));
}

#[test]
fn what_each_ban_has_dropped_is_listed_when_asked_for() {
    let with = |prefix: &str, packets: u64| {
        let mut ban = ban(prefix, "sshd", &json!(at(3629)));
        (ban["packets"], ban["bytes"]) = (json!(packets), json!(packets * 60));
        ban
    };
    let answer = lines(&[with("192.0.2.8/32", 12_000), with("192.0.2.9/32", 0)]) + &done("");
    let (run, requests) = Daemon::answering([answer.clone()]).run(&["list", "--counters"]);
    assert_eq!(requests, [json!({"version": 1, "do": "list", "jail": null, "counters": true})]);
    let words: Vec<Vec<&str>> =
        run.stdout.lines().map(|line| line.split_whitespace().rev().take(2).collect()).collect();
    assert_eq!(words, [["bytes", "packets"], ["720,000", "12,000"], ["hit", "never"]]);
    let (run, _) = Daemon::answering([answer]).run(&["list", "--counters", "--json"]);
    assert_eq!((&run.json()[0]["packets"], &run.json()[0]["bytes"]), (&json!(12_000), &json!(720_000)));
    assert_eq!((&run.json()[1]["packets"], &run.json()[1]["bytes"]), (&json!(0), &json!(0)));
}
