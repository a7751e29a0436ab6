//! What the rules do to a packet, without a packet. In: a plan, packets. Out: verdicts, and by which rule.
//!
//! Only packets that filter rules decide about; where addresses are translated, as they are then.

use std::collections::HashMap;
use std::net::IpAddr;

use super::model::{Action, Family, Limit, Name, Plan, Protocol, Recent, Rule, State, When};

/// A packet as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) way: Way,
    pub(crate) input: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) source_port: Option<u16>,
    pub(crate) port: Option<u16>,
    /// Of TCP.
    pub(crate) flags: u8,
    pub(crate) state: State,
    /// It comes in pieces.
    pub(crate) fragment: bool,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Reject,
}

impl Verdict {
    pub(crate) const WORDS: [(&'static str, Verdict); 3] =
        [("accept", Verdict::Accept), ("drop", Verdict::Drop), ("reject", Verdict::Reject)];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) verdict: Verdict,
    /// The chain and the rule in it, from 1; `None` when no rule decided.
    pub(crate) rule: Option<(Name, usize)>,
    /// What was logged on the way.
    pub(crate) logged: Vec<&'static str>,
}

/// Plays packets that come all at once, one after the other.
pub(crate) struct Simulator<'a> {
    plan: &'a Plan,
    /// Per limit and source, how many packets it has let pass.
    spent: HashMap<(String, IpAddr), u32>,
    /// Per window and source, how many were noted.
    noted: HashMap<(String, IpAddr), u32>,
}

impl<'a> Simulator<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Simulator<'a> {
        Simulator { plan, spent: HashMap::new(), noted: HashMap::new() }
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> Fate {
        let mut logged = Vec::new();
        let mut chains = Vec::new();
        if packet.fragment && packet.way != Way::Out {
            chains.push(Name::Early);
        }
        chains.push(match packet.way {
            Way::In => Name::Input,
            Way::Out => Name::Output,
            Way::Forward => Name::Forward,
        });
        for chain in chains {
            if let Some((verdict, rule)) = self.walk(chain, packet, &mut logged) {
                return Fate { verdict, rule: Some(rule), logged };
            }
        }
        Fate { verdict: Verdict::Accept, rule: None, logged }
    }

    fn walk(
        &mut self,
        name: Name,
        packet: &Packet,
        logged: &mut Vec<&'static str>,
    ) -> Option<(Verdict, (Name, usize))> {
        let plan = self.plan;
        for (index, rule) in plan.chain(name)?.rules.iter().enumerate() {
            if !rule.is_for(Family::of(packet.source)) || !self.matches(rule, name, packet) {
                continue;
            }
            let verdict = match rule.then {
                Action::Accept => Verdict::Accept,
                Action::Drop => Verdict::Drop,
                Action::Reset | Action::Unreachable => Verdict::Reject,
                Action::Log(prefix) => {
                    logged.push(prefix);
                    continue;
                }
                Action::Jump(end) => match self.walk(Name::End(end), packet, logged) {
                    Some(decided) => return Some(decided),
                    None => continue,
                },
                Action::Helper(_) | Action::Dnat { .. } | Action::Snat { .. } | Action::Masquerade => continue,
            };
            return Some((verdict, (name, index + 1)));
        }
        None
    }

    fn matches(&mut self, rule: &Rule, chain: Name, packet: &Packet) -> bool {
        let When { input, output, source, destination, protocol, source_ports, ports, flags, states, .. } = &rule.when;
        let on = |wanted: &Option<super::model::Interface>, there: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| there.as_ref().is_some_and(|there| wanted.is(there)))
        };
        let plain = on(input, &packet.input)
            && on(output, &packet.output)
            && source.is_none_or(|source| source.contains(packet.source))
            && destination.is_none_or(|destination| destination.contains(packet.destination))
            && protocol.is_none_or(|protocol| protocol == packet.protocol)
            && source_ports.admit(packet.source_port)
            && ports.admit(packet.port)
            && flags.is_none_or(|flags| flags.holds(packet.flags))
            && (states.is_empty() || states.contains(&packet.state))
            && (!rule.when.fragment || (packet.fragment && chain == Name::Early));
        plain
            && rule.when.recent.as_ref().is_none_or(|recent| self.recent(recent, packet.source))
            && rule.when.limit.as_ref().is_none_or(|limit| self.limit(limit, packet.source))
    }

    fn recent(&mut self, recent: &Recent, source: IpAddr) -> bool {
        let noted = self.noted.entry((recent.name.clone(), holder(source))).or_default();
        if recent.note {
            *noted += 1;
            return true;
        }
        *noted >= u32::from(recent.window.hitcount)
    }

    fn limit(&mut self, limit: &Limit, source: IpAddr) -> bool {
        let spent = self.spent.entry((limit.name.clone(), holder(source))).or_default();
        let within = *spent < limit.burst;
        if within {
            *spent += 1;
        }
        within != limit.above
    }
}

/// Who is counted: an address of IPv4, a /64 of IPv6.
fn holder(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
    }
}

/// What the kernel's connection tracker takes a lone packet with these flags of TCP for. A connection may begin with
/// a SYN, or in its middle; nothing begins with an end.
pub(crate) fn lone_state(flags: u8) -> State {
    const URG: u8 = 32;
    const PSH: u8 = 8;
    match flags & !(URG | PSH) {
        0b00_0010 | 0b01_0000 if flags & PSH == 0 || flags & 0b01_0000 != 0 => State::New,
        _ => State::Invalid,
    }
}
