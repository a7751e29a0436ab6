//! What bans have dropped, as the kernel counts it. Read beside the firewall's thread, so that no ban waits for it.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use tokio::sync::oneshot;

use super::calls::reply;
use super::guard::Guard;
use crate::control::server::Answer;
use crate::control::{Dropped, KernelEntry, Listed, Reply, Status, Why};
use crate::enforcer::Enforcer;
use crate::firewall::{Choice, Count, FirewallError, Seen, Settings};
use crate::ledger::{Ban, Scope};
use crate::policy::prefix::overlap;
use crate::time::Timestamp;

/// With more entries than this, `status` does not read them all: 20 ms.
const QUICKLY_READ: usize = 20_000;

/// Of a network that holds more entries, `why` shows these.
const MOST_ENTRIES: usize = 100;

/// Reads what the kernel holds, on whatever thread.
pub(super) struct Reader {
    /// `None` where nothing is enforced, or nothing is known of it yet.
    settings: Option<Settings>,
    enforcer: Enforcer,
    scopes: BTreeSet<Scope>,
}

type Counts = HashMap<(IpNet, Scope), Count>;

impl Reader {
    pub(super) fn each(&self, each: &mut dyn FnMut(Seen<'_>)) -> Result<(), FirewallError> {
        self.settings.as_ref().map_or(Ok(()), |settings| self.enforcer.look(settings, &self.scopes, each))
    }

    fn counts(&self) -> Result<Counts, FirewallError> {
        let mut counts = Counts::new();
        self.each(&mut |seen| {
            counts.extend(seen.count.map(|count| ((seen.prefix, seen.scope.clone()), count)));
        })?;
        Ok(counts)
    }
}

impl Guard {
    pub(super) fn reader(&self) -> Reader {
        let mut scopes = self.pipeline.ledger.scopes();
        scopes.insert(Scope::default());
        Reader { settings: self.made_by(&self.config), enforcer: self.enforcer.clone(), scopes }
    }

    /// Whether the kernel has room for as many bans as there may be.
    pub(super) fn has_room(&self) -> bool {
        Choice::named(&self.kernel.backend) != Some(Choice::Plain)
    }

    /// Answers with these bans and what each has dropped, where there may be no room for all also whether it is there.
    pub(super) fn count_bans(&self, bans: Vec<Ban>, counters: bool, answer: oneshot::Sender<Answer>) {
        let (reader, has_room) = (self.reader(), self.has_room());
        tokio::task::spawn_blocking(move || match reader.counts() {
            Ok(counts) => {
                let listed = |ban: Ban| {
                    let count = counts.get(&(ban.prefix, ban.scope.clone())).copied();
                    let in_force = (!has_room).then_some(count.is_some());
                    Listed { dropped: count.filter(|_| counters), ban, in_force }
                };
                reply(answer, Answer::Bans(bans.into_iter().map(listed).collect()));
            }
            Err(why) => {
                let message = format!("the kernel does not tell its counters: {why}");
                reply(answer, Answer::Reply(Reply::Refused { message }));
            }
        });
    }

    /// Answers with all that is known of a prefix, the kernel's entries included.
    pub(super) fn why(&self, prefix: IpNet, answer: oneshot::Sender<Answer>) {
        let account = self.pipeline.account(prefix, Timestamp::now());
        let (reader, backend, gaps) = (self.reader(), self.kernel.backend.clone(), self.gaps());
        tokio::task::spawn_blocking(move || {
            let mut entries = Vec::new();
            let read = reader.each(&mut |seen| {
                if entries.len() < MOST_ENTRIES && overlap(seen.prefix, prefix) {
                    entries.push(entry(&seen, &backend));
                }
            });
            let kernel = read.is_ok().then_some(entries);
            reply(answer, Answer::Reply(Reply::Why(Box::new(Why { account, kernel, gaps }))));
        });
    }

    /// Answers with the status and what each jail has dropped, where that is read quickly.
    pub(super) fn count_status(&self, mut status: Status, answer: oneshot::Sender<Answer>) {
        let many = self.firewall.installed().max(self.pipeline.ledger.ban_count()) > QUICKLY_READ;
        let reader = self.reader();
        if many || reader.settings.is_none() {
            return reply(answer, Answer::Reply(Reply::Status(Box::new(status))));
        }
        let bans: Vec<Ban> = self.pipeline.ledger.bans().collect();
        tokio::task::spawn_blocking(move || {
            // Where the kernel does not answer, the troubles say more than this could.
            if let Ok(counts) = reader.counts() {
                sum_up(&mut status, &bans, &counts);
            }
            reply(answer, Answer::Reply(Reply::Status(Box::new(status))));
        });
    }
}

fn entry(seen: &Seen<'_>, backend: &str) -> KernelEntry {
    KernelEntry {
        prefix: seen.prefix,
        backend: backend.to_owned(),
        set: seen.set.to_owned(),
        scope: seen.scope.to_string(),
        ports: seen.scope.ports.iter().map(ToString::to_string).collect(),
        seconds_left: seen.left.map(|left| left.as_secs()),
        count: seen.count,
    }
}

fn sum_up(status: &mut Status, bans: &[Ban], counts: &Counts) {
    let mut by_jail: HashMap<&str, Dropped> = HashMap::new();
    for ban in bans {
        let Some(count) = counts.get(&(ban.prefix, ban.scope.clone())) else { continue };
        let dropped = by_jail.entry(&*ban.jail).or_default();
        dropped.count.packets += count.packets;
        dropped.count.bytes += count.bytes;
        dropped.never_hit += u64::from(count.packets == 0);
    }
    for jail in &mut status.jails {
        jail.dropped = Some(by_jail.get(jail.jail.as_str()).copied().unwrap_or_default());
    }
}
