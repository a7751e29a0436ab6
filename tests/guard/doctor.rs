//! `banctl doctor` on a guarded host: what is in order, and what it says when somebody has meddled.

use serde_json::Value;

use super::support::guard::Guard;
use super::support::lab::{Host, Lab};
use super::{PING_RULES, guarded};

const PING_JAIL: &str = "[jail.ping-drop]\nfilter = \"ping-drop\"\nsource = \"kernel\"\n";

/// What the doctor finds on this host: exit code and findings.
pub(crate) fn doctor(host: &Host, guard: &Guard, session: &str) -> (Option<i32>, Vec<Value>) {
    let mut command = host.command(env!("CARGO_BIN_EXE_banctl"));
    command.args(["doctor", "--json", "--config"]).arg(guard.path("banward.toml")).env("SSH_CONNECTION", session);
    let output = command.output().expect("banctl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let findings = text.lines().map(|line| serde_json::from_str(line).expect("a JSON object"));
    (output.status.code(), findings.collect())
}

/// Verdicts of one check with their messages.
fn of<'a>(findings: &'a [Value], check: &str) -> Vec<(&'a str, &'a str)> {
    let found = findings.iter().filter(|finding| finding["check"] == check);
    found
        .map(|finding| {
            (finding["verdict"].as_str().unwrap_or_default(), finding["message"].as_str().unwrap_or_default())
        })
        .collect()
}

#[track_caller]
pub(crate) fn has(findings: &[Value], check: &str, verdict: &str, part: &str) {
    let found = of(findings, check);
    assert!(found.iter().any(|(is, message)| *is == verdict && message.contains(part)), "{check}: {found:?}");
}

pub(crate) const LOCAL: &str = "127.0.0.1 40022 127.0.0.1 22";

fn in_order(backend: &str, rules: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, PING_JAIL);
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(0), "{findings:#?}");
    has(&findings, "daemon", "ok", "guards");
    has(&findings, "capabilities", "ok", "CAP_NET_ADMIN");
    has(&findings, "backend", "ok", backend);
    has(&findings, "hooks", "ok", rules);
    has(&findings, "established", "ok", "open connections of a banned source end");
    has(&findings, "logs", "ok", "last written");
    has(&findings, "state", "ok", "by the daemon alone");
    has(&findings, "log rules", "warn", "logged with PING-DROP, and no rule logs any");
    let waits = findings.iter().find(|finding| finding["check"] == "log rules").expect("it is there");
    // The remedy is one that can be typed.
    let remedy = waits["remedy"].as_str().expect("a remedy").split(';').next().expect("a command");
    lab.server.sh(remedy);
    let (_, findings) = doctor(&lab.server, &guard, LOCAL);
    has(&findings, "log rules", "ok", "PING-DROP");
    assert!(findings.iter().all(|finding| (finding["verdict"] == "ok") == finding["remedy"].is_null()), "{findings:?}");
}

#[test]
fn a_guarded_host_is_in_order_but_for_the_rule_that_its_jail_waits_for() {
    in_order("iptables", "the jump to BANWARD is the first rule of INPUT");
    in_order("nftables", "table inet banward: type filter hook input priority");
}

#[test]
fn rules_before_ours_are_found_and_those_that_let_connections_go_on_are_bad() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, "iptables", "");
    guard.end("KILL");
    lab.server.sh("iptables -I INPUT 1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
    lab.server.sh("ip6tables -D INPUT -j BANWARD");
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(1));
    has(&findings, "daemon", "bad", "not running");
    has(&findings, "hooks", "warn", "IPv4: 1 rule of INPUT before our jump");
    has(&findings, "established", "bad", "--ctstate RELATED,ESTABLISHED -j ACCEPT' in INPUT");
    has(&findings, "hooks", "bad", "IPv6: nothing leads from INPUT to BANWARD");
}

#[test]
fn a_table_without_its_jump_is_bad() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, "nftables", "");
    guard.end("KILL");
    lab.server.sh("nft flush chain inet banward input");
    let (_, findings) = doctor(&lab.server, &guard, LOCAL);
    has(&findings, "hooks", "bad", "table inet banward: no packet of input is looked at");
}

#[test]
fn neighbours_both_kinds_of_iptables_and_an_unprotected_session_are_warned_of() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables", PING_JAIL);
    lab.server.sh(PING_RULES);
    lab.server.sh("iptables -N f2b-sshd; iptables-legacy -A OUTPUT -d 192.0.2.9 -j ACCEPT");
    let (code, findings) = doctor(&lab.server, &guard, "192.0.2.7 40022 192.0.2.1 22");
    assert_eq!(code, Some(0), "warnings are no failure: {findings:?}");
    has(&findings, "others", "warn", "fail2ban");
    has(&findings, "variants", "warn", "4 in nf_tables, 1 in legacy");
    has(&findings, "ssh session", "warn", "192.0.2.7");
    has(&findings, "kernel log", "warn", "a container's network");
    guard.ctl(&["allow", "add", "192.0.2.7"]);
    has(&doctor(&lab.server, &guard, "192.0.2.7 40022 192.0.2.1 22").1, "ssh session", "ok", "never banned");
}
