//! A kernel that refuses, tools that interfere: the state converges, and what could not be done is shown.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::support::guard::{Guard, SECOND};
use super::support::inject::Injected;
use super::support::lab::Lab;
use super::support::{Over, eventually};
use super::{attack, guarded, passes};

/// Whether the kernel drops what every ban names, and nothing else.
fn agrees(lab: &Lab, guard: &Guard, backend: &str) -> bool {
    let show = if backend == "iptables" { "ipset save" } else { "nft list ruleset" };
    let text = String::from_utf8_lossy(&lab.server.try_sh(show).stdout).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let held: BTreeSet<String> =
        words.filter(|word| word.parse::<std::net::Ipv4Addr>().is_ok()).map(str::to_owned).collect();
    let prefix = |ban: &serde_json::Value| ban["prefix"].as_str().unwrap().trim_end_matches("/32").to_owned();
    held == guard.bans().iter().map(prefix).collect()
}

/// Something that is said to the kernel, or its answer, fails: what failed is done again until it holds.
fn calls_that_fail_now_and_then_cost_nothing(backend: &str, call: &str, error: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend);
    for round in 1..=4 {
        eventually("all is well", || guard.status()["health"] == "ok");
        // The first, the second, … of them, and every second one after it.
        let fault = Injected::into_netlink(&guard, call, &format!("error={error}:when={round}+2"));
        for address in ["192.0.2", "198.51.100"].map(|net| format!("{net}.{round}")) {
            // It may say that it is not in force yet.
            guard.banctl(&["ban", &address]);
        }
        guard.banctl(&["unban", &format!("198.51.100.{round}")]);
        eventually("it is noticed", || {
            let injected = std::fs::read_to_string(guard.path("strace.log")).unwrap_or_default().contains("(INJECTED)");
            injected && agrees(&lab, &guard, backend)
        });
        drop(fault);
        assert_eq!(guard.bans().len(), round);
    }
    attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
    eventually("packets are dropped", || !passes(&lab.attacker));
    eventually("all is well", || guard.status()["health"] == "ok");
}

#[test]
fn a_netlink_socket_that_overruns_costs_iptables_no_ban() {
    calls_that_fail_now_and_then_cost_nothing("iptables", "recvfrom", "ENOBUFS");
}

#[test]
fn a_netlink_socket_that_overruns_costs_nftables_no_ban() {
    calls_that_fail_now_and_then_cost_nothing("nftables", "recvfrom", "ENOBUFS");
}

#[test]
fn a_kernel_that_is_busy_costs_iptables_no_ban() {
    calls_that_fail_now_and_then_cost_nothing("iptables", "sendto", "EBUSY");
}

#[test]
fn a_kernel_that_is_busy_costs_nftables_no_ban() {
    calls_that_fail_now_and_then_cost_nothing("nftables", "sendto", "EBUSY");
}

#[test]
fn a_set_that_is_full_is_made_larger() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables");
    // Somebody has put a set with two places where ours was.
    lab.server.sh("ipset create small hash:net timeout 0 counters maxelem 2
                   ipset swap small BANWARD-4-all && ipset destroy small");
    for number in 0..8 {
        guard.ctl(&["ban", &format!("192.0.2.{number}")]);
    }
    attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
    eventually("packets are dropped", || !passes(&lab.attacker));
    assert!(agrees(&lab, &guard, "iptables"));
    assert!(guard.log().contains("repaired") && guard.log().contains("full"), "{}", guard.log());
    assert_eq!(guard.status()["health"], "ok");
}

/// Somebody flushes everything over and over while bans come and go.
fn what_is_flushed_in_the_middle_of_a_batch_is_back(backend: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&done);
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                let flush = ["iptables -F", "ipset flush", "nft flush ruleset", "ipset -F; iptables -X; ipset -X"];
                // Some of it is in use and cannot be removed.
                lab.server.try_sh(flush[round % flush.len()]);
                round += 1;
                std::thread::sleep(SECOND / 20);
            }
        });
        for number in 0..60 {
            guard.banctl(&["ban", &format!("192.0.2.{number}")]);
            if number % 3 == 0 {
                guard.banctl(&["unban", &format!("192.0.2.{number}")]);
            }
        }
        attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
        guard.await_ban(&format!("{}/32", lab.attacker.v4));
    });
    eventually("packets are dropped", || !passes(&lab.attacker));
    eventually("the kernel holds what the ledger says", || agrees(&lab, &guard, backend));
    assert_eq!(guard.bans().len(), 41);
    assert!(guard.log().contains("repaired"), "{}", guard.log());
    eventually("all is well", || guard.status()["health"] == "ok");
}

#[test]
fn what_is_flushed_in_the_middle_of_a_batch_is_back_with_iptables() {
    what_is_flushed_in_the_middle_of_a_batch_is_back("iptables");
}

#[test]
fn what_is_flushed_in_the_middle_of_a_batch_is_back_with_nftables() {
    what_is_flushed_in_the_middle_of_a_batch_is_back("nftables");
}

#[test]
fn a_tool_that_keeps_putting_its_own_rule_first_does_not_open_the_way() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables");
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    for _ in 0..3 {
        lab.server.sh("iptables -I INPUT 1 -j ACCEPT");
        eventually("our jump comes first again", || !passes(&lab.attacker));
    }
    // Another order of the rules of everybody else is nobody's business.
    lab.server
        .sh("cd $(mktemp -d); iptables-save -t filter | grep -v BANWARD >saved; iptables-restore saved; rm saved");
    eventually("our jump comes first again", || !passes(&lab.attacker));
    eventually("it is told", || guard.log().contains("repaired"));
}
