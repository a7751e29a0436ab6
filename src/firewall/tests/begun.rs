//! A ban that its owner begins while the task sleeps keeps its place, and is answered like any other. Needs no kernel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use super::*;

/// Done elsewhere, as far as anybody can tell: begun by whom, in which order, and what of it is refused.
struct Elsewhere {
    asked: Asked,
    begun: VecDeque<IpNet>,
    refused: Option<Refused>,
}

type Asked = Arc<Mutex<Vec<(ThreadId, IpNet)>>>;

impl Elsewhere {
    fn ask(&mut self, changes: &[Change]) {
        let asked = changes.iter().map(|change| (thread::current().id(), change.prefix()));
        self.asked.lock().unwrap().extend(asked);
    }

    fn refuse(&mut self, prefix: IpNet) {
        self.refused = Some(Refused { count: 1, first: format!("not {}", prefix.addr()) });
    }
}

impl Backend for Elsewhere {
    fn name(&self) -> &'static str {
        "none"
    }

    fn sync(&mut self, _entries: &[Entry], _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], _now: Timestamp) -> Result<(), FirewallError> {
        self.ask(changes);
        for change in changes {
            self.refuse(change.prefix());
        }
        Ok(())
    }

    fn begin(&mut self, changes: &[Change], _now: Timestamp) -> Option<Result<(), FirewallError>> {
        self.ask(changes);
        self.begun.extend(changes.iter().map(Change::prefix));
        None
    }

    fn works_elsewhere(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), FirewallError> {
        let prefix = self.begun.pop_front().expect("something is begun");
        self.refuse(prefix);
        Ok(())
    }

    fn inspect(&mut self, _now: Timestamp) -> Result<Inspection, FirewallError> {
        Ok(Inspection::Intact)
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        0
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

fn owner(asked: &Asked) -> Owner {
    let asked = Arc::clone(asked);
    let made = move || Elsewhere { asked: Arc::clone(&asked), begun: VecDeque::new(), refused: None };
    let mut owner = Owner::of(made, Vec::new());
    owner.until(|report| matches!(report, Report::Synced { .. }));
    owner
}

/// Bans one address after another until the owner itself has begun a ban, which it does once the task sleeps. `after` each
/// comes what is to follow it, and may count on. The number of the last.
fn until_begun_by_its_owner(owner: &mut Owner, asked: &Asked, mut after: impl FnMut(&mut Owner, &mut usize)) -> usize {
    let mut count = 0;
    eventually("a ban is begun by its owner", || {
        count += 1;
        owner.task.apply(vec![ban(count)], None);
        after(owner, &mut count);
        asked.lock().unwrap().iter().any(|(by, _)| *by == thread::current().id())
    });
    count
}

fn address(number: usize) -> String {
    format!("192.0.{}.{}", number / 250, number % 250 + 1)
}

fn refusal(number: usize) -> String {
    format!("the enforcer refuses this: not {}", address(number))
}

fn ban(last: usize) -> Change {
    Change::Set(entry(&address(last), 600))
}

#[test]
fn while_the_task_sleeps_its_owner_begins_a_ban_and_both_keep_the_order() {
    let asked = Asked::default();
    let mut owner = owner(&asked);
    let count = until_begun_by_its_owner(&mut owner, &asked, |owner, count| {
        // Comes after it, whoever does it, and is answered for itself alone.
        *count += 1;
        assert_eq!(owner.apply(ban(*count)).unwrap_err(), refusal(*count));
    });
    let order: Vec<IpNet> = asked.lock().unwrap().iter().map(|(_, prefix)| *prefix).collect();
    assert_eq!(order, (1..=count).map(|last| ban(last).prefix()).collect::<Vec<_>>());
    owner.stop(OnStop::Keep);
}

#[test]
fn what_its_owner_began_the_task_finishes_when_it_is_told_and_when_it_stops() {
    let asked = Asked::default();
    let mut owner = owner(&asked);
    let count = until_begun_by_its_owner(&mut owner, &asked, |owner, count| {
        owner.task.finish();
        owner.until(|report| *report == Report::Trouble(refusal(*count)));
    });
    let (done, answer) = tokio::sync::oneshot::channel();
    owner.task.apply(vec![ban(count + 1)], Some(done));
    owner.stop(OnStop::Keep);
    assert!(answer.blocking_recv().unwrap().is_err());
}

#[test]
fn nobody_begins_to_ban_the_whole_internet() {
    let asked = Asked::default();
    let mut owner = owner(&asked);
    let refused = owner.apply(Change::Set(entry("0.0.0.0/0", 600))).unwrap_err();
    assert!(refused.contains("whole internet"), "{refused}");
    assert!(asked.lock().unwrap().is_empty());
    owner.stop(OnStop::Keep);
}
