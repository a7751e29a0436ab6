//! Chains as iptables writes them. In: a plan. Out: for each table of a family the rules of our chains, in the very
//! form in which `iptables-save` shows them. Their names are `BANWARD-HOST` and something.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::model::{
    Action, Chain, FLAG_NAMES, Family, Flags, Interface, Limit, Name, Plan, Protocol, Rate, Recent, Rule, State, Unit,
    When, destination,
};
use super::peer::Peer;
use super::saved::target;

/// How the names of all our chains begin.
pub(crate) const PREFIX: &str = "BANWARD-HOST";

/// Most sources that one limit remembers, as `hashlimit` counts them.
const MOST_SOURCES: u32 = 65_536;

/// Tables in the order in which they are made: the one that drops comes last.
pub(crate) const TABLES: [&str; 3] = ["raw", "nat", "filter"];

/// Our chains in one table: the rules of each, without `-A CHAIN`, and which built-in chain jumps to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// From which chain to which, in that chain's order.
    pub(crate) jumps: Vec<(String, String)>,
}

/// Our chains in all tables of a family.
pub(crate) type Tables = BTreeMap<String, Table>;

/// The table of a chain, the chain that jumps to it, and what its name ends with. `None` where iptables has no place
/// for it: it never sees a fragment, because the kernel puts packets together before the first of its tables.
fn place(name: Name) -> Option<(&'static str, Option<&'static str>, String)> {
    let at = |table, hook, suffix: &str| Some((table, Some(hook), suffix.to_owned()));
    match name {
        Name::Early => None,
        Name::HelperIn => at("raw", "PREROUTING", "HELP-IN"),
        Name::HelperOut => at("raw", "OUTPUT", "HELP-OUT"),
        Name::Prerouting => at("nat", "PREROUTING", "DNAT"),
        Name::Postrouting => at("nat", "POSTROUTING", "SNAT"),
        Name::Input => at("filter", "INPUT", "IN"),
        Name::Forward => at("filter", "FORWARD", "FWD"),
        Name::Output => at("filter", "OUTPUT", "OUT"),
        Name::End(end) => {
            let word = end.word().to_ascii_uppercase().replace("FORWARD", "FWD");
            Some(("filter", None, format!("END-{word}")))
        }
    }
}

/// Whether iptables can do without nftables for this chain.
pub(crate) fn has_place(name: Name) -> bool {
    place(name).is_some()
}

/// What the plan comes to in a family.
pub(crate) fn tables(plan: &Plan, family: Family) -> Tables {
    let mut tables = Tables::new();
    for chain in &plan.chains {
        let Some((table, hook, suffix)) = place(chain.name) else { continue };
        let rules = rules(chain, family);
        if rules.is_empty() {
            continue;
        }
        let name = format!("{PREFIX}-{suffix}");
        let table = tables.entry(table.to_owned()).or_default();
        table.jumps.extend(hook.map(|hook| (hook.to_owned(), name.clone())));
        table.chains.insert(name, rules);
    }
    drop_unused(&mut tables);
    tables
}

/// Chains that nothing of this family leads to.
fn drop_unused(tables: &mut Tables) {
    for table in tables.values_mut() {
        let used: Vec<String> =
            table.chains.values().flatten().filter_map(|rule| target(rule)).map(str::to_owned).collect();
        let hooked: Vec<String> = table.jumps.iter().map(|(_, to)| to.clone()).collect();
        table.chains.retain(|name, _| used.contains(name) || hooked.contains(name));
    }
}

fn rules(chain: &Chain, family: Family) -> Vec<String> {
    chain.rules.iter().filter(|rule| rule.is_for(family)).map(|rule| line(rule, family)).collect()
}

/// A rule as `iptables-save` shows it, without `-A CHAIN`.
fn line(rule: &Rule, family: Family) -> String {
    let When { states, limit, recent, .. } = &rule.when;
    let mut text = ends_text(&rule.when);
    text.push_str(&protocol_text(&rule.when));
    text.push_str(&state_text(states));
    text.push_str(&recent.as_ref().map(|recent| recent_text(recent, family)).unwrap_or_default());
    text.push_str(&limit.as_ref().map(|limit| limit_text(limit, family)).unwrap_or_default());
    text + &action_text(&rule.then, family)
}

/// Networks and interfaces, the protocol, and ranges.
fn ends_text(when: &When) -> String {
    let When { input, output, source, destination, protocol, .. } = when;
    let mut text = String::new();
    for (option, peer) in [("-s", source), ("-d", destination)] {
        if let Some(Peer::Network(network)) = peer
            && network.prefix_len() > 0
        {
            let _ = write!(text, "{option} {network} ");
        }
    }
    for (option, interface) in [("-i", input), ("-o", output)] {
        if let Some(Interface { name, not }) = interface {
            let _ = write!(text, "{}{option} {name} ", if *not { "! " } else { "" });
        }
    }
    if let Some(protocol) = protocol {
        let _ = write!(text, "-p {} ", protocol_name(*protocol));
    }
    for (option, peer) in [("--src-range", source), ("--dst-range", destination)] {
        if let Some(Peer::Range(first, last)) = peer {
            let _ = write!(text, "-m iprange {option} {first}-{last} ");
        }
    }
    text
}

/// What is special to the protocol: types, ports, flags.
fn protocol_text(when: &When) -> String {
    let When { source_ports, ports, flags, .. } = when;
    let name = match when.protocol {
        None => return String::new(),
        Some(Protocol::Icmp(number)) => return format!("-m icmp --icmp-type {number} "),
        Some(Protocol::Icmpv6(number)) => return format!("-m icmp6 --icmpv6-type {number} "),
        Some(protocol) => protocol_name(protocol),
    };
    let mut text = String::new();
    let several = ports.ranges().len() > 1;
    if several {
        let _ = write!(text, "-m multiport --dports {} ", ports.written(":", ","));
    }
    let single = !several && !ports.is_empty();
    if single || !source_ports.is_empty() || flags.is_some() {
        let _ = write!(text, "-m {name} ");
    }
    if !source_ports.is_empty() {
        let _ = write!(text, "--sport {} ", source_ports.written(":", ","));
    }
    if single {
        let _ = write!(text, "--dport {} ", ports.written(":", ","));
    }
    text + &flags.map(flags_text).unwrap_or_default()
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp(_) => "icmp",
        Protocol::Icmpv6(_) => "ipv6-icmp",
    }
}

fn flags_text(flags: Flags) -> String {
    let names = |bits: u8| {
        let set: Vec<&str> = FLAG_NAMES.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name).collect();
        if set.is_empty() { "NONE".to_owned() } else { set.join(",") }
    };
    format!("{}--tcp-flags {} {} ", if flags.not { "! " } else { "" }, names(flags.of), names(flags.set))
}

fn state_text(states: &[State]) -> String {
    // iptables' own order.
    let order = [
        (State::Invalid, "INVALID"),
        (State::New, "NEW"),
        (State::Related, "RELATED"),
        (State::Established, "ESTABLISHED"),
    ];
    let named: Vec<&str> = order.iter().filter(|(state, _)| states.contains(state)).map(|(_, name)| *name).collect();
    if named.is_empty() { String::new() } else { format!("-m conntrack --ctstate {} ", named.join(",")) }
}

/// A table of `recent` is known by its name alone, and has one mask: each family and window gets its own.
fn recent_text(recent: &Recent, family: Family) -> String {
    let Recent { name, window, note } = recent;
    let what = if *note {
        "--set".to_owned()
    } else {
        format!("--rcheck --seconds {} --hitcount {}", window.seconds, window.hitcount)
    };
    let (digit, mask) = match family {
        Family::V4 => (4, "255.255.255.255"),
        Family::V6 => (6, "ffff:ffff:ffff:ffff::"),
    };
    format!("-m recent {what} --name banward-{name}-{digit} --mask {mask} --rsource ")
}

/// The kernel keeps the numbers of a `hashlimit` as long as any rule of the same name is there, so they are part of
/// the name: rules with other numbers get other buckets.
fn limit_text(limit: &Limit, family: Family) -> String {
    let Rate { count, unit } = lowest(limit.rate);
    let unit = match unit {
        Unit::Second => "sec",
        Unit::Minute => "min",
        Unit::Hour => "hour",
        Unit::Day => "day",
    };
    let option = if limit.above { "--hashlimit-above" } else { "--hashlimit-upto" };
    let name = format!("banward_{}_{count}{unit}_{}", limit.name, limit.burst);
    let mask = if family == Family::V6 { " --hashlimit-srcmask 64" } else { "" };
    format!(
        "-m hashlimit {option} {count}/{unit} --hashlimit-burst {} --hashlimit-mode srcip --hashlimit-name {name} \
         --hashlimit-htable-max {MOST_SOURCES}{mask} ",
        limit.burst
    )
}

/// The same rate per the shortest unit in which it is a whole number: iptables shows 60/min as 1/sec.
pub(super) fn lowest(rate: Rate) -> Rate {
    let shorter = Unit::ALL.into_iter().filter(|unit| *unit <= rate.unit);
    let per = |unit: Unit| {
        let steps = rate.unit.seconds() / unit.seconds();
        rate.count.is_multiple_of(steps).then(|| Rate { count: rate.count / steps, unit })
    };
    shorter.into_iter().find_map(per).unwrap_or(rate)
}

fn action_text(action: &Action, family: Family) -> String {
    match action {
        Action::Accept => "-j ACCEPT".to_owned(),
        Action::Drop => "-j DROP".to_owned(),
        Action::Reset => "-j REJECT --reject-with tcp-reset".to_owned(),
        Action::Unreachable if family == Family::V4 => "-j REJECT --reject-with icmp-port-unreachable".to_owned(),
        Action::Unreachable => "-j REJECT --reject-with icmp6-port-unreachable".to_owned(),
        Action::Jump(end) => {
            let suffix = place(Name::End(*end)).map(|(_, _, suffix)| suffix).unwrap_or_default();
            format!("-j {PREFIX}-{suffix}")
        }
        Action::Log(prefix) => format!("-j LOG --log-prefix \"{prefix}\""),
        Action::Helper(name) => format!("-j CT --helper {name}"),
        Action::Dnat { to, port } => format!("-j DNAT --to-destination {}", destination(to, *port)),
        Action::Snat { from } => format!("-j SNAT --to-source {from}"),
        Action::Masquerade => "-j MASQUERADE".to_owned(),
    }
}
