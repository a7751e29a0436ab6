//! What a person expects of the rules, as a sentence: `accept in tcp 22 from 192.0.2.7`, `drop in ping times 6`. It is
//! about one packet that begins something, unless it says otherwise.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::model::{FLAG_NAMES, Flags, Plan, Protocol, State};
use super::simulate::{Fate, Packet, Simulator, Verdict, Way, lone_state};

/// Most packets of one expectation.
const MAX_TIMES: u32 = 100_000;

/// Who sends where nobody is named.
const SOMEBODY: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
/// This machine where it is not named.
const HERE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// A packet, how often it comes, and what should become of the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    /// As it was written.
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
    pub(crate) packet: Packet,
    pub(crate) times: u32,
}

impl Expectation {
    /// What the rules make of it, all packets at once from the same source.
    pub(crate) fn play(&self, plan: &Plan) -> Fate {
        let mut simulator = Simulator::new(plan);
        for _ in 1..self.times {
            simulator.send(&self.packet);
        }
        simulator.send(&self.packet)
    }
}

/// Why a text is no expectation. The text says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectError(String);

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; write it like \"accept in tcp 22 from 192.0.2.7\" or \"drop in ping times 6\"", self.0)
    }
}

impl std::error::Error for ExpectError {}

fn error<T>(text: impl Into<String>) -> Result<T, ExpectError> {
    Err(ExpectError(text.into()))
}

impl FromStr for Expectation {
    type Err = ExpectError;

    fn from_str(text: &str) -> Result<Expectation, ExpectError> {
        let mut words = text.split_whitespace();
        let verdict = word(&mut words, "a verdict", &Verdict::WORDS)?;
        let way = word(&mut words, "a direction", &[("in", Way::In), ("out", Way::Out), ("forward", Way::Forward)])?;
        let kinds = [("tcp", Kind::Tcp), ("udp", Kind::Udp), ("ping", Kind::Ping), ("icmp", Kind::Icmp)];
        let kind = word(&mut words, "a protocol", &kinds)?;
        let number = match kind {
            Kind::Ping => None,
            _ => Some(number(words.next(), "a port, or a type of ICMP", u32::from(u16::MAX))?),
        };
        let mut details = Details::default();
        while let Some(key) = words.next() {
            details.read(key, words.next())?;
        }
        details.expectation(text, verdict, way, kind, number)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Ping,
    Icmp,
}

/// What may follow in any order, each as a word and its value.
#[derive(Default)]
struct Details {
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    source_port: Option<u16>,
    on: Option<String>,
    via: Option<String>,
    flags: Option<u8>,
    state: Option<State>,
    times: Option<u32>,
    pieces: bool,
}

const KEYS: &str = "from, to, sport, on, via, flags, state, times, size";

impl Details {
    fn read(&mut self, key: &str, value: Option<&str>) -> Result<(), ExpectError> {
        let address = || match value.map(str::parse::<IpAddr>) {
            Some(Ok(address)) => Ok(Some(address)),
            _ => error(format!("'{key}' is followed by an address")),
        };
        let interface = || match value {
            Some(name) if !name.is_empty() => Ok(Some(name.to_owned())),
            _ => error(format!("'{key}' is followed by an interface")),
        };
        match key {
            "from" => self.from = address()?,
            "to" => self.to = address()?,
            "sport" => self.source_port = u16::try_from(number(value, "a port", u32::from(u16::MAX))?).ok(),
            "on" => self.on = interface()?,
            "via" => self.via = interface()?,
            "flags" => self.flags = Some(flags(value.unwrap_or_default())?),
            "state" => self.state = Some(state(value.unwrap_or_default())?),
            "times" => self.times = Some(number(value, "a number of packets", MAX_TIMES)?),
            "size" if value == Some("fragmented") => self.pieces = true,
            _ => return error(format!("'{}' is none of {KEYS}", key.escape_debug())),
        }
        Ok(())
    }

    fn expectation(
        self,
        text: &str,
        verdict: Verdict,
        way: Way,
        kind: Kind,
        number: Option<u32>,
    ) -> Result<Expectation, ExpectError> {
        let named = self.from.or(self.to);
        let v6 = named.is_some_and(|address| address.is_ipv6());
        if [self.from, self.to].into_iter().flatten().any(|address| address.is_ipv6() != v6) {
            return error("'from' and 'to' are of different families");
        }
        let pick = |pair: [&str; 2]| pair[usize::from(v6)].parse::<IpAddr>().map_err(|_| ExpectError(String::new()));
        let (there, here) = (pick(SOMEBODY)?, pick(HERE)?);
        let (source, destination) = if way == Way::Out { (here, there) } else { (there, here) };
        let kind_number = u8::try_from(number.unwrap_or_default()).unwrap_or_default();
        let protocol = match (kind, v6) {
            (Kind::Tcp, _) => Protocol::Tcp,
            (Kind::Udp, _) => Protocol::Udp,
            (Kind::Ping, false) => Protocol::Icmp(8),
            (Kind::Ping, true) => Protocol::Icmpv6(128),
            (Kind::Icmp, false) => Protocol::Icmp(kind_number),
            (Kind::Icmp, true) => Protocol::Icmpv6(kind_number),
        };
        let has_ports = matches!(kind, Kind::Tcp | Kind::Udp);
        let flags = self.flags.unwrap_or(Flags::SYN.set);
        let begins = if kind == Kind::Tcp { lone_state(flags) } else { State::New };
        let wire = |name: Option<String>| Some(name.unwrap_or_else(|| "eth0".to_owned()));
        let packet = Packet {
            way,
            input: if way == Way::Out { None } else { wire(self.on.clone()) },
            output: match way {
                Way::In => None,
                Way::Out => wire(self.via.or(self.on)),
                Way::Forward => wire(self.via),
            },
            source: self.from.unwrap_or(source),
            destination: self.to.unwrap_or(destination),
            protocol,
            source_port: has_ports.then_some(self.source_port.unwrap_or(40_000)),
            port: if has_ports { number.and_then(|number| u16::try_from(number).ok()) } else { None },
            flags: if kind == Kind::Tcp { flags } else { 0 },
            state: self.state.unwrap_or(begins),
            fragment: self.pieces,
        };
        Ok(Expectation { text: text.to_owned(), verdict, packet, times: self.times.unwrap_or(1) })
    }
}

fn word<'w, T: Copy>(
    words: &mut impl Iterator<Item = &'w str>,
    what: &str,
    known: &[(&str, T)],
) -> Result<T, ExpectError> {
    let text = words.next().unwrap_or_default();
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| ExpectError(format!("'{}' is not {what}: {}", text.escape_debug(), names.join(", "))))
}

fn number(text: Option<&str>, what: &str, most: u32) -> Result<u32, ExpectError> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| *number <= most);
    number.ok_or_else(|| ExpectError(format!("'{}' is not {what}", text.unwrap_or_default().escape_debug())))
}

/// `SYN,ACK`, `ALL` or `NONE`.
fn flags(text: &str) -> Result<u8, ExpectError> {
    match text {
        "ALL" => return Ok(super::model::ALL_FLAGS),
        "NONE" => return Ok(0),
        _ => (),
    }
    let mut bits = 0;
    for name in text.split(',') {
        match FLAG_NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, bit)) => bits |= bit,
            None => return error(format!("'{}' is no flag of TCP", name.escape_debug())),
        }
    }
    Ok(bits)
}

fn state(text: &str) -> Result<State, ExpectError> {
    match text {
        "new" => Ok(State::New),
        "established" => Ok(State::Established),
        "related" => Ok(State::Related),
        "invalid" => Ok(State::Invalid),
        _ => error(format!("'{}' is none of new, established, related, invalid", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Expectation, String> {
        text.parse::<Expectation>().map_err(|error| error.to_string())
    }

    #[test]
    fn a_sentence_becomes_a_packet() {
        let expected = read("drop in tcp 80 from 2001:db8::9 on eth1 flags FIN,PSH,URG times 3").unwrap();
        let Packet { source, port, input, flags, state, protocol, .. } = expected.packet;
        assert_eq!((source.to_string().as_str(), port, input.as_deref()), ("2001:db8::9", Some(80), Some("eth1")));
        assert_eq!((flags, state, protocol), (0b10_1001, State::Invalid, Protocol::Tcp));
        assert_eq!((expected.verdict, expected.times), (Verdict::Drop, 3));
        assert_eq!(read("accept in ping from 2001:db8::9").unwrap().packet.protocol, Protocol::Icmpv6(128));
    }

    #[test]
    fn what_is_no_sentence_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "'' is not a verdict"),
            ("pass in tcp 22", "'pass' is not a verdict"),
            ("accept tcp 22", "'tcp' is not a direction"),
            ("accept in tpc 22", "'tpc' is not a protocol"),
            ("accept in tcp ssh", "'ssh' is not a port"),
            ("accept in tcp 22 form 192.0.2.7", "'form' is none of from"),
            ("accept in tcp 22 from 192.0.2", "'from' is followed by an address"),
            ("accept in tcp 22 from 192.0.2.7 to 2001:db8::1", "different families"),
            ("accept in tcp 22 flags SIN", "'SIN' is no flag"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
