//! The plain lists: the one that is written, and those that people edit.

use std::fs;

use super::support::eventually;
use super::support::guard::{Guard, SECOND};
use super::support::lab::Lab;
use super::{backend, guarded, passes, said};

/// The list of the how-to, with a network whose host bits are set and an address that is commented out.
const HOW_TO: &str = "# Ip address block  file\n202.54.20.22\n202.54.20.1/24\n#65.66.36.87\n";

fn prefixes(guard: &Guard) -> Vec<String> {
    let mut prefixes: Vec<String> = guard.bans().iter().map(|ban| ban["prefix"].as_str().unwrap().to_owned()).collect();
    prefixes.sort();
    prefixes
}

#[track_caller]
fn becomes(guard: &Guard, wanted: &[&str]) {
    eventually(&format!("{wanted:?} are banned"), || prefixes(guard) == wanted);
}

#[test]
fn the_list_of_the_how_to_is_followed_as_people_edit_replace_and_remove_it() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("iptables"));
    let (file, draft) = (guard.path("read.blocked"), guard.path("read.blocked~"));
    fs::write(&file, HOW_TO).unwrap();
    becomes(&guard, &["202.54.20.0/24", "202.54.20.22/32"]);
    guard.await_log("read.blocked:3: '202.54.20.1/24' has host bits set; taken as 202.54.20.0/24");
    guard.append("read.blocked", "not an address\n198.51.100.7-198.51.100.8 ; two\r\n");
    becomes(&guard, &["198.51.100.7/32", "198.51.100.8/32", "202.54.20.0/24", "202.54.20.22/32"]);
    guard.await_log("read.blocked:5: 'not' is not an address");
    fs::write(&draft, format!("{}\n", lab.attacker.v4)).unwrap();
    fs::rename(&draft, &file).unwrap();
    becomes(&guard, &[&format!("{}/32", lab.attacker.v4)]);
    eventually("it is shut out", || !passes(&lab.attacker));
    fs::remove_file(&file).unwrap();
    becomes(&guard, &[]);
    eventually("it gets through", || passes(&lab.attacker));
}

#[test]
fn a_list_that_is_still_being_written_is_not_taken() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &backend("iptables"));
    let file = guard.path("read.blocked");
    fs::write(&file, "192.0.2.1\n203.0.113.194\n").unwrap();
    becomes(&guard, &["192.0.2.1/32", "203.0.113.194/32"]);
    fs::write(&file, "192.0.2.1\n203.0.113.1").unwrap();
    std::thread::sleep(3 * SECOND);
    assert_eq!(prefixes(&guard), ["192.0.2.1/32", "203.0.113.194/32"], "half of a line is another address");
    guard.append("read.blocked", "94\n203.0.113.195\n");
    becomes(&guard, &["192.0.2.1/32", "203.0.113.194/32", "203.0.113.195/32"]);
    assert!(!guard.log().contains("203.0.113.1 "), "{}", guard.log());
    guard.append("read.blocked", "203.0.113.196");
    becomes(&guard, &["192.0.2.1/32", "203.0.113.194/32", "203.0.113.195/32", "203.0.113.196/32"]);
    guard.end("TERM");
    fs::remove_file(&file).unwrap();
    guard.start(&lab.server);
    becomes(&guard, &[]);
}

#[test]
fn the_list_of_the_how_to_is_imported_and_twice_is_once() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("iptables"));
    fs::write(guard.path("how-to"), HOW_TO).unwrap();
    let path = guard.path("how-to").display().to_string();
    for _ in 0..2 {
        let import = guard.banctl(&["import", &path]);
        assert!(import.status.success(), "{}", said(&import));
        assert!(said(&import).contains("host bits"), "{}", said(&import));
        assert_eq!(prefixes(&guard), ["202.54.20.0/24", "202.54.20.22/32"]);
    }
    let sets = lab.server.sh("ipset save");
    assert!(sets.contains("202.54.20.0/24") && !sets.contains("65.66.36.87"), "{sets}");
}

#[test]
fn the_shell_loop_of_the_how_to_shuts_out_the_same_addresses_by_the_file_that_is_written() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    for prefix in ["192.0.2.1", "198.51.100.0/24", &lab.attacker.v4.to_string()] {
        guard.ctl(&["ban", prefix, "--reason", "a # b; 203.0.113.9"]);
    }
    let written = || fs::read_to_string(guard.path("ip.blocked")).unwrap_or_default();
    eventually("the file is written", || written().contains(&lab.attacker.v4.to_string()) && written().contains("198"));
    assert!(passes(&lab.attacker));
    lab.server.sh(&format!(
        "IPS=$(grep -Ev '^#' {}); for i in $IPS; do iptables -A INPUT -s $i -j DROP; iptables -A OUTPUT -d $i -j DROP; done",
        guard.path("ip.blocked").display()
    ));
    let rules = lab.server.sh("iptables -S INPUT");
    let mut sources: Vec<&str> = rules.lines().filter_map(|rule| rule.split(' ').nth(3)).collect();
    sources.sort_unstable();
    assert_eq!(sources, prefixes(&guard));
    assert!(!passes(&lab.attacker) && lab.visitor.pings(lab.visitor.server(false)));
}

#[test]
fn a_file_that_is_both_read_and_written_keeps_what_its_users_wrote() {
    let lab = Lab::new();
    let config = "[daemon]\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\n[firewall]\nbackend = \"none\"\n\
                  [blocklist]\nwrite = \"DIR/ip.blocked\"\nread = [\"DIR/ip.blocked\"]\n";
    let mut guard = Guard::new(config);
    let theirs = format!("{HOW_TO}; another comment\r\n192.0.2.9   # theirs\r\n");
    fs::write(guard.path("ip.blocked"), &theirs).unwrap();
    guard.start(&lab.server);
    becomes(&guard, &["192.0.2.9/32", "202.54.20.0/24", "202.54.20.22/32"]);
    guard.ctl(&["ban", "203.0.113.5"]);
    let text = || fs::read_to_string(guard.path("ip.blocked")).unwrap();
    eventually("it is written", || text().contains("203.0.113.5"));
    assert!(text().starts_with(&theirs), "{}", text());
    becomes(&guard, &["192.0.2.9/32", "202.54.20.0/24", "202.54.20.22/32", "203.0.113.5/32"]);
    assert!(guard.bans().iter().all(|ban| ban["prefix"] != "203.0.113.5/32" || ban["jail"] == "manual"));
    guard.ctl(&["unban", "203.0.113.5"]);
    eventually("ours goes, theirs stays", || text() == theirs);
    becomes(&guard, &["192.0.2.9/32", "202.54.20.0/24", "202.54.20.22/32"]);
}

#[test]
fn who_stands_in_a_file_is_unbanned_there() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("iptables"));
    fs::write(guard.path("read.blocked"), "192.0.2.1\n192.0.2.0/28\n").unwrap();
    becomes(&guard, &["192.0.2.0/28", "192.0.2.1/32"]);
    let refused = guard.banctl(&["unban", "192.0.2.1"]);
    assert_eq!(refused.status.code(), Some(1));
    let expected = format!("192.0.2.1 stands in the file {}", guard.path("read.blocked").display());
    assert!(said(&refused).contains(&expected), "{}", said(&refused));
    let refused = guard.banctl(&["unban", "192.0.2.2"]);
    assert!(said(&refused).contains("192.0.2.2 is banned as part of 192.0.2.0/28"), "{}", said(&refused));
    guard.ctl(&["ban", "192.0.2.1"]);
    guard.ctl(&["ban", "203.0.113.1"]);
    guard.ctl(&["unban", "--all"]);
    becomes(&guard, &["192.0.2.0/28", "192.0.2.1/32"]);
    let sets = lab.server.sh("ipset save");
    assert!(sets.contains("add BANWARD-4-all 192.0.2.1 ") && !sets.contains("203.0.113.1"), "{sets}");
}

#[test]
fn a_list_that_is_no_file_or_covers_everybody_costs_nothing() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    let path = guard.path("read.blocked");
    lab.server.sh(&format!("mkfifo {}", path.display()));
    eventually("it is said", || guard.troubles().contains("it is not a file"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "0.0.0.0/0\n::/0\n127.0.0.1\n192.0.2.1\n").unwrap();
    becomes(&guard, &["192.0.2.1/32"]);
    guard.await_log("read.blocked:1: '0.0.0.0/0' covers every address and is refused");
    eventually("it recovers", || guard.status()["health"] == "ok");
}

#[test]
fn a_list_that_cannot_be_written_is_said_and_written_once_it_can_be() {
    let lab = Lab::new();
    let mut guard = Guard::new(
        "[daemon]\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\n[firewall]\nbackend = \"iptables\"\n\
         [blocklist]\nwrite = \"DIR/missing/ip.blocked\"\nread = []\n",
    );
    fs::write(guard.path("missing"), "").unwrap();
    guard.start(&lab.server);
    lab.server.listen(super::PORT);
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    assert!(!passes(&lab.attacker));
    eventually("it is said", || guard.troubles().contains("set blocklist.write to another file"));
    assert_eq!(guard.status()["health"], "degraded");
    fs::remove_file(guard.path("missing")).unwrap();
    fs::create_dir(guard.path("missing")).unwrap();
    let written = || fs::read_to_string(guard.path("missing/ip.blocked")).unwrap_or_default();
    eventually("it is written", || written().contains(&lab.attacker.v4.to_string()));
    eventually("it recovers", || guard.status()["health"] == "ok");
}
