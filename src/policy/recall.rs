//! What happened lately from where: prefixes with the time of the last event, in bounded memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::time::Timestamp;

/// Most prefixes that one [`Recall`] remembers, some 6 MB. At the bound the older half is forgotten.
const MOST: usize = 65_536;

/// Prefixes in order, each with the time of its latest event.
#[derive(Debug, Default)]
pub(crate) struct Recall(BTreeMap<Key, Timestamp>);

/// A prefix as numbers, because every log-in is looked up: whether it is IPv6, its first address, its length. They are
/// in the order of the prefixes.
type Key = (bool, u128, u8);

impl Recall {
    pub(crate) fn note(&mut self, prefix: IpNet, at: Timestamp) {
        let key = key_of(prefix);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.forget_older_half();
        }
        let latest = self.0.entry(key).or_insert(at);
        *latest = at.max(*latest);
    }

    /// The prefixes within this one that something came from at `since` or later, in order.
    pub(crate) fn within(&self, prefix: IpNet, since: Timestamp) -> impl Iterator<Item = (IpNet, Timestamp)> {
        let last = key_of(prefix.broadcast().into());
        let inside = self.0.range(key_of(prefix)..=last);
        inside.filter(move |(_, at)| **at >= since).map(|(key, at)| (prefix_of(*key), *at))
    }

    /// Everything from within this prefix is forgotten.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        let within: Vec<IpNet> = self.within(prefix, Timestamp::EPOCH).map(|(net, _)| net).collect();
        for net in within {
            self.0.remove(&key_of(net));
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.0.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.0.retain(|_, at| *at > *median);
    }
}

fn key_of(prefix: IpNet) -> Key {
    match prefix {
        IpNet::V4(net) => (false, net.network().to_bits().into(), net.prefix_len()),
        IpNet::V6(net) => (true, net.network().to_bits(), net.prefix_len()),
    }
}

fn prefix_of((is_ipv6, first, length): Key) -> IpNet {
    // A key of IPv4 was made of 32 bits.
    let ipv4 = || Ipv4Addr::from_bits(u32::try_from(first).unwrap_or(u32::MAX));
    let first = if is_ipv6 { IpAddr::from(Ipv6Addr::from_bits(first)) } else { ipv4().into() };
    IpNet::new_assert(first, length)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn host(number: usize) -> IpNet {
        IpAddr::from(Ipv4Addr::from(u32::try_from(number).unwrap())).into()
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_older_half_goes_first() {
        let mut recall = Recall::default();
        for number in 0..3 * MOST {
            recall.note(host(number), Timestamp::from_secs(i64::try_from(number).unwrap()));
            assert!(recall.0.len() <= MOST);
        }
        assert!(recall.0.len() >= MOST / 2);
        assert!(recall.0.contains_key(&key_of(host(3 * MOST - 1))) && !recall.0.contains_key(&key_of(host(0))));
    }

    #[test]
    fn an_earlier_event_that_is_read_late_does_not_hide_the_latest() {
        let mut recall = Recall::default();
        recall.note(host(1), Timestamp::from_secs(9));
        recall.note(host(1), Timestamp::from_secs(3));
        let within = |since| recall.within("0.0.0.0/24".parse().unwrap(), Timestamp::from_secs(since)).count();
        assert_eq!((within(9), within(10)), (1, 0));
        recall.forget("0.0.0.0/30".parse().unwrap());
        assert_eq!(recall.0.len(), 0);
    }

    #[test]
    fn what_lies_within_a_prefix_is_told_as_it_was_noted_and_in_order() {
        let mut recall = Recall::default();
        let noted =
            ["10.0.0.0/8", "10.0.0.0/24", "10.0.0.255/32", "10.0.1.0/32", "2001:db8::/64", "2001:db8:0:1::/128"];
        for prefix in noted.into_iter().rev() {
            recall.note(prefix.parse().unwrap(), Timestamp::EPOCH);
        }
        let within = |prefix: &str| -> Vec<String> {
            let found = recall.within(prefix.parse().unwrap(), Timestamp::EPOCH);
            found.map(|(net, _)| net.to_string()).collect()
        };
        assert_eq!(within("10.0.0.0/24"), noted[1..3]);
        assert_eq!(within("0.0.0.0/0"), noted[..4]);
        assert_eq!(within("2001:db8::/32"), noted[4..]);
        assert_eq!(within("::/0"), noted[4..]);
    }
}
