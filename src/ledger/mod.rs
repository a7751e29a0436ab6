//! Decisions in, changes out. The ledger is the truth: who is banned, why, until when, how often before, and how far
//! the logs were read. It never reads a clock, never judges, and never touches a firewall; `store.rs` alone knows the
//! database.

mod bans;
mod book;
mod causes;
mod clock;
mod ends;
mod exchange;
pub(crate) mod files;
mod grants;
mod history;
mod home;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod keep;
pub(crate) mod limit;
mod listfile;
mod lists;
mod open;
mod pages;
mod port;
mod positions;
mod records;
mod scope;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use book::{Ledger, Snapshot};
pub(crate) use exchange::Exchange;
pub(crate) use history::{Ended, How};
pub(crate) use home::{Home, LedgerError};
pub(crate) use lists::List;
pub(crate) use open::Opened;
pub(crate) use scope::{Direction, Extent, Interface, Scope, Stage, Target};
pub(crate) use store::survives_panic;

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::filters::Evidence;
use crate::time::{Timestamp, Until};

/// A port of a protocol, written `443/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// One jail's (or person's) claim on a prefix. Several may own the same prefix: it is free when the last has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ban {
    pub(crate) prefix: IpNet,
    /// A jail's name, or `manual`, or `list:NAME`.
    pub(crate) jail: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) since: Timestamp,
    pub(crate) until: Until,
    pub(crate) reason: Arc<str>,
    /// Which ban of this prefix this is, from 1.
    pub(crate) count: u32,
    pub(crate) evidence: Evidence,
}

/// What the kernel is to hold: packets of `prefix` within `scope` are dropped until then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) prefix: IpNet,
    pub(crate) scope: Scope,
    pub(crate) until: Until,
}

/// The jail of what people ban.
pub(crate) const MANUAL: &str = "manual";

/// One step of the ledger that its projections follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The entry is there from now on; replaces one with the same prefix and scope.
    Set(Entry),
    /// No entry with this prefix and scope any more.
    Clear { prefix: IpNet, scope: Scope },
}

impl Change {
    pub(crate) fn prefix(&self) -> IpNet {
        match self {
            Change::Set(entry) => entry.prefix,
            Change::Clear { prefix, .. } => *prefix,
        }
    }
}
