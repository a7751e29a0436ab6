//! The kernel's packet log (`LOG`, `nft log`): `PREFIX IN=eth0 OUT= … SRC=… DST=… PROTO=TCP SPT=… DPT=… SYN …`.
//! In: a kernel message. Out: the sender of a packet that a rule describes. What the kernel prints of a packet that
//! is an answer to one of ours, or of one that this host sent, accuses nobody.

use std::cell::Cell;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::address;
use super::bytes::run_of;
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
        let mut read = Fields::default();
        words(fields, |word| read.take(word));
        let Fields { input, output, protocol, source_port, destination_port, icmp_type, flags, .. } = read;
        let source = read.source.filter(|_| !input.is_empty())?;
        Some(Packet { input, output, source, protocol, source_port, destination_port, icmp_type, flags })
    }
}

/// A packet while its fields are read.
#[derive(Debug, Default)]
struct Fields<'t> {
    input: &'t [u8],
    output: &'t [u8],
    source: Option<IpAddr>,
    protocol: &'t [u8],
    source_port: Option<u16>,
    destination_port: Option<u16>,
    icmp_type: Option<u8>,
    flags: Flags,
}

impl<'t> Fields<'t> {
    /// Whether to go on: not behind a sender that is none, nor with the packet that an ICMP error quotes.
    fn take(&mut self, word: &'t [u8]) -> bool {
        // By the first four bytes as one number; no name of a flag has so many.
        let Some((head, value)) = word.split_first_chunk::<4>() else {
            match word.strip_prefix(b"IN=") {
                Some(value) => self.input = value,
                None => self.flags = self.flags.union(Flags::named(word).unwrap_or_default()),
            }
            return word.first() != Some(&b'[');
        };
        match u32::from_be_bytes(*head) {
            OUT => self.output = value,
            SRC if self.source.is_none() => {
                self.source = address::whole(value);
                return self.source.is_some();
            }
            PROTO if self.protocol.is_empty() => self.protocol = value.strip_prefix(b"O=").unwrap_or_default(),
            SPT => self.source_port = self.source_port.or(number(value)),
            DPT => self.destination_port = self.destination_port.or(number(value)),
            TYPE => self.icmp_type = self.icmp_type.or(value.strip_prefix(b"=").and_then(small_number)),
            head if head >> 8 == IN => self.input = &word[3..],
            _ => return head[0] != b'[',
        }
        true
    }
}

/// What the fields begin with.
const IN: u32 = u32::from_be_bytes(*b"\0IN=");
const OUT: u32 = u32::from_be_bytes(*b"OUT=");
const SRC: u32 = u32::from_be_bytes(*b"SRC=");
const PROTO: u32 = u32::from_be_bytes(*b"PROT");
const SPT: u32 = u32::from_be_bytes(*b"SPT=");
const DPT: u32 = u32::from_be_bytes(*b"DPT=");
const TYPE: u32 = u32::from_be_bytes(*b"TYPE");

/// Calls `each` with the pieces of a text between blanks as long as it answers true. Eight bytes are looked at at a time:
/// blanks come too often to search for each.
fn words<'t>(text: &'t [u8], mut each: impl FnMut(&'t [u8]) -> bool) {
    let (chunks, rest) = text.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut start = 0;
    for (base, chunk) in (0..).step_by(8).zip(chunks.iter().chain([&last])) {
        let mut blanks = blanks(*chunk);
        while blanks != 0 {
            let end = base + blanks.trailing_zeros() as usize / 8;
            if !text.get(start..end).is_some_and(&mut each) {
                return;
            }
            start = end + 1;
            blanks &= blanks - 1;
        }
    }
    if let Some(last) = text.get(start..) {
        each(last);
    }
}

/// The highest bit of each byte that is a blank.
#[inline]
fn blanks(eight: [u8; 8]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let other = u64::from_le_bytes(eight) ^ 0x2020_2020_2020_2020;
    !((other & LOW).wrapping_add(LOW) | other | LOW)
}

/// A number as the kernel prints it, in five digits at most.
fn number(digits: &[u8]) -> Option<u16> {
    if !matches!(digits.len(), 1..=5) {
        return None;
    }
    let add = |number: u32, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'));
    digits.iter().try_fold(0, add)?.try_into().ok()
}

fn small_number(digits: &[u8]) -> Option<u8> {
    number(digits)?.try_into().ok()
}

/// Most blanks, and most digits on each side of the point.
const LONGEST_UPTIME: usize = 20;

/// The text behind `[  123.456789]`, which `printk.time` puts before a message.
pub(crate) fn strip_uptime(message: &[u8]) -> &[u8] {
    uptime_end(message).and_then(|end| message.get(end..)).unwrap_or(message)
}

fn uptime_end(message: &[u8]) -> Option<usize> {
    let inside = message.strip_prefix(b"[")?;
    let blanks = run_of(inside, LONGEST_UPTIME, |byte| byte == b' ');
    let seconds = blanks + run_of(inside.get(blanks..)?, LONGEST_UPTIME, |byte| byte.is_ascii_digit());
    let fraction = inside.get(seconds..)?.strip_prefix(b".")?;
    let end = seconds + 1 + run_of(fraction, LONGEST_UPTIME, |byte| byte.is_ascii_digit());
    (inside.get(end) == Some(&b']')).then_some(end + 2)
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
            let mut found = Vec::new();
            words(text, |word| {
                found.push(word);
                true
            });
            proptest::prop_assert_eq!(found, expected);
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
