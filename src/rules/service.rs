//! Services by their names, as the `[host]` section takes them, or by protocol and port.

use std::fmt;
use std::str::FromStr;

use super::model::{PING, Protocol};
use super::ports::Ports;

/// What a rule lets through or keeps out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// As it was written.
    pub(crate) name: String,
    pub(crate) parts: Vec<Part>,
    /// The connection tracker's helper, without which its data connections belong to nothing.
    pub(crate) helper: Option<&'static str>,
}

/// One protocol of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// `None` for every protocol.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ports: Ports,
}

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;

/// Name, protocol, first and last port. A name with several rows has several parts.
const KNOWN: [(&str, Protocol, u16, u16); 28] = [
    ("bittorrent", TCP, 6881, 6999),
    ("dhcp", UDP, 67, 67),
    ("dns", TCP, 53, 53),
    ("dns", UDP, 53, 53),
    ("dns-queries", UDP, 53, 53),
    ("ftp", TCP, 21, 21),
    ("http", TCP, 80, 80),
    ("http3", UDP, 443, 443),
    ("https", TCP, 443, 443),
    ("ident", TCP, 113, 113),
    ("imap", TCP, 143, 143),
    ("imaps", TCP, 993, 993),
    ("ldap", TCP, 389, 389),
    ("ldaps", TCP, 636, 636),
    ("mysql", TCP, 3306, 3306),
    ("netbios", TCP, 139, 139),
    ("netbios", UDP, 137, 138),
    ("ntp", UDP, 123, 123),
    ("pop3", TCP, 110, 110),
    ("pop3s", TCP, 995, 995),
    ("postgresql", TCP, 5432, 5432),
    ("rsync", TCP, 873, 873),
    ("smb", TCP, 445, 445),
    ("smtp", TCP, 25, 25),
    ("smtps", TCP, 465, 465),
    ("ssh", TCP, 22, 22),
    ("submission", TCP, 587, 587),
    ("zone-transfer", TCP, 53, 53),
];

/// Every name there is, for messages and the manual.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = KNOWN.iter().map(|row| row.0).chain(["all", "ping"]).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Why a text names no service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServiceError {
    Unknown,
    Port(String),
    Order,
    Protocol(String),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::Unknown => {
                write!(f, "write ports such as \"8080/tcp\" or \"6881-6999/tcp\", or one of {}", names().join(", "))
            }
            ServiceError::Port(text) => write!(f, "'{}' is not a port number from 1 to 65535", text.escape_debug()),
            ServiceError::Order => f.write_str("the first port of a range must not be above the last"),
            ServiceError::Protocol(text) => write!(f, "'{}' is neither tcp nor udp", text.escape_debug()),
        }
    }
}

impl std::error::Error for ServiceError {}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Service, ServiceError> {
        let parts = match text {
            "all" => vec![Part { protocol: None, ports: Ports::default() }],
            "ping" => PING.map(|ping| Part { protocol: Some(ping), ports: Ports::default() }).to_vec(),
            _ if text.starts_with(|first: char| first.is_ascii_digit()) => numbered(text)?,
            _ => known(text),
        };
        let helper = (text == "ftp").then_some("ftp");
        if parts.is_empty() { Err(ServiceError::Unknown) } else { Ok(Service { name: text.to_owned(), parts, helper }) }
    }
}

fn known(name: &str) -> Vec<Part> {
    let rows = KNOWN.iter().filter(|row| row.0 == name);
    rows.map(|row| Part { protocol: Some(row.1), ports: Ports::of(vec![(row.2, row.3)]) }).collect()
}

/// `8080/tcp`, `6881-6999/udp`, `6881:6999/tcp` as iptables writes ranges; `53` is both.
fn numbered(text: &str) -> Result<Vec<Part>, ServiceError> {
    let (numbers, protocols) = match text.split_once('/') {
        None => (text, vec![TCP, UDP]),
        Some((numbers, "tcp")) => (numbers, vec![TCP]),
        Some((numbers, "udp")) => (numbers, vec![UDP]),
        Some((_, other)) => return Err(ServiceError::Protocol(other.to_owned())),
    };
    let (first, last) = numbers.split_once(['-', ':']).unwrap_or((numbers, numbers));
    let range = (port(first)?, port(last)?);
    if range.0 > range.1 {
        return Err(ServiceError::Order);
    }
    let part = |protocol| Part { protocol: Some(protocol), ports: Ports::of(vec![range]) };
    Ok(protocols.into_iter().map(part).collect())
}

fn port(text: &str) -> Result<u16, ServiceError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number != 0);
    number.ok_or_else(|| ServiceError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_or_ports() {
        let shown = |text: &str| -> Vec<String> {
            let service: Service = text.parse().unwrap();
            service.parts.iter().map(|part| format!("{:?} {}", part.protocol, part.ports)).collect()
        };
        assert_eq!(shown("imaps"), ["Some(Tcp) 993"]);
        assert_eq!(shown("dns"), ["Some(Tcp) 53", "Some(Udp) 53"]);
        assert_eq!(shown("netbios"), ["Some(Tcp) 139", "Some(Udp) 137-138"]);
        assert_eq!(shown("6881:6999/tcp"), ["Some(Tcp) 6881-6999"]);
        assert_eq!(shown("ping"), ["Some(Icmp(8)) ", "Some(Icmpv6(128)) "]);
        assert_eq!(shown("all"), ["None "]);
    }

    #[test]
    fn what_is_no_service_is_refused_with_the_reason() {
        assert_eq!("htpp".parse::<Service>(), Err(ServiceError::Unknown));
        assert_eq!("22/tpc".parse::<Service>(), Err(ServiceError::Protocol("tpc".to_owned())));
        assert_eq!("90-80/tcp".parse::<Service>(), Err(ServiceError::Order));
        assert_eq!("0/tcp".parse::<Service>(), Err(ServiceError::Port("0".to_owned())));
        assert_eq!("8o/tcp".parse::<Service>(), Err(ServiceError::Port("8o".to_owned())));
    }
}
