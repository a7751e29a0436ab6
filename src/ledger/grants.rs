//! Grants: prefixes that logs cannot ban until an end, because a person said so.

use ipnet::IpNet;

use super::book::{Ending, Ledger};
use super::records::{Key, Record};
use crate::time::Timestamp;

/// Most grants at a time; the one that ends first goes first.
const MAX_GRANTS: usize = 10_000;

impl Ledger {
    /// Keeps logs from banning this prefix, or anything that overlaps it, until then.
    pub(crate) fn grant(&mut self, prefix: IpNet, until: Timestamp) {
        let prefix = prefix.trunc();
        self.revoke(&prefix);
        if self.grants.len() >= MAX_GRANTS
            && let Some((first, _)) = self.grants.iter().min_by_key(|(_, until)| **until)
        {
            self.revoke(&first.clone());
        }
        self.restore_grant(prefix, until);
        self.record(&Record::Grant { prefix, until });
    }

    /// All grants by prefix.
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&IpNet, &Timestamp)> {
        self.grants.iter()
    }

    /// Ends a grant, if there is one.
    pub(crate) fn revoke(&mut self, prefix: &IpNet) {
        let prefix = prefix.trunc();
        if let Some(until) = self.grants.remove(&prefix) {
            self.ends.remove(&(until, Ending::Grant(prefix)));
            self.delete(&Key::Grant(prefix));
        }
    }

    /// Memory only: for opening.
    pub(super) fn restore_grant(&mut self, prefix: IpNet, until: Timestamp) {
        self.grants.insert(prefix, until);
        self.ends.insert((until, Ending::Grant(prefix)));
    }
}
