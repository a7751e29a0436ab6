//! What the `[host]` section comes to: chains of rules. The order of the rules is the heart of it.
//!
//! The administrator's way in stands right behind the established connections, before anything that drops but pings:
//! no limit and no attack of others closes it. Whatever this machine needs to be on the net at all follows.

use super::host::{Dnat, Host, Opening, Passage, Policy, Snat};
use super::model::{Action, Chain, End, Family, Interface, Name, Plan, Protocol, Recent, Rule, State, When, Window};
use super::peer::Peer;
use super::ports::Ports;
use super::refuse;
use super::service::Part;

/// `multiport` takes so many places in one rule, a range two.
const PORTS_PER_RULE: usize = 15;

/// Types of `ICMPv6` without which there is no IPv6: errors, listener reports, neighbour and router discovery.
const NEEDED_ICMPV6: [u8; 13] = [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 141, 142];
/// Version 2 of the listener report.
const LISTENER_REPORT: u8 = 143;

/// All rules of the section.
pub(crate) fn plan(host: &Host) -> Plan {
    let mut chains = vec![
        Chain { name: Name::Early, rules: refuse::early(host) },
        Chain { name: Name::HelperIn, rules: helpers(&host.services) },
        Chain { name: Name::HelperOut, rules: helpers(&host.clients) },
        Chain { name: Name::Prerouting, rules: host.dnat.iter().flat_map(dnat).collect() },
        Chain { name: Name::Postrouting, rules: host.snat.iter().flat_map(snat).collect() },
        Chain { name: Name::Input, rules: input(host) },
        Chain { name: Name::Forward, rules: forward(host) },
        Chain { name: Name::Output, rules: output(host) },
    ];
    chains.retain(|chain| !chain.rules.is_empty());
    chains.extend(refuse::ends(host, &chains));
    Plan { chains }
}

fn input(host: &Host) -> Vec<Rule> {
    let mut rules = vec![accept(When { input: Some(interface("lo")), ..When::default() })];
    rules.extend(host.trusted.iter().map(|trusted| accept(When { input: Some(trusted.clone()), ..When::default() })));
    rules.extend(inside(host));
    // All pings of one program are one connection to the kernel: behind the first they would count as established.
    rules.extend(refuse::pings(host));
    rules.push(established());
    rules.extend(ssh(host));
    rules.extend(needed_icmpv6());
    if host.dhcp_client {
        rules.extend(dhcp(67, 68, 547, 546));
    }
    let (dhcp_server, services): (Vec<_>, Vec<_>) = host.services.iter().partition(|o| o.service.name == "dhcp");
    // Who asks for an address has none: its packets would count as spoofed.
    rules.extend(dhcp_server.into_iter().flat_map(|opening| incoming(host, opening)));
    rules.extend(refuse::attacks(host));
    rules.extend(services.into_iter().flat_map(|opening| incoming(host, opening)));
    rules.extend(last(host.incoming, End::In));
    rules
}

fn output(host: &Host) -> Vec<Rule> {
    let mut rules = Vec::new();
    if host.outgoing != Policy::Accept {
        rules.push(accept(When { output: Some(interface("lo")), ..When::default() }));
        rules.push(established());
        rules.extend(needed_icmpv6());
        if host.dhcp_client {
            rules.extend(dhcp(68, 67, 546, 547));
        }
        let trusted = host.trusted.iter().cloned().chain(not_outside(host));
        rules.extend(trusted.map(|trusted| accept(When { output: Some(trusted), ..When::default() })));
    } else if !host.clients.is_empty() {
        rules.push(accept(When { output: Some(interface("lo")), ..When::default() }));
        rules.push(established());
    }
    rules.extend(host.clients.iter().flat_map(outgoing));
    rules.extend(last(host.outgoing, End::Out));
    rules
}

fn forward(host: &Host) -> Vec<Rule> {
    let mut rules = Vec::new();
    let dropping = host.forwarding != Policy::Accept;
    if dropping || !host.forward.is_empty() {
        rules.push(established());
        if dropping {
            rules.extend(host.dnat.iter().flat_map(let_through));
        }
        rules.extend(host.forward.iter().flat_map(passage));
        rules.extend(last(host.forwarding, End::Forward));
    }
    rules
}

/// The rest of a chain, logged and dropped unless it is accepted.
fn last(policy: Policy, end: End) -> Option<Rule> {
    (policy != Policy::Accept).then(|| Rule { when: When::default(), then: Action::Jump(end) })
}

fn accept(when: When) -> Rule {
    Rule { when, then: Action::Accept }
}

fn established() -> Rule {
    accept(When { states: vec![State::Related, State::Established], ..When::default() })
}

pub(super) fn interface(name: &str) -> Interface {
    Interface { name: name.to_owned(), not: false }
}

/// The way in for the administrator. Not only for a SYN: the kernel may begin to follow connections with these very
/// rules, and then a session that is already there looks new in the middle.
fn ssh(host: &Host) -> Vec<Rule> {
    let Some(ssh) = &host.ssh else { return Vec::new() };
    let part = Part { protocol: Some(Protocol::Tcp), ports: ssh.ports.clone() };
    let mut rules = Vec::new();
    for (source, destination) in pairs(&ssh.from, &host.addresses) {
        for when in new(&part) {
            rules.push(When { source, destination, ..when });
        }
    }
    limited(rules, ssh.recent, "ssh")
}

/// Acceptance of new connections, no more from one source than the window allows.
fn limited(matches: Vec<When>, window: Option<Window>, name: &str) -> Vec<Rule> {
    let Some(window) = window else { return matches.into_iter().map(accept).collect() };
    // The same service may be open to several, each with a window of their own.
    let name = format!("{name}-{}-{}", window.hitcount, window.seconds);
    let mut rules = Vec::new();
    for when in matches {
        let recent = |note| Some(Recent { name: name.clone(), window, note });
        let above = When { recent: recent(false), ..when.clone() };
        rules.push(Rule { when: above, then: Action::Jump(End::Recent) });
        rules.push(accept(When { recent: recent(true), ..when }));
    }
    rules
}

/// New connections to a part of a service.
fn new(part: &Part) -> Vec<When> {
    all(part).into_iter().map(|when| When { states: vec![State::New], ..when }).collect()
}

/// All packets to a part of a service.
fn all(part: &Part) -> Vec<When> {
    let pieces = part.ports.pieces(PORTS_PER_RULE).into_iter();
    pieces.map(|ports| When { protocol: part.protocol, ports, ..When::default() }).collect()
}

/// Every source with every destination of its family. An empty list, or one without this family, is anybody for the
/// destination; for the source, only an empty one is.
fn pairs(sources: &[Peer], destinations: &[Peer]) -> Vec<(Option<Peer>, Option<Peer>)> {
    let sources: Vec<Option<Peer>> =
        if sources.is_empty() { vec![None] } else { sources.iter().copied().map(Some).collect() };
    if destinations.is_empty() {
        return sources.into_iter().map(|source| (source, None)).collect();
    }
    let mut pairs = Vec::new();
    for source in sources {
        let families = Family::BOTH.into_iter().filter(|f| source.is_none_or(|source| source.family() == *f));
        for family in families {
            let same: Vec<Peer> = destinations.iter().filter(|to| to.family() == family).copied().collect();
            let anybody = Peer::Network(match family {
                Family::V4 => ipnet::Ipv4Net::default().into(),
                Family::V6 => ipnet::Ipv6Net::default().into(),
            });
            if same.is_empty() {
                pairs.push((Some(source.unwrap_or(anybody)), None));
            }
            pairs.extend(same.into_iter().map(|to| (source, Some(to))));
        }
    }
    pairs
}

fn incoming(host: &Host, opening: &Opening) -> Vec<Rule> {
    let mut matches = Vec::new();
    for (source, destination) in pairs(&opening.peers, &host.addresses) {
        for part in &opening.service.parts {
            let whens = if opening.verdict == Policy::Accept { new(part) } else { all(part) };
            let input = opening.interface.clone();
            matches.extend(whens.into_iter().map(|when| When { source, destination, input: input.clone(), ..when }));
        }
    }
    verdicts(matches, opening)
}

fn outgoing(opening: &Opening) -> Vec<Rule> {
    let mut matches = Vec::new();
    for (destination, _) in pairs(&opening.peers, &[]) {
        for part in &opening.service.parts {
            let whens = if opening.verdict == Policy::Accept { new(part) } else { all(part) };
            let output = opening.interface.clone();
            matches.extend(whens.into_iter().map(|when| When { destination, output: output.clone(), ..when }));
        }
    }
    verdicts(matches, opening)
}

fn verdicts(matches: Vec<When>, opening: &Opening) -> Vec<Rule> {
    let matches = matches.into_iter().filter(|when| when.family().is_ok()).collect();
    match opening.verdict {
        Policy::Accept => limited(matches, opening.recent, &opening.service.name.replace(['/', ':'], "-")),
        verdict => matches.into_iter().flat_map(|when| refuse::refusal(when, verdict)).collect(),
    }
}

/// Everything from the interfaces that are not the one to the outside.
fn inside(host: &Host) -> Option<Rule> {
    Some(accept(When { input: Some(not_outside(host)?), ..When::default() }))
}

fn not_outside(host: &Host) -> Option<Interface> {
    host.outside.clone().map(|outside| Interface { not: true, ..outside })
}

fn needed_icmpv6() -> Vec<Rule> {
    let types = NEEDED_ICMPV6.into_iter().chain([LISTENER_REPORT]);
    types.map(|number| accept(When { protocol: Some(Protocol::Icmpv6(number)), ..When::default() })).collect()
}

/// Packets of DHCP from one port to the other, of IPv4 and of IPv6. The first of them come before there is an address
/// to track a connection by.
fn dhcp(from: u16, to: u16, from6: u16, to6: u16) -> Vec<Rule> {
    let one = |from, to, source: Option<Peer>| {
        let protocol = Some(Protocol::Udp);
        accept(When {
            protocol,
            source_ports: Ports::single(from),
            ports: Ports::single(to),
            source,
            ..When::default()
        })
    };
    let any4 = Peer::Network(ipnet::Ipv4Net::default().into());
    let link_local = "fe80::/10".parse().ok();
    vec![one(from, to, Some(any4)), one(from6, to6, link_local)]
}

/// Rules that make the kernel read along, so that it knows which data connections belong to it.
fn helpers(openings: &[Opening]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for opening in openings.iter().filter(|opening| opening.verdict == Policy::Accept) {
        let Some(helper) = opening.service.helper else { continue };
        for when in opening.service.parts.iter().flat_map(all) {
            rules.push(Rule { when, then: Action::Helper(helper) });
        }
    }
    rules.dedup();
    rules
}

fn passage(passage: &Passage) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (source, destination) in crossed(&passage.from, &passage.to) {
        for part in &passage.service.parts {
            let whens = if passage.verdict == Policy::Accept { new(part) } else { all(part) };
            for when in whens {
                let (input, output) = (passage.input.clone(), passage.output.clone());
                let when = When { input, output, source, destination, ..when };
                match (when.family(), passage.verdict) {
                    (Err(()), _) => (),
                    (Ok(_), Policy::Accept) => rules.push(accept(when)),
                    (Ok(_), verdict) => rules.extend(refuse::refusal(when, verdict)),
                }
            }
        }
    }
    rules
}

/// Every source with every destination.
fn crossed(from: &[Peer], to: &[Peer]) -> Vec<(Option<Peer>, Option<Peer>)> {
    let some = |peers: &[Peer]| -> Vec<Option<Peer>> {
        if peers.is_empty() { vec![None] } else { peers.iter().copied().map(Some).collect() }
    };
    some(from).into_iter().flat_map(|from| some(to).into_iter().map(move |to| (from, to))).collect()
}

fn dnat(dnat: &Dnat) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (source, _) in crossed(&dnat.from, &[]) {
        for when in dnat.service.parts.iter().flat_map(all) {
            let when = When { source, input: dnat.interface.clone(), ..when };
            rules.push(Rule { when, then: Action::Dnat { to: dnat.to.into(), port: dnat.port } });
        }
    }
    rules
}

/// A forwarded port is of no use unless its packets may pass.
fn let_through(dnat: &Dnat) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (source, destination) in crossed(&dnat.from, &[Peer::Network(dnat.to.into())]) {
        for part in &dnat.service.parts {
            let ports = dnat.port.map_or_else(|| part.ports.clone(), Ports::single);
            let moved = Part { protocol: part.protocol, ports };
            let input = dnat.interface.clone();
            let whens = new(&moved).into_iter().map(|when| When { source, destination, input: input.clone(), ..when });
            rules.extend(whens.map(accept));
        }
    }
    rules
}

fn snat(snat: &Snat) -> Vec<Rule> {
    let then = snat.source.map_or(Action::Masquerade, |from| Action::Snat { from });
    let pairs = crossed(&snat.from, &[]).into_iter();
    let rule =
        |source| Rule { when: When { source, output: snat.interface.clone(), ..When::default() }, then: then.clone() };
    pairs.map(|(source, _)| rule(source)).collect()
}
