//! What one rule of iptables matches, and what it does, in iptables' words.

use crate::firewall::ipset::Family;
use crate::firewall::{Target, scope};
use crate::ledger::limit::Limit;
use crate::ledger::{Protocol, Scope};

/// `multiport` takes so many ports in one rule.
pub(super) const PORTS_PER_RULE: usize = 15;

/// Which side of a packet a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::firewall) enum Side {
    From,
    To,
}

impl Side {
    /// As a target, an address of this machine is never matched: should a ban cover one, it must not cut off everybody
    /// who talks to us.
    pub(super) fn matched(self) -> &'static str {
        match self {
            Side::From => "src",
            Side::To => "dst -m addrtype ! --dst-type LOCAL",
        }
    }

    fn interface(self, scope: &Scope) -> String {
        let way = if self == Side::From { "-i" } else { "-o" };
        scope.interface.as_ref().map_or_else(String::new, |interface| {
            let (name, is_beginning) = interface.parts();
            format!("{way} {name}{} ", if is_beginning { "+" } else { "" })
        })
    }

    /// What `multiport` takes at once, as its options.
    fn ports(self, numbers: &[u16]) -> impl Iterator<Item = String> {
        let option = if self == Side::From { "--dports" } else { "--sports" };
        numbers.chunks(PORTS_PER_RULE).map(move |chunk| {
            let numbers: Vec<String> = chunk.iter().map(ToString::to_string).collect();
            format!("{option} {} ", numbers.join(","))
        })
    }

    /// Banned sources begin connections; packets to them answer.
    fn in_tracking(self) -> &'static str {
        match self {
            Side::From => "ORIGINAL",
            Side::To => "REPLY",
        }
    }
}

/// What tells, in a saved rule, what its scope says beside ports.
pub(super) fn comment(scope: &Scope) -> String {
    let rest = scope::rest_of_name(scope);
    rest.strip_prefix('_').map_or_else(String::new, |rest| format!(" -m comment --comment {rest}"))
}

/// Sources that are limited at a time, in each family; the packets of more are dropped.
const MOST_LIMITED: u32 = 65_536;

/// Packets of the set's sources above a rate that each of them has for itself, an IPv6 source being a /64. Entries of the
/// set count only what is above it.
pub(super) fn above(limit: Limit, family: Family, set: &str) -> String {
    format!(
        "-m set ! --update-counters --match-set {set} src {} -m set --match-set {set} src",
        hashlimit(limit, family, set)
    )
}

/// Packets above a rate that each source has for itself.
pub(in crate::firewall) fn hashlimit(limit: Limit, family: Family, name: &str) -> String {
    let bits = if family == Family::V4 { 32 } else { 64 };
    // A source that is forgotten begins with its whole burst: it must have had the time to earn it.
    let expire = limit.refill().as_millis().max(1000);
    let (rate, burst) = (limit.rate(), limit.burst);
    format!(
        "-m hashlimit --hashlimit-above {rate} --hashlimit-burst {burst} --hashlimit-mode srcip \
         --hashlimit-srcmask {bits} --hashlimit-name {name} --hashlimit-htable-size 1024 \
         --hashlimit-htable-max {MOST_LIMITED} --hashlimit-htable-expire {expire}"
    )
}

/// What to do with packets of a protocol (of all for `None`): further condition, and target.
pub(in crate::firewall) fn verdicts(
    target: Target,
    family: Family,
    protocol: Option<Protocol>,
) -> Vec<(&'static str, &'static str)> {
    let (unreachable, prohibited) = match family {
        Family::V4 => ("REJECT --reject-with icmp-port-unreachable", "REJECT --reject-with icmp-admin-prohibited"),
        Family::V6 => ("REJECT --reject-with icmp6-port-unreachable", "REJECT --reject-with icmp6-adm-prohibited"),
    };
    let reset = "REJECT --reject-with tcp-reset";
    match (target, protocol) {
        (Target::Drop, _) => vec![("", "DROP")],
        (Target::Prohibit, _) => vec![("", prohibited)],
        (Target::Reject, Some(Protocol::Tcp)) => vec![("", reset)],
        (Target::Reject, Some(Protocol::Udp)) => vec![("", unreachable)],
        (Target::Reject, None) => vec![("-p tcp ", reset), ("", unreachable)],
    }
}

/// What a target sends passes OUTPUT like any packet to a banned address, and must get out.
pub(super) fn answers(target: Target, family: Family) -> Vec<&'static str> {
    match (target, family) {
        (Target::Drop, _) => Vec::new(),
        (Target::Reject, Family::V4) => {
            vec!["-p tcp -m tcp --tcp-flags RST RST", "-p icmp -m icmp --icmp-type port-unreachable"]
        }
        (Target::Reject, Family::V6) => {
            vec!["-p tcp -m tcp --tcp-flags RST RST", "-p ipv6-icmp -m icmp6 --icmpv6-type port-unreachable"]
        }
        (Target::Prohibit, Family::V4) => vec!["-p icmp -m icmp --icmp-type communication-prohibited"],
        (Target::Prohibit, Family::V6) => vec!["-p ipv6-icmp -m icmp6 --icmpv6-type communication-prohibited"],
    }
}

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];

/// By the ports that packets have: one condition without a port, or several of at most 15.
pub(super) fn conditions(scope: &Scope, side: Side) -> Vec<(Option<Protocol>, String)> {
    let interface = side.interface(scope);
    if scope.ports.is_empty() {
        return vec![(None, interface)];
    }
    let mut conditions = Vec::new();
    for (protocol, name) in PROTOCOLS {
        for ports in side.ports(&scope::ports_of(scope, protocol)) {
            conditions.push((Some(protocol), format!("{interface}-p {name} -m multiport {ports}")));
        }
    }
    conditions
}

/// By the port that the first packet of a connection was sent to, where it has another one now. What goes by the port that
/// it has is left out: a limit is not to count it twice.
pub(super) fn translated(scope: &Scope, side: Side) -> Vec<(Option<Protocol>, String)> {
    let interface = side.interface(scope);
    let mut conditions = Vec::new();
    for (protocol, name) in PROTOCOLS {
        let numbers = scope::ports_of(scope, protocol);
        let others: Vec<String> = side.ports(&numbers).map(|ports| format!("-m multiport ! {ports}")).collect();
        let others = others.concat();
        for number in numbers {
            let sent = format!("--ctstate DNAT --ctdir {} --ctorigdstport {number}", side.in_tracking());
            conditions.push((Some(protocol), format!("{interface}-p {name} -m conntrack {sent} {others}")));
        }
    }
    conditions
}
