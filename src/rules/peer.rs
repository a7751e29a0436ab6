//! Whom a rule is about: a network or a range of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::model::Family;

/// Addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Without host bits.
    Network(IpNet),
    /// Both ends included.
    Range(IpAddr, IpAddr),
}

impl Peer {
    pub(crate) fn family(&self) -> Family {
        match self {
            Peer::Network(network) => Family::of(network.addr()),
            Peer::Range(first, _) => Family::of(*first),
        }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match self {
            Peer::Network(network) => network.contains(&address),
            Peer::Range(first, last) => first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&&address),
        }
    }
}

/// Why a text names no addresses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerError {
    Form,
    HostBits(IpNet),
    Order,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Form => {
                f.write_str("write \"192.0.2.7\", \"192.0.2.0/24\", \"192.0.2.10-192.0.2.20\" or \"2001:db8::/32\"")
            }
            PeerError::HostBits(network) => write!(f, "it has host bits set; the network is \"{network}\""),
            PeerError::Order => f.write_str("a range goes from a lower to a higher address of the same family"),
        }
    }
}

impl std::error::Error for PeerError {}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Peer, PeerError> {
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| PeerError::Form);
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            let ordered = first.is_ipv4() == last.is_ipv4() && first <= last;
            return if ordered { Ok(Peer::Range(first, last)) } else { Err(PeerError::Order) };
        }
        let network = match text.split_once('/') {
            Some(_) => text.parse::<IpNet>().map_err(|_| PeerError::Form)?,
            None => IpNet::from(address(text)?),
        };
        if network.trunc() == network { Ok(Peer::Network(network)) } else { Err(PeerError::HostBits(network.trunc())) }
    }
}

/// A single address without its length, as people write it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Peer::Network(network) => network.fmt(f),
            Peer::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_a_network_or_a_range() {
        let read = |text: &str| text.parse::<Peer>().map(|peer| peer.to_string());
        assert_eq!(read("192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(read("2001:db8::/32").as_deref(), Ok("2001:db8::/32"));
        assert_eq!(read("192.168.1.100-192.168.1.200").as_deref(), Ok("192.168.1.100-192.168.1.200"));
        assert_eq!(read("202.54.20.1/24"), Err(PeerError::HostBits("202.54.20.0/24".parse().unwrap())));
        assert_eq!(read("192.0.2.9-192.0.2.1"), Err(PeerError::Order));
        assert_eq!(read("192.0.2.9-2001:db8::1"), Err(PeerError::Order));
        assert_eq!(read("example.org"), Err(PeerError::Form));
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let range: Peer = "192.0.2.10-192.0.2.20".parse().unwrap();
        let holds = |text: &str| range.contains(text.parse().unwrap());
        assert!(holds("192.0.2.10") && holds("192.0.2.20"));
        assert!(!holds("192.0.2.9") && !holds("192.0.2.21") && !holds("::1"));
    }
}
