//! The one loop. Everything that can happen is an [`Event`]; each arm is one call.
//!
//! A source's thread that has little to bring does the loop's work itself, when nobody else does: while it would wake the
//! loop, a ban could be in force.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Failure;
use super::alarm::{Alarm, Rings};
use super::chronicle::Chronicle;
use super::clock::Clock;
use super::closed::Closed;
use super::folders::Folders;
use super::imports::{Judged, Load};
use super::remains::Remains;
use crate::config::{Config, Mode};
use crate::control::server::Call;
use crate::enforcer::{Bell, Enforcer, Witness};
use crate::filters::Suppressed;
use crate::firewall::blocklist::{Blocklist, Watch};
use crate::firewall::handshakes::{self, Handshakes};
use crate::firewall::{self, Task};
use crate::ledger::Change;
use crate::lock::lock;
use crate::pipeline::event::{Event as Happening, Kind};
use crate::pipeline::positions::Positions;
use crate::pipeline::{Outcome, Pipeline};
use crate::policy::protected::{Probed, Protect};
use crate::sources::{Batch, Inbox, Report, Running, Taker};
use crate::text::plural;
use crate::time::Timestamp;

/// Reports that are taken before their changes are handed on: a burst becomes one batch.
const REPORTS_AT_ONCE: usize = 64;
/// Changes that are enough for a batch: the first of a flood need not wait for the last, nor all of them for memory.
const CHANGES_AT_ONCE: usize = 4096;
/// Lines wait so long at most for the first list to be in the kernel: what they ask for would come after it anyway, and
/// reading them would take the processor from it. So does the blocklist file.
pub(super) const LISTEN_AFTER: Duration = Duration::from_secs(1);
/// How often everything is looked at that does not report by itself: while something happens, and while nothing does.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_IDLE: Duration = Duration::from_secs(15);
/// How often the protected addresses are probed when nothing happens.
const PROBE_AGAIN: Duration = Duration::from_secs(15);
/// After a ban they are probed at once, but not more often than this.
const PROBE_AT_MOST: Duration = Duration::from_secs(1);
/// Positions without bans are written this long after they changed.
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// What follows a ban is done so long after it: it wakes many threads, and they are not to be in the way of the one that
/// brings it into the kernel.
const AFTER_BANS: Duration = Duration::from_millis(5);

/// The key of the trouble that an address may be unprotected.
const UNPROTECTED: &str = "protected addresses";

/// Everything that can happen to the daemon.
enum Event {
    Source(Report),
    Firewall(firewall::Report),
    /// The enforcer has something to tell.
    Rung,
    Call(Call),
    Protected(Probed),
    Handshake(handshakes::Report),
    /// Something happened in the folder of a file that people edit.
    Files,
    Deadline,
    Reload,
    /// This one of the other processes has ended.
    Orphaned(&'static str),
    /// The enforcer has read the configuration again, or cannot.
    Reread(Result<(), String>),
    /// A list can be taken.
    Judged(Box<Judged>),
    /// There is nothing to be done but to hand on lists.
    Leisure,
    Stop,
}

/// The daemon while it runs: whoever holds it does what there is to do.
pub(super) struct Guard {
    pub(super) path: PathBuf,
    pub(super) config: Config,

    pub(super) pipeline: Pipeline,
    pub(super) sources: Vec<SourceState>,
    /// The process that holds the firewall; when it is gone, so are we.
    pub(super) enforcer: Enforcer,
    pub(super) witness: Witness,
    pub(super) closed: Closed,
    pub(super) firewall: Task,
    pub(super) kernel: Kernel,
    /// Where the configuration has the kernel asked about forgeable evidence.
    pub(super) handshakes: Option<Handshakes>,
    pub(super) remains: Remains,
    pub(super) blocklist: Option<Blocklist>,
    /// Lists that the firewall is to get, the first in part.
    pub(super) loads: VecDeque<Load>,
    pub(super) watches: Vec<Watch>,
    pub(super) folders: Folders,
    /// Something was enacted or written since the last look.
    pub(super) busy: bool,
    pub(super) chronicle: Chronicle,
    /// What is wrong right now, by what it is wrong with.
    pub(super) troubles: BTreeMap<String, String>,
    pub(super) started: Timestamp,
    pub(super) clock: Clock,
    pub(super) protected: Vec<(IpNet, Protect)>,
    pub(super) channels: Channels,
    pub(super) due: Due,
    pub(super) alarm: Alarm,
}

/// What others report into.
pub(super) struct Channels {
    pub(super) inbox: Inbox,
    pub(super) prober: mpsc::Sender<Probed>,
    pub(super) shaker: mpsc::Sender<handshakes::Report>,
    pub(super) rereader: mpsc::Sender<Result<(), String>>,
    pub(super) importer: mpsc::Sender<Judged>,
    pub(super) waker: mpsc::Sender<()>,
}

/// What the loop waits for.
pub(super) struct Ears {
    pub(super) rings: Rings,
    pub(super) bell: Bell,
    pub(super) enforcer: Enforcer,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) firewall: mpsc::Receiver<firewall::Report>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) protected: mpsc::Receiver<Probed>,
    pub(super) handshakes: mpsc::Receiver<handshakes::Report>,
    pub(super) reread: mpsc::Receiver<Result<(), String>>,
    pub(super) judged: mpsc::Receiver<Judged>,
    pub(super) files: mpsc::Receiver<()>,
    pub(super) hangup: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

/// What it waits for only at times.
#[derive(Clone, Copy)]
struct Wants {
    /// Something is due already: while there are reports all the time, nobody asks the kernel whether the alarm went off.
    deadline: bool,
    reports: bool,
    leisure: bool,
}

/// When the next things are to be done without anybody asking.
pub(super) struct Due {
    pub(super) look: Instant,
    pub(super) probe: Instant,
    pub(super) probed: Instant,
    pub(super) blocklist: Option<Instant>,
    pub(super) positions: Option<Instant>,
    /// Of a list, if there was no leisure until then.
    pub(super) part: Option<Instant>,
    pub(super) watchdog: Option<Duration>,
}

/// What is known of the firewall task.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) backend: String,
    pub(super) reason: String,
    /// Whether the kernel has held all of the ledger since the start.
    pub(super) synced: bool,
}

/// A source that is being read.
pub(super) struct SourceState {
    pub(super) name: String,
    /// `None` while a reload has stopped it.
    pub(super) running: Option<Running>,
    pub(super) positions: Positions,
    pub(super) logs: BTreeMap<Arc<str>, LogState>,
    pub(super) live: bool,
    /// Lines that were longer than a line may be.
    pub(super) cut: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LogState {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    pub(super) hits: u64,
    pub(super) lost: u64,
    /// What the log says is missing from it, and when that was last told.
    pub(super) suppressed: Option<Suppressed>,
    pub(super) told_suppressed: Option<Timestamp>,
    pub(super) latest: Option<Timestamp>,
}

impl SourceState {
    /// Whether a trouble of this key is one of this source or its logs.
    pub(super) fn owns(&self, key: &str) -> bool {
        let of_log = key.strip_prefix(&self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "));
        of_log || self.logs.keys().any(|log| key == stamps_key(log))
    }
}

/// The key of the trouble that a log's time stamps are wrong.
fn stamps_key(log: &str) -> String {
    format!("time stamps of {log}")
}

impl Ears {
    async fn next(&mut self, wants: Wants) -> Event {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            name = self.enforcer.gone() => Event::Orphaned(name),
            _ = self.hangup.recv() => Event::Reload,
            Some(report) = self.firewall.recv() => Event::Firewall(report),
            () = self.bell.rung() => Event::Rung,
            Some(protected) = self.protected.recv() => Event::Protected(protected),
            Some(report) = self.handshakes.recv() => Event::Handshake(report),
            Some(result) = self.reread.recv() => Event::Reread(result),
            Some(()) = self.files.recv() => Event::Files,
            () = std::future::ready(()), if wants.deadline => Event::Deadline,
            () = self.rings.heard() => Event::Deadline,
            Some(call) = self.calls.recv() => Event::Call(call),
            Some(judged) = self.judged.recv() => Event::Judged(Box::new(judged)),
            Some(report) = self.reports.recv(), if wants.reports => Event::Source(report),
            // After whatever else this thread has to do: it serves the clients too.
            () = tokio::task::yield_now(), if wants.leisure => Event::Leisure,
        }
    }
}

/// On the thread of a source.
impl Taker for Mutex<Guard> {
    fn take(&self, batch: Batch) -> Option<Batch> {
        let Some(mut guard) = self.try_lock().ok().filter(|guard| guard.listens()) else { return Some(batch) };
        guard.notice_clock();
        let now = Timestamp::now();
        let outcome = guard.count(&batch, now);
        // A ban first, and what there is to note of its lines then.
        guard.follow(outcome);
        guard.note(batch, now);
        guard.set_alarm();
        None
    }
}

impl Guard {
    /// Until the daemon is to stop, or cannot go on.
    pub(super) async fn run(shared: &Mutex<Guard>, ears: &mut Ears) -> Result<(), Failure> {
        loop {
            let wants = lock(shared).wants();
            match ears.next(wants).await {
                Event::Stop => return Ok(()),
                event => lock(shared).on_event(event, ears)?,
            }
        }
    }

    fn on_event(&mut self, event: Event, ears: &mut Ears) -> Result<(), Failure> {
        self.notice_clock();
        match event {
            Event::Source(report) => self.on_reports(report, ears),
            Event::Firewall(report) => self.on_firewall(report),
            Event::Rung => self.firewall.look(),
            Event::Call(call) => self.on_call(call, ears),
            Event::Protected(protected) => self.on_protected(protected),
            Event::Handshake(report) => self.on_handshake(report),
            Event::Files => self.look_at_files(Timestamp::now()),
            Event::Deadline => self.on_deadline()?,
            Event::Reload => self.on_hangup(ears),
            Event::Judged(judged) => self.on_judged(*judged),
            Event::Leisure => self.hand_on(),
            Event::Reread(result) => self.settle("enforcer", result.err()),
            Event::Orphaned(name) => {
                return Err(Failure::new(format!(
                    "the {name} process has ended, and the daemon ends with it; \
                     the kernel keeps the bans that it holds until all start again"
                )));
            }
            Event::Stop => {}
        }
        Ok(())
    }

    fn wants(&mut self) -> Wants {
        self.set_alarm();
        let deadline = self.deadline() <= Instant::now();
        Wants { deadline, reports: self.listens(), leisure: !self.loads.is_empty() }
    }

    fn set_alarm(&mut self) {
        self.alarm.set(self.deadline());
    }

    /// Whether it is time for lines: at the start the firewall comes first, where it can be had.
    fn listens(&self) -> bool {
        let Guard { kernel, troubles, started, .. } = self;
        kernel.synced || troubles.contains_key("firewall") || Timestamp::now().since(*started) >= LISTEN_AFTER
    }

    fn deadline(&self) -> Instant {
        let due = &self.due;
        let mut first = due.look.min(due.probe);
        for at in [due.blocklist, due.positions, due.part].into_iter().flatten() {
            first = first.min(at);
        }
        if let Some(end) = self.pipeline.ledger.next_expiry() {
            first = first.min(Instant::now() + end.since(Timestamp::now()));
        }
        first
    }

    /// Takes what is queued as one batch.
    pub(super) fn on_reports(&mut self, first: Report, ears: &mut Ears) {
        let now = Timestamp::now();
        let mut outcome = self.on_report(first, now);
        for _ in 1..REPORTS_AT_ONCE {
            if outcome.changes.len() >= CHANGES_AT_ONCE {
                break;
            }
            let Ok(report) = ears.reports.try_recv() else { break };
            outcome.append(self.on_report(report, now));
        }
        self.follow(outcome);
    }

    /// Does what follows from lines: the kernel first, then the ledger.
    fn follow(&mut self, outcome: Outcome) {
        let banned = outcome.events.iter().any(|event| matches!(event.kind, Kind::Banned | Kind::Limited));
        if outcome.changes.is_empty() {
            self.chronicle.tell_all(outcome.events);
            self.due.positions.get_or_insert(Instant::now() + WRITE_AFTER);
        } else {
            self.enact(outcome);
        }
        if banned {
            // Somebody just logged in may be among them: look at once, and lift the ban if so.
            let soon = (self.due.probed + PROBE_AT_MOST).max(Instant::now() + AFTER_BANS);
            self.due.probe = self.due.probe.min(soon);
        }
    }

    fn on_report(&mut self, report: Report, now: Timestamp) -> Outcome {
        self.channels.inbox.taken();
        match report {
            Report::Batch(batch) => {
                let outcome = self.count(&batch, now);
                self.note(batch, now);
                return outcome;
            }
            Report::Trouble { source, log, text } => {
                self.trouble(self.log_key(source, &log), text);
                // Its folder may have been replaced.
                self.due.look = Instant::now();
            }
            Report::Recovered { source, log } => self.recovered(&self.log_key(source, &log)),
            Report::Lost { source, log, lines, text } => {
                if let Some(state) = self.log_state(source, &log) {
                    state.lost += lines;
                }
                self.chronicle.tell(Happening::new(now, Kind::Lost, text));
            }
            Report::Suppressed { source, log, suppressed } => self.on_suppressed(source, &log, suppressed, now),
            Report::Cut { source, lines } => {
                if let Some(state) = self.sources.get_mut(source) {
                    state.cut += lines;
                }
            }
            Report::CaughtUp { source } => self.set_live(source),
            Report::Ended { source } => self.on_end(source),
        }
        Outcome::default()
    }

    fn count(&mut self, batch: &Batch, now: Timestamp) -> Outcome {
        self.pipeline.on_hits(batch.source, &batch.hits, batch.warm, now)
    }

    fn note(&mut self, batch: Batch, now: Timestamp) {
        if batch.warm {
            return;
        }
        if let Some(state) = self.log_state(batch.source, &batch.log) {
            state.lines += batch.lines;
            state.bytes += batch.bytes;
            state.hits += batch.hits.iter().map(|hit| u64::from(hit.count())).sum::<u64>();
            state.latest = state.latest.max(batch.latest);
        }
        self.notice_lag(batch.source, &batch.log, batch.latest, now);
        if let (Some(position), Some(source)) = (batch.position, self.sources.get_mut(batch.source)) {
            source.positions.advance(&batch.log, position);
        }
    }

    /// A live log whose stamps are long past has a wrong zone or clock, and its bans would be over before they begin.
    fn notice_lag(&mut self, source: usize, log: &Arc<str>, latest: Option<Timestamp>, now: Timestamp) {
        const SUSPICIOUS: Duration = Duration::from_secs(600);
        let Some(latest) = latest else { return };
        if !self.sources.get(source).is_some_and(|state| state.live) {
            return;
        }
        let key = stamps_key(log);
        let behind = now.since(latest);
        if behind < SUSPICIOUS {
            self.recovered(&key);
        } else if !self.troubles.contains_key(&key) {
            let behind = crate::time::format_duration(behind);
            self.trouble(
                key,
                format!(
                    "new lines of {log} are stamped {behind} in the past; \
                     check the time zone of the service that writes them, or bans will be over before they begin"
                ),
            );
        }
    }

    /// Hands an outcome on: to the kernel first, then to the ledger. What comes from a log is read again where it does not
    /// get there.
    pub(super) fn enact(&mut self, outcome: Outcome) {
        self.send(outcome.changes, None);
        let soon = Instant::now() + AFTER_BANS;
        self.due.positions = Some(self.due.positions.map_or(soon, |due| due.min(soon)));
        self.chronicle.tell_later(outcome.events);
        if let Some(handshakes) = &self.handshakes {
            outcome.doubted.into_iter().for_each(|address| handshakes.ask(address));
        }
    }

    /// Sends changes to the firewall task, and has the blocklist file follow.
    pub(super) fn send(&mut self, changes: Vec<Change>, ack: Option<oneshot::Sender<Result<(), String>>>) {
        if !changes.is_empty() {
            self.due.blocklist.get_or_insert(Instant::now());
        }
        self.firewall.apply(changes, ack);
    }

    /// Writes the ledger with the positions that brought it there.
    pub(super) fn store(&mut self, ack: Option<oneshot::Sender<Result<(), String>>>) {
        let now = Timestamp::now();
        self.chronicle.catch_up();
        self.busy = true;
        self.due.look = self.due.look.min(Instant::now() + LOOK_AGAIN);
        for source in &mut self.sources {
            for (log, position) in source.positions.take_moved() {
                self.pipeline.ledger.set_position(&source.name, &log, &position, now);
            }
        }
        self.due.positions = None;
        self.firewall.finish();
        self.pipeline.ledger.commit(ack);
    }

    fn on_firewall(&mut self, report: firewall::Report) {
        let now = Timestamp::now();
        match report {
            firewall::Report::Opened { name, why } => {
                log::info!("backend {name}: {why}");
                (self.kernel.backend, self.kernel.reason) = (name.to_owned(), why);
            }
            firewall::Report::NeedSync => self.firewall.sync(self.pipeline.ledger.entries(now)),
            firewall::Report::Synced { entries, .. } => {
                self.become_ready(entries);
            }
            firewall::Report::Repaired { what } => self.chronicle.tell(Happening::new(now, Kind::Repaired, what)),
            firewall::Report::Trouble(text) => self.trouble("firewall".to_owned(), text),
            firewall::Report::Recovered => self.recovered("firewall"),
        }
    }

    /// READY means that the kernel holds every ban of the ledger, but for those that are refused or have no room: the text
    /// says so.
    fn become_ready(&mut self, entries: usize) {
        if std::mem::replace(&mut self.kernel.synced, true) {
            return;
        }
        self.due.blocklist = self.due.blocklist.map(|due| due.min(Instant::now()));
        let held = plural(entries as u64, "entry");
        let text = match (self.config.daemon.mode, self.troubles.get("firewall")) {
            (Mode::Observe, _) => "observing: what would be banned is told, and nothing is enforced".to_owned(),
            (Mode::Enforce, None) => format!("guarding this machine, {held} in the kernel"),
            (Mode::Enforce, Some(lacking)) => {
                format!("guarding this machine, {held} in the kernel and not all: {lacking}")
            }
        };
        self.chronicle.tell(Happening::new(Timestamp::now(), Kind::Started, text.as_str()));
        notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&text)]);
    }

    fn on_protected(&mut self, mut probed: Probed) {
        self.tell_unprotected(&probed);
        // Whoever was protected stays so while that cannot be found out.
        let unknown = |protect: Protect| probed.troubles.iter().any(|trouble| trouble.protect == protect);
        let kept: Vec<_> = self.protected.iter().filter(|(_, protect)| unknown(*protect)).copied().collect();
        probed.networks.extend(kept);
        probed.networks.sort_unstable();
        probed.networks.dedup();
        if probed.networks != self.protected {
            self.protected = probed.networks;
            self.renew_allowlist();
        }
    }

    /// Says which addresses could not be found out and so are not protected.
    pub(super) fn tell_unprotected(&mut self, probed: &Probed) {
        match probed.troubles.first() {
            Some(trouble) => self.trouble(UNPROTECTED.to_owned(), trouble.to_string()),
            None => self.recovered(UNPROTECTED),
        }
    }

    /// Puts the allowlist together anew and lifts bans that it covers.
    pub(super) fn renew_allowlist(&mut self) {
        let now = Timestamp::now();
        let allowlist = super::startup::allowlist(&self.config, &self.protected, &self.pipeline.ledger, now);
        let outcome = self.pipeline.allow(allowlist, now);
        if !outcome.changes.is_empty() {
            self.enact(outcome);
        }
    }

    /// Has the kernel asked about forgeable evidence, if that is wanted.
    pub(super) fn open_handshakes(&mut self) {
        self.recovered("handshakes");
        self.handshakes = None;
        if self.config.budget.corroborate.handshakes {
            let enforcer = self.enforcer.clone();
            let has_shaken = move |address| enforcer.has_shaken(address);
            match Handshakes::spawn(has_shaken, self.channels.shaker.clone()) {
                Ok(handshakes) => self.handshakes = Some(handshakes),
                Err(why) => self.trouble("handshakes".to_owned(), format!("no thread asks for handshakes: {why}")),
            }
        }
    }

    fn on_handshake(&mut self, report: handshakes::Report) {
        match report {
            handshakes::Report::Seen(address) => {
                let outcome = self.pipeline.on_handshake(address, Timestamp::now());
                if !outcome.events.is_empty() {
                    self.enact(outcome);
                }
            }
            handshakes::Report::Recovered => self.recovered("handshakes"),
            handshakes::Report::Trouble(text) => self.trouble("handshakes".to_owned(), text),
        }
    }

    fn on_deadline(&mut self) -> Result<(), Failure> {
        self.alarm.went_off();
        let (now, instant) = (Timestamp::now(), Instant::now());
        let outcome = self.pipeline.expire(now);
        if !outcome.changes.is_empty() || !outcome.events.is_empty() {
            self.enact(outcome);
        }
        // While nothing happens, what is due soon is done at once: each time to wake costs more than what is done then.
        let soon = instant + if self.busy { Duration::ZERO } else { LOOK_AGAIN };
        if self.due.look <= soon {
            let busy = std::mem::take(&mut self.busy);
            // systemd must hear of us more often than its patience lasts.
            let idle = self.due.watchdog.map_or(LOOK_IDLE, |patience| LOOK_IDLE.min(patience / 3));
            self.due.look = instant + if busy { LOOK_AGAIN.min(idle) } else { idle };
            self.pipeline.rewind(now);
            self.look_at_files(now);
            self.chronicle.sum_up();
            self.settle("ledger", self.pipeline.ledger.trouble());
            self.settle("blocklist", self.blocklist.as_ref().and_then(Blocklist::trouble));
            if self.firewall.is_behind() {
                self.firewall.sync(self.pipeline.ledger.entries(now));
            }
            self.remove_remains();
            self.look_at_folders()?;
            if self.due.watchdog.is_some() {
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
        if self.due.probe <= soon {
            self.probe();
        }
        if self.due.blocklist.is_some_and(|at| at <= instant) {
            self.write_blocklist_in_turn(instant);
        }
        if self.due.positions.is_some_and(|at| at <= instant) {
            self.store(None);
        }
        if self.due.part.is_some_and(|at| at <= instant) {
            self.hand_on();
        }
        Ok(())
    }

    /// Probes the protected addresses on a thread of its own: it reads many small files.
    fn probe(&mut self) {
        let now = Instant::now();
        (self.due.probed, self.due.probe) = (now, now + PROBE_AGAIN);
        let which: Vec<Protect> = self.config.allow.protect.iter().copied().collect();
        let (prober, witness) = (self.channels.prober.clone(), self.witness.clone());
        let known = (!self.troubles.contains_key(UNPROTECTED)).then(|| self.protected.clone());
        tokio::task::spawn_blocking(move || {
            let mut found = witness.probe(&which);
            found.networks.sort_unstable();
            found.networks.dedup();
            // What is no news need not wake the loop.
            if !found.troubles.is_empty() || known.as_ref() != Some(&found.networks) {
                // The loop takes one at a time; when it is busy the next probe will do.
                let _busy = prober.try_send(found);
            }
        });
    }

    pub(super) fn trouble(&mut self, key: String, text: String) {
        if self.troubles.get(&key) == Some(&text) {
            return;
        }
        self.chronicle.tell(Happening::new(Timestamp::now(), Kind::Trouble, text.as_str()));
        self.troubles.insert(key, text);
    }

    /// Takes over what another thread says of itself.
    fn settle(&mut self, key: &str, trouble: Option<String>) {
        match trouble {
            Some(text) => self.trouble(key.to_owned(), text),
            None => self.recovered(key),
        }
    }

    pub(super) fn recovered(&mut self, key: &str) {
        if let Some(text) = self.troubles.remove(key) {
            self.chronicle.tell(Happening::new(Timestamp::now(), Kind::Recovered, format!("no longer: {text}")));
        }
    }

    fn log_key(&self, source: usize, log: &str) -> String {
        format!("{}: {log}", self.sources.get(source).map_or("source", |state| state.name.as_str()))
    }

    pub(super) fn log_state(&mut self, source: usize, log: &Arc<str>) -> Option<&mut LogState> {
        self.sources.get_mut(source).map(|state| state.logs.entry(log.clone()).or_default())
    }

    /// Standard input has ended, perhaps with the program that fed it.
    fn on_end(&mut self, source: usize) {
        self.set_live(source);
        let text = "standard input has ended: its jails see nothing more until the daemon is started again".to_owned();
        self.trouble(self.log_key(source, "stdin"), text);
    }

    fn set_live(&mut self, source: usize) {
        if let Some(state) = self.sources.get_mut(source) {
            state.live = true;
        }
    }

    /// Stops reading, writes everything, and leaves the kernel as configured.
    pub(super) async fn stop(shared: Arc<Mutex<Guard>>, mut ears: Ears) {
        notify(&[sd_notify::NotifyState::Stopping]);
        lock(&shared).conclude_all(&mut ears);
        // Nobody else has it any more: the sources have ended.
        let Some(guard) = Arc::into_inner(shared) else { return };
        let guard = guard.into_inner().unwrap_or_else(PoisonError::into_inner);
        let on_stop = guard.config.firewall.on_stop;
        let Guard { firewall, blocklist, pipeline, config, mut chronicle, .. } = guard;
        let closing = tokio::task::spawn_blocking(move || {
            let left = firewall.stop(on_stop);
            drop(blocklist);
            if let Err(why) = pipeline.ledger.close() {
                log::error!("{why}");
            }
            left
        });
        // A thread that panicked has aborted the process already.
        let left = closing.await.unwrap_or(Ok(()));
        let rules = match (on_stop, &left) {
            (_, Err(why)) => why,
            (firewall::OnStop::Keep, Ok(())) => "the rules stay, and each ban in them ends by itself",
            (firewall::OnStop::Remove, Ok(())) => "the rules are removed",
        };
        chronicle.tell(Happening::new(Timestamp::now(), Kind::Stopped, rules));
        chronicle.finish().await;
        // Gone already, or never ours: either way nobody is served there any more.
        let _gone = std::fs::remove_file(&config.daemon.socket);
    }

    fn conclude_all(&mut self, ears: &mut Ears) {
        self.stop_sources(ears);
        while !self.loads.is_empty() {
            self.hand_on();
        }
        self.store(None);
        self.write_blocklist();
    }
}

/// Tells systemd; without it there is nobody to tell.
pub(super) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        log::warn!("systemd cannot be told: {why}");
    }
}
