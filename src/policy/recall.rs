//! What happened lately from where: prefixes with the time of the last event, in bounded memory.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netmap::NetMap;
use crate::time::Timestamp;

/// Most prefixes that one [`Recall`] remembers: 1 MB of IPv4, 2 MB of IPv6. At the bound the older half is forgotten.
pub(crate) const MOST: usize = 65_536;

/// Prefixes in order, each with the time of its latest event.
#[derive(Debug, Default)]
pub(crate) struct Recall(NetMap<Timestamp>);

impl Recall {
    pub(crate) fn note(&mut self, prefix: IpNet, at: Timestamp) {
        let prefix = prefix.trunc();
        match self.0.insert(prefix, at) {
            Some(latest) if latest > at => drop(self.0.insert(prefix, latest)),
            None if self.0.len() > MOST => {
                self.forget_older_half();
                // Whatever its time, it is what is asked for next.
                self.0.insert(prefix, at);
            }
            _ => {}
        }
    }

    /// The prefixes within this one that something came from at `since` or later, in order.
    pub(crate) fn within(&self, prefix: IpNet, since: Timestamp) -> impl Iterator<Item = (IpNet, Timestamp)> {
        self.0.within(prefix).map(|(net, at)| (net, *at)).filter(move |(_, at)| *at >= since)
    }

    /// Everything from within this prefix is forgotten.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        let within: Vec<IpNet> = self.0.within(prefix).map(|(net, _)| net).collect();
        for net in within {
            self.0.remove(&net);
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.0.iter().map(|(_, at)| *at).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.0.retain(|at| *at > *median);
    }
}

/// Addresses that people have logged in from. On most servers there are more log-ins than anything else, and hardly
/// anybody asks for them: they are kept as they come, and put in order many at a time, so that those which lie near each
/// other come one after the other.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    settled: Recall,
    fresh: Vec<(IpNet, Timestamp)>,
}

/// How many log-ins are put in order at a time.
const FRESH: usize = 1024;

impl Logins {
    pub(crate) fn note(&mut self, address: IpAddr, at: Timestamp) {
        self.fresh.push((address.to_canonical().into(), at));
        if self.fresh.len() >= FRESH {
            self.settle();
        }
    }

    /// To be called before they are asked for often.
    pub(crate) fn settle(&mut self) {
        self.fresh.sort_unstable_by_key(|(address, _)| match address {
            IpNet::V4(net) => u64::from(net.addr().to_bits()),
            IpNet::V6(net) => (net.addr().to_bits() >> 64) as u64,
        });
        for (address, at) in self.fresh.drain(..) {
            self.settled.note(address, at);
        }
    }

    /// When somebody last logged in from within this prefix.
    pub(crate) fn latest_within(&self, prefix: IpNet) -> Option<Timestamp> {
        let fresh = self.fresh.iter().filter(|(address, _)| prefix.contains(address)).map(|(_, at)| *at);
        fresh.chain(self.settled.within(prefix, Timestamp::EPOCH).map(|(_, at)| at)).max()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
        assert!(recall.0.contains(&host(3 * MOST - 1)) && !recall.0.contains(&host(0)));
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

    #[test]
    fn of_log_ins_the_latest_from_within_a_prefix_is_known_settled_or_not() {
        let mut logins = Logins::default();
        let latest = |logins: &Logins, prefix: &str| logins.latest_within(prefix.parse().unwrap());
        let at = |seconds| Timestamp::from_secs(seconds);
        for (address, seconds) in [("192.0.2.1", 5), ("192.0.2.2", 7), ("2001:db8::1", 9), ("192.0.2.2", 6)] {
            logins.note(address.parse().unwrap(), at(seconds));
        }
        for settled in [false, true] {
            if settled {
                logins.settle();
            }
            assert_eq!(latest(&logins, "192.0.2.1/32"), Some(at(5)));
            assert_eq!(latest(&logins, "192.0.2.0/24"), Some(at(7)));
            assert_eq!(latest(&logins, "2001:db8::/64"), Some(at(9)));
            assert_eq!(latest(&logins, "198.51.100.0/24"), None);
        }
        logins.note("192.0.2.1".parse().unwrap(), at(8));
        assert_eq!(latest(&logins, "192.0.2.0/24"), Some(at(8)));
        for number in 0..2 * FRESH {
            logins.note(host(number).addr(), at(1));
        }
        assert!(logins.fresh.len() < FRESH);
        assert_eq!(latest(&logins, "192.0.2.1/32"), Some(at(8)));
    }
}
