//! Changes in, packets dropped. A backend is a projection of the ledger that may be thrown away at any moment: one
//! `sync` rebuilds it. Foreign rules are never touched.

pub(crate) mod blocklist; // the plain list beside any backend
pub(crate) mod command; // runs iptables-restore and nft: no shell, no waiting without end
mod error; // what can go wrong, with the remedy
mod flows; // ends what a banned source has open
pub(crate) mod handshakes; // who has completed one, by the kernel's connection tracking
mod ipset; // ipset's sets over netlink
pub(crate) mod iptables; // backend: a chain in iptables that matches ipset's sets
mod mirror; // what a backend has put into the kernel
mod netlink; // messages to the kernel and its answers
mod nft; // nf_tables' sets, elements and generation over netlink
mod nft_rules; // the text of our table in nftables
mod nftables; // backend: one table of nf_tables
mod none; // backend: nothing
mod rules; // the text of our rules in iptables
mod scope; // names of sets
pub(crate) mod task; // the thread that owns the backend
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ledger::{Change, Entry, Scope};
use crate::time::Timestamp;

pub(crate) use error::FirewallError;
pub(crate) use task::{Report, Task};

/// The `[firewall]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) backend: Choice,
    pub(crate) chain: Chain,
    /// Chains of the filter table that get a jump, those that exist: `INPUT`, `FORWARD`, `DOCKER-USER`.
    pub(crate) hooks: Vec<String>,
    /// Whether packets *to* a banned address are dropped as well.
    pub(crate) egress: bool,
    pub(crate) target: Target,
    /// Whether what a newly banned source has open is ended in connection tracking too.
    pub(crate) conntrack: bool,
    pub(crate) on_stop: OnStop,
}

/// Which backend is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Iptables,
    Nftables,
    None,
}

/// What happens to packets of a banned source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Drop,
    Reject,
}

/// What happens to the rules when the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    Keep,
    Remove,
}

/// The name of our chain and sets (iptables), in lower case of our table (nftables).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain(String);

/// Longest name of a chain: with the suffixes of sets it fits the 31 characters of an ipset name.
const LONGEST_CHAIN: usize = 20;

/// Names of chains, targets and tables that are somebody else's, in lower case.
const TAKEN: [&str; 18] = [
    "input",
    "forward",
    "output",
    "prerouting",
    "postrouting",
    "docker-user",
    "accept",
    "drop",
    "reject",
    "log",
    "queue",
    "return",
    "filter",
    "nat",
    "mangle",
    "raw",
    "security",
    "firewalld",
];

impl Chain {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Chain {
    fn default() -> Self {
        Chain("BANWARD".to_owned())
    }
}

impl FromStr for Chain {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if text.len() > LONGEST_CHAIN || !plain || !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err("a letter, then letters, digits, '-' and '_', 20 characters at most");
        }
        if TAKEN.contains(&text.to_ascii_lowercase().as_str()) {
            return Err("the firewall itself uses this name; take one that is ours alone, such as \"BANWARD\"");
        }
        Ok(Chain(text.to_owned()))
    }
}

impl Choice {
    /// As the configuration says it, and as each backend names itself.
    pub(crate) const WORDS: [(&'static str, Choice); 4] = [
        ("auto", Choice::Auto),
        ("iptables", Choice::Iptables),
        ("nftables", Choice::Nftables),
        ("none", Choice::None),
    ];

    /// The choice of the backend that calls itself so.
    pub(crate) fn named(name: &str) -> Option<Choice> {
        Choice::WORDS.iter().find(|(word, _)| *word == name).map(|(_, choice)| *choice)
    }
}

impl Target {
    pub(crate) const WORDS: [(&'static str, Target); 2] = [("DROP", Target::Drop), ("REJECT", Target::Reject)];
}

impl OnStop {
    pub(crate) const WORDS: [(&'static str, OnStop); 2] = [("keep", OnStop::Keep), ("remove", OnStop::Remove)];
}

/// A way to enforce. Its methods run in one thread and return when the kernel has answered.
///
/// No prefix of length 0 ever gets here: the task refuses it.
pub(crate) trait Backend: Send {
    fn name(&self) -> &'static str;

    /// Makes the kernel hold exactly these entries, and the rules that use them, whatever it held before. Packets of a
    /// source that was and stays banned never pass meanwhile. Of several entries with the same prefix and scope the
    /// last one counts; those that are over are left out.
    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), FirewallError>;

    /// Follows the ledger after a `sync`. Setting again renews the time; clearing what is absent is no error. At an
    /// error any part of it may have been done: what helps is a `sync`.
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FirewallError>;

    /// Whether everything that was put into the kernel is still there. Cheap: called every second.
    fn inspect(&mut self, now: Timestamp) -> Result<Inspection, FirewallError>;

    /// How many entries the kernel holds, those left out that end within seconds.
    fn installed(&mut self, now: Timestamp) -> usize;

    /// Reads the entries back from the kernel, also those of an earlier process.
    fn held(&mut self, now: Timestamp) -> Result<Vec<Entry>, FirewallError>;

    /// Renews what the kernel would forget too early. Called every second; nearly always there is nothing to do.
    fn rearm(&mut self, _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    /// Takes out everything that is ours, also what an earlier process left.
    fn remove(&mut self) -> Result<(), FirewallError>;
}

/// The result of [`Backend::inspect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    Intact,
    /// A sentence that says what was found.
    Damaged(String),
}

/// What an entry of the kernel has matched since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// An entry as the kernel holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The name of the set that it is in.
    pub(crate) set: &'a str,
    pub(crate) prefix: IpNet,
    pub(crate) scope: &'a Scope,
    /// `None` for ever.
    pub(crate) left: Option<Duration>,
    /// `None` where the kernel is too old to count.
    pub(crate) count: Option<Count>,
}

/// Hands out every entry of these scopes that the kernel holds, with what it has counted. For other threads than the
/// task's: many entries take a while, and bans do not wait for it. `backend` must be the one that is in use.
pub(crate) fn look(
    settings: &Settings,
    scopes: &BTreeSet<Scope>,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<(), FirewallError> {
    match settings.backend {
        Choice::Iptables => iptables::look(settings, scopes, each),
        Choice::Nftables => nftables::look(settings, scopes, each),
        Choice::Auto | Choice::None => Ok(()),
    }
}

/// Opens the backend that is wanted, or the one that works here, and says why that one.
pub(crate) fn open(settings: &Settings) -> Result<(Box<dyn Backend>, String), FirewallError> {
    match settings.backend {
        Choice::None => {
            Ok((Box::new(none::Nothing), "the configuration says so; packets of banned sources pass".to_owned()))
        }
        Choice::Iptables => iptables::Iptables::open(settings).map(|(backend, why)| (Box::new(backend) as _, why)),
        Choice::Nftables => nftables::Nftables::open(settings).map(|(backend, why)| (Box::new(backend) as _, why)),
        Choice::Auto => match iptables::Iptables::open(settings) {
            Ok((backend, why)) => Ok((Box::new(backend), why)),
            // Passing troubles: to settle in nf_tables because of one would leave the rules in two places.
            Err(error @ (FirewallError::LockHeld { .. } | FirewallError::ToolHung { .. })) => Err(error),
            Err(iptables) => match nftables::Nftables::open(settings) {
                Ok((backend, why)) => Ok((Box::new(backend), format!("{why}, and iptables does not: {iptables}"))),
                Err(nftables) => {
                    Err(FirewallError::NothingWorks { iptables: Box::new(iptables), nftables: Box::new(nftables) })
                }
            },
        },
    }
}

/// The backends that have left something of ours in the kernel, in this process or an earlier one.
pub(crate) fn traces(settings: &Settings) -> Vec<Choice> {
    let iptables = iptables::has_traces(settings).then_some(Choice::Iptables);
    let nftables = nftables::has_traces(settings).then_some(Choice::Nftables);
    iptables.into_iter().chain(nftables).collect()
}
