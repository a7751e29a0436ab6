//! A set that has no room left: nobody is told that he is safe from a source that still gets through.

use super::*;

#[test]
fn a_full_set_is_made_larger_before_the_ban_that_found_it_full_is_acknowledged() {
    let lab = Lab::new();
    let guard = guarded(&lab, "iptables", "");
    guard.ctl(&["ban", "192.0.2.1"]);
    // A set with room for one address takes the place of ours, and holds the one that ours held.
    lab.server.sh(
        "set=$(ipset list -n | grep -- '^BANWARD-4') && ipset create small hash:net timeout 0 counters maxelem 1 && \
         ipset add small 192.0.2.1 && ipset swap small $set && ipset destroy small",
    );
    assert!(lab.attacker.connects(lab.attacker.server(false), PORT));
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    assert!(!lab.attacker.connects(lab.attacker.server(false), PORT), "it is banned once that is said");
    let held = lab.server.sh("ipset list | grep -c '^192.0.2.1 '");
    assert_eq!(held.trim(), "1", "what was there before is there still");
    guard.await_log("is full; it is rebuilt larger");
}
