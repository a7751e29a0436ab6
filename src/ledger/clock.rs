//! The wall clock was set: of everything that ends, as much is left as before. Ends are kept as moments of the wall
//! clock, which a machine may not know at first (a board without a battery starts in 1970) or may be told wrongly.

use ipnet::IpNet;

use super::book::Ledger;
use super::lists::List;
use super::{Ban, Change};
use crate::policy::grant::Grant;
use crate::time::{Timestamp, Until};

impl Ledger {
    /// Moves the ends of bans, lists and grants by so many microseconds.
    pub(crate) fn move_ends(&mut self, step: i64) {
        let timed: Vec<Ban> = self.bans().filter(|ban| ban.until != Until::Forever).collect();
        for ban in timed {
            self.take(&ban.prefix, &ban.jail);
            self.record_ban(&ban.prefix);
            self.put(Ban { since: moved(ban.since, step), until: later(ban.until, step), ..ban });
        }
        let lists: Vec<List> = self.lists().filter(|list| list.until != Until::Forever).cloned().collect();
        for List { name, prefixes, since, until } in lists {
            // It was there before, so there is room for it, and what it bans stays the same.
            let _same: Result<Vec<Change>, _> =
                self.put_list(&name, prefixes.to_vec(), moved(since, step), later(until, step));
        }
        let grants: Vec<(IpNet, Grant)> = self.grants().map(|(prefix, grant)| (*prefix, grant.clone())).collect();
        for (prefix, grant) in grants.into_iter().filter(|(_, grant)| grant.until != Until::Forever) {
            self.revoke(&prefix);
            self.grant(prefix, Grant { since: moved(grant.since, step), until: later(grant.until, step), ..grant });
        }
    }

    /// When the latest of the bans that end began: the clock was right then, and it cannot be earlier now.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.bans.claims().filter(|(.., until)| *until != Until::Forever).map(|(_, _, since, _)| since).max()
    }
}

fn moved(moment: Timestamp, step: i64) -> Timestamp {
    Timestamp::from_micros(moment.as_micros().saturating_add(step))
}

fn later(until: Until, step: i64) -> Until {
    match until {
        Until::At(end) => Until::At(moved(end, step)),
        Until::Forever => Until::Forever,
    }
}
