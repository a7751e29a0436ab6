//! Start-up, in order: ledger and beside it the firewall, allowlist, blocklist files, sources, control socket.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Failure;
use super::alarm::Alarm;
use super::chronicle::Chronicle;
use super::clock::Clock;
use super::folders::Folders;
use super::guard::{Channels, Due, Ears, Guard, Kernel, SourceState};
use super::processes::Processes;
use super::remains::Remains;
use crate::config::{Config, Jail, Mode};
use crate::control::roles::Roles;
use crate::control::server;
use crate::enforcer::{Bell, Enforcer};
use crate::filters::{Evidence, Filter};
use crate::firewall::{self, FirewallError, OnStop, Settings, Task};
use crate::ledger::{Ban, Entry, Home, Ledger, LedgerError, Opened};
use crate::lock::lock;
use crate::pipeline::Pipeline;
use crate::pipeline::event::{Event, Kind};
use crate::pipeline::positions::Positions;
use crate::pipeline::wiring::{Source, Wiring};
use crate::policy::allowlist::Allowlist;
use crate::policy::protected::Protect;
use crate::setup::Setup;
use crate::sources::{self, Inbox, Place};
use crate::time::Timestamp;

/// Reports of sources that may wait for the loop. When it is full the sources wait, and their logs with them.
const REPORTS: usize = 16;
/// Reports of the firewall, the ledger and the blocklist file; commands of clients.
const MESSAGES: usize = 64;
/// A log that is seen for the first time is read from this long ago, or as far as its windows look, if further.
const FIRST_LOOK: Duration = Duration::from_secs(600);

/// Makes everything ready and starts it.
pub(super) fn start(path: PathBuf, setup: Setup, processes: Processes) -> Result<(Arc<Mutex<Guard>>, Ears), Failure> {
    let Setup { config, filters } = setup;
    let Processes { enforcer, witness, bell, closed } = processes;
    let now = Timestamp::now();
    let (ledger, opened, firewall) = open_both(&config, &enforcer, now)?;
    let (remains, (firewall, firewall_reports)) = firewall?;
    let users = witness.clone();
    let is_member = move |user, group: &str| users.is_member(user, group);
    let roles = Roles::of_groups(&config.control.read_group, &config.control.change_group, is_member);
    let listener = server::bind(&config.daemon.socket, &roles).map_err(|why| Failure::new(why.to_string()))?;
    let wiring = Wiring::new(&config, &filters, place_of);
    let which: Vec<Protect> = config.allow.protect.iter().copied().collect();
    let found = witness.probe(&which);
    let allowlist = allowlist(&config, &found.networks, &ledger, now);
    let pipeline = Pipeline::new(&config, &wiring, ledger, allowlist);
    let rescued = rescue(&opened, &config, &pipeline, &enforcer);
    let (reporter, reports) = mpsc::channel(REPORTS);
    let (caller, calls) = mpsc::channel(MESSAGES);
    let (prober, protected) = mpsc::channel(1);
    let (shaker, handshakes) = mpsc::channel(MESSAGES);
    let (rereader, reread) = mpsc::channel(1);
    let (importer, judged) = mpsc::channel(1);
    let signals = |kind| signal(kind).map_err(|why| Failure::new(format!("signals cannot be caught: {why}")));
    let (alarm, rings) = Alarm::new().map_err(|why| Failure::new(format!("there is no timer: {why}")))?;
    let (waker, files) = mpsc::channel(1);
    let ears = Ears {
        rings,
        bell: Bell::new(bell).map_err(|why| Failure::new(format!("the enforcer's bell cannot be heard: {why}")))?,
        enforcer: enforcer.clone(),
        reports,
        firewall: firewall_reports,
        calls,
        protected,
        handshakes,
        reread,
        judged,
        files,
        hangup: signals(SignalKind::hangup())?,
        terminate: signals(SignalKind::terminate())?,
        interrupt: signals(SignalKind::interrupt())?,
    };
    let shared = Arc::new_cyclic(|this: &Weak<Mutex<Guard>>| {
        let channels =
            Channels { inbox: Inbox::new(reporter, this.clone()), prober, shaker, rereader, importer, waker };
        Mutex::new(Guard {
            path,
            pipeline,
            sources: Vec::new(),
            enforcer,
            witness,
            closed,
            firewall,
            kernel: Kernel::default(),
            handshakes: None,
            remains,
            blocklist: None,
            loads: VecDeque::new(),
            watches: Vec::new(),
            folders: Folders::of(&[], &channels.waker),
            busy: true,
            chronicle: Chronicle::new(config.daemon.mode == Mode::Observe),
            troubles: BTreeMap::new(),
            started: now,
            clock: Clock::new(),
            protected: found.networks.clone(),
            channels,
            due: Due::new(),
            alarm,
            config,
        })
    });
    let mut guard = lock(&shared);
    guard.tell_unprotected(&found);
    guard.take_over(&opened, rescued, now);
    guard.open_files();
    guard.open_handshakes();
    guard.start_sources(&wiring, &[]);
    drop(guard);
    tokio::spawn(server::serve(listener, roles, caller));
    Ok((shared, ears))
}

/// What earlier configurations have left, and the firewall task with its reports.
type Firewall = (Remains, (Task, mpsc::Receiver<firewall::Report>));

/// Opens the ledger, and while that is read the firewall, which changes nothing before it has the list of bans. Neither
/// is touched before the state directory is ours alone.
fn open_both(
    config: &Config,
    enforcer: &Enforcer,
    now: Timestamp,
) -> Result<(Ledger, Opened, Result<Firewall, Failure>), Failure> {
    let failed = |why: LedgerError| Failure::new(why.to_string());
    let home = Home::take(&config.daemon.state_dir).map_err(failed)?;
    std::thread::scope(|scope| {
        let firewall = scope.spawn(|| {
            let remains = Remains::find(config, enforcer);
            spawn_firewall(config, enforcer, Vec::new()).map(|firewall| (remains, firewall))
        });
        let ledger = Ledger::open_in(home, now);
        let firewall = firewall.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match ledger {
            Ok((ledger, opened)) => Ok((ledger, opened, firewall)),
            Err(why) => {
                // What it has begun is to be brought to its end.
                let _left = firewall.map(|(_, (task, _))| task.stop(OnStop::Keep));
                Err(failed(why))
            }
        }
    })
}

/// `mode = "observe"` is the backend that enforces nothing.
pub(super) fn settings(config: &Config) -> Settings {
    let mut settings = config.firewall.clone();
    if config.daemon.mode == Mode::Observe {
        settings.backend = firewall::Choice::None;
    }
    settings
}

/// Work on rules that ends at some time: how it did.
pub(super) type Ending = Arc<OnceLock<Result<(), String>>>;

/// Starts the firewall task of this configuration; its reports come out at the other end. It begins once all `before` it
/// has ended: two backends must not be at work on the same rules.
pub(super) fn spawn_firewall(
    config: &Config,
    enforcer: &Enforcer,
    mut before: Vec<Ending>,
) -> Result<(Task, mpsc::Receiver<firewall::Report>), Failure> {
    let (reporter, reports) = mpsc::channel(MESSAGES);
    let enforcer = enforcer.clone();
    let opener = Box::new(move |settings: &Settings| {
        before.drain(..).for_each(|ending| drop(ending.wait().clone()));
        enforcer.open(settings)
    });
    let task = firewall::task::spawn(settings(config), opener, reporter)
        .map_err(|why| Failure::new(format!("the firewall's thread cannot be started: {why}")))?;
    Ok((task, reports))
}

/// The place where a jail finds its lines on this machine, now.
pub(super) fn place_of(jail: &Jail, filter: &Filter) -> Place {
    jail.source.resolve(&filter.logs, &filter.units, &filter.identifiers())
}

/// Everything that may not be banned: as configured, as protected, as granted.
pub(super) fn allowlist(config: &Config, protected: &[(IpNet, Protect)], ledger: &Ledger, now: Timestamp) -> Allowlist {
    let mut allowlist = Allowlist::default();
    allowlist.set_given(&config.allow.networks);
    allowlist.set_widest(config.allow.widest);
    allowlist.set_protected(protected);
    for (prefix, grant) in ledger.grants() {
        // As many as were granted one by one fit in again.
        let _fits = allowlist.grant(&[*prefix], grant.until, now);
    }
    allowlist
}

/// What a damaged ledger has lost is still in the kernel and in the blocklist file. Lists were not lost with it.
/// Says so where the kernel cannot be asked.
fn rescue(
    opened: &Opened,
    config: &Config,
    pipeline: &Pipeline,
    enforcer: &Enforcer,
) -> (Vec<Ban>, Option<FirewallError>) {
    let Opened::SetAside { .. } = opened else { return (Vec::new(), None) };
    let now = Timestamp::now();
    let mut bans = match &config.blocklist.write {
        Some(path) => super::files::known_bans(path, now),
        None => Vec::new(),
    };
    let mut known: HashSet<IpNet> = pipeline.ledger.entries(now).into_iter().map(|entry| entry.prefix).collect();
    known.extend(bans.iter().map(|ban| ban.prefix));
    let held = enforcer.held(&settings(config));
    let (held, failed) = held.map_or_else(|why| (Vec::new(), Some(why)), |held| (held, None));
    let unknown = held.into_iter().filter(|entry| !known.contains(&entry.prefix));
    bans.extend(unknown.map(|entry| restored(entry, now)));
    bans.retain(|ban| pipeline.allowlist.refuses(ban.prefix, now).is_none());
    (bans, failed)
}

/// A ban of which only the kernel still knows.
fn restored(entry: Entry, now: Timestamp) -> Ban {
    let Entry { prefix, scope, until } = entry;
    let reason = "read back from the kernel after the ledger was damaged".into();
    Ban { prefix, jail: "restored".into(), scope, since: now, until, reason, count: 1, evidence: Evidence::Proven }
}

/// Lines of a log that people may write are their word. Said at the start, and in `banctl doctor`.
fn warn_of_forgers(place: &Place) {
    for (log, who) in place.forgeable() {
        log::warn!("{who} may write {}, and so decides whom its lines ban", log.display());
    }
}

impl Due {
    pub(super) fn new() -> Due {
        let now = Instant::now();
        let watchdog = sd_notify::watchdog_enabled();
        Due { look: now, probe: now, probed: now, blocklist: Some(now), positions: None, part: None, watchdog }
    }
}

impl Guard {
    /// Says what the ledger brought, and takes over what was rescued.
    fn take_over(&mut self, opened: &Opened, (rescued, failed): (Vec<Ban>, Option<FirewallError>), now: Timestamp) {
        match opened {
            Opened::Fresh => log::info!("a new ledger in {}", self.config.daemon.state_dir.display()),
            Opened::Restored { bans, lists, ended_meanwhile, skipped } => {
                log::info!("{bans} bans and {lists} lists from the ledger; {ended_meanwhile} bans ended meanwhile");
                if *skipped > 0 {
                    log::warn!("{skipped} records of the ledger could not be read; the others are not affected");
                }
            }
            Opened::SetAside { path, why } => {
                let failed = failed.map(|why| format!("; the kernel could not be asked: {why}")).unwrap_or_default();
                let text = format!(
                    "the ledger was damaged ({why}); it was set aside as {} and {} bans were read back from the \
                     kernel and the blocklist file{failed}",
                    path.display(),
                    rescued.len()
                );
                self.trouble("damaged ledger".to_owned(), text);
            }
        }
        self.mistrust_clock(now);
        for ban in rescued {
            self.pipeline.ledger.ban(ban);
        }
        self.pipeline.expire(now);
        self.renew_allowlist();
        self.store(None);
    }

    /// Starts a thread per source, each where its positions say.
    pub(super) fn start_sources(&mut self, wiring: &Wiring, old: &[SourceState]) {
        let now = Timestamp::now();
        for (index, source) in wiring.sources.iter().enumerate() {
            log::info!("watching {} for {}", source.place, source.audience(&wiring.jails));
            warn_of_forgers(&source.place);
            let state = self.start_source(index, source, old, now);
            self.sources.push(state);
        }
        if wiring.sources.is_empty() {
            self.chronicle.tell(Event::new(now, Kind::Trouble, "no jail is enabled: nothing is watched"));
        }
    }

    fn start_source(&mut self, index: usize, source: &Source, old: &[SourceState], now: Timestamp) -> SourceState {
        let name = source.place.to_string();
        let kept = old.iter().find(|state| state.name == name);
        let (resume, logs, live, cut) = match kept {
            Some(state) => (state.positions.current(), state.logs.clone(), state.live, state.cut),
            None => (self.pipeline.ledger.positions(&name), BTreeMap::new(), false, 0),
        };
        let positions = Positions::new(&resume);
        let spec = sources::Spec {
            index,
            place: source.place.clone(),
            scan: source.matcher.clone(),
            resume,
            start: true,
            since: now - source.reach.max(FIRST_LOOK),
            // After a reload the windows are as they were.
            refill: kept.is_none(),
            zone: jiff::tz::TimeZone::system(),
        };
        let running = match sources::spawn(spec, self.channels.inbox.clone()) {
            Ok(running) => Some(running),
            Err(why) => {
                self.trouble(name.clone(), format!("{name} is not watched: its thread cannot be started ({why})"));
                None
            }
        };
        SourceState { name, running, positions, logs, live, cut }
    }

    /// Ends all source threads and takes what they had already handed over.
    pub(super) fn stop_sources(&mut self, ears: &mut Ears) {
        for source in &mut self.sources {
            if let Some(running) = source.running.take() {
                running.stop();
            }
        }
        while let Ok(report) = ears.reports.try_recv() {
            self.on_reports(report, ears);
        }
    }
}
