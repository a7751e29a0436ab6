//! Many prefixes that are looked for together.

use std::collections::{BTreeSet, HashSet};

use ipnet::IpNet;

/// Answers in a few steps whether one of them covers a source, however many they are.
#[derive(Debug, Default)]
pub(crate) struct Nets {
    nets: HashSet<IpNet>,
    lengths: BTreeSet<u8>,
}

impl Nets {
    pub(super) fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.nets.iter().copied()
    }

    pub(super) fn cover(&self, source: IpNet) -> bool {
        self.lengths
            .range(..=source.prefix_len())
            .any(|length| IpNet::new(source.addr(), *length).is_ok_and(|wider| self.nets.contains(&wider.trunc())))
    }
}

impl FromIterator<IpNet> for Nets {
    fn from_iter<T: IntoIterator<Item = IpNet>>(prefixes: T) -> Nets {
        let nets: HashSet<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
        let lengths = nets.iter().map(IpNet::prefix_len).collect();
        Nets { nets, lengths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_covered_by_any_prefix_of_its_family_that_it_lies_within() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let nets: Nets = ["192.0.2.9/24", "198.51.100.1/32", "2001:db8::/64"].map(net).into_iter().collect();
        for inside in ["192.0.2.1/32", "192.0.2.0/24", "198.51.100.1/32", "2001:db8::1/128"] {
            assert!(nets.cover(net(inside)), "{inside}");
        }
        for outside in ["192.0.3.1/32", "192.0.2.0/23", "198.51.100.2/32", "2001:db8::/63", "2001:db8:0:1::1/128"] {
            assert!(!nets.cover(net(outside)), "{outside}");
        }
        assert!(!Nets::default().cover(net("192.0.2.1/32")));
    }
}
