//! Prefixes in order, by family, then network address, then length: a map of them, and sorted slices. All are truncated to
//! their network, so that those within another one follow it without a gap.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::leaves::Leaves;

/// Each family has leaves of its own: an entry is looked up for nearly every hit, and keys of five bytes lie a dozen to a
/// line of the cache.
#[derive(Clone, Debug)]
pub(crate) struct NetMap<V> {
    ipv4: Leaves<Ipv4Net, V>,
    ipv6: Leaves<Ipv6Net, V>,
}

impl<V> Default for NetMap<V> {
    fn default() -> Self {
        NetMap { ipv4: Leaves::default(), ipv6: Leaves::default() }
    }
}

impl<V> NetMap<V> {
    /// Of entries in order, each prefix once: as small as can be.
    pub(crate) fn of_sorted(entries: impl IntoIterator<Item = (IpNet, V)>) -> Self {
        let mut ipv6 = Vec::new();
        let ipv4 = entries.into_iter().filter_map(|(prefix, value)| match prefix {
            IpNet::V4(net) => Some((net, value)),
            IpNet::V6(net) => {
                ipv6.push((net, value));
                None
            }
        });
        NetMap { ipv4: Leaves::of_sorted(ipv4), ipv6: Leaves::of_sorted(ipv6) }
    }

    pub(crate) fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    pub(crate) fn contains(&self, prefix: &IpNet) -> bool {
        self.get(prefix).is_some()
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.get(net),
            IpNet::V6(net) => self.ipv6.get(net),
        }
    }

    pub(crate) fn get_mut(&mut self, prefix: &IpNet) -> Option<&mut V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.get_mut(net),
            IpNet::V6(net) => self.ipv6.get_mut(net),
        }
    }

    /// What was there before.
    pub(crate) fn insert(&mut self, prefix: IpNet, value: V) -> Option<V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.insert(net, value),
            IpNet::V6(net) => self.ipv6.insert(net, value),
        }
    }

    pub(crate) fn remove(&mut self, prefix: &IpNet) -> Option<V> {
        match prefix {
            IpNet::V4(net) => self.ipv4.remove(net),
            IpNet::V6(net) => self.ipv6.remove(net),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        self.from(Ipv4Net::default().into())
    }

    /// The entries from this prefix on.
    pub(crate) fn from(&self, start: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        let (ipv4, ipv6) = match start {
            IpNet::V4(net) => (Some(self.ipv4.from(net)), Ipv6Net::default()),
            IpNet::V6(net) => (None, net),
        };
        let ipv4 = ipv4.into_iter().flatten().map(|(net, value)| ((*net).into(), value));
        // Looked for only by who comes to the end of the others.
        let ipv6 = std::iter::once_with(move || self.ipv6.from(ipv6)).flatten();
        ipv4.chain(ipv6.map(|(net, value)| ((*net).into(), value)))
    }

    /// Those of this prefix and of the longer ones that lie within it.
    pub(crate) fn within(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        let prefix = prefix.trunc();
        self.from(prefix).take_while(move |(net, _)| prefix.contains(net))
    }

    /// Those of this prefix and of the shorter ones that contain it, the shortest first.
    pub(crate) fn covering(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        at_and_above(prefix).filter_map(|net| Some((net, self.get(&net)?)))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.ipv4.retain(|_, value| keep(value));
        self.ipv6.retain(|_, value| keep(value));
    }
}

/// Of a sorted slice: `prefix`, if it is there, and those that contain it, the shortest first.
pub(crate) fn covering_in(sorted: &[IpNet], prefix: IpNet) -> impl Iterator<Item = IpNet> {
    at_and_above(prefix).filter(|net| sorted.binary_search(net).is_ok())
}

/// Of a sorted slice: `prefix`, if it is there, and those that lie within it.
pub(crate) fn within_in(sorted: &[IpNet], prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let prefix = prefix.trunc();
    let start = sorted.partition_point(|net| *net < prefix);
    sorted.iter().skip(start).copied().take_while(move |net| prefix.contains(net))
}

/// `prefix` and all shorter prefixes that contain it, the shortest first.
fn at_and_above(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    (0..=prefix.prefix_len()).filter_map(move |length| IpNet::new(prefix.addr(), length).ok()).map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few addresses and all lengths, so that prefixes often touch.
        let v4 = (0_u32..64, 0_u8..=32)
            .prop_map(|(bits, length)| IpNet::new(std::net::Ipv4Addr::from(bits << 26 | bits).into(), length).unwrap());
        let v6 = (0_u128..64, 0_u8..=128).prop_map(|(bits, length)| {
            IpNet::new(std::net::Ipv6Addr::from(bits << 122 | bits).into(), length).unwrap()
        });
        prop_oneof![v4, v6].prop_map(|net| net.trunc())
    }

    proptest! {
        #[test]
        fn what_it_finds_is_what_a_look_at_every_prefix_finds(
            nets in proptest::collection::btree_set(any_net(), 0..40),
            added in proptest::collection::vec(any_net(), 0..10),
            asked in any_net(),
        ) {
            let mut map = NetMap::of_sorted(nets.iter().map(|net| (*net, *net)));
            let mut all = nets;
            for net in added {
                prop_assert_eq!(map.insert(net, net).is_none(), all.insert(net));
            }
            prop_assert_eq!(map.len(), all.len());
            prop_assert!(map.iter().map(|(net, _)| net).eq(all.iter().copied()));
            prop_assert!(map.from(asked).map(|(net, _)| net).eq(all.range(asked..).copied()));
            let above: Vec<IpNet> = all.iter().copied().filter(|net| net.contains(&asked)).collect();
            let below: Vec<IpNet> = all.iter().copied().filter(|net| asked.contains(net)).collect();
            let sorted: Vec<IpNet> = all.iter().copied().collect();
            prop_assert_eq!(covering_in(&sorted, asked).collect::<BTreeSet<_>>(), above.iter().copied().collect());
            prop_assert_eq!(within_in(&sorted, asked).collect::<Vec<_>>(), below.clone());
            prop_assert_eq!(map.covering(asked).count(), above.len());
            prop_assert!(map.covering(asked).all(|(net, _)| above.contains(&net)));
            prop_assert_eq!(map.within(asked).map(|(net, _)| net).collect::<Vec<_>>(), below);
            prop_assert_eq!(map.get(&asked).copied(), all.get(&asked).copied());
            prop_assert_eq!(map.remove(&asked), all.take(&asked));
            prop_assert_eq!(map.contains(&asked), false);
            map.retain(|net| net.prefix_len() > 16);
            prop_assert!(map.iter().all(|(net, _)| net.prefix_len() > 16));
        }
    }
}
