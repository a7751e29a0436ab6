//! How many addresses all entries together cover. Wide prefixes are few, so counting entries bounds nothing: without this
//! a brain that was taken over could shut out whole countries, or everybody around an administrator.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::policy::PrefixLengths;
use crate::policy::prefix::{canonical, is_unicast};

pub(super) const OVER: &str = "all bans together would cover more addresses than allow.together says";

/// Per family: single addresses of IPv4, networks of 64 bits of IPv6, both of the unicast Internet.
#[derive(Debug)]
pub(super) struct Cover {
    most: [u64; 2],
    /// Of the last list and what was added since: more than what stands, at most until the next list.
    sum: [u64; 2],
    /// What of this is known not to count twice: lists are imported again and again.
    counted: HashSet<IpNet>,
}

/// Most prefixes that are known: four megabytes. Single addresses are none of them, as they hardly count.
const MOST_KNOWN: usize = 65_536;

impl Cover {
    /// As much as one prefix of these lengths.
    pub(super) fn of(together: PrefixLengths) -> Cover {
        Cover { most: [size(together.ipv4, 32), size(together.ipv6, 64)], sum: [0, 0], counted: HashSet::new() }
    }

    /// Other bounds; what was counted stays.
    pub(super) fn change(&mut self, together: PrefixLengths) {
        self.most = Cover::of(together).most;
    }

    /// A list replaces all entries.
    pub(super) fn begin(&mut self) {
        self.sum = [0, 0];
        self.counted = HashSet::new();
    }

    /// Counts a prefix, if there is room for it.
    pub(super) fn take(&mut self, prefix: IpNet) -> bool {
        let prefix = canonical(prefix);
        if !is_unicast(prefix) {
            return true;
        }
        let (family, wanted) = match prefix {
            IpNet::V4(net) => (0, size(net.prefix_len(), 32)),
            IpNet::V6(net) => (1, size(net.prefix_len(), 64)),
        };
        if wanted > 1 && self.counted.contains(&prefix) {
            return true;
        }
        let sum = self.sum[family].saturating_add(wanted);
        let fits = sum <= self.most[family];
        if fits {
            self.sum[family] = sum;
            if wanted > 1 && self.counted.len() < MOST_KNOWN {
                self.counted.insert(prefix);
            }
        }
        fits
    }
}

/// How many of the smallest units a prefix of this length has; one at least.
fn size(length: u8, smallest: u8) -> u64 {
    1_u64.checked_shl(u32::from(smallest.saturating_sub(length))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(cover: &mut Cover, prefix: &str) -> bool {
        cover.take(prefix.parse().unwrap())
    }

    #[test]
    fn all_together_cover_no_more_than_one_prefix_and_a_list_is_counted_anew() {
        let mut cover = Cover::of(PrefixLengths { ipv4: 23, ipv6: 47 });
        assert!(take(&mut cover, "198.51.100.0/24") && take(&mut cover, "198.51.101.0/25"));
        assert!(!take(&mut cover, "203.0.113.0/24"), "more than is left");
        assert!(take(&mut cover, "198.51.100.0/24"), "once more is no more");
        assert!(take(&mut cover, "203.0.113.0/25") && !take(&mut cover, "203.0.113.129/32"));
        assert!(take(&mut cover, "2001:db8::/48") && take(&mut cover, "2001:db8:1::/49"), "each family by itself");
        assert!(!take(&mut cover, "2001:db8:2::/48"));
        assert!(take(&mut cover, "240.0.0.0/4") && take(&mut cover, "fc00::/7"), "nobody lives there");
        cover.begin();
        assert!(take(&mut cover, "203.0.113.129/32") && take(&mut cover, "2001:db8:2::/48"));
        let mut all = Cover::of(PrefixLengths { ipv4: 0, ipv6: 0 });
        assert!(take(&mut all, "0.0.0.0/1") && take(&mut all, "128.0.0.0/2"), "no bound");
    }
}
