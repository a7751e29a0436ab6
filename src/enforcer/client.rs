//! The brain's end: what it may ask the enforcer for, and a [`Backend`] whose work the enforcer does.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::fingerprint;
use super::lane::Lane;
use super::message::{At, PART, Reply, Request, Which};
use crate::firewall::{Backend, Choice, FirewallError, Inspection, Opened, Refused, Seen, Settings};
use crate::ledger::{Change, Entry, Scope};
use crate::lock::lock;
use crate::text::word_of;
use crate::time::Timestamp;

/// Longest wait for an answer: a tool may take 20 s, and several of them stand behind one request.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often the enforcer is asked whether all is well, though it has not rung.
const HEARTBEAT: Duration = Duration::from_secs(60);

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
    bans: Mutex<Asking>,
    /// For everything that must not keep a ban waiting.
    questions: Mutex<Asking>,
    gone: Notify,
    /// Which process is gone, if one is.
    is_gone: OnceLock<&'static str>,
}

/// A lane, and what was asked on it. Answers come in the order of requests.
#[derive(Debug)]
struct Asking {
    lane: Lane,
    /// How many requests there were so far, and how many of them are answered.
    asked: u64,
    answered: u64,
    /// The requests whose answers are fetched later, and those that came meanwhile.
    ahead: BTreeMap<u64, Option<Reply>>,
}

type Answered<T> = Result<T, FirewallError>;

impl Enforcer {
    pub(super) fn at(bans: Lane, questions: Lane) -> io::Result<Enforcer> {
        bans.set_patience(PATIENCE)?;
        questions.set_patience(PATIENCE)?;
        let asking = |lane| Mutex::new(Asking { lane, asked: 0, answered: 0, ahead: BTreeMap::new() });
        let (bans, questions) = (asking(bans), asking(questions));
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
                let (enforcer, begun, installed) = (self.clone(), VecDeque::new(), 0);
                let (refused, shortage) = (None, None);
                let remote = Remote { enforcer, which, backend, session, begun, installed, refused, shortage };
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

    /// The same of rules whose chain has the name that an earlier configuration had for it.
    pub(crate) fn recall(&self, settings: &Settings) -> Answered<Vec<Choice>> {
        let chain = settings.chain.as_str().to_owned();
        match self.talk(&self.0.questions)?.ask(&Request::Recall(chain))? {
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

    fn remove_on(&self, lane: &Mutex<Asking>, which: Which) -> Answered<()> {
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

    fn talk<'a>(&'a self, lane: &'a Mutex<Asking>) -> Answered<Talk<'a>> {
        let asking = lock(lane);
        // What comes on a lane after something went wrong would answer another question.
        if self.0.is_gone.get().is_some() {
            return Err(FirewallError::EnforcerGone);
        }
        Ok(Talk { enforcer: self, asking })
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
    asking: MutexGuard<'a, Asking>,
}

impl Talk<'_> {
    fn ask(&mut self, request: &Request) -> Answered<Reply> {
        let number = self.ask_ahead(request)?;
        self.fetch(number)
    }

    /// Asks what is answered later, in this conversation or another one: its number is to be [fetched](Talk::fetch), or
    /// [forgotten](Talk::forget).
    fn ask_ahead(&mut self, request: &Request) -> Answered<u64> {
        self.send(request)?;
        self.asking.asked += 1;
        let number = self.asking.asked;
        self.asking.ahead.insert(number, None);
        Ok(number)
    }

    fn fetch(&mut self, number: u64) -> Answered<Reply> {
        while self.asking.answered < number {
            let reply = self.receive()?;
            self.asking.answered += 1;
            let answered = self.asking.answered;
            if let Some(place) = self.asking.ahead.get_mut(&answered) {
                *place = Some(reply);
            }
        }
        self.asking.ahead.remove(&number).flatten().ok_or_else(|| self.lost())
    }

    /// Nobody fetches this answer.
    fn forget(&mut self, number: u64) {
        self.asking.ahead.remove(&number);
    }

    fn send(&mut self, request: &Request) -> Answered<()> {
        let sent = self.asking.lane.send(request);
        sent.map_err(|_| self.lost())
    }

    fn receive(&mut self) -> Answered<Reply> {
        let received = self.asking.lane.receive();
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
    /// What was begun and is not finished, by the numbers of the requests.
    begun: VecDeque<u64>,
    installed: u64,
    /// What the enforcer refused, until that is asked for.
    refused: Option<Refused>,
    shortage: Option<String>,
}

impl Remote {
    /// Sends a request in parts; the number of its one answer.
    fn in_parts<T: Clone>(
        talk: &mut Talk<'_>,
        items: &[T],
        request: impl Fn(bool, Vec<T>) -> Request,
    ) -> Answered<u64> {
        let mut parts = items.chunks(PART);
        let rest = parts.next_back().unwrap_or_default();
        for part in parts {
            talk.send(&request(false, part.to_vec()))?;
        }
        talk.ask_ahead(&request(true, rest.to_vec()))
    }

    fn ask_in_parts<T: Clone>(&mut self, items: &[T], request: impl Fn(bool, Vec<T>) -> Request) -> Answered<()> {
        let enforcer = self.enforcer.clone();
        let mut talk = enforcer.talk(&enforcer.0.bans)?;
        let number = Remote::in_parts(&mut talk, items, request)?;
        let reply = talk.fetch(number)?;
        self.done(reply)
    }

    fn ask_ahead(&mut self, changes: &[Change], now: Timestamp) -> Answered<()> {
        let at = At { session: self.session, now };
        let mut talk = self.enforcer.talk(&self.enforcer.0.bans)?;
        let request = |last, changes| Request::Apply { at, last, changes };
        self.begun.push_back(Remote::in_parts(&mut talk, changes, request)?);
        Ok(())
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
        self.ask_in_parts(entries, |last, entries| Request::Sync { at, last, entries })
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Answered<()> {
        let at = At { session: self.session, now };
        self.ask_in_parts(changes, |last, changes| Request::Apply { at, last, changes })
    }

    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Option<Answered<()>> {
        self.ask_ahead(changes, now).err().map(Err)
    }

    fn works_elsewhere(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Answered<()> {
        let Some(number) = self.begun.pop_front() else { return Ok(()) };
        let enforcer = self.enforcer.clone();
        let reply = enforcer.talk(&enforcer.0.bans)?.fetch(number)?;
        self.done(reply)
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

    /// The enforcer looks by itself and rings: this is to notice one that no longer answers.
    fn look_every(&self) -> Duration {
        HEARTBEAT
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

impl Drop for Remote {
    fn drop(&mut self) {
        if let Ok(mut talk) = self.enforcer.talk(&self.enforcer.0.bans) {
            self.begun.drain(..).for_each(|number| talk.forget(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::firewall::{Chain, OnStop};
    use crate::ledger::Target;

    /// Opens whatever is asked for, and refuses what is to be changed by the first prefix of it.
    fn refuse_all(mut lane: Lane) {
        while let Ok(Some(request)) = lane.receive() {
            let reply = match request {
                Request::Open(which) => Reply::Opened { session: 1, backend: which.backend, why: String::new() },
                Request::Apply { changes, .. } => {
                    let refused = Refused { count: 1, first: changes[0].prefix().addr().to_string() };
                    Reply::Done { installed: 0, refused: Some(refused), shortage: None }
                }
                _ => Reply::Failed(String::new()),
            };
            lane.send(&reply).unwrap();
        }
    }

    fn settings() -> Settings {
        Settings {
            backend: Choice::Iptables,
            chain: Chain::default(),
            hooks: Vec::new(),
            egress: true,
            target: Target::Drop,
            conntrack: false,
            on_stop: OnStop::Keep,
            ceiling: 1,
        }
    }

    #[test]
    fn what_is_begun_is_answered_in_its_turn_and_what_nobody_finishes_is_forgotten() {
        let ((bans, theirs), (questions, _theirs)) = (Lane::pair().unwrap(), Lane::pair().unwrap());
        std::thread::spawn(|| refuse_all(Lane::of(theirs)));
        let enforcer = Enforcer::at(bans, questions).unwrap();
        let (mut backend, _) = enforcer.open(&settings()).unwrap();
        let now = Timestamp::EPOCH;
        let change = |last: u8| {
            [Change::Clear { prefix: IpAddr::from(Ipv4Addr::new(192, 0, 2, last)).into(), scope: Scope::default() }]
        };
        let refused = |backend: &mut dyn Backend| backend.refused().unwrap().first;
        assert!(backend.begin(&change(1), now).is_none() && backend.begin(&change(2), now).is_none());
        backend.apply(&change(3), now).unwrap();
        assert_eq!(refused(backend.as_mut()), "192.0.2.3", "of the ban alone, which came between");
        for first in ["192.0.2.1", "192.0.2.2"] {
            backend.finish().unwrap();
            assert_eq!(refused(backend.as_mut()), first);
        }
        assert!(backend.begin(&change(4), now).is_none());
        drop(backend);
        let (mut backend, _) = enforcer.open(&settings()).unwrap();
        backend.apply(&change(5), now).unwrap();
        assert_eq!(refused(backend.as_mut()), "192.0.2.5");
        assert!(enforcer.0.bans.lock().unwrap().ahead.is_empty());
    }
}
