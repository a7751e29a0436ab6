//! Who was unbanned, and when: what was counted against them before is forgotten, also when windows are refilled from
//! lines that were read before a restart.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ledger::{How, Ledger};
use crate::time::Timestamp;

/// The prefixes of which a ban was ended by a person, as far as the ledger remembers, each with the last time.
#[derive(Debug, Default)]
pub(super) struct Pardons {
    latest: HashMap<IpNet, Timestamp>,
    /// The lengths that these prefixes have.
    lengths: BTreeSet<u8>,
}

impl Pardons {
    pub(super) fn of(ledger: &Ledger) -> Pardons {
        let mut pardons = Pardons::default();
        for ended in ledger.ended().filter(|ended| ended.how == How::Unbanned) {
            let latest = pardons.latest.entry(ended.ban.prefix).or_insert(ended.at);
            *latest = ended.at.max(*latest);
            pardons.lengths.insert(ended.ban.prefix.prefix_len());
        }
        pardons
    }

    /// Whether what came from this address at that time was forgotten.
    pub(super) fn cover(&self, address: IpAddr, at: Timestamp) -> bool {
        let around = self.lengths.iter().filter_map(|length| IpNet::new(address, *length).ok());
        around.filter_map(|prefix| self.latest.get(&prefix.trunc())).any(|pardoned| at <= *pardoned)
    }
}
