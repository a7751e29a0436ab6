//! What happened lately from where: prefixes with the time of the last event, in bounded memory.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::time::Timestamp;

/// Most prefixes that one [`Recall`] remembers, some 6 MB. At the bound the older half is forgotten.
const MOST: usize = 65_536;

/// Prefixes in order, each with the time of its latest event.
#[derive(Debug, Default)]
pub(crate) struct Recall(BTreeMap<IpNet, Timestamp>);

impl Recall {
    pub(crate) fn note(&mut self, prefix: IpNet, at: Timestamp) {
        let prefix = prefix.trunc();
        if self.0.len() >= MOST && !self.0.contains_key(&prefix) {
            self.forget_older_half();
        }
        let latest = self.0.entry(prefix).or_insert(at);
        *latest = at.max(*latest);
    }

    /// The prefixes within this one that something came from at `since` or later, in order.
    pub(crate) fn within(&self, prefix: IpNet, since: Timestamp) -> impl Iterator<Item = (IpNet, Timestamp)> {
        let prefix = prefix.trunc();
        let inside = self.0.range(prefix..).take_while(move |(net, _)| prefix.contains(*net));
        inside.filter(move |(_, at)| **at >= since).map(|(net, at)| (*net, *at))
    }

    /// Everything from within this prefix is forgotten.
    pub(crate) fn forget(&mut self, prefix: IpNet) {
        let within: Vec<IpNet> = self.within(prefix, Timestamp::EPOCH).map(|(net, _)| net).collect();
        for net in within {
            self.0.remove(&net);
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.0.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.0.retain(|_, at| *at > *median);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

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
        assert!(recall.0.contains_key(&host(3 * MOST - 1)) && !recall.0.contains_key(&host(0)));
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
}
