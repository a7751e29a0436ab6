//! What happened lately from where: prefixes with the time of the last event, in bounded memory.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::leaves::{Key, Leaves};
use crate::time::Timestamp;

/// Most prefixes that one [`Recall`] remembers: 1 MB of IPv4, 3 MB of IPv6. At the bound the older half is forgotten.
pub(crate) const MOST: usize = 65_536;

/// Prefixes in order, each with the time of its latest event. By numbers that order them as their first addresses and
/// then their lengths do, because every log-in is looked up.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    ipv4: Leaves<u64, Timestamp>,
    ipv6: Leaves<(u128, u8), Timestamp>,
}

impl Recall {
    pub(crate) fn note(&mut self, prefix: IpNet, at: Timestamp) {
        let latest = self.latest(prefix);
        if let Some(latest) = latest {
            *latest = at.max(*latest);
            return;
        }
        if self.len() >= MOST {
            self.forget_older_half();
        }
        match prefix {
            IpNet::V4(net) => self.ipv4.insert(key_of_ipv4(net), at),
            IpNet::V6(net) => self.ipv6.insert(key_of_ipv6(net), at),
        };
    }

    /// The prefixes within this one that something came from at `since` or later, in order.
    pub(crate) fn within(&self, prefix: IpNet, since: Timestamp) -> impl Iterator<Item = (IpNet, Timestamp)> {
        let (ipv4, ipv6) = match prefix {
            IpNet::V4(net) => (Some(range(&self.ipv4, key_of_ipv4(net), key_of_ipv4(net.broadcast().into()))), None),
            IpNet::V6(net) => (None, Some(range(&self.ipv6, key_of_ipv6(net), key_of_ipv6(net.broadcast().into())))),
        };
        let ipv4 = ipv4.into_iter().flatten().map(|(key, at)| (ipv4_of(*key).into(), *at));
        let ipv6 = ipv6.into_iter().flatten().map(|(key, at)| (ipv6_of(*key).into(), *at));
        ipv4.chain(ipv6).filter(move |(_, at)| *at >= since)
    }

    /// Everything from within this prefix is forgotten.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        let within: Vec<IpNet> = self.within(prefix, Timestamp::EPOCH).map(|(net, _)| net).collect();
        for net in within {
            match net {
                IpNet::V4(net) => self.ipv4.remove(&key_of_ipv4(net)),
                IpNet::V6(net) => self.ipv6.remove(&key_of_ipv6(net)),
            };
        }
    }

    fn latest(&mut self, prefix: IpNet) -> Option<&mut Timestamp> {
        match prefix {
            IpNet::V4(net) => self.ipv4.get_mut(&key_of_ipv4(net)),
            IpNet::V6(net) => self.ipv6.get_mut(&key_of_ipv6(net)),
        }
    }

    fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    fn forget_older_half(&mut self) {
        let ipv4 = self.ipv4.iter().map(|(_, at)| *at);
        let mut times: Vec<Timestamp> = ipv4.chain(self.ipv6.iter().map(|(_, at)| *at)).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.ipv4.retain(|_, at| *at > *median);
        self.ipv6.retain(|_, at| *at > *median);
    }
}

/// The entries from one key to another, both included.
fn range<K: Key>(leaves: &Leaves<K, Timestamp>, first: K, last: K) -> impl Iterator<Item = (&K, &Timestamp)> {
    leaves.from(first).take_while(move |(key, _)| **key <= last)
}

fn key_of_ipv4(net: Ipv4Net) -> u64 {
    u64::from(net.network().to_bits()) << 8 | u64::from(net.prefix_len())
}

fn ipv4_of(key: u64) -> Ipv4Net {
    let [length, first @ ..] = key.to_le_bytes();
    let first = Ipv4Addr::new(first[3], first[2], first[1], first[0]);
    Ipv4Net::new_assert(first, length)
}

fn key_of_ipv6(net: Ipv6Net) -> (u128, u8) {
    (net.network().to_bits(), net.prefix_len())
}

fn ipv6_of((first, length): (u128, u8)) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(first), length)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn host(number: usize) -> IpNet {
        IpAddr::from(Ipv4Addr::from(u32::try_from(number).unwrap())).into()
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_older_half_goes_first() {
        let mut recall = Recall::default();
        for number in 0..3 * MOST {
            recall.note(host(number), Timestamp::from_secs(i64::try_from(number).unwrap()));
            assert!(recall.len() <= MOST);
        }
        assert!(recall.len() >= MOST / 2);
        assert!(recall.latest(host(3 * MOST - 1)).is_some() && recall.latest(host(0)).is_none());
    }

    #[test]
    fn an_earlier_event_that_is_read_late_does_not_hide_the_latest() {
        let mut recall = Recall::default();
        recall.note(host(1), Timestamp::from_secs(9));
        recall.note(host(1), Timestamp::from_secs(3));
        let within = |since| recall.within("0.0.0.0/24".parse().unwrap(), Timestamp::from_secs(since)).count();
        assert_eq!((within(9), within(10)), (1, 0));
        recall.forget("0.0.0.0/30".parse().unwrap());
        assert_eq!(recall.len(), 0);
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
