//! What a jail's bans concern: some ports, one interface, one direction; how they answer; and the stage before a drop.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::guard::{Guard, failed_password};
use super::support::lab::{Host, Lab};
use super::{banned_as, brute_force, eventually, guarded, passes, sshd_jail};

const BOTH: [bool; 2] = [false, true];

/// How long a packet may take before it counts as dropped.
const LOST: Duration = Duration::from_millis(500);

/// The port of QUIC.
const QUIC: u16 = 443;

/// Bans a host by both its addresses.
fn ban(guard: &Guard, host: &Host) {
    for v6 in BOTH {
        brute_force(guard, host, v6);
        guard.await_ban(&banned_as(host, v6));
    }
}

fn listed(guard: &Guard, prefix: &str) -> Value {
    guard.bans().into_iter().find(|ban| ban["prefix"] == prefix).expect("it is listed")
}

/// The stage of a ban: without a word, it drops.
fn stage(guard: &Guard, prefix: &str) -> String {
    listed(guard, prefix)["stage"].as_str().unwrap_or("drop").to_owned()
}

/// A socket for datagrams that gives up on what does not arrive.
fn datagrams(host: &Host, port: u16) -> UdpSocket {
    let socket = host.on(move || UdpSocket::bind(("::", port)).expect("the port is free"));
    socket.set_read_timeout(Some(LOST)).expect("a timeout");
    socket
}

/// Whether a datagram from one host arrives at another.
fn arrives(from: &Host, to: IpAddr, at: &UdpSocket) -> bool {
    let port = at.local_addr().expect("it has one").port();
    let socket = datagrams(from, 0);
    // What came late is no answer to what is sent now.
    at.set_nonblocking(true).expect("a mode");
    while at.recv(&mut [0; 8]).is_ok() {}
    at.set_nonblocking(false).expect("a mode");
    // What our own rules drop on its way out is refused to the sender.
    let _refused = socket.send_to(b"?", (to, port));
    at.recv(&mut [0; 8]).is_ok()
}

/// Opens a connection to a server that says again what it is told.
fn conversation(lab: &Lab, host: &Host, port: u16) -> TcpStream {
    let listener = lab.server.on(move || std::net::TcpListener::bind(("::", port)).expect("the port is free"));
    let stream = host.connect(host.server(false), port).expect("it connects");
    let (mut theirs, _) = listener.accept().expect("it is accepted");
    std::thread::spawn(move || {
        let mut word = [0; 8];
        while let Ok(length @ 1..) = theirs.read(&mut word) {
            if theirs.write_all(&word[..length]).is_err() {
                return;
            }
        }
    });
    stream.set_read_timeout(Some(LOST)).expect("a timeout");
    stream
}

fn goes_on(stream: &mut TcpStream) -> bool {
    stream.write_all(b"?").is_ok() && stream.read(&mut [0; 8]).is_ok_and(|length| length > 0)
}

fn an_interface_is_a_bound(backend: &str, interface: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, &format!("interface = \"{interface}\"\n"));
    let (mut shut, mut open) = (conversation(&lab, &lab.attacker, 7001), conversation(&lab, &lab.visitor, 7002));
    assert!(goes_on(&mut shut) && goes_on(&mut open));
    ban(&guard, &lab.attacker);
    ban(&guard, &lab.visitor);
    for v6 in BOTH {
        eventually("who comes by this interface is shut out", || !passes(&lab.attacker, v6));
        assert!(!lab.attacker.pings(lab.attacker.server(v6)));
        assert!(passes(&lab.visitor, v6), "who comes by another one is not, banned or not");
        assert!(lab.visitor.pings(lab.visitor.server(v6)));
    }
    assert!(!goes_on(&mut shut), "an open connection ends at once");
    assert!(goes_on(&mut open), "one by another interface goes on");
    let why = guard.ctl(&["why", &lab.attacker.v4.to_string()]);
    assert!(why.contains("on at"), "{why}");
}

#[test]
fn a_ban_of_iptables_counts_on_its_interface_only() {
    an_interface_is_a_bound("iptables", "at+");
}

#[test]
fn a_ban_of_nftables_counts_on_its_interface_only() {
    an_interface_is_a_bound("nftables", "at*");
}

fn a_direction_is_a_bound(backend: &str) {
    for (direction, egress) in [("in", true), ("both", false)] {
        let lab = Lab::new();
        let scope = format!("interface = \"att\"\ndirection = \"{direction}\"\n");
        let mut guard =
            Guard::new(&format!("[firewall]\nbackend = \"{backend}\"\negress = {egress}\n{}", sshd_jail(&scope)));
        guard.append("auth.log", "");
        guard.start(&lab.server);
        let (theirs, ours) = (datagrams(&lab.attacker, 7000), datagrams(&lab.server, 7000));
        for v6 in BOTH {
            eventually("packets pass", || arrives(&lab.server, lab.attacker.address(v6), &theirs));
            eventually("packets pass back", || arrives(&lab.attacker, lab.attacker.server(v6), &ours));
        }
        ban(&guard, &lab.attacker);
        for v6 in BOTH {
            eventually("its packets are dropped", || !arrives(&lab.attacker, lab.attacker.server(v6), &ours));
            let passes = arrives(&lab.server, lab.attacker.address(v6), &theirs);
            assert_eq!(passes, direction == "in", "{direction}: our own packets to it, v6 {v6}");
        }
        assert_eq!(listed(&guard, &banned_as(&lab.attacker, false))["direction"], direction);
    }
}

#[test]
fn the_direction_of_a_jail_overrides_the_firewalls_in_iptables() {
    a_direction_is_a_bound("iptables");
}

#[test]
fn the_direction_of_a_jail_overrides_the_firewalls_in_nftables() {
    a_direction_is_a_bound("nftables");
}

/// Counts the ICMP errors of one code that reach a host.
const COUNT_PROHIBITED: &str =
    "iptables -A INPUT -p icmp --icmp-type 3/13; ip6tables -A INPUT -p ipv6-icmp --icmpv6-type 1/1";

fn a_jail_answers_as_it_says(backend: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, "target = \"PROHIBIT\"\n");
    lab.attacker.sh(COUNT_PROHIBITED);
    let count = |tool: &str| -> u64 {
        let rules = lab.attacker.sh(&format!("{tool} -nvxL INPUT"));
        rules.lines().nth(2).and_then(|rule| rule.split_whitespace().next()?.parse().ok()).expect("a rule")
    };
    // Who is banned finds no neighbours any more: they are to know each other before.
    assert!(BOTH.into_iter().all(|v6| passes(&lab.attacker, v6)));
    ban(&guard, &lab.attacker);
    for (v6, tool) in [(false, "iptables"), (true, "ip6tables")] {
        eventually("who is banned is told that it is prohibited", || !passes(&lab.attacker, v6) && count(tool) > 0);
        let before = count(tool);
        assert!(!lab.attacker.pings(lab.attacker.server(v6)));
        assert!(count(tool) > before, "pings are answered in the same way");
        assert!(passes(&lab.visitor, v6));
    }
}

#[test]
fn a_jail_of_iptables_answers_that_it_is_prohibited() {
    a_jail_answers_as_it_says("iptables");
}

#[test]
fn a_jail_of_nftables_answers_that_it_is_prohibited() {
    a_jail_answers_as_it_says("nftables");
}

fn quic_is_shut_out(backend: &str) {
    let lab = Lab::new();
    let guard = guarded(&lab, backend, "ports = [\"443/udp\", \"80/tcp\"]\n");
    let (quic, other) = (datagrams(&lab.server, QUIC), datagrams(&lab.server, QUIC + 1));
    lab.server.listen(QUIC);
    ban(&guard, &lab.attacker);
    for v6 in BOTH {
        let server = lab.attacker.server(v6);
        eventually("its datagrams to the port are dropped", || !arrives(&lab.attacker, server, &quic));
        assert!(arrives(&lab.attacker, server, &other), "those to another port are not");
        assert!(lab.attacker.connects(server, QUIC), "nor is TCP to the same one");
        assert!(arrives(&lab.visitor, lab.visitor.server(v6), &quic), "nor are another host's");
    }
}

#[test]
fn ports_of_udp_are_shut_by_iptables() {
    quic_is_shut_out("iptables");
}

#[test]
fn ports_of_udp_are_shut_by_nftables() {
    quic_is_shut_out("nftables");
}

const RATE: f64 = 5.0;
const BURST: f64 = 10.0;

/// Sends many datagrams for more than a second; how many arrive, and how many the limit lets through at most.
fn flood(from: &Host, to: IpAddr, at: &UdpSocket) -> (f64, f64) {
    let socket = datagrams(from, 0);
    let port = at.local_addr().expect("it has one").port();
    let (start, mut arrived) = (Instant::now(), 0.0);
    for _ in 0..40 {
        for _ in 0..5 {
            socket.send_to(b"?", (to, port)).expect("it is sent");
        }
        std::thread::sleep(Duration::from_millis(20));
        at.set_nonblocking(true).expect("a socket");
        while at.recv(&mut [0; 8]).is_ok() {
            arrived += 1.0;
        }
        at.set_nonblocking(false).expect("a socket");
    }
    (arrived, BURST + RATE * (start.elapsed().as_secs_f64() + 1.0))
}

fn a_source_is_limited_before_it_is_dropped(backend: &str) {
    let lab = Lab::new();
    let stages = format!("stage = [\"limit\", \"drop\"]\nlimit = {{ rate = \"{RATE}/s\", burst = {BURST} }}\n");
    let mut guard = guarded(&lab, backend, &stages);
    let service = datagrams(&lab.server, 7000);
    let blocked = |guard: &Guard, host: &Host| {
        let file = std::fs::read_to_string(guard.path("ip.blocked")).unwrap_or_default();
        file.lines().any(|line| line == host.v4.to_string())
    };
    ban(&guard, &lab.attacker);
    assert!(guard.log().contains(&format!("limited {} jail=sshd until=", lab.attacker.v4)), "{}", guard.log());
    for v6 in BOTH {
        assert_eq!(stage(&guard, &banned_as(&lab.attacker, v6)), "limit");
        let server = lab.attacker.server(v6);
        let mut measured = (0.0, 0.0);
        eventually("the limit holds", || {
            measured = flood(&lab.attacker, server, &service);
            measured.0 <= measured.1
        });
        assert!(measured.0 > 0.0, "some pass: {measured:?}");
        let (others, limit) = flood(&lab.visitor, lab.visitor.server(v6), &service);
        assert!(others > limit, "{others} of another host, which is not limited");
        eventually("it may connect again", || passes(&lab.attacker, v6));
    }
    let listed_with_counters = guard.ctl(&["list", "--counters", "--json"]);
    assert!(!listed_with_counters.contains("\"packets\":0"), "what was dropped is counted: {listed_with_counters}");
    let why = guard.ctl(&["why", &lab.attacker.v4.to_string()]);
    assert!(why.contains("is limited") && why.contains("limited to 5/second"), "{why}");
    assert!(guard.ctl(&["metrics"]).contains("banward_jail_limited{jail=\"sshd\"} 2"));
    assert!(!guard.ctl(&["export"]).contains(&lab.attacker.v4.to_string()));

    guard.end("KILL");
    guard.start(&lab.server);
    for v6 in BOTH {
        assert_eq!(stage(&guard, &banned_as(&lab.attacker, v6)), "limit", "a restart keeps the stage");
        for _ in 0..4 {
            guard.append("auth.log", &failed_password("root", &lab.attacker.address(v6).to_string()));
        }
    }
    guard.await_lines(8);
    assert_eq!(stage(&guard, &banned_as(&lab.attacker, false)), "limit", "less than an offence is not enough");
    assert!(!blocked(&guard, &lab.attacker), "who is limited does not stand in the blocklist file");
    for v6 in BOTH {
        guard.append("auth.log", &failed_password("root", &lab.attacker.address(v6).to_string()));
        eventually("the next offence drops", || stage(&guard, &banned_as(&lab.attacker, v6)) == "drop");
        eventually("nothing passes any more", || !arrives(&lab.attacker, lab.attacker.server(v6), &service));
        assert!(!lab.attacker.pings(lab.attacker.server(v6)));
        assert!(passes(&lab.visitor, v6));
    }
    assert_eq!(guard.bans().len(), 2, "it is the same ban, one stage further");
    eventually("now it stands in the blocklist file", || blocked(&guard, &lab.attacker));
}

#[test]
fn a_first_offence_limits_and_the_next_one_drops_in_iptables() {
    a_source_is_limited_before_it_is_dropped("iptables");
}

#[test]
fn a_first_offence_limits_and_the_next_one_drops_in_nftables() {
    a_source_is_limited_before_it_is_dropped("nftables");
}
