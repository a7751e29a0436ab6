//! The bans as input of `iptables-restore`, `ipset restore` and `nft -f`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::ledger::{Port, Protocol, Scope};
use crate::time::{Timestamp, Until};

use super::{Error, Family, Groups, Output, output};

/// The kernel's longest timeout of an ipset entry, in seconds; it cuts longer ones without a word.
/// (`IPSET_MAX_TIMEOUT` in `linux/netfilter/ipset/ip_set.h`)
const IPSET_LONGEST: u64 = 2_147_483;

/// Elements for which an ipset set has room. The same for every export, because loading one again fails when it differs.
const IPSET_ROOM: usize = 1 << 20;

/// Most ports in one `multiport` match. (`XT_MULTI_PORTS` in `linux/netfilter/xt_multiport.h`)
const MULTIPORT: usize = 15;

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];

/// A chain that loading the export again replaces, and that nothing jumps to until the administrator says so.
pub(super) fn iptables(groups: &Groups, family: Family, now: Timestamp, out: &mut Output) -> Result<(), Error> {
    let program = iptables_program(family);
    out.line(&format!("# banctl export, {now}. These rules do not end by themselves."))?;
    out.line(&format!("# Load, as often as you like:  {program}-restore --noflush < FILE"))?;
    out.line(&format!("# Use, once:                   {program} -I INPUT -j BANNED"))?;
    out.line("*filter\n:BANNED - [0:0]")?;
    for (scope, prefixes) in groups {
        let matches = iptables_matches(scope);
        for prefix in prefixes.keys() {
            for ports in &matches {
                out.line(&format!("-A BANNED -s {prefix}{ports} -j DROP"))?;
            }
        }
    }
    Ok(out.line("COMMIT")?)
}

/// Sets that nothing uses until the administrator says so; how is in a comment above each.
pub(super) fn ipset(groups: &Groups, now: Timestamp, out: &mut Output) -> Result<(), Error> {
    out.line(&format!("# banctl export, {now}. Load:  ipset restore < FILE"))?;
    let mut cut = 0;
    for Set { name, family, scope, entries } in sets(groups, now) {
        let program = iptables_program(family);
        for ports in iptables_matches(scope) {
            out.line(&format!("# Use:  {program} -I INPUT{ports} -m set --match-set {name} src -j DROP"))?;
        }
        let inet = if family == Family::Ipv4 { "inet" } else { "inet6" };
        let room = IPSET_ROOM.max(entries.len().next_power_of_two());
        out.line(&format!("create {name} hash:net family {inet} maxelem {room} timeout 0 -exist"))?;
        for Entry { prefix, seconds } in entries {
            // Without end is 0 here.
            let seconds = seconds.unwrap_or(0);
            cut += u32::from(seconds > IPSET_LONGEST);
            out.line(&format!("add {name} {prefix} timeout {} -exist", seconds.min(IPSET_LONGEST)))?;
        }
    }
    if cut > 0 {
        output::say(&format!("{cut} bans end after 24 days in this export: ipset knows no longer timeout."));
    }
    Ok(())
}

/// A table that replaces the one of an earlier export. It has a hash set for each length of prefix: unlike an interval
/// set, these take prefixes that overlap, each with its own end.
pub(super) fn nft(groups: &Groups, now: Timestamp, out: &mut Output) -> Result<(), Error> {
    out.line(&format!("# banctl export, {now}. Load:  nft -f FILE"))?;
    out.line("table inet banned\ndelete table inet banned\ntable inet banned {")?;
    let mut rules = Vec::new();
    for set in sets(groups, now) {
        let mut lengths: BTreeMap<u8, Vec<&Entry>> = BTreeMap::new();
        for entry in &set.entries {
            lengths.entry(entry.prefix.prefix_len()).or_default().push(entry);
        }
        for (length, entries) in lengths {
            let name = format!("{}-{length}", set.name);
            nft_set(&name, set.family, &entries, out)?;
            let source = nft_source(&entries);
            rules.extend(nft_matches(set.scope).iter().map(|ports| format!("{source} @{name}{ports} drop")));
        }
    }
    for hook in ["input", "forward"] {
        out.line(&format!("\tchain {hook} {{\n\t\ttype filter hook {hook} priority -10; policy accept;"))?;
        rules.iter().try_for_each(|rule| out.line(&format!("\t\t{rule}")))?;
        out.line("\t}")?;
    }
    Ok(out.line("}")?)
}

/// The bans of one family and scope.
struct Set<'a> {
    name: String,
    family: Family,
    scope: &'a Scope,
    entries: Vec<Entry>,
}

struct Entry {
    prefix: IpNet,
    /// Until the ban is over; `None` for ever.
    seconds: Option<u64>,
}

/// The sets that are needed, without bans that are over: `banned4`, `banned6`, then numbered ones.
fn sets(groups: &Groups, now: Timestamp) -> Vec<Set<'_>> {
    let mut sets = Vec::new();
    for (number, (scope, prefixes)) in groups.iter().enumerate() {
        for (family, digit) in [(Family::Ipv4, 4), (Family::Ipv6, 6)] {
            let name = if number == 0 { format!("banned{digit}") } else { format!("banned{digit}-{number}") };
            let of_family = prefixes.iter().filter(|(prefix, _)| Family::of(prefix) == family);
            let entries: Vec<_> = of_family.filter_map(|(prefix, until)| entry(*prefix, *until, now)).collect();
            if !entries.is_empty() {
                sets.push(Set { name, family, scope, entries });
            }
        }
    }
    sets
}

fn entry(prefix: IpNet, until: Until, now: Timestamp) -> Option<Entry> {
    let seconds = until.remaining(now).map(|left| left.as_secs());
    if seconds == Some(0) { None } else { Some(Entry { prefix, seconds }) }
}

fn iptables_program(family: Family) -> &'static str {
    if family == Family::Ipv4 { "iptables" } else { "ip6tables" }
}

/// What rules need to match a scope, one text for each rule.
fn iptables_matches(scope: &Scope) -> Vec<String> {
    let interface = scope.interface.as_ref().map_or_else(String::new, |interface| format!(" -i {interface}"));
    if scope.ports.is_empty() {
        return vec![interface];
    }
    let of = |(protocol, name): (Protocol, &str)| -> Vec<String> {
        let rule = |ports: &[String]| format!("{interface} -p {name} -m multiport --dports {}", ports.join(","));
        ports_of(scope, protocol).chunks(MULTIPORT).map(rule).collect()
    };
    PROTOCOLS.into_iter().flat_map(of).collect()
}

fn nft_matches(scope: &Scope) -> Vec<String> {
    let interface = scope.interface.as_ref().map_or_else(String::new, |interface| {
        let (name, is_beginning) = interface.parts();
        format!(" iifname \"{name}{}\"", if is_beginning { "*" } else { "" })
    });
    if scope.ports.is_empty() {
        return vec![interface];
    }
    let all = PROTOCOLS.into_iter().map(|(protocol, name)| (name, ports_of(scope, protocol)));
    let some = all.filter(|(_, ports)| !ports.is_empty());
    some.map(|(name, ports)| format!("{interface} {name} dport {{ {} }}", ports.join(", "))).collect()
}

fn ports_of(scope: &Scope, protocol: Protocol) -> Vec<String> {
    let ports = scope.ports.iter().filter(|port: &&Port| port.protocol == protocol);
    ports.map(|port| port.number.to_string()).collect()
}

fn nft_set(name: &str, family: Family, entries: &[&Entry], out: &mut Output) -> Result<(), Error> {
    let kind = if family == Family::Ipv4 { "ipv4_addr" } else { "ipv6_addr" };
    out.line(&format!("\tset {name} {{\n\t\ttype {kind}; flags timeout;\n\t\telements = {{"))?;
    for Entry { prefix, seconds } in entries {
        let end = seconds.map_or_else(String::new, |seconds| format!(" timeout {seconds}s"));
        out.line(&format!("\t\t\t{}{end},", prefix.addr()))?;
    }
    Ok(out.line("\t\t}\n\t}")?)
}

/// The part of a packet's source address that a set of prefixes of one length holds.
fn nft_source(entries: &[&Entry]) -> String {
    let Some(Entry { prefix, .. }) = entries.first() else { return String::new() };
    let source = if prefix.addr().is_ipv4() { "ip saddr" } else { "ip6 saddr" };
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return source.to_owned();
    }
    format!("{source} & {}", prefix.netmask())
}
