//! What people ask over the control socket. A ban or unban is acknowledged once it is durable and in the kernel.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::guard::{Ears, Guard};
use crate::config::Mode;
use crate::control::server::{Answer, Call, Peer};
use crate::control::{Allowed, Command, Granted, Listed, Origin, Reply};
use crate::firewall::task::Progress;
use crate::ledger::{Ban, Change, Ended, List, MANUAL};
use crate::pipeline::Outcome;
use crate::pipeline::event::{Event, Shown};
use crate::policy::allowlist::Why;
use crate::policy::grant::Grant;
use crate::policy::prefix::overlap;
use crate::text::{escape, plural};
use crate::time::{Length, Timestamp, Until, format_duration};

/// An acknowledgement is waited for as long as the firewall goes on. When it has not for so long, the client is told that
/// it is still open.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest reason or comment that is kept, in characters.
const MAX_REASON: usize = 200;

pub(super) type Ack = oneshot::Receiver<Result<(), String>>;

impl Guard {
    pub(super) fn on_call(&mut self, call: Call, ears: &mut Ears) {
        let Call { command, peer, answer } = call;
        match command {
            Command::List { jail, counters: false } if self.has_room() => {
                let listed = |ban| Listed { ban, dropped: None, in_force: None };
                reply(answer, Answer::Bans(self.list(jail.as_deref()).map(listed).collect()));
            }
            Command::List { jail, counters } => {
                self.count_bans(self.list(jail.as_deref()).collect(), counters, answer);
            }
            Command::Status => self.count_status(self.status(), answer),
            Command::Why { prefix } => self.why(prefix.trunc(), answer),
            Command::History { prefix } => reply(answer, self.history(prefix.as_ref())),
            Command::Events => reply(answer, Answer::Follow(self.chronicle.follow())),
            Command::Reload => {
                self.chronicle.audit(peer, "reload");
                let answered = self.reload(ears);
                reply(answer, Answer::Reply(answered));
            }
            Command::Ban { prefix, seconds, reason } => {
                self.chronicle.audit(peer, &format!("ban {}", Shown(prefix)));
                let length = seconds.map_or(Length::Forever, |s| Length::For(Duration::from_secs(s)));
                let reason: String = reason.chars().take(MAX_REASON).collect();
                let result = self.pipeline.ban(prefix.trunc(), length, &reason, Timestamp::now());
                let result = result.map(|outcome| self.insist(outcome, &[prefix]));
                let message = match self.config.daemon.mode {
                    Mode::Enforce => format!("banned {}", Shown(prefix)),
                    Mode::Observe => format!("would ban {}: observing, nothing is enforced", Shown(prefix)),
                };
                self.conclude(result.map(|outcome| (outcome, message, self.stays_banned(prefix, length))), answer);
            }
            Command::Unban { prefixes, all, allow } => {
                self.chronicle
                    .audit(peer, &if all { "unban --all".to_owned() } else { format!("unban {}", shown(&prefixes)) });
                let grant = allow.map(|seconds| grant(peer, Some(seconds), "unbanned"));
                let result = self.unban(&prefixes, all, grant.as_ref());
                self.conclude(result, answer);
            }
            Command::Allow { prefix, seconds, comment } => {
                self.chronicle.audit(peer, &format!("allow {}", Shown(prefix)));
                let result = self.allow(prefix.trunc(), &grant(peer, seconds, &comment));
                self.conclude(result, answer);
            }
            Command::Disallow { prefix } => {
                self.chronicle.audit(peer, &format!("no longer allow {}", Shown(prefix)));
                let result = self.pipeline.revoke(prefix.trunc(), Timestamp::now());
                let message = format!("{} is no longer allowed by hand", Shown(prefix));
                self.conclude(result.map(|()| (Outcome::default(), message, Vec::new())), answer);
            }
            Command::Allowed => reply(answer, self.allowed()),
            Command::Import { name, prefixes, seconds, .. } => {
                self.chronicle.audit(peer, &format!("import list '{name}' with {} prefixes", prefixes.len()));
                self.import(name, prefixes, seconds, answer);
            }
            Command::TakeOver { from, bans, .. } => {
                let from: String = from.chars().take(MAX_REASON).collect();
                self.chronicle
                    .audit(peer, &format!("take over {} of {}", plural(bans.len() as u64, "ban"), escape(&from)));
                let lacks = self.firewall.lacks();
                let wanted: Vec<IpNet> = bans.iter().filter(|_| lacks).map(|ban| ban.prefix).collect();
                let (outcome, taken) = self.pipeline.take_over(bans, &from, Timestamp::now());
                let outcome = self.insist(outcome, &wanted);
                self.conclude(Ok((outcome, taken.summary(), taken.refused)), answer);
            }
        }
    }

    fn list(&self, jail: Option<&str>) -> impl Iterator<Item = Ban> {
        let wanted = move |name: &str| jail.is_none_or(|jail| jail == name);
        let bans = self.pipeline.ledger.bans().filter(move |ban| wanted(&ban.jail));
        bans.chain(self.pipeline.ledger.lists().flat_map(List::bans).filter(move |ban| wanted(&ban.jail)))
    }

    /// Ended bans of a prefix, of what lies within it, and of what it lies within: an address of IPv6 is banned by its
    /// network.
    fn history(&self, prefix: Option<&IpNet>) -> Answer {
        let wanted = |ended: &&Ended| prefix.is_none_or(|prefix| overlap(*prefix, ended.ban.prefix));
        Answer::Rows(self.pipeline.ledger.ended().filter(wanted).cloned().map(Reply::Ended).collect())
    }

    fn unban(&mut self, prefixes: &[IpNet], all: bool, grant: Option<&Grant>) -> Result<Done, String> {
        let now = Timestamp::now();
        let (outcome, done) = if all {
            let outcome = self.pipeline.unban_all(grant, now)?;
            let ended = plural(outcome.events.len() as u64, "ban");
            (outcome, format!("ended {ended}"))
        } else {
            (self.pipeline.unban(prefixes, grant, now)?, format!("unbanned {}", shown(prefixes)))
        };
        let message = match grant.and_then(|grant| grant.until.remaining(grant.since)) {
            Some(length) => format!("{done}; not to be banned for {}", format_duration(length)),
            None => done,
        };
        // A grant ends wider bans too, and with them those of others.
        let is_other = |event: &&Event| !all && event.prefix.is_some_and(|ended| !prefixes.contains(&ended));
        let others = outcome.events.iter().filter(is_other).map(|event| event.text.clone()).collect();
        Ok((outcome, message, others))
    }

    /// Says so where a ban by hand was there for longer already: asking again never shortens it.
    fn stays_banned(&self, prefix: IpNet, length: Length) -> Vec<String> {
        let asked = length.from(Timestamp::now());
        let bans = self.pipeline.ledger.bans_of(&prefix.trunc()).into_iter();
        let longer = bans.filter(|ban| &*ban.jail == MANUAL && ban.until > asked);
        let says = |ban: Ban| match ban.until {
            Until::Forever => "it was banned for ever already, and stays so; unban it first to shorten that".to_owned(),
            Until::At(end) => {
                format!("it was banned until {end} already, and stays so; unban it first to shorten that")
            }
        };
        longer.map(says).collect()
    }

    fn allow(&mut self, prefix: IpNet, grant: &Grant) -> Result<Done, String> {
        let outcome = self.pipeline.grant(prefix, grant, grant.since)?;
        // An earlier grant may last longer than this one.
        let grants = &mut self.pipeline.ledger.grants();
        let until = grants.find(|(granted, _)| **granted == prefix).map_or(grant.until, |(_, grant)| grant.until);
        let length = match until.remaining(grant.since) {
            Some(length) => format!("for {}", format_duration(length)),
            None => "for ever".to_owned(),
        };
        let lifted = match outcome.events.len() {
            0 => String::new(),
            lifted => format!("; lifted {}", plural(lifted as u64, "ban")),
        };
        Ok((outcome, format!("allowed {} {length}{lifted}", Shown(prefix)), Vec::new()))
    }

    /// Everything that is never banned: as configured, as protected, as allowed by hand.
    fn allowed(&self) -> Answer {
        let now = Timestamp::now();
        let standing = self.pipeline.allowlist.without_grants().map(|allowed| {
            let (origin, kind) = match allowed.why {
                Why::Protected(kind) => (Origin::Protected, Some(kind.word().to_owned())),
                Why::Given | Why::Granted(_) => (Origin::Config, None),
            };
            Allowed { prefix: allowed.network, origin, kind, grant: None }
        });
        let grants = self.pipeline.ledger.grants().filter(|(_, grant)| !grant.until.is_over(now));
        let granted = grants.map(|(prefix, grant)| {
            let Grant { since, until, by, comment } = grant.clone();
            let grant = Some(Granted { since, until, by, comment });
            Allowed { prefix: *prefix, origin: Origin::Hand, kind: None, grant }
        });
        Answer::Rows(standing.chain(granted).map(Reply::Allowed).collect())
    }

    /// Has the kernel asked for what stands already, too: that it was wanted before does not mean that it is in force.
    fn insist(&self, mut outcome: Outcome, prefixes: &[IpNet]) -> Outcome {
        let now = Timestamp::now();
        let changed: HashSet<IpNet> = outcome.changes.iter().map(Change::prefix).collect();
        let unchanged = prefixes.iter().filter(|prefix| !changed.contains(&prefix.trunc()));
        let wanted = unchanged.flat_map(|prefix| self.pipeline.ledger.wanted_around(prefix));
        outcome.changes.extend(wanted.filter(|entry| !entry.until.is_over(now)).map(Change::Set));
        outcome
    }

    /// Enacts what was decided and answers once ledger and kernel both have it.
    fn conclude(&mut self, result: Result<Done, String>, answer: oneshot::Sender<Answer>) {
        let (outcome, message, warnings) = match result {
            Ok(done) => done,
            Err(message) => return reply(answer, Answer::Reply(Reply::Refused { message })),
        };
        let Outcome { changes, events, .. } = outcome;
        let (in_kernel, kernel) = oneshot::channel();
        let (on_disk, disk) = oneshot::channel();
        self.send(changes, Some(in_kernel));
        self.store(Some(on_disk));
        self.chronicle.tell_all(events);
        let progress = self.firewall.progress();
        answer_once_done(disk, vec![kernel], progress, Reply::Done { message, warnings }, answer);
    }
}

/// Answers with `done` once it is durable and all parts of it are in the kernel; else with what failed first.
pub(super) fn answer_once_done(
    disk: Ack,
    kernel: Vec<Ack>,
    progress: Progress,
    done: Reply,
    answer: oneshot::Sender<Answer>,
) {
    tokio::spawn(async move {
        let both = async { (outcome_of(disk).await, outcome_of_all(kernel).await) };
        let failed = match while_it_goes_on(both, &progress, PATIENCE).await {
            Some((Ok(()), Ok(()))) => None,
            Some((Err(why), _)) => Some(format!("not safely recorded: {why}")),
            Some((_, Err(why))) => Some(format!("recorded, but {why}")),
            None => Some("recorded, but not confirmed yet; see `banctl status`".to_owned()),
        };
        reply(answer, Answer::Reply(failed.map_or(done, |message| Reply::Refused { message })));
    });
}

/// What was done, in a sentence, and what was left out.
type Done = (Outcome, String, Vec<String>);

/// Waits while the firewall goes on, in whatever parts; `None` once it has not for so long.
async fn while_it_goes_on<T>(work: impl Future<Output = T>, progress: &Progress, patience: Duration) -> Option<T> {
    let mut work = pin!(work);
    let mut before = progress.now();
    loop {
        if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
            return Some(done);
        }
        if std::mem::replace(&mut before, progress.now()) == before {
            return None;
        }
    }
}

async fn outcome_of_all(acks: Vec<Ack>) -> Result<(), String> {
    let mut all = Ok(());
    for ack in acks {
        all = all.and(outcome_of(ack).await);
    }
    all
}

async fn outcome_of(ack: Ack) -> Result<(), String> {
    ack.await.unwrap_or_else(|_| Err("the daemon is stopping".to_owned()))
}

pub(super) fn reply(answer: oneshot::Sender<Answer>, with: Answer) {
    // A client that went away does not want its answer any more.
    let _gone = answer.send(with);
}

/// What this person allows from now on, for so many seconds or for ever.
fn grant(peer: Peer, seconds: Option<u64>, comment: &str) -> Grant {
    let since = Timestamp::now();
    let until = seconds.map_or(Until::Forever, |seconds| Until::At(since + Duration::from_secs(seconds)));
    let comment: String = comment.chars().take(MAX_REASON).collect();
    Grant { since, until, by: Some(peer.uid), comment: comment.into() }
}

fn shown(prefixes: &[IpNet]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = prefixes.iter().take(NAMED).map(|prefix| Shown(*prefix).to_string()).collect();
    match prefixes.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{} and {more} more", named.join(" ")),
        _ => named.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_as_long_as_the_firewall_goes_on_and_no_longer() {
        const PATIENCE: Duration = Duration::from_millis(200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let long = || tokio::time::sleep(PATIENCE * 4);
        let progress = Progress::default();
        assert!(runtime.block_on(async { while_it_goes_on(long(), &progress, PATIENCE).await }).is_none());
        let going_on = async {
            loop {
                tokio::time::sleep(PATIENCE / 4).await;
                progress.made();
            }
        };
        let waited = runtime.block_on(async {
            tokio::select! {
                waited = while_it_goes_on(long(), &progress, PATIENCE) => waited,
                () = going_on => None,
            }
        });
        assert!(waited.is_some());
    }
}
