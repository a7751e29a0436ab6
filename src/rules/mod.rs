//! The rules of the host itself: what is let in and out, what is logged, what is limited. In: the `[host]` section of
//! the configuration. Out: rules as text for iptables and nftables, their verdict on an imagined packet, and the way
//! of both into the kernel and back.
//!
//! `host.rs` is what a person writes, `plan.rs` makes of it chains of rules that belong to no firewall, and everything
//! else reads those: the generators, and the simulator. What Banward bans is none of this; see `firewall`.

pub(crate) mod expect; // "accept in tcp 22 from 192.0.2.7"
pub(crate) mod host; // the `[host]` section
pub(crate) mod iptables; // chains → the rules of iptables
pub(crate) mod lint; // other people's scripts → their mistakes
pub(crate) mod live; // the rules of the kernel: look, change, put back
pub(crate) mod model; // a rule: when, then
pub(crate) mod nftables; // chains → the input of nft
pub(crate) mod peer; // whom a rule is about: a network or a range
pub(crate) mod pending; // rules on trial: they go unless somebody keeps them
mod plan; // the section → chains
pub(crate) mod ports; // ports and their ranges
mod refuse; // what is dropped: attacks and floods
pub(crate) mod saved; // tables of iptables: read, compared, changed
pub(crate) mod service; // names of services → protocols and ports
pub(crate) mod shell; // a script for machines without banctl
pub(crate) mod simulate; // chains and a packet → the verdict
#[cfg(test)]
mod tests;

pub(crate) use host::Host;
pub(crate) use plan::plan;
