//! Which prefixes of an ordered collection cover a prefix, and which lie within it.
//!
//! Both rest on the order of [`IpNet`]: by family, then network address, then length. All keys are truncated to their
//! network, so the prefixes within another one follow it without a gap.

use ipnet::IpNet;

use crate::leaves::Leaves;

/// `prefix` and all shorter prefixes that contain it, the shortest first.
fn at_and_above(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    (0..=prefix.prefix_len()).filter_map(move |length| IpNet::new(prefix.addr(), length).ok()).map(|net| net.trunc())
}

/// Entries whose prefix is `prefix` or contains it.
pub(super) fn covering<V>(map: &Leaves<IpNet, V>, prefix: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
    at_and_above(prefix).filter_map(|net| Some((net, map.get(&net)?)))
}

/// Entries whose prefix is `prefix` or lies within it.
pub(super) fn within<V>(map: &Leaves<IpNet, V>, prefix: IpNet) -> impl Iterator<Item = (&IpNet, &V)> {
    let prefix = prefix.trunc();
    map.from(prefix).take_while(move |(net, _)| prefix.contains(*net))
}

/// [`covering`] for a sorted slice.
pub(super) fn covering_in(sorted: &[IpNet], prefix: IpNet) -> impl Iterator<Item = IpNet> {
    at_and_above(prefix).filter(|net| sorted.binary_search(net).is_ok())
}

/// [`within`] for a sorted slice.
pub(super) fn within_in(sorted: &[IpNet], prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let prefix = prefix.trunc();
    let start = sorted.partition_point(|net| *net < prefix);
    sorted.iter().skip(start).copied().take_while(move |net| prefix.contains(net))
}

#[cfg(test)]
mod tests {
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
        fn covering_and_within_are_what_a_look_at_every_prefix_finds(
            nets in proptest::collection::btree_set(any_net(), 0..40),
            asked in any_net(),
        ) {
            let map = Leaves::of_sorted(nets.iter().map(|net| (*net, *net)));
            let sorted: Vec<IpNet> = nets.iter().copied().collect();
            let above: Vec<IpNet> = sorted.iter().copied().filter(|net| net.contains(&asked)).collect();
            let below: Vec<IpNet> = sorted.iter().copied().filter(|net| asked.contains(net)).collect();
            prop_assert_eq!(covering_in(&sorted, asked).collect::<std::collections::BTreeSet<_>>(),
                above.iter().copied().collect());
            prop_assert_eq!(covering(&map, asked).count(), above.len());
            prop_assert_eq!(within_in(&sorted, asked).collect::<Vec<_>>(), below.clone());
            prop_assert_eq!(within(&map, asked).map(|(net, _)| *net).collect::<Vec<_>>(), below);
        }
    }
}
