//! The text of our table in nftables, and the names of its sets. Pure: nothing is run here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::iter::zip;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::translation::Translation;
use super::{FirewallError, Settings, Target, Usual, scope};
use crate::ledger::{Protocol, Scope};

/// Longer names of scopes do not fit the 255 characters of a set's name.
const LONGEST_SPELLED: usize = 240;
/// Scopes of more ports are not spelled either.
const SPELLED_PORTS: usize = 30;

/// Begins the name of a set of counts.
const COUNTS: char = 'n';

/// Chains by which our table is known; the others have the names of their hooks, or count what meets bans.
pub(super) const OUR_CHAINS: [&str; 3] = ["sources", "destinations", "refuse"];
const HOOKS: [&str; 3] = ["input", "forward", "output"];

/// What makes our table, apart from the sets.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) table: String,
    input: bool,
    forward: bool,
    usual: Usual,
    /// Whether what is stopped is counted, which old kernels and an old `nft` cannot do.
    pub(super) counts: bool,
    pub(super) translation: Translation,
}

/// Which set a ban is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) scope: Scope,
    ipv4: bool,
    pub(super) length: u8,
}

impl Key {
    pub(super) fn of(prefix: &IpNet, scope: &Scope) -> Key {
        Key { scope: scope.clone(), ipv4: prefix.addr().is_ipv4(), length: prefix.prefix_len() }
    }

    /// The name of the set with the bans.
    pub(super) fn bans(&self) -> String {
        format!("v{}", self.spelled())
    }

    /// The name of the set with what these bans have counted. It stands apart because a counter costs the kernel two
    /// thirds of the time that it takes to make an element, and memory for each processor; few of many sources come again.
    pub(super) fn counts(&self) -> String {
        format!("{COUNTS}{}", self.spelled())
    }

    fn spelled(&self) -> String {
        let long = scope::long_name(&self.scope);
        let spelled = self.scope.ports.len() <= SPELLED_PORTS && long.len() <= LONGEST_SPELLED;
        let scope = if spelled { long } else { scope::short_name(&self.scope) };
        format!("{}_{}_{scope}", if self.ipv4 { 4 } else { 6 }, self.length)
    }

    /// Reads the name of a set of bans; scopes that did not fit it are unknown. Those of an earlier version counted in the
    /// bans themselves and were called otherwise: one cannot be made into the other.
    pub(super) fn parse(name: &str) -> Option<Key> {
        let (family, rest) = name.split_once('_')?;
        let (length, scope) = rest.split_once('_')?;
        let length: u8 = length.parse().ok()?;
        let (ipv4, longest) = match family {
            "c4" | "v4" => (true, 32),
            "c6" | "v6" => (false, 128),
            _ => return None,
        };
        (1..=longest).contains(&length).then_some(Key { scope: scope::parse_long_name(scope)?, ipv4, length })
    }

    /// Which of the scopes the set of this name is for, the length of its prefixes, and the name of the set with what they
    /// have counted.
    pub(super) fn of_set<'a>(name: &str, scopes: &'a BTreeSet<Scope>) -> Option<(&'a Scope, u8, String)> {
        scopes.iter().find_map(|scope| {
            let mut parts = name.splitn(3, '_');
            let (kind, length, of) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
            let known =
                matches!(kind, "v4" | "v6") && (of == scope::long_name(scope) || of == scope::short_name(scope));
            known.then(|| (scope, length, format!("{COUNTS}{}", &name[1..])))
        })
    }

    fn kind(&self) -> &'static str {
        if self.ipv4 { "ipv4_addr" } else { "ipv6_addr" }
    }

    /// What of a packet the elements of its sets are: the address on this side, or its network.
    fn part(&self, side: Side) -> String {
        let address = side.address();
        match (self.ipv4, self.length) {
            (true, 32) => format!("ip {address}"),
            (false, 128) => format!("ip6 {address}"),
            (true, length) => {
                let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0));
                format!("ip {address} & {mask}")
            }
            (false, length) => {
                let mask = Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0));
                format!("ip6 {address} & {mask}")
            }
        }
    }
}

impl Layout {
    pub(super) fn new(settings: &Settings) -> Layout {
        let hook = |names: &[&str]| settings.hooks.iter().any(|hook| names.contains(&hook.as_str()));
        Layout {
            table: settings.chain.as_str().to_ascii_lowercase(),
            input: hook(&["INPUT"]),
            forward: hook(&["FORWARD", "DOCKER-USER"]),
            usual: Usual::of(settings),
            counts: true,
            translation: Translation::default(),
        }
    }

    /// Fails where packets of banned sources would meet our rules nowhere.
    pub(super) fn must_be_met(&self, settings: &Settings) -> Result<(), FirewallError> {
        let hooks = || settings.hooks.join(", ");
        (self.input || self.forward).then_some(()).ok_or_else(|| FirewallError::NoHook { hooks: hooks() })
    }

    /// The input of `nft` that makes the sets of these keys, which no rule matches yet.
    pub(super) fn empty_sets(&self, keys: &[Key]) -> String {
        let mut script = format!("add table inet {}\n", self.table);
        for key in keys {
            self.set(&mut script, key);
        }
        script
    }

    fn set(&self, script: &mut String, key: &Key) {
        let (table, bans, counts, kind) = (&self.table, key.bans(), key.counts(), key.kind());
        // Only what is above the limit matches.
        let limit = key.scope.limit.map_or_else(String::new, |limit| {
            format!(" limit rate over {} burst {} packets;", limit.rate(), limit.burst)
        });
        let _ = writeln!(script, "add set inet {table} {bans} {{ type {kind}; flags timeout;{limit} }}");
        // The kernel lets it have 65,535 elements: what finds no room is dropped and not counted.
        let flags = if self.counts { " flags dynamic;" } else { "" };
        let _ = writeln!(script, "add set inet {table} {counts} {{ type {kind};{flags} }}");
    }

    /// The input of `nft` that makes our table right with these sets, without those that are stale, in one step.
    /// Elements stay.
    pub(super) fn script(&self, keys: &[Key], stale: &[String]) -> String {
        let table = format!("inet {}", self.table);
        let mut script = format!("add table {table}\n");
        for hook in HOOKS {
            // Before the usual priority, so that rules which accept established connections come later.
            let _ =
                writeln!(script, "add chain {table} {hook} {{ type filter hook {hook} priority -10; policy accept; }}");
        }
        for chain in OUR_CHAINS {
            let _ = writeln!(script, "add chain {table} {chain}");
        }
        for chain in HOOKS.into_iter().chain(OUR_CHAINS) {
            let _ = writeln!(script, "flush chain {table} {chain}");
        }
        for name in stale {
            for chain in name.strip_prefix(COUNTS).into_iter().flat_map(counting) {
                // Added first, because deleting what is absent is refused.
                let _ = writeln!(script, "add chain {table} {chain}\nflush chain {table} {chain}");
                let _ = writeln!(script, "delete chain {table} {chain}");
            }
            let _ = writeln!(script, "delete set {table} {name}");
        }
        let _ = writeln!(script, "add rule {table} refuse meta l4proto tcp reject with tcp reset");
        let _ = writeln!(script, "add rule {table} refuse reject with icmpx type port-unreachable");
        for key in keys {
            self.set(&mut script, key);
            self.rules_of(&mut script, &table, key);
        }
        for answer in self.usual.answering(keys.iter().map(|key| &key.scope)).into_iter().flat_map(answers) {
            let _ = writeln!(script, "add rule {table} output {answer} accept");
        }
        let egress = self.usual.egress || keys.iter().any(|key| self.usual.stops_answers(&key.scope));
        let jumps = [
            (self.input, "input", "sources"),
            (self.forward, "forward", "sources"),
            (self.forward && egress, "forward", "destinations"),
            (egress, "output", "destinations"),
        ];
        for (_, hook, chain) in jumps.iter().filter(|(wanted, ..)| *wanted) {
            let _ = writeln!(script, "add rule {table} {hook} jump {chain}");
        }
        script
    }

    /// The conditions that cover a scope.
    fn conditions(&self, scope: &Scope, side: Side) -> Vec<String> {
        let mut conditions = conditions(scope, side);
        if self.translation == Translation::Followed {
            conditions.extend(translated(scope, side));
        }
        conditions
    }

    /// What matches is counted and then stopped, in two rules: where it cannot be counted, it is stopped all the same.
    fn rules_of(&self, script: &mut String, table: &str, key: &Key) {
        let (bans, counts) = (key.bans(), key.counts());
        let verdict = match self.usual.target(&key.scope) {
            Target::Drop => "drop",
            Target::Reject => "jump refuse",
            Target::Prohibit => "reject with icmpx type admin-prohibited",
        };
        for (side, chain) in zip(Side::BOTH, counting(&key.spelled())) {
            let part = key.part(side);
            let _ = writeln!(script, "add chain {table} {chain}\nflush chain {table} {chain}");
            if self.counts {
                let _ = writeln!(script, "add rule {table} {chain} update @{counts} {{ {part} counter }}");
            }
            let _ = writeln!(script, "add rule {table} {chain} {verdict}");
            if side == Side::To && !self.usual.stops_answers(&key.scope) {
                continue;
            }
            let (all, guard) = (side.chain(), side.guard());
            for condition in self.conditions(&key.scope, side) {
                let _ = writeln!(script, "add rule {table} {all} {condition}{part} @{bans} {guard}goto {chain}");
            }
        }
    }
}

/// The chains that count and stop what meets a ban of such a set, from it and to it.
fn counting(spelled: &str) -> [String; 2] {
    [format!("from_{spelled}"), format!("to_{spelled}")]
}

/// What a target sends passes the output hook like any packet to a banned address, and must get out.
fn answers(target: Target) -> &'static [&'static str] {
    match target {
        Target::Drop => &[],
        Target::Reject => &[
            "tcp flags & rst == rst",
            "icmp type destination-unreachable icmp code port-unreachable",
            "icmpv6 type destination-unreachable icmpv6 code port-unreachable",
        ],
        Target::Prohibit => &[
            "icmp type destination-unreachable icmp code admin-prohibited",
            "icmpv6 type destination-unreachable icmpv6 code admin-prohibited",
        ],
    }
}

/// Which side of a packet a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    From,
    To,
}

impl Side {
    const BOTH: [Side; 2] = [Side::From, Side::To];

    /// The chain whose packets are matched on this side.
    fn chain(self) -> &'static str {
        if self == Side::From { "sources" } else { "destinations" }
    }

    fn address(self) -> &'static str {
        if self == Side::From { "saddr" } else { "daddr" }
    }

    /// As a target, an address of this machine is never matched: should a ban cover one, it must not cut off
    /// everybody who talks to us.
    fn guard(self) -> &'static str {
        if self == Side::From { "" } else { "fib daddr type != local " }
    }

    fn interface(self, scope: &Scope) -> String {
        let way = if self == Side::From { "iifname" } else { "oifname" };
        scope.interface.as_ref().map_or_else(String::new, |interface| {
            let (name, is_beginning) = interface.parts();
            format!("{way} \"{name}{}\" ", if is_beginning { "*" } else { "" })
        })
    }

    fn port(self) -> &'static str {
        if self == Side::From { "dport" } else { "sport" }
    }

    /// Banned sources begin connections; packets to them answer.
    fn in_tracking(self) -> &'static str {
        if self == Side::From { "original" } else { "reply" }
    }
}

/// By the ports that packets have: one condition for all ports, or one per protocol.
fn conditions(scope: &Scope, side: Side) -> Vec<String> {
    let (interface, port) = (side.interface(scope), side.port());
    if scope.ports.is_empty() {
        return vec![interface];
    }
    numbers(scope).map(|(name, numbers)| format!("{interface}{name} {port} {numbers} ")).collect()
}

/// By the port that the first packet of a connection was sent to, where it has another one now. What goes by the port that
/// it has is left out: a limit is not to count it twice.
fn translated(scope: &Scope, side: Side) -> Vec<String> {
    let (interface, port, direction) = (side.interface(scope), side.port(), side.in_tracking());
    let sent = format!("ct status dnat ct direction {direction} ct original proto-dst");
    numbers(scope).map(|(name, numbers)| format!("{interface}{name} {port} != {numbers} {sent} {numbers} ")).collect()
}

/// The ports of a scope as an anonymous set, by the name of their protocol.
fn numbers(scope: &Scope) -> impl Iterator<Item = (&'static str, String)> {
    [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")].into_iter().filter_map(|(protocol, name)| {
        let numbers: Vec<String> = scope::ports_of(scope, protocol).iter().map(ToString::to_string).collect();
        (!numbers.is_empty()).then(|| (name, format!("{{ {} }}", numbers.join(", "))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::tests::settings;

    #[test]
    fn where_nothing_can_be_counted_bans_are_stopped_all_the_same() {
        let key = Key::of(&"192.0.2.1/32".parse().unwrap(), &Scope::default());
        let counting = Layout::new(&settings());
        let plain = Layout { counts: false, ..Layout::new(&settings()) };
        let [counting, plain] = [counting, plain].map(|layout| layout.script(std::slice::from_ref(&key), &[]));
        let is_kept = |line: &&str| !line.contains(" update @");
        let expected: Vec<String> =
            counting.lines().filter(is_kept).map(|line| line.replace(" flags dynamic;", "")).collect();
        assert_eq!(plain.lines().collect::<Vec<_>>(), expected);
        assert!(expected.len() < counting.lines().count() && plain.contains("from_4_32_all drop"));
    }

    #[test]
    fn the_name_of_a_set_tells_what_it_is_for() {
        let scope = scope::parse_long_name("80t_443u").unwrap();
        let key = Key::of(&"2001:db8::/64".parse().unwrap(), &scope);
        assert_eq!((key.bans().as_str(), key.counts().as_str()), ("v6_64_80t_443u", "n6_64_80t_443u"));
        assert_eq!(Key::parse("v6_64_80t_443u").as_ref(), Some(&key));
        assert_eq!(Key::parse("c6_64_80t_443u"), Some(key));
        for name in ["v4_33_all", "v4_0_all", "v5_8_all", "v4_24", "n4_24_all", "other"] {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }
}
