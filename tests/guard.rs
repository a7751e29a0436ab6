//! From a log line to a dropped packet and back: the real daemon, the real kernel, real packets.

#[path = "guard/doctor.rs"]
mod doctor;
#[path = "guard/evidence.rs"]
mod evidence;
#[path = "guard/full.rs"]
mod full;
#[path = "guard/others.rs"]
mod others;
#[path = "guard/plain.rs"]
mod plain;
#[path = "guard/scope.rs"]
mod scope;
#[path = "guard/spoof.rs"]
mod spoof;
#[path = "guard/translation.rs"]
mod translation;
#[path = "guard/why.rs"]
mod why;

mod support;

use std::time::Duration;

use support::guard::{Guard, failed_password};
use support::lab::{Host, Lab};
use support::{eventually, lab};

/// The port on which the server accepts connections.
const PORT: u16 = 2222;

/// The rules of the how-tos: one ping a second is accepted, one a second of the rest is logged, all of it dropped.
const PING_RULES: &str = "
    iptables -A INPUT -p icmp -m limit --limit 1/s --limit-burst 1 -j ACCEPT
    iptables -A INPUT -p icmp -m limit --limit 1/s --limit-burst 1 -j LOG --log-prefix PING-DROP:
    iptables -A INPUT -p icmp -j DROP
    iptables -A OUTPUT -p icmp -j ACCEPT";

/// The how-tos' `syn_flood` chain, with the LOG rule that it lacks.
const SYN_RULES: &str = "
    TOOL -N syn_flood
    TOOL -A INPUT -p tcp --syn -j syn_flood
    TOOL -A syn_flood -m limit --limit 1/s --limit-burst 3 -j RETURN
    TOOL -A syn_flood -m limit --limit 10/s --limit-burst 10 -j LOG --log-prefix syn_flood:
    TOOL -A syn_flood -j DROP";

fn config(backend: &str, jails: &str) -> String {
    format!("[firewall]\nbackend = \"{backend}\"\n{jails}")
}

fn sshd_jail(more: &str) -> String {
    format!(
        "[jail.sshd]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/auth.log\"] }}\n\
         window = {{ hitcount = 5, seconds = 600 }}\n{more}"
    )
}

/// The prefix by which a host is banned. By IPv6 it would be the /64, but that is the server's own network too.
fn banned_as(host: &Host, v6: bool) -> String {
    if v6 { format!("{}/128", host.v6) } else { format!("{}/32", host.v4) }
}

/// A daemon on the server that bans by an sshd log, and that log.
fn guarded(lab: &Lab, backend: &str, more: &str) -> Guard {
    let mut guard = Guard::new(&config(backend, &sshd_jail(more)));
    guard.append("auth.log", "");
    guard.start(&lab.server);
    lab.server.listen(PORT);
    guard
}

fn brute_force(guard: &Guard, host: &Host, v6: bool) {
    for _ in 0..5 {
        guard.append("auth.log", &failed_password("root", &host.address(v6).to_string()));
    }
}

fn passes(host: &Host, v6: bool) -> bool {
    host.connects(host.server(v6), PORT)
}

fn an_ssh_brute_force_is_shut_out(backend: &str, v6: bool) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, "");
    assert!(passes(&lab.attacker, v6) && lab.attacker.pings(lab.attacker.server(v6)));
    brute_force(&guard, &lab.attacker, v6);
    guard.await_ban(&banned_as(&lab.attacker, v6));
    eventually("the attacker's connections fail", || !passes(&lab.attacker, v6));
    assert!(!lab.attacker.pings(lab.attacker.server(v6)), "a banned host's pings are dropped too");
    assert!(passes(&lab.visitor, v6), "another host is not touched");
    guard.ctl(&["unban", &banned_as(&lab.attacker, v6)]);
    assert!(passes(&lab.attacker, v6), "an unbanned host gets through as soon as it is acknowledged");
    guard.append("auth.log", &failed_password("root", &lab.attacker.address(v6).to_string()));
    guard.await_lines(6);
    assert!(guard.bans().is_empty(), "an unban forgets what was counted");
}

#[test]
fn an_ssh_brute_force_over_ipv4_is_shut_out_by_iptables() {
    an_ssh_brute_force_is_shut_out("iptables", false);
}

#[test]
fn an_ssh_brute_force_over_ipv6_is_shut_out_by_iptables() {
    an_ssh_brute_force_is_shut_out("iptables", true);
}

#[test]
fn an_ssh_brute_force_over_ipv4_is_shut_out_by_nftables() {
    an_ssh_brute_force_is_shut_out("nftables", false);
}

#[test]
fn an_ssh_brute_force_over_ipv6_is_shut_out_by_nftables() {
    an_ssh_brute_force_is_shut_out("nftables", true);
}

fn a_ping_flood_is_shut_out(backend: &str) {
    let lab = Lab::new();
    lab.server.sh(PING_RULES);
    let jail = "[jail.ping-drop]\nfilter = \"ping-drop\"\nsource = \"kernel\"\n\
                window = { hitcount = 3, seconds = 60 }\n";
    let mut guard = Guard::new(&config(backend, jail));
    guard.start(&lab.server);
    lab.server.listen(PORT);
    assert!(passes(&lab.attacker, false));
    let server = lab.attacker.server(false).to_string();
    let mut flood =
        lab.attacker.command("ping").args(["-n", "-q", "-i", "0.1", "-c", "150", &server]).spawn().expect("ping runs");
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    eventually("the attacker's connections fail too", || !passes(&lab.attacker, false));
    assert!(passes(&lab.visitor, false), "another host is not touched");
    flood.kill().expect("it still runs");
    flood.wait().expect("it ends");
    assert_eq!(guard.bans()[0]["evidence"], "forgeable");
}

#[test]
fn a_ping_flood_against_the_how_tos_rules_is_shut_out_by_iptables() {
    a_ping_flood_is_shut_out("iptables");
}

#[test]
fn a_ping_flood_against_the_how_tos_rules_is_shut_out_by_nftables() {
    a_ping_flood_is_shut_out("nftables");
}

fn a_syn_flood_is_shut_out(backend: &str, v6: bool) {
    let lab = Lab::new();
    let tool = if v6 { "ip6tables" } else { "iptables" };
    lab.server.sh(&SYN_RULES.replace("TOOL", tool));
    let jail = "[jail.syn-flood]\nfilter = \"syn-flood\"\nsource = \"kernel\"\n\
                window = { hitcount = 5, seconds = 60 }\n";
    let mut guard = Guard::new(&config(backend, jail));
    guard.start(&lab.server);
    lab.server.listen(PORT);
    assert!(passes(&lab.attacker, v6));
    let server = lab.attacker.server(v6);
    eventually("the flood is banned", || {
        lab.attacker.on(|| {
            for _ in 0..10 {
                let to = std::net::SocketAddr::new(server, PORT);
                // Most of these are dropped: that is the point.
                let _dropped = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(5));
            }
        });
        guard.is_banned(&banned_as(&lab.attacker, v6))
    });
    eventually("everything of a banned host is dropped", || !lab.attacker.pings(server));
    eventually("the rule's own limit lets another host pass", || passes(&lab.visitor, v6));
}

#[test]
fn a_syn_flood_over_ipv4_is_shut_out_by_iptables() {
    a_syn_flood_is_shut_out("iptables", false);
}

#[test]
fn a_syn_flood_over_ipv6_is_shut_out_by_iptables() {
    a_syn_flood_is_shut_out("iptables", true);
}

#[test]
fn a_syn_flood_over_ipv4_is_shut_out_by_nftables() {
    a_syn_flood_is_shut_out("nftables", false);
}

#[test]
fn a_syn_flood_over_ipv6_is_shut_out_by_nftables() {
    a_syn_flood_is_shut_out("nftables", true);
}

fn a_ban_ends_by_itself(backend: &str, alive: bool) {
    let lab = Lab::new();
    let mut guard = guarded(&lab, backend, "ban = { time = \"4s\" }\n");
    brute_force(&guard, &lab.attacker, false);
    eventually("the attacker is shut out", || !passes(&lab.attacker, false));
    if !alive {
        guard.end("KILL");
        assert!(!passes(&lab.attacker, false), "a dead daemon's bans stay");
    }
    eventually("the ban is over", || passes(&lab.attacker, false));
    if alive {
        eventually("the ledger agrees", || guard.bans().is_empty());
    }
}

#[test]
fn a_ban_of_iptables_expires() {
    a_ban_ends_by_itself("iptables", true);
}

#[test]
fn a_ban_of_nftables_expires() {
    a_ban_ends_by_itself("nftables", true);
}

#[test]
fn a_ban_of_iptables_expires_though_the_daemon_was_killed() {
    a_ban_ends_by_itself("iptables", false);
}

#[test]
fn a_ban_of_nftables_expires_though_the_daemon_was_killed() {
    a_ban_ends_by_itself("nftables", false);
}

fn bans_are_back_after_a_kill(backend: &str) {
    let lab = Lab::new();
    let mut guard = guarded(&lab, backend, "");
    brute_force(&guard, &lab.attacker, false);
    guard.await_ban(&banned_as(&lab.attacker, false));
    let before = guard.bans();
    guard.end("KILL");
    lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy; nft flush ruleset");
    assert!(passes(&lab.attacker, false), "nothing is left of the ban");
    guard.start(&lab.server);
    assert!(!passes(&lab.attacker, false), "READY means that the kernel holds the bans");
    assert_eq!(guard.bans(), before, "what is left of a ban is restored with what is left");
}

#[test]
fn bans_of_iptables_are_back_after_a_kill_and_a_flush() {
    bans_are_back_after_a_kill("iptables");
}

#[test]
fn bans_of_nftables_are_back_after_a_kill_and_a_flush() {
    bans_are_back_after_a_kill("nftables");
}

fn a_foreign_flush_is_repaired(backend: &str, flushes: &[&str]) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, "");
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    for flush in flushes {
        lab.server.sh(flush);
        eventually(&format!("`{flush}` is repaired"), || !passes(&lab.attacker, false));
        eventually("it is told", || guard.log().contains("repaired"));
        std::fs::write(guard.path("daemon.log"), "").expect("written");
    }
}

#[test]
fn what_others_flush_from_iptables_is_repaired() {
    let flushes = [
        "iptables -F",
        "iptables -D INPUT 1",
        "ipset flush",
        "iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy || { sleep 0.3; ipset destroy; }",
    ];
    a_foreign_flush_is_repaired("iptables", &flushes);
}

#[test]
fn what_others_flush_from_nftables_is_repaired() {
    a_foreign_flush_is_repaired("nftables", &["nft flush ruleset", "nft flush chain inet banward input"]);
}

#[test]
fn an_injected_address_is_never_banned() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables", "");
    for _ in 0..10 {
        guard.append("auth.log", &failed_password("invalid user root from 192.0.2.1 port 22 ssh2", "198.51.100.7"));
    }
    guard.await_ban("198.51.100.7/32");
    assert_eq!(guard.bans().len(), 1);
}

#[test]
fn stopping_with_remove_leaves_nothing_behind() {
    let lab = Lab::new();
    let before = snapshot(&lab);
    let mut guard = Guard::new("[firewall]\nbackend = \"iptables\"\non_stop = \"remove\"\n");
    guard.start(&lab.server);
    guard.ctl(&["ban", "192.0.2.1"]);
    assert_ne!(snapshot(&lab), before);
    guard.end("TERM");
    assert_eq!(snapshot(&lab), before);
}

/// Everything of the kernel's firewall that a backend could leave behind.
fn snapshot(lab: &Lab) -> String {
    lab.server.sh("iptables -S; ip6tables -S; ipset save; nft list tables | grep -v 'ip6* filter' || true")
}

#[test]
fn every_line_counts_once_through_rotation_by_rename_and_by_copytruncate() {
    let lab = Lab::new();
    let guard = guarded(&lab, "none", "");
    let mut written = 0;
    for round in 0..20 {
        for n in 0..50 {
            guard.append("auth.log", &failed_password("root", &format!("192.0.2.{n}")));
            written += 1;
        }
        let dir = guard.path("").display().to_string();
        if round % 2 == 0 {
            lab::sh(&format!("cd {dir} && mv auth.log auth.log.1 && touch auth.log"));
        } else {
            lab::sh(&format!("cd {dir} && cp auth.log auth.log.1 && truncate -s 0 auth.log"));
        }
    }
    guard.await_lines(written);
}

#[test]
fn a_restart_neither_skips_nor_counts_twice() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, "iptables", "");
    let attack = failed_password("root", "192.0.2.77");
    for signal in ["TERM", "KILL"] {
        for _ in 0..2 {
            guard.append("auth.log", &attack);
        }
        guard.await_lines(2);
        eventually("the position is recorded", || guard.status()["sources"][0]["lines"] == 2);
        std::thread::sleep(Duration::from_millis(1500));
        guard.end(signal);
        guard.start(&lab.server);
        assert!(guard.bans().is_empty(), "four lines are no offence, read once or again");
    }
    guard.append("auth.log", &attack);
    guard.await_ban("192.0.2.77/32");
}
