//! `banctl replay --diff`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Run, banctl};

/// A folder with two configurations and a log; the second one bans at the third hit, for longer, and allows a network.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let filters = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let config = |allowed: &str, hitcount: u32, seconds: u32, time: &str| {
        format!(
            "[daemon]\nfilters = [\"{}\"]\n[allow]\nnetworks = [{allowed}]\n[jail.sshd]\nfilter = \"sshd\"\n\
             window = {{ hitcount = {hitcount}, seconds = {seconds} }}\nban = {{ time = \"{time}\" }}\n",
            filters.display()
        )
    };
    fs::write(path("one.toml"), config("", 5, 600, "10m")).unwrap();
    fs::write(path("other.toml"), config("\"198.51.100.0/24\"", 3, 600, "40m")).unwrap();
    let mut log = String::new();
    let times = [("192.0.2.9", 5), ("198.51.100.7", 5), ("203.0.113.4", 3), ("203.0.113.5", 2)];
    for round in 0..5 {
        for (address, _) in times.iter().filter(|(_, times)| round < *times) {
            let failed = format!("sshd[411]: Failed password for root from {address} port 4711 ssh2");
            writeln!(log, "2026-11-01T01:30:{round}0+00:00 web {failed}").unwrap();
        }
    }
    fs::write(path("auth.log"), log).unwrap();
    folder
}

fn diff(folder: &TempDir, one: &str, other: &str, more: &[&str]) -> Run {
    let mut command = banctl(&["replay", "--config", one, "--diff", other, "auth.log"]);
    Run::of(command.args(more).current_dir(folder.path()).output().unwrap())
}

#[test]
fn a_diff_says_who_gains_and_who_loses_a_ban_and_who_gets_it_sooner_and_for_longer() {
    let folder = folder();
    let run = diff(&folder, "one.toml", "other.toml", &[]);
    let words: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["change", "address", "before", "after"], "{}{}", run.stdout, run.stderr);
    let at = |second: &str| format!("2026-11-01T01:30:{second}Z");
    assert_eq!(words[1], ["gained", "203.0.113.4", "not", "banned", "sshd", "at", &at("20"), "for", "40m"]);
    assert_eq!(words[2], ["lost", "198.51.100.7", "sshd", "at", &at("40"), "for", "10m", "not", "banned"]);
    let changed = ["sooner,", "longer", "192.0.2.9", "sshd", "at"];
    assert_eq!(words[3][..5], changed);
    assert_eq!(words[3][5..], [&at("40"), "for", "10m", "sshd", "at", &at("20"), "for", "40m"]);
    assert!(
        run.stdout
            .ends_with("\n\n1 gained, 1 lost, 1 sooner, 0 later, 1 longer, 0 shorter; 0 the same\n15 lines read\n"),
        "{}",
        run.stdout
    );
    assert_eq!(run.code, Some(0));
    assert_eq!(diff(&folder, "one.toml", "other.toml", &[]), run, "the same again");
}

#[test]
fn a_diff_in_json_has_both_sides_and_ends_with_the_sums() {
    let folder = folder();
    let rows = diff(&folder, "other.toml", "one.toml", &["--json"]).json();
    assert_eq!(
        rows[1],
        json!({"prefix": "203.0.113.4/32", "changes": ["lost"], "after": null, "before":
               {"time": "2026-11-01T01:30:20Z", "jail": "sshd", "bans": 1, "seconds": 2400}})
    );
    assert_eq!((&rows[0]["prefix"], &rows[0]["before"]), (&json!("198.51.100.7/32"), &Value::Null));
    assert_eq!(rows[2]["changes"], json!(["later", "shorter"]));
    assert_eq!((&rows[3]["lost"], &rows[3]["same"], &rows[3]["lines"]), (&json!(1), &json!(0), &json!(15)));
}

#[test]
fn a_configuration_changes_nothing_against_itself_and_one_with_mistakes_is_refused() {
    let folder = folder();
    let run = diff(&folder, "one.toml", "one.toml", &[]);
    assert_eq!(run.stdout, "0 gained, 0 lost, 0 sooner, 0 later, 0 longer, 0 shorter; 2 the same\n15 lines read\n");
    fs::write(folder.path().join("bad.toml"), "[daemon]\nmodus = 1\n").unwrap();
    let run = diff(&folder, "one.toml", "bad.toml", &[]);
    assert_eq!(run.code, Some(78));
    assert!(run.stderr.contains("bad.toml:2:1"), "{}", run.stderr);
}
