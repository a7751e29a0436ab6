//! `banctl allow`.

use serde_json::json;

use super::{Daemon, done, lines, refused, run};

#[test]
fn what_is_allowed_by_hand_is_sent_one_by_one_and_a_refusal_stops_no_other() {
    let daemon = Daemon::answering([refused("too many"), done("allowed 2001:db8::/64 for 1h")]);
    let arguments = ["allow", "add", "192.0.2.9", "2001:db8::/64", "--for", "1h", "--comment", "the office", "--json"];
    let (run, requests) = daemon.run(&arguments);
    assert_eq!(run.code, Some(1));
    assert_eq!(
        requests[0],
        json!({"version": 1, "do": "allow", "prefix": "192.0.2.9/32", "seconds": 3600, "comment": "the office"})
    );
    assert_eq!(requests[1]["prefix"], "2001:db8::/64");
    assert_eq!(run.json()[0]["result"], "refused");
    assert_eq!(run.json()[1]["result"], "done");
    assert_eq!(run.stderr, "refused: too many\nallowed 2001:db8::/64 for 1h\n");
}

#[test]
fn what_is_allowed_for_ever_has_no_end() {
    let (run, requests) = Daemon::answering([done("allowed 192.0.2.9 for ever")]).run(&["allow", "add", "192.0.2.9"]);
    assert_eq!((run.code, &requests[0]["seconds"]), (Some(0), &json!(null)));
    let (run, requests) = Daemon::answering([done("gone")]).run(&["allow", "remove", "192.0.2.9"]);
    assert_eq!(run.code, Some(0));
    assert_eq!(requests[0], json!({"version": 1, "do": "disallow", "prefix": "192.0.2.9/32"}));
}

#[test]
fn the_list_says_who_allowed_what_and_shows_no_control_character() {
    let answer = lines(&[
        json!({"reply": "allowed", "prefix": "192.0.2.9/32", "origin": "hand", "kind": null,
               "since": "2026-11-21T01:30:00Z", "until": null, "by": 1000, "comment": "the \u{1b}[31moffice"}),
        json!({"reply": "allowed", "prefix": "198.51.100.1/32", "origin": "protected", "kind": "gateways"}),
        json!({"reply": "allowed", "prefix": "127.0.0.0/8", "origin": "config", "kind": null}),
    ]) + &done("");
    let (run, _) = Daemon::answering([answer.clone()]).run(&["allow", "list"]);
    let table: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table[0], ["allowed", "origin", "until", "by", "comment"]);
    assert_eq!(table[1], ["127.0.0.0/8", "allow.networks"]);
    assert_eq!(table[2], ["198.51.100.1", "gateways"]);
    assert_eq!(table[3], ["192.0.2.9", "by", "hand", "forever", "uid", "1000", "the", "\\u{1b}[31moffice"]);
    let (run, _) = Daemon::answering([answer]).run(&["allow", "list", "--json"]);
    assert_eq!(
        run.json()[2],
        json!({"prefix": "192.0.2.9/32", "origin": "hand", "kind": null, "since": "2026-11-21T01:30:00Z",
               "until": null, "by": 1000, "comment": "the \u{1b}[31moffice"})
    );
    assert_eq!(run.json()[0]["since"], json!(null));
}

#[test]
fn without_a_daemon_nothing_is_allowed_and_the_exit_code_says_so() {
    let run = run(&["allow", "list", "--socket", "/nowhere/socket"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(69), ""));
}
