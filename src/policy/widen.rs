//! When enough neighbours offend, their prefix is banned, not one of them after the other; and a newcomer from among
//! banned neighbours needs fewer hits. Both rest on proven evidence only: nobody can forge a neighbourhood.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::recall::Recall;
use crate::time::{Timestamp, format_duration};

/// How bans widen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Widen {
    /// How many different neighbours make a prefix banned; 0 for never.
    pub(crate) neighbours: u32,
    /// The time within which they offend.
    pub(crate) seconds: Duration,
    /// Lengths of the prefixes that may be banned, in bits, the longest first.
    pub(crate) ipv4: Vec<u8>,
    pub(crate) ipv6: Vec<u8>,
    /// Where a neighbour is banned, this part of the usual hits is enough, in percent.
    pub(crate) threshold: u8,
}

/// A prefix that is to be banned for its inhabitants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) prefix: IpNet,
    /// How many different neighbours have offended, at least.
    pub(crate) neighbours: u32,
    pub(crate) within: Duration,
}

impl Widen {
    pub(crate) fn is_on(&self) -> bool {
        self.neighbours > 0
    }

    /// The wider prefixes around this one, the narrowest first.
    fn rungs(&self, prefix: IpNet) -> impl Iterator<Item = IpNet> {
        let lengths = if prefix.addr().is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        let wider = lengths.iter().filter(move |length| **length < prefix.prefix_len());
        wider.filter_map(move |length| IpNet::new(prefix.addr(), *length).ok()).map(|net| net.trunc())
    }

    /// Whose bans make a newcomer suspicious.
    pub(crate) fn neighbourhood(&self, prefix: IpNet) -> Option<IpNet> {
        self.rungs(prefix).next()
    }

    /// How many hits are enough among banned neighbours; `None` when that changes nothing.
    pub(crate) fn lowered(&self, usual: u32) -> Option<u32> {
        let lowered = (u64::from(usual) * u64::from(self.threshold)).div_ceil(100);
        u32::try_from(lowered.max(1)).ok().filter(|lowered| *lowered < usual)
    }

    /// The prefixes around the latest offender in which enough neighbours have offended, the widest first. On each rung
    /// those of the rung below are counted, so that one bad network is not taken for the whole of its surroundings.
    pub(crate) fn wide(&self, offender: IpNet, offenders: &Recall, at: Timestamp) -> Vec<Wide> {
        if !self.is_on() {
            return Vec::new();
        }
        let since = Timestamp::from_micros(at.as_micros().saturating_sub(micros(self.seconds)));
        let mut below = offender.prefix_len();
        let mut found = Vec::new();
        for prefix in self.rungs(offender) {
            if different(offenders, prefix, below, since, self.neighbours) {
                found.push(Wide { prefix, neighbours: self.neighbours, within: self.seconds });
            }
            below = prefix.prefix_len();
        }
        found.reverse();
        found
    }
}

/// Whether offenders came from `enough` different networks of this length in the prefix.
fn different(offenders: &Recall, prefix: IpNet, length: u8, since: Timestamp, enough: u32) -> bool {
    let (mut count, mut last) = (0, None);
    // What is wider was itself banned for its inhabitants, or is counted so by another jail.
    for (offender, _) in offenders.within(prefix, since).filter(|(offender, _)| offender.prefix_len() >= length) {
        let network = IpNet::new(offender.addr(), length).ok().map(|net| net.trunc());
        // They come in order: those of one network follow each other.
        if network != last {
            (count, last) = (count + 1, network);
        }
        if count >= enough {
            return true;
        }
    }
    false
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wide { prefix, neighbours, within } = self;
        write!(f, "{neighbours} neighbours in {prefix} have offended within {}", format_duration(*within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

    fn widen() -> Widen {
        let seconds = Duration::from_secs(3600);
        Widen { neighbours: 3, seconds, ipv4: vec![24, 16], ipv6: vec![56, 48], threshold: 50 }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// What is banned after these have offended now, the widest first.
    fn wide(offenders: &[&str]) -> Vec<IpNet> {
        let mut recall = Recall::default();
        for offender in offenders {
            recall.note(net(offender), NOW);
        }
        let last = net(offenders.last().unwrap());
        widen().wide(last, &recall, NOW).iter().map(|wide| wide.prefix).collect()
    }

    #[test]
    fn enough_different_neighbours_make_their_prefix_banned() {
        assert!(wide(&["192.0.2.1/32", "192.0.2.2/32"]).is_empty());
        assert_eq!(wide(&["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"]), [net("192.0.2.0/24")]);
        assert!(wide(&["192.0.2.1/32", "192.0.2.1/32", "192.0.2.1/32"]).is_empty(), "one of them thrice is one");
        assert!(wide(&["192.0.2.1/32", "192.0.3.2/32", "192.0.2.3/32"]).is_empty());
        assert!(wide(&["192.0.2.0/24", "192.0.2.1/32", "192.0.2.2/32"]).is_empty(), "their prefix is no neighbour");
        let networks = ["2001:db8:0:10::/64", "2001:db8:0:11::/64", "2001:db8:0:12::/64"];
        assert_eq!(wide(&networks), [net("2001:db8::/56")]);
    }

    #[test]
    fn a_rung_counts_the_networks_of_the_rung_below() {
        let one_network = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32", "192.0.2.5/32"];
        assert_eq!(wide(&one_network), [net("192.0.2.0/24")], "one bad /24 is not a bad /16");
        assert_eq!(wide(&["192.0.1.1/32", "192.0.2.1/32", "192.0.3.1/32"]), [net("192.0.0.0/16")]);
        let both = ["192.0.1.1/32", "192.0.2.1/32", "192.0.3.1/32", "192.0.3.2/32", "192.0.3.3/32"];
        assert_eq!(wide(&both), [net("192.0.0.0/16"), net("192.0.3.0/24")]);
    }

    #[test]
    fn neighbours_that_offended_long_ago_do_not_count() {
        let mut recall = Recall::default();
        let hour = Duration::from_secs(3600);
        for (offender, at) in [("192.0.2.1/32", NOW), ("192.0.2.2/32", NOW), ("192.0.2.3/32", NOW + hour)] {
            recall.note(net(offender), at);
        }
        let wide = |at| widen().wide(net("192.0.2.3/32"), &recall, at).len();
        assert_eq!(wide(NOW + hour), 1);
        assert_eq!(wide(NOW + hour + Duration::from_secs(1)), 0);
    }

    #[test]
    fn what_is_counted_widely_already_is_not_widened_to_less() {
        assert!(widen().rungs(net("192.0.0.0/16")).next().is_none());
        assert_eq!(widen().neighbourhood(net("192.0.2.0/24")), Some(net("192.0.0.0/16")));
    }

    #[test]
    fn a_lower_threshold_is_at_least_one_hit_and_never_above_the_usual() {
        let lowered = |threshold, usual| Widen { threshold, ..widen() }.lowered(usual);
        assert_eq!(
            (lowered(50, 5), lowered(50, 4), lowered(1, 5), lowered(50, 2)),
            (Some(3), Some(2), Some(1), Some(1))
        );
        assert_eq!((lowered(100, 5), lowered(50, 1)), (None, None));
    }

    #[test]
    fn without_a_number_of_neighbours_nothing_is_widened() {
        let mut recall = Recall::default();
        recall.note(net("192.0.2.1/32"), NOW);
        assert!(Widen { neighbours: 0, ..widen() }.wide(net("192.0.2.1/32"), &recall, NOW).is_empty());
    }
}
