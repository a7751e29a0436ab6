//! The `[host]` section: what a person says about the machine, in a few lines.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::expect::Expectation;
use super::model::{Interface, Rate, Unit, Window};
use super::peer::Peer;
use super::ports::Ports;
use super::service::Service;

/// Most entries of one list of the section. Each may become several rules.
pub(crate) const MAX_ENTRIES: usize = 1000;

/// The section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) incoming: Policy,
    pub(crate) outgoing: Policy,
    pub(crate) forwarding: Policy,
    /// Addresses of this machine that services are reached at; a family without any is not restricted.
    pub(crate) addresses: Vec<Peer>,
    /// Interfaces whose packets are let in without a question.
    pub(crate) trusted: Vec<Interface>,
    /// The interface to the outside: all others are trusted.
    pub(crate) outside: Option<Interface>,
    /// `None` where no SSH server is to be reached.
    pub(crate) ssh: Option<Ssh>,
    pub(crate) services: Vec<Opening>,
    pub(crate) clients: Vec<Opening>,
    pub(crate) forward: Vec<Passage>,
    pub(crate) dnat: Vec<Dnat>,
    pub(crate) snat: Vec<Snat>,
    /// The machine gets its address by DHCP.
    pub(crate) dhcp_client: bool,
    pub(crate) attacks: BTreeSet<Attack>,
    pub(crate) bogons: Vec<IpNet>,
    pub(crate) ping: Bucket,
    pub(crate) syn_flood: Option<Bucket>,
    /// How much is logged per source; `None` for nothing at all.
    pub(crate) log: Option<Bucket>,
    pub(crate) expect: Vec<Expectation>,
}

/// What becomes of packets that nothing else is said about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    Drop,
    Reject,
}

/// The way in for the administrator, before everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ssh {
    pub(crate) ports: Ports,
    /// Empty for everybody.
    pub(crate) from: Vec<Peer>,
    pub(crate) recent: Option<Window>,
}

/// A service for these peers, in or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) service: Service,
    /// From whom, or to whom; empty for everybody.
    pub(crate) peers: Vec<Peer>,
    pub(crate) interface: Option<Interface>,
    pub(crate) verdict: Policy,
    pub(crate) recent: Option<Window>,
}

/// Packets that may pass through this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) service: Service,
    pub(crate) from: Vec<Peer>,
    pub(crate) to: Vec<Peer>,
    pub(crate) input: Option<Interface>,
    pub(crate) output: Option<Interface>,
    pub(crate) verdict: Policy,
}

/// A service that another machine gives in our name. Its packets may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dnat {
    pub(crate) service: Service,
    pub(crate) from: Vec<Peer>,
    pub(crate) interface: Option<Interface>,
    pub(crate) to: std::net::IpAddr,
    pub(crate) port: Option<u16>,
}

/// Packets that leave as if from another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snat {
    pub(crate) from: Vec<Peer>,
    pub(crate) interface: Option<Interface>,
    /// `None` for the address of the interface that they leave by.
    pub(crate) source: Option<Peer>,
}

/// Packets that no honest client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attack {
    Xmas,
    Null,
    Fragments,
    NewWithoutSyn,
    Invalid,
    Bogons,
}

impl Attack {
    pub(crate) const WORDS: [(&'static str, Attack); 6] = [
        ("xmas", Attack::Xmas),
        ("null", Attack::Null),
        ("fragments", Attack::Fragments),
        ("new-without-syn", Attack::NewWithoutSyn),
        ("invalid", Attack::Invalid),
        ("bogons", Attack::Bogons),
    ];
}

/// So many at once, then at this rate; per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) rate: Rate,
    pub(crate) burst: u32,
}

/// Sources that never are the other end of a connection that came in by a wire.
const NEVER_A_SOURCE: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::1/128", "::ffff:0:0/96", "ff00::/8"];

impl Default for Host {
    fn default() -> Host {
        let per_second = |count, burst| Bucket { rate: Rate { count, unit: Unit::Second }, burst };
        Host {
            incoming: Policy::Drop,
            outgoing: Policy::Accept,
            forwarding: Policy::Accept,
            addresses: Vec::new(),
            trusted: Vec::new(),
            outside: None,
            ssh: Some(Ssh { ports: Ports::single(22), from: Vec::new(), recent: None }),
            services: Vec::new(),
            clients: Vec::new(),
            forward: Vec::new(),
            dnat: Vec::new(),
            snat: Vec::new(),
            dhcp_client: true,
            attacks: [Attack::Xmas, Attack::Null, Attack::NewWithoutSyn, Attack::Invalid, Attack::Bogons].into(),
            bogons: NEVER_A_SOURCE.map(|text| text.parse().expect("these networks are well-formed")).to_vec(),
            ping: per_second(1, 5),
            syn_flood: Some(per_second(25, 100)),
            log: Some(per_second(1, 10)),
            expect: Vec::new(),
        }
    }
}
