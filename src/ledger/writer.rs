//! The thread that writes the ledger down: takes everything that is queued as one group, writes it, answers for it.
//!
//! The queue never makes the ledger wait. It is bounded by the number of facts: a newer one replaces an older one about
//! the same thing. What cannot be written stays queued and is tried again until it can.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::home::Home;
use super::listfile;
use super::lists::List;
use super::records::POSITION;
use super::store::{Records, Store, StoreError};
use crate::lock::lock;

/// Where the outcome of a commit goes: done and durable, or why not yet.
pub(crate) type Ack = oneshot::Sender<Result<(), String>>;

/// Positions alone wait this long for company: a crash in between reads those lines again.
const LINGER: Duration = Duration::from_millis(200);

/// How long after a failure the group is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is written and answered for together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) records: Records,
    /// Lists to write, `None` to remove.
    pub(super) lists: BTreeMap<Arc<str>, Option<List>>,
    pub(super) acks: Vec<Ack>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.lists.is_empty() && self.acks.is_empty()
    }

    /// Whether there is more in it than positions, whose keys come last.
    fn is_urgent(&self) -> bool {
        let only_positions = self.records.keys().next().is_none_or(|key| key.first() == Some(&POSITION));
        !(only_positions && self.lists.is_empty() && self.acks.is_empty())
    }

    pub(super) fn absorb(&mut self, newer: Group) {
        if self.records.is_empty() {
            self.records = newer.records;
        } else {
            self.records.extend(newer.records);
        }
        self.lists.extend(newer.lists);
        self.acks.extend(newer.acks);
    }
}

#[derive(Debug, Default)]
struct Queue {
    group: Group,
    closing: bool,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Waits for work: the next group, and whether it is the last.
    fn next(&self, retrying: bool) -> (Group, bool) {
        let mut queue = self.lock();
        if !retrying {
            let idle = |queue: &mut Queue| queue.group.is_empty() && !queue.closing;
            queue = self.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        }
        let pause = if retrying { RETRY } else { LINGER };
        let may_wait = |queue: &mut Queue| !queue.closing && (retrying || !queue.group.is_urgent());
        let waited = self.wake.wait_timeout_while(queue, pause, may_wait);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut queue.group), queue.closing)
    }
}

/// The ledger's end of the queue. Dropping it waits until all is written, or cannot be.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn spawn(home: Home, store: Store) -> std::io::Result<Writer> {
        let shared = Arc::new(Shared::default());
        let scribe = Scribe { shared: Arc::clone(&shared), home, store: Some(store) };
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || scribe.run())?;
        Ok(Writer { shared, thread: Some(thread) })
    }

    pub(super) fn queue(&self, group: Group) {
        self.shared.lock().group.absorb(group);
        self.shared.wake.notify_one();
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }
}

impl Writer {
    /// Waits until all is written, or says why it cannot be.
    pub(super) fn close(mut self) -> Result<(), String> {
        self.finish();
        self.trouble().map_or(Ok(()), Err)
    }

    fn finish(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was shown by the panic hook when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread's own things.
struct Scribe {
    shared: Arc<Shared>,
    home: Home,
    /// `None` after a failure: sled refuses everything after its first error, until it is opened anew.
    store: Option<Store>,
}

impl Scribe {
    fn run(mut self) {
        let mut group = Group::default();
        loop {
            let (newer, last) = self.shared.next(!group.is_empty());
            group.absorb(newer);
            if !group.is_empty() {
                let outcome = self.write(&group);
                if outcome.is_err() {
                    self.store = None;
                }
                self.answer(&mut group, outcome);
            }
            if last {
                return;
            }
        }
    }

    /// Acknowledges in order. After a failure the records stay for the next attempt.
    fn answer(&self, group: &mut Group, outcome: Result<(), String>) {
        let outcome = outcome.map_err(|why| self.in_words(&why));
        // Before the answers: who has one sees the state that belongs to it.
        self.shared.lock().trouble = outcome.as_ref().err().cloned();
        for ack in group.acks.drain(..) {
            // Who does not wait for the answer any more has gone, and that is all.
            let _ = ack.send(outcome.clone());
        }
        if outcome.is_ok() {
            *group = Group::default();
        }
    }

    fn write(&mut self, group: &Group) -> Result<(), String> {
        for (name, list) in &group.lists {
            let written = match list {
                Some(list) => listfile::write(&self.home.lists(), list),
                None => listfile::remove(&self.home.lists(), name),
            };
            written.map_err(|error| format!("the list {name}: {error}"))?;
        }
        let path = self.home.store();
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&path).map_err(reopening)?),
        };
        store.write(&group.records, group.is_urgent())
    }

    fn in_words(&self, why: &str) -> String {
        let path: PathBuf = self.home.store();
        format!(
            "The ledger in {} cannot be written: {why}. Bans hold, but a restart would forget the latest. Free space or mend \
             that file system; writing is tried again every second.",
            path.display()
        )
    }
}

fn reopening(error: StoreError) -> String {
    match error {
        StoreError::Damaged(why) => format!("it is damaged ({why}); restart banward to set it aside"),
        StoreError::Newer(format) => format!("it was replaced by one of the newer format {format}"),
        StoreError::Refused(error) => error.to_string(),
    }
}
