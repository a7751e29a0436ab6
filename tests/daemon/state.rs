//! The state directory, the socket, and what is left of bans after the daemon was away.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::{Lab, sh};
use super::{backend, fail, guarded, iptables, jail, nftables, passes};

#[test]
fn a_second_daemon_on_the_same_state_refuses_to_start_and_names_the_first() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    let mut second = Guard::new("");
    let config = fs::read_to_string(guard.path("banward.toml")).unwrap();
    second.configure(&config.replace("control.sock", "second.sock"));
    second.spawn(&lab.server);
    assert_eq!(second.exit_code(), Some(1));
    let pid = format!("process {},", guard.pid());
    assert!(second.log().contains(&pid) && second.log().contains("uses"), "{}", second.log());
    guard.ctl(&["ban", "192.0.2.1"]);
}

#[test]
fn a_stale_socket_is_replaced_and_one_that_answers_is_not() {
    let lab = Lab::new();
    let mut guard = Guard::new(&backend("none"));
    drop(UnixListener::bind(guard.path("control.sock")).unwrap());
    guard.start(&lab.server);
    guard.ctl(&["status"]);
    let mut second = Guard::new("");
    let config = fs::read_to_string(guard.path("banward.toml")).unwrap();
    second.configure(&config.replace("/state\"", "/other\""));
    second.spawn(&lab.server);
    assert_eq!(second.exit_code(), Some(1));
    assert!(second.log().contains("another daemon answers on"), "{}", second.log());
    guard.ctl(&["status"]);
}

#[test]
fn a_socket_path_that_is_a_file_is_refused_and_left_alone() {
    let lab = Lab::new();
    let mut guard = Guard::new(&backend("none"));
    fs::write(guard.path("control.sock"), "precious").unwrap();
    guard.spawn(&lab.server);
    assert_eq!(guard.exit_code(), Some(1));
    assert!(guard.log().contains("is not a socket"), "{}", guard.log());
    assert_eq!(fs::read(guard.path("control.sock")).unwrap(), b"precious");
}

/// Overwrites the middle of every file of the ledger.
fn damage(guard: &Guard) {
    let files = sh(&format!("find {} -type f", guard.path("state/ledger").display()));
    for file in files.lines() {
        let mut bytes = fs::read(file).unwrap();
        let (from, to) = (bytes.len() / 4, bytes.len() / 4 * 3);
        bytes[from..to].fill(0x5a);
        fs::write(file, bytes).unwrap();
    }
}

fn a_damaged_ledger_is_survived(name: &str, blocklist: bool) {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &(backend(name) + &jail("sshd", "")));
    fail(&guard, 5, &lab.attacker.v4.to_string());
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    guard.ctl(&["ban", "192.0.2.0/24", "--for", "2h"]);
    guard.ctl(&["ban", "2001:db8::/64", "--for", "forever"]);
    fs::write(guard.path("drop.txt"), "198.51.100.0/24\n").unwrap();
    guard.ctl(&["import", &guard.path("drop.txt").display().to_string()]);
    let written = || fs::read_to_string(guard.path("ip.blocked")).unwrap_or_default().contains("192.0.2.0/24");
    eventually("the blocklist file is written", written);
    let before: Vec<_> = guard.bans().iter().map(|ban| (ban["prefix"].clone(), ban["until"].clone())).collect();
    guard.end("KILL");
    damage(&guard);
    if !blocklist {
        fs::remove_file(guard.path("ip.blocked")).unwrap();
    }
    assert!(!passes(&lab.attacker));
    guard.start(&lab.server);
    assert!(!passes(&lab.attacker), "READY means that the kernel holds the bans");
    let after: Vec<_> = guard.bans().iter().map(|ban| (ban["prefix"].clone(), ban["until"].clone())).collect();
    if blocklist {
        assert_eq!(after, before);
        assert!(guard.bans().iter().any(|ban| ban["jail"] == "sshd"));
    } else {
        // The lost position has the log read again, so that its jail owns a ban beside the one that was read back.
        let prefixes = |bans: &[(serde_json::Value, serde_json::Value)]| {
            bans.iter().map(|(prefix, _)| prefix.to_string()).collect::<BTreeSet<_>>()
        };
        assert_eq!(prefixes(&after), prefixes(&before));
    }
    let names = sh(&format!("ls {}", guard.path("state").display()));
    assert!(names.contains("ledger.damaged-"), "{names}");
    assert!(guard.troubles().contains("ledger was damaged"), "{}", guard.troubles());
    assert!(guard.log().contains("ledger.damaged-"), "{}", guard.log());
    assert_eq!(guard.status()["health"], "degraded");
}

#[test]
fn a_damaged_ledger_is_set_aside_and_its_bans_come_from_the_blocklist_file_with_iptables() {
    a_damaged_ledger_is_survived("iptables", true);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_its_bans_come_from_the_sets_of_iptables() {
    a_damaged_ledger_is_survived("iptables", false);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_its_bans_come_from_the_sets_of_nftables() {
    a_damaged_ledger_is_survived("nftables", false);
}

#[test]
fn time_that_passed_while_the_daemon_was_away_has_passed() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &backend("iptables"));
    guard.ctl(&["ban", &lab.attacker.v4.to_string(), "--for", "2s"]);
    guard.ctl(&["ban", &lab.visitor.v4.to_string(), "--for", "1h"]);
    let left = guard.bans().into_iter().find(|ban| ban["prefix"] == format!("{}/32", lab.visitor.v4)).unwrap();
    guard.end("KILL");
    lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy");
    std::thread::sleep(Duration::from_secs(3));
    guard.start(&lab.server);
    assert!(passes(&lab.attacker), "what is over is not restored");
    assert!(!passes(&lab.visitor), "what is left is");
    assert_eq!(guard.bans(), [left]);
    let timeout = lab.server.sh(&format!("ipset list BANWARD-4-all | grep {}", lab.visitor.v4));
    let seconds: u32 = timeout.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((3500..3600).contains(&seconds), "with what is left: {timeout}");
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let lab = Lab::new();
    let mut guard = Guard::new(&(backend("iptables") + &jail("sshd", "")));
    guard.append("sshd.log", "");
    let state = guard.path("state").display().to_string();
    guard.spawn_behind(&lab.server, &format!("mkdir -p {state}; mount -t tmpfs -o size=6m none {state}"));
    guard.await_ready();
    lab.server.listen(super::PORT);
    guard.ctl(&["ban", "192.0.2.1"]);
    guard.sh_inside(&format!("cat /dev/zero > {state}/filling 2>/dev/null || true"));
    let mut asked = 0;
    eventually("a ban that is not safe is not acknowledged", || {
        asked += 1;
        let answer = guard.banctl(&["ban", &format!("198.51.100.{asked}"), "--reason", &"why ".repeat(40)]);
        answer.status.code() == Some(1) && super::said(&answer).contains("not safely recorded")
    });
    eventually("it is said", || guard.troubles().contains("Free space"));
    assert_eq!(guard.status()["health"], "degraded");
    fail(&guard, 5, &lab.attacker.v4.to_string());
    eventually("guarding goes on", || !passes(&lab.attacker));
    // The database and the file beside it have different words for the same.
    let said = guard.log().matches("cannot be written").count();
    assert!((1..=2).contains(&said), "it is not repeated:\n{}", guard.log());
    guard.sh_inside(&format!("rm {state}/filling"));
    eventually("it recovers", || guard.status()["health"] == "ok");
    guard.ctl(&["ban", "192.0.2.3"]);
    let bans = guard.bans();
    assert_eq!(bans.len(), asked + 3);
    guard.sh_inside(&format!("cp -a {state}/ledger {state}/copy"));
    // What is in the store now is what the next start reads.
    let copied = guard.path("copied").display().to_string();
    sh(&format!("mkdir {copied} && cp -a /proc/{}/root{state}/copy {copied}/ledger", guard.pid()));
    guard.end("KILL");
    let config = fs::read_to_string(guard.path("banward.toml")).unwrap();
    guard.configure(&config.replace("/state\"", "/copied\""));
    guard.start(&lab.server);
    assert_eq!(guard.bans(), bans, "nothing was forgotten");
}

#[test]
fn stopping_with_keep_keeps_the_bans_and_a_second_start_changes_nothing() {
    for (name, show) in [("iptables", iptables as fn(&Lab) -> String), ("nftables", nftables)] {
        let lab = Lab::new();
        let mut guard = guarded(&lab, &backend(name));
        guard.ctl(&["ban", &lab.attacker.v4.to_string(), "--for", "forever"]);
        let before = show(&lab);
        guard.end("TERM");
        assert!(!passes(&lab.attacker), "bans outlive the daemon");
        assert!(!guard.path("control.sock").exists());
        guard.start(&lab.server);
        assert_eq!(show(&lab), before);
        guard.ctl(&["unban", "--all"]);
        assert!(passes(&lab.attacker));
    }
}

#[test]
fn a_start_with_another_backend_takes_out_what_the_earlier_one_left() {
    let lab = Lab::new();
    let (no_rules, no_tables) = (iptables(&lab), nftables(&lab));
    let mut guard = guarded(&lab, &backend("iptables"));
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    for (name, clean) in [("nftables", true), ("iptables", false), ("none", false)] {
        guard.end("TERM");
        guard.configure(&backend(name));
        guard.start(&lab.server);
        if name != "none" {
            assert!(!passes(&lab.attacker));
        }
        eventually("what the other has left is gone", || {
            if clean { iptables(&lab) == no_rules } else { nftables(&lab) == no_tables }
        });
    }
    eventually("nothing is left", || iptables(&lab) == no_rules && passes(&lab.attacker));
    assert_eq!(guard.bans().len(), 1);
}

#[test]
fn a_kill_right_after_the_packets_are_dropped_costs_no_ban() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &(backend("iptables") + &jail("sshd", "")));
    for round in 1..=3 {
        let address = format!("192.0.2.{round}");
        fail(&guard, 5, &address);
        eventually("it is in the kernel", || lab.server.sh("ipset save").contains(&format!(" {address} ")));
        guard.end("KILL");
        lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy");
        guard.start(&lab.server);
        guard.await_ban(&format!("{address}/32"));
        let bans = guard.bans();
        assert_eq!(bans.len(), round);
        assert!(bans.iter().all(|ban| ban["count"] == 1), "nothing is counted twice: {bans:?}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_said_with_the_remedy() {
    let lab = Lab::new();
    let mut guard = Guard::new(&backend("none"));
    let state = guard.path("state").display().to_string();
    guard.spawn_behind(&lab.server, &format!("mkdir {state}; mount -t tmpfs -o ro none {state}"));
    assert_eq!(guard.exit_code(), Some(1));
    assert!(guard.log().contains("Mount that file system writable"), "{}", guard.log());
    fs::remove_dir(&state).unwrap();
    fs::write(&state, "a file").unwrap();
    guard.spawn(&lab.server);
    assert_eq!(guard.exit_code(), Some(1));
    assert!(guard.log().contains("set daemon.state_dir to another directory"), "{}", guard.log());
    assert_eq!(fs::read(&state).unwrap(), b"a file");
}
