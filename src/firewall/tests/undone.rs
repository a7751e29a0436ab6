//! What a backend refuses is in the answer, whichever part of a list it was in, and in no count. Needs no kernel.

use std::collections::BTreeSet;

use super::*;

/// A kernel that takes all but what lies within one network.
struct Picky {
    held: BTreeSet<IpNet>,
    refused: Option<Refused>,
}

const REFUSED: &str = "192.0.2.0/24";

impl Picky {
    fn take(&mut self, entry: &Entry) {
        if net(REFUSED).contains(&entry.prefix) {
            let first = format!("{} may not be banned", entry.prefix.addr());
            Refused::add(&mut self.refused, Some(Refused { count: 1, first }));
        } else {
            self.held.insert(entry.prefix);
        }
    }
}

impl Backend for Picky {
    fn name(&self) -> &'static str {
        "none"
    }

    fn sync(&mut self, entries: &[Entry], _now: Timestamp) -> Result<(), FirewallError> {
        (self.held, self.refused) = (BTreeSet::new(), None);
        for entry in entries {
            self.take(entry);
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], _now: Timestamp) -> Result<(), FirewallError> {
        for change in changes {
            match change {
                Change::Set(entry) => self.take(entry),
                Change::Clear { prefix, .. } => drop(self.held.remove(prefix)),
            }
        }
        Ok(())
    }

    fn inspect(&mut self, _now: Timestamp) -> Result<Inspection, FirewallError> {
        Ok(Inspection::Intact)
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        self.held.len()
    }

    fn held(&mut self, _now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        Ok(Vec::new())
    }

    fn refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }
}

#[test]
fn what_is_refused_is_answered_whichever_part_of_a_list_it_was_in_and_never_counted() {
    let made = || Picky { held: BTreeSet::new(), refused: None };
    let mut owner = Owner::of(made, vec![entry("198.51.100.1", 600), entry("192.0.2.1", 600)]);
    let reports = owner.until(|report| matches!(report, Report::Synced { .. }));
    assert!(matches!(reports.last(), Some(Report::Synced { entries: 1, .. })), "{reports:?}");
    assert!(reports.contains(&Report::Trouble("the enforcer refuses this: 192.0.2.1 may not be banned".to_owned())));
    eventually("it is known", || owner.task.lacks());

    let addresses = (0..3000_u32).map(|number| format!("10.9.{}.{}", number / 250, number % 250));
    let listed = ["192.0.2.7", "192.0.2.8"].map(str::to_owned).into_iter().chain(addresses);
    let changes: Vec<Change> = listed.map(|address| Change::Set(entry(&address, 600))).collect();
    let (done, answer) = tokio::sync::oneshot::channel();
    owner.task.apply(changes, Some(done));
    let answer = answer.blocking_recv().unwrap();
    assert_eq!(answer, Err("the enforcer refuses this: 192.0.2.7 may not be banned (and 1 more)".to_owned()));
    eventually("all others are held", || owner.task.installed() == 3001);
    assert_eq!(owner.apply(Change::Set(entry("198.51.100.2", 600))), Ok(()), "and others are not told of it");
    owner.stop(OnStop::Keep);
}
