//! Who is never banned, and how long everybody else is.

use std::fs;
use std::net::IpAddr;

use super::support::eventually;
use super::support::guard::{Guard, failed_password, failed_password_at, now};
use super::support::lab::Lab;
use super::{backend, fail, guarded, jail, passes, said};

fn allowing(networks: &str) -> String {
    format!("{}[allow]\nnetworks = [{networks}]\n{}", backend("iptables"), jail("sshd", ""))
}

#[track_caller]
fn is_refused(guard: &Guard, prefix: &str, why: &str) {
    let refused = guard.banctl(&["ban", prefix]);
    assert_eq!(refused.status.code(), Some(1), "{prefix}: {}", said(&refused));
    assert!(said(&refused).contains(why), "{prefix}: {}", said(&refused));
}

/// The /24 around an address.
fn network_of(address: IpAddr) -> String {
    ipnet::IpNet::new(address, 24).unwrap().trunc().to_string()
}

#[test]
fn an_allowed_address_is_banned_by_nobody() {
    let lab = Lab::new();
    let allowed = lab.attacker.v4;
    let guard = guarded(&lab, &allowing(&format!("\"{allowed}\"")));
    fail(&guard, 20, &allowed.to_string());
    guard.await_log(&format!("{allowed}/32 is allowed by [allow] networks"));
    assert_eq!(guard.log().matches("is allowed by").count(), 1, "one line is enough");
    is_refused(&guard, &allowed.to_string(), "is allowed by [allow] networks");
    is_refused(&guard, &network_of(allowed), " is ");
    is_refused(&guard, &format!("::ffff:{allowed}"), "is allowed by [allow] networks");
    let text = format!("192.0.2.1\n{allowed}\n{allowed}/24\n198.51.100.0/24\n");
    fs::write(guard.path("drop.txt"), &text).unwrap();
    let import = guard.banctl(&["import", &guard.path("drop.txt").display().to_string()]);
    assert!(said(&import).contains(&allowed.to_string()), "{}", said(&import));
    fs::write(guard.path("read.blocked"), text.replace("192.0.2.1", "192.0.2.2")).unwrap();
    eventually("the file is read", || guard.is_banned("192.0.2.2/32"));
    assert!(guard.is_banned("192.0.2.1/32") && guard.is_banned("198.51.100.0/24"), "the other entries are banned");
    assert_eq!(guard.bans().len(), 4);
    assert!(passes(&lab.attacker));
}

#[test]
fn the_server_never_shuts_itself_out() {
    let lab = Lab::new();
    let guard = guarded(&lab, &allowing(""));
    let own = lab.attacker.server(false);
    is_refused(&guard, &own.to_string(), "is protected: it is");
    is_refused(&guard, &network_of(own), "is protected: it is");
    is_refused(&guard, &lab.attacker.server(true).to_string(), "is protected: it is");
    for everybody in ["0.0.0.0/0", "::/0"] {
        let refused = guard.banctl(&["ban", everybody]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("is protected") || said(&refused).contains("too much of the Internet"));
    }
    is_refused(&guard, "128.0.0.0/2", "too much of the Internet");
    fail(&guard, 5, &own.to_string());
    guard.await_log("is protected: it is");
    assert!(guard.bans().is_empty());
}

#[test]
fn an_address_that_becomes_the_servers_own_is_let_in() {
    let lab = Lab::new();
    let guard = guarded(&lab, &allowing(""));
    guard.ctl(&["ban", "192.0.2.77"]);
    lab.server.sh("ip addr add 192.0.2.77/32 dev lo");
    // After a ban it is looked at once whom that could hit.
    fail(&guard, 5, "192.0.2.78");
    guard.await_ban("192.0.2.78/32");
    eventually("its ban is lifted", || guard.bans().len() == 1);
    is_refused(&guard, "192.0.2.77", "is protected: it is");
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_banned_as_ipv4() {
    let lab = Lab::new();
    let guard = guarded(&lab, &allowing(""));
    fail(&guard, 5, &format!("::ffff:{}", lab.attacker.v4));
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    eventually("it is shut out", || !passes(&lab.attacker));
    assert_eq!(guard.bans().len(), 1);
}

#[test]
fn a_prefix_that_two_jails_ban_is_free_when_the_later_ban_has_ended() {
    let lab = Lab::new();
    let jails = jail("sshd", "ban = { time = \"2s\" }") + &jail("other", "ban = { time = \"6s\" }");
    let guard = guarded(&lab, &(backend("iptables") + &jails));
    guard.append("other.log", &failed_password("root", &lab.attacker.v4.to_string()).repeat(5));
    fail(&guard, 5, &lab.attacker.v4.to_string());
    eventually("both own it", || guard.bans().len() == 2);
    eventually("the first has ended", || guard.bans().len() == 1);
    assert!(!passes(&lab.attacker));
    assert_eq!(guard.bans()[0]["jail"], "other");
    eventually("the second has ended", || guard.bans().is_empty());
    eventually("it is free", || passes(&lab.attacker));
}

#[test]
fn a_ban_is_never_shortened() {
    let lab = Lab::new();
    let guard = guarded(&lab, &allowing(""));
    guard.ctl(&["ban", "192.0.2.1", "--for", "forever"]);
    guard.ctl(&["ban", "192.0.2.1", "--for", "1h"]);
    assert_eq!(guard.bans()[0]["until"], serde_json::Value::Null);
    guard.ctl(&["ban", "192.0.2.2", "--for", "2h"]);
    let until = guard.bans()[1]["until"].clone();
    guard.ctl(&["ban", "192.0.2.2", "--for", "1s"]);
    assert_eq!(guard.bans()[1]["until"], until);
    let timeout = lab.server.sh("ipset list BANWARD-4-all | grep 192.0.2.2");
    let seconds: u32 = timeout.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(seconds > 7000, "{timeout}");
}

fn length(ban: &serde_json::Value) -> i64 {
    let time = |key: &str| ban[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    time("until").duration_since(time("since")).as_secs()
}

#[test]
fn who_comes_back_is_banned_for_longer_by_the_factor() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("none") + &jail("sshd", "ban = { time = \"1s\", factor = 3, max = \"5s\" }")));
    for (count, seconds) in [(1, 1), (2, 3), (3, 5)] {
        fail(&guard, 5, "192.0.2.1");
        eventually(&format!("ban {count}"), || guard.bans().first().is_some_and(|ban| ban["count"] == count));
        assert_eq!(length(&guard.bans()[0]), seconds);
        eventually("it ends", || guard.bans().is_empty());
    }
}

#[test]
fn bans_that_were_over_before_their_log_was_read_count_too() {
    let lab = Lab::new();
    let config = backend("none") + &jail("sshd", "ban = { time = \"1s\", factor = 600, max = \"1d\" }");
    let mut guard = Guard::new(&config);
    let a_minute_ago = super::support::lab::sh("date -d '-60 sec' +%Y-%m-%dT%H:%M:%S.%6N%:z");
    guard.append("sshd.log", &failed_password_at(a_minute_ago.trim(), "root", "192.0.2.1").repeat(5));
    guard.start(&lab.server);
    guard.await_log("the log was read late");
    assert!(guard.bans().is_empty());
    fail(&guard, 5, "192.0.2.1");
    guard.await_ban("192.0.2.1/32");
    assert_eq!(guard.bans()[0]["count"], 2);
    assert_eq!(length(&guard.bans()[0]), 600);
}

#[test]
fn forgeable_evidence_keeps_to_its_budget_and_never_escalates() {
    let lab = Lab::new();
    let config = "[firewall]\nbackend = \"none\"\n[budget]\nper_minute = 6\nat_a_time = 3\nmax = \"2s\"\n\
                  [jail.ping-drop]\nfilter = \"ping-drop\"\nsource = { files = [\"DIR/kern.log\"] }\n\
                  window = { hitcount = 1, seconds = 60 }\nban = { time = \"1h\", factor = 4 }\n";
    let mut guard = Guard::new(config);
    guard.append("kern.log", "");
    guard.start(&lab.server);
    let ping = |source: &str| {
        format!(
            "{} web kernel: [ 1.0] PING-DROP:IN=eth0 OUT= MAC= SRC={source} DST=10.0.0.1 LEN=84 TOS=0x00 PREC=0x00 \
             TTL=64 ID=1 PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1\n",
            now()
        )
    };
    for last in 1..=20 {
        guard.append("kern.log", &ping(&format!("192.0.2.{last}")));
    }
    guard.await_lines(20);
    assert_eq!(guard.bans().len(), 3);
    assert!(guard.bans().iter().all(|ban| length(ban) <= 2 && ban["evidence"] == "forgeable"), "{:?}", guard.bans());
    guard.await_log("forgeable evidence has 3 bans at a time at most");
    eventually("they end", || guard.bans().is_empty());
    guard.append("kern.log", &ping("192.0.2.1"));
    guard.await_ban("192.0.2.1/32");
    assert_eq!((length(&guard.bans()[0]), &guard.bans()[0]["count"]), (2, &1.into()), "as if it had never been there");
    eventually("the minute's budget is used up", || {
        for last in 100..120 {
            guard.append("kern.log", &ping(&format!("192.0.2.{last}")));
        }
        guard.log().contains("forgeable evidence makes 6 bans a minute at most")
    });
}

#[test]
fn who_is_unbanned_with_an_allowance_is_not_banned_again_within_it() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &allowing(""));
    let attacker = lab.attacker.v4.to_string();
    fail(&guard, 5, &attacker);
    eventually("it is shut out", || !passes(&lab.attacker));
    guard.ctl(&["unban", &attacker, "--allow", "1h"]);
    assert!(passes(&lab.attacker));
    fail(&guard, 5, &attacker);
    guard.await_log("is allowed by hand until");
    guard.end("KILL");
    guard.start(&lab.server);
    fail(&guard, 6, &attacker);
    eventually("they are read", || guard.lines() >= 6);
    assert!(guard.bans().is_empty() && passes(&lab.attacker), "a restart does not forget it");
}

#[test]
fn what_a_person_allows_is_let_in_at_once_and_after_a_restart_and_is_taken_back() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &allowing(""));
    let attacker = lab.attacker.v4.to_string();
    fail(&guard, 5, &attacker);
    eventually("it is shut out", || !passes(&lab.attacker));
    let allowed = guard.banctl(&["allow", "add", &attacker, "--comment", "the office"]);
    assert!(said(&allowed).contains(&format!("allowed {attacker} for ever; lifted 1 ban")), "{}", said(&allowed));
    assert!(passes(&lab.attacker) && guard.bans().is_empty());
    is_refused(&guard, &attacker, "is allowed by hand");
    guard.end("KILL");
    guard.start(&lab.server);
    fail(&guard, 6, &attacker);
    eventually("they are read", || guard.lines() >= 6);
    assert!(guard.bans().is_empty() && passes(&lab.attacker));
    let list = said(&guard.banctl(&["allow", "list"]));
    let line = list.lines().find(|line| line.starts_with(&attacker)).unwrap();
    assert!(line.contains("by hand") && line.contains("forever") && line.ends_with("the office"), "{line}");
    assert!(list.contains("own-addresses"), "{list}");
    guard.ctl(&["allow", "remove", &attacker]);
    fail(&guard, 5, &attacker);
    eventually("it is shut out", || !passes(&lab.attacker));
    let again = guard.banctl(&["allow", "remove", &attacker]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("is not allowed"), "{}", said(&again));
}

#[test]
fn what_was_not_allowed_by_hand_says_where_it_is_allowed() {
    let lab = Lab::new();
    let guard = guarded(&lab, &allowing("\"192.0.2.0/24\""));
    let refused = |prefix: &str, why: &str| {
        let refused = guard.banctl(&["allow", "remove", prefix]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
    };
    refused("192.0.2.9", "192.0.2.0/24 is allowed by [allow] networks; change the configuration");
    refused(&lab.attacker.server(false).to_string(), "see allow.protect in the configuration");
    guard.ctl(&["allow", "add", "198.51.100.0/24", "--for", "1h"]);
    refused("198.51.100.7", "198.51.100.0/24 was, remove 198.51.100.0/24 instead");
    let wide = guard.banctl(&["allow", "add", "0.0.0.0/0"]);
    assert_eq!(wide.status.code(), Some(1));
    assert!(said(&wide).contains("too much of the Internet"), "{}", said(&wide));
}
