//! What can be asked about a ban: its lines, its decision, and what its entry in the kernel has dropped.

use serde_json::Value;

use super::support::guard::Guard;
use super::support::lab::Lab;
use super::{banned_as, brute_force, eventually, guarded, passes};

fn json(guard: &Guard, arguments: &[&str]) -> Vec<Value> {
    let output = guard.banctl(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

fn said(guard: &Guard, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&guard.banctl(arguments).stdout).into_owned()
}

fn a_ban_is_accounted_for(backend: &str, set: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, "");
    let address = lab.attacker.v4.to_string();
    brute_force(&guard, &lab.attacker, false);
    guard.await_ban(&banned_as(&lab.attacker, false));
    guard.ctl(&["ban", "192.0.2.77", "--reason", "idle"]);
    eventually("its connections fail", || !passes(&lab.attacker, false));
    assert!(!lab.attacker.pings(lab.attacker.server(false)));

    let why = json(&guard, &["why", &address]).remove(0);
    assert_eq!((&why["bans"][0]["jail"], &why["bans"][0]["count"]), (&"sshd".into(), &1.into()), "{why}");
    let decision = &why["decisions"][0];
    assert_eq!((&decision["banned"], &decision["hits"]), (&true.into(), &5.into()), "{why}");
    let lines = why["lines"].as_array().expect("an array");
    let led = |line: &Value| line["line"].as_str().is_some_and(|line| line.contains("Failed password for root from"));
    assert!(lines.len() == 5 && lines.iter().all(led), "{why}");
    let entry = &why["kernel"][0];
    assert_eq!((&entry["set"], &entry["prefix"]), (&set.into(), &banned_as(&lab.attacker, false).into()), "{why}");
    let packets = entry["packets"].as_u64().expect("a number");
    assert!(packets >= 2 && entry["bytes"].as_u64() >= Some(packets * 40), "{why}");
    assert_eq!((&why["jails"][0]["length"], &why["jails"][0]["count"]), (&"40m".into(), &2.into()), "{why}");
    assert_eq!(why["allowed"], Value::Null);

    let text = said(&guard, &["why", &address]);
    for part in [
        &*format!("{address} is banned.\n"),
        "5 hits",
        "ban 1 of it",
        &format!("{address} in the set {set} of {backend}"),
        "dropped ",
        "Failed password for root from",
        "would ban",
        "for 40m, ban 2 of it",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }

    let listed = json(&guard, &["list", "--counters"]);
    let of = |prefix: &str| listed.iter().find(|ban| ban["prefix"] == prefix).expect("it is listed").clone();
    assert!(of(&banned_as(&lab.attacker, false))["packets"].as_u64() >= Some(packets));
    assert_eq!((&of("192.0.2.77/32")["packets"], &of("192.0.2.77/32")["bytes"]), (&0.into(), &0.into()));
    let table = said(&guard, &["list", "--counters"]);
    let idle = table.lines().find(|line| line.starts_with("192.0.2.77")).expect("it is listed");
    assert!(idle.trim_end().ends_with("never hit"), "{table}");
    let status = json(&guard, &["status"]).remove(0);
    assert!(status["jails"][0]["packets"].as_u64() >= Some(packets), "{status}");
    assert_eq!(status["jails"][0]["never_hit"], 0, "{status}");

    guard.ctl(&["unban", &address, "--allow", "1h"]);
    let text = said(&guard, &["why", &address]);
    assert!(
        text.starts_with(&format!(
            "{address} is not banned.\nIt cannot be banned now: {address}/32 is allowed by hand until "
        )),
        "{text}"
    );
    assert!(text.contains(" (uid 0: unbanned)."), "{text}");
    assert!(text.contains("earlier bans\n") && text.contains("unbanned"), "{text}");
    let history = json(&guard, &["history", &address]);
    assert_eq!((history.len(), &history[0]["how"]), (1, &"unbanned".into()));
}

#[test]
fn a_ban_in_iptables_is_accounted_for_with_its_lines_and_the_packets_that_it_dropped() {
    a_ban_is_accounted_for("iptables", "BANWARD-4-all");
}

#[test]
fn a_ban_in_nftables_is_accounted_for_with_its_lines_and_the_packets_that_it_dropped() {
    a_ban_is_accounted_for("nftables", "v4_32_all");
}

#[test]
fn an_address_that_nobody_knows_has_a_short_account() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables", "");
    let text = said(&guard, &["why", "192.0.2.200"]);
    assert!(text.starts_with("192.0.2.200 is not banned, and nothing is known of it.\n"), "{text}");
    assert!(text.contains("sshd (5 hits within 10m): would ban 192.0.2.200 for 10m, ban 1 of it"), "{text}");
}
