//! Addresses and networks as an administrator types them.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Bits of `::ffff:0:0/96`, the IPv4 addresses as IPv6 writes them.
const MAPPED_BITS: u8 = 96;

/// An address, or a network without host bits. `::ffff:192.0.2.9` is 192.0.2.9.
pub(super) fn parse(text: &str) -> Result<IpNet, TargetError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let typed: IpNet = text.parse().map_err(|_| TargetError::Unreadable)?;
    let net = unmap(typed.trunc());
    if typed.trunc() == typed { Ok(net) } else { Err(TargetError::HostBits { net, address: typed.addr() }) }
}

fn unmap(net: IpNet) -> IpNet {
    let mapped = || -> Option<IpNet> {
        let IpAddr::V4(address) = net.addr().to_canonical() else { return None };
        let bits = net.prefix_len().checked_sub(MAPPED_BITS)?;
        Ipv4Net::new(address, bits).ok().map(IpNet::V4)
    };
    if matches!(net, IpNet::V6(_)) { mapped().unwrap_or(net) } else { net }
}

/// How a prefix is shown to people: a single address without its length.
pub(super) fn show(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

/// Why a text is not a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TargetError {
    Unreadable,
    /// The network that was probably meant, and the address that stands before the slash.
    HostBits {
        net: IpNet,
        address: IpAddr,
    },
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Unreadable => {
                f.write_str("not an address or network, such as 192.0.2.9, 192.0.2.0/24 or 2001:db8::/64")
            }
            TargetError::HostBits { net, address } => {
                write!(f, "this is an address within a network; did you mean {net}, or {address} alone?")
            }
        }
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        parse(text).map_or_else(|error| error.to_string(), |net| net.to_string())
    }

    #[test]
    fn addresses_and_networks_are_taken_as_given() {
        assert_eq!(parsed("192.0.2.9"), "192.0.2.9/32");
        assert_eq!(parsed("192.0.2.0/24"), "192.0.2.0/24");
        assert_eq!(parsed("2001:db8::9"), "2001:db8::9/128");
        assert_eq!(parsed("2001:db8::/64"), "2001:db8::/64");
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_an_ipv4_address() {
        assert_eq!(parsed("::ffff:192.0.2.9"), "192.0.2.9/32");
        assert_eq!(parsed("::ffff:192.0.2.0/120"), "192.0.2.0/24");
        assert_eq!(parsed("::/0"), "::/0");
    }

    #[test]
    fn host_bits_are_refused_with_what_may_be_meant() {
        let sentence = "this is an address within a network; did you mean 202.54.20.0/24, or 202.54.20.1 alone?";
        assert_eq!(parsed("202.54.20.1/24"), sentence);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "example.org", "192.0.2.9/33", "192.0.2", "1.2.3.4/", "-1"] {
            assert_eq!(parse(text), Err(TargetError::Unreadable), "{text}");
        }
    }
}
