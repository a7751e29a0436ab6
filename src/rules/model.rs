//! A rule as neither iptables nor nftables writes it: what it matches, and what then happens.

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::peer::Peer;
use super::ports::Ports;
pub(crate) use crate::ledger::limit::Unit;

/// All that is made from a `[host]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) chains: Vec<Chain>,
}

/// Rules that are tried one after the other. After the last one the packet goes on where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: Name,
    pub(crate) rules: Vec<Rule>,
}

/// The chains there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// Before the kernel puts fragments together.
    Early,
    /// Where connections get the helper that reads along.
    HelperIn,
    HelperOut,
    Prerouting,
    Postrouting,
    Input,
    Forward,
    Output,
    /// Where packets of one kind end: logged, then dropped.
    End(End),
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Ping,
    Syn,
    Xmas,
    Null,
    Fragment,
    NotSyn,
    Invalid,
    Bogon,
    Recent,
    In,
    Out,
    Forward,
}

impl End {
    /// What stands before the packet in the kernel's log. The blank keeps it apart from `IN=`.
    pub(crate) fn log_prefix(self) -> &'static str {
        match self {
            End::Ping => "PING-DROP: ",
            End::Syn => "syn_flood: ",
            End::Xmas => "XMAS-DROP: ",
            End::Null => "NULL-DROP: ",
            End::Fragment => "FRAGMENT-DROP: ",
            End::NotSyn => "NEW-NOT-SYN: ",
            End::Invalid => "INVALID-DROP: ",
            End::Bogon => "BOGON-DROP: ",
            End::Recent => "RECENT-DROP: ",
            End::In => "HOST-DROP: ",
            End::Out => "OUT-DROP: ",
            End::Forward => "FORWARD-DROP: ",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            End::Ping => "ping",
            End::Syn => "syn_flood",
            End::Xmas => "xmas",
            End::Null => "null",
            End::Fragment => "fragment",
            End::NotSyn => "not_syn",
            End::Invalid => "invalid",
            End::Bogon => "bogon",
            End::Recent => "recent",
            End::In => "in",
            End::Out => "out",
            End::Forward => "forward",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) when: When,
    pub(crate) then: Action,
}

/// Conditions, all of which must hold. The default is every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) input: Option<Interface>,
    pub(crate) output: Option<Interface>,
    pub(crate) source: Option<Peer>,
    pub(crate) destination: Option<Peer>,
    pub(crate) protocol: Option<Protocol>,
    /// Empty for any port.
    pub(crate) source_ports: Ports,
    pub(crate) ports: Ports,
    pub(crate) flags: Option<Flags>,
    /// Empty for any state.
    pub(crate) states: Vec<State>,
    /// Not the first piece of a packet.
    pub(crate) fragment: bool,
    pub(crate) limit: Option<Limit>,
    pub(crate) recent: Option<Recent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    Drop,
    /// Refused with a reset; for TCP only.
    Reset,
    /// Refused with "port unreachable".
    Unreachable,
    Jump(End),
    /// Into the kernel's log; the packet goes on.
    Log(&'static str),
    /// The connection's packets are read along by this helper.
    Helper(&'static str),
    /// To another address and perhaps port.
    Dnat {
        to: IpNet,
        port: Option<u16>,
    },
    /// As if from these addresses.
    Snat {
        from: Peer,
    },
    /// As if from the address of the interface.
    Masquerade,
}

/// Where [`Action::Dnat`] sends packets to, as iptables and nftables both write it.
pub(super) fn destination(to: &IpNet, port: Option<u16>) -> String {
    port.map_or_else(|| to.addr().to_string(), |port| SocketAddr::new(to.addr(), port).to_string())
}

/// A name, or a beginning of names followed by `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// All interfaces but this one.
    pub(crate) not: bool,
}

impl Interface {
    pub(crate) fn is(&self, other: &str) -> bool {
        let same = match self.name.strip_suffix('+') {
            Some(start) => other.starts_with(start),
            None => self.name == other,
        };
        same != self.not
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    /// ICMP of this type.
    Icmp(u8),
    Icmpv6(u8),
}

/// Echo requests.
pub(crate) const PING: [Protocol; 2] = [Protocol::Icmp(8), Protocol::Icmpv6(128)];

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn of(address: std::net::IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Of these flags exactly those are set. As in the header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) of: u8,
    pub(crate) set: u8,
    /// Or rather not exactly those.
    pub(crate) not: bool,
}

/// The flags by their names, lowest first.
pub(crate) const FLAG_NAMES: [(&str, u8); 6] =
    [("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32)];
pub(crate) const ALL_FLAGS: u8 = 63;

impl Flags {
    /// A request for a connection, and nothing else.
    pub(crate) const SYN: Flags = Flags { of: 0b01_0111, set: 0b00_0010, not: false };

    pub(crate) fn holds(self, flags: u8) -> bool {
        (flags & self.of == self.set) != self.not
    }
}

/// What the kernel knows of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Invalid,
    New,
    Related,
    Established,
}

/// A token bucket per source: per address of IPv4, per /64 of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Rules with the same name and numbers share their buckets.
    pub(crate) name: String,
    pub(crate) rate: Rate,
    pub(crate) burst: u32,
    /// Whether the rule is for packets above the limit, or for those within it.
    pub(crate) above: bool,
}

/// So many per unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) unit: Unit,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.word())
    }
}

/// How often a source was noted within the last seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recent {
    pub(crate) name: String,
    pub(crate) window: Window,
    /// Notes the source, rather than to match one that was noted `hitcount` times.
    pub(crate) note: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) hitcount: u8,
    pub(crate) seconds: u32,
}

impl When {
    /// The family that the rule is for; `None` for both. `Err` when its parts contradict each other.
    pub(crate) fn family(&self) -> Result<Option<Family>, ()> {
        let icmp = match self.protocol {
            Some(Protocol::Icmp(_)) => Some(Family::V4),
            Some(Protocol::Icmpv6(_)) => Some(Family::V6),
            _ => None,
        };
        let peers = [&self.source, &self.destination].map(|peer| peer.as_ref().map(Peer::family));
        let mut families = peers.into_iter().flatten().chain(icmp);
        let first = families.next();
        if families.all(|family| Some(family) == first) { Ok(first) } else { Err(()) }
    }
}

impl Rule {
    /// Whether the rule is one for this family.
    pub(crate) fn is_for(&self, family: Family) -> bool {
        let target = match &self.then {
            Action::Dnat { to, .. } => Some(Family::of(to.addr())),
            Action::Snat { from } => Some(from.family()),
            _ => None,
        };
        let matched = self.when.family();
        matched.is_ok_and(|wanted| wanted.is_none_or(|wanted| wanted == family))
            && target.is_none_or(|target| target == family)
    }
}

impl Plan {
    pub(crate) fn chain(&self, name: Name) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}
