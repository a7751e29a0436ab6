//! Plain rules, where there is no ipset: the whole way from a log line, and what is said when there are too many.

use super::doctor::{LOCAL, doctor, has};
use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::Lab;
use super::{PORT, banned_as, brute_force, passes, sshd_jail};

fn guarded(lab: &Lab, ceiling: usize) -> Guard {
    let head = format!("[firewall]\nbackend = \"plain\"\nceiling = {ceiling}\n");
    let mut guard = Guard::new(&(head + &sshd_jail("")));
    guard.append("auth.log", "");
    guard.start(&lab.server);
    lab.server.listen(PORT);
    guard
}

#[test]
fn a_brute_force_is_shut_out_by_plain_rules_and_a_flush_is_mended() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, 10_000);
    for v6 in [false, true] {
        brute_force(&guard, &lab.attacker, v6);
        guard.await_ban(&banned_as(&lab.attacker, v6));
        eventually("the attacker is shut out", || !passes(&lab.attacker, v6));
        assert!(passes(&lab.visitor, v6));
    }
    lab.server.sh("iptables -F; ip6tables -F");
    guard.await_log("repaired");
    eventually("the attacker is shut out again", || !passes(&lab.attacker, false) && !passes(&lab.attacker, true));
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(0), "{findings:#?}");
    has(&findings, "backend", "warn", "plain (iptables (nf_tables) works, with a rule for each ban, 10000 at most");
    has(&findings, "hooks", "ok", "the jump to BANWARD is the first rule of INPUT");
    guard.end("KILL");
    assert!(!passes(&lab.attacker, false), "rules stay");
    guard.start(&lab.server);
    assert!(!passes(&lab.attacker, false) && passes(&lab.visitor, false));
    guard.ctl(&["unban", "--all"]);
    assert!(passes(&lab.attacker, false) && passes(&lab.attacker, true));
}

#[test]
fn bans_without_room_are_said_and_get_in_when_others_end() {
    let lab = Lab::new();
    let guard = guarded(&lab, 2);
    for address in ["192.0.2.1", "192.0.2.2"] {
        guard.ctl(&["ban", address, "--for", "1h"]);
    }
    // It ends last, and is kept all the same.
    let refused = guard.banctl(&["ban", "192.0.2.3", "--for", "2h"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("more is banned than the 2 plain rules that firewall.ceiling allows"), "{said}");
    assert!(guard.troubles().contains("the bans that end last are not in force"), "{}", guard.troubles());
    let out = |guard: &Guard| -> Vec<String> {
        let bans = guard.bans().into_iter().filter(|ban| ban["in_force"] == false);
        bans.map(|ban| ban["prefix"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(out(&guard), ["192.0.2.3/32"]);
    assert!(guard.ctl(&["list"]).contains("not in force"));
    brute_force(&guard, &lab.attacker, false);
    guard.await_ban(&banned_as(&lab.attacker, false));
    eventually("who attacks now is shut out first", || !passes(&lab.attacker, false));
    assert_eq!(out(&guard), ["192.0.2.2/32", "192.0.2.3/32"]);
    guard.ctl(&["unban", "192.0.2.1", &lab.attacker.v4.to_string()]);
    eventually("all are in force", || out(&guard).is_empty());
    eventually("nothing is wrong any more", || guard.troubles() == "[]");
}
