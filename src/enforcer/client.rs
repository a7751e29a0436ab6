//! The brain's end: what it may ask the enforcer for, and a [`Backend`] whose work the enforcer does.

use std::io;
use std::net::IpAddr;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::fingerprint;
use super::lane::Lane;
use super::message::{At, PART, Reply, Request, Which};
use crate::firewall::{Backend, Choice, FirewallError, Inspection, Opened, Refused, Seen, Settings};
use crate::ledger::{Change, Entry, Scope};
use crate::text::word_of;
use crate::time::Timestamp;

/// Longest wait for an answer: a tool may take 20 s, and several of them stand behind one request.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long after another process one is heard of that follows it.
const FOLLOWING: Duration = Duration::from_millis(300);

/// Names of the other processes.
pub(super) const ENFORCER: &str = "enforcer";
pub(super) const WITNESS: &str = "witness";

/// The enforcer, to whom many threads may speak.
#[derive(Clone, Debug)]
pub(crate) struct Enforcer(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    /// For the task that owns the backend.
    bans: Mutex<Lane>,
    /// For everything that must not keep a ban waiting.
    questions: Mutex<Lane>,
    gone: Notify,
    /// Which process is gone, if one is.
    is_gone: OnceLock<&'static str>,
}

type Answered<T> = Result<T, FirewallError>;

impl Enforcer {
    pub(super) fn at(bans: Lane, questions: Lane) -> io::Result<Enforcer> {
        bans.set_patience(PATIENCE)?;
        questions.set_patience(PATIENCE)?;
        let (bans, questions) = (Mutex::new(bans), Mutex::new(questions));
        Ok(Enforcer(Arc::new(Ends { bans, questions, gone: Notify::new(), is_gone: OnceLock::new() })))
    }

    /// Waits until one of the other processes is gone; which. The daemon must not live on without it.
    pub(crate) async fn gone(&self) -> &'static str {
        self.0.gone.notified().await;
        self.0.is_gone.get().copied().unwrap_or(ENFORCER)
    }

    /// Notices when a process ends, however it does.
    pub(super) fn watch(&self, name: &'static str, mut child: Child) -> io::Result<()> {
        let watched = self.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // One that ended because another had ended before is not the one to be named.
            if child.wait().is_ok_and(|status| status.success()) {
                std::thread::sleep(FOLLOWING);
            }
            watched.lost(name);
        })?;
        Ok(())
    }

    /// To be said by whoever notices; the first counts, as the others follow it.
    fn lost(&self, name: &'static str) {
        let _known = self.0.is_gone.set(name);
        self.0.gone.notify_one();
    }

    /// Opens the backend that is wanted, or the one that works here.
    pub(crate) fn open(&self, settings: &Settings) -> Answered<Opened> {
        let which = which(settings);
        match self.talk(&self.0.bans)?.ask(&Request::Open(which))? {
            Reply::Opened { session, backend, why } => {
                let (enforcer, installed, refused, shortage) = (self.clone(), 0, None, None);
                let remote = Remote { enforcer, which, backend, session, installed, refused, shortage };
                Ok((Box::new(remote), why))
            }
            other => Err(self.unexpected(other)),
        }
    }

    /// See [`crate::firewall::look`].
    pub(crate) fn look<'s>(
        &self,
        settings: &Settings,
        scopes: impl IntoIterator<Item = &'s Scope>,
        each: &mut dyn FnMut(Seen<'_>),
    ) -> Answered<()> {
        let scopes: Vec<Scope> = scopes.into_iter().cloned().collect();
        for part in scopes.chunks(PART) {
            let mut talk = self.talk(&self.0.questions)?;
            let mut reply = talk.ask(&Request::Look { which: which(settings), scopes: part.to_vec() })?;
            loop {
                let Reply::Seen { last, seen } = reply else { return Err(self.unexpected(reply)) };
                for noted in &seen {
                    let (set, prefix, scope) = (noted.set.as_str(), noted.prefix, &noted.scope);
                    each(Seen { set, prefix, scope, left: noted.left, count: noted.count });
                }
                if last {
                    break;
                }
                reply = talk.receive()?;
            }
        }
        Ok(())
    }

    /// The backends that have left something of ours in the kernel.
    pub(crate) fn traces(&self, settings: &Settings) -> Answered<Vec<Choice>> {
        match self.talk(&self.0.questions)?.ask(&Request::Traces(which(settings)))? {
            Reply::Backends(backends) => Ok(backends),
            other => Err(self.unexpected(other)),
        }
    }

    /// What the kernel holds by these rules, also of an earlier process.
    pub(crate) fn held(&self, settings: &Settings) -> Answered<Vec<Entry>> {
        self.held_by(which(settings))
    }

    fn held_by(&self, which: Which) -> Answered<Vec<Entry>> {
        let mut talk = self.talk(&self.0.questions)?;
        let mut reply = talk.ask(&Request::Held(which))?;
        let mut held = Vec::new();
        loop {
            let Reply::Entries { last, entries } = reply else { return Err(self.unexpected(reply)) };
            held.extend(entries);
            if last {
                return Ok(held);
            }
            reply = talk.receive()?;
        }
    }

    /// Takes out everything that these rules made.
    pub(crate) fn remove(&self, settings: &Settings) -> Answered<()> {
        self.remove_on(&self.0.questions, which(settings))
    }

    fn remove_on(&self, lane: &Mutex<Lane>, which: Which) -> Answered<()> {
        match self.talk(lane)?.ask(&Request::Remove(which))? {
            Reply::Done { .. } => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    /// Whether this address has completed a TCP handshake with this machine; the error is for people.
    pub(crate) fn has_shaken(&self, address: IpAddr) -> Result<bool, String> {
        let talked = self.talk(&self.0.questions).and_then(|mut talk| talk.ask(&Request::Handshake(address)));
        match talked.map_err(|why| why.to_string())? {
            Reply::Handshake(seen) => Ok(seen),
            Reply::Failed(why) => Err(why),
            other => Err(self.unexpected(other).to_string()),
        }
    }

    /// Has the enforcer read the configuration too.
    pub(crate) fn reread(&self) -> Answered<()> {
        match self.talk(&self.0.questions)?.ask(&Request::Reread)? {
            Reply::Done { .. } => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn talk<'a>(&'a self, lane: &'a Mutex<Lane>) -> Answered<Talk<'a>> {
        let lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes on a lane after something went wrong would answer another question.
        if self.0.is_gone.get().is_some() {
            return Err(FirewallError::EnforcerGone);
        }
        Ok(Talk { enforcer: self, lane })
    }

    fn unexpected(&self, reply: Reply) -> FirewallError {
        if let Reply::Failed(said) = reply {
            return FirewallError::Enforcer { said };
        }
        self.lost(ENFORCER);
        FirewallError::EnforcerGone
    }
}

fn which(settings: &Settings) -> Which {
    Which { settings: fingerprint(settings), backend: settings.backend }
}

/// One conversation; nobody else uses the lane meanwhile.
struct Talk<'a> {
    enforcer: &'a Enforcer,
    lane: MutexGuard<'a, Lane>,
}

impl Talk<'_> {
    fn ask(&mut self, request: &Request) -> Answered<Reply> {
        self.send(request)?;
        self.receive()
    }

    fn send(&mut self, request: &Request) -> Answered<()> {
        let sent = self.lane.send(request);
        sent.map_err(|_| self.lost())
    }

    fn receive(&mut self) -> Answered<Reply> {
        let received = self.lane.receive();
        received.ok().flatten().ok_or_else(|| self.lost())
    }

    fn lost(&self) -> FirewallError {
        self.enforcer.lost(ENFORCER);
        FirewallError::EnforcerGone
    }
}

/// The backend at work in the enforcer.
struct Remote {
    enforcer: Enforcer,
    which: Which,
    backend: Choice,
    session: u32,
    installed: u64,
    /// What the enforcer refused, until that is asked for.
    refused: Option<Refused>,
    shortage: Option<String>,
}

impl Remote {
    /// Sends a request in parts and takes its one answer.
    fn in_parts<T: Clone>(&mut self, items: &[T], request: impl Fn(bool, Vec<T>) -> Request) -> Answered<()> {
        let enforcer = self.enforcer.clone();
        let mut talk = enforcer.talk(&enforcer.0.bans)?;
        let mut parts = items.chunks(PART);
        let rest = parts.next_back().unwrap_or_default();
        for part in parts {
            talk.send(&request(false, part.to_vec()))?;
        }
        let reply = talk.ask(&request(true, rest.to_vec()))?;
        self.done(reply)
    }

    fn done(&mut self, reply: Reply) -> Answered<()> {
        match reply {
            Reply::Done { installed, refused, shortage } => {
                (self.installed, self.shortage) = (installed, shortage);
                Refused::add(&mut self.refused, refused);
                Ok(())
            }
            Reply::Full { ceiling, refused, shortage } => {
                self.shortage = shortage;
                Refused::add(&mut self.refused, refused);
                Err(FirewallError::Full { ceiling: usize::try_from(ceiling).unwrap_or(usize::MAX) })
            }
            other => Err(self.enforcer.unexpected(other)),
        }
    }
}

impl Backend for Remote {
    fn name(&self) -> &'static str {
        word_of(&Choice::WORDS, &self.backend)
    }

    fn sync(&mut self, entries: &[Entry], now: Timestamp) -> Answered<()> {
        let at = At { session: self.session, now };
        self.refused = None;
        self.in_parts(entries, |last, entries| Request::Sync { at, last, entries })
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Answered<()> {
        let at = At { session: self.session, now };
        self.in_parts(changes, |last, changes| Request::Apply { at, last, changes })
    }

    fn inspect(&mut self, now: Timestamp) -> Answered<Inspection> {
        let (enforcer, at) = (self.enforcer.clone(), At { session: self.session, now });
        match enforcer.talk(&enforcer.0.bans)?.ask(&Request::Inspect { at })? {
            Reply::Mended(what) => Ok(Inspection::Mended(what)),
            Reply::Damaged(what) => Ok(Inspection::Damaged(what)),
            Reply::Done { installed, refused, shortage } => {
                (self.installed, self.shortage) = (installed, shortage);
                Refused::add(&mut self.refused, refused);
                Ok(Inspection::Intact)
            }
            other => Err(self.enforcer.unexpected(other)),
        }
    }

    fn glance(&mut self) -> Option<bool> {
        let enforcer = self.enforcer.clone();
        let reply =
            enforcer.talk(&enforcer.0.bans).and_then(|mut talk| talk.ask(&Request::Glance { session: self.session }));
        match reply {
            Ok(Reply::Glance(changed)) => changed,
            // The look that is due sooner or later says what is wrong.
            _ => None,
        }
    }

    fn shortage(&self) -> Option<String> {
        self.shortage.clone()
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        usize::try_from(self.installed).unwrap_or(usize::MAX)
    }

    fn held(&mut self, _now: Timestamp) -> Answered<Vec<Entry>> {
        self.enforcer.held_by(Which { backend: self.backend, ..self.which })
    }

    fn refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    fn remove(&mut self) -> Answered<()> {
        let which = Which { backend: self.backend, ..self.which };
        self.enforcer.remove_on(&self.enforcer.0.bans, which)
    }
}
