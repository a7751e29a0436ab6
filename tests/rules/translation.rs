//! Forwarding, and packets that leave with another address than they came with.

use std::net::TcpListener;

use crate::probe::{FORMATS, Probe};
use crate::support::eventually;

/// A server that forwards between its two neighbours.
fn router() -> Probe {
    let probe = Probe::new();
    let (attacker, visitor) = (&probe.lab.attacker, &probe.lab.visitor);
    probe.lab.server.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for host in [attacker, visitor] {
        host.sh(&format!(
            "ip route add default via {} && ip -6 route add default via {}",
            host.server(false),
            host.server(true)
        ));
    }
    probe
}

#[test]
fn only_what_is_named_is_forwarded() {
    for format in FORMATS {
        let probe = router();
        probe.apply(
            format,
            "forwarding = \"drop\"\nforward = [{ on = \"vis\", via = \"att\" }, \
             { service = \"http\", from = [\"ATT4\", \"ATT6\"], to = [\"VIS4\", \"VIS6\"] }, \
             { service = \"smtp\", verdict = \"reject\" }]",
        );
        for (att, vis) in [("ATT4", "VIS4"), ("ATT6", "VIS6")] {
            let sentences = [
                format!("accept forward tcp 80 from {att} to {vis} on att via vis"),
                format!("drop forward tcp 443 from {att} to {vis} on att via vis"),
                format!("reject forward tcp 25 from {att} to {vis} on att via vis"),
                format!("accept forward udp 9 from {vis} to {att} on vis via att"),
            ];
            probe.expect(&sentences.each_ref().map(String::as_str));
        }
    }
}

#[test]
fn a_forwarded_port_reaches_the_machine_behind_and_nothing_else_does() {
    for format in FORMATS {
        let probe = router();
        probe.apply(
            format,
            "forwarding = \"drop\"\ndnat = [{ service = \"6881-6889/tcp\", on = \"att\", to = \"VIS4\" }, \
             { service = \"http\", on = \"att\", to = \"VIS6\", port = 8080 }]",
        );
        let (attacker, visitor) = (&probe.lab.attacker, &probe.lab.visitor);
        for port in [6885, 8080, 6890] {
            visitor.listen(port);
        }
        assert!(attacker.connects(attacker.server(false), 6885), "{format}");
        // The router's link-local addresses are young: it may not know its neighbours yet.
        eventually("the port is forwarded", || attacker.connects(attacker.server(true), 80));
        assert!(!attacker.connects(attacker.server(false), 6890), "{format}");
        assert!(!attacker.connects(visitor.v4, 6890), "{format}");
    }
}

#[test]
fn who_leaves_by_the_outer_interface_has_another_address() {
    for format in FORMATS {
        for (section, changed) in [("", true), (", source = \"10.250.250.10-10.250.250.20\"", false)] {
            let probe = router();
            probe.lab.attacker.sh("ip route add 10.250.250.0/24 dev up0");
            probe.apply(format, &format!("snat = [{{ from = [\"VIS4\"], via = \"att\"{section} }}]"));
            let (attacker, visitor) = (&probe.lab.attacker, &probe.lab.visitor);
            let listener = attacker.on(|| TcpListener::bind("0.0.0.0:8080").unwrap());
            listener.set_nonblocking(true).unwrap();
            let connected = visitor.connects(attacker.v4, 8080);
            if changed {
                assert!(connected, "{format}");
                let (_, peer) = listener.accept().unwrap();
                assert_eq!(peer.ip(), attacker.server(false), "{format}");
            } else {
                // Nobody answers for the addresses of the range, but the first packet has one of them.
                assert!(!connected, "{format}");
                let neighbours = attacker.sh("ip neigh show");
                assert!(neighbours.contains("10.250.250."), "{format}: {neighbours}");
            }
        }
    }
}
