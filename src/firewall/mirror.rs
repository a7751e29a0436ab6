//! What a backend has put into one set and when it ends: enough to notice that the kernel holds less, and to renew
//! what the kernel cannot hold long enough. 9 bytes per IPv4 entry, 21 per IPv6 entry.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::leaves::Leaves;
use crate::time::{Timestamp, Until};

/// Whole seconds since 1970; entries for ever have the last value.
type Second = u32;
const FOREVER: Second = Second::MAX;

/// An entry counts as surely there only while this many seconds are left.
const MARGIN: Second = 2;

/// Entries that are over are swept out when they are this many, and a quarter of all.
const SWEEP_AT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Mirror {
    ipv4: Leaves<Ipv4Net, Second>,
    ipv6: Leaves<Ipv6Net, Second>,
    /// How many entries end in each second to come.
    ends: BTreeMap<Second, usize>,
    /// How many are in `ends`.
    alive: usize,
}

impl Mirror {
    /// Sorts entries by prefix; of several with the same one the last stays.
    pub(super) fn put_in_order(entries: &mut Vec<(IpNet, Until)>) {
        entries.reverse();
        entries.sort_by_key(|(prefix, _)| *prefix);
        entries.dedup_by_key(|(prefix, _)| *prefix);
    }

    /// One that holds [ordered](Mirror::put_in_order) entries.
    pub(super) fn of(entries: Vec<(IpNet, Until)>) -> Mirror {
        let (mut ipv4, mut ipv6, mut mirror) = (Vec::new(), Vec::new(), Mirror::default());
        mirror.alive = entries.len();
        for (prefix, until) in entries {
            let end = second(until);
            *mirror.ends.entry(end).or_default() += 1;
            match prefix {
                IpNet::V4(net) => ipv4.push((net, end)),
                IpNet::V6(net) => ipv6.push((net, end)),
            }
        }
        (mirror.ipv4, mirror.ipv6) = (Leaves::of_sorted(ipv4), Leaves::of_sorted(ipv6));
        mirror
    }

    /// Whether the prefix was put there, though it may be over by now.
    pub(super) fn knows(&self, prefix: &IpNet) -> bool {
        self.end(prefix).is_some()
    }

    /// Whether the prefix is there and not over.
    pub(super) fn holds(&self, prefix: &IpNet, now: Timestamp) -> bool {
        self.end(prefix).is_some_and(|end| end > second(Until::At(now)))
    }

    fn end(&self, prefix: &IpNet) -> Option<Second> {
        match prefix.trunc() {
            IpNet::V4(net) => self.ipv4.get(&net).copied(),
            IpNet::V6(net) => self.ipv6.get(&net).copied(),
        }
    }

    pub(super) fn set(&mut self, prefix: IpNet, until: Until) {
        let end = second(until);
        let before = match prefix.trunc() {
            IpNet::V4(net) => self.ipv4.insert(net, end),
            IpNet::V6(net) => self.ipv6.insert(net, end),
        };
        self.forget(before);
        *self.ends.entry(end).or_default() += 1;
        self.alive += 1;
    }

    pub(super) fn clear(&mut self, prefix: &IpNet) {
        let before = match prefix.trunc() {
            IpNet::V4(net) => self.ipv4.remove(&net),
            IpNet::V6(net) => self.ipv6.remove(&net),
        };
        self.forget(before);
    }

    fn forget(&mut self, end: Option<Second>) {
        let Some(end) = end else { return };
        if let Some(count) = self.ends.get_mut(&end) {
            *count -= 1;
            self.alive -= 1;
            if *count == 0 {
                self.ends.remove(&end);
            }
        }
    }

    /// How many entries the kernel must hold now, at least.
    pub(super) fn least(&mut self, now: Timestamp) -> usize {
        let soon = second(Until::At(now)).saturating_add(MARGIN);
        while let Some(entry) = self.ends.first_entry() {
            if *entry.key() > soon {
                break;
            }
            self.alive -= entry.remove();
        }
        let over = (self.ipv4.len() + self.ipv6.len()).saturating_sub(self.alive);
        if over > SWEEP_AT && over > self.alive / 4 {
            let over = second(Until::At(now)).saturating_sub(MARGIN);
            self.ipv4.retain(|_, end| *end > over);
            self.ipv6.retain(|_, end| *end > over);
        }
        self.alive
    }

    /// Entries that end after `moment`, and when; those for ever not.
    pub(super) fn ending_after(&self, moment: Timestamp) -> impl Iterator<Item = (IpNet, Until)> {
        let moment = second(Until::At(moment));
        let ipv4 = self.ipv4.iter().map(|(net, end)| (IpNet::V4(*net), *end));
        let all = ipv4.chain(self.ipv6.iter().map(|(net, end)| (IpNet::V6(*net), *end)));
        all.filter(move |(_, end)| *end > moment && *end != FOREVER)
            .map(|(net, end)| (net, Until::At(Timestamp::from_secs(i64::from(end)))))
    }
}

/// The second in which it ends, rounded up.
fn second(until: Until) -> Second {
    match until {
        Until::Forever => FOREVER,
        // Ends after the year 2106 are as good as for ever here: they only make an entry wanted for longer.
        Until::At(end) => Second::try_from(end.as_micros().div_euclid(1_000_000) + 1).unwrap_or(FOREVER - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: Timestamp = Timestamp::from_secs(1_795_224_600);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn entries_count_until_they_are_nearly_over_and_replaced_ones_once() {
        let mut mirror = Mirror::default();
        mirror.set(net("192.0.2.1/32"), Until::At(START + Duration::from_secs(10)));
        mirror.set(net("192.0.2.1/32"), Until::At(START + Duration::from_secs(60)));
        mirror.set(net("2001:db8::/64"), Until::Forever);
        mirror.set(net("192.0.2.2/32"), Until::At(START + Duration::from_secs(5)));
        assert_eq!(mirror.least(START), 3);
        assert!(mirror.holds(&net("192.0.2.1/32"), START) && !mirror.holds(&net("192.0.2.3/32"), START));
        assert!(!mirror.holds(&net("192.0.2.2/32"), START + Duration::from_secs(6)));
        assert_eq!(mirror.least(START + Duration::from_secs(6)), 2);
        mirror.clear(&net("192.0.2.2/32"));
        mirror.clear(&net("192.0.2.1/32"));
        mirror.clear(&net("192.0.2.1/32"));
        assert_eq!(mirror.least(START + Duration::from_secs(7)), 1);
    }

    #[test]
    fn one_that_is_made_of_a_list_is_like_one_that_followed_it() {
        let until = |seconds| Until::At(START + Duration::from_secs(seconds));
        let list = [("2001:db8::/64", 9), ("192.0.2.1/32", 10), ("192.0.2.0/24", 7), ("192.0.2.1/32", 60)];
        let mut list: Vec<(IpNet, Until)> = list.map(|(prefix, seconds)| (net(prefix), until(seconds))).into();
        let mut following = Mirror::default();
        for (prefix, until) in &list {
            following.set(*prefix, *until);
        }
        Mirror::put_in_order(&mut list);
        let mut made = Mirror::of(list);
        assert_eq!((&made.ipv4, &made.ipv6, &made.ends), (&following.ipv4, &following.ipv6, &following.ends));
        for after in [0, 6, 8, 59] {
            let now = START + Duration::from_secs(after);
            assert_eq!(made.least(now), following.least(now));
        }
    }

    #[test]
    fn what_is_over_is_swept_out() {
        let mut mirror = Mirror::default();
        for number in 0..3000u32 {
            let net = Ipv4Net::new(number.into(), 32).unwrap();
            mirror.set(IpNet::V4(net), Until::At(START + Duration::from_secs(u64::from(number % 10))));
        }
        assert_eq!(mirror.least(START + Duration::from_secs(60)), 0);
        assert_eq!(mirror.ipv4.len(), 0);
    }
}
