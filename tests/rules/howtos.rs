//! The scripts of the how-tos that many servers run, without their mistakes, and the same said in `[host]`: packets
//! find no difference, by iptables or by nftables. The names of the interfaces are those of the lab.

use crate::probe::{FORMATS, Probe};

/// The sentences are true of the script, and of the section.
#[track_caller]
fn same(script: &str, section: &str, sentences: &[&str]) {
    let probe = Probe::new();
    probe.lab.server.sh(&probe.named(script));
    probe.kernel(sentences);
    for format in FORMATS {
        let probe = Probe::new();
        probe.apply(format, section);
        probe.expect(sentences);
    }
}

#[test]
fn a_server_that_is_strict_in_both_directions() {
    same(
        "iptables -F && iptables -X
        iptables -A INPUT -i lo -j ACCEPT && iptables -A OUTPUT -o lo -j ACCEPT
        for port in 22 80 443 25; do
            iptables -A INPUT -p tcp --dport $port -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
            iptables -A OUTPUT -p tcp --sport $port -m conntrack --ctstate ESTABLISHED -j ACCEPT
        done
        iptables -A OUTPUT -p tcp --dport 25 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        iptables -A INPUT -p tcp --sport 25 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        for protocol in udp tcp; do
            iptables -A OUTPUT -p $protocol -d ATT4 --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
            iptables -A INPUT -p $protocol -s ATT4 --sport 53 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        done
        iptables -A INPUT -p udp --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        iptables -A OUTPUT -p udp --sport 53 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        iptables -A INPUT -p tcp -s VIS4 --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        iptables -A INPUT -p tcp -s ATT4/28 --dport 636 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        iptables -A INPUT -p tcp --dport 873 -m iprange --src-range ATT4-ATT4 -j ACCEPT
        iptables -A INPUT -p icmp --icmp-type 8 -m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT
        iptables -A OUTPUT -p icmp --icmp-type 0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        iptables -A INPUT -p tcp --dport 113 -j REJECT --reject-with tcp-reset
        iptables -A OUTPUT -p tcp --tcp-flags RST RST -j ACCEPT
        for chain in INPUT OUTPUT FORWARD; do iptables -A $chain -j LOG; iptables -P $chain DROP; done",
        "outgoing = \"drop\"\nforwarding = \"drop\"\n\
         in = [\"http\", \"https\", \"smtp\", \"dns-queries\", \"ping\", { service = \"zone-transfer\", from = \"VIS4\" }, \
         { service = \"ldaps\", from = \"ATT4/32\" }, { service = \"rsync\", from = \"ATT4-ATT4\" }, \
         { service = \"ident\", verdict = \"reject\" }]\n\
         out = [\"smtp\", { service = \"dns\", to = \"ATT4\" }]",
        &[
            "accept in tcp 22 from ATT4",
            "accept in tcp 80 from ATT4",
            "accept in tcp 443 from VIS4",
            "accept in tcp 25 from ATT4",
            "accept in udp 53 from ATT4",
            "drop in tcp 53 from ATT4",
            "accept in tcp 53 from VIS4",
            "accept in tcp 636 from ATT4",
            "drop in tcp 636 from VIS4",
            "accept in tcp 873 from ATT4",
            "drop in tcp 873 from VIS4",
            "accept in ping from ATT4",
            "reject in tcp 113 from ATT4",
            "drop in tcp 23 from ATT4",
            "drop in udp 123 from ATT4",
            "accept out tcp 25 to ATT4",
            "accept out udp 53 to ATT4",
            "drop out udp 53 to VIS4",
            "drop out tcp 80 to ATT4",
            "drop out ping to ATT4",
        ],
    );
}

#[test]
fn a_desktop_that_asks_and_is_not_asked() {
    same(
        "iptables -F && iptables -X && iptables -t nat -F && iptables -t mangle -F
        iptables -A INPUT -i lo -j ACCEPT && iptables -A OUTPUT -o lo -j ACCEPT
        iptables -A INPUT -i att -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        iptables -A INPUT -p tcp --destination-port 6881:6999 -j ACCEPT
        iptables -A INPUT -j LOG --log-prefix 'DESKTOP-DROP: '
        iptables -P INPUT DROP && iptables -P OUTPUT ACCEPT",
        "ssh = false\nin = [\"bittorrent\"]",
        &[
            "drop in tcp 22 from ATT4",
            "drop in tcp 80 from ATT4",
            "drop in udp 53 from ATT4",
            "accept in tcp 6881 from ATT4",
            "accept in tcp 6999 from ATT4",
            "drop in tcp 7000 from ATT4",
            "drop in ping from ATT4",
            "accept out tcp 80 to ATT4",
            "accept out udp 53 to ATT4",
        ],
    );
}

#[test]
fn three_services_on_one_interface_and_nothing_else() {
    same(
        "iptables -F
        for port in 22 80; do
            iptables -A INPUT -i att -p tcp --dport $port -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
            iptables -A OUTPUT -o att -p tcp --sport $port -m conntrack --ctstate ESTABLISHED -j ACCEPT
        done
        iptables -A OUTPUT -o att -p tcp --dport 22 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        iptables -A INPUT -i att -p tcp --sport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        for chain in INPUT FORWARD OUTPUT; do iptables -P $chain DROP; done",
        "outgoing = \"drop\"\nforwarding = \"drop\"\nssh = false\n\
         in = [{ service = \"ssh\", on = \"att\" }, { service = \"http\", on = \"att\" }]\n\
         out = [{ service = \"ssh\", on = \"att\" }]",
        &[
            "accept in tcp 22 from ATT4 on att",
            "accept in tcp 80 from ATT4 on att",
            "drop in tcp 22 from VIS4 on vis",
            "drop in tcp 443 from ATT4 on att",
            "accept out tcp 22 to ATT4 via att",
            "drop out tcp 22 to VIS4 via vis",
            "drop out tcp 80 to ATT4 via att",
        ],
    );
}

#[test]
fn a_server_of_many_services_some_for_one_network() {
    same(
        "iptables -A INPUT -i lo -j ACCEPT && iptables -A OUTPUT -o lo -j ACCEPT
        iptables -A INPUT -s 203.0.113.51 -j DROP
        iptables -A INPUT -m conntrack --ctstate INVALID -j DROP
        iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        for port in 22 873 5432; do
            iptables -A INPUT -p tcp -s ATT4 --dport $port -m conntrack --ctstate NEW -j ACCEPT
        done
        iptables -A INPUT -i att -p tcp --dport 3306 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A INPUT -p tcp -m multiport --dports 80,443 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A INPUT -p tcp -m multiport --dports 25,110,143,993,995 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A INPUT -p udp -m multiport --dports 137,138 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A INPUT -p tcp --dport 139 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A OUTPUT -p tcp --dport 25 -j REJECT --reject-with tcp-reset
        iptables -P INPUT DROP
        iptables -P FORWARD DROP",
        "forwarding = \"drop\"\nssh = { from = \"ATT4\" }\nattacks = [\"invalid\"]\n\
         in = [{ service = \"all\", from = \"203.0.113.51\", verdict = \"drop\" }, \
         { service = \"rsync\", from = \"ATT4\" }, { service = \"postgresql\", from = \"ATT4\" }, \
         { service = \"mysql\", on = \"att\" }, \"http\", \"https\", \"smtp\", \"pop3\", \"imap\", \"imaps\", \"pop3s\", \
         \"netbios\"]\n\
         out = [{ service = \"smtp\", verdict = \"reject\" }]",
        &[
            "accept in tcp 22 from ATT4 on att",
            "drop in tcp 22 from VIS4 on vis",
            "accept in tcp 873 from ATT4 on att",
            "drop in tcp 873 from VIS4 on vis",
            "accept in tcp 5432 from ATT4 on att",
            "accept in tcp 3306 from ATT4 on att",
            "drop in tcp 3306 from VIS4 on vis",
            "accept in tcp 443 from VIS4 on vis",
            "accept in tcp 995 from VIS4 on vis",
            "accept in udp 137 from VIS4 on vis",
            "accept in tcp 139 from VIS4 on vis",
            "drop in tcp 80 from ATT4 on att flags FIN,PSH,URG",
            "drop in tcp 80 from ATT4 on att flags NONE",
            "drop in tcp 80 from 203.0.113.51 on att",
            "drop in ping from ATT4 on att",
            "reject out tcp 25 to ATT4 via att",
            "accept out tcp 80 to ATT4 via att",
        ],
    );
}

#[test]
fn common_attacks_and_limits() {
    same(
        "PER_SOURCE='--hashlimit-mode srcip --hashlimit-name'
        iptables -N syn_flood
        iptables -A INPUT -i lo -j ACCEPT
        iptables -A INPUT -p tcp --tcp-flags ALL ALL -j DROP
        iptables -A INPUT -p tcp --tcp-flags ALL FIN,PSH,URG -j DROP
        iptables -A INPUT -p tcp --tcp-flags ALL NONE -j DROP
        iptables -A INPUT -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
        iptables -A INPUT -s 240.0.0.0/4 -j DROP
        iptables -A INPUT -p icmp --icmp-type 8 -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 3 $PER_SOURCE p -j ACCEPT
        iptables -A INPUT -p icmp --icmp-type 8 -m hashlimit --hashlimit-upto 1/s --hashlimit-burst 1 $PER_SOURCE l -j LOG --log-prefix 'PING-DROP: '
        iptables -A INPUT -p icmp --icmp-type 8 -j DROP
        iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --name ssh --rcheck --seconds 600 --hitcount 10 -j DROP
        iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --name ssh --set -j ACCEPT
        iptables -A INPUT -p tcp --syn -j syn_flood
        iptables -A syn_flood -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 5 $PER_SOURCE s -j RETURN
        iptables -A syn_flood -m hashlimit --hashlimit-upto 1/s --hashlimit-burst 1 $PER_SOURCE f -j LOG --log-prefix 'syn_flood: '
        iptables -A syn_flood -j DROP
        iptables -A INPUT -p tcp -m multiport --dports 143,53 -m conntrack --ctstate NEW -j ACCEPT
        iptables -A INPUT -p udp --dport 53 -m conntrack --ctstate NEW -j ACCEPT
        iptables -P INPUT DROP",
        "ssh = { recent = { hitcount = 10, seconds = 600 } }\nin = [\"imap\", \"dns\", \"ping\"]\n\
         ping = { limit = \"1/min\", burst = 3 }\nsyn_flood = { limit = \"1/min\", burst = 5 }",
        &[
            "drop in tcp 143 from ATT4 flags ALL",
            "drop in tcp 143 from ATT4 flags FIN,PSH,URG",
            "drop in tcp 143 from ATT4 flags NONE",
            "drop in tcp 143 from ATT4 flags ACK",
            "drop in tcp 143 from 240.0.0.9",
            "accept in udp 53 from ATT4",
            "accept in ping from ATT4 times 3",
            "drop in ping from VIS4 times 4",
            "accept in tcp 22 from ATT4 times 10",
            "drop in tcp 22 from VIS4 times 11",
            "accept in tcp 143 from ATT4 times 5",
            "drop in tcp 143 from VIS4 times 6",
        ],
    );
}

#[test]
fn a_line_to_the_outside_and_trust_in_the_rest() {
    same(
        "ports='80 20 21'
        iptables -F && iptables -X && iptables -t nat -F && iptables -t nat -X
        iptables -A INPUT ! -i att -j ACCEPT
        iptables -A INPUT -i att -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        for port in $ports; do
            iptables -A INPUT -i att -p udp --dport $port -j ACCEPT
            iptables -A INPUT -i att -p tcp --dport $port -j ACCEPT
        done
        iptables -A INPUT -i att -p tcp -j REJECT --reject-with tcp-reset
        iptables -A INPUT -i att -p udp -j REJECT --reject-with icmp-port-unreachable
        iptables -P INPUT DROP",
        "incoming = \"reject\"\noutside = \"att\"\nssh = false\nin = [\"80\", \"20-21\"]",
        &[
            "accept in tcp 80 from ATT4 on att",
            "accept in udp 21 from ATT4 on att",
            "accept in tcp 20 from ATT4 on att",
            "reject in tcp 22 from ATT4 on att",
            "reject in udp 53 from ATT4 on att",
            "accept in tcp 22 from VIS4 on vis",
            "accept in udp 9999 from VIS4 on vis",
            "accept in ping from VIS4 on vis",
        ],
    );
}
