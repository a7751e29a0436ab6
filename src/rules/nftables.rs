//! Chains as nftables writes them: one table of our own, made anew in one step, IPv4 and IPv6 together. In: a plan.
//! Out: the table in the very form in which `nft list table` shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::model::{
    Action, Chain, FLAG_NAMES, Family, Flags, Interface, Limit, Name, Plan, Protocol, Recent, Rule, State, When,
    destination,
};
use super::peer::Peer;
use super::ports::Ports;

/// The name of our table, of the family `inet`.
pub(crate) const TABLE: &str = "banward_host";

/// Most sources that one limit remembers.
const MOST_SOURCES: u32 = 65_535;

/// How long a source is remembered by a limit after its last packet, in seconds at least.
const REMEMBERED: u32 = 60;

/// The table of a plan, as `nft list table` shows it; `None` when nothing is wanted.
pub(crate) fn table(plan: &Plan) -> Option<String> {
    if plan.chains.is_empty() {
        return None;
    }
    let mut text = format!("table inet {TABLE} {{\n");
    for helper in helpers(plan) {
        let _ = write!(text, "\tct helper {helper} {{\n\t\ttype \"{helper}\" protocol tcp\n\t\tl3proto inet\n\t}}\n\n");
    }
    for (name, set) in sets(plan) {
        let _ = write!(
            text,
            "\tset {name} {{\n\t\ttype {}\n\t\tsize {MOST_SOURCES}\n\t\tflags dynamic,timeout\n\t\ttimeout {}\n\t}}\n\n",
            set.kind,
            duration(set.timeout),
        );
    }
    let chains: Vec<String> = plan.chains.iter().map(chain_text).collect();
    text.push_str(&chains.join("\n"));
    text.push_str("}\n");
    Some(text)
}

/// The input of `nft -f -` that puts this table, or none, in the place of the one that is there.
pub(crate) fn script(wanted: Option<&str>) -> String {
    let table = wanted.unwrap_or_default();
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n{table}")
}

struct Set {
    kind: &'static str,
    /// How long an element stays, in seconds.
    timeout: u32,
}

fn helpers(plan: &Plan) -> Vec<&'static str> {
    let rules = plan.chains.iter().flat_map(|chain| &chain.rules);
    let mut helpers: Vec<&str> = rules
        .filter_map(|rule| match rule.then {
            Action::Helper(name) => Some(name),
            _ => None,
        })
        .collect();
    helpers.sort_unstable();
    helpers.dedup();
    helpers
}

/// The sets in which sources are remembered. Set by set, as `nft` lists them: in the order in which they were made.
fn sets(plan: &Plan) -> Vec<(String, Set)> {
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for rule in plan.chains.iter().flat_map(|chain| &chain.rules) {
        for family in Family::BOTH.into_iter().filter(|family| rule.is_for(*family)) {
            let kind = if family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
            if let Some(limit) = &rule.when.limit {
                let refill = limit.burst.saturating_mul(limit.rate.unit.seconds()) / limit.rate.count.max(1);
                let timeout = refill.saturating_add(1).max(REMEMBERED);
                sets.insert(set_name(&limit.name, family), Set { kind, timeout });
            }
            if let Some(recent) = rule.when.recent.as_ref().filter(|recent| !recent.note) {
                let timeout = recent.window.seconds;
                sets.insert(recent_name(recent, family), Set { kind, timeout });
            }
        }
    }
    sets.into_iter().collect()
}

fn set_name(name: &str, family: Family) -> String {
    format!("{name}_v{}", if family == Family::V4 { 4 } else { 6 })
}

fn recent_name(recent: &Recent, family: Family) -> String {
    set_name(&format!("recent_{}", recent.name.replace('-', "_")), family)
}

fn chain_text(chain: &Chain) -> String {
    let (name, hook) = match chain.name {
        Name::Early => ("early".to_owned(), "prerouting priority -450; policy accept"),
        Name::HelperIn => ("helper_in".to_owned(), "prerouting priority mangle; policy accept"),
        Name::HelperOut => ("helper_out".to_owned(), "output priority mangle; policy accept"),
        Name::Prerouting => ("prerouting".to_owned(), "prerouting priority dstnat; policy accept"),
        Name::Postrouting => ("postrouting".to_owned(), "postrouting priority srcnat; policy accept"),
        Name::Input => ("input".to_owned(), "input priority filter; policy accept"),
        Name::Forward => ("forward".to_owned(), "forward priority filter; policy accept"),
        Name::Output => ("output".to_owned(), "output priority filter; policy accept"),
        Name::End(end) => (format!("end_{}", end.word()), ""),
    };
    let kind = if matches!(chain.name, Name::Prerouting | Name::Postrouting) { "nat" } else { "filter" };
    let mut text = format!("\tchain {name} {{\n");
    if !hook.is_empty() {
        let _ = writeln!(text, "\t\ttype {kind} hook {hook};");
    }
    for line in chain.rules.iter().flat_map(lines) {
        let _ = writeln!(text, "\t\t{line}");
    }
    text + "\t}\n"
}

/// A rule as `nft` shows it; where a source is remembered or a fragment is meant, one for each family.
fn lines(rule: &Rule) -> Vec<String> {
    let When { limit, recent, fragment, .. } = &rule.when;
    let differs = limit.is_some() || recent.as_ref().is_some_and(|recent| !recent.note) || *fragment;
    let families = Family::BOTH.into_iter().filter(|family| rule.is_for(*family));
    families.take(if differs { 2 } else { 1 }).map(|family| line(rule, family)).collect()
}

fn line(rule: &Rule, family: Family) -> String {
    let when = &rule.when;
    let mut words: Vec<String> = Vec::new();
    for (keyword, interface) in [("iifname", &when.input), ("oifname", &when.output)] {
        if let Some(Interface { name, not }) = interface {
            let name = name.strip_suffix('+').map_or_else(|| name.clone(), |start| format!("{start}*"));
            words.push(format!("{keyword} {}\"{name}\"", if *not { "!= " } else { "" }));
        }
    }
    let ip = if family == Family::V4 { "ip" } else { "ip6" };
    for (side, peer) in [("saddr", &when.source), ("daddr", &when.destination)] {
        match peer {
            Some(Peer::Network(network)) if network.prefix_len() == 0 => {
                let protocol = if family == Family::V4 { "ipv4" } else { "ipv6" };
                words.push(format!("meta nfproto {protocol}"));
            }
            Some(peer) => words.push(format!("{ip} {side} {peer}")),
            None => (),
        }
    }
    if when.fragment {
        words.push(match family {
            Family::V4 => "ip frag-off & 8191 != 0".to_owned(),
            Family::V6 => "exthdr frag exists".to_owned(),
        });
    }
    words.extend(protocol_words(when, &rule.then));
    words.extend(state_word(&when.states));
    let source = if family == Family::V4 { "ip saddr" } else { "ip6 saddr & ffff:ffff:ffff:ffff::" };
    // One rule both looks and notes.
    let recent = when.recent.as_ref().filter(|recent| !recent.note);
    words.extend(recent.map(|recent| recent_word(recent, family, source)));
    words.extend(when.limit.as_ref().map(|limit| limit_word(limit, family, source)));
    words.push(action_word(&rule.then, family));
    words.join(" ")
}

fn protocol_words(when: &When, then: &Action) -> Vec<String> {
    let name = match when.protocol {
        Some(Protocol::Icmp(number)) => return vec![format!("icmp type {}", icmp_name(number))],
        Some(Protocol::Icmpv6(number)) => return vec![format!("icmpv6 type {}", icmpv6_name(number))],
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        None => return Vec::new(),
    };
    let mut words = Vec::new();
    for (side, ports) in [("sport", &when.source_ports), ("dport", &when.ports)] {
        words.extend((!ports.is_empty()).then(|| format!("{name} {side} {}", ports_text(ports))));
    }
    words.extend(when.flags.map(flags_text));
    // A reset says by itself that it is for TCP.
    if words.is_empty() && *then != Action::Reset {
        words.push(format!("meta l4proto {name}"));
    }
    words
}

fn ports_text(ports: &Ports) -> String {
    let text = ports.written("-", ", ");
    if ports.ranges().len() > 1 { format!("{{ {text} }}") } else { text }
}

fn flags_text(flags: Flags) -> String {
    let names = |bits: u8| {
        let set: Vec<String> =
            FLAG_NAMES.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| name.to_ascii_lowercase()).collect();
        if set.is_empty() { "0x0".to_owned() } else { set.join(" | ") }
    };
    let equal = if flags.not { "!=" } else { "==" };
    format!("tcp flags & ({}) {equal} {}", names(flags.of), names(flags.set))
}

fn state_word(states: &[State]) -> Option<String> {
    let order = [
        (State::Invalid, "invalid"),
        (State::Established, "established"),
        (State::Related, "related"),
        (State::New, "new"),
    ];
    let named: Vec<&str> = order.iter().filter(|(state, _)| states.contains(state)).map(|(_, name)| *name).collect();
    (!named.is_empty()).then(|| format!("ct state {}", named.join(",")))
}

/// A source above the limit fails to be remembered when the set is full, and then passes: nobody is locked out by the
/// crowd.
fn limit_word(limit: &Limit, family: Family, source: &str) -> String {
    let over = if limit.above { "over " } else { "" };
    let set = set_name(&limit.name, family);
    format!("update @{set} {{ {source} limit rate {over}{} burst {} packets }}", limit.rate, limit.burst)
}

/// The first packet opens the window of its source: in it a bucket that hardly fills lets `hitcount` pass, and with
/// the element it is gone.
fn recent_word(recent: &Recent, family: Family, source: &str) -> String {
    let set = recent_name(recent, family);
    format!("add @{set} {{ {source} limit rate over 1/week burst {} packets }}", recent.window.hitcount)
}

fn action_word(action: &Action, family: Family) -> String {
    let ip = if family == Family::V4 { "ip" } else { "ip6" };
    match action {
        Action::Accept => "accept".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Reset => "reject with tcp reset".to_owned(),
        Action::Unreachable => "reject".to_owned(),
        Action::Jump(end) => format!("jump end_{}", end.word()),
        Action::Log(prefix) => format!("log prefix \"{prefix}\""),
        Action::Helper(name) => format!("ct helper set \"{name}\""),
        Action::Dnat { to, port } => format!("dnat {ip} to {}", destination(to, *port)),
        Action::Snat { from } => format!("snat {ip} to {from}"),
        Action::Masquerade => "masquerade".to_owned(),
    }
}

fn icmp_name(number: u8) -> String {
    match number {
        0 => "echo-reply".to_owned(),
        8 => "echo-request".to_owned(),
        _ => number.to_string(),
    }
}

fn icmpv6_name(number: u8) -> String {
    let name = match number {
        1 => "destination-unreachable",
        2 => "packet-too-big",
        3 => "time-exceeded",
        4 => "parameter-problem",
        128 => "echo-request",
        129 => "echo-reply",
        130 => "mld-listener-query",
        131 => "mld-listener-report",
        132 => "mld-listener-done",
        133 => "nd-router-solicit",
        134 => "nd-router-advert",
        135 => "nd-neighbor-solicit",
        136 => "nd-neighbor-advert",
        141 => "ind-neighbor-solicit",
        142 => "ind-neighbor-advert",
        143 => "mld2-listener-report",
        _ => return number.to_string(),
    };
    name.to_owned()
}

/// A length of time as `nft` shows it: `1d2h3m4s`.
fn duration(seconds: u32) -> String {
    let parts = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut text = String::new();
    for (length, unit) in parts {
        if left >= length {
            let _ = write!(text, "{}{unit}", left / length);
            left %= length;
        }
    }
    text
}

/// What of a plan iptables has no place for.
pub(crate) fn remainder(plan: &Plan) -> Plan {
    let mut rest: Vec<Chain> =
        plan.chains.iter().filter(|chain| !super::iptables::has_place(chain.name)).cloned().collect();
    let jumps: Vec<Name> = rest
        .iter()
        .flat_map(|chain| &chain.rules)
        .filter_map(|rule| match rule.then {
            Action::Jump(end) => Some(Name::End(end)),
            _ => None,
        })
        .collect();
    rest.extend(plan.chains.iter().filter(|chain| jumps.contains(&chain.name)).cloned());
    Plan { chains: rest }
}

/// The name of a draft of our table: one without hooks, which no packet gets to.
pub(crate) const DRAFT: &str = "banward_draft";

/// Whether a line puts a chain on the way of packets.
fn is_hook(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("type ") && line.contains(" hook ")
}

/// The input of `nft -f -` that makes the draft of a table.
pub(crate) fn draft(table: &str) -> String {
    let lines: Vec<&str> = table.lines().filter(|line| !is_hook(line)).collect();
    script(Some(&lines.join("\n"))).replace(&format!("inet {TABLE}"), &format!("inet {DRAFT}")) + "\n"
}

pub(crate) fn draft_removal() -> String {
    format!("add table inet {DRAFT}\ndelete table inet {DRAFT}\n")
}

/// The table as its draft was listed, with the hooks that are wanted.
pub(crate) fn undrafted(listed: &str, wanted: &str) -> String {
    let mut text = String::with_capacity(listed.len());
    for line in listed.lines() {
        let line = line.replace(&format!("inet {DRAFT}"), &format!("inet {TABLE}"));
        let head = line.starts_with("\tchain ").then(|| format!("{line}\n"));
        let hook = head.and_then(|head| wanted.split(&head).nth(1)?.lines().next()).filter(|next| is_hook(next));
        text.push_str(&line);
        text.push('\n');
        if let Some(hook) = hook {
            text.push_str(hook);
            text.push('\n');
        }
    }
    text
}
