//! Grants: prefixes that logs cannot ban, because a person said so. How many there may be is the policy's affair.

use ipnet::IpNet;

use super::book::Ledger;
use super::ends::Ending;
use super::records::{Key, Record};
use crate::policy::grant::Grant;
use crate::time::Until;

impl Ledger {
    /// Keeps a grant; one that is there already is never shortened.
    pub(crate) fn grant(&mut self, prefix: IpNet, grant: Grant) {
        let prefix = prefix.trunc();
        let grant = match self.take_grant(&prefix) {
            Some(standing) => standing.renewed(grant),
            None => grant,
        };
        self.record(&Record::Grant { prefix, grant: grant.clone() });
        self.restore_grant(prefix, grant);
    }

    /// All grants by prefix.
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&IpNet, &Grant)> {
        self.grants.iter()
    }

    /// Ends a grant; whether there was one.
    pub(crate) fn revoke(&mut self, prefix: &IpNet) -> bool {
        let prefix = prefix.trunc();
        let there = self.take_grant(&prefix).is_some();
        if there {
            self.delete(&Key::Grant(prefix));
        }
        there
    }

    /// Memory only: for opening.
    pub(super) fn restore_grant(&mut self, prefix: IpNet, grant: Grant) {
        if let Until::At(end) = grant.until {
            self.ends.insert(end, Ending::Grant(prefix));
        }
        self.grants.insert(prefix, grant);
    }

    /// Memory only.
    fn take_grant(&mut self, prefix: &IpNet) -> Option<Grant> {
        let grant = self.grants.remove(prefix)?;
        if let Until::At(end) = grant.until {
            self.ends.remove(end, Ending::Grant(*prefix));
        }
        Some(grant)
    }
}
