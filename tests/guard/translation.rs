//! Ports that are translated before our rules see them: published ports of a container, and redirections.

use std::net::IpAddr;

use super::*;

/// Ports of the server that lead to port [`INNER`] of the visitor, who is its container here.
const PUBLISHED: u16 = 8080;
const OTHER: u16 = 9090;
const INNER: u16 = 80;
/// The port of the server that leads to its own [`PORT`].
const REDIRECTED: u16 = 8081;

fn translate(lab: &Lab) {
    lab.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (tool, v6) in [("iptables", false), ("ip6tables", true)] {
        let inner = match lab.visitor.address(v6) {
            IpAddr::V4(address) => format!("{address}:{INNER}"),
            IpAddr::V6(address) => format!("[{address}]:{INNER}"),
        };
        for port in [PUBLISHED, OTHER] {
            lab.server.sh(&format!(
                "{tool} -t nat -A PREROUTING -i att -p tcp --dport {port} -j DNAT --to-destination {inner}"
            ));
        }
        lab.server
            .sh(&format!("{tool} -t nat -A PREROUTING -p tcp --dport {REDIRECTED} -j REDIRECT --to-ports {PORT}"));
        let family = if v6 { "-6" } else { "-4" };
        lab.visitor.sh(&format!("ip {family} route add default via {}", lab.visitor.server(v6)));
    }
    lab.visitor.listen(INNER);
}

fn reaches(lab: &Lab, v6: bool, port: u16) -> bool {
    lab.attacker.connects(lab.attacker.server(v6), port)
}

fn ban(lab: &Lab, guard: &Guard) {
    for v6 in [false, true] {
        brute_force(guard, &lab.attacker, v6);
        guard.await_ban(&banned_as(&lab.attacker, v6));
    }
}

/// The port that people know is the one that packets are sent to.
fn a_published_port_is_shut(backend: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, &format!("ports = [\"{PUBLISHED}/tcp\", \"{REDIRECTED}/tcp\"]\n"));
    ban(&lab, &guard);
    // Nothing was tracked, so nothing was translated, until now.
    translate(&lab);
    for v6 in [false, true] {
        eventually("another port leads to the container", || reaches(&lab, v6, OTHER));
        for port in [PUBLISHED, REDIRECTED] {
            eventually(&format!("port {port} is shut"), || !reaches(&lab, v6, port));
        }
        assert!(reaches(&lab, v6, OTHER) && reaches(&lab, v6, PORT), "other ports stay open");
        assert!(lab.visitor.connects(lab.visitor.server(v6), REDIRECTED), "and this one for others");
    }
    for v6 in [false, true] {
        guard.ctl(&["unban", &banned_as(&lab.attacker, v6)]);
        assert!(reaches(&lab, v6, PUBLISHED) && reaches(&lab, v6, REDIRECTED));
    }
}

/// The port of the container is as good, whichever ports lead there.
fn a_port_of_a_container_is_shut(backend: &str) {
    let lab = Lab::new();
    translate(&lab);
    let guard = guarded(&lab, backend, &format!("ports = [\"{INNER}/tcp\"]\n"));
    for v6 in [false, true] {
        for port in [PUBLISHED, OTHER, REDIRECTED] {
            eventually(&format!("port {port} is open"), || reaches(&lab, v6, port));
        }
    }
    ban(&lab, &guard);
    for v6 in [false, true] {
        for port in [PUBLISHED, OTHER] {
            eventually(&format!("port {port} is shut"), || !reaches(&lab, v6, port));
        }
        assert!(reaches(&lab, v6, REDIRECTED) && reaches(&lab, v6, PORT), "other ports stay open");
    }
    let rules = lab.server.sh("iptables-save; nft list ruleset");
    assert!(rules.contains("ctorigdstport") || rules.contains("ct original proto-dst"), "{rules}");
}

#[test]
fn iptables_bans_of_a_published_port_hold() {
    a_published_port_is_shut("iptables");
}

#[test]
fn nftables_bans_of_a_published_port_hold() {
    a_published_port_is_shut("nftables");
}

#[test]
fn plain_bans_of_a_published_port_hold() {
    a_published_port_is_shut("plain");
}

#[test]
fn iptables_bans_of_a_containers_port_hold() {
    a_port_of_a_container_is_shut("iptables");
}

#[test]
fn nftables_bans_of_a_containers_port_hold() {
    a_port_of_a_container_is_shut("nftables");
}
