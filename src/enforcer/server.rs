//! The enforcer's process. It answers requests on its two lanes, one thread each, and ends when either is closed: the
//! kernel keeps what it has. Between two requests it looks after what it has put into the kernel.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::bell::Rope;
use super::budget;
use super::lane::Lane;
use super::law::{Law, Refusals};
use super::message::{At, Noted, PART, Reply, Request, Which};
use super::sessions::Sessions;
use super::witness::Witness;
use crate::firewall::handshakes::has_shaken;
use crate::firewall::{self, Backend, Choice, FirewallError, Inspection, Looking, Refused, Settings, look_over};
use crate::ledger::{Change, Entry, Scope};
use crate::lock::lock;
use crate::sandbox::Fence;
use crate::time::Timestamp;

/// What all threads go by.
pub(super) type Shared = Arc<Mutex<Law>>;

/// What was opened on a lane.
pub(super) type Open = Arc<Mutex<Option<Box<dyn Backend>>>>;

/// One lane and what was opened on it.
pub(super) struct Server {
    lane: Lane,
    law: Shared,
    backend: Open,
    sessions: Sessions,
    session: u32,
    entries: Vec<Entry>,
    changes: Vec<Change>,
    /// While the kernel holds the whole list, as far as is known.
    looking: Option<Looking>,
    /// What was found and is not asked for yet.
    found: Option<Result<Inspection, FirewallError>>,
    /// The shortage that was last told.
    told: Option<String>,
    /// Rung when there is something to be asked for.
    rope: Option<Rope>,
}

/// Ends a lane on which more is said than may ever be done.
fn within_bounds(parts: usize) -> io::Result<()> {
    if parts > budget::MOST { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
}

/// Serves both lanes until one is closed.
pub(super) fn serve(law: Law, lanes: [Lane; 2], witness: Witness, rope: Rope) -> io::Result<()> {
    let (law, open) = (Arc::new(Mutex::new(law)), Open::default());
    let sessions = Sessions::watch(&law, witness, &open)?;
    let [bans, questions] = lanes;
    let mut second = Server::new(questions, Arc::clone(&law), Open::default(), Sessions::unknown(), None);
    std::thread::Builder::new().name("questions".to_owned()).spawn(move || {
        let ended = second.run();
        // The brain is gone: whatever the other lane is doing, nobody waits for it.
        std::process::exit(i32::from(ended.is_err()));
    })?;
    Server::new(bans, law, open, sessions, Some(rope)).run()
}

impl Server {
    pub(super) fn new(lane: Lane, law: Shared, backend: Open, sessions: Sessions, rope: Option<Rope>) -> Server {
        let (entries, changes, looking, found, told) = (Vec::new(), Vec::new(), None, None, None);
        Server { lane, law, backend, sessions, session: 0, entries, changes, looking, found, told, rope }
    }

    /// Answers until the lane is closed.
    pub(super) fn run(&mut self) -> io::Result<()> {
        loop {
            self.lane.wait_for(self.looking.as_ref().map(Looking::rest))?;
            match self.lane.receive() {
                Ok(Some(request)) => self.on_request(request)?,
                Ok(None) => return Ok(()),
                // It is time to look.
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
            self.look_after();
        }
    }

    fn on_request(&mut self, request: Request) -> io::Result<()> {
        let reply = self.answer(request)?;
        if let Some(Reply::Failed(why)) = &reply {
            self.end_if_shut_out(why);
        }
        if let Some(reply) = reply {
            self.lane.send(&reply)?;
        }
        let waits = self.law().waits();
        if let Some(soon) = waits {
            self.sessions.wake(soon);
        }
        Ok(())
    }

    /// Where something failed and what it takes was replaced since the start, it will fail for ever: rather all start anew.
    fn end_if_shut_out(&self, failed: &str) {
        let law = self.law();
        if let Some(path) = law.fence.as_ref().and_then(Fence::replaced) {
            let path = path.display();
            log::error!("{failed}; {path} was replaced since the start, and is closed to the enforcer, which ends");
            std::process::exit(1);
        }
    }

    /// Looks, if it is time to, whether all is as it was made, and rings where there is something to tell.
    fn look_after(&mut self) {
        let Some((found, shortage)) = self.find() else { return };
        self.law().tend();
        if !matches!(found, Ok(Inspection::Intact | Inspection::Mended(_))) {
            // Nothing more is to be seen until a list has put it right.
            self.looking = None;
        }
        let tells = found != Ok(Inspection::Intact);
        if tells {
            self.found = Some(found);
        }
        if (tells || shortage != self.told || self.law().has_taken_back())
            && let Some(rope) = &self.rope
        {
            rope.ring();
        }
    }

    /// What is found, and what room is lacking, where it is time to look.
    fn find(&mut self) -> Option<(Result<Inspection, FirewallError>, Option<String>)> {
        let mut backend = lock(&self.backend);
        let backend = backend.as_mut()?;
        let found = self.looking.as_mut()?.look(backend.as_mut(), Timestamp::now())?;
        Some((found, backend.shortage()))
    }

    /// The reply, or none: after a part that is not the last one, or when it was sent in parts already.
    fn answer(&mut self, request: Request) -> io::Result<Option<Reply>> {
        Ok(Some(match request {
            Request::Open(which) => self.open(which),
            Request::Sync { at, last, mut entries } => {
                self.entries.append(&mut entries);
                within_bounds(self.entries.len())?;
                if !last {
                    return Ok(None);
                }
                self.sync(at)
            }
            Request::Apply { at, last, mut changes } => {
                self.changes.append(&mut changes);
                within_bounds(self.changes.len())?;
                if !last {
                    return Ok(None);
                }
                self.apply(at)
            }
            Request::Inspect { at } => self.inspect(at),
            Request::Remove(which) => self.remove(which),
            Request::Held(which) => return self.held(which),
            Request::Look { which, scopes } => return self.look(which, &scopes.into_iter().collect()),
            Request::Traces(which) => match self.settings(which) {
                Ok(settings) => Reply::Backends(firewall::traces(&settings)),
                Err(why) => Reply::Failed(why),
            },
            Request::Recall(chain) => self.law().recall(&chain).map_or_else(Reply::Failed, Reply::Backends),
            Request::Handshake(address) => has_shaken(address).map_or_else(Reply::Failed, Reply::Handshake),
            Request::Reread => {
                let reread = self.law().reread();
                reread.map_or_else(Reply::Failed, |()| self.done(Timestamp::now(), None))
            }
        }))
    }

    fn law(&self) -> MutexGuard<'_, Law> {
        lock(&self.law)
    }

    fn settings(&self, which: Which) -> Result<Settings, String> {
        self.law().settings(which.settings).map(|settings| Settings { backend: which.backend, ..settings })
    }

    /// To look at what is left, or take it out, the brain may name any backend; to enforce, one that the configuration has.
    fn settings_to_open(&self, which: Which) -> Result<Settings, String> {
        let wanted = self.law().settings(which.settings)?;
        let fits = match wanted.backend {
            Choice::Auto => true,
            Choice::Iptables => matches!(which.backend, Choice::Iptables | Choice::Plain),
            other => which.backend == other,
        };
        if !fits {
            return Err("the enforcer refuses a backend that the configuration does not have".to_owned());
        }
        Ok(Settings { backend: which.backend, ..wanted })
    }

    fn open(&mut self, which: Which) -> Reply {
        *lock(&self.backend) = None;
        (self.looking, self.found) = (None, None);
        self.session = self.session.wrapping_add(1);
        let settings = match self.settings_to_open(which) {
            Ok(settings) => settings,
            Err(why) => return Reply::Failed(why),
        };
        match firewall::open_ending_flows(&settings) {
            Ok((backend, why)) => {
                let name = Choice::named(backend.name()).unwrap_or(Choice::None);
                *lock(&self.backend) = Some(backend);
                Reply::Opened { session: self.session, backend: name, why }
            }
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    /// Works with the backend of this session. A daemon that opens another one may still be ending its work with the last.
    fn of_session<T>(&self, session: u32, work: impl FnOnce(&mut dyn Backend) -> T) -> Result<T, Reply> {
        let mut backend = lock(&self.backend);
        let current = backend.as_mut().filter(|_| session == self.session);
        let gone = || Reply::Failed("this backend is no longer in use".to_owned());
        current.map(|backend| work(backend.as_mut())).ok_or_else(gone)
    }

    fn sync(&mut self, at: At) -> Reply {
        let (mut entries, mut refusals) = (std::mem::take(&mut self.entries), Refusals::default());
        if let Err(reply) = self.of_session(at.session, |_| ()) {
            return reply;
        }
        self.sessions.look_up();
        self.law().permit_list(&mut entries, &mut refusals);
        match self.of_session(at.session, |backend| backend.sync(&entries, at.now)) {
            Ok(Ok(())) => {
                self.look_from_now_on();
                self.done(at.now, refusals.all())
            }
            Ok(Err(error)) => Reply::Failed(error.to_string()),
            Err(reply) => reply,
        }
    }

    /// All is as it should be; where anything is enforced, it is to stay so.
    fn look_from_now_on(&mut self) {
        self.found = None;
        let backend = lock(&self.backend);
        let enforcing = backend.as_ref().filter(|backend| Choice::named(backend.name()) != Some(Choice::None));
        self.looking = enforcing.map(|backend| Looking::after(backend.as_ref()));
    }

    fn apply(&mut self, at: At) -> Reply {
        let (mut changes, mut refusals) = (std::mem::take(&mut self.changes), Refusals::default());
        if let Err(reply) = self.of_session(at.session, |_| ()) {
            return reply;
        }
        if !self.law().has_room_for(changes.len()) {
            self.sessions.look_up();
        }
        self.law().permit_changes(&mut changes, &mut refusals);
        let applied = self.of_session(at.session, |backend| backend.apply(&changes, at.now));
        self.law().note_fresh(&changes);
        match applied {
            Ok(Ok(())) => self.done(at.now, refusals.all()),
            Ok(Err(FirewallError::Full { ceiling })) => {
                Reply::Full { ceiling: ceiling as u64, refused: refusals.all(), shortage: self.shortage() }
            }
            Ok(Err(error)) => Reply::Failed(error.to_string()),
            Err(reply) => reply,
        }
    }

    fn inspect(&mut self, at: At) -> Reply {
        let found = self.found.take();
        let look = |backend: &mut dyn Backend| found.unwrap_or_else(|| look_over(backend, at.now));
        let found = match self.of_session(at.session, look) {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        self.law().tend();
        match found {
            Ok(Inspection::Intact) => {
                let taken_back = self.law().taken_back();
                self.done(at.now, taken_back)
            }
            Ok(Inspection::Mended(what)) => Reply::Mended(what),
            Ok(Inspection::Damaged(what)) => Reply::Damaged(what),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    fn done(&mut self, now: Timestamp, refused: Option<Refused>) -> Reply {
        let installed = lock(&self.backend).as_mut().map(|backend| backend.installed(now));
        if let Some(installed) = installed {
            self.law().budget.holds(installed);
        }
        Reply::Done { installed: installed.unwrap_or(0) as u64, refused, shortage: self.shortage() }
    }

    /// To be told.
    fn shortage(&mut self) -> Option<String> {
        self.told = lock(&self.backend).as_ref().and_then(|backend| backend.shortage());
        self.told.clone()
    }

    fn remove(&mut self, which: Which) -> Reply {
        let opened = self.settings(which).and_then(|settings| firewall::open(&settings).map_err(|why| why.to_string()));
        match opened.and_then(|(mut backend, _)| backend.remove().map_err(|why| why.to_string())) {
            Ok(()) => Reply::Done { installed: 0, refused: None, shortage: None },
            Err(why) => Reply::Failed(why),
        }
    }

    fn held(&mut self, which: Which) -> io::Result<Option<Reply>> {
        let opened = self.settings(which).and_then(|settings| firewall::open(&settings).map_err(|why| why.to_string()));
        match opened.and_then(|(mut backend, _)| backend.held(Timestamp::now()).map_err(|why| why.to_string())) {
            Ok(entries) => {
                let mut parts = entries.chunks(PART);
                let rest = parts.next_back().unwrap_or_default().to_vec();
                for part in parts {
                    self.lane.send(&Reply::Entries { last: false, entries: part.to_vec() })?;
                }
                Ok(Some(Reply::Entries { last: true, entries: rest }))
            }
            Err(why) => Ok(Some(Reply::Failed(why))),
        }
    }

    fn look(&mut self, which: Which, scopes: &BTreeSet<Scope>) -> io::Result<Option<Reply>> {
        let settings = match self.settings(which) {
            Ok(settings) => settings,
            Err(why) => return Ok(Some(Reply::Failed(why))),
        };
        let (mut part, mut sent) = (Vec::with_capacity(PART), Ok(()));
        let looked: Result<(), FirewallError> = firewall::look(&settings, scopes, &mut |seen| {
            if part.len() == PART && sent.is_ok() {
                sent = self.lane.send(&Reply::Seen { last: false, seen: std::mem::take(&mut part) });
            }
            part.push(Noted {
                set: seen.set.to_owned(),
                prefix: seen.prefix,
                scope: seen.scope.clone(),
                left: seen.left,
                count: seen.count,
            });
        });
        sent?;
        Ok(Some(match looked {
            Ok(()) => Reply::Seen { last: true, seen: part },
            Err(error) => Reply::Failed(error.to_string()),
        }))
    }
}
