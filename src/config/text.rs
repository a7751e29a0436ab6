//! The small languages inside configuration values: rates, ports, networks, durations. Each is a type that parses
//! itself and whose error says what is wrong with the text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ledger::limit::Unit;
use crate::ledger::{Port, Protocol};
use crate::time::{DurationError, parse_duration};

/// A length of time of at least a second: `"10m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A rate as iptables' `--limit` takes it: `"1/s"`, `"30/min"`, `"2/hour"`, `"1/day"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) count: u32,
    pub(super) per: Unit,
}

impl Rate {
    /// The time for each.
    pub(super) fn interval(self) -> Duration {
        Duration::from_secs(self.per.seconds().into()) / self.count
    }
}

/// One port or a range, of one protocol or both: `"443/tcp"`, `"1000-1010/udp"`, `"53"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
    protocol: Option<Protocol>,
}

/// An address or a prefix, host bits and all, with IPv4 inside IPv6 unfolded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// Why a text is none of the above.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TextError {
    Duration(DurationError),
    TooShort,
    RateForm,
    RateUnit(String),
    RateRange,
    PortNumber(String),
    PortOrder,
    PortProtocol(String),
    Network,
    PrefixLength(String),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::Duration(error) => write!(f, "{error}"),
            TextError::TooShort => f.write_str("it must be a second at least"),
            TextError::RateForm => f.write_str("write a number, a slash and a unit: \"1/s\", \"30/minute\""),
            TextError::RateUnit(unit) => {
                write!(f, "'{}' is none of second, minute, hour, day", unit.escape_debug())
            }
            TextError::RateRange => f.write_str("a rate is from 1/day to 10000/second"),
            TextError::PortNumber(text) => {
                write!(f, "'{}' is not a port number from 1 to 65535", text.escape_debug())
            }
            TextError::PortOrder => f.write_str("the first port of a range must not be above the last"),
            TextError::PortProtocol(text) => write!(f, "'{}' is neither tcp nor udp", text.escape_debug()),
            TextError::Network => f.write_str("write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\""),
            TextError::PrefixLength(text) => write!(f, "'{}' is not a prefix length here", text.escape_debug()),
        }
    }
}

impl std::error::Error for TextError {}

impl FromStr for Span {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let length = parse_duration(text).map_err(TextError::Duration)?;
        if length < Duration::from_secs(1) { Err(TextError::TooShort) } else { Ok(Span(length)) }
    }
}

/// Highest rate: that of `xt_limit`, whose tick is a ten-thousandth of a second.
const HIGHEST_PER_SECOND: u32 = 10_000;

impl FromStr for Rate {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let (count, unit) = text.split_once('/').ok_or(TextError::RateForm)?;
        let count: u32 = digits(count).ok_or(TextError::RateForm)?;
        let typed = unit.to_ascii_lowercase();
        // iptables takes any beginning of these words.
        let named = Unit::ALL.into_iter().find(|unit| !typed.is_empty() && unit.word().starts_with(&typed));
        let per = named.ok_or_else(|| TextError::RateUnit(unit.to_owned()))?;
        if count == 0 || count > per.seconds() * HIGHEST_PER_SECOND {
            return Err(TextError::RateRange);
        }
        Ok(Rate { count, per })
    }
}

impl FromStr for Ports {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let (numbers, protocol) = match text.split_once('/') {
            None => (text, None),
            Some((numbers, "tcp")) => (numbers, Some(Protocol::Tcp)),
            Some((numbers, "udp")) => (numbers, Some(Protocol::Udp)),
            Some((_, other)) => return Err(TextError::PortProtocol(other.to_owned())),
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err(TextError::PortOrder) } else { Ok(Ports { first, last, protocol }) }
    }
}

impl Ports {
    pub(super) fn each(self) -> impl Iterator<Item = Port> {
        let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
        protocols
            .filter(move |protocol| self.protocol.is_none_or(|wanted| wanted == *protocol))
            .flat_map(move |protocol| (self.first..=self.last).map(move |number| Port { protocol, number }))
    }
}

fn port(text: &str) -> Result<u16, TextError> {
    digits(text).filter(|number| *number != 0).ok_or_else(|| TextError::PortNumber(text.to_owned()))
}

/// A number of digits alone: `parse` would also take a sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl FromStr for Network {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| TextError::Network)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match length {
            Some(text) => digits(text).filter(|bits| *bits <= longest),
            None => Some(longest),
        };
        let bits = bits.ok_or_else(|| TextError::PrefixLength(length.unwrap_or_default().to_owned()))?;
        unfolded(address, bits).map(Network).ok_or_else(|| TextError::PrefixLength(bits.to_string()))
    }
}

/// `::ffff:a.b.c.d/96+n` is the IPv4 network `a.b.c.d/n`: packets from there are IPv4.
fn unfolded(address: IpAddr, bits: u8) -> Option<IpNet> {
    match address {
        IpAddr::V4(address) => Ipv4Net::new(address, bits).ok().map(IpNet::V4),
        IpAddr::V6(address) => match (address.to_ipv4_mapped(), bits.checked_sub(96)) {
            (Some(inner), Some(bits)) => Ipv4Net::new(inner, bits).ok().map(IpNet::V4),
            _ => Ipv6Net::new(address, bits).ok().map(IpNet::V6),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_every_form_that_iptables_takes() {
        for (text, millis) in [
            ("1/s", 1000),
            ("2/sec", 500),
            ("4/second", 250),
            ("1/m", 60_000),
            ("30/Minute", 2000),
            ("2/hour", 1_800_000),
            ("1/d", 86_400_000),
            ("24/day", 3_600_000),
        ] {
            assert_eq!(text.parse().map(Rate::interval), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn rates_without_meaning_are_refused_with_the_reason() {
        for (text, error) in [
            ("1", TextError::RateForm),
            ("+1/s", TextError::RateForm),
            ("/s", TextError::RateForm),
            ("1/", TextError::RateUnit(String::new())),
            ("1/week", TextError::RateUnit("week".to_owned())),
            ("1/seconds", TextError::RateUnit("seconds".to_owned())),
            ("0/s", TextError::RateRange),
            ("10001/s", TextError::RateRange),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }

    #[test]
    fn ports_are_single_or_ranges_of_one_protocol_or_both() {
        let shown = |text: &str| -> Vec<(Protocol, u16)> {
            text.parse::<Ports>().unwrap().each().map(|port| (port.protocol, port.number)).collect()
        };
        assert_eq!(shown("443/tcp"), [(Protocol::Tcp, 443)]);
        assert_eq!(shown("53"), [(Protocol::Tcp, 53), (Protocol::Udp, 53)]);
        assert_eq!(shown("9-11/udp"), [(Protocol::Udp, 9), (Protocol::Udp, 10), (Protocol::Udp, 11)]);
        assert_eq!(shown("65535/udp"), [(Protocol::Udp, 65535)]);
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        for text in ["0/tcp", "65536/tcp", "http/tcp", "", "-5/udp", "+5/udp"] {
            assert!(matches!(text.parse::<Ports>(), Err(TextError::PortNumber(_))), "{text}");
        }
        assert_eq!("20-10/tcp".parse::<Ports>(), Err(TextError::PortOrder));
        assert_eq!("20/sctp".parse::<Ports>(), Err(TextError::PortProtocol("sctp".to_owned())));
    }

    #[test]
    fn networks_are_addresses_or_prefixes_and_mapped_ipv4_is_ipv4() {
        let net = |text: &str| text.parse::<Network>().unwrap().0.to_string();
        assert_eq!(net("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(net("2001:db8::/32"), "2001:db8::/32");
        assert_eq!(net("::ffff:192.0.2.7"), "192.0.2.7/32");
        assert_eq!(net("::ffff:192.0.2.0/120"), "192.0.2.0/24");
        assert_eq!("192.0.2.0/33".parse::<Network>(), Err(TextError::PrefixLength("33".to_owned())));
        assert_eq!("example.org".parse::<Network>(), Err(TextError::Network));
    }
}
