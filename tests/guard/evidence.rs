//! What better evidence leads to: a whole neighbourhood is shut out, and a short ban becomes a real one.

use std::net::{SocketAddr, TcpListener};

use super::support::eventually;
use super::support::guard::{Guard, failed_password};
use super::support::lab::{Host, Lab};
use super::{PING_RULES, PORT, config, guarded};

/// Whether a ping is answered that is sent from one of the addresses of a host.
fn pings_from(host: &Host, source: &str) -> bool {
    let server = host.server(false);
    host.try_sh(&format!("ping -n -q -c 1 -W 0.7 -I {source} {server}")).status.success()
}

fn neighbours_are_shut_out_together(backend: &str) {
    let lab = Lab::new();
    for last in [1, 2, 3, 9] {
        lab.attacker.sh(&format!("ip addr add 192.0.2.{last}/24 dev up0"));
    }
    lab.server.sh("ip route add 192.0.2.0/24 dev att");
    let guard = guarded(&lab, backend, "widen = { neighbours = 3 }\n");
    for last in 1..=3 {
        assert!(pings_from(&lab.attacker, "192.0.2.9"), "two offenders are no neighbourhood");
        guard.append("auth.log", &failed_password("root", &format!("192.0.2.{last}")).repeat(5));
        guard.await_ban(&format!("192.0.2.{last}/32"));
    }
    eventually("one that has done nothing is shut out with them", || !pings_from(&lab.attacker, "192.0.2.9"));
    assert!(guard.is_banned("192.0.2.0/24") && guard.log().contains("widened 192.0.2.0/24 "));
    eventually("the kernel holds one entry in the place of three", || guard.status()["installed"] == 1);
    let refused = guard.banctl(&["unban", "192.0.2.1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unban 192.0.2.0/24 with it"));
    guard.ctl(&["unban", "192.0.2.0/24"]);
    assert!(pings_from(&lab.attacker, "192.0.2.9"), "the neighbour is free");
    for offender in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!(!pings_from(&lab.attacker, offender), "{offender} has a ban of its own");
    }
    assert_eq!(guard.status()["installed"], 3);
}

#[test]
fn neighbours_are_shut_out_together_by_iptables() {
    neighbours_are_shut_out_together("iptables");
}

#[test]
fn neighbours_are_shut_out_together_by_nftables() {
    neighbours_are_shut_out_together("nftables");
}

#[test]
fn a_connection_that_the_kernel_tracks_confirms_a_ping_flood_if_that_is_wanted() {
    for (wanted, expected) in [("[\"handshakes\"]", "proven"), ("[]", "forgeable")] {
        let lab = Lab::new();
        lab.server.sh("iptables -A INPUT -m conntrack --ctstate ESTABLISHED -p tcp -j ACCEPT");
        lab.server.sh(PING_RULES);
        let jail = "[jail.ping-drop]\nfilter = \"ping-drop\"\nsource = \"kernel\"\n\
                    window = { hitcount = 3, seconds = 60 }\n";
        let mut guard = Guard::new(&config("none", &format!("[budget]\ncorroborate = {wanted}\n{jail}")));
        guard.start(&lab.server);
        let any = SocketAddr::new("::".parse().expect("an address"), PORT);
        let listener = lab.server.on(|| TcpListener::bind(any).expect("the port is free"));
        let open = lab.attacker.connect(lab.attacker.server(false), PORT).expect("it connects");
        let accepted = listener.accept().expect("a connection");
        let prefix = format!("{}/32", lab.attacker.v4);
        eventually("the flood is banned", || {
            lab.attacker.sh(&format!("ping -n -q -i 0.01 -c 20 -W 0.1 {} || true", lab.attacker.server(false)));
            guard.is_banned(&prefix)
        });
        let is_as_expected = |ban: &serde_json::Value| ban["prefix"] == *prefix && ban["evidence"] == expected;
        eventually("its evidence is as good as that", || guard.bans().iter().any(is_as_expected));
        let confirmed = guard.log().contains(&format!("confirmed {} ", lab.attacker.v4));
        assert_eq!(confirmed, expected == "proven", "{}", guard.log());
        drop((open, accepted));
    }
}
