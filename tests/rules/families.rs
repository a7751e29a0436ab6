//! Every kind of rule lets through what it should and drops what it should: in the mind, and in the kernel with packets
//! of IPv4 and IPv6, by iptables and by nftables.

use crate::probe::{FORMATS, Probe};

/// The same sentences for IPv6.
fn both(sentences: &[&str]) -> Vec<String> {
    let v6 = |sentence: &&str| sentence.replace("ATT4", "ATT6").replace("VIS4", "VIS6");
    sentences.iter().map(|sentence| (*sentence).to_owned()).chain(sentences.iter().map(v6)).collect()
}

#[track_caller]
fn host(section: &str, sentences: &[&str]) {
    let sentences = both(sentences);
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(format, section);
        probe.expect(&sentences);
    }
}

#[test]
fn what_is_not_named_is_dropped_and_ssh_stays_open() {
    host(
        "",
        &[
            "accept in tcp 22 from ATT4",
            "drop in tcp 23 from ATT4",
            "drop in udp 53 from ATT4",
            "drop in ping from ATT4",
        ],
    );
}

#[test]
fn ssh_may_be_open_to_an_address_a_network_or_a_range_alone() {
    let ours = &["accept in tcp 2222 from ATT4", "drop in tcp 2222 from VIS4", "drop in tcp 22 from ATT4"];
    host("ssh = { port = 2222, from = [\"ATT4\", \"ATT6\"] }", ours);
    let lists = ["\"ATT4/32\", \"ATT6/128\"", "\"ATT4-ATT4\", \"ATT6-ATT6\""];
    for list in lists {
        host(&format!("ssh = {{ port = 2222, from = [{list}] }}"), ours);
    }
}

#[test]
fn the_policy_may_be_to_accept_or_to_refuse_politely() {
    host(
        "incoming = \"accept\"\nin = [{ service = \"smtp\", verdict = \"drop\" }]",
        &["accept in tcp 23 from ATT4", "accept in udp 9999 from ATT4", "drop in tcp 25 from ATT4"],
    );
    host(
        "incoming = \"reject\"\nin = [\"http\"]",
        &["accept in tcp 80 from ATT4", "reject in tcp 23 from ATT4", "reject in udp 9999 from ATT4"],
    );
}

#[test]
fn every_named_service_is_open_where_it_is_named() {
    host(
        "in = [\"http\", \"https\", \"dns-queries\", \"smtp\", \"imap\", \"imaps\", \"pop3\", \"pop3s\", \"ldaps\", \
         \"mysql\", \"postgresql\", \"rsync\", \"netbios\", \"ftp\", \"bittorrent\", \"ping\", \"7000-7010/udp\", \
         { service = \"zone-transfer\", from = [\"VIS4\", \"VIS6\"] }, \
         { service = \"ident\", verdict = \"reject\" }]",
        &[
            "accept in tcp 80 from ATT4",
            "accept in tcp 443 from ATT4",
            "accept in udp 53 from ATT4",
            "drop in tcp 53 from ATT4",
            "accept in tcp 53 from VIS4",
            "accept in tcp 25 from ATT4",
            "accept in tcp 143 from ATT4",
            "accept in tcp 993 from ATT4",
            "accept in tcp 110 from ATT4",
            "accept in tcp 995 from ATT4",
            "accept in tcp 636 from ATT4",
            "accept in tcp 3306 from ATT4",
            "accept in tcp 5432 from ATT4",
            "accept in tcp 873 from ATT4",
            "accept in udp 137 from ATT4",
            "accept in udp 138 from ATT4",
            "accept in tcp 139 from ATT4",
            "accept in tcp 21 from ATT4",
            "accept in tcp 6881 from ATT4",
            "accept in tcp 6999 from ATT4",
            "drop in tcp 7000 from ATT4",
            "accept in udp 7000 from ATT4",
            "accept in udp 7010 from ATT4",
            "drop in udp 7011 from ATT4",
            "accept in ping from ATT4",
            "reject in tcp 113 from ATT4",
        ],
    );
}

#[test]
fn a_service_may_be_open_to_some_on_one_interface_and_the_first_match_wins() {
    host(
        "in = [{ service = \"mysql\", on = \"att\" }, { service = \"rsync\", from = [\"VIS4\", \"VIS6\"] }, \
         { service = \"all\", from = [\"VIS4\", \"VIS6\"], verdict = \"drop\" }, \"http\"]",
        &[
            "accept in tcp 3306 from ATT4 on att",
            "drop in tcp 3306 from VIS4 on vis",
            "accept in tcp 873 from VIS4 on vis",
            "drop in tcp 873 from ATT4 on att",
            "drop in tcp 80 from VIS4 on vis",
            "accept in tcp 80 from ATT4 on att",
        ],
    );
}

#[test]
fn trusted_interfaces_are_let_in_without_a_question() {
    let sentences = &["accept in tcp 23 from VIS4 on vis", "drop in tcp 23 from ATT4 on att"];
    host("trusted = [\"vi+\"]", sentences);
    host("outside = \"att\"", sentences);
    let strict = "outgoing = \"drop\"\n";
    let sentences = &["accept out tcp 23 to VIS4 via vis", "drop out tcp 23 to ATT4 via att"];
    host(&format!("{strict}trusted = [\"vi+\"]"), sentences);
    host(&format!("{strict}outside = \"att\""), sentences);
}

#[test]
fn packets_that_no_honest_client_sends_are_dropped() {
    host(
        "in = [\"http\", \"7000/udp\"]\nattacks = [\"xmas\", \"null\", \"fragments\", \"new-without-syn\", \"invalid\", \"bogons\"]",
        &[
            "accept in tcp 80 from ATT4",
            "drop in tcp 80 from ATT4 flags FIN,PSH,URG",
            "drop in tcp 80 from ATT4 flags ALL",
            "drop in tcp 80 from ATT4 flags NONE",
            "drop in tcp 80 from ATT4 flags ACK",
            "drop in tcp 80 from ATT4 flags SYN,FIN",
            "drop in tcp 80 from ATT4 flags FIN",
            "accept in udp 7000 from ATT4",
            "drop in udp 7000 from ATT4 size fragmented",
        ],
    );
}

#[test]
fn without_those_rules_the_same_packets_arrive() {
    host(
        "incoming = \"accept\"\nattacks = []",
        &[
            "accept in tcp 80 from ATT4 flags FIN,PSH,URG",
            "accept in tcp 80 from ATT4 flags NONE",
            "accept in tcp 80 from ATT4 flags ACK",
            "accept in udp 7000 from ATT4 size fragmented",
        ],
    );
}

#[test]
fn spoofed_sources_are_dropped_and_only_by_that_rule() {
    for format in FORMATS {
        let probe = Probe::new();
        for device in ["all", "att"] {
            probe.lab.server.sh(&format!("sysctl -qw net.ipv4.conf.{device}.rp_filter=0"));
        }
        probe.apply(format, "in = [\"http\"]\nattacks = []");
        probe.expect(&["accept in tcp 80 from 240.0.0.9", "accept in tcp 80 from 172.31.0.9"]);
        probe.apply(format, "in = [\"http\"]\nbogons = [\"240.0.0.0/4\", \"172.16.0.0/12\", \"fec0::/10\"]");
        probe.expect(&[
            "drop in tcp 80 from 240.0.0.9",
            "drop in tcp 80 from 172.31.0.9",
            "drop in tcp 80 from fec0::9",
            "accept in tcp 80 from ATT4",
            "accept in tcp 80 from ATT6",
        ]);
    }
}

#[test]
fn floods_of_one_source_do_not_shut_out_another() {
    host(
        "in = [\"http\", \"ping\"]\nping = { limit = \"1/min\", burst = 3 }\nsyn_flood = { limit = \"1/min\", burst = 5 }",
        &[
            "accept in ping from ATT4 times 3",
            "drop in ping from VIS4 times 4",
            "accept in tcp 80 from ATT4 times 5",
            "drop in tcp 80 from VIS4 times 6",
            // A flood does not close the administrator's way in.
            "accept in tcp 22 from VIS4 times 7",
        ],
    );
}

#[test]
fn no_more_than_so_many_new_connections_are_let_in_within_a_time() {
    let section = "ssh = { recent = { hitcount = 10, seconds = 600 } }\n\
                   in = [{ service = \"imap\", recent = { hitcount = 2, seconds = 3 } }]";
    host(
        section,
        &[
            "accept in tcp 22 from ATT4 times 10",
            "drop in tcp 22 from VIS4 times 11",
            "accept in tcp 143 from ATT4 times 2",
            "drop in tcp 143 from VIS4 times 3",
        ],
    );
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(format, section);
        probe.expect(&["drop in tcp 143 from ATT4 times 3"]);
        // What was refused is not counted: the window opens again by itself.
        std::thread::sleep(std::time::Duration::from_millis(3300));
        probe.kernel(&[
            "accept in tcp 143 from ATT4",
            "accept in tcp 22 from ATT4 times 10",
            "drop in tcp 22 from ATT4",
        ]);
    }
}

#[test]
fn a_new_limit_counts_at_once() {
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(format, "in = [\"ping\"]\nping = { limit = \"1/min\", burst = 2 }");
        probe.expect(&["drop in ping from ATT4 times 3"]);
        probe.apply(format, "in = [\"ping\"]\nping = { limit = \"1/min\", burst = 4 }");
        probe.expect(&["accept in ping from VIS4 times 4"]);
    }
}

#[test]
fn what_leaves_is_what_is_named() {
    host(
        "outgoing = \"drop\"\nout = [\"dns\", \"http\", { service = \"ssh\", to = [\"ATT4\", \"ATT6\"] }, \
         { service = \"smtp\", verdict = \"reject\" }]",
        &[
            "accept out udp 53 to ATT4",
            "accept out tcp 53 to ATT4",
            "accept out tcp 80 to ATT4",
            "drop out tcp 443 to ATT4",
            "accept out tcp 22 to ATT4",
            "drop out tcp 22 to VIS4",
            "reject out tcp 25 to ATT4",
            "drop out ping to ATT4",
        ],
    );
    host(
        "out = [{ service = \"smtp\", verdict = \"reject\" }, { service = \"ping\", verdict = \"drop\" }]",
        &["reject out tcp 25 to ATT4", "drop out ping to ATT4", "accept out tcp 443 to ATT4"],
    );
}

#[test]
fn connections_live_in_both_directions_under_the_strictest_policy() {
    for format in FORMATS {
        let probe = Probe::new();
        let (server, attacker) = (&probe.lab.server, &probe.lab.attacker);
        for host in [server, attacker] {
            host.listen(8080);
        }
        probe.apply(format, "outgoing = \"drop\"\nin = [\"8080/tcp\", \"ping\"]\nout = [\"8080/tcp\"]");
        for v6 in [false, true] {
            assert!(attacker.connects(attacker.server(v6), 8080), "{format} {v6}: in");
            assert!(server.connects(attacker.address(v6), 8080), "{format} {v6}: out");
            assert!(attacker.pings(attacker.server(v6)), "{format} {v6}: ping");
        }
        // The machine may talk to itself.
        assert!(server.connects("127.0.0.1".parse().unwrap(), 8080) && server.connects("::1".parse().unwrap(), 8080));
    }
}

#[test]
fn ipv6_finds_its_neighbours_under_the_strictest_policy() {
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(
            format,
            "outgoing = \"drop\"\nssh = false\nin = [\"ping\"]\nattacks = [\"xmas\", \"null\", \"invalid\"]",
        );
        probe.lab.server.sh("ip -6 neigh flush all");
        probe.lab.attacker.sh("ip -6 neigh flush all");
        assert!(probe.lab.attacker.pings(probe.lab.attacker.server(true)), "{format}");
    }
}

/// What the kernel logged about packets from this host.
fn logged(probe: &Probe) -> String {
    let lines = crate::support::lab::sh("dmesg");
    let v4 = format!("SRC={} ", probe.lab.attacker.v4);
    lines.lines().filter(|line| line.contains(&v4)).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_dropped_is_logged_so_much_per_source_and_our_filters_read_it() {
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(
            format,
            "in = [\"http\", \"ping\"]\nping = { limit = \"1/min\", burst = 1 }\n\
             syn_flood = { limit = \"1/min\", burst = 1 }\nlog = { limit = \"1/min\", burst = 3 }",
        );
        probe.kernel(&[
            "drop in ping from ATT4 times 7",
            "drop in tcp 80 from ATT4 times 7",
            "drop in tcp 80 from ATT4 flags NONE",
            "drop in tcp 80 from ATT4 flags FIN,PSH,URG",
            "drop in tcp 80 from ATT4 flags ACK",
            "drop in udp 9 from ATT4",
        ]);
        let path = probe.dir.path().join("kern.log");
        crate::support::eventually("all is logged", || logged(&probe).contains("HOST-DROP: "));
        let lines = logged(&probe);
        std::fs::write(&path, &lines).unwrap();
        for (prefix, count) in
            [("PING-DROP: ", 3), ("syn_flood: ", 3), ("NULL-DROP: ", 1), ("XMAS-DROP: ", 1), ("NEW-NOT-SYN: ", 1)]
        {
            assert_eq!(lines.matches(prefix).count(), count, "{format} {prefix}\n{lines}");
        }
        let filters = concat!(env!("CARGO_MANIFEST_DIR"), "/filters");
        let hits = |filter: &str| {
            let file = path.display().to_string();
            let said = probe.ctl(&["scan", "--json", "--filters", filters, "--filter", filter, &file]);
            said.lines().filter(|line| line.contains(&probe.lab.attacker.v4.to_string())).count()
        };
        assert_eq!((hits("ping-drop"), hits("syn-flood")), (3, 3), "{format}\n{lines}");
        assert!(hits("netfilter") >= 6, "{format}\n{lines}");
    }
}

#[test]
fn the_data_connections_of_ftp_belong_to_it() {
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(format, "in = [\"ftp\"]");
        let (server, attacker) = (&probe.lab.server, &probe.lab.attacker);
        server.listen(40_021);
        assert!(!attacker.connects(attacker.server(false), 40_021), "{format}: it belongs to nothing");
        let control = server.on(|| std::net::TcpListener::bind("0.0.0.0:21").unwrap());
        let mut client = attacker.connect(attacker.server(false), 21).unwrap();
        let (mut session, _) = control.accept().unwrap();
        // The helper looks at lines that follow one.
        std::io::Write::write_all(&mut session, b"220 welcome\r\n").unwrap();
        std::io::Read::read_exact(&mut client, &mut [0; 13]).unwrap();
        let address = attacker.server(false).to_string().replace('.', ",");
        std::io::Write::write_all(&mut client, b"PASV\r\n").unwrap();
        let mut word = [0; 6];
        std::io::Read::read_exact(&mut session, &mut word).unwrap();
        let (high, low) = (40_021 / 256, 40_021 % 256);
        let answer = format!("227 Entering Passive Mode ({address},{high},{low}).\r\n");
        std::io::Write::write_all(&mut session, answer.as_bytes()).unwrap();
        let mut seen = vec![0; answer.len()];
        std::io::Read::read_exact(&mut client, &mut seen).unwrap();
        assert!(attacker.connects(attacker.server(false), 40_021), "{format}: it was announced");
    }
}
