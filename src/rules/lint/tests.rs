use super::*;

/// The codes of the mistakes of a text, each with its line.
fn codes(text: &str) -> Vec<(usize, &'static str)> {
    lint(text).iter().map(|finding| (finding.place(text).line, finding.code)).collect()
}

/// The one mistake of a line in an otherwise flawless script.
#[track_caller]
fn found(line: &str) -> &'static str {
    let text = format!("{CLEAN}{line}\n");
    let last = text.lines().count();
    let found: Vec<_> = codes(&text).into_iter().filter(|(at, _)| *at == last).map(|(_, code)| code).collect();
    assert_eq!(found.len(), 1, "{line}: {found:?}");
    found[0]
}

/// Run twice, over SSH, it does the same, for both families.
const CLEAN: &str = "#!/bin/sh
for tool in 4 6; do :; done
iptables -P INPUT ACCEPT
iptables -F
iptables -X
ip6tables -P INPUT ACCEPT
ip6tables -F
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -s 192.0.2.66 -j DROP # somebody
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT
iptables -A INPUT -m hashlimit --hashlimit-upto 1/s --hashlimit-mode srcip --hashlimit-name log \\
    -j LOG --log-prefix \"DROP: \"
iptables -P INPUT DROP
ip6tables -A INPUT -j DROP
";

#[test]
fn a_flawless_script_has_no_mistake() {
    assert_eq!(codes(CLEAN), []);
    assert_eq!(codes(""), []);
    assert_eq!(codes("echo 'iptables – later'\n").len(), 1, "typography matters wherever it stands");
}

#[test]
fn each_mistake_of_the_how_tos_is_named() {
    for (line, code) in [
        ("iptables -p INPUT DROP", "policy"),
        ("iptables -A input -p udp -j DROP", "letters"),
        ("iptables -a INPUT -p udp -j DROP", "letters"),
        ("iptables -A OUTPUT -i lo -j ACCEPT", "wrong-interface"),
        ("iptables -A INPUT -o eth0 -j ACCEPT", "wrong-interface"),
        ("iptables -A OUTPUT-p tcp -j ACCEPT", "missing-space"),
        ("iptables -A INPUT -p tcp -j REJECT --reject-withtcp-reset", "missing-space"),
        ("iptables -A INPUT -p tcp -dport 22 -j ACCEPT", "one-dash"),
        ("iptables -A INPUT -p tpc --dport 80 -j ACCEPT", "protocol"),
        ("iptables -A INPUT -p tcp –dport 80 -j ACCEPT", "typography"),
        ("echo “done”", "typography"),
        ("iptables -I INPUT -s 202.54.20.1/24 -j DROP", "host-bits"),
        ("iptables -A INPUT -p udp -j LOG --log-prefix PING-DROP:", "log-prefix"),
        ("iptables -A INPUT -p udp -j LOG --log-prefix \"a prefix that is longer than they may be \"", "log-prefix"),
        ("iptables -A INPUT -p udp -j LOG", "log-prefix"),
        ("iptables -A INPUT -s 192.0.2.9 -j DROP", "behind-established"),
        (
            "iptables -A INPUT -p tcp --dport 22 -m state --state NEW,ESTABLISHED -m recent --set -j ACCEPT",
            "recent-established",
        ),
        ("iptables -A INPUT -p tcp --syn -m limit --limit 1/s -j ACCEPT", "shared-limit"),
        ("iptables -A INPUT -p udp -m limit --limit 1/s -j LOG --log-prefix \"UDP: \"", "shared-log-limit"),
        ("iptables -A INPUT -f -j DROP", "fragments"),
        ("iptables -A INPUT -p icmp -j DROP", "all-icmp"),
        ("Iptables -A INPUT -p udp -j DROP", "capital"),
        ("IPS=$(grep -Ev \"^#\" $BLOCKDB)", "inline-comments"),
        ("for port in \"$PORTS\"; do", "quoted-list"),
        ("PORTS = '80 21'", "assignment"),
        ("modprobe ip_conntrack_ftp", "old-module"),
    ] {
        assert_eq!(found(line), code, "{line}");
    }
}

#[test]
fn what_is_right_is_not_called_a_mistake() {
    for line in [
        "sudo /sbin/iptables -A INPUT -p tcp --dport 80 -j ACCEPT",
        "$IPT -A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT",
        "iptables -A INPUT -p tcp ! --syn -m conntrack --ctstate NEW -j DROP",
        "iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set --name ssh",
        "iptables -A INPUT -p icmp --icmp-type echo-request -j DROP",
        "iptables -A INPUT -p icmp -j LOG --log-prefix 'PING-DROP: '",
        "iptables -I INPUT -s 192.0.2.9 -j DROP",
        "iptables -A INPUT -p tcp -j REJECT --reject-with tcp-reset",
        "# iptables -A INPUT -p tpc -j ACCEPT, as an example – of what not to write",
        "for port in $PORTS; do",
        "for port in \"${ports[@]}\"; do",
        "PORTS='80 21'",
    ] {
        assert_eq!(codes(&format!("{CLEAN}{line}\n")), [], "{line}");
    }
}

#[test]
fn a_script_that_shuts_out_who_runs_it_is_named() {
    let closing = "iptables -F\niptables -P INPUT DROP\niptables -A INPUT -i lo -j ACCEPT\n";
    let opening = "iptables -A INPUT -p tcp --dport 22 -m state --state NEW,ESTABLISHED -j ACCEPT\n";
    let codes = |text: &str| codes(text).into_iter().filter(|(_, code)| *code != "ipv4-only").collect::<Vec<_>>();
    let late = codes(&format!("{closing}{opening}"));
    assert_eq!(late, [(1, "flush-then-drop"), (2, "lockout")]);
    let never = codes(closing);
    assert_eq!(never, [(1, "flush-then-drop"), (2, "lockout"), (2, "no-answers")]);
    let policy_last = format!(
        "iptables -P INPUT ACCEPT\niptables -F\niptables -A INPUT -i lo -j ACCEPT\n{opening}iptables -P INPUT DROP\n"
    );
    assert_eq!(codes(&policy_last), []);
}

#[test]
fn what_is_missing_or_comes_too_late_is_named() {
    let text = "iptables -A INPUT -j DROP\niptables -A INPUT -p tcp --dport 80 -j ACCEPT\n";
    assert_eq!(codes(text), [(1, "ipv4-only"), (1, "not-idempotent"), (2, "unreachable")]);
    let flood = "iptables -F\nip6tables -F\niptables -N syn_flood\n\
                 iptables -A syn_flood -m hashlimit --hashlimit-upto 1/s -j RETURN\niptables -A syn_flood -j DROP\n";
    assert_eq!(codes(flood), [(5, "no-log")]);
    assert_eq!(codes("! /Bin/bash\n"), [(1, "shebang")]);
}

#[test]
fn a_saved_table_is_read_too() {
    let save = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [12:34]\n:FORWARD ACCEPT [0:0]\n\
                -A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j LOG --log-prefix \"PING-DROP:\"\n\
                -A INPUT -j DROP\n-A INPUT -p udp -j ACCEPT\nCOMMIT\n";
    let expected = [(5, "no-answers"), (5, "no-loopback"), (8, "log-prefix"), (10, "unreachable")];
    assert_eq!(codes(save), expected);
}

#[test]
fn what_a_chain_leads_to_belongs_to_it() {
    let save = "*filter\n:INPUT DROP [0:0]\n:RH-Firewall-1-INPUT - [0:0]\n-A INPUT -j RH-Firewall-1-INPUT\n\
                -A RH-Firewall-1-INPUT -i lo -j ACCEPT\n\
                -A RH-Firewall-1-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    assert_eq!(codes(save), []);
}

#[test]
fn our_own_rules_have_no_mistake() {
    let plan = crate::rules::plan(&crate::rules::Host::default());
    for family in crate::rules::model::Family::BOTH {
        let text = crate::rules::saved::fresh(&crate::rules::iptables::tables(&plan, family));
        assert!(text.contains("BANWARD-HOST-IN"));
        assert_eq!(codes(&text), []);
    }
}

#[test]
fn no_text_makes_it_stumble() {
    for text in [
        "\u{0}",
        "iptables",
        "iptables -A",
        "iptables -t",
        "*",
        ":\nCOMMIT",
        "-A\nCOMMIT\n*",
        "'",
        "“",
        "iptables \\",
        "iptables -A “",
        "# iptables",
    ] {
        lint(text);
    }
    let long = "iptables -A INPUT -p tpc -j ACCEPT\n".repeat(5000);
    assert_eq!(lint(&long).len(), MAX_FINDINGS);
}
