//! A kernel, or its tools, that do not do what they should.

use std::fs::File;

use super::support::eventually;
use super::support::guard::{Guard, SECOND};
use super::support::lab::Lab;
use super::{PORT, backend, fail, guarded, jail, passes, said};

/// Hides the programs behind a device, which is no file.
const WITHOUT_TOOLS: &str = "for tool in xtables-nft-multi xtables-legacy-multi nft; do \
                             mount --bind /dev/null /usr/sbin/$tool; done";

fn watched(lab: &Lab, name: &str, shell: &str) -> Guard {
    let mut guard = Guard::new(&(backend(name) + &jail("sshd", "")));
    guard.append("sshd.log", "");
    guard.spawn_behind(&lab.server, shell);
    guard.await_socket();
    lab.server.listen(PORT);
    guard
}

/// Everything but enforcing works: bans are decided and recorded, and what is not in force is not said to be.
#[track_caller]
fn only_enforcing_fails(guard: &Guard, remedy: &str) {
    eventually(&format!("'{remedy}' is said"), || guard.troubles().contains(remedy));
    assert_eq!(guard.status()["health"], "failing");
    fail(guard, 5, "192.0.2.1");
    guard.await_ban("192.0.2.1/32");
    let refused = guard.banctl(&["ban", "192.0.2.2"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(super::said(&refused).contains("recorded, but"), "{}", super::said(&refused));
    assert!(guard.is_banned("192.0.2.2/32"));
}

#[test]
fn without_any_tool_it_says_which_package_is_missing_and_guards_once_it_is_there() {
    let lab = Lab::new();
    let mut guard = watched(&lab, "auto", WITHOUT_TOOLS);
    only_enforcing_fails(&guard, "install the package iptables");
    assert!(guard.troubles().contains("install the package nftables"), "{}", guard.troubles());
    fail(&guard, 5, &lab.attacker.v4.to_string());
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    std::thread::sleep(3 * SECOND);
    assert_eq!(guard.log().matches("no backend works").count(), 1, "it is tried again, and said once");
    assert!(passes(&lab.attacker));
    guard.end("TERM");
    guard.spawn_behind(&lab.server, WITHOUT_TOOLS);
    guard.await_socket();
    for tool in ["xtables-nft-multi", "xtables-legacy-multi", "nft"] {
        guard.sh_inside(&format!("umount /usr/sbin/{tool}"));
    }
    guard.await_ready();
    assert!(!passes(&lab.attacker), "READY means that the kernel holds the bans");
    eventually("it recovers", || guard.status()["health"] == "ok");
}

#[test]
fn without_the_right_to_change_the_firewall_it_says_so_and_the_rest_works() {
    for name in ["iptables", "nftables", "auto"] {
        let lab = Lab::new();
        let guard = watched(&lab, name, "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \"$@\"");
        only_enforcing_fails(&guard, "CAP_NET_ADMIN");
    }
}

#[test]
fn a_held_xtables_lock_is_said_and_survived() {
    let lab = Lab::new();
    // Rules of iptables-legacy make it work with that, whose tools take the lock. Ours is the lock of this test alone.
    lab.server.sh("iptables-legacy -w 10 -A INPUT -p udp --dport 9 -j DROP");
    let mut guard = Guard::new(&(backend("iptables") + &jail("sshd", "")));
    guard.append("sshd.log", "");
    let lock = File::create(guard.path("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let path = guard.path("lock").display().to_string();
    guard.spawn_behind(&lab.server, &format!("touch /run/xtables.lock; mount --bind {path} /run/xtables.lock"));
    guard.await_socket();
    only_enforcing_fails(&guard, "xtables lock");
    drop(lock);
    guard.await_ready();
    eventually("it recovers", || guard.status()["health"] == "ok");
    lab.server.listen(PORT);
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    assert!(!passes(&lab.attacker));
}

#[test]
fn observing_records_bans_and_drops_no_packet() {
    let lab = Lab::new();
    let before = super::iptables(&lab) + &super::nftables(&lab);
    let mut guard = Guard::new(
        &("[daemon]\nmode = \"observe\"\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\nfilters = [\"FILTERS\"]\n\
           [blocklist]\nwrite = \"DIR/ip.blocked\"\nread = []\n"
            .replace("FILTERS", concat!(env!("CARGO_MANIFEST_DIR"), "/filters"))
            + &jail("sshd", "")),
    );
    guard.append("sshd.log", "");
    guard.start(&lab.server);
    lab.server.listen(PORT);
    fail(&guard, 5, &lab.attacker.v4.to_string());
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    assert!(passes(&lab.attacker));
    assert_eq!(super::iptables(&lab) + &super::nftables(&lab), before);
    assert_eq!(guard.status()["health"], "observing");
    let asked = said(&guard.banctl(&["ban", "192.0.2.1"]));
    assert!(asked.contains("would ban 192.0.2.1"), "{asked}");
    let (log, attacker) = (guard.log(), lab.attacker.v4);
    assert!(log.contains("observing: what would be banned is told") && !log.contains("guarding"), "{log}");
    assert!(log.contains(&format!("would ban {attacker} jail=sshd")) && !log.contains(&format!("banned {attacker}")));
}

#[test]
fn who_asks_for_a_ban_again_is_told_again_that_it_is_not_in_force() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &(backend("plain") + "ceiling = 1\n" + &jail("sshd", "")));
    guard.ctl(&["ban", "192.0.2.1", "--for", "1h"]);
    let address = lab.attacker.v4.to_string();
    let list = guard.path("list");
    std::fs::write(&list, format!("{address}\n")).unwrap();
    for _ in 0..2 {
        for asked in [["ban", &address], ["import", list.to_str().unwrap()]] {
            let answer = guard.banctl(&asked);
            assert_eq!(answer.status.code(), Some(1), "{asked:?}: {}", said(&answer));
            assert!(said(&answer).contains("ceiling"), "{}", said(&answer));
        }
        assert!(passes(&lab.attacker), "it is not in force");
    }
    guard.end("TERM");
    guard.start(&lab.server);
    assert!(guard.log().contains("1 entry in the kernel and not all: "), "{}", guard.log());
}

#[test]
fn chains_that_are_not_there_guard_nothing_and_that_is_said_until_they_are() {
    for name in ["iptables", "plain"] {
        let lab = Lab::new();
        let mut guard = Guard::new(&(backend(name) + "hooks = [\"MINE\"]\n" + &jail("sshd", "")));
        guard.append("sshd.log", "");
        guard.spawn_behind(&lab.server, "true");
        guard.await_socket();
        lab.server.listen(PORT);
        let address = lab.attacker.v4.to_string();
        fail(&guard, 5, &address);
        guard.await_ban(&format!("{address}/32"));
        eventually("it is said", || guard.troubles().contains("no chain of firewall.hooks (MINE) is there"));
        assert!(guard.status()["health"] == "failing" && passes(&lab.attacker), "{}", guard.log());
        lab.server.sh("iptables -N MINE && iptables -A INPUT -j MINE");
        eventually("it is in force", || !passes(&lab.attacker) && guard.status()["health"] == "ok");
    }
    let lab = Lab::new();
    let guard = watched(&lab, "nftables\"\nhooks = [\"MINE\"]\n#\"", "true");
    eventually("it is said", || guard.troubles().contains("no chain of firewall.hooks (MINE) is there"));
}

#[test]
fn rules_that_cannot_be_removed_are_not_said_to_be() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &(backend("iptables") + "on_stop = \"remove\"\n" + &jail("sshd", "")));
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    guard.end("TERM");
    assert!(guard.log().contains("stopped: the rules are removed"), "{}", guard.log());
    assert!(passes(&lab.attacker));

    guard.spawn_behind(&lab.server, "mount --make-rprivate /");
    guard.await_ready();
    let said = guard.log().len();
    guard.sh_inside(WITHOUT_TOOLS);
    guard.end("TERM");
    let log = guard.log().split_off(said);
    assert!(log.contains("stopped: the rules could not be removed: "), "{log}");
    assert!(!log.contains("are removed"), "{log}");
}
