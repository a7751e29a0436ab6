//! The thread that owns the backend. In: commands. Out: reports. It decides nothing: it does what is queued as one batch,
//! looks after what it has put into the kernel, and asks for the whole list whenever it cannot be sure of it. Where the
//! backend does its work, here or in the enforcer, is a matter of who opens it.
//!
//! While it sleeps with nothing to do, its owner begins a single change itself and has it finish that later: to wake one
//! thread more would cost a ban half of its time.
//!
//! The ledger is the truth, so a failed batch is never kept to be done again: the list that is asked for contains it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::mpsc::error::TrySendError as ReportError;
use tokio::sync::{mpsc, oneshot};

use super::bulk::{self, Bulk};
use super::undone::Undone;
use super::{Backend, Choice, FirewallError, Inspection, Looking, OnStop, Opened, Refused, Settings};
use crate::ledger::{Change, Entry, Scope};
use crate::lock::lock;
use crate::time::Timestamp;

/// Commands that may wait; senders wait beyond.
const QUEUE: usize = 1024;
/// Changes that make one batch at most.
const LARGEST_BATCH: usize = 16_384;
/// Parts of lists that are on their way at a time: while the enforcer does one, the next is made ready. A ban waits for so
/// many at most.
const AHEAD: usize = 2;
/// Reports that may wait for their reader; beyond, the oldest are dropped. All that matter come again.
const OUTBOX: usize = 64;
/// Reports for which their reader had no room are handed on after this time.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// The list is asked for again when it did not come within this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// After a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Told when the kernel holds what was asked for, or why it does not.
pub(crate) type Done = oneshot::Sender<Result<(), String>>;

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// All entries of the ledger: the answer to [`Report::NeedSync`], or whenever the owner likes.
    Sync(Vec<Entry>),
    /// Steps of the ledger since. Before the first `Sync` they are taken to be in it.
    Apply(Vec<Change>, Option<Done>),
    /// There is something to be seen in the kernel.
    Look,
    /// What the owner has begun is to be finished.
    Finish,
    /// Ends the task.
    Stop(OnStop),
}

/// What the task tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A backend works from now on.
    Opened { name: &'static str, why: String },
    /// The whole list is wanted as [`Command::Sync`].
    NeedSync,
    /// The kernel holds the list, but for what is refused or has no room; so many entries it holds.
    Synced { entries: usize, micros: u64 },
    /// Somebody had changed what is ours; it is right again.
    Repaired { what: String },
    /// Something is wrong: what, and what to do about it. Told once, until the text is another one.
    Trouble(String),
    /// The last trouble is over.
    Recovered,
}

/// The running task.
pub(crate) struct Task {
    commands: SyncSender<Command>,
    /// How many commands there were so far.
    sent: u64,
    worker: Arc<Mutex<Worker>>,
    thread: std::thread::JoinHandle<Result<(), String>>,
    told: Arc<Told>,
    /// Something did not fit into the queue: the whole list is to be sent.
    behind: bool,
    /// Something was begun that the thread does not know of.
    begun: bool,
}

/// What a task lets be known of it at any time.
#[derive(Debug, Default)]
struct Told {
    /// How many entries the kernel holds.
    installed: AtomicUsize,
    /// See [`Task::lacks`].
    lacks: AtomicBool,
    progress: Progress,
}

/// How much a task has done so far: while this goes on, whoever waits for it does not wait in vain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicUsize>);

impl Progress {
    /// A number that is another one when anything was done since.
    pub(crate) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    /// Never waits. Changes that find no room are answered so, and make the task [behind](Task::is_behind).
    pub(crate) fn apply(&mut self, changes: Vec<Change>, mut done: Option<Done>) {
        if changes.is_empty() && done.is_none() {
            return;
        }
        let is_awaited = done.is_some();
        if self.begin(&changes, &mut done) {
            if is_awaited {
                self.finish();
            }
            return;
        }
        if let Some(Command::Apply(_, done)) = self.send(Command::Apply(changes, done)) {
            self.behind = true;
            if let Some(done) = done {
                // Nobody waits any more.
                let _gone = done.send(Err("the firewall is busy; it will follow".to_owned()));
            }
        }
    }

    /// Begins a single change, where the thread sleeps and has done all that it was told; whether it did.
    fn begin(&mut self, changes: &[Change], done: &mut Option<Done>) -> bool {
        if let ([change], Ok(mut worker)) = (changes, self.worker.try_lock())
            && worker.taken == self.sent
            && worker.begin_for_owner(change, done)
        {
            self.begun = true;
            return true;
        }
        false
    }

    /// Has the thread finish what was begun without it, if anything was. To be called soon after a change for which nobody
    /// waits: not at once, when the thread would be in the way of the change.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.begun) {
            // Where there is no room it is awake, and finishes that first.
            let _awake = self.send(Command::Finish);
        }
    }

    /// Sends the whole list.
    pub(crate) fn sync(&mut self, entries: Vec<Entry>) {
        self.behind = self.send(Command::Sync(entries)).is_some();
    }

    /// Has the backend looked at soon, because it has something to tell.
    pub(crate) fn look(&mut self) {
        // Where there is no room, the whole list puts right whatever it is.
        self.behind |= self.send(Command::Look).is_some();
    }

    /// Never waits; gives back what finds no room.
    fn send(&mut self, command: Command) -> Option<Command> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.sent += 1;
                None
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Some(command),
        }
    }

    /// Whether the whole list should be sent, because something could not be.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind
    }

    /// How many entries the kernel holds.
    pub(crate) fn installed(&self) -> usize {
        self.told.installed.load(Ordering::Relaxed)
    }

    /// Whether something that was asked for is not in force, because it is refused or has no room.
    pub(crate) fn lacks(&self) -> bool {
        self.told.lacks.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> Progress {
        self.told.progress.clone()
    }

    /// Ends the task, after what is queued, and waits until it has ended. Says why the rules are not removed, where they
    /// were to be.
    pub(crate) fn stop(self, on_stop: OnStop) -> Result<(), String> {
        // It may have ended already.
        let _ended = self.commands.send(Command::Stop(on_stop));
        // A thread that panicked has aborted the process already.
        self.thread.join().unwrap_or(Ok(()))
    }
}

/// Starts the task in a thread of its own, in the network namespace of the caller. It ends at [`Command::Stop`], or
/// when `commands` is dropped; then the rules stay.
pub(crate) fn spawn(settings: Settings, opener: Opener, reports: mpsc::Sender<Report>) -> std::io::Result<Task> {
    let (commands, queue) = sync_channel(QUEUE);
    let told = Arc::new(Told::default());
    let telling = Arc::clone(&told);
    let worker = Arc::new(Mutex::new(Worker::new(settings, opener, reports, telling)));
    let working = Arc::clone(&worker);
    let thread = std::thread::Builder::new().name("firewall".to_owned()).spawn(move || run(&working, &queue))?;
    Ok(Task { commands, sent: 0, worker, thread, told, behind: false, begun: false })
}

/// Opens the backend that is wanted.
pub(crate) type Opener = Box<dyn FnMut(&Settings) -> Result<Opened, FirewallError> + Send>;

/// Whoever holds it works; the thread does not hold it while it sleeps.
struct Worker {
    settings: Settings,
    opener: Opener,
    /// How many commands were taken so far.
    taken: u64,
    reports: mpsc::Sender<Report>,
    outbox: VecDeque<Report>,
    backend: Option<Box<dyn Backend>>,
    state: State,
    /// What was found damaged and is not repaired yet.
    damage: Option<String>,
    /// The text of the trouble that was told and is not over.
    trouble: Option<String>,
    /// What was refused that is still wanted, and when that was last asked for.
    refused: Option<Refused>,
    refused_at: Instant,
    pause: Duration,
    /// Those who wait until the kernel holds the whole list.
    waiting: Vec<Done>,
    /// Once a list was done.
    looking: Option<Looking>,
    /// Somebody has said that there is something to be seen.
    is_to_look: bool,
    bulk: Bulk,
    /// What of it is on its way, in its order; how it went, where that is known already.
    begun: VecDeque<Option<Result<(), FirewallError>>>,
    /// Begun by the owner, before all that is taken from now on.
    owners: Option<Begun>,
    told: Arc<Told>,
}

/// A change that its owner has begun.
struct Begun {
    done: Option<Done>,
    /// How it went, where that is known already.
    went: Option<Result<(), FirewallError>>,
}

/// How the kernel stands to the ledger.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing is done before this moment.
    Pausing(Instant),
    /// The list was asked for at this moment.
    Asked(Instant),
    Synced,
}

/// What was taken from the queue at once.
#[derive(Default)]
struct Batch {
    sync: Option<Vec<Entry>>,
    /// Since `sync`, or since the last batch.
    changes: HashMap<(IpNet, Scope), Change>,
    /// Those who wait for `changes`.
    done: Vec<Done>,
    /// Those who wait for changes that `sync` contains.
    covered: Vec<Done>,
    stop: Option<OnStop>,
}

fn run(worker: &Mutex<Worker>, queue: &Receiver<Command>) -> Result<(), String> {
    let mut at_work = lock(worker);
    loop {
        at_work.tend();
        at_work.flush();
        let wait = at_work.rest();
        drop(at_work);
        let first = queue.recv_timeout(wait);
        at_work = lock(worker);
        at_work.finish_for_owner();
        let batch = at_work.take(first, queue);
        let stop = batch.stop;
        at_work.work(batch);
        at_work.work_on_lists(stop.is_some());
        at_work.count();
        if let Some(on_stop) = stop {
            let removed = at_work.stop(on_stop);
            at_work.flush();
            return removed;
        }
    }
}

impl Worker {
    fn new(settings: Settings, opener: Opener, reports: mpsc::Sender<Report>, told: Arc<Told>) -> Worker {
        Worker {
            settings,
            opener,
            taken: 0,
            reports,
            outbox: VecDeque::new(),
            backend: None,
            state: State::Pausing(Instant::now()),
            damage: None,
            trouble: None,
            refused: None,
            refused_at: Instant::now(),
            pause: FIRST_PAUSE,
            waiting: Vec::new(),
            looking: None,
            is_to_look: false,
            bulk: Bulk::default(),
            begun: VecDeque::new(),
            owners: None,
            told,
        }
    }

    /// Lets those who ask know how many entries the kernel holds.
    fn count(&mut self) {
        let Told { installed, lacks, .. } = &*self.told;
        let synced = matches!(self.state, State::Synced);
        let held = self.backend.as_mut().filter(|_| synced).map(|backend| backend.installed(Timestamp::now()));
        installed.store(held.unwrap_or(0), Ordering::Relaxed);
        let short = self.backend.as_ref().is_some_and(|backend| backend.shortage().is_some());
        lacks.store(short || self.refused.is_some(), Ordering::Relaxed);
    }

    /// What is due without a command: opening, asking, looking.
    fn tend(&mut self) {
        match self.state {
            State::Pausing(until) if Instant::now() >= until => self.open(),
            State::Asked(since) if since.elapsed() >= ASK_AGAIN => self.ask(),
            State::Synced => self.look(),
            State::Pausing(_) | State::Asked(_) => (),
        }
    }

    /// How long nothing is due without a command.
    fn rest(&self) -> Duration {
        let rest = match self.state {
            State::Pausing(until) => until.saturating_duration_since(Instant::now()),
            State::Asked(since) => ASK_AGAIN.saturating_sub(since.elapsed()),
            State::Synced if !self.bulk.is_empty() => Duration::ZERO,
            State::Synced => self.until_look(),
        };
        if self.outbox.is_empty() { rest } else { rest.min(TELL_AGAIN) }
    }

    /// How long nothing is to be looked at or asked for again.
    fn until_look(&self) -> Duration {
        let rest = self.looking.as_ref().map_or(Duration::ZERO, Looking::rest);
        match self.refused {
            Some(_) => rest.min(LONGEST_PAUSE.saturating_sub(self.refused_at.elapsed())),
            None => rest,
        }
    }

    /// Takes all that is queued, after what was waited for.
    fn take(&mut self, first: Result<Command, RecvTimeoutError>, queue: &Receiver<Command>) -> Batch {
        let mut batch = Batch::default();
        match first {
            Err(RecvTimeoutError::Timeout) => return batch,
            Err(RecvTimeoutError::Disconnected) => batch.stop = Some(OnStop::Keep),
            Ok(command) => self.add(&mut batch, command),
        }
        while batch.stop.is_none() && batch.changes.len() < LARGEST_BATCH {
            let Ok(command) = queue.try_recv() else { break };
            self.add(&mut batch, command);
        }
        batch
    }

    /// Lists wait among themselves; what comes after them overtakes them.
    fn add(&mut self, batch: &mut Batch, command: Command) {
        self.taken += 1;
        match command {
            Command::Sync(mut entries) => {
                entries.retain(|entry| entry.prefix.prefix_len() > 0);
                batch.changes.clear();
                batch.covered.append(&mut batch.done);
                batch.covered.extend(self.bulk.clear());
                batch.sync = Some(entries);
            }
            Command::Apply(changes, done) => {
                match changes.iter().map(Change::prefix).find(|prefix| prefix.prefix_len() == 0) {
                    Some(prefix) => {
                        let error = FirewallError::WholeInternet { prefix };
                        answer(done.into_iter().collect(), &Err(error.to_string()));
                    }
                    None if changes.len() > bulk::PART => {
                        self.bulk.push(changes, done);
                        return;
                    }
                    None => batch.done.extend(done),
                }
                for change in changes.into_iter().filter(|change| change.prefix().prefix_len() > 0) {
                    self.bulk.overtake(&change);
                    batch.changes.insert(key_of(&change), change);
                }
            }
            Command::Look => self.is_to_look = true,
            // That was done first.
            Command::Finish => {}
            Command::Stop(on_stop) => batch.stop = Some(on_stop),
        }
    }

    fn work(&mut self, batch: Batch) {
        let Batch { sync, changes, done, covered, .. } = batch;
        self.waiting.extend(covered);
        if let Some(entries) = sync {
            self.await_parts();
            self.sync(&entries);
        }
        if matches!(self.state, State::Synced) {
            if changes.is_empty() {
                answer(done, &Ok(()));
            } else {
                let undone = self.apply(changes.into_values());
                self.conclude(undone, done);
            }
            return;
        }
        // The ledger has these changes, so they will be in the list that is asked for.
        self.waiting.extend(done);
        self.await_parts();
        self.waiting.extend(self.bulk.clear());
        if let (State::Pausing(_), Some(trouble)) = (self.state, &self.trouble) {
            let text = format!("not in force yet: {trouble}");
            answer(std::mem::take(&mut self.waiting), &Err(text));
        }
    }

    /// Tells what was not done of a ban, and those who wait for it. Where it failed they wait for the list that is asked for.
    fn conclude(&mut self, undone: Option<Undone>, done: Vec<Done>) {
        match undone {
            Some(undone) => {
                self.note_refused(undone.refused.clone());
                answer(done, &undone.answer());
                self.settle();
            }
            None => self.waiting.extend(done),
        }
    }

    /// Begins a change, unless anything else is on its way or to be done before; whether it did.
    fn begin_for_owner(&mut self, change: &Change, done: &mut Option<Done>) -> bool {
        let is_idle = matches!(self.state, State::Synced) && self.bulk.is_empty() && self.owners.is_none();
        let is_for_all = change.prefix().prefix_len() == 0;
        match self.backend.as_mut().filter(|backend| is_idle && !is_for_all && backend.works_elsewhere()) {
            Some(backend) => {
                let went = backend.begin(std::slice::from_ref(change), Timestamp::now());
                self.owners = Some(Begun { done: done.take(), went });
                true
            }
            None => false,
        }
    }

    fn finish_for_owner(&mut self) {
        let (Some(Begun { done, went }), Some(backend)) = (self.owners.take(), &mut self.backend) else { return };
        let finished = went.unwrap_or_else(|| backend.finish());
        let undone = self.outcome(finished);
        self.conclude(undone, done.into_iter().collect());
    }

    /// Does a part of the lists that are loaded; all that is left of them before the end.
    fn work_on_lists(&mut self, all: bool) {
        while matches!(self.state, State::Synced) && !self.bulk.is_empty() {
            self.begin_parts();
            self.finish_part();
            if !all {
                return;
            }
        }
    }

    fn begin_parts(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        while self.begun.len() < AHEAD
            && let Some(part) = self.bulk.next()
        {
            self.begun.push_back(backend.begin(&part, Timestamp::now()));
        }
    }

    fn finish_part(&mut self) {
        let (Some(backend), Some(begun)) = (&mut self.backend, self.begun.pop_front()) else { return };
        let finished = begun.unwrap_or_else(|| backend.finish());
        // Where a part fails, whoever waits for the list waits for the one that is asked for.
        if let Some(undone) = self.outcome(finished)
            && let Some((done, undone)) = self.bulk.note(undone)
        {
            self.note_refused(undone.refused.clone());
            answer(done.into_iter().collect(), &undone.answer());
            self.settle();
        }
    }

    /// Waits for what of the lists is on its way, before all is done anew: it must not come after that. Whatever of it failed is
    /// contained there.
    fn await_parts(&mut self) {
        while let Some(begun) = self.begun.pop_front() {
            if let (None, Some(backend)) = (begun, &mut self.backend) {
                let _finished = backend.finish();
            }
        }
    }

    fn open(&mut self) {
        match (self.opener)(&self.settings) {
            Ok((backend, why)) => {
                let name = backend.name();
                // Once settled, a passing trouble does not make it settle elsewhere and leave its rules behind.
                self.settings.backend = Choice::named(name).unwrap_or(Choice::None);
                self.backend = Some(backend);
                self.report(Report::Opened { name, why });
                self.ask();
            }
            Err(error) => self.fail(&error),
        }
    }

    fn ask(&mut self) {
        self.state = State::Asked(Instant::now());
        self.report(Report::NeedSync);
    }

    fn sync(&mut self, entries: &[Entry]) {
        let start = Instant::now();
        let Some(backend) = &mut self.backend else { return };
        match backend.sync(entries, Timestamp::now()) {
            Ok(()) => {
                self.told.progress.made();
                let (refused, full) = (backend.refused(), backend.shortage());
                let held = backend.installed(Timestamp::now());
                self.state = State::Synced;
                self.looking = Some(Looking::after(backend.as_ref()));
                self.is_to_look = false;
                self.pause = FIRST_PAUSE;
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                if let Some(what) = self.damage.take() {
                    self.report(Report::Repaired { what });
                }
                self.refused = None;
                self.note_refused(refused.clone());
                self.settle();
                // Who hears of it may ask at once.
                self.count();
                self.report(Report::Synced { entries: held, micros });
                answer(std::mem::take(&mut self.waiting), &Undone { refused, full }.answer());
            }
            Err(error) => self.fail(&error),
        }
    }

    /// What is new comes first: it may take the place of what goes, and no packet is to pass in between. What was not done
    /// of it; `None` where it failed, and the whole list is asked for.
    fn apply(&mut self, changes: impl Iterator<Item = Change>) -> Option<Undone> {
        let (set, gone): (Vec<Change>, Vec<Change>) = changes.partition(|change| matches!(change, Change::Set(_)));
        let mut undone = Undone::default();
        for part in [set, gone].into_iter().filter(|part| !part.is_empty()) {
            let applied = self.backend.as_mut()?.apply(&part, Timestamp::now());
            undone.add(self.outcome(applied)?);
        }
        Some(undone)
    }

    /// What was not done, by what the backend says; the same.
    fn outcome(&mut self, applied: Result<(), FirewallError>) -> Option<Undone> {
        self.told.progress.made();
        let full = match applied {
            Ok(()) => None,
            // A list would not help, and what goes makes room.
            Err(error @ FirewallError::Full { .. }) => Some(error.to_string()),
            // What failed may be somebody's damage: a list repairs it. Only if that fails too, there is trouble.
            Err(error) => {
                self.damage.get_or_insert(error.to_string());
                self.ask();
                return None;
            }
        };
        Some(Undone { refused: self.backend.as_mut()?.refused(), full })
    }

    /// What the enforcer does not do is told, and asked for again later: an address may be ours for a while only.
    fn note_refused(&mut self, refused: Option<Refused>) {
        if refused.is_none() {
            return;
        }
        self.refused_at = Instant::now();
        Refused::add(&mut self.refused, refused);
        if let Some(text) = self.refused.as_ref().map(Refused::to_string) {
            self.complain(text);
        }
    }

    fn look(&mut self) {
        if self.refused.is_some() && self.refused_at.elapsed() >= LONGEST_PAUSE {
            return self.ask();
        }
        let (Some(backend), Some(looking)) = (&mut self.backend, &mut self.looking) else { return };
        let now = Timestamp::now();
        let found = if std::mem::take(&mut self.is_to_look) {
            Some(looking.look_now(backend.as_mut(), now))
        } else {
            looking.look(backend.as_mut(), now)
        };
        let Some(found) = found else { return };
        match found {
            Ok(Inspection::Intact) => {
                let refused = backend.refused();
                self.note_refused(refused);
                self.settle();
            }
            Ok(Inspection::Mended(what)) => {
                self.report(Report::Repaired { what });
                self.settle();
            }
            Ok(Inspection::Damaged(what)) => {
                self.damage = Some(what);
                self.ask();
            }
            Err(error) => self.fail(&error),
        }
    }

    /// What was done worked: trouble is over, unless something was refused or there is no room for all.
    fn settle(&mut self) {
        match self.backend.as_ref().and_then(|backend| backend.shortage()) {
            Some(text) => self.complain(text),
            None if self.refused.is_none() && self.trouble.take().is_some() => self.report(Report::Recovered),
            None => (),
        }
    }

    fn complain(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            self.trouble = Some(text.clone());
            self.report(Report::Trouble(text));
        }
    }

    /// Says no to those who wait, tells of the trouble, once, and starts anew after a pause that grows.
    fn fail(&mut self, error: &FirewallError) {
        let text = error.to_string();
        answer(std::mem::take(&mut self.waiting), &Err(text.clone()));
        self.complain(text);
        self.backend = None;
        self.begun.clear();
        self.state = State::Pausing(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn stop(&mut self, on_stop: OnStop) -> Result<(), String> {
        if on_stop == OnStop::Keep {
            return Ok(());
        }
        let opened = match self.backend.take() {
            Some(backend) => Ok(backend),
            None => (self.opener)(&self.settings).map(|(backend, _)| backend),
        };
        let removed = opened.and_then(|mut backend| backend.remove());
        removed.map_err(|why| format!("the rules could not be removed: {why}"))
    }

    fn report(&mut self, report: Report) {
        if self.outbox.len() == OUTBOX {
            self.outbox.pop_front();
        }
        self.outbox.push_back(report);
        self.flush();
    }

    /// Hands on what the owner has room for. Never waits: the owner may be waiting for room in our queue.
    fn flush(&mut self) {
        while let Some(report) = self.outbox.pop_front() {
            if let Err(ReportError::Full(report)) = self.reports.try_send(report) {
                self.outbox.push_front(report);
                return;
            }
        }
    }
}

/// Those who no longer wait are no loss.
fn answer(waiting: Vec<Done>, result: &Result<(), String>) {
    for done in waiting {
        let _ = done.send(result.clone());
    }
}

pub(super) fn key_of(change: &Change) -> (IpNet, Scope) {
    match change {
        Change::Set(entry) => (entry.prefix, entry.scope.clone()),
        Change::Clear { prefix, scope } => (*prefix, scope.clone()),
    }
}
