//! The kernel's packet log (`LOG`, `nft log`): `PREFIX IN=eth0 OUT= … SRC=… DST=… PROTO=TCP SPT=… DPT=… SYN …`.
//! In: a kernel message. Out: the sender of a packet that a rule describes. What the kernel prints of a packet that
//! is an answer to one of ours, or of one that this host sent, accuses nobody.

use std::cell::Cell;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::address;
use super::syslog::skip_blanks;

/// Which logged packets count. An empty list means: any.
#[derive(Clone, Debug, Default)]
pub(crate) struct PacketRule {
    /// LOG prefixes, without the blanks and colons they may end with.
    pub(crate) prefixes: Vec<Box<[u8]>>,
    /// As the kernel prints them: `TCP`, `UDP`, `ICMP`, `ICMPv6`, or a number.
    pub(crate) protocols: Vec<String>,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    /// ICMP types.
    pub(crate) types: Vec<u8>,
    /// TCP flags that must be set; `ACK`, `RST` and `FIN` must not be set when they are not among them.
    pub(crate) flags: Option<Flags>,
}

/// TCP flags as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const NAMES: [&'static str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    const RST: Flags = Flags(1 << 2);
    const ACK: Flags = Flags(1 << 4);
    /// Those that tell what kind of segment it is.
    const TELLING: Flags = Flags(0b1_0111);

    pub(crate) fn named(name: &[u8]) -> Option<Flags> {
        // All names are of this length; most words of a message are not.
        let name: &[u8; 3] = name.try_into().ok()?;
        Flags::NAMES.iter().position(|known| known.as_bytes().first_chunk() == Some(name)).map(|bit| Flags(1 << bit))
    }

    pub(crate) fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// All of `wanted` are set, and no telling one beside them.
    fn are(self, wanted: Flags) -> bool {
        self.has(wanted) && self.0 & Flags::TELLING.0 & !wanted.0 == 0
    }
}

/// Longest prefix that is looked at: `NF_LOG_PREFIXLEN` of the kernel is 128.
const LONGEST_PREFIX: usize = 128;

/// Words of LOG prefixes on packets that were let through.
const LET_THROUGH: [&[u8]; 7] = [b"ACCEPT", b"ALLOW", b"AUDIT", b"PERMIT", b"PASS", b"OK", b"ESTABLISHED"];

/// ICMP types that report trouble with a packet of ours (RFC 792): unreachable, source quench, redirect, time
/// exceeded, parameter problem.
const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];

/// The same of `ICMPv6` (RFC 4443).
const ICMPV6_ERRORS: RangeInclusive<u8> = 1..=4;

/// UDP services whose late answers look like probes of high ports: DNS, NTP, QUIC, STUN.
const ANSWERING_PORTS: [u16; 4] = [53, 123, 443, 3478];

impl PacketRule {
    /// A prefix as a user writes it; `None` when nothing is left of it.
    pub(crate) fn stem(prefix: &str) -> Option<Box<[u8]>> {
        let stem = prefix.trim_end_matches([' ', ':']);
        (!stem.is_empty()).then(|| stem.as_bytes().into())
    }

    /// The sender of the packet that a kernel message logs, and the port it went to, if the rule describes it.
    pub(crate) fn find<'t>(&self, message: &'t [u8], known: &PacketCell<'t>) -> Option<(IpAddr, Option<u16>)> {
        let packet = known.read(self.fields(message)?)?;
        self.describes(&packet).then_some((packet.source, packet.destination_port))
    }

    /// The fields, behind the prefix that the rule wants; behind any prefix but one for packets let through, when
    /// it names none.
    fn fields<'t>(&self, message: &'t [u8]) -> Option<&'t [u8]> {
        let text = skip_blanks(strip_uptime(message));
        if self.prefixes.is_empty() {
            let start = fields_start(text)?;
            return (!is_let_through(text.get(..start)?)).then(|| text.get(start..))?;
        }
        self.prefixes.iter().find_map(|prefix| {
            let rest = text.strip_prefix(&**prefix)?;
            let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b':')).count();
            rest.get(blank..).filter(|rest| rest.starts_with(b"IN="))
        })
    }

    fn describes(&self, packet: &Packet<'_>) -> bool {
        let named = |list: &[String], value: &[u8]| list.is_empty() || list.iter().any(|n| n.as_bytes() == value);
        let port = |port: u16| self.ports.iter().any(|range| range.contains(&port));
        named(&self.protocols, packet.protocol)
            && named(&self.inputs, packet.input)
            && named(&self.outputs, packet.output)
            && (self.ports.is_empty() || packet.destination_port.is_some_and(port))
            && (self.types.is_empty() || packet.icmp_type.is_some_and(|kind| self.types.contains(&kind)))
            && self.flags.is_none_or(|wanted| packet.flags.are(wanted))
            && !self.is_answer(packet)
    }

    /// Whether the packet may be an answer to one of ours, unless the rule asks for just that kind of packet. What is
    /// left of TCP are the shapes of a scan: a bare SYN, and what no connection ever sends (nothing at all, FIN alone or
    /// with URG and PSH, SYN with FIN). Of a fragment behind the first the kernel prints neither ports nor flags: it
    /// looks like a scan with no flags, and is as likely the rest of a long answer.
    fn is_answer(&self, packet: &Packet<'_>) -> bool {
        match packet.protocol {
            b"ICMP" => self.types.is_empty() && packet.icmp_type.is_none_or(|kind| ICMP_ERRORS.contains(&kind)),
            b"ICMPv6" => self.types.is_empty() && packet.icmp_type.is_none_or(|kind| ICMPV6_ERRORS.contains(&kind)),
            b"TCP" if self.flags.is_none() => {
                packet.source_port.is_none() || packet.flags.has(Flags::ACK) || packet.flags.has(Flags::RST)
            }
            b"UDP" => packet.source_port.is_none_or(|port| {
                ANSWERING_PORTS.contains(&port) && packet.destination_port.is_none_or(|port| port >= 1024)
            }),
            _ => false,
        }
    }
}

/// What a message tells of its packet; of an ICMP error, nothing of the packet that it quotes in brackets.
#[derive(Clone, Copy, Debug)]
struct Packet<'t> {
    input: &'t [u8],
    output: &'t [u8],
    source: IpAddr,
    protocol: &'t [u8],
    source_port: Option<u16>,
    destination_port: Option<u16>,
    icmp_type: Option<u8>,
    flags: Flags,
}

/// The packet that a message logs, read once for all rules.
#[derive(Debug, Default)]
pub(crate) struct PacketCell<'t>(Cell<Option<(&'t [u8], Option<Packet<'t>>)>>);

impl<'t> PacketCell<'t> {
    fn read(&self, fields: &'t [u8]) -> Option<Packet<'t>> {
        let known = self.0.get().filter(|(known, _)| std::ptr::eq(*known, fields));
        let (_, packet) = known.unwrap_or_else(|| (fields, Packet::read(fields)));
        self.0.set(Some((fields, packet)));
        packet
    }
}

impl<'t> Packet<'t> {
    /// `None` for a packet that did not come in by an interface (its `SRC` is this host), and without a sender.
    fn read(fields: &'t [u8]) -> Option<Packet<'t>> {
        let (mut input, mut output, mut protocol): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        let (mut source, mut flags) = (None, Flags::default());
        let (mut source_port, mut destination_port, mut icmp_type) = (None, None, None);
        for word in Words::of(fields).take_while(|word| !word.starts_with(b"[")) {
            // By the first four bytes, which is one look into a table; no name of a flag has so many.
            let Some((head, value)) = word.split_first_chunk::<4>() else {
                match word.strip_prefix(b"IN=") {
                    Some(value) => input = value,
                    None => flags = flags.union(Flags::named(word).unwrap_or_default()),
                }
                continue;
            };
            match head {
                [b'I', b'N', b'=', _] => input = &word[3..],
                b"OUT=" => output = value,
                b"SRC=" if source.is_none() => source = Some(address::whole(value)?),
                b"PROT" if protocol.is_empty() => protocol = value.strip_prefix(b"O=").unwrap_or_default(),
                b"SPT=" => source_port = source_port.or(number(value)),
                b"DPT=" => destination_port = destination_port.or(number(value)),
                b"TYPE" => icmp_type = icmp_type.or(value.strip_prefix(b"=").and_then(number)),
                _ => {}
            }
        }
        let source = source.filter(|_| !input.is_empty())?;
        Some(Packet { input, output, source, protocol, source_port, destination_port, icmp_type, flags })
    }
}

/// The pieces of a text between blanks, which are looked for in eight bytes at a time: they come too often to search for
/// each.
struct Words<'t> {
    text: &'t [u8],
    /// Where the next piece begins; behind the end of the text when there is none.
    start: usize,
    /// Where the eight bytes begin that were looked at last.
    chunk: usize,
    /// The highest bit of each of them that is a blank and ends a piece to come.
    blanks: u64,
}

impl<'t> Words<'t> {
    fn of(text: &'t [u8]) -> Words<'t> {
        Words { text, start: 0, chunk: 0, blanks: blanks(text) }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        while self.blanks == 0 {
            self.chunk += 8;
            let Some(rest) = self.text.get(self.chunk..) else {
                let last = self.text.get(self.start..)?;
                self.start = self.text.len() + 1;
                return Some(last);
            };
            self.blanks = blanks(rest);
        }
        let end = self.chunk + self.blanks.trailing_zeros() as usize / 8;
        self.blanks &= self.blanks - 1;
        self.text.get(std::mem::replace(&mut self.start, end + 1)..end)
    }
}

/// The highest bit of each of the first eight bytes that is a blank.
#[inline]
fn blanks(text: &[u8]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let eight = text.first_chunk().copied().unwrap_or_else(|| {
        let mut eight = [0; 8];
        eight[..text.len()].copy_from_slice(text);
        eight
    });
    let other = u64::from_le_bytes(eight) ^ 0x2020_2020_2020_2020;
    !((other & LOW).wrapping_add(LOW) | other | LOW)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The text behind `[  123.456789]`, which `printk.time` puts before a message.
pub(crate) fn strip_uptime(message: &[u8]) -> &[u8] {
    uptime_end(message).and_then(|end| message.get(end..)).unwrap_or(message)
}

fn uptime_end(message: &[u8]) -> Option<usize> {
    let inside = message.strip_prefix(b"[")?;
    let close = memchr::memchr(b']', inside.get(..inside.len().min(24))?)?;
    let number = inside.get(..close)?.trim_ascii();
    let is_uptime =
        memchr::memchr(b'.', number).is_some() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    is_uptime.then_some(close + 2)
}

/// Where the fields of a packet log begin: at an `IN=` that is not the end of another word, soon enough for a prefix.
fn fields_start(text: &[u8]) -> Option<usize> {
    let head = text.get(..text.len().min(LONGEST_PREFIX + 3))?;
    let starts = memchr::memmem::find_iter(head, b"IN=");
    let is_start = |at: &usize| at.checked_sub(1).is_none_or(|before| !head[before].is_ascii_alphanumeric());
    starts.take(8).find(is_start)
}

fn is_let_through(prefix: &[u8]) -> bool {
    let words = prefix.split(|byte| !byte.is_ascii_alphabetic());
    let mut words = words.filter(|word| !word.is_empty());
    words.any(|word| {
        LET_THROUGH.iter().any(|known| match known.len() {
            0..=4 => word.eq_ignore_ascii_case(known),
            length => word.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(known)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str) -> PacketRule {
        PacketRule { prefixes: PacketRule::stem(prefix).into_iter().collect(), ..PacketRule::default() }
    }

    fn source(rule: &PacketRule, message: &str) -> Option<String> {
        rule.find(message.as_bytes(), &PacketCell::default()).map(|(address, _)| address.to_string())
    }

    const PING: &str = "IN=eth0 OUT= MAC=52:54:00 SRC=192.0.2.9 DST=198.51.100.1 LEN=84 PROTO=ICMP TYPE=8 CODE=0";

    #[test]
    fn a_prefix_is_found_as_the_kernel_prints_it_and_nowhere_else() {
        for written in ["PING-DROP:", "PING-DROP: ", "PING-DROP"] {
            let rule = rule(written);
            for printed in ["PING-DROP:", "PING-DROP: ", "PING-DROP ", "[  123.456789] PING-DROP:", "[1.2]PING-DROP"] {
                assert_eq!(source(&rule, &format!("{printed}{PING}")).as_deref(), Some("192.0.2.9"), "{printed}");
            }
            for other in ["XPING-DROP:", "PING-DROP2:", "x PING-DROP:", "PING-DROP: x "] {
                assert_eq!(source(&rule, &format!("{other}{PING}")), None, "{other}");
            }
        }
    }

    #[test]
    fn packets_of_ours_and_answers_to_them_accuse_nobody() {
        let any = PacketRule::default();
        for message in [
            "DROP IN= OUT=eth0 SRC=192.0.2.9 DST=198.51.100.1 PROTO=TCP SPT=1 DPT=2 SYN",
            "DROP IN=eth0 OUT= SRC=192.0.2.9 PROTO=ICMP TYPE=3 CODE=3 [SRC=198.51.100.1 DST=192.0.2.1 PROTO=UDP SPT=1 ]",
            "DROP IN=eth0 OUT= SRC=2001:db8::9 PROTO=ICMPv6 TYPE=1 CODE=3 [SRC=2001:db8::1 PROTO=UDP SPT=1 DPT=2 ]",
            "DROP IN=eth0 OUT= SRC=192.0.2.9 PROTO=TCP SPT=443 DPT=50000 WINDOW=1 RES=0x00 ACK FIN URGP=0",
            "DROP IN=eth0 OUT= SRC=192.0.2.9 PROTO=TCP SPT=443 DPT=50000 WINDOW=1 RES=0x00 RST URGP=0",
            "DROP IN=eth0 OUT= SRC=192.0.2.9 PROTO=UDP SPT=53 DPT=50000 LEN=9",
            "[UFW ALLOW] IN=eth0 OUT= SRC=192.0.2.9 PROTO=TCP SPT=1 DPT=2 SYN",
            "ssh-accepted: IN=eth0 OUT= SRC=192.0.2.9 PROTO=TCP SPT=1 DPT=2 SYN",
            "OK IN=eth0 OUT= SRC=192.0.2.9 PROTO=TCP SPT=1 DPT=2 SYN",
        ] {
            assert_eq!(source(&any, message), None, "{message}");
        }
        assert!(source(&any, "BROKEN IN=eth0 OUT=eth1 SRC=192.0.2.9 PROTO=TCP SPT=1 DPT=2 SYN").is_some());
    }

    /// A message about a dropped packet, and whether it accuses its sender.
    fn accuses(rule: &PacketRule, rest: &str) -> bool {
        source(rule, &format!("DROP IN=eth0 OUT= SRC=192.0.2.9 DST=198.51.100.1 {rest}")).is_some()
    }

    #[test]
    fn tcp_counts_in_the_shapes_of_a_scan_only() {
        let any = PacketRule::default();
        let segment = |flags: &str| format!("PROTO=TCP SPT=443 DPT=50000 WINDOW=1 RES=0x00 {flags}URGP=0");
        for scan in ["SYN ", "", "FIN ", "URG PSH FIN ", "SYN FIN ", "CWR ECE SYN ", "URG "] {
            assert!(accuses(&any, &segment(scan)), "{scan}");
        }
        for answer in ["ACK ", "ACK SYN ", "ACK FIN ", "ACK PSH ", "ACK RST ", "RST ", "URG ACK PSH RST SYN FIN "] {
            assert!(!accuses(&any, &segment(answer)), "{answer}");
        }
    }

    #[test]
    fn udp_from_a_service_to_a_high_port_is_a_late_answer() {
        let any = PacketRule::default();
        for service in [53, 123, 443, 3478] {
            assert!(!accuses(&any, &format!("PROTO=UDP SPT={service} DPT=1024 LEN=9")), "{service}");
            assert!(accuses(&any, &format!("PROTO=UDP SPT={service} DPT=1023 LEN=9")), "{service} to a service");
        }
        assert!(accuses(&any, "PROTO=UDP SPT=4444 DPT=50000 LEN=9"));
        let ports = PacketRule { ports: vec![50_000..=50_000], ..PacketRule::default() };
        assert!(!accuses(&ports, "PROTO=UDP SPT=443 DPT=50000 LEN=9"), "a rule on ports cannot ask for answers");
    }

    #[test]
    fn icmp_errors_are_reports_on_packets_of_ours() {
        let any = PacketRule::default();
        for error in [3, 4, 5, 11, 12] {
            assert!(!accuses(&any, &format!("PROTO=ICMP TYPE={error} CODE=0")), "{error}");
        }
        assert!(accuses(&any, "PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1"));
        assert!(accuses(&any, "PROTO=ICMPv6 TYPE=128 CODE=0") && !accuses(&any, "PROTO=ICMPv6 TYPE=3 CODE=0"));
    }

    #[test]
    fn a_rule_that_names_flags_or_types_gets_them() {
        let ack = PacketRule { flags: Flags::named(b"ACK"), ..PacketRule::default() };
        assert!(accuses(&ack, "PROTO=TCP SPT=443 DPT=50000 RES=0x00 ACK URGP=0"));
        assert!(!accuses(&ack, "PROTO=TCP SPT=443 DPT=50000 RES=0x00 ACK SYN URGP=0"));
        let redirects = PacketRule { types: vec![5], ..PacketRule::default() };
        assert!(accuses(&redirects, "PROTO=ICMP TYPE=5 CODE=1"));
    }

    proptest::proptest! {
        #[test]
        fn words_are_what_stands_between_blanks(text in "[ a\u{80}!\u{a0}]{0,40}") {
            let text = text.as_bytes();
            let expected: Vec<_> = text.split(|byte| *byte == b' ').collect();
            proptest::prop_assert_eq!(Words::of(text).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_fragment_without_ports_accuses_nobody() {
        for protocol in ["TCP", "UDP", "ICMP"] {
            let fragment = format!("LEN=1500 TTL=60 ID=7 FRAG:185 PROTO={protocol} ");
            assert!(!accuses(&PacketRule::default(), &fragment), "{protocol}");
        }
    }

    #[test]
    fn fields_narrow_a_rule() {
        let flags = Flags::named(b"SYN");
        let rule = PacketRule { ports: vec![20..=23], flags, protocols: vec!["TCP".to_owned()], ..rule("syn_flood") };
        let line = |rest: &str| format!("syn_flood IN=eth0 OUT= SRC=192.0.2.9 DST=198.51.100.1 {rest}");
        assert!(source(&rule, &line("PROTO=TCP SPT=4 DPT=22 RES=0x00 CWR ECE SYN URGP=0")).is_some());
        for other in ["PROTO=TCP DPT=22 ACK SYN", "PROTO=TCP DPT=22 ACK", "PROTO=TCP DPT=24 SYN", "PROTO=UDP DPT=22"] {
            assert_eq!(source(&rule, &line(other)), None, "{other}");
        }
    }
}
