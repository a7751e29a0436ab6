//! What is never banned: the networks of the configuration, what this machine depends on, and what a person granted.
//! The same question is asked for bans of every origin.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use crate::policy::PrefixLengths;
use crate::policy::grant::MAX_GRANTS;
use crate::policy::prefix::{WIDEST, canonical};
use crate::policy::protected::Protect;
use crate::time::{Timestamp, Until};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowlist {
    /// No wider prefix is banned either.
    widest: PrefixLengths,
    given: Vec<IpNet>,
    protected: Vec<(IpNet, Protect)>,
    /// Both of the above; disjoint, in order of address.
    ipv4: Vec<Span<u32>>,
    ipv6: Vec<Span<u128>>,
    /// Until when each of these may not be banned.
    grants: BTreeMap<IpNet, Until>,
}

/// The first and the last address of an allowed network, as numbers: they are compared for every offence.
type Span<N> = (N, N, Allowed);

/// Among disjoint spans in order, the one that has an address of these.
fn overlapping<N: Ord>(spans: &[Span<N>], first: &N, last: &N) -> Option<Allowed> {
    let next = spans.get(spans.partition_point(|(_, end, _)| end < first))?;
    (next.0 <= *last).then_some(next.2)
}

/// An allowed network, and why it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) network: IpNet,
    pub(crate) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It stands in the configuration.
    Given,
    /// This machine, or who administers it, depends on it.
    Protected(Protect),
    /// A person allowed it until then.
    Granted(Until),
}

/// There are [`MAX_GRANTS`] grants already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyGrants;

impl fmt::Display for TooManyGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAX_GRANTS} prefixes at most can be allowed by hand; remove some with 'banctl allow remove'")
    }
}

impl Default for Allowlist {
    fn default() -> Allowlist {
        let (given, protected, ipv4, ipv6) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Allowlist { widest: WIDEST, given, protected, ipv4, ipv6, grants: BTreeMap::new() }
    }
}

impl Allowlist {
    /// Sets the lengths of the widest prefixes that may be banned.
    pub(crate) fn set_widest(&mut self, widest: PrefixLengths) {
        self.widest = widest;
    }

    pub(crate) fn widest(&self) -> PrefixLengths {
        self.widest
    }

    /// Replaces the networks of the configuration.
    pub(crate) fn set_given(&mut self, networks: &[IpNet]) {
        self.given = networks.iter().copied().map(canonical).collect();
        self.rebuild();
    }

    /// Replaces what is protected.
    pub(crate) fn set_protected(&mut self, networks: &[(IpNet, Protect)]) {
        self.protected = networks.iter().map(|(network, what)| (canonical(*network), *what)).collect();
        self.rebuild();
    }

    /// Nothing that overlaps these prefixes is banned until then. An earlier grant is never shortened. All or none.
    pub(crate) fn grant(&mut self, prefixes: &[IpNet], until: Until, now: Timestamp) -> Result<(), TooManyGrants> {
        let has_room = |grants: &BTreeMap<IpNet, Until>| {
            let new = prefixes.iter().filter(|prefix| !grants.contains_key(&canonical(**prefix))).count();
            grants.len() + new <= MAX_GRANTS
        };
        if !has_room(&self.grants) {
            self.grants.retain(|_, until| !until.is_over(now));
            if !has_room(&self.grants) {
                return Err(TooManyGrants);
            }
        }
        for prefix in prefixes {
            let end = self.grants.entry(canonical(*prefix)).or_insert(until);
            *end = until.max(*end);
        }
        Ok(())
    }

    /// Takes a grant back.
    pub(crate) fn revoke(&mut self, prefix: IpNet) {
        self.grants.remove(&canonical(prefix));
    }

    /// What stands in the configuration and what is protected, each as it was given: also what another one contains.
    pub(crate) fn without_grants(&self) -> impl Iterator<Item = Allowed> {
        let given = self.given.iter().map(|network| Allowed { network: *network, why: Why::Given });
        let protected = self.protected.iter().map(|(network, what)| (*network, Why::Protected(*what)));
        given.chain(protected.map(|(network, why)| Allowed { network, why }))
    }

    /// Every network that is allowed now, whatever for.
    pub(crate) fn networks(&self, now: Timestamp) -> impl Iterator<Item = IpNet> {
        let granted = self.grants.iter().filter(move |(_, until)| !until.is_over(now)).map(|(prefix, _)| *prefix);
        let standing =
            self.ipv4.iter().map(|(.., allowed)| allowed).chain(self.ipv6.iter().map(|(.., allowed)| allowed));
        standing.map(|allowed| allowed.network).chain(granted)
    }

    /// The allowed network that has an address in common with this prefix, if there is one: whichever of the two contains
    /// the other.
    pub(crate) fn refuses(&self, prefix: IpNet, now: Timestamp) -> Option<Allowed> {
        let prefix = canonical(prefix);
        self.standing(prefix).or_else(|| self.granted(prefix, now))
    }

    fn standing(&self, prefix: IpNet) -> Option<Allowed> {
        match prefix {
            IpNet::V4(net) => overlapping(&self.ipv4, &net.network().to_bits(), &net.broadcast().to_bits()),
            IpNet::V6(net) => overlapping(&self.ipv6, &net.network().to_bits(), &net.broadcast().to_bits()),
        }
    }

    fn granted(&self, prefix: IpNet, now: Timestamp) -> Option<Allowed> {
        if self.grants.is_empty() {
            // Every hit of whoever is banned already asks.
            return None;
        }
        let within = || self.grants.range(prefix..).take_while(|(network, _)| prefix.contains(*network));
        let around =
            || std::iter::successors(Some(prefix), IpNet::supernet).filter_map(|wide| self.grants.get_key_value(&wide));
        let (network, until) = around().chain(within()).find(|(_, until)| !until.is_over(now))?;
        Some(Allowed { network: *network, why: Why::Granted(*until) })
    }

    fn rebuild(&mut self) {
        let mut all: Vec<Allowed> = self.without_grants().collect();
        // Stable, so that what is given is named before what is protected.
        all.sort_by_key(|allowed| allowed.network);
        // In this order a network comes after all that contain it.
        all.dedup_by(|next, last| last.network.contains(&next.network));
        (self.ipv4, self.ipv6) = (Vec::new(), Vec::new());
        for allowed in all {
            match allowed.network {
                IpNet::V4(net) => self.ipv4.push((net.network().to_bits(), net.broadcast().to_bits(), allowed)),
                IpNet::V6(net) => self.ipv6.push((net.network().to_bits(), net.broadcast().to_bits(), allowed)),
            }
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network;
        match self.why {
            Why::Given => write!(f, "{network} is allowed by [allow] networks"),
            Why::Protected(what) => write!(f, "{} is protected: it is {what}", network.addr()),
            Why::Granted(Until::Forever) => write!(f, "{network} is allowed by hand"),
            Why::Granted(until) => write!(f, "{network} is allowed by hand until {until}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::prefix::overlap;

    const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);

    /// Whether the prefix is granted until then.
    fn grants(allowlist: &mut Allowlist, prefix: IpNet, until: Timestamp, now: Timestamp) -> bool {
        allowlist.grant(&[prefix], Until::At(until), now).is_ok()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn given(networks: &[&str]) -> Allowlist {
        let mut allowlist = Allowlist::default();
        allowlist.set_given(&networks.iter().map(|text| net(text)).collect::<Vec<_>>());
        allowlist
    }

    #[test]
    fn an_address_inside_an_allowed_network_is_refused() {
        let allowlist = given(&["127.0.0.0/8", "192.0.2.0/24", "::1/128", "2001:db8::/32"]);
        for refused in ["192.0.2.9/32", "127.1.2.3/32", "::1/128", "2001:db8:5::/64", "::ffff:192.0.2.9/128"] {
            assert!(allowlist.refuses(net(refused), NOW).is_some(), "{refused}");
        }
        for free in ["192.0.3.9/32", "128.0.0.0/32", "::2/128", "2001:db9::/64", "::192.0.2.9/128"] {
            assert_eq!(allowlist.refuses(net(free), NOW), None, "{free}");
        }
    }

    #[test]
    fn a_prefix_that_covers_an_allowed_address_is_refused() {
        let allowlist = given(&["192.0.2.9/32", "2001:db8::5/128"]);
        for refused in ["192.0.2.0/24", "192.0.2.200/24", "0.0.0.0/0", "::ffff:192.0.2.0/120", "2001:db8::/64", "::/0"]
        {
            assert!(allowlist.refuses(net(refused), NOW).is_some(), "{refused}");
        }
        assert_eq!(allowlist.refuses(net("192.0.3.0/24"), NOW), None);
    }

    #[test]
    fn an_empty_allowlist_refuses_nothing() {
        assert_eq!(Allowlist::default().refuses(net("0.0.0.0/0"), NOW), None);
    }

    #[test]
    fn host_bits_of_an_allowed_network_do_not_matter() {
        assert!(given(&["192.0.2.77/24"]).refuses("192.0.2.1/32".parse().unwrap(), NOW).is_some());
        assert!(given(&["::ffff:192.0.2.0/120"]).refuses("192.0.2.1/32".parse().unwrap(), NOW).is_some());
    }

    #[test]
    fn a_refusal_names_the_network_and_why() {
        let mut allowlist = given(&["192.0.2.0/24"]);
        allowlist.set_protected(&[
            (net("192.0.2.1/32"), Protect::Gateways),
            (net("198.51.100.7/32"), Protect::AdminSessions),
        ]);
        assert!(grants(&mut allowlist, net("203.0.113.4/32"), Timestamp::from_secs(1_795_228_200), NOW));
        let said = |prefix| allowlist.refuses(net(prefix), NOW).unwrap().to_string();
        assert_eq!(said("192.0.2.1/32"), "192.0.2.0/24 is allowed by [allow] networks");
        assert_eq!(
            said("198.51.100.0/24"),
            "198.51.100.7 is protected: it is the other end of an administrator's session"
        );
        assert_eq!(said("203.0.113.4/32"), "203.0.113.4/32 is allowed by hand until 2026-11-21T02:30:00Z");
    }

    #[test]
    fn new_networks_replace_the_old_ones() {
        let mut allowlist = given(&["192.0.2.0/24"]);
        allowlist.set_protected(&[(net("198.51.100.7/32"), Protect::Resolvers)]);
        allowlist.set_given(&[]);
        assert_eq!(allowlist.refuses(net("192.0.2.1/32"), NOW), None);
        assert!(allowlist.refuses(net("198.51.100.7/32"), NOW).is_some());
        allowlist.set_protected(&[]);
        assert_eq!(allowlist.refuses(net("198.51.100.7/32"), NOW), None);
    }

    #[test]
    fn a_grant_ends_and_a_shorter_one_does_not_shorten_it() {
        let mut allowlist = Allowlist::default();
        let hour = std::time::Duration::from_secs(3600);
        assert!(grants(&mut allowlist, net("2001:db8::/64"), NOW + 2 * hour, NOW));
        assert!(grants(&mut allowlist, net("2001:db8::/64"), NOW + hour, NOW));
        for refused in ["2001:db8::7/128", "2001:db8::/48", "2001:db8::/64"] {
            assert!(allowlist.refuses(net(refused), NOW + hour).is_some(), "{refused}");
            assert_eq!(allowlist.refuses(net(refused), NOW + 2 * hour), None, "{refused}");
        }
        assert_eq!(allowlist.refuses(net("2001:db8:0:1::/64"), NOW), None);
        assert_eq!(allowlist.networks(NOW).collect::<Vec<_>>(), [net("2001:db8::/64")]);
        assert_eq!(allowlist.networks(NOW + 2 * hour).count(), 0);
    }

    #[test]
    fn an_ended_grant_does_not_hide_one_that_stands() {
        let mut allowlist = Allowlist::default();
        let second = std::time::Duration::from_secs(1);
        assert!(grants(&mut allowlist, net("192.0.2.0/25"), NOW + second, NOW));
        assert!(grants(&mut allowlist, net("192.0.2.128/25"), NOW + 9 * second, NOW));
        let allowed = allowlist.refuses(net("192.0.2.0/24"), NOW + 5 * second);
        assert_eq!(allowed.map(|allowed| allowed.network), Some(net("192.0.2.128/25")));
    }

    #[test]
    fn grants_are_bounded_and_ended_ones_make_room() {
        let mut allowlist = Allowlist::default();
        let end = NOW + std::time::Duration::from_secs(1);
        let mut address = 0_u32;
        let mut next = || {
            address += 1;
            IpNet::from(IpAddr::from(address.to_be_bytes()))
        };
        allowlist.grants = (0..MAX_GRANTS).map(|_| (next(), Until::At(end))).collect();
        let one_more = next();
        assert!(!grants(&mut allowlist, one_more, end, NOW));
        assert!(grants(&mut allowlist, one_more, end + std::time::Duration::from_secs(1), end));
    }

    fn networks() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (any::<u8>(), 22_u8..=32)
            .prop_map(|(low, length)| IpNet::new(IpAddr::from([192, 0, low & 3, low]), length).unwrap());
        let v6 = (any::<u16>(), 110_u8..=128)
            .prop_map(|(low, length)| IpNet::new(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, low]), length).unwrap());
        prop::collection::vec(prop_oneof![v4, v6], 0..30)
    }

    proptest! {
        #[test]
        fn a_prefix_is_refused_exactly_when_it_overlaps_an_allowed_one(
            given in networks(), protected in networks(), granted in networks(), asked in networks(),
        ) {
            let mut allowlist = Allowlist::default();
            allowlist.set_given(&given);
            let protected: Vec<_> = protected.into_iter().map(|network| (network, Protect::Gateways)).collect();
            allowlist.set_protected(&protected);
            for prefix in &granted {
                prop_assert!(grants(&mut allowlist, *prefix, NOW + std::time::Duration::from_secs(1), NOW));
            }
            let protected = protected.iter().map(|(network, _)| network);
            let all: Vec<IpNet> = given.iter().chain(protected).chain(&granted).map(IpNet::trunc).collect();
            for prefix in asked {
                match allowlist.refuses(prefix, NOW) {
                    Some(allowed) => {
                        prop_assert!(overlap(allowed.network, prefix) && all.contains(&allowed.network));
                    }
                    None => prop_assert!(!all.iter().any(|network| overlap(*network, prefix))),
                }
            }
        }
    }
}
