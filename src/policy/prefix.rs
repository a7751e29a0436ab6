//! Prefix arithmetic: what is counted and banned for an address, and which prefixes have addresses in common.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::PrefixLengths;

/// Length of `::ffff:0:0/96`, the IPv6 form of IPv4 addresses (RFC 4291, section 2.5.5.2).
const MAPPED: u8 = 96;

/// The widest prefixes of the unicast Internet that may be banned, in bits: IPv4's is what a registry gets, IPv6's is
/// sixteen times longer than that. Whoever means more has made a slip.
pub(crate) const WIDEST: PrefixLengths = PrefixLengths { ipv4: 8, ipv6: 16 };

impl PrefixLengths {
    /// The prefix by which this address is counted and banned. A mapped address (`::ffff:a.b.c.d`) is IPv4.
    pub(crate) fn prefix_of(self, address: IpAddr) -> IpNet {
        match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Net::new(address, self.ipv4.min(32)).map(|net| net.trunc().into()),
            IpAddr::V6(address) => Ipv6Net::new(address, self.ipv6.min(128)).map(|net| net.trunc().into()),
        }
        .expect("the length is at most that of an address")
    }
}

/// The widest prefix that forgeable evidence bans, whatever a jail counts: what one customer of a provider has. Whoever
/// can forge one address of an IPv6 network of 64 bits, or own it, has all of them at hand; a ban of one of these
/// would stop nobody.
const CUSTOMER: PrefixLengths = PrefixLengths { ipv4: 32, ipv6: 64 };

/// What is banned for forgeable evidence against this address: what was counted, or less.
pub(crate) fn narrowed(counted: IpNet, address: IpAddr) -> IpNet {
    let customer = CUSTOMER.prefix_of(address);
    if counted.contains(&customer) { customer } else { counted }
}

/// The one form of a prefix: no host bits, and IPv4 where it was written as mapped IPv6.
pub(crate) fn canonical(prefix: IpNet) -> IpNet {
    let mapped = match prefix {
        IpNet::V6(net) if net.prefix_len() >= MAPPED => {
            net.addr().to_ipv4_mapped().zip(Some(net.prefix_len() - MAPPED))
        }
        _ => None,
    };
    match mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()) {
        Some(net) => net.trunc().into(),
        None => prefix.trunc(),
    }
}

/// Whether the prefixes have an address in common: then one of them contains the other.
pub(crate) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Whether this would ban more of the Internet than anybody means to.
pub(crate) fn is_too_wide(prefix: IpNet) -> bool {
    is_wider(prefix, WIDEST)
}

/// Whether this is wider than that. Wide blocks outside of the unicast Internet, as lists of bogus addresses have them
/// (`224.0.0.0/3`, `fc00::/7`), are no harm.
pub(crate) fn is_wider(prefix: IpNet, widest: PrefixLengths) -> bool {
    let prefix = canonical(prefix);
    let least = if prefix.addr().is_ipv4() { widest.ipv4 } else { widest.ipv6 };
    prefix.prefix_len() < least && is_unicast(prefix)
}

/// Whether hosts of the Internet may have addresses of it. To be asked of the canonical form.
pub(crate) fn is_unicast(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.network().octets()[0] < 224,
        // 2000::/3 (RFC 4291, section 2.4).
        IpNet::V6(net) => {
            let unicast = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
            overlap(net.into(), unicast.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_counted_by_the_prefix_of_its_family() {
        let lengths = PrefixLengths { ipv4: 32, ipv6: 64 };
        for (address, expected) in [
            ("192.0.2.9", "192.0.2.9/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::ffff:192.0.2.9", "192.0.2.9/32"),
            ("::1", "::/64"),
        ] {
            assert_eq!(lengths.prefix_of(address.parse().unwrap()), net(expected), "{address}");
        }
        let wide = PrefixLengths { ipv4: 24, ipv6: 48 };
        assert_eq!(wide.prefix_of("192.0.2.9".parse().unwrap()), net("192.0.2.0/24"));
        assert_eq!(wide.prefix_of("2001:db8:1:2::9".parse().unwrap()), net("2001:db8:1::/48"));
    }

    #[test]
    fn forgeable_evidence_bans_what_is_counted_but_no_more_than_one_customer() {
        for (counted, address, expected) in [
            ("192.0.2.0/24", "192.0.2.9", "192.0.2.9/32"),
            ("192.0.2.9/32", "192.0.2.9", "192.0.2.9/32"),
            ("2001:db8::/48", "2001:db8::9", "2001:db8::/64"),
            ("2001:db8::/64", "2001:db8::9", "2001:db8::/64"),
            ("2001:db8::9/128", "2001:db8::9", "2001:db8::9/128"),
        ] {
            assert_eq!(narrowed(net(counted), address.parse().unwrap()), net(expected), "{counted}");
        }
    }

    #[test]
    fn a_prefix_has_one_form() {
        for (written, expected) in [
            ("202.54.20.1/24", "202.54.20.0/24"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::192.0.2.1/128", "::192.0.2.1/128"),
        ] {
            assert_eq!(canonical(net(written)), net(expected), "{written}");
        }
    }

    #[test]
    fn prefixes_wider_than_a_registry_s_are_too_wide_and_bogus_ones_are_not() {
        for wide in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "192.0.0.0/7", "::/0", "2000::/3", "2a00::/12", "::/2"] {
            assert!(is_too_wide(net(wide)), "{wide}");
        }
        assert!(is_too_wide(net("::ffff:0:0/96")));
        for narrow in ["10.0.0.0/8", "224.0.0.0/3", "240.0.0.0/4", "2001::/16", "fc00::/7", "8000::/1", "::/8"] {
            assert!(!is_too_wide(net(narrow)), "{narrow}");
        }
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u8>(), 0_u8..=32)
            .prop_map(|(low, length)| IpNet::new(IpAddr::from([192, 0, 2, low]), length).unwrap());
        let v6 = (any::<u8>(), 0_u8..=128).prop_map(|(low, length)| {
            IpNet::new(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)]), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn prefixes_overlap_when_their_ranges_do(one in any_net(), other in any_net()) {
            let same_family = one.addr().is_ipv4() == other.addr().is_ipv4();
            let ranges = one.network() <= other.broadcast() && other.network() <= one.broadcast();
            prop_assert_eq!(overlap(one, other), same_family && ranges);
            prop_assert_eq!(overlap(one, other), overlap(other, one));
        }

        #[test]
        fn an_address_lies_in_its_prefix(octets in any::<[u8; 16]>(), ipv4 in 0_u8..=255, ipv6 in 0_u8..=255) {
            let address = IpAddr::from(octets);
            let lengths = PrefixLengths { ipv4, ipv6 };
            prop_assert!(lengths.prefix_of(address).contains(&address.to_canonical()));
        }
    }
}
