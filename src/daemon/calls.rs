//! What people ask over the control socket. A ban or unban is acknowledged once it is durable and in the kernel.

use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::guard::Guard;
use crate::control::server::{Answer, Call, Peer};
use crate::control::{Allowed, Command, Granted, Listed, Origin, Reply};
use crate::ledger::{Ban, Ended, List};
use crate::pipeline::Outcome;
use crate::pipeline::event::Shown;
use crate::policy::allowlist::Why;
use crate::policy::grant::Grant;
use crate::policy::prefix::overlap;
use crate::text::{escape, plural};
use crate::time::{Length, Timestamp, Until, format_duration};

/// How long an acknowledgement is waited for before the client is told that it is still open.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest reason or comment that is kept, in characters.
const MAX_REASON: usize = 200;

type Ack = oneshot::Receiver<Result<(), String>>;

impl Guard {
    pub(super) async fn on_call(&mut self, call: Call) {
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
                audit(peer, "reload");
                let answered = self.reload().await;
                reply(answer, Answer::Reply(answered));
            }
            Command::Ban { prefix, seconds, reason } => {
                audit(peer, &format!("ban {}", Shown(prefix)));
                let length = seconds.map_or(Length::Forever, |s| Length::For(Duration::from_secs(s)));
                let reason: String = reason.chars().take(MAX_REASON).collect();
                let result = self.pipeline.ban(prefix.trunc(), length, &reason, Timestamp::now());
                let message = format!("banned {}", Shown(prefix));
                self.conclude(result.map(|outcome| (outcome, message, Vec::new())), answer);
            }
            Command::Unban { prefixes, all, allow } => {
                audit(peer, &if all { "unban --all".to_owned() } else { format!("unban {}", shown(&prefixes)) });
                let grant = allow.map(|seconds| grant(peer, Some(seconds), "unbanned"));
                let result = self.unban(&prefixes, all, grant.as_ref());
                self.conclude(result, answer);
            }
            Command::Allow { prefix, seconds, comment } => {
                audit(peer, &format!("allow {}", Shown(prefix)));
                let result = self.allow(prefix.trunc(), &grant(peer, seconds, &comment));
                self.conclude(result, answer);
            }
            Command::Disallow { prefix } => {
                audit(peer, &format!("no longer allow {}", Shown(prefix)));
                let result = self.pipeline.revoke(prefix.trunc(), Timestamp::now());
                let message = format!("{} is no longer allowed by hand", Shown(prefix));
                self.conclude(result.map(|()| (Outcome::default(), message, Vec::new())), answer);
            }
            Command::Allowed => reply(answer, self.allowed()),
            Command::Import { name, prefixes, seconds, .. } => {
                audit(peer, &format!("import list '{name}' with {} prefixes", prefixes.len()));
                let result = self.import(&name, prefixes, seconds);
                self.conclude(result, answer);
            }
            Command::TakeOver { from, bans, .. } => {
                let from: String = from.chars().take(MAX_REASON).collect();
                audit(peer, &format!("take over {} of {}", plural(bans.len() as u64, "ban"), escape(&from)));
                let (outcome, taken) = self.pipeline.take_over(bans, &from, Timestamp::now());
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
        let message = match grant.and_then(|grant| grant.until.remaining(now)) {
            Some(length) => format!("{done}; not to be banned for {}", format_duration(length)),
            None => done,
        };
        Ok((outcome, message, Vec::new()))
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

    fn import(&mut self, name: &str, prefixes: Vec<IpNet>, seconds: Option<u64>) -> Result<Done, String> {
        if name.starts_with(crate::pipeline::BLOCKLIST) || name.is_empty() || name.len() > 100 {
            return Err(format!("'{name}' cannot be the name of a list"));
        }
        let now = Timestamp::now();
        let until = seconds.map_or(Until::Forever, |s| Until::At(now + Duration::from_secs(s)));
        let (outcome, refused) = self.pipeline.import(name, prefixes, until, now)?;
        let message = outcome.events.first().map(|event| event.text.clone()).unwrap_or_default();
        Ok((outcome, message, refused))
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
        tokio::spawn(async move {
            let both = async { (outcome_of(disk).await, outcome_of(kernel).await) };
            let failed = match tokio::time::timeout(PATIENCE, both).await {
                Ok((Ok(()), Ok(()))) => None,
                Ok((Err(why), _)) => Some(format!("not safely recorded: {why}")),
                Ok((_, Err(why))) => Some(format!("recorded, but {why}")),
                Err(_) => Some("recorded, but not confirmed yet; see `banctl status`".to_owned()),
            };
            let answered = match failed {
                Some(message) => Reply::Refused { message },
                None => Reply::Done { message, warnings },
            };
            reply(answer, Answer::Reply(answered));
        });
    }
}

/// What was done, in a sentence, and what was left out.
type Done = (Outcome, String, Vec<String>);

async fn outcome_of(ack: Ack) -> Result<(), String> {
    ack.await.unwrap_or_else(|_| Err("the daemon is stopping".to_owned()))
}

pub(super) fn reply(answer: oneshot::Sender<Answer>, with: Answer) {
    // A client that went away does not want its answer any more.
    let _gone = answer.send(with);
}

/// Who changed something stands in the log.
fn audit(peer: Peer, what: &str) {
    log::info!("asked by uid={} pid={}: {what}", peer.uid, peer.pid);
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
