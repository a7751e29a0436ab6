//! What people ask over the control socket. A ban or unban is acknowledged once it is durable and in the kernel.

use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::guard::Guard;
use crate::control::server::{Answer, Call, Peer};
use crate::control::{Command, Reply};
use crate::ledger::{Ended, List};
use crate::pipeline::Outcome;
use crate::pipeline::event::Shown;
use crate::text::plural;
use crate::time::{Length, Timestamp, Until};

/// How long an acknowledgement is waited for before the client is told that it is still open.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 200;

type Ack = oneshot::Receiver<Result<(), String>>;

impl Guard {
    pub(super) async fn on_call(&mut self, call: Call) {
        let Call { command, peer, answer } = call;
        match command {
            Command::List { jail } => reply(answer, self.list(jail.as_deref())),
            Command::Status => reply(answer, Answer::Reply(Reply::Status(Box::new(self.status())))),
            Command::History { prefix } => reply(answer, self.history(prefix.as_ref())),
            Command::Events => reply(answer, Answer::Follow(self.chronicle.follow())),
            Command::Reload => {
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
                let result = self.unban(&prefixes, all, allow);
                self.conclude(result, answer);
            }
            Command::Import { name, prefixes, seconds, .. } => {
                audit(peer, &format!("import list '{name}' with {} prefixes", prefixes.len()));
                let result = self.import(&name, prefixes, seconds);
                self.conclude(result, answer);
            }
        }
    }

    fn list(&self, jail: Option<&str>) -> Answer {
        let wanted = |name: &str| jail.is_none_or(|jail| jail == name);
        let bans = self.pipeline.ledger.bans().filter(|ban| wanted(&ban.jail)).cloned();
        let listed = self.pipeline.ledger.lists().flat_map(List::bans).filter(|ban| wanted(&ban.jail));
        Answer::Bans(bans.chain(listed).collect())
    }

    /// Ended bans of a prefix and of what lies within it.
    fn history(&self, prefix: Option<&IpNet>) -> Answer {
        let wanted = |ended: &&Ended| prefix.is_none_or(|prefix| prefix.contains(&ended.ban.prefix));
        Answer::Rows(self.pipeline.ledger.ended().filter(wanted).cloned().map(Reply::Ended).collect())
    }

    fn unban(&mut self, prefixes: &[IpNet], all: bool, allow: Option<u64>) -> Result<Done, String> {
        let now = Timestamp::now();
        if all {
            let outcome = self.pipeline.unban_all(now);
            let message = format!("ended {}", plural(outcome.events.len() as u64, "ban"));
            return Ok((outcome, message, Vec::new()));
        }
        let grace = allow.map(Duration::from_secs);
        let outcome = self.pipeline.unban(prefixes, grace, now)?;
        let message = match grace {
            Some(grace) => {
                let grace = crate::time::format_duration(grace);
                format!("unbanned {}; no log can ban it for {grace}", shown(prefixes))
            }
            None => format!("unbanned {}", shown(prefixes)),
        };
        Ok((outcome, message, Vec::new()))
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
        let Outcome { changes, events } = outcome;
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

fn reply(answer: oneshot::Sender<Answer>, with: Answer) {
    // A client that went away does not want its answer any more.
    let _gone = answer.send(with);
}

/// Who changed something stands in the log.
fn audit(peer: Peer, what: &str) {
    log::info!("asked by uid={} pid={}: {what}", peer.uid, peer.pid);
}

fn shown(prefixes: &[IpNet]) -> String {
    const NAMED: usize = 5;
    let named: Vec<String> = prefixes.iter().take(NAMED).map(|prefix| Shown(*prefix).to_string()).collect();
    match prefixes.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{} and {more} more", named.join(" ")),
        _ => named.join(" "),
    }
}
